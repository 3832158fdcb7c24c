//! Cold starts: from an invocation that finds no idle worker to the handler's first line.
//!
//! The moment before the request is sent, and the time of the line that the handler prints first, are of one clock.

use std::{fmt::Write, thread, time::Duration};

use anyhow::Result;
use jiff::Timestamp;

use crate::{
    cloud::{Cloud, Log, between, block_on},
    floors::Floors,
    stats::Samples,
    table::{Row, Value},
};

const FUNCTIONS: usize = 25;
const RESTARTS: usize = 15;

pub(crate) fn run(floors: &Floors) -> Result<Vec<Row>> {
    let mut cloud = Cloud::start()?;
    let mut program = "const cloud = require(\"@tandem/cloud\");\n".to_owned();
    for number in 0..FUNCTIONS {
        writeln!(
            program,
            "exports.f{number} = new cloud.Function(\"f{number}\", async () => {{ console.log(\"first line\"); return {{}}; }}).id;"
        )?;
    }
    cloud.deploy(&program)?;
    let names = (0..FUNCTIONS).map(|n| cloud.output(&format!("f{n}"))).collect::<Result<Vec<_>>>()?;

    // A cloud that has just started has run no function, so it keeps no spare worker.
    let mut without = Samples::default();
    for _ in 0..RESTARTS {
        cloud.restart()?;
        let log = cloud.log()?;
        without.push(first_line(&cloud, &log, &names[0])?);
    }
    // Each function's first invocation; the one before it has made the cloud keep a spare.
    let mut with = Samples::default();
    let log = cloud.log()?;
    for name in &names[1..] {
        thread::sleep(Duration::from_millis(300));
        with.push(first_line(&cloud, &log, name)?);
    }
    let row = |what: &str, samples: &Samples, budget: f64| {
        Row::new(format!("{what} ({} starts)", samples.len()), Value::Time(samples.median()))
            .p99(samples.quantile(0.99))
            .floor(Value::Time(floors.spawn.median()), "process")
            .budget(Value::millis(budget))
    };
    Ok(vec![
        row("cold start, no spare worker", &without, 5.0),
        row("cold start, with a spare worker", &with, 2.0),
    ])
}

fn first_line(cloud: &Cloud, log: &Log, function: &str) -> Result<Duration> {
    let endpoint = cloud.endpoint()?;
    let sent = block_on(async {
        let mut connection = endpoint.connect().await?;
        let sent = Timestamp::now();
        connection.invoke(function, "{}").await?;
        anyhow::Ok(sent)
    })?;
    // The log is followed from its beginning: earlier lines of the kind are older than the request.
    loop {
        let printed = log.wait_for("first line")?;
        if printed >= sent {
            return Ok(between(sent, printed));
        }
    }
}
