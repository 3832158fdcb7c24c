//! The gateway: one address on loopback for all services that speak an AWS protocol.
//!
//! A request belongs to the service in its SigV4 credential scope (`s3`, `lambda`, …); one that is not signed is S3's,
//! which answers it with an error that S3 clients understand. S3 verifies its own signatures, because bodies that stream
//! are signed in chunks; for every other service the gateway verifies, and puts the
//! [`Principal`](crate::credential::Principal) into the request's extensions.
//!
//! What is not signed and lies below `/v2/` is for the registry of images, whose clients know no signatures: it answers
//! to HTTP Basic with keys of the same kind.
//!
//! The address is chosen at the first start and recorded in [`Home::address`]; outputs of resources contain it, so it
//! never moves. If something else listens there later, the cloud says so and does not start.
//!
//! Slow clients are cut off, and many do not keep others out: [`Limits`].
//!
//! Start at [`Bound::bind`]. The addresses that clients are told are made by [`Endpoint`](crate::endpoint::Endpoint).

mod address;
mod limits;
mod serve;
pub mod sigv4;

use std::{io, net::SocketAddr, path::PathBuf};

use tandem_model::Explain;

pub use address::Bound;
pub use limits::Limits;
pub use serve::{AnswersS3, Routes, serve};

/// An address at which the gateway cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("this cloud's address {address} is taken by another program")]
    Taken { address: SocketAddr, record: PathBuf },
    #[error("`{}` does not hold an address", path.display())]
    Damaged { path: PathBuf },
    #[error("cannot {action} `{}`", path.display())]
    Record { action: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot listen on 127.0.0.1")]
    Listen { source: io::Error },
}

impl Explain for BindError {
    fn code(&self) -> &'static str {
        match self {
            Self::Taken { .. } => "E0810",
            Self::Damaged { .. } | Self::Record { .. } => "E0811",
            Self::Listen { .. } => "E0812",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Taken { address, .. } => format!(
                "stop the program that listens there (`ss -ltnp 'sport = :{}'` names it), then start the cloud again",
                address.port()
            ),
            Self::Damaged { path } => {
                format!(
                    "write the address of this cloud into `{}`, for example 127.0.0.1:21000",
                    path.display()
                )
            }
            Self::Record { path, .. } => format!("check space and permissions at `{}`", path.display()),
            Self::Listen { .. } => "check that the loopback interface is up".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
