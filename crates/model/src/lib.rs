//! The words of Tandem: names, urns, resources, plans and events.
//!
//! Pure data: no clock, no I/O, no async runtime. Every other crate speaks in these types, so a word means one
//! thing everywhere. Start at [`resource`], then [`plan`] and [`event`].

pub mod age;
pub mod error;
pub mod event;
pub mod inputs;
pub mod name;
pub mod plan;
pub mod policy;
pub mod resource;
pub mod schedule;
pub mod secrets;
pub mod size;
pub mod urn;
pub mod value;

pub use age::MaxAge;
pub use error::{Explain, Report};
pub use event::Event;
pub use name::{NameError, ProjectName, ResourceName, StackName};
pub use resource::{Desired, Kind, OpId, PhysicalId, Recorded};
pub use secrets::Secrets;
pub use size::ByteSize;
pub use urn::{StackId, Urn};
