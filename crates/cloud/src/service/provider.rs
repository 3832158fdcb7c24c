//! Services as resources: what `up` and `destroy` do to them.
//!
//! A change is prepared by starting the new version beside the old one and waiting until all its replicas are well. It
//! is true with the commit of the resource's record; then new connections and requests go to the new version, and the old
//! one ends what it has under way and goes. So no request fails, and a version that never becomes well never serves: it
//! is let go, and the former one was there all the time. The price is room for both at once (0151).
//!
//! | killed | record | containers | a restart |
//! |---|---|---|---|
//! | while it is prepared | the old version | both | the old version serves; the other one is removed |
//! | after the commit | the new version | both | the new version serves; the other one is removed |
//! | while the old one is let go | the new version | both, or the new one's | as above |
//! | after the commit of a deletion | none | the last version's | they are removed |

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;
use tandem_failpoint::hit;
use tandem_model::{
    Explain, PhysicalId, Report, Urn,
    inputs::{self, Container, Port},
    plan::Change,
    resource::{Properties, Recorded},
};

use super::{ServiceError, Services, Shared, fleet::Fleet, room, store::Replica, version::Version};
use crate::{
    capacity::Asked,
    image::Source,
    log::{self, RunLog},
    mount,
    provider::{Lines, Provider},
};

/// Of what a container printed, so many lines are told when its version does not become well.
const TAIL: usize = 10;

#[async_trait]
impl Provider for Services {
    async fn prepare(
        &self,
        change: &Change,
        id: &PhysicalId,
        lines: &dyn Lines,
    ) -> Result<Properties, Report> {
        let (Change::Create { urn, inputs } | Change::Update { urn, new: inputs, .. }) = change else {
            return Ok(Properties::new());
        };
        self.shared.prepare(urn, inputs, id, lines).await.map_err(|error| error.report())
    }

    async fn settle(&self, urn: &Urn, _: &PhysicalId, now: Option<&Recorded>) {
        let shared = self.shared.clone();
        let done = match now {
            // After a restore its image has to be made again, and nobody's start waits for that.
            Some(recorded) if !images_of(recorded).all(|image| shared.parts.images.knows(image)) => {
                let recorded = recorded.clone();
                self.shared.tracker.spawn(async move { tell(&recorded.urn, shared.settle(&recorded).await) });
                return;
            }
            Some(recorded) => shared.settle(recorded).await,
            None => shared.delete(urn).await,
        };
        tell(urn, done);
    }
}

/// What was begun for a change, until it is known that the change happens.
struct Beginning<'a> {
    shared: &'a Arc<Shared>,
    fleet: Arc<Fleet>,
    happens: bool,
}

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        self.fleet.begun();
        if !self.happens {
            self.shared.fall_back(&self.fleet);
        }
    }
}

impl Shared {
    async fn prepare(
        self: &Arc<Self>,
        urn: &Urn,
        inputs: &Properties,
        id: &PhysicalId,
        lines: &dyn Lines,
    ) -> Result<Properties, ServiceError> {
        let service: inputs::Service = inputs::read(urn, inputs)?;
        let wrong = |(name, container): (&String, &Container)| {
            let why = asked(container).wrong().or_else(|| unshared(container))?;
            Some(if service.containers.len() == 1 { why } else { format!("`containers.{name}`: {why}") })
        };
        if let Some(reason) = service.containers.iter().find_map(wrong) {
            return Err(ServiceError::Invalid { service: urn.clone().into(), reason });
        }
        // Of those that follow the load, the others wait until there is room.
        let replicas = service.autoscale.as_ref().map_or(service.replicas, |bounds| bounds.min.max(1));
        let (one, capacity) = (room::of(&service), self.parts.capacity.total());
        if !one.times(replicas).fits(capacity) {
            let (service, needs, fit) = (urn.clone().into(), one.times(replicas), capacity.holds(one));
            return Err(ServiceError::NeverFits { service, replicas, needs, capacity, fit });
        }
        let secrets = self.parts.images.take_secrets(urn);
        let (mut parts, mut digests) = (Vec::new(), Properties::new());
        for (name, container) in &service.containers {
            let cloud = &self.parts;
            let volumes = mount::resolve(&cloud.home, &cloud.resources, &urn.stack, &container.volumes)?;
            if let Some(code) = &container.function {
                cloud.programs.check(urn, code).await?;
            }
            let image = cloud.images.of(urn, Source::from(container), &secrets, lines).await?;
            digests.insert(name.clone(), json!(image.digest));
            parts.push((image, volumes));
        }
        let version = Arc::new(Version::of(urn, &service, parts)?);
        self.unpublished(urn, &service)?;
        let fleet =
            self.fleets().entry(urn.clone()).or_insert_with(|| Arc::new(Fleet::new(urn.clone()))).clone();
        let mut beginning = Beginning { shared: self, fleet: fleet.clone(), happens: false };
        fleet.listen(service.ports())?;
        if service.wait_for_steady_state {
            fleet.set_checks(&version.name, &service);
            // At least one, also where none is needed at the moment: it shows whether the version becomes healthy.
            let count = fleet.count(&service).max(1);
            fleet.begin(self, &version, count);
            lines.line(&format!("waiting until {} healthy", counted(count)));
            hit("service.rollout.begun");
            if let Err(error) = fleet.healthy(&version.name, count).await {
                return Err(self.with_tail(error, &fleet, &version.name));
            }
        }
        beginning.happens = true;
        let endpoints: Properties = service.ports().map(|p| (p.port.to_string(), endpoint(p))).collect();
        let outputs = [
            ("id", json!(id.0)),
            ("name", json!(urn.name.as_str())),
            ("images", json!(digests)),
            ("endpoints", json!(endpoints)),
        ];
        Ok(outputs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Makes a service run as it is recorded.
    async fn settle(self: &Arc<Self>, recorded: &Recorded) -> Result<(), ServiceError> {
        let urn = &recorded.urn;
        let service: inputs::Service = inputs::read(urn, &recorded.inputs)?;
        let mut parts = Vec::new();
        for (container, digest) in service.containers.values().zip(images_of(recorded)) {
            let image = self.parts.images.deployed(urn, Source::from(container), digest).await?;
            let cloud = &self.parts;
            let volumes = mount::deployed(&cloud.home, &cloud.resources, &urn.stack, &container.volumes)?;
            parts.push((image, volumes));
        }
        let version = Arc::new(Version::of(urn, &service, parts)?);
        let fleet =
            self.fleets().entry(urn.clone()).or_insert_with(|| Arc::new(Fleet::new(urn.clone()))).clone();
        fleet.set_checks(&version.name, &service);
        fleet.set_deployed(&version.name);
        let found = {
            let mut found = self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            found.remove(urn).unwrap_or_default()
        };
        let ours = |replica: &&Replica| replica.version == version.name;
        let begun = found.iter().filter(ours).map(|replica| replica.slot + 1).max();
        fleet.set_scaled(begun.unwrap_or_default().max(fleet.scaled()).max(fleet.kept(&version.name)));
        let count = fleet.count(&service);
        let (found, others): (Vec<Replica>, Vec<Replica>) =
            found.into_iter().partition(|replica| replica.version == version.name && replica.slot < count);
        fleet.keep(self, &version, count, found);
        self.remove_in_background(others);
        fleet.listen_only(service.ports());
        let listening = fleet.listen_anew(&service).await;
        self.take_over(fleet, version, &service);
        listening
    }

    /// Lets the version serve, and the others go. One that was not waited for serves as soon as it is well, if another
    /// one serves so far.
    fn take_over(self: &Arc<Self>, fleet: Arc<Fleet>, version: Arc<Version>, service: &inputs::Service) {
        let count = fleet.count(service);
        fleet.follow(self, &version, service);
        let states = fleet.states(None).into_iter().filter(|(name, ..)| *name != version.name);
        let (former, healthy): (Vec<String>, Vec<bool>) =
            states.map(|(name, _, s)| (name, s.healthy)).unzip();
        let wait = !service.wait_for_steady_state && healthy.contains(&true);
        if !wait {
            fleet.backends.set_current(&version.name);
            fleet.let_go(Some(&version.name), count);
        }
        let shared = self.clone();
        self.tracker.spawn(async move {
            while wait && fleet.healthy(&version.name, count).await.is_err() {
                // Superseded by another change meanwhile, or still on its way.
                let pause = tokio::time::sleep(std::time::Duration::from_secs(1));
                if shared.closing.run_until_cancelled(pause).await.is_none()
                    || fleet.states(Some(&version.name)).is_empty()
                {
                    return;
                }
            }
            if wait {
                // A version that came since is another change's.
                fleet.take_over(&version.name, count, &former);
            }
            fleet.gone().await;
            if let Err(error) = shared.prune(&fleet.urn, super::KEPT_LOGS).await {
                tracing::warn!(%error, "cannot forget old logs of a service");
            }
        });
    }

    async fn delete(self: &Arc<Self>, urn: &Urn) -> Result<(), ServiceError> {
        if self.parts.resources.by_urn(urn).is_some() {
            return Ok(());
        }
        let fleet = self.fleets().get(urn).cloned();
        if let Some(fleet) = fleet {
            fleet.listen_only([].iter());
            fleet.stop_following();
            fleet.let_go(None, 0);
            fleet.gone().await;
            self.fleets().remove(urn);
        }
        self.forget(urn).await;
        Ok(())
    }

    /// Undoes what was begun for a change that does not happen.
    fn fall_back(self: &Arc<Self>, fleet: &Arc<Fleet>) {
        let recorded = self.parts.resources.by_urn(&fleet.urn);
        let before: Option<inputs::Service> =
            recorded.as_ref().and_then(|recorded| inputs::read(&fleet.urn, &recorded.inputs).ok());
        match before {
            Some(before) => {
                fleet.set_checks(&fleet.deployed(), &before);
                fleet.resize(&self.parts.capacity, room::of(&before));
                fleet.listen_only(before.ports());
                fleet.let_go_of_others(fleet.count(&before));
            }
            None => {
                fleet.listen_only([].iter());
                fleet.let_go(None, 0);
                self.fleets().remove(&fleet.urn);
                let (shared, fleet) = (self.clone(), fleet.clone());
                self.tracker.spawn(async move {
                    fleet.gone().await;
                    shared.forget(&fleet.urn).await;
                });
            }
        }
    }

    fn remove_in_background(self: &Arc<Self>, replicas: Vec<Replica>) {
        let shared = self.clone();
        self.tracker.spawn(async move {
            for replica in replicas {
                shared.kill(&replica).await;
            }
        });
    }

    /// That no other service publishes one of the ports.
    fn unpublished(&self, urn: &Urn, service: &inputs::Service) -> Result<(), ServiceError> {
        let fleets = self.fleets();
        for (by, fleet) in fleets.iter().filter(|(by, _)| *by != urn) {
            if let Some(port) = service.ports().find(|port| fleet.listens_on(port)) {
                return Err(ServiceError::Published { port: port.port, by: by.clone().into() });
            }
        }
        Ok(())
    }

    /// Adds what the containers of a version printed last.
    fn with_tail(&self, error: ServiceError, fleet: &Fleet, version: &str) -> ServiceError {
        let ServiceError::Unhealthy { service, reason, .. } = error else { return error };
        let states = fleet.states(Some(version));
        let unwell = states.iter().filter(|(_, _, state)| !state.healthy);
        let ids = unwell.filter_map(|(_, _, state)| state.ended.clone().or_else(|| state.id.clone()));
        let tail = ids.map(|id| self.tail(&fleet.urn, &id)).find(|tail| !tail.is_empty()).unwrap_or_default();
        ServiceError::Unhealthy { service, reason, tail }
    }

    fn tail(&self, service: &Urn, id: &str) -> Vec<String> {
        let run = RunLog {
            task: service.clone(),
            id: id.to_owned(),
            file: self.parts.runtime.log_file(&tandem_container::ContainerId(id.to_owned())),
            since: Timestamp::UNIX_EPOCH,
            ended: Some(Timestamp::now()),
        };
        // Without them the error is as true.
        log::tail_of_run(run, TAIL).unwrap_or_default()
    }
}

/// The digests of its images, in the order of its containers.
fn images_of(recorded: &Recorded) -> impl Iterator<Item = &str> {
    let images = recorded.outputs.get("images").and_then(|images| images.as_object());
    images.into_iter().flat_map(|images| images.values()).map(|image| image.as_str().unwrap_or_default())
}

fn tell(urn: &Urn, done: Result<(), ServiceError>) {
    if let Err(error) = done {
        let error = error.report().message;
        tracing::error!(%urn, error, "a service is not as it should be; the next start tries again");
    }
}

fn asked(container: &Container) -> Asked<'_> {
    Asked {
        memory: container.memory,
        storage: container.ephemeral_storage,
        cpu: container.cpu,
        cpu_set: container.cpu_set.as_deref(),
        devices: &container.devices,
    }
}

/// A device that nobody else is to use: the next version starts while this one has it.
fn unshared(container: &Container) -> Option<String> {
    let device = container.devices.iter().find(|device| !device.shared)?;
    Some(format!(
        "`{}` must be `shared: true`: an update starts the next replica beside this one",
        device.path
    ))
}

/// Where a port of a service is reached.
fn endpoint(port: &Port) -> serde_json::Value {
    json!({ "hostname": "127.0.0.1", "port": port.port })
}

fn counted(count: u32) -> String {
    match count {
        1 => "1 replica is".to_owned(),
        count => format!("{count} replicas are"),
    }
}
