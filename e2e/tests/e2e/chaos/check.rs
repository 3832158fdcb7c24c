//! What is looked at once everything has come to rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use serde_json::Value;

use super::{
    control::{Control, Line},
    model::{Cause, DELETED, Expected, JOB, Model},
    witness::Said,
};

/// What befell the cloud in a schedule; each of it may repeat what was under way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fate {
    /// How often the cloud was killed.
    pub(super) deaths: usize,
    /// How often a worker was killed, or all of them with the process that starts them.
    pub(super) losses: usize,
    /// Whether a container's monitor was killed.
    pub(super) monitor: bool,
}

impl Fate {
    /// Whether every attempt may have failed or been cut off.
    fn may_end(self, expected: &Expected) -> bool {
        expected.failures + self.deaths + self.losses >= 3
    }
}

/// All executions for one event or call, which has one id.
#[derive(Debug, Default)]
struct Executions {
    cause: Option<Cause>,
    begun: usize,
    ended: usize,
    runs: BTreeSet<String>,
    /// What the cloud said when it gave it up.
    given_up: Vec<String>,
}

fn executions(said: &[Said], lines: &[Line]) -> BTreeMap<String, Executions> {
    let mut all = BTreeMap::<String, Executions>::new();
    for said in said {
        let one = all.entry(said.id.clone()).or_default();
        match &*said.what {
            "begin" => {
                let Said { kind, name, etag, .. } = said.clone();
                let cause = Cause { kind, name, etag };
                assert!(one.cause.as_ref().is_none_or(|known| *known == cause), "{} is two events", said.id);
                one.cause = Some(cause);
                one.begun += 1;
            }
            "run" => _ = one.runs.insert(said.run.clone()),
            "end" => one.ended += 1,
            other => panic!("a handler said {other}"),
        }
    }
    for line in lines.iter().filter(|line| line.stream == "system" && line.text.starts_with("gave up ")) {
        all.entry(line.id.clone()).or_default().given_up.push(line.text.clone());
    }
    all
}

/// What a handler printed is in the log, if the cloud was not killed before it could write it.
fn printed(said: &[Said], lines: &[Line]) {
    let of = |line: &Line| (line.id.clone(), line.text.clone());
    let printed: BTreeSet<_> = lines.iter().filter(|line| line.stream == "stdout").map(of).collect();
    for Said { what, id, kind, name, etag, run } in said {
        let text = format!("{what}~{id}~{kind}~{name}~{etag}~{run}");
        assert!(printed.contains(&(id.clone(), text.clone())), "`{text}` is not in the log");
    }
}

/// Every event reached its handler or the dead letters (I2), none of nothing, and none more often than what happened
/// explains. Gives how many events were given up, at least and at most.
pub(super) async fn events(
    model: &Model,
    fate: Fate,
    control: &Control,
    said: &[Said],
    lines: &[Line],
) -> RangeInclusive<usize> {
    if fate.deaths == 0 {
        printed(said, lines);
    }
    let all = executions(said, lines);
    let jobs = jobs(control, lines).await;
    let mut ids = BTreeMap::<&Cause, usize>::new();
    let (mut dead, mut perhaps_dead) = (0, 0);
    for (id, one) in &all {
        let Some(cause) = &one.cause else { panic!("{id} was given up and never begun: {one:?}") };
        if cause.name == "probe" {
            continue;
        }
        let Some(expected) = model.events.get(cause) else { panic!("an event of nothing: {id} {one:?}") };
        *ids.entry(cause).or_default() += 1;
        one_event(id, one, expected, fate);
        dead += usize::from(!expected.once && one.ended == 0);
        perhaps_dead += usize::from(!expected.once && one.ended > 0 && fate.may_end(expected));
        runs(id, one, cause, fate, control, lines).await;
    }
    for (cause, expected) in &model.events {
        let came = ids.get(cause).or_else(|| jobs.get(cause)).copied().unwrap_or(0);
        let (least, most) = (expected.least, expected.most);
        assert!((least..=most).contains(&came), "{cause:?}: {came} events came, not {least} to {most}");
    }
    let known: BTreeSet<&String> = all.values().flat_map(|one| &one.runs).collect();
    let ghost = lines.iter().find(|line| line.text.starts_with("begin ") && !known.contains(&line.id));
    assert!(ghost.is_none(), "a container of nothing: {ghost:?}");
    dead..=dead + perhaps_dead
}

fn one_event(id: &str, one: &Executions, expected: &Expected, fate: Fate) {
    let Fate { deaths, losses, .. } = fate;
    let context = || format!("{id} with {fate:?}, {expected:?}: {one:?}");
    if expected.once {
        assert_eq!(one.begun, 1, "nobody repeats what a client waits for: {}", context());
        assert!(one.given_up.is_empty(), "{}", context());
        assert!(one.ended == 1 || expected.failures > 0 || deaths + losses > 0, "{}", context());
        return;
    }
    // Attempts that were cut off count (0091), and of each death one may not have been counted.
    let most = (1 + expected.failures + deaths + losses).min(3 + deaths);
    assert!(one.begun <= most, "begun more often than {most} times: {}", context());
    if one.ended == 0 {
        // What was said of it may be lost with the cloud; that it is among the dead letters is counted.
        assert!(fate.may_end(expected), "neither handled nor out of attempts: {}", context());
        assert!(deaths > 0 || !one.given_up.is_empty(), "not given up: {}", context());
        let reasoned = one.given_up.iter().all(|text| text.contains("as asked"));
        assert!(reasoned || deaths + losses > 0, "no reason: {}", context());
    } else {
        assert!(expected.failures < 3, "{}", context());
        assert!(one.given_up.is_empty() || fate.may_end(expected), "handled and given up: {}", context());
    }
    assert!(one.given_up.len() <= 1 + deaths, "given up twice: {}", context());
}

/// One event, one run (I4), one outcome, the true exit code, the whole log (I3).
async fn runs(id: &str, one: &Executions, cause: &Cause, fate: Fate, control: &Control, lines: &[Line]) {
    let starts = cause.name.ends_with(".run") || cause.name.ends_with(".long");
    if !starts || cause.kind == DELETED {
        assert!(one.runs.is_empty(), "{id}: {one:?}");
        return;
    }
    assert_eq!(one.runs.len(), 1, "an event has one run, however often it is delivered: {id}: {one:?}");
    for run in &one.runs {
        let status = control.run(run).await.unwrap();
        if fate.monitor && status["outcome"]["outcome"] != "exited" {
            // Nobody saw how it ended, or its start was cut off; that is what is told, and once.
            let outcome = status["outcome"]["outcome"].as_str();
            assert!(matches!(outcome, Some("lost" | "failed")), "{run} of {id}: {status}");
            continue;
        }
        assert_eq!(status["outcome"]["outcome"], "exited", "{run} of {id}: {status}");
        assert_eq!(status["outcome"]["code"], 7, "{run} of {id}: {status}");
        let of_run: Vec<&Line> = lines.iter().filter(|line| line.id == *run).collect();
        let printed: Vec<&str> =
            of_run.iter().filter(|line| line.stream == "stdout").map(|line| &*line.text).collect();
        assert_eq!(printed, [format!("begin {id}"), format!("end {id}")], "the log of {run} of {id}");
        let told = of_run.iter().filter(|line| line.text == "exited with code 7").count();
        let least = usize::from(fate.deaths == 0);
        assert!((least..=1 + fate.deaths).contains(&told), "{run} of {id} ended {told} times");
    }
}

/// The events that the task itself got, each in one run, which succeeded.
async fn jobs(control: &Control, lines: &[Line]) -> BTreeMap<Cause, usize> {
    let mut runs = BTreeMap::<String, (Cause, BTreeSet<&str>)>::new();
    for line in lines {
        let Some(event) = line.text.strip_prefix("job ") else { continue };
        let event: Value = serde_json::from_str(event).unwrap_or_else(|e| panic!("{e}: {event}"));
        let field = |name: &str| event["data"][name].as_str().unwrap_or_default().to_owned();
        let cause = Cause { kind: JOB.to_owned(), name: field("key"), etag: field("etag") };
        let id = event["id"].as_str().unwrap().to_owned();
        runs.entry(id).or_insert_with(|| (cause, BTreeSet::new())).1.insert(&line.id);
    }
    let mut events = BTreeMap::new();
    for (id, (cause, runs)) in runs {
        // An attempt that a death cut off is waited for, not repeated (0072).
        assert_eq!(runs.len(), 1, "the event {id} of {cause:?} was run more than once: {runs:?}");
        for run in runs {
            let status = control.run(run).await.unwrap();
            assert_eq!(status["outcome"]["code"], 0, "{run} of {id}: {status}");
            let printed = lines.iter().filter(|line| line.id == run).count();
            assert_eq!(printed, 1, "the log of {run} of {id}");
        }
        *events.entry(cause).or_default() += 1;
    }
    events
}
