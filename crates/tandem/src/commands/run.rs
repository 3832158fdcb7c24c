//! `tandem run`: one task, by hand.

use std::{collections::BTreeMap, ops::ControlFlow};

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

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::logs;
use crate::{exit::Failure, place::Place, ui::Terminal};

/// Starts a container of a task, prints its log, and exits with its exit code. Ctrl-C stops the container.
///
/// The container's standard output goes to standard output, its standard error to standard error. When there is no
/// exit code: 124 after a timeout, 125 if it could not be started or was lost, 143 if it was stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The task's name in the program
    name: ResourceName,
    /// A variable for the container; wins over the task's own
    #[arg(short, long = "env", value_name = "KEY=VALUE", value_parser = variable)]
    environment: Vec<(String, String)>,
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

pub(crate) async fn run(place: Place, args: Args) -> Result<(), Failure> {
    let Args { name, environment, detach, command } = args;
    let stack = place.stack_of(&Project::find(&place.folder)?);
    let client = place.client();
    let request = Run {
        task: Urn::new(stack.clone(), Kind::Task, name),
        environment: BTreeMap::from_iter(environment),
        command: (!command.is_empty()).then_some(command),
    };
    let of: OfRun = client.post("/v1/runs", &request).await?;
    let terminal = Terminal::stderr();
    if detach {
        terminal.data(&format!("{}\n", of.id));
        return Ok(());
    }
    tell_if_it_waits(&client, &of, &terminal).await?;
    // A reader that goes away does not end the run.
    let print = |line: &Line| {
        match line.stream {
            Stream::Stdout => terminal.data(&format!("{}\n", line.text)),
            Stream::Stderr => terminal.say(&line.text),
            // How it ended is told below.
            Stream::System => {}
        }
        ControlFlow::Continue(())
    };
    let mut interruptions = Interruptions::new()?;
    let following = logs::stream(&client, logs::of_run(&stack, of.id.as_str()), true, print);
    tokio::pin!(following);
    tokio::select! {
        ended = &mut following => ended?,
        () = interruptions.next() => {
            terminal.say("stopping the container; Ctrl-C again leaves it to itself");
            tokio::select! {
                stopped = client.post::<RunStatus>("/v1/runs/stop", &of) => drop(stopped?),
                () = interruptions.next() => return Err(Failure::Code(crate::exit::INTERRUPTED)),
            }
            following.await?;
        }
    }
    conclude(&client.post("/v1/runs/wait", &of).await?, &terminal)
}

/// Ctrl-C, and the SIGTERM of whoever started us.
struct Interruptions {
    interrupt: Signal,
    terminate: Signal,
}

impl Interruptions {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| super::no_runtime(&error));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn tell_if_it_waits(client: &Client, of: &OfRun, terminal: &Terminal) -> Result<(), Failure> {
    let status: RunStatus = client.post("/v1/runs/status", of).await?;
    if let (RunState::Queued, Some(why)) = (status.state, status.waits) {
        terminal.say(&format!("run {} waits: {why}", of.id));
    }
    Ok(())
}

fn conclude(status: &RunStatus, terminal: &Terminal) -> Result<(), Failure> {
    match &status.outcome {
        Some(outcome) if outcome.is_success() => Ok(()),
        Some(outcome) => {
            terminal.say(&format!("run {} {outcome}", status.id));
            // Exit codes have eight bits; what does not fit must not become success.
            let code = u8::try_from(outcome.exit_code()).ok().filter(|code| *code != 0);
            Err(Failure::Code(code.unwrap_or(125)))
        }
        None => Err(Failure::Code(125)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_name_and_may_have_any_value() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(variable("A="), Ok(("A".into(), String::new())));
        assert!(variable("A").is_err());
        assert!(variable("=b").is_err());
    }
}
