//! Turns registrations and a recorded snapshot into steps, one registration at a time.
//!
//! Planning is pure: no clock, I/O or randomness, so `preview` can promise what `up` will do. It is incremental,
//! because a program may use the outputs of one resource in the inputs of the next.
//!
//! Invariants:
//! - Each urn gets one step.
//! - A resource is registered after those it depends on, so a step follows every step it depends on.
//! - What was recorded and never registered is deleted, dependents first.
//! - A replacement does not force its dependents: they change only if their inputs do.
//!
//! Start at [`Planner::register`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
};

use tandem_model::{
    Desired, Recorded, Urn,
    plan::{Op, PropertyChange, Step},
    resource::Properties,
    value,
};

/// How inputs are compared: the urn, what is recorded, what is asked for.
pub type Diff<'a> = dyn Fn(&Urn, &Properties, &Properties) -> Vec<PropertyChange> + Send + Sync + 'a;

/// A registration that cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejected {
    /// The urn is taken; this is where it was declared first.
    Twice { first: Option<String> },
    /// It depends on itself or on something that is not registered yet. Both are what a cycle looks like.
    Dependency { on: Urn },
}

/// Plans one update.
pub struct Planner<'a> {
    recorded: BTreeMap<Urn, Recorded>,
    missing: HashSet<Urn>,
    diff: Box<Diff<'a>>,
    registered: HashMap<Urn, Option<String>>,
}

impl fmt::Debug for Planner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recorded, missing, registered, .. } = self;
        write!(
            f,
            "Planner({} recorded, {} missing, {} registered)",
            recorded.len(),
            missing.len(),
            registered.len()
        )
    }
}

impl<'a> Planner<'a> {
    /// Plans against `recorded`; of it, `missing` does not exist in the target any more.
    pub fn new(
        recorded: BTreeMap<Urn, Recorded>,
        missing: impl IntoIterator<Item = Urn>,
        diff: impl Fn(&Urn, &Properties, &Properties) -> Vec<PropertyChange> + Send + Sync + 'a,
    ) -> Self {
        let missing = missing.into_iter().collect();
        Self { recorded, missing, diff: Box::new(diff), registered: HashMap::new() }
    }

    /// What must happen to make one resource as the program wants it.
    ///
    /// An unknown input counts as changed: the step is then the most that may happen.
    ///
    /// # Errors
    /// [`Rejected`] if the urn is taken, or a dependency is not registered.
    pub fn register(&mut self, desired: &Desired) -> Result<Step, Rejected> {
        if let Some(first) = self.registered.get(&desired.urn) {
            return Err(Rejected::Twice { first: first.clone() });
        }
        if let Some(on) = desired.depends_on.iter().find(|on| !self.registered.contains_key(*on)) {
            return Err(Rejected::Dependency { on: on.clone() });
        }
        self.registered.insert(desired.urn.clone(), desired.declared_at.clone());
        let (op, changes) = self.compare(desired);
        Ok(Step { op, urn: desired.urn.clone(), changes })
    }

    fn compare(&self, Desired { urn, inputs, .. }: &Desired) -> (Op, Vec<PropertyChange>) {
        let Some(old) = self.existing(urn) else { return (Op::Create, Vec::new()) };
        let uncertain = inputs.values().any(value::has_unknown);
        if old.inputs == *inputs && !uncertain {
            return (Op::Same, Vec::new());
        }
        let mut changes = (self.diff)(urn, &old.inputs, inputs);
        if changes.is_empty() && uncertain {
            changes = crate::diff::properties(&old.inputs, inputs);
        }
        let op = match &changes[..] {
            [] => Op::Same,
            changes if changes.iter().any(|change| change.replaces) => Op::Replace,
            _ => Op::Update,
        };
        (op, changes)
    }

    /// What is recorded of a resource and still exists.
    pub fn existing(&self, urn: &Urn) -> Option<&Recorded> {
        self.recorded.get(urn).filter(|_| !self.missing.contains(urn))
    }

    /// What is recorded and was not registered, to be deleted in this order: dependents first.
    pub fn finish(&self) -> Vec<Recorded> {
        let doomed = self.recorded.values().filter(|r| !self.registered.contains_key(&r.urn)).cloned();
        deletion_order(doomed.collect())
    }
}

/// Orders resources so that each comes before those it depends on; otherwise by urn, descending, so that the order
/// is the same each time. Linear in resources and dependencies, but for the ordering of equals.
pub fn deletion_order(doomed: Vec<Recorded>) -> Vec<Recorded> {
    let blockers = blockers(&doomed);
    let mut waits: Vec<usize> = blockers.iter().map(Vec::len).collect();
    let mut unblocks: Vec<Vec<usize>> = vec![Vec::new(); doomed.len()];
    for (index, blockers) in blockers.iter().enumerate() {
        for blocker in blockers {
            unblocks[*blocker].push(index);
        }
    }
    let key = |index: usize| (&doomed[index].urn, index);
    let mut free: BTreeSet<_> = (0..doomed.len()).filter(|index| waits[*index] == 0).map(key).collect();
    let mut order = Vec::with_capacity(doomed.len());
    while let Some((_, next)) = free.pop_last() {
        order.push(next);
        for unblocked in &unblocks[next] {
            waits[*unblocked] -= 1;
            if waits[*unblocked] == 0 {
                free.insert(key(*unblocked));
            }
        }
    }
    // A cycle cannot be registered. Should a state contain one, its members are deleted last, in any order.
    order.extend((0..doomed.len()).filter(|index| waits[*index] > 0));
    let mut doomed: Vec<Option<Recorded>> = doomed.into_iter().map(Some).collect();
    order.into_iter().filter_map(|index| doomed[index].take()).collect()
}

/// For each resource the indices of those that depend on it, and so are deleted before it.
pub(crate) fn blockers(doomed: &[Recorded]) -> Vec<Vec<usize>> {
    let mut by_urn: HashMap<&Urn, Vec<usize>> = HashMap::new();
    for (index, recorded) in doomed.iter().enumerate() {
        by_urn.entry(&recorded.urn).or_default().push(index);
    }
    let mut blockers: Vec<Vec<usize>> = vec![Vec::new(); doomed.len()];
    for (index, recorded) in doomed.iter().enumerate() {
        let dependencies: HashSet<&Urn> =
            recorded.depends_on.iter().filter(|on| **on != recorded.urn).collect();
        for dependency in dependencies.into_iter().flat_map(|on| by_urn.get(on).into_iter().flatten()) {
            blockers[*dependency].push(index);
        }
    }
    blockers
}

#[cfg(test)]
mod tests;
