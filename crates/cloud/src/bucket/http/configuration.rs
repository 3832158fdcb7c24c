//! How a bucket is configured: what can be set, and what S3 answers of what never was.
//!
//! What this cloud does not have cannot be put: that is refused by its name, and so "not configured" is the truth.

use http::StatusCode;
use s3s::{S3Error, S3ErrorCode, S3Response, S3Result, dto::*, s3_error};

use super::{
    Answer, Wire,
    error::{unsupported, wire},
    listing::owner,
};
use crate::{bucket::tagging::BucketTags, endpoint::OWNER};

/// S3's limit of the tags of a bucket.
const MOST_TAGS: usize = 50;

/// There is nothing under the name, and a code of S3's says so.
pub(super) fn not_configured<T>(code: impl Into<S3ErrorCode>, what: &str) -> Answer<T> {
    let mut error = S3Error::with_message(code.into(), format!("the bucket has no {what}"));
    error.set_status_code(StatusCode::NOT_FOUND);
    Err(error)
}

/// A code that `s3s` has no name for.
pub(super) fn code(name: &'static str) -> S3ErrorCode {
    S3ErrorCode::Custom(name.into())
}

/// Who owns everything may do everything, and nobody else anything.
pub(super) fn full_control() -> Vec<Grant> {
    vec![Grant {
        grantee: Some(Grantee {
            display_name: owner().display_name,
            email_address: None,
            id: owner().id,
            type_: Type::from_static(Type::CANONICAL_USER),
            uri: None,
        }),
        permission: Some(Permission::from_static(Permission::FULL_CONTROL)),
    }]
}

/// Refuses an access control list that says anything else than what is true.
pub(super) fn check_acl(
    canned: Option<&str>,
    policy: Option<&AccessControlPolicy>,
    has_grants: bool,
) -> S3Result<()> {
    let is_full_control = |grant: &Grant| {
        let id = grant.grantee.as_ref().and_then(|grantee| grantee.id.as_deref());
        let permission = grant.permission.as_ref().map(|permission| permission.as_str());
        id == Some(OWNER) && permission == Some(Permission::FULL_CONTROL)
    };
    let others = policy
        .and_then(|policy| policy.grants.as_ref())
        .is_some_and(|grants| !grants.iter().all(is_full_control));
    unsupported(&[
        (
            "an ACL other than `private` and `bucket-owner-full-control`",
            !matches!(canned, None | Some("private" | "bucket-owner-full-control")),
        ),
        ("x-amz-grant-…", has_grants),
        ("a grant to anyone but the owner", others),
    ])
}

/// The tags that a request gives.
fn read_tags(given: &[Tag], most: usize) -> S3Result<BucketTags> {
    let mut tags = BucketTags::default();
    if given.len() > most {
        return Err(s3_error!(InvalidTag, "a bucket has at most {most} tags"));
    }
    for tag in given {
        let key = tag.key.clone().unwrap_or_default();
        let value = tag.value.clone().unwrap_or_default();
        let length = key.chars().count();
        let legal = |c: char| c.is_alphanumeric() || c == ' ' || "+-=._:/@".contains(c);
        if !(1..=128).contains(&length)
            || value.chars().count() > 256
            || !key.chars().chain(value.chars()).all(legal)
            || key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"))
        {
            let key: String = key.chars().take(128).collect();
            return Err(s3_error!(
                InvalidTag,
                "a tag's key has 1 to 128 characters and does not start with `aws:`, its value has at most 256, and both \
                 hold letters, digits, spaces and + - = . _ : / @; this is not so of `{key}`"
            ));
        }
        if tags.0.insert(key.clone(), value).is_some() {
            return Err(s3_error!(InvalidTag, "the tag `{key}` is given twice"));
        }
    }
    Ok(tags)
}

impl Wire {
    pub(super) async fn put_tags(&self, input: PutBucketTaggingInput) -> Answer<PutBucketTaggingOutput> {
        let tags = read_tags(&input.tagging.tag_set, MOST_TAGS)?;
        self.buckets.put_setting(&input.bucket, &tags).await.map_err(wire)?;
        Ok(S3Response::with_status(PutBucketTaggingOutput {}, StatusCode::NO_CONTENT))
    }

    pub(super) fn get_tags(&self, input: &GetBucketTaggingInput) -> Answer<GetBucketTaggingOutput> {
        let Some(BucketTags(tags)) = self.buckets.setting(&input.bucket).map_err(wire)? else {
            return not_configured(S3ErrorCode::NoSuchTagSet, "tags");
        };
        let tag = |(key, value)| Tag { key: Some(key), value: Some(value) };
        Ok(S3Response::new(GetBucketTaggingOutput { tag_set: tags.into_iter().map(tag).collect() }))
    }

    pub(super) fn acl_of_bucket(&self, input: &GetBucketAclInput) -> Answer<GetBucketAclOutput> {
        self.find(&input.bucket)?;
        Ok(S3Response::new(GetBucketAclOutput { grants: Some(full_control()), owner: Some(owner()) }))
    }

    /// Puts nothing, if what is asked is so already.
    pub(super) fn put_acl_of_bucket(&self, input: &PutBucketAclInput) -> Answer<PutBucketAclOutput> {
        self.find(&input.bucket)?;
        let has_grants = input.grant_full_control.is_some()
            || input.grant_read.is_some()
            || input.grant_read_acp.is_some()
            || input.grant_write.is_some()
            || input.grant_write_acp.is_some();
        check_acl(
            input.acl.as_ref().map(|acl| acl.as_str()),
            input.access_control_policy.as_ref(),
            has_grants,
        )?;
        Ok(S3Response::new(PutBucketAclOutput {}))
    }

    pub(super) fn acl_of_object(&self, input: &GetObjectAclInput) -> Answer<GetObjectAclOutput> {
        self.buckets.head(&input.bucket, &input.key).map_err(wire)?;
        Ok(S3Response::new(GetObjectAclOutput {
            grants: Some(full_control()),
            owner: Some(owner()),
            request_charged: None,
        }))
    }

    pub(super) fn put_acl_of_object(&self, input: &PutObjectAclInput) -> Answer<PutObjectAclOutput> {
        self.buckets.head(&input.bucket, &input.key).map_err(wire)?;
        let has_grants = input.grant_full_control.is_some()
            || input.grant_read.is_some()
            || input.grant_read_acp.is_some()
            || input.grant_write.is_some()
            || input.grant_write_acp.is_some();
        check_acl(
            input.acl.as_ref().map(|acl| acl.as_str()),
            input.access_control_policy.as_ref(),
            has_grants,
        )?;
        Ok(S3Response::new(PutObjectAclOutput::default()))
    }
}
