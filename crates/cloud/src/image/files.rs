//! What is in a packed build folder, file by file, so that two can be compared.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// The files and links of a packed folder, and what tells each from another one: the hash of its mode, its link's target
/// and its content. Reads the tar to its end.
///
/// # Errors
/// [`io::Error`] if it cannot be read, or is no tar.
pub fn files(tar: impl Read) -> io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(tar);
    let mut buffer = vec![0; 64 << 10];
    for entry in archive.entries()? {
        let mut entry = entry?;
        if entry.header().entry_type().is_dir() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut hash = Sha256::new();
        hash.update(entry.header().mode()?.to_be_bytes());
        if let Some(target) = entry.link_name_bytes() {
            hash.update(b"->");
            hash.update(target);
        }
        loop {
            match entry.read(&mut buffer)? {
                0 => break,
                n => hash.update(&buffer[..n]),
            }
        }
        files.insert(name, HEXLOWER.encode(&hash.finalize()));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(mode: u32, text: &str, link: &str) -> BTreeMap<String, String> {
        let mut tar = tar::Builder::new(Vec::new());
        let header = |kind, mode, size| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_size(size);
            header
        };
        tar.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), "d/", io::empty()).unwrap();
        let size = text.len() as u64;
        tar.append_data(&mut header(tar::EntryType::Regular, mode, size), "d/file", text.as_bytes()).unwrap();
        tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), "link", link).unwrap();
        files(tar.into_inner().unwrap().as_slice()).unwrap()
    }

    #[test]
    fn a_file_differs_by_content_and_mode_and_a_link_by_its_target() {
        let one = listed(0o644, "a", "d/file");
        assert_eq!(one.keys().collect::<Vec<_>>(), ["d/file", "link"]);
        assert_eq!(listed(0o644, "a", "d/file"), one);
        for (other, file, link) in [
            (listed(0o755, "a", "d/file"), false, true),
            (listed(0o644, "b", "d/file"), false, true),
            (listed(0o644, "a", "d"), true, false),
        ] {
            assert_eq!((other["d/file"] == one["d/file"], other["link"] == one["link"]), (file, link));
        }
        assert!(files(&b"this is no tar, but it is as long as a header of one would be"[..]).is_err());
    }
}
