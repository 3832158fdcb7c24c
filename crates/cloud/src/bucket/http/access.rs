//! Who may do what (I8): a request must be signed, and reaches the buckets of its stack.

use std::sync::Arc;

use s3s::{
    S3Request, S3Result,
    access::{S3Access, S3AccessContext},
    auth::{S3Auth, SecretKey},
    s3_error,
};

use super::super::Buckets;
use crate::{
    credential::{Credentials, Principal},
    endpoint::OWNER,
};

/// Looks up secrets.
pub(super) struct Keys(pub(super) Arc<Credentials>);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.0.lookup(access_key) {
            Some((_, secret)) => Ok(SecretKey::from(secret)),
            None => Err(s3_error!(
                InvalidAccessKeyId,
                "nobody has this access key id; `tandem env` prints the keys of a stack"
            )),
        }
    }
}

/// Lets a principal reach the buckets of its own stack.
pub(super) struct Stacks {
    pub(super) credentials: Arc<Credentials>,
    pub(super) buckets: Arc<Buckets>,
}

#[async_trait::async_trait]
impl S3Access for Stacks {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(credentials) = cx.credentials() else {
            return Err(s3_error!(AccessDenied, "the request is not signed"));
        };
        // Presigned URLs are another matter: boto3 still signs those with version 2 unless it is told otherwise.
        if cx.headers().get("authorization").is_some_and(|value| value.as_bytes().starts_with(b"AWS ")) {
            return Err(s3_error!(InvalidRequest, "please use AWS4-HMAC-SHA256"));
        }
        let Some(principal) = self.credentials.principal(&credentials.access_key) else {
            return Err(s3_error!(InvalidAccessKeyId));
        };
        if let Some(owner) = cx.headers().get("x-amz-expected-bucket-owner")
            && owner != OWNER
        {
            return Err(s3_error!(AccessDenied, "the owner of every bucket here is {OWNER}"));
        }
        // Whose a bucket is that is to be made is for that operation to say.
        let makes = cx.s3_op().name() == "CreateBucket";
        if let Some(bucket) = cx.s3_path().get_bucket_name()
            && !makes
        {
            may_reach(&principal, bucket, &self.buckets)?;
        }
        cx.extensions_mut().insert(principal);
        Ok(())
    }
}

/// Who makes the request.
pub(super) fn caller<T>(req: &S3Request<T>) -> S3Result<&Principal> {
    req.extensions.get::<Principal>().ok_or_else(|| s3_error!(AccessDenied, "the request is not signed"))
}

/// A bucket that does not exist is for the operation to answer.
pub(super) fn may_reach(principal: &Principal, bucket: &str, buckets: &Buckets) -> S3Result<()> {
    match buckets.find(bucket) {
        Some(found) if !principal.may_reach(&found.urn) => {
            Err(s3_error!(AccessDenied, "{principal} may not reach the bucket `{bucket}` of another stack"))
        }
        _ => Ok(()),
    }
}
