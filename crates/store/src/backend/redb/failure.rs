//! Why a group of commits did not happen.

use std::{io, sync::Arc};

use crate::port::{CommitError, Damage};

/// Why a whole group was not written.
pub(super) enum Failure {
    Full,
    Other(Arc<dyn std::error::Error + Send + Sync>),
}

impl Failure {
    pub(super) fn answer(&self) -> CommitError {
        match self {
            Self::Full => CommitError::Full,
            // Found as itself: it has a code of its own.
            Self::Other(cause) => CommitError::Backend(match cause.downcast_ref::<Damage>() {
                Some(damage) => Box::new(damage.clone()),
                None => Box::new(cause.clone()),
            }),
        }
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(io) if is_full(&io) => Self::Full,
            other => Self::Other(Arc::new(other)),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(Arc::new(error))
    }
}
