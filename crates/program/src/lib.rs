//! Packs a user's program and turns it into registrations.
//!
//! [`project`] finds and reads `Tandem.yaml`. [`pack`] makes one immutable archive of the program's modules, so that
//! what runs is what was deployed; [`context`] does the same for the folders that images are built from, and [`convention`] says how
//! one without a Dockerfile is built. [`host`] runs the program's deploy phase in a child process and hands what it
//! declares to a [`Registrar`].
//!
//! The whole way, as `tandem up` goes it:
//!
//! 1. [`Project::find`], then [`Deployment::new`], which packs.
//! 2. [`DeployHost::run`] with an engine's preview as the registrar.
//! 3. [`DeployHost::run`] with an engine's update, over a target that is wrapped in [`Uploading`].

pub mod archives;
mod build;
pub mod context;
pub mod convention;
mod declare;
pub mod deployment;
pub mod host;
mod loops;
pub mod pack;
mod place;
pub mod project;
pub mod template;

pub use archives::Uploading;
pub use deployment::{BuildName, Deployment, Known};
pub use host::{DeployHost, Registrar, Run, RunError};
pub use pack::{PackError, Packed};
pub use place::Place;
pub use project::{Project, ProjectError, Setting};
