//! Putting records.
//!
//! One at a time appends to a stream: it takes all puts that wait, numbers their records, and writes them in one commit with
//! one row for each shard. Puts that come meanwhile wait for the next one. So records are numbered in the order of commits,
//! and many clients share a sync of the disk.
//!
//! Each such commit renews the stamp of the stream ([`Stamp`]), and is refused unless it finds the one that the commit before
//! it left. So whoever numbers records by what is not true any more writes over none that was acknowledged, whatever the
//! reason is for which there are two: it reads what is true, and puts again.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use bytes::Bytes;
use tandem_failpoint::hit;
use tandem_store::{Batch, CommitError};
use tokio::sync::oneshot;

use super::{
    Streams,
    error::StreamError,
    key::{OPEN, Stamp, head_row, record_row, stream_row},
    open::Open,
    row::{Packed, encode},
    shard,
};

/// The most records of a put, the most bytes of a record and of a put, with keys. Source: Amazon Kinesis Data Streams,
/// PutRecords; a record's limit there is 1 MiB unless a stream is set to more.
const MOST_RECORDS: usize = 500;
const MOST_BYTES: usize = 1 << 20;
const MOST_BYTES_OF_PUT: usize = 10 << 20;
/// The most characters of a key.
const LONGEST_KEY: usize = 256;
/// A row is closed once it has so many bytes: whoever reads one record reads its row.
const ROW: usize = 1 << 20;
/// So many bytes go in one commit, and what one put has on top.
const COMMIT: usize = 16 << 20;

/// A record to be put.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    pub key: String,
    pub data: Bytes,
    /// Instead of the hash of the key.
    pub hash: Option<String>,
}

/// A record that is there: on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    pub shard: u32,
    pub number: u64,
}

/// Puts that wait to be written.
#[derive(Default)]
pub(super) struct Waiting {
    puts: Vec<Pending>,
    /// Somebody appends, and takes them.
    appending: bool,
}

struct Pending {
    records: Vec<(u32, Packed)>,
    size: usize,
    answer: oneshot::Sender<Result<Vec<Put>, NotPut>>,
}

/// Why records were not put.
#[derive(Debug, Clone)]
pub(super) enum NotPut {
    /// The stream is not as it was read: nothing was written.
    Stale,
    Failed(StreamError),
}

impl From<StreamError> for NotPut {
    fn from(error: StreamError) -> Self {
        Self::Failed(error)
    }
}

/// What waits must not wait for ever if the one who appends ends before its time.
struct Appending<'a> {
    open: &'a Open,
    ended: bool,
}

impl Drop for Appending<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let mut waiting = self.open.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.appending = false;
            waiting.puts.clear();
        }
    }
}

impl Streams {
    /// Puts records, all or none. Those of one key keep the order in which they are given. When it answers, they are on
    /// disk (I1). `cause` is the trace context of what makes somebody put them.
    ///
    /// # Errors
    /// If one of them cannot be put, or the commit failed. The stream is unchanged, unless the disk failed.
    pub async fn put(
        self: &Arc<Self>,
        stream: &str,
        records: Vec<Outgoing>,
        cause: Option<String>,
    ) -> Result<Vec<Put>, StreamError> {
        let size = check(&records)?;
        loop {
            let open = self.open(stream).await?;
            match self.put_into(&open, &records, size, cause.clone()).await {
                Ok(put) => return Ok(put),
                Err(NotPut::Stale) => self.drop_stale(&open),
                Err(NotPut::Failed(error)) => return Err(error),
            }
        }
    }

    /// One attempt at it.
    pub(super) async fn put_into(
        self: &Arc<Self>,
        open: &Arc<Open>,
        records: &[Outgoing],
        size: usize,
        cause: Option<String>,
    ) -> Result<Vec<Put>, NotPut> {
        let shards = open.shards();
        // The length of a cause is kept in a byte.
        let cause = cause.filter(|cause| cause.len() <= usize::from(u8::MAX));
        let packed = records.iter().enumerate().map(|(at, record)| {
            let hash = match &record.hash {
                Some(given) => hash_key(at, given)?,
                None => shard::hash(&record.key),
            };
            let (key, data) = (record.key.clone(), record.data.clone());
            Ok((shard::of(hash, shards), Packed { key, data, cause: cause.clone() }))
        });
        let records = packed.collect::<Result<Vec<_>, StreamError>>()?;
        let (answer, answered) = oneshot::channel();
        let begin = {
            let mut waiting = open.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.puts.push(Pending { records, size, answer });
            !std::mem::replace(&mut waiting.appending, true)
        };
        if begin {
            // Seen through even if whoever asked goes away: others wait for it.
            let (streams, open) = (self.clone(), open.clone());
            tokio::spawn(async move { streams.append(&open).await });
        }
        answered.await.unwrap_or_else(|_| Err(StreamError::from(CommitError::Closed).into()))
    }

    /// Writes until nothing waits.
    async fn append(&self, open: &Open) {
        let mut appending = Appending { open, ended: false };
        loop {
            let puts = {
                let mut waiting = open.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let mut size = 0;
                let few = waiting.puts.iter().take_while(|put| {
                    let fits = size <= COMMIT;
                    size += put.size;
                    fits
                });
                let few = few.count();
                if few == 0 {
                    waiting.appending = false;
                    appending.ended = true;
                    return;
                }
                waiting.puts.drain(..few).collect::<Vec<_>>()
            };
            self.write(open, puts).await;
        }
    }

    async fn write(&self, open: &Open, puts: Vec<Pending>) {
        if open.gone.is_cancelled() {
            for put in puts {
                // Whoever asked may be gone.
                let _ = put.answer.send(Err(NotPut::Stale));
            }
            return;
        }
        let before = open.head().clone();
        let mut head = before.clone();
        head.last = head.last.max((self.clock)());
        let stamp = Stamp::new();
        head.stamp = Some(stamp.clone());
        let mut of_shards = BTreeMap::<u32, Vec<Packed>>::new();
        let mut answers = Vec::with_capacity(puts.len());
        for Pending { records, answer, .. } in puts {
            let numbered = records.into_iter().map(|(shard, record)| {
                let number = head.next[shard as usize];
                head.next[shard as usize] += 1;
                of_shards.entry(shard).or_default().push(record);
                Put { shard, number }
            });
            answers.push((numbered.collect::<Vec<_>>(), answer));
        }
        let mut batch = Batch::default();
        batch.expect(stream_row(&open.name), Some(OPEN.into()));
        batch
            .expect(head_row(&open.name), before.stamp.map(|stamp| stamp.0))
            .put(head_row(&open.name), stamp.0);
        for (shard, records) in &of_shards {
            let mut first = before.next[*shard as usize];
            for row in rows(records) {
                batch.put(record_row(&open.name, *shard, first), encode(head.last, row));
                first += row.len() as u64;
            }
        }
        let outcome = self.store.commit(batch).await;
        hit("stream.put.committed");
        if outcome.is_ok() {
            for shard in of_shards.keys() {
                open.committed(*shard, head.next[*shard as usize]);
            }
            *open.head() = head;
        }
        if let Err(CommitError::Backend(_)) = &outcome {
            // It may have been written all the same: the next put reads what is there.
            self.drop_stale(open);
        }
        let outcome = outcome.map_err(|error| match error {
            CommitError::Conflict { .. } => NotPut::Stale,
            error => StreamError::from(error).into(),
        });
        for (numbered, answer) in answers {
            // Whoever asked may be gone.
            let _ = answer.send(outcome.clone().map(|()| numbered));
        }
    }
}

/// Records as they are divided among rows.
fn rows(records: &[Packed]) -> impl Iterator<Item = &[Packed]> {
    let mut left = records;
    std::iter::from_fn(move || {
        let mut size = 0;
        let few = left.iter().take_while(|record| {
            let fits = size < ROW;
            size += record.key.len() + record.data.len();
            fits
        });
        let (row, rest) = left.split_at(few.count());
        left = rest;
        (!row.is_empty()).then_some(row)
    })
}

/// Answers how many bytes they have.
fn check(records: &[Outgoing]) -> Result<usize, StreamError> {
    if records.is_empty() {
        return Err(StreamError::EmptyBatch);
    }
    if records.len() > MOST_RECORDS {
        return Err(StreamError::TooMany { count: records.len(), most: MOST_RECORDS });
    }
    let mut all = 0;
    for (at, record) in records.iter().enumerate() {
        let length = record.key.chars().count();
        if !(1..=LONGEST_KEY).contains(&length) {
            return Err(StreamError::Key { at, length });
        }
        let size = record.key.len() + record.data.len();
        if size > MOST_BYTES {
            return Err(StreamError::TooLarge { at, size, most: MOST_BYTES });
        }
        all += size;
    }
    match all {
        size if size > MOST_BYTES_OF_PUT => Err(StreamError::BatchTooLarge { size, most: MOST_BYTES_OF_PUT }),
        size => Ok(size),
    }
}

fn hash_key(at: usize, given: &str) -> Result<u128, StreamError> {
    let plain = !given.is_empty() && given.bytes().all(|b| b.is_ascii_digit());
    let hash = given.parse().ok().filter(|_| plain && (given == "0" || !given.starts_with('0')));
    hash.ok_or_else(|| StreamError::HashKey { at, given: given.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_closed_when_they_are_long_and_hold_at_least_one_record() {
        let record = |size: usize| Packed { key: "k".into(), data: vec![0; size].into(), cause: None };
        let records = [record(10), record(ROW), record(ROW), record(1), record(1)];
        let lengths: Vec<_> = rows(&records).map(<[_]>::len).collect();
        assert_eq!(lengths, [2, 1, 2]);
        assert_eq!(rows(&[]).count(), 0);
    }

    #[test]
    fn a_hash_key_is_a_plain_number_of_128_bits() {
        assert_eq!(hash_key(0, "340282366920938463463374607431768211455").unwrap(), u128::MAX);
        for bad in ["", "-1", "+1", "01", "1e3", "340282366920938463463374607431768211456"] {
            assert!(hash_key(0, bad).is_err(), "{bad}");
        }
    }
}
