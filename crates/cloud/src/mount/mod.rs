//! What containers see of volumes and of the host: from what a program asks to folders that exist.
//!
//! A volume is one of the same stack, by its physical id; a folder of the host is any but the cloud's own files, to which
//! it would give away everything (I8, I9). Looked at when a task or a service is deployed, and again when its container
//! is to start, because the host's folders are not ours.

mod error;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tandem_container::Volume;
use tandem_model::{
    Kind, PhysicalId, StackId,
    inputs::{self, Source},
};

pub(crate) use self::error::MountError;
use crate::{home::Home, resource::Resources};

/// The folders behind a container's mounts.
///
/// # Errors
/// [`MountError`] names the one that cannot be had.
pub(crate) fn resolve(
    home: &Home,
    resources: &Resources,
    stack: &StackId,
    mounts: &[inputs::Mount],
) -> Result<Vec<Volume>, MountError> {
    let of = |mount: &inputs::Mount| {
        let source = match &mount.source {
            Source::Volume(id) => volume(home, resources, stack, id)?,
            Source::HostPath(path) => host(home, path)?,
        };
        Ok(Volume { source, target: mount.container_path.clone(), read_only: mount.read_only })
    };
    mounts.iter().map(of).collect()
}

/// As [`resolve`], for what was deployed: a folder of the host that cannot be reached is left as it was named, and the start of a
/// container tells.
///
/// # Errors
/// [`MountError`] for what could not have been deployed.
pub(crate) fn deployed(
    home: &Home,
    resources: &Resources,
    stack: &StackId,
    mounts: &[inputs::Mount],
) -> Result<Vec<Volume>, MountError> {
    let of = |mount: &inputs::Mount| match resolve(home, resources, stack, std::slice::from_ref(mount)) {
        Err(MountError::HostPath { path, .. }) => {
            let (target, read_only) = (mount.container_path.clone(), mount.read_only);
            Ok(vec![Volume { source: path.into(), target, read_only }])
        }
        resolved => resolved,
    };
    let all: Vec<Vec<Volume>> = mounts.iter().map(of).collect::<Result<_, _>>()?;
    Ok(all.concat())
}

/// Just before a start: that no folder of the host leads elsewhere than when it was resolved.
///
/// # Errors
/// [`MountError`] names the one that does, or is gone.
pub(crate) fn recheck(home: &Home, volumes: &[Volume]) -> Result<(), MountError> {
    let (own, mut all) = (home.volumes(), volumes.iter());
    all.try_for_each(|Volume { source, .. }| {
        if source.starts_with(&own) {
            return Ok(());
        }
        let path = source.to_string_lossy();
        match host(home, &path)? {
            real if real == *source => Ok(()),
            real => {
                let moved = io::Error::other(format!("it leads to `{}` now", real.display()));
                Err(MountError::HostPath { path: path.into_owned(), source: moved })
            }
        }
    })
}

fn volume(home: &Home, resources: &Resources, stack: &StackId, id: &str) -> Result<PathBuf, MountError> {
    let physical = PhysicalId(id.to_owned());
    match resources.by_id(Kind::Volume, &physical) {
        Some(found) if found.urn.stack == *stack => Ok(home.volume(&physical)),
        _ => Err(MountError::NoVolume { id: id.to_owned() }),
    }
}

fn host(home: &Home, path: &str) -> Result<PathBuf, MountError> {
    let failed = |source: io::Error| MountError::HostPath { path: path.to_owned(), source };
    if !Path::new(path).is_absolute() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not absolute")));
    }
    // Links are followed now, so that nobody turns them elsewhere later.
    let real = fs::canonicalize(path).map_err(failed)?;
    let own = fs::canonicalize(home.path()).map_err(failed)?;
    if real.starts_with(&own) || own.starts_with(&real) {
        return Err(MountError::Own { path: path.to_owned() });
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tandem_model::{Urn, resource::Recorded};

    use super::*;

    fn resolved(home: &Home, resources: &Resources, mount: serde_json::Value) -> Result<PathBuf, MountError> {
        let mount = serde_json::from_value(mount).unwrap();
        let mut all = resolve(home, resources, &"shop/dev".parse().unwrap(), &[mount])?;
        Ok(all.remove(0).source)
    }

    #[test]
    fn a_volume_is_one_of_the_same_stack() {
        let folder = tempfile::tempdir().unwrap();
        let (home, resources) = (Home::new(folder.path()), Resources::default());
        for (stack, id) in [("shop:dev", "data-1"), ("shop:prod", "data-2")] {
            let urn: Urn = format!("urn:tandem:{stack}:volume:data").parse().unwrap();
            let (inputs, outputs) = Default::default();
            resources.put(Recorded {
                urn,
                id: PhysicalId(id.into()),
                inputs,
                outputs,
                depends_on: Vec::new(),
            });
        }
        let of = |id: &str| resolved(&home, &resources, json!({ "containerPath": "/data", "volume": id }));
        assert_eq!(of("data-1").unwrap(), home.path().join("volumes/data-1"));
        for other in ["data-2", "data-3", "../data-1"] {
            assert!(matches!(of(other), Err(MountError::NoVolume { .. })), "{other}");
        }
    }

    #[test]
    fn a_folder_that_leads_elsewhere_since_is_not_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        let home = Home::new(folder.join("home"));
        fs::create_dir_all(home.volumes()).unwrap();
        fs::create_dir_all(folder.join("other")).unwrap();
        let at = |source: PathBuf| [Volume { source, target: "/data".into(), read_only: true }];
        let shared = at(home.volumes().join("data-1"));
        let other = at(folder.join("other"));
        assert!(recheck(&home, &shared).is_ok() && recheck(&home, &other).is_ok());
        fs::remove_dir(folder.join("other")).unwrap();
        assert!(matches!(recheck(&home, &other), Err(MountError::HostPath { .. })));
        std::os::unix::fs::symlink(home.path(), folder.join("other")).unwrap();
        assert!(matches!(recheck(&home, &other), Err(MountError::Own { .. })));
    }

    #[test]
    fn a_folder_of_the_host_exists_and_is_not_the_clouds() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().join("home"));
        fs::create_dir_all(home.volumes()).unwrap();
        fs::create_dir(folder.path().join("other")).unwrap();
        std::os::unix::fs::symlink(home.path(), folder.path().join("link")).unwrap();
        let of = |path: &Path| {
            let mount = json!({ "containerPath": "/data", "hostPath": path, "readOnly": true });
            resolved(&home, &Resources::default(), mount)
        };
        let other = fs::canonicalize(folder.path()).unwrap().join("other");
        assert_eq!(of(&other).unwrap(), other);
        for own in [home.path(), &home.volumes(), folder.path(), Path::new("/"), &folder.path().join("link")]
        {
            assert!(matches!(of(own), Err(MountError::Own { .. })), "{}", own.display());
        }
        for absent in [folder.path().join("absent").as_path(), Path::new("data")] {
            assert!(matches!(of(absent), Err(MountError::HostPath { .. })), "{}", absent.display());
        }
    }
}
