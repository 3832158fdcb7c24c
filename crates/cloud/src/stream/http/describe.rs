//! What there is: streams, their shards, and how long they keep records.

use serde::Deserialize;
use serde_json::{Value, json};
use tandem_model::{Kind, inputs};

use super::{Answer, Of, Wire, records::seconds};
use crate::{
    credential::Principal,
    stream::{StreamError, arn, key::Settings, shard},
};

/// The most of a page. Source: Amazon Kinesis Data Streams, ListShards and ListStreams; DescribeStream has 100 if not told.
const MOST: i64 = 10_000;
const DESCRIBED: i64 = 100;
const LISTED: i64 = 100;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListShards {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    next_token: Option<String>,
    exclusive_start_shard_id: Option<String>,
    max_results: Option<i64>,
    shard_filter: Option<ShardFilter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ShardFilter {
    #[serde(rename = "Type")]
    kind: String,
    shard_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Describe {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    limit: Option<i64>,
    exclusive_start_shard_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListStreams {
    limit: Option<i64>,
    exclusive_start_stream_name: Option<String>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Retain {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    retention_period_hours: i64,
}

/// How many a page has.
fn limit(name: &'static str, given: Option<i64>, default: i64) -> Result<usize, StreamError> {
    let limit = given.unwrap_or(default);
    match usize::try_from(limit) {
        Ok(limit @ 1..) if limit <= 10_000 => Ok(limit),
        _ => Err(StreamError::Parameter { name, wrong: format!("it is 1 to {MOST}, not {limit}") }),
    }
}

fn start(stream: &str, after: Option<&str>) -> Result<u32, StreamError> {
    let Some(id) = after else { return Ok(0) };
    let missing = || StreamError::NoSuchShard { stream: stream.to_owned(), shard: id.to_owned() };
    shard::parse_id(id).map(|shard| shard.saturating_add(1)).ok_or_else(missing)
}

fn told(shard: u32, shards: u32) -> Value {
    let (first, last) = shard::range(shard, shards);
    json!({
        "ShardId": shard::id(shard),
        "HashKeyRange": { "StartingHashKey": first.to_string(), "EndingHashKey": last.to_string() },
        "SequenceNumberRange": { "StartingSequenceNumber": shard::sequence(shard, 1) },
    })
}

impl Wire {
    pub(super) async fn list_shards(&self, who: &Principal, request: ListShards) -> Answer {
        let ListShards {
            stream_name,
            stream_arn,
            next_token,
            exclusive_start_shard_id,
            max_results,
            shard_filter,
        } = request;
        let limit = limit("MaxResults", max_results, MOST)?;
        // A token is the stream and the shard before the page.
        let (of, after) = match next_token {
            Some(token) => {
                let wrong = || StreamError::Parameter {
                    name: "NextToken",
                    wrong: "it is none that this cloud gave".into(),
                };
                let (stream, shard) = token.rsplit_once('/').ok_or_else(wrong)?;
                (Of { stream_name: Some(stream.to_owned()), stream_arn: None }, Some(shard.to_owned()))
            }
            None => (Of { stream_name, stream_arn }, exclusive_start_shard_id),
        };
        let stream = self.reach(who, &of)?;
        let shards = self.streams.open(&stream).await?.shards();
        let after = match &shard_filter {
            // All shards are open, and always were.
            Some(filter) => match filter.kind.as_str() {
                "AFTER_SHARD_ID" => filter.shard_id.clone(),
                "AT_TRIM_HORIZON" | "FROM_TRIM_HORIZON" | "AT_LATEST" | "AT_TIMESTAMP" | "FROM_TIMESTAMP" => {
                    after
                }
                other => {
                    let wrong = format!("there is no filter `{other}`");
                    return Err(StreamError::Parameter { name: "ShardFilter", wrong }.into());
                }
            },
            None => after,
        };
        let start = start(&stream, after.as_deref())?;
        let page: Vec<u32> = (start..shards).take(limit).collect();
        let mut answer =
            json!({ "Shards": page.iter().map(|shard| told(*shard, shards)).collect::<Vec<_>>() });
        if let Some(last) = page.last().filter(|last| **last + 1 < shards) {
            answer["NextToken"] = format!("{stream}/{}", shard::id(*last)).into();
        }
        Ok(answer)
    }

    pub(super) async fn describe(&self, who: &Principal, request: Describe) -> Answer {
        let Describe { stream_name, stream_arn, limit: most, exclusive_start_shard_id } = request;
        let most = limit("Limit", most, DESCRIBED)?;
        let stream = self.reach(who, &Of { stream_name, stream_arn })?;
        let settings = self.streams.open(&stream).await?.settings();
        let start = start(&stream, exclusive_start_shard_id.as_deref())?;
        let page: Vec<_> =
            (start..settings.shards).take(most).map(|shard| told(shard, settings.shards)).collect();
        let mut told = description(&stream, &settings);
        told["HasMoreShards"] = (start as usize + page.len() < settings.shards as usize).into();
        told["Shards"] = page.into();
        Ok(json!({ "StreamDescription": told }))
    }

    pub(super) async fn summary(&self, who: &Principal, of: Of) -> Answer {
        let stream = self.reach(who, &of)?;
        let settings = self.streams.open(&stream).await?.settings();
        let mut told = description(&stream, &settings);
        told["OpenShardCount"] = settings.shards.into();
        told["ConsumerCount"] = 0.into();
        Ok(json!({ "StreamDescriptionSummary": told }))
    }

    pub(super) async fn list(&self, who: &Principal, request: ListStreams) -> Answer {
        let limit = limit("Limit", request.limit, LISTED)?;
        let after = request.next_token.or(request.exclusive_start_stream_name).unwrap_or_default();
        let all = self.streams.resources.list(Some(who.stack())).into_iter();
        let mut names: Vec<_> = all.filter(|r| r.urn.kind == Kind::Stream).map(|r| r.id.0.clone()).collect();
        names.retain(|name| **name > *after);
        names.sort_unstable();
        let more = names.len() > limit;
        names.truncate(limit);
        let mut summaries = Vec::new();
        for name in &names {
            let settings = self.streams.open(name).await?.settings();
            summaries.push(json!({
                "StreamName": name,
                "StreamARN": arn(name),
                "StreamStatus": "ACTIVE",
                "StreamModeDetails": { "StreamMode": "PROVISIONED" },
                "StreamCreationTimestamp": seconds(settings.created),
            }));
        }
        let mut answer =
            json!({ "StreamNames": names, "HasMoreStreams": more, "StreamSummaries": summaries });
        if let Some(last) = names.last().filter(|_| more) {
            answer["NextToken"] = last.as_str().into();
        }
        Ok(answer)
    }

    pub(super) async fn retain(&self, who: &Principal, request: Retain, longer: bool) -> Answer {
        let Retain { stream_name, stream_arn, retention_period_hours: hours } = request;
        let stream = self.reach(who, &Of { stream_name, stream_arn })?;
        let now = self.streams.open(&stream).await?.settings().retention;
        let wrong = |wrong: String| StreamError::Parameter { name: "RetentionPeriodHours", wrong };
        let range = inputs::Stream::RETENTION;
        let wanted = u32::try_from(hours).ok().filter(|hours| range.contains(hours));
        let wanted = wanted
            .ok_or_else(|| wrong(format!("it is {} to {} hours, not {hours}", range.start(), range.end())))?;
        if (longer && wanted < now) || (!longer && wanted > now) {
            return Err(wrong(format!("the stream keeps records for {now} hours")).into());
        }
        self.streams.set_retention(&stream, wanted).await?;
        Ok(Value::Null)
    }
}

fn description(stream: &str, settings: &Settings) -> Value {
    json!({
        "StreamName": stream,
        "StreamARN": arn(stream),
        "StreamStatus": "ACTIVE",
        "StreamModeDetails": { "StreamMode": "PROVISIONED" },
        "RetentionPeriodHours": settings.retention,
        "StreamCreationTimestamp": seconds(settings.created),
        "EnhancedMonitoring": [{ "ShardLevelMetrics": [] }],
        "EncryptionType": "NONE",
    })
}
