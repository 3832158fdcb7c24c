//! An update as JSON lines: what happens, while it happens. The shapes are documented in `docs/guide/json.md`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tandem_engine::EngineEvent;
use tandem_model::{Report, value};
use tokio::sync::mpsc;

use super::{
    live::Note,
    terminal::{OutputError, Terminal},
};

/// Writes events until the update has let go of its end. A reader that went away does not stop the update.
///
/// # Errors
/// [`OutputError::Failed`] if lines were lost.
pub(crate) async fn tell_events(
    terminal: &Terminal,
    mut events: mpsc::UnboundedReceiver<EngineEvent>,
    mut notes: mpsc::UnboundedReceiver<Note>,
) -> Result<(), OutputError> {
    let mut told = Ok(());
    let mut tell = |value: Value| {
        if told.is_ok() {
            told = terminal.data(&line(value));
        }
    };
    loop {
        tokio::select! {
            // What the program printed comes before what the engine did after it.
            biased;
            Some(note) = notes.recv() => tell(noted(note)),
            event = events.recv() => {
                let Some(event) = event else { break };
                tell(happened(&event));
            }
        }
    }
    while let Ok(note) = notes.try_recv() {
        tell(noted(note));
    }
    told
}

/// One line, with the present as its time unless it has one.
pub(crate) fn line(mut event: Value) -> String {
    if let Value::Object(fields) = &mut event {
        fields.entry("time").or_insert_with(|| json!(Timestamp::now()));
    }
    format!("{event}\n")
}

/// The end of a command that failed.
pub(crate) fn failed(report: &Report, exit_code: u8) -> Value {
    json!({ "event": "failed", "error": report, "exitCode": exit_code })
}

/// A summary as an event of that name.
pub(crate) fn summarised(event: &str, summary: Value) -> Value {
    let mut fields = Map::from_iter([("event".to_owned(), json!(event))]);
    if let Value::Object(summary) = summary {
        fields.extend(summary);
    }
    Value::Object(fields)
}

fn noted(note: Note) -> Value {
    match note {
        Note::Printed(line) => json!({ "event": "printed", "line": line }),
        Note::Stopping => json!({ "event": "stopping" }),
        Note::Stopped => json!({ "event": "stopped" }),
    }
}

/// The engine's event, with its duration in seconds, and secrets hidden.
fn happened(event: &EngineEvent) -> Value {
    let mut told = value::redacted(&json!(event));
    let elapsed = match event {
        EngineEvent::StepDone { elapsed, .. } | EngineEvent::StepFailed { elapsed, .. } => Some(elapsed),
        _ => None,
    };
    if let (Value::Object(fields), Some(elapsed)) = (&mut told, elapsed) {
        fields.remove("elapsed");
        fields.insert("seconds".into(), json!(elapsed.as_secs_f64()));
    }
    told
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tandem_model::{
        Urn,
        plan::{Op, PropertyChange, Step},
    };

    use super::*;

    fn urn() -> Urn {
        "urn:tandem:shop:dev:function:resize".parse().unwrap()
    }

    #[test]
    fn a_step_that_is_done_says_so_with_its_seconds() {
        let done = EngineEvent::StepDone { op: Op::Create, urn: urn(), elapsed: Duration::from_millis(1500) };
        insta::assert_snapshot!(happened(&done), @r#"{"event":"stepDone","op":"create","seconds":1.5,"urn":"urn:tandem:shop:dev:function:resize"}"#);
    }

    #[test]
    fn a_failed_step_has_the_code_and_the_help_of_its_error() {
        let report = Report {
            code: "E0402".into(),
            message: "building the image failed".into(),
            help: "mend the instruction".into(),
            causes: vec![],
        };
        let failed = EngineEvent::StepFailed { op: Op::Create, urn: urn(), elapsed: Duration::ZERO, report };
        insta::assert_snapshot!(happened(&failed), @r#"{"event":"stepFailed","op":"create","report":{"code":"E0402","help":"mend the instruction","message":"building the image failed"},"seconds":0.0,"urn":"urn:tandem:shop:dev:function:resize"}"#);
    }

    #[test]
    fn a_planned_step_hides_secrets() {
        let change = PropertyChange {
            property: "environment.TOKEN".into(),
            old: None,
            new: Some(value::secret(json!("s3cret"))),
            replaces: false,
        };
        let step = Step { op: Op::Update, urn: urn(), changes: vec![change] };
        let told = happened(&EngineEvent::StepPlanned { step }).to_string();
        assert!(!told.contains("s3cret"), "{told}");
    }
}
