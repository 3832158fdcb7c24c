//! A cloud of a test's own, whose end is checked.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{Client, Log, PATIENCE, Project, Ran, binary, leaks::Trace, prepared};

/// A folder for one cloud. When it is dropped the cloud is stopped, and nothing of it may be left.
pub(crate) struct Cloud {
    binary: PathBuf,
    folder: TempDir,
    trace: Trace,
}

impl Cloud {
    pub(crate) fn new() -> Self {
        Self::new_in(&std::env::temp_dir())
    }

    /// One whose folder is made in this one.
    pub(crate) fn new_in(parent: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("tandem-e2e-").tempdir_in(parent).unwrap();
        let trace = Trace::of(&folder.path().join("home"));
        Self { binary: binary(), folder, trace }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Where a test may put what it likes; removed at the end.
    pub(crate) fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// `tandem` with this cloud's folder, and nothing else of our environment that it could listen to.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env("TANDEM_HOME", self.home()).current_dir(self.folder.path()).stdin(Stdio::null());
        let ours = std::env::vars_os().map(|(name, _)| name);
        for name in ours.filter(|n| {
            n.to_string_lossy().starts_with("AWS_") || n.to_string_lossy().starts_with("TANDEM_FAILPOINT")
        }) {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn tandem(&self, arguments: &[&str]) -> Ran {
        Ran::run(self.command().args(arguments))
    }

    /// Starts the cloud in the foreground and returns when it is ready.
    pub(crate) fn serve(&self) -> Serving {
        self.serve_with(&[])
    }

    /// Starts a cloud that kills itself at a failpoint (`name`, or `name@3` for the third time).
    pub(crate) fn serve_until(&self, failpoint: &str) -> Serving {
        self.serve_with(&[("TANDEM_FAILPOINT", failpoint)])
    }

    /// Starts the cloud with these variables in its environment.
    pub(crate) fn serve_with(&self, variables: &[(&str, &str)]) -> Serving {
        let mut command = self.command();
        command.arg("serve").stdout(Stdio::null()).stderr(Stdio::piped()).envs(variables.iter().copied());
        Serving::start(command)
    }

    pub(crate) fn project(&self, name: &str, files: &[(&str, &str)]) -> Project<'_> {
        Project::write(self, name, files)
    }

    /// Imports the small base image under `docker.io/library/busybox`.
    pub(crate) fn import_busybox(&self) {
        self.import("docker.io/library/busybox", "TANDEM_TEST_BUSYBOX_IMAGE");
    }

    /// Imports the examples' base image, which has Python and the AWS CLI, under `docker.io/jrottenberg/ffmpeg`.
    pub(crate) fn import_ffmpeg(&self) {
        self.import("docker.io/jrottenberg/ffmpeg", "TANDEM_TEST_FFMPEG_IMAGE");
    }

    /// Imports what folders without a Dockerfile are built on, as far as tests build such: for Python, Node, sites.
    pub(crate) fn import_conventional(&self) {
        self.import("docker.io/library/busybox:1", "TANDEM_TEST_BUSYBOX_IMAGE");
        for name in ["docker.io/library/python:3.13-slim", "docker.io/library/node:22-slim"] {
            self.import(name, "TANDEM_TEST_RUNTIMES_IMAGE");
        }
    }

    pub(crate) fn import(&self, name: &str, variable: &str) {
        self.tandem(&["image", "import", name, prepared(variable).to_str().unwrap()]).ok();
    }

    pub(crate) fn log(&self, project: &Project<'_>) -> Log {
        let mut follow = project.command();
        follow.args(["logs", "--follow", "--json"]);
        Log::follow(follow)
    }

    pub(crate) fn client(&self, project: &Project<'_>) -> Client {
        Client::new(project)
    }

    /// Remembers which control groups the processes of this cloud are in now, so that their end can be checked.
    pub(crate) fn observe(&self) {
        self.trace.observe();
    }

    /// The processes that belong to this cloud: the cloud, its workers, monitors, containers.
    pub(crate) fn processes(&self) -> Vec<String> {
        self.trace.processes()
    }

    /// The mounts under this cloud's folder.
    pub(crate) fn mounts(&self) -> Vec<String> {
        self.trace.mounts()
    }

    /// What a restart of the machine leaves: nothing that runs, no mount, no network and no rule of one. Call it when the cloud
    /// itself was killed.
    pub(crate) fn lose_all_but_the_disk(&self) {
        let bridges = self.networks();
        self.trace.kill_monitors_first();
        self.trace.clean();
        for bridge in bridges {
            let [second, third] = bridge.rsplit('-').take(2).collect::<Vec<_>>()[..] else {
                panic!("{bridge}")
            };
            let (subnet, table_of) = (format!("10.{third}.{second}."), ["nat", "filter"]);
            for table in table_of {
                let rules = Command::new("iptables").args(["-w", "-t", table, "-S"]).output().unwrap();
                let rules = String::from_utf8(rules.stdout).unwrap();
                for rule in rules.lines().filter(|rule| rule.contains(&subnet)) {
                    let words = rule.replacen("-A", "-D", 1).replace('"', "");
                    let done =
                        Command::new("iptables").args(["-w", "-t", table]).args(words.split(' ')).status();
                    assert!(done.unwrap().success(), "{rule}");
                }
            }
        }
    }

    /// The bridges of this cloud.
    pub(crate) fn networks(&self) -> Vec<String> {
        self.trace.networks()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let stopped = self.tandem(&["serve", "--stop"]);
        if thread::panicking() {
            // The first failure is the one to read; what is left is ended without a further check.
            let server = std::fs::read_to_string(self.home().join("serve.log")).unwrap_or_default();
            eprintln!("--- serve.log\n{server}---");
            self.trace.clean();
            return;
        }
        stopped.ok();
        self.trace.nothing_left();
    }
}

/// A running `tandem serve`.
pub(crate) struct Serving {
    pid: Pid,
    /// Its end, once it has come.
    ended: mpsc::Receiver<ExitStatus>,
}

impl Serving {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let stderr = child.stderr.take().unwrap();
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("[serve] {line}");
                if line.contains("ready at") {
                    let _ = ready.send(());
                }
            }
        });
        let (send, ended) = mpsc::channel();
        thread::spawn(move || send.send(child.wait().unwrap()));
        let serving = Self { pid, ended };
        // It may meet its failpoint while it starts; its end is an end of the waiting, too.
        let deadline = Instant::now() + PATIENCE;
        while is_ready.recv_timeout(Duration::from_millis(10)).is_err() {
            if kill(pid, None).is_err() {
                break;
            }
            assert!(Instant::now() < deadline, "the cloud is not ready after {PATIENCE:?}");
        }
        serving
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it has neither ended nor been killed.
    pub(crate) fn is_running(&self) -> bool {
        // A process that was killed and not yet waited for would still take signals.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
    }

    /// `kill -9`, and waits for its end.
    pub(crate) fn kill(self) {
        // It may be at its failpoint at this very moment.
        let _ = kill(self.pid, Signal::SIGKILL);
        self.ended.recv_timeout(PATIENCE).unwrap();
    }

    /// Ends it as a service supervisor does.
    pub(crate) fn terminate(self) -> ExitStatus {
        kill(self.pid, Signal::SIGTERM).unwrap();
        self.ended.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits for its end, which somebody else has asked for.
    pub(crate) fn ended(self) -> ExitStatus {
        self.ended.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits until it has killed itself at its failpoint.
    #[track_caller]
    pub(crate) fn died(self, failpoint: &str) {
        let status = self.ended.recv_timeout(PATIENCE);
        let status = status.unwrap_or_else(|_| panic!("the cloud did not meet {failpoint}"));
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{failpoint} was not met, but: {status}");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Unless a test has ended it; its number cannot be another's, for it was waited for only then.
        if self.ended.try_recv() == Err(mpsc::TryRecvError::Empty) {
            let _ = kill(self.pid, Signal::SIGTERM);
            let _ = self.ended.recv_timeout(PATIENCE);
        }
    }
}
