//! Progress while an update runs, as lines: one for each step that ended, which stays, and one for each under way.
//!
//! Pure: knows no terminal, only how wide one is. [`Live`](super::Live) draws.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tandem_engine::{EngineEvent, Summary};
use tandem_model::{
    Report, Urn,
    plan::{Op, Step},
};
use tokio::time::Instant;

use super::{
    plan::tally,
    style::{Paint, Style},
    text,
};

/// The columns of a verb, right-aligned.
const VERB: usize = 12;
/// The most columns that are kept free for a resource's name before the next column; longer names push it aside.
const NAME: usize = 40;
/// What a line says after the name gets at least so many columns, or a line of its own.
const NOTE: usize = 30;
/// What is so short stands beside a name that is wider than the terminal, too.
const SHORT: usize = 8;
/// A running time, padded.
const TIME: usize = 5;
/// The fewest columns of a name, however narrow the terminal is.
const MINIMUM: usize = 8;
/// How many of a failed step's last lines are shown.
const TAIL: usize = 10;

/// What is known of an update's progress.
#[derive(Debug, Default)]
pub(super) struct Progress {
    running: BTreeMap<Urn, Running>,
    waiting: BTreeMap<Urn, Vec<Urn>>,
    /// The width of the longest name so far planned.
    name: usize,
}

#[derive(Debug)]
struct Running {
    op: Op,
    since: Instant,
    tail: VecDeque<String>,
}

impl Progress {
    /// Progress of a plan that is known: the names are in one column from the first line on.
    pub(super) fn of(plan: &[Step]) -> Self {
        let name = plan.iter().map(|step| text::width(&step.urn.short()).min(NAME)).max().unwrap_or(0);
        Self { name, ..Self::default() }
    }

    /// Takes in an event; answers the lines that stay.
    pub(super) fn on(&mut self, event: EngineEvent, style: Style, keep_output: bool) -> Vec<String> {
        match event {
            EngineEvent::StepPlanned { step } => {
                self.name = self.name.max(text::width(&step.urn.short())).min(NAME);
                Vec::new()
            }
            EngineEvent::StepWaiting { urn, on, .. } => {
                self.waiting.insert(urn, on);
                Vec::new()
            }
            EngineEvent::StepStarted { op, urn } => {
                self.waiting.remove(&urn);
                self.running.insert(urn, Running { op, since: Instant::now(), tail: VecDeque::new() });
                Vec::new()
            }
            EngineEvent::StepProgress { urn, line } => self.progress(&urn, &line, style, keep_output),
            EngineEvent::StepDone { op, urn, elapsed } => {
                self.running.remove(&urn);
                self.waiting.remove(&urn);
                self.ended(Paint::Good, past(op), &urn, &text::elapsed(elapsed), style)
            }
            EngineEvent::StepFailed { urn, elapsed, report, .. } => {
                self.failed(&urn, elapsed, &report, style, keep_output)
            }
            EngineEvent::StepSkipped { urn, reason, .. } => {
                self.running.remove(&urn);
                self.waiting.remove(&urn);
                self.ended(Paint::Faint, "Skipped", &urn, &reason, style)
            }
            EngineEvent::Resumed { op, urn, report } => {
                self.running.remove(&urn);
                match report {
                    None => self.ended(Paint::Good, past(op), &urn, "begun by the update before", style),
                    Some(report) => {
                        let note = format!("{op}, begun by the update before: {}", report.message);
                        self.ended(Paint::Change, "Gave up", &urn, &note, style)
                    }
                }
            }
        }
    }

    fn progress(&mut self, urn: &Urn, line: &str, style: Style, keep_output: bool) -> Vec<String> {
        let line = text::harmless(line);
        if let Some(running) = self.running.get_mut(urn) {
            running.tail.push_back(line.clone());
            if running.tail.len() > TAIL {
                running.tail.pop_front();
            }
        }
        if !keep_output {
            return Vec::new();
        }
        let head = style.paint(Paint::Faint, &format!("{} │", urn.short()));
        vec![format!("{:VERB$} {head} {line}", "")]
    }

    fn failed(
        &mut self,
        urn: &Urn,
        elapsed: Duration,
        report: &Report,
        style: Style,
        keep_output: bool,
    ) -> Vec<String> {
        let tail = self.running.remove(urn).map(|running| running.tail).unwrap_or_default();
        let note = format!("{}  {} {}", text::elapsed(elapsed), report.code, report.message);
        let mut lines = self.ended(Paint::Bad, "Failed", urn, &note, style);
        if !keep_output && report.causes.is_empty() {
            let bar = style.paint(Paint::Faint, "│");
            lines.extend(tail.iter().map(|line| {
                format!("{:VERB$} {bar} {}", "", text::cut(line, style.width.saturating_sub(VERB + 3)))
            }));
        }
        lines
    }

    /// The steps under way, and those that wait, in at most so many lines.
    pub(super) fn status(&self, now: Instant, style: Style, most: usize) -> Vec<String> {
        let running = self.running.iter().map(|(urn, running)| {
            let time = text::padded(&text::elapsed(now.saturating_duration_since(running.since)), TIME);
            let note = running.tail.back().map(|line| format!("{time}  {line}")).unwrap_or(time);
            self.line(Paint::Change, present(running.op), urn, &note, style)
        });
        let waiting = self.waiting.iter().map(|(urn, on)| {
            let on: Vec<String> = on.iter().map(Urn::short).collect();
            self.line(Paint::Faint, "Waiting", urn, &format!("       on {}", on.join(", ")), style)
        });
        let mut lines: Vec<String> = running.chain(waiting).collect();
        if lines.len() > most {
            let hidden = lines.len() + 1 - most.max(1);
            lines.truncate(most.saturating_sub(1));
            lines.push(style.paint(Paint::Faint, &format!("{:VERB$} and {hidden} more", "")));
        }
        lines
    }

    /// What is under way, for a person who asked to stop: `create task/web, update function/resize`.
    pub(super) fn under_way(&self) -> String {
        let steps: Vec<String> =
            self.running.iter().map(|(urn, running)| format!("{} {}", running.op, urn.short())).collect();
        steps.join(", ")
    }

    /// A line that is redrawn: never wider than the terminal, or what it wraps to could not be erased.
    fn line(&self, paint: Paint, verb: &str, urn: &Urn, note: &str, style: Style) -> String {
        let verb = style.paint(paint, &format!("{verb:>VERB$}"));
        let room = style.width.saturating_sub(VERB + 1);
        // The time, at least, has its place behind the longest name.
        let name = text::cut(&urn.short(), room.saturating_sub(2 + TIME).max(MINIMUM));
        let name = text::padded(&name, self.name.min(room.saturating_sub(2 + TIME)));
        let room = room.saturating_sub(text::width(&name) + 2);
        // Of what does not fit, a time with an ellipsis says no more than a time.
        let note = if text::width(note) > room && room < TIME + NOTE / 2 {
            text::cut(note.get(..TIME).unwrap_or_default().trim_end(), room)
        } else {
            text::cut(note, room)
        };
        format!("{verb} {name}  {note}").trim_end().to_owned()
    }

    /// A line that stays: the name is whole, and what does not fit beside it comes below it.
    fn ended(&self, paint: Paint, verb: &str, urn: &Urn, note: &str, style: Style) -> Vec<String> {
        let verb = style.paint(paint, &format!("{verb:>VERB$}"));
        let name = text::padded(&urn.short(), self.name);
        let room = style.width.saturating_sub(VERB + 1);
        let beside = room.saturating_sub(text::width(&name) + 2);
        if text::width(note) <= beside.max(SHORT) || beside >= NOTE {
            return vec![
                format!("{verb} {name}  {}", text::cut(note, beside.max(SHORT))).trim_end().to_owned(),
            ];
        }
        let below = format!("{:VERB$} {}", "", text::cut(note, room));
        vec![format!("{verb} {}", urn.short()), below]
    }
}

fn past(op: Op) -> &'static str {
    match op {
        Op::Create => "Created",
        Op::Update => "Updated",
        Op::Replace => "Replaced",
        Op::Delete => "Deleted",
        Op::Same => "Kept",
    }
}

fn present(op: Op) -> &'static str {
    match op {
        Op::Create => "Creating",
        Op::Update => "Updating",
        Op::Replace => "Replacing",
        Op::Delete => "Deleting",
        Op::Same => "Keeping",
    }
}

/// What an update came to: `2 created, 1 deleted in 3.2s`.
pub(crate) fn done(summary: &Summary, style: Style) -> String {
    let counts = tally(&summary.steps, |op| match op {
        Op::Create => "created",
        Op::Update => "updated",
        Op::Replace => "replaced",
        Op::Delete => "deleted",
        Op::Same => "unchanged",
    });
    let counts = if counts.is_empty() { "nothing to do".to_owned() } else { counts };
    let verb = style.paint(Paint::Good, &format!("{:>VERB$}", "Finished"));
    format!("{verb} {}: {counts} in {}", summary.stack, text::elapsed(summary.elapsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urn(short: &str) -> Urn {
        format!("urn:tandem:shop:dev:{}", short.replace('/', ":")).parse().unwrap()
    }

    fn planned(short: &str) -> EngineEvent {
        EngineEvent::StepPlanned { step: Step { op: Op::Create, urn: urn(short), changes: vec![] } }
    }

    fn play(progress: &mut Progress, events: Vec<EngineEvent>, keep_output: bool) -> String {
        let lines = events.into_iter().flat_map(|event| progress.on(event, Style::PLAIN, keep_output));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn life() -> Vec<EngineEvent> {
        let (op, started) = (Op::Create, |name| EngineEvent::StepStarted { op: Op::Create, urn: urn(name) });
        let report = Report {
            code: "E0603".into(),
            message: "handler exited with status 137".into(),
            help: String::new(),
            causes: vec![],
        };
        vec![
            planned("bucket/orders"),
            planned("function/resize"),
            planned("task/web"),
            started("bucket/orders"),
            EngineEvent::StepWaiting { op, urn: urn("task/web"), on: vec![urn("bucket/orders")] },
            started("function/resize"),
            EngineEvent::StepProgress {
                urn: urn("function/resize"),
                line: "\x1b[1mSTEP 2/3\x1b[0m: RUN make".into(),
            },
            EngineEvent::StepDone { op, urn: urn("bucket/orders"), elapsed: Duration::from_millis(400) },
            EngineEvent::StepFailed {
                op,
                urn: urn("function/resize"),
                elapsed: Duration::from_millis(1200),
                report,
            },
        ]
    }

    #[tokio::test(start_paused = true)]
    async fn what_ended_stays_and_what_runs_is_below() {
        let mut progress = Progress::default();
        let stays = play(&mut progress, life()[..8].to_vec(), false);
        tokio::time::advance(Duration::from_millis(2300)).await;
        insta::assert_snapshot!(stays, @"     Created bucket/orders    0.4s");
        insta::assert_snapshot!(progress.status(Instant::now(), Style::PLAIN, 9).join("\n"), @"
            Creating function/resize  2.3s   STEP 2/3: RUN make
             Waiting task/web                on bucket/orders
        ");
        assert_eq!(progress.status(Instant::now(), Style::PLAIN, 1), ["             and 2 more"]);
    }

    #[tokio::test]
    async fn a_failed_step_shows_its_code_and_the_end_of_its_output() {
        let mut progress = Progress::default();
        let stays = play(&mut progress, life(), false);
        insta::assert_snapshot!(stays, @"
             Created bucket/orders    0.4s
              Failed function/resize  1.2s  E0603 handler exited with status 137
                     │ STEP 2/3: RUN make
        ");
    }

    #[tokio::test]
    async fn without_a_terminal_output_is_kept_as_it_comes() {
        let mut progress = Progress::default();
        insta::assert_snapshot!(play(&mut progress, life(), true), @"
                     function/resize │ STEP 2/3: RUN make
             Created bucket/orders    0.4s
              Failed function/resize  1.2s  E0603 handler exited with status 137
        ");
    }

    #[tokio::test]
    async fn no_line_is_wider_than_the_terminal() {
        let mut progress = Progress::default();
        let long = EngineEvent::StepProgress { urn: urn("function/resize"), line: "x".repeat(500) };
        play(&mut progress, [&life()[..6], &[long]].concat(), false);
        for width in [20, 80, 200] {
            let style = Style { color: false, width };
            let lines = progress.status(Instant::now(), style, 9);
            assert!(lines.iter().all(|line| text::width(line) <= width.max(32)), "{lines:?}");
        }
    }
}
