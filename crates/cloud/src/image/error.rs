//! Why the image of a task or a service could not be had.

use std::{io, path::PathBuf};

use tandem_container::ContainerError;
use tandem_model::{Explain, Report, Urn};
use tandem_store::{CommitError, ReadError};

/// An image that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("{}: exactly one of `build` and `image` must be set", of.short())]
    Source { of: Urn },
    #[error("the build context of {} cannot be unpacked: {reason}", of.short())]
    Context { of: Urn, reason: String },
    #[error("cannot use `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot keep track of images")]
    Commit(#[from] CommitError),
    #[error("cannot read what is known of images")]
    Read(#[from] ReadError),
    #[error(transparent)]
    Container(#[from] ContainerError),
}

impl Explain for ImageError {
    fn code(&self) -> &'static str {
        match self {
            Self::Source { .. } => "E0707",
            Self::Context { .. } | Self::Io { .. } => "E0709",
            Self::Commit(_) | Self::Read(_) => "E0706",
            Self::Container(error) => error.code(),
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Source { .. } => "mend that property, then try again".into(),
            Self::Context { .. } => "run `tandem up` again; it packs the folder anew".into(),
            Self::Io { path, .. } => format!("check space and permissions at `{}`", path.display()),
            Self::Commit(_) | Self::Read(_) => {
                "check the space on the disk; run `tandem serve` in the foreground to see more".into()
            }
            Self::Container(error) => error.help(),
        }
    }

    fn report(&self) -> Report {
        match self {
            Self::Container(error) => error.report(),
            other => Report::of(other),
        }
    }
}
