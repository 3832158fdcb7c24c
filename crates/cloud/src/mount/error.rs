//! Why a container cannot see a folder.

use std::io;

use tandem_model::{Explain, Report};

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("the stack has no volume `{id}`")]
    NoVolume { id: String },
    #[error("the folder `{path}` of this machine cannot be used")]
    HostPath { path: String, source: io::Error },
    #[error("the folder `{path}` holds the cloud's own files, or is one of them")]
    Own { path: String },
}

impl Explain for MountError {
    fn code(&self) -> &'static str {
        "E0731"
    }

    fn help(&self) -> String {
        match self {
            Self::NoVolume { .. } => {
                "pass a volume of the program: `sourceVolume: new cloud.SharedVolume(\"data\")`".into()
            }
            Self::HostPath { path, .. } => format!("create it (`mkdir -p {path}`), or name another one"),
            Self::Own { .. } => "name a folder beside TANDEM_HOME, or use a `SharedVolume`".into(),
        }
    }

    fn report(&self) -> Report {
        Report::of(self)
    }
}
