//! `tandem ps`: what is deployed, and what it is doing.

mod capacity;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use tandem_cloud::{
    capacity::CapacityStatus,
    function::{FunctionStatus, WorkerState},
    queue::QueueStatus,
    service::{ReplicaStatus, ServiceStatus},
    task::{RunState, RunStatus},
    timer::TimerStatus,
    workflow::WorkflowStatus,
};
use tandem_model::{ByteSize, Kind};
use tandem_program::Project;
use tandem_server::wire::{Made, OfStack, Processes};

use super::stack::MADE_BY_CLIENT;
use crate::{
    exit::Failure,
    place::Place,
    ui::{self, Terminal},
};

/// Shows the stack's functions with their workers, its services with their replicas, its timers, its queues and how many
/// messages they hold, the runs of its tasks, and the buckets that clients made.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Of all stacks
    #[arg(short, long)]
    all: bool,
    /// What is free on this machine, who holds the rest, who waits and why, and what would fit
    #[arg(short, long)]
    capacity: bool,
}

pub(crate) async fn run(
    terminal: &Terminal,
    place: Place,
    Args { all, capacity }: Args,
) -> Result<(), Failure> {
    let stack = if all { None } else { Some(place.stack_of(&Project::find(&place.folder)?)) };
    if capacity {
        let status: CapacityStatus = place.client().post("/v1/capacity", &OfStack { stack }).await?;
        if terminal.json() {
            return Ok(terminal.record(&status)?);
        }
        return Ok(terminal.data(&capacity::shown(&status, Timestamp::now(), terminal.data_width()))?);
    }
    let processes: Processes = place.client().post("/v1/ps", &OfStack { stack }).await?;
    if terminal.json() {
        return Ok(terminal.record(&processes)?);
    }
    Ok(terminal.data(&shown(&processes, Timestamp::now(), terminal.data_width()))?)
}

/// Tables for a terminal of that width, with ids as short as other commands take them; or for a pipe, whole.
fn shown(processes: &Processes, now: Timestamp, width: Option<usize>) -> String {
    let mut parts = Vec::new();
    if !processes.functions.is_empty() {
        let heads = ["FUNCTION", "WORKERS", "QUEUED", "CALLS", "ERRORS"];
        parts.push(ui::table(heads, processes.functions.iter().map(function), width));
    }
    if !processes.runs.is_empty() {
        parts.push(runs(&processes.runs, now, width));
    }
    if !processes.services.is_empty() {
        let heads = ["SERVICE", "REPLICA", "STATE", "AGE", "RESTARTS", "PORTS", "DETAIL"];
        let rows = processes.services.iter().flat_map(|service| replicas(service, now));
        parts.push(ui::table(heads, rows, width));
    }
    if !processes.timers.is_empty() {
        let heads = ["TIMER", "SCHEDULE", "NEXT", "LAST", "TICKS"];
        parts.push(ui::table(heads, processes.timers.iter().map(timer), width));
    }
    if !processes.workflows.is_empty() {
        let heads = ["WORKFLOW", "OPEN", "SUSPENDED", "COMPLETED", "FAILED", "TERMINATED"];
        parts.push(ui::table(heads, processes.workflows.iter().map(workflow), width));
    }
    if !processes.queues.is_empty() {
        let heads = ["QUEUE", "VISIBLE", "IN FLIGHT", "DELAYED", "DEAD LETTERS OF"];
        parts.push(ui::table(heads, processes.queues.iter().map(queue), width));
    }
    let mut buckets =
        processes.made_by_clients.iter().filter(|made| made.urn.kind == Kind::Bucket).peekable();
    if buckets.peek().is_some() {
        parts.push(ui::table(["BUCKET", "MADE BY"], buckets.map(made), width));
    }
    let waiting: usize = processes.backlog.values().sum();
    if waiting > 0 {
        parts.push(format!("{} on the way\n", ui::count(waiting, "event")));
    }
    if processes.dead_letters > 0 {
        parts.push(format!(
            "{} in the dead letters: see `tandem dead-letters ls`\n",
            ui::count(processes.dead_letters, "event")
        ));
    }
    if parts.is_empty() {
        return "Nothing is deployed.\n".to_owned();
    }
    parts.join("\n")
}

/// A table of runs as of now.
pub(super) fn table_of_runs(all: &[RunStatus], width: Option<usize>) -> String {
    runs(all, Timestamp::now(), width)
}

fn runs(all: &[RunStatus], now: Timestamp, width: Option<usize>) -> String {
    let heads = ["RUN", "TASK", "STATE", "AGE", "MEMORY", "DETAIL"];
    ui::table(heads, all.iter().map(|run| row(run, now, width.is_some())), width)
}

fn function(function: &FunctionStatus) -> [String; 5] {
    [
        // Orchestrators are called as functions are, by the cloud.
        match function.urn.kind {
            Kind::Function => function.urn.name.to_string(),
            _ => function.urn.short(),
        },
        workers(function),
        function.queued.to_string(),
        function.invocations.to_string(),
        function.errors.to_string(),
    ]
}

fn workflow(workflow: &WorkflowStatus) -> [String; 6] {
    let WorkflowStatus { urn, open, suspended, completed, failed, terminated } = workflow;
    let counts = [open, suspended, completed, failed, terminated].map(ToString::to_string);
    let [open, suspended, completed, failed, terminated] = counts;
    [urn.name.to_string(), open, suspended, completed, failed, terminated]
}

fn timer(timer: &TimerStatus) -> [String; 5] {
    let shown = |time: Option<Timestamp>, none: &str| {
        time.map_or_else(|| none.to_owned(), |time| time.strftime("%F %TZ").to_string())
    };
    [
        timer.urn.name.to_string(),
        timer.schedule.clone(),
        shown(timer.next, "never"),
        shown(timer.last, ""),
        timer.ticks.to_string(),
    ]
}

fn queue(queue: &QueueStatus) -> [String; 5] {
    let of: Vec<_> = queue.dead_letters_of.iter().map(|urn| urn.name.to_string()).collect();
    let [visible, in_flight, delayed] =
        [queue.depth.visible, queue.depth.in_flight, queue.depth.delayed].map(|n| n.to_string());
    [queue.urn.name.to_string(), visible, in_flight, delayed, of.join(", ")]
}

/// A row for each replica; one that says so if there is none.
fn replicas(service: &ServiceStatus, now: Timestamp) -> Vec<[String; 7]> {
    let ports: Vec<String> = service
        .ports
        .iter()
        .map(|port| match port.target() {
            target if target == port.port => port.port.to_string(),
            target => format!("{}→{target}", port.port),
        })
        .collect();
    let name = service.urn.name.to_string();
    let row = |replica: &ReplicaStatus| {
        let state = match (&replica.id, replica.healthy) {
            (_, true) => "healthy",
            (Some(_), false) => "starting",
            (None, false) => "waiting",
        };
        [
            name.clone(),
            replica.replica.to_string(),
            state.to_owned(),
            replica.since.map(|since| age(since, now)).unwrap_or_default(),
            replica.restarts.to_string(),
            ports.join(", "),
            replica.waits.clone().or_else(|| replica.trouble.clone()).unwrap_or_default(),
        ]
    };
    if service.replicas.is_empty() {
        return vec![[
            name.clone(),
            String::new(),
            if service.wanted == 0 { "idle".into() } else { "none".into() },
            String::new(),
            String::new(),
            ports.join(", "),
            String::new(),
        ]];
    }
    service.replicas.iter().map(row).collect()
}

fn made(bucket: &Made) -> [String; 2] {
    [bucket.id.to_string(), MADE_BY_CLIENT.to_owned()]
}

/// How many digits of an id are enough to tell it: its last ones, for it begins with its time.
const ID: usize = 8;

/// `2 busy, 1 idle`, or `none`.
fn workers(function: &FunctionStatus) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for worker in &function.workers {
        let state = match worker.state {
            WorkerState::Spare => "spare",
            WorkerState::Starting => "starting",
            WorkerState::Idle => "idle",
            WorkerState::Busy => "busy",
            WorkerState::Ending => "ending",
        };
        *counts.entry(state).or_default() += 1;
    }
    if counts.is_empty() {
        return "none".to_owned();
    }
    let parts: Vec<_> = counts.into_iter().map(|(state, n)| format!("{n} {state}")).collect();
    parts.join(", ")
}

/// Where a run stands, in a word.
pub(super) fn state(run: &RunStatus) -> &'static str {
    match run.state {
        RunState::Queued => "queued",
        RunState::Starting => "starting",
        RunState::Running => "running",
        RunState::Ended => "ended",
    }
}

fn row(run: &RunStatus, now: Timestamp, short: bool) -> [String; 6] {
    let detail = match (&run.outcome, &run.waits, run.pid) {
        (Some(outcome), _, _) => outcome.to_string(),
        (None, Some(why), _) => why.clone(),
        (None, None, Some(pid)) => format!("process {pid}"),
        (None, None, None) => String::new(),
    };
    let memory = run.memory_bytes.map(|bytes| ByteSize(bytes).to_string()).unwrap_or_default();
    let id = run.id.as_str();
    let id = if short { &id[id.len().saturating_sub(ID)..] } else { id };
    [id.to_owned(), run.task.name.to_string(), state(run).into(), age(run.accepted, now), memory, detail]
}

/// How long ago, in the largest unit that says something.
pub(super) fn age(then: Timestamp, now: Timestamp) -> String {
    let age = Duration::try_from(now.duration_since(then)).unwrap_or_default().as_secs();
    match age {
        0..120 => format!("{age}s"),
        120..7200 => format!("{}m", age / 60),
        7200..172_800 => format!("{}h", age / 3600),
        _ => format!("{}d", age / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use tandem_cloud::{
        function::WorkerStatus,
        task::{Outcome, RunId},
    };
    use tandem_model::PhysicalId;

    use super::*;

    fn worker(state: WorkerState) -> WorkerStatus {
        WorkerStatus { pid: Some(7), state, uptime: 1.0, requests: 1 }
    }

    #[test]
    fn workers_and_runs_are_told_in_columns() {
        let function = FunctionStatus {
            urn: "urn:tandem:p:dev:function:resize".parse().unwrap(),
            id: PhysicalId("p-dev-resize".into()),
            version: "1".into(),
            workers: vec![worker(WorkerState::Busy), worker(WorkerState::Idle), worker(WorkerState::Busy)],
            queued: 4,
            invocations: 12,
            errors: 0,
        };
        let run = RunStatus {
            id: RunId("0190c0de-7e57-4f00-8abc-1122a1b2c3d4".into()),
            task: "urn:tandem:p:dev:task:render".parse().unwrap(),
            state: RunState::Ended,
            accepted: Timestamp::UNIX_EPOCH,
            attempt: 1,
            attempts: Vec::new(),
            stages: tandem_cloud::task::Stages::default(),
            started: None,
            ended: None,
            outcome: Some(Outcome::Exited { code: 3 }),
            exit_code: Some(3),
            error: None,
            log_tail: Vec::new(),
            result: None,
            waits: None,
            pid: None,
            memory_bytes: None,
        };
        let processes = Processes {
            functions: vec![function],
            spares: Vec::new(),
            runs: vec![run],
            services: Vec::new(),
            timers: vec![TimerStatus {
                urn: "urn:tandem:p:dev:timer:report".parse().unwrap(),
                schedule: "0 6 * * * (Europe/Berlin)".into(),
                next: Timestamp::from_second(18_000).ok(),
                last: None,
                ticks: 0,
            }],
            workflows: vec![WorkflowStatus {
                urn: "urn:tandem:p:dev:workflow:orders".parse().unwrap(),
                open: 3,
                suspended: 0,
                completed: 12,
                failed: 1,
                terminated: 0,
            }],
            queues: vec![QueueStatus {
                urn: "urn:tandem:p:dev:queue:dead".parse().unwrap(),
                id: PhysicalId("p-dev-dead".into()),
                depth: tandem_cloud::queue::Depth { visible: 3, in_flight: 1, delayed: 0 },
                dead_letters_of: vec!["urn:tandem:p:dev:queue:orders".parse().unwrap()],
            }],
            backlog: BTreeMap::from([("subscription/s".into(), 2)]),
            dead_letters: 1,
            made_by_clients: vec![Made {
                urn: "urn:tandem:p:dev:bucket:s3.mine".parse().unwrap(),
                id: PhysicalId("mine".into()),
            }],
        };
        let now = Timestamp::from_second(300).unwrap();
        insta::assert_snapshot!(shown(&processes, now, Some(80)), @r"
        FUNCTION  WORKERS         QUEUED  CALLS  ERRORS
        resize    2 busy, 1 idle  4       12     0

        RUN       TASK    STATE  AGE  MEMORY  DETAIL
        a1b2c3d4  render  ended  5m           exited with code 3

        TIMER   SCHEDULE                   NEXT                  LAST  TICKS
        report  0 6 * * * (Europe/Berlin)  1970-01-01 05:00:00Z        0

        WORKFLOW  OPEN  SUSPENDED  COMPLETED  FAILED  TERMINATED
        orders    3     0          12         1       0

        QUEUE  VISIBLE  IN FLIGHT  DELAYED  DEAD LETTERS OF
        dead   3        1          0        orders

        BUCKET  MADE BY
        mine    a client, over S3

        2 events on the way

        1 event in the dead letters: see `tandem dead-letters ls`
        ");
        // A program gets the ids whole.
        assert!(shown(&processes, now, None).contains("0190c0de-7e57-4f00-8abc-1122a1b2c3d4"));
    }
}
