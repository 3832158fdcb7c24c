//! One step of a live update: waits for what it depends on, takes its turn, changes, tells.

use serde_json::Value;
use tandem_model::{
    Desired, Explain, Recorded, Urn,
    plan::{Change, Op, Step},
};
use tokio::{sync::watch, time::Instant};

use super::{Inner, Live, Registered, planning::Planned};
use crate::{
    data,
    error::{ApplyError, Failure},
    event::EngineEvent,
};

impl Inner {
    /// Makes one resource as the program wants it.
    pub(super) async fn carry_out(
        &self,
        desired: Desired,
        planned: Planned,
    ) -> Result<Registered, ApplyError> {
        let Planned { step: Step { op, .. }, old, dependencies, done } = planned;
        let Some(live) = &self.live else { unreachable!("only a live update carries out") };
        let urn = desired.urn.clone();
        if let Some(failed) = self.await_dependencies(op, &urn, dependencies).await {
            return Err(self.skip(op, urn, format!("{} failed", failed.short())));
        }
        let recorded = match (op, old) {
            (Op::Same, Some(mut old)) => {
                old.depends_on.clone_from(&desired.depends_on);
                live.executor.state().resources.insert(urn.clone(), old.clone());
                old
            }
            (_, old) => {
                let _turn = live.executor.turn().await;
                self.may_start(live).map_err(|reason| self.skip(op, urn.clone(), reason))?;
                self.timed(op, &urn, self.change(live, op, desired, old)).await?
            }
        };
        // A receiver that is gone has nobody waiting.
        let _ = done.send(true);
        Ok(Registered { urn, op, id: Some(recorded.id), outputs: Value::Object(recorded.outputs) })
    }

    /// Waits for all dependencies; answers one that failed.
    async fn await_dependencies(
        &self,
        op: Op,
        urn: &Urn,
        dependencies: Vec<(Urn, watch::Receiver<bool>)>,
    ) -> Option<Urn> {
        let open = dependencies.iter().filter(|(_, done)| !*done.borrow()).map(|(urn, _)| urn.clone());
        let on: Vec<Urn> = open.collect();
        if !on.is_empty() {
            self.events.emit(EngineEvent::StepWaiting { op, urn: urn.clone(), on });
        }
        for (dependency, mut done) in dependencies {
            // A sender that goes away without a word has failed.
            if done.wait_for(|done| *done).await.is_err() {
                return Some(dependency);
            }
        }
        None
    }

    async fn change(
        &self,
        live: &Live,
        op: Op,
        desired: Desired,
        old: Option<Recorded>,
    ) -> Result<Recorded, ApplyError> {
        let Desired { urn, inputs, depends_on, .. } = desired;
        let (change, replaces) = match (op, old) {
            (Op::Update, Some(Recorded { id, inputs: old, .. })) => {
                (Change::Update { urn, id, old, new: inputs }, None)
            }
            (Op::Replace, Some(old)) => {
                if !live.force {
                    data::guard(&*self.target, [&data::replaced_by(&old, &inputs)]).await?;
                }
                (Change::Create { urn, inputs }, Some(old.id))
            }
            _ => (Change::Create { urn, inputs }, None),
        };
        let recorded = live.executor.run(change, depends_on, replaces).await?;
        Ok(recorded.expect("only a delete records nothing"))
    }

    /// Whether a further step may start, or why not.
    pub(super) fn may_start(&self, live: &Live) -> Result<(), String> {
        if live.executor.stop.requested() {
            return Err("the update was stopped".into());
        }
        let planning = self.planning();
        match (planning.failures.first(), &planning.rejected) {
            (Some(failure), _) => Err(format!("{} failed", failure.urn.short())),
            (None, Some(rejected)) => Err(rejected.message.clone()),
            (None, None) => Ok(()),
        }
    }

    /// Tells of a step's start and end, and notes its failure.
    pub(super) async fn timed<T>(
        &self,
        op: Op,
        urn: &Urn,
        step: impl Future<Output = Result<T, ApplyError>>,
    ) -> Result<T, ApplyError> {
        let started = Instant::now();
        self.events.emit(EngineEvent::StepStarted { op, urn: urn.clone() });
        let result = step.await;
        let (urn, elapsed) = (urn.clone(), started.elapsed());
        match &result {
            Ok(_) => self.events.emit(EngineEvent::StepDone { op, urn, elapsed }),
            Err(ApplyError::Stopped) => {
                self.planning().not_tried += 1;
                self.events.emit(EngineEvent::StepSkipped {
                    op,
                    urn,
                    reason: "the update was stopped".into(),
                });
            }
            Err(error) => {
                let report = error.report();
                self.planning().failures.push(Failure { urn: urn.clone(), op, report: report.clone() });
                self.events.emit(EngineEvent::StepFailed { op, urn, elapsed, report });
            }
        }
        result
    }

    fn skip(&self, op: Op, urn: Urn, reason: String) -> ApplyError {
        self.planning().not_tried += 1;
        self.events.emit(EngineEvent::StepSkipped { op, urn: urn.clone(), reason: reason.clone() });
        ApplyError::NotTried { urn: Box::new(urn), reason }
    }
}
