//! A dead letter, a property a line, and then what the handler printed.

use tandem_cloud::dispatch::Told;
use tandem_model::Event;

use crate::ui;

/// What happened to what: `put holiday.mp4`. Of an event without a subject, its type.
pub(super) fn event(event: &Event) -> String {
    let verb = event.kind.rsplit('.').next().unwrap_or_default();
    match &event.subject {
        Some(subject) => format!("{verb} {subject}"),
        None => verb.to_owned(),
    }
}

pub(super) fn text(Told { origin, letter, gone }: &Told) -> String {
    let delivery = &letter.delivery;
    let event = &delivery.event;
    let origin = serde_json::to_value(origin).ok().and_then(|origin| origin.as_str().map(str::to_owned));
    let mut lines = vec![
        ("id", Some(delivery.id.clone())),
        ("origin", origin),
        ("subscription", Some(delivery.subscription.short())),
        ("consumer", Some(delivery.consumer.short())),
        ("gone", gone.as_ref().map(|urn| urn.short())),
        ("given up", Some(letter.time.to_string())),
        ("attempts", Some(format!("{} of {}", delivery.attempt, delivery.max_attempts))),
        ("redriven", delivery.redriven.as_ref().map(|id| format!("was the dead letter {id}"))),
        ("error", Some(format!("{} {}", letter.error.code, letter.error.message))),
    ];
    lines.extend(letter.error.causes.iter().map(|cause| ("because", Some(cause.clone()))));
    lines.extend([
        ("help", Some(letter.error.help.clone()).filter(|help| !help.is_empty())),
        ("event", Some(event.id.clone())),
        ("type", Some(event.kind.clone())),
        ("source", Some(event.source.clone())),
        ("subject", event.subject.clone()),
        ("time", Some(event.time.to_string())),
        ("trace", event.traceparent.clone()),
        ("data", Some(event.data.to_string())),
    ]);
    let told = lines.into_iter().filter_map(|(name, value)| {
        let value = value?;
        Some(format!("{name:<13}{}\n", value.lines().map(ui::harmless).collect::<Vec<_>>().join(" ")))
    });
    let printed = letter.log_tail.iter().map(|line| format!("| {}\n", ui::harmless(line)));
    told.chain(printed).collect()
}
