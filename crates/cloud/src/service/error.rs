//! What can be wrong with a service.

use std::io;

use tandem_container::ContainerError;
use tandem_model::{Explain, Report, Urn, inputs::InputsError};
use tandem_store::{CommitError, ReadError};

use crate::{capacity::Room, image::ImageError, mount::MountError, program::CodeError};

/// A service that cannot be deployed, or looked at.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("the image of {} has neither an entrypoint nor a command", .0.short())]
    NothingToRun(Box<Urn>),
    #[error("{}: {reason}", service.short())]
    Invalid { service: Box<Urn>, reason: String },
    #[error("{} cannot listen on port {port}{}", service.short(), held(by.as_deref()))]
    Port { service: Box<Urn>, port: u16, by: Option<String>, source: io::Error },
    #[error("port {port} is published by {} of the stack {} already", by.short(), by.stack)]
    Published { port: u16, by: Box<Urn> },
    #[error("{} does not become healthy: {reason}", service.short())]
    Unhealthy { service: Box<Urn>, reason: String, tail: Vec<String> },
    #[error("there is no room for {}: {reason}", service.short())]
    NoRoom { service: Box<Urn>, reason: String },
    #[error("{replicas} replicas of {} set aside {needs}, and this machine gives {capacity} in all", service.short())]
    NeverFits { service: Box<Urn>, replicas: u32, needs: Room, capacity: Room, fit: u64 },
    #[error("no network is free on this machine")]
    NoNetwork,
    #[error("the stack's network has no address left")]
    NoAddress,
    #[error("cannot keep track of services")]
    Commit(#[from] CommitError),
    #[error("cannot read what is known of services")]
    Read(#[from] ReadError),
    #[error("the record of a service cannot be read")]
    Damaged(#[source] serde_json::Error),
    #[error("cannot use `{path}`")]
    Io { path: String, source: io::Error },
    #[error(transparent)]
    Inputs(#[from] InputsError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Code(#[from] CodeError),
    #[error(transparent)]
    Container(#[from] ContainerError),
}

fn held(by: Option<&str>) -> String {
    by.map(|by| format!(", on which {by} does")).unwrap_or_default()
}

impl Explain for ServiceError {
    fn code(&self) -> &'static str {
        match self {
            Self::NothingToRun(_) => "E0702",
            Self::Port { .. } | Self::Published { .. } => "E0720",
            Self::Unhealthy { .. } => "E0721",
            Self::NoNetwork | Self::NoAddress => "E0722",
            Self::NoRoom { .. } | Self::NeverFits { .. } => "E0703",
            Self::Commit(_) | Self::Read(_) | Self::Damaged(_) => "E0706",
            Self::Io { .. } => "E0709",
            Self::Invalid { .. } | Self::Inputs(_) => "E0707",
            Self::Image(error) => error.code(),
            Self::Mount(error) => error.code(),
            Self::Code(error) => error.code(),
            Self::Container(error) => error.code(),
        }
    }

    fn help(&self) -> String {
        match self {
            Self::NothingToRun(_) => {
                "set `command` in the service, or CMD or ENTRYPOINT in its Dockerfile".into()
            }
            Self::Port { port, .. } => {
                format!("end what listens on port {port} (`ss -ltnp`), or give another `port`")
            }
            Self::Published { .. } => "give one of the two another `port`".into(),
            Self::Unhealthy { tail, .. } if tail.is_empty() => {
                "see `command`, `ports` and `healthCheck`; the former version, if there is one, goes on"
                    .into()
            }
            Self::Unhealthy { tail, .. } => format!(
                "it printed last:\n{}\nthe former version, if there is one, goes on",
                tail.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
            ),
            Self::NoRoom { .. } => {
                "see who holds it with `tandem ps --capacity`; lower `memoryReservation` or `cpu`, or `replicas`"
                    .into()
            }
            Self::NeverFits { fit, .. } => {
                format!("{fit} would fit: lower `replicas`, `memoryReservation` or `cpu`, or use a larger machine")
            }
            Self::NoNetwork => "destroy stacks whose services you do not need".into(),
            Self::NoAddress => "a stack has 253 addresses: lower `replicas`".into(),
            Self::Commit(_) | Self::Read(_) | Self::Damaged(_) => {
                "check the space on the disk; run `tandem serve` in the foreground to see more".into()
            }
            Self::Io { path, .. } => format!("check space and permissions at `{path}`"),
            Self::Invalid { .. } | Self::Inputs(_) => "mend that property, then try again".into(),
            Self::Image(error) => error.help(),
            Self::Mount(error) => error.help(),
            Self::Code(error) => error.help(),
            Self::Container(error) => error.help(),
        }
    }

    fn report(&self) -> Report {
        match self {
            Self::Image(error) => error.report(),
            Self::Mount(error) => error.report(),
            Self::Code(error) => error.report(),
            Self::Container(error) => error.report(),
            other => Report::of(other),
        }
    }
}
