//! What a replica sets aside, in the same place as runs.
//!
//! A place among the replicas holds its room for as long as it is kept, also between two containers: otherwise a run could
//! take it, and a service that restarts one would be short of a replica until that run ends.

use tandem_model::{
    Urn,
    inputs::{self, Device},
};

use std::collections::BTreeSet;

use super::store::Replica;
use crate::{
    capacity::{Claim, Room},
    resource::Resources,
};

/// What one replica sets aside: all of its containers. More than they may use need not be.
pub(super) fn of(service: &inputs::Service) -> Room {
    let of = |container: &inputs::Container| {
        let memory = container.memory_reservation;
        Room::of(container.memory.map_or(memory, |limit| limit.min(memory)), container.cpu)
    };
    service.containers.values().map(of).fold(Room::default(), Room::plus)
}

/// What the containers of one replica use of the machine's devices: each of them once.
pub(super) fn devices(service: &inputs::Service) -> Vec<Device> {
    let all = service.containers.values().flat_map(|container| &container.devices);
    let paths: BTreeSet<&String> = all.map(|device| &device.path).collect();
    paths.into_iter().map(|path| Device { path: path.clone(), shared: true }).collect()
}

/// The claim of a new place, or of one whose container was found.
pub(super) fn claim(
    service: &Urn,
    needs: Room,
    devices: Vec<Device>,
    slot: u32,
    found: Option<&Replica>,
) -> Claim {
    let new = || format!("replica-{slot}-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    Claim {
        id: found.map_or_else(new, |replica| replica.id.clone()),
        of: service.clone(),
        needs,
        devices,
        priority: 0,
        concurrency: None,
    }
}

/// The claim of a container that a former process left.
pub(super) fn found(replica: &Replica, resources: &Resources) -> Claim {
    let recorded = resources.by_urn(&replica.service);
    let service: Option<inputs::Service> =
        recorded.and_then(|recorded| inputs::read(&replica.service, &recorded.inputs).ok());
    let needs = service.as_ref().map(of).unwrap_or_default();
    let devices = service.as_ref().map(devices).unwrap_or_default();
    claim(&replica.service, needs, devices, replica.slot, Some(replica))
}
