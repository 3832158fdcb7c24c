//! CORS on the wire: the configuration, what browsers ask before, and the headers on every answer.
//!
//! A browser asks without a signature, with the query of a presigned URL in front of it: so before anything is verified.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use s3s::{Body, HttpError, HttpRequest, HttpResponse, S3ErrorCode, S3Response, dto::*, service::S3Service};
use tandem_model::inputs::CorsRule;

use super::{Answer, Wire, configuration::not_configured, error::wire};
use crate::{
    bucket::{
        BucketError, Buckets,
        cors::{Allowed, Asked, Cors, fault},
    },
    gateway::AnswersS3,
};

impl Wire {
    pub(super) async fn put_cors(&self, input: PutBucketCorsInput) -> Answer<PutBucketCorsOutput> {
        let rule = |rule: CORSRule| CorsRule {
            id: rule.id,
            allowed_origins: rule.allowed_origins,
            allowed_methods: rule.allowed_methods,
            allowed_headers: rule.allowed_headers.unwrap_or_default(),
            expose_headers: rule.expose_headers.unwrap_or_default(),
            max_age_seconds: rule.max_age_seconds,
        };
        let rules: Vec<CorsRule> = input.cors_configuration.cors_rules.into_iter().map(rule).collect();
        if let Some(fault) = fault(&rules) {
            return Err(s3s::S3Error::with_message(S3ErrorCode::InvalidRequest, fault));
        }
        self.buckets.put_setting(&input.bucket, &Cors { rules }).await.map_err(wire)?;
        Ok(S3Response::new(PutBucketCorsOutput {}))
    }

    pub(super) fn get_cors(&self, input: &GetBucketCorsInput) -> Answer<GetBucketCorsOutput> {
        let Some(Cors { rules }) = self.buckets.setting(&input.bucket).map_err(wire)? else {
            return not_configured(S3ErrorCode::NoSuchCORSConfiguration, "CORS configuration");
        };
        let filled = |list: Vec<String>| (!list.is_empty()).then_some(list);
        let rule = |rule: CorsRule| CORSRule {
            allowed_headers: filled(rule.allowed_headers),
            allowed_methods: rule.allowed_methods,
            allowed_origins: rule.allowed_origins,
            expose_headers: filled(rule.expose_headers),
            id: rule.id,
            max_age_seconds: rule.max_age_seconds,
        };
        Ok(S3Response::new(GetBucketCorsOutput { cors_rules: Some(rules.into_iter().map(rule).collect()) }))
    }
}

/// Stands before `s3s`: answers what browsers ask before, and tells them what they may read.
pub(super) struct Front {
    pub(super) s3: S3Service,
    pub(super) buckets: Arc<Buckets>,
}

#[async_trait::async_trait]
impl AnswersS3 for Front {
    async fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Some(origin) = request.headers().get(header::ORIGIN).cloned() else {
            return match *request.method() {
                Method::OPTIONS => Ok(refusal(
                    StatusCode::BAD_REQUEST,
                    "BadRequest",
                    "Insufficient information. Origin request header needed.",
                )),
                _ => self.ask(request).await,
            };
        };
        let bucket = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
        if request.method() == Method::OPTIONS {
            return Ok(self.preflight(&bucket, request.headers()));
        }
        let method = request.method().clone();
        let mut answer = self.ask(request).await?;
        // Asked afterwards, as the request itself may have changed it.
        if let (Ok(origin), Ok(Some(cors))) = (origin.to_str(), self.cors(&bucket))
            && let Some(allowed) = cors.allows(Asked { origin, method: method.as_str(), headers: &[] })
        {
            allow(answer.headers_mut(), origin, &allowed);
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

    fn cors(&self, bucket: &str) -> Result<Option<Cors>, BucketError> {
        match self.buckets.find(bucket) {
            Some(_) => self.buckets.setting(bucket),
            None => Ok(None),
        }
    }

    fn preflight(&self, bucket: &str, headers: &HeaderMap) -> HttpResponse {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let origin = text(header::ORIGIN).unwrap_or_default();
        let Some(method) = text(header::ACCESS_CONTROL_REQUEST_METHOD) else {
            let message = "Invalid Access-Control-Request-Method: null";
            return refusal(StatusCode::BAD_REQUEST, "BadRequest", message);
        };
        let asked_headers = text(header::ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
        let headers: Vec<&str> =
            asked_headers.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let cors = match self.cors(bucket) {
            Ok(Some(cors)) => cors,
            Ok(None) => {
                let message = "CORSResponse: CORS is not enabled for this bucket.";
                return refusal(StatusCode::FORBIDDEN, "AccessForbidden", message);
            }
            Err(error) => {
                tracing::error!(%error, "cannot read the CORS rules of a bucket");
                return refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "try again");
            }
        };
        let Some(allowed) = cors.allows(Asked { origin, method, headers: &headers }) else {
            let message = "CORSResponse: This CORS request is not allowed: no rule of the bucket has this origin, this \
                           method, and each of these headers.";
            return refusal(StatusCode::FORBIDDEN, "AccessForbidden", message);
        };
        let mut answer = Response::new(Body::empty());
        allow(answer.headers_mut(), origin, &allowed);
        set(answer.headers_mut(), header::ACCESS_CONTROL_ALLOW_HEADERS, &headers.join(", "));
        answer
    }
}

/// Writes what a browser is told of an origin that may.
fn allow(headers: &mut HeaderMap, origin: &str, Allowed { rule, any_origin }: &Allowed<'_>) {
    if *any_origin {
        set(headers, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    } else {
        set(headers, header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        set(headers, header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    }
    set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, &rule.allowed_methods.join(", "));
    set(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, &rule.expose_headers.join(", "));
    if let Some(age) = rule.max_age_seconds {
        set(headers, header::ACCESS_CONTROL_MAX_AGE, &age.to_string());
    }
    let vary =
        HeaderValue::from_static("Origin, Access-Control-Request-Headers, Access-Control-Request-Method");
    headers.append(header::VARY, vary);
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// An error as S3 writes it. The texts are our own, and hold nothing that XML would have to escape.
fn refusal(status: StatusCode, code: &str, message: &str) -> HttpResponse {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    set(answer.headers_mut(), header::CONTENT_TYPE, "application/xml");
    answer
}
