//! The cloud's HTTP client: one request, one answer, within bounds.

use std::{
    collections::BTreeMap,
    error::Error as _,
    net::IpAddr,
    sync::{Once, OnceLock},
    time::Duration,
};

use reqwest::{Client, Method, Response, Url};
use tokio::sync::Semaphore;

/// The longest content of an answer, in bytes.
const LARGEST: usize = 1 << 20;
/// How many requests are made at once. The others wait, and what waits for a poll does not count.
const AT_ONCE: usize = 64;
const CONNECT: Duration = Duration::from_secs(20);

/// A request. Names of headers are in lower case.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outgoing {
    pub(super) method: String,
    pub(super) uri: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) content: Option<String>,
}

/// An answer, whatever its status. Names of headers are in lower case; several of one name are one, with commas.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) content: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unanswered {
    pub(super) reason: String,
    pub(super) help: String,
}

impl Unanswered {
    fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), help: String::new() }
    }
}

/// Makes requests. Connections are kept for a while.
pub(super) struct Web {
    /// To this machine no proxy leads.
    near: OnceLock<Client>,
    far: OnceLock<Client>,
    room: Semaphore,
    patience: Duration,
}

impl Web {
    /// `patience` is how long an answer may take, its content included.
    pub(super) fn new(patience: Duration) -> Self {
        let room = Semaphore::new(AT_ONCE);
        Self { near: OnceLock::new(), far: OnceLock::new(), room, patience }
    }

    /// Makes a request. Redirections are followed.
    ///
    /// # Errors
    /// [`Unanswered`]: it cannot be made, nobody answered in time, or the content is longer than 1 MiB.
    pub(super) async fn send(&self, outgoing: &Outgoing) -> Result<Answer, Unanswered> {
        let url = Url::parse(&outgoing.uri)
            .ok()
            .filter(|url| ["http", "https"].contains(&url.scheme()))
            .ok_or_else(|| Unanswered::new("the address does not begin with http:// or https://"))?;
        let method = Method::from_bytes(outgoing.method.to_ascii_uppercase().as_bytes())
            .map_err(|_| Unanswered::new("that is no method of HTTP"))?;
        let _room = self.room.acquire().await.map_err(|_| Unanswered::new("the cloud stops"))?;
        let mut request = self.client(&url)?.request(method, url).timeout(self.patience);
        for (name, value) in &outgoing.headers {
            request = request.header(name, value);
        }
        if let Some(content) = &outgoing.content {
            request = request.body(content.clone());
        }
        let response = request.send().await.map_err(|error| self.unanswered(&error))?;
        self.read(response).await
    }

    fn client(&self, url: &Url) -> Result<&Client, Unanswered> {
        let near = is_near(url.host_str().unwrap_or_default());
        let kept = if near { &self.near } else { &self.far };
        if let Some(client) = kept.get() {
            return Ok(client);
        }
        static PROVIDER: Once = Once::new();
        // Whoever was first wins: pulling images installs the same one.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let builder = Client::builder().connect_timeout(CONNECT).user_agent("tandem");
        let builder = if near { builder.no_proxy() } else { builder };
        let client = builder.build().map_err(|error| {
            Unanswered::new(format!("no connection can be made from here: {}", innermost(&error)))
        })?;
        Ok(kept.get_or_init(|| client))
    }

    async fn read(&self, mut response: Response) -> Result<Answer, Unanswered> {
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in response.headers() {
            let value = String::from_utf8_lossy(value.as_bytes());
            headers
                .entry(name.as_str().to_owned())
                .and_modify(|known| {
                    known.push_str(", ");
                    known.push_str(&value);
                })
                .or_insert_with(|| value.clone().into_owned());
        }
        let status = response.status().as_u16();
        let mut content = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unanswered(&error))? {
            content.extend_from_slice(&chunk);
            if content.len() > LARGEST {
                return Err(Unanswered {
                    reason: "the content of the answer is longer than 1 MiB".to_owned(),
                    help: "make the request in an activity, and keep what it answers in a bucket".to_owned(),
                });
            }
        }
        Ok(Answer { status, headers, content: String::from_utf8_lossy(&content).into_owned() })
    }

    fn unanswered(&self, error: &reqwest::Error) -> Unanswered {
        Unanswered::new(match error.is_timeout() {
            true => format!("no answer within {} s", self.patience.as_secs_f64()),
            false => innermost(error),
        })
    }
}

fn is_near(host: &str) -> bool {
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// The cause of all: the others only name the address once more.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    // A wrong header has no deeper cause.
    if error.source().is_none() { error.to_string() } else { cause.to_string() }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, http::StatusCode, routing::get};

    use super::*;

    async fn served() -> String {
        let router = Router::new()
            .route("/big", get(|| async { "x".repeat(LARGEST + 1) }))
            .route("/most", get(|| async { "x".repeat(LARGEST) }))
            .route("/never", get(|| async { std::future::pending::<Body>().await }))
            .route("/teapot", get(|| async { (StatusCode::IM_A_TEAPOT, [("x-own", "1")], "short") }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        at
    }

    async fn get_from(web: &Web, uri: String) -> Result<Answer, String> {
        let outgoing = Outgoing { method: "get".into(), uri, headers: BTreeMap::new(), content: None };
        web.send(&outgoing).await.map_err(|wrong| wrong.reason)
    }

    #[tokio::test]
    async fn an_answer_is_told_whatever_its_status_and_one_that_is_too_long_or_never_comes_is_an_error() {
        let (at, web) = (served().await, Web::new(Duration::from_millis(300)));
        let told = get_from(&web, format!("{at}/teapot")).await.unwrap();
        assert_eq!((told.status, told.content.as_str()), (418, "short"));
        assert_eq!(told.headers["x-own"], "1");
        let long = Web::new(Duration::from_secs(30));
        assert_eq!(get_from(&long, format!("{at}/most")).await.unwrap().content.len(), LARGEST);
        let big = get_from(&long, format!("{at}/big")).await.unwrap_err();
        assert_eq!(big, "the content of the answer is longer than 1 MiB");
        assert_eq!(get_from(&web, format!("{at}/never")).await.unwrap_err(), "no answer within 0.3 s");
        let refused = get_from(&web, "http://127.0.0.1:1/".to_owned()).await.unwrap_err();
        assert!(refused.to_lowercase().contains("refused"), "{refused}");
        let other = get_from(&web, "ftp://a.test/".to_owned()).await.unwrap_err();
        assert!(other.contains("http://"), "{other}");
    }
}
