//! Carries out operations: journals each, asks the target, journals the answer.
//!
//! Invariants:
//! - The target is asked only for what is begun in the journal. (I5)
//! - The journal is emptied only when the snapshot holds all of it and nothing in it is open.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use tandem_model::{
    OpId, PhysicalId, Recorded, Urn,
    plan::{Applied, Change, Step},
    resource::Properties,
};
use tokio::sync::Semaphore;

use crate::{
    error::{ApplyError, StateError},
    event::{EngineEvent, Events},
    journal::{Begin, Entry, Outcome},
    port::{StateStore, Target, TargetError},
    state::{Folded, State},
    stop::Stop,
};

/// How many operations are asked of the target at once.
const PARALLEL: usize = 16;

/// Changes the target and the state together.
pub(crate) struct Executor {
    target: Arc<dyn Target>,
    store: Arc<dyn StateStore>,
    pub(crate) events: Events,
    pub(crate) stop: Stop,
    permits: Semaphore,
    state: Mutex<State>,
    ended: Mutex<Vec<OpId>>,
    /// Whether an operation stays begun and not ended, for the next update to repeat.
    open: AtomicBool,
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executor({:?}, {:?})", self.target, self.store)
    }
}

impl Executor {
    pub(crate) fn new(
        target: Arc<dyn Target>,
        store: Arc<dyn StateStore>,
        events: Events,
        stop: Stop,
        Folded { state, ended, .. }: Folded,
    ) -> Self {
        let permits = Semaphore::new(PARALLEL);
        let (state, ended) = (Mutex::new(state), Mutex::new(ended));
        Self { target, store, events, stop, permits, state, ended, open: AtomicBool::new(false) }
    }

    pub(crate) fn target(&self) -> &dyn Target {
        &*self.target
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> MutexGuard<'_, Vec<OpId>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for its turn: so many operations run at once and no more.
    pub(crate) async fn turn(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.permits.acquire().await.expect("the semaphore is never closed")
    }

    /// Does one change, and answers what is recorded now: nothing after a delete.
    ///
    /// # Errors
    /// [`ApplyError::Target`] if the target refused or was silent, [`ApplyError::Stopped`] if waiting for it was given
    /// up, [`ApplyError::State`] if the journal could not be written.
    pub(crate) async fn run(
        &self,
        change: Change,
        depends_on: Vec<Urn>,
        replaces: Option<PhysicalId>,
    ) -> Result<Option<Recorded>, ApplyError> {
        let op = OpId(uuid::Uuid::now_v7().to_string());
        let begin = Begin { op, change, depends_on, replaces };
        self.open_until_ended(begin, true).await
    }

    /// Repeats what an interrupted update began. Independent of each other: each was begun when all it depends on
    /// was done.
    ///
    /// # Errors
    /// [`ApplyError`] if one of them did not end. A refusal is an end: it is only told.
    pub(crate) async fn resume(&self, pending: Vec<Begin>) -> Result<(), ApplyError> {
        let repeated = futures::future::join_all(pending.into_iter().map(|begin| async {
            let _turn = self.turn().await;
            let Step { op, urn, .. } = begin.step();
            self.events.emit(EngineEvent::StepStarted { op, urn: urn.clone() });
            let report = match self.open_until_ended(begin, false).await {
                Ok(_) => None,
                Err(ApplyError::Target(TargetError::Refused(report))) => Some(report),
                Err(other) => return Err(other),
            };
            self.events.emit(EngineEvent::Resumed { op, urn, report });
            Ok(())
        }));
        repeated.await.into_iter().collect()
    }

    async fn open_until_ended(&self, begin: Begin, is_new: bool) -> Result<Option<Recorded>, ApplyError> {
        if is_new {
            self.store.append(Entry::Begin(begin.clone())).await?;
            tandem_failpoint::hit("engine.journal.begun");
        }
        let result = self.ask(&begin).await;
        if !matches!(result, Ok(_) | Err(ApplyError::Target(TargetError::Refused(_)))) {
            self.open.store(true, Ordering::SeqCst);
        }
        result
    }

    async fn ask(&self, begin: &Begin) -> Result<Option<Recorded>, ApplyError> {
        let answer = tokio::select! {
            biased;
            () = self.stop.abandoned() => return Err(ApplyError::Stopped),
            answer = self.target.apply(&begin.op, &begin.change, &self.events) => answer,
        };
        tandem_failpoint::hit("engine.target.applied");
        let op = begin.op.clone();
        let outcome = match answer {
            Ok(applied) => outcome(begin, applied)?,
            Err(TargetError::Refused(report)) => {
                self.store.append(Entry::Failed { op: op.clone(), report: report.clone() }).await?;
                tandem_failpoint::hit("engine.journal.failed");
                self.ended().push(op);
                return Err(TargetError::Refused(report).into());
            }
            Err(unreachable) => return Err(unreachable.into()),
        };
        self.store.append(Entry::Done { op: op.clone(), outcome: outcome.clone() }).await?;
        tandem_failpoint::hit("engine.journal.done");
        self.ended().push(op);
        self.state().take(outcome.clone());
        Ok(match outcome {
            Outcome::Recorded { recorded, .. } => Some(recorded),
            Outcome::Removed { .. } => None,
        })
    }

    /// Saves the state, and empties the journal if nothing in it is open. `exports` are kept only by a success.
    ///
    /// # Errors
    /// [`StateError`] if the state may not be on disk. The journal is then as good.
    pub(crate) async fn settle(&self, exports: Option<Properties>) -> Result<(), StateError> {
        let state = {
            let mut state = self.state();
            if let Some(exports) = exports {
                state.exports = exports;
                state.updated = Some(Timestamp::now());
            }
            state.clone()
        };
        self.store.save(&state).await?;
        let ended = self.ended().clone();
        if !ended.is_empty() {
            if let Err(error) = self.target.acknowledge(&ended).await {
                // They stay in the journal, so the next update acknowledges them.
                tracing::debug!(%error, "operations are not acknowledged yet");
                return Ok(());
            }
            tandem_failpoint::hit("engine.state.acknowledged");
        }
        if self.open.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.store.clear().await?;
        self.ended().clear();
        Ok(())
    }
}

/// What the target's answer means for the state.
fn outcome(begin: &Begin, applied: Option<Applied>) -> Result<Outcome, TargetError> {
    let inputs = match &begin.change {
        Change::Delete { urn, id, .. } => return Ok(Outcome::Removed { urn: urn.clone(), id: id.clone() }),
        Change::Create { inputs, .. } => inputs,
        Change::Update { new, .. } => new,
    };
    let Some(Applied { id, outputs }) = applied else {
        let reason = format!("it answered a change of {} with nothing", begin.change.urn().short());
        return Err(TargetError::Unreachable { reason });
    };
    let recorded = begin.recorded(id, inputs.clone(), outputs);
    Ok(Outcome::Recorded { recorded, replaced: begin.replaces.clone() })
}
