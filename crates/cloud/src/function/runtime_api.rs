//! The AWS Lambda Runtime API, version 2018-06-01, as the cloud serves it to one worker.
//!
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>. What is known of a request hangs on its id, never
//! on the connection: a runtime client may use several at once. So one [`Session`] may be served on any number of
//! connections, Unix or TCP.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    error::FunctionError,
    pool::{Job, Refused, Session},
};

/// Paths and headers, for both sides.
pub(super) mod path {
    pub(in crate::function) const NEXT: &str = "/2018-06-01/runtime/invocation/next";
    pub(in crate::function) const INVOCATION: &str = "/2018-06-01/runtime/invocation";
    pub(in crate::function) const INIT_ERROR: &str = "/2018-06-01/runtime/init/error";
    pub(in crate::function) const REQUEST_ID: &str = "lambda-runtime-aws-request-id";
    pub(in crate::function) const DEADLINE: &str = "lambda-runtime-deadline-ms";
    pub(in crate::function) const FUNCTION_ARN: &str = "lambda-runtime-invoked-function-arn";
    pub(in crate::function) const TRACE_ID: &str = "lambda-runtime-trace-id";
    pub(in crate::function) const ERROR_TYPE: &str = "lambda-runtime-function-error-type";
}

/// The largest payload and the largest answer, as on Lambda.
pub(super) const LARGEST: usize = 6 << 20;
/// An answer on the wire may be somewhat larger than what it says.
const LARGEST_BODY: usize = LARGEST + (64 << 10);

/// Serves one connection of a worker until either side closes it.
///
/// # Errors
/// If the connection breaks or does not speak HTTP/1.1.
pub(super) async fn serve(
    session: Arc<Session>,
    connection: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let service = service_fn(move |request| {
        let session = session.clone();
        async move { Ok::<_, Infallible>(answer(&session, request).await) }
    });
    http1::Builder::new()
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(connection), service)
        .await
        .map_err(io::Error::other)
}

async fn answer(session: &Session, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Some(verb) = Verb::parse(&head.method, head.uri.path()) else {
        return refuse(StatusCode::NOT_FOUND, "NotFound", "there is no such path in the runtime API");
    };
    match verb {
        Verb::Next => match session.next().await {
            Ok(job) => hand(job),
            Err(refused) => refuse(StatusCode::GONE, "InvalidStateTransition", &refused.to_string()),
        },
        Verb::Response(request) => match Limited::new(body, LARGEST_BODY).collect().await {
            Ok(body) => {
                let body = body.to_bytes();
                if body.len() > LARGEST {
                    return too_large();
                }
                accepted(session.answer(request, Ok(body)))
            }
            Err(_) => too_large(),
        },
        Verb::Error(request) => {
            let error = read_error(&head.headers, body).await;
            accepted(session.answer(request, Err(error)))
        }
        Verb::InitError => {
            let error = read_error(&head.headers, body).await;
            session.fail_init(error);
            accepted(Ok(()))
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verb<'a> {
    Next,
    Response(&'a str),
    Error(&'a str),
    InitError,
}

impl<'a> Verb<'a> {
    fn parse(method: &Method, path: &'a str) -> Option<Self> {
        if *method == Method::GET {
            return (path == path::NEXT).then_some(Self::Next);
        }
        if *method != Method::POST {
            return None;
        }
        if path == path::INIT_ERROR {
            return Some(Self::InitError);
        }
        let (request, verb) = path.strip_prefix(path::INVOCATION)?.strip_prefix('/')?.split_once('/')?;
        match verb {
            "response" => Some(Self::Response(request)),
            "error" => Some(Self::Error(request)),
            _ => None,
        }
    }
}

fn hand(job: Job) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(job.payload));
    let headers = response.headers_mut();
    let mut add = |name: &'static str, value: &str| {
        // What cannot stand in a header was not sent in one either; the request goes on without it.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    add(path::REQUEST_ID, &job.request);
    add(path::DEADLINE, &job.deadline.to_string());
    add(path::FUNCTION_ARN, &job.function_arn);
    if let Some(traceparent) = &job.traceparent {
        add("traceparent", traceparent);
        if let Some(trace) = trace_id(traceparent) {
            add(path::TRACE_ID, &trace);
        }
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A W3C trace context as X-Ray writes it, which is what runtime clients expect.
fn trace_id(traceparent: &str) -> Option<String> {
    let mut parts = traceparent.split('-').skip(1);
    let (trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?);
    let (epoch, unique) = trace.split_at_checked(8)?;
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1;
    (unique.len() == 24).then(|| format!("Root=1-{epoch}-{unique};Parent={parent};Sampled={sampled}"))
}

async fn read_error(headers: &HeaderMap, body: Incoming) -> FunctionError {
    let body =
        Limited::new(body, LARGEST_BODY).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut error: FunctionError = serde_json::from_slice(&body).unwrap_or_else(|_| {
        FunctionError::new("", String::from_utf8_lossy(&body[..body.len().min(4096)]).into_owned())
    });
    if error.error_type.is_empty()
        && let Some(kind) = headers.get(path::ERROR_TYPE).and_then(|kind| kind.to_str().ok())
    {
        kind.clone_into(&mut error.error_type);
    }
    error
}

fn accepted(result: Result<(), Refused>) -> Response<Full<Bytes>> {
    match result {
        Ok(()) => reply(StatusCode::ACCEPTED, &json!({ "status": "OK" })),
        // Its deadline has passed, it was answered before, or it never was this worker's.
        Err(_) => refuse(StatusCode::BAD_REQUEST, "InvalidRequestID", "the request is not in flight here"),
    }
}

fn too_large() -> Response<Full<Bytes>> {
    refuse(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", "an answer may be 6 MiB at most")
}

fn refuse(status: StatusCode, kind: &str, message: &str) -> Response<Full<Bytes>> {
    reply(status, &json!({ "errorType": kind, "errorMessage": message }))
}

fn reply(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_runtime_api() {
        let post = |path| Verb::parse(&Method::POST, path);
        assert_eq!(Verb::parse(&Method::GET, "/2018-06-01/runtime/invocation/next"), Some(Verb::Next));
        assert_eq!(post("/2018-06-01/runtime/invocation/a-1/response"), Some(Verb::Response("a-1")));
        assert_eq!(post("/2018-06-01/runtime/invocation/a-1/error"), Some(Verb::Error("a-1")));
        assert_eq!(post("/2018-06-01/runtime/init/error"), Some(Verb::InitError));
        assert_eq!(post("/2018-06-01/runtime/invocation/next"), None);
        assert_eq!(Verb::parse(&Method::GET, "/2018-06-01/runtime/invocation/a/response"), None);
    }

    #[test]
    fn a_trace_context_becomes_an_x_ray_header() {
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let expected = "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1";
        assert_eq!(trace_id(traceparent).as_deref(), Some(expected));
        assert_eq!(trace_id("00-short-1-01"), None);
    }
}
