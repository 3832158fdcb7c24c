//! One writer per stack: an advisory lock (`flock`) on a file that says who holds it.
//!
//! The kernel frees the lock when the holder is gone, however it went, so there is nothing to clean up and no command
//! to break a lock with. The file stays; only a lock on it means something.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    path::Path,
};

use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use tandem_model::StackId;

use crate::error::StateError;

/// Holds a stack until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    command: String,
    since: Timestamp,
}

impl Lock {
    /// Takes the lock, or says who has it. `command` is what the others will see: `tandem up`.
    ///
    /// # Errors
    /// [`StateError::Locked`] if another process holds it.
    pub fn take(path: &Path, stack: &StackId, command: &str, now: Timestamp) -> Result<Self, StateError> {
        let io = |source| StateError::Io { verb: "write", path: path.to_owned(), source };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let holder = Holder { pid: std::process::id(), command: command.to_owned(), since: now };
                let text = serde_json::to_vec(&holder).map_err(|e| io(e.into()))?;
                tandem_failpoint::try_hit("engine.lock.writing")
                    .and_then(|()| file.set_len(0))
                    .and_then(|()| file.rewind())
                    .and_then(|()| file.write_all(&text))
                    .map_err(io)?;
                Ok(Self { _file: file })
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                // A holder that has just taken the lock may not have written its name yet.
                let holder =
                    file.read_to_string(&mut text).ok().and_then(|_| serde_json::from_str(&text).ok());
                let Holder { pid, command, since } =
                    holder.unwrap_or(Holder { pid: 0, command: "another process".into(), since: now });
                Err(StateError::Locked { stack: stack.clone(), pid, command, since, now })
            }
            Err((_, errno)) => Err(io(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_writer_is_told_who_holds_the_stack() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let stack: StackId = "shop/dev".parse().unwrap();
        let now = Timestamp::now();
        let held = Lock::take(&path, &stack, "tandem up", now).unwrap();
        let error = Lock::take(&path, &stack, "tandem destroy", now).unwrap_err();
        let expected = format!("`tandem up` (process {})", std::process::id());
        assert!(error.to_string().contains(&expected), "{error}");
        drop(held);
        Lock::take(&path, &stack, "tandem destroy", now).unwrap();
    }
}
