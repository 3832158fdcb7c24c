use std::{collections::BTreeMap, os::unix::fs::symlink, time::SystemTime};

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn entries(archive: &mut ContextArchive) -> Vec<String> {
    let mut tar = tar::Archive::new(archive.read().unwrap());
    tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
}

#[test]
fn a_touched_or_copied_folder_has_the_hash_it_had() {
    let files = [("Dockerfile", "FROM scratch"), ("b/c", "1"), ("a", "2")];
    let (one, two) = (folder(&files), folder(&files));
    let hash = pack(one.path(), "Dockerfile", LIMIT).unwrap().hash;
    assert_eq!(hash, pack(two.path(), "Dockerfile", LIMIT).unwrap().hash);
    File::open(one.path().join("a")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(hash, pack(one.path(), "Dockerfile", LIMIT).unwrap().hash);
    fs::write(one.path().join("a"), "3").unwrap();
    assert_ne!(hash, pack(one.path(), "Dockerfile", LIMIT).unwrap().hash);
}

#[test]
fn the_hash_is_that_of_the_tar() {
    let folder = folder(&[("Dockerfile", "FROM scratch")]);
    let mut archive = pack(folder.path(), "Dockerfile", LIMIT).unwrap();
    let mut bytes = Vec::new();
    archive.read().unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, archive.size);
    assert_eq!(tandem_js::archive::hash(&bytes), archive.hash);
}

#[test]
fn entries_are_sorted_and_keep_modes_and_links() {
    let folder = folder(&[("Dockerfile", ""), ("run.sh", ""), ("d/z", ""), ("d/a", "")]);
    fs::set_permissions(folder.path().join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("nowhere/at/all", folder.path().join("link")).unwrap();
    let mut archive = pack(folder.path(), "./Dockerfile", LIMIT).unwrap();
    assert_eq!(entries(&mut archive), ["Dockerfile", "d/", "d/a", "d/z", "link", "run.sh"]);
    let mut tar = tar::Archive::new(archive.read().unwrap());
    let headers: BTreeMap<String, tar::Header> = tar
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.path().unwrap().display().to_string(), entry.header().clone()))
        .collect();
    assert_eq!(headers["run.sh"].mode().unwrap(), 0o755);
    assert_eq!((headers["run.sh"].mtime().unwrap(), headers["run.sh"].uid().unwrap()), (0, 0));
    assert_eq!(headers["link"].link_name().unwrap().unwrap().to_str().unwrap(), "nowhere/at/all");
}

#[test]
fn a_long_path_is_kept_whole() {
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    let folder = folder(&[("Dockerfile", ""), (&long, "x")]);
    let mut archive = pack(folder.path(), "Dockerfile", LIMIT).unwrap();
    assert!(entries(&mut archive).contains(&long));
}

#[test]
fn what_dockerignore_names_stays_out_but_never_the_dockerfile() {
    let folder = folder(&[
        (".dockerignore", "*\n!src/keep\n"),
        ("build/Dockerfile", ""),
        ("build/other", ""),
        ("src/keep", ""),
        ("src/drop", ""),
    ]);
    let mut archive = pack(folder.path(), "build/Dockerfile", LIMIT).unwrap();
    assert_eq!(entries(&mut archive), ["build/", "build/Dockerfile", "src/keep"]);
    fs::write(folder.path().join("build/Dockerfile.dockerignore"), "src\n.dockerignore\n").unwrap();
    let mut archive = pack(folder.path(), "build/Dockerfile", LIMIT).unwrap();
    assert_eq!(
        entries(&mut archive),
        ["build/", "build/Dockerfile", "build/Dockerfile.dockerignore", "build/other"]
    );
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let folder = folder(&[("a", ""), (".dockerignore", "a\n[z-a]\n"), ("b/Dockerfile", "")]);
    let code = |folder: &Path, dockerfile: &str| pack(folder, dockerfile, LIMIT).unwrap_err().code();
    assert_eq!(code(&folder.path().join("none"), "Dockerfile"), "E0540");
    assert_eq!(code(folder.path(), "Dockerfile"), "E0545");
    assert_eq!(code(folder.path(), "Dockerfile.dev"), "E0540");
    assert_eq!(code(folder.path(), "../Dockerfile"), "E0540");
    assert_eq!(code(folder.path(), "b/Dockerfile"), "E0542");
}

#[test]
fn secrets_of_a_stack_never_get_into_an_image() {
    let folder = folder(&[
        ("Dockerfile", "FROM scratch\nCOPY . /"),
        ("Tandem.dev.secrets", "config: {}"),
        ("Tandem.prod.secrets.new", "config: {}"),
        ("Tandem.dev.yaml", "config: {}"),
        ("my.secrets", "mine"),
    ]);
    let mut archive = pack(folder.path(), "Dockerfile", LIMIT).unwrap();
    assert_eq!(entries(&mut archive), ["Dockerfile", "Tandem.dev.yaml", "my.secrets"]);
}

#[test]
fn a_folder_that_is_too_large_is_not_read_and_what_is_large_is_named() {
    let folder = folder(&[("Dockerfile", "FROM scratch"), ("small", "x")]);
    // They have no blocks on the disk, and would take a minute to read.
    for (name, size) in [("data.img", 10 << 30), ("dump.sql", 1 << 30)] {
        File::create(folder.path().join(name)).unwrap().set_len(size).unwrap();
    }
    let error = pack(folder.path(), "Dockerfile", LIMIT).unwrap_err();
    let said = error.to_string();
    assert_eq!(error.code(), "E0546");
    assert!(said.contains("has 11 GiB in it, and 4 GiB may be sent"), "{said}");
    assert!(said.contains("`data.img` (10 GiB), `dump.sql` (1 GiB), "), "{said}");
    assert!(error.help().contains("contextLimit: \"12GiB\""), "{}", error.help());
    fs::write(folder.path().join(".dockerignore"), "*.img\n*.sql\n").unwrap();
    pack(folder.path(), "Dockerfile", LIMIT).unwrap();
}

#[test]
fn sockets_and_pipes_are_named_unless_they_are_excluded() {
    let folder = folder(&[("Dockerfile", "FROM scratch"), ("run/a", "x")]);
    let socket = folder.path().join("run/app.sock");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let error = pack(folder.path(), "Dockerfile", LIMIT).unwrap_err();
    assert_eq!(error.code(), "E0547");
    assert_eq!(error.to_string(), format!("`{}` is a socket, which an image cannot have", socket.display()));
    fs::write(folder.path().join(".dockerignore"), "**/*.sock\n").unwrap();
    pack(folder.path(), "Dockerfile", LIMIT).unwrap();
}

#[test]
fn a_dockerfile_that_is_a_link_out_of_the_folder_is_outside() {
    let (folder, other) = (folder(&[("real", "FROM scratch")]), folder(&[("Dockerfile", "FROM scratch")]));
    symlink(other.path().join("Dockerfile"), folder.path().join("Dockerfile")).unwrap();
    assert_eq!(pack(folder.path(), "Dockerfile", LIMIT).unwrap_err().code(), "E0540");
    fs::remove_file(folder.path().join("Dockerfile")).unwrap();
    symlink("real", folder.path().join("Dockerfile")).unwrap();
    pack(folder.path(), "Dockerfile", LIMIT).unwrap();
}

#[test]
fn a_folder_without_a_dockerfile_is_packed_with_one_and_without_what_no_build_needs() {
    let files = [
        ("main.py", "print('hello')"),
        ("requirements.txt", ""),
        ("node_modules/x/y", ""),
        ("pkg/__pycache__/z.pyc", ""),
        (".git/HEAD", ""),
        (".env", "KEY=secret"),
        ("notes.md", ""),
        (".dockerignore", "*.md\n!.env\n"),
    ];
    let folder = folder(&files);
    let mut archive = pack(folder.path(), "Dockerfile", LIMIT).unwrap();
    // The folder's own file has the last word, also to take back what stays out by convention.
    assert_eq!(
        entries(&mut archive),
        ["Dockerfile", ".dockerignore", ".env", "main.py", "pkg/", "requirements.txt"]
    );
    let mut tar = tar::Archive::new(archive.read().unwrap());
    let mut texts = tar.entries().unwrap().map(|entry| io::read_to_string(entry.unwrap()).unwrap());
    assert_eq!(texts.next().unwrap(), convention::of(folder.path()).unwrap().dockerfile);
    assert_eq!(
        texts.next().unwrap(),
        "Dockerfile\n.dockerignore\n",
        "for what copies the folder into the image"
    );
    // What is written counts as if it were in the folder; what stays out does not.
    let hash = archive.hash;
    fs::write(folder.path().join("notes.md"), "changed").unwrap();
    assert_eq!(pack(folder.path(), "Dockerfile", LIMIT).unwrap().hash, hash);
    fs::write(folder.path().join("Procfile"), "web: python3 main.py").unwrap();
    assert_ne!(pack(folder.path(), "Dockerfile", LIMIT).unwrap().hash, hash);
}

#[test]
fn a_dockerfile_that_cannot_be_read_is_not_replaced_by_another() {
    let folder = folder(&[("index.html", ""), ("Dockerfile/kept", "")]);
    assert_eq!(pack(folder.path(), "Dockerfile", LIMIT).unwrap_err().code(), "E0540");
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("index.html"), "").unwrap();
    symlink("nowhere", other.path().join("Dockerfile")).unwrap();
    assert_eq!(pack(other.path(), "Dockerfile", LIMIT).unwrap_err().code(), "E0540");
}
