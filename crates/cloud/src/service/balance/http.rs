//! Requests, each to the replica that is best off at that moment.
//!
//! A request that no replica has answered yet is tried on another one if nothing can have come of the first try: if it
//! was not sent, or if its method is one that may be repeated (RFC 9110, 9.2.2). For that a body of moderate size is kept;
//! longer ones are passed on as they come, and tried once.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};
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
    upgrade::OnUpgrade,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::net::TcpStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

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
        // Connections that go on as something else than HTTP.
        let upgraded = TaskTracker::new();
        let (tracker, closing) = (upgraded.clone(), stop.clone());
        let answer = service_fn(move |request| {
            let (proxy, tracker, closing) = (proxy.clone(), tracker.clone(), closing.clone());
            async move {
                let (response, pipe) = proxy.answer(request, peer).await;
                if let Some(pipe) = pipe {
                    tracker.spawn(async move {
                        let given_up = async {
                            closing.cancelled().await;
                            tokio::time::sleep(grace).await;
                        };
                        tokio::select! { () = pipe => {}, () = given_up => {} }
                    });
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), answer)
            .with_upgrades();
        let mut connection = pin!(connection);
        let over = tokio::select! {
            // An error is a client that went away.
            _ = connection.as_mut() => true,
            () = stop.cancelled() => false,
        };
        if !over {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(grace, connection).await;
        }
        upgraded.close();
        upgraded.wait().await;
    }

    /// The answer, and what goes on after it on a connection that was upgraded.
    async fn answer(
        &self,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> (Response<Body>, Option<BoxFuture<'static, ()>>) {
        let wanted = wanted_upgrade(request.headers());
        let client = wanted.is_some().then(|| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        tell(&mut parts.headers, peer);
        if let Some(protocol) = wanted {
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(header::UPGRADE, protocol);
        }
        let response = self.answer_of_replica(parts, body).await;
        match (response, client) {
            (Ok((response, chosen)), Some(client))
                if response.status() == StatusCode::SWITCHING_PROTOCOLS =>
            {
                switched(response, client, chosen)
            }
            (Ok((response, chosen)), _) => (passed(response, chosen), None),
            (Err(refusal), _) => (refusal, None),
        }
    }

    /// Asks one replica after the other, as far as the request may be repeated.
    async fn answer_of_replica(
        &self,
        parts: Parts,
        body: Incoming,
    ) -> Result<(Response<Incoming>, Use), Response<Body>> {
        let mut body = match gather(body).await {
            Ok(body) => body,
            Err(error) => {
                return Err(refused(StatusCode::BAD_REQUEST, &format!("the body ended early: {error}")));
            }
        };
        let mut tried = Vec::new();
        loop {
            let Some(chosen) = self.backends.pick_or_wait(&tried).await else {
                let status =
                    if tried.is_empty() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_GATEWAY };
                return Err(refused(status, "no replica of the service is healthy"));
            };
            let whole = body.rest.is_none();
            let request = match self.request(&parts, &chosen, &mut body) {
                Ok(request) => request,
                Err(error) => return Err(refused(StatusCode::BAD_REQUEST, &error.to_string())),
            };
            match self.client.request(request).await {
                Ok(response) => return Ok((response, chosen)),
                Err(error) => {
                    tried.push(chosen.id());
                    let again = whole && (error.is_connect() || parts.method.is_idempotent());
                    if !again || tried.len() == TRIES {
                        tracing::debug!(%error, "a replica did not answer");
                        return Err(refused(StatusCode::BAD_GATEWAY, "the replica ended before it answered"));
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

/// The protocol that a request asks to go on with (`websocket`).
fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let of_connection = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let asked = of_connection
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| asked).cloned()
}

/// The replica's consent as it is, and the bytes both ways from then on.
fn switched(
    mut response: Response<Incoming>,
    client: OnUpgrade,
    chosen: Use,
) -> (Response<Body>, Option<BoxFuture<'static, ()>>) {
    let replica = hyper::upgrade::on(&mut response);
    let pipe = async move {
        let _under_way = chosen;
        match tokio::try_join!(client, replica) {
            Ok((client, replica)) => {
                let (mut client, mut replica) = (TokioIo::new(client), TokioIo::new(replica));
                // An error is an end of one of the two.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut replica).await;
            }
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
    };
    let (head, _) = response.into_parts();
    let empty = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
    (Response::from_parts(head, empty), Some(Box::pin(pipe)))
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
    use std::net::Ipv4Addr;

    use http::Method;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn head(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(text).unwrap().to_lowercase()
    }

    #[tokio::test]
    async fn an_upgraded_connection_goes_on_as_it_is_until_its_port_is_closed() {
        let replica = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = replica.local_addr().unwrap().port();
        let backends = Arc::new(Backends::default());
        let backend = backends.add("1", "v", Ipv4Addr::LOCALHOST);
        backends.set_current("v");
        backends.set_healthy(&backend, true);
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut client = TcpStream::connect(port.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = port.accept().await.unwrap();
        let (proxy, stop) = (Arc::new(Proxy::new(backends, target)), CancellationToken::new());
        let serving = {
            let stop = stop.clone();
            tokio::spawn(async move { proxy.serve(accepted, peer, stop, Duration::from_millis(100)).await })
        };
        let asked = "GET /chat HTTP/1.1\r\nhost: shop\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
            sec-websocket-key: abc\r\n\r\n";
        client.write_all(asked.as_bytes()).await.unwrap();
        let (mut replica, _) = replica.accept().await.unwrap();
        let request = head(&mut replica).await;
        for line in ["get /chat", "connection: upgrade", "upgrade: websocket", "sec-websocket-key: abc"] {
            assert!(request.contains(line), "{request}");
        }
        let consent =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nfirst";
        replica.write_all(consent.as_bytes()).await.unwrap();
        let response = head(&mut client).await;
        assert!(
            response.starts_with("http/1.1 101") && response.contains("upgrade: websocket"),
            "{response}"
        );
        let mut word = [0; 5];
        client.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"first");
        client.write_all(b"hello").await.unwrap();
        replica.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"hello");
        backend.drained(Duration::from_millis(20)).await;
        assert_eq!(backend.under_way.load(std::sync::atomic::Ordering::Acquire), 1, "it counts as under way");
        stop.cancel();
        serving.await.unwrap();
        assert_eq!(client.read(&mut word).await.unwrap_or(0), 0, "it is closed in the end");
        assert_eq!(backend.under_way.load(std::sync::atomic::Ordering::Acquire), 0);
    }

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
