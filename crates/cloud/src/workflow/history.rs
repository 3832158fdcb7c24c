//! What happened to an instance, in the form that Durable Functions has for it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The kinds of event, with the numbers that the protocol gives them. Those from 100 on are our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub(super) enum EventType {
    ExecutionStarted = 0,
    ExecutionCompleted = 1,
    ExecutionFailed = 2,
    ExecutionTerminated = 3,
    TaskScheduled = 4,
    TaskCompleted = 5,
    TaskFailed = 6,
    SubOrchestrationInstanceCreated = 7,
    SubOrchestrationInstanceCompleted = 8,
    SubOrchestrationInstanceFailed = 9,
    TimerCreated = 10,
    TimerFired = 11,
    OrchestratorStarted = 12,
    OrchestratorCompleted = 13,
    EventSent = 14,
    EventRaised = 15,
    ContinueAsNew = 16,
    /// A lock on entities was asked for.
    LockRequested = 100,
    /// It was given, or refused with a reason.
    LockAcquired = 101,
    /// It was given back.
    LockReleased = 102,
}

impl EventType {
    const ALL: [Self; 20] = [
        Self::ExecutionStarted,
        Self::ExecutionCompleted,
        Self::ExecutionFailed,
        Self::ExecutionTerminated,
        Self::TaskScheduled,
        Self::TaskCompleted,
        Self::TaskFailed,
        Self::SubOrchestrationInstanceCreated,
        Self::SubOrchestrationInstanceCompleted,
        Self::SubOrchestrationInstanceFailed,
        Self::TimerCreated,
        Self::TimerFired,
        Self::OrchestratorStarted,
        Self::OrchestratorCompleted,
        Self::EventSent,
        Self::EventRaised,
        Self::ContinueAsNew,
        Self::LockRequested,
        Self::LockAcquired,
        Self::LockReleased,
    ];
}

impl From<EventType> for u8 {
    fn from(event: EventType) -> Self {
        event as Self
    }
}

impl TryFrom<u8> for EventType {
    type Error = String;
    fn try_from(number: u8) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|event| *event as u8 == number)
            .ok_or_else(|| format!("{number} is no event of a history"))
    }
}

/// One event. What a kind does not have is absent. Texts of inputs and results are JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HistoryEvent {
    pub(super) event_type: EventType,
    /// The id of the task that it began; -1 if it began none.
    pub(super) event_id: i64,
    /// Whether the orchestrator has seen it in an earlier turn.
    #[serde(default)]
    pub(super) is_played: bool,
    pub(super) timestamp: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) details: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) task_scheduled_id: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timer_id: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fire_at: Option<Timestamp>,
    /// Our own: it began a container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_run: bool,
}

impl HistoryEvent {
    /// An event that begins no task.
    pub(super) fn new(event_type: EventType, timestamp: Timestamp) -> Self {
        Self {
            event_type,
            event_id: -1,
            is_played: false,
            timestamp,
            name: None,
            input: None,
            result: None,
            reason: None,
            details: None,
            instance_id: None,
            task_scheduled_id: None,
            timer_id: None,
            fire_at: None,
            is_run: false,
        }
    }

    /// The event that begins a task.
    pub(super) fn begins(task: u32, event_type: EventType, timestamp: Timestamp) -> Self {
        Self { event_id: i64::from(task), ..Self::new(event_type, timestamp) }
    }
}
