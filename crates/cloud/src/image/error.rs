//! Why the image of a task or a service could not be had.

use std::{io, path::PathBuf};

use tandem_container::ContainerError;
use tandem_model::{Explain, Report, Urn};
use tandem_store::{CommitError, ReadError};

/// An image that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("{}: exactly one of `build`, `image` and `function` must be set", of.short())]
    Source { of: Urn },
    #[error("the build context of {} cannot be unpacked: {reason}", of.short())]
    Context { of: Urn, reason: String },
    #[error("{}: {reason}", of.short())]
    Property { of: Urn, reason: String },
    #[error("there is no image `{image}`, which {place} starts from")]
    Base { image: String, place: String, reason: String },
    #[error("{source}, which {place} starts from")]
    Pull { place: String, source: ContainerError },
    #[error("the build of {} needs {}, and nobody brought {}", of.short(), listed(missing), if missing.len() == 1 { "it" } else { "them" })]
    Secrets { of: Urn, missing: Vec<String> },
    #[error("cannot use `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot keep track of images")]
    Commit(#[from] CommitError),
    #[error("cannot read what is known of images")]
    Read(#[from] ReadError),
    #[error(transparent)]
    Container(#[from] ContainerError),
}

/// "the secret `a`", "the secrets `a` and `b`"
fn listed(ids: &[String]) -> String {
    let quoted: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => format!("the secret {last}"),
        Some((last, rest)) => format!("the secrets {} and {last}", rest.join(", ")),
        None => "secrets".to_owned(),
    }
}

impl Explain for ImageError {
    fn code(&self) -> &'static str {
        match self {
            Self::Source { .. } | Self::Property { .. } => "E0707",
            Self::Base { .. } => "E0403",
            Self::Secrets { .. } => "E0413",
            Self::Context { .. } | Self::Io { .. } => "E0709",
            Self::Commit(_) | Self::Read(_) => "E0706",
            Self::Container(error) | Self::Pull { source: error, .. } => error.code(),
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Source { .. } | Self::Property { .. } => "mend that property, then try again".into(),
            Self::Base { image, .. } => {
                format!("import it (`tandem image import {image} FILE`), or see that it can be pulled")
            }
            Self::Secrets { .. } => "run `tandem up`; it brings the secrets of builds each time".into(),
            Self::Context { .. } => "run `tandem up` again; it packs the folder anew".into(),
            Self::Io { path, .. } => format!("check space and permissions at `{}`", path.display()),
            Self::Commit(_) | Self::Read(_) => {
                "check the space on the disk; run `tandem serve` in the foreground to see more".into()
            }
            Self::Container(error) | Self::Pull { source: error, .. } => error.help(),
        }
    }

    fn report(&self) -> Report {
        match self {
            Self::Container(error) => error.report(),
            Self::Pull { source, .. } => Report { message: self.to_string(), ..source.report() },
            Self::Base { reason, .. } => Report { causes: vec![reason.clone()], ..Report::of(self) },
            other => Report::of(other),
        }
    }
}
