//! One update of a stack, from the program's first registration to the last delete.
//!
//! A preview and the real thing are the same fold of the same planner; a preview only answers what it knows instead
//! of carrying it out. Registrations may come at the same time; each waits for those it depends on.
//!
//! - A step that fails lets the running ones end and starts no new ones. What was done is recorded. (I5)
//! - Nothing is deleted unless everything else succeeded.
//! - A step that its preview did not allow for stops the update before the step. (I6)
//!
//! Start at [`Update::preview`] and [`Update::apply`].

mod delete;
mod planning;
mod step;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tandem_model::{
    Desired, Explain, PhysicalId, Recorded, StackId, Urn,
    plan::{Op, Step},
    resource::Properties,
    value,
};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::planning::{Planned, Planning};
use crate::{
    apply::Executor,
    data,
    error::ApplyError,
    event::{EngineEvent, Events},
    foresight::Foresight,
    plan::Planner,
    port::{Contents, StateStore, Stored, Target},
    state::{self, Folded, State},
    stop::Stop,
};

/// How an update is carried out.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The preview's steps, which the update may not go beyond. None: there was no preview.
    pub expected: Option<Vec<Step>>,
    /// Deletes data resources with what is in them.
    pub force: bool,
    /// Resources of the stack that exist in the target and are in no state: clients made them. The update treats them
    /// as its own, from before its first step, so a crash does not forget what it had begun to delete.
    pub adopt: Vec<Recorded>,
}

/// A resource that the program registered.
#[derive(Debug, Clone, PartialEq)]
pub struct Registered {
    pub urn: Urn,
    pub op: Op,
    /// None while only the update itself can tell.
    pub id: Option<PhysicalId>,
    /// An object with the outputs; as a whole or in parts [`value::unknown`].
    pub outputs: Value,
}

/// What an update did, or what a preview says it would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    pub stack: StackId,
    /// In the order in which they were planned.
    pub steps: Vec<Step>,
    /// In a preview: what an interrupted update began, and this one finishes before anything else.
    pub resumes: Vec<Step>,
    /// In a preview: the data that would be lost, which `up` refuses without force.
    pub contents: Vec<Contents>,
    /// In a preview: the data that is lost with resources that say by `forceDestroy` that it may be.
    pub forfeit: Vec<Contents>,
    pub exports: Properties,
    pub elapsed: Duration,
}

impl Summary {
    /// Whether there is anything to do.
    pub fn changes(&self) -> bool {
        !self.resumes.is_empty() || self.steps.iter().any(|step| step.op != Op::Same)
    }

    pub fn count(&self, op: Op) -> usize {
        self.steps.iter().filter(|step| step.op == op).count()
    }
}

/// One update or preview of a stack. Clones are the same update.
#[derive(Debug, Clone)]
pub struct Update(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stack: StackId,
    target: Arc<dyn Target>,
    events: Events,
    started: Instant,
    planning: Mutex<Planning>,
    live: Option<Live>,
}

/// What only the real thing has.
#[derive(Debug)]
struct Live {
    executor: Executor,
    steps: TaskTracker,
    force: bool,
}

impl Update {
    /// Begins a preview. Reads from the target once, and changes nothing.
    ///
    /// # Errors
    /// [`ApplyError::OtherCloud`] if the stack lives elsewhere; [`ApplyError::Target`] if the target is silent.
    pub async fn preview(
        folded: Folded,
        target: Arc<dyn Target>,
        events: Events,
    ) -> Result<Self, ApplyError> {
        let started = Instant::now();
        identify(&folded, &*target).await?;
        let (state, uncertain) = folded.foreseen();
        let begun: HashSet<Urn> = folded.pending.iter().map(|begin| begin.change.urn().clone()).collect();
        let mut missing = survey(&state, &begun, &*target).await?;
        missing.extend(uncertain);
        let mut planning = Planning::new(planner(&state, missing, &target), None);
        planning.resumes = folded.pending.iter().map(|begin| begin.step()).collect();
        let left = folded.state.replaced.iter();
        planning.resumes.extend(left.map(|old| Step {
            op: Op::Delete,
            urn: old.urn.clone(),
            changes: Vec::new(),
        }));
        planning.replaced = state.replaced.clone();
        Ok(Self::new(state.stack, target, events, started, planning, None))
    }

    /// Begins an update: repeats what an interrupted one began, and refuses to lose data.
    ///
    /// # Errors
    /// As [`Update::preview`]; [`ApplyError::NotEmpty`] if the expected steps would lose data without force.
    pub async fn apply(
        store: Arc<dyn StateStore>,
        target: Arc<dyn Target>,
        options: Options,
        events: Events,
        stop: Stop,
    ) -> Result<Self, ApplyError> {
        let started = Instant::now();
        let Options { expected, force, adopt } = options;
        let Stored { state, journal } = store.load().await?;
        let mut folded = state::fold(state, journal);
        let cloud = identify(&folded, &*target).await?;
        let adopts = !adopt.is_empty();
        folded.adopt(adopt);
        if folded.state.cloud.as_ref() != Some(&cloud) || adopts {
            // On disk before the first operation, or a crash would forget which cloud has it.
            folded.state.cloud = Some(cloud);
            store.save(&folded.state).await?;
        }
        let pending = std::mem::take(&mut folded.pending);
        let resumed: HashSet<Urn> = pending.iter().map(|begin| begin.change.urn().clone()).collect();
        let stack = folded.state.stack.clone();
        let executor = Executor::new(target.clone(), store, events.clone(), stop, folded);
        executor.resume(pending).await?;
        executor.settle(None).await?;

        let state = executor.state().clone();
        let missing = survey(&state, &HashSet::new(), &*target).await?;
        if let (Some(expected), false) = (&expected, force) {
            let doomed = expected.iter().filter_map(|step| planning::doomed(&state, step));
            let doomed: Vec<Recorded> = doomed.chain(state.replaced.iter().cloned()).collect();
            data::guard(&*target, &doomed).await?;
        }
        let foresight = expected.map(|steps| Foresight::new(steps, resumed));
        let planning = Planning::new(planner(&state, missing, &target), foresight);
        let live = Live { executor, steps: TaskTracker::new(), force };
        Ok(Self::new(stack, target, events, started, planning, Some(live)))
    }

    fn new(
        stack: StackId,
        target: Arc<dyn Target>,
        events: Events,
        started: Instant,
        planning: Planning,
        live: Option<Live>,
    ) -> Self {
        let planning = Mutex::new(planning);
        Self(Arc::new(Inner { stack, target, events, started, planning, live }))
    }

    /// Makes one resource as the program wants it, or says what would come of it.
    ///
    /// Returns when the resource is there. Dropping the call does not stop a step that has begun.
    ///
    /// # Errors
    /// [`ApplyError`] if it cannot be planned, was not foreseen, failed, or was not tried. Each of them makes
    /// [`finish`](Self::finish) fail, too.
    pub async fn register(&self, desired: Desired) -> Result<Registered, ApplyError> {
        let planned = self.0.plan(&desired)?;
        let Some(live) = &self.0.live else { return Ok(self.0.foretell(desired.urn, planned)) };
        let inner = self.0.clone();
        let step = live.steps.spawn(async move { inner.carry_out(desired, planned).await });
        step.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Ends the update: waits for the running steps, deletes what the program no longer declares, and saves.
    ///
    /// # Errors
    /// [`ApplyError::Failed`] or [`ApplyError::Stopped`] if something was not done; what was done is recorded, and
    /// the next update goes on there. [`ApplyError::Unforeseen`] and [`ApplyError::NotEmpty`] come before any delete.
    pub async fn finish(&self, exports: Properties) -> Result<Summary, ApplyError> {
        match &self.0.live {
            None => self.0.finish_preview(exports).await,
            Some(live) => self.0.finish_live(live, exports).await,
        }
    }

    /// Ends an update whose program failed: waits for the running steps, deletes nothing, and saves.
    ///
    /// # Errors
    /// [`ApplyError::Failed`] if steps failed, too.
    pub async fn abandon(&self) -> Result<(), ApplyError> {
        let Some(live) = &self.0.live else { return Ok(()) };
        live.wait().await;
        live.executor.settle(None).await?;
        self.0.verdict(live)
    }
}

/// The cloud's id, if the stack may live there.
async fn identify(folded: &Folded, target: &dyn Target) -> Result<crate::port::CloudId, ApplyError> {
    let found = target.identity().await?;
    match &folded.state.cloud {
        Some(expected) if *expected != found && !(folded.state.is_empty() && folded.pending.is_empty()) => {
            Err(ApplyError::OtherCloud {
                stack: folded.state.stack.clone(),
                expected: expected.clone(),
                found,
            })
        }
        _ => Ok(found),
    }
}

/// What is recorded and gone: one bulk read. What exists and is not recorded stops an update, lest it be forgotten for
/// good; of what is `begun` only the target knows how far it came. (I5)
async fn survey(
    state: &State,
    begun: &HashSet<Urn>,
    target: &dyn Target,
) -> Result<HashSet<Urn>, ApplyError> {
    let found = target.list(&state.stack).await?;
    let existing: HashSet<(&Urn, &PhysicalId)> = found.iter().map(|r| (&r.urn, &r.id)).collect();
    let recorded: HashSet<(&Urn, &PhysicalId)> =
        state.resources.values().chain(&state.replaced).map(|r| (&r.urn, &r.id)).collect();
    let unknown = found.iter().filter(|r| !recorded.contains(&(&r.urn, &r.id)) && !begun.contains(&r.urn));
    let unknown = unknown.filter(|r| !target.made_by_client(&r.urn));
    let resources: Vec<_> = unknown.map(|r| (r.urn.clone(), r.id.clone())).collect();
    if !resources.is_empty() {
        return Err(ApplyError::Unknown { stack: state.stack.clone(), resources });
    }
    let gone = state.resources.values().filter(|r| !existing.contains(&(&r.urn, &r.id)));
    Ok(gone.map(|r| r.urn.clone()).collect())
}

fn planner(state: &State, missing: HashSet<Urn>, target: &Arc<dyn Target>) -> Planner<'static> {
    let target = target.clone();
    Planner::new(state.resources.clone(), missing, move |urn, old, new| target.diff(urn, old, new))
}

impl Live {
    async fn wait(&self) {
        self.steps.close();
        self.steps.wait().await;
    }
}

impl Inner {
    fn planning(&self) -> MutexGuard<'_, Planning> {
        self.planning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn summary(&self, loss: data::Loss, exports: Properties) -> Summary {
        let planning = self.planning();
        Summary {
            stack: self.stack.clone(),
            steps: planning.steps.clone(),
            resumes: planning.resumes.clone(),
            contents: loss.guarded,
            forfeit: loss.allowed,
            exports,
            elapsed: self.started.elapsed(),
        }
    }

    fn plan(&self, desired: &Desired) -> Result<Planned, ApplyError> {
        let mut planning = self.planning();
        let planned = planning.plan(&self.stack, desired).and_then(|planned| {
            let old = planned.old.as_ref().map(|old| &old.inputs);
            let tried = planned.step.op != Op::Same;
            match self.target.refusal(&desired.urn, old, &desired.inputs).filter(|_| tried) {
                Some(report) => Err(crate::port::TargetError::Refused(report).into()),
                None => Ok(planned),
            }
        });
        match planned {
            Ok(planned) => {
                self.events.emit(EngineEvent::StepPlanned { step: planned.step.clone() });
                Ok(planned)
            }
            Err(error) => {
                planning.rejected.get_or_insert(error.report());
                Err(error)
            }
        }
    }

    /// What a preview answers to a registration.
    fn foretell(&self, urn: Urn, Planned { step, old, .. }: Planned) -> Registered {
        let (id, outputs) = match (step.op, old) {
            (Op::Same, Some(old)) => (Some(old.id), Value::Object(old.outputs)),
            (Op::Update, Some(old)) => {
                let outputs = self.target.foresee(&urn, &step.changes, &old.outputs);
                (Some(old.id), Value::Object(outputs))
            }
            _ => (None, value::unknown()),
        };
        Registered { urn, op: step.op, id, outputs }
    }

    /// Whether everything so far succeeded.
    fn verdict(&self, live: &Live) -> Result<(), ApplyError> {
        let planning = self.planning();
        match (&planning.failures[..], planning.not_tried) {
            ([], _) if let Some(report) = &planning.rejected => Err(ApplyError::Rejected(report.clone())),
            ([], 0) => Ok(()),
            ([], _) if live.executor.stop.requested() => Err(ApplyError::Stopped),
            (failures, not_tried) => {
                let mut failures = failures.to_vec();
                failures.sort_by(|a, b| a.urn.cmp(&b.urn));
                Err(ApplyError::Failed { failures, not_tried })
            }
        }
    }

    async fn finish_preview(&self, exports: Properties) -> Result<Summary, ApplyError> {
        let (deletes, replaced) = {
            let planning = self.planning();
            (planning.planner.finish(), planning.replaced.clone())
        };
        self.plan_deletes(&deletes);
        let loss = data::loss(&*self.target, deletes.iter().chain(&replaced)).await?;
        Ok(self.summary(loss, exports))
    }

    async fn finish_live(&self, live: &Live, exports: Properties) -> Result<Summary, ApplyError> {
        live.wait().await;
        let result = match self.verdict(live) {
            Ok(()) => self.delete_rest(live).await.and_then(|()| self.verdict(live)),
            failed => failed,
        };
        // Even a failed update saves what it did.
        live.executor.settle(result.is_ok().then(|| exports.clone())).await?;
        result?;
        Ok(self.summary(data::Loss::default(), exports))
    }

    fn plan_deletes(&self, deletes: &[Recorded]) {
        for recorded in deletes {
            let step = Step { op: Op::Delete, urn: recorded.urn.clone(), changes: Vec::new() };
            self.planning().steps.push(step.clone());
            self.events.emit(EngineEvent::StepPlanned { step });
        }
    }
}
