//! Images and containers, without a daemon.
//!
//! Ports: [`Builder`] turns a folder into an image, [`Runtime`] runs containers of it. Images are addressed by digest.

pub mod port;

pub use port::{
    BuildRequest, Builder, Container, ContainerError, ContainerId, Exit, Image, ImageRef, Lines, Runtime,
    Spec, Started,
};
