//! What can go wrong with workflows.

use crate::cause::DEEPEST;
use tandem_model::{Explain, Urn};
use tandem_store::{CommitError, ReadError};

#[derive(Debug, thiserror::Error)]
pub enum WorkflowError {
    #[error("there is no {}", .0.short())]
    NoWorkflow(Urn),
    #[error("there is no instance `{id}`")]
    NoInstance { id: String },
    #[error("the instance `{id}` exists already, and has not ended")]
    InUse { id: String },
    #[error("`{id}` cannot be the id of an instance: {reason}")]
    InvalidId { id: String, reason: &'static str },
    #[error("the name of an event has 1 to 256 bytes, not {bytes}")]
    InvalidEvent { bytes: usize },
    #[error("{} would be started by a chain of {DEEPEST} steps", .0.short())]
    TooDeep(Urn),
    #[error("the instance `{id}` has ended: it is {status}")]
    Ended { id: String, status: String },
    #[error("the instance `{id}` has not ended: it is {status}")]
    NotEnded { id: String, status: String },
    #[error("the instance `{id}` has not failed: it is {status}")]
    NotFailed { id: String, status: String },
    #[error("the instance `{id}` failed within a critical section, and its lock is released")]
    LockGone { id: String },
    #[error("the {what} is {bytes} bytes long, and 1 MiB is the most")]
    TooLarge { what: String, bytes: usize },
    #[error("there is no entity `{name}`")]
    NoEntity { name: String },
    #[error("`{id}` names no entity")]
    NotEntity { id: String },
    #[error("the entities `{name}` and `{other}` have the same name: names of entities have no case")]
    SameEntity { name: String, other: String },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Explain for WorkflowError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoWorkflow(_) => "E0870",
            Self::NoInstance { .. } => "E0871",
            Self::InUse { .. } | Self::InvalidId { .. } | Self::InvalidEvent { .. } => "E0872",
            Self::TooDeep(_) => "E0652",
            Self::Ended { .. } | Self::NotEnded { .. } | Self::NotFailed { .. } => "E0873",
            Self::LockGone { .. } => "E0881",
            Self::TooLarge { .. } => "E0874",
            Self::NoEntity { .. } | Self::NotEntity { .. } => "E0878",
            Self::SameEntity { .. } => "E0879",
            Self::Read(error) => error.code(),
            Self::Commit(error) => error.code(),
        }
    }

    fn help(&self) -> String {
        match self {
            Self::NoWorkflow(_) => "`tandem stack show` lists the workflows of the stack".into(),
            Self::NoInstance { .. } => "`tandem workflow ls` lists the instances of the stack".into(),
            Self::InUse { .. } => "choose another id, or wait until it has ended".into(),
            Self::InvalidId { .. } => "use letters, digits, `-`, `_`, `.` and `:`".into(),
            Self::InvalidEvent { .. } => "name it as the orchestrator waits for it".into(),
            Self::TooDeep(_) => {
                "find out with `tandem why` what starts what; a chain has to end by itself".into()
            }
            Self::Ended { .. } => "start a new instance".into(),
            Self::NotEnded { .. } => "terminate it first: `tandem workflow terminate ID`".into(),
            Self::NotFailed { .. } => "only an instance that failed is rewound".into(),
            Self::LockGone { .. } => {
                "others may have changed the entities since: look at their states, and start a new instance"
                    .into()
            }
            Self::TooLarge { .. } => "put it into a bucket, and pass its key".into(),
            Self::NoEntity { .. } => "`tandem stack show` lists the entities of the stack".into(),
            Self::NotEntity { .. } => "write it as `@NAME@KEY`, for example `@account@ada`".into(),
            Self::SameEntity { .. } => "give one of them another name".into(),
            Self::Read(error) => error.help(),
            Self::Commit(error) => error.help(),
        }
    }
}
