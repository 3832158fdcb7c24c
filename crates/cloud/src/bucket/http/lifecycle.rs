//! The lifecycle configuration on the wire, and what answers say of when an object will go.

use s3s::{S3Error, S3ErrorCode, S3Response, S3Result, dto::*, s3_error};

use super::{
    Answer, Wire,
    configuration::not_configured,
    error::{unsupported, wire},
    input::{self, url_encode},
};
use crate::bucket::lifecycle::{Expire, Filter, Lifecycle, Noncurrent, Rule, Subject, fault};

impl Wire {
    pub(super) async fn put_lifecycle(
        &self,
        input: PutBucketLifecycleConfigurationInput,
    ) -> Answer<PutBucketLifecycleConfigurationOutput> {
        let given = input.lifecycle_configuration.map(|given| given.rules).unwrap_or_default();
        let rules: Vec<Rule> =
            given.into_iter().enumerate().map(|(index, rule)| read(index, rule)).collect::<S3Result<_>>()?;
        if let Some(fault) = fault(&rules) {
            return Err(S3Error::with_message(S3ErrorCode::InvalidArgument, fault));
        }
        self.buckets.put_setting(&input.bucket, &Lifecycle { rules }).await.map_err(wire)?;
        Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
    }

    pub(super) fn get_lifecycle(
        &self,
        input: &GetBucketLifecycleConfigurationInput,
    ) -> Answer<GetBucketLifecycleConfigurationOutput> {
        let Some(Lifecycle { rules }) = self.buckets.setting(&input.bucket).map_err(wire)? else {
            return not_configured(S3ErrorCode::NoSuchLifecycleConfiguration, "lifecycle configuration");
        };
        Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
            rules: Some(rules.into_iter().map(write).collect()),
            transition_default_minimum_object_size: None,
        }))
    }

    /// The header `x-amz-expiration` of the object that is current now, if a rule will delete it. What was done is not
    /// taken back because this cannot be read.
    pub(super) fn expiration(&self, bucket: &str, key: &str) -> Option<String> {
        let lifecycle = self.buckets.known_setting::<Lifecycle>(bucket).ok()??;
        let object = self.buckets.head(bucket, key).ok()?;
        let tags: Vec<_> = object.tags.iter().collect();
        let subject = Subject { key, size: object.size, tags: &tags, modified: object.modified };
        let (time, rule) = lifecycle.expiry(&subject)?;
        let date = time.strftime("%a, %d %b %Y %H:%M:%S GMT");
        let id = url_encode(&rule.id).replace('/', "%2F");
        Some(format!("expiry-date=\"{date}\", rule-id=\"{id}\""))
    }

    /// When an upload that begins now will be aborted, and by which rule.
    pub(super) fn abortion(&self, bucket: &str, key: &str) -> Option<(Timestamp, String)> {
        let lifecycle = self.buckets.known_setting::<Lifecycle>(bucket).ok()??;
        let (time, rule) = lifecycle.abortion(key, jiff::Timestamp::now())?;
        Some((input::wire_time(time), rule.id.clone()))
    }
}

fn malformed(what: &str) -> S3Error {
    s3_error!(MalformedXML, "{what}")
}

fn days(given: i32, action: &str) -> S3Result<u32> {
    let days = u32::try_from(given).ok().filter(|days| *days > 0);
    days.ok_or_else(|| s3_error!(InvalidArgument, "the days of {action} must be a positive integer"))
}

fn read(index: usize, rule: LifecycleRule) -> S3Result<Rule> {
    unsupported(&[
        ("Transition", rule.transitions.is_some()),
        ("NoncurrentVersionTransition", rule.noncurrent_version_transitions.is_some()),
    ])?;
    let enabled = match rule.status.as_str() {
        ExpirationStatus::ENABLED => true,
        ExpirationStatus::DISABLED => false,
        _ => return Err(malformed("a rule's status is `Enabled` or `Disabled`")),
    };
    let filter = match (rule.prefix, rule.filter) {
        (Some(prefix), None) => Filter { older: true, prefix: Some(prefix), ..Filter::default() },
        (None, Some(filter)) => read_filter(filter)?,
        _ => return Err(malformed("a rule has a filter, or a prefix, and not both")),
    };
    let noncurrent = rule.noncurrent_version_expiration.map(|noncurrent| {
        let given = noncurrent.noncurrent_days.unwrap_or(0);
        let keep = u32::try_from(noncurrent.newer_noncurrent_versions.unwrap_or(0));
        Ok::<_, S3Error>(Noncurrent {
            days: days(given, "NoncurrentVersionExpiration")?,
            keep: keep.map_err(|_| malformed("NewerNoncurrentVersions is 0 or more"))?,
        })
    });
    let abort = rule
        .abort_incomplete_multipart_upload
        .map(|abort| days(abort.days_after_initiation.unwrap_or(0), "AbortIncompleteMultipartUpload"));
    Ok(Rule {
        id: rule.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("rule-{}", index + 1)),
        enabled,
        filter,
        expire: rule.expiration.map(read_expiration).transpose()?.flatten(),
        noncurrent: noncurrent.transpose()?,
        abort: abort.transpose()?,
    })
}

fn read_expiration(given: LifecycleExpiration) -> S3Result<Option<Expire>> {
    match (given.days, given.date, given.expired_object_delete_marker) {
        (Some(given), None, None) => Ok(Some(Expire::Days(days(given, "Expiration")?))),
        (None, Some(date), None) => {
            let date = input::time(&date).ok_or_else(|| malformed("the date is not valid"))?;
            Ok(Some(Expire::Date(date)))
        }
        (None, None, Some(wanted)) => Ok(wanted.then_some(Expire::Markers)),
        _ => Err(malformed("an expiration has one of Days, Date and ExpiredObjectDeleteMarker")),
    }
}

fn read_filter(filter: LifecycleRuleFilter) -> S3Result<Filter> {
    let size = |given: Option<i64>| {
        let size = given.map(u64::try_from).transpose();
        size.map_err(|_| s3_error!(InvalidArgument, "a size is 0 or more"))
    };
    let LifecycleRuleFilter { and, object_size_greater_than, object_size_less_than, prefix, tag } = filter;
    let given = usize::from(and.is_some())
        + usize::from(prefix.is_some())
        + usize::from(tag.is_some())
        + usize::from(object_size_greater_than.is_some())
        + usize::from(object_size_less_than.is_some());
    if given > 1 {
        return Err(malformed("a filter of more than one condition has them all inside of And"));
    }
    let (prefix, above, below, tags) = match and {
        Some(and) => (
            and.prefix,
            and.object_size_greater_than,
            and.object_size_less_than,
            and.tags.unwrap_or_default(),
        ),
        None => (prefix, object_size_greater_than, object_size_less_than, tag.into_iter().collect()),
    };
    let mut read = Filter { prefix, above: size(above)?, below: size(below)?, ..Filter::default() };
    for tag in tags {
        let key = tag.key.unwrap_or_default();
        if key.is_empty() || read.tags.insert(key, tag.value.unwrap_or_default()).is_some() {
            return Err(s3_error!(InvalidRequest, "each tag of a filter has a key, which no other has"));
        }
    }
    Ok(read)
}

fn wire_days(days: u32) -> i32 {
    i32::try_from(days).unwrap_or(i32::MAX)
}

fn write(rule: Rule) -> LifecycleRule {
    let Rule { id, enabled, filter, expire, noncurrent, abort } = rule;
    let (older, filter) = match filter.older {
        true => (filter.prefix, None),
        false => (None, Some(write_filter(filter))),
    };
    let expiration = expire.map(|expire| match expire {
        Expire::Days(days) => LifecycleExpiration { days: Some(wire_days(days)), ..Default::default() },
        Expire::Date(date) => {
            LifecycleExpiration { date: Some(input::wire_time(date)), ..Default::default() }
        }
        Expire::Markers => {
            LifecycleExpiration { expired_object_delete_marker: Some(true), ..Default::default() }
        }
    });
    let noncurrent = noncurrent.map(|Noncurrent { days, keep }| NoncurrentVersionExpiration {
        newer_noncurrent_versions: (keep > 0).then(|| wire_days(keep)),
        noncurrent_days: Some(wire_days(days)),
    });
    let abort =
        abort.map(|days| AbortIncompleteMultipartUpload { days_after_initiation: Some(wire_days(days)) });
    LifecycleRule {
        id: Some(id),
        status: ExpirationStatus::from_static(match enabled {
            true => ExpirationStatus::ENABLED,
            false => ExpirationStatus::DISABLED,
        }),
        prefix: older,
        filter,
        expiration,
        noncurrent_version_expiration: noncurrent,
        abort_incomplete_multipart_upload: abort,
        noncurrent_version_transitions: None,
        transitions: None,
    }
}

fn write_filter(filter: Filter) -> LifecycleRuleFilter {
    let size = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
    let Filter { prefix, tags, above, below, .. } = filter;
    let (above, below) = (above.map(size), below.map(size));
    let mut tags: Vec<Tag> =
        tags.into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect();
    let conditions = usize::from(prefix.is_some())
        + tags.len()
        + usize::from(above.is_some())
        + usize::from(below.is_some());
    if conditions > 1 {
        let and = LifecycleRuleAndOperator {
            object_size_greater_than: above,
            object_size_less_than: below,
            prefix,
            tags: (!tags.is_empty()).then_some(tags),
        };
        return LifecycleRuleFilter { and: Some(and), ..LifecycleRuleFilter::default() };
    }
    LifecycleRuleFilter {
        and: None,
        object_size_greater_than: above,
        object_size_less_than: below,
        prefix,
        tag: tags.pop(),
    }
}
