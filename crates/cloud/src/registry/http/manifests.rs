//! Manifests, tags, lists.

use axum::body::Body;
use http::{Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::json;

use super::{
    super::{
        Digest, Reference, Registry, RegistryError, Repository,
        listing::Page,
        manifest::{LARGEST, OCI_INDEX},
    },
    Answer, json_of, parameter, value,
};

pub(super) async fn get(
    registry: &Registry,
    repository: &Repository,
    reference: &Reference,
    head: bool,
) -> Answer {
    let found = registry.find(repository, reference).await?;
    let body = match head {
        true => Body::empty(),
        false => Body::from_stream(registry.read(&found.digest, 0..found.size).await?),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let media_type = http::HeaderValue::from_str(&found.media_type);
    headers.insert(header::CONTENT_TYPE, media_type.unwrap_or_else(|_| value("application/json")));
    headers.insert(header::CONTENT_LENGTH, found.size.into());
    headers.insert(header::ETAG, value(&format!("\"{}\"", found.digest)));
    headers.insert("docker-content-digest", value(&found.digest.to_string()));
    Ok(response)
}

pub(super) async fn put(
    registry: &Registry,
    repository: &Repository,
    reference: &Reference,
    parts: Parts,
    body: Body,
) -> Answer {
    let media_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    // What follows a semicolon is the character set.
    let media_type = media_type.and_then(|text| text.split(';').next()).map(str::trim);
    let content = match Limited::new(body, LARGEST).collect().await {
        Ok(content) => content.to_bytes().to_vec(),
        Err(error) if error.is::<LengthLimitError>() => return Err(RegistryError::ManifestTooLarge),
        Err(error) => return Err(RegistryError::ManifestInvalid(format!("it ended early: {error}"))),
    };
    let (digest, subject) = registry.put_manifest(repository, reference, content, media_type).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, value(&format!("/v2/{repository}/manifests/{digest}")));
    headers.insert("docker-content-digest", value(&digest.to_string()));
    if let Some(subject) = subject {
        headers.insert("oci-subject", value(&subject.to_string()));
    }
    Ok(response)
}

pub(super) async fn delete(registry: &Registry, repository: &Repository, reference: &Reference) -> Answer {
    registry.delete_manifest(repository, reference).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

pub(super) async fn catalog(registry: &Registry, parts: &Parts) -> Answer {
    let (most, last) = paging(parts)?;
    let page = registry.catalog(most, last.as_deref()).await?;
    Ok(paged("/v2/_catalog", most, &page, &json!({ "repositories": page.names })))
}

pub(super) async fn tags(registry: &Registry, repository: &Repository, parts: &Parts) -> Answer {
    let (most, last) = paging(parts)?;
    let page = registry.tags(repository, most, last.as_deref()).await?;
    let body = json!({ "name": repository.to_string(), "tags": page.names });
    Ok(paged(&format!("/v2/{repository}/tags/list"), most, &page, &body))
}

pub(super) fn referrers(
    registry: &Registry,
    repository: &Repository,
    subject: &Digest,
    parts: &Parts,
) -> Answer {
    let kind = parameter(parts, "artifactType");
    let mut response = json_of(&registry.referrers(repository, subject, kind.as_deref())?);
    response.headers_mut().insert(header::CONTENT_TYPE, value(OCI_INDEX));
    if kind.is_some() {
        response.headers_mut().insert("oci-filters-applied", value("artifactType"));
    }
    Ok(response)
}

fn paging(parts: &Parts) -> Result<(Option<usize>, Option<String>), RegistryError> {
    let most = parameter(parts, "n").map(|n| n.parse::<usize>()).transpose();
    let most = most.map_err(|_| RegistryError::PageInvalid("`n` is a number of names, from 0 on"))?;
    Ok((most, parameter(parts, "last")))
}

fn paged(path: &str, most: Option<usize>, page: &Page, body: &serde_json::Value) -> Response<Body> {
    let mut response = json_of(body);
    if let (true, Some(most), Some(last)) = (page.more, most, page.names.last()) {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("n", &most.to_string())
            .append_pair("last", last)
            .finish();
        response.headers_mut().insert(header::LINK, value(&format!("<{path}?{query}>; rel=\"next\"")));
    }
    response
}
