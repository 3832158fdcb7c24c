//! CORS on the wire: the configuration, what browsers ask before, and the headers on every answer.
//!
//! A browser asks without a signature, with the query of a presigned URL in front of it: so before anything is verified.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use s3s::{Body, HttpResponse, S3ErrorCode, S3Response, dto::*};
use tandem_model::inputs::CorsRule;

use super::{Answer, Wire, configuration::not_configured, error::wire, front::Front, refusal::refusal};
use crate::bucket::cors::{Allowed, Asked, Cors, fault};

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

impl Front {
    /// Answers what a browser asks before.
    pub(super) fn preflight(&self, bucket: &str, headers: &HeaderMap) -> HttpResponse {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(origin) = text(header::ORIGIN) else {
            let message = "Insufficient information. Origin request header needed.";
            return refusal(StatusCode::BAD_REQUEST, "BadRequest", message);
        };
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
pub(super) fn allow(headers: &mut HeaderMap, origin: &str, Allowed { rule, any_origin }: &Allowed<'_>) {
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
