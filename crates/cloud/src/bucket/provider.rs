//! Buckets as resources: what the target asks.
//!
//! A bucket is deleted in three steps: it is closed, which ends every change under way with a conflict; it is emptied if
//! that is forced, in commits of bounded size; and its row and its settings go with the resource's record. Killed in between, it is
//! opened again by the next start, with what is left in it, and a repetition goes on. Objects that are deleted with
//! their bucket make no events: what would receive them is deleted too.

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tandem_failpoint::hit;
use tandem_model::{
    Explain, PhysicalId, Report, Urn, inputs,
    plan::Change,
    resource::{Properties, Recorded},
};
use tandem_store::{Batch, BlobId, CommitError};

use super::{
    Buckets,
    cors::{self, Cors},
    error::BucketError,
    made::{self, Created, is_made},
    settings::{delete_settings, setting_row},
    store::{CLOSING, OPEN, Object, Part, Version, bucket_row, decode, encode, table},
};
use crate::provider::{Holding, Lines, Provider};

/// How many rows are removed in one commit.
const BATCH: usize = 1000;
/// Where the rows of a bucket are, beside its own.
const TABLES: [&str; 9] =
    ["object", "body", "marker", "version", "null", "version-body", "upload", "part", "done"];

#[async_trait]
impl Provider for Buckets {
    async fn prepare(&self, change: &Change, id: &PhysicalId, _: &dyn Lines) -> Result<Properties, Report> {
        match change {
            Change::Create { urn, inputs } | Change::Update { urn, new: inputs, .. } => {
                let typed = inputs::read::<inputs::Bucket>(urn, inputs).map_err(invalid)?;
                if let Some(fault) = typed.cors.as_deref().and_then(cors::fault) {
                    return Err(BucketError::Cors { fault }.report());
                }
                // What clients make is pinned to the name that they chose, and called after it.
                let made = typed.bucket_name.and_then(|bucket| made::urn(&urn.stack, &bucket).ok());
                if is_made(urn) && made.as_ref() != Some(urn) {
                    return Err(BucketError::ReservedName { name: urn.name.to_string() }.report());
                }
                if !s3s::path::check_bucket_name(&id.0) {
                    return Err(BucketError::BucketName { bucket: id.0.clone() }.report());
                }
                Ok(self.outputs(&id.0))
            }
            Change::Delete { force, .. } => {
                let force = *force || self.force_destroy(&id.0);
                self.close(&id.0, force).await.map_err(|e| e.report())?;
                Ok(Properties::new())
            }
        }
    }

    fn write(&self, batch: &mut Batch, change: &Change, id: &PhysicalId) -> Result<(), Report> {
        let row = bucket_row(&id.0);
        let declared = |inputs: &Properties| -> Result<_, Report> {
            Ok(inputs::read::<inputs::Bucket>(change.urn(), inputs).map_err(invalid)?.cors)
        };
        if let Change::Create { inputs: new, .. } | Change::Update { new, .. } = change {
            let before = if let Change::Update { old, .. } = change { declared(old)? } else { None };
            match declared(new)? {
                Some(rules) => {
                    batch.put(setting_row::<Cors>(&id.0), encode(&Cors { rules }));
                }
                // What the program no longer declares goes; what a client configured stays.
                None if before.is_some() => {
                    batch.delete(setting_row::<Cors>(&id.0));
                }
                None => {}
            }
        }
        match change {
            Change::Create { .. } => {
                let created = encode(&Created { time: Timestamp::now() });
                batch.put(row, OPEN).put(setting_row::<Created>(&id.0), created)
            }
            Change::Update { .. } => batch,
            Change::Delete { .. } => {
                let snapshot = self.store.snapshot().map_err(|e| e.report())?;
                delete_settings(&*snapshot, batch, &id.0).map_err(|e| e.report())?;
                batch.expect(row.clone(), Some(Bytes::from_static(CLOSING))).delete(row)
            }
        };
        Ok(())
    }

    async fn settle(&self, urn: &Urn, id: &PhysicalId, now: Option<&Recorded>) {
        self.known.forget(&id.0);
        if now.is_some()
            && let Err(error) = self.reopen(&id.0).await
        {
            tracing::error!(%urn, %error, "cannot open a bucket whose deletion was interrupted");
        }
    }

    async fn holding(&self, id: &PhysicalId) -> Result<Option<Holding>, Report> {
        self.count(&id.0).map(Some).map_err(|e| e.report())
    }
}

fn invalid(error: inputs::InputsError) -> Report {
    Report {
        code: "E0302".into(),
        message: error.to_string(),
        help: "a bucket takes `bucketName`, `forceDestroy` and `cors`".into(),
        causes: vec![],
    }
}

impl Buckets {
    /// What a program gets of a bucket.
    fn outputs(&self, bucket: &str) -> Properties {
        let output = |name: &str, value: String| (name.to_owned(), value.into());
        Properties::from_iter([
            output("id", bucket.to_owned()),
            output("arn", format!("arn:aws:s3:::{bucket}")),
            output("url", format!("{}/{bucket}", self.endpoint.url())),
        ])
    }

    /// Whether the program allows that the bucket is deleted with its objects.
    fn force_destroy(&self, bucket: &str) -> bool {
        let recorded = self.find(bucket);
        recorded
            .is_some_and(|r| inputs::read::<inputs::Bucket>(&r.urn, &r.inputs).is_ok_and(|b| b.force_destroy))
    }

    /// Makes a bucket be as it is to be after a start.
    async fn reopen(&self, bucket: &str) -> Result<(), BucketError> {
        self.set_state(bucket, OPEN).await?;
        if self.setting::<Created>(bucket)?.is_none() {
            self.put_setting(bucket, &Created { time: Timestamp::now() }).await?;
        }
        Ok(())
    }

    async fn close(&self, bucket: &str, force: bool) -> Result<(), BucketError> {
        self.refuse_loss(bucket, force)?;
        self.set_state(bucket, CLOSING).await?;
        hit("bucket.closing.committed");
        // Nothing is added any more; but something may have been between the count and the closing.
        if let Err(error) = self.refuse_loss(bucket, force) {
            self.set_state(bucket, OPEN).await?;
            return Err(error);
        }
        self.empty(bucket).await
    }

    /// An upload that is under way is data, too: its parts were acknowledged.
    fn refuse_loss(&self, bucket: &str, force: bool) -> Result<(), BucketError> {
        match self.count(bucket)? {
            Holding { items: 0, unfinished: 0, .. } => Ok(()),
            _ if force => Ok(()),
            Holding { items, unfinished, .. } => {
                Err(BucketError::NotEmpty { bucket: bucket.to_owned(), items, uploads: unfinished })
            }
        }
    }

    async fn set_state(&self, bucket: &str, state: &'static [u8]) -> Result<(), BucketError> {
        if self.store.snapshot()?.get(&bucket_row(bucket))?.as_deref() == Some(state) {
            return Ok(());
        }
        let mut batch = Batch::default();
        // Closing is the first step of a deletion, which makes room.
        batch.put(bucket_row(bucket), state).frees();
        Ok(self.store.commit(batch).await?)
    }

    /// The objects of a bucket, the uploads under way, and their bytes. A version counts as much as an object, and a delete
    /// marker too.
    fn count(&self, bucket: &str) -> Result<Holding, BucketError> {
        let snapshot = self.store.snapshot()?;
        let mut holding = Holding { unit: "object", ..Holding::default() };
        for entry in snapshot.prefix(table("object", bucket).as_bytes())? {
            holding.items += 1;
            holding.bytes += decode::<Object>(&entry?.1)?.size;
        }
        for entry in snapshot.prefix(table("version", bucket).as_bytes())? {
            holding.items += 1;
            if let Version::Object(object) = decode(&entry?.1)? {
                holding.bytes += object.size;
            }
        }
        for entry in snapshot.prefix(table("marker", bucket).as_bytes())? {
            entry?;
            holding.items += 1;
        }
        for entry in snapshot.prefix(table("upload", bucket).as_bytes())? {
            entry?;
            holding.unfinished += 1;
        }
        for entry in snapshot.prefix(table("part", bucket).as_bytes())? {
            holding.bytes += decode::<Part>(&entry?.1)?.size;
        }
        Ok(holding)
    }

    /// Removes everything in a closed bucket: objects, uploads, answers.
    async fn empty(&self, bucket: &str) -> Result<(), BucketError> {
        loop {
            let (rows, blobs) = self.some_rows(bucket)?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::default();
            batch.expect(bucket_row(bucket), Some(Bytes::from_static(CLOSING)));
            for row in rows {
                batch.delete(row);
            }
            match self.store.commit(batch).await {
                Ok(()) => hit("bucket.emptying.committed"),
                Err(CommitError::Conflict { .. }) => {
                    return Err(BucketError::NoSuchBucket { bucket: bucket.to_owned() });
                }
                Err(error) => return Err(error.into()),
            }
            self.leases.delete(blobs).await;
        }
    }

    /// Some of the rows of a bucket, and the blobs that they refer to.
    fn some_rows(&self, bucket: &str) -> Result<(Vec<Bytes>, Vec<BlobId>), BucketError> {
        let snapshot = self.store.snapshot()?;
        let (mut rows, mut blobs) = (Vec::new(), Vec::new());
        for name in TABLES {
            for entry in snapshot.prefix(table(name, bucket).as_bytes())? {
                if rows.len() >= BATCH {
                    return Ok((rows, blobs));
                }
                let (row, value) = entry?;
                match name {
                    "object" => blobs.extend(decode::<Object>(&value)?.body.blobs()),
                    "version" => blobs.extend(decode::<Version>(&value)?.blobs()),
                    "part" => blobs.push(decode::<Part>(&value)?.blob),
                    _ => {}
                }
                rows.push(row);
            }
        }
        Ok((rows, blobs))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::store::object_row, *};

    #[test]
    fn tables_of_one_bucket_hold_nothing_of_another() {
        // `photos` is a prefix of `photos-2`, but not of its rows.
        assert!(!object_row("photos-2", "x").starts_with(table("object", "photos").as_bytes()));
    }
}
