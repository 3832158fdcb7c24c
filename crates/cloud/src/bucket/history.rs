//! What a change makes of a key's versions: which one is current, and what becomes of the one that was.
//!
//! A key's current version is its row `object/…` or, deleted, its row `marker/…`; never both. What was current before is
//! among the rows `version/…`. If there is no current version, there is none at all: a change that removes the current
//! one makes the newest of the others current. Every change to which version is current replaces, adds or removes one of
//! the two rows, and requires of both that they are as they were read; so of two at once, one tries again. A version
//! that is not current is removed, or made current, under the precondition that its own row is as it was read.
//!
//! In a bucket that was never versioned there is the row `object/…` alone, and no other is read.

use bytes::Bytes;
use tandem_store::Snapshot;

use super::{
    change::Change,
    error::BucketError,
    store::{
        Body, Marker, Object, Version, decode, encode, inline_row, marker_row, null_row, object_row,
        version_row, version_rows,
    },
    version::{Sequence, Stamp, VersionId, Versioning},
};

impl Change {
    /// The current version of a key.
    pub(super) fn current(
        &mut self,
        bucket: &str,
        key: &str,
        versioning: Versioning,
    ) -> Result<Option<Version>, BucketError> {
        if let Some(row) = self.get(object_row(bucket, key))? {
            return Ok(Some(Version::Object(Box::new(decode(&row)?))));
        }
        if versioning == Versioning::Never {
            return Ok(None);
        }
        let row = self.get(marker_row(bucket, key))?;
        row.map(|row| Ok(Version::Marker(decode(&row)?))).transpose()
    }

    /// That version of a key.
    pub(super) fn version(
        &mut self,
        bucket: &str,
        key: &str,
        versioning: Versioning,
        id: VersionId,
    ) -> Result<Option<Version>, BucketError> {
        match self.current(bucket, key, versioning)? {
            Some(current) if current.version_id() == id => Ok(Some(current)),
            Some(_) => Ok(self.kept(bucket, key, id)?.map(|(_, version)| version)),
            None => Ok(None),
        }
    }

    /// Makes room for a new current version, and answers its stamp. The caller puts its row.
    pub(super) fn displace(
        &mut self,
        bucket: &str,
        key: &str,
        versioning: Versioning,
        current: Option<&Version>,
    ) -> Result<Option<Stamp>, BucketError> {
        if versioning == Versioning::Never {
            if let Some(current) = current {
                self.drop_body(bucket, key, current);
            }
            return Ok(None);
        }
        let null = versioning == Versioning::Suspended;
        let sequence = Sequence::after(current.map(Version::sequence));
        match current {
            Some(current) if null && current.version_id() == VersionId::Null => {
                self.remove_current(bucket, key, current);
            }
            Some(current) => {
                self.remove_row(bucket, key, current);
                self.put(version_row(bucket, key, current.sequence()), encode(current));
                if current.version_id() == VersionId::Null {
                    self.put(null_row(bucket, key), current.sequence().to_string().into());
                } else if null {
                    self.remove_kept(bucket, key, VersionId::Null)?;
                }
            }
            None => {}
        }
        Ok(Some(Stamp { sequence, null }))
    }

    /// Removes one version for good, and answers it, if there is such a one. If it was the current one, the newest of
    /// the others is current now.
    pub(super) fn remove(
        &mut self,
        bucket: &str,
        key: &str,
        versioning: Versioning,
        id: VersionId,
    ) -> Result<Option<Version>, BucketError> {
        let Some(current) = self.current(bucket, key, versioning)? else { return Ok(None) };
        if current.version_id() != id {
            return self.remove_kept(bucket, key, id);
        }
        self.remove_current(bucket, key, &current);
        if versioning != Versioning::Never {
            self.promote(bucket, key)?;
        }
        Ok(Some(current))
    }

    /// Whether a key has versions that are not current.
    pub(super) fn has_replaced(&mut self, bucket: &str, key: &str) -> Result<bool, BucketError> {
        let (from, to) = version_rows(bucket, key);
        Ok(self.first(&from, &to)?.is_some())
    }

    /// Makes the newest version that is kept the current one.
    fn promote(&mut self, bucket: &str, key: &str) -> Result<(), BucketError> {
        let (from, to) = version_rows(bucket, key);
        let Some((row, value)) = self.first(&from, &to)? else { return Ok(()) };
        let version: Version = decode(&value)?;
        self.delete(row);
        if version.version_id() == VersionId::Null {
            self.get(null_row(bucket, key))?;
            self.delete(null_row(bucket, key));
        }
        self.rewrite(bucket, key, true, &version);
        Ok(())
    }

    /// A version that is not current, with its row.
    fn kept(
        &mut self,
        bucket: &str,
        key: &str,
        id: VersionId,
    ) -> Result<Option<(Bytes, Version)>, BucketError> {
        let sequence = match id {
            VersionId::Made(sequence) => sequence,
            VersionId::Null => match self.get(null_row(bucket, key))? {
                Some(row) => sequence(&row)?,
                None => return Ok(None),
            },
        };
        let row = version_row(bucket, key, sequence);
        let Some(value) = self.get(row.clone())? else { return Ok(None) };
        let version: Version = decode(&value)?;
        // The version `null` has a sequence too, which is no name of it.
        Ok((version.version_id() == id).then_some((row, version)))
    }

    /// Removes a version that is not current.
    fn remove_kept(
        &mut self,
        bucket: &str,
        key: &str,
        id: VersionId,
    ) -> Result<Option<Version>, BucketError> {
        let Some((row, version)) = self.kept(bucket, key, id)? else { return Ok(None) };
        self.delete(row);
        if id == VersionId::Null {
            self.delete(null_row(bucket, key));
        }
        self.drop_body(bucket, key, &version);
        Ok(Some(version))
    }

    /// Writes a version where it is, current or not: what is said of it changes, not which one it is.
    pub(super) fn rewrite(&mut self, bucket: &str, key: &str, is_current: bool, version: &Version) {
        match (is_current, version) {
            (true, Version::Object(object)) => self.put(object_row(bucket, key), encode(object)),
            (true, Version::Marker(marker)) => self.put(marker_row(bucket, key), encode(marker)),
            (false, version) => {
                self.put(version_row(bucket, key, version.sequence()), encode(version));
            }
        }
    }

    fn remove_current(&mut self, bucket: &str, key: &str, current: &Version) {
        self.remove_row(bucket, key, current);
        self.drop_body(bucket, key, current);
    }

    fn remove_row(&mut self, bucket: &str, key: &str, current: &Version) {
        match current {
            Version::Object(_) => self.delete(object_row(bucket, key)),
            Version::Marker(_) => self.delete(marker_row(bucket, key)),
        }
    }

    fn drop_body(&mut self, bucket: &str, key: &str, version: &Version) {
        let Version::Object(object) = version else { return };
        self.gone.extend(object.body.blobs());
        if object.body == Body::Inline {
            self.delete(inline_row(bucket, key, object.version));
        }
    }
}

fn sequence(row: &Bytes) -> Result<Sequence, BucketError> {
    // The row holds what was written there: the text of a sequence.
    std::str::from_utf8(row).unwrap_or_default().parse()
}

/// A version of a key, for reading: the current one unless `id` names another.
///
/// # Errors
/// [`BucketError::NoSuchKey`], [`BucketError::Deleted`] and [`BucketError::NoSuchVersion`] if there is none.
pub(super) fn find(
    snapshot: &dyn Snapshot,
    bucket: &str,
    key: &str,
    id: Option<VersionId>,
) -> Result<Version, BucketError> {
    if let Some(row) = snapshot.get(&object_row(bucket, key))? {
        let object: Object = decode(&row)?;
        if id.is_none_or(|id| id == object.version_id()) {
            return Ok(Version::Object(Box::new(object)));
        }
    } else if let Some(row) = snapshot.get(&marker_row(bucket, key))? {
        let marker: Marker = decode(&row)?;
        match id {
            None => {
                let (bucket, key) = (bucket.to_owned(), key.to_owned());
                return Err(BucketError::Deleted {
                    bucket,
                    key,
                    version: VersionId::of(Some(marker.version)),
                });
            }
            Some(id) if id == VersionId::of(Some(marker.version)) => return Ok(Version::Marker(marker)),
            Some(_) => {}
        }
    }
    let Some(id) = id else {
        return Err(BucketError::NoSuchKey { bucket: bucket.to_owned(), key: key.to_owned() });
    };
    let place = match id {
        VersionId::Made(sequence) => Some(sequence),
        VersionId::Null => snapshot.get(&null_row(bucket, key))?.as_ref().map(sequence).transpose()?,
    };
    let row = place.map(|place| snapshot.get(&version_row(bucket, key, place))).transpose()?.flatten();
    let version: Option<Version> = row.as_deref().map(decode).transpose()?;
    let version = version.filter(|version| version.version_id() == id);
    version.ok_or_else(|| BucketError::NoSuchVersion { key: key.to_owned(), version: id })
}
