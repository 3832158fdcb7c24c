//! Start of a container, image present, beside the bare runtime on the same root file system in the same run.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value as Json, json};

use crate::{
    cloud::{Cloud, Connection, Endpoint, Log, between, block_on},
    floors::Floors,
    stats::Samples,
    table::{Row, Value},
};

const STARTS: usize = 20;

pub(crate) fn run(floors: &Floors) -> Result<Vec<Row>> {
    let image = image()?;
    let job = Job::deploy(Cloud::start()?, &image)?;
    let bundle = Bundle::prepare(job.cloud.folder(), &image)?;

    // In turn, so that both meet the machine in the same moods.
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    block_on(async {
        let mut connection = job.endpoint.connect().await?;
        for round in 0..STARTS + 2 {
            let taken = job.start(&mut connection).await?;
            let first_line = bundle.run(round)?;
            if round >= 2 {
                ours.push(taken);
                bare.push(first_line);
            }
        }
        anyhow::Ok(())
    })?;
    let floor = Value::Time(bare.median());
    Ok(vec![
        Row::new("floor: runc run to the first line", floor)
            .p99(bare.quantile(0.99))
            .floor(Value::Time(floors.spawn.median()), "process"),
        Row::new("task: run() to the container's first line", Value::Time(ours.median()))
            .p99(ours.quantile(0.99))
            .floor(floor, "runc run")
            .budget(Value::Time(bare.median().mul_f64(1.5))),
    ])
}

/// The small image that is started from.
pub(crate) fn image() -> Result<PathBuf> {
    let image = env::var_os("TANDEM_TEST_BUSYBOX_IMAGE").map(PathBuf::from);
    image.context("TANDEM_TEST_BUSYBOX_IMAGE is not set: run this with `cargo xtask bench`")
}

/// A task that says its first line, and a function that starts it.
pub(crate) struct Job {
    log: Log,
    function: String,
    pub(crate) endpoint: Endpoint,
    cloud: Cloud,
}

impl Job {
    pub(crate) fn deploy(cloud: Cloud, image: &Path) -> Result<Self> {
        cloud.tandem(&["image", "import", "docker.io/library/busybox", &image.display().to_string()])?;
        cloud.deploy(
            "const cloud = require(\"@tandem/cloud\");\n\
             const job = new cloud.Task(\"job\", { image: \"busybox\", command: [\"sh\", \"-c\", \"echo in the container\"] });\n\
             exports.start = new cloud.Function(\"start\", async () => {\n\
                 console.log(\"asking\");\n\
                 const run = await job.run();\n\
                 await run.wait();\n\
                 return {};\n\
             }).id;\n",
        )?;
        Ok(Self { log: cloud.log()?, function: cloud.output("start")?, endpoint: cloud.endpoint()?, cloud })
    }

    /// From `run()` to the first line.
    pub(crate) async fn start(&self, connection: &mut Connection) -> Result<Duration> {
        connection.invoke(&self.function, "{}").await?;
        let asked = self.log.wait_for("asking")?;
        Ok(between(asked, self.log.wait_for("in the container")?))
    }
}

/// An OCI bundle of the same image, for `runc run` by hand.
struct Bundle(PathBuf);

impl Bundle {
    fn prepare(folder: &Path, image: &Path) -> Result<Self> {
        let bundle = folder.join("bundle");
        fs::create_dir_all(bundle.join("rootfs"))?;
        let done = |command: &mut Command| -> Result<()> {
            let output = command.output()?;
            if !output.status.success() {
                bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            }
            Ok(())
        };
        done(Command::new("tar").arg("-xf").arg(image).arg("-C").arg(bundle.join("rootfs")))?;
        done(Command::new("runc").arg("spec").arg("--bundle").arg(&bundle))?;
        let file = bundle.join("config.json");
        let mut spec: Json = serde_json::from_slice(&fs::read(&file)?)?;
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["sh", "-c", "echo in the container"]);
        // What a task has, too: the host's network. And no limit that raises one of ours.
        let namespaces = spec["linux"]["namespaces"].as_array_mut().context("the spec has no namespaces")?;
        namespaces.retain(|namespace| namespace["type"] != "network");
        spec["process"]["rlimits"] = json!([]);
        fs::write(&file, serde_json::to_vec(&spec)?)?;
        Ok(Self(bundle))
    }

    /// From the start of `runc run` to the first line that the container prints.
    fn run(&self, number: usize) -> Result<Duration> {
        let root = self.0.join("state");
        let started = Instant::now();
        let mut child = Command::new("runc")
            .arg("--root")
            .arg(&root)
            .args(["run", "--bundle"])
            .arg(&self.0)
            .arg(format!("bench-{}-{number}", std::process::id()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run runc")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("runc has no output")?).read_line(&mut line)?;
        let taken = started.elapsed();
        if !child.wait()?.success() || line.trim() != "in the container" {
            bail!("runc run failed");
        }
        Ok(taken)
    }
}
