//! `tandem invoke`: one function, by hand.

use std::io::Read;

use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};
use tandem_model::{Explain, Kind, ResourceName, Urn};
use tandem_program::Project;
use tandem_server::{
    Client,
    wire::{Invoke, Invoked},
};

use crate::{complete, exit::Failure, interrupt::Interruptions, place::Place, ui::Terminal};

/// Calls a function and prints what it answers as JSON; what it logged goes to standard error.
///
/// With --json, an object: payload, requestId, seconds, cold, log.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The function's name in the program
    #[arg(add = ArgValueCandidates::new(complete::functions))]
    name: ResourceName,
    /// What the handler gets: JSON, `@FILE`, or `-` for standard input
    #[arg(default_value = "null")]
    payload: String,
}

/// Why what a function or a run was to be given is nothing that it can be given.
#[derive(Debug, thiserror::Error)]
pub(super) enum PayloadError {
    #[error("the {what} is not JSON: {reason}")]
    NotJson { what: &'static str, reason: String },
    #[error("cannot read the {what} from {from}")]
    Read { what: &'static str, from: String, source: std::io::Error },
}

impl Explain for PayloadError {
    fn code(&self) -> &'static str {
        "E0140"
    }
    fn help(&self) -> String {
        match self {
            Self::NotJson { .. } => r#"write JSON in single quotes: '{"key": "value"}'"#.into(),
            Self::Read { .. } => "see that the file exists and may be read".into(),
        }
    }
}

/// Reads JSON that was given as such, as `@FILE`, or as `-`.
pub(super) fn read(what: &'static str, payload: &str) -> Result<Value, PayloadError> {
    let text = match payload.strip_prefix('@') {
        _ if payload == "-" => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|source| PayloadError::Read { what, from: "standard input".into(), source })?;
            text
        }
        Some(file) => std::fs::read_to_string(file).map_err(|source| PayloadError::Read {
            what,
            from: format!("`{file}`"),
            source,
        })?,
        None => payload.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| PayloadError::NotJson { what, reason: error.to_string() })
}

pub(crate) async fn run(
    terminal: &Terminal,
    place: Place,
    Args { name, payload }: Args,
) -> Result<(), Failure> {
    let payload = read("payload", &payload)?;
    let stack = place.stack_of(&Project::find(&place.folder)?);
    let function = Urn::new(stack, Kind::Function, name);
    let answer = ask(terminal, &place.client(), &Invoke { function, payload }).await?;
    if terminal.json() {
        return Ok(terminal.record(&json!({
            "payload": answer.payload,
            "requestId": answer.request_id,
            "seconds": answer.duration.as_secs_f64(),
            "cold": answer.cold,
            "log": answer.log_tail,
        }))?);
    }
    for line in &answer.log_tail {
        terminal.say(line);
    }
    let cold = if answer.cold { ", with a cold start" } else { "" };
    terminal.say(&format!(
        "answered in {}{cold}; request {}",
        milliseconds(answer.duration),
        answer.request_id
    ));
    Ok(terminal.data(&format!("{:#}\n", answer.payload))?)
}

/// Waits for the answer; the second request to stop waits no more.
async fn ask(terminal: &Terminal, cloud: &Client, call: &Invoke) -> Result<Invoked, Failure> {
    let mut interruptions = Interruptions::listen()?;
    let answer = cloud.post("/v1/invoke", call);
    tokio::pin!(answer);
    let mut asked_to_stop = false;
    loop {
        tokio::select! {
            answer = &mut answer => return Ok(answer?),
            interruption = interruptions.next() => {
                if asked_to_stop {
                    return Err(Failure::Code(interruption.exit_code()));
                }
                asked_to_stop = true;
                terminal.say(&format!(
                    "Waiting for the answer of {}. Ctrl-C again stops waiting.",
                    call.function.short()
                ));
            }
        }
    }
}

fn milliseconds(duration: std::time::Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_or_names_a_file_with_json() {
        assert_eq!(read("payload", "{\"a\": 1}").unwrap()["a"], 1);
        assert!(matches!(read("payload", "{a: 1}"), Err(PayloadError::NotJson { .. })));
        assert!(matches!(read("payload", "@/nonexistent/file"), Err(PayloadError::Read { .. })));
    }
}
