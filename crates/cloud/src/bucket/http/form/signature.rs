//! Who signed a form's policy: by version 4 of AWS's scheme, or by version 2, as boto3 does unless it is told otherwise.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use s3s::{S3Result, s3_error};
use sha1::Sha1;

use super::Fields;
use crate::{
    credential::{Credentials, Principal},
    gateway::sigv4,
};

/// # Errors
/// As S3 names them: an unknown key, a signature that does not match, or none.
pub(super) fn verify(fields: &Fields, policy: &str, credentials: &Credentials) -> S3Result<Principal> {
    let field = |name: &str| fields.get(name).map(String::as_str);
    let lookup = |id: &str| {
        credentials.lookup(id).ok_or_else(|| {
            s3_error!(
                InvalidAccessKeyId,
                "nobody has this access key id; `tandem env` prints the keys of a stack"
            )
        })
    };
    if let Some(signature) = field("x-amz-signature") {
        if field("x-amz-algorithm") != Some("AWS4-HMAC-SHA256") {
            return Err(s3_error!(InvalidArgument, "the field x-amz-algorithm is `AWS4-HMAC-SHA256`"));
        }
        let credential: Vec<&str> = field("x-amz-credential").unwrap_or_default().split('/').collect();
        let [id, date, region, "s3", "aws4_request"] = credential[..] else {
            return Err(s3_error!(InvalidArgument, "the field x-amz-credential is not valid"));
        };
        if field("x-amz-date").is_none_or(|time| !time.starts_with(date)) {
            return Err(s3_error!(
                InvalidArgument,
                "the field x-amz-date is not of the day of x-amz-credential"
            ));
        }
        let (principal, secret) = lookup(id)?;
        return match sigv4::matches(&secret, (date, region, "s3"), policy.as_bytes(), signature) {
            true => Ok(principal),
            false => Err(s3_error!(SignatureDoesNotMatch)),
        };
    }
    let (Some(id), Some(signature)) = (field("awsaccesskeyid"), field("signature")) else {
        return Err(s3_error!(AccessDenied, "the form is not signed"));
    };
    let (principal, secret) = lookup(id)?;
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(policy.as_bytes());
    let signature = STANDARD.decode(signature).unwrap_or_default();
    match mac.verify_slice(&signature) {
        Ok(()) => Ok(principal),
        Err(_) => Err(s3_error!(SignatureDoesNotMatch)),
    }
}
