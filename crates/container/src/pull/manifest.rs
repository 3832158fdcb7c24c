//! What a registry's manifest says, as far as a pull wants to know: OCI image spec 1.1 ("Image Manifest", "Image Index")
//! and Docker's "Image Manifest V2, Schema 2", which has the same members.

use oci_client::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use serde::Deserialize;

use crate::Platform;

/// Something that is stored by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    /// `sha256:<hex>`
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default)]
    platform: Option<Of>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Of {
    os: String,
    architecture: String,
    variant: String,
}

impl Descriptor {
    /// The digest's hexadecimal digits, if it is one that can be checked.
    pub(super) fn hex(&self) -> Option<&str> {
        let hex = self.digest.strip_prefix("sha256:")?;
        let plain = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        plain.then_some(hex)
    }

    fn platform(&self) -> Option<Platform> {
        let of = self.platform.as_ref()?;
        // Attestations stand among the images, for `unknown/unknown`.
        Platform::of(&of.os, &of.architecture, Some(&of.variant)).filter(|_| of.os != "unknown")
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Manifest {
    Index(Vec<Descriptor>),
    Image { config: Descriptor, layers: Vec<Descriptor> },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

/// Reads one; answers it with its media type.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(bytes: &[u8]) -> Result<(Manifest, &'static str), String> {
    let text: Text =
        serde_json::from_slice(bytes).map_err(|error| format!("its manifest is none: {error}"))?;
    if text.schema_version != 2 {
        return Err("its manifest is of a format that was given up in 2017; push the image anew".to_owned());
    }
    let is_docker = |kind: &str| text.media_type.as_deref() == Some(kind);
    let (manifest, media_type) = match (text.config.clone(), text.layers.clone(), text.manifests.clone()) {
        (None, None, Some(all)) if is_docker(IMAGE_MANIFEST_LIST_MEDIA_TYPE) => {
            (Manifest::Index(all), IMAGE_MANIFEST_LIST_MEDIA_TYPE)
        }
        (None, None, Some(all)) => (Manifest::Index(all), OCI_IMAGE_INDEX_MEDIA_TYPE),
        (Some(config), Some(layers), None) => {
            let kinds = [IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE];
            if !kinds.contains(&config.media_type.as_str()) {
                return Err(format!(
                    "it is nothing that containers run from, but something of type `{}`",
                    config.media_type
                ));
            }
            let docker = is_docker(IMAGE_MANIFEST_MEDIA_TYPE);
            let kind = if docker { IMAGE_MANIFEST_MEDIA_TYPE } else { OCI_IMAGE_MEDIA_TYPE };
            (Manifest::Image { config, layers }, kind)
        }
        _ => return Err("its manifest describes neither an image nor a list of images".to_owned()),
    };
    let all: Vec<&Descriptor> = match &manifest {
        Manifest::Index(all) => all.iter().collect(),
        Manifest::Image { config, layers } => [config].into_iter().chain(layers).collect(),
    };
    match all.iter().find(|descriptor| descriptor.hex().is_none()) {
        Some(strange) => Err(format!("`{}` is no digest that could be checked", strange.digest)),
        None => Ok((manifest, media_type)),
    }
}

/// Chooses the image of an index for a platform; without one, that for this machine, else one whose programs run here.
///
/// # Errors
/// The platforms that there are.
pub(super) fn choose<'a>(
    index: &'a [Descriptor],
    asked: Option<&Platform>,
) -> Result<(&'a Descriptor, Platform), Vec<String>> {
    let all: Vec<(&Descriptor, Platform)> =
        index.iter().filter_map(|one| Some((one, one.platform()?))).collect();
    let here = Platform::here();
    let wanted = asked.unwrap_or(&here);
    let exact = all.iter().find(|(_, platform)| platform == wanted);
    let fitting = || all.iter().find(|(_, platform)| platform.fits(wanted));
    let running =
        || all.iter().find(|(_, platform)| asked.is_none() && platform.check_runs_here("it").is_ok());
    match exact.or_else(fitting).or_else(running) {
        Some((descriptor, platform)) => Ok((descriptor, platform.clone())),
        None => Err(all.into_iter().map(|(_, platform)| platform.to_string()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn digest(n: u8) -> String {
        format!("sha256:{}", format!("{n:02x}").repeat(32))
    }

    fn index(platforms: &[&str]) -> Vec<Descriptor> {
        let one = |(n, text): (usize, &&str)| {
            let parts: Vec<&str> = text.split('/').collect();
            let platform = json!({
                "os": parts[0], "architecture": parts[1], "variant": parts.get(2).unwrap_or(&""),
            });
            json!({ "digest": digest(n as u8), "size": 1, "platform": platform })
        };
        let manifests: Vec<Value> = platforms.iter().enumerate().map(one).collect();
        let bytes = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
        match parse(bytes.as_bytes()).unwrap() {
            (Manifest::Index(all), OCI_IMAGE_INDEX_MEDIA_TYPE) => all,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn of_an_index_the_asked_platform_is_chosen_and_the_others_are_told() {
        let all =
            index(&["unknown/unknown", "linux/arm64/v8", "linux/mips64le", "linux/arm/v6", "linux/arm/v7"]);
        let chosen = |text: &str| {
            let platform: Platform = text.parse().unwrap();
            choose(&all, Some(&platform)).map(|(one, _)| one.digest.clone())
        };
        assert_eq!(chosen("linux/arm64"), Ok(digest(1)));
        assert_eq!(chosen("linux/arm/v7"), Ok(digest(4)));
        let found = ["linux/arm64/v8", "linux/mips64le", "linux/arm/v6", "linux/arm/v7"].map(str::to_owned);
        assert_eq!(chosen("linux/riscv64"), Err(found.to_vec()));
        let here = Platform::here().to_string();
        let mixed = index(&["linux/mips64le", &here]);
        assert_eq!(choose(&mixed, None).unwrap().0.digest, digest(1));
        assert_eq!(choose(&index(&["unknown/unknown"]), None), Err(vec![]));
    }

    #[test]
    fn what_is_no_image_is_refused_with_a_reason() {
        let config = |kind: &str, digest: &str| json!({ "mediaType": kind, "digest": digest, "size": 2 });
        let oci = IMAGE_CONFIG_MEDIA_TYPE;
        for (text, reason) in [
            (json!({ "schemaVersion": 1, "fsLayers": [] }), "given up"),
            (json!({ "schemaVersion": 2 }), "neither"),
            (json!([]), "none"),
            (
                json!({ "schemaVersion": 2, "config": config("a/chart", &digest(1)), "layers": [] }),
                "`a/chart`",
            ),
            (
                json!({ "schemaVersion": 2, "config": config(oci, "sha256:../x"), "layers": [] }),
                "`sha256:../x`",
            ),
            (json!({ "schemaVersion": 2, "manifests": [{ "digest": "md5:1", "size": 1 }] }), "`md5:1`"),
        ] {
            let said = parse(text.to_string().as_bytes()).unwrap_err();
            assert!(said.contains(reason), "{said}");
        }
    }
}
