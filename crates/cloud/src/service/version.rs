//! What a service runs, and the name by which one version of it is told from another: pure.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tandem_container::{Image, Spec};
use tandem_model::{Urn, inputs};

use super::ServiceError;

/// What all replicas of a version run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Version {
    /// The same for the same containers, whatever else of the service changes.
    pub(super) name: String,
    pub(super) spec: Spec,
    /// Of the program; wins over the cloud's.
    pub(super) environment: BTreeMap<String, String>,
}

/// Search path of a container whose image names none, as Docker has it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Version {
    /// # Errors
    /// [`ServiceError::NothingToRun`] without entrypoint and command.
    pub(super) fn of(urn: &Urn, service: &inputs::Service, image: Image) -> Result<Self, ServiceError> {
        let args = [image.entrypoint, service.command.clone().unwrap_or(image.command)].concat();
        if args.is_empty() {
            return Err(ServiceError::NothingToRun(urn.clone().into()));
        }
        let mut of_image: BTreeMap<String, String> = [("PATH".to_owned(), PATH.to_owned())].into();
        let split = |variable: &String| {
            variable.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        of_image.extend(image.environment.iter().filter_map(split));
        let spec = Spec {
            image: image.digest,
            args,
            environment: of_image,
            working_dir: image.working_dir,
            user: image.user,
            memory: service.memory,
            cpu: service.cpu,
            network: None,
            exchange: None,
        };
        let environment = service.environment.clone();
        let text = serde_json::json!([spec, environment]).to_string();
        let name = HEXLOWER.encode(&Sha256::digest(text)[..6]);
        Ok(Self { name, spec, environment })
    }
}
