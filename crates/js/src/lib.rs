//! The embedded JavaScript runtime, the archive it loads programs from, and the SDK that programs import.
//!
//! Isolates QuickJS and the LLRT crates: nothing above this crate names them.
//!
//! A [`Vm`] leads one of two lives. *Deploy*: `load`, then `finish_deploy`; constructors call the [`Bridge`] to
//! register resources. *Run*: `load`, then `invoke` as often as events come. The SDK is JavaScript, in `sdk/js/src`;
//! `runtime/` is JavaScript too, and is what Node would have built in. Start at [`vm`].

pub mod archive;
pub mod bridge;
mod error;
mod host;
mod modules;
mod natives;
mod sdk;
mod setup;
#[cfg(test)]
mod tests;
mod timers;
pub mod vm;

pub use archive::{Archive, Module, ModuleKind};
pub use bridge::{Bridge, CallError};
pub use error::{Details, Frame, ProgramError, VmError};
pub use modules::resolve::is_builtin;
pub use setup::{InvokeContext, Phase, Setup};
pub use vm::Vm;
