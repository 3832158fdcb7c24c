//! Why there is no backup, or no restored cloud.

use std::{io, path::PathBuf};

use tandem_engine::StateError;
use tandem_model::Explain;
use tandem_store::{BlobError, CommitError, OpenError, ReadError};

use crate::bucket::BucketError;

/// A backup that was not taken or cannot be restored. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("`{}` exists already", file.display())]
    Exists { file: PathBuf },
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot restore into `{}`", home.display())]
    Restore { home: PathBuf, source: io::Error },
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the backup `{}` is damaged: {what}", file.display())]
    Damaged { file: PathBuf, what: String },
    #[error("`{}` is no backup of a cloud, or damaged at its very beginning", file.display())]
    Foreign { file: PathBuf },
    #[error("the backup `{}` has format {format}, and this version reads formats up to {known}", file.display())]
    Newer { file: PathBuf, format: u32, known: u32 },
    #[error("there is no cloud in `{}`", home.display())]
    Nothing { home: PathBuf },
    #[error("`{}` is not empty: it has `{found}`", home.display())]
    NotEmpty { home: PathBuf, found: String },
    #[error("the backup was given up: nobody waits for it any more")]
    GivenUp,
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(transparent)]
    Rows(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Blobs(#[from] BlobError),
    #[error(transparent)]
    Buckets(#[from] BucketError),
    #[error(transparent)]
    State(#[from] StateError),
}

impl Explain for BackupError {
    fn code(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "E0912",
            Self::Write { .. } | Self::Restore { .. } | Self::Read { .. } | Self::GivenUp => "E0913",
            Self::Damaged { .. } => "E0914",
            Self::Foreign { .. } | Self::Newer { .. } => "E0915",
            Self::Nothing { .. } => "E0916",
            Self::NotEmpty { .. } => "E0917",
            Self::Store(e) => e.code(),
            Self::Rows(e) => e.code(),
            Self::Commit(e) => e.code(),
            Self::Blobs(e) => e.code(),
            Self::Buckets(e) => e.code(),
            Self::State(e) => e.code(),
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Exists { .. } => "choose another name, or overwrite it with `--force`".into(),
            Self::Write { .. } => "check space and permissions there".into(),
            Self::Restore { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "make room there, or set TANDEM_HOME to a folder on a larger disk; then run `tandem restore` again".into()
                }
                _ => "check the disk and the permissions there, then run `tandem restore` again".into(),
            },
            Self::Read { .. } => "see that it exists and may be read".into(),
            Self::Damaged { .. } => "use another copy of it, or an older backup; nothing was restored".into(),
            Self::Foreign { .. } => "give the file that `tandem backup` wrote".into(),
            Self::Newer { .. } => {
                "restore it with the version of tandem that wrote it, or a newer one".into()
            }
            Self::Nothing { .. } => "set TANDEM_HOME to the folder of the cloud".into(),
            Self::NotEmpty { .. } => {
                "set TANDEM_HOME to an empty folder, or move away what is in this one".into()
            }
            Self::GivenUp => "ask again; nothing was written".into(),
            Self::Store(e) => e.help(),
            Self::Rows(e) => e.help(),
            Self::Commit(e) => e.help(),
            Self::Blobs(e) => e.help(),
            Self::Buckets(e) => e.help(),
            Self::State(e) => e.help(),
        }
    }
}
