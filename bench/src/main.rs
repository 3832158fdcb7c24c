//! The benchmarks behind every number in the README: `cargo xtask bench`.
//!
//! Each drives a real `tandem serve` of its own, in release, over the wire, with requests signed as a stock client
//! signs them. Machines differ threefold, so each table also holds floors measured in the same run: what the machine
//! itself needs to start a process, make a write durable, or answer an HTTP request. Ratios count, not milliseconds.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark reports to the person who runs it"
)]

mod cloud;
mod cold;
mod docker;
mod events;
mod floors;
mod machine;
mod memory;
mod object;
mod queue;
mod restate;
mod rival;
mod s3;
mod serve;
mod stats;
mod stream;
mod table;
mod task;
mod up;
mod warm;
mod workflow;

use std::{env, process::ExitCode};

use anyhow::{Result, bail};

use crate::{floors::Floors, table::Row};

struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Floors) -> Result<Vec<Row>>,
}

const BENCHES: &[Bench] = &[
    Bench { name: "serve", about: "start of the cloud, memory when idle", run: serve::run },
    Bench { name: "cold", about: "event to a handler's first line, no idle worker", run: cold::run },
    Bench { name: "warm", about: "invocations through the Lambda API", run: warm::run },
    Bench { name: "memory", about: "memory over many invocations", run: memory::run },
    Bench { name: "object", about: "PUT answered to the handler behind it", run: object::run },
    Bench { name: "events", about: "PUT to a queue, topic to ten functions", run: events::run },
    Bench { name: "s3", about: "PUT, GET and LIST beside other S3 servers", run: s3::run },
    Bench { name: "queue", about: "send, receive and delete over SQS", run: queue::run },
    Bench { name: "stream", about: "records put over Kinesis, and handled", run: stream::run },
    Bench { name: "workflow", about: "chains and fan-outs of activities", run: workflow::run },
    Bench { name: "task", about: "start of a container beside bare runc", run: task::run },
    Bench { name: "docker", about: "start of a container beside `docker run`", run: docker::run },
    Bench { name: "up", about: "`up` with nothing to do, 1,000 resources", run: up::run },
];

fn run() -> Result<()> {
    let chosen: Vec<String> = env::args().skip(1).collect();
    if chosen.iter().any(|c| c == "--list" || c == "--help") {
        for bench in BENCHES {
            println!("{:<8} {}", bench.name, bench.about);
        }
        return Ok(());
    }
    if let Some(unknown) = chosen.iter().find(|c| !BENCHES.iter().any(|b| b.name == **c)) {
        bail!("there is no benchmark `{unknown}`; `--list` names them");
    }
    println!("{}", machine::describe()?);
    eprintln!("measuring floors …");
    let floors = Floors::measure()?;
    let mut rows = floors.rows();
    let mut failed = Vec::new();
    for bench in BENCHES.iter().filter(|b| chosen.is_empty() || chosen.iter().any(|c| c == b.name)) {
        eprintln!("measuring {} …", bench.about);
        match (bench.run)(&floors) {
            Ok(more) => rows.extend(more),
            Err(error) => failed.push(format!("{}: {error:#}", bench.name)),
        }
    }
    println!("{}", table::render(&rows));
    if !failed.is_empty() {
        bail!("not measured:\n  {}", failed.join("\n  "));
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
