//! One instance, for people: how it stands, then a line for each step, with its start and how long it took.

use std::fmt::Write as _;

use jiff::Timestamp;
use tandem_cloud::workflow::{InstanceStatus, LockStatus, Status, ToldEvent};

use crate::ui;

/// How many characters of an input or output are shown.
const MOST: usize = 80;

pub(super) fn text(told: &InstanceStatus, now: Timestamp) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10}{value}");
    };
    row("instance", told.instance_id.clone());
    row("workflow", told.name.clone());
    row("status", format!("{:?}", told.runtime_status));
    for (name, value) in [("input", &told.input), ("custom", &told.custom_status), ("output", &told.output)] {
        if !value.is_null() {
            row(name, short(&value.to_string()));
        }
    }
    for why in &told.held_up {
        row("waits", format!("{} ({})", why.message, why.code));
    }
    if let Some(lock) = &told.lock {
        row("lock", locked(lock, now));
    }
    let events = told.history_events.as_deref().unwrap_or_default();
    let began = told.created_time;
    let until = match told.runtime_status.ended() {
        true => told.last_updated_time,
        false => now,
    };
    row("took", span(began, until));
    if let Some(places) = events
        .last()
        .and_then(|event| event.details.as_deref())
        .filter(|_| told.runtime_status == Status::Failed)
    {
        for (n, place) in places.lines().enumerate() {
            row(if n == 0 { "thrown" } else { "" }, place.to_owned());
        }
    }
    let mut rows = steps(events, told.runtime_status.ended(), began, until);
    let waits =
        |name: &String| [String::new(), format!("event {name}"), String::new(), "waits for it".to_owned()];
    rows.extend(told.events_awaited.iter().map(waits));
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&ui::table(["AT", "STEP", "TOOK", "OUTCOME"], rows, None));
    }
    text
}

/// Which entities it has to itself, or who has those that it waits for.
fn locked(lock: &LockStatus, now: Timestamp) -> String {
    let entities = lock.entities.join(", ");
    let Some(since) = lock.held_since else {
        let by = lock.held_by.iter().map(|(entity, by)| format!("; {} has {entity}", by.instance_id));
        return format!("on {entities}: waits for it{}", by.collect::<String>());
    };
    format!("on {entities}: held for {}", span(since, now))
}

/// A step of an instance: a task that it began, or something that it was told.
fn steps(events: &[ToldEvent], ended: bool, began: Timestamp, until: Timestamp) -> Vec<[String; 4]> {
    let mut rows = Vec::new();
    for event in events {
        let name = event.function_name.clone().unwrap_or_default();
        let kind = event.event_type.as_str();
        let what = match kind {
            "TaskScheduled" | "TaskCompleted" | "TaskFailed" => match &event.run_id {
                Some(run) => format!("{name} (run {run})"),
                None => name,
            },
            "TimerCreated" | "TimerFired" => "timer".to_owned(),
            "LockRequested" | "LockAcquired" => format!("lock on {name}"),
            "LockReleased" => format!("release of {name}"),
            "EventSent" | "EventRaised" if event.function_name.is_some() => {
                format!("entity {} {name}", event.instance_id.as_deref().unwrap_or_default())
            }
            "EventRaised" => format!("event {}", event.name.as_deref().unwrap_or_default()),
            _ if kind.starts_with("SubOrchestration") => {
                format!("workflow {name} ({})", event.instance_id.as_deref().unwrap_or_default())
            }
            _ => continue,
        };
        let open = matches!(
            kind,
            "TaskScheduled" | "TimerCreated" | "SubOrchestrationInstanceCreated" | "LockRequested"
        );
        let from = event.scheduled_time.unwrap_or(event.timestamp);
        let took = match kind {
            "EventSent" | "LockReleased" => String::new(),
            "EventRaised" if event.function_name.is_none() => String::new(),
            _ if open => span(from, until),
            _ => span(from, event.timestamp),
        };
        let outcome = match (&event.reason, &event.result, &event.input) {
            // Nobody waits for it any more.
            _ if open && ended => "left".to_owned(),
            _ if open => "open".to_owned(),
            _ if kind == "EventSent" => "sent".to_owned(),
            (Some(reason), _, _) => format!("failed: {}", short(reason)),
            (None, Some(value), _) | (None, None, Some(value)) => short(&value.to_string()),
            (None, None, None) if kind == "EventRaised" => "raised".to_owned(),
            (None, None, None) if kind == "LockAcquired" => "given".to_owned(),
            (None, None, None) if kind == "LockReleased" => "released".to_owned(),
            (None, None, None) => "fired".to_owned(),
        };
        rows.push((from, [format!("+{}", span(began, from)), what, took, outcome]));
    }
    rows.sort_by_key(|(from, _)| *from);
    rows.into_iter().map(|(_, row)| row).collect()
}

pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// How long it was from one moment to another.
fn span(from: Timestamp, to: Timestamp) -> String {
    let millis = to.as_millisecond().saturating_sub(from.as_millisecond()).max(0);
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", millis / 60_000, millis / 1000 % 60),
        _ => format!("{} h {} min", millis / 3_600_000, millis / 60_000 % 60),
    }
}
