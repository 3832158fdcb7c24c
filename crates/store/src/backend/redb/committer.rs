//! The one thread that writes: takes what waits, judges each batch, and makes all of it durable with one fsync, of the log or
//! of redb's file.
//!
//! While an fsync runs, the next group gathers; so a group grows with the number of clients and needs no timer.

use std::sync::{
    Arc, MutexGuard, PoisonError, RwLockReadGuard,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use redb::{Database, Durability, ReadableTable, StorageError, Table};
use tokio::sync::{mpsc, oneshot};

use super::{
    Files, Opened, Shared, TABLE, damage,
    failure::{Failure, is_full},
    log::{Log, Record},
    row,
};
use crate::{
    backend::OpenError,
    port::{Batch, CommitError, Damage, Write},
    space::Reserve,
};

/// A group takes no further batch once it holds so many bytes: a bound on memory, and on the wait of the first.
const GROUP_BYTES: u64 = 8 << 20;

/// What redb writes beside the values: the pages on the way to the root, and the header.
const OVERHEAD_BYTES: u64 = 64 << 10;

pub(super) enum Request {
    Commit { batch: Batch, answer: Answer },
    Close { answer: oneshot::Sender<()> },
}

type Answer = oneshot::Sender<Result<(), CommitError>>;

/// Batches that share one fsync.
#[derive(Default)]
struct Group {
    members: Vec<(Batch, Answer)>,
    writes: u64,
    bytes: u64,
}

impl Group {
    fn push(&mut self, batch: Batch, answer: Answer) {
        self.writes += batch.writes.len() as u64;
        self.bytes += size(&batch);
        self.members.push((batch, answer));
    }
}

fn size(batch: &Batch) -> u64 {
    let bytes: usize = batch
        .writes
        .iter()
        .map(|write| match write {
            Write::Put { key, value } => key.len() + value.len(),
            Write::Delete { key } => key.len(),
        })
        .sum();
    bytes as u64
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    reserve: Reserve,
    queue: mpsc::Receiver<Request>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, reserve: Reserve, queue: mpsc::Receiver<Request>) -> Self {
        Self { shared, reserve, queue }
    }

    /// Serves until the store is closed or dropped.
    pub(super) fn run(mut self) {
        let mut closing = None;
        while closing.is_none()
            && let Some(request) = self.queue.blocking_recv()
        {
            let mut group = Group::default();
            let mut next = Some(request);
            while let Some(request) = next.take() {
                match request {
                    Request::Commit { batch, answer } => group.push(batch, answer),
                    Request::Close { answer } => {
                        closing = Some(answer);
                        break;
                    }
                }
                if group.bytes < GROUP_BYTES {
                    next = self.queue.try_recv().ok();
                }
            }
            self.commit(group);
        }
        self.queue.close();
        self.end();
        self.shared.close();
        if let Some(answer) = closing {
            let _ = answer.send(());
        }
    }

    fn commit(&mut self, group: Group) {
        if group.members.is_empty() {
            return;
        }
        match self.try_commit(&group) {
            Ok(verdicts) => {
                for ((_, answer), verdict) in group.members.into_iter().zip(verdicts) {
                    // Who gave up waiting has not seen an acknowledgement; the commit stands all the same.
                    let _ = answer.send(verdict);
                }
            }
            Err(failure) => {
                for (_, answer) in group.members {
                    let _ = answer.send(Err(failure.answer()));
                }
            }
        }
    }

    /// Leaves one file that has everything. Without that, the next start does it.
    fn end(&self) {
        let opened = self.shared.opened();
        let Some(files) = &opened.files else { return };
        let ended = damage::caught(&self.shared.path, || log_of(files).end(&files.database));
        let told = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(damage) => damage.to_string(),
        };
        tracing::warn!(error = told, "the log of the store stays");
    }

    /// Commits all members whose preconditions hold. An error means that none was written.
    fn try_commit(&mut self, group: &Group) -> Result<Vec<Result<(), CommitError>>, Failure> {
        // A delete needs a little room too; the reserve is there for it, so that a full disk can be emptied. Each is
        // judged on its own: what makes room is not refused for what came with it.
        let asks = group.members.iter().any(|(batch, _)| batch.needs_room());
        let tight = asks && !self.reserve.allows(group.bytes + OVERHEAD_BYTES)?;
        if tight && group.members.iter().all(|(batch, _)| batch.needs_room()) {
            return Err(Failure::Full);
        }
        let opened = self.open()?;
        let generation = opened.generation;
        let files = opened.files.as_ref().ok_or(StorageError::DatabaseClosed).map_err(redb::Error::from)?;
        let (mut log, mut outcome) = (log_of(files), Outcome::default());
        let result = damage::caught(&self.shared.path, || {
            write(&files.database, &mut log, group, tight, &self.shared.commits, &mut outcome)
        });
        let happened = log.untaken();
        drop(log);
        drop(opened);
        let failure = match result {
            Ok(Ok(())) => return Ok(outcome.verdicts),
            Ok(Err(error)) => self.failure(error),
            Err(damage) => Failure::Other(Arc::new(damage)),
        };
        match self.shared.renew(generation) {
            Ok(()) if happened => {
                self.shared.commits.fetch_add(1, Ordering::SeqCst);
            }
            Ok(()) => self.settle(outcome.witness),
            Err(error) => {
                tracing::error!(%error, "cannot open the store again; whoever uses it next tries again");
            }
        }
        if happened {
            tracing::warn!(error = %failure.answer(), "a commit was kept by the log alone");
            return Ok(outcome.verdicts);
        }
        Err(failure)
    }

    /// The database; opened again if that failed before.
    fn open(&self) -> Result<RwLockReadGuard<'_, Opened>, Failure> {
        let opened = self.shared.opened();
        if opened.files.is_some() {
            return Ok(opened);
        }
        let generation = opened.generation;
        drop(opened);
        self.shared.renew(generation).map_err(|error| match error {
            OpenError::Damaged { path, reason } => Failure::Other(Arc::new(Damage { path, what: reason })),
            OpenError::Io { source, .. } if is_full(&source) => Failure::Full,
            other => Failure::Other(Arc::new(other)),
        })?;
        Ok(self.shared.opened())
    }

    /// After a commit that failed: if the witness is as it was before, there was none.
    fn settle(&self, witness: Option<Witness>) {
        let commits = self.shared.commits.load(Ordering::SeqCst);
        let (Some(Witness { key, before }), false) = (witness, commits.is_multiple_of(2)) else { return };
        let Ok(begun) = self.shared.begin_read() else { return };
        let found = damage::read(&self.shared.path, || {
            Ok::<_, StorageError>(begun.table.get(key.as_ref())?.map(|found| found.value().to_vec()))
        });
        if found.is_ok_and(|found| found == before) {
            self.shared.commits.store(commits - 1, Ordering::SeqCst);
        }
    }
}

fn log_of(files: &Files) -> MutexGuard<'_, Log> {
    files.log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has come of a group so far.
#[derive(Default)]
struct Outcome {
    verdicts: Vec<Result<(), CommitError>>,
    witness: Option<Witness>,
}

/// A row that a group changes, and what was there before.
struct Witness {
    key: Bytes,
    before: Option<Vec<u8>>,
}

/// What a precondition found where it looked.
enum Looked {
    Holds,
    Broken(Bytes),
    /// The row there is not what was written.
    Damaged(Bytes),
}

/// What ends a transaction that redb itself could commit.
enum WriteError {
    Redb(redb::Error),
    DamagedRow(Bytes),
}

impl<E: Into<redb::Error>> From<E> for WriteError {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

fn write(
    database: &Database,
    log: &mut Log,
    group: &Group,
    tight: bool,
    commits: &AtomicU64,
    outcome: &mut Outcome,
) -> Result<(), WriteError> {
    let Outcome { verdicts, witness } = outcome;
    let mut record = log.prepare(database, group.writes, group.bytes)?.then(Record::new);
    let mut transaction = database.begin_write()?;
    let mut changed = false;
    {
        let mut table = transaction.open_table(TABLE)?;
        for (batch, _) in &group.members {
            if tight && batch.needs_room() {
                verdicts.push(Err(CommitError::Full));
                continue;
            }
            verdicts.push(match look(&table, batch)? {
                Looked::Damaged(key) => return Err(WriteError::DamagedRow(key)),
                Looked::Broken(key) => Err(CommitError::Conflict { key }),
                Looked::Holds => {
                    apply(&mut table, batch, &mut record, witness)?;
                    changed |= !batch.writes.is_empty();
                    Ok(())
                }
            });
        }
    }
    tandem_failpoint::try_hit("store.commit.judged").map_err(redb::Error::Io)?;
    if changed {
        // Odd from here on, and also after a failure, until it is known what that left.
        let begun = commits.load(Ordering::SeqCst) | 1;
        commits.store(begun, Ordering::SeqCst);
        match record {
            Some(record) => {
                transaction.set_durability(Durability::None)?;
                log.append(record)?;
                tandem_failpoint::hit("store.commit.logged");
                transaction.commit()?;
                log.taken();
            }
            None => transaction.commit()?,
        }
        commits.store(begun + 1, Ordering::SeqCst);
    } else {
        transaction.abort()?;
    }
    tandem_failpoint::hit("store.commit.synced");
    Ok(())
}

fn look(table: &Table<'_, &'static [u8], &'static [u8]>, batch: &Batch) -> Result<Looked, StorageError> {
    for precondition in &batch.preconditions {
        let key = &precondition.key;
        let found = table.get(key.as_ref())?;
        let found = match &found {
            None => None,
            Some(guard) => match row::unseal(key, guard.value()) {
                None => return Ok(Looked::Damaged(key.clone())),
                value => value,
            },
        };
        if found != precondition.value.as_deref() {
            return Ok(Looked::Broken(key.clone()));
        }
    }
    Ok(Looked::Holds)
}

fn apply(
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    batch: &Batch,
    record: &mut Option<Record>,
    witness: &mut Option<Witness>,
) -> Result<(), StorageError> {
    for write in &batch.writes {
        let (key, value) = match write {
            Write::Put { key, value } => (key, Some(value)),
            Write::Delete { key } => (key, None),
        };
        if let Some(record) = record {
            record.push(key, value.map(|value| &**value));
        }
        let value = value.map(|value| row::seal(key, value));
        let before = match &value {
            Some(value) => table.insert(key.as_ref(), value.as_slice())?,
            None => table.remove(key.as_ref())?,
        };
        match witness {
            // Changed, and changed back: it tells nothing.
            Some(known) if known.key == *key && known.before == value => *witness = None,
            Some(_) => {}
            None => {
                let before = before.map(|before| before.value().to_vec());
                *witness = (before != value).then(|| Witness { key: key.clone(), before });
            }
        }
    }
    Ok(())
}

impl Committer {
    fn failure(&self, error: WriteError) -> Failure {
        let damage = |what| Failure::Other(Arc::new(damage::found(&self.shared.path, what)));
        match error {
            WriteError::Redb(redb::Error::Corrupted(what)) => damage(what),
            WriteError::Redb(error) => error.into(),
            WriteError::DamagedRow(key) => {
                damage(format!("the row `{}` is not what was written", key.escape_ascii()))
            }
        }
    }
}
