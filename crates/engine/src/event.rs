//! What an update tells while it goes. Displays consume it; the engine never prints.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_model::{
    Report, Urn,
    plan::{Op, Step},
};
use tokio::sync::mpsc;

use crate::port::Progress;

/// One thing that happened in an update, in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "event")]
pub enum EngineEvent {
    /// An operation that an earlier, interrupted update had begun was started and has ended. `report` is why it was
    /// refused.
    Resumed {
        op: Op,
        urn: Urn,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<Report>,
    },
    /// What will happen to a resource. A `same` is planned, and neither started nor done.
    StepPlanned {
        step: Step,
    },
    /// The step waits for these resources, which are under way.
    StepWaiting {
        op: Op,
        urn: Urn,
        on: Vec<Urn>,
    },
    StepStarted {
        op: Op,
        urn: Urn,
    },
    /// A line of a long step's output: a build's.
    StepProgress {
        urn: Urn,
        line: String,
    },
    StepDone {
        op: Op,
        urn: Urn,
        elapsed: Duration,
    },
    StepFailed {
        op: Op,
        urn: Urn,
        elapsed: Duration,
        report: Report,
    },
    /// Something before it failed, or the update was stopped.
    StepSkipped {
        op: Op,
        urn: Urn,
        reason: String,
    },
}

/// Where an update sends its events. Nobody needs to listen.
#[derive(Debug, Clone)]
pub struct Events(Option<mpsc::UnboundedSender<EngineEvent>>);

impl Events {
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<EngineEvent>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(Some(sender)), receiver)
    }

    pub fn ignored() -> Self {
        Self(None)
    }

    pub(crate) fn emit(&self, event: EngineEvent) {
        if let Some(sender) = &self.0 {
            // A display that went away must not stop the update.
            let _ = sender.send(event);
        }
    }
}

impl Progress for Events {
    fn line(&self, urn: &Urn, line: &str) {
        self.emit(EngineEvent::StepProgress { urn: urn.clone(), line: line.to_owned() });
    }
}
