//! Tests of the whole crate.

mod crash;
