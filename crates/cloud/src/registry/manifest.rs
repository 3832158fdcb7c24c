//! What a manifest says: OCI image spec 1.1 ("Image Manifest", "Image Index"), and Docker's "Image Manifest V2,
//! Schema 2", which has the same members.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{RegistryError, name::Digest};

/// The largest manifest: what the spec asks registries to take, and what clients stop at.
pub(super) const LARGEST: usize = 4 << 20;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default)]
    urls: Vec<String>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// A manifest as far as a registry looks into it.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) media_type: String,
    /// Configuration and layers; nothing for an index.
    pub(super) blobs: Vec<Descriptor>,
    /// Those of an index.
    pub(super) manifests: Vec<Descriptor>,
    pub(super) subject: Option<Digest>,
    pub(super) artifact_type: Option<String>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    /// The digest of the image's configuration, if it is an image that containers run from.
    pub(super) image: Option<Digest>,
}

impl Manifest {
    /// Reads one that came with this media type.
    ///
    /// # Errors
    /// [`RegistryError::ManifestInvalid`] says what is wrong.
    pub(super) fn parse(content: &[u8], media_type: Option<&str>) -> Result<Self, RegistryError> {
        let refused = |reason: String| RegistryError::ManifestInvalid(reason);
        if content.trim_ascii_start().first() != Some(&b'{') {
            return Err(refused("it is no object".to_owned()));
        }
        let text: Text = serde_json::from_slice(content).map_err(|error| refused(error.to_string()))?;
        if text.schema_version != 2 {
            return Err(refused("its schemaVersion is not 2".to_owned()));
        }
        let media_type = match (media_type, text.media_type) {
            (Some(said), Some(inside)) if said != inside => {
                return Err(refused(format!("it came as {said} and says that it is {inside}")));
            }
            (Some(said), _) => said.to_owned(),
            (None, Some(inside)) => inside,
            (None, None) => return Err(refused("its media type is not said".to_owned())),
        };
        let subject = text.subject.map(|subject| subject.digest);
        let (annotations, artifact_type) = (text.annotations, text.artifact_type);
        match (&*media_type, text.config, text.layers, text.manifests) {
            (OCI_MANIFEST | DOCKER_MANIFEST, Some(config), Some(layers), None) => {
                let is_image = matches!(&*config.media_type, OCI_CONFIG | DOCKER_CONFIG);
                let image = (is_image && artifact_type.is_none()).then(|| config.digest.clone());
                let artifact_type = artifact_type.or_else(|| Some(config.media_type.clone()));
                // Layers that must be fetched elsewhere are not pushed.
                let here = |layer: &Descriptor| layer.urls.is_empty();
                let blobs = [config].into_iter().chain(layers.into_iter().filter(here)).collect();
                Ok(Self { media_type, blobs, manifests: vec![], subject, artifact_type, annotations, image })
            }
            (OCI_INDEX | DOCKER_LIST, None, None, Some(manifests)) => Ok(Self {
                media_type,
                blobs: vec![],
                manifests,
                subject,
                artifact_type,
                annotations,
                image: None,
            }),
            (OCI_MANIFEST | DOCKER_MANIFEST, ..) => {
                Err(refused("a manifest has `config` and `layers`, and no `manifests`".to_owned()))
            }
            (OCI_INDEX | DOCKER_LIST, ..) => {
                Err(refused("an index has `manifests`, and neither `config` nor `layers`".to_owned()))
            }
            (other, ..) => Err(refused(format!("manifests of type `{other}` are not known here"))),
        }
    }

    /// All that must be kept as long as this is.
    pub(super) fn refers(&self) -> Vec<Digest> {
        self.blobs.iter().chain(&self.manifests).map(|descriptor| descriptor.digest.clone()).collect()
    }

    /// Of an index, the manifest for this machine.
    pub(super) fn for_this_machine(&self) -> Option<&Descriptor> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        self.manifests.iter().find(|manifest| {
            manifest.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == architecture)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_manifest_is_refused_with_a_reason() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let config = format!(r#"{{"mediaType":"{OCI_CONFIG}","digest":"{digest}","size":1}}"#);
        let cases = [
            ("", "no object"),
            ("{", "EOF"),
            ("{}", "schemaVersion"),
            (r#"{"schemaVersion":1}"#, "schemaVersion"),
            (r#"{"schemaVersion":2}"#, "has `config`"),
            (r#"{"schemaVersion":2,"mediaType":"text/plain"}"#, "says that it is text/plain"),
            (
                &*format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#),
                "no `manifests`",
            ),
            (r#"{"schemaVersion":2,"config":{"digest":"sha256:x","size":1},"layers":[]}"#, "a digest is"),
            (&*format!(r#"{{"x":{}"#, "[".repeat(100_000)), "EOF"),
            ("[2,null,null,null,null,[]]", "no object"),
        ];
        for (text, expected) in cases {
            let error = Manifest::parse(text.as_bytes(), Some(OCI_MANIFEST)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}: {}", text.chars().take(100).collect::<String>());
        }
        let whole = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{config}]}}"#);
        let manifest = Manifest::parse(whole.as_bytes(), Some(OCI_MANIFEST)).unwrap();
        assert!(manifest.image.is_some() && manifest.refers().len() == 2);
        assert!(Manifest::parse(whole.as_bytes(), None).is_err());
        assert!(Manifest::parse(whole.as_bytes(), Some("application/json")).is_err());
    }
}
