//! `demo`: the video thumbnailer from nothing to a thumbnail, with stock clients.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{base_image, process, setup, tree, video};

pub(crate) const HELP: &str = "\
usage: cargo xtask demo [--keep] [--pull]

Sets up, builds Tandem in release, deploys examples/video-thumbnailer into a cloud of its own under target/demo, puts
a video into its bucket with the AWS CLI, follows the log until the thumbnail is there, and downloads it. Needs root.

  --keep   leave the cloud running, to go on by hand
  --pull   let the build pull docker.io/jrottenberg/ffmpeg instead of making it from Debian packages
";

const VIDEO: &str = "cat_00-01.mp4";
/// From the put to the second function's line. The container takes a few seconds; a loaded machine more.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    if let Some(unknown) = arguments.iter().find(|a| *a != "--keep" && *a != "--pull") {
        bail!("unknown argument `{unknown}`\n\n{HELP}");
    }
    let given = |flag: &str| arguments.iter().any(|a| a == flag);
    if !setup::is_root()? {
        bail!("the demo starts containers and sandboxes: run it as root");
    }
    let started = Instant::now();
    setup::ensure()?;
    process::timed("building tandem", || {
        process::run(Command::new(tree::cargo()).args(["build", "--release", "--quiet", "-p", "tandem"]))
    })?;
    let mut demo = Demo::new()?;
    demo.keep = given("--keep");
    process::run(demo.tandem().args(["serve", "--detach"]))?;
    if !given("--pull") {
        demo.import_base_image()?;
    }
    process::timed("tandem up (the first time it builds the container image)", || {
        process::run(demo.tandem().args(["up", "--yes"]))
    })?;
    let thumbnail = demo.thumbnail()?;
    println!("\n{}  ({:.1} s in all)", thumbnail.display(), started.elapsed().as_secs_f64());
    demo.say_what_next(&setup::aws()?);
    Ok(())
}

/// The deployed example, and the cloud it runs in, which stops with it unless it is to be kept.
struct Demo {
    tandem: PathBuf,
    folder: PathBuf,
    home: PathBuf,
    example: PathBuf,
    keep: bool,
}

impl Demo {
    fn new() -> Result<Self> {
        let target = tree::target()?;
        let folder = target.join("demo");
        let home = folder.join("home");
        tree::create_folder(&home)?;
        let example = tree::root()?.join("examples/video-thumbnailer");
        Ok(Self { tandem: target.join("release/tandem"), folder, home, example, keep: false })
    }

    fn tandem(&self) -> Command {
        let mut command = Command::new(&self.tandem);
        command.current_dir(&self.example).env("TANDEM_HOME", &self.home);
        command
    }

    fn import_base_image(&self) -> Result<()> {
        let images = process::output(self.tandem().args(["image", "ls"]))?;
        if images.contains(base_image::FFMPEG) {
            return Ok(());
        }
        let file = base_image::ffmpeg()?;
        process::timed(&format!("importing {}", base_image::FFMPEG), || {
            process::run(self.tandem().args(["image", "import", base_image::FFMPEG]).arg(file))
        })
    }

    /// What `tandem env` tells a shell, as variables.
    fn environment(&self) -> Result<BTreeMap<String, String>> {
        let script = process::output(self.tandem().arg("env"))?;
        // A shell reads it as a user's shell would.
        let mut shell = Command::new("sh");
        shell.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
        let all = process::output(shell.args(["-c", "eval \"$1\"; env", "sh", &script]))?;
        let aws = all.lines().filter(|line| line.starts_with("AWS_")).filter_map(|line| line.split_once('='));
        Ok(aws.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Puts the video and waits until the second function has told of its thumbnail, which is then downloaded.
    fn thumbnail(&self) -> Result<PathBuf> {
        let video = self.folder.join(VIDEO);
        video::ensure(&video)?;
        let bucket = process::output(self.tandem().args(["stack", "output", "bucket"]))?;
        let environment = self.environment()?;
        let aws = |from: &str, to: &str| -> Result<()> {
            let mut copy = Command::new(setup::aws()?);
            process::run(copy.envs(&environment).args(["s3", "cp", "--no-progress", from, to]))
        };
        let bucket = format!("s3://{}/", bucket.trim());
        let line = format!("*** New thumbnail: file {VIDEO}.jpg.");
        // Lines of earlier demos stay in the log, so one more than there were is the one to wait for.
        let earlier = process::output(self.tandem().arg("logs"))?.matches(&line).count();
        aws(&video.display().to_string(), &bucket)?;
        process::timed("waiting for the thumbnail (tandem logs -f)", || self.follow_log(&line, earlier + 1))?;
        let thumbnail = self.folder.join(format!("{VIDEO}.jpg"));
        if thumbnail.exists() {
            fs::remove_file(&thumbnail)?;
        }
        aws(&format!("{bucket}{VIDEO}.jpg"), &thumbnail.display().to_string())?;
        Ok(thumbnail)
    }

    /// Shows the log as it grows until the line has come so many times.
    fn follow_log(&self, wanted: &str, times: usize) -> Result<()> {
        let mut follow = self.tandem();
        let mut log =
            follow.args(["logs", "-f"]).stdout(Stdio::piped()).spawn().context("cannot run tandem logs")?;
        let output = log.stdout.take().context("the log has no output")?;
        let (lines, received) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        let result = loop {
            match received.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    seen += usize::from(line.contains(wanted));
                    eprintln!("  {line}");
                    if seen == times {
                        break Ok(());
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break Err("the log ended"),
                Err(mpsc::RecvTimeoutError::Timeout) => break Err("no thumbnail came in three minutes"),
            }
        };
        log.kill().and_then(|()| log.wait()).context("cannot end tandem logs")?;
        result.map_err(|reason| anyhow::anyhow!("{reason}; `{wanted}` was not logged"))
    }

    fn say_what_next(&self, aws: &Path) {
        let folder = |program: &Path| program.parent().map(Path::to_owned).unwrap_or_default();
        let path = |p: &Path| p.display().to_string();
        println!("\nTo go on by hand:\n");
        println!("  export TANDEM_HOME={}", path(&self.home));
        println!("  export PATH={}:{}:$PATH", path(&folder(&self.tandem)), path(&folder(aws)));
        println!("  cd {}", path(&self.example));
        if !self.keep {
            println!(
                "  tandem serve --detach       # the demo has stopped its cloud; everything in it is kept"
            );
        }
        println!("  eval \"$(tandem env)\"        # for the AWS CLI and other stock clients");
        println!("  tandem ps                   # functions, workers, runs");
        println!("  tandem logs                 # what the functions and ffmpeg printed");
        println!("  tandem preview              # nothing to do, until you edit index.js");
        println!("  tandem destroy --force      # removes all of it, the objects too");
        println!("  tandem serve --stop");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if !self.keep && !process::succeeds(self.tandem().args(["serve", "--stop"])) {
            eprintln!(
                "the demo's cloud could not be stopped: TANDEM_HOME={} tandem serve --stop",
                self.home.display()
            );
        }
    }
}
