//! `tandem workflow`: instances of workflows, by hand.

mod entity;
mod show;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap_complete::engine::ArgValueCandidates;
use jiff::Timestamp;
use serde_json::Value;
use tandem_cloud::workflow::{InstanceStatus, Status};
use tandem_model::{ResourceName, StackId};
use tandem_program::Project;
use tandem_server::{
    Client,
    wire::{Instance, OfStackOnly, ShowInstance, StartWorkflow, Started, Tell, Telling, Told},
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
        /// Only those with this status
        #[arg(long, ignore_case = true, value_parser = statuses())]
        status: Option<Status>,
    },
    /// Show one: how it stands, and what happened to it; of an entity, its state
    Show {
        /// The instance's id, or an entity: `@counter@one`
        id: String,
    },
    /// Raise an event for an instance, which may wait for it now or later
    Raise {
        /// The instance's id
        id: String,
        /// The event's name, as the orchestrator waits for it
        event: String,
        /// What goes with it: JSON, `@FILE`, or `-` for standard input
        #[arg(value_name = "JSON")]
        data: Option<String>,
    },
    /// End an instance at once. What it has begun goes on, and is recorded nowhere
    Terminate {
        /// The instance's id
        id: String,
        /// Is kept as its output
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let an instance take no further step; what it waits for is kept
    Suspend(One),
    /// Let a suspended instance go on
    Resume(One),
    /// Let an instance that failed go on from before its last step: what failed there is called again
    Rewind(One),
    /// Delete an instance that has ended, with its history
    Purge(One),
    /// List the stack's entities and their states
    Entities {
        /// Only those of this name
        name: Option<String>,
    },
    /// Send an operation to an entity; nobody waits for what it returns
    Signal {
        /// The entity: `@counter@one`
        #[arg(value_name = "@NAME@KEY")]
        entity: String,
        operation: String,
        /// What goes with it: JSON, `@FILE`, or `-` for standard input
        #[arg(value_name = "JSON")]
        input: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
struct One {
    /// The instance's id
    id: String,
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
            terminal.note(&format!("started {id}"));
            let ended: InstanceStatus = client.post("/v1/workflows/wait", &of(id)).await?;
            told(terminal, &ended)
        }
        Command::Ls { workflow, status } => list(terminal, &client, stack, workflow.as_ref(), status).await,
        Command::Show { id } => {
            if let Some(shown) = entity::show(terminal, &client, of(id.clone())).await? {
                return Ok(shown);
            }
            let told: InstanceStatus =
                client.post("/v1/workflows/show", &ShowInstance { of: of(id), history: true }).await?;
            if terminal.json() {
                return Ok(terminal.record(&told)?);
            }
            Ok(terminal.data(&show::text(&told, Timestamp::now()))?)
        }
        Command::Raise { id, event, data } => {
            let data = data.map(|data| invoke::read("data", &data)).transpose()?.unwrap_or_default();
            let done = format!("raised `{event}` for");
            tell(terminal, &client, of(id), Telling::Raise { event, data }, &done).await
        }
        Command::Entities { name } => entity::list(terminal, &client, stack, name).await,
        Command::Signal { entity, operation, input } => {
            entity::signal(terminal, &client, of(entity), operation, input).await
        }
        Command::Terminate { id, reason } => {
            tell(terminal, &client, of(id), Telling::Terminate { reason }, "terminated").await
        }
        Command::Suspend(One { id }) => tell(terminal, &client, of(id), Telling::Suspend, "suspended").await,
        Command::Resume(One { id }) => tell(terminal, &client, of(id), Telling::Resume, "resumed").await,
        Command::Rewind(One { id }) => tell(terminal, &client, of(id), Telling::Rewind, "rewound").await,
        Command::Purge(One { id }) => tell(terminal, &client, of(id), Telling::Purge, "purged").await,
    }
}

/// The statuses, as they are asked for.
const STATUSES: [(&str, Status); 6] = [
    ("pending", Status::Pending),
    ("running", Status::Running),
    ("suspended", Status::Suspended),
    ("completed", Status::Completed),
    ("failed", Status::Failed),
    ("terminated", Status::Terminated),
];

fn statuses() -> impl TypedValueParser<Value = Status> {
    PossibleValuesParser::new(STATUSES.map(|(name, _)| name)).try_map(|given| {
        let found = STATUSES.iter().find(|(name, _)| name.eq_ignore_ascii_case(&given));
        found.map(|(_, status)| *status).ok_or("it is no status")
    })
}

async fn tell(
    terminal: &Terminal,
    client: &Client,
    of: Instance,
    what: Telling,
    done: &str,
) -> Result<(), Failure> {
    let told: Told = client.post("/v1/workflows/tell", &Tell { of, what }).await?;
    if terminal.json() {
        return Ok(terminal.record(&told)?);
    }
    terminal.note(&format!("{done} {}", told.id));
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
    status: Option<Status>,
) -> Result<(), Failure> {
    let mut all: Vec<InstanceStatus> = client.post("/v1/workflows", &OfStackOnly { stack }).await?;
    all.retain(|one| workflow.is_none_or(|name| one.name == name.as_str()));
    all.retain(|one| status.is_none_or(|wanted| one.runtime_status == wanted));
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
            show::short(&shown(&one.custom_status)),
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
