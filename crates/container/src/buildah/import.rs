//! Takes an image from a file, or from the folder of an OCI image layout.
//!
//! A tar of a root file system becomes the one layer of a new image, by writing an OCI image layout around it (OCI
//! image spec 1.1, "Image Layout"): the tar itself is linked, not copied. Its configuration depends on the tar alone,
//! so importing the same file again gives the same image.
//!
//! Buildah names what it pulls from a folder after the folder. That name ([`INTERIM`]) is taken away once the image has
//! its own; the next session takes it away if we are killed in between.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tandem_failpoint::hit;
use tokio::task::spawn_blocking;

use super::{
    BuildahStore,
    archive::{self, Compression, Kind, Layer},
    build::unique,
    session::Session,
    settings,
};
use crate::{ContainerError, Platform, descriptor, layout::at, tool};

/// How names begin that Buildah gives to images on their way in.
pub(super) const INTERIM: &str = "localhost/tandem-import-";

/// Imports, and returns the image's id in hexadecimal digits. Of a layout with an index, the image for `platform`.
pub(super) async fn run(
    store: &BuildahStore,
    file: &Path,
    name: &str,
    platform: Option<&Platform>,
) -> Result<String, ContainerError> {
    let file = fs::canonicalize(file).map_err(at(file))?;
    let session = Session::begin(store).await?;
    let folder = format!("tandem-import-{}", unique());
    let scratch = store.layout.scratch().join(&folder);
    let to = scratch.clone();
    let source = spawn_blocking(move || source(&file, &to)).await.map_err(tool::broken)?;
    let pulled = match source {
        Ok(source) => pull(store, &session, (&source, &folder), name, platform).await,
        Err(error) => Err(error),
    };
    // Scratch; the next session would clear it too.
    let _ = if scratch.is_symlink() { fs::remove_file(&scratch) } else { fs::remove_dir_all(&scratch) };
    session.finish();
    pulled
}

async fn pull(
    store: &BuildahStore,
    session: &Session,
    (source, folder): (&str, &str),
    name: &str,
    platform: Option<&Platform>,
) -> Result<String, ContainerError> {
    let mut pull = store.buildah().await?;
    // The source is relative: the name it gives must not have what a home's path may have, such as capital letters.
    pull.current_dir(store.layout.scratch());
    pull.args(["pull", "--quiet"]);
    if let Some(platform) = platform {
        pull.arg("--platform").arg(platform.to_string());
    }
    settings::allow(&mut pull, &store.layout);
    pull.arg(source);
    descriptor::inherit(&mut pull, session.lock());
    let printed = tool::output("buildah", &mut pull).await?;
    let id = printed.lines().last().unwrap_or_default().trim().trim_start_matches("sha256:");
    hit("container.image.imported");
    store.tag(id, name).await?;
    // Nobody else's: it may be the only name of an image that is on its way in.
    store.remove_interim_names(&interim_name(folder)).await?;
    Ok(id.to_owned())
}

/// How Buildah calls what it pulled from this folder: `localhost/<folder>:latest`.
fn interim_name(folder: &str) -> String {
    format!("localhost/{folder}:")
}

/// Makes of the file what Buildah can pull, and says how it is called.
fn source(file: &Path, scratch: &Path) -> Result<String, ContainerError> {
    let folder = PathBuf::from(scratch.file_name().unwrap_or_default());
    if file.is_dir() {
        fs::create_dir_all(scratch.parent().unwrap_or(scratch)).map_err(at(scratch))?;
        // Under our name, which the image has on its way in.
        symlink(file, scratch).map_err(at(scratch))?;
        return Ok(format!("oci:{}", folder.display()));
    }
    let kind = archive::recognise(file)?;
    fs::create_dir_all(scratch).map_err(at(scratch))?;
    let plain = |compression| -> Result<PathBuf, ContainerError> {
        let tar = scratch.join("archive.tar");
        if compression == Compression::None {
            // A name without colons, which would end the path.
            symlink(file, &tar).map_err(at(&tar))?;
        } else {
            archive::unpack(file, compression, &tar)?;
        }
        Ok(folder.join("archive.tar"))
    };
    match kind {
        Kind::Docker { compression } => Ok(format!("docker-archive:{}", plain(compression)?.display())),
        Kind::Oci { compression } => Ok(format!("oci-archive:{}", plain(compression)?.display())),
        Kind::RootFs(layer) => {
            lay_out(file, &layer, scratch).map_err(at(scratch))?;
            Ok(format!("oci:{}", folder.display()))
        }
    }
}

pub(crate) fn lay_out(file: &Path, layer: &Layer, folder: &Path) -> std::io::Result<()> {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    symlink(file, blobs.join(&layer.digest))?;
    let put = |value: &Value| -> std::io::Result<Value> {
        let bytes = serde_json::to_vec(value)?;
        let digest = archive::hex(Sha256::new_with_prefix(&bytes));
        fs::write(blobs.join(&digest), &bytes)?;
        Ok(json!({ "digest": format!("sha256:{digest}"), "size": bytes.len() }))
    };
    let described = |mut descriptor: Value, media_type: &str| {
        descriptor["mediaType"] = json!(media_type);
        descriptor
    };
    let created =
        jiff::Timestamp::try_from(fs::metadata(file)?.modified()?).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let config = put(&json!({
        "created": created,
        "architecture": Platform::here().architecture(),
        "os": "linux",
        "config": { "Cmd": ["/bin/sh"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", layer.diff_id)] },
        "history": [{ "created": created, "created_by": "import of a root file system" }],
    }))?;
    let manifest = put(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [{
            "mediaType": layer.compression.media_type(),
            "digest": format!("sha256:{}", layer.digest),
            "size": layer.size,
        }],
    }))?;
    let index = json!({ "schemaVersion": 2, "manifests": [described(manifest, MANIFEST)] });
    fs::write(folder.join("index.json"), index.to_string())?;
    fs::write(folder.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
