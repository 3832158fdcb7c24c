//! Reading: one read transaction of redb, or the one that takes its place after a failed write.
//!
//! After a failed write redb refuses all reads, also of transactions that began before. The file that is opened again holds
//! the last commit. So a snapshot goes on there if nothing was read from it yet, because it then sees all that was
//! committed before it was taken; or if there was no commit since, because it then sees the same. Otherwise the read fails:
//! a snapshot never shows two moments.

use std::{
    cell::RefCell,
    ops::Bound,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use redb::{OwnedAccessGuard, OwnedRange, ReadOnlyTable, ReadableTable, StorageError};

use super::{Begun, Shared, damage, row};
use crate::port::{Direction, Entries, ReadError, Snapshot};

type Guard = OwnedAccessGuard<&'static [u8]>;
type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

pub(super) struct RedbSnapshot {
    shared: Arc<Shared>,
    state: RefCell<State>,
}

struct State {
    begun: Begun,
    /// Whether somebody has seen something of it.
    read: bool,
}

impl RedbSnapshot {
    pub(super) fn begin(shared: Arc<Shared>) -> Result<Self, ReadError> {
        let begun = shared.begin_read()?;
        Ok(Self { shared, state: RefCell::new(State { begun, read: false }) })
    }

    /// Reads from the table, or from the one that takes its place.
    fn read<T>(&self, work: impl Fn(&Table) -> Result<T, StorageError>) -> Result<T, ReadError> {
        loop {
            let generation = self.state.borrow().begun.generation;
            match damage::read(&self.shared.path, || work(&self.state.borrow().begun.table)) {
                Err(error) if self.shared.is_outdated(&error) => self.renew(generation, error)?,
                read => return read,
            }
        }
    }

    fn seen(&self) {
        self.state.borrow_mut().read = true;
    }

    /// Goes on where the file was opened again, after what was begun in `generation` has failed so.
    fn renew(&self, generation: u64, error: ReadError) -> Result<(), ReadError> {
        let mut state = self.state.borrow_mut();
        if state.begun.generation != generation {
            return Ok(());
        }
        let begun = self.shared.begin_read()?;
        let same = begun.commits == state.begun.commits
            && begun.commits.is_multiple_of(2)
            && begun.commits == self.shared.commits.load(Ordering::SeqCst);
        if begun.generation == generation || state.read && !same {
            return Err(error);
        }
        state.begun = begun;
        Ok(())
    }

    fn value(&self, key: &[u8], sealed: &[u8]) -> Result<Bytes, ReadError> {
        let value = row::unseal(key, sealed).ok_or_else(|| damage::row(&self.shared.path, key))?;
        Ok(Bytes::copy_from_slice(value))
    }

    fn row(&self, entry: &(Guard, Guard)) -> Result<(Bytes, Bytes), ReadError> {
        let (key, sealed) =
            damage::read(&self.shared.path, || Ok::<_, StorageError>((entry.0.value(), entry.1.value())))?;
        Ok((Bytes::copy_from_slice(key), self.value(key, sealed)?))
    }
}

impl Snapshot for RedbSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let found = self.read(|table| {
            let guard = ReadableTable::get(table, key)?;
            Ok(guard.map(|guard| self.value(key, guard.value())))
        });
        self.seen();
        found?.transpose()
    }

    fn range(&self, from: &[u8], to: &[u8], direction: Direction) -> Result<Entries<'_>, ReadError> {
        if from >= to {
            return Ok(Box::new(std::iter::empty()));
        }
        let mut rest = Rest {
            snapshot: self,
            direction,
            from: Bound::Included(Bytes::copy_from_slice(from)),
            to: Bound::Excluded(Bytes::copy_from_slice(to)),
            range: None,
        };
        rest.open()?;
        let mut ended = false;
        Ok(Box::new(std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let row = rest.next().transpose()?;
            // What a damaged page leads to next makes no sense.
            ended = row.is_err();
            Some(row)
        })))
    }
}

/// A range of the table, with the generation that it is of.
type Opened = (u64, OwnedRange<&'static [u8], &'static [u8]>);

/// What an iteration has not shown yet.
struct Rest<'a> {
    snapshot: &'a RedbSnapshot,
    direction: Direction,
    from: Bound<Bytes>,
    to: Bound<Bytes>,
    range: Option<Opened>,
}

impl Rest<'_> {
    fn open(&mut self) -> Result<(), ReadError> {
        let bounds = (self.from.as_ref().map(|key| &**key), self.to.as_ref().map(|key| &**key));
        let range = self.snapshot.read(|table| table.range_owned::<&[u8]>(bounds))?;
        self.range = Some((self.snapshot.state.borrow().begun.generation, range));
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, ReadError> {
        let entry = loop {
            let Some((generation, range)) = &mut self.range else {
                self.open()?;
                continue;
            };
            let next = damage::read(&self.snapshot.shared.path, || match self.direction {
                Direction::Ascending => range.next().transpose(),
                Direction::Descending => range.next_back().transpose(),
            });
            match next {
                Err(error) if self.snapshot.shared.is_outdated(&error) => {
                    self.snapshot.renew(*generation, error)?;
                    self.range = None;
                }
                next => break next?,
            }
        };
        self.snapshot.seen();
        let Some(entry) = entry else { return Ok(None) };
        let row = self.snapshot.row(&entry)?;
        let shown = Bound::Excluded(row.0.clone());
        match self.direction {
            Direction::Ascending => self.from = shown,
            Direction::Descending => self.to = shown,
        }
        Ok(Some(row))
    }
}
