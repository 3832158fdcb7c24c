//! Images and containers, without a daemon or with one.
//!
//! Ports: [`Builder`] turns a folder into an image, [`Runtime`] runs containers of it. Images are addressed by digest.
//!
//! Images come from registries by [`pull`], from files, or by builds.
//!
//! Behind the ports: [`BuildahStore`], and [`OciRuntime`], an OCI runtime under `conmon`; or [`Docker`], which is both by an
//! engine. [`Backend`] chooses. Both work below one folder, which they share.

mod backend;
mod buildah;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod descriptor;
mod docker;
pub mod exchange;
mod layout;
pub mod log;
mod platform;
pub mod port;
mod prepared;
mod pull;
mod reference;
mod runtime;
pub mod tidy;
mod tool;

pub use backend::{Backend, Parts};
pub use buildah::BuildahStore;
pub use docker::Docker;
pub use platform::Platform;
pub use port::{
    BuildRequest, Builder, Built, Container, ContainerError, ContainerId, Exit, Image, ImageRef, Lines,
    Network, Networking, Runtime, Spec, Started, Unheard, Volume,
};
pub use pull::PullError;
pub use reference::name as complete;
pub use runtime::OciRuntime;
