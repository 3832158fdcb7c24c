//! Builds and imports that are under way, and clearing up after those that were killed.
//!
//! Each holds `builds.lock` shared, and so do the programs it starts, until the last of them has ended. Whoever gets it
//! exclusively knows that nobody builds: every working container that is no pin, every step's control group and every
//! scratch file is then left over.
//!
//! Who waits for it exclusively holds `door.lock` meanwhile, through which builds and imports go before they take theirs:
//! otherwise new ones that overlap with the old could keep it waiting for ever.

use std::{
    fs::{self, OpenOptions},
    os::fd::OwnedFd,
    sync::Arc,
};

use rustix::fs::{FlockOperation, flock};
use tokio::{process::Command, task::spawn_blocking};

use super::{BuildahStore, PIN_PREFIX, import, settings, storage};
use crate::{ContainerError, layout::at, pull, tool};

/// A build or import under way. If it is dropped before [`Session::finish`], what it leaves is cleared.
pub(super) struct Session {
    store: BuildahStore,
    lock: Option<Arc<OwnedFd>>,
    finished: bool,
}

impl Session {
    /// Begins, after clearing up if nobody else is at work.
    pub(super) async fn begin(store: &BuildahStore) -> Result<Self, ContainerError> {
        store.driver().await?;
        let door = take(store, at_door(store)?, FlockOperation::LockShared).await?;
        let lock = open(store)?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            clear(store).await?;
        }
        let lock = take(store, lock, FlockOperation::LockShared).await?;
        drop(door);
        Ok(Self { store: store.clone(), lock: Some(Arc::new(lock)), finished: false })
    }

    /// To be handed to every program that works for this session.
    pub(super) fn lock(&self) -> Vec<Arc<OwnedFd>> {
        self.lock.iter().cloned().collect()
    }

    /// Call when all programs have ended by themselves.
    pub(super) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.lock = None;
        if self.finished {
            return;
        }
        // The programs are being killed; this waits until they are gone. Without a reactor (we are ending ourselves)
        // the next session does it.
        if let Ok(reactor) = tokio::runtime::Handle::try_current() {
            let store = self.store.clone();
            reactor.spawn(async move {
                if let Err(error) = settle(&store).await {
                    tracing::warn!(%error, "a build that was stopped left something behind");
                }
            });
        }
    }
}

/// Waits until nobody builds or imports, and clears up.
pub(super) async fn settle(store: &BuildahStore) -> Result<(), ContainerError> {
    let _lock = take(store, open(store)?, FlockOperation::LockExclusive).await?;
    clear(store).await
}

/// The lock, once nobody builds or imports; whoever wants to begin waits until it is let go.
pub(super) async fn alone(store: &BuildahStore) -> Result<OwnedFd, ContainerError> {
    let _door = take(store, at_door(store)?, FlockOperation::LockExclusive).await?;
    take(store, open(store)?, FlockOperation::LockExclusive).await
}

pub(super) fn open(store: &BuildahStore) -> Result<OwnedFd, ContainerError> {
    lock_file(store, "builds.lock")
}

fn at_door(store: &BuildahStore) -> Result<OwnedFd, ContainerError> {
    lock_file(store, "door.lock")
}

fn lock_file(store: &BuildahStore, name: &str) -> Result<OwnedFd, ContainerError> {
    let path = store.layout.settings().join(name);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    file.map(OwnedFd::from).map_err(at(path))
}

pub(super) async fn take(
    store: &BuildahStore,
    lock: OwnedFd,
    how: FlockOperation,
) -> Result<OwnedFd, ContainerError> {
    let path = store.layout.settings();
    let taken = spawn_blocking(move || flock(&lock, how).map(|()| lock)).await;
    let taken = taken.map_err(std::io::Error::other).and_then(|taken| taken.map_err(std::io::Error::from));
    taken.map_err(at(path))
}

/// Removes what killed builds left. Only under the exclusive lock.
pub(super) async fn clear(store: &BuildahStore) -> Result<(), ContainerError> {
    let state = settings::build_state(&store.layout);
    for entry in fs::read_dir(&state).into_iter().flatten().flatten() {
        let mut delete = Command::new(tool::oci_runtime(None)?);
        delete.arg("--root").arg(&state).args(["delete", "--force"]).arg(entry.file_name());
        tool::output("the OCI runtime", &mut delete).await?;
    }
    let containers = storage::containers(&store.layout.storage(), store.driver().await?)?;
    let is_pin =
        |names: &Option<Vec<String>>| names.iter().flatten().any(|name| name.starts_with(PIN_PREFIX));
    let left: Vec<String> =
        containers.into_iter().filter(|one| !is_pin(&one.names)).map(|container| container.id).collect();
    if !left.is_empty() {
        let mut remove = store.buildah().await?;
        tool::output("buildah", remove.arg("rm").args(&left)).await?;
    }
    store.remove_interim_names(import::INTERIM).await?;
    pull::clear(&store.layout.pulls())?;
    let scratch = store.layout.scratch();
    for entry in fs::read_dir(&scratch).into_iter().flatten().flatten() {
        let path = entry.path();
        let removed = if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.map_err(at(path))?;
    }
    Ok(())
}
