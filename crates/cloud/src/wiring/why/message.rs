//! What became of a message of a queue.
//!
//! While it is in a queue, its row says who sent it and how often it was received. What subscriptions did with it is in the
//! trail, and so are moves to other queues and the end of its retention. A client that receives and deletes leaves no trace.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tandem_model::{Kind, StackId, Urn, inputs};

use super::{
    Node, NodeKind, State, Why, WhyError,
    known::{Known, Try},
    reason,
    tell::Teller,
};
use crate::{
    dispatch::{Became, Outcome},
    queue::{Found, Hidden},
};

/// A message, and where it is found.
pub(super) struct Message {
    pub(super) id: String,
    found: Option<Found>,
    /// The deliveries that it was part of.
    hops: Vec<usize>,
}

/// The messages whose ids end so.
pub(super) async fn with_id(
    why: &Why,
    known: &Known,
    stack: &StackId,
    end: &str,
) -> Result<Vec<Message>, WhyError> {
    let mut messages = BTreeMap::new();
    let new = |id: &str| Message { id: id.to_owned(), found: None, hops: Vec::new() };
    for (at, hop) in known.hops.iter().enumerate() {
        let ids: BTreeSet<_> = hop.tries.iter().flat_map(|tried| &tried.messages).collect();
        for id in ids.into_iter().filter(|id| id.ends_with(end)) {
            messages.entry(id.clone()).or_insert_with(|| new(id)).hops.push(at);
        }
    }
    for id in known.fates.keys().filter(|id| id.ends_with(end)) {
        messages.entry(id.clone()).or_insert_with(|| new(id));
    }
    for found in why.queues.with_id(stack, end).await? {
        let message = messages.entry(found.id.clone()).or_insert_with(|| new(&found.id));
        message.found = Some(found);
    }
    Ok(messages.into_values().collect())
}

impl Teller<'_> {
    /// The message with all that became of it, below what led to it.
    pub(super) async fn message(&self, message: &Message) -> Result<Node, WhyError> {
        let Message { id, found, hops } = message;
        let fates = self.known.fates.get(id).map_or(&[][..], Vec::as_slice);
        let mut node = self.message_head(message);
        let mut handled = false;
        for hop in hops {
            let mut told = self.hop(*hop).await?;
            let hop = &self.known.hops[*hop];
            let tries: Vec<&Try> = hop.tries.iter().filter(|tried| tried.messages.contains(id)).collect();
            let Some(last) = tries.last() else { continue };
            let with = match last.messages.len() - 1 {
                0 => String::new(),
                n => format!(", with {n} others"),
            };
            let (state, how) = outcome(&last.outcome);
            handled |= state == State::Handled;
            let (by, to) = (hop.delivery.subscription.short(), hop.delivery.consumer.short());
            let times = match last.attempt {
                1 => String::new(),
                n => format!(" for the {n}. time"),
            };
            told.text = format!("{by} → {to}: received{times}{with}, {how}");
            told.state = Some(state);
            node.children.push(told);
        }
        node.children.extend(fates.iter().map(|(time, queue, fate)| of_fate(*time, queue, fate)));
        node.children.sort_by_key(|child| child.time);
        match found {
            Some(found) => node.children.extend(self.standing(found)),
            None if handled => node.children.push(ended(State::Handled, "it was deleted after that")),
            // The last that happened to it ended it.
            None if matches!(fates.last(), Some((_, _, Became::Expired))) => {}
            None => {
                let text = "it is in no queue any more: a client that received it deleted it, or its queue was purged";
                node.children.push(ended(State::Forgotten, text));
            }
        }
        let single = hops.iter().map(|hop| &self.known.hops[*hop].delivery.event.traceparent).next();
        let traceparent =
            found.as_ref().map_or_else(|| single.cloned().flatten(), |found| found.traceparent.clone());
        self.below(self.known.cause_of(traceparent.as_deref()), node)
    }

    fn message_head(&self, Message { id, found, hops }: &Message) -> Node {
        let source =
            hops.first().and_then(|hop| self.known.hops[*hop].delivery.event.source.parse::<Urn>().ok());
        let fate =
            self.known.fates.get(id).and_then(|fates| fates.first()).map(|(_, queue, _)| queue.clone());
        let queue = source.or(fate).or_else(|| found.as_ref().map(|found| found.queue.clone()));
        let to = queue.as_ref().map_or_else(|| "a queue".to_owned(), Urn::short);
        let by = found.as_ref().map(|found| match found.sender.parse::<Urn>() {
            Ok(urn) => format!(" by {}", urn.short()),
            Err(_) => format!(" by {}", found.sender),
        });
        let group = found.as_ref().and_then(|found| found.group.as_ref());
        let group = group.map(|group| format!(", group {group}")).unwrap_or_default();
        Node {
            time: found.as_ref().map(|found| found.sent),
            id: Some(id.clone()),
            resource: queue,
            asked: true,
            ..Node::new(
                NodeKind::Message,
                format!("message {id} was sent to {to}{}{group}", by.unwrap_or_default()),
            )
        }
    }

    /// Where a message is, and whom it waits for.
    fn standing(&self, found: &Found) -> Vec<Node> {
        let queue = found.queue.short();
        let times = found.received.map_or(0, |(times, _)| times);
        let received = match found.received {
            None => "nobody has received it yet".to_owned(),
            Some((0, _)) => "it was given back".to_owned(),
            Some((times, last)) => {
                format!(
                    "received {}, last at {last:.3}",
                    if times == 1 { "once".into() } else { format!("{times} times") }
                )
            }
        };
        let came =
            found.dead_from.as_ref().map(|from| format!(", after it was received too often in {from}"));
        let came = came.unwrap_or_default();
        let (state, text) = match found.hidden {
            Hidden::Delayed(until) => {
                (State::Pausing, format!("is in {queue}{came}, with a delay until {until:.3}"))
            }
            Hidden::InFlight { until, by_subscription: false } => (
                State::Running,
                format!("is in flight: {received}, of {queue}{came}, and hidden until {until:.3}"),
            ),
            // It was received, and that was taken back or failed: it is a pause.
            Hidden::InFlight { until, by_subscription: true } if self.pauses(found) || times == 0 => {
                (State::Pausing, format!("is in {queue}{came}, hidden until {until:.3}; {received}"))
            }
            Hidden::InFlight { by_subscription: true, .. } => {
                (State::Running, format!("is with a subscription of {queue}{came}: {received}"))
            }
            Hidden::No => (State::Waiting, format!("is in {queue}{came}; {received}")),
        };
        let mut told = vec![ended(state, text)];
        match found.hidden {
            Hidden::InFlight { by_subscription: false, .. } => {}
            // Whoever handles it may wait for room, too.
            _ => told.extend(self.receivers(&found.queue, state == State::Running)),
        }
        told
    }

    /// Whether the last that a subscription did with it was to give it up for now.
    fn pauses(&self, found: &Found) -> bool {
        let tries = self.known.hops.iter().flat_map(|hop| &hop.tries);
        let last = tries.filter(|tried| tried.messages.contains(&found.id)).max_by_key(|tried| tried.ended);
        let received = found.received.map_or(0, |(times, _)| times);
        last.is_some_and(|last| last.attempt == received)
    }

    /// Who would receive what waits in a queue; or of those who receive, only those who have no room.
    fn receivers(&self, queue: &Urn, without_room: bool) -> Vec<Node> {
        let all = self.why.resources.list(Some(&queue.stack)).into_iter();
        let all = all.filter(|r| r.urn.kind == Kind::Subscription);
        let read = |r: &tandem_model::Recorded| inputs::read::<inputs::Subscription>(&r.urn, &r.inputs).ok();
        let of_queue: Vec<_> = all
            .filter_map(|r| Some((r.urn.clone(), read(&r)?)))
            .filter(|(_, subscription)| subscription.source == *queue)
            .filter(|(_, subscription)| !without_room || reason::is_full(self.why, &subscription.consumer))
            .collect();
        if of_queue.is_empty() && without_room {
            return Vec::new();
        }
        if of_queue.is_empty() {
            let text = format!("no subscription listens to {}: a client has to receive it", queue.short());
            return vec![ended(State::NoSubscription, text)];
        }
        of_queue
            .into_iter()
            .map(|(urn, subscription)| {
                let consumer = &subscription.consumer;
                let (state, text) = match self.why.resources.by_urn(consumer) {
                    Some(_) => (State::Waiting, reason::room(self.why, consumer)),
                    None => (State::Gone, format!("{} is not deployed", consumer.short())),
                };
                Node { resource: Some(urn.clone()), ..ended(state, format!("{}: {text}", urn.short())) }
            })
            .collect()
    }
}

fn of_fate(time: Timestamp, queue: &Urn, fate: &Became) -> Node {
    let (state, text) = match fate {
        Became::Expired => {
            (State::Failed, format!("was older than {} keeps messages, and is gone", queue.short()))
        }
        Became::Dead { to } => {
            (State::DeadLetter, format!("was received too often in {}, and moved to {to}", queue.short()))
        }
        Became::Moved { to } => (State::Moved, format!("was moved from {} to {to}", queue.short())),
    };
    Node { time: Some(time), resource: Some(queue.clone()), ..ended(state, text) }
}

fn ended(state: State, text: impl Into<String>) -> Node {
    Node { state: Some(state), ..Node::new(NodeKind::Reason, text) }
}

/// The first line of an event that is messages of a queue.
pub(super) fn told_event(queue: &str, ids: &[String]) -> String {
    match ids {
        [one] => format!("message {one} was received from {queue}"),
        several => format!("{} messages were received from {queue}", several.len()),
    }
}

/// What was found that is asked for, so that the text names it.
pub(super) fn ids(messages: &[Message]) -> Vec<String> {
    messages.iter().take(8).map(|message| message.id.clone()).collect()
}

/// How a try of a batch ended that a message was part of.
pub(super) fn outcome(outcome: &Outcome) -> (State, String) {
    match outcome {
        Outcome::Handled => (State::Handled, "handled".to_owned()),
        Outcome::Again { pause, error } => {
            let why = error.as_ref().map(|error| format!(": {} {}", error.code, error.message));
            let why = why.unwrap_or_default();
            (State::Failed, format!("failed{why}; visible again after {}s", pause.as_secs()))
        }
        Outcome::GivenUp { error } => (State::Failed, format!("failed: {} {}", error.code, error.message)),
    }
}
