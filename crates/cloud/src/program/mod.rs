//! Program code as a container of a task or a service: what such a container has besides what any has.
//!
//! - [`engine`] is a folder with this binary and what it needs to run. The container sees it read-only.
//! - [`socket`] is where the container's program reaches the cloud, in a folder of the container's own: it is told what to
//!   be, and then calls. The folder is there from before the container's start until its removal, so whoever finds a
//!   container listens there again, and the program goes on with what was not answered.
//! - [`inside`] is what runs in the container.
//! - [`attended`] lets the folder go with the container.
//!
//! | path | who | what |
//! |---|---|---|
//! | `containers/engine/<hash>/` | all containers with code, read-only | `tandem`, `lib/`, certificates |
//! | `containers/code/<container>/engine` | us | a link to the folder above: it stays while the container may need it |
//! | `containers/code/<container>/shared/` | that container, read-only | `socket` |
//!
//! Who calls is known by the socket (I8). A call that the cloud did not answer before it was killed is made again, under
//! the name that it had: what it starts is found by that (I4).
//!
//! Start at [`Programs::dress`].

mod attended;
mod engine;
mod error;
pub mod inside;
mod seat;
mod socket;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_container::{ContainerId, Runtime, Spec};
use tandem_model::{Report, StackId, Urn, inputs::Code, resource::Properties};
use tokio::sync::{OnceCell, watch};

pub(crate) use self::{attended::Attended, error::CodeError};

use self::{engine::Engine, seat::Seat};
use crate::{archive::Archives, call::Calls, home::Home, resource::Resources};

/// Where a container has its engine, and its socket.
const ENGINE: &str = "/tandem/engine";
const SHARED: &str = "/tandem/program";
const SOCKET: &str = "socket";

/// Who runs in such a container.
pub(crate) const USER: &str = "65532:65532";
/// Where it begins, and may write.
pub(crate) const FOLDER: &str = "/tmp";

/// What it executes, once it is [dressed](Programs::dress).
pub(crate) fn command() -> Vec<String> {
    vec![format!("{ENGINE}/{}", engine::BINARY), inside::SUBCOMMAND.to_owned()]
}

/// Who runs in a container, and as whom it calls.
#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    /// The task or the service.
    pub(crate) of: Urn,
    /// What its calls are named after: a run, or a container.
    pub(crate) request: String,
    pub(crate) traceparent: Option<String>,
    pub(crate) code: Code,
}

/// The first that a container says.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    /// Whether it is to be told what to be: not when it comes again.
    assign: bool,
}

/// What it is told. The program's archive comes next.
#[derive(Debug, Serialize, Deserialize)]
struct Assignment {
    stack: StackId,
    of: Urn,
    request: String,
    handler: String,
    config: BTreeMap<String, Value>,
    /// `<kind>/<name>` → outputs, of every resource of the stack.
    resources: BTreeMap<String, Properties>,
}

/// Or why it cannot be.
type Assigned = Result<Assignment, Report>;

/// The containers that run code of programs.
pub struct Programs {
    home: Home,
    resources: Arc<Resources>,
    archives: Archives,
    calls: watch::Sender<Option<Arc<dyn Calls>>>,
    engine: OnceCell<Engine>,
    seats: Mutex<HashMap<ContainerId, Seat>>,
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Programs").field("home", &self.home).finish_non_exhaustive()
    }
}

impl Programs {
    pub fn new(home: Home, resources: Arc<Resources>, archives: Archives) -> Arc<Self> {
        let (calls, engine, seats) = (watch::Sender::new(None), OnceCell::new(), Mutex::default());
        Arc::new(Self { home, resources, archives, calls, engine, seats })
    }

    /// Says who answers. Whoever calls earlier waits.
    pub(crate) fn answer_by(&self, calls: Arc<dyn Calls>) {
        self.calls.send_replace(Some(calls));
    }

    /// That a container could load this.
    ///
    /// # Errors
    /// [`CodeError::NoCode`] without its archive; [`CodeError::Engine`] if this machine's binary cannot be given to containers.
    pub(crate) async fn check(&self, of: &Urn, code: &Code) -> Result<(), CodeError> {
        let there = match self.archives.path(&code.code) {
            Ok(path) => tokio::fs::try_exists(path).await.unwrap_or(false),
            Err(_) => false,
        };
        if !there {
            return Err(CodeError::NoCode { of: of.short(), code: code.code.clone() });
        }
        self.engine().await.map(drop)
    }

    /// Gives a container that is to start its engine and its socket.
    ///
    /// # Errors
    /// [`CodeError`] if one of them cannot be made. Its folder goes when the container is removed, or with [`Self::leave`].
    pub(crate) async fn dress(
        self: &Arc<Self>,
        id: &ContainerId,
        spec: &mut Spec,
        tenant: Tenant,
    ) -> Result<(), CodeError> {
        let engine = self.engine().await?;
        let folder = self.folder(id);
        socket::make_folder(&folder, engine.folder()).map_err(error::at(&folder))?;
        self.attend(id, tenant);
        engine.dress(spec);
        spec.volumes.push(engine::read_only(folder.join("shared"), SHARED));
        Ok(())
    }

    /// Listens to a container that is there. Once is enough.
    pub(crate) fn attend(self: &Arc<Self>, id: &ContainerId, tenant: Tenant) {
        let mut seats = self.seats();
        if !seats.contains_key(id) {
            let seat = Seat::take(self, self.folder(id).join("shared"), tenant);
            seats.insert(id.clone(), seat);
        }
    }

    /// Listens no more, and removes the folder. What cannot be removed is removed by the next start.
    pub(crate) fn leave(&self, id: &ContainerId) {
        self.seats().remove(id);
        let folder = self.folder(id);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(folder = %folder.display(), %error, "cannot remove the folder of a container");
            }
            _ => {}
        }
    }

    /// Hears nobody any more; the containers go on, and call again after the next start.
    pub(crate) fn close(&self) {
        self.seats().clear();
        self.calls.send_replace(None);
    }

    /// Removes the folders of containers that are not there. Called at start, before anything is.
    pub(crate) async fn sweep(&self, runtime: &dyn Runtime) {
        let root = self.home.code_of_containers();
        let left: Vec<ContainerId> = fs::read_dir(root)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok().map(ContainerId))
            .collect();
        if left.is_empty() {
            return;
        }
        match runtime.list().await {
            Ok(there) => {
                let there: HashSet<ContainerId> = there.into_iter().collect();
                left.iter().filter(|id| !there.contains(*id)).for_each(|id| self.leave(id));
            }
            Err(error) => tracing::warn!(%error, "cannot see which containers with code are left"),
        }
    }

    async fn engine(&self) -> Result<&Engine, CodeError> {
        let home = self.home.clone();
        self.engine
            .get_or_try_init(|| async {
                match tokio::task::spawn_blocking(move || Engine::make(&home)).await {
                    Ok(made) => made,
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                }
            })
            .await
    }

    fn folder(&self, id: &ContainerId) -> PathBuf {
        self.home.code_of_containers().join(&id.0)
    }

    fn seats(&self) -> std::sync::MutexGuard<'_, HashMap<ContainerId, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a container of this tenant is told.
    fn assignment(&self, tenant: &Tenant) -> Assignment {
        let stack = tenant.of.stack.clone();
        let all = self.resources.list(Some(&stack)).into_iter();
        Assignment {
            resources: all.map(|one| (one.urn.short(), one.outputs.clone())).collect(),
            stack,
            of: tenant.of.clone(),
            request: tenant.request.clone(),
            handler: tenant.code.handler.clone(),
            config: tenant.code.config.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
