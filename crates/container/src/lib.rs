//! Images and containers, without a daemon.
//!
//! Ports: [`Builder`] turns a folder into an image, [`Runtime`] runs containers of it. Images are addressed by digest.
//!
//! Behind them: [`OciRuntime`], an OCI runtime under `conmon`. Both work below one folder, which they share.

mod layout;
pub mod port;
mod prepared;
mod runtime;
mod tool;

pub use port::{
    BuildRequest, Builder, Container, ContainerError, ContainerId, Exit, Image, ImageRef, Lines, Runtime,
    Spec, Started,
};
pub use runtime::OciRuntime;
