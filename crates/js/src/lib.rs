//! The embedded JavaScript runtime, the archive it loads programs from, and the SDK that programs import.
//!
//! Isolates QuickJS and the LLRT crates: nothing above this crate names them.

pub mod archive;
pub mod bridge;

pub use archive::{Archive, Module, ModuleKind};
pub use bridge::{Bridge, CallError};
