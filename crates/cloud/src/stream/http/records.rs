//! The actions on records: put and get.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Of, Refusal, Wire, iterator::Iterator};
use crate::{
    credential::Principal,
    stream::{Outgoing, Put, StreamError, read::Range, shard},
};

/// The most records and bytes of an answer. Source: Amazon Kinesis Data Streams, GetRecords.
const MOST: i64 = 10_000;
const BYTES: usize = 10 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    data: String,
    #[serde(default)]
    partition_key: String,
    explicit_hash_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutRecord {
    #[serde(flatten)]
    of: Of,
    #[serde(flatten)]
    record: Entry,
    sequence_number_for_ordering: Option<String>,
    dry_run: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PutRecords {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    records: Vec<Entry>,
    dry_run: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetRecords {
    shard_iterator: String,
    limit: Option<i64>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}

impl Entry {
    fn outgoing(self) -> Result<Outgoing, Refusal> {
        let data = STANDARD
            .decode(&self.data)
            .map_err(|error| Refusal::Malformed { wrong: format!("`Data` is not base 64: {error}") })?;
        Ok(Outgoing { key: self.partition_key, data: Bytes::from(data), hash: self.explicit_hash_key })
    }
}

fn told(put: &Put) -> Value {
    json!({ "ShardId": shard::id(put.shard), "SequenceNumber": shard::sequence(put.shard, put.number) })
}

impl Wire {
    pub(super) async fn put_record(
        &self,
        who: &Principal,
        cause: Option<String>,
        request: PutRecord,
    ) -> Answer {
        refuse_dry_run(request.dry_run)?;
        let stream = self.reach(who, &request.of)?;
        if let Some(given) = request.sequence_number_for_ordering {
            // Records of one key are in the order of their puts anyhow; what is no number is an error all the same.
            let number = !given.is_empty() && given.bytes().all(|b| b.is_ascii_digit());
            if !number {
                return Err(StreamError::Sequence { given }.into());
            }
        }
        let put = self.streams.put(&stream, vec![request.record.outgoing()?], cause).await?;
        let mut answer = told(&put[0]);
        answer["EncryptionType"] = "NONE".into();
        Ok(answer)
    }

    /// All or none: more than the protocol promises.
    pub(super) async fn put_records(
        &self,
        who: &Principal,
        cause: Option<String>,
        request: PutRecords,
    ) -> Answer {
        let PutRecords { stream_name, stream_arn, records, dry_run } = request;
        refuse_dry_run(dry_run)?;
        let stream = self.reach(who, &Of { stream_name, stream_arn })?;
        let records = records.into_iter().map(Entry::outgoing).collect::<Result<Vec<_>, _>>()?;
        let put = self.streams.put(&stream, records, cause).await?;
        let records: Vec<_> = put.iter().map(told).collect();
        Ok(json!({ "FailedRecordCount": 0, "Records": records, "EncryptionType": "NONE" }))
    }

    pub(super) async fn get_records(&self, who: &Principal, request: GetRecords) -> Answer {
        let limit = request.limit.unwrap_or(MOST);
        if !(1..=MOST).contains(&limit) {
            let wrong = format!("it is 1 to {MOST}, not {limit}");
            return Err(StreamError::Parameter { name: "Limit", wrong }.into());
        }
        let now = self.streams.now();
        let iterator = Iterator::decode(&request.shard_iterator, now)?;
        let of = Of { stream_name: Some(iterator.stream.clone()), stream_arn: request.stream_arn };
        let stream = self.reach(who, &of)?;
        let open = self.streams.open(&stream).await?;
        if open.settings().created != iterator.created {
            return Err(StreamError::Iterator { wrong: "it is of a stream that was deleted" }.into());
        }
        if iterator.shard >= open.shards() {
            return Err(StreamError::Iterator { wrong: "it is of a shard that is not there" }.into());
        }
        let most = usize::try_from(limit).unwrap_or(1);
        let page =
            self.streams.read(&open, Range::from(iterator.shard, iterator.number, most, BYTES)).await?;
        let behind = match page.records.last() {
            _ if page.ended => 0,
            Some(record) => now.saturating_sub(record.arrived),
            None => 1,
        };
        let records: Vec<_> = page
            .records
            .iter()
            .map(|record| {
                json!({
                    "SequenceNumber": shard::sequence(iterator.shard, record.number),
                    "ApproximateArrivalTimestamp": seconds(record.arrived),
                    "Data": STANDARD.encode(&record.data),
                    "PartitionKey": record.key,
                    "EncryptionType": "NONE",
                })
            })
            .collect();
        let next = Iterator { number: page.next, issued: now, ..iterator };
        Ok(json!({
            "Records": records,
            "NextShardIterator": next.encode(),
            "MillisBehindLatest": behind,
        }))
    }
}

/// One that only asks whether it may must not be done.
fn refuse_dry_run(dry_run: Option<bool>) -> Result<(), StreamError> {
    match dry_run {
        Some(true) => Err(StreamError::Unsupported { what: "`DryRun` is not there".into() }),
        _ => Ok(()),
    }
}

/// A time as the protocol has it: seconds since 1970.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of this millennium have less than 53 bits")]
pub(super) fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}
