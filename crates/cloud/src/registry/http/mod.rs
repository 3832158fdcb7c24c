//! The wire protocol: OCI distribution spec 1.1, under `/v2/` of the cloud's one address.
//!
//! Paths are read by hand: the name of a repository has slashes, so what is asked for is known by a path's end. No bucket
//! can be called `v2` (S3 wants three letters), so nothing of S3 is hidden.
//!
//! Every request is authenticated (HTTP Basic): with the keys that `tandem env` prints. Images belong to the cloud and not
//! to a stack, as the image store does; functions, tasks and services have no access (I8).

mod blobs;
mod manifests;
mod path;
mod uploads;

use std::sync::Arc;

use axum::{Router, body::Body, extract::State};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use serde_json::json;

use self::path::Target;
use super::{Registry, RegistryError};
use crate::credential::{Credentials, Holder, Principal};

type Answer = Result<Response<Body>, RegistryError>;

/// Answers clients.
pub fn router(registry: Arc<Registry>, credentials: Arc<Credentials>) -> Router {
    Router::new().fallback(answer).with_state(Service { registry, credentials })
}

#[derive(Clone)]
struct Service {
    registry: Arc<Registry>,
    credentials: Arc<Credentials>,
}

async fn answer(State(service): State<Service>, request: Request<Body>) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let head = method == Method::HEAD;
    let answer = service.serve(request).await;
    let mut response = answer.unwrap_or_else(|error| {
        match error.status() {
            status if status.is_server_error() => {
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::warn!(%method, path, %error, source, "cannot answer a request for images");
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                tracing::info!(service = "registry", %method, path, "refused a request");
            }
            _ => {}
        }
        refused(&error, head)
    });
    response
        .headers_mut()
        .insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    response
}

impl Service {
    async fn serve(&self, request: Request<Body>) -> Answer {
        let owner = self.authenticate(request.headers())?;
        let path = request.uri().path().replace("%3A", ":").replace("%3a", ":");
        let target = path::parse(&path)?;
        let registry = &*self.registry;
        let (parts, body) = request.into_parts();
        match (parts.method.clone(), target) {
            (Method::GET | Method::HEAD, Target::Version) => Ok(json_of(&json!({}))),
            (Method::GET, Target::Catalog) => manifests::catalog(registry, &parts).await,
            (Method::GET, Target::Tags(repository)) => manifests::tags(registry, &repository, &parts).await,
            (Method::GET, Target::Referrers(repository, digest)) => {
                manifests::referrers(registry, &repository, &digest, &parts)
            }
            (Method::GET | Method::HEAD, Target::Manifest(repository, reference)) => {
                manifests::get(registry, &repository, &reference, parts.method == Method::HEAD).await
            }
            (Method::PUT, Target::Manifest(repository, reference)) => {
                // A client that goes away must not leave an import halfway.
                let registry = self.registry.clone();
                let put =
                    async move { manifests::put(&registry, &repository, &reference, parts, body).await };
                finished(tokio::spawn(put)).await
            }
            (Method::DELETE, Target::Manifest(repository, reference)) => {
                let registry = self.registry.clone();
                let delete = async move { manifests::delete(&registry, &repository, &reference).await };
                finished(tokio::spawn(delete)).await
            }
            (Method::GET | Method::HEAD, Target::Blob(digest)) => blobs::get(registry, &digest, &parts).await,
            (Method::DELETE, Target::Blob(digest)) => blobs::delete(registry, &digest).await,
            (Method::POST, Target::Uploads(repository)) => {
                uploads::begin(registry, &repository, &owner, &parts, body).await
            }
            (Method::GET, Target::Upload(repository, id)) => {
                uploads::status(registry, &repository, &id, &owner).await
            }
            (Method::PATCH, Target::Upload(repository, id)) => {
                uploads::patch(registry, (&repository, &id, &owner), &parts, body).await
            }
            (Method::PUT, Target::Upload(repository, id)) => {
                uploads::finish(registry, (&repository, &id, &owner), &parts, body).await
            }
            (Method::DELETE, Target::Upload(repository, id)) => {
                uploads::cancel(registry, &repository, &id, &owner)
            }
            _ => Err(RegistryError::Unsupported),
        }
    }

    /// Who asks, as one word.
    fn authenticate(&self, headers: &HeaderMap) -> Result<String, RegistryError> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let encoded = given.and_then(|value| {
            let (scheme, rest) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("basic").then(|| rest.trim())
        });
        let decoded = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
        let text =
            decoded.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(RegistryError::Unauthorized)?;
        let (id, secret) = text.split_once(':').ok_or(RegistryError::Unauthorized)?;
        match self.credentials.holder(id, secret) {
            Some(Holder::Images) => Ok("images".to_owned()),
            Some(Holder::Principal(principal @ Principal::Operator { .. })) => Ok(principal.to_string()),
            Some(Holder::Principal(Principal::Resource { .. })) => Err(RegistryError::Denied),
            None => Err(RegistryError::Unauthorized),
        }
    }
}

async fn finished(work: tokio::task::JoinHandle<Answer>) -> Answer {
    work.await.unwrap_or_else(|stopped| Err(RegistryError::Io(std::io::Error::other(stopped))))
}

/// The spec's form of an error.
fn refused(error: &RegistryError, head: bool) -> Response<Body> {
    let detail = match error {
        RegistryError::BlobUnknown(digest) | RegistryError::ManifestBlobUnknown(digest) => {
            json!({ "digest": digest.to_string() })
        }
        _ => serde_json::Value::Null,
    };
    let one = json!({ "code": error.wire_code(), "message": error.message(), "detail": detail });
    let mut response = json_of(&json!({ "errors": [one] }));
    *response.status_mut() = error.status();
    if head {
        *response.body_mut() = Body::empty();
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let headers = response.headers_mut();
    match error {
        RegistryError::Unauthorized => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"tandem\""));
        }
        RegistryError::OutOfOrder(size) => {
            headers.insert(header::RANGE, uploads::range(*size));
        }
        RegistryError::RangeInvalid(size) => {
            headers.insert(header::CONTENT_RANGE, value(&format!("bytes */{size}")));
        }
        _ => {}
    }
    response
}

fn json_of(content: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(content.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A header of characters that are legal in one.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("names, digests and numbers are legal in a header")
}

/// A parameter of the query.
fn parameter(parts: &Parts, name: &str) -> Option<String> {
    let query = parts.uri.query()?;
    let mut all = form_urlencoded::parse(query.as_bytes());
    all.find(|(one, _)| one == name).map(|(_, value)| value.into_owned())
}
