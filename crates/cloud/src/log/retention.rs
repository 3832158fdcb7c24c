//! Logs of resources that were deleted go after a time.
//!
//! When a resource was deleted is noted in the folder of its log (`deleted`, a time), by the first sweep that finds it
//! gone; a resource of that name that is made again removes the note. [`KEPT`] after that time, or after its last line
//! if that came later, the folder goes, unless somebody follows it: then a later sweep takes it. Killed in between, a
//! sweep leaves a part of a folder, which the next one finds gone, notes anew and takes in its time.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tandem_model::Urn;
use tokio::sync::oneshot;

use super::{Filter, Log, LogError, blocking, segment, writer::Request};
use crate::resource::Resources;

/// How long the log of a resource is kept after the resource was deleted: seven days. The guide says so.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How often it is looked.
const EVERY: Duration = Duration::from_secs(60 * 60);

const NOTE: &str = "deleted";

/// What is followed at the moment.
#[derive(Debug, Default)]
pub(super) struct Followed(Mutex<Vec<Weak<Filter>>>);

impl Followed {
    /// From now on, and as long as the filter lives, what it asks for is not removed.
    pub(super) fn add(&self, filter: &Arc<Filter>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(filter));
    }

    /// Does it unless the resource is followed; nobody can begin to follow it meanwhile. Answers whether it was done.
    pub(super) fn unless(&self, resource: &Urn, remove: impl FnOnce()) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let followed = all.iter().filter_map(Weak::upgrade).any(|filter| filter.wants(resource));
        if !followed {
            remove();
        }
        !followed
    }
}

/// Sweeps at once and then every hour, until it is dropped or the cloud is gone.
pub async fn run<S: Future<Output = ()>>(
    log: Log,
    resources: Weak<Resources>,
    now: impl Fn() -> Timestamp,
    sleep: impl Fn(Duration) -> S,
) {
    loop {
        {
            let Some(resources) = resources.upgrade() else { return };
            let exists = move |urn: &Urn| resources.by_urn(urn).is_some();
            match log.expire(exists, now()).await {
                Ok(0) => {}
                Ok(logs) => tracing::info!(logs, "removed the logs of resources that were deleted"),
                Err(error) => tracing::warn!(%error, "cannot remove old logs; the next hour tries again"),
            }
        }
        sleep(EVERY).await;
    }
}

impl Log {
    /// Notes which resources are gone, and removes the logs of those that have been for long enough. Answers of how many.
    ///
    /// # Errors
    /// [`LogError::Io`] if a folder cannot be read or the note not be written.
    pub(super) async fn expire(
        &self,
        exists: impl Fn(&Urn) -> bool + Send + 'static,
        now: Timestamp,
    ) -> Result<usize, LogError> {
        let root = self.shared.root.clone();
        let due = blocking(move || {
            due(&root, exists, now).map_err(|source| LogError::Io { path: root.clone(), source })
        });
        let mut removed = 0;
        for resource in due.await? {
            removed += usize::from(self.forget(&resource).await);
        }
        Ok(removed)
    }

    /// Deletes what is kept of a resource, unless somebody follows it. Answers whether it was deleted.
    pub(super) async fn forget(&self, resource: &Urn) -> bool {
        let (done, forgotten) = oneshot::channel();
        let _ = self.shared.requests.send(Request::Forget(resource.clone(), done)).await;
        // A writer that has ended deletes nothing.
        forgotten.await.unwrap_or(false)
    }
}

/// The resources whose logs go now. One that cannot be looked at is in nobody else's way.
fn due(root: &Path, exists: impl Fn(&Urn) -> bool, now: Timestamp) -> io::Result<Vec<Urn>> {
    let mut due = Vec::new();
    for resource in segment::resources(root, |_| true)? {
        match gone_since(&segment::folder(root, &resource), exists(&resource), now) {
            Ok(Some(since)) if now.duration_since(since) >= KEPT => due.push(resource),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%resource, %error, "cannot note whether a log's resource is deleted")
            }
        }
    }
    Ok(due)
}

/// Since when the resource of a log has been gone; none if it exists.
fn gone_since(folder: &Path, exists: bool, now: Timestamp) -> io::Result<Option<Timestamp>> {
    let note = folder.join(NOTE);
    if exists {
        return match fs::remove_file(&note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(None),
        };
    }
    let noted = fs::read_to_string(&note).ok().and_then(|text| text.parse::<Timestamp>().ok());
    let Some(deleted) = noted else {
        // Also in place of one that a full disk left empty.
        fs::write(&note, now.to_string())?;
        return Ok(Some(now));
    };
    Ok(Some(segment::last_written(folder)?.map_or(deleted, |written| written.max(deleted))))
}
