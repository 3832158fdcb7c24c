//! What can be wrong with a task, a run, or the question about one.

use std::{io, path::PathBuf};

use tandem_container::ContainerError;
use tandem_model::{ByteSize, Explain, Report, Urn, inputs::InputsError};
use tandem_store::{CommitError, ReadError};

use super::{LARGEST, Outcome, RunId};
use crate::{capacity::Room, image::ImageError, mount::MountError, program::CodeError};

/// A run that was refused or did not succeed, or a task that cannot be deployed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("there is no {}", .0.short())]
    NoTask(Urn),
    #[error("the image of {} has neither an entrypoint nor a command", .0.short())]
    NothingToRun(Urn),
    #[error("a run of {} sets aside {needs}, and this machine gives {capacity} in all", task.short())]
    NeverFits { task: Urn, needs: Room, capacity: Room },
    #[error("there is no run `{0}`")]
    NoRun(RunId),
    #[error("run `{id}` of {} {outcome}", task.short())]
    Failed { id: RunId, task: Urn, outcome: Box<Outcome> },
    #[error("the input of a run of {} has {size}, more than {LARGEST}", task.short())]
    InputTooLarge { task: Urn, size: ByteSize },
    #[error("cannot keep track of runs")]
    Commit(#[from] CommitError),
    #[error("cannot read what is known of runs")]
    Read(#[from] ReadError),
    #[error("the record of a run cannot be read")]
    Damaged(#[source] serde_json::Error),
    #[error("{}: {reason}", task.short())]
    Invalid { task: Urn, reason: String },
    #[error(transparent)]
    Inputs(#[from] InputsError),
    #[error("cannot use `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Code(#[from] CodeError),
    #[error(transparent)]
    Container(#[from] ContainerError),
}

impl Explain for RunError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoTask(_) => "E0701",
            Self::NothingToRun(_) => "E0702",
            Self::NeverFits { .. } => "E0703",
            Self::NoRun(_) => "E0704",
            Self::Failed { .. } => "E0705",
            Self::Commit(_) | Self::Read(_) | Self::Damaged(_) => "E0706",
            Self::Invalid { .. } | Self::Inputs(_) => "E0707",
            Self::Io { .. } => "E0709",
            Self::InputTooLarge { .. } => "E0710",
            Self::Image(error) => error.code(),
            Self::Mount(error) => error.code(),
            Self::Code(error) => error.code(),
            Self::Container(error) => error.code(),
        }
    }

    fn help(&self) -> String {
        match self {
            Self::NoTask(_) => "see what is deployed with `tandem ps`; deploy with `tandem up`".into(),
            Self::NothingToRun(_) => {
                "set `command` in the task, or CMD or ENTRYPOINT in its Dockerfile".into()
            }
            Self::NeverFits { .. } => "lower `memoryReservation` or `cpu`, or use a larger machine".into(),
            Self::NoRun(_) => "list the runs with `tandem ps`".into(),
            Self::Failed { id, outcome, .. } => match &**outcome {
                Outcome::OutOfMemory { .. } => "raise the task's `memory`".into(),
                Outcome::BadResult { .. } => {
                    "write one JSON value to the file that TANDEM_RESULT names, or nothing".into()
                }
                Outcome::TimedOut => "raise the task's `timeout`".into(),
                Outcome::Failed { error } => error.help.clone(),
                _ => format!("see what it printed: tandem logs --run {id}"),
            },
            Self::Commit(_) | Self::Read(_) | Self::Damaged(_) => {
                "check the space on the disk; run `tandem serve` in the foreground to see more".into()
            }
            Self::Invalid { .. } | Self::Inputs(_) => "mend that property, then try again".into(),
            Self::Io { path, .. } => format!("check space and permissions at `{}`", path.display()),
            Self::InputTooLarge { .. } => "put it into a bucket, and give the run its key".into(),
            Self::Image(error) => error.help(),
            Self::Mount(error) => error.help(),
            Self::Code(error) => error.help(),
            Self::Container(error) => error.help(),
        }
    }

    fn report(&self) -> Report {
        match self {
            Self::Container(error) => return error.report(),
            Self::Image(error) => return error.report(),
            Self::Mount(error) => return error.report(),
            Self::Code(error) => return error.report(),
            _ => {}
        }
        Report::of(self)
    }
}
