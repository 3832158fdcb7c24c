//! `tandem restore`: a cloud from a backup.

use std::{ops::ControlFlow, path::PathBuf};

use tandem_cloud::backup::{self, BackupError};

use super::{
    backup::{progress, told},
    serve,
};
use crate::{
    exit::Failure,
    place::Place,
    ui::{Steady, Terminal},
};

/// Makes a cloud from the file that `tandem backup` wrote, in an empty or new TANDEM_HOME. Everything in the file is
/// checked before any of it counts; interrupted, it leaves nothing that a cloud would start on, and can be run again.
///
/// The cloud then has the same address, keys and stacks. Events that were on their way are delivered (again, perhaps);
/// runs that were running are lost, and recorded so. Container images are not in a backup: a task builds its own
/// again at its first run; import the others before.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file that `tandem backup` wrote
    file: PathBuf,
}

pub(crate) async fn run(terminal: &Terminal, place: Place, args: Args) -> Result<(), Failure> {
    let file = std::path::absolute(place.folder.join(&args.file))
        .map_err(|source| BackupError::Read { path: args.file.clone(), source })?;
    // Before a folder is made for it.
    std::fs::File::open(&file).map_err(|source| BackupError::Read { path: file.clone(), source })?;
    let _lock = serve::lock(&place.home)?;
    let line = Steady::new(terminal);
    let mut redrawn = line.detached();
    let restored = backup::restore(&place.home, &file, move |at| {
        redrawn.show(&progress("restoring", at));
        ControlFlow::Continue(())
    });
    let restored = restored.await;
    line.clear();
    let summary = restored?;
    if terminal.json() {
        terminal.record(&summary)?;
    }
    terminal.note(&format!("restored {} to {}", told(&summary), place.home.path().display()));
    terminal.note("start it with `tandem serve --detach`");
    Ok(())
}
