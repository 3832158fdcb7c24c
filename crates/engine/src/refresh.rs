//! Brings the state in line with what exists, and changes nothing in the target.
//!
//! The way forward when the two have drifted apart: the cloud's data was wiped, the state was deleted, edited or restored
//! from a copy, a resource disappeared. [`Refresh::look`] compares, [`Refresh::keep`] makes it so.
//!
//! What the target has is taken as true, inputs included: the next plan then shows what the program wants otherwise.
//! Operations that were begun and not ended are settled by what exists; they are not repeated. One whose request is
//! still under way in the target may come true later: the next update finds its resource, and stops.
//!
//! The saved state makes a refresh true. Killed before it, nothing has changed; killed before the journal is emptied,
//! the journal is folded into the new state, and what that brings back is found by the next look.

use std::collections::{BTreeMap, HashMap, HashSet};

use tandem_model::{OpId, PhysicalId, Recorded, StackId, Urn, plan::PropertyChange};

use crate::{
    diff,
    error::ApplyError,
    port::{CloudId, StateStore, Target},
    state::{Folded, State},
};

/// A resource of which the state and the target tell different things.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    pub urn: Urn,
    pub id: PhysicalId,
    pub kind: DriftKind,
}

/// How they differ.
#[derive(Debug, Clone, PartialEq)]
pub enum DriftKind {
    /// Recorded, and it does not exist.
    Gone,
    /// It exists, and was not recorded.
    Found,
    /// It exists with other properties than were recorded: inputs first, then outputs.
    Changed(Vec<PropertyChange>),
}

/// What a refresh would make of a state.
#[derive(Debug)]
pub struct Refresh {
    pub stack: StackId,
    /// The cloud that the state remembers, if it is another one than this.
    pub moved_from: Option<CloudId>,
    /// The cloud at hand.
    pub cloud: CloudId,
    /// Ordered by urn.
    pub drift: Vec<Drift>,
    /// Begun by an interrupted update, and settled by what exists.
    pub settled: usize,
    state: State,
    ended: Vec<OpId>,
    begun: Vec<OpId>,
}

impl Refresh {
    /// Compares. One bulk read; changes nothing.
    ///
    /// # Errors
    /// [`ApplyError::Target`] if the target is silent.
    pub async fn look(folded: Folded, target: &dyn Target) -> Result<Self, ApplyError> {
        let cloud = target.identity().await?;
        let Folded { state, pending, ended } = folded;
        let found = target.list(&state.stack).await?;
        let known = !state.is_empty() || !pending.is_empty();
        let moved_from = state.cloud.clone().filter(|from| known && *from != cloud);
        let (drift, mut state) = compare(state, found, &|urn| target.made_by_client(urn));
        state.cloud = Some(cloud.clone());
        let begun: Vec<OpId> = pending.into_iter().map(|begin| begin.op).collect();
        let settled = begun.len();
        Ok(Self { stack: state.stack.clone(), moved_from, cloud, drift, settled, state, ended, begun })
    }

    /// Whether the state would become another one.
    pub fn changes(&self) -> bool {
        self.moved_from.is_some() || !self.drift.is_empty() || self.settled > 0
    }

    /// How many resources the state then has.
    pub fn resources(&self) -> usize {
        self.state.resources.len()
    }

    /// Makes it the state.
    ///
    /// # Errors
    /// [`ApplyError::State`] if it may not be on disk; refresh again.
    pub async fn keep(self, store: &dyn StateStore, target: &dyn Target) -> Result<(), ApplyError> {
        store.save(&self.state).await?;
        store.clear().await?;
        // Only now: an operation that is forgotten must not be asked for again.
        let ops: Vec<OpId> = self.ended.into_iter().chain(self.begun).collect();
        if !ops.is_empty()
            && let Err(error) = target.acknowledge(&ops).await
        {
            // A few rows more in the target, which nobody asks for.
            tracing::debug!(%error, "operations are not acknowledged");
        }
        Ok(())
    }
}

/// What differs, and the state as it should be.
fn compare(mut state: State, found: Vec<Recorded>, by_client: &dyn Fn(&Urn) -> bool) -> (Vec<Drift>, State) {
    let mut drift = Vec::new();
    let mut existing: HashMap<(Urn, PhysicalId), Recorded> =
        found.into_iter().map(|recorded| ((recorded.urn.clone(), recorded.id.clone()), recorded)).collect();
    let recorded = std::mem::take(&mut state.resources);
    let mut kept = BTreeMap::new();
    for (urn, mut old) in recorded {
        let Some(now) = existing.remove(&(urn.clone(), old.id.clone())) else {
            drift.push(Drift { urn, id: old.id, kind: DriftKind::Gone });
            continue;
        };
        let mut changes = diff::properties(&old.inputs, &now.inputs);
        changes.extend(diff::properties(&old.outputs, &now.outputs));
        // What depends on what is the engine's own.
        (old.inputs, old.outputs) = (now.inputs, now.outputs);
        if !changes.is_empty() {
            drift.push(Drift { urn: urn.clone(), id: old.id.clone(), kind: DriftKind::Changed(changes) });
        }
        kept.insert(urn, old);
    }
    state.resources = kept;
    state.replaced.retain(|old| {
        let exists = existing.remove(&(old.urn.clone(), old.id.clone())).is_some();
        if !exists {
            drift.push(Drift { urn: old.urn.clone(), id: old.id.clone(), kind: DriftKind::Gone });
        }
        exists
    });
    let mut unknown: Vec<Recorded> = existing.into_values().filter(|r| !by_client(&r.urn)).collect();
    unknown.sort_by(|a, b| (&a.urn, &a.id).cmp(&(&b.urn, &b.id)));
    let urns: HashSet<Urn> =
        unknown.iter().map(|r| r.urn.clone()).chain(state.resources.keys().cloned()).collect();
    for mut recorded in unknown {
        drift.push(Drift { urn: recorded.urn.clone(), id: recorded.id.clone(), kind: DriftKind::Found });
        recorded.depends_on = mentioned(&recorded, &urns);
        if state.resources.contains_key(&recorded.urn) {
            // Two of one urn are a replacement that was not finished: the other one goes with the next update, which
            // asks before it deletes data.
            state.replaced.push(recorded);
        } else {
            state.resources.insert(recorded.urn.clone(), recorded);
        }
    }
    drift.sort_by(|a, b| (&a.urn, &a.id).cmp(&(&b.urn, &b.id)));
    (drift, state)
}

/// The resources that the inputs name: the order in which things are deleted depends on it until the next update, which
/// hears the whole of it from the program.
fn mentioned(recorded: &Recorded, urns: &HashSet<Urn>) -> Vec<Urn> {
    let texts = recorded.inputs.values().filter_map(|value| value.as_str()?.parse::<Urn>().ok());
    let mut named: Vec<Urn> = texts.filter(|urn| *urn != recorded.urn && urns.contains(urn)).collect();
    named.sort();
    named.dedup();
    named
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scenario::{Scenario, urn};

    fn told(refresh: &Refresh) -> String {
        let each = refresh.drift.iter().map(|drift| {
            let how = match &drift.kind {
                DriftKind::Gone => "gone".to_owned(),
                DriftKind::Found => "found".to_owned(),
                DriftKind::Changed(changes) => {
                    changes.iter().map(|change| change.property.clone()).collect::<Vec<_>>().join(",")
                }
            };
            format!("{}={} {how}", drift.urn.short(), drift.id)
        });
        each.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_state_that_is_right_is_left_alone() {
        let mut s = Scenario::new();
        s.program("bucket/a; function/b env=@bucket/a").up();
        let before = s.folded();
        let refresh = s.refresh();
        assert_eq!((refresh.changes(), told(&refresh)), (false, String::new()));
        assert_eq!(s.folded().state, before.state);
    }

    #[test]
    fn what_is_gone_is_forgotten_and_made_again_by_the_next_update() {
        let mut s = Scenario::new();
        s.program("bucket/a; bucket/b").up();
        s.world.lose(&urn("bucket/a"));
        assert_eq!(told(&s.refresh()), "bucket/a=a-1 gone");
        s.up().steps("create bucket/a; same bucket/b");
        s.assert_settled();
    }

    #[test]
    fn a_state_that_was_lost_is_found_again_and_nothing_is_made_twice() {
        let mut s = Scenario::new();
        s.program("bucket/a; function/b env=@bucket/a").up();
        s.lose_state();
        s.preview().fails("E0212");
        s.up().leaves("bucket/a=a-1; function/b=b-1").fails("E0212");
        assert_eq!(told(&s.refresh()), "bucket/a=a-1 found; function/b=b-1 found");
        s.up().steps("same bucket/a; same function/b");
        s.assert_settled();
        s.destroy().leaves_nothing();
    }

    #[test]
    fn an_id_that_was_edited_is_told_and_mended() {
        let mut s = Scenario::new();
        s.program("bucket/a").up();
        s.edit(|state| state.resources.get_mut(&urn("bucket/a")).unwrap().id = PhysicalId("other".into()));
        let error = s.up().fails("E0212").to_string();
        assert!(error.contains("bucket/a (`a-1`)"), "{error}");
        assert_eq!(told(&s.refresh()), "bucket/a=a-1 found; bucket/a=other gone");
        s.up().steps("same bucket/a").leaves("bucket/a=a-1");
        s.assert_settled();
    }

    #[test]
    fn inputs_that_were_edited_are_told_and_the_next_plan_starts_from_what_is_there() {
        let mut s = Scenario::new();
        s.program("function/a memory=1").up();
        s.edit(|state| {
            let inputs = &mut state.resources.get_mut(&urn("function/a")).unwrap().inputs;
            inputs.insert("memory".into(), json!(2));
        });
        assert_eq!(told(&s.refresh()), "function/a=a-1 memory");
        s.up().steps("same function/a");
    }

    #[test]
    fn a_wiped_cloud_is_taken_for_what_it_is() {
        let mut s = Scenario::new();
        s.program("bucket/a; bucket/b").up();
        s.world.replace();
        s.destroy().fails("E0207");
        let refresh = s.refresh();
        assert_eq!(refresh.moved_from, Some(CloudId("first".into())));
        assert_eq!(told(&refresh), "bucket/a=a-1 gone; bucket/b=b-1 gone");
        s.up().steps("create bucket/a; create bucket/b");
        s.assert_settled();
    }

    #[test]
    fn a_lost_answer_is_settled_by_what_exists() {
        let mut s = Scenario::new();
        s.program("bucket/a");
        s.world.silence(&urn("bucket/a"), true);
        s.up().fails("E0301");
        s.world.silence(&urn("bucket/a"), false);
        let refresh = s.refresh();
        assert_eq!((refresh.settled, told(&refresh)), (1, "bucket/a=a-1 found".to_owned()));
        s.up().steps("same bucket/a").leaves("bucket/a=a-1");
        s.assert_settled();
    }

    #[test]
    fn a_refresh_killed_at_any_effect_is_ended_by_the_next_or_made_good_by_an_update() {
        for (effect, again) in (1..=7).flat_map(|effect| [(effect, true), (effect, false)]) {
            let mut s = Scenario::new();
            s.program("bucket/a; bucket/b").up();
            s.world.lose(&urn("bucket/b"));
            s.world.silence(&urn("bucket/c"), true);
            assert!(s.program("bucket/a; bucket/b; bucket/c").up().result.unwrap().is_err());
            s.world.silence(&urn("bucket/c"), false);
            s.refresh_crashing_at(effect);
            s.assert_nothing_leaked();
            if again {
                s.refresh();
            }
            s.up();
            assert!(!s.preview().summary().changes(), "killed at effect {effect}");
            assert_eq!(s.world.list().len(), 3, "killed at effect {effect}: {:?}", s.world.list());
        }
    }

    #[test]
    fn a_replacement_whose_state_was_lost_half_way_ends_with_one_resource() {
        let mut s = Scenario::new();
        s.program("task/a pin=1").up();
        s.program("task/a pin=2").crash_after(tandem_model::plan::Op::Create, "task/a").up().crashed();
        s.lose_state();
        assert_eq!(told(&s.refresh()), "task/a=a-1 found; task/a=a-2 found");
        s.up();
        assert_eq!(s.world.list().len(), 1);
        assert!(!s.preview().summary().changes());
    }
}
