//! A registry on this machine that does what it is told to: also badly.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::Response,
};
use futures::stream;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Whom it lets in.
#[derive(Debug, Clone)]
pub(crate) enum Doors {
    Open,
    /// `user:password`
    Basic(&'static str),
    /// A token for `user:password`, or for nobody in particular if there is none.
    Token(Option<&'static str>),
    /// A token for a refresh token.
    Refresh(&'static str),
}

/// How it answers badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Status(u16),
    /// 429, and when to come again, in seconds.
    Later(u16),
    /// Half of the bytes, and then the connection ends.
    Half,
    /// Half of the bytes, and then nothing.
    Silence,
    /// Other bytes of the same length.
    Other,
    /// All of the bytes, whatever part was asked for.
    All,
}

#[derive(Debug, Default)]
struct Shelf {
    blobs: HashMap<String, Bytes>,
    /// By tag and by digest: media type and bytes.
    manifests: HashMap<String, (String, Bytes)>,
    /// For paths that have this in them, so many times.
    faults: Vec<(&'static str, Fault, u32)>,
    /// Method, path and range of each request.
    requests: Vec<String>,
    /// Bytes of blobs that were sent.
    sent: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Registry {
    address: SocketAddr,
    doors: Doors,
    shelf: Arc<Mutex<Shelf>>,
}

const TOKEN: &str = "a-token-of-this-registry";

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(bytes)))
}

impl Registry {
    /// Serves until the test's runtime ends.
    pub(crate) async fn serve(doors: Doors) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Self { address: listener.local_addr().unwrap(), doors, shelf: Arc::default() };
        let app = axum::Router::new().fallback(answer).with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        registry
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The name of an image here.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/team/app{rest}", self.address)
    }

    /// Puts an image on the shelf and answers the digest of its manifest. Layers are plain tars.
    pub(crate) fn put(&self, tag: &str, architecture: &str, layers: &[Vec<u8>]) -> String {
        let kinds = ["manifest.v1+json", "config.v1+json", "layer.v1.tar"];
        self.put_as(tag, architecture, layers, kinds.map(|kind| format!("application/vnd.oci.image.{kind}")))
    }

    /// As `docker push` does it: in a format of its own, layers packed.
    pub(crate) fn put_by_docker(&self, tag: &str, layers: &[Vec<u8>]) -> String {
        let kinds =
            ["distribution.manifest.v2+json", "container.image.v1+json", "image.rootfs.diff.tar.gzip"];
        let kinds = kinds.map(|kind| format!("application/vnd.docker.{kind}"));
        self.put_as(tag, super::here().as_str(), layers, kinds)
    }

    fn put_as(&self, tag: &str, architecture: &str, layers: &[Vec<u8>], kinds: [String; 3]) -> String {
        let [manifest_kind, config_kind, layer_kind] = kinds;
        let ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let config = json!({
            "os": "linux", "architecture": architecture,
            "config": { "Cmd": ["/bin/sh"], "Env": ["MADE=elsewhere"] },
            "rootfs": { "type": "layers", "diff_ids": ids },
        });
        let config = config.to_string().into_bytes();
        let blobs: Vec<Vec<u8>> = match layer_kind.ends_with("gzip") {
            true => layers.iter().map(|layer| packed(layer)).collect(),
            false => layers.to_vec(),
        };
        let described = |bytes: &[u8], media_type: &str| json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() });
        let all: Vec<Value> = blobs.iter().map(|layer| described(layer, &layer_kind)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": manifest_kind,
            "config": described(&config, &config_kind), "layers": all,
        });
        for blob in blobs.iter().chain([&config]) {
            self.shelf.lock().unwrap().blobs.insert(digest(blob), blob.clone().into());
        }
        self.put_manifest(tag, &manifest_kind, &manifest)
    }

    /// Puts a list of images, by platform, on the shelf.
    pub(crate) fn put_index(&self, tag: &str, all: &[(&str, &str)]) -> String {
        let one = |(platform, digest): &(&str, &str)| {
            let (os, architecture) = platform.split_once('/').unwrap();
            let size = self.shelf.lock().unwrap().manifests[*digest].1.len();
            json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
                "platform": { "os": os, "architecture": architecture },
            })
        };
        let kind = "application/vnd.oci.image.index.v1+json";
        let all: Vec<Value> = all.iter().map(one).collect();
        self.put_manifest(tag, kind, &json!({ "schemaVersion": 2, "mediaType": kind, "manifests": all }))
    }

    pub(crate) fn put_manifest(&self, tag: &str, media_type: &str, manifest: &Value) -> String {
        let bytes = Bytes::from(manifest.to_string());
        let digest = digest(&bytes);
        let mut shelf = self.shelf.lock().unwrap();
        for name in [tag, &digest] {
            shelf.manifests.insert(name.to_owned(), (media_type.to_owned(), bytes.clone()));
        }
        digest
    }

    /// Answers so, the next so many times, to paths with `part` in them.
    pub(crate) fn fail(&self, part: &'static str, fault: Fault, times: u32) {
        self.shelf.lock().unwrap().faults.push((part, fault, times));
    }

    /// What was asked for since this was asked last.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.shelf.lock().unwrap().requests)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.shelf.lock().unwrap().sent
    }

    fn fault(&self, path: &str) -> Option<Fault> {
        let mut shelf = self.shelf.lock().unwrap();
        let found = shelf.faults.iter_mut().find(|(part, _, times)| path.contains(part) && *times > 0)?;
        found.2 -= 1;
        Some(found.1)
    }

    fn lets_in(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        match self.doors {
            Doors::Open => true,
            Doors::Basic(known) => given == Some(&basic(known)),
            Doors::Token(_) | Doors::Refresh(_) => given == Some(&format!("Bearer {TOKEN}")),
        }
    }

    /// What the token service says.
    async fn token(&self, request: Request) -> Response {
        let given = request.headers().get(header::AUTHORIZATION);
        let given = given.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let query = request.uri().query().unwrap_or_default().to_owned();
        let method = request.method().clone();
        let body = axum::body::to_bytes(request.into_body(), 1 << 16).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        let for_this = |text: &str| {
            text.contains("scope=repository%3Ateam%2Fapp%3Apull") && text.contains("service=here")
        };
        let right = match self.doors {
            Doors::Token(Some(known)) => given == Some(basic(known)) && for_this(&query),
            Doors::Token(None) => given.is_none() && for_this(&query),
            Doors::Refresh(token) => {
                method == Method::POST && for_this(&body) && body.contains(&format!("refresh_token={token}"))
            }
            _ => false,
        };
        match right {
            true => plain(StatusCode::OK, json!({ "token": TOKEN, "expires_in": 300 }).to_string()),
            false => {
                plain(StatusCode::UNAUTHORIZED, "{\"details\":\"incorrect username or password\"}".to_owned())
            }
        }
    }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, bytes).unwrap();
    packed.finish().unwrap()
}

fn basic(known: &str) -> String {
    format!("Basic {}", data_encoding::BASE64.encode(known.as_bytes()))
}

fn plain(status: StatusCode, text: String) -> Response {
    Response::builder().status(status).body(Body::from(text)).unwrap()
}

async fn answer(State(registry): State<Registry>, request: Request) -> Result<Response, Infallible> {
    let path = request.uri().path().to_owned();
    let range = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let line = format!("{} {path} {}", request.method(), range.as_deref().unwrap_or_default());
    registry.shelf.lock().unwrap().requests.push(line.trim().to_owned());
    let fault = registry.fault(&path);
    match fault {
        Some(Fault::Status(status)) => {
            let status = StatusCode::from_u16(status).unwrap();
            return Ok(plain(status, format!("told to answer {}", status.as_u16())));
        }
        Some(Fault::Later(seconds)) => {
            let later = Response::builder().status(429).header(header::RETRY_AFTER, seconds);
            return Ok(later.body(Body::empty()).unwrap());
        }
        _ => {}
    }
    if path == "/token" {
        return Ok(registry.token(request).await);
    }
    if !registry.lets_in(request.headers()) {
        let challenge = match registry.doors {
            Doors::Basic(_) => "Basic realm=\"here\"".to_owned(),
            _ => format!("Bearer realm=\"http://{}/token\",service=\"here\"", registry.address),
        };
        let refused = Response::builder().status(401).header(header::WWW_AUTHENTICATE, challenge);
        return Ok(refused.body(Body::empty()).unwrap());
    }
    if path == "/v2/" {
        return Ok(plain(StatusCode::OK, "{}".to_owned()));
    }
    if let Some(name) = path.strip_prefix("/v2/team/app/manifests/") {
        let found = registry.shelf.lock().unwrap().manifests.get(name).cloned();
        return Ok(match found {
            Some((media_type, bytes)) => {
                Response::builder().header(header::CONTENT_TYPE, media_type).body(Body::from(bytes)).unwrap()
            }
            None => plain(
                StatusCode::NOT_FOUND,
                "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest unknown\"}]}".to_owned(),
            ),
        });
    }
    let blob = path
        .strip_prefix("/v2/team/app/blobs/")
        .and_then(|digest| registry.shelf.lock().unwrap().blobs.get(digest).cloned());
    Ok(match blob {
        Some(bytes) => registry.blob(bytes, range.as_deref(), fault),
        None => plain(StatusCode::NOT_FOUND, "no such thing".to_owned()),
    })
}

impl Registry {
    fn blob(&self, bytes: Bytes, range: Option<&str>, fault: Option<Fault>) -> Response {
        let from =
            range.and_then(|text| text.strip_prefix("bytes=")?.trim_end_matches('-').parse::<usize>().ok());
        let from = from.filter(|_| fault != Some(Fault::All));
        let whole = bytes.len();
        let bytes = match fault {
            Some(Fault::Other) => Bytes::from(vec![b'!'; whole]),
            _ => bytes,
        };
        let rest = bytes.slice(from.unwrap_or(0)..);
        let mut response = Response::builder().header(header::CONTENT_LENGTH, rest.len());
        if let Some(from) = from {
            let range = format!("bytes {from}-{}/{whole}", whole - 1);
            response = response.status(206).header(header::CONTENT_RANGE, range);
        }
        let shelf = self.shelf.clone();
        // In pieces, so that what was sent is known.
        let piece = 16 << 10;
        let end =
            if matches!(fault, Some(Fault::Half | Fault::Silence)) { rest.len() / 2 } else { rest.len() };
        let pieces = stream::unfold(0, move |at| {
            let (rest, shelf) = (rest.clone(), shelf.clone());
            async move {
                if at < end {
                    let to = (at + piece).min(end);
                    shelf.lock().unwrap().sent += (to - at) as u64;
                    return Some((Ok(rest.slice(at..to)), to));
                }
                match fault {
                    Some(Fault::Silence) => std::future::pending().await,
                    Some(Fault::Half) if at < rest.len() => {
                        // What was sent before is on its way.
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                        Some((Err(std::io::Error::other("told to break off")), rest.len()))
                    }
                    _ => None,
                }
            }
        });
        response.body(Body::from_stream(pieces)).unwrap()
    }
}
