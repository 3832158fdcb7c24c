//! `tandem invoke`: one function, by hand.

use std::io::Read;

use serde_json::Value;
use tandem_model::{Explain, Kind, ResourceName, Urn};
use tandem_program::Project;
use tandem_server::wire::{Invoke, Invoked};

use crate::{exit::Failure, place::Place, ui::Terminal};

/// Calls a function and prints what it answers as JSON; what it logged goes to standard error.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The function's name in the program
    name: ResourceName,
    /// What the handler gets: JSON, `@FILE`, or `-` for standard input
    #[arg(default_value = "null")]
    payload: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum PayloadError {
    #[error("the payload is not JSON: {reason}")]
    NotJson { reason: String },
    #[error("cannot read the payload from {from}")]
    Read { from: String, source: std::io::Error },
}

impl Explain for PayloadError {
    fn code(&self) -> &'static str {
        "E0140"
    }
    fn help(&self) -> String {
        match self {
            Self::NotJson { .. } => {
                r#"write JSON in single quotes: tandem invoke NAME '{"key": "value"}'"#.into()
            }
            Self::Read { .. } => "see that the file exists and may be read".into(),
        }
    }
}

fn read(payload: &str) -> Result<Value, PayloadError> {
    let text = match payload.strip_prefix('@') {
        _ if payload == "-" => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|source| PayloadError::Read { from: "standard input".into(), source })?;
            text
        }
        Some(file) => std::fs::read_to_string(file)
            .map_err(|source| PayloadError::Read { from: format!("`{file}`"), source })?,
        None => payload.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| PayloadError::NotJson { reason: error.to_string() })
}

pub(crate) async fn run(place: Place, Args { name, payload }: Args) -> Result<(), Failure> {
    let payload = read(&payload)?;
    let stack = place.stack_of(&Project::find(&place.folder)?);
    let function = Urn::new(stack, Kind::Function, name);
    let answer: Invoked = place.client().post("/v1/invoke", &Invoke { function, payload }).await?;
    let terminal = Terminal::stderr();
    for line in &answer.log_tail {
        terminal.say(line);
    }
    let cold = if answer.cold { ", with a cold start" } else { "" };
    terminal.say(&format!(
        "answered in {}{cold}; request {}",
        milliseconds(answer.duration),
        answer.request_id
    ));
    terminal.data(&format!("{:#}\n", answer.payload));
    Ok(())
}

fn milliseconds(duration: std::time::Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_or_names_a_file_with_json() {
        assert_eq!(read("{\"a\": 1}").unwrap()["a"], 1);
        assert!(matches!(read("{a: 1}"), Err(PayloadError::NotJson { .. })));
        assert!(matches!(read("@/nonexistent/file"), Err(PayloadError::Read { .. })));
    }
}
