//! Memory over many invocations: of the cloud, and of the one worker that serves them.
//!
//! `TANDEM_BENCH_INVOCATIONS` says how many; 20,000 unless it is set. What counts is the growth from a tenth of them to
//! all: per-invocation state, timers, log lines or request ids that stayed would show.

use std::{env, fs};

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;

use crate::{
    cloud::{Cloud, block_on},
    floors::Floors,
    table::{Row, Value},
};

const VARIABLE: &str = "TANDEM_BENCH_INVOCATIONS";
/// What both may grow by: a hundredth of a KiB for each of 100,000 invocations.
const GROWTH: f64 = 1.0;

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
exports.f = new cloud.Function("f", async (event) => {
    console.log(`invocation ${event.n}`);
    const late = setTimeout(() => {}, 60000);
    clearTimeout(late);
    await new Promise((resolve) => setTimeout(resolve, 0));
    if (event.n % 10 === 0) Promise.reject(new Error("nobody listens"));
    return { n: event.n, text: "x".repeat(100) };
}).id;
"#;

pub(crate) fn run(_: &Floors) -> Result<Vec<Row>> {
    let all: u32 = match env::var(VARIABLE) {
        Ok(number) => number.parse().with_context(|| format!("{VARIABLE} is `{number}`"))?,
        Err(_) => 20_000,
    };
    let cloud = Cloud::start()?;
    cloud.deploy(PROGRAM)?;
    let name = cloud.output("f")?;
    let endpoint = cloud.endpoint()?;
    let invoke = |from: u32, to: u32| {
        block_on(async {
            let mut connection = endpoint.connect().await?;
            for n in from..to {
                connection.invoke(&name, format!("{{\"n\":{n}}}")).await?;
            }
            anyhow::Ok(())
        })
    };
    invoke(0, all / 10)?;
    let worker = worker(&cloud)?;
    let before = [resident(cloud.pid()?)?, resident(worker)?];
    invoke(all / 10, all)?;
    if self::worker(&cloud)? != worker {
        bail!("the worker was replaced");
    }
    let after = [resident(cloud.pid()?)?, resident(worker)?];
    let row = |of: &str, at: usize| {
        let what = format!("{of}: growth from {} to {all} invocations, of {:.1} MiB", all / 10, before[at]);
        Row::new(what, Value::Mebibytes(after[at] - before[at])).budget(Value::Mebibytes(GROWTH))
    };
    Ok(vec![row("cloud", 0), row("worker", 1)])
}

/// The process of the only worker.
fn worker(cloud: &Cloud) -> Result<u32> {
    let ps: Json = serde_json::from_str(&cloud.tandem(&["ps", "--json"])?)?;
    let pid = ps["functions"][0]["workers"][0]["pid"].as_u64();
    Ok(u32::try_from(pid.context("`tandem ps` tells of no worker")?)?)
}

/// A process's resident memory in MiB.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Rss:")).context("no Rss in smaps_rollup")?;
    let kibibytes: f64 = line.split_whitespace().nth(1).context("Rss has no value")?.parse()?;
    Ok(kibibytes / 1024.0)
}
