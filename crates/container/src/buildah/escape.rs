//! Archives that were made to write or read outside of the image.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use tandem_model::Explain;
use tar::{EntryType, Header};

use super::tests::Home;
use crate::conformance::Subject;

/// Writes a tar of these entries: kind, name, link. Names are taken as they are, which the library would refuse.
fn write(to: &Path, entries: &[(EntryType, &str, &str)]) {
    let mut tar = tar::Builder::new(fs::File::create(to).unwrap());
    for (kind, name, link) in entries {
        let mut header = Header::new_gnu();
        let content: &[u8] = if *kind == EntryType::Regular { b"forged" } else { b"" };
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o777);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).unwrap();
    }
    tar.finish().unwrap();
}

/// Everything below a folder, with what is in it.
fn all(folder: &Path) -> Vec<(String, String)> {
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap_or_default())
        })
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn no_archive_writes_or_reads_outside_of_its_image() {
    let outside = tempfile::TempDir::new().unwrap();
    let (out, victim) = (outside.path().to_str().unwrap(), outside.path().join("victim"));
    fs::write(&victim, "untouched").unwrap();
    let up = format!("{}{out}", "../".repeat(16).trim_end_matches('/'));
    use EntryType::{Directory, Link, Regular, Symlink};
    let archives: &[&[(EntryType, &str, &str)]] = &[
        &[(Regular, &format!("{up}/new"), "")],
        &[(Regular, &format!("{out}/new"), "")],
        &[(Symlink, "out", out), (Regular, "out/new", "")],
        &[(Symlink, "out", &up), (Regular, "out/new", "")],
        &[(Symlink, "out", &up), (Directory, "out/folder/", "")],
        &[(Symlink, "out", &format!("{out}/victim")), (Regular, "out", "")],
        &[(Link, "linked", &format!("{out}/victim")), (Regular, "linked", "")],
        &[(Link, "linked", &format!("{up}/victim"))],
        &[(Symlink, "out", out), (Link, "linked", "out/victim")],
        &[(Symlink, "out", out), (Regular, "out/.wh.victim", "")],
        &[(Regular, &format!("{up}/.wh.victim"), "")],
    ];
    let home = Home::new();
    for (n, entries) in archives.iter().enumerate() {
        let tar = home.scratch().join("hostile.tar");
        write(&tar, entries);
        // An archive may be refused; one that is taken stays in its image.
        if let Err(error) = home.builder().import(&tar, &format!("hostile-{n}")).await {
            assert!(error.code().starts_with("E04"), "{error}");
        }
        assert_eq!(all(outside.path()), [("victim".to_owned(), "untouched".to_owned())], "{entries:?}");
        assert_eq!(fs::metadata(&victim).unwrap().nlink(), 1, "{entries:?}");
    }
    home.assert_no_build_is_left().await;
}
