//! Where a chain of events ends that keeps itself going.
//!
//! A handler that puts what it is told of, under a filter that wants it again, would go on for ever, and as fast as it can.
//! How deep an event is in its chain is told by its cause (see [`cause`]).

use tandem_model::{Report, Urn};

use super::Delivery;
use crate::cause::{self, DEEPEST};

/// Why a delivery must not be made, if it must not. One that a person asked for again is made: that goes one step further.
pub(crate) fn too_long(delivery: &Delivery) -> Option<Report> {
    let event = &delivery.event;
    if delivery.redriven.is_some() || cause::depth(event.traceparent.as_deref()) < DEEPEST {
        return None;
    }
    let source = event.source.parse::<Urn>().map_or_else(|_| event.source.clone(), |urn| urn.short());
    let trace = event.traceparent.as_deref().and_then(cause::trace).unwrap_or_default();
    Some(Report {
        code: "E0652".into(),
        message: format!(
            "{DEEPEST} deliveries led to this event, each caused by the one before: {source} → {} → {} → {source} …, \
             trace {trace}",
            delivery.subscription.short(),
            delivery.consumer.short(),
        ),
        help: "let the handler write to another bucket, or give the subscription a filter that what it writes does not \
               match; a redrive goes one step further"
            .into(),
        causes: vec![],
    })
}
