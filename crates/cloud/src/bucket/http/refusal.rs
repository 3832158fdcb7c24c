//! An error as S3 writes it, of what is answered without `s3s`.

use http::{HeaderValue, Response, StatusCode, header};
use s3s::{Body, HttpResponse};

/// The texts are our own, and hold nothing that XML would have to escape.
pub(super) fn refusal(status: StatusCode, code: &str, message: &str) -> HttpResponse {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}
