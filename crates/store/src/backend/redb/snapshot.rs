//! Reading: one read transaction of redb.

use std::ops::Bound;

use bytes::Bytes;
use redb::{OwnedAccessGuard, ReadOnlyTable, ReadableTable, StorageError};

use crate::port::{Direction, Entries, ReadError, Snapshot};

type Guard = OwnedAccessGuard<&'static [u8]>;

pub(super) struct RedbSnapshot {
    /// Keeps its transaction alive.
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl RedbSnapshot {
    pub(super) fn new(table: ReadOnlyTable<&'static [u8], &'static [u8]>) -> Self {
        Self { table }
    }
}

fn unreadable(error: StorageError) -> ReadError {
    ReadError(Box::new(error))
}

impl Snapshot for RedbSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let value = ReadableTable::get(&self.table, key).map_err(unreadable)?;
        Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn range(&self, from: &[u8], to: &[u8], direction: Direction) -> Result<Entries<'_>, ReadError> {
        if from >= to {
            return Ok(Box::new(std::iter::empty()));
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let range = self.table.range_owned::<&[u8]>(bounds).map_err(unreadable)?;
        let copied = |entry: Result<(Guard, Guard), StorageError>| {
            let (key, value) = entry.map_err(unreadable)?;
            Ok((Bytes::copy_from_slice(key.value()), Bytes::copy_from_slice(value.value())))
        };
        Ok(match direction {
            Direction::Ascending => Box::new(range.map(copied)),
            Direction::Descending => Box::new(range.rev().map(copied)),
        })
    }
}
