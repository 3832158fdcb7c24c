//! The embedded cloud: a folder a service.
//!
//! Services never import each other: they meet at [`dispatch`] and at events. What a program deployed is known to all
//! of them through [`resource::Resources`].

pub mod archive;
pub mod backup;
pub mod bucket;
pub mod call;
pub mod capacity;
mod cause;
mod channel;
mod cloud;
pub mod credential;
pub mod dispatch;
pub mod endpoint;
pub mod function;
pub mod gateway;
pub mod home;
pub mod image;
#[cfg(test)]
mod killed;
pub mod log;
mod mount;
pub mod program;
pub mod provider;
pub mod queue;
pub mod registry;
pub mod resource;
pub mod service;
pub mod settings;
#[cfg(test)]
mod stock_clients;
pub mod stream;
pub mod target;
pub mod task;
pub mod timer;
pub mod topic;
pub mod volume;
mod wiring;
pub mod workflow;

/// Whether a client made the resource over the wire, so that no program declares it.
pub fn is_made_by_client(urn: &tandem_model::Urn) -> bool {
    bucket::is_made(urn) || queue::is_made(urn)
}

/// Why a resource would be refused, as far as that is certain before anything is made. Without I/O.
pub fn refusal(
    urn: &tandem_model::Urn,
    old: Option<&tandem_model::resource::Properties>,
    new: &tandem_model::resource::Properties,
    now: jiff::Timestamp,
) -> Option<tandem_model::Report> {
    timer::refusal(urn, old, new, now).or_else(|| stream::refusal(urn, old, new))
}

pub use cloud::Cloud;
pub use wiring::{OpenError, Pruned, why};
