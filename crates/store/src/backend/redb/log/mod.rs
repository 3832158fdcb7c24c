//! The log before the store: a commit is on disk once it is here, and in redb's file later.
//!
//! redb makes a commit durable by writing the pages on the way to its root all over the file. The log takes the same writes one
//! after the other, in blocks that are there already: one write and one fsync of a few KiB. redb takes them without an fsync, so
//! readers see them, and with one when half of the log is full ([`Limits::size`]) or a group is too large for it
//! ([`Limits::largest`]). That fsync happens while commits go on, into the other half ([`super::file::Later`]).
//!
//! Who owns it: the committer alone writes, under the store's own lock; who opens the file reads. What makes a group of commits
//! true is the fsync of its record, or of redb's file if it has none. In redb's file is a mark: which log goes with it, and the
//! number of the last record that the file holds. What a restart finds at each gap:
//!
//! | killed | redb's file | the log | a restart |
//! |---|---|---|---|
//! | before the first commit | no mark | none | nothing to do |
//! | after the log was made, before its mark | no mark | a record of nothing | ignores it; the next one takes its place |
//! | after the mark | marked | a record of nothing | nothing to do |
//! | while a record is written | marked | part of it | ends before it: it was not acknowledged |
//! | after its fsync, before redb took it | marked | has it | takes it from there |
//! | after redb took it without an fsync | marked | has it | the same |
//! | a half being full, before redb's fsync has happened | marked with an earlier number, or the last | has it all | takes what the mark it finds leaves |
//! | after it | marked with the last number | has it all, and what came since | the same |
//! | after the mark was taken away, closing | no mark, has all | has it all | ignores it |
//!
//! The writes in a record say what is there afterwards, so taking one twice changes nothing. If redb cannot take what is in the
//! log already (its file cannot grow), the commit has happened all the same: it is there once the file can be opened again.
//!
//! A half is written to again only when the mark behind all its records is on disk: the fsync of the other half's end came after
//! it. A record that is not whole ends the log only if it is the last one: as a group is on disk before the next is written, one
//! that comes after it means that the disk has lost what it had, and that is an error.

mod place;
mod record;

use std::{io, path::Path, sync::Arc};

use redb::{Database, Durability, ReadableDatabase, StorageBackend, TableDefinition, TableError};

use super::{OpenError, TABLE, failure::is_full, file::Later, row};
pub(super) use place::{OnDisk, Place};
use record::BLOCK;
pub(super) use record::Record;

/// The mark: the log's id, and the number of the last record that is in the file.
const MARK: TableDefinition<'_, (), (u64, u64)> = TableDefinition::new("log");

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How large a log becomes, in two halves: so much is read after a crash.
    pub(super) size: u64,
    /// It grows by so much, in zeros, because blocks that are there are written faster.
    pub(super) step: u64,
    /// What is larger goes to redb's file at once, instead of to both.
    pub(super) largest: u64,
}

impl Limits {
    fn half(self) -> u64 {
        self.size / 2
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { size: 8 << 20, step: 1 << 20, largest: 1 << 20 }
    }
}

#[derive(Debug)]
pub(super) struct Log {
    place: Arc<dyn Place>,
    limits: Limits,
    /// Of redb's file.
    later: Arc<Later>,
    /// From the first commit on.
    begun: Option<Begun>,
    /// Whether redb has not taken the last record yet.
    untaken: bool,
}

#[derive(Debug)]
struct Begun {
    file: Box<dyn StorageBackend>,
    id: u64,
    /// The number of the last record.
    last: u64,
    /// Where the half begins that is written to.
    half: u64,
    /// Where the next record goes.
    end: u64,
    /// The length of the file.
    length: u64,
    /// Whether all that the other half has is in redb's file, on disk.
    other_is_free: bool,
}

impl Log {
    /// The log that goes with the file; what the file does not have of it is brought in, without an fsync. `store` is the
    /// file's name in errors.
    pub(super) fn recover(
        store: &Path,
        database: &Database,
        later: Arc<Later>,
        place: Arc<dyn Place>,
        limits: Limits,
    ) -> Result<Self, OpenError> {
        let damaged = |reason| OpenError::Damaged { path: store.to_owned(), reason };
        let io = |source| OpenError::Io { path: store.to_owned(), source };
        let failed = |error: redb::Error| match error {
            redb::Error::Corrupted(reason) => damaged(reason),
            redb::Error::Io(source) => io(source),
            other => OpenError::Backend { path: store.to_owned(), source: other.into() },
        };
        let Some((id, position)) = mark(database).map_err(failed)? else {
            return Ok(Self { place, limits, later, begun: None, untaken: false });
        };
        let Some(file) = place.open().map_err(io)? else {
            return Err(damaged(format!(
                "its log `{}` is missing, which has what was committed last",
                place.name()
            )));
        };
        // A record that was written by a process that was killed counts from here on, so it must stay.
        file.sync_data().map_err(io)?;
        let length = file.len().map_err(io)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        file.read(0, &mut bytes).map_err(io)?;
        let mut found = record::all(&bytes, id);
        if found.is_empty() {
            return Err(damaged(format!("`{}` is not its log", place.name())));
        }
        found.retain(|number, _| *number > position);
        let (mut last, mut end) = (position, 0);
        let mut records = Vec::new();
        while let Some((at, record)) = found.remove(&(last + 1)) {
            records.push(record);
            (last, end) = (last + 1, at + record.size);
        }
        if let Some(later) = found.keys().next() {
            let name = place.name();
            return Err(damaged(format!(
                "record {} of its log `{name}` is not what was written, and record {later} is",
                last + 1
            )));
        }
        take(database, &records).map_err(failed)?;
        if !records.is_empty() {
            tracing::info!(store = %store.display(), records = records.len(), "took commits from the log");
        }
        let end = end as u64;
        // The end of the first half is in it.
        let half = if end > limits.half() { limits.half() } else { 0 };
        let begun = Begun { file, id, last, half, end, length, other_is_free: false };
        Ok(Self { place, limits, later, begun: Some(begun), untaken: false })
    }

    /// Makes room for a record of so many writes, whose keys and values have so many bytes. Answers whether it goes into the log;
    /// if not, there is nothing in it now that redb's file does not have.
    pub(super) fn prepare(
        &mut self,
        database: &Database,
        writes: u64,
        bytes: u64,
    ) -> Result<bool, redb::Error> {
        let size = record::size(writes, bytes);
        let logged = size <= self.limits.largest;
        let ready = match (&self.begun, logged) {
            (Some(begun), true) => begun.end + size <= begun.half + self.limits.half(),
            (Some(begun), false) => begun.end == begun.half,
            (None, logged) => !logged,
        };
        if !ready {
            match self.mark(database) {
                // A disk without room for a log may have some for a deletion.
                Err(redb::Error::Io(error)) if self.begun.is_none() && is_full(&error) => return Ok(false),
                other => other?,
            }
        }
        if logged
            && let Some(begun) = &mut self.begun
            && let Err(error) = begun.grow(begun.end + size, self.limits)
        {
            if !is_full(&error) {
                return Err(redb::Error::Io(error));
            }
            self.mark(database)?;
            return Ok(false);
        }
        Ok(logged)
    }

    /// Brings all of it into redb's file, and goes on with the other half. The commit has nothing else in it: should it fail, or
    /// come true in spite of a failure, that changes nothing.
    fn mark(&mut self, database: &Database) -> Result<(), redb::Error> {
        let begun = match &mut self.begun {
            Some(begun) => begun,
            none => none.insert(Begun::create(&*self.place, self.limits).map_err(redb::Error::Io)?),
        };
        let transaction = database.begin_write()?;
        transaction.open_table(MARK)?.insert((), (begun.id, begun.last))?;
        match begun.other_is_free {
            true => self.later.during(|| transaction.commit())?,
            // After a power cut both halves may have what the file lacks; and of a new log the file must know before anything counts.
            false => transaction.commit()?,
        }
        begun.other_is_free = true;
        tandem_failpoint::hit("store.log.marked");
        if begun.last > 0 && begun.end > begun.half {
            begun.half = self.limits.half() - begun.half;
            begun.end = begun.half;
        }
        Ok(())
    }

    /// Makes a record durable for which there is [room](Self::prepare).
    pub(super) fn append(&mut self, record: Record) -> io::Result<()> {
        let begun = self.begun.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let bytes = record.seal(begun.id, begun.last + 1);
        let end = begun.end + bytes.len() as u64;
        begun.file.write(begun.end, &bytes)?;
        begun.file.sync_data()?;
        self.untaken = true;
        (begun.last, begun.end) = (begun.last + 1, end);
        Ok(())
    }

    /// redb has taken what was appended.
    pub(super) fn taken(&mut self) {
        self.untaken = false;
    }

    /// Whether there is something in the log that redb does not have: once this is [recovered](Self::recover), it does.
    pub(super) fn untaken(&self) -> bool {
        self.untaken
    }

    /// Brings all of it into redb's file, for good, and removes it.
    pub(super) fn end(&mut self, database: &Database) -> Result<(), redb::Error> {
        if self.begun.is_none() {
            return Ok(());
        }
        let transaction = database.begin_write()?;
        transaction.open_table(MARK)?.remove(())?;
        transaction.commit()?;
        self.begun = None;
        tandem_failpoint::hit("store.log.ended");
        self.place.remove().map_err(redb::Error::Io)
    }
}

impl Begun {
    fn create(place: &dyn Place, limits: Limits) -> io::Result<Self> {
        let file = place.create()?;
        let id = uuid::Uuid::new_v4().as_u64_pair().0;
        let mut begun =
            Self { file, id, last: 0, half: 0, end: BLOCK as u64, length: 0, other_is_free: false };
        begun.grow(limits.step, limits)?;
        // A record of nothing, so that a log has a record of its own at all times.
        begun.file.write(0, &Record::new().seal(id, 0))?;
        begun.file.sync_data()?;
        tandem_failpoint::hit("store.log.begun");
        Ok(begun)
    }

    /// Makes the file as long as `end`, and some more.
    fn grow(&mut self, end: u64, limits: Limits) -> io::Result<()> {
        if end > self.length {
            let length = end.next_multiple_of(limits.step);
            let zeros = usize::try_from(length - self.length).map_err(io::Error::other)?;
            self.file.write(self.length, &vec![0; zeros])?;
            self.length = length;
        }
        Ok(())
    }
}

fn mark(database: &Database) -> Result<Option<(u64, u64)>, redb::Error> {
    match database.begin_read()?.open_table(MARK) {
        Ok(table) => Ok(table.get(())?.map(|mark| mark.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// Brings records into redb, without an fsync.
fn take(database: &Database, records: &[record::Found<'_>]) -> Result<(), redb::Error> {
    if records.is_empty() {
        return Ok(());
    }
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::None)?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for (key, value) in records.iter().flat_map(|record| record.writes()) {
            match value {
                Some(value) => table.insert(key, row::seal(key, value).as_slice())?,
                None => table.remove(key)?,
            };
        }
    }
    transaction.commit()?;
    Ok(())
}
