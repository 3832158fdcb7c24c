//! The names that `aardvark-dns` answers: a file a network, with the network's address in the first line and then a line
//! for each container, its id first.
//!
//! `netavark` writes and takes away these lines. It cannot take away those of a container whose namespace is gone, as all
//! are after a restart of the machine; the names would lead to addresses where nobody is, and later to somebody else.
//!
//! Nor does it see that `aardvark-dns` has died: a signal to read its files again ends one that is just starting, and one
//! whose parent does not reap it counts as running. So whoever has changed a network asks a question, and starts it anew if
//! nobody answers.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{Ipv4Addr, UdpSocket},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Where the files are, in the folder that `netavark` is given.
const FOLDER: &str = "aardvark-dns";
const PID_FILE: &str = "aardvark.pid";
/// How long an answer may take; it reads its files meanwhile.
const PATIENCE: Duration = Duration::from_millis(500);

/// Sees to it that names are answered at a network's gateway. To be called under the lock of `netavark`.
///
/// # Errors
/// [`io::Error`] if nobody answers, and starting who should did not help.
pub(super) fn ensure_answers(names: &Path, program: &Path, gateway: Ipv4Addr) -> io::Result<()> {
    if is_answered(gateway, PATIENCE)? {
        return Ok(());
    }
    let folder = names.join(FOLDER);
    let pid_file = folder.join(PID_FILE);
    if let Some(pid) = running(&pid_file) {
        // It may have died since, which is as well.
        let _ = kill(pid, Signal::SIGKILL);
    }
    match fs::remove_file(&pid_file) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut start = Command::new(program);
    start
        .env_clear()
        .env("PATH", super::super::program::PATH)
        .arg("--config")
        .arg(&folder)
        .args(["--port", "53", "run"]);
    // It leaves its first process for the background.
    start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).status()?;
    match is_answered(gateway, PATIENCE)? {
        true => Ok(()),
        false => Err(io::Error::new(ErrorKind::TimedOut, format!("nobody answers names at {gateway}"))),
    }
}

/// Whether any answer comes to a question (RFC 1035, section 4.1), whatever it says.
fn is_answered(gateway: Ipv4Addr, patience: Duration) -> io::Result<bool> {
    // An id, one question, and that: the address of `localhost`.
    const QUESTION: &[u8] = b"\x54\x44\x01\0\0\x01\0\0\0\0\0\0\x09localhost\0\0\x01\0\x01";
    let begun = Instant::now();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((gateway, 53))?;
    let mut pause = Duration::from_millis(5);
    while begun.elapsed() < patience {
        socket.set_read_timeout(Some(pause))?;
        // Nobody at the port is told by an error, at the next call.
        if socket.send(QUESTION).is_ok() && socket.recv(&mut [0; 512]).is_ok_and(|size| size >= 12) {
            return Ok(true);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
    Ok(false)
}

/// The process that answers, as far as the file and the kernel know.
fn running(pid_file: &Path) -> Option<Pid> {
    let pid = fs::read_to_string(pid_file).ok()?.trim().parse::<i32>().ok()?;
    // After a restart of the machine the number is somebody else's.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (name.trim() == "aardvark-dns").then(|| Pid::from_raw(pid))
}

/// Takes the names of a container away, wherever there are any. Idempotent; to be called under the lock of `netavark`.
pub(super) fn forget(names: &Path, container: &str) -> io::Result<()> {
    let folder = names.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut changed = false;
    for entry in entries {
        let path = entry?.path();
        if path.ends_with(PID_FILE) || !path.is_file() {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let ours = |line: &&str| line.split_ascii_whitespace().next() == Some(container);
        let (network, containers) = text.split_once('\n').unwrap_or((&text, ""));
        if !containers.lines().any(|line| ours(&line)) {
            continue;
        }
        changed = true;
        let others: Vec<&str> = containers.lines().filter(|line| !ours(line)).collect();
        if others.is_empty() {
            fs::remove_file(&path)?;
            continue;
        }
        // Beside the folder: what is in it is read as a network.
        let next = names.join("names.part");
        fs::write(&next, format!("{network}\n{}\n", others.join("\n")))?;
        fs::rename(next, path)?;
    }
    if changed {
        read_again(&folder.join(PID_FILE));
    }
    Ok(())
}

/// Has `aardvark-dns` read its files, if it runs. Its next start, or the next container of a network, does as much.
fn read_again(pid_file: &Path) {
    if let Some(pid) = running(pid_file) {
        let _ = kill(pid, Signal::SIGHUP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_container_go_and_a_network_with_its_last() {
        let names = tempfile::tempdir().unwrap();
        forget(names.path(), "a").unwrap();
        let folder = names.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(PID_FILE), "1").unwrap();
        let network = folder.join("tandem-1-2");
        fs::write(&network, "10.1.2.1\na 10.1.2.2  web\nab 10.1.2.3  web\n").unwrap();
        forget(names.path(), "a").unwrap();
        forget(names.path(), "10.1.2.1").unwrap();
        assert_eq!(fs::read_to_string(&network).unwrap(), "10.1.2.1\nab 10.1.2.3  web\n");
        forget(names.path(), "ab").unwrap();
        assert!(!network.exists() && folder.join(PID_FILE).exists());
        assert_eq!(fs::read_dir(names.path()).unwrap().count(), 1);
    }
}
