//! A runtime for tests that need no root: each container is a plain process under a shell as its monitor.
//!
//! It keeps the promises of the port that these tests are about: the monitor outlives whoever started it, holds a lock
//! while it lives, and writes the exit code after the log is complete. It isolates nothing.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tandem_container::{
    Container, ContainerError, ContainerId, Exit, Runtime, Spec, Started,
    exchange::{INPUT, Left, RESULT},
};
use tandem_model::ByteSize;

/// `$0` is the container's folder, `$1` its log, the rest the command. The process id goes to stdout.
const MONITOR: &str = r#"
folder=$0; log=$1; shift
exec 9>"$folder/lock"; flock 9
exec 3>&1 1>/dev/null
stamp() {
    while IFS= read -r line; do
        printf '%s stdout F %s\n' "$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)" "$line"
    done
}
mkfifo "$folder/output"
# Both ends are opened here: what is killed before it could open its own would leave the other one waiting.
exec 4<>"$folder/output" 5<"$folder/output" 6>"$folder/output" 4>&-
( exec 3>&- 6>&- 9>&-; stamp ) <&5 >>"$log" & logger=$!
( exec 3>&- 5<&- 9>&-; exec setsid "$@" ) >&6 2>&1 & pid=$!
exec 5<&- 6>&-
echo $pid >"$folder/pid"
echo $pid >&3; exec 3>&-
wait $pid; code=$?
# A container ends with its first process.
kill -9 -$pid 2>/dev/null
wait $logger
echo $code >"$folder/code"
mv "$folder/code" "$folder/exit"
"#;

#[derive(Debug, Clone)]
pub(super) struct Processes {
    root: PathBuf,
}

impl Processes {
    pub(super) fn new(root: &Path) -> Self {
        fs::create_dir_all(root.join("logs")).unwrap();
        fs::create_dir_all(root.join("bundles")).unwrap();
        Self { root: root.to_owned() }
    }

    fn folder(&self, id: &ContainerId) -> PathBuf {
        self.root.join("bundles").join(&id.0)
    }

    fn pid(&self, id: &ContainerId) -> Option<i32> {
        fs::read_to_string(self.folder(id).join("pid")).ok()?.trim().parse().ok()
    }

    /// Kills the monitor, and with it all that could tell how the container ends.
    pub(super) fn kill_monitor(&self, id: &ContainerId) {
        let monitor: i32 = fs::read_to_string(self.folder(id).join("monitor")).unwrap().parse().unwrap();
        kill(Pid::from_raw(-monitor), Signal::SIGKILL).unwrap();
        // It may not have become a group of its own yet; then it has just died with the monitor's.
        let _ = kill(Pid::from_raw(-self.pid(id).unwrap()), Signal::SIGKILL);
    }

    fn exit(&self, id: &ContainerId) -> Exit {
        let folder = self.folder(id);
        let code = fs::read_to_string(folder.join("exit")).ok().and_then(|text| text.trim().parse().ok());
        match code {
            Some(code) if folder.join("oom").exists() => Exit::OutOfMemory { code },
            Some(code) => Exit::Code { code },
            None => Exit::Lost { full: false },
        }
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> ContainerError {
    let path = path.to_owned();
    |source| ContainerError::Io { path, source }
}

#[async_trait]
impl Runtime for Processes {
    async fn start(&self, id: &ContainerId, spec: &Spec) -> Result<Started, ContainerError> {
        if spec.args[0].starts_with("/missing") {
            return Err(ContainerError::Start { reason: format!("exec {}: no such file", spec.args[0]) });
        }
        let folder = self.folder(id);
        let mounted = Timestamp::now();
        fs::create_dir(&folder).map_err(io(&folder))?;
        let input = spec.exchange.as_ref().and_then(|given| given.input.as_ref());
        if let Some(input) = input {
            fs::write(folder.join("input.json"), input).map_err(io(&folder))?;
        }
        let mut monitor = Command::new("setsid")
            .args(["sh", "-c", MONITOR])
            .arg(&folder)
            .arg(self.log_file(id))
            .args(&spec.args)
            .env_clear()
            .envs(&spec.environment)
            .env("CONTAINER", &folder)
            .envs(spec.exchange.iter().map(|_| (RESULT, folder.join("result.json"))))
            .envs(input.map(|_| (INPUT, folder.join("input.json"))))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(io(&folder))?;
        fs::write(folder.join("monitor"), monitor.id().to_string()).unwrap();
        let mut pid = String::new();
        BufReader::new(monitor.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        // Reaped in the background: nobody here waits for a monitor.
        std::thread::spawn(move || monitor.wait());
        let created = Timestamp::now();
        Ok(Started { pid: pid.trim().parse().unwrap(), mounted, created })
    }

    async fn wait(&self, id: &ContainerId) -> Result<Exit, ContainerError> {
        let lock = self.folder(id).join("lock");
        let Ok(lock) = File::open(&lock) else { return Err(ContainerError::Absent(id.clone())) };
        let (done, freed) = tokio::sync::oneshot::channel();
        // Not a blocking task of tokio's: one that waits for ever would keep the test from ending.
        std::thread::spawn(move || {
            // Shared: who waits must not look like the monitor to who inspects.
            lock.lock_shared().unwrap();
            let _ = done.send(());
        });
        freed.await.unwrap();
        Ok(self.exit(id))
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Container, ContainerError> {
        if !self.folder(id).exists() {
            return Ok(Container::Absent);
        }
        let lock = OpenOptions::new().read(true).open(self.folder(id).join("lock"));
        Ok(match (lock, self.pid(id)) {
            (Ok(lock), Some(_)) if lock.try_lock_shared().is_err() => Container::Running,
            (_, Some(_)) => Container::Exited(self.exit(id)),
            (_, None) => Container::Unstarted,
        })
    }

    async fn signal(&self, id: &ContainerId, signal: i32, all: bool) -> Result<(), ContainerError> {
        let pid = self.pid(id).ok_or_else(|| ContainerError::Absent(id.clone()))?;
        let whom = Pid::from_raw(if all { -pid } else { pid });
        kill(whom, Signal::try_from(signal).unwrap()).map_err(|_| ContainerError::Absent(id.clone()))
    }

    async fn cpu_time(&self, id: &ContainerId) -> Result<Duration, ContainerError> {
        let absent = || ContainerError::Absent(id.clone());
        let pid = self.pid(id).ok_or_else(absent)?;
        // Nanoseconds, and more that is not asked for.
        let told = fs::read_to_string(format!("/proc/{pid}/schedstat")).map_err(|_| absent())?;
        Ok(Duration::from_nanos(told.split(' ').next().unwrap().parse().unwrap()))
    }

    async fn result(&self, id: &ContainerId, limit: ByteSize) -> Result<Left, ContainerError> {
        Ok(match fs::read(self.folder(id).join("result.json")) {
            Ok(bytes) if bytes.len() as u64 > limit.bytes() => {
                Left::TooLarge { size: ByteSize(bytes.len() as u64) }
            }
            Ok(bytes) => Left::Bytes(bytes),
            Err(_) => Left::Nothing,
        })
    }

    fn log_file(&self, id: &ContainerId) -> PathBuf {
        self.root.join("logs").join(format!("{}.log", id.0))
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerError> {
        match fs::remove_dir_all(self.folder(id)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(&self.folder(id))(error)),
            _ => Ok(()),
        }
    }

    async fn list(&self) -> Result<Vec<ContainerId>, ContainerError> {
        let bundles = self.root.join("bundles");
        let entries = fs::read_dir(&bundles).map_err(io(&bundles))?;
        Ok(entries.map(|entry| ContainerId(entry.unwrap().file_name().into_string().unwrap())).collect())
    }
}
