//! Networks of containers: a bridge of the engine's for each, made with its first container and removed with its last.
//!
//! The engine answers the names itself, at an address that only a container sees.

use std::collections::HashMap;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};

use super::{Docker, LABEL, engine::status};
use crate::{ContainerError, Network};

/// What the engine calls it.
pub(super) fn name(network: &Network) -> String {
    format!("tandem-{}", network.bridge)
}

impl Docker {
    /// Makes the network unless it is there.
    pub(super) async fn make_network(&self, network: &Network) -> Result<(), ContainerError> {
        let client = self.engine.client().await?;
        let name = name(network);
        let found = client.inspect_network(&name, None).await;
        if let Ok(found) = &found {
            let same = found.ipam.as_ref().and_then(|ipam| ipam.config.as_ref()).is_some_and(|all| {
                all.iter().any(|one| one.subnet.as_deref() == Some(network.subnet.as_str()))
            });
            if same {
                return Ok(());
            }
            // What is left of a stack that had another one; while it has containers, it stays.
            client.remove_network(&name).await.map_err(|error| self.engine.failed(error))?;
        }
        let request = NetworkCreateRequest {
            name: name.clone(),
            driver: Some("bridge".into()),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(network.subnet.clone()),
                    gateway: Some(network.gateway.to_string()),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            options: Some(HashMap::from([(
                "com.docker.network.bridge.name".to_owned(),
                network.bridge.clone(),
            )])),
            labels: Some(HashMap::from([(LABEL.to_owned(), self.label())])),
            ..NetworkCreateRequest::default()
        };
        match client.create_network(request).await {
            Ok(_) => Ok(()),
            // Somebody else made it at the same moment.
            Err(error) if status(&error) == Some(409) => Ok(()),
            Err(error) => Err(ContainerError::Start {
                reason: format!("the network cannot be made: {}", self.engine.failed(error)),
            }),
        }
    }

    /// Takes the network down unless another container has it.
    pub(super) async fn leave_network(&self, name: &str) -> Result<(), ContainerError> {
        let _none_starts = self.networks.write().await;
        match self.engine.client().await?.remove_network(name).await {
            Ok(()) => Ok(()),
            // It is gone; it has others.
            Err(error) if matches!(status(&error), Some(403 | 404 | 409)) => Ok(()),
            Err(error) => Err(self.engine.failed(error)),
        }
    }
}
