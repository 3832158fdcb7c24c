//! Why a container cannot run code of a program.

use std::{
    io,
    path::{Path, PathBuf},
};

use tandem_model::Explain;

/// Code that cannot be run in a container.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    #[error("the code of {of}, {code}, is not in the cloud")]
    NoCode { of: String, code: String },
    #[error("the engine for code in containers cannot be made: `{}`", path.display())]
    Engine { path: PathBuf, source: io::Error },
    #[error("cannot use `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
}

pub(super) fn at(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> CodeError {
    let path = path.as_ref().to_owned();
    move |source| CodeError::Io { path, source }
}

impl Explain for CodeError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoCode { .. } => "E0611",
            Self::Engine { .. } => "E0760",
            Self::Io { .. } => "E0709",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::NoCode { .. } => "run `tandem up` again, which uploads it".into(),
            Self::Engine { .. } => {
                "see that there is room on the disk of TANDEM_HOME, and restart the cloud if `tandem` or a library of the \
                 system was replaced meanwhile"
                    .into()
            }
            Self::Io { path, .. } => format!("check space and permissions at `{}`", path.display()),
        }
    }
}
