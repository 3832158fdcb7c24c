//! Packs a user's program and turns it into registrations.
//!
//! [`project`] finds and reads `Tandem.yaml`. [`pack`] makes one immutable archive of the program's modules, so that
//! what runs is what was deployed. [`context`] does the same for the folders that images are built from.

pub mod context;
pub mod pack;
mod place;
pub mod project;

pub use pack::{PackError, Packed};
pub use place::Place;
pub use project::{Project, ProjectError};
