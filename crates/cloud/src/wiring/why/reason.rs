//! Why nothing happened, or not yet.

use jiff::Timestamp;
use tandem_model::{
    ByteSize, Event, Kind, Recorded, Urn,
    event::{OBJECT_DELETED, OBJECT_PUT, QUEUE_MESSAGES},
    inputs,
};

use super::{
    Node, NodeKind, State, Why, WhyError,
    known::{Hop, Standing},
    message,
};
use crate::{bucket::BucketError, dispatch::Outcome};

/// An object of which no event is known.
pub(super) fn of_object(why: &Why, bucket: &Urn, key: &str) -> Result<Node, WhyError> {
    let bucket_id = why.resources.by_urn(bucket).map(|found| found.id.0.clone()).unwrap_or_default();
    let mut node = match why.buckets.head(&bucket_id, key) {
        Ok(object) => {
            let text = format!("{} has {key} ({}), put then", bucket.short(), ByteSize(object.size));
            let children = silence(why, &bucket.to_string(), OBJECT_PUT, key, &[]);
            Node { time: Some(object.modified), children, ..Node::new(NodeKind::Object, text) }
        }
        Err(BucketError::NoSuchKey { .. }) => {
            let text = format!("{} has no object {key}, and nothing is remembered of one", bucket.short());
            Node { state: Some(State::NoObject), ..Node::new(NodeKind::Object, text) }
        }
        Err(error) => return Err(error.into()),
    };
    (node.resource, node.asked) = (Some(bucket.clone()), true);
    Ok(node)
}

/// Why nobody else was told of an event than those who were.
pub(super) fn of_event(why: &Why, event: &Event, told: &[Urn]) -> Vec<Node> {
    let key = event.subject.as_deref().unwrap_or_default();
    silence(why, &event.source, &event.kind, key, told)
}

fn silence(why: &Why, source: &str, kind: &str, key: &str, told: &[Urn]) -> Vec<Node> {
    let Ok(source) = source.parse::<Urn>() else { return Vec::new() };
    let all =
        why.resources.list(Some(&source.stack)).into_iter().filter(|r| r.urn.kind == Kind::Subscription);
    let read = |r: &Recorded| inputs::read::<inputs::Subscription>(&r.urn, &r.inputs).ok();
    let all = all.filter_map(|r| Some((r.urn.clone(), read(&r)?)));
    let of_source: Vec<_> = all.filter(|(_, subscription)| subscription.source == source).collect();
    if of_source.is_empty() && told.is_empty() {
        let text = format!("no subscription listens to {}", source.short());
        return vec![Node { state: Some(State::NoSubscription), ..Node::new(NodeKind::Reason, text) }];
    }
    let others = of_source.into_iter().filter(|(urn, _)| !told.contains(urn));
    others
        .map(|(urn, subscription)| {
            let (state, why) = match mismatch(&subscription, kind, key) {
                Some(why) => (State::NoMatch, why),
                None => (
                    State::Forgotten,
                    "would want it; it happened before that was deployed, or so long ago that it is forgotten"
                        .to_owned(),
                ),
            };
            let text = format!("{}, to {}, {why}", urn.short(), subscription.consumer.short());
            Node { resource: Some(urn), state: Some(state), ..Node::new(NodeKind::Reason, text) }
        })
        .collect()
}

/// What of a subscription does not want the event.
fn mismatch(subscription: &inputs::Subscription, kind: &str, key: &str) -> Option<String> {
    let happening = |kind: &str| match kind {
        OBJECT_PUT => "objects that are put".to_owned(),
        OBJECT_DELETED => "objects that are deleted".to_owned(),
        other => other.to_owned(),
    };
    if !subscription.events.iter().any(|wanted| wanted == kind) {
        let wanted: Vec<_> = subscription.events.iter().map(|kind| happening(kind)).collect();
        return Some(format!("wants {} only", wanted.join(" and ")));
    }
    let filter = &subscription.filter;
    let prefix = filter.prefix.as_deref().filter(|prefix| !key.starts_with(prefix));
    let suffix = filter.suffix.as_deref().filter(|suffix| !key.ends_with(suffix));
    match (prefix, suffix) {
        (Some(prefix), _) => Some(format!("wants keys that begin with `{prefix}` only")),
        (None, Some(suffix)) => Some(format!("wants keys that end with `{suffix}` only")),
        (None, None) => None,
    }
}

/// How a delivery stands, for people.
pub(super) fn standing(why: &Why, hop: &Hop, redriven_as: Option<&str>) -> (State, String) {
    let delivery = &hop.delivery;
    let ended = hop.tries.last();
    if let (QUEUE_MESSAGES, Some(ended)) = (delivery.event.kind.as_str(), ended) {
        return message::outcome(&ended.outcome);
    }
    match &hop.standing {
        Standing::Dead(letter) => {
            let digits = &delivery.id[delivery.id.len().saturating_sub(12)..];
            let attempts = match delivery.attempt {
                1 => "1 attempt".to_owned(),
                n => format!("{n} attempts"),
            };
            let gone = match why.resources.by_urn(&delivery.consumer) {
                Some(_) => String::new(),
                None => format!("; {} is gone", delivery.consumer.short()),
            };
            let text = format!(
                "in the dead letters after {attempts}: {} {}{gone}; see `tandem dead-letters show {digits}`",
                letter.error.code, letter.error.message
            );
            (State::DeadLetter, text)
        }
        Standing::Settled => match (ended.map(|ended| &ended.outcome), redriven_as) {
            (Some(Outcome::Handled), _) => (State::Handled, "handled".to_owned()),
            (_, Some(id)) => (State::Moved, format!("was given up, and redriven as {id}")),
            _ => (State::Moved, "was given up, and dropped from the dead letters".to_owned()),
        },
        Standing::Open { .. } if why.resources.by_urn(&delivery.consumer).is_none() => {
            (State::Gone, format!("{} is not deployed", delivery.consumer.short()))
        }
        Standing::Open { ahead } => {
            let of = format!("attempt {} of {}", delivery.attempt.max(1), delivery.max_attempts);
            match ended.map(|ended| (ended, &ended.outcome)) {
                Some((ended, Outcome::Again { pause, error: Some(error) }))
                    if ended.attempt == delivery.attempt && ended.ended + *pause > Timestamp::now() =>
                {
                    let until = ended.ended + *pause;
                    let text =
                        format!("{of} failed: {} {}; pauses until {until:.3}", error.code, error.message);
                    (State::Pausing, text)
                }
                _ if delivery.attempt > ended.map_or(0, |ended| ended.attempt) => {
                    (State::Running, format!("{of} is under way"))
                }
                _ => (State::Waiting, waiting(why, hop, *ahead)),
            }
        }
    }
}

fn waiting(why: &Why, hop: &Hop, ahead: usize) -> String {
    let before = match ahead {
        0 => "no event is before it".to_owned(),
        1 => "1 event is before it".to_owned(),
        n => format!("{n} events are before it"),
    };
    format!("{}; {before}", room(why, &hop.delivery.consumer))
}

/// Whether requests wait for a function.
pub(super) fn is_full(why: &Why, consumer: &Urn) -> bool {
    why.functions.processes().0.iter().any(|function| function.urn == *consumer && function.queued > 0)
}

/// For whom something waits, and whether that is at work.
pub(super) fn room(why: &Why, consumer: &Urn) -> String {
    let functions = why.functions.processes().0;
    match functions.into_iter().find(|function| function.urn == *consumer) {
        Some(function) => format!(
            "waits for {}, which has {} and {}",
            consumer.short(),
            count(function.workers.len(), "worker", ""),
            count(function.queued, "request", " that waits"),
        ),
        None => format!("waits for {}", consumer.short()),
    }
}

/// `1 request that waits`, `2 requests that wait`.
fn count(n: usize, what: &str, verb: &str) -> String {
    match n {
        1 => format!("1 {what}{verb}"),
        n => format!("{n} {what}s{}", verb.trim_end_matches('s')),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_said_which_part_of_a_filter_does_not_match() {
        let subscription: inputs::Subscription = serde_json::from_value(json!({
            "source": "urn:tandem:p:dev:bucket:b", "consumer": "urn:tandem:p:dev:function:f",
            "events": [OBJECT_PUT], "filter": { "prefix": "in/", "suffix": ".mp4" },
        }))
        .unwrap();
        let why = |kind: &str, key: &str| mismatch(&subscription, kind, key);
        assert_eq!(why(OBJECT_PUT, "in/a.mp4"), None);
        assert_eq!(why(OBJECT_PUT, "a.mp4").unwrap(), "wants keys that begin with `in/` only");
        assert_eq!(why(OBJECT_PUT, "in/a.MP4").unwrap(), "wants keys that end with `.mp4` only");
        assert_eq!(why(OBJECT_DELETED, "in/a.mp4").unwrap(), "wants objects that are put only");
    }
}
