//! A Docker engine of a test's or a benchmark's own: with images, containers and networks that nobody else sees, and gone
//! with it. Whatever engine the machine has is left alone.

use std::{
    env, fs, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Names the folder with the engine's programs, laid out as its packages are. `cargo xtask test` sets it.
pub const PROGRAMS: &str = "TANDEM_TEST_DOCKERD";
/// Says why there is no such folder, in place of [`PROGRAMS`].
pub const NONE: &str = "TANDEM_TEST_NO_DOCKERD";

/// How long an engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running engine. Ends with this value, and all that it runs with it.
#[derive(Debug)]
pub struct OwnEngine {
    programs: PathBuf,
    folder: tempfile::TempDir,
    process: Option<Child>,
}

impl OwnEngine {
    /// Starts one for a test. `None` if whoever set the tests up found that none can run here.
    ///
    /// # Panics
    /// If nobody set anything up, or if it does not start.
    #[must_use]
    #[expect(clippy::print_stderr, reason = "a test that is skipped must be seen to be")]
    pub fn for_test() -> Option<Self> {
        if let Some(programs) = env::var_os(PROGRAMS) {
            return Some(
                Self::start(Path::new(&programs)).expect("the engine starts, as it did when it was set up"),
            );
        }
        let reason = env::var(NONE).expect("these tests are run by `cargo xtask test`");
        eprintln!("SKIPPED: no Docker engine runs here: {reason}");
        None
    }

    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// What it said, if it ended or does not answer.
    pub fn start(programs: &Path) -> io::Result<Self> {
        // A short path: a socket's has at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("tandem-engine-").tempdir()?;
        let mut engine = Self { programs: programs.to_owned(), folder, process: None };
        engine.run()?;
        Ok(engine)
    }

    fn run(&mut self) -> io::Result<()> {
        let folder = self.folder.path();
        let log = fs::File::options().append(true).create(true).open(folder.join("log"))?;
        let mut command = self.program("usr/sbin/dockerd");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.arg("--data-root").arg(folder.join("data")).arg("--exec-root").arg(folder.join("run"));
        command.arg("--pidfile").arg(folder.join("pid")).arg("--host").arg(self.host());
        // It changes nothing of the machine's network but for the bridges it is asked for.
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]);
        command.arg("--userland-proxy=false");
        // Control groups under a name of its own, which can go with it.
        command.args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent"]).arg(self.group());
        let process = self.process.insert(command.spawn()?);
        let begun = Instant::now();
        while !answers(&folder.join("docker.sock")) {
            if process.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                let said = fs::read_to_string(folder.join("log")).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                return Err(io::Error::other(format!("the engine does not start: {}", last.join("\n"))));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// One of the engine's programs, with the others on its path.
    #[must_use]
    pub fn program(&self, path: &str) -> Command {
        let mut command = Command::new(self.programs.join(path));
        let inherited = env::var_os("PATH").unwrap_or_default();
        let own = ["usr/sbin", "usr/bin"].map(|folder| self.programs.join(folder));
        // A runtime and `iptables` are the machine's, where not every user looks.
        let further = ["/usr/sbin", "/sbin"].map(PathBuf::from);
        let all = own.into_iter().chain(env::split_paths(&inherited)).chain(further);
        if let Ok(path) = env::join_paths(all) {
            command.env("PATH", path);
        }
        let libraries = format!("lib/{}-linux-gnu", env::consts::ARCH);
        let libraries = [self.programs.join(&libraries), self.programs.join("usr").join(&libraries)];
        if let Ok(path) = env::join_paths(libraries) {
            command.env("LD_LIBRARY_PATH", path);
        }
        command
    }

    /// The stock client, which talks to this engine and keeps what it notes in this engine's folder.
    #[must_use]
    pub fn client(&self) -> Command {
        let mut command = self.program("usr/bin/docker");
        command.env("DOCKER_HOST", self.host()).env("DOCKER_CONFIG", self.folder.path().join("client"));
        command.env("DOCKER_BUILDKIT", "0");
        command
    }

    /// `unix:///…/docker.sock`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    /// Ends it and starts it again where it was.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn again(&mut self) -> io::Result<()> {
        self.stop();
        self.run()
    }

    /// Ends it as it wants to end, with its containers, and takes away what it leaves on the machine: the mount of a network
    /// namespace, and empty control groups.
    fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let _ = Command::new("kill").arg(process.id().to_string()).status();
        let _ = process.wait();
        let namespace = self.folder.path().join("run/netns/default");
        if namespace.exists() {
            let _ = Command::new("umount").arg(namespace).stderr(Stdio::null()).status();
        }
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([root.to_owned()]) {
            let _ = fs::remove_dir(hierarchy.join(self.group().trim_start_matches('/')));
        }
    }

    fn group(&self) -> String {
        format!("/{}", self.folder.path().file_name().unwrap_or_default().to_string_lossy())
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether somebody serves at this socket: the engine makes it before it can answer, and keeps callers waiting then.
fn answers(socket: &Path) -> bool {
    use io::{Read, Write};
    let Ok(mut stream) = UnixStream::connect(socket) else { return false };
    let asked = stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n");
    let mut answer = String::new();
    asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains("200 OK")
}
