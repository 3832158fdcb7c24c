//! A runtime whose containers take along what they had of [`Programs`] when they are removed.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use tandem_container::{
    Container, ContainerError, ContainerId, Exit, Runtime, Spec, Started, exchange::Left,
};
use tandem_model::ByteSize;

use super::Programs;

#[derive(Debug)]
pub(crate) struct Attended {
    runtime: Arc<dyn Runtime>,
    programs: Arc<Programs>,
}

impl Attended {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, programs: Arc<Programs>) -> Self {
        Self { runtime, programs }
    }
}

#[async_trait]
impl Runtime for Attended {
    async fn start(&self, id: &ContainerId, spec: &Spec) -> Result<Started, ContainerError> {
        let started = self.runtime.start(id, spec).await;
        if started.is_err() {
            self.programs.leave(id);
        }
        started
    }

    async fn wait(&self, id: &ContainerId) -> Result<Exit, ContainerError> {
        self.runtime.wait(id).await
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Container, ContainerError> {
        self.runtime.inspect(id).await
    }

    async fn signal(&self, id: &ContainerId, signal: i32, all: bool) -> Result<(), ContainerError> {
        self.runtime.signal(id, signal, all).await
    }

    async fn cpu_time(&self, id: &ContainerId) -> Result<Duration, ContainerError> {
        self.runtime.cpu_time(id).await
    }

    async fn result(&self, id: &ContainerId, limit: ByteSize) -> Result<Left, ContainerError> {
        self.runtime.result(id, limit).await
    }

    fn log_file(&self, id: &ContainerId) -> PathBuf {
        self.runtime.log_file(id)
    }

    /// The folder first: while there is a container, somebody will remove it.
    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerError> {
        self.programs.leave(id);
        self.runtime.remove(id).await
    }

    async fn list(&self) -> Result<Vec<ContainerId>, ContainerError> {
        self.runtime.list().await
    }
}
