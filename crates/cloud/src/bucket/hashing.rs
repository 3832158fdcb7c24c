//! Hashing a long body on a thread of its own, while its next bytes come in: MD5 alone takes longer than receiving and
//! writing together.

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    checksum::{Algorithm, Checksum, Hasher},
    error::BucketError,
};

/// How much is gathered before a thread hashes it. What is left at the end, or a body smaller than this, is hashed where
/// it is.
const PIECE: usize = 1 << 20;

/// The hashes of a body that is coming in.
pub(super) struct Hashing {
    state: State,
    gathered: Vec<Bytes>,
    bytes: usize,
}

/// The hasher, or the thread that has it.
enum State {
    Idle(Hasher),
    Busy(JoinHandle<Hasher>),
    Failed,
}

impl Hashing {
    pub(super) fn new(algorithms: &[Algorithm]) -> Self {
        Self { state: State::Idle(Hasher::new(algorithms)), gathered: Vec::new(), bytes: 0 }
    }

    /// The next bytes. Waits while a thread still has the ones before, so that a body takes a bounded memory.
    pub(super) async fn take(&mut self, piece: Bytes) -> Result<(), BucketError> {
        self.bytes += piece.len();
        self.gathered.push(piece);
        if self.bytes >= PIECE {
            let mut hasher = self.idle().await?;
            let pieces = std::mem::take(&mut self.gathered);
            self.bytes = 0;
            self.state = State::Busy(spawn_blocking(move || {
                pieces.iter().for_each(|piece| hasher.update(piece));
                hasher
            }));
        }
        Ok(())
    }

    /// The MD5, and the checksums in the order in which they were asked for.
    pub(super) async fn finish(mut self) -> Result<([u8; 16], Vec<Checksum>), BucketError> {
        let mut hasher = self.idle().await?;
        self.gathered.iter().for_each(|piece| hasher.update(piece));
        Ok(hasher.finish())
    }

    async fn idle(&mut self) -> Result<Hasher, BucketError> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Idle(hasher) => Ok(hasher),
            State::Busy(thread) => thread.await.map_err(|stopped| BucketError::Body(stopped.into())),
            State::Failed => Err(BucketError::Body("its hashing was given up".into())),
        }
    }
}
