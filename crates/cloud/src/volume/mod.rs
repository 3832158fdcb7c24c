//! Volumes: folders that containers share, and that stay when these go.
//!
//! A volume is a folder under its physical id, which is new for each volume, so none ever finds another one's files.
//!
//! Who owns it: the folders under `<home>/volumes` are made and removed here; what is in them is the containers'. A volume
//! is there with its record: the folder is made before it, and removed after the commit that deletes it, which also writes
//! that its folder is to go.
//!
//! | killed | record | folder | a restart |
//! |---|---|---|---|
//! | before the commit of a creation | none | there, empty | removes it, as no record names it; a repetition makes it again |
//! | after the commit of a deletion | `volume/doomed/<id>` | there | removes it; with files only if the deletion was forced |
//! | while it is removed | `volume/doomed/<id>` | partly there | removes the rest |
//!
//! A folder that no record names is removed only if it is empty: if the records are lost, the files are not. Backups
//! have no volumes, whose files nobody can copy at one moment; after a restore they are there, and empty (0154).

mod error;

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::json;
use tandem_failpoint::hit;
use tandem_model::{
    Explain, Kind, PhysicalId, Report, Urn, inputs,
    plan::Change,
    resource::{Properties, Recorded},
};
use tandem_store::{Batch, Store};
use tokio::task::spawn_blocking;

pub use self::error::VolumeError;
use crate::{
    home::Home,
    provider::{Holding, Lines, Provider},
    resource::Resources,
};

const DOOMED: &str = "volume/doomed/";
/// The folder goes with its files.
const FORCED: &[u8] = b"forced";
/// It goes if nothing is in it.
const EMPTY: &[u8] = b"empty";

/// The volumes of one cloud.
#[derive(Debug)]
pub struct Volumes {
    home: Home,
    store: Arc<dyn Store>,
    resources: Arc<Resources>,
}

impl Volumes {
    pub fn new(home: Home, store: Arc<dyn Store>, resources: Arc<Resources>) -> Self {
        Self { home, store, resources }
    }

    /// Finishes deletions that a former process began, and removes folders that it made for nothing. Called once, when
    /// all resources are settled and before any is made.
    pub async fn sweep(&self) {
        if let Err(error) = self.finish_deletions().await {
            tracing::warn!(%error, "volumes that were deleted are still there");
        }
        for entry in fs::read_dir(self.home.volumes()).into_iter().flatten().flatten() {
            let id = PhysicalId(entry.file_name().to_string_lossy().into_owned());
            if self.resources.by_id(Kind::Volume, &id).is_none() {
                // Fails if something is in it.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    async fn finish_deletions(&self) -> Result<(), VolumeError> {
        let doomed: Vec<Bytes> = {
            let snapshot = self.store.snapshot()?;
            let rows = snapshot.prefix(DOOMED.as_bytes())?.map(|row| Ok(row?.0));
            rows.collect::<Result<_, VolumeError>>()?
        };
        for row in doomed {
            let name = String::from_utf8_lossy(&row[DOOMED.len()..]).into_owned();
            self.remove(&PhysicalId(name)).await?;
        }
        Ok(())
    }

    /// The folder, and then the note that it is to go. Without force a file that came since it was counted stays, and
    /// the folder with it.
    async fn remove(&self, id: &PhysicalId) -> Result<(), VolumeError> {
        let Some(how) = self.store.snapshot()?.get(&doomed(id))? else { return Ok(()) };
        let folder = self.home.volume(id);
        let path = folder.clone();
        let removed = blocking(move || match &*how {
            FORCED => fs::remove_dir_all(folder),
            _ => remove_empty(&folder),
        });
        match removed.await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                tracing::warn!(folder = %path.display(), "a volume is gone, and files that came at the last moment are kept");
            }
            Err(error) => return Err(VolumeError::Io { path, source: error }),
        }
        hit("volume.folder.removed");
        let mut batch = Batch::default();
        batch.delete(doomed(id)).frees();
        Ok(self.store.commit(batch).await?)
    }

    /// Whether it may go with its files.
    fn is_forced(&self, urn: &Urn, id: &PhysicalId, force: bool) -> bool {
        let recorded = self.resources.by_id(Kind::Volume, id);
        let declared = recorded.map(|r| inputs::read::<inputs::Volume>(urn, &r.inputs));
        force || declared.is_some_and(|read| read.is_ok_and(|volume| volume.force_destroy))
    }

    async fn make(&self, id: &PhysicalId) -> Result<(), VolumeError> {
        let (all, folder) = (self.home.volumes(), self.home.volume(id));
        let path = folder.clone();
        let made = blocking(move || {
            // What is in a volume may belong to anybody and grant rights, so nobody else of the host gets there.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&all)?;
            fs::create_dir_all(&folder)?;
            // Images have users of their own.
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
            fs::File::open(&all)?.sync_all()
        });
        made.await.map_err(|source| VolumeError::Io { path, source })
    }

    async fn count(&self, id: &PhysicalId) -> Result<Holding, VolumeError> {
        let folder = self.home.volume(id);
        let path = folder.clone();
        blocking(move || {
            let mut holding = Holding { unit: "file", ..Holding::default() };
            count(&folder, &mut holding)?;
            Ok(holding)
        })
        .await
        .map_err(|source| VolumeError::Io { path, source })
    }
}

#[async_trait]
impl Provider for Volumes {
    async fn prepare(&self, change: &Change, id: &PhysicalId, _: &dyn Lines) -> Result<Properties, Report> {
        let done = match change {
            Change::Create { urn, inputs } | Change::Update { urn, new: inputs, .. } => {
                inputs::read::<inputs::Volume>(urn, inputs).map_err(|e| VolumeError::from(e).report())?;
                match change {
                    Change::Create { .. } => self.make(id).await,
                    // Its folder is the containers' by now.
                    _ => Ok(()),
                }
            }
            Change::Delete { urn, force, .. } => {
                let forced = self.is_forced(urn, id, *force);
                match self.count(id).await {
                    Ok(holding) if holding.items > 0 && !forced => {
                        Err(VolumeError::NotEmpty { name: urn.name.to_string(), files: holding.items })
                    }
                    counted => counted.map(drop),
                }
            }
        };
        done.map_err(|error| error.report())?;
        Ok(match change {
            Change::Delete { .. } => Properties::new(),
            _ => Properties::from_iter([("id".to_owned(), json!(id.0))]),
        })
    }

    fn write(&self, batch: &mut Batch, change: &Change, id: &PhysicalId) -> Result<(), Report> {
        if let Change::Delete { urn, force, .. } = change {
            batch.put(doomed(id), if self.is_forced(urn, id, *force) { FORCED } else { EMPTY });
        }
        Ok(())
    }

    async fn settle(&self, urn: &Urn, id: &PhysicalId, now: Option<&Recorded>) {
        let done = match now {
            Some(_) if self.home.volume(id).exists() => Ok(()),
            // After a restore.
            Some(_) => self.make(id).await,
            None => self.remove(id).await,
        };
        if let Err(error) = done {
            let error = error.report().message;
            tracing::error!(%urn, error, "a volume is not as it should be; the next start tries again");
        }
    }

    async fn holding(&self, id: &PhysicalId) -> Result<Option<Holding>, Report> {
        self.count(id).await.map(Some).map_err(|error| error.report())
    }
}

fn doomed(id: &PhysicalId) -> Bytes {
    format!("{DOOMED}{}", id.0).into()
}

/// Removes folders that have nothing but folders in them.
fn remove_empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        remove_empty(&entry.path())?;
    }
    fs::remove_dir(folder)
}

/// Whatever is no folder counts as a file. What vanishes meanwhile is not there.
fn count(folder: &Path, holding: &mut Holding) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => count(&entry.path(), holding)?,
            Ok(meta) => {
                holding.items += 1;
                holding.bytes += meta.size();
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use tandem_store::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_file_that_came_after_the_count_stays_unless_the_deletion_was_forced() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let volumes = Volumes::new(home.clone(), store.clone(), Arc::default());
        let urn: Urn = "urn:tandem:shop:dev:volume:data".parse().unwrap();
        for (name, force, stays) in [("empty", false, false), ("late", false, true), ("forced", true, false)]
        {
            let id = PhysicalId(name.into());
            volumes.make(&id).await.unwrap();
            let mut batch = Batch::default();
            let change = Change::Delete { urn: urn.clone(), id: id.clone(), force };
            volumes.write(&mut batch, &change, &id).unwrap();
            store.commit(batch).await.unwrap();
            fs::create_dir(home.volume(&id).join("folder")).unwrap();
            if name != "empty" {
                fs::write(home.volume(&id).join("folder/file"), "words").unwrap();
            }
            volumes.settle(&urn, &id, None).await;
            assert_eq!(home.volume(&id).join("folder/file").exists(), stays, "{name}");
            assert_eq!(home.volume(&id).exists(), stays, "{name}");
            volumes.sweep().await;
            assert_eq!(home.volume(&id).exists(), stays, "{name}: a start takes no files either");
        }
    }
}
