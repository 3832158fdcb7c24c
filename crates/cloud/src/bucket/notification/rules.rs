//! What notifications a bucket can have. Pure.

use std::collections::HashSet;

use tandem_model::inputs::Filter;

use super::{Notification, Notifications, selects};

/// S3's limits.
const MOST: usize = 100;
const LONGEST_ID: usize = 255;
const LONGEST_FILTER: usize = 1024;

/// What can be asked for: everything that happens to objects here.
const EVENTS: [&str; 11] = [
    "s3:ObjectCreated:*",
    "s3:ObjectCreated:Put",
    "s3:ObjectCreated:Post",
    "s3:ObjectCreated:Copy",
    "s3:ObjectCreated:CompleteMultipartUpload",
    "s3:ObjectRemoved:*",
    "s3:ObjectRemoved:Delete",
    "s3:ObjectRemoved:DeleteMarkerCreated",
    "s3:LifecycleExpiration:*",
    "s3:LifecycleExpiration:Delete",
    "s3:LifecycleExpiration:DeleteMarkerCreated",
];

/// What S3 has, and what does not happen here or is no event.
const OF_S3: [&str; 7] = [
    "s3:ReducedRedundancyLostObject",
    "s3:ObjectRestore:",
    "s3:Replication:",
    "s3:LifecycleTransition",
    "s3:IntelligentTiering",
    "s3:ObjectTagging:",
    "s3:ObjectAcl:",
];

/// Whether it is an event of S3's that no bucket here makes.
pub(in crate::bucket) fn is_of_s3(event: &str) -> bool {
    OF_S3.iter().any(|family| event.starts_with(family))
}

/// What is wrong with them, if anything.
pub(in crate::bucket) fn fault(Notifications { all }: &Notifications) -> Option<String> {
    if all.len() > MOST {
        return Some(format!("a bucket has at most {MOST} notifications"));
    }
    let mut ids = HashSet::new();
    for Notification { id, events, filter, .. } in all {
        if id.chars().count() > LONGEST_ID {
            return Some(format!("an id has at most {LONGEST_ID} characters"));
        }
        if !ids.insert(id) {
            return Some(format!("the id `{id}` is given twice"));
        }
        if let Some(event) = events.iter().find(|event| !EVENTS.contains(&event.as_str())) {
            return Some(format!("`{event}` is not an event: {}", EVENTS.join(", ")));
        }
        let long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > LONGEST_FILTER);
        if long(&filter.prefix) || long(&filter.suffix) {
            return Some(format!("the value of a filter has at most {LONGEST_FILTER} bytes"));
        }
    }
    let pairs = all.iter().enumerate().flat_map(|(at, one)| all[at + 1..].iter().map(move |two| (one, two)));
    pairs.into_iter().find_map(|(one, two)| {
        let event = common(one, two)?;
        meet(&one.filter, &two.filter).then(|| {
            format!(
                "the notifications `{}` and `{}` overlap: both ask for `{event}`, and a key can have the prefixes and the \
                 suffixes of both",
                one.id, two.id
            )
        })
    })
}

/// An event that both ask for.
fn common<'a>(one: &'a Notification, two: &'a Notification) -> Option<&'a str> {
    let within =
        |wide: &str, narrow: &str| narrow.strip_prefix("s3:").is_some_and(|name| selects(wide, name));
    one.events.iter().find_map(|a| {
        two.events.iter().find_map(|b| match () {
            () if within(a, b) => Some(b.as_str()),
            () if within(b, a) => Some(a.as_str()),
            () => None,
        })
    })
}

/// Whether a key can pass both.
fn meet(one: &Filter, two: &Filter) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (a, b) = (text(&one.prefix), text(&two.prefix));
    let (c, d) = (text(&one.suffix), text(&two.suffix));
    (a.starts_with(&b) || b.starts_with(&a)) && (c.ends_with(&d) || d.ends_with(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(id: &str, event: &str, prefix: &str, suffix: &str) -> Notification {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Notification {
            id: id.to_owned(),
            arn: String::new(),
            consumer: "urn:tandem:shop:dev:function:resize".parse().unwrap(),
            events: vec![event.to_owned()],
            filter: Filter { prefix: given(prefix), suffix: given(suffix), ..Filter::default() },
        }
    }

    fn fault_of(event: (&str, &str), prefix: (&str, &str), suffix: (&str, &str)) -> Option<String> {
        let one = notification("one", event.0, prefix.0, suffix.0);
        fault(&Notifications { all: vec![one, notification("two", event.1, prefix.1, suffix.1)] })
    }

    #[test]
    fn notifications_overlap_if_one_event_of_one_key_could_be_for_both() {
        const ALL: &str = "s3:ObjectCreated:*";
        const PUT: &str = "s3:ObjectCreated:Put";
        let overlap = |event, prefix, suffix| {
            let fault = fault_of(event, prefix, suffix);
            fault.inspect(|fault| assert!(fault.contains("`one` and `two` overlap"), "{fault}")).is_some()
        };
        assert!(overlap((ALL, PUT), ("", ""), ("", "")));
        assert!(overlap((PUT, ALL), ("a/", ""), ("", ".jpg")));
        assert!(overlap((PUT, PUT), ("a/", "a/b/"), (".tar.gz", ".gz")));
        assert!(!overlap((PUT, "s3:ObjectCreated:Copy"), ("", ""), ("", "")));
        assert!(!overlap((ALL, "s3:ObjectRemoved:*"), ("", ""), ("", "")));
        assert!(!overlap((ALL, ALL), ("a/", "b/"), ("", "")));
        assert!(!overlap((ALL, ALL), ("", ""), (".jpg", ".png")));
    }
}
