//! Streams as resources: what the target asks.
//!
//! A stream is deleted in three steps, as a queue is: it is closed, emptied in commits of bounded size, and its rows go with the
//! resource's record. Killed in between, the next start opens it again with what is left.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tandem_failpoint::hit;
use tandem_model::{
    Explain, Kind, PhysicalId, Report, Urn, inputs,
    plan::Change,
    resource::{Properties, Recorded},
    value,
};
use tandem_store::{Batch, Direction, after_prefix};

use super::{
    Streams, arn,
    error::{StreamError, damaged},
    key::{
        CLOSING, LANES, OPEN, Settings, Stamp, first_of, head_row, records, settings_row, shard_of_lane,
        stream_row, table,
    },
    lane::Lane,
    open::{Open, last_row},
    row::Row,
};
use crate::provider::{Holding, Lines, Provider};

/// For how many hours a record is kept, if nobody says.
const RETENTION: u32 = 24;

/// The streams as the target knows them.
#[derive(Debug)]
pub struct Provided(pub Arc<Streams>);

/// Why a stream cannot be what the program says, by what it was: another number of shards makes another stream, beside which the
/// old one is for a while, so that they cannot share a name that is pinned. `None` of anything else.
pub fn refusal(urn: &Urn, old: Option<&Properties>, new: &Properties) -> Option<Report> {
    if urn.kind != Kind::Stream || new.values().any(value::has_unknown) {
        return None;
    }
    let (old, new) = (read(urn, old?).ok()?, read(urn, new).ok()?);
    let name = new.stream_name.filter(|name| old.stream_name.as_ref() == Some(name))?;
    let (before, after) = (old.shards, new.shards);
    (before != after).then(|| StreamError::Pinned { stream: urn.short(), name, before, after }.report())
}

#[async_trait]
impl Provider for Provided {
    async fn prepare(&self, change: &Change, id: &PhysicalId, _: &dyn Lines) -> Result<Properties, Report> {
        let streams = &self.0;
        match change {
            Change::Create { urn, inputs } | Change::Update { urn, new: inputs, .. } => {
                let typed = read(urn, inputs)?;
                let named = inputs::Stream { stream_name: Some(id.0.clone()), ..typed };
                let wrong = |wrong: String| StreamError::Parameter { name: "inputs", wrong }.report();
                named.check().map_err(wrong)?;
                inputs::Stream::check_name(&id.0)
                    .map_err(|wrong| StreamError::Name { name: id.0.clone(), wrong }.report())?;
                Ok(outputs(&id.0))
            }
            Change::Delete { urn, force, .. } => {
                let recorded = streams.find(&id.0);
                let inputs = recorded.map(|recorded| read(urn, &recorded.inputs)).transpose()?;
                let force = *force || inputs.is_some_and(|inputs| inputs.force_destroy);
                match streams.close(&id.0, force).await {
                    // It is only a record any more.
                    Ok(()) | Err(StreamError::NoSuchStream { .. }) => Ok(Properties::new()),
                    Err(error) => {
                        if let Err(error) = streams.set_state(&id.0, OPEN).await {
                            tracing::error!(stream = %id, %error, "cannot open a stream whose deletion failed");
                        }
                        Err(error.report())
                    }
                }
            }
        }
    }

    fn write(&self, batch: &mut Batch, change: &Change, id: &PhysicalId) -> Result<(), Report> {
        let row = stream_row(&id.0);
        match change {
            Change::Create { urn, inputs } => {
                let typed = read(urn, inputs)?;
                let retention = typed.retention.unwrap_or(RETENTION);
                let settings = Settings { created: (self.0.clock)(), retention, shards: typed.shards };
                batch.put(row, OPEN).put(settings_row(&id.0), encode(&settings));
                batch.put(head_row(&id.0), Stamp::new().0);
                self.0.begin_anew(batch, &id.0, typed.shards).map_err(|e| e.report())?;
            }
            Change::Update { urn, old, new, .. } => {
                let (old, new) = (read(urn, old)?, read(urn, new)?);
                // What a client set stays, unless the program says something else than before.
                if old.retention != new.retention {
                    let retention = new.retention.unwrap_or(RETENTION);
                    self.0.write_retention(batch, &id.0, retention).map_err(|e| e.report())?;
                }
            }
            Change::Delete { .. } => {
                batch.expect(row.clone(), Some(Bytes::from_static(CLOSING)));
                batch.delete(row).delete(settings_row(&id.0)).delete(head_row(&id.0));
                let snapshot = self.0.store.snapshot().map_err(|e| e.report())?;
                for entry in snapshot.prefix(&table("stream-tail", &id.0)).map_err(|e| e.report())? {
                    batch.delete(entry.map_err(|e| e.report())?.0);
                }
            }
        }
        Ok(())
    }

    async fn settle(&self, urn: &Urn, id: &PhysicalId, now: Option<&Recorded>) {
        let streams = &self.0;
        if now.is_none() {
            streams.forget(&id.0);
        } else {
            if let Err(error) = streams.set_state(&id.0, OPEN).await {
                tracing::error!(%urn, %error, "cannot open a stream whose deletion was interrupted");
            }
            streams.settings_changed(&id.0);
        }
        streams.changed.send_replace(());
    }

    async fn holding(&self, id: &PhysicalId) -> Result<Option<Holding>, Report> {
        let records = match self.0.count(&id.0).await {
            Ok(records) => records,
            Err(StreamError::NoSuchStream { .. }) => 0,
            Err(error) => return Err(error.report()),
        };
        Ok(Some(Holding { items: records, unit: "record", ..Holding::default() }))
    }
}

impl Streams {
    /// How many records a stream holds that are not too old.
    pub async fn count(&self, stream: &str) -> Result<u64, StreamError> {
        let open = self.open(stream).await?;
        self.count_in(open).await
    }

    async fn count_in(&self, open: Arc<Open>) -> Result<u64, StreamError> {
        let (store, too_old) = (self.store.clone(), open.too_old((self.clock)()));
        super::blocking(move || {
            let snapshot = store.snapshot()?;
            let mut count = 0;
            for shard in 0..open.shards() {
                let Some(last) = last_row(&*snapshot, &open.name, shard, u64::MAX)? else { continue };
                let (from, end) = (records(&open.name, shard), after_prefix(&records(&open.name, shard)));
                for entry in snapshot.range(&from, &end, Direction::Ascending)? {
                    let (key, row) = entry?;
                    let row = Row::read(first_of(&key), row)?;
                    if row.arrived > too_old {
                        count += last.end() - row.first;
                        break;
                    }
                }
            }
            Ok(count)
        })
        .await
    }

    /// Sets for how many hours records are kept.
    ///
    /// # Errors
    /// [`StreamError::NoSuchStream`], or those of the store; nothing is changed.
    pub(super) async fn set_retention(&self, stream: &str, hours: u32) -> Result<(), StreamError> {
        let mut batch = Batch::default();
        self.write_retention(&mut batch, stream, hours)?;
        self.store.commit(batch).await?;
        hit("stream.settings.committed");
        self.settings_changed(stream);
        Ok(())
    }

    fn write_retention(&self, batch: &mut Batch, stream: &str, hours: u32) -> Result<(), StreamError> {
        let before = self.store.snapshot()?.get(&settings_row(stream))?;
        let before = before.ok_or_else(|| StreamError::NoSuchStream { stream: stream.to_owned() })?;
        let mut settings: Settings = serde_json::from_slice(&before).map_err(damaged)?;
        settings.retention = hours;
        batch.expect(settings_row(stream), Some(before)).put(settings_row(stream), encode(&settings));
        Ok(())
    }

    /// Lets subscriptions that have read another stream of that name begin at the beginning of the one that is created.
    fn begin_anew(&self, batch: &mut Batch, stream: &str, shards: u32) -> Result<(), StreamError> {
        let snapshot = self.store.snapshot()?;
        for entry in snapshot.prefix(LANES)? {
            let (key, row) = entry?;
            match shard_of_lane(&key, stream) {
                Some(shard) if shard < shards => {
                    let before: Lane = serde_json::from_slice(&row).map_err(damaged)?;
                    let lane = Lane::new(1, before.of);
                    batch.put(key, serde_json::to_vec(&lane).map_err(damaged)?);
                }
                Some(_) => {
                    batch.delete(key);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// A commit changed what a stream is set to.
    fn settings_changed(&self, stream: &str) {
        let Some(open) = self.loaded(stream) else { return };
        let row = self.store.snapshot().and_then(|snapshot| snapshot.get(&settings_row(stream)));
        if let Ok(Some(row)) = row
            && let Ok(settings) = serde_json::from_slice(&row)
        {
            open.set(settings);
        }
    }

    /// Closes a stream and deletes what is in it: nobody puts or reads any more.
    ///
    /// # Errors
    /// [`StreamError::NotEmpty`] unless `force`; those of the store. Then it is to be opened again, with what is left.
    async fn close(&self, stream: &str, force: bool) -> Result<(), StreamError> {
        if self.store.snapshot()?.get(&stream_row(stream))?.as_deref() == Some(CLOSING) {
            // An earlier deletion of this start was cut off.
            self.set_state(stream, OPEN).await?;
        }
        // It is closed first, so that no record comes between the look and the deletion.
        let open = self.open(stream).await?;
        self.set_state(stream, CLOSING).await?;
        hit("stream.closing.committed");
        if !force {
            let records = self.count_in(open.clone()).await?;
            if records > 0 {
                return Err(StreamError::NotEmpty { stream: stream.to_owned(), records });
            }
        }
        let emptied = self.empty(&open).await;
        self.forget(stream);
        emptied
    }

    async fn set_state(&self, stream: &str, state: &'static [u8]) -> Result<(), StreamError> {
        if self.store.snapshot()?.get(&stream_row(stream))?.as_deref() == Some(state) {
            return Ok(());
        }
        let mut batch = Batch::default();
        // Closing is the first step of a deletion, which makes room.
        batch.put(stream_row(stream), state).frees();
        Ok(self.store.commit(batch).await?)
    }

    /// Deletes the records of a stream that is closed. Their numbers are kept until the stream itself goes: it may be opened
    /// again.
    async fn empty(&self, open: &Arc<Open>) -> Result<(), StreamError> {
        for shard in 0..open.shards() {
            while self.remove(open, shard, CLOSING, u64::MAX).await?.is_some() {
                hit("stream.emptying.committed");
            }
        }
        Ok(())
    }
}

/// What a program gets of a stream.
fn outputs(stream: &str) -> Properties {
    let output = |name: &str, value: String| (name.to_owned(), value.into());
    Properties::from_iter([
        output("id", stream.to_owned()),
        output("name", stream.to_owned()),
        output("arn", arn(stream)),
    ])
}

fn encode(settings: &Settings) -> Bytes {
    serde_json::to_vec(settings).expect("settings are a struct").into()
}

fn read(urn: &Urn, inputs: &Properties) -> Result<inputs::Stream, Report> {
    inputs::read(urn, inputs).map_err(|error| Report {
        code: "E0302".into(),
        message: error.to_string(),
        help: "see what a stream takes in the typings of `@tandem/cloud`".into(),
        causes: vec![],
    })
}
