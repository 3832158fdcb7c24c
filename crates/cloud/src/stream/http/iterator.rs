//! Iterators: where a client reads on, in a text that it gives back within five minutes.
//!
//! It says which stream it is of, and when that was made. It is no secret and gives no right: the stream must be one that the
//! client reaches.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tandem_model::inputs::StartingPosition;

use super::{Answer, Of, Wire};
use crate::{
    credential::Principal,
    stream::{StreamError, shard},
};

/// How long an iterator is good for, in milliseconds. Source: Amazon Kinesis Data Streams, GetShardIterator.
const GOOD_FOR: u64 = 300_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Iterator {
    pub(super) stream: String,
    pub(super) created: u64,
    pub(super) shard: u32,
    /// Of the first record that it reads.
    pub(super) number: u64,
    pub(super) issued: u64,
}

impl Iterator {
    pub(super) fn encode(&self) -> String {
        let Self { stream, created, shard, number, issued } = self;
        URL_SAFE_NO_PAD.encode(format!("1/{created}/{shard}/{number}/{issued}/{stream}"))
    }

    /// # Errors
    /// [`StreamError::Iterator`], [`StreamError::IteratorExpired`].
    pub(super) fn decode(text: &str, now: u64) -> Result<Self, StreamError> {
        let wrong = || StreamError::Iterator { wrong: "it is none that this cloud gave" };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        let text = String::from_utf8(bytes).map_err(|_| wrong())?;
        let [form, created, shard, number, issued, stream] = text.split('/').collect::<Vec<_>>()[..] else {
            return Err(wrong());
        };
        let number_of = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        if form != "1" {
            return Err(wrong());
        }
        let iterator = Self {
            stream: stream.to_owned(),
            created: number_of(created)?,
            shard: shard.parse().map_err(|_| wrong())?,
            number: number_of(number)?,
            issued: number_of(issued)?,
        };
        match now.saturating_sub(iterator.issued) > GOOD_FOR {
            true => Err(StreamError::IteratorExpired),
            false => Ok(iterator),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetShardIterator {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    shard_id: String,
    shard_iterator_type: String,
    starting_sequence_number: Option<String>,
    timestamp: Option<f64>,
}

impl Wire {
    pub(super) async fn iterator(&self, who: &Principal, request: GetShardIterator) -> Answer {
        let stream =
            self.reach(who, &Of { stream_name: request.stream_name, stream_arn: request.stream_arn })?;
        let open = self.streams.open(&stream).await?;
        let of = shard::parse_id(&request.shard_id).filter(|shard| *shard < open.shards());
        let of = of.ok_or_else(|| StreamError::NoSuchShard {
            stream: stream.clone(),
            shard: request.shard_id.clone(),
        })?;
        let sequence = || {
            let missing = || StreamError::Parameter {
                name: "StartingSequenceNumber",
                wrong: "the type of iterator needs it".into(),
            };
            let given = request.starting_sequence_number.as_deref().ok_or_else(missing)?;
            let number = shard::parse_sequence(given, of).filter(|number| *number < open.tail(of));
            number.ok_or_else(|| StreamError::Sequence { given: given.to_owned() })
        };
        let number = match request.shard_iterator_type.as_str() {
            "AT_SEQUENCE_NUMBER" => sequence()?,
            "AFTER_SEQUENCE_NUMBER" => sequence()? + 1,
            "TRIM_HORIZON" => self.streams.number_at(&open, of, StartingPosition::TrimHorizon).await?,
            "LATEST" => self.streams.number_at(&open, of, StartingPosition::Latest).await?,
            "AT_TIMESTAMP" => {
                let time = request.timestamp.and_then(time);
                let time = time.ok_or_else(|| StreamError::Parameter {
                    name: "Timestamp",
                    wrong: "the type of iterator needs one, in seconds since 1970".into(),
                })?;
                self.streams.number_at(&open, of, StartingPosition::At(time)).await?
            }
            other => {
                let wrong = format!("there is no type `{other}`");
                return Err(StreamError::Parameter { name: "ShardIteratorType", wrong }.into());
            }
        };
        let (created, issued) = (open.settings().created, self.streams.now());
        let iterator = Iterator { stream, created, shard: of, number, issued };
        Ok(json!({ "ShardIterator": iterator.encode() }))
    }
}

/// Rounded to milliseconds, by which records are ordered.
#[expect(clippy::cast_possible_truncation, reason = "what is no time of this calendar is refused")]
fn time(seconds: f64) -> Option<Timestamp> {
    let milliseconds = (seconds * 1000.0).round();
    milliseconds.is_finite().then(|| Timestamp::from_millisecond(milliseconds as i64).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iterator_is_good_for_five_minutes_and_only_as_it_was_given() {
        let one = Iterator { stream: "posts".into(), created: 3, shard: 1, number: 9, issued: 1000 };
        let text = one.encode();
        assert_eq!(Iterator::decode(&text, 301_000).unwrap(), one);
        assert!(matches!(Iterator::decode(&text, 301_001), Err(StreamError::IteratorExpired)));
        for bad in ["", "x", &text[1..], &text[..text.len() / 2], &URL_SAFE_NO_PAD.encode("2/1/1/1/1/s")] {
            assert!(matches!(Iterator::decode(bad, 1000), Err(StreamError::Iterator { .. })), "{bad}");
        }
    }
}
