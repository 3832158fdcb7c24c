//! A history as it is told: in the form that Durable Functions' status query has for it. What began a task and what ended it
//! are one event; turns are left out.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::history::{EventType, HistoryEvent};

/// An event as it is told. What its type does not have is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ToldEvent {
    /// `TaskCompleted`; `TaskScheduled` of a task that is open.
    pub event_type: String,
    pub timestamp: Timestamp,
    /// When the task began that this event ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_time: Option<Timestamp>,
    /// The activity, the container task, or the workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function_name: Option<String>,
    /// Of an event that was raised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fire_at: Option<Timestamp>,
    /// The run of a container task. Our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<String>,
}

/// `run` names the run of a task of the instance.
pub(super) fn tell(events: Vec<HistoryEvent>, run: impl Fn(&str, i64) -> Option<String>) -> Vec<ToldEvent> {
    let ended: HashMap<i64, usize> = events
        .iter()
        .enumerate()
        .filter_map(|(at, event)| Some((i64::from(event.task_scheduled_id.or(event.timer_id)?), at)))
        .collect();
    let began: HashMap<i64, HistoryEvent> = events
        .iter()
        .filter(|event| event.event_id >= 0)
        .map(|event| (event.event_id, event.clone()))
        .collect();
    let told = events.into_iter().filter_map(|event| {
        let turn =
            matches!(event.event_type, EventType::OrchestratorStarted | EventType::OrchestratorCompleted);
        if turn || (event.event_id >= 0 && ended.contains_key(&event.event_id)) {
            return None;
        }
        let ends = event.task_scheduled_id.or(event.timer_id);
        Some(one(ends.and_then(|task| began.get(&i64::from(task))), event, &run))
    });
    told.collect()
}

fn one(
    began: Option<&HistoryEvent>,
    event: HistoryEvent,
    run: &impl Fn(&str, i64) -> Option<String>,
) -> ToldEvent {
    let run_id = Some(began.unwrap_or(&event))
        .filter(|began| began.is_run)
        .and_then(|began| run(began.name.as_deref()?, began.event_id));
    // What an entity answers is the end of a task.
    let raised = event.event_type == EventType::EventRaised && began.is_none();
    let name = began.map_or_else(|| event.name.clone(), |began| began.name.clone());
    let json =
        |text: Option<String>| text.map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text)));
    let (mut input, mut result, mut reason) = (json(event.input), json(event.result), event.reason);
    if let (Some(EventType::EventSent), Some(response)) = (began.map(|began| began.event_type), &input) {
        let answered = json(response["result"].as_str().map(str::to_owned));
        match response.get("exceptionType") {
            Some(_) => {
                reason = answered.map(|text| text.as_str().map_or_else(|| text.to_string(), str::to_owned))
            }
            None => result = answered,
        }
        input = None;
    }
    ToldEvent {
        event_type: format!("{:?}", event.event_type),
        timestamp: event.timestamp,
        scheduled_time: began.map(|began| began.timestamp),
        function_name: name.clone().filter(|_| !raised),
        name: name.filter(|_| raised),
        instance_id: began.map_or(event.instance_id, |began| began.instance_id.clone()),
        input,
        result,
        reason,
        details: event.details.filter(|details| !details.is_empty()),
        fire_at: event.fire_at,
        run_id,
    }
}
