//! Uploads under way: a file that grows, and the hash of what is in it.
//!
//! An upload belongs to who began it, and to its repository; for anyone else it is not there. It lives in memory: a
//! restart ends it, and its client begins again.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use sha2::{Digest as _, Sha256};
use tandem_failpoint::try_hit;
use tandem_store::Reserve;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    RegistryError,
    files::{Files, blocking},
    name::{Digest, Repository},
};

/// How much is gathered before a thread writes and hashes it.
const PIECE: usize = 1 << 20;
/// How long an upload may rest.
const REST: Duration = Duration::from_secs(24 * 60 * 60);
/// How many may be under way. Each keeps a file open.
const MOST: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<HashMap<String, Arc<Upload>>>);

#[derive(Debug)]
pub(super) struct Upload {
    pub(super) id: String,
    repository: Repository,
    owner: String,
    path: PathBuf,
    reserve: Reserve,
    state: tokio::sync::Mutex<State>,
    used: Mutex<Instant>,
}

#[derive(Debug)]
enum State {
    Idle(Partial),
    Busy(JoinHandle<io::Result<Partial>>),
    Failed,
}

#[derive(Debug)]
struct Partial {
    file: File,
    hash: Sha256,
    size: u64,
}

impl Uploads {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<Upload>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn begin(
        &self,
        files: &Files,
        repository: &Repository,
        owner: &str,
    ) -> Result<Arc<Upload>, RegistryError> {
        if self.all().len() >= MOST {
            return Err(RegistryError::UploadInvalid("too many uploads are under way".to_owned()));
        }
        let (path, reserve) = (files.incoming(), files.reserve());
        let created = {
            let (path, reserve) = (path.clone(), reserve.clone());
            blocking(move || match reserve.allows(0)? {
                true => File::create_new(path),
                false => Err(io::ErrorKind::StorageFull.into()),
            })
        };
        let partial = Partial { file: created.await?, hash: Sha256::new(), size: 0 };
        let upload = Arc::new(Upload {
            id: uuid::Uuid::new_v4().simple().to_string(),
            repository: repository.clone(),
            owner: owner.to_owned(),
            path,
            reserve,
            state: tokio::sync::Mutex::new(State::Idle(partial)),
            used: Mutex::new(Instant::now()),
        });
        self.all().insert(upload.id.clone(), upload.clone());
        Ok(upload)
    }

    pub(super) fn find(&self, id: &str, of: &Repository, owner: &str) -> Result<Arc<Upload>, RegistryError> {
        let found = self.all().get(id).cloned();
        let upload = found.filter(|upload| upload.repository == *of && upload.owner == owner);
        let upload = upload.ok_or(RegistryError::UploadUnknown)?;
        *upload.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(upload)
    }

    /// Forgets it; its file goes with the last who uses it.
    pub(super) fn end(&self, upload: &Upload) {
        self.all().remove(&upload.id);
    }

    pub(super) fn end_old(&self) {
        self.all()
            .retain(|_, upload| upload.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < REST);
    }
}

impl Upload {
    /// How many bytes are there.
    pub(super) async fn size(&self) -> Result<u64, RegistryError> {
        Ok(idle(&mut *self.state.lock().await).await?.size)
    }

    /// Appends a body, which must begin at byte `from` if that is said. What has come of a body that is cut off counts.
    /// Takes a bounded memory, whatever the body's size.
    pub(super) async fn append<S, E>(&self, body: S, from: Option<u64>) -> Result<u64, RegistryError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: std::fmt::Display,
    {
        let mut state = self.state.lock().await;
        let size = idle(&mut state).await?.size;
        if from.is_some_and(|from| from != size) {
            return Err(RegistryError::OutOfOrder(size));
        }
        let mut body = std::pin::pin!(body);
        let (mut gathered, mut bytes) = (Vec::new(), 0);
        let cut = loop {
            match body.next().await {
                Some(Ok(piece)) => {
                    bytes += piece.len();
                    gathered.push(piece);
                    if bytes >= PIECE {
                        self.write(&mut state, std::mem::take(&mut gathered)).await?;
                        bytes = 0;
                    }
                }
                Some(Err(error)) => break Some(error.to_string()),
                None => break None,
            }
        };
        self.write(&mut state, gathered).await?;
        let size = idle(&mut state).await?.size;
        match cut {
            Some(reason) => Err(RegistryError::UploadInvalid(format!("the body ended early: {reason}"))),
            None => Ok(size),
        }
    }

    /// Begins to write; the next call waits for it.
    async fn write(&self, state: &mut State, pieces: Vec<Bytes>) -> Result<(), RegistryError> {
        idle(state).await?;
        let State::Idle(mut partial) = std::mem::replace(state, State::Failed) else {
            unreachable!("it is idle, or there was an error");
        };
        let reserve = self.reserve.clone();
        *state = State::Busy(spawn_blocking(move || {
            let bytes: usize = pieces.iter().map(Bytes::len).sum();
            if !reserve.allows(bytes as u64)? {
                return Err(io::ErrorKind::StorageFull.into());
            }
            try_hit("registry.upload.writing")?;
            for piece in pieces {
                partial.file.write_all(&piece)?;
                partial.hash.update(&piece);
            }
            partial.size += bytes as u64;
            Ok(partial)
        }));
        Ok(())
    }

    /// Makes a blob of it, if it has this digest. Whatever the answer, it is over with the upload.
    pub(super) async fn finish(&self, files: &Files, digest: &Digest) -> Result<(), RegistryError> {
        let mut state = self.state.lock().await;
        idle(&mut state).await?;
        let State::Idle(Partial { file, hash, .. }) = std::mem::replace(&mut *state, State::Failed) else {
            unreachable!("it is idle, or there was an error");
        };
        let actual = Digest::from_hash(&hash.finalize());
        if actual != *digest {
            let reason = format!("what came has the digest {actual}, not {digest}");
            return Err(RegistryError::DigestInvalid { reason });
        }
        files.adopt(file, self.path.clone(), digest).await
    }
}

/// Waits for the thread that writes. May be given up: the thread's result is still there for the next.
async fn idle(state: &mut State) -> Result<&mut Partial, RegistryError> {
    if let State::Busy(thread) = state {
        let (next, result) = match thread.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped))) {
            Ok(partial) => (State::Idle(partial), Ok(())),
            Err(error) => (State::Failed, Err(error)),
        };
        *state = next;
        result?;
    }
    match state {
        State::Idle(partial) => Ok(partial),
        _ => Err(RegistryError::UploadUnknown),
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "cannot remove an unfinished upload; the next start will");
            }
            _ => {}
        }
    }
}
