//! What causes what, as W3C trace context that says how long the chain is.
//!
//! Each delivery and each run is a span of its own. What a handler or a container does carries that span as its parent, so a
//! tree of causes is found again from ids, without a row that records it. The span's id is made from the delivery's or the
//! run's, and holds the depth: how many deliveries led there.
//!
//! | bytes of the span's id | |
//! |---|---|
//! | 1 | the depth, at most 255 |
//! | 3 | of a hash of the id |
//! | 4 | of a hash of the trace's id and the bytes before, by which ours are told from others' |
//!
//! A span of somebody else's (a client with a tracing library) has depth 0: there a chain begins anew.
//!
//! Source: W3C Trace Context, section 3.2.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// How many steps may lead to one (deliveries, starts of workflows), each caused by the one before. Far more than any pipeline
/// has, and few enough that a loop ends within seconds; Lambda ends one after about 16.
pub(crate) const DEEPEST: u8 = 100;

/// A trace context that is valid.
struct Context<'a> {
    trace: &'a str,
    parent: &'a str,
}

fn parse(traceparent: &str) -> Option<Context<'_>> {
    let is_hex = |text: &str, length: usize| {
        text.len() == length
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            && text.bytes().any(|b| b != b'0')
    };
    match traceparent.split('-').collect::<Vec<_>>()[..] {
        ["00", trace, parent, flags] if is_hex(trace, 32) && is_hex(parent, 16) && flags.len() == 2 => {
            Some(Context { trace, parent })
        }
        _ => None,
    }
}

/// Whether it is a trace context.
pub(crate) fn is_valid(traceparent: &str) -> bool {
    parse(traceparent).is_some()
}

/// The cause that a client's request tells of: its `traceparent`, or what a run's container was given as a session token.
pub(crate) fn told(headers: &http::HeaderMap) -> Option<String> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let token = || header("x-amz-security-token").filter(|token| is_ours(Some(token)));
    header("traceparent").or_else(token).map(str::to_owned)
}

/// The id of the trace.
pub(crate) fn trace(traceparent: &str) -> Option<&str> {
    Some(parse(traceparent)?.trace)
}

/// The id of the span that is the cause.
pub(crate) fn parent(traceparent: &str) -> Option<&str> {
    Some(parse(traceparent)?.parent)
}

/// How many deliveries led to what has this cause; 0 if none of ours did.
pub(crate) fn depth(traceparent: Option<&str>) -> u8 {
    let context = traceparent.filter(|it| is_ours(Some(it))).and_then(parse);
    context.and_then(|context| u8::from_str_radix(&context.parent[..2], 16).ok()).unwrap_or(0)
}

/// Whether something of ours is the cause, and not a client.
pub(crate) fn is_ours(traceparent: Option<&str>) -> bool {
    let ours = |Context { trace, parent }| {
        let span = HEXLOWER.decode(parent.as_bytes()).unwrap_or_default();
        span.len() == 8 && span[4..] == check(trace, &span[..4])
    };
    traceparent.and_then(parse).is_some_and(ours)
}

/// The cause of what a delivery does: one deeper than its own.
pub(crate) fn of_delivery(traceparent: Option<&str>, id: &str) -> String {
    within(traceparent, id, depth(traceparent).saturating_add(1))
}

/// The cause of what a run does: as deep as its own.
pub(crate) fn of_run(traceparent: Option<&str>, id: &str) -> String {
    within(traceparent, id, depth(traceparent))
}

/// What is no trace context is passed on as it is; without one a trace begins.
fn within(traceparent: Option<&str>, id: &str, depth: u8) -> String {
    let hash = Sha256::digest(id);
    let begun;
    let trace = match (traceparent, traceparent.and_then(parse)) {
        (_, Some(context)) => context.trace,
        (Some(other), None) => return other.to_owned(),
        (None, _) => {
            begun = HEXLOWER.encode(&hash[16..]);
            &begun
        }
    };
    let head = [depth, hash[0], hash[1], hash[2]];
    format!("00-{trace}-{}{}-01", HEXLOWER.encode(&head), HEXLOWER.encode(&check(trace, &head)))
}

fn check(trace: &str, head: &[u8]) -> [u8; 4] {
    let hash = Sha256::new().chain_update("tandem").chain_update(trace).chain_update(head).finalize();
    [hash[0], hash[1], hash[2], hash[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_chain_is_counted_by_its_deliveries_in_one_trace() {
        let mut cause = OTHER.to_owned();
        for n in 1..=3 {
            cause = of_delivery(Some(&cause), &format!("delivery {n}"));
            cause = of_run(Some(&cause), &format!("run {n}"));
            assert_eq!((depth(Some(&cause)), trace(&cause)), (n, trace(OTHER)));
        }
        let begun = of_delivery(None, "delivery");
        assert!(is_valid(&begun));
        assert_eq!(depth(Some(&begun)), 1);
    }

    #[test]
    fn others_spans_have_no_depth_and_what_is_no_context_is_passed_on() {
        for other in [OTHER, "nonsense", "00-trace-01", ""] {
            assert_eq!(depth(Some(other)), 0, "{other}");
        }
        assert_eq!(of_run(Some("00-trace-01"), "run"), "00-trace-01");
        let of_another_trace = of_delivery(Some(OTHER), "d").replace("4bf9", "4bf8");
        assert_eq!(depth(Some(&of_another_trace)), 0);
    }

    #[test]
    fn a_span_is_the_same_each_time_and_another_for_another_id() {
        assert_eq!(of_delivery(Some(OTHER), "a"), of_delivery(Some(OTHER), "a"));
        assert_ne!(of_delivery(Some(OTHER), "a"), of_delivery(Some(OTHER), "b"));
    }

    #[test]
    fn the_longest_chain_that_is_counted_stays_there() {
        let mut cause = OTHER.to_owned();
        for n in 0..300 {
            cause = of_delivery(Some(&cause), &n.to_string());
        }
        assert_eq!(depth(Some(&cause)), 255);
    }
}
