//! What the registry refuses, in the words and codes of the OCI distribution spec 1.1, "Error codes".

use http::StatusCode;
use tandem_container::ContainerError;
use tandem_model::Explain;
use tandem_store::{CommitError, ReadError};

use super::name::Digest;

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("there is no blob {0}")]
    BlobUnknown(Digest),
    #[error("the upload is refused: {0}")]
    UploadInvalid(String),
    #[error("there is no such upload; a restart of the cloud ends those that are under way")]
    UploadUnknown,
    /// The next byte that the upload wants is this one.
    #[error("the next byte of this upload is byte {0}")]
    OutOfOrder(u64),
    #[error("{reason}")]
    DigestInvalid { reason: String },
    #[error("the manifest names {0}, which is not here: push it first")]
    ManifestBlobUnknown(Digest),
    #[error("the manifest is refused: {0}")]
    ManifestInvalid(String),
    #[error("a manifest is at most 4 MiB large")]
    ManifestTooLarge,
    #[error("there is no manifest `{0}`")]
    ManifestUnknown(String),
    #[error("`{0}` cannot be the name of a repository")]
    NameInvalid(String),
    #[error("there is no repository `{0}`")]
    NameUnknown(String),
    #[error("the range is not within the blob of {0} bytes")]
    RangeInvalid(u64),
    #[error("log in with TANDEM_REGISTRY_USER and TANDEM_REGISTRY_PASSWORD, which `tandem env` prints")]
    Unauthorized,
    #[error("functions, tasks and services have no access to images; use the keys that `tandem env` prints")]
    Denied,
    #[error("the image is in use: {0}")]
    InUse(String),
    #[error("{0}")]
    PageInvalid(&'static str),
    #[error("this registry does not do that")]
    Unsupported,
    #[error("the disk is nearly full: nothing is taken until space is free again")]
    Full,
    #[error("cannot use the folder of the registry")]
    Io(#[source] std::io::Error),
    #[error("cannot read what is recorded of images")]
    Read(#[from] ReadError),
    #[error("cannot record it")]
    Commit(#[source] CommitError),
    #[error("the image cannot be taken into, or out of, the image store: {0}")]
    Image(#[from] ContainerError),
}

impl From<CommitError> for RegistryError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Full => Self::Full,
            other => Self::Commit(other),
        }
    }
}

impl From<std::io::Error> for RegistryError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io(error),
        }
    }
}

impl RegistryError {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BlobUnknown(_)
            | Self::UploadUnknown
            | Self::ManifestBlobUnknown(_)
            | Self::ManifestUnknown(_)
            | Self::NameUnknown(_) => StatusCode::NOT_FOUND,
            Self::UploadInvalid(_)
            | Self::DigestInvalid { .. }
            | Self::ManifestInvalid(_)
            | Self::NameInvalid(_)
            | Self::PageInvalid(_) => StatusCode::BAD_REQUEST,
            Self::OutOfOrder(_) | Self::RangeInvalid(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::ManifestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::InUse(_) => StatusCode::CONFLICT,
            Self::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Self::Full => StatusCode::INSUFFICIENT_STORAGE,
            Self::Image(error) if error.is_full() => StatusCode::INSUFFICIENT_STORAGE,
            Self::Io(_) | Self::Read(_) | Self::Commit(_) | Self::Image(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// The spec's code. It has none for what goes wrong inside.
    pub fn wire_code(&self) -> &'static str {
        match self {
            Self::BlobUnknown(_) => "BLOB_UNKNOWN",
            Self::UploadInvalid(_) | Self::OutOfOrder(_) => "BLOB_UPLOAD_INVALID",
            Self::UploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid { .. } => "DIGEST_INVALID",
            Self::ManifestBlobUnknown(_) => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid(_) => "MANIFEST_INVALID",
            Self::ManifestUnknown(_) => "MANIFEST_UNKNOWN",
            Self::NameInvalid(_) => "NAME_INVALID",
            Self::NameUnknown(_) => "NAME_UNKNOWN",
            Self::ManifestTooLarge | Self::RangeInvalid(_) => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied | Self::InUse(_) => "DENIED",
            Self::PageInvalid(_) => "PAGINATION_NUMBER_INVALID",
            Self::Unsupported => "UNSUPPORTED",
            Self::Full | Self::Io(_) | Self::Read(_) | Self::Commit(_) | Self::Image(_) => "UNKNOWN",
        }
    }

    /// What it says to the client: with the cause where that is not ours alone, and its page where there is one.
    pub fn message(&self) -> String {
        match self {
            Self::Image(error) => {
                let report = error.report();
                let causes = report.causes.join("; ");
                format!("{self} ({}{}{causes})", report.code, if causes.is_empty() { "" } else { ": " })
            }
            other => other.to_string(),
        }
    }
}

impl Explain for RegistryError {
    fn code(&self) -> &'static str {
        match self {
            Self::Full => "E0904",
            Self::Read(error) => error.code(),
            Self::Commit(error) => error.code(),
            Self::Image(error) => error.code(),
            _ => "E0409",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Full => {
                "free some space on the disk of TANDEM_HOME; nothing needs to be restarted".to_owned()
            }
            Self::Read(error) => error.help(),
            Self::Commit(error) => error.help(),
            Self::Image(error) => error.help(),
            _ => "check space and permissions at `registry` in TANDEM_HOME, then do it again".to_owned(),
        }
    }
}
