//! Where a cloud answers, and connections to it that stay open.

use std::{collections::BTreeMap, io, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::TcpStream;

use crate::sign::{Signer, hash};

/// A request of which it is not known whether it was carried out.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    #[error("this is no request")]
    Malformed(#[from] http::Error),
}

/// An answer that is not a success.
#[derive(Debug, thiserror::Error)]
#[error("{status}: {body}")]
pub struct Refused {
    pub status: StatusCode,
    pub body: String,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body of a success. A function that failed is none, though its answer has the status of one.
    ///
    /// # Errors
    /// [`Refused`], with the whole body.
    pub fn ok(self) -> Result<Bytes, Refused> {
        if self.status.is_success() && !self.headers.contains_key("x-amz-function-error") {
            return Ok(self.body);
        }
        Err(Refused { status: self.status, body: String::from_utf8_lossy(&self.body).into_owned() })
    }
}

/// Where a cloud answers, and with which key it is asked.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub address: SocketAddr,
    host: String,
    signer: Signer,
}

impl Endpoint {
    /// From the variables that `tandem env` prints; the name of the first that is missing or unusable otherwise.
    ///
    /// # Errors
    /// The name of that variable.
    pub fn of_environment(variables: &BTreeMap<String, String>) -> Result<Self, &'static str> {
        let variable = |name: &'static str| variables.get(name).cloned().ok_or(name);
        let url = variable("AWS_ENDPOINT_URL")?;
        let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let signer = Signer {
            key_id: variable("AWS_ACCESS_KEY_ID")?,
            secret: variable("AWS_SECRET_ACCESS_KEY")?,
            region: variable("AWS_REGION").or_else(|_| variable("AWS_DEFAULT_REGION"))?,
        };
        Ok(Self { address: host.parse().map_err(|_| "AWS_ENDPOINT_URL")?, host, signer })
    }

    /// # Errors
    /// [`Unanswered::Connect`] if nobody listens there.
    pub async fn connect(&self) -> Result<Connection, Unanswered> {
        Ok(Connection { sender: open(self.address).await?, endpoint: self.clone() })
    }
}

/// One connection that stays open, without Nagle's delay.
async fn open(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, Unanswered> {
    let stream = TcpStream::connect(address).await.map_err(Unanswered::Connect)?;
    stream.set_nodelay(true).map_err(Unanswered::Connect)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// A signing client on one connection.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    endpoint: Endpoint,
}

impl Connection {
    /// Sends a signed request and reads the whole answer. `path` may have a query; neither may need escaping. Of the
    /// headers those that begin with `x-amz-` are signed.
    ///
    /// # Errors
    /// [`Unanswered`]: it may have been carried out or not.
    pub async fn send(
        &mut self,
        service: &str,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Answer, Unanswered> {
        let payload = hash(&body);
        let mut request = Request::builder().method(method).uri(path).header("host", &self.endpoint.host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(body))?;
        self.endpoint.signer.sign(&mut request, service, &payload, Timestamp::now());
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer { status, headers, body })
    }

    /// # Errors
    /// As [`send`](Self::send).
    pub async fn put(&mut self, bucket: &str, key: &str, body: Bytes) -> Result<Answer, Unanswered> {
        self.send("s3", Method::PUT, &format!("/{bucket}/{key}"), &[], body).await
    }

    /// # Errors
    /// As [`send`](Self::send).
    pub async fn get(&mut self, bucket: &str, key: &str) -> Result<Answer, Unanswered> {
        self.send("s3", Method::GET, &format!("/{bucket}/{key}"), &[], Bytes::new()).await
    }

    /// Invokes a function through the Lambda API. `headers` say how; without them it is waited for.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn invoke(
        &mut self,
        function: &str,
        headers: &[(&'static str, &str)],
        payload: Bytes,
    ) -> Result<Answer, Unanswered> {
        let path = format!("/2015-03-31/functions/{function}/invocations");
        self.send("lambda", Method::POST, &path, headers, payload).await
    }
}
