//! Requests, each to the replica that is best off at that moment.
//!
//! A request that no replica has answered yet is tried on another one if nothing can have come of the first try: if it
//! was not sent, or if its method is one that may be repeated (RFC 9110, 9.2.2). For that a body of moderate size is kept;
//! longer ones are passed on as they come, and tried once.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri,
    header::{self, HOST},
    request::Parts,
};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body as _, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{Backends, CONNECT, TRIES, Use};

/// How much of a body is kept to be sent again.
const KEPT: usize = 64 << 10;
/// How long a client may take over the head of a request.
const HEAD: Duration = Duration::from_secs(30);
/// How long an unused connection to a replica is kept.
const IDLE: Duration = Duration::from_secs(30);

type Error = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Error>;

/// Headers of a connection, not of a request.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Passes the requests to one port on.
#[derive(Debug)]
pub(super) struct Proxy {
    backends: Arc<Backends>,
    target: u16,
    client: Client<HttpConnector, Body>,
}

/// The part of a body that is kept, and what is still to come.
struct Sendable {
    kept: Bytes,
    rest: Option<BodyStream<Incoming>>,
}

impl Proxy {
    pub(super) fn new(backends: Arc<Backends>, target: u16) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Self { backends, target, client }
    }

    /// Serves one connection to its end; after `stop`, to the end of the request under way.
    pub(super) async fn serve(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        stop: CancellationToken,
        grace: Duration,
    ) {
        let proxy = self.clone();
        let answer = service_fn(move |request| {
            let proxy = proxy.clone();
            async move { Ok::<_, std::convert::Infallible>(proxy.answer(request, peer).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), answer);
        let mut connection = pin!(connection);
        tokio::select! {
            // An error is a client that went away.
            _ = connection.as_mut() => return,
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        let _ = tokio::time::timeout(grace, connection).await;
    }

    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        if parts.headers.contains_key(header::UPGRADE) {
            return refused(
                StatusCode::NOT_IMPLEMENTED,
                "a port with the protocol \"http\" passes no upgrades on; publish it with \"tcp\"",
            );
        }
        tell(&mut parts.headers, peer);
        let mut body = match gather(body).await {
            Ok(body) => body,
            Err(error) => return refused(StatusCode::BAD_REQUEST, &format!("the body ended early: {error}")),
        };
        let mut tried = Vec::new();
        loop {
            let Some(chosen) = self.backends.pick_or_wait(&tried).await else {
                let status =
                    if tried.is_empty() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_GATEWAY };
                return refused(status, "no replica of the service is healthy");
            };
            let whole = body.rest.is_none();
            let request = match self.request(&parts, &chosen, &mut body) {
                Ok(request) => request,
                Err(error) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
            };
            match self.client.request(request).await {
                Ok(response) => return passed(response, chosen),
                Err(error) => {
                    tried.push(chosen.address());
                    let again = whole && (error.is_connect() || parts.method.is_idempotent());
                    if !again || tried.len() == TRIES {
                        tracing::debug!(%error, "a replica did not answer");
                        return refused(StatusCode::BAD_GATEWAY, "the replica ended before it answered");
                    }
                }
            }
        }
    }

    fn request(
        &self,
        parts: &Parts,
        chosen: &Use,
        body: &mut Sendable,
    ) -> Result<Request<Body>, http::Error> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri: Uri = format!("http://{}:{}{path}", chosen.address(), self.target).parse()?;
        let mut request = Request::builder().method(parts.method.clone()).uri(uri);
        if let Some(headers) = request.headers_mut() {
            headers.clone_from(&parts.headers);
        }
        let kept = body.kept.clone();
        request.body(match body.rest.take() {
            None => Full::new(kept).map_err(|never| match never {}).boxed_unsync(),
            Some(rest) => {
                let first = stream::iter([Ok(Frame::data(kept))]);
                StreamBody::new(first.chain(TryStreamExt::map_err(rest, Error::from))).boxed_unsync()
            }
        })
    }
}

/// Takes in a body, up to what is kept.
async fn gather(body: Incoming) -> Result<Sendable, hyper::Error> {
    if body.is_end_stream() {
        return Ok(Sendable { kept: Bytes::new(), rest: None });
    }
    let mut kept = BytesMut::new();
    let mut rest = BodyStream::new(body);
    while kept.len() <= KEPT {
        match rest.next().await.transpose()? {
            Some(frame) => {
                if let Ok(data) = frame.into_data() {
                    kept.extend_from_slice(&data);
                }
            }
            None => return Ok(Sendable { kept: kept.freeze(), rest: None }),
        }
    }
    Ok(Sendable { kept: kept.freeze(), rest: Some(rest) })
}

/// Takes the connection's headers away, and tells the replica who asks.
fn tell(headers: &mut HeaderMap, peer: SocketAddr) {
    strip(headers);
    // Behind another proxy the first one knows best.
    let so_far = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    let by = match so_far {
        Some(others) => format!("{others}, {}", peer.ip()),
        None => peer.ip().to_string(),
    };
    if let Ok(by) = HeaderValue::from_str(&by) {
        headers.insert("x-forwarded-for", by);
    }
    if let Some(host) = headers.get(HOST).cloned() {
        headers.entry("x-forwarded-host").or_insert(host);
    }
    headers.entry("x-forwarded-proto").or_insert(HeaderValue::from_static("http"));
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

/// The answer as it is; the request is under way until its last byte.
fn passed(response: Response<Incoming>, chosen: Use) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    strip(&mut head.headers);
    let body = body.map_err(Error::from).map_frame(move |frame| {
        let _ = &chosen;
        frame
    });
    Response::from_parts(head, body.boxed_unsync())
}

fn refused(status: StatusCode, why: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{why}\n"))).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn what_belongs_to_the_connection_is_not_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("host", "shop.example"),
            ("x-forwarded-for", "1.2.3.4"),
            ("accept", "*/*"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        tell(&mut headers, "127.0.0.1:9".parse().unwrap());
        let mut left: Vec<_> = headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(
            left,
            [
                "accept: */*",
                "host: shop.example",
                "x-forwarded-for: 1.2.3.4, 127.0.0.1",
                "x-forwarded-host: shop.example",
                "x-forwarded-proto: http"
            ]
        );
        assert!(Method::PUT.is_idempotent() && !Method::POST.is_idempotent());
    }
}
