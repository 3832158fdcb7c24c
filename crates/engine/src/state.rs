//! What the engine remembers of one stack, and how the journal changes it. Pure.
//!
//! Invariants:
//! - [`fold`] is idempotent: a journal that is folded in twice changes nothing more. A crash between saving the
//!   snapshot and emptying the journal therefore needs no repair.
//! - An operation that has begun and not ended is in [`Folded::pending`], whatever else happened. (I5)

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_model::{
    OpId, PhysicalId, Recorded, StackId, Urn,
    plan::{Change, Op, Step},
    resource::Properties,
};

use crate::{
    data,
    journal::{Begin, Entry, Outcome},
    port::CloudId,
};

/// The format of `state.json`, counted up when an older engine would misread it.
pub const VERSION: u64 = 1;

/// What exists of one stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub version: u64,
    pub stack: StackId,
    /// The cloud that holds the resources; none before the first update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<CloudId>,
    pub resources: BTreeMap<Urn, Recorded>,
    /// Those that a newer one of the same urn replaced, and that are still to be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Recorded>,
    /// What the program exported when it last succeeded. May contain secrets.
    #[serde(default)]
    pub exports: Properties,
    /// When an update last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Timestamp>,
}

impl State {
    pub fn empty(stack: StackId) -> Self {
        Self {
            version: VERSION,
            stack,
            cloud: None,
            resources: BTreeMap::new(),
            replaced: Vec::new(),
            exports: Properties::new(),
            updated: None,
        }
    }

    /// Whether nothing of the stack exists.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.replaced.is_empty()
    }

    /// Takes in how an operation ended.
    pub(crate) fn take(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Recorded { recorded, replaced } => {
                if let Some(id) = replaced
                    && let Some(old) = self.resources.get(&recorded.urn)
                    && old.id == id
                {
                    self.replaced.push(data::replaced_by(old, &recorded.inputs));
                }
                self.resources.insert(recorded.urn.clone(), recorded);
            }
            Outcome::Removed { urn, id } => self.remove(&urn, &id),
        }
    }

    fn remove(&mut self, urn: &Urn, id: &PhysicalId) {
        self.replaced.retain(|old| old.urn != *urn || old.id != *id);
        if self.resources.get(urn).is_some_and(|now| now.id == *id) {
            self.resources.remove(urn);
        }
    }
}

/// A state with its journal folded in.
#[derive(Debug, Clone, PartialEq)]
pub struct Folded {
    pub state: State,
    /// Begun and not ended: whether they happened, only the target knows. In the order in which they began.
    pub pending: Vec<Begin>,
    /// Ended, and perhaps not yet acknowledged to the target.
    pub ended: Vec<OpId>,
}

/// Folds a journal into the snapshot before it.
pub fn fold(mut state: State, journal: impl IntoIterator<Item = Entry>) -> Folded {
    let mut pending: Vec<Begin> = Vec::new();
    let mut ended = Vec::new();
    for entry in journal {
        let op = entry.op().clone();
        match entry {
            Entry::Begin(begin) => {
                pending.push(begin);
                continue;
            }
            Entry::Done { outcome, .. } => state.take(outcome),
            Entry::Failed { .. } => {}
        }
        pending.retain(|begin| begin.op != op);
        ended.push(op);
    }
    Folded { state, pending, ended }
}

impl Folded {
    /// Takes in resources of the stack that exist without its doing, so that a plan says what becomes of them.
    pub fn adopt(&mut self, found: impl IntoIterator<Item = Recorded>) {
        for recorded in found {
            self.state.resources.entry(recorded.urn.clone()).or_insert(recorded);
        }
    }

    /// The state as it would be if all pending operations succeeded, and the resources among it that may not exist
    /// yet. What a preview plans against: an update begins by repeating what is pending.
    pub fn foreseen(&self) -> (State, HashSet<Urn>) {
        let mut state = self.state.clone();
        let mut uncertain = HashSet::new();
        for begin in &self.pending {
            match &begin.change {
                Change::Create { urn, inputs } => {
                    let id = PhysicalId(String::new());
                    let recorded = begin.recorded(id, inputs.clone(), Properties::new());
                    state.take(Outcome::Recorded { recorded, replaced: begin.replaces.clone() });
                    uncertain.insert(urn.clone());
                }
                Change::Update { urn, id, new, .. } => {
                    let outputs = state.resources.get(urn).map(|now| now.outputs.clone()).unwrap_or_default();
                    let recorded = begin.recorded(id.clone(), new.clone(), outputs);
                    state.take(Outcome::Recorded { recorded, replaced: None });
                }
                Change::Delete { urn, id, .. } => state.remove(urn, id),
            }
        }
        (state, uncertain)
    }
}

impl Begin {
    /// What the operation would leave in the state.
    pub(crate) fn recorded(&self, id: PhysicalId, inputs: Properties, outputs: Properties) -> Recorded {
        Recorded { urn: self.change.urn().clone(), id, inputs, outputs, depends_on: self.depends_on.clone() }
    }

    /// The operation in a plan's words, without its causes.
    pub(crate) fn step(&self) -> Step {
        let op = match (&self.change, &self.replaces) {
            (Change::Create { .. }, Some(_)) => Op::Replace,
            (Change::Create { .. }, None) => Op::Create,
            (Change::Update { .. }, _) => Op::Update,
            (Change::Delete { .. }, _) => Op::Delete,
        };
        Step { op, urn: self.change.urn().clone(), changes: Vec::new() }
    }
}
