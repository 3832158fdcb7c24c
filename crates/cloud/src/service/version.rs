//! What a service runs, and the name by which one version of it is told from another: pure.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tandem_container::{ContainerId, Image, Spec, Volume};
use tandem_model::{
    Urn,
    inputs::{self, Code, Device},
};

use super::{ServiceError, room, store::container_ids};
use crate::{
    capacity::Room,
    image::{Unrunnable, Wanted},
};

/// What all replicas of a version run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Version {
    /// The same for the same containers, whatever else of the service changes.
    pub(super) name: String,
    /// At least one, in the order of their names. The first one has the network, the others share it.
    pub(super) members: Vec<Member>,
    /// What a replica sets aside on the machine. Not part of the name: a change of it keeps the containers.
    pub(super) needs: Room,
    /// How many processors the containers of a replica may use; each counts as one without a bound of its own.
    pub(super) processors: f64,
    /// What it shares of the machine's devices.
    pub(super) devices: Vec<Device>,
}

/// One of the containers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) spec: Spec,
    /// Of the program; wins over the cloud's.
    pub(super) environment: BTreeMap<String, String>,
    /// What it runs, unless that is in its image.
    pub(super) code: Option<Code>,
}

impl Version {
    /// The containers of a replica; the first one first.
    pub(super) fn containers(&self, replica: &str) -> Vec<ContainerId> {
        let others = self.members.iter().skip(1).map(|member| member.name.as_str());
        container_ids(replica, others)
    }

    /// `parts`: for each container its image and the folders that it sees.
    ///
    /// # Errors
    /// [`ServiceError::NothingToRun`] without entrypoint and command; [`ServiceError::Invalid`] for what no process can
    /// be given.
    pub(super) fn of(
        urn: &Urn,
        service: &inputs::Service,
        parts: Vec<(Image, Vec<Volume>)>,
    ) -> Result<Self, ServiceError> {
        let mut members = Vec::new();
        for ((name, container), (image, volumes)) in service.containers.iter().zip(parts) {
            let wanted = Wanted {
                command: container.command.as_deref(),
                variables: Some(&container.environment),
                volumes,
                memory: container.memory,
                cpu: container.cpu,
                cpu_set: container.cpu_set.as_deref(),
                storage: container.ephemeral_storage,
                labels: Some(&container.docker_labels),
                code: container.function.is_some(),
            };
            let mut spec = wanted.of(image).map_err(|unrunnable| match unrunnable {
                Unrunnable::Nothing => ServiceError::NothingToRun(urn.clone().into()),
                Unrunnable::Invalid(reason) => ServiceError::Invalid {
                    service: urn.clone().into(),
                    reason: format!("`containers.{name}`: {reason}"),
                },
            })?;
            spec.devices = container.devices.iter().map(|device| device.path.clone()).collect();
            let (environment, code) = (container.environment.clone(), container.function.clone());
            members.push(Member { name: name.clone(), spec, environment, code });
        }
        let processors = service.containers.values().map(|container| container.cpu.unwrap_or(1.0)).sum();
        // Not what the only one is called: nobody is told.
        let of = |member: &Member| {
            let mut told = match service.containers.len() {
                1 => vec![],
                _ => vec![serde_json::json!(member.name)],
            };
            told.extend([serde_json::json!(member.spec), serde_json::json!(member.environment)]);
            told.extend(member.code.iter().map(|code| serde_json::json!(code)));
            serde_json::Value::Array(told)
        };
        let text = serde_json::Value::Array(members.iter().map(of).collect()).to_string();
        let name = HEXLOWER.encode(&Sha256::digest(text)[..6]);
        Ok(Self { name, members, needs: room::of(service), processors, devices: room::devices(service) })
    }
}
