//! `tandem run`: one task, by hand.

use std::collections::BTreeMap;

use clap_complete::engine::ArgValueCandidates;
use jiff::Timestamp;
use serde_json::json;
use tandem_cloud::{
    log::{Line, Stream},
    task::{RunState, RunStatus},
};
use tandem_model::{Kind, ResourceName, Urn};
use tandem_program::Project;
use tandem_server::{
    Client,
    wire::{OfRun, Run},
};

use super::{invoke, logs};
use crate::{
    complete,
    exit::{Failure, RUN_FAILED},
    interrupt::{Interruption, Interruptions},
    place::Place,
    ui::{self, OutputError, Terminal},
};

/// Starts a container of a task, prints its log, and exits with its exit code.
///
/// The container's standard output goes to standard output, its standard error to standard error. If it leaves a result,
/// that is the last line, as JSON. With --json, lines of JSON: that it was accepted, each line that it prints, how it ended
/// and with which result.
///
/// Ctrl-C: the first says so and waits for the end, the second tells the container to end, the third leaves it alone.
/// SIGTERM and SIGHUP tell the container to end.
///
/// When there is no exit code: 124 after a timeout, 125 if it could not be started or was lost, 143 if it was stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task's name in the program
    #[arg(add = ArgValueCandidates::new(complete::tasks))]
    name: ResourceName,
    /// A variable for the container; wins over the task's own
    #[arg(short, long = "env", value_name = "KEY=VALUE", value_parser = variable)]
    environment: Vec<(String, String)>,
    /// What the container finds in the file that TANDEM_INPUT names: JSON, `@FILE`, or `-` for standard input
    #[arg(short, long, value_name = "JSON")]
    input: Option<String>,
    /// Only the result on standard output; what the container prints goes to standard error
    #[arg(long, conflicts_with = "detach")]
    result: bool,
    /// Print the run's id and return, instead of waiting for its end
    #[arg(short, long)]
    detach: bool,
    /// Replaces the task's command
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form KEY=VALUE")),
    }
}

pub(crate) async fn run(terminal: &Terminal, place: Place, args: Args) -> Result<(), Failure> {
    // A code that a container could have ended with must not mean that there was none.
    start(terminal, place, args).await.map_err(|failure| failure.with_code(RUN_FAILED))
}

async fn start(terminal: &Terminal, place: Place, args: Args) -> Result<(), Failure> {
    let Args { name, environment, input, result, detach, command } = args;
    let input = input.map(|input| invoke::read("input", &input)).transpose()?;
    let stack = place.stack_of(&Project::find(&place.folder)?);
    let client = place.client();
    let request = Run {
        task: Urn::new(stack.clone(), Kind::Task, name),
        environment: BTreeMap::from_iter(environment),
        command: (!command.is_empty()).then_some(command),
        input,
    };
    let mut interruptions = Interruptions::listen()?;
    let of: OfRun = client.post("/v1/runs", &request).await?;
    if terminal.json() {
        terminal.data(&ui::events::line(json!({ "event": "accepted", "run": of.id })))?;
    } else if detach {
        terminal.data(&format!("{}\n", of.id))?;
    }
    if detach {
        return Ok(());
    }
    tell_if_it_waits(&client, &of, terminal).await?;
    let following = logs::stream(&client, logs::of_run(&stack, of.id.as_str()), true, |line| {
        match print(terminal, line, result) {
            // A reader that goes away does not end the run.
            Err(OutputError::Closed) => Ok(()),
            other => other,
        }
    });
    tokio::pin!(following);
    let mut waiting = false;
    loop {
        tokio::select! {
            ended = &mut following => break ended?,
            interruption = interruptions.next() => {
                if interruption == Interruption::Interrupt && !waiting {
                    waiting = true;
                    let name = &request.task.name;
                    terminal.say(&format!("Waiting for run {} of {name} to end. Ctrl-C again stops it.", of.id));
                    continue;
                }
                terminal.say("Stopping the container. Ctrl-C again leaves it alone.");
                let stopped = async {
                    client.post::<RunStatus>("/v1/runs/stop", &of).await?;
                    following.as_mut().await
                };
                tokio::select! {
                    stopped = stopped => break stopped?,
                    interruption = interruptions.next() => {
                        terminal.say(&format!("Run {} goes on without being watched.", of.id));
                        return Err(Failure::Code(interruption.exit_code()));
                    }
                }
            }
        }
    }
    let status: RunStatus = client.post("/v1/runs/wait", &of).await?;
    if terminal.json() {
        terminal.data(&ui::events::line(ui::events::summarised("ended", json!(status))))?;
    }
    conclude(&status, terminal)
}

fn print(terminal: &Terminal, line: &Line, only_result: bool) -> Result<(), OutputError> {
    match line.stream {
        // How it ended is told below.
        Stream::System => Ok(()),
        _ if terminal.json() => terminal.feed(&ui::events::line(json!({
            "event": "line", "time": line.time, "stream": line.stream, "text": line.text,
        }))),
        Stream::Stdout if !only_result => terminal.feed(&format!("{}\n", line.text)),
        Stream::Stdout | Stream::Stderr => {
            terminal.say(&line.text);
            Ok(())
        }
    }
}

async fn tell_if_it_waits(client: &Client, of: &OfRun, terminal: &Terminal) -> Result<(), Failure> {
    let status: RunStatus = client.post("/v1/runs/status", of).await?;
    if let (RunState::Queued, Some(why)) = (status.state, status.waits) {
        terminal.note(&format!("run {} waits: {why}", of.id));
    }
    Ok(())
}

/// Prints the result of a run that has ended, and fails as the run did.
pub(super) fn conclude(status: &RunStatus, terminal: &Terminal) -> Result<(), Failure> {
    if !terminal.json()
        && let Some(result) = &status.result
    {
        terminal.data(&format!("{result}\n"))?;
    }
    if terminal.is_interactive()
        && let Some(times) = times(status)
    {
        terminal.note(&times);
    }
    match &status.outcome {
        Some(outcome) if outcome.is_success() => Ok(()),
        Some(outcome) => {
            terminal.note(&format!("run {} {outcome}", status.id));
            // Exit codes have eight bits; what does not fit must not become success.
            let code = u8::try_from(outcome.exit_code()).ok().filter(|code| *code != 0);
            Err(Failure::Code(code.unwrap_or(RUN_FAILED)))
        }
        None => Err(Failure::Code(RUN_FAILED)),
    }
}

/// Where the time went: `waited 2.0 s, started in 0.118 s (mounted 0.012, created 0.080), ran 12.3 s`. Of the last attempt.
fn times(status: &RunStatus) -> Option<String> {
    let since = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64().max(0.0);
    let (admitted, started) = (status.stages.admitted?, status.started?);
    let stage = |name: &str, at: Option<Timestamp>| Some(format!("{name} {:.3}", since(admitted, at?)));
    let stages: Vec<_> = [stage("mounted", status.stages.mounted), stage("created", status.stages.created)]
        .into_iter()
        .flatten()
        .collect();
    // What a further attempt waited for began when the one before had ended.
    let asked = status.attempts.last().map_or(status.accepted, |attempt| attempt.ended);
    Some(format!(
        "waited {:.1} s, started in {:.3} s ({}), ran {:.1} s",
        since(asked, admitted),
        since(admitted, started),
        stages.join(", "),
        since(started, status.ended?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_time_went_is_told_of_the_last_attempt() {
        let told = |json: serde_json::Value| times(&serde_json::from_value(json).unwrap());
        let mut run = json!({
            "id": "r", "task": "urn:tandem:p:dev:task:t", "state": "ended", "attempt": 1,
            "accepted": "2026-01-01T00:00:00Z", "admitted": "2026-01-01T00:00:02Z",
            "mounted": "2026-01-01T00:00:02.010Z", "created": "2026-01-01T00:00:02.080Z",
            "started": "2026-01-01T00:00:02.1Z", "ended": "2026-01-01T00:00:05.1Z",
        });
        let all = "waited 2.0 s, started in 0.100 s (mounted 0.010, created 0.080), ran 3.0 s";
        assert_eq!(told(run.clone()).as_deref(), Some(all));
        run["attempts"] = json!([{ "ended": "2026-01-01T00:00:01.5Z", "outcome": "timedOut" }]);
        assert!(told(run.clone()).unwrap().starts_with("waited 0.5 s"));
        // Stopped in the queue, or started by a cloud that was killed.
        run.as_object_mut().unwrap().remove("admitted");
        assert_eq!(told(run), None);
    }

    #[test]
    fn a_variable_has_a_name_and_may_have_any_value() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(variable("A="), Ok(("A".into(), String::new())));
        assert!(variable("A").is_err());
        assert!(variable("=b").is_err());
    }
}
