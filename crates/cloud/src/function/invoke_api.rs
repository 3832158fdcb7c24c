//! The AWS Lambda Invoke API: `POST /2015-03-31/functions/{name}/invocations`.
//!
//! <https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html>. Signatures are checked by the gateway before a
//! request comes here. A function's failure is an answer with status 200 and `X-Amz-Function-Error`; only a request
//! that did not reach a handler has an error status.

use std::sync::Arc;

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    response::Response,
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::json;
use tandem_model::{PhysicalId, Report};

use super::{Functions, Invocation, InvokeError, runtime_api::LARGEST};
use crate::cause;

/// Takes requests that nobody waits for. `Ok` means that the request is durable.
#[async_trait]
pub trait Enqueue: Send + Sync {
    /// # Errors
    /// A [`Report`] if it was not accepted.
    async fn enqueue(&self, function: &PhysicalId, invocation: Invocation) -> Result<(), Report>;
}

#[derive(Clone)]
struct Api {
    functions: Functions,
    enqueue: Arc<dyn Enqueue>,
}

/// The API's routes, without authentication.
pub fn router(functions: Functions, enqueue: Arc<dyn Enqueue>) -> Router {
    Router::new()
        .route("/2015-03-31/functions/{name}/invocations", post(invoke))
        .with_state(Api { functions, enqueue })
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(rename = "Qualifier")]
    qualifier: Option<String>,
}

async fn invoke(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(Parameters { qualifier }): Query<Parameters>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (name, inline) = parse_name(&name);
    if let Some(qualifier) = qualifier.as_deref().or(inline).filter(|q| *q != LATEST) {
        let message = format!("function {name} has no version or alias {qualifier}");
        return fail(StatusCode::NOT_FOUND, "ResourceNotFoundException", &message);
    }
    let id = PhysicalId(name.to_owned());
    let Ok(body) = Limited::new(body, LARGEST).collect().await else {
        let message = format!("the payload is larger than {LARGEST} bytes");
        return fail(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException", &message);
    };
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let invocation = Invocation {
        request_id: uuid::Uuid::new_v4().to_string(),
        payload: body.to_bytes(),
        traceparent: cause::told(&headers),
    };
    if let Err(error) = check_json(&invocation.payload) {
        let message = format!("the payload is not JSON: {error}");
        return fail(StatusCode::BAD_REQUEST, "InvalidRequestContentException", &message);
    }
    let tail = header("x-amz-log-type").is_some_and(|kind| kind.eq_ignore_ascii_case("tail"));
    match header("x-amz-invocation-type").unwrap_or("RequestResponse") {
        "RequestResponse" => respond(api.functions.invoke_id(&id, invocation).await, tail),
        "Event" if !api.functions.exists(&id) => refuse(&InvokeError::NoSuchFunction { name: id.0 }),
        "Event" => match api.enqueue.enqueue(&id, invocation).await {
            Ok(()) => reply(StatusCode::ACCEPTED, Bytes::new()),
            Err(error) => fail(StatusCode::INTERNAL_SERVER_ERROR, "ServiceException", &error.message),
        },
        "DryRun" if !api.functions.exists(&id) => refuse(&InvokeError::NoSuchFunction { name: id.0 }),
        "DryRun" => reply(StatusCode::NO_CONTENT, Bytes::new()),
        other => {
            let message = format!("{other} is not an invocation type: RequestResponse, Event or DryRun");
            fail(StatusCode::BAD_REQUEST, "InvalidParameterValueException", &message)
        }
    }
}

/// The one version that can be asked for by name.
const LATEST: &str = "$LATEST";

/// A name as clients may write it: bare, with a qualifier, or as a partial or whole ARN. Whoever decides about access
/// must read names by this too, or a name could mean two functions.
pub(crate) fn parse_name(name: &str) -> (&str, Option<&str>) {
    let after_arn = name.split_once(":function:").map(|(_, bare)| bare);
    let bare = name.strip_prefix("function:").or(after_arn).unwrap_or(name);
    match bare.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (bare, None),
    }
}

fn check_json(payload: &[u8]) -> Result<(), serde_json::Error> {
    if payload.is_empty() {
        return Ok(());
    }
    serde_json::from_slice::<serde::de::IgnoredAny>(payload).map(|_| ())
}

fn respond(result: Result<super::Invoked, InvokeError>, tail: bool) -> Response {
    let (mut response, lines) = match result {
        Ok(invoked) => (reply(StatusCode::OK, invoked.payload), invoked.log_tail),
        Err(
            error @ (InvokeError::HandlerFailed { .. }
            | InvokeError::TimedOut { .. }
            | InvokeError::OutOfMemory { .. }
            | InvokeError::WorkerLost { .. }
            | InvokeError::InitFailed { .. }),
        ) => {
            let body = serde_json::to_vec(&error.as_function_error()).unwrap_or_default();
            let mut response = reply(StatusCode::OK, body.into());
            add(&mut response, "x-amz-function-error", "Unhandled");
            (response, error.log_tail().to_vec())
        }
        Err(error) => return refuse(&error),
    };
    add(&mut response, "x-amz-executed-version", LATEST);
    if tail {
        let text = lines.into_iter().map(|line| line + "\n").collect::<String>();
        add(&mut response, "x-amz-log-result", &STANDARD.encode(text));
    }
    response
}

fn refuse(error: &InvokeError) -> Response {
    let (status, kind) = match error {
        InvokeError::NoSuchFunction { .. } => (StatusCode::NOT_FOUND, "ResourceNotFoundException"),
        InvokeError::TooManyRequests { .. } => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException"),
        InvokeError::PayloadTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLargeException"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "ServiceException"),
    };
    fail(status, kind, &error.to_string())
}

fn reply(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    add(&mut response, CONTENT_TYPE.as_str(), "application/json");
    response
}

fn fail(status: StatusCode, kind: &'static str, message: &str) -> Response {
    let mut response = reply(status, json!({ "Type": "User", "Message": message }).to_string().into());
    add(&mut response, "x-amzn-errortype", kind);
    response
}

fn add(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = http::HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_by_every_form_of_its_name() {
        for name in ["resize-1", "function:resize-1", "arn:aws:lambda:local:000000000000:function:resize-1"] {
            assert_eq!(parse_name(name), ("resize-1", None));
        }
        assert_eq!(parse_name("resize-1:$LATEST"), ("resize-1", Some("$LATEST")));
        assert_eq!(parse_name("arn:aws:lambda:local:0:function:f:v2"), ("f", Some("v2")));
        // A qualifier that looks like an ARN does not name another function.
        assert_eq!(parse_name("mine:xfunction:theirs").0, "mine");
    }

    #[test]
    fn a_payload_is_json_or_nothing() {
        assert!(check_json(b"").is_ok() && check_json(b"{\"a\":[1]}").is_ok());
        assert!(check_json(b"{").is_err());
    }
}
