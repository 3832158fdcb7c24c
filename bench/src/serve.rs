//! The cloud itself: from its start to its word that it is ready, and what it holds when nothing happens.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result};

use crate::{
    cloud::Cloud,
    floors::Floors,
    stats::Samples,
    table::{Row, Value},
};

const STARTS: usize = 15;

pub(crate) fn run(floors: &Floors) -> Result<Vec<Row>> {
    let mut cloud = Cloud::start()?;
    let mut starts = Samples::default();
    for _ in 0..STARTS {
        cloud.restart()?;
        starts.push(cloud.started_in);
    }
    // What it does after its start is over by then.
    thread::sleep(Duration::from_secs(1));
    let memory = family(cloud.pid()?)?.into_iter().map(proportional).sum::<Result<f64>>()?;
    Ok(vec![
        Row::new("cloud: start to ready", Value::Time(starts.median()))
            .p99(starts.quantile(0.99))
            .floor(Value::Time(floors.spawn.median()), "process")
            .budget(Value::millis(20.0)),
        Row::new("cloud: memory when idle, all processes", Value::Mebibytes(memory))
            .budget(Value::Mebibytes(20.0)),
    ])
}

/// The process and all its descendants.
fn family(root: u32) -> Result<Vec<u32>> {
    let mut family = vec![root];
    let mut at = 0;
    while let Some(pid) = family.get(at).copied() {
        at += 1;
        for thread in fs::read_dir(format!("/proc/{pid}/task"))?.filter_map(Result::ok) {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            family.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    Ok(family)
}

/// A process's memory in MiB, shared pages divided among those that share them.
fn proportional(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Pss:")).context("no Pss in smaps_rollup")?;
    let kibibytes: f64 = line.split_whitespace().nth(1).context("Pss has no value")?.parse()?;
    Ok(kibibytes / 1024.0)
}
