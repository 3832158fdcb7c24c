//! What stands before `s3s`: what browsers ask before and send as forms, presigned URLs that S3 would not take, and what
//! pages of other origins are told with every answer.

use std::sync::Arc;

use http::{Method, StatusCode, header};
use s3s::{HttpError, HttpRequest, HttpResponse, service::S3Service};

use super::{XML_LIMIT, cors, form, refusal::refusal};
use crate::{
    bucket::{
        BucketError, Buckets,
        cors::{Asked, Cors},
    },
    credential::Credentials,
    gateway::AnswersS3,
};

/// How long a presigned URL may be good for, in seconds: a week.
const LONGEST_URL: u64 = 7 * 24 * 60 * 60;

pub(super) struct Front {
    pub(super) s3: S3Service,
    pub(super) buckets: Arc<Buckets>,
    pub(super) credentials: Arc<Credentials>,
}

#[async_trait::async_trait]
impl AnswersS3 for Front {
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let bucket = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
        if request.method() == Method::OPTIONS {
            return Ok(self.preflight(&bucket, request.headers()));
        }
        let origin = request.headers().get(header::ORIGIN).cloned();
        let method = request.method().clone();
        let mut answer = if form::is_form(&request) {
            self.upload(request).await
        } else if is_oversize(&request) {
            // `s3s` would read up to the limit, and then take it for a fault of its own.
            let message = "the document is larger than any that there is";
            refusal(StatusCode::BAD_REQUEST, "MaxMessageLengthExceeded", message)
        } else if let Some(fault) = presigned_fault(request.uri().query().unwrap_or_default()) {
            refusal(StatusCode::BAD_REQUEST, "AuthorizationQueryParametersError", fault)
        } else {
            self.ask(request).await?
        };
        // Asked afterwards, as the request itself may have changed it.
        if let Some(origin) = origin.as_ref().and_then(|origin| origin.to_str().ok())
            && let Ok(Some(rules)) = self.cors(&bucket)
            && let Some(allowed) = rules.allows(Asked { origin, method: method.as_str(), headers: &[] })
        {
            cors::allow(answer.headers_mut(), origin, &allowed);
        }
        Ok(answer)
    }
}

impl Front {
    /// Asks `s3s`, which answers a HEAD of a range with the status of the whole.
    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_head = request.method() == Method::HEAD;
        let mut answer = self.s3.call(request).await?;
        if is_head
            && answer.status() == StatusCode::OK
            && answer.headers().contains_key(header::CONTENT_RANGE)
        {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        Ok(answer)
    }

    pub(super) fn cors(&self, bucket: &str) -> Result<Option<Arc<Cors>>, BucketError> {
        match self.buckets.find(bucket) {
            Some(_) => self.buckets.known_setting(bucket),
            None => Ok(None),
        }
    }
}

/// Whether the body is a document, as all are that are no object's or part's, and a larger one than is read.
fn is_oversize(request: &HttpRequest) -> bool {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|length| length.parse::<usize>().ok()).unwrap_or(0);
    let is_of_key = request.uri().path().trim_matches('/').contains('/');
    let names = request.uri().query().unwrap_or_default().split('&').map(|pair| pair.split('=').next());
    let is_document = match *request.method() {
        Method::POST => true,
        Method::PUT if is_of_key => {
            names.flatten().any(|name| matches!(name, "tagging" | "acl" | "retention" | "legal-hold"))
        }
        Method::PUT => true,
        _ => false,
    };
    is_document && length > XML_LIMIT
}

/// What is wrong with a URL that is signed by version 4, beyond the signature: it ends, and within a week.
fn presigned_fault(query: &str) -> Option<&'static str> {
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value("X-Amz-Signature")?;
    match value("X-Amz-Expires").map(str::parse::<u64>) {
        Some(Ok(seconds)) if seconds > LONGEST_URL => Some(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than \
                  604800 seconds",
        ),
        Some(Ok(_)) => None,
        Some(Err(_)) => Some("X-Amz-Expires should be a number"),
        None => Some("Query-string authentication version 4 requires the X-Amz-Expires parameter"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presigned_url_ends_within_a_week() {
        assert_eq!(presigned_fault("a=b"), None);
        assert_eq!(presigned_fault("X-Amz-Expires=604800&X-Amz-Signature=x"), None);
        for wrong in ["X-Amz-Expires=604801&", "X-Amz-Expires=-1&", "X-Amz-Expires=x&", ""] {
            assert!(presigned_fault(&format!("{wrong}X-Amz-Signature=x")).is_some(), "{wrong}");
        }
    }
}
