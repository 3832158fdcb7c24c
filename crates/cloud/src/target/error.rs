//! Why a change was not made.

use tandem_model::{Explain, Kind, PhysicalId, Urn};
use tandem_store::{CommitError, ReadError};

#[derive(Debug, thiserror::Error)]
pub enum TargetFault {
    #[error("{} would be named `{id}`, which {owner} already is", urn.short())]
    Exists { urn: Urn, id: PhysicalId, owner: Urn },
    #[error("{} no longer exists in this cloud", urn.short())]
    Gone { urn: Urn },
    #[error("{} changes all the time: the change could not be committed", urn.short())]
    Contended { urn: Urn },
    #[error("this cloud has no {kind}s")]
    Unsupported { kind: Kind },
    #[error("a record in the store cannot be read")]
    Damaged { source: serde_json::Error },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error("the archive is not what its name says: {actual} instead of {expected}")]
    WrongArchive { expected: String, actual: String },
    #[error("`{name}` is not the name of an archive")]
    ArchiveName { name: String },
    #[error("cannot write the archive")]
    WriteArchive { source: std::io::Error },
}

impl Explain for TargetFault {
    fn code(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "E0303",
            Self::Gone { .. } => "E0304",
            Self::Contended { .. } => "E0305",
            Self::Unsupported { .. } => "E0306",
            Self::Damaged { .. } => "E0902",
            Self::Read(error) => error.code(),
            Self::Commit(error) => error.code(),
            Self::WrongArchive { .. } | Self::ArchiveName { .. } => "E0307",
            Self::WriteArchive { .. } => "E0308",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Exists { .. } => {
                "choose another name, or destroy the stack that has it; a state that was deleted by hand leaves its \
                 resources behind"
                    .into()
            }
            Self::Gone { .. } => "run `tandem up` again: it notices, and makes a new one".into(),
            Self::Contended { .. } => "run `tandem up` again".into(),
            Self::Unsupported { .. } => "update `tandem serve` to the version of your `tandem`".into(),
            Self::Damaged { .. } => "restore the cloud's folder from a backup".into(),
            Self::Read(error) => error.help(),
            Self::Commit(error) => error.help(),
            Self::WriteArchive { .. } => "check the space and the health of the disk".into(),
            Self::WrongArchive { .. } | Self::ArchiveName { .. } => "run `tandem up` again".into(),
        }
    }
}
