//! Uploads by a form in a browser: `POST` of `multipart/form-data` to a bucket.
//!
//! `s3s` has this too, but gathers the whole file in memory, also of who may not upload, takes a form only for fifteen
//! minutes after it was signed, and leaves `${filename}` as it is. So it is done here, before `s3s`: the fields in front of
//! the file are read and bounded, their policy is verified and judged, and then the file streams like any other body.
//! What comes behind the file is ignored, as S3 does.
//!
//! Source: Amazon S3 API reference, "Browser-based uploads using POST" and "POST policy".

mod policy;
mod signature;

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderValue, Method, Response, StatusCode, header};
use multer::{Field, Multipart};
use s3s::{Body, HttpRequest, HttpResponse, S3Error, S3ErrorCode, S3Result, s3_error};

use super::{
    access::may_reach,
    configuration::check_acl,
    error::{unsupported, wire},
    front::Front,
    input::{check_metadata, content_encoding, traceparent, url_encode},
};
use crate::bucket::{Algorithm, BucketError, Checksum, Claims, Description, Means, Object, PutOptions};
use policy::Policy;

/// S3's limit of what comes before the file, in bytes.
const FIELDS_LIMIT: usize = 20 << 10;
const MOST_FIELDS: usize = 100;
/// The largest object that is put at once.
const FILE_LIMIT: u64 = 5 << 30;

/// The fields before the file, by their names in lower case.
type Fields = BTreeMap<String, String>;

/// Whether a request is such a form.
pub(super) fn is_form(request: &HttpRequest) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_form = |kind: &str| kind.trim_start().to_ascii_lowercase().starts_with("multipart/form-data");
    request.method() == Method::POST && kind.is_some_and(is_form)
}

impl Front {
    /// Puts what a form brings.
    pub(super) async fn upload(&self, request: HttpRequest) -> HttpResponse {
        let uploaded = Box::pin(self.take(request)).await;
        let answer = uploaded.or_else(|error: S3Error| error.to_http_response());
        answer.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot answer a form");
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            answer
        })
    }

    async fn take(&self, request: HttpRequest) -> S3Result<HttpResponse> {
        let (parts, body) = request.into_parts();
        let mut path = parts.uri.path().trim_matches('/').split('/');
        let (Some(bucket), None) = (path.next().filter(|bucket| !bucket.is_empty()), path.next()) else {
            return Err(s3_error!(MethodNotAllowed, "a form is posted to a bucket"));
        };
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let boundary = multer::parse_boundary(kind.unwrap_or_default()).map_err(malformed)?;
        let mut form = Multipart::new(body, boundary);
        let (mut fields, file) = fields(&mut form).await?;
        fields.insert("bucket".to_owned(), bucket.to_owned());
        let key = fields.get("key").filter(|key| !key.is_empty());
        let key =
            key.ok_or_else(|| s3_error!(UserKeyMustBeSpecified, "a form has a field `key` before its file"))?;
        let key = key.replace("${filename}", &base_name(file.file_name().unwrap_or_default()));
        fields.insert("key".to_owned(), key.clone());

        let encoded =
            fields.get("policy").ok_or_else(|| s3_error!(AccessDenied, "the form is not signed"))?;
        let principal = signature::verify(&fields, encoded, &self.credentials)?;
        let policy = Policy::parse(encoded)?;
        policy.judge(&fields, jiff::Timestamp::now())?;
        may_reach(&principal, bucket, &self.buckets)?;

        let options = PutOptions {
            means: Means::Post,
            description: description(&fields)?,
            traceparent: traceparent(&parts.headers),
            ..PutOptions::default()
        };
        let (least, most) = policy.length();
        let checksum = checksum(&fields);
        let algorithm = checksum.as_ref().map_or(Algorithm::DEFAULT, |checksum| checksum.algorithm);
        let counted = Counted { read: std::sync::atomic::AtomicU64::new(0) };
        let claims = || match counted.total() {
            total if total < least => Err(BucketError::TooSmall { size: total, least }),
            _ => Ok(Claims { checksum, ..Claims::default() }),
        };
        let body = counted.bounded(file, most.min(FILE_LIMIT));
        let put = self.buckets.put_checked(bucket, &key, body, &[algorithm], claims, &options).await;
        let object = put.map_err(|error| match error {
            BucketError::Body(cause) => match cause.downcast_ref::<BucketError>() {
                Some(BucketError::TooLarge { limit }) => wire(BucketError::TooLarge { limit: *limit }),
                _ => s3_error!(IncompleteBody, "the form ended before its file did"),
            },
            error => wire(error),
        })?;
        answer(&fields, &self.buckets.endpoint.url(), bucket, &key, &object)
    }
}

fn malformed(error: multer::Error) -> S3Error {
    let mut answer = S3Error::with_message(
        S3ErrorCode::MalformedPOSTRequest,
        format!("the body is not well-formed multipart/form-data: {error}"),
    );
    answer.set_status_code(StatusCode::BAD_REQUEST);
    answer
}

/// Reads up to the file.
async fn fields(form: &mut Multipart<'static>) -> S3Result<(Fields, Field<'static>)> {
    let mut fields = Fields::new();
    let mut left = FIELDS_LIMIT;
    while let Some(mut field) = form.next_field().await.map_err(malformed)? {
        let name = field.name().unwrap_or_default().to_ascii_lowercase();
        if name == "file" {
            return Ok((fields, field));
        }
        let mut value = Vec::new();
        while let Some(chunk) = field.chunk().await.map_err(malformed)? {
            value.extend_from_slice(&chunk);
            if value.len() + name.len() > left || fields.len() >= MOST_FIELDS {
                return Err(s3_error!(
                    MaxPostPreDataLengthExceededError,
                    "what comes before the file has at most {FIELDS_LIMIT} bytes and {MOST_FIELDS} fields"
                ));
            }
        }
        left -= (value.len() + name.len()).min(left);
        let value = String::from_utf8(value)
            .map_err(|_| s3_error!(InvalidArgument, "the field `{name}` is not UTF-8"))?;
        fields.insert(name, value);
    }
    Err(s3_error!(IncorrectNumberOfFilesInPostRequest, "a form has exactly one file, in a field `file`"))
}

/// The last part of what a browser says the file is called: some send its whole path.
fn base_name(name: &str) -> String {
    name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned()
}

fn description(fields: &Fields) -> S3Result<Description> {
    let class = fields.get("x-amz-storage-class").map(String::as_str);
    unsupported(&[
        ("a storage class other than STANDARD", !matches!(class, None | Some("STANDARD"))),
        ("x-amz-server-side-encryption", fields.keys().any(|name| name.starts_with("x-amz-server-side"))),
        ("x-amz-object-lock-…", fields.keys().any(|name| name.starts_with("x-amz-object-lock-"))),
        ("x-amz-website-redirect-location", fields.contains_key("x-amz-website-redirect-location")),
        ("the field `tagging` of a form", fields.contains_key("tagging")),
    ])?;
    check_acl(fields.get("acl").map(String::as_str), None, false)?;
    let metadata: std::collections::HashMap<String, String> = fields
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("x-amz-meta-")?.to_owned(), value.clone())))
        .collect();
    check_metadata(Some(&metadata))?;
    Ok(Description {
        content_type: fields.get("content-type").cloned(),
        content_encoding: content_encoding(fields.get("content-encoding").map(String::as_str)),
        content_language: fields.get("content-language").cloned(),
        content_disposition: fields.get("content-disposition").cloned(),
        cache_control: fields.get("cache-control").cloned(),
        metadata: metadata.into_iter().collect(),
        ..Description::default()
    })
}

fn checksum(fields: &Fields) -> Option<Checksum> {
    Algorithm::ALL.into_iter().find_map(|algorithm| {
        let value = fields.get(&format!("x-amz-checksum-{}", algorithm.name().to_ascii_lowercase()))?.clone();
        Some(Checksum { algorithm, value, composite: false })
    })
}

/// Counts the bytes of a file as they pass.
struct Counted {
    read: std::sync::atomic::AtomicU64,
}

impl Counted {
    fn total(&self) -> u64 {
        self.read.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The file, which ends with an error behind so many bytes.
    fn bounded<'a>(
        &'a self,
        file: Field<'static>,
        limit: u64,
    ) -> impl Stream<Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>> + Send + 'a {
        file.map(move |chunk| {
            let chunk = chunk?;
            let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            let before = self.read.fetch_add(length, std::sync::atomic::Ordering::Relaxed);
            match before.saturating_add(length) > limit {
                true => Err(BucketError::TooLarge { limit }.into()),
                false => Ok(chunk),
            }
        })
    }
}

/// What the form asked to be answered.
fn answer(fields: &Fields, url: &str, bucket: &str, key: &str, object: &Object) -> S3Result<HttpResponse> {
    let etag = format!("\"{}\"", object.etag);
    let location = format!("{url}/{bucket}/{}", url_encode(key));
    let mut answer = Response::new(Body::empty());
    let set = |answer: &mut HttpResponse, name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            answer.headers_mut().insert(name, value);
        }
    };
    set(&mut answer, header::ETAG, &etag);
    set(&mut answer, header::LOCATION, &location);
    let redirect = fields.get("success_action_redirect").or_else(|| fields.get("redirect"));
    // One that is no address is as if there were none.
    let redirect = redirect.filter(|to| {
        to.parse::<http::Uri>().is_ok_and(|to| to.host().is_some()) && HeaderValue::from_str(to).is_ok()
    });
    if let Some(to) = redirect {
        let sign = if to.contains('?') { '&' } else { '?' };
        let component = |text: &str| url_encode(text).replace('/', "%2F");
        let query = format!("bucket={bucket}&key={}&etag={}", component(key), component(&etag));
        *answer.status_mut() = StatusCode::SEE_OTHER;
        set(&mut answer, header::LOCATION, &format!("{to}{sign}{query}"));
        return Ok(answer);
    }
    *answer.status_mut() = match fields.get("success_action_status").map(String::as_str) {
        Some("200") => StatusCode::OK,
        Some("201") => StatusCode::CREATED,
        _ => StatusCode::NO_CONTENT,
    };
    if answer.status() == StatusCode::CREATED {
        let [location, key, etag] = [&*location, key, &*etag].map(escape);
        *answer.body_mut() = Body::from(format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><PostResponse><Location>{location}</Location>\
             <Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>{etag}</ETag></PostResponse>"
        ));
        set(&mut answer, header::CONTENT_TYPE, "application/xml");
    }
    Ok(answer)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
