//! A change under way: what it read must still be so when it commits, and what it wrote is what it reads next.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use tandem_store::{Batch, BlobId, Direction, Snapshot, Write};

use super::{
    error::BucketError,
    settings::expect_setting,
    store::{OPEN, bucket_row},
    version::Versioning,
};

/// Gathers one commit. Never kept across a wait: it holds a snapshot.
pub(super) struct Change {
    snapshot: Box<dyn Snapshot>,
    pub(super) batch: Batch,
    /// What the batch writes, by row.
    written: BTreeMap<Bytes, Option<Bytes>>,
    /// Blobs to which nothing refers once it is committed.
    pub(super) gone: Vec<BlobId>,
}

impl Change {
    pub(super) fn new(snapshot: Box<dyn Snapshot>) -> Self {
        Self { snapshot, batch: Batch::default(), written: BTreeMap::new(), gone: Vec::new() }
    }

    /// A row as this change sees it.
    pub(super) fn get(&mut self, row: Bytes) -> Result<Option<Bytes>, BucketError> {
        if let Some(written) = self.written.get(&row) {
            return Ok(written.clone());
        }
        let value = self.snapshot.get(&row)?;
        self.batch.expect(row, value.clone());
        Ok(value)
    }

    /// The first row from `from` to before `to`, as this change sees it. Only the row found is a precondition: that none
    /// comes before it meanwhile is for another one to ensure.
    pub(super) fn first(&mut self, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Bytes)>, BucketError> {
        let mut stored = None;
        for entry in self.snapshot.range(from, to, Direction::Ascending)? {
            let (row, value) = entry?;
            if !self.written.contains_key(&row) {
                stored = Some((row, value));
                break;
            }
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        let mut own = self.written.range::<[u8], _>(range);
        let own = own.find_map(|(row, value)| Some((row.clone(), value.clone()?)));
        match (stored, own) {
            (Some(stored), Some(own)) if own.0 < stored.0 => Ok(Some(own)),
            (Some((row, value)), _) => {
                self.batch.expect(row.clone(), Some(value.clone()));
                Ok(Some((row, value)))
            }
            (None, own) => Ok(own),
        }
    }

    pub(super) fn put(&mut self, row: Bytes, value: Bytes) {
        self.write(row.clone(), Some(value.clone()));
        self.batch.put(row, value);
    }

    pub(super) fn delete(&mut self, row: Bytes) {
        self.write(row.clone(), None);
        self.batch.delete(row);
    }

    /// The later write of a row is the one that counts: what it replaces need not reach the store.
    fn write(&mut self, row: Bytes, value: Option<Bytes>) {
        if self.written.insert(row.clone(), value).is_some() {
            self.batch.writes.retain(|write| match write {
                Write::Put { key, .. } | Write::Delete { key } => *key != row,
            });
        }
    }

    /// Requires that the bucket takes changes, and tells how it treats what is replaced.
    pub(super) fn open(&mut self, bucket: &str) -> Result<Versioning, BucketError> {
        match self.get(bucket_row(bucket))? {
            Some(state) if state == OPEN => {
                Ok(expect_setting(&*self.snapshot, &mut self.batch, bucket)?.unwrap_or_default())
            }
            _ => Err(BucketError::NoSuchBucket { bucket: bucket.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use tandem_store::{MemoryStore, Store};

    use super::*;

    #[tokio::test]
    async fn a_change_reads_what_it_wrote_and_the_first_of_both() {
        let store = MemoryStore::new();
        let mut batch = Batch::default();
        batch.put("a/1", "stored").put("a/3", "stored").put("b/1", "other");
        store.commit(batch).await.unwrap();
        let mut change = Change::new(store.snapshot().unwrap());
        let first = |change: &mut Change| {
            change.first(b"a/", b"b/").unwrap().map(|(row, _)| String::from_utf8(row.to_vec()).unwrap())
        };
        assert_eq!(first(&mut change).as_deref(), Some("a/1"));
        change.delete("a/1".into());
        assert_eq!(first(&mut change).as_deref(), Some("a/3"));
        change.put("a/2".into(), "own".into());
        assert_eq!(first(&mut change).as_deref(), Some("a/2"));
        assert_eq!(change.get("a/2".into()).unwrap().unwrap(), "own");
        assert_eq!(change.get("a/1".into()).unwrap(), None);
        change.delete("a/2".into());
        change.delete("a/3".into());
        assert_eq!(first(&mut change), None);
        store.commit(change.batch).await.unwrap();
        assert_eq!(store.snapshot().unwrap().prefix(b"a/").unwrap().count(), 0);
    }
}
