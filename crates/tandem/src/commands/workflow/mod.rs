//! `tandem workflow`: instances of workflows, by hand.

mod show;

use clap_complete::engine::ArgValueCandidates;
use jiff::Timestamp;
use serde_json::Value;
use tandem_cloud::workflow::{InstanceStatus, Status};
use tandem_model::{ResourceName, StackId};
use tandem_program::Project;
use tandem_server::{
    Client,
    wire::{Instance, OfInstance, OfStackOnly, RaiseEvent, StartWorkflow, Started},
};

use super::{invoke, ps};
use crate::{
    complete,
    exit::Failure,
    place::Place,
    ui::{self, Terminal},
};

/// Starts instances of workflows, shows how they stand, and tells them something.
///
/// An instance survives every restart: it ends, fails, or waits. With --json, `show` gives the status object of Durable
/// Functions: `instanceId`, `runtimeStatus`, `input`, `output`, `customStatus`, `createdTime`, `lastUpdatedTime`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start an instance, and print its id
    Start {
        /// The workflow's name in the program
        #[arg(add = ArgValueCandidates::new(complete::workflows))]
        name: ResourceName,
        /// What the orchestrator gets as its input: JSON, `@FILE`, or `-` for standard input
        #[arg(value_name = "JSON")]
        input: Option<String>,
        /// The instance's id; chosen for you if not given. That of an instance that has ended may be used again
        #[arg(long)]
        id: Option<String>,
        /// Wait until it has ended, and print its output. Ctrl-C stops the waiting, not the instance
        #[arg(short, long)]
        wait: bool,
    },
    /// List the stack's instances
    Ls {
        /// Only those of this workflow
        #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::workflows))]
        workflow: Option<ResourceName>,
        /// Only those with this status, for example `running`
        #[arg(long)]
        status: Option<String>,
    },
    /// Show one: how it stands, and what happened to it
    Show {
        /// The instance's id
        id: String,
    },
    /// Raise an event for an instance, which may wait for it now or later
    Raise {
        id: String,
        /// The event's name
        event: String,
        /// What goes with it: JSON, `@FILE`, or `-` for standard input
        #[arg(value_name = "JSON")]
        data: Option<String>,
    },
    /// End an instance at once
    Terminate(Because),
    /// Let an instance take no further step; what it waits for is kept
    Suspend(Because),
    /// Let a suspended instance go on
    Resume(Because),
    /// Delete an instance that has ended, with its history
    Purge { id: String },
}

#[derive(Debug, clap::Args)]
struct Because {
    /// The instance's id
    id: String,
    /// Is kept with it
    #[arg(long, default_value = "")]
    reason: String,
}

pub(crate) async fn run(terminal: &Terminal, place: Place, Args { command }: Args) -> Result<(), Failure> {
    let stack = place.stack_of(&Project::find(&place.folder)?);
    let client = place.client();
    let of = |id: String| Instance { stack: stack.clone(), id };
    match command {
        Command::Start { name, input, id, wait } => {
            let input = input.map(|input| invoke::read("input", &input)).transpose()?;
            let asked = StartWorkflow { stack: stack.clone(), workflow: name, id, input };
            let Started { id } = client.post("/v1/workflows/start", &asked).await?;
            if !wait {
                return match terminal.json() {
                    true => Ok(terminal.record(&Started { id })?),
                    false => Ok(terminal.data(&format!("{id}\n"))?),
                };
            }
            let ended: InstanceStatus = client.post("/v1/workflows/wait", &of(id)).await?;
            told(terminal, &ended)
        }
        Command::Ls { workflow, status } => {
            list(terminal, &client, stack, workflow.as_ref(), status.as_deref()).await
        }
        Command::Show { id } => {
            let of = OfInstance { of: of(id), history: true, reason: String::new() };
            let told: InstanceStatus = client.post("/v1/workflows/show", &of).await?;
            if terminal.json() {
                return Ok(terminal.record(&told)?);
            }
            Ok(terminal.data(&show::text(&told, Timestamp::now()))?)
        }
        Command::Raise { id, event, data } => {
            let data = data.map(|data| invoke::read("data", &data)).transpose()?.unwrap_or_default();
            let asked = RaiseEvent { of: of(id.clone()), event, data };
            client.post::<()>("/v1/workflows/raise", &asked).await?;
            terminal.note(&format!("raised `{}` for {id}", asked.event));
            Ok(())
        }
        Command::Terminate(Because { id, reason }) => {
            ask(terminal, &client, "terminate", "terminated", of(id), reason).await
        }
        Command::Suspend(Because { id, reason }) => {
            ask(terminal, &client, "suspend", "suspended", of(id), reason).await
        }
        Command::Resume(Because { id, reason }) => {
            ask(terminal, &client, "resume", "resumed", of(id), reason).await
        }
        Command::Purge { id } => {
            client.post::<()>("/v1/workflows/purge", &of(id.clone())).await?;
            terminal.note(&format!("purged {id}"));
            Ok(())
        }
    }
}

async fn ask(
    terminal: &Terminal,
    client: &Client,
    verb: &str,
    done: &str,
    of: Instance,
    reason: String,
) -> Result<(), Failure> {
    let id = of.id.clone();
    client.post::<()>(&format!("/v1/workflows/{verb}"), &OfInstance { of, history: false, reason }).await?;
    terminal.note(&format!("{done} {id}"));
    Ok(())
}

/// The output of an instance that was waited for; its failure is the command's.
fn told(terminal: &Terminal, ended: &InstanceStatus) -> Result<(), Failure> {
    if terminal.json() {
        terminal.record(ended)?;
    }
    if ended.runtime_status != Status::Completed {
        let output = ended.output.as_str().map_or_else(|| ended.output.to_string(), str::to_owned);
        let how = format!("{:?}", ended.runtime_status).to_lowercase();
        return Err(Failure::report(tandem_model::Report {
            code: "E0876".into(),
            message: format!("the instance `{}` of {} {how}: {output}", ended.instance_id, ended.name),
            help: format!("`tandem workflow show {}` tells what happened", ended.instance_id),
            causes: vec![],
        }));
    }
    if !terminal.json() {
        terminal.data(&format!("{}\n", ended.output))?;
    }
    Ok(())
}

async fn list(
    terminal: &Terminal,
    client: &Client,
    stack: StackId,
    workflow: Option<&ResourceName>,
    status: Option<&str>,
) -> Result<(), Failure> {
    let mut all: Vec<InstanceStatus> = client.post("/v1/workflows", &OfStackOnly { stack }).await?;
    all.retain(|one| workflow.is_none_or(|name| one.name == name.as_str()));
    all.retain(|one| {
        status.is_none_or(|wanted| format!("{:?}", one.runtime_status).eq_ignore_ascii_case(wanted))
    });
    if terminal.json() {
        return Ok(terminal.record(&all)?);
    }
    if all.is_empty() {
        terminal.note("There are no instances.");
        return Ok(());
    }
    let now = Timestamp::now();
    let rows = all.iter().map(|one| {
        [
            one.instance_id.clone(),
            one.name.clone(),
            format!("{:?}", one.runtime_status),
            ps::age(one.created_time, now),
            ps::age(one.last_updated_time, now),
            shown(&one.custom_status),
        ]
    });
    let names = ["INSTANCE", "WORKFLOW", "STATUS", "AGE", "UPDATED", "CUSTOM STATUS"];
    Ok(terminal.data(&ui::table(names, rows, terminal.data_width()))?)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
