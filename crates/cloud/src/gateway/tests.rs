use std::{collections::HashMap, fs, sync::Arc, time::Duration};

use axum::{Extension, Router, body::Bytes, extract::Path, routing::post};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tandem_engine::CloudId;
use tandem_model::{Explain, PhysicalId, Recorded};
use tandem_store::{FileBlobs, MemoryStore, Store};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

use super::{BindError, Bound, Limits, Routes, serve};
use crate::{
    bucket::{self, Buckets},
    credential::{Credentials, Principal},
    dispatch::Dispatcher,
    endpoint::Endpoint,
    home::Home,
    resource::Resources,
    stock_clients,
    target::{CloudTarget, Providers},
};

/// A gateway in front of one router for Lambda.
struct Served {
    endpoint: Endpoint,
    credentials: Arc<Credentials>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

async fn served(lambda: Router) -> Served {
    served_within(lambda, Limits::of_this_process()).await
}

async fn served_within(lambda: Router, limits: Limits) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let bound = Bound::bind(&home).await.unwrap();
    let endpoint = bound.endpoint();
    let resources = Arc::new(Resources::default());
    resources.put(Recorded {
        urn: "urn:tandem:shop:dev:function:resize".parse().unwrap(),
        id: PhysicalId("resize".to_owned()),
        inputs: Default::default(),
        outputs: Default::default(),
        depends_on: Vec::new(),
    });
    let credentials = Arc::new(Credentials::open(&home, resources.clone()).unwrap());
    let blobs = FileBlobs::open(home.data(), tandem_model::ByteSize(0)).unwrap();
    let (outbox, _hints) = Dispatcher::outbox();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let buckets = Buckets::new(store.clone(), Arc::new(blobs), outbox, resources.clone(), endpoint);
    let target = CloudTarget::new(CloudId("test".to_owned()), store, resources, Providers::new());
    let s3 = bucket::http::service(Arc::new(buckets), credentials.clone(), Arc::new(target));
    let others = HashMap::from([("lambda", lambda)]);
    let routes = Routes {
        credentials: credentials.clone(),
        s3,
        others,
        registry: Router::new(),
        workflows: Router::new(),
        limits,
    };
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(bound, routes, stop.clone()));
    Served { endpoint, credentials, stop, serving, _folder: folder }
}

#[tokio::test]
async fn requests_of_other_services_are_verified_and_reach_their_router() {
    let echo = async |Path(name): Path<String>, Extension(who): Extension<Principal>, body: Bytes| {
        format!(r#"{{"who":"{who}","function":"{name}","bytes":{}}}"#, body.len())
    };
    let s = served(Router::new().route("/2015-03-31/functions/{name}/invocations", post(echo))).await;
    let environment = stock_clients::environment(s.endpoint, &s.credentials, "shop/dev");
    stock_clients::run(include_str!("other_services.py"), environment).await;
}

#[tokio::test]
async fn a_request_under_way_is_answered_when_the_gateway_stops() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let s = {
        let (begun, go_on) = (begun.clone(), go_on.clone());
        served(Router::new().fallback(move || async move {
            begun.notify_one();
            go_on.notified().await;
            "answered"
        }))
        .await
    };
    let stream = TcpStream::connect(s.endpoint.address()).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = signed_for_lambda(&s);
    let answer = tokio::spawn(async move { client.send_request(request).await });
    begun.notified().await;
    s.stop.cancel();
    // Nobody is let in any more, while the one who is in waits.
    while TcpStream::connect(s.endpoint.address()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    go_on.notify_one();
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "answered");
    tokio::time::timeout(Duration::from_secs(60), s.serving).await.unwrap().unwrap();
}

/// What comes until the gateway closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
    // One that is closed while it sends may be told so by a reset.
    let _ = read.expect("it closes in time");
    String::from_utf8_lossy(&rest).into_owned()
}

fn within(limits: Limits) -> impl Future<Output = Served> {
    served_within(Router::new().fallback(async || "answered"), limits)
}

#[tokio::test]
async fn a_client_that_does_not_end_a_head_is_cut_off() {
    let s = within(Limits { head: Duration::from_millis(100), ..Limits::of_this_process() }).await;
    for sent in ["", "GET / HTTP/1.1\r\nHost: "] {
        let mut stream = TcpStream::connect(s.endpoint.address()).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let rest = rest(&mut stream).await;
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 408"), "{rest}");
    }
}

#[tokio::test]
async fn a_client_that_stops_within_a_body_is_told_and_cut_off() {
    let s = within(Limits { body: Duration::from_millis(100), ..Limits::of_this_process() }).await;
    let mut stream = TcpStream::connect(s.endpoint.address()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\nAuthorization: AWS4-HMAC-SHA256 \
                Credential=A/20260101/us-east-1/lambda/aws4_request, SignedHeaders=host, Signature=00\r\n\r\nhalf";
    stream.write_all(head.as_bytes()).await.unwrap();
    let rest = rest(&mut stream).await;
    assert!(rest.starts_with("HTTP/1.1 400") && rest.contains("nothing of the body came"), "{rest}");
}

#[tokio::test]
async fn two_thousand_idle_connections_keep_nobody_out() {
    let s = within(Limits { connections: 500, ..Limits::of_this_process() }).await;
    let mut idle = Vec::new();
    for _ in 0..2000 {
        idle.push(TcpStream::connect(s.endpoint.address()).await.unwrap());
    }
    let stream = TcpStream::connect(s.endpoint.address()).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let answer = client.send_request(signed_for_lambda(&s)).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "answered");
    assert_eq!(rest(&mut idle[0]).await, "", "the longest idle went first");
    // And the newest is still there.
    let last = idle.pop().unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(last)).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(client.send_request(signed_for_lambda(&s)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn one_more_than_can_be_busy_is_closed_and_the_others_are_answered() {
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let s = {
        let (begun, go_on) = (begun.clone(), go_on.clone());
        let slow = Router::new().fallback(move || async move {
            begun.notify_one();
            go_on.notified().await;
            "answered"
        });
        served_within(slow, Limits { connections: 1, ..Limits::of_this_process() }).await
    };
    let stream = TcpStream::connect(s.endpoint.address()).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = signed_for_lambda(&s);
    let answer = tokio::spawn(async move { client.send_request(request).await });
    begun.notified().await;
    let mut more = TcpStream::connect(s.endpoint.address()).await.unwrap();
    assert_eq!(rest(&mut more).await, "");
    go_on.notify_one();
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "answered");
}

/// An empty `POST /` that Lambda's verification accepts.
fn signed_for_lambda(s: &Served) -> http::Request<http_body_util::Empty<Bytes>> {
    let principal = Principal::Operator { stack: "shop/dev".parse().unwrap() };
    let key = s.credentials.for_principal(&principal);
    let host = s.endpoint.address().to_string();
    let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let authorization = super::sigv4::authorization(
        "POST",
        "/",
        &[("host", &host), ("x-amz-date", &date)],
        b"",
        (&key.access_key_id, &key.secret_access_key),
        "lambda",
    );
    http::Request::post("/")
        .header("host", host)
        .header("x-amz-date", date)
        .header("authorization", authorization)
        .body(http_body_util::Empty::new())
        .unwrap()
}

#[tokio::test]
async fn the_address_of_the_first_start_stays() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let first = Bound::bind(&home).await.unwrap();
    let endpoint = first.endpoint();
    assert!(endpoint.url().starts_with("http://127.0.0.1:"));
    drop(first);
    assert_eq!(Bound::bind(&home).await.unwrap().endpoint(), endpoint);
}

#[tokio::test]
async fn an_address_that_is_taken_is_not_left_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let squatter = Bound::bind(&home).await.unwrap();
    let error = Bound::bind(&home).await.unwrap_err();
    assert!(matches!(&error, BindError::Taken { address, .. } if *address == squatter.endpoint().address()));
    assert!(error.help().contains(&squatter.endpoint().address().port().to_string()));
}

#[tokio::test]
async fn a_damaged_record_of_the_address_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    fs::write(home.address(), "somewhere").unwrap();
    assert!(matches!(Bound::bind(&home).await, Err(BindError::Damaged { path }) if path == home.address()));
}
