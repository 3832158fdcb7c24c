//! Finds handlers that trigger themselves, by reading them: one that puts into the bucket whose puts it gets, under a key that
//! its own filter wants.
//!
//! A false alarm at each preview costs more than a loop, which ends after a hundred steps (0163). So only what the handler
//! does in any case is told of, in its own code and that of the functions of its module; what it does under a condition is
//! taken to be the condition that ends the loop. What a handler does by other modules, by other names of the resource, or by
//! way of other handlers, is not seen.
//!
//! Start at [`find`]. [`handler`] reads code, [`text`] knows what is known of a key.

mod handler;
mod text;

use std::collections::BTreeMap;

use tandem_js::Archive;
use tandem_model::{Desired, Explain, Kind, Urn, inputs};

use self::{
    handler::{Emitted, Module},
    text::{Meets, Text},
};
use crate::place::Place;

/// A loop that was seen.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} {} itself: its handler {does} at {at}, and gets {it} again",
    subscription.short(),
    if *surely { "triggers" } else { "may trigger" },
)]
pub(crate) struct Loop {
    subscription: Urn,
    surely: bool,
    /// `puts "a.jpg" into bucket/b`.
    does: String,
    at: Place,
    /// What it gets.
    it: &'static str,
    /// Where the subscription is declared.
    declared: String,
    remedy: &'static str,
}

impl Explain for Loop {
    fn code(&self) -> &'static str {
        "E0659"
    }

    fn help(&self) -> String {
        format!("{}, or say that it is meant, with `loop: \"intended\"` ({})", self.remedy, self.declared)
    }
}

/// How a kind of source gets what its handlers are triggered by.
struct Source {
    /// The methods that subscribe to it and that emit into it.
    subscribe: &'static str,
    emit: &'static [&'static str],
    verb: &'static str,
    /// What the handler gets.
    it: &'static str,
    remedy: &'static str,
}

fn source(kind: &str) -> Option<Source> {
    let elsewhere = "let the handler write elsewhere";
    Some(match kind {
        "bucket" => Source {
            subscribe: "onPut",
            emit: &["put"],
            verb: "puts",
            it: "that object",
            remedy: "narrow the filter so that it leaves that key out, let the handler write to another bucket",
        },
        "queue" => Source {
            subscribe: "subscribe",
            emit: &["send", "sendBatch"],
            verb: "sends",
            it: "that message",
            remedy: elsewhere,
        },
        "topic" => Source {
            subscribe: "subscribe",
            emit: &["publish"],
            verb: "publishes",
            it: "that message",
            remedy: elsewhere,
        },
        "stream" => Source {
            subscribe: "subscribe",
            emit: &["put", "putBatch"],
            verb: "puts",
            it: "that record",
            remedy: elsewhere,
        },
        _ => return None,
    })
}

/// The loops of a program, of which these are the subscriptions and functions, in the order of their names. What stands in the
/// code once is told once, however many subscriptions are made by it.
pub(crate) fn find(archive: &Archive, declared: &BTreeMap<Urn, Desired>) -> Vec<Loop> {
    let subscriptions = declared.values().filter(|one| one.urn.kind == Kind::Subscription);
    let mut loops: Vec<Loop> = Vec::new();
    // A file is parsed once, though it has many subscriptions.
    let mut modules: Vec<(&str, Option<Module>)> = Vec::new();
    for desired in subscriptions {
        let Some((file, line, column)) = desired.declared_at.as_deref().and_then(split) else { continue };
        let Ok(subscription) = inputs::read::<inputs::Subscription>(&desired.urn, &desired.inputs) else {
            continue;
        };
        let Some(source) = source(subscription.source.kind.as_str()) else { continue };
        let Some(packed) = archive.modules.get(file) else { continue };
        let known = match modules.iter().position(|(name, _)| *name == file) {
            Some(known) => known,
            None => {
                modules.push((file, Module::read(&packed.source)));
                modules.len() - 1
            }
        };
        let Some(module) = &modules[known].1 else { continue };
        // The function may be declared apart.
        let function = declared.get(&subscription.consumer);
        let apart = function.and_then(|function| split(function.declared_at.as_deref()?));
        let apart = apart.filter(|(other, ..)| *other == file).map(|(_, line, column)| (line, column));
        let filter = &subscription.filter;
        let (prefix, suffix) = (filter.prefix.as_deref(), filter.suffix.as_deref());
        let (prefix, suffix) = (prefix.unwrap_or_default(), suffix.unwrap_or_default());
        let got = Text { prefix: prefix.to_owned(), suffix: suffix.to_owned(), whole: false };
        let emitted = module.emitted((line, column), apart, source.subscribe, source.emit, got);
        let worst = emitted.into_iter().filter_map(|emitted| {
            // What a policy makes of a message that is not there yet, nobody knows.
            let judged = filter.attributes.is_none() && filter.message.is_none();
            let meets = emitted.key.meets(prefix, suffix);
            (judged && meets != Meets::Not).then_some((meets == Meets::Surely, emitted))
        });
        // One warning a handler: the surest, and of those the first.
        let Some((surely, Emitted { key, offset })) = worst.reduce(|a, b| if b.0 && !a.0 { b } else { a })
        else {
            continue;
        };
        let into = subscription.source.short();
        let does = match subscription.source.kind {
            Kind::Bucket => {
                let key = key.shown().map_or("a key that it computes".to_owned(), |key| format!("`{key}`"));
                format!("puts {key} into {into}")
            }
            _ => format!("{} to {into}", source.verb),
        };
        let (at, declared) = (Place::at(file, &packed.source, offset), format!("{file}:{line}:{column}"));
        if loops.iter().any(|told| told.at == at && told.declared == declared) {
            continue;
        }
        loops.push(Loop {
            subscription: desired.urn.clone(),
            surely,
            does,
            at,
            it: source.it,
            declared,
            remedy: source.remedy,
        });
    }
    loops
}

/// `index.js:3:14`.
fn split(place: &str) -> Option<(&str, usize, usize)> {
    let (rest, column) = place.rsplit_once(':')?;
    let (file, line) = rest.rsplit_once(':')?;
    Some((file, line.parse().ok()?, column.parse().ok()?))
}

#[cfg(test)]
mod tests;
