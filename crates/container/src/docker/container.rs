//! Starts containers and says how they stand.

use std::{fs, pin::pin, time::Duration};

use async_trait::async_trait;
use bollard::{
    container::AttachContainerResults,
    models::{ContainerState, ContainerStateStatusEnum as Status},
    query_parameters::{
        AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions,
        KillContainerOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
        StatsOptionsBuilder,
    },
};
use futures::StreamExt;
use jiff::Timestamp;
use tandem_failpoint::hit;
use tandem_model::ByteSize;
use tokio::{
    io::AsyncWriteExt as _,
    task::{JoinHandle, spawn_blocking},
};

use super::{
    Docker,
    bundle::{self, Bundle},
    create,
    engine::{status, words},
    follow::AGAIN,
};
use crate::{
    Container, ContainerError, ContainerId, Exit, Networking, Runtime, Spec, Started, exchange::Left,
    runtime::exchange, tool,
};

/// How long a start waits for the engine to take the container's event. It takes the rest while the container reads.
const BEFORE_THE_START: Duration = Duration::from_millis(200);
/// How the engine writes the time of what has not happened.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What files and engine say together.
enum Verdict {
    Absent,
    Unstarted,
    Running,
    Exited(Exit),
}

/// How a container ended, if the engine says that it has.
pub(super) fn exit_of(state: &ContainerState) -> Option<Exit> {
    if !matches!(state.status, Some(Status::EXITED | Status::DEAD)) {
        return None;
    }
    let code = state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
    Some(match state.finished_at.as_deref() {
        // The engine found it gone, with the machine or with the engine itself.
        None | Some(NEVER) => Exit::Lost { full: false },
        // A container that the kernel killed in and that still ended well has done what it was asked.
        Some(_) if code != 0 && state.oom_killed == Some(true) => Exit::OutOfMemory { code },
        Some(_) => Exit::Code { code },
    })
}

impl Docker {
    fn bundle(&self, id: &ContainerId) -> Result<Bundle, ContainerError> {
        Bundle::of(&self.layout, id)
    }

    async fn state(&self, bundle: &Bundle) -> Result<Option<ContainerState>, ContainerError> {
        let client = self.engine.client().await?;
        match client.inspect_container(&bundle.name(), None::<InspectContainerOptions>).await {
            Ok(found) => Ok(Some(found.state.unwrap_or_default())),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.engine.failed(error)),
        }
    }

    /// Says how a container stands. One that has ended has its whole log then.
    async fn judge(&self, bundle: &Bundle) -> Result<Verdict, ContainerError> {
        let settled = bundle.clone();
        if !spawn_blocking(move || settled.settle()).await.map_err(tool::broken)?? {
            return Ok(Verdict::Absent);
        }
        loop {
            if let Some(exit) = bundle.exit() {
                return Ok(Verdict::Exited(exit));
            }
            let state = self.state(bundle).await?;
            match state.as_ref().and_then(|state| state.status) {
                // Nobody but us writes the exit; so it ended while we asked, or was taken away.
                None if bundle.exit().is_some() => {}
                None if !bundle.folder.exists() => return Ok(Verdict::Absent),
                None if bundle.is_begun() => return Ok(Verdict::Exited(Exit::Lost { full: false })),
                None | Some(Status::CREATED) => return Ok(Verdict::Unstarted),
                Some(Status::EXITED | Status::DEAD) => {
                    let mut following = self.follow(bundle);
                    while following.changed().await.is_ok() {}
                }
                Some(_) => {
                    self.follow(bundle);
                    return Ok(Verdict::Running);
                }
            }
        }
    }

    /// Everything of a start. Runs to its end even if nobody waits for it any more, so that no half is left.
    async fn start_to_the_end(self, id: ContainerId, spec: Spec) -> Result<Started, ContainerError> {
        let bundle = self.bundle(&id)?;
        let begun = bundle.clone();
        let given = spec.exchange.clone();
        let lock = spawn_blocking(move || {
            let lock = begun.begin()?;
            if let Some(given) = given {
                exchange::prepare(&begun.folder, &given)?;
            }
            Ok::<_, ContainerError>(lock)
        });
        let lock = lock.await.map_err(tool::broken)??;
        let started = self.launch(&bundle, &spec).await;
        if let Err(error) = &started {
            // A name that is somebody else's stays.
            let ours = error.to_string() != bundle.taken().to_string();
            // The cause is what the caller must hear; what could not be cleared is still listed, and can be removed.
            if let Err(left) = self.clear(&bundle, ours).await {
                tracing::warn!(container = %id.0, error = %left, "a failed start left something behind");
            }
            if fs::metadata(&bundle.log).is_ok_and(|meta| meta.len() == 0) {
                let _ = fs::remove_file(&bundle.log);
            }
        }
        drop(lock);
        if started.is_ok() {
            self.follow(&bundle);
        }
        started
    }

    async fn launch(&self, bundle: &Bundle, spec: &Spec) -> Result<Started, ContainerError> {
        hit("docker.start.prepared");
        let client = self.engine.client().await?;
        let image = client.inspect_image(&spec.image).await.map_err(|error| match status(&error) {
            Some(404 | 400) => ContainerError::NoImage {
                image: spec.image.clone(),
                reason: "it is not in the image store".into(),
            },
            _ => self.engine.failed(error),
        })?;
        let body = create::body(bundle, spec, &image.config.unwrap_or_default(), &self.label())?;
        // Nobody takes the network down between its making and the start.
        let _stays = match &spec.network {
            Some(Networking::Own(network)) => {
                let stays = self.networks.read().await;
                bundle.write_network(&super::network::name(network))?;
                self.make_network(network).await?;
                Some(stays)
            }
            _ => None,
        };
        let options = CreateContainerOptionsBuilder::new().name(&bundle.name()).build();
        client.create_container(Some(options), body).await.map_err(|error| match status(&error) {
            Some(409) => bundle.taken(),
            _ => self.refused(error),
        })?;
        let mounted = Timestamp::now();
        hit("docker.start.created");
        let feeding = match spec.exchange.as_ref().and_then(|given| given.event.clone()) {
            Some(event) => Some(self.feed(bundle, event).await?),
            None => None,
        };
        bundle.mark_begun()?;
        let started = client.start_container(&bundle.name(), None::<StartContainerOptions>).await;
        if let (Err(_), Some(feeding)) = (&started, feeding) {
            feeding.abort();
        }
        started.map_err(|error| self.refused(error))?;
        hit("docker.start.started");
        let created = Timestamp::now();
        let state = self.state(bundle).await?;
        let pid = state.and_then(|state| state.pid).and_then(|pid| i32::try_from(pid).ok());
        Ok(Started { pid: pid.unwrap_or(0), mounted, created })
    }

    /// Hands an event to a container that is not started yet, on its standard input.
    ///
    /// What the engine has of it when we are killed, the container gets, and then the end: all of it, unless it is larger than
    /// what a socket holds (some 200 KiB) and the container did not read it by then. Its file is whole in any case.
    async fn feed(&self, bundle: &Bundle, event: String) -> Result<JoinHandle<()>, ContainerError> {
        let options = AttachContainerOptionsBuilder::new().stdin(true).stream(true).build();
        let client = self.engine.client().await?;
        let attached = client.attach_container(&bundle.name(), Some(options)).await;
        let AttachContainerResults { mut input, output } = attached.map_err(|error| self.refused(error))?;
        let name = bundle.name();
        let (whole, fed) = tokio::sync::oneshot::channel();
        let feeding = tokio::spawn(async move {
            let fed = async {
                input.write_all(format!("{event}\n").as_bytes()).await?;
                input.flush().await?;
                input.shutdown().await
            };
            if let Err(error) = fed.await {
                tracing::debug!(container = name, %error, "a container did not read its event");
            }
            let _ = whole.send(());
            drop(output);
        });
        // Most are in the engine's hands before the command begins.
        let _ = tokio::time::timeout(BEFORE_THE_START, fed).await;
        Ok(feeding)
    }

    /// Why the engine does not start it.
    fn refused(&self, error: bollard::errors::Error) -> ContainerError {
        match &error {
            bollard::errors::Error::DockerResponseServerError { message, .. } => {
                let said = words(message);
                if said.contains("storage-opt") {
                    return ContainerError::Beyond {
                        what: "bound what a container writes, on this engine's disk",
                    };
                }
                let nobody = said.strip_prefix("unable to find user ").and_then(|rest| rest.split_once(':'));
                let reason = match nobody {
                    Some((user, _)) => format!("the image has no user `{user}`"),
                    None => said,
                };
                ContainerError::Start { reason }
            }
            _ => self.engine.failed(error),
        }
    }

    /// Removes all there is of a container but its log. Each part may be gone already.
    async fn clear(&self, bundle: &Bundle, ours: bool) -> Result<(), ContainerError> {
        if ours {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            match self.engine.client().await?.remove_container(&bundle.name(), Some(options)).await {
                Ok(()) => {}
                Err(error) if status(&error) == Some(404) => {}
                Err(error) => return Err(self.engine.failed(error)),
            }
            hit("docker.remove.removed");
            if let Some(network) = bundle.network() {
                self.leave_network(&network).await?;
            }
        }
        let bundle = bundle.clone();
        spawn_blocking(move || bundle.clear()).await.map_err(tool::broken)?
    }

    async fn kill(&self, bundle: &Bundle, signal: i32) -> Result<(), ContainerError> {
        let options = KillContainerOptionsBuilder::new().signal(&signal.to_string()).build();
        match self.engine.client().await?.kill_container(&bundle.name(), Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) if matches!(status(&error), Some(404 | 409)) => {
                Err(ContainerError::Absent(bundle.id.clone()))
            }
            Err(error) => Err(self.engine.failed(error)),
        }
    }

    /// Signals each process in the pid namespace of the container's main process: the engine does so for the main one only.
    async fn signal_all(&self, bundle: &Bundle, signal: i32) -> Result<(), ContainerError> {
        let absent = || ContainerError::Absent(bundle.id.clone());
        let pid = self.state(bundle).await?.and_then(|state| state.pid).filter(|pid| *pid > 0);
        let pid = pid.ok_or_else(absent)?;
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let theirs = namespace(&pid.to_string()).filter(|theirs| Some(theirs) != namespace("self").as_ref());
        let Some(theirs) = theirs else { return self.kill(bundle, signal).await };
        let signal = nix::sys::signal::Signal::try_from(signal)
            .map_err(|errno| ContainerError::Tool { tool: "kill", reason: errno.to_string() })?;
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name();
            if let Some(one) = name.to_str().and_then(|name| name.parse().ok())
                && namespace(&name.to_string_lossy()).as_ref() == Some(&theirs)
            {
                // It may have ended since.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(one), signal);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Runtime for Docker {
    async fn start(&self, id: &ContainerId, spec: &Spec) -> Result<Started, ContainerError> {
        let work = self.clone().start_to_the_end(id.clone(), spec.clone());
        tokio::spawn(work).await.map_err(|error| ContainerError::Start { reason: error.to_string() })?
    }

    async fn wait(&self, id: &ContainerId) -> Result<Exit, ContainerError> {
        let bundle = self.bundle(id)?;
        loop {
            match self.judge(&bundle).await {
                // It is back some time, and then says what became of the container.
                Err(ContainerError::NoEngine { .. }) if bundle.is_begun() => tokio::time::sleep(AGAIN).await,
                Err(error) => return Err(error),
                Ok(Verdict::Absent | Verdict::Unstarted) => return Err(ContainerError::Absent(id.clone())),
                Ok(Verdict::Exited(exit)) => return Ok(exit),
                Ok(Verdict::Running) => {
                    let mut following = self.follow(&bundle);
                    while following.changed().await.is_ok() {}
                }
            }
        }
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Container, ContainerError> {
        Ok(match self.judge(&self.bundle(id)?).await? {
            Verdict::Absent => Container::Absent,
            Verdict::Unstarted => Container::Unstarted,
            Verdict::Running => Container::Running,
            Verdict::Exited(exit) => Container::Exited(exit),
        })
    }

    async fn signal(&self, id: &ContainerId, signal: i32, all: bool) -> Result<(), ContainerError> {
        let bundle = self.bundle(id)?;
        if bundle.exit().is_some() || !bundle.folder.exists() {
            return Err(ContainerError::Absent(id.clone()));
        }
        // With the first process of a pid namespace the kernel ends the others.
        if all && signal != libc::SIGKILL {
            return self.signal_all(&bundle, signal).await;
        }
        self.kill(&bundle, signal).await
    }

    async fn result(&self, id: &ContainerId, limit: ByteSize) -> Result<Left, ContainerError> {
        let bundle = self.bundle(id)?;
        spawn_blocking(move || exchange::left(&bundle.folder, limit)).await.map_err(tool::broken)?
    }

    async fn cpu_time(&self, id: &ContainerId) -> Result<Duration, ContainerError> {
        let bundle = self.bundle(id)?;
        let absent = || ContainerError::Absent(id.clone());
        if !bundle.folder.exists() {
            return Err(absent());
        }
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let client = self.engine.client().await?;
        let told = pin!(client.stats(&bundle.name(), Some(options))).next().await;
        let told = match told {
            Some(Err(error)) if status(&error) == Some(404) => return Err(absent()),
            Some(told) => told.map_err(|error| self.engine.failed(error))?,
            None => return Err(absent()),
        };
        let used = told.cpu_stats.and_then(|cpu| cpu.cpu_usage).and_then(|usage| usage.total_usage);
        Ok(Duration::from_nanos(used.unwrap_or(0)))
    }

    fn log_file(&self, id: &ContainerId) -> std::path::PathBuf {
        self.layout.log(id)
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let bundle = self.bundle(id)?;
        match self.judge(&bundle).await? {
            Verdict::Absent => {
                return spawn_blocking(move || bundle.clear()).await.map_err(tool::broken)?;
            }
            // What never ran must not look as if it had, should we be killed in the middle.
            Verdict::Unstarted => bundle.unmark_begun()?,
            Verdict::Running => {
                match self.kill(&bundle, libc::SIGKILL).await {
                    Ok(()) | Err(ContainerError::Absent(_)) => {}
                    Err(error) => return Err(error),
                }
                // It has its whole log then.
                self.wait(id).await?;
            }
            Verdict::Exited(_) => {}
        }
        self.clear(&bundle, true).await
    }

    async fn list(&self) -> Result<Vec<ContainerId>, ContainerError> {
        let layout = self.layout.clone();
        spawn_blocking(move || bundle::list(&layout)).await.map_err(tool::broken)?
    }
}
