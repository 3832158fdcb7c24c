//! What a FIFO queue remembers so that a message that is sent twice is there once.
//!
//! Five minutes from the first time, whether the message is still there or not. The row is written by the commit that
//! makes the message; rows that are too old are deleted by later commits.
//!
//! Source: Amazon SQS, SendMessage, `MessageDeduplicationId`.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tandem_model::inputs::DeduplicationScope;
use tandem_store::{Batch, ReadError, Snapshot};

use super::{
    error::{QueueError, damaged},
    key::table,
};

/// How long a message is remembered, in milliseconds.
const REMEMBERED: u64 = 5 * 60 * 1000;
/// How many old rows a commit deletes at most.
const FORGOTTEN_AT_ONCE: usize = 20;

/// A message that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) number: u64,
    pub(super) until: u64,
}

/// What is remembered of one queue.
#[derive(Debug, Default)]
pub(super) struct Memory {
    known: HashMap<String, Known>,
    /// By their end.
    ends: VecDeque<(u64, String)>,
}

/// The name under which a message is remembered.
pub(super) fn hash(scope: DeduplicationScope, group: &str, id: &str) -> String {
    let group = match scope {
        DeduplicationScope::Queue => "",
        DeduplicationScope::MessageGroup => group,
    };
    HEXLOWER.encode(&Sha256::digest([group.as_bytes(), &[0], id.as_bytes()].concat()))
}

fn row(queue: &str, hash: &str) -> Bytes {
    [&table("deduplication", queue), hash.as_bytes()].concat().into()
}

impl Memory {
    pub(super) fn load(snapshot: &dyn Snapshot, queue: &str) -> Result<Self, QueueError> {
        let table = table("deduplication", queue);
        let entries = snapshot.prefix(&table)?.map(|entry: Result<_, ReadError>| -> Result<_, QueueError> {
            let (row, value) = entry?;
            let hash = String::from_utf8_lossy(&row[table.len()..]).into_owned();
            Ok((hash, serde_json::from_slice::<Known>(&value).map_err(damaged)?))
        });
        let known = entries.collect::<Result<HashMap<_, _>, _>>()?;
        let mut ends: Vec<_> = known.iter().map(|(hash, known)| (known.until, hash.clone())).collect();
        ends.sort();
        Ok(Self { known, ends: ends.into() })
    }

    pub(super) fn find(&self, hash: &str, now: u64) -> Option<&Known> {
        self.known.get(hash).filter(|known| known.until > now)
    }

    /// Adds what is to be remembered to the batch, and takes out some of what is too old.
    pub(super) fn write(&self, batch: &mut Batch, queue: &str, new: &[(String, Known)], now: u64) {
        for (_, hash) in self.old(now) {
            batch.delete(row(queue, hash));
        }
        for (hash, known) in new {
            batch.put(row(queue, hash), serde_json::to_vec(known).expect("a struct has string keys"));
        }
    }

    /// What [`write`](Self::write) wrote is committed.
    pub(super) fn written(&mut self, new: Vec<(String, Known)>, now: u64) {
        let old = self.old(now).count();
        for (until, hash) in self.ends.drain(..old) {
            if self.known.get(&hash).is_some_and(|known| known.until == until) {
                self.known.remove(&hash);
            }
        }
        for (hash, known) in new {
            self.ends.push_back((known.until, hash.clone()));
            self.known.insert(hash, known);
        }
    }

    fn old(&self, now: u64) -> impl Iterator<Item = &(u64, String)> {
        self.ends.iter().take(FORGOTTEN_AT_ONCE).take_while(move |(until, _)| *until <= now)
    }

    pub(super) fn until(now: u64) -> u64 {
        now + REMEMBERED
    }
}
