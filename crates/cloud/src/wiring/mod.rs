//! How the services are put together. Services never import each other; what one needs of another it names as a trait,
//! and this is where the traits are answered.

mod calls;
mod entity_calls;
mod environment;
mod images;
mod invocations;
mod logs;
mod messages;
mod open_error;
mod orchestration;
mod queue_calls;
mod stream_calls;
mod tidying;
pub mod why;
mod workflow_calls;

pub(crate) use calls::ProgramCalls;
pub(crate) use environment::Environments;
pub(crate) use images::OwnNames;
pub(crate) use invocations::{Deferred, unsupported, within_reach};
pub(crate) use logs::ContainerLogs;
pub(crate) use messages::{AllSubscriptions, MessageHandlers};
pub use open_error::OpenError;
pub(crate) use orchestration::Orchestration;
pub use tidying::Pruned;
pub(crate) use tidying::{Tidying, run as run_tidying};
pub(crate) use why::Why;
