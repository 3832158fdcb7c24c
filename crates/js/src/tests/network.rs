use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// Answers one HTTP request with a text.
async fn server(text: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let read = stream.read(&mut request).await.unwrap();
        assert!(request[..read].starts_with(b"GET /path"));
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nx-a: b\r\n\r\n", text.len());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
    });
    port
}

async fn answer(body: &str, event: Value) -> Result<Value, ProgramError> {
    let source = format!(
        "const cloud = require('@tandem/cloud'); new cloud.Function('f', async (event) => {{ {body} }});"
    );
    invoke(&source, event).await
}

#[tokio::test]
async fn fetch_reads_a_response() {
    let port = server("{\"n\": 1}").await;
    let body = "const r = await fetch(`http://127.0.0.1:${event}/path`); return [r.status, r.headers.get('x-a'), (await r.json()).n];";
    assert_eq!(answer(body, json!(port)).await.unwrap(), json!([200, "b", 1]));
}

#[tokio::test]
async fn a_refused_connection_is_an_error_of_the_handler() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = answer("await fetch(`http://127.0.0.1:${event}/`);", json!(port)).await.unwrap_err();
    assert_eq!(error.code, "E0501");
}
