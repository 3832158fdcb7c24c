//! The rules, and what they say of one object, version or upload. Pure.

use std::collections::{BTreeMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::bucket::settings::Setting;

/// S3's limits.
const MOST_RULES: usize = 1000;
const LONGEST_ID: usize = 255;
const DAY: i64 = 24 * 60 * 60;

/// The rules of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::bucket) struct Lifecycle {
    pub(in crate::bucket) rules: Vec<Rule>,
}

impl Setting for Lifecycle {
    const NAME: &'static str = "lifecycle";
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::bucket) struct Rule {
    /// Unique among the rules of a bucket.
    pub(in crate::bucket) id: String,
    pub(in crate::bucket) enabled: bool,
    pub(in crate::bucket) filter: Filter,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bucket) expire: Option<Expire>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bucket) noncurrent: Option<Noncurrent>,
    /// How many days after an upload in parts was begun it is aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bucket) abort: Option<u32>,
}

/// What a rule is for. All that is given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::bucket) struct Filter {
    /// Whether it was written the older way, as a prefix outside of a filter; it is given back as it came.
    #[serde(default)]
    pub(in crate::bucket) older: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bucket) prefix: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::bucket) tags: BTreeMap<String, String>,
    /// Only objects of more bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bucket) above: Option<u64>,
    /// Only objects of fewer bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::bucket) below: Option<u64>,
}

/// When the current version of an object goes; in a versioned bucket a delete marker takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::bucket) enum Expire {
    /// So many days after it was written.
    Days(u32),
    /// From then on.
    Date(Timestamp),
    /// Never, but a delete marker behind which there is no version goes at once.
    Markers,
}

/// When versions that are no longer current go, for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::bucket) struct Noncurrent {
    /// So many days after they were replaced.
    pub(in crate::bucket) days: u32,
    /// But not the newest of them, so many.
    pub(in crate::bucket) keep: u32,
}

/// What is judged of an object or a version of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::bucket) struct Subject<'a> {
    pub(in crate::bucket) key: &'a str,
    pub(in crate::bucket) size: u64,
    pub(in crate::bucket) tags: &'a [(&'a str, &'a str)],
    pub(in crate::bucket) modified: Timestamp,
}

impl Filter {
    fn fits_key(&self, key: &str) -> bool {
        self.prefix.as_deref().is_none_or(|prefix| key.starts_with(prefix))
    }

    fn fits(&self, subject: &Subject<'_>) -> bool {
        let tagged = |(key, value): (&String, &String)| subject.tags.contains(&(key, value));
        self.fits_key(subject.key)
            && self.tags.iter().all(tagged)
            && self.above.is_none_or(|above| subject.size > above)
            && self.below.is_none_or(|below| subject.size < below)
    }

    /// Whether it asks for more than a key: what delete markers and uploads do not have.
    fn is_of_objects(&self) -> bool {
        !self.tags.is_empty() || self.above.is_some() || self.below.is_some()
    }
}

impl Lifecycle {
    fn enabled(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.enabled)
    }

    /// When the object, which is current, goes, and by which rule: the earliest decides.
    pub(in crate::bucket) fn expiry(&self, subject: &Subject<'_>) -> Option<(Timestamp, &Rule)> {
        let fitting = self.enabled().filter(|rule| rule.filter.fits(subject));
        fitting
            .filter_map(|rule| match rule.expire.as_ref()? {
                Expire::Days(days) => Some((due(subject.modified, *days), rule)),
                Expire::Date(date) => Some((*date, rule)),
                Expire::Markers => None,
            })
            .min_by_key(|(time, _)| *time)
    }

    /// When a version that was replaced at `replaced` goes. `newer` is how many others of the key have been replaced
    /// since.
    pub(in crate::bucket) fn noncurrent_expiry(
        &self,
        subject: &Subject<'_>,
        replaced: Timestamp,
        newer: u32,
    ) -> Option<Timestamp> {
        let fitting = self.enabled().filter(|rule| rule.filter.fits(subject));
        let due =
            |noncurrent: &Noncurrent| (newer >= noncurrent.keep).then(|| due(replaced, noncurrent.days));
        fitting.filter_map(|rule| rule.noncurrent.as_ref().and_then(due)).min()
    }

    /// When a delete marker goes that has no version behind it any more.
    pub(in crate::bucket) fn marker_expiry(&self, key: &str, modified: Timestamp) -> Option<Timestamp> {
        let fitting = self.enabled().filter(|rule| !rule.filter.is_of_objects() && rule.filter.fits_key(key));
        fitting
            .filter_map(|rule| {
                Some(match rule.expire.as_ref()? {
                    Expire::Days(days) => due(modified, *days),
                    Expire::Date(date) => *date,
                    Expire::Markers => modified,
                })
            })
            .min()
    }

    /// When an upload in parts is aborted, and by which rule.
    pub(in crate::bucket) fn abortion(&self, key: &str, begun: Timestamp) -> Option<(Timestamp, &Rule)> {
        let fitting = self.enabled().filter(|rule| rule.filter.fits_key(key));
        fitting.filter_map(|rule| Some((due(begun, rule.abort?), rule))).min_by_key(|(time, _)| *time)
    }
}

/// The midnight in UTC that comes `days` after `from`, or is it.
fn due(from: Timestamp, days: u32) -> Timestamp {
    let later = from.checked_add(SignedDuration::from_secs(DAY * i64::from(days))).unwrap_or(Timestamp::MAX);
    let whole = later.as_second().div_euclid(DAY) * DAY;
    let midnight =
        if whole == later.as_second() && later.subsec_nanosecond() == 0 { whole } else { whole + DAY };
    Timestamp::from_second(midnight).unwrap_or(Timestamp::MAX)
}

/// What is wrong with rules, and whether it is their form or a value; `None` if nothing is.
pub(in crate::bucket) fn fault(rules: &[Rule]) -> Option<String> {
    if rules.is_empty() || rules.len() > MOST_RULES {
        return Some(format!("a bucket has 1 to {MOST_RULES} lifecycle rules, not {}", rules.len()));
    }
    let mut ids = HashSet::new();
    rules.iter().find_map(|rule| {
        let id = &rule.id;
        let filter = &rule.filter;
        if !ids.insert(id) {
            return Some(format!("there are two rules with the id `{id}`"));
        }
        if id.chars().count() > LONGEST_ID {
            return Some(format!("a rule's id has at most {LONGEST_ID} characters"));
        }
        if rule.expire.is_none() && rule.noncurrent.is_none() && rule.abort.is_none() {
            return Some(format!("at least one action needs to be specified in the rule `{id}`"));
        }
        let days = [
            ("Expiration", match &rule.expire {
                Some(Expire::Days(days)) => Some(*days),
                _ => None,
            }),
            ("NoncurrentVersionExpiration", rule.noncurrent.as_ref().map(|noncurrent| noncurrent.days)),
            ("AbortIncompleteMultipartUpload", rule.abort),
        ];
        if let Some((action, _)) = days.iter().find(|(_, days)| *days == Some(0)) {
            return Some(format!("the days of {action} in the rule `{id}` must be a positive integer"));
        }
        if let Some(Expire::Date(date)) = &rule.expire
            && date.as_second().rem_euclid(DAY) != 0
        {
            return Some(format!("the date of the rule `{id}` must be at midnight GMT"));
        }
        if rule.abort.is_some() && filter.is_of_objects() {
            return Some(format!(
                "AbortIncompleteMultipartUpload cannot be specified with tags or sizes, as the rule `{id}` does"
            ));
        }
        if rule.expire == Some(Expire::Markers) && filter.is_of_objects() {
            return Some(format!(
                "ExpiredObjectDeleteMarker cannot be specified with tags or sizes, as the rule `{id}` does"
            ));
        }
        if let (Some(above), Some(below)) = (filter.above, filter.below)
            && above.saturating_add(1) >= below
        {
            return Some(format!("no size is above {above} and below {below}, as the rule `{id}` asks"));
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn rule(id: &str, filter: Filter) -> Rule {
        Rule { id: id.into(), enabled: true, filter, expire: None, noncurrent: None, abort: None }
    }

    fn expiring(id: &str, days: u32, filter: Filter) -> Rule {
        Rule { expire: Some(Expire::Days(days)), ..rule(id, filter) }
    }

    fn subject<'a>(key: &'a str, size: u64, tags: &'a [(&'a str, &'a str)]) -> Subject<'a> {
        Subject { key, size, tags, modified: at("2026-01-15T10:30:00Z") }
    }

    #[test]
    fn days_end_at_the_next_midnight() {
        // The example of S3's documentation.
        assert_eq!(due(at("2026-01-15T10:30:00Z"), 3), at("2026-01-19T00:00:00Z"));
        assert_eq!(due(at("2026-01-15T00:00:00Z"), 1), at("2026-01-16T00:00:00Z"));
        assert_eq!(due(at("2026-01-15T00:00:00.5Z"), 1), at("2026-01-17T00:00:00Z"));
        assert_eq!(due(at("2026-01-15T00:00:00Z"), u32::MAX), Timestamp::MAX);
    }

    #[test]
    fn the_earliest_of_the_enabled_rules_that_fit_decides() {
        let prefix = |prefix: &str| Filter { prefix: Some(prefix.into()), ..Filter::default() };
        let off = Rule { enabled: false, ..expiring("off", 1, Filter::default()) };
        let lifecycle = Lifecycle {
            rules: vec![off, expiring("all", 9, Filter::default()), expiring("logs", 3, prefix("logs/"))],
        };
        let (time, by) = lifecycle.expiry(&subject("logs/a", 1, &[])).unwrap();
        assert_eq!((time, &*by.id), (at("2026-01-19T00:00:00Z"), "logs"));
        assert_eq!(lifecycle.expiry(&subject("a", 1, &[])).unwrap().1.id, "all");
    }

    #[test]
    fn everything_in_a_filter_must_fit() {
        let filter = Filter {
            prefix: Some("a".into()),
            tags: [("keep".to_owned(), "no".to_owned())].into(),
            above: Some(10),
            below: Some(20),
            ..Filter::default()
        };
        let lifecycle = Lifecycle { rules: vec![expiring("x", 1, filter)] };
        let tags = [("keep", "no"), ("other", "x")];
        assert!(lifecycle.expiry(&subject("a", 11, &tags)).is_some());
        for (key, size, tags) in
            [("b", 11, &tags[..]), ("a", 10, &tags), ("a", 20, &tags), ("a", 11, &tags[1..]), ("a", 11, &[])]
        {
            assert!(lifecycle.expiry(&subject(key, size, tags)).is_none(), "{key} {size} {tags:?}");
        }
    }

    #[test]
    fn the_newest_of_the_replaced_versions_are_kept() {
        let noncurrent = Some(Noncurrent { days: 1, keep: 2 });
        let lifecycle = Lifecycle { rules: vec![Rule { noncurrent, ..rule("x", Filter::default()) }] };
        let replaced = at("2026-01-16T00:00:00Z");
        assert_eq!(lifecycle.noncurrent_expiry(&subject("a", 1, &[]), replaced, 1), None);
        let due = lifecycle.noncurrent_expiry(&subject("a", 1, &[]), replaced, 2);
        assert_eq!(due, Some(at("2026-01-17T00:00:00Z")));
    }

    #[test]
    fn a_marker_without_versions_goes_at_once_or_with_the_age_of_objects() {
        let modified = at("2026-01-15T10:30:00Z");
        let markers = Rule { expire: Some(Expire::Markers), ..rule("x", Filter::default()) };
        assert_eq!(Lifecycle { rules: vec![markers] }.marker_expiry("a", modified), Some(modified));
        let days = Lifecycle { rules: vec![expiring("x", 1, Filter::default())] };
        assert_eq!(days.marker_expiry("a", modified), Some(at("2026-01-17T00:00:00Z")));
        let sized = Filter { above: Some(1), ..Filter::default() };
        assert_eq!(Lifecycle { rules: vec![expiring("x", 1, sized)] }.marker_expiry("a", modified), None);
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_said() {
        let tagged = Filter { tags: [("a".to_owned(), String::new())].into(), ..Filter::default() };
        let plain = || expiring("x", 1, Filter::default());
        assert_eq!(fault(&[plain()]), None);
        for (wrong, says) in [
            (vec![], "1 to 1000"),
            (vec![plain(), plain()], "two rules"),
            (vec![rule("x", Filter::default())], "at least one action"),
            (vec![expiring("x", 0, Filter::default())], "Expiration"),
            (vec![Rule { abort: Some(0), ..plain() }], "AbortIncomplete"),
            (vec![Rule { abort: Some(1), ..rule("x", tagged.clone()) }], "tags"),
            (vec![Rule { expire: Some(Expire::Markers), ..rule("x", tagged) }], "tags"),
            (vec![Rule { expire: Some(Expire::Date(at("2026-01-15T10:30:00Z"))), ..plain() }], "midnight"),
        ] {
            let fault = fault(&wrong).unwrap_or_default();
            assert!(fault.contains(says), "{fault}");
        }
    }
}
