//! Reading: one read transaction of redb.

use std::{ops::Bound, path::Path, sync::Arc};

use bytes::Bytes;
use redb::{OwnedAccessGuard, ReadOnlyTable, ReadableTable, StorageError};

use super::{damage, row};
use crate::port::{Direction, Entries, ReadError, Snapshot};

type Guard = OwnedAccessGuard<&'static [u8]>;

pub(super) struct RedbSnapshot {
    /// Keeps its transaction alive.
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    /// Named in errors.
    path: Arc<Path>,
}

impl RedbSnapshot {
    pub(super) fn new(table: ReadOnlyTable<&'static [u8], &'static [u8]>, path: Arc<Path>) -> Self {
        Self { table, path }
    }

    fn value(&self, key: &[u8], sealed: &[u8]) -> Result<Bytes, ReadError> {
        let value = row::unseal(key, sealed).ok_or_else(|| damage::row(&self.path, key))?;
        Ok(Bytes::copy_from_slice(value))
    }

    fn row(&self, entry: &(Guard, Guard)) -> Result<(Bytes, Bytes), ReadError> {
        let (key, sealed) = damage::read(&self.path, || Ok((entry.0.value(), entry.1.value())))?;
        Ok((Bytes::copy_from_slice(key), self.value(key, sealed)?))
    }
}

impl Snapshot for RedbSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let found = damage::read(&self.path, || {
            let guard = ReadableTable::get(&self.table, key)?;
            Ok(guard.map(|guard| self.value(key, guard.value())))
        });
        found?.transpose()
    }

    fn range(&self, from: &[u8], to: &[u8], direction: Direction) -> Result<Entries<'_>, ReadError> {
        if from >= to {
            return Ok(Box::new(std::iter::empty()));
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let mut range = damage::read(&self.path, || self.table.range_owned::<&[u8]>(bounds))?;
        let mut next = move || -> Option<Result<(Guard, Guard), StorageError>> {
            match direction {
                Direction::Ascending => range.next(),
                Direction::Descending => range.next_back(),
            }
        };
        let mut ended = false;
        Ok(Box::new(std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let entry = damage::read(&self.path, || next().transpose()).transpose()?;
            let row = entry.and_then(|entry| self.row(&entry));
            // What a damaged page leads to next makes no sense.
            ended = row.is_err();
            Some(row)
        })))
    }
}
