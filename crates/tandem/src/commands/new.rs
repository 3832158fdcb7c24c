//! `tandem new`: a project to start from.

use std::path::{Path, PathBuf};

use serde_json::json;
use tandem_model::ProjectName;
use tandem_program::template;

use crate::{exit::Failure, place::Place, ui::Terminal};

/// Writes a small project into a folder, without touching files that are there.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The project's name, and the folder that is made for it
    name: ProjectName,
    /// What to start from: `javascript`, `typescript` or `container`
    #[arg(short, long, default_value = template::TEMPLATES[0].name, value_parser = template::TEMPLATES.map(|t| t.name))]
    template: String,
}

pub(crate) fn run(terminal: &Terminal, place: &Place, Args { name, template }: &Args) -> Result<(), Failure> {
    let folder: PathBuf = place.folder.join(name.as_str());
    let chosen =
        template::TEMPLATES.iter().find(|t| t.name == template).expect("clap lets only these through");
    let files = template::write(chosen, &folder, name)?;
    if terminal.json() {
        return Ok(terminal.record(&json!({ "folder": folder, "files": files }))?);
    }
    for file in files {
        terminal.say(&format!("wrote {name}/{file}"));
    }
    terminal.say(&format!("\nNext:\n  cd {}\n  tandem up", shown(&folder)));
    Ok(())
}

/// The folder as one would type it from here.
fn shown(folder: &Path) -> String {
    let here = std::env::current_dir().ok();
    let near = here.and_then(|here| folder.strip_prefix(here).ok().map(Path::to_owned));
    near.unwrap_or_else(|| folder.to_owned()).display().to_string()
}
