//! A client of the AWS protocols as small as it can be: it signs, sends, and tells what came back.
//!
//! [`Signer`] alone is for whoever has a connection of another kind. For those who drive a cloud and must not be the slow part: the benchmarks, and the tests that make thousands of
//! requests. What users see is tested with stock clients instead. It retries nothing: whether a request was answered is
//! what its users want to know.
//!
//! Start at [`Endpoint::connect`].

mod connection;
mod sign;

pub use connection::{Answer, Connection, Endpoint, Refused, Unanswered};
pub use sign::{Signer, hash};
