//! Writes an image as an OCI image layout, its layers compressed.

use std::{fs, path::Path};

use super::{BuildahStore, session::Session, settings};
use crate::{ContainerError, descriptor, layout::at, tool};

/// Writes into a folder that is not there yet. What is left of one that failed is the caller's to remove.
pub(super) async fn run(store: &BuildahStore, id: &str, folder: &Path) -> Result<(), ContainerError> {
    // Nobody clears its scratch files meanwhile.
    let session = Session::begin(store).await?;
    fs::create_dir_all(folder).map_err(at(folder))?;
    let mut push = store.buildah().await?;
    // A relative path: one with a colon would end there.
    push.current_dir(folder).args(["push", "--quiet"]);
    settings::allow(&mut push, &store.layout);
    push.arg(id).arg("oci:.");
    descriptor::inherit(&mut push, session.lock());
    let pushed = tool::output("buildah", &mut push).await;
    session.finish();
    pushed.map(drop)
}
