//! `tandem runs`: the runs of a stack, one by one.

use clap_complete::engine::ArgValueCandidates;
use tandem_cloud::task::{RunId, RunStatus};
use tandem_model::{Explain, StackId};
use tandem_program::Project;
use tandem_server::{
    Client,
    wire::{OfRun, OfStack, Processes},
};

use super::{ps, run::conclude};
use crate::{
    complete,
    exit::{Failure, RUN_FAILED},
    place::Place,
    ui::Terminal,
};

/// Lists, shows, waits for and stops runs of tasks.
///
/// A run is named by its id, or by the last digits of it that `tandem ps` shows.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the runs that have not ended, and of each task the last few that have
    Ls {
        /// Of this task only
        #[arg(add = ArgValueCandidates::new(complete::tasks))]
        task: Option<String>,
    },
    /// Show how a run stands, or how it ended and what it left
    Show { id: String },
    /// Wait for the end of a run, print its result, and exit with its exit code
    Wait { id: String },
    /// End a run: SIGTERM to its container, and SIGKILL if that is not enough. Returns when it has ended
    Stop { id: String },
}

#[derive(Debug, thiserror::Error)]
#[error("`{part}` is the end of {} runs: {}", runs.len(), runs.join(", "))]
struct Ambiguous {
    part: String,
    runs: Vec<String>,
}

impl Explain for Ambiguous {
    fn code(&self) -> &'static str {
        "E0146"
    }
    fn help(&self) -> String {
        "give more of the id".into()
    }
}

pub(crate) async fn run(terminal: &Terminal, place: Place, Args { command }: Args) -> Result<(), Failure> {
    let stack = place.stack_of(&Project::find(&place.folder)?);
    let client = place.client();
    match command {
        Command::Ls { task } => {
            let mut runs = of_stack(&client, stack).await?;
            runs.retain(|run| task.as_ref().is_none_or(|task| run.task.name.as_str() == task));
            if terminal.json() {
                return Ok(terminal.record(&runs)?);
            }
            Ok(terminal.data(&ps::table_of_runs(&runs, terminal.data_width()))?)
        }
        Command::Show { id } => {
            let status = ask(&client, "/v1/runs/status", stack, id).await?;
            if terminal.json() {
                return Ok(terminal.record(&status)?);
            }
            Ok(terminal.data(&shown(&status))?)
        }
        Command::Wait { id } => {
            // A code that a container could have ended with must not mean that there was none.
            let status = ask(&client, "/v1/runs/wait", stack, id).await;
            let status = status.map_err(|failure| failure.with_code(RUN_FAILED))?;
            if terminal.json() {
                terminal.record(&status)?;
            } else {
                status.log_tail.iter().for_each(|line| terminal.say(line));
            }
            conclude(&status, terminal)
        }
        Command::Stop { id } => {
            let status = ask(&client, "/v1/runs/stop", stack, id).await?;
            if terminal.json() {
                return Ok(terminal.record(&status)?);
            }
            if let Some(outcome) = &status.outcome {
                terminal.note(&format!("run {} {outcome}", status.id));
            }
            Ok(())
        }
    }
}

async fn of_stack(client: &Client, stack: StackId) -> Result<Vec<RunStatus>, Failure> {
    let processes: Processes = client.post("/v1/ps", &OfStack { stack: Some(stack) }).await?;
    Ok(processes.runs)
}

async fn ask(client: &Client, what: &str, stack: StackId, id: String) -> Result<RunStatus, Failure> {
    let runs = of_stack(client, stack).await?;
    let id = RunId(whole(id, runs.iter().map(|run| run.id.as_str()))?);
    Ok(client.post(what, &OfRun { id }).await?)
}

/// The id that ends so. One that is not known may be older than what is listed: the cloud knows.
fn whole<'a>(part: String, known: impl Iterator<Item = &'a str>) -> Result<String, Ambiguous> {
    let mut found: Vec<String> = known.filter(|id| id.ends_with(&part)).map(str::to_owned).collect();
    match found.len() {
        0 => Ok(part),
        1 => Ok(found.remove(0)),
        _ => Err(Ambiguous { part, runs: found }),
    }
}

/// A run, a property a line.
fn shown(run: &RunStatus) -> String {
    let state = match (&run.outcome, &run.waits) {
        (Some(outcome), _) => outcome.to_string(),
        (None, Some(why)) => format!("{}: {why}", ps::state(run)),
        (None, None) => ps::state(run).to_owned(),
    };
    let time = |time: Option<jiff::Timestamp>| time.map(|time| time.to_string());
    let attempts: Vec<_> = run.attempts.iter().map(|attempt| attempt.outcome.to_string()).collect();
    let attempt = match attempts.len() {
        0 => None,
        _ => Some(format!("{}; those before {}", run.attempt, attempts.join(", "))),
    };
    let lines = [
        ("run", Some(run.id.to_string())),
        ("task", Some(run.task.name.to_string())),
        ("state", Some(state)),
        ("attempt", attempt),
        ("accepted", time(Some(run.accepted))),
        ("admitted", time(run.stages.admitted)),
        ("mounted", time(run.stages.mounted)),
        ("created", time(run.stages.created)),
        ("started", time(run.started)),
        ("ended", time(run.ended)),
        ("process", run.pid.map(|pid| pid.to_string())),
        ("exit code", run.exit_code.map(|code| code.to_string())),
        ("result", run.result.as_ref().map(ToString::to_string)),
    ];
    let told = lines.into_iter().filter_map(|(name, value)| Some(format!("{name:<11}{}\n", value?)));
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_by_the_end_of_its_id() {
        let known = ["0a1", "1a1", "2b2"];
        let whole = |part: &str| whole(part.to_owned(), known.into_iter());
        assert_eq!(whole("b2").unwrap(), "2b2");
        assert_eq!(whole("older").unwrap(), "older");
        assert_eq!(whole("a1").unwrap_err().to_string(), "`a1` is the end of 2 runs: 0a1, 1a1");
    }
}
