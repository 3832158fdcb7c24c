//! What is told of records: to handlers, to the dead letters, to people.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tandem_model::{
    Event, Report,
    event::{STREAM_RECORDS, SpecVersion},
};
use uuid::Builder;

use super::run::Worker;
use crate::{
    cause,
    dispatch::Delivery,
    log::{Line, Stream as Printed},
    stream::{row::Record, shard},
};

impl Worker {
    pub(super) fn sequence(&self, record: &Record) -> String {
        shard::sequence(self.shard, record.number)
    }

    pub(super) fn delivery(&self, batch: &[Record], attempt: u32) -> Delivery {
        let id = self.id(batch);
        let records: Vec<_> = batch.iter().map(|record| shown(self.shard, record)).collect();
        let shard = shard::id(self.shard);
        let arrived = batch.last().map_or(0, |record| record.arrived);
        Delivery {
            id: id.clone(),
            subscription: self.urn.clone(),
            consumer: self.subscription.consumer.clone(),
            attempt,
            max_attempts: self.subscription.max_attempts,
            redriven: None,
            event: Event {
                specversion: SpecVersion::V1,
                id,
                source: self.subscription.source.to_string(),
                kind: STREAM_RECORDS.to_owned(),
                subject: Some(shard.clone()),
                time: time(arrived),
                // Of the longest chain that led to one of them.
                traceparent: batch
                    .iter()
                    .filter_map(|record| record.cause.clone())
                    .max_by_key(|traceparent| cause::depth(Some(traceparent))),
                datacontenttype: "application/json".to_owned(),
                data: json!({ "stream": self.open.name, "shard": shard, "records": records }),
            },
        }
    }

    /// The same for the same records, and in the order in which they came: dead letters are listed by their ids.
    fn id(&self, batch: &[Record]) -> String {
        let mut hash = Sha256::new();
        for part in [&self.urn.to_string(), &self.open.name] {
            hash.update(part);
            hash.update([0]);
        }
        for record in batch {
            hash.update(self.sequence(record));
            hash.update([0]);
        }
        let hash = hash.finalize();
        let rest = hash.first_chunk().expect("a hash is longer");
        let arrived = batch.first().map_or(0, |record| record.arrived);
        Builder::from_unix_timestamp_millis(arrived, rest).into_uuid().to_string()
    }

    /// Tells of records that retention has removed before they were handled. Which of them were of this lane, of so many, nobody
    /// knows any more.
    pub(super) fn tell_lost(&self, from: u64, until: u64, lanes: u32) {
        let (name, count) = (self.urn.short(), until - from);
        let whose = match lanes {
            1 => String::new(),
            _ => format!("; {name} has lost those of its lane {} of {lanes} among them", self.lane + 1),
        };
        let (these, were) = if count == 1 { ("record", "was") } else { ("records", "were") };
        self.write(
            String::new(),
            format!(
                "{count} {these} of {}, {} to {}, {were} older than the retention of the stream before {name} handled them: they \
                 are gone{whose}",
                shard::id(self.shard),
                shard::sequence(self.shard, from),
                shard::sequence(self.shard, until - 1),
            ),
        );
    }

    pub(super) fn say(&self, delivery: &Delivery, record: &Record, error: &Report) {
        let (sequence, attempts) = (self.sequence(record), delivery.attempt);
        self.write(
            delivery.id.clone(),
            format!(
                "gave up record `{sequence}` of key `{}` after {attempts} attempts: {error}; it is in the dead letters",
                record.key
            ),
        );
    }

    fn write(&self, id: String, text: String) {
        self.log.write(Line {
            time: Timestamp::now(),
            resource: self.subscription.consumer.clone(),
            stream: Printed::System,
            id,
            text,
        });
    }
}

/// Why a record is given up of which the handler says so itself.
pub(crate) fn record_failed() -> Report {
    Report {
        code: "E0848".into(),
        message: "the handler says that the record failed".into(),
        help: "see what it logged".into(),
        causes: vec![],
    }
}

fn time(milliseconds: u64) -> Timestamp {
    i64::try_from(milliseconds)
        .ok()
        .and_then(|time| Timestamp::from_millisecond(time).ok())
        .unwrap_or_default()
}

/// A record as programs see it: its data as text, or in base 64 if it is none.
pub(crate) fn shown(shard: u32, record: &Record) -> Value {
    let mut shown = json!({
        "sequenceNumber": shard::sequence(shard, record.number),
        "shard": shard::id(shard),
        "key": record.key,
        "time": time(record.arrived),
    });
    match std::str::from_utf8(&record.data) {
        Ok(text) => shown["data"] = text.into(),
        Err(_) => shown["base64"] = STANDARD.encode(&record.data).into(),
    }
    shown
}
