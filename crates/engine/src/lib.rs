//! The engine: plans what would change, applies it, and remembers what it did.
//!
//! Ports: [`Target`] is where resources live, [`StateStore`](port) where the state is kept.

pub mod port;

pub use port::{CloudId, Contents, Progress, Target, TargetError};
