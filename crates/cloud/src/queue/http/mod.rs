//! The wire of Amazon SQS: the JSON protocol of today's clients and the Query protocol of older ones.
//!
//! Both are the same requests and answers in two forms. A request in either form becomes JSON as the JSON protocol has it,
//! [`act`](actions) answers in JSON, and the answer goes back in the form in which it was asked. Who asks is known from the
//! signature, and reaches the queues of its own stack only (I8).
//!
//! Sources: the service model of Amazon SQS, as botocore publishes it (2012-11-05, JSON), and as it did up to 1.31 (Query).

mod actions;
mod form;
mod messages;
mod moves;
mod queues;
mod request;
mod xml;

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Queues, error::QueueError};
use crate::{cause, credential::Principal, target::CloudTarget};

/// What the actions work on.
#[derive(Clone)]
struct Wire {
    queues: Arc<Queues>,
    target: Arc<CloudTarget>,
}

/// Answers requests whose signature was verified.
pub fn router(queues: Arc<Queues>, target: Arc<CloudTarget>) -> Router {
    Router::new().fallback(answer).with_state(Wire { queues, target })
}

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Query,
}

/// Why a request is not answered.
#[derive(Debug)]
enum Refusal {
    Queue(QueueError),
    /// What the target says of a queue that a client makes or deletes.
    Report(tandem_model::Report),
    UnknownAction {
        action: String,
    },
    Malformed {
        wrong: String,
    },
}

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

async fn answer(
    State(wire): State<Wire>,
    Extension(principal): Extension<Principal>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let id = Uuid::new_v4().to_string();
    let (form, action, params) = match read(&uri, &headers, &body) {
        Ok(read) => read,
        Err((form, refusal)) => return refuse(form, &id, &refusal),
    };
    match actions::act(&wire, &principal, cause::told(&headers), &action, params).await {
        Ok(answer) => accept(form, &action, &id, &answer),
        Err(refusal) => refuse(form, &id, &refusal),
    }
}

/// The form of a request, its action, and its parameters as the JSON protocol has them.
fn read(uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Result<(Form, String, Value), (Form, Refusal)> {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok());
    if let Some(target) = target {
        let action = target.rsplit('.').next().unwrap_or_default().to_owned();
        let params = match body.is_empty() {
            true => Ok(json!({})),
            false => serde_json::from_slice(body),
        };
        let params = params.map_err(|e| (Form::Json, Refusal::Malformed { wrong: e.to_string() }))?;
        return Ok((Form::Json, action, params));
    }
    let pairs = match body.is_empty() {
        true => uri.query().unwrap_or_default().as_bytes(),
        false => body,
    };
    let mut params = form::read(pairs).map_err(|wrong| (Form::Query, Refusal::Malformed { wrong }))?;
    let action = params.remove("Action").and_then(|action| action.as_str().map(str::to_owned));
    let action = action.ok_or((Form::Query, QueueError::Missing { name: "Action" }.into()))?;
    // The queue may be the address alone.
    if uri.path().len() > 1 && !params.contains_key("QueueUrl") {
        params.insert("QueueUrl".to_owned(), uri.path().into());
    }
    Ok((Form::Query, action, Value::Object(params)))
}

fn accept(form: Form, action: &str, id: &str, answer: &Value) -> Response {
    let (kind, body) = match form {
        Form::Json => ("application/x-amz-json-1.0", answer.to_string()),
        Form::Query => ("text/xml", xml::answer(action, id, answer)),
    };
    ([(header::CONTENT_TYPE, kind), (REQUEST_ID, id)], body).into_response()
}

const REQUEST_ID: header::HeaderName = header::HeaderName::from_static("x-amzn-requestid");
const QUERY_ERROR: header::HeaderName = header::HeaderName::from_static("x-amzn-query-error");

fn refuse(form: Form, id: &str, refusal: &Refusal) -> Response {
    let (name, query_name) = refusal.name();
    let (status, fault) = refusal.status();
    let message = refusal.message();
    if fault == "Receiver" {
        tracing::error!(error = message, "cannot answer a request for a queue");
    }
    match form {
        Form::Json => {
            let body = json!({ "__type": format!("com.amazonaws.sqs#{name}"), "message": message });
            let told = format!("{query_name};{fault}");
            let headers = [
                (header::CONTENT_TYPE, "application/x-amz-json-1.0"),
                (REQUEST_ID, id),
                (QUERY_ERROR, &told),
            ];
            (status, headers, body.to_string()).into_response()
        }
        Form::Query => {
            let body = xml::error(id, fault, query_name, &message);
            (status, [(header::CONTENT_TYPE, "text/xml"), (REQUEST_ID, id)], body).into_response()
        }
    }
}

impl Refusal {
    /// Its name, and that of the Query protocol.
    fn name(&self) -> (&'static str, &'static str) {
        match self {
            Self::Queue(error) => error.name(),
            Self::Report(_) => ("InvalidParameterValue", "InvalidParameterValue"),
            Self::UnknownAction { .. } => ("InvalidAction", "InvalidAction"),
            Self::Malformed { .. } => ("SerializationException", "MalformedInput"),
        }
    }

    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Queue(QueueError::Contended) => (StatusCode::SERVICE_UNAVAILABLE, "Receiver"),
            Self::Queue(error) if error.is_fault() => (StatusCode::INTERNAL_SERVER_ERROR, "Receiver"),
            _ => (StatusCode::BAD_REQUEST, "Sender"),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Queue(error) => error.to_string(),
            Self::Report(report) => format!("{} ({})", report.message, report.help),
            Self::UnknownAction { action } => format!("there is no action `{action}`"),
            Self::Malformed { wrong } => format!("the request cannot be read: {wrong}"),
        }
    }
}
