//! The engine: plans what would change, applies it, and remembers what it did.
//!
//! Four parts, each with its own file and its own reason to change:
//!
//! - **Planning** ([`plan`]) is a pure, incremental fold: a program's registrations against the recorded state.
//! - **Applying** ([`update`], [`apply`]) journals each operation, asks the [`Target`], and journals the answer.
//!   Independent steps run in parallel, in the order of their dependencies.
//! - **Refreshing** ([`refresh`]) brings the state in line with what exists, and changes nothing else.
//! - **Remembering** ([`state`], [`journal`], [`files`]) makes a kill at any point harmless: the next update repeats
//!   what was begun and not ended, with the same operation ids.
//!
//! Ports: [`Target`] is where resources live, [`StateStore`] where the state is kept. The engine emits
//! [`EngineEvent`]s and never prints.
//!
//! Start at [`Update`].

mod apply;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod data;
pub mod diff;
mod error;
mod event;
pub mod files;
mod foresight;
pub mod journal;
pub mod lock;
pub mod plan;
pub mod port;
pub mod refresh;
pub mod state;
mod stop;
pub mod update;

#[cfg(test)]
mod scenario;

pub use error::{ApplyError, Failure, StateError};
pub use event::{EngineEvent, Events};
pub use files::{StackFiles, Stacks};
pub use port::{ArchiveReader, CloudId, Contents, Progress, StateStore, Stored, Target, TargetError};
pub use refresh::{Drift, DriftKind, Refresh};
pub use state::State;
pub use stop::Stop;
pub use update::{Options, Registered, Summary, Update};
