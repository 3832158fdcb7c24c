//! What there is of a stack's events, deliveries and runs, and how they are found from each other.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use tandem_model::{Event, StackId, Urn};

use super::{Why, WhyError};
use crate::{
    cause,
    dispatch::{Became, DeadLetter, Delivery, Outcome, Row, Step},
    task::Caused,
    workflow::CausedInstance,
};

/// A delivery with what is known of it.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) delivery: Delivery,
    /// In their order.
    pub(super) tries: Vec<Try>,
    pub(super) standing: Standing,
}

/// An attempt that has ended.
#[derive(Debug)]
pub(super) struct Try {
    pub(super) attempt: u32,
    pub(super) began: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) outcome: Outcome,
    /// The ids of the messages, if that is what was delivered.
    pub(super) messages: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Standing {
    /// It has no row any more.
    Settled,
    Open {
        ahead: usize,
    },
    Dead(Box<DeadLetter>),
}

/// An event, with its deliveries to all who wanted it.
#[derive(Debug)]
pub(super) struct Happening {
    pub(super) event: Event,
    pub(super) hops: Vec<usize>,
}

/// What a question may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Happening(usize),
    Hop(usize),
    Run(usize),
    Instance(usize),
}

#[derive(Debug)]
pub(super) struct Known {
    pub(super) stack: StackId,
    pub(super) happenings: Vec<Happening>,
    pub(super) hops: Vec<Hop>,
    pub(super) runs: Vec<Caused>,
    pub(super) instances: Vec<CausedInstance>,
    /// What queues did with messages by themselves, in its order, by the message's id.
    pub(super) fates: HashMap<String, Vec<(Timestamp, Urn, Became)>>,
    /// By the span that caused them.
    happenings_by_cause: HashMap<String, Vec<usize>>,
    runs_by_cause: HashMap<String, Vec<usize>>,
    instances_by_cause: HashMap<String, Vec<usize>>,
    /// By their own span.
    spans: HashMap<String, Asked>,
}

impl Known {
    /// The rows, before the trail is read: what is settled in between is found in both.
    pub(super) fn rows(why: &Why, stack: &StackId) -> Result<Vec<Row>, WhyError> {
        let mut rows = Vec::new();
        why.letters.rows(stack, |row| rows.push(row))?;
        Ok(rows)
    }

    pub(super) fn gather(why: &Why, stack: &StackId, rows: Vec<Row>) -> Result<Self, WhyError> {
        let mut hops: BTreeMap<String, Hop> = BTreeMap::new();
        for row in rows {
            let (delivery, standing) = match row {
                Row::Open { delivery, ahead } => (delivery, Standing::Open { ahead }),
                Row::Dead(letter) => (letter.delivery.clone(), Standing::Dead(Box::new(letter))),
            };
            hops.insert(delivery.id.clone(), Hop { delivery, tries: Vec::new(), standing });
        }
        let (mut unheard, mut fates) = (Vec::new(), HashMap::<_, Vec<_>>::new());
        let of_stack = |event: &Event| event.source.parse::<Urn>().is_ok_and(|urn| urn.stack == *stack);
        let read = why.trail.read(|step| match step {
            Step::Tried { began, ended, delivery, outcome } if delivery.subscription.stack == *stack => {
                let (attempt, messages) = (delivery.attempt, messages_of(&delivery.event));
                let settled = |delivery| Hop { delivery, tries: Vec::new(), standing: Standing::Settled };
                let hop = hops.entry(delivery.id.clone()).or_insert_with(|| settled(*delivery));
                if outcome == Outcome::Handled {
                    hop.standing = Standing::Settled;
                }
                hop.tries.push(Try { attempt, began, ended, outcome, messages });
            }
            Step::Unheard { event } if of_stack(&event) => unheard.push(event),
            Step::Message { time, queue, id, became } if queue.stack == *stack => {
                fates.entry(id).or_default().push((time, queue, became));
            }
            _ => {}
        });
        read.map_err(WhyError::Trail)?;
        let mut known = Self {
            stack: stack.clone(),
            happenings: Vec::new(),
            hops: Vec::new(),
            runs: why.tasks.caused(stack)?,
            instances: why.workflows.caused(stack)?,
            fates,
            happenings_by_cause: HashMap::new(),
            runs_by_cause: HashMap::new(),
            instances_by_cause: HashMap::new(),
            spans: HashMap::new(),
        };
        let mut places = HashMap::new();
        for hop in hops.into_values() {
            let (at, place) = (known.hops.len(), known.place(&mut places, &hop.delivery.event));
            known.happenings[place].hops.push(at);
            known.hops.push(hop);
        }
        for event in unheard {
            known.place(&mut places, &event);
        }
        known.happenings.sort_by_key(|happening| happening.event.time);
        known.index();
        Ok(known)
    }

    /// Where an event is. What a notification tells a function is an event of its own about the same, and is put there, too.
    fn place(&mut self, places: &mut HashMap<String, usize>, event: &Event) -> usize {
        let key = match &event.subject {
            Some(subject) => format!("{} {} {subject}", event.source, event.time),
            None => event.id.clone(),
        };
        *places.entry(key).or_insert_with(|| {
            self.happenings.push(Happening { event: event.clone(), hops: Vec::new() });
            self.happenings.len() - 1
        })
    }

    fn index(&mut self) {
        for (at, happening) in self.happenings.iter().enumerate() {
            if let Some(span) = happening.event.traceparent.as_deref().and_then(cause::parent) {
                self.happenings_by_cause.entry(span.to_owned()).or_default().push(at);
            }
        }
        for (at, hop) in self.hops.iter().enumerate() {
            if let Some(span) = cause::parent(&hop.delivery.traceparent()) {
                self.spans.insert(span.to_owned(), Asked::Hop(at));
            }
        }
        for (at, caused) in self.runs.iter().enumerate() {
            if let Some(span) = caused.traceparent.as_deref().and_then(cause::parent) {
                self.runs_by_cause.entry(span.to_owned()).or_default().push(at);
            }
            if let Some(span) = cause::parent(&caused.own_cause()) {
                self.spans.insert(span.to_owned(), Asked::Run(at));
            }
        }
        for (at, caused) in self.instances.iter().enumerate() {
            if let Some(span) = caused.traceparent.as_deref().and_then(cause::parent) {
                self.instances_by_cause.entry(span.to_owned()).or_default().push(at);
            }
            if let Some(span) = cause::parent(&caused.cause) {
                self.spans.insert(span.to_owned(), Asked::Instance(at));
            }
        }
    }

    /// The instances that a span started.
    pub(super) fn instances_of(&self, traceparent: &str) -> &[usize] {
        let found = cause::parent(traceparent).and_then(|span| self.instances_by_cause.get(span));
        found.map_or(&[], Vec::as_slice)
    }

    /// The events that a span caused, in their order.
    pub(super) fn happenings_of(&self, traceparent: &str) -> &[usize] {
        let found = cause::parent(traceparent).and_then(|span| self.happenings_by_cause.get(span));
        found.map_or(&[], Vec::as_slice)
    }

    pub(super) fn runs_of(&self, traceparent: &str) -> &[usize] {
        let found = cause::parent(traceparent).and_then(|span| self.runs_by_cause.get(span));
        found.map_or(&[], Vec::as_slice)
    }

    /// The delivery or run that caused something.
    pub(super) fn cause_of(&self, traceparent: Option<&str>) -> Option<Asked> {
        self.spans.get(traceparent.and_then(cause::parent)?).copied()
    }

    /// The events of an object, the oldest first.
    pub(super) fn events_of(&self, bucket: &Urn, key: &str) -> Vec<usize> {
        let bucket = bucket.to_string();
        let of_it = |event: &Event| event.source == bucket && event.subject.as_deref() == Some(key);
        let all = self.happenings.iter().enumerate();
        all.filter(|(_, happening)| of_it(&happening.event)).map(|(at, _)| at).collect()
    }

    /// What has an id that ends so. An event whose only delivery has its id is that delivery.
    pub(super) fn by_id(&self, id: &str) -> Vec<Asked> {
        let hops = self.hops.iter().enumerate().filter(|(_, hop)| hop.delivery.id.ends_with(id));
        let mut found: Vec<_> = hops.map(|(at, _)| Asked::Hop(at)).collect();
        let runs = self.runs.iter().enumerate().filter(|(_, caused)| caused.run.id.as_str().ends_with(id));
        found.extend(runs.map(|(at, _)| Asked::Run(at)));
        // Their ids are chosen by people, and short: an end of one is none of another.
        let instances = self.instances.iter().enumerate().filter(|(_, one)| one.status.instance_id == id);
        found.extend(instances.map(|(at, _)| Asked::Instance(at)));
        for (at, happening) in self.happenings.iter().enumerate() {
            let told = happening.hops.iter().any(|hop| self.hops[*hop].delivery.event.id.ends_with(id));
            let as_delivery = happening.hops.iter().any(|hop| self.hops[*hop].delivery.id.ends_with(id));
            if (told || happening.event.id.ends_with(id)) && !as_delivery {
                found.push(Asked::Happening(at));
            }
        }
        found
    }

    pub(super) fn id_of(&self, asked: &Asked) -> String {
        match asked {
            Asked::Happening(at) => self.happenings[*at].event.id.clone(),
            Asked::Hop(at) => self.hops[*at].delivery.id.clone(),
            Asked::Run(at) => self.runs[*at].run.id.to_string(),
            Asked::Instance(at) => self.instances[*at].status.instance_id.clone(),
        }
    }

    /// The event that a delivery is of.
    pub(super) fn happening_of(&self, hop: usize) -> Option<usize> {
        self.happenings.iter().position(|happening| happening.hops.contains(&hop))
    }

    /// The delivery that a dead letter became.
    pub(super) fn redriven_as(&self, id: &str) -> Option<&Hop> {
        self.hops.iter().find(|hop| hop.delivery.redriven.as_deref() == Some(id))
    }
}

/// The ids of the messages that an event is about.
pub(super) fn messages_of(event: &Event) -> Vec<String> {
    let all = event.data["messages"].as_array().map_or(&[][..], Vec::as_slice);
    all.iter().filter_map(|message| message["id"].as_str().map(str::to_owned)).collect()
}
