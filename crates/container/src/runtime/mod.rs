//! Containers by an OCI runtime (`crun`, `runc`, …), each under a monitor of its own (`conmon`).
//!
//! # Who knows what
//!
//! Nothing about a container is kept in this process. Everything is read from files that `conmon` and the runtime
//! write, so any process that opens the same folder finds the same truth:
//!
//! | file | written by | what it proves |
//! |---|---|---|
//! | `bundles/<id>/` | us, first | somebody began to start `<id>`; its `image` file keeps that image from removal |
//! | `bundles/<id>/starting` | us; locked by who starts, and by the runtime's `start` | while locked, a start is under way |
//! | `bundles/<id>/monitor` | us; locked by who starts, inherited by the monitor | while locked, there is a starter or a monitor |
//! | `bundles/<id>/conmon.pid` | `conmon` | which process the monitor is |
//! | `bundles/<id>/network.json`, `netns` | us | the container may be connected: see [`network`] |
//! | `bundles/<id>/begun` | us, once the monitor is there and before the runtime's `start` | absent: the command was never executed |
//! | `exits/<id>` | `conmon`, after the log is on disk | **the commit**: it ended, with this code |
//! | `bundles/<id>/persist/oom` | `conmon` | the kernel killed for memory; the cgroup's own counter says so too |
//!
//! # What a restart finds
//!
//! | killed after | failpoint | found | then |
//! |---|---|---|---|
//! | the bundle was written | `container.start.prepared` | no monitor, not begun | `Unstarted`: remove, start again |
//! | its own disk was mounted, if it has one | `container.start.disk` | the same; `remove` unmounts | `Unstarted` |
//! | the root file system was mounted | `container.start.mounted` | the same; `remove` unmounts | `Unstarted` |
//! | the network was made | `container.start.connected` | the same; `remove` takes it down | `Unstarted` |
//! | `conmon` was started | `container.start.monitored` | a monitor, not begun | `Unstarted`; `remove` ends monitor and process |
//! | `begun` was written | `container.start.begun` | a monitor; the runtime says `created` | `Unstarted` |
//! | the command runs | `container.start.started` | a monitor; the runtime says `running` | `Running`; `wait` follows the monitor |
//! | the container ended while nobody looked | | the exit file | `Exited` with its code |
//! | the monitor was killed, or the machine stopped | | begun, no monitor, no exit file | `Exited(Lost)` |
//! | `remove` had begun | `container.remove.*` | what is left | `list` has it; `remove` goes on |
//!
//! Invariant I3: an id whose command may have been executed is never called `Unstarted`.
//!
//! Start reading at [`OciRuntime::start`] in this file; [`bundle`] judges, [`monitor`] speaks with `conmon`,
//! [`spec`] writes the OCI configuration, [`rootfs`] mounts.

mod bundle;
mod cgroup;
mod disk;
pub(crate) mod exchange;
mod monitor;
mod network;
mod program;
mod rootfs;
mod scope;
pub(crate) mod seccomp;
pub(crate) mod spec;
mod user;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tandem_failpoint::hit;
use tandem_model::ByteSize;
use tokio::task::spawn_blocking;

use crate::{
    Container, ContainerError, ContainerId, Exit, Runtime, Spec, Started,
    exchange::Left,
    layout::{Layout, at},
    prepared, tool,
};
use bundle::{Bundle, Verdict};
use program::Programs;

/// Runs containers by an OCI runtime under `conmon`.
#[derive(Debug, Clone)]
pub struct OciRuntime {
    layout: Layout,
    /// The runtime asked for by name; otherwise the first that works.
    wanted: Option<String>,
    programs: Arc<Programs>,
}

impl OciRuntime {
    /// Opens the containers under `folder` (`<home>/containers`), which the image store shares.
    ///
    /// Touches nothing and looks for no program yet: that happens at the first start. `runtime` names an OCI runtime
    /// (`runc`, `crun`, or a path); without it the first of `crun` and `runc` that works here is taken.
    #[must_use]
    pub fn open(folder: &Path, runtime: Option<&str>) -> Arc<dyn Runtime> {
        Arc::new(Self {
            layout: Layout::new(folder),
            wanted: runtime.map(str::to_owned),
            programs: Arc::default(),
        })
    }

    fn programs(&self) -> Result<&program::Found, ContainerError> {
        self.programs.find(self.wanted.as_deref())
    }

    fn bundle(&self, id: &ContainerId) -> Result<Bundle, ContainerError> {
        Bundle::of(&self.layout, id)
    }

    /// Everything of a start. Runs to its end even if nobody waits for it any more, so that no half is left.
    async fn start_to_the_end(self, id: ContainerId, spec: Spec) -> Result<Started, ContainerError> {
        if !tool::is_root() {
            return Err(ContainerError::Start { reason: "this needs root".into() });
        }
        let found = self.programs()?.clone();
        let bundle = self.bundle(&id)?;
        let layout = self.layout.clone();
        let (prepared, locks) = {
            let bundle = bundle.clone();
            blocking(move || {
                for folder in [layout.bundles(), layout.exits(), layout.logs(), layout.runtime_state()] {
                    fs::create_dir_all(&folder).map_err(at(folder))?;
                }
                let held = prepared::hold(&layout, &spec.image)?;
                let locks = bundle.begin(&held.prepared.image.digest)?;
                let done = bundle.prepare(&spec, &held.prepared).map(|()| Timestamp::now());
                Ok((done, locks))
            })
            .await?
        };
        let started = match prepared {
            Ok(mounted) => self.launch(&found, &bundle, &locks, mounted).await,
            Err(error) => Err(error),
        };
        drop(locks);
        if started.is_err() {
            // The cause is what the caller must hear; what could not be cleared is still listed, and can be removed.
            if let Err(left) = self.clear(&found, &bundle).await {
                tracing::warn!(container = %id.0, error = %left, "a failed start left something behind");
            }
            let log = bundle.log.clone();
            if fs::metadata(&log).is_ok_and(|meta| meta.len() == 0) {
                let _ = fs::remove_file(log);
            }
        }
        started
    }

    async fn launch(
        &self,
        found: &program::Found,
        bundle: &Bundle,
        locks: &bundle::Locks,
        mounted: Timestamp,
    ) -> Result<Started, ContainerError> {
        let pid = monitor::launch(found, bundle, &locks.monitor, &self.layout).await?;
        let created = Timestamp::now();
        hit("container.start.monitored");
        bundle.mark_begun()?;
        hit("container.start.begun");
        let mut command = found.runtime_command(&self.layout);
        command.arg("start").arg(&bundle.id.0);
        crate::descriptor::inherit(&mut command, vec![locks.starting.clone()]);
        tool::output("the OCI runtime", &mut command).await.map_err(|error| match error {
            ContainerError::Tool { reason, .. } => ContainerError::Start { reason },
            other => other,
        })?;
        hit("container.start.started");
        Ok(Started { pid, mounted, created })
    }

    /// Removes all there is of a container but its log. Each part may be gone already.
    async fn clear(&self, found: &program::Found, bundle: &Bundle) -> Result<(), ContainerError> {
        // Without its monitor nobody writes an exit code for what we end here; and a runtime that is creating the
        // container at this moment goes with it.
        if !bundle.exit_file.exists()
            && let Some(monitor) = monitor::find(bundle)?
        {
            monitor.kill_group();
            monitor.ended().await?;
        }
        if self.layout.runtime_state().join(&bundle.id.0).exists() {
            let mut command = found.runtime_command(&self.layout);
            command.args(["delete", "--force"]).arg(&bundle.id.0);
            tool::output("the OCI runtime", &mut command).await?;
        }
        hit("container.remove.deleted");
        let bundle = bundle.clone();
        blocking(move || bundle.clear()).await
    }

    async fn judge(&self, bundle: &Bundle) -> Result<Verdict, ContainerError> {
        let judged = bundle.clone();
        let verdict = blocking(move || judged.judge()).await?;
        // Begun and monitored: only the runtime knows whether the command was let go.
        if let Verdict::Begun(_) = verdict
            && self.runtime_says(&bundle.id).await? == "created"
        {
            return match bundle.exit() {
                Some(exit) => Ok(Verdict::Exited(exit)),
                None => Ok(Verdict::Unstarted),
            };
        }
        Ok(verdict)
    }

    /// The runtime's status of a container: `created`, `running`, `stopped`, or empty if it does not know it.
    async fn runtime_says(&self, id: &ContainerId) -> Result<String, ContainerError> {
        #[derive(serde::Deserialize)]
        struct State {
            status: String,
        }
        let mut command = self.programs()?.runtime_command(&self.layout);
        command.arg("state").arg(&id.0);
        match tool::output("the OCI runtime", &mut command).await {
            Ok(text) => serde_json::from_str(&text).map(|state: State| state.status).map_err(|error| {
                ContainerError::Tool {
                    tool: "the OCI runtime",
                    reason: format!("its state is unreadable: {error}"),
                }
            }),
            Err(ContainerError::Tool { reason, .. }) if program::says_it_is_unknown(&reason) => {
                Ok(String::new())
            }
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Runtime for OciRuntime {
    async fn start(&self, id: &ContainerId, spec: &Spec) -> Result<Started, ContainerError> {
        let work = self.clone().start_to_the_end(id.clone(), spec.clone());
        tokio::spawn(work).await.map_err(|error| ContainerError::Start { reason: error.to_string() })?
    }

    async fn wait(&self, id: &ContainerId) -> Result<Exit, ContainerError> {
        let bundle = self.bundle(id)?;
        loop {
            match self.judge(&bundle).await? {
                Verdict::Absent | Verdict::Unstarted => return Err(ContainerError::Absent(id.clone())),
                Verdict::Exited(exit) => return Ok(exit),
                Verdict::Begun(monitor) => monitor.ended().await?,
            }
        }
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Container, ContainerError> {
        Ok(match self.judge(&self.bundle(id)?).await? {
            Verdict::Absent => Container::Absent,
            Verdict::Unstarted => Container::Unstarted,
            Verdict::Begun(_) => Container::Running,
            Verdict::Exited(exit) => Container::Exited(exit),
        })
    }

    async fn signal(&self, id: &ContainerId, signal: i32, all: bool) -> Result<(), ContainerError> {
        let bundle = self.bundle(id)?;
        if bundle.exit().is_some() || !bundle.folder.exists() {
            return Err(ContainerError::Absent(id.clone()));
        }
        let mut command = self.programs()?.runtime_command(&self.layout);
        command.arg("kill");
        if all {
            command.arg("--all");
        }
        command.arg(&id.0).arg(signal.to_string());
        match tool::output("the OCI runtime", &mut command).await {
            Ok(_) => Ok(()),
            Err(ContainerError::Tool { reason, .. }) if program::says_it_is_gone(&reason) => {
                Err(ContainerError::Absent(id.clone()))
            }
            Err(error) => Err(error),
        }
    }

    async fn result(&self, id: &ContainerId, limit: ByteSize) -> Result<Left, ContainerError> {
        let bundle = self.bundle(id)?;
        blocking(move || exchange::left(&bundle.folder, limit)).await
    }

    async fn cpu_time(&self, id: &ContainerId) -> Result<Duration, ContainerError> {
        let bundle = self.bundle(id)?;
        blocking(move || bundle.cpu_time()).await?.ok_or_else(|| ContainerError::Absent(id.clone()))
    }

    fn log_file(&self, id: &ContainerId) -> PathBuf {
        self.layout.log(id)
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let bundle = self.bundle(id)?;
        match self.judge(&bundle).await? {
            // Nothing, or a folder that never got its name.
            Verdict::Absent => return blocking(move || bundle.clear()).await,
            // What never ran must not look as if it had, should we be killed in the middle.
            Verdict::Unstarted => bundle.unmark_begun()?,
            Verdict::Begun(_) | Verdict::Exited(_) => {}
        }
        let found = self.programs()?.clone();
        self.clear(&found, &bundle).await
    }

    async fn list(&self) -> Result<Vec<ContainerId>, ContainerError> {
        let layout = self.layout.clone();
        blocking(move || bundle::list(&layout)).await
    }
}

/// The ids of containers of this backend of which anything is left in a folder of containers.
pub(crate) fn left_in(folder: &Path) -> Vec<ContainerId> {
    bundle::list(&Layout::new(folder)).unwrap_or_default()
}

/// File and mount work, away from the threads that serve others.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ContainerError> + Send + 'static,
) -> Result<T, ContainerError> {
    spawn_blocking(work)
        .await
        .map_err(|error| ContainerError::Tool { tool: "file work", reason: error.to_string() })?
}

#[cfg(test)]
mod escape;
#[cfg(test)]
mod tests;
