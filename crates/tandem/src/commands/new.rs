//! `tandem new`: a project to start from.

use std::path::PathBuf;

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

pub(crate) fn run(place: &Place, Args { name, template }: &Args) -> Result<(), Failure> {
    let folder: PathBuf = place.folder.join(name.as_str());
    let chosen =
        template::TEMPLATES.iter().find(|t| t.name == template).expect("clap lets only these through");
    let files = template::write(chosen, &folder, name)?;
    let terminal = Terminal::stderr();
    for file in files {
        terminal.say(&format!("wrote {file}"));
    }
    terminal.say(&format!("now: cd {} && tandem up", folder.display()));
    Ok(())
}
