//! Images and containers by the Docker Engine, for who has one and wants all that runs to be seen there.
//!
//! # Who knows what
//!
//! The engine knows the images, the containers, and how they stand. We keep below `docker/` in the folder of containers
//! what it does not keep, or not for as long as we need it:
//!
//! | file | written by | what it proves |
//! |---|---|---|
//! | `docker/containers/<id>/` | us, first | somebody began to start `<id>` |
//! | `…/starting` | us; locked by who starts | while locked, a start is under way |
//! | `…/network` | us, before the network is made | the network may be there for this container |
//! | `…/begun` | us, before the engine is told to start | absent: the command was never executed |
//! | `…/exit` | us, after the log is on disk | **the commit**: it ended, so |
//! | `docker/images/<hex>` | us | the image came by this cloud; its time is when it was asked for last |
//! | `docker/steps/<hex>` | us | the image is a step of a build of ours that failed |
//! | `logs/<id>.log` | us, see [`follow`] | every line that the engine's log has, in its order |
//!
//! # What a restart finds
//!
//! | the cloud was killed after | failpoint | the engine says | then |
//! |---|---|---|---|
//! | the folder was written | `docker.start.prepared` | nothing | `Unstarted`: remove, start again |
//! | the container was created | `docker.start.created` | `created` | `Unstarted` |
//! | the command runs | `docker.start.started` | `running` | `Running`; the log is followed on |
//! | the container ended meanwhile | | `exited` | the rest of the log is written, then `Exited` |
//! | the log was written | `docker.exit.logged` | `exited` | `Exited` |
//! | the container was removed | `docker.remove.removed` | nothing | `list` has it; `remove` goes on |
//!
//! A container that somebody else removed from the engine, or that the engine lost with the machine, is `Lost`.
//!
//! Start reading at [`Docker`]; [`container`] starts and judges, [`bundle`] is its folder, [`follow`] and [`log`] write the log,
//! [`network`] makes networks, [`images`] answers for images, [`build`] builds, [`archive`] translates between the
//! engine's archives and OCI layouts, [`tidy`] takes out what nobody needs.

mod archive;
mod build;
mod bundle;
mod container;
mod create;
mod engine;
mod follow;
mod images;
mod kernel;
mod log;
mod marks;
mod network;
mod tidy;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::RwLock;

use crate::layout::Layout;
pub(crate) use engine::DEFAULT_HOST;
use engine::Engine;

/// Images and containers of one cloud by a Docker engine.
#[derive(Clone)]
pub struct Docker {
    engine: Arc<Engine>,
    layout: Layout,
    /// Read by builds and imports, written by who tidies.
    builds: Arc<RwLock<()>>,
    /// Read by starts, written by who takes a network down.
    networks: Arc<RwLock<()>>,
}

impl fmt::Debug for Docker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Docker")
            .field("engine", &self.engine)
            .field("folder", &self.folder())
            .finish_non_exhaustive()
    }
}

impl Docker {
    /// The containers and images of the cloud that has `folder` (`<home>/containers`), by the engine at `host`
    /// (`unix:///var/run/docker.sock`). Asks nobody yet.
    #[must_use]
    pub fn open(folder: &Path, host: &str) -> Self {
        Self {
            engine: Arc::new(Engine::new(host)),
            layout: Layout::new(folder),
            builds: Arc::default(),
            networks: Arc::default(),
        }
    }

    /// What the engine does not keep for us.
    fn folder(&self) -> PathBuf {
        self.layout.root().join(FOLDER)
    }

    /// The label of all that is this cloud's.
    fn label(&self) -> String {
        self.layout.root().display().to_string()
    }
}

const FOLDER: &str = "docker";
/// Says on containers and networks whose they are.
const LABEL: &str = "cloud.tandem.folder";

/// The ids of containers of this backend of which anything is left in a folder of containers.
pub(crate) fn left_in(folder: &Path) -> Vec<crate::ContainerId> {
    bundle::list(&Layout::new(folder)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
