//! What an update has planned so far, and what became of it.

use std::collections::HashMap;

use tandem_model::{
    Desired, Recorded, Report, StackId, Urn,
    plan::{Op, Step},
};
use tokio::sync::watch;

use crate::{
    data,
    error::{ApplyError, Failure},
    foresight::Foresight,
    plan::{Planner, Rejected},
    state::State,
};

#[derive(Debug)]
pub(super) struct Planning {
    pub(super) planner: Planner<'static>,
    pub(super) foresight: Option<Foresight>,
    pub(super) steps: Vec<Step>,
    /// What an interrupted update left open, for a preview to tell.
    pub(super) resumes: Vec<Step>,
    /// The resources that a replacement would delete, or one that was interrupted has left.
    pub(super) replaced: Vec<Recorded>,
    pub(super) failures: Vec<Failure>,
    /// The first registration that could not be planned.
    pub(super) rejected: Option<Report>,
    pub(super) not_tried: usize,
    /// Turns true when the resource is there; closes without it if that failed.
    done: HashMap<Urn, watch::Receiver<bool>>,
}

/// One registration, planned.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) step: Step,
    /// What exists of it.
    pub(super) old: Option<Recorded>,
    pub(super) dependencies: Vec<(Urn, watch::Receiver<bool>)>,
    pub(super) done: watch::Sender<bool>,
}

impl Planning {
    pub(super) fn new(planner: Planner<'static>, foresight: Option<Foresight>) -> Self {
        Self {
            planner,
            foresight,
            steps: Vec::new(),
            resumes: Vec::new(),
            replaced: Vec::new(),
            failures: Vec::new(),
            rejected: None,
            not_tried: 0,
            done: HashMap::new(),
        }
    }

    pub(super) fn plan(&mut self, stack: &StackId, desired: &Desired) -> Result<Planned, ApplyError> {
        let urn = &desired.urn;
        if urn.stack != *stack {
            return Err(ApplyError::Foreign { urn: Box::new(urn.clone()), stack: stack.clone() });
        }
        let step = self.planner.register(desired).map_err(|rejected| refusal(rejected, desired))?;
        self.foresee(&step)?;
        let old = self.planner.existing(urn).cloned();
        if let (Op::Replace, Some(old)) = (step.op, &old) {
            self.replaced.push(data::replaced_by(old, &desired.inputs));
        }
        let on = desired.depends_on.iter();
        let dependencies = on.filter_map(|on| Some((on.clone(), self.done.get(on)?.clone()))).collect();
        let (done, watched) = watch::channel(false);
        self.done.insert(urn.clone(), watched);
        self.steps.push(step.clone());
        Ok(Planned { step, old, dependencies, done })
    }

    /// Compares a step with the preview, if there was one.
    pub(super) fn foresee(&mut self, step: &Step) -> Result<(), ApplyError> {
        let Some(foresight) = &mut self.foresight else { return Ok(()) };
        foresight
            .check(step)
            .map_err(|reason| ApplyError::Unforeseen { urn: Box::new(step.urn.clone()), reason })
    }
}

fn refusal(rejected: Rejected, desired: &Desired) -> ApplyError {
    let (urn, declared_at) = (Box::new(desired.urn.clone()), desired.declared_at.clone());
    match rejected {
        Rejected::Twice { first } => ApplyError::Twice { urn, first, second: declared_at },
        Rejected::Dependency { on } => ApplyError::Dependency { urn, dependency: Box::new(on), declared_at },
    }
}

/// The resource that a foreseen step would delete. Of a replacement, the step says whether its data may go.
pub(super) fn doomed(state: &State, step: &Step) -> Option<Recorded> {
    if !matches!(step.op, Op::Delete | Op::Replace) {
        return None;
    }
    let old = state.resources.get(&step.urn)?;
    let Some(change) = step.changes.iter().find(|change| change.property == "forceDestroy") else {
        return Some(old.clone());
    };
    let told = change.new.iter().map(|new| ("forceDestroy".to_owned(), new.clone()));
    Some(data::replaced_by(old, &told.collect()))
}
