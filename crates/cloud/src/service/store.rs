//! What is on disk of services, beside the resource's own record.
//!
//! | key | value |
//! |---|---|
//! | `service/replica/<id>` | the [`Replica`], written before its containers are created |
//! | `service/network/<project>/<stack>` | the [`StackNetwork`] |

use std::net::Ipv4Addr;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tandem_container::ContainerId;
use tandem_model::{StackId, Urn};
use tandem_store::{Batch, Snapshot};

use super::ServiceError;

/// One replica of a service, from before its start until its logs are forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Replica {
    /// Also the id of its first container, which has the network that all of them share.
    pub(super) id: String,
    /// The names of the others, each in the id of its container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) others: Vec<String>,
    pub(super) service: Urn,
    /// Names what it runs: see [`super::version`].
    pub(super) version: String,
    /// Which of the replicas it is, from 0.
    pub(super) slot: u32,
    pub(super) address: Ipv4Addr,
    pub(super) created: Timestamp,
    /// Set when nothing is left of it but its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ended: Option<Timestamp>,
}

impl Replica {
    /// The container that has the network.
    pub(super) fn first(&self) -> ContainerId {
        ContainerId(self.id.clone())
    }

    /// All of its containers; the first one first.
    pub(super) fn containers(&self) -> Vec<ContainerId> {
        container_ids(&self.id, self.others.iter().map(String::as_str))
    }
}

/// The containers of a replica, by the names of those after the first.
pub(super) fn container_ids<'a>(replica: &str, others: impl Iterator<Item = &'a str>) -> Vec<ContainerId> {
    let others = others.map(|name| ContainerId(format!("{replica}-{name}")));
    std::iter::once(ContainerId(replica.to_owned())).chain(others).collect()
}

/// The bridge of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StackNetwork {
    /// `10.<second>.<third>.0/24`.
    pub(super) second: u8,
    pub(super) third: u8,
}

impl StackNetwork {
    pub(super) fn host(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second, self.third, last)
    }
    pub(super) fn gateway(&self) -> Ipv4Addr {
        self.host(1)
    }
    pub(super) fn subnet(&self) -> String {
        format!("{}/24", self.host(0))
    }
    /// Subnets are unique on the machine, and so is the interface.
    pub(super) fn bridge(&self) -> String {
        format!("tandem-{}-{}", self.second, self.third)
    }
}

const REPLICAS: &[u8] = b"service/replica/";

fn replica_key(id: &str) -> Bytes {
    [REPLICAS, id.as_bytes()].concat().into()
}

fn network_key(stack: &StackId) -> Bytes {
    format!("service/network/{}/{}", stack.project, stack.stack).into()
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("records have no maps with keys that are not texts")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ServiceError> {
    serde_json::from_slice(bytes).map_err(ServiceError::Damaged)
}

pub(super) fn put(replica: &Replica) -> Batch {
    let mut batch = Batch::default();
    batch.put(replica_key(&replica.id), encode(replica));
    batch
}

pub(super) fn forget(ids: &[String]) -> Batch {
    let mut batch = Batch::default();
    for id in ids {
        batch.delete(replica_key(id));
    }
    batch.frees();
    batch
}

/// All replicas, in the order of their ids.
pub(super) fn replicas(snapshot: &dyn Snapshot) -> Result<Vec<Replica>, ServiceError> {
    snapshot.prefix(REPLICAS)?.map(|row| decode(&row?.1)).collect()
}

pub(super) fn network(
    snapshot: &dyn Snapshot,
    stack: &StackId,
) -> Result<Option<StackNetwork>, ServiceError> {
    snapshot.get(&network_key(stack))?.map(|bytes| decode(&bytes)).transpose()
}

pub(super) fn put_network(stack: &StackId, network: Option<&StackNetwork>) -> Batch {
    let mut batch = Batch::default();
    match network {
        Some(network) => batch.put(network_key(stack), encode(network)),
        None => batch.delete(network_key(stack)),
    };
    batch
}
