//! The image of containers that run code of a program: next to nothing. What they execute is mounted into them
//! ([`crate::program`]), so it is the same for every binary and every program.

use std::{fs, io, path::Path};

use tandem_container::{Image, ImageRef, Unheard};

use super::{ImageError, Images};
use crate::program::USER;

/// Of the names that nobody gave: it goes when nobody needs it, and is made again.
const NAME: &str = "localhost/tandem/bare:1";

/// Path, rights.
const FOLDERS: [(&str, u32); 9] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("etc/ssl", 0o755),
    ("etc/ssl/certs", 0o755),
    ("proc", 0o755),
    ("run", 0o755),
    ("sys", 0o755),
    ("tandem", 0o755),
    ("tmp", 0o1777),
];
const CERTIFICATES: (&str, &str) =
    ("etc/ssl/certs/ca-certificates.crt", "/tandem/engine/ca-certificates.crt");

impl Images {
    /// Finds the image, or makes it.
    pub(super) async fn bare(&self) -> Result<Image, ImageError> {
        let turn = self.turn(NAME);
        let _turn = turn.lock().await;
        let known = self.builder.names().await?.into_iter().find(|(name, _)| name == NAME);
        if let Some((_, digest)) = known {
            return Ok(self.builder.resolve(&ImageRef(digest), &Unheard).await?);
        }
        let file = self.home.import();
        let written = file.clone();
        let wrote = tokio::task::spawn_blocking(move || write(&written)).await;
        let wrote = wrote.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let made = match wrote {
            Ok(()) => self.builder.import(&file, NAME).await.map_err(ImageError::from),
            Err(source) => Err(ImageError::Io { path: file.clone(), source }),
        };
        // What stays is removed by the next start.
        let _ = fs::remove_file(&file);
        made
    }
}

/// Writes the root file system. The same bytes each time.
fn write(path: &Path) -> io::Result<()> {
    let mut tar = tar::Builder::new(fs::File::create(path)?);
    let header = |kind: tar::EntryType, mode: u32, size: usize| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size as u64);
        header
    };
    for (folder, mode) in FOLDERS {
        let mut header = header(tar::EntryType::Directory, mode, 0);
        tar.append_data(&mut header, format!("{folder}/"), io::empty())?;
    }
    let id = USER.split(':').next().unwrap_or_default();
    for (name, text) in [
        ("etc/passwd", format!("root:x:0:0::/:/none\ntandem:x:{id}:{id}::/tmp:/none\n")),
        ("etc/group", format!("root:x:0:\ntandem:x:{id}:\n")),
        ("etc/nsswitch.conf", "hosts: files dns\n".to_owned()),
        // A network of its own mounts its own over these.
        ("etc/hosts", String::new()),
        ("etc/resolv.conf", String::new()),
    ] {
        let mut header = header(tar::EntryType::Regular, 0o644, text.len());
        tar.append_data(&mut header, name, text.as_bytes())?;
    }
    let mut link = header(tar::EntryType::Symlink, 0o777, 0);
    tar.append_link(&mut link, CERTIFICATES.0, CERTIFICATES.1)?;
    let file = tar.into_inner()?;
    // Its age is in the image: imported again, it is to be the same.
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_file_system_is_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        write(&one).unwrap();
        write(&other).unwrap();
        assert_eq!(fs::read(&one).unwrap(), fs::read(&other).unwrap());
        let mut tar = tar::Archive::new(fs::File::open(one).unwrap());
        let names: Vec<String> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned())
            .collect();
        assert!(names.contains(&"tmp/".to_owned()) && names.contains(&"etc/passwd".to_owned()), "{names:?}");
    }
}
