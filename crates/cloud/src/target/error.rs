//! Why a change was not made.

use tandem_model::{Explain, Kind, PhysicalId, Urn};
use tandem_store::{CommitError, ReadError};

#[derive(Debug, thiserror::Error)]
pub enum TargetFault {
    #[error("{} would be named `{id}`, which {owner} already is", urn.short())]
    Exists { urn: Box<Urn>, id: PhysicalId, owner: Box<Urn> },
    #[error("{} no longer exists in this cloud", urn.short())]
    Gone { urn: Box<Urn> },
    #[error("{} changes all the time: the change could not be committed", urn.short())]
    Contended { urn: Box<Urn> },
    #[error("{} was called off", urn.short())]
    CalledOff { urn: Box<Urn> },
    #[error("this cloud has no {kind}s")]
    Unsupported { kind: Kind },
    #[error("a record in the store cannot be read")]
    Damaged { source: serde_json::Error },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Explain for TargetFault {
    fn code(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "E0303",
            Self::Gone { .. } => "E0304",
            Self::Contended { .. } => "E0305",
            Self::Unsupported { .. } => "E0306",
            Self::CalledOff { .. } => "E0324",
            Self::Damaged { .. } => "E0902",
            Self::Read(error) => error.code(),
            Self::Commit(error) => error.code(),
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
            Self::CalledOff { .. } => "run `tandem up` again: it begins this change anew".into(),
            Self::Contended { .. } => "run `tandem up` again".into(),
            Self::Unsupported { .. } => "update `tandem serve` to the version of your `tandem`".into(),
            Self::Damaged { .. } => "restore the cloud's folder from a backup".into(),
            Self::Read(error) => error.help(),
            Self::Commit(error) => error.help(),
        }
    }
}
