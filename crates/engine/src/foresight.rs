//! Holds an update to what its preview said. (I6)

use std::collections::{HashMap, HashSet};

use tandem_model::{
    Urn,
    plan::{Op, PropertyChange, Step},
    value,
};

/// What a preview announced, and what of it has not come yet.
#[derive(Debug)]
pub(crate) struct Foresight {
    steps: HashMap<Urn, Step>,
    /// Repeated from an interrupted update: a preview cannot know how far that one came.
    resumed: HashSet<Urn>,
}

impl Foresight {
    pub(crate) fn new(steps: Vec<Step>, resumed: HashSet<Urn>) -> Self {
        Self { steps: steps.into_iter().map(|step| (step.urn.clone(), step)).collect(), resumed }
    }

    /// Whether the preview allowed for this step. Less than what was announced is allowed where it depended on
    /// something unknown.
    ///
    /// # Errors
    /// Why not, in words that follow "the preview did not foresee this: ".
    pub(crate) fn check(&mut self, live: &Step) -> Result<(), String> {
        let name = live.urn.short();
        let Some(foreseen) = self.steps.remove(&live.urn) else {
            return Err(format!("{} {name}", live.op));
        };
        if self.resumed.contains(&live.urn) {
            return Ok(());
        }
        let allowed = match foreseen.op {
            Op::Replace => matches!(live.op, Op::Replace | Op::Update | Op::Same),
            Op::Update => matches!(live.op, Op::Update | Op::Same),
            op => op == live.op,
        };
        if !allowed {
            return Err(format!("{} {name}, where the preview said {}", live.op, foreseen.op));
        }
        match live.changes.iter().find(|change| !foreseen.changes.iter().any(|f| covers(f, change))) {
            Some(change) => Err(format!(
                "{} {name} because of `{}`, which has another value now",
                live.op, change.property
            )),
            None => Ok(()),
        }
    }

    /// What the preview announced and the program did not declare this time, deletes aside.
    pub(crate) fn undeclared(&self) -> Option<&Step> {
        self.steps.values().filter(|step| step.op != Op::Delete).min_by_key(|step| &step.urn)
    }
}

fn covers(foreseen: &PropertyChange, live: &PropertyChange) -> bool {
    let unknown = foreseen.new.as_ref().is_some_and(value::has_unknown);
    if foreseen.property == live.property {
        return unknown || foreseen.new == live.new;
    }
    // An object that was unknown as a whole may differ in some members only.
    unknown && live.property.strip_prefix(&foreseen.property).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn step(op: Op, changes: &[(&str, Value)]) -> Step {
        let changes = changes.iter().map(|(property, new)| PropertyChange {
            property: (*property).into(),
            old: None,
            new: Some(new.clone()),
            replaces: false,
        });
        Step { op, urn: "urn:tandem:shop:dev:bucket:a".parse().unwrap(), changes: changes.collect() }
    }

    fn check(foreseen: Step, live: &Step) -> Result<(), String> {
        Foresight::new(vec![foreseen], HashSet::new()).check(live)
    }

    #[test]
    fn less_than_announced_is_allowed_and_more_is_not() {
        let update = |new| step(Op::Update, &[("memory", new)]);
        assert_eq!(check(update(json!(256)), &step(Op::Same, &[])), Ok(()));
        assert_eq!(check(update(json!(256)), &update(json!(256))), Ok(()));
        assert_eq!(check(update(value::unknown()), &update(json!(512))), Ok(()));
        assert!(check(update(json!(256)), &update(json!(512))).is_err(), "another value");
        assert!(check(step(Op::Same, &[]), &update(json!(256))).is_err(), "another op");
        assert!(check(step(Op::Same, &[]), &step(Op::Create, &[])).is_err());
    }

    #[test]
    fn an_unknown_object_allows_changes_inside_it() {
        let foreseen = step(Op::Update, &[("environment", value::unknown())]);
        assert_eq!(check(foreseen.clone(), &step(Op::Update, &[("environment.LEVEL", json!("x"))])), Ok(()));
        assert!(check(foreseen, &step(Op::Update, &[("environmental", json!("x"))])).is_err());
    }

    #[test]
    fn what_was_resumed_may_come_out_either_way() {
        let live = step(Op::Same, &[]);
        let mut foresight = Foresight::new(vec![step(Op::Create, &[])], HashSet::from([live.urn.clone()]));
        assert_eq!(foresight.check(&live), Ok(()));
        assert!(foresight.check(&live).is_err(), "a urn comes once");
    }
}
