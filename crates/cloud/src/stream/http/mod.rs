//! The wire of Amazon Kinesis Data Streams: JSON 1.1, version 2013-12-02.
//!
//! Who asks is known from the signature, and reaches the streams of its own stack only (I8). Streams are declared by programs;
//! clients put and read.
//!
//! Source: the service model of Amazon Kinesis Data Streams, as botocore publishes it.

mod describe;
mod iterator;
mod records;

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use tandem_model::Explain;
use tandem_store::CommitError;
use uuid::Uuid;

use super::{Streams, error::StreamError, name_in_arn};
use crate::{cause, credential::Principal};

/// Answers requests whose signature was verified.
pub fn router(streams: Arc<Streams>) -> Router {
    Router::new().fallback(answer).with_state(Wire { streams })
}

#[derive(Clone)]
struct Wire {
    streams: Arc<Streams>,
}

/// Why a request is not answered.
#[derive(Debug)]
enum Refusal {
    Stream(StreamError),
    Malformed { wrong: String },
}

impl From<StreamError> for Refusal {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

type Answer = Result<Value, Refusal>;

/// How a request says which stream it is about.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Of {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
}

const KIND: &str = "application/x-amz-json-1.1";
const REQUEST_ID: header::HeaderName = header::HeaderName::from_static("x-amzn-requestid");

async fn answer(
    State(wire): State<Wire>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let id = Uuid::new_v4().to_string();
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let action = target.rsplit('.').next().unwrap_or_default();
    match wire.act(&principal, cause::told(&headers), action, &body).await {
        // What has nothing to say has no body.
        Ok(Value::Null) => ([(header::CONTENT_TYPE, KIND), (REQUEST_ID, &id)]).into_response(),
        Ok(answer) => ([(header::CONTENT_TYPE, KIND), (REQUEST_ID, &id)], answer.to_string()).into_response(),
        // What cannot be read any more is no fault of a disk.
        Err(Refusal::Stream(error)) if error.is_fault() && wire.streams.closing.is_cancelled() => {
            refuse(&id, &Refusal::Stream(CommitError::Closed.into()))
        }
        Err(refusal) => refuse(&id, &refusal),
    }
}

fn refuse(id: &str, refusal: &Refusal) -> Response {
    let (status, name, message) = match refusal {
        Refusal::Stream(error) if error.is_closed() => (
            StatusCode::SERVICE_UNAVAILABLE,
            error.name(),
            format!("{error} ({}: {})", error.code(), error.help()),
        ),
        Refusal::Stream(error) if error.is_fault() => {
            tracing::error!(%error, "cannot answer a request for a stream");
            (StatusCode::INTERNAL_SERVER_ERROR, error.name(), error.to_string())
        }
        Refusal::Stream(error) => {
            (StatusCode::BAD_REQUEST, error.name(), format!("{error} ({}: {})", error.code(), error.help()))
        }
        Refusal::Malformed { wrong } => (
            StatusCode::BAD_REQUEST,
            "SerializationException",
            format!("the request cannot be read: {wrong}"),
        ),
    };
    let body = serde_json::json!({ "__type": name, "message": message }).to_string();
    (status, [(header::CONTENT_TYPE, KIND), (REQUEST_ID, id)], body).into_response()
}

fn given<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| Refusal::Malformed { wrong: error.to_string() })
}

impl Wire {
    async fn act(&self, who: &Principal, cause: Option<String>, action: &str, body: &[u8]) -> Answer {
        match action {
            "PutRecord" => self.put_record(who, cause, given(body)?).await,
            "PutRecords" => self.put_records(who, cause, given(body)?).await,
            "GetShardIterator" => self.iterator(who, given(body)?).await,
            "GetRecords" => self.get_records(who, given(body)?).await,
            "ListShards" => self.list_shards(who, given(body)?).await,
            "DescribeStream" => self.describe(who, given(body)?).await,
            "DescribeStreamSummary" => self.summary(who, given(body)?).await,
            "ListStreams" => self.list(who, given(body)?).await,
            "IncreaseStreamRetentionPeriod" => self.retain(who, given(body)?, true).await,
            "DecreaseStreamRetentionPeriod" => self.retain(who, given(body)?, false).await,
            "CreateStream" | "DeleteStream" | "UpdateShardCount" | "SplitShard" | "MergeShards"
            | "UpdateStreamMode" => Err(unsupported(format!(
                "{action}: streams are what programs declare; write `new cloud.Stream(name, {{ shards }})` and run `tandem up`"
            ))),
            "RegisterStreamConsumer"
            | "DeregisterStreamConsumer"
            | "DescribeStreamConsumer"
            | "ListStreamConsumers"
            | "SubscribeToShard" => Err(unsupported(format!(
                "{action} is not there: read with GetRecords, or let the program subscribe"
            ))),
            _ => Err(unsupported(format!("there is no action `{action}` of streams here"))),
        }
    }

    /// The stream's name, if the principal reaches it. One of another stack is as good as absent.
    fn reach(&self, who: &Principal, of: &Of) -> Result<String, StreamError> {
        let by_arn = of.stream_arn.as_deref();
        let name = match (by_arn, &of.stream_name) {
            (Some(arn), name) => {
                let found =
                    name_in_arn(arn).filter(|found| name.as_deref().is_none_or(|name| name == *found));
                found.ok_or_else(|| StreamError::NoSuchStream { stream: arn.to_owned() })?
            }
            (None, Some(name)) => name,
            (None, None) => {
                let wrong = "it, or `StreamARN`, is needed".to_owned();
                return Err(StreamError::Parameter { name: "StreamName", wrong });
            }
        };
        let found = self.streams.find(name).filter(|found| who.may_reach(&found.urn));
        found
            .map(|found| found.id.0.clone())
            .ok_or_else(|| StreamError::NoSuchStream { stream: name.to_owned() })
    }
}

fn unsupported(what: String) -> Refusal {
    StreamError::Unsupported { what }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn while_the_cloud_stops_clients_are_told_to_try_again() {
        let refused = refuse("1", &StreamError::from(CommitError::Closed).into());
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(refused.into_body(), 1 << 20).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["__type"], "ServiceUnavailable");
        assert!(body["message"].as_str().unwrap().contains("the cloud is stopping"), "{body}");
    }
}
