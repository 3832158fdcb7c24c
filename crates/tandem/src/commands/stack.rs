//! `tandem stack`: what stacks there are, and what is in them.

use std::fmt::Write;

use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};
use tandem_cloud::bucket::is_made;
use tandem_engine::{Stacks, State};
use tandem_model::{Explain, Recorded, StackId, Urn, value};
use tandem_program::Project;
use tandem_server::ClientError;

use crate::{
    complete,
    exit::{DECLINED, Failure},
    place::Place,
    ui,
    ui::Terminal,
};

/// Shows stacks and their outputs, and forgets them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List all stacks
    Ls,
    /// Show the stack's resources, also the buckets that clients made over S3
    Show,
    /// Print an output: text as it is, anything else as JSON. Without a name: all of them, secrets hidden
    Output {
        /// What the program exports
        #[arg(add = ArgValueCandidates::new(complete::outputs))]
        name: Option<String>,
        /// Print secrets instead of hiding them, when all outputs are printed
        #[arg(long)]
        show_secrets: bool,
    },
    /// Remove the record of a stack that is empty
    Rm,
    /// Say whether a command holds the stack, and which: a lock goes with the process that holds it
    Unlock,
    /// Forget the stack's resources without deleting them: for a cloud that is gone
    Reset {
        /// Go on without asking
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, thiserror::Error)]
pub(super) enum StackError {
    #[error("there is no stack `{stack}` yet")]
    NoStack { stack: StackId },
    #[error("stack `{stack}` has no output `{name}`{}", list(known))]
    NoOutput { stack: StackId, name: String, known: Vec<String> },
    #[error("stack `{stack}` is not empty: it has {resources} resources")]
    NotEmpty { stack: StackId, resources: usize },
}

fn list(known: &[String]) -> String {
    if known.is_empty() { String::new() } else { format!(", but {}", known.join(", ")) }
}

impl Explain for StackError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoStack { .. } => "E0131",
            Self::NoOutput { .. } => "E0132",
            Self::NotEmpty { .. } => "E0133",
        }
    }
    fn help(&self) -> String {
        match self {
            Self::NoStack { .. } => "make it with `tandem up`, or choose another one with --stack".into(),
            Self::NoOutput { name, .. } => {
                format!("write `exports.{name} = …` in the program, and run `tandem up`")
            }
            Self::NotEmpty { .. } => "delete what is in it with `tandem destroy` first".into(),
        }
    }
}

pub(crate) async fn run(terminal: &Terminal, place: Place, Args { command }: Args) -> Result<(), Failure> {
    let stacks = Stacks::new(place.home.stacks());
    if let Command::Ls = command {
        return ls(terminal, &stacks);
    }
    let stack = place.stack_of(&Project::find(&place.folder)?);
    if !stacks.exists(&stack) {
        return Err(StackError::NoStack { stack }.into());
    }
    match command {
        Command::Ls => Ok(()),
        Command::Show => {
            let state = stacks.read(&stack)?.state;
            let made = made(terminal, &place, &stack).await?;
            show(terminal, &state, made)
        }
        Command::Output { name: Some(name), .. } => output(terminal, &stacks.read(&stack)?.state, name),
        Command::Output { name: None, show_secrets } => {
            outputs(terminal, &stacks.read(&stack)?.state, show_secrets)
        }
        Command::Rm => rm(terminal, &stacks, stack),
        Command::Unlock => unlock(terminal, &stacks, &stack),
        Command::Reset { yes } => reset(terminal, &stacks, stack, yes).await,
    }
}

fn ls(terminal: &Terminal, stacks: &Stacks) -> Result<(), Failure> {
    let mut states = Vec::new();
    for stack in stacks.list()? {
        states.push(stacks.read(&stack)?.state);
    }
    if terminal.json() {
        let rows: Vec<Value> = states.iter().map(|state| {
            json!({ "stack": state.stack.to_string(), "resources": state.resources.len(), "updated": state.updated })
        }).collect();
        return Ok(terminal.record(&Value::from(rows))?);
    }
    let rows = states.iter().map(|state| {
        let updated = state.updated.map(|time| format!("{time:.0}")).unwrap_or_else(|| "never".into());
        [state.stack.to_string(), state.resources.len().to_string(), updated]
    });
    Ok(terminal.data(&ui::table(["STACK", "RESOURCES", "UPDATED"], rows, terminal.data_width()))?)
}

/// How lists name whoever made a bucket that no program declares.
pub(super) const MADE_BY_CLIENT: &str = "a client, over S3";

/// What clients made, which only the cloud knows. None is started for that.
async fn made(terminal: &Terminal, place: &Place, stack: &StackId) -> Result<Vec<Recorded>, Failure> {
    match place.client().made(stack).await {
        Err(ClientError::NotRunning { .. }) => {
            if place.home.data().is_dir() {
                terminal.note("No cloud is running: buckets that clients made over S3 are not among these.");
            }
            Ok(Vec::new())
        }
        made => Ok(made?),
    }
}

fn show(terminal: &Terminal, state: &State, made: Vec<Recorded>) -> Result<(), Failure> {
    let shown = |value| value::redacted(&Value::Object(value));
    // A `destroy` that was interrupted has taken those of clients into the state.
    let unknown = made.into_iter().filter(|made| !state.resources.contains_key(&made.urn));
    let resources: Vec<Recorded> = state.resources.values().cloned().chain(unknown).collect();
    if terminal.json() {
        let rows: Vec<Value> = resources
            .into_iter()
            .map(|r| {
                json!({
                    "madeBy": if is_made(&r.urn) { "client" } else { "program" },
                    "urn": r.urn,
                    "id": r.id,
                    "inputs": shown(r.inputs),
                    "outputs": shown(r.outputs),
                    "dependsOn": r.depends_on,
                })
            })
            .collect();
        return Ok(terminal.record(&Value::from(rows))?);
    }
    let width = terminal.data_width();
    let table = if resources.iter().any(|r| is_made(&r.urn)) {
        let maker = |urn: &Urn| if is_made(urn) { MADE_BY_CLIENT } else { "the program" };
        let rows = resources.iter().map(|r| [r.urn.short(), r.id.to_string(), maker(&r.urn).to_owned()]);
        ui::table(["RESOURCE", "ID", "MADE BY"], rows, width)
    } else {
        ui::table(["RESOURCE", "ID"], resources.iter().map(|r| [r.urn.short(), r.id.to_string()]), width)
    };
    Ok(terminal.data(&table)?)
}

/// Asked for by name, a secret is revealed: it is what scripts are given the name for.
fn output(terminal: &Terminal, state: &State, name: String) -> Result<(), Failure> {
    let Some(value) = state.exports.get(&name) else {
        let known = state.exports.keys().cloned().collect();
        return Err(StackError::NoOutput { stack: state.stack.clone(), name, known }.into());
    };
    let value = value::revealed(value);
    if terminal.json() {
        return Ok(terminal.record(&value)?);
    }
    Ok(terminal.data(&format!("{}\n", ui::bare(&value)))?)
}

fn outputs(terminal: &Terminal, state: &State, show_secrets: bool) -> Result<(), Failure> {
    let all = Value::Object(state.exports.clone());
    let all = if show_secrets { value::revealed(&all) } else { value::redacted(&all) };
    if terminal.json() {
        return Ok(terminal.record(&all)?);
    }
    let lines = all.as_object().into_iter().flatten().fold(String::new(), |mut lines, (name, value)| {
        let _ = writeln!(lines, "{name}={}", ui::bare(value));
        lines
    });
    Ok(terminal.data(&lines)?)
}

fn rm(terminal: &Terminal, stacks: &Stacks, stack: StackId) -> Result<(), Failure> {
    let files = stacks.lock(&stack, "tandem stack rm")?;
    let folded = stacks.read(&stack)?;
    if !folded.state.is_empty() || !folded.pending.is_empty() {
        let resources = folded.foreseen().0.resources.len() + folded.state.replaced.len();
        return Err(StackError::NotEmpty { stack, resources }.into());
    }
    files.remove()?;
    terminal.note(&format!("Removed {stack}."));
    Ok(())
}

/// A lock that a living process holds is not broken: two writers would undo each other's work.
fn unlock(terminal: &Terminal, stacks: &Stacks, stack: &StackId) -> Result<(), Failure> {
    drop(stacks.lock(stack, "tandem stack unlock")?);
    terminal.say(&format!("{stack} is not locked. A lock goes with the process that holds it."));
    Ok(())
}

async fn reset(terminal: &Terminal, stacks: &Stacks, stack: StackId, yes: bool) -> Result<(), Failure> {
    let files = stacks.lock(&stack, "tandem stack reset")?;
    terminal.say(&format!(
        "The record of {stack} is forgotten. What exists in a cloud stays there; `tandem refresh` finds it again."
    ));
    if !yes && !ui::confirm(terminal, "forget it")? {
        return Err(Failure::Code(DECLINED));
    }
    files.reset().await?;
    Ok(())
}
