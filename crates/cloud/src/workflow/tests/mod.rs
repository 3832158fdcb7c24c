//! Workflows without workers: the state machine by itself, and the driver with orchestrators that a test plays.

mod core;
mod played;
mod program;
