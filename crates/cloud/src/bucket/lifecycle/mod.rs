//! Lifecycle: what a bucket deletes by itself once it is old enough.
//!
//! The rules are a setting of the bucket; [`rules`](self) judge by them, without clock or I/O, and the sweep acts on it.
//! Ages are counted as S3 counts them: from when a version was written, or replaced, or an upload begun, in days, and then
//! up to the next midnight in UTC.
//!
//! Source: Amazon S3 user guide, "Managing the lifecycle of objects".

mod rules;
mod sweep;

pub(super) use rules::{Expire, Filter, Lifecycle, Noncurrent, Rule, Subject, fault};
pub use sweep::{Expired, run};
