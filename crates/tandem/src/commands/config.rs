//! `tandem config`: the stack's settings, which programs read with `Config`.

use serde_json::Value;
use tandem_model::Report;
use tandem_program::Project;

use crate::{
    exit::Failure,
    place::Place,
    ui::{self, Terminal},
};

/// Shows and changes the stack's settings, kept in `Tandem.<stack>.yaml`. They take effect with the next `up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Set a key; comments in the file are lost
    Set {
        /// A key of the project, or `namespace:key`
        key: String,
        value: String,
    },
    /// Print the value of a key
    Get { key: String },
    /// Remove a key
    Rm { key: String },
    /// List all keys, the project's defaults among them
    Ls {
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(place: &Place, Args { command }: &Args) -> Result<(), Failure> {
    let project = Project::find(&place.folder)?;
    let terminal = Terminal::stderr();
    match command {
        Command::Set { key, value } => project.set_config(&place.stack, key, Some(value))?,
        Command::Rm { key } => project.set_config(&place.stack, key, None)?,
        Command::Get { key } => {
            let settings = project.config(&place.stack)?.0;
            let full = format!("{}:{key}", project.name);
            match settings.get(key).or_else(|| settings.get(&full)) {
                Some(value) => terminal.data(&format!("{value}\n")),
                None => return Err(unset(key, place)),
            }
        }
        Command::Ls { json } => {
            let settings = project.config(&place.stack)?.0;
            if *json {
                let all: serde_json::Map<_, _> =
                    settings.into_iter().map(|(k, v)| (k, Value::String(v))).collect();
                terminal.data(&format!("{:#}\n", Value::Object(all)));
            } else {
                terminal.data(&ui::table(
                    ["KEY", "VALUE"],
                    settings.into_iter().map(|(key, value)| [key, value]),
                ));
            }
        }
    }
    Ok(())
}

fn unset(key: &str, place: &Place) -> Failure {
    Failure::report(Report {
        code: "E0142".into(),
        message: format!("`{key}` is not set for stack `{}`", place.stack),
        help: format!(
            "set it with `tandem config set {key} VALUE`, or see what is set with `tandem config ls`"
        ),
        causes: vec![],
    })
}
