//! Start of a container beside `docker run` of the same image, by an engine of its own, in the same run.
//!
//! By default `docker run` connects to a bridge; a task has the host's network, so it is shown beside both. That engine sets
//! no rules of a firewall: its bridge costs less here than where it does.

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tandem_own_engine::{NONE, OwnEngine, PROGRAMS};

use crate::{
    cloud::{Cloud, block_on},
    floors::Floors,
    stats::Samples,
    table::{Row, Value},
    task::{Job, image},
};

const STARTS: usize = 30;
/// How many times faster than `docker run` as it is by default a start is to be.
const TIMES: f64 = 5.0;
const BRIDGE: &str = "bench";

pub(crate) fn run(_floors: &Floors) -> Result<Vec<Row>> {
    let Some(programs) = env::var_os(PROGRAMS) else {
        bail!(
            "no Docker engine runs here: {}",
            env::var(NONE).unwrap_or_else(|_| "nobody looked for one".into())
        );
    };
    let image = image()?;
    let engine = OwnEngine::start(Path::new(&programs))?;
    let done = |arguments: &[&str]| -> Result<()> {
        let output = engine.client().args(arguments).output()?;
        ensure!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    done(&["import", &image.display().to_string(), "bench"])?;
    done(&["network", "create", BRIDGE])?;
    let settings = format!("container:\n  backend: docker\n  host: {}\n", engine.host());
    let (alone, by_docker) =
        (Job::deploy(Cloud::start()?, &image)?, Job::deploy(Cloud::with(&settings)?, &image)?);

    // In turn, so that all meet the machine in the same moods.
    let mut samples: [Samples; 4] = Default::default();
    block_on(async {
        let (mut to_alone, mut to_docker) =
            (alone.endpoint.connect().await?, by_docker.endpoint.connect().await?);
        for round in 0..STARTS + 2 {
            let taken = [
                alone.start(&mut to_alone).await?,
                by_docker.start(&mut to_docker).await?,
                docker_run(&engine, "host")?,
                docker_run(&engine, BRIDGE)?,
            ];
            if round >= 2 {
                samples.iter_mut().zip(taken).for_each(|(samples, taken)| samples.push(taken));
            }
        }
        anyhow::Ok(())
    })?;
    // Their containers, and the bridge, go before the engine does.
    drop((alone, by_docker));
    done(&["network", "rm", BRIDGE])?;
    let [alone, by_docker, host, bridge] = samples;
    let (on_host, on_bridge) = (Value::Time(host.median()), Value::Time(bridge.median()));
    let row = |what: &str, samples: &Samples| {
        Row::new(what, Value::Time(samples.median())).p99(samples.quantile(0.99))
    };
    Ok(vec![
        row("floor: docker run to the first line, on a bridge", &bridge),
        row("floor: docker run --network host to the first line", &host),
        row("task beside docker run", &alone)
            .floor(on_bridge, "docker run")
            .budget(Value::Time(bridge.median().div_f64(TIMES))),
        row("task beside docker run --network host", &alone).floor(on_host, "docker run"),
        row("task by Docker as the backend", &by_docker).floor(on_host, "docker run"),
    ])
}

/// From the start of the stock client to the first line that the container prints.
fn docker_run(engine: &OwnEngine, network: &str) -> Result<Duration> {
    let mut command = engine.client();
    command.args(["run", "--rm", "--network", network, "bench", "sh", "-c", "echo in the container"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().context("cannot run docker")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("docker has no output")?).read_line(&mut line)?;
    let taken = started.elapsed();
    ensure!(child.wait()?.success() && line.trim() == "in the container", "docker run failed");
    Ok(taken)
}
