//! Who listens on a port of this machine already, as far as the kernel tells.

use std::{fs, os::unix::ffi::OsStrExt};

/// State of a socket that listens, in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// `nginx (process 812)`; `None` if nobody is found, or another user's process.
pub(in crate::service) fn occupant(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| fs::read_to_string(file).unwrap_or_default());
    let inode = tables.iter().find_map(|table| listening(table, port))?;
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.into_iter()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str().as_bytes() == link.as_bytes()))
    };
    let pid = pids.into_iter().find(holds)?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (process {pid})", name.trim()))
}

/// The inode of the socket that listens on a port.
fn listening(table: &str, port: u16) -> Option<&str> {
    // `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …`
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
        (local == port && *fields.get(3)? == LISTENS).then(|| fields.get(9).copied())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let told = occupant(port).unwrap();
        assert!(told.ends_with(&format!(" (process {})", std::process::id())), "{told}");
        drop(listener);
        // Another program may listen there by now.
        assert_ne!(occupant(port).as_deref(), Some(&*told));
    }

    #[test]
    fn a_connection_from_a_port_does_not_listen_there() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 77 1\n   \
            1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 78 1\n";
        assert_eq!(listening(table, 8080), Some("78"));
        assert_eq!(listening(table, 8081), None);
    }
}
