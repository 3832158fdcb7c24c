//! `tandem backup`: the cloud in one file.

use std::{ops::ControlFlow, path::PathBuf};

use futures::StreamExt;
use tandem_cloud::backup::{self, BackupError, Progress, Sources, Summary};
use tandem_model::ByteSize;
use tandem_server::{
    ClientError,
    wire::{BackUp, BackingUp},
};

use super::serve;
use crate::{
    exit::Failure,
    place::Place,
    ui::{self, Steady, Terminal},
};

/// Copies the cloud into one file: objects, events, runs, keys, code, and the states of all stacks, as they are at one
/// moment. Puts, deletes, events and runs go on meanwhile; without a running cloud it works too.
///
/// Not in it: container images (a task builds its own again; import the others), containers, and logs.
/// The file holds the key of all credentials, so only its owner may read it: keep it that way.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to write: a tar with a checksum for each entry
    file: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

pub(crate) async fn run(terminal: &Terminal, place: Place, args: Args) -> Result<(), Failure> {
    let file = std::path::absolute(place.folder.join(&args.file))
        .map_err(|source| BackupError::Write { path: args.file.clone(), source })?;
    let mut line = Steady::new(terminal);
    let summary = match running(&place, &file, args.force, &mut line).await? {
        Some(summary) => summary,
        None => at_rest(&place, &file, args.force, line.detached()).await?,
    };
    line.clear();
    if terminal.json() {
        terminal.record(&summary)?;
    }
    terminal.note(&format!("backed up {} to {}", told(&summary), file.display()));
    if summary.lost_bodies > 0 {
        let lost = ui::count(usize::try_from(summary.lost_bodies).unwrap_or(usize::MAX), "large object");
        terminal.say(&format!("warning: {lost} could not be read in the cloud itself; not in the backup:"));
        for one in summary.lost.iter().take(5) {
            terminal.say(&format!("  {one}"));
        }
    }
    Ok(())
}

/// Asks the cloud that runs. `None`: none does.
async fn running(
    place: &Place,
    file: &std::path::Path,
    force: bool,
    line: &mut Steady,
) -> Result<Option<Summary>, Failure> {
    let request = BackUp { file: file.to_owned(), force };
    let mut answer = match place.client().stream::<BackingUp>("/v1/backup", &request).await {
        Ok(answer) => answer,
        Err(ClientError::NotRunning { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    while let Some(record) = answer.next().await {
        match record? {
            BackingUp::Progress(at) => line.show(&progress("backing up", at)),
            BackingUp::Done(summary) => return Ok(Some(summary)),
            BackingUp::Failed(report) => {
                line.clear();
                return Err(Failure::report(report));
            }
        }
    }
    line.clear();
    Err(ClientError::Broken { reason: "the answer ended early".into() }.into())
}

/// Copies a cloud that does not run. Holds its lock, so that none starts meanwhile.
async fn at_rest(
    place: &Place,
    file: &std::path::Path,
    force: bool,
    mut line: Steady,
) -> Result<Summary, Failure> {
    if !place.home.store().exists() {
        return Err(BackupError::Nothing { home: place.home.path().to_owned() }.into());
    }
    let _lock = serve::lock(&place.home)?;
    let sources = Sources::at_rest(place.home.clone())?;
    let store = sources.store.clone();
    let taken = backup::take(sources, file, force, move |at| {
        line.show(&progress("backing up", at));
        ControlFlow::Continue(())
    });
    let taken = taken.await;
    store.close().await;
    Ok(taken?)
}

/// `backing up: 1.2 GiB of 3.4 GiB, 35%`
pub(super) fn progress(verb: &str, Progress { bytes, of }: Progress) -> String {
    match of.filter(|of| *of > 0) {
        None => format!("{verb}: {}", ByteSize(bytes)),
        Some(of) => {
            let percent = (u128::from(bytes) * 100 / u128::from(of)).min(100);
            format!("{verb}: {} of {}, {percent}%", ByteSize(bytes), ByteSize(of))
        }
    }
}

/// `2 stacks, 1,234 rows and 12 large objects (1.2 GiB)`
pub(super) fn told(summary: &Summary) -> String {
    let count = |n: u64, noun| ui::count(usize::try_from(n).unwrap_or(usize::MAX), noun);
    format!(
        "{}, {} and {} ({})",
        count(summary.stacks, "stack"),
        count(summary.rows, "row"),
        count(summary.bodies, "large object"),
        ByteSize(summary.bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_with_what_is_known() {
        assert_eq!(progress("backing up", Progress { bytes: 1 << 20, of: None }), "backing up: 1 MiB");
        let half = Progress { bytes: 512, of: Some(1024) };
        assert_eq!(progress("restoring", half), "restoring: 512 B of 1 KiB, 50%");
        assert_eq!(progress("restoring", Progress { bytes: 0, of: Some(0) }), "restoring: 0 B");
    }
}
