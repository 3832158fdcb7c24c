//! The folder that a container shares with us: its input, and its result.
//!
//! | path | who | mode |
//! |---|---|---|
//! | `bundles/<id>/exchange/` | us; keeps other users of the machine out | 0700 |
//! | `bundles/<id>/exchange/shared/` | mounted as [`INSIDE`]; whoever is in the container may write, whatever its user | 1777 |
//! | … `input.json`, `event.json` | us, before the start | 0644 |
//! | … `result.json` | the container | as it likes |
//!
//! A mount of its own: links to other files of the machine cannot be made in it, and it is there for a container that
//! mounts something over its `/tmp`. What is left is read when the container has ended, so that nobody changes it
//! meanwhile; and as something that may be anything: no link is followed, no pipe waited for, no more read than asked.

use std::{
    fs::{self, File, Permissions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
};
use serde_json::{Value, json};
use tandem_model::ByteSize;

use crate::{
    ContainerError,
    exchange::{EVENT_FILE, Exchange, INPUT, Left, RESULT},
    layout::at,
};

/// Where a container finds the folder.
pub(crate) const INSIDE: &str = "/run/tandem";
const INPUT_FILE: &str = "input.json";
const EVENT_NAME: &str = "event.json";
const RESULT_FILE: &str = "result.json";

/// What a container finds of it in its environment.
pub(crate) fn variables(given: &Exchange) -> Vec<(&'static str, String)> {
    let path = |file: &str| format!("{INSIDE}/{file}");
    let mut all = vec![(RESULT, path(RESULT_FILE))];
    all.extend(given.input.as_ref().map(|_| (INPUT, path(INPUT_FILE))));
    all.extend(given.event.as_ref().map(|_| (EVENT_FILE, path(EVENT_NAME))));
    all
}

/// The file that is a container's standard input, if it has an event.
pub(crate) fn event(bundle: &Path) -> Option<PathBuf> {
    Some(shared(bundle).join(EVENT_NAME)).filter(|path| path.is_file())
}

pub(crate) fn shared(bundle: &Path) -> PathBuf {
    bundle.join("exchange/shared")
}

/// Makes the folder, with input and event in it.
pub(crate) fn prepare(bundle: &Path, given: &Exchange) -> Result<(), ContainerError> {
    let shared = shared(bundle);
    let make = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&shared)?;
        // Regardless of our mask.
        fs::set_permissions(&shared, Permissions::from_mode(0o1777))?;
        for (name, text) in [(INPUT_FILE, &given.input), (EVENT_NAME, &given.event)] {
            let Some(text) = text else { continue };
            let mut file =
                File::options().write(true).create_new(true).mode(0o644).open(shared.join(name))?;
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.write_all(text.as_bytes())?;
            if name == EVENT_NAME {
                file.write_all(b"\n")?;
            }
        }
        Ok(())
    };
    make().map_err(at(&shared))
}

/// The mount of an OCI configuration.
pub(crate) fn mount(bundle: &Path) -> Value {
    let options = ["bind", "rw", "nosuid", "noexec", "nodev", "rprivate"];
    json!({ "destination": INSIDE, "type": "bind", "source": shared(bundle), "options": options })
}

/// Reads what an ended container left.
pub(crate) fn left(bundle: &Path, limit: ByteSize) -> Result<Left, ContainerError> {
    let shared = shared(bundle);
    let folder = match File::open(&shared) {
        Ok(folder) => folder,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Left::Nothing),
        Err(error) => return Err(at(shared)(error)),
    };
    let path = shared.join(RESULT_FILE);
    let opened = openat2(
        &folder,
        RESULT_FILE,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH | ResolveFlags::NO_XDEV,
    );
    let file = match opened {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(Left::Nothing),
        // A link; a socket.
        Err(Errno::LOOP | Errno::NXIO) => return Ok(Left::NoFile),
        Err(errno) => return Err(at(path)(errno.into())),
    };
    let meta = file.metadata().map_err(at(&path))?;
    if !meta.is_file() {
        return Ok(Left::NoFile);
    }
    if meta.len() > limit.bytes() {
        return Ok(Left::TooLarge { size: ByteSize(meta.len()) });
    }
    let mut bytes = Vec::new();
    file.take(limit.bytes()).read_to_end(&mut bytes).map_err(at(path))?;
    Ok(Left::Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use nix::{sys::stat::Mode as Access, unistd::mkfifo};

    use super::*;

    const LIMIT: ByteSize = ByteSize(16);

    /// What is read after somebody has put something in the result's place.
    fn after(put: impl FnOnce(&Path)) -> Left {
        let bundle = tempfile::tempdir().unwrap();
        prepare(bundle.path(), &Exchange::default()).unwrap();
        put(&shared(bundle.path()).join(RESULT_FILE));
        left(bundle.path(), LIMIT).unwrap()
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        assert_eq!(after(|_| {}), Left::Nothing);
        assert_eq!(after(|path| fs::write(path, "{}").unwrap()), Left::Bytes(b"{}".to_vec()));
        assert_eq!(after(|path| fs::write(path, "").unwrap()), Left::Bytes(vec![]));
        assert_eq!(after(|path| fs::write(path, [7; 16]).unwrap()), Left::Bytes(vec![7; 16]));
        assert_eq!(after(|path| fs::write(path, [7; 17]).unwrap()), Left::TooLarge { size: ByteSize(17) });
        // One with a hole takes no room, and would take all of our memory.
        let hole = |path: &Path| File::create(path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(after(hole), Left::TooLarge { size: ByteSize(1 << 40) });
    }

    #[test]
    fn what_is_no_file_is_neither_followed_nor_waited_for() {
        for target in ["/etc/passwd", "input.json", "result.json", "/nowhere"] {
            assert_eq!(after(|path| symlink(target, path).unwrap()), Left::NoFile, "{target}");
        }
        assert_eq!(after(|path| mkfifo(path, Access::S_IRWXU).unwrap()), Left::NoFile);
        assert_eq!(after(|path| fs::create_dir(path).unwrap()), Left::NoFile);
        assert_eq!(after(|path| drop(UnixListener::bind(path).unwrap())), Left::NoFile);
    }

    #[test]
    fn a_container_that_never_had_the_folder_left_nothing() {
        let bundle = tempfile::tempdir().unwrap();
        assert_eq!(left(bundle.path(), LIMIT).unwrap(), Left::Nothing);
    }

    #[test]
    fn every_user_in_the_container_may_write_and_none_of_the_machine() {
        let bundle = tempfile::tempdir().unwrap();
        let given = Exchange { input: Some("1".into()), event: Some("{}".into()) };
        prepare(bundle.path(), &given).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let shared = shared(bundle.path());
        assert_eq!(mode(shared.parent().unwrap()), 0o700);
        assert_eq!(mode(&shared), 0o1777);
        assert_eq!(mode(&shared.join(INPUT_FILE)), 0o644);
        assert_eq!(fs::read(event(bundle.path()).unwrap()).unwrap(), b"{}\n");
    }
}
