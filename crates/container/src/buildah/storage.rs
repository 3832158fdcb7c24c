//! Reads the records of the image store that Buildah keeps (the library `containers/storage`).
//!
//! Asking Buildah takes a process of 40 ms each time; these files answer at once, and they alone say in which folders
//! an image's layers are unpacked. The library replaces each file whole (rename), so a read is never torn. Nothing here
//! writes: what changes the store goes through Buildah.
//!
//! Layout, in the store's root: `<driver>-images/images.json`, `<driver>-containers/containers.json`,
//! `<driver>-layers/layers.json`; unpacked layers in `overlay/<layer>/diff`, or `vfs/dir/<layer>`. The same in all
//! versions since 2017.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{ContainerError, layout::at, reference};

/// How the store keeps layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// Each layer is a folder with its differences. What is wanted.
    Overlay,
    /// Each layer is a whole copy: slow and large, and works on any file system.
    Vfs,
}

impl Driver {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Vfs => "vfs",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct ImageRecord {
    /// Hexadecimal digest of the configuration.
    pub(super) id: String,
    #[serde(default)]
    pub(super) names: Option<Vec<String>>,
    /// `sha256:…` of the manifest.
    #[serde(default)]
    pub(super) digest: String,
    /// Of each further manifest that means this image, `manifest-sha256:…`.
    #[serde(default)]
    pub(super) big_data_names: Vec<String>,
    /// The uppermost layer; empty if it has none.
    #[serde(default)]
    pub(super) layer: String,
    #[serde(default)]
    pub(super) created: Option<Timestamp>,
}

/// A working container: somebody's build, or one of our pins.
#[derive(Debug, Deserialize)]
pub(super) struct ContainerRecord {
    pub(super) id: String,
    #[serde(default)]
    pub(super) names: Option<Vec<String>>,
    pub(super) image: String,
    pub(super) layer: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct LayerRecord {
    pub(super) id: String,
    #[serde(default)]
    pub(super) parent: Option<String>,
    #[serde(default)]
    pub(super) diff_size: u64,
    /// The digest of the blob that it was unpacked from, if it came as one.
    #[serde(default)]
    pub(super) compressed_diff_digest: Option<String>,
}

/// The unpacked layers of an image, uppermost first, and their size together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) folders: Vec<PathBuf>,
    pub(super) size: u64,
}

fn records<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, ContainerError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| at(path)(error.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(at(path)(error)),
    }
}

pub(super) fn images(root: &Path, driver: Driver) -> Result<Vec<ImageRecord>, ContainerError> {
    let mut all: Vec<ImageRecord> = records(&root.join(format!("{}-images/images.json", driver.name())))?;
    for name in all.iter_mut().flat_map(|image| image.names.iter_mut().flatten()) {
        *name = reference::outward(name);
    }
    Ok(all)
}

pub(super) fn containers(root: &Path, driver: Driver) -> Result<Vec<ContainerRecord>, ContainerError> {
    records(&root.join(format!("{}-containers/containers.json", driver.name())))
}

/// All layers, by id.
pub(super) fn layers(root: &Path, driver: Driver) -> Result<HashMap<String, LayerRecord>, ContainerError> {
    let all: Vec<LayerRecord> = records(&root.join(format!("{}-layers/layers.json", driver.name())))?;
    Ok(all.into_iter().map(|layer| (layer.id.clone(), layer)).collect())
}

/// The layers below `top`, which is a working container's own and empty.
pub(super) fn chain_below(root: &Path, driver: Driver, top: &str) -> Result<Chain, ContainerError> {
    let layers: Vec<LayerRecord> = records(&root.join(format!("{}-layers/layers.json", driver.name())))?;
    let find = |id: &str| {
        layers.iter().find(|layer| layer.id == id).ok_or_else(|| ContainerError::Tool {
            tool: "the image store",
            reason: format!("it does not know its own layer {id}"),
        })
    };
    let mut chain = Chain { folders: Vec::new(), size: 0 };
    let mut next = find(top)?.parent.clone();
    while let Some(id) = next.filter(|id| !id.is_empty()) {
        let layer = find(&id)?;
        chain.folders.push(folder(root, driver, &id)?);
        chain.size += layer.diff_size;
        next = layer.parent.clone();
    }
    if driver == Driver::Vfs {
        // The uppermost is a copy of all that is below it.
        chain.folders.truncate(1);
    }
    if chain.folders.is_empty() {
        // An image of no layers (`FROM scratch` and nothing copied); overlayfs wants one folder.
        chain.folders.push(folder(root, driver, top)?);
    }
    Ok(chain)
}

fn folder(root: &Path, driver: Driver, layer: &str) -> Result<PathBuf, ContainerError> {
    match driver {
        Driver::Vfs => Ok(root.join("vfs/dir").join(layer)),
        Driver::Overlay => {
            // The library's own short names: more layers fit in one page of mount options.
            let link = root.join("overlay").join(layer).join("link");
            let short = fs::read_to_string(&link).map_err(at(link))?;
            Ok(root.join("overlay/l").join(short.trim()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(layers: &str) -> tempfile::TempDir {
        let root = tempfile::TempDir::new().unwrap();
        fs::create_dir_all(root.path().join("overlay-layers")).unwrap();
        fs::write(root.path().join("overlay-layers/layers.json"), layers).unwrap();
        for layer in ["base", "middle", "top"] {
            fs::create_dir_all(root.path().join("overlay").join(layer)).unwrap();
            fs::write(root.path().join("overlay").join(layer).join("link"), layer.to_uppercase()).unwrap();
        }
        root
    }

    #[test]
    fn layers_come_uppermost_first_without_the_containers_own() {
        let root = store(
            r#"[{"id":"base","diff-size":100},{"id":"top","parent":"middle"},
                {"id":"middle","parent":"base","diff-size":20}]"#,
        );
        let chain = chain_below(root.path(), Driver::Overlay, "top").unwrap();
        let short = |name: &str| root.path().join("overlay/l").join(name);
        assert_eq!(chain, Chain { folders: vec![short("MIDDLE"), short("BASE")], size: 120 });
    }

    #[test]
    fn a_store_that_lost_a_layer_is_an_error_and_an_empty_store_has_no_images() {
        let root = store(r#"[{"id":"top","parent":"gone"}]"#);
        assert!(chain_below(root.path(), Driver::Overlay, "top").is_err());
        assert!(images(root.path(), Driver::Overlay).unwrap().is_empty());
    }
}
