//! What the engine needs from outside: a place where resources live, and a place to remember them.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tandem_model::{
    ByteSize, Explain, OpId, PhysicalId, Recorded, Report, Secrets, StackId, Urn,
    plan::{Applied, Change, PropertyChange},
    resource::Properties,
};
use tokio::io::AsyncRead;

use crate::{error::StateError, journal::Entry, state::State};

/// The random identity of a cloud, made when it first started. A state that remembers another one is not its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CloudId(pub String);

/// How much a data resource holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    pub urn: Urn,
    /// Objects, messages, rows.
    pub items: u64,
    pub bytes: u64,
    /// What one item is called: `object`.
    pub unit: String,
    /// What is on its way in: multipart uploads that are neither completed nor aborted.
    #[serde(default)]
    pub unfinished: u64,
}

impl Contents {
    pub fn is_empty(&self) -> bool {
        self.items == 0 && self.unfinished == 0
    }
}

/// `bucket/photos holds 3 objects and 1 unfinished upload (2 KiB)`; `stream/posts holds 3 records`
impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |n: u64, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
        let unfinished = count(self.unfinished, "unfinished upload");
        let held = match (self.items, self.unfinished) {
            (items, 0) => count(items, &self.unit),
            (0, _) => unfinished,
            (items, _) => format!("{} and {unfinished}", count(items, &self.unit)),
        };
        write!(f, "{} holds {held}", self.urn.short())?;
        match self.bytes {
            0 => Ok(()),
            bytes => write!(f, " ({})", ByteSize(bytes)),
        }
    }
}

/// Receives a line of progress of a long change (a build's output), to show and not to keep.
pub trait Progress: Send + Sync {
    fn line(&self, urn: &Urn, line: &str);
}

/// A place resources live: the embedded cloud, Kubernetes, or AWS.
///
/// `apply` is idempotent per [`OpId`]: repeating it after a crash returns the first result. Every implementation passes
/// the `conformance` suite of this crate.
#[async_trait]
pub trait Target: fmt::Debug + Send + Sync {
    /// # Errors
    /// [`TargetError::Unreachable`] if the target does not answer.
    async fn identity(&self) -> Result<CloudId, TargetError>;

    /// Which properties differ, and which of them force a replacement. Without I/O, so `preview` changes nothing.
    ///
    /// Equal inputs have no differences; [`crate::diff::properties`] is what to build on. An unknown differs.
    fn diff(&self, urn: &Urn, old: &Properties, new: &Properties) -> Vec<PropertyChange>;

    /// Why the target would refuse to create this, or to change it from `old`, if it can tell before it is tried: in a preview
    /// already. Without I/O.
    fn refusal(&self, urn: &Urn, old: Option<&Properties>, new: &Properties) -> Option<Report> {
        let _ = (urn, old, new);
        None
    }

    /// The outputs as far as they can be told before these changes are made: those that an update may change become
    /// [`tandem_model::value::unknown`]. Without I/O.
    fn foresee(&self, urn: &Urn, changes: &[PropertyChange], outputs: &Properties) -> Properties {
        let _ = (urn, changes);
        outputs.clone()
    }

    /// Everything that exists of a stack, ordered by urn and id. One bulk read, however much there is. The target need
    /// not know what depends on what.
    ///
    /// # Errors
    /// [`TargetError::Unreachable`] if the target does not answer.
    async fn list(&self, stack: &StackId) -> Result<Vec<Recorded>, TargetError>;

    /// Whether clients made it, so that no program declares it. It exists beside what the engine makes, and is no drift.
    fn made_by_client(&self, urn: &Urn) -> bool {
        let _ = urn;
        false
    }

    /// What the data resources among these hold. One bulk read; resources that hold nothing are left out.
    ///
    /// # Errors
    /// [`TargetError::Unreachable`] if the target does not answer.
    async fn contents(&self, resources: &[(Urn, PhysicalId)]) -> Result<Vec<Contents>, TargetError>;

    /// Makes the change. `None` answers a delete; deleting what does not exist succeeds.
    ///
    /// # Errors
    /// [`TargetError::Refused`] with the target's own words; nothing was changed.
    /// [`TargetError::Unreachable`] if no answer came: the change may have happened; repeat it with the same `op`.
    async fn apply(
        &self,
        op: &OpId,
        change: &Change,
        progress: &dyn Progress,
    ) -> Result<Option<Applied>, TargetError>;

    /// Brings secrets that the next change of this resource may need and that no change may hold. The target keeps them
    /// in memory, until that change. A target that needs none forgets them.
    ///
    /// # Errors
    /// [`TargetError::Unreachable`] if the target does not answer; bringing them again is harmless.
    async fn entrust(&self, urn: &Urn, secrets: &Secrets) -> Result<(), TargetError> {
        let _ = (urn, secrets);
        Ok(())
    }

    /// Tells that the results of these operations are in the state, so the target may forget them.
    ///
    /// # Errors
    /// [`TargetError::Unreachable`] if the target does not answer; telling it again is harmless.
    async fn acknowledge(&self, ops: &[OpId]) -> Result<(), TargetError>;

    /// Stores an archive under its hash, `sha256:<hex>`; storing it again is harmless. Programs' code and build
    /// contexts travel this way.
    ///
    /// # Errors
    /// [`TargetError::Unreachable`] if the target does not answer, or `archive` cannot be read to its end.
    async fn upload(&self, hash: &str, archive: ArchiveReader) -> Result<(), TargetError>;
}

/// The bytes of an archive, from the first to the last. They may be more than fit into memory.
pub type ArchiveReader = Box<dyn AsyncRead + Send + Sync + Unpin>;

/// What a stack's store holds: the last snapshot, and what was journaled after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    pub state: State,
    pub journal: Vec<Entry>,
}

/// Where the state of one stack is kept, held by its only writer.
///
/// The truth is the snapshot with the journal folded in ([`crate::state::fold`]).
#[async_trait]
pub trait StateStore: fmt::Debug + Send + Sync {
    /// What was saved, without what was torn by a crash while it was written.
    ///
    /// # Errors
    /// [`StateError::Damaged`] naming file and line; [`StateError::Newer`] for a later format.
    async fn load(&self) -> Result<Stored, StateError>;

    /// Adds to the journal; on disk when it returns. Entries become durable in the order of the calls.
    ///
    /// # Errors
    /// [`StateError::Io`] if it may not be on disk. Every later append fails then, too.
    async fn append(&self, entry: Entry) -> Result<(), StateError>;

    /// Replaces the snapshot: after a crash there is the old one or this one. Leaves the journal as it is.
    ///
    /// # Errors
    /// [`StateError::Io`] if the old one may still be there.
    async fn save(&self, state: &State) -> Result<(), StateError>;

    /// Empties the journal. Call it only when the snapshot contains all of it.
    ///
    /// # Errors
    /// [`StateError::Io`] if it may still be there, which is harmless.
    async fn clear(&self) -> Result<(), StateError>;
}

/// What a target answers when it does not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Refused(Report),
    #[error("the cloud does not answer: {reason}")]
    Unreachable { reason: String },
}

impl Explain for TargetError {
    fn code(&self) -> &'static str {
        "E0301"
    }
    fn help(&self) -> String {
        match self {
            Self::Refused(report) => report.help.clone(),
            Self::Unreachable { .. } => {
                "see whether it runs with `tandem ps`; start it with `tandem serve`".into()
            }
        }
    }
    fn report(&self) -> Report {
        match self {
            Self::Refused(report) => report.clone(),
            Self::Unreachable { .. } => Report {
                code: self.code().into(),
                message: self.to_string(),
                help: self.help(),
                causes: Vec::new(),
            },
        }
    }
}
