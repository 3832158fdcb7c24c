//! Errors as S3 has them: a code that clients act on, and a message for people.

use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use s3s::{S3Error, S3ErrorCode, StdError, s3_error};
use tandem_model::{Explain, Report};
use tandem_store::{BlobError, CommitError};

use super::super::BucketError;

/// The error on the wire. What is our fault is logged; what is the client's is told to the client only.
pub(super) fn wire(error: BucketError) -> S3Error {
    let code = code(&error);
    if code == S3ErrorCode::InternalError {
        let report = error.report();
        tracing::error!(code = report.code, causes = ?report.causes, "{}", report.message);
    }
    let help = error.help();
    let mut message = error.to_string();
    if !help.is_empty() {
        message = format!("{message}; {help}");
    }
    let mut answer = S3Error::with_message(code, message);
    if let S3ErrorCode::Custom(code) = answer.code() {
        answer.set_status_code(match &**code {
            "InvalidPartNumber" => StatusCode::RANGE_NOT_SATISFIABLE,
            _ => StatusCode::BAD_REQUEST,
        });
    }
    answer.set_headers(headers(&error));
    answer
}

/// What the target answered to a change that a client asked for.
pub(super) fn reported(report: Report) -> S3Error {
    let code = match &*report.code {
        "E0813" => S3ErrorCode::BucketNotEmpty,
        "E0814" => S3ErrorCode::InvalidBucketName,
        "E0303" => S3ErrorCode::BucketAlreadyExists,
        "E0305" => S3ErrorCode::OperationAborted,
        _ => {
            tracing::error!(code = report.code, causes = ?report.causes, "{}", report.message);
            S3ErrorCode::InternalError
        }
    };
    S3Error::with_message(code, report.message)
}

/// What S3 says in headers, so that an answer without a body says it too.
fn headers(error: &BucketError) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut say = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    match error {
        BucketError::Deleted { version, .. } => {
            say("x-amz-delete-marker", "true".to_owned());
            say("x-amz-version-id", version.to_string());
        }
        BucketError::IsMarker { version, modified, .. } => {
            say("x-amz-delete-marker", "true".to_owned());
            say("x-amz-version-id", version.to_string());
            say("last-modified", http_date(*modified));
            say("allow", "DELETE".to_owned());
        }
        BucketError::NotModified { etag, modified } => {
            say("etag", format!("\"{etag}\""));
            say("last-modified", http_date(*modified));
        }
        _ => {}
    }
    headers
}

fn http_date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn code(error: &BucketError) -> S3ErrorCode {
    match error {
        BucketError::NoSuchBucket { .. } => S3ErrorCode::NoSuchBucket,
        BucketError::BucketName { .. } | BucketError::ReservedName { .. } => S3ErrorCode::InvalidBucketName,
        BucketError::NotEmpty { .. } => S3ErrorCode::BucketNotEmpty,
        BucketError::NoSuchKey { .. } => S3ErrorCode::NoSuchKey,
        BucketError::Deleted { .. } => S3ErrorCode::NoSuchKey,
        BucketError::IsMarker { .. } => S3ErrorCode::MethodNotAllowed,
        BucketError::NoSuchVersion { .. } => S3ErrorCode::NoSuchVersion,
        BucketError::VersionId { .. } => S3ErrorCode::InvalidArgument,
        BucketError::Tag { .. } => S3ErrorCode::InvalidTag,
        BucketError::TagCount { .. } => S3ErrorCode::Custom("BadRequest".into()),
        BucketError::NoPart { .. } => S3ErrorCode::Custom("InvalidPartNumber".into()),
        BucketError::KeyLength { length: 0, .. } => S3ErrorCode::InvalidArgument,
        BucketError::KeyLength { .. } => S3ErrorCode::KeyTooLongError,
        BucketError::Cors { .. } => S3ErrorCode::InvalidRequest,
        BucketError::Range { .. } => S3ErrorCode::InvalidRange,
        BucketError::Precondition => S3ErrorCode::PreconditionFailed,
        BucketError::NotModified { .. } => S3ErrorCode::NotModified,
        BucketError::Digest { .. } => S3ErrorCode::BadDigest,
        BucketError::Length { .. } => S3ErrorCode::IncompleteBody,
        BucketError::TooLarge { .. } => S3ErrorCode::EntityTooLarge,
        BucketError::TooSmall { .. } => S3ErrorCode::EntityTooSmall,
        BucketError::Body(cause) => of_body(cause),
        BucketError::NoSuchUpload { .. } => S3ErrorCode::NoSuchUpload,
        BucketError::Part { .. } => S3ErrorCode::InvalidPart,
        BucketError::PartNumber { .. } => S3ErrorCode::InvalidArgument,
        BucketError::PartOrder => S3ErrorCode::InvalidPartOrder,
        BucketError::NoParts => S3ErrorCode::MalformedXML,
        BucketError::PartSize { .. } => S3ErrorCode::EntityTooSmall,
        BucketError::PartAlgorithm { .. } => S3ErrorCode::InvalidRequest,
        BucketError::Contended => S3ErrorCode::OperationAborted,
        BucketError::Commit(CommitError::Full | CommitError::Closed) | BucketError::Blob(BlobError::Full) => {
            S3ErrorCode::ServiceUnavailable
        }
        BucketError::Damaged { .. }
        | BucketError::Read(_)
        | BucketError::Commit(_)
        | BucketError::Blob(_) => S3ErrorCode::InternalError,
    }
}

/// What was wrong with a body. `s3s` keeps the types of these errors to itself, so its words must do.
fn of_body(cause: &StdError) -> S3ErrorCode {
    let text = cause.to_string();
    if text.contains("Sha256Mismatch") {
        S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into())
    } else if text.contains("SignatureMismatch") {
        S3ErrorCode::SignatureDoesNotMatch
    } else if text.contains("nothing of the body came") {
        S3ErrorCode::RequestTimeout
    } else if text.contains("FormatError") || text.contains("TooLarge") || text.contains("TooMany") {
        S3ErrorCode::InvalidRequest
    } else {
        S3ErrorCode::IncompleteBody
    }
}

/// Refuses what a request asks beyond what there is, by its name.
pub(super) fn unsupported(asked: &[(&str, bool)]) -> Result<(), S3Error> {
    match asked.iter().find(|(_, is_asked)| *is_asked) {
        Some((name, _)) => Err(s3_error!(NotImplemented, "{name} is not supported")),
        None => Ok(()),
    }
}
