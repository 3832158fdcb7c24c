//! What can be wrong with a volume.

use std::{io, path::PathBuf};

use tandem_model::{Explain, Report, inputs::InputsError};
use tandem_store::{CommitError, ReadError};

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("the volume `{name}` is not empty: it holds {files} files")]
    NotEmpty { name: String, files: u64 },
    #[error("cannot use `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot keep track of volumes")]
    Commit(#[from] CommitError),
    #[error("cannot read what is known of volumes")]
    Read(#[from] ReadError),
    #[error(transparent)]
    Inputs(#[from] InputsError),
}

impl Explain for VolumeError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotEmpty { .. } => "E0730",
            Self::Io { .. } => "E0709",
            Self::Commit(error) => error.code(),
            Self::Read(error) => error.code(),
            Self::Inputs(_) => "E0707",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::NotEmpty { .. } => {
                "empty it, or set `forceDestroy` in the program, or run `tandem destroy --force`, which deletes what is in it"
                    .into()
            }
            Self::Io { path, .. } => format!("check space and permissions at `{}`", path.display()),
            Self::Commit(error) => error.help(),
            Self::Read(error) => error.help(),
            Self::Inputs(_) => "mend that property, then try again".into(),
        }
    }

    fn report(&self) -> Report {
        Report::of(self)
    }
}
