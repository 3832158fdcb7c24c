//! A turn at its orchestrator: what is new to the generator that is kept, or the whole history to a new one.

use jiff::Timestamp;
use tandem_failpoint::hit;
use tandem_model::PhysicalId;
use uuid::Uuid;

use super::{
    Shared, WorkflowError,
    action::State,
    core::{self, Turn, Turned},
    history::HistoryEvent,
    provider::version_id,
    record::{Record, Status},
    store::{self, InstanceKey, Loaded},
    turns::{Answer, Binding, Request, What},
};

/// How large a page of a replay is.
const PAGE: usize = 1 << 20;

impl Shared {
    /// Lets the orchestrator take the turn; `None` if the cloud closes.
    pub(super) async fn take(
        &self,
        instance: &InstanceKey,
        loaded: &Loaded,
        turn: Turn,
    ) -> Result<Option<Turned>, WorkflowError> {
        let record = &loaded.record;
        let attempt = Uuid::now_v7().simple().to_string();
        let version = version_id(&record.workflow, &record.version);
        let traceparent = Some(record.cause());
        let request = Request {
            instance: record.id.clone(),
            execution: record.execution.clone(),
            after: record.turn.clone(),
            attempt: attempt.clone(),
            what: What::Events(turn.events.clone()),
        };
        let mut answer = Answer::Replay;
        if record.turn.is_some() {
            let Some(told) = self.ask(&version, &request, traceparent.clone()).await else {
                return Ok(None);
            };
            answer = told;
        }
        // A replay may need a second one: the worker that began it may be gone amid its pages.
        let mut replays = 0;
        let state = loop {
            match answer {
                Answer::State(state) => break Ok(*state),
                Answer::Broken(reason) => break Err(reason),
                Answer::Replay if replays == 3 => {
                    break Err("the workers of its orchestrator are lost again and again".to_owned());
                }
                Answer::Replay => {}
            }
            replays += 1;
            let replayed = self.replay(instance, record, &turn, &attempt, &version, &traceparent).await?;
            let Some(told) = replayed else { return Ok(None) };
            answer = told;
        };
        let (now, told) = (Timestamp::now(), turn.events.clone());
        let turned = state.and_then(|state: State| {
            core::end(record, turn, state, &attempt).map_err(|diverged| diverged.to_string())
        });
        hit("workflow.turn.answered");
        Ok(Some(turned.unwrap_or_else(|reason| core::stop(record, Status::Failed, &reason, told, now))))
    }

    /// What the orchestrator says to a request; `None` if the cloud closes.
    async fn ask(
        &self,
        version: &PhysicalId,
        request: &Request,
        traceparent: Option<String>,
    ) -> Option<Answer> {
        tokio::select! {
            answer = self.turns.take(version, request, traceparent) => answer,
            () = self.closing.cancelled() => None,
        }
    }

    /// Hands the whole history to a new generator, a page at a time, and this turn's events with the last one.
    async fn replay(
        &self,
        instance: &InstanceKey,
        record: &Record,
        turn: &Turn,
        attempt: &str,
        version: &PhysicalId,
        traceparent: &Option<String>,
    ) -> Result<Option<Answer>, WorkflowError> {
        let named = |page: u32| format!("{attempt}/{page}");
        let (mut state, mut next) = (None::<State>, 0);
        for page in 0.. {
            let mut events = self.page(instance, record, &mut next)?;
            let last = next >= record.turns;
            if last {
                events.extend(turn.events.iter().cloned());
            }
            let what = match page {
                0 => What::Binding(Binding {
                    instance_id: record.id.clone(),
                    input: record.input.clone().unwrap_or_default(),
                    parent_instance_id: record.parent.as_ref().map(|parent| parent.instance.clone()),
                    is_replaying: record.turns > 0,
                    upper_schema_version: 1,
                    history: events,
                }),
                _ => What::Events(events),
            };
            let request = Request {
                instance: record.id.clone(),
                execution: record.execution.clone(),
                after: (page > 0).then(|| named(page - 1)),
                attempt: if last { attempt.to_owned() } else { named(page) },
                what,
            };
            let told = match self.ask(version, &request, traceparent.clone()).await {
                Some(Answer::State(told)) => *told,
                other => return Ok(other),
            };
            let whole = match state.take() {
                Some(before) => before.followed_by(told),
                None => told,
            };
            if last {
                return Ok(Some(Answer::State(Box::new(whole))));
            }
            state = Some(whole);
        }
        Ok(None)
    }

    /// The events of a page, which begins with turn `next`; then `next` is the turn after it.
    fn page(
        &self,
        instance: &InstanceKey,
        record: &Record,
        next: &mut u32,
    ) -> Result<Vec<HistoryEvent>, WorkflowError> {
        let snapshot = self.store.snapshot()?;
        let (mut events, mut size) = (Vec::new(), 0);
        for read in store::turns(&*snapshot, instance, &record.execution, *next)? {
            let (of_turn, bytes) = read?;
            events.extend(of_turn.into_iter().map(|event| HistoryEvent { is_played: true, ..event }));
            (*next, size) = (*next + 1, size + bytes);
            if size >= PAGE {
                break;
            }
        }
        Ok(events)
    }
}
