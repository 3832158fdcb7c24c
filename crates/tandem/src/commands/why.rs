//! `tandem why`: what became of something, as a timeline.

use jiff::{Timestamp, Zoned};
use tandem_cloud::why::{Node, NodeKind, State};
use tandem_program::Project;
use tandem_server::wire::Why;

use crate::{
    exit::Failure,
    place::Place,
    ui::{self, Paint, Style, Terminal},
};

/// Tells what became of an object, an event, a message of a queue, a request, a run or an instance of a workflow: what it led to,
/// down to the last lines that were printed, or why nothing happened.
///
/// What was not handled yet, or was given up, says so. How long back it is known depends on how much happens: the last
/// 24 to 32 MiB of the trail, some 50,000 deliveries.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// BUCKET/KEY, s3://BUCKET/KEY, the id (or the end of it) of an event, a message, a request or a run, or the id
    /// of an instance
    #[arg(value_name = "WHAT")]
    what: String,
}

const EXAMPLES: &str = "\
Examples:
  tandem why videos/cat.mp4              what became of an object of the bucket that the program calls `videos`
  tandem why s3://videos-1f3a/cat.mp4    the same, by the bucket's name on the wire
  tandem why 1122a1b2c3d4                a request, an event or a run, by the last digits of its id";

pub(crate) async fn run(terminal: &Terminal, place: Place, Args { what }: Args) -> Result<(), Failure> {
    let stack = place.stack_of(&Project::find(&place.folder)?);
    let told: Vec<Node> = place.client().post("/v1/why", &Why { stack, what }).await?;
    if terminal.json() {
        return Ok(terminal.record(&told)?);
    }
    Ok(terminal.data(&text(&told, &Zoned::now(), terminal.data_style()))?)
}

/// A line each; what something led to is below it, and indented. What was asked for stands out.
fn text(told: &[Node], today: &Zoned, style: Style) -> String {
    let same_day = |time: &Timestamp| time.to_zoned(today.time_zone().clone()).date() == today.date();
    let short = told.iter().all(|node| all(node).iter().all(same_day));
    let mut text = String::new();
    for node in told {
        line(node, 0, short, today, style, &mut text);
    }
    text
}

fn all(node: &Node) -> Vec<Timestamp> {
    let below = node.children.iter().flat_map(all);
    node.time.into_iter().chain(below).collect()
}

fn line(node: &Node, depth: usize, short: bool, today: &Zoned, style: Style, text: &mut String) {
    let form = if short { "%H:%M:%S%.3f" } else { "%Y-%m-%d %H:%M:%S%.3f" };
    let time = node.time.map(|time| time.to_zoned(today.time_zone().clone()).strftime(form).to_string());
    let time = ui::padded(&time.unwrap_or_default(), if short { 12 } else { 23 });
    let mark = if node.kind == NodeKind::Line { "| " } else { "" };
    let told = format!("{mark}{}", ui::harmless(&node.text));
    let told = match node.state {
        _ if node.asked => style.paint(Paint::Strong, &told),
        Some(State::DeadLetter | State::Failed | State::Gone) => style.paint(Paint::Bad, &told),
        _ if node.kind == NodeKind::Line => style.paint(Paint::Faint, &told),
        _ => told,
    };
    text.push_str(&format!("{}  {}{told}\n", style.paint(Paint::Faint, &time), "  ".repeat(depth)));
    for child in &node.children {
        line(child, depth + 1, short, today, style, text);
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_something_led_to_is_below_it_with_times() {
        let told: Vec<Node> = serde_json::from_value(json!([{
            "kind": "event", "time": "2026-11-26T12:00:00Z", "text": "cat.mp4 was put into bucket/b", "asked": true,
            "children": [
                { "kind": "delivery", "time": "2026-11-26T12:00:00.5Z", "state": "handled", "text": "subscription/s → task/t: handled",
                  "children": [{ "kind": "line", "time": "2026-11-26T12:00:01Z", "text": "frame\u{7} 1" }] },
                { "kind": "reason", "state": "noMatch", "text": "subscription/u wants keys that end with `.jpg` only" },
            ],
        }]))
        .unwrap();
        let today = "2026-11-26T13:00:00Z".parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC);
        insta::assert_snapshot!(text(&told, &today, Style::PLAIN), @"
        12:00:00.000  cat.mp4 was put into bucket/b
        12:00:00.500    subscription/s → task/t: handled
        12:00:01.000      | frame 1
                        subscription/u wants keys that end with `.jpg` only
        ");
        let later = "2026-11-27T13:00:00Z".parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC);
        assert!(text(&told, &later, Style::PLAIN).starts_with("2026-11-26 12:00:00.000  cat.mp4"));
    }
}
