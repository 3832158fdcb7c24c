//! What is free, who holds the rest, who waits and why, and what would fit: for people and programs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_model::{Urn, inputs::Device};

use super::{Capacity, Claim, Room};

/// More runs than this are not counted: it is enough to know that there is room.
const MANY: u32 = 1000;

/// What the machine gives to runs and replicas, and what is left of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CapacityStatus {
    pub total: Room,
    pub held: Room,
    pub free: Room,
    /// Of all stacks, by task or service.
    pub holders: Vec<Holder>,
    /// Those that are held or waited for.
    pub devices: Vec<DeviceUse>,
    /// In the order in which they are next.
    pub waiting: Vec<Waiter>,
    /// What would start, of the tasks that are deployed.
    pub fits: Vec<Fit>,
}

/// What the containers of a task or a service hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    pub of: Urn,
    pub count: u32,
    pub holds: Room,
}

/// Who uses a device, and who waits for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceUse {
    pub path: String,
    pub used_by: Vec<Urn>,
    pub waited_for_by: Vec<Urn>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiter {
    /// A run's id, or a replica.
    pub id: String,
    pub of: Urn,
    pub since: Timestamp,
    pub needs: Room,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    pub priority: i32,
    pub why: String,
}

/// How many runs of a task would fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fit {
    pub of: Urn,
    /// What one sets aside.
    pub needs: Room,
    /// So many more would start if they were asked for now; 1000 stands for more than that.
    pub now: u32,
    /// So many at once if the machine did nothing else.
    pub at_most: u32,
}

impl Capacity {
    /// How things stand. `tasks`: what one run of each deployed task would ask for.
    pub(crate) fn status(&self, tasks: &[Claim]) -> CapacityStatus {
        let inner = self.inner();
        let queue = &inner.queue;
        let held = queue.used();
        let mut holders: BTreeMap<&Urn, Holder> = BTreeMap::new();
        let mut devices: BTreeMap<&str, DeviceUse> = BTreeMap::new();
        for claim in queue.held() {
            let empty = || Holder { of: claim.of.clone(), count: 0, holds: Room::default() };
            let holder = holders.entry(&claim.of).or_insert_with(empty);
            holder.count += 1;
            holder.holds = holder.holds.plus(claim.needs);
            for device in &claim.devices {
                devices.entry(&device.path).or_default().used_by.push(claim.of.clone());
            }
        }
        let waiting = queue.all_waiting();
        for (claim, ..) in &waiting {
            for device in &claim.devices {
                devices.entry(&device.path).or_default().waited_for_by.push(claim.of.clone());
            }
        }
        let fit = |claim: &Claim| {
            let alone = u32::try_from(self.total.holds(claim.needs)).unwrap_or(u32::MAX);
            let exclusive = claim.devices.iter().any(|device| !device.shared).then_some(1);
            let limits = [Some(MANY), claim.concurrency, exclusive];
            let at_most = limits.into_iter().flatten().fold(alone, u32::min);
            Fit { of: claim.of.clone(), needs: claim.needs, now: queue.would_start(claim, at_most), at_most }
        };
        CapacityStatus {
            total: self.total,
            held,
            free: self.total.minus(held),
            holders: holders.into_values().collect(),
            devices: devices
                .iter()
                .map(|(path, device)| DeviceUse { path: (*path).to_owned(), ..device.clone() })
                .collect(),
            waiting: waiting
                .iter()
                .map(|(claim, since, why)| Waiter {
                    id: claim.id.clone(),
                    of: claim.of.clone(),
                    since: *since,
                    needs: claim.needs,
                    devices: claim.devices.clone(),
                    priority: claim.priority,
                    why: why.to_string(),
                })
                .collect(),
            fits: tasks.iter().map(fit).collect(),
        }
    }
}
