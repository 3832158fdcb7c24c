//! Sending blobs in: at once, in one stream, or in chunks.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};

use super::{
    super::{Digest, Registry, RegistryError, Repository, upload::Upload},
    Answer, parameter, value,
};

/// Begins an upload; with `digest`, takes all of it at once; with `mount`, takes nothing if the blob is here already.
pub(super) async fn begin(
    registry: &Registry,
    repository: &Repository,
    owner: &str,
    parts: &Parts,
    body: Body,
) -> Answer {
    if let Some(digest) = parameter(parts, "mount").and_then(|digest| digest.parse::<Digest>().ok())
        && registry.blob(&digest).await.is_ok()
    {
        return Ok(created(repository, &digest));
    }
    let digest = parameter(parts, "digest").map(|digest| digest.parse::<Digest>()).transpose()?;
    let upload = registry.begin_upload(repository, owner).await?;
    match digest {
        Some(digest) => complete(registry, repository, &upload, &digest, body, None).await,
        None => Ok(under_way(repository, &upload, 0, StatusCode::ACCEPTED)),
    }
}

pub(super) async fn status(registry: &Registry, repository: &Repository, id: &str, owner: &str) -> Answer {
    let upload = registry.upload(id, repository, owner)?;
    Ok(under_way(repository, &upload, upload.size().await?, StatusCode::NO_CONTENT))
}

pub(super) async fn patch(
    registry: &Registry,
    (repository, id, owner): (&Repository, &str, &str),
    parts: &Parts,
    body: Body,
) -> Answer {
    let upload = registry.upload(id, repository, owner)?;
    let from = beginning(parts)?;
    let size = registry.append_upload(&upload, body.into_data_stream(), from).await?;
    Ok(under_way(repository, &upload, size, StatusCode::ACCEPTED))
}

/// Takes the last of it, if there is something, and makes a blob of all that came.
pub(super) async fn finish(
    registry: &Registry,
    (repository, id, owner): (&Repository, &str, &str),
    parts: &Parts,
    body: Body,
) -> Answer {
    let upload = registry.upload(id, repository, owner)?;
    let digest = parameter(parts, "digest").ok_or_else(|| RegistryError::DigestInvalid {
        reason: "the digest of the blob is not said (`?digest=sha256:…`)".to_owned(),
    })?;
    let from = beginning(parts)?;
    complete(registry, repository, &upload, &digest.parse()?, body, from).await
}

pub(super) fn cancel(registry: &Registry, repository: &Repository, id: &str, owner: &str) -> Answer {
    let upload = registry.upload(id, repository, owner)?;
    registry.cancel_upload(&upload);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

async fn complete(
    registry: &Registry,
    repository: &Repository,
    upload: &Upload,
    digest: &Digest,
    body: Body,
    from: Option<u64>,
) -> Answer {
    let appended = registry.append_upload(upload, body.into_data_stream(), from).await;
    if let Err(error) = appended {
        // One that is out of order goes on where it is.
        if !matches!(error, RegistryError::OutOfOrder(_)) {
            registry.cancel_upload(upload);
        }
        return Err(error);
    }
    registry.finish_upload(upload, digest).await?;
    Ok(created(repository, digest))
}

fn created(repository: &Repository, digest: &Digest) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, value(&format!("/v2/{repository}/blobs/{digest}")));
    headers.insert("docker-content-digest", value(&digest.to_string()));
    response
}

fn under_way(repository: &Repository, upload: &Upload, size: u64, status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, value(&format!("/v2/{repository}/blobs/uploads/{}", upload.id)));
    headers.insert(header::RANGE, range(size));
    headers.insert("docker-upload-uuid", value(&upload.id));
    response
}

/// What is there: the first and the last byte. Nothing reads as `0-0`, as everyone has it.
pub(super) fn range(size: u64) -> HeaderValue {
    value(&format!("0-{}", size.saturating_sub(1)))
}

/// Where a chunk says that it begins: `Content-Range: <first>-<last>`, without a unit, as the spec has it. Its length must
/// be what that says.
fn beginning(parts: &Parts) -> Result<Option<u64>, RegistryError> {
    let Some(text) = parts.headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let text = text.to_str().unwrap_or_default();
    let numbers = text.strip_prefix("bytes ").unwrap_or(text).split_once('-');
    let numbers =
        numbers.and_then(|(a, b)| Some((a.parse::<u64>().ok()?, b.split('/').next()?.parse::<u64>().ok()?)));
    let Some((first, last)) = numbers.filter(|(first, last)| first <= last) else {
        return Err(RegistryError::UploadInvalid(format!("`{text}` is no range")));
    };
    let length =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length.checked_sub(1) != Some(last - first) => Err(RegistryError::UploadInvalid(
            format!("the chunk has {length} bytes, and its range says `{text}`"),
        )),
        _ => Ok(Some(first)),
    }
}
