//! Reading blobs.

use std::ops::Range;

use axum::body::Body;
use http::{Method, Response, StatusCode, header, request::Parts};

use super::{
    super::{Digest, Registry, RegistryError},
    Answer, value,
};

pub(super) async fn get(registry: &Registry, digest: &Digest, parts: &Parts) -> Answer {
    // Who asks only whether it is here is about to push what needs it.
    let size = match parts.method == Method::HEAD {
        true => registry.blob(digest).await?,
        false => registry.size(digest).await?,
    };
    let asked = parts.headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let range = match asked {
        Some(text) => asked_range(text, size)?,
        None => None,
    };
    let (status, part) = match &range {
        Some(range) => (StatusCode::PARTIAL_CONTENT, range.clone()),
        None => (StatusCode::OK, 0..size),
    };
    let length = part.end - part.start;
    let body = match parts.method == Method::HEAD {
        true => Body::empty(),
        false => Body::from_stream(registry.read(digest, part.clone()).await?),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CONTENT_TYPE, value("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, value("bytes"));
    headers.insert(header::ETAG, value(&format!("\"{digest}\"")));
    headers.insert("docker-content-digest", value(&digest.to_string()));
    if range.is_some() {
        let said = format!("bytes {}-{}/{size}", part.start, part.end.saturating_sub(1));
        headers.insert(header::CONTENT_RANGE, value(&said));
    }
    Ok(response)
}

pub(super) async fn delete(registry: &Registry, digest: &Digest) -> Answer {
    registry.delete_blob(digest).await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

/// One range of bytes, RFC 9110, 14.1.2. What is none, or more than one, is answered with the whole.
fn asked_range(text: &str, size: u64) -> Result<Option<Range<u64>>, RegistryError> {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let range = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..size,
        (Err(_), Ok(last)) if first.trim().is_empty() && last > 0 => size.saturating_sub(last)..size,
        _ => return Ok(None),
    };
    match range.start < range.end {
        true => Ok(Some(range)),
        false => Err(RegistryError::RangeInvalid(size)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_has_them() {
        let of = |text: &str| asked_range(text, 10).map_err(|e| e.to_string());
        assert_eq!(of("bytes=0-3"), Ok(Some(0..4)));
        assert_eq!(of("bytes=5-"), Ok(Some(5..10)));
        assert_eq!(of("bytes=-3"), Ok(Some(7..10)));
        assert_eq!(of("bytes=5-100"), Ok(Some(5..10)));
        for whole in ["bytes=3-1", "bytes=a-b", "items=1-2", "bytes=1-2,4-5"] {
            assert_eq!(of(whole), Ok(None), "{whole}");
        }
        assert!(of("bytes=10-").is_err() && of("bytes=10-12").is_err());
        assert!(asked_range("bytes=0-", 0).is_err());
    }
}
