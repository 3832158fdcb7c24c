//! The inputs of a service.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Build, Code, Device, Mount, Task};
use crate::size::ByteSize;

/// Containers that are kept running, replicated and load-balanced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// By name. The containers of a replica share its network: they reach each other as `localhost`.
    pub containers: BTreeMap<String, Container>,
    /// How many replicas are kept running.
    #[serde(default = "Service::default_replicas")]
    pub replicas: u32,
    /// Lets the number of replicas follow the load, in place of `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<Autoscale>,
    /// Whether `up` waits until all replicas of a new version are healthy, and keeps the former version if they never are.
    #[serde(default = "Service::default_wait")]
    pub wait_for_steady_state: bool,
}

impl Service {
    fn default_replicas() -> u32 {
        1
    }
    fn default_wait() -> bool {
        true
    }

    /// What is published, whichever container it leads to.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.containers.values().flat_map(|container| &container.ports)
    }
}

/// Between which bounds, and by what, the number of replicas changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Autoscale {
    /// With 0, none run while nobody asks, and the first request waits until one is healthy.
    #[serde(default = "Autoscale::default_min")]
    pub min: u32,
    pub max: u32,
    pub target: ScaleTarget,
    /// For so long, in seconds, fewer must have been enough before there are fewer.
    #[serde(default = "Autoscale::default_scale_down_after")]
    pub scale_down_after: f64,
}

/// What one replica is to have: at least one of them. Of two, the one counts that needs more replicas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleTarget {
    /// So many requests and connections under way at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<f64>,
    /// So much of the processor time that it may have, in percent: of its containers' `cpu`, each of which counts as one core
    /// without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
}

impl Autoscale {
    fn default_min() -> u32 {
        1
    }
    fn default_scale_down_after() -> f64 {
        60.0
    }
}

/// One container of each replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Container {
    /// Exactly one of `build`, `image` and `function`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// The name of an image in the image store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<Code>,
    /// Hard limit of its memory. A number is MiB. None: no limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// What it sets aside on the machine, as a run does. A number is MiB.
    #[serde(default = "Task::default_reservation")]
    pub memory_reservation: ByteSize,
    /// Upper bound of its processors, in cores: `0.5`. None: no bound. So much is set aside, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// The processors that it may run on: `0-1,3`. None: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_set: Option<String>,
    /// Devices of the machine that it uses, all of them shared: two versions run at once during an update.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// How much a container may write to its own file system; then that is full. A number is MiB. None: as much as the disk takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<ByteSize>,
    /// For programs that look at containers from outside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub docker_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Replaces the image's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Folders that it sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Mount>,
    /// What is published on the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    #[serde(default)]
    pub health_check: HealthCheck,
}

/// A port that the machine listens on for a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// On the machine.
    pub port: u16,
    /// In the container; the same if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<u16>,
    #[serde(default)]
    pub protocol: Protocol,
    /// Whether other machines reach it: then it is published on all addresses, otherwise on `127.0.0.1`.
    #[serde(default)]
    pub external: bool,
}

impl Port {
    /// What only one service of a machine may have: numbers of UDP are apart from the others.
    pub fn place(&self) -> (u16, bool) {
        (self.port, self.protocol == Protocol::Udp)
    }
    /// As [`place`](Self::place), in the container.
    pub fn target_place(&self) -> (u16, bool) {
        (self.target(), self.protocol == Protocol::Udp)
    }
    pub fn target(&self) -> u16 {
        self.target_port.unwrap_or(self.port)
    }
}

/// What is balanced: connections, requests, or datagrams by client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    #[default]
    Tcp,
    Http,
    Udp,
}

/// When a container counts as healthy. Without a port to ask, one that runs is. A replica is when all of its containers are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HealthCheck {
    /// Asked by GET, and well if the answer is below 400. None: that it takes a connection is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// In the container; the first of its ports, UDP aside, if it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Between two questions, in seconds.
    pub interval: f64,
    /// How long an answer may take, in seconds.
    pub timeout: f64,
    /// After so many failures in a row the replica is replaced.
    pub retries: u32,
    /// How long it may take to be well for the first time, in seconds.
    pub start_period: f64,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self { path: None, port: None, interval: 2.0, timeout: 2.0, retries: 3, start_period: 60.0 }
    }
}
