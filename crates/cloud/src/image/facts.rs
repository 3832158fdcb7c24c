//! What is known of builds: when they were made, and from which base images. A preview tells by it what could be newer.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_container::{ContainerError, ImageRef, Unheard};
use tandem_model::{Kind, Recorded, Urn, inputs};

use super::{ImageError, Images};

/// How an image was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    /// When the oldest of its layers was made, its base image's aside.
    pub(super) since: Timestamp,
    /// Digests by complete names.
    pub(super) bases: BTreeMap<String, String>,
}

impl Made {
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("its maps have texts as keys")
    }
}

/// What is known of the image of a deployed resource that is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildFacts {
    pub urn: Urn,
    /// Of a service, the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// When the oldest of its layers was made, its base image's aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    pub bases: Vec<Base>,
    /// The image is not there any more, and cannot be made again without secrets that somebody brings.
    pub gone: bool,
}

/// An image from which another one was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Base {
    pub name: String,
    /// The digest that the build used.
    pub used: String,
    /// The digest that the name means now. `None`: it is not in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

impl Base {
    /// Whether a build would use another image now.
    pub fn is_newer(&self) -> bool {
        self.now.as_ref().is_some_and(|now| *now != self.used)
    }
}

pub(super) fn made_key(digest: &str) -> Bytes {
    format!("task/made/{digest}").into()
}

impl Images {
    pub(super) fn made(&self, digest: &str) -> Result<Option<Made>, ImageError> {
        let row = self.store.snapshot()?.get(&made_key(digest))?;
        Ok(row.and_then(|row| serde_json::from_slice(&row).ok()))
    }

    /// What is known of those among the resources that are built. Builds and pulls nothing.
    ///
    /// # Errors
    /// [`ImageError`] if the store cannot be read.
    pub async fn facts(&self, resources: &[Arc<Recorded>]) -> Result<Vec<BuildFacts>, ImageError> {
        let built: Vec<_> =
            resources.iter().flat_map(|r| builds_of(r).into_iter().map(move |b| (r, b))).collect();
        if built.is_empty() {
            return Ok(Vec::new());
        }
        // What could be newer is a remark, and a plan does not fail for it.
        let names = self.builder.names().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot tell which base images are newer");
            Vec::new()
        });
        let names: HashMap<String, String> = names.into_iter().collect();
        let mut facts = Vec::new();
        for (recorded, BuildOf { container, build, digest }) in built {
            let made = self.made(&digest)?;
            let gone = !build.secrets.is_empty()
                && matches!(
                    self.builder.resolve(&ImageRef(digest), &Unheard).await,
                    Err(ContainerError::NoImage { .. })
                );
            let since = made.as_ref().map(|made| made.since);
            let bases = made.map(|made| made.bases).unwrap_or_default().into_iter();
            let bases =
                bases.map(|(name, used)| Base { now: names.get(&name).cloned(), name, used }).collect();
            facts.push(BuildFacts { urn: recorded.urn.clone(), container, since, bases, gone });
        }
        Ok(facts)
    }
}

struct BuildOf {
    container: Option<String>,
    build: inputs::Build,
    /// Of the image that was deployed.
    digest: String,
}

fn builds_of(recorded: &Recorded) -> Vec<BuildOf> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let outputs = &recorded.outputs;
    match recorded.urn.kind {
        Kind::Task => {
            let task = inputs::read::<inputs::Task>(&recorded.urn, &recorded.inputs).ok();
            let build = task.and_then(|task| task.build);
            let of = |build| BuildOf { container: None, build, digest: text(outputs.get("image")) };
            build.map(of).into_iter().collect()
        }
        Kind::Service => {
            let service = inputs::read::<inputs::Service>(&recorded.urn, &recorded.inputs).ok();
            let containers = service.map(|service| service.containers).unwrap_or_default().into_iter();
            let of = |(name, container): (String, inputs::Container)| {
                let digest = text(outputs.get("images").and_then(|images| images.get(&name)));
                Some(BuildOf { container: Some(name), build: container.build?, digest })
            };
            containers.filter_map(of).collect()
        }
        Kind::Bucket
        | Kind::Queue
        | Kind::Stream
        | Kind::Function
        | Kind::Subscription
        | Kind::Timer
        | Kind::Topic
        | Kind::Workflow
        | Kind::Entity
        | Kind::Volume => Vec::new(),
    }
}
