//! A client of the Lambda Runtime API, on one connection.

use std::io;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::HeaderMap};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::function::{
    error::FunctionError,
    runtime_api::{LARGEST, path},
};

pub(super) struct Client {
    connection: http1::SendRequest<Full<Bytes>>,
}

/// A request to handle.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) request: String,
    /// In milliseconds since 1970.
    pub(super) deadline: u64,
    pub(super) function_arn: String,
    pub(super) traceparent: Option<String>,
    pub(super) payload: Bytes,
}

impl Client {
    pub(super) async fn new(stream: UnixStream) -> io::Result<Self> {
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(driver);
        Ok(Self { connection })
    }

    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> io::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "runtime")
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        self.connection.ready().await.map_err(io::Error::other)?;
        self.connection.send_request(request).await.map_err(io::Error::other)
    }

    /// Waits for a request.
    pub(super) async fn next(&mut self) -> io::Result<Work> {
        let (head, body) = self.send(Method::GET, path::NEXT, Bytes::new()).await?.into_parts();
        if head.status != StatusCode::OK {
            return Err(io::Error::other(format!("asking for a request answered {}", head.status)));
        }
        let payload = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let text = |name: &str| header(&head.headers, name).map(str::to_owned);
        Ok(Work {
            request: text(path::REQUEST_ID).ok_or_else(|| io::Error::other("a request without an id"))?,
            deadline: text(path::DEADLINE).and_then(|millis| millis.parse().ok()).unwrap_or(u64::MAX),
            function_arn: text(path::FUNCTION_ARN).unwrap_or_default(),
            traceparent: text("traceparent"),
            payload,
        })
    }

    /// Answers a request. That it was refused, because its deadline had passed, is not an error.
    pub(super) async fn answer(
        &mut self,
        request: &str,
        answer: Result<Bytes, FunctionError>,
    ) -> io::Result<()> {
        let too_large = |payload: &Bytes| payload.len() > LARGEST;
        let (verb, body) = match answer {
            // Not sent at all: the cloud would hang up in the middle of it.
            Ok(payload) if too_large(&payload) => {
                ("error", serde_json::to_vec(&response_too_large())?.into())
            }
            Ok(payload) => ("response", payload),
            Err(error) => ("error", serde_json::to_vec(&error)?.into()),
        };
        let path = format!("{}/{request}/{verb}", path::INVOCATION);
        let answered = self.send(Method::POST, &path, body).await?;
        answered.into_body().collect().await.map_err(io::Error::other)?;
        Ok(())
    }

    /// Says that the program cannot be started.
    pub(super) async fn fail_init(&mut self, error: &FunctionError) -> io::Result<()> {
        let answered = self.send(Method::POST, path::INIT_ERROR, serde_json::to_vec(error)?.into()).await?;
        answered.into_body().collect().await.map_err(io::Error::other)?;
        Ok(())
    }
}

fn response_too_large() -> FunctionError {
    FunctionError::new("Function.ResponseSizeTooLarge", "the answer is larger than 6 MiB")
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
