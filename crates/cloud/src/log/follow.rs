//! Follows logs: reads on from its positions whenever something says that there may be more.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::StreamExt;
use inotify::{EventMask, EventOwned, EventStream, Inotify, WatchDescriptor, WatchMask};
use tandem_model::Urn;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc,
};

use super::{
    Filter, Line, Log, LogError, RunLog, blocking,
    cursor::{Cursors, Past},
    line_file::Reach,
};

/// Lines as they come. Dropping it ends the following.
#[derive(Debug)]
pub struct Follow {
    lines: mpsc::Receiver<Line>,
}

impl futures::Stream for Follow {
    type Item = Line;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Line>> {
        self.lines.poll_recv(context)
    }
}

/// How many lines may wait for whoever follows; the rest waits in the files.
const AHEAD: usize = 256;

impl Follow {
    pub(super) async fn begin(log: Log, filter: Filter) -> Result<Self, LogError> {
        let filter = Arc::new(filter);
        log.shared.followed.add(&filter);
        // Listen first, then look: nothing can happen in between unseen.
        let written = log.shared.written.subscribe();
        let changes = log.runs().map(|runs| runs.run_changes());
        log.flush().await;
        let (looking, asked) = (log.clone(), filter.clone());
        let cursors = blocking(move || looking.cursors(&asked, Reach::Live)).await?;
        let watches = match changes.is_some() {
            true => Some(Watches::new().map_err(LogError::Watch)?),
            false => None,
        };
        let (sender, lines) = mpsc::channel(AHEAD);
        let mut follower = Follower { log, filter, cursors, written, changes, watches, sender, ended: false };
        follower.watch_runs();
        tokio::spawn(async move {
            if let Err(error) = follower.run().await {
                tracing::warn!(%error, "following logs ended early");
            }
        });
        Ok(Self { lines })
    }
}

struct Follower {
    log: Log,
    /// What it asks for is not removed while this lives.
    filter: Arc<Filter>,
    cursors: Cursors,
    written: broadcast::Receiver<Urn>,
    changes: Option<broadcast::Receiver<RunLog>>,
    watches: Option<Watches>,
    sender: mpsc::Sender<Line>,
    /// The one run that was asked for has ended.
    ended: bool,
}

/// Why there may be more lines.
enum Wake {
    Written(Result<Urn, RecvError>),
    Run(Result<RunLog, RecvError>),
    File(EventOwned),
    /// Nobody listens any more.
    Gone,
}

impl Follower {
    async fn run(mut self) -> Result<(), LogError> {
        self.see_whether_ended().await?;
        let mut tail = self.filter.tail;
        loop {
            self = self.give(tail.take()).await?;
            if self.ended {
                return Ok(());
            }
            let mut next = Some(self.wake().await);
            // Whatever else has come meanwhile is read in the same go.
            while let Some(wake) = next {
                if self.take_up(wake).await?.is_break() {
                    return Ok(());
                }
                next = futures::FutureExt::now_or_never(self.wake());
            }
        }
    }

    /// Gives what there is for now, at first perhaps only the end of it.
    async fn give(mut self, tail: Option<usize>) -> Result<Self, LogError> {
        blocking(move || {
            let Self { cursors, sender, .. } = &mut self;
            let mut give = |line| match sender.blocking_send(line) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            if tail.is_some() {
                let mut past = Past::new(tail);
                cursors.merge(|line| {
                    past.push(line);
                    ControlFlow::Continue(())
                })?;
                let _ = past.into_lines().into_iter().try_for_each(give);
            } else {
                cursors.merge(&mut give)?;
            }
            cursors.drop_ended_runs();
            Ok(self)
        })
        .await
    }

    async fn wake(&mut self) -> Wake {
        let Self { written, changes, watches, sender, .. } = self;
        let change = async {
            match changes {
                Some(changes) => changes.recv().await,
                None => std::future::pending().await,
            }
        };
        let file = async {
            match watches {
                Some(watches) => watches.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sender.closed() => Wake::Gone,
            written = written.recv() => Wake::Written(written),
            change = change => Wake::Run(change),
            event = file => Wake::File(event),
        }
    }

    async fn take_up(&mut self, wake: Wake) -> Result<ControlFlow<()>, LogError> {
        match wake {
            Wake::Written(Ok(resource)) => self.cursors.touch_resource(&resource)?,
            Wake::Run(Ok(run)) => {
                self.cursors.upsert_run(run);
                self.watch_runs();
                self.see_whether_ended().await?;
            }
            Wake::File(event) => {
                if let Some(watches) = &self.watches {
                    self.cursors.touch_files(|run| watches.concerns(&event, &run.file));
                }
            }
            // We were slow, and do not know what we missed: look everywhere.
            Wake::Written(Err(RecvError::Lagged(_))) | Wake::Run(Err(RecvError::Lagged(_))) => {
                self.look_again().await?;
            }
            Wake::Gone | Wake::Written(Err(RecvError::Closed)) | Wake::Run(Err(RecvError::Closed)) => {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn look_again(&mut self) -> Result<(), LogError> {
        self.log.flush().await;
        let (log, filter) = (self.log.clone(), self.filter.clone());
        let found = blocking(move || log.cursors(&filter, Reach::Live)).await?;
        self.cursors.adopt(found)?;
        self.watch_runs();
        self.see_whether_ended().await
    }

    /// Whether the one run that was asked for has ended. What the cloud said about its end comes before the end.
    async fn see_whether_ended(&mut self) -> Result<(), LogError> {
        if self.filter.id.is_none() {
            return Ok(());
        }
        // Only runs that were asked for are read; the last digits of an id may name several.
        if self.cursors.runs().any(|run| run.ended.is_none()) {
            return Ok(());
        }
        let Some(task) = self.cursors.runs().next().map(|run| run.task.clone()) else { return Ok(()) };
        self.log.flush().await;
        self.ended = true;
        self.cursors.touch_resource(&task)
    }

    /// Watches the folders of the runs that may still print.
    fn watch_runs(&mut self) {
        if let Some(watches) = &mut self.watches {
            watches.set(self.cursors.runs().filter(|run| run.ended.is_none()));
        }
    }
}

/// What inotify tells about the folders of logs. A folder is watched, not the file: monitors replace the file.
struct Watches {
    events: EventStream<Vec<u8>>,
    folders: HashMap<PathBuf, WatchDescriptor>,
}

impl Watches {
    fn new() -> io::Result<Self> {
        let events = Inotify::init()?.into_event_stream(vec![0; 4096])?;
        Ok(Self { events, folders: HashMap::new() })
    }

    fn set<'a>(&mut self, runs: impl Iterator<Item = &'a RunLog>) {
        let mut wanted: Vec<&Path> = runs.filter_map(|run| run.file.parent()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut watches = self.events.watches();
        self.folders.retain(|folder, watch| {
            let keep = wanted.binary_search(&folder.as_path()).is_ok();
            if !keep {
                // Fails if the folder is gone, and the watch with it.
                let _ = watches.remove(watch.clone());
            }
            keep
        });
        let mask = WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO;
        for folder in wanted {
            if !self.folders.contains_key(folder) {
                match watches.add(folder, mask) {
                    Ok(watch) => _ = self.folders.insert(folder.to_owned(), watch),
                    Err(error) => {
                        tracing::warn!(folder = %folder.display(), %error, "cannot watch a run's log")
                    }
                }
            }
        }
    }

    async fn next(&mut self) -> EventOwned {
        loop {
            match self.events.next().await {
                Some(Ok(event)) => return event,
                Some(Err(error)) => {
                    tracing::warn!(%error, "cannot read what inotify tells");
                    std::future::pending().await
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Whether the event may mean that the file has changed.
    fn concerns(&self, event: &EventOwned, file: &Path) -> bool {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return true;
        }
        let name: Option<&OsString> = event.name.as_ref();
        let folder = file.parent().and_then(|folder| self.folders.get(folder));
        folder == Some(&event.wd) && name.map(OsString::as_os_str) == file.file_name()
    }
}
