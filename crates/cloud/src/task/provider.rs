//! Tasks as resources: what `up` and `destroy` do to them.

use async_trait::async_trait;
use serde_json::json;
use tandem_model::{
    Explain, PhysicalId, Report, Urn,
    inputs::{self, Retries},
    plan::Change,
    resource::{Properties, Recorded},
};

use super::{RunError, Tasks};
use crate::{
    capacity::{Asked, Room},
    image::Source,
    mount,
    provider::{Lines, Provider},
};

#[async_trait]
impl Provider for Tasks {
    /// Builds or finds the image. A build that was cut short leaves nothing; one that was finished is found again.
    async fn prepare(
        &self,
        change: &Change,
        id: &PhysicalId,
        lines: &dyn Lines,
    ) -> Result<Properties, Report> {
        let (Change::Create { urn, inputs } | Change::Update { urn, new: inputs, .. }) = change else {
            return Ok(Properties::new());
        };
        self.deployable(urn, inputs, id, lines).await.map_err(|error| error.report())
    }

    /// A task that is deleted takes its runs with it: they are stopped, then forgotten.
    async fn settle(&self, urn: &Urn, _: &PhysicalId, now: Option<&Recorded>) {
        // One that was replaced still exists, and its runs are of that urn.
        if now.is_none() && self.shared.parts.resources.by_urn(urn).is_none() {
            self.shared.purge(urn).await;
        }
    }
}

impl Tasks {
    async fn deployable(
        &self,
        urn: &Urn,
        inputs: &Properties,
        id: &PhysicalId,
        lines: &dyn Lines,
    ) -> Result<Properties, RunError> {
        let task: inputs::Task = inputs::read(urn, inputs)?;
        if let Some(reason) = wrong(&task) {
            return Err(RunError::Invalid { task: urn.clone(), reason });
        }
        let parts = &self.shared.parts;
        mount::resolve(&parts.home, &parts.resources, &urn.stack, &task.volumes)?;
        if let Some(code) = &task.function {
            parts.programs.check(urn, code).await?;
        }
        let image = parts.images.of(urn, Source::from(&task), &parts.images.take_secrets(urn), lines).await?;
        let needs = Room::of(task.memory_reservation, task.cpu);
        let capacity = parts.capacity.total();
        if !needs.fits(capacity) {
            lines.line(&format!(
                "warning: a run sets aside {needs}, and this machine gives {capacity} in all"
            ));
        }
        let outputs =
            [("id", json!(id.0)), ("image", json!(image.digest)), ("name", json!(urn.name.as_str()))];
        Ok(outputs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

/// What no run of such a task could be started with.
fn wrong(task: &inputs::Task) -> Option<String> {
    let positive = |name: &str, value: Option<f64>| {
        let bad = value.filter(|value| !value.is_finite() || *value <= 0.0)?;
        Some(format!("`{name}` is {bad}; it must be a positive number"))
    };
    let asked = Asked {
        memory: task.memory,
        storage: task.ephemeral_storage,
        cpu: task.cpu,
        cpu_set: task.cpu_set.as_deref(),
        devices: &task.devices,
    };
    let retries = task.retries.as_ref().and_then(|retries| match retries {
        Retries { attempts: 0 | 101.., .. } => Some(format!(
            "`retries.attempts` is {}; it is 1 to 100, the first attempt included",
            retries.attempts
        )),
        Retries { backoff, .. } if !(0.0..=86_400.0).contains(backoff) => {
            Some(format!("`retries.backoff` is {backoff}; it is 0 to 86400 seconds"))
        }
        Retries { max_backoff, .. } if !(0.0..=86_400.0).contains(max_backoff) => {
            Some(format!("`retries.maxBackoff` is {max_backoff}; it is 0 to 86400 seconds"))
        }
        _ => None,
    });
    let priority = (!inputs::Task::PRIORITIES.contains(&task.priority))
        .then(|| format!("`priority` is {}; it is -1000 to 1000", task.priority));
    let concurrency = (task.concurrency == Some(0))
        .then(|| "`concurrency` is 0; at least one run must be allowed at once".to_owned());
    positive("timeout", task.timeout).or_else(|| asked.wrong()).or(retries).or(priority).or(concurrency)
}
