//! Progress while an update runs: a line for each step that ended, and below them, redrawn, those under way.
//!
//! [`Progress`] turns events into lines and knows no terminal; [`Live`] draws them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tandem_engine::{EngineEvent, Summary};
use tandem_model::{
    Report, Urn,
    plan::{Op, Step},
};
use tokio::{
    sync::mpsc,
    time::{self, Instant, MissedTickBehavior},
};

use super::{
    plan::tally,
    style::{Paint, Style},
    terminal::Terminal,
    text,
};

/// How often running times are redrawn.
const TICK: Duration = Duration::from_millis(100);
/// The columns of a verb, right-aligned.
const VERB: usize = 12;
/// The most columns of a resource's name before the next column.
const NAME: usize = 40;
/// How many of a failed step's last lines are shown.
const TAIL: usize = 10;

/// What is known of an update's progress.
#[derive(Debug, Default)]
struct Progress {
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
    fn of(plan: &[Step]) -> Self {
        let name = plan.iter().map(|step| text::width(&step.urn.short()).min(NAME)).max().unwrap_or(0);
        Self { name, ..Self::default() }
    }

    /// Takes in an event; answers the lines that stay.
    fn on(&mut self, event: EngineEvent, style: Style, keep_output: bool) -> Vec<String> {
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
                vec![self.line(Paint::Good, past(op), &urn, &text::elapsed(elapsed), style)]
            }
            EngineEvent::StepFailed { urn, elapsed, report, .. } => {
                self.failed(&urn, elapsed, &report, style, keep_output)
            }
            EngineEvent::StepSkipped { urn, reason, .. } => {
                self.running.remove(&urn);
                self.waiting.remove(&urn);
                vec![self.line(Paint::Faint, "Skipped", &urn, &reason, style)]
            }
            EngineEvent::Resumed { op, urn, report } => {
                self.running.remove(&urn);
                match report {
                    None => vec![self.line(Paint::Good, past(op), &urn, "begun by the update before", style)],
                    Some(report) => {
                        let note = format!("{op}, begun by the update before: {}", report.message);
                        vec![self.line(Paint::Change, "Gave up", &urn, &note, style)]
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
        let mut lines = vec![self.line(Paint::Bad, "Failed", urn, &note, style)];
        if !keep_output && report.causes.is_empty() {
            let bar = style.paint(Paint::Faint, "│");
            lines.extend(tail.iter().map(|line| {
                format!("{:VERB$} {bar} {}", "", text::cut(line, style.width.saturating_sub(VERB + 3)))
            }));
        }
        lines
    }

    /// The steps under way, and those that wait, in at most so many lines.
    fn status(&self, now: Instant, style: Style, most: usize) -> Vec<String> {
        let running = self.running.iter().map(|(urn, running)| {
            let time = text::padded(&text::elapsed(now.saturating_duration_since(running.since)), 5);
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

    fn line(&self, paint: Paint, verb: &str, urn: &Urn, note: &str, style: Style) -> String {
        let verb = style.paint(paint, &format!("{verb:>VERB$}"));
        let name = text::padded(&urn.short(), self.name);
        let room = style.width.saturating_sub(VERB + 1 + text::width(&name) + 2);
        format!("{verb} {name}  {}", text::cut(note, room)).trim_end().to_owned()
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

/// Draws an update's progress.
#[derive(Debug)]
pub(crate) struct Live {
    terminal: Terminal,
    progress: Progress,
    /// How many lines of status are on the screen.
    drawn: usize,
}

impl Live {
    /// For an update that does this plan.
    pub(crate) fn new(terminal: Terminal, plan: &[Step]) -> Self {
        Self { terminal, progress: Progress::of(plan), drawn: 0 }
    }

    /// Draws until the update has let go of its end of `events`. `notes` are lines of other origin: what the program
    /// prints; they stay above the status.
    pub(crate) async fn consume(
        mut self,
        mut events: mpsc::UnboundedReceiver<EngineEvent>,
        mut notes: mpsc::UnboundedReceiver<String>,
    ) {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { break };
                    let mut lines = self.take(event);
                    while let Ok(event) = events.try_recv() {
                        lines.extend(self.take(event));
                    }
                    self.draw(&lines);
                }
                Some(note) = notes.recv() => self.draw(&[note]),
                _ = ticks.tick(), if self.drawn > 0 => self.draw(&[]),
            }
        }
        let mut rest = Vec::new();
        while let Ok(note) = notes.try_recv() {
            rest.push(note);
        }
        self.progress = Progress::default();
        self.draw(&rest);
    }

    fn take(&mut self, event: EngineEvent) -> Vec<String> {
        self.progress.on(event, self.terminal.style(), !self.terminal.is_interactive())
    }

    /// Replaces the status by these lines and a new status below, in one write so that nothing flickers.
    fn draw(&mut self, lines: &[String]) {
        let mut frame = String::new();
        if self.drawn > 0 {
            // Up to the first line of the status, and clear to the end of the screen (ECMA-48: CPL, ED).
            frame = format!("\x1b[{}F\x1b[J", self.drawn);
        }
        let status = match self.terminal.is_interactive() {
            true => {
                let (_, rows) = self.terminal.size();
                self.progress.status(
                    Instant::now(),
                    self.terminal.style(),
                    rows.saturating_sub(2).clamp(1, 12),
                )
            }
            false => Vec::new(),
        };
        for line in lines.iter().chain(&status) {
            frame.push_str(line);
            frame.push('\n');
        }
        self.drawn = status.len();
        if !frame.is_empty() {
            self.terminal.write(&frame);
        }
    }
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
        time::advance(Duration::from_millis(2300)).await;
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
