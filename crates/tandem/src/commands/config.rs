//! `tandem config`: the stack's settings, which programs read with `Config`.

use std::io::{IsTerminal, Read};

use serde_json::{Map, Value, json};
use tandem_model::Report;
use tandem_program::{Project, Setting};

use crate::{
    exit::Failure,
    place::Place,
    ui::{self, Terminal},
};

/// Shows and changes the stack's settings, kept in `Tandem.<stack>.yaml`. They take effect with the next `up`.
///
/// A value is text: the program reads it as what it needs, `getNumber`, `getBoolean`, `getObject` (JSON: lists, too).
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tandem config set size 3
  tandem config set formats '[\"jpg\", \"png\"]'
  tandem config set --secret token < token.txt
  tandem config ls --stack prod";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Set a key; comments in the file are lost
    Set {
        /// A key of the project, or `namespace:key`
        key: String,
        /// The value; without it, standard input
        #[arg(allow_hyphen_values = true)]
        value: Option<String>,
        /// Keep it in `Tandem.<stack>.secrets`, which only you may read, and never show it
        #[arg(long)]
        secret: bool,
    },
    /// Print the value of a key, of a secret one as well
    Get { key: String },
    /// Remove a key; the project's default is seen again, if it has one
    Rm { key: String },
    /// List all keys, the project's defaults among them; secrets hidden
    Ls {
        /// Print secrets instead of hiding them
        #[arg(long)]
        show_secrets: bool,
    },
}

pub(crate) fn run(terminal: &Terminal, place: &Place, Args { command }: &Args) -> Result<(), Failure> {
    let project = Project::find(&place.folder)?;
    match command {
        Command::Set { key, value, secret } => set(terminal, place, &project, key, value.as_deref(), *secret),
        Command::Get { key } => {
            let setting = setting(place, &project, key)?;
            if terminal.json() {
                return Ok(terminal.record(&json!({ "value": setting.value, "secret": setting.secret }))?);
            }
            Ok(terminal.data(&format!("{}\n", setting.value))?)
        }
        Command::Rm { key } => {
            setting(place, &project, key)?;
            Ok(project.remove_config(&place.stack, key)?)
        }
        Command::Ls { show_secrets } => list(terminal, place, &project, *show_secrets),
    }
}

fn set(
    terminal: &Terminal,
    place: &Place,
    project: &Project,
    key: &str,
    value: Option<&str>,
    secret: bool,
) -> Result<(), Failure> {
    let full = project.full_key(key)?;
    let value = match value {
        Some(value) => value.to_owned(),
        None => read(terminal, &full)?,
    };
    project.set_config(&place.stack, key, Setting { value, secret })?;
    if secret {
        let file = project.secrets_file(&place.stack);
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        terminal
            .note(&format!("{full} is in {name}, readable by you alone. Keep it out of version control."));
    }
    Ok(())
}

/// A value from standard input: a secret that is an argument stays in the shell's history.
fn read(terminal: &Terminal, key: &str) -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        terminal.say(&format!("The value of {key}, then Enter and Ctrl-D:"));
    }
    let mut value = String::new();
    std::io::stdin().read_to_string(&mut value).map_err(|error| {
        Failure::report(Report {
            code: "E0145".into(),
            message: "cannot read the value from standard input".into(),
            help: "give it as an argument, or see that the input is text in UTF-8".into(),
            causes: vec![error.to_string()],
        })
    })?;
    // The line's end is not part of what was meant.
    let end = value.trim_end_matches(['\n', '\r']).len();
    value.truncate(end);
    Ok(value)
}

fn list(terminal: &Terminal, place: &Place, project: &Project, show_secrets: bool) -> Result<(), Failure> {
    let settings = project.config(&place.stack)?.0.into_iter();
    let shown = |setting: &Setting| match setting.secret && !show_secrets {
        true => "[secret]".to_owned(),
        false => setting.value.clone(),
    };
    if terminal.json() {
        let all: Map<_, _> = settings.map(|(key, setting)| (key, Value::String(shown(&setting)))).collect();
        return Ok(terminal.record(&all)?);
    }
    let rows = settings.map(|(key, setting)| {
        let value = shown(&setting);
        [key, value]
    });
    Ok(terminal.data(&ui::table(["KEY", "VALUE"], rows, terminal.data_width()))?)
}

fn setting(place: &Place, project: &Project, key: &str) -> Result<Setting, Failure> {
    let full = project.full_key(key)?;
    let mut settings = project.config(&place.stack)?.0;
    settings.remove(&full).ok_or_else(|| {
        let known: Vec<&str> = settings.keys().map(String::as_str).collect();
        let among = if known.is_empty() { String::new() } else { format!("; set are {}", known.join(", ")) };
        Failure::report(Report {
            code: "E0142".into(),
            message: format!("`{key}` is not set for stack `{}`{among}", place.stack),
            help: format!(
                "set it with `tandem config set {key} VALUE`, or see what is set with `tandem config ls`"
            ),
            causes: vec![],
        })
    })
}
