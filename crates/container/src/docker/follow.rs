//! Writes what a container says from the engine's log into ours, and then how the container ended.
//!
//! One task a container, in whichever process gets its lock; it ends with the container. A record of our log is a message of
//! the engine's (a line, or a part of a long one), with the engine's time to the nanosecond, in the same order. So it goes on
//! after the message that is the last record, after a restart of the cloud as well as of the engine, and nothing is lost or
//! there twice; unless the engine has begun its own log anew twice while nobody read it.
//!
//! That the engine's stream has ended does not prove that all was in it; that its last message is our last record does.

use std::{
    collections::HashMap,
    path::PathBuf,
    pin::pin,
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use bollard::query_parameters::{InspectContainerOptions, LogsOptions, LogsOptionsBuilder};
use futures::StreamExt;
use tandem_failpoint::hit;
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use super::{
    Docker,
    bundle::Bundle,
    container::exit_of,
    engine::status,
    kernel,
    log::{Log, record},
};
use crate::{ContainerError, Exit, tool};

/// Between attempts while the engine does not answer, the disk is full, or another process has the log.
pub(super) const AGAIN: Duration = Duration::from_millis(200);
/// How many messages are written at once.
const BATCH: usize = 256;

/// The tasks of this process, by the folder of the container.
static FOLLOWERS: LazyLock<Mutex<HashMap<PathBuf, watch::Receiver<()>>>> = LazyLock::new(Mutex::default);

impl Docker {
    /// Sees to it that somebody follows a container that was begun. What is returned closes when that has ended.
    pub(super) fn follow(&self, bundle: &Bundle) -> watch::Receiver<()> {
        let mut followers = FOLLOWERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(following) = followers.get(&bundle.folder).filter(|one| one.has_changed().is_ok()) {
            return following.clone();
        }
        let (alive, following) = watch::channel(());
        followers.insert(bundle.folder.clone(), following.clone());
        let (docker, bundle) = (self.clone(), bundle.clone());
        tokio::spawn(async move {
            docker.follow_to_the_end(&bundle).await;
            let mut followers = FOLLOWERS.lock().unwrap_or_else(PoisonError::into_inner);
            // Closed under the lock: whoever looks finds this one at work, or none.
            drop(alive);
            followers.retain(|_, one| one.has_changed().is_ok());
        });
        following
    }

    async fn follow_to_the_end(&self, bundle: &Bundle) {
        let lock = loop {
            if bundle.exit().is_some() || !bundle.folder.exists() {
                return;
            }
            match bundle.lock_log() {
                Ok(Some(lock)) => break lock,
                Ok(None) => sleep(AGAIN).await,
                Err(error) => return tracing::error!(container = bundle.id.0, %error, "cannot write its log"),
            }
        };
        loop {
            match self.go_on(bundle).await {
                Ok(true) => break drop(lock),
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(container = bundle.id.0, %error, "its log is not written just now");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// Writes what there is to write. True if there will be no more.
    async fn go_on(&self, bundle: &Bundle) -> Result<bool, ContainerError> {
        if bundle.exit().is_some() || !bundle.folder.exists() {
            return Ok(true);
        }
        let client = self.engine.client().await?;
        let found = match client.inspect_container(&bundle.name(), None::<InspectContainerOptions>).await {
            Ok(found) => found,
            // Somebody took it away; what it said last is lost with it.
            Err(error) if status(&error) == Some(404) => return Ok(true),
            Err(error) => return Err(self.engine.failed(error)),
        };
        let Some(mut exit) = found.state.as_ref().and_then(exit_of) else {
            if found.state.is_some_and(|state| state.running.unwrap_or(false)) {
                let mut log = Log::open(bundle).await?;
                self.copy(bundle, &mut log, true).await?;
            } else {
                sleep(AGAIN).await;
            }
            return Ok(false);
        };
        let mut log = Log::open(bundle).await?;
        if !self.is_whole(bundle, &log).await? {
            self.copy(bundle, &mut log, false).await?;
        }
        log.sync()?;
        if let Exit::Code { code } = exit
            && code != 0
        {
            let container = found.id.unwrap_or_default();
            let looked = spawn_blocking(move || kernel::killed_for_memory(&container));
            if looked.await.map_err(tool::broken)? {
                exit = Exit::OutOfMemory { code };
            }
        }
        hit("docker.exit.logged");
        bundle.write_exit(exit)?;
        Ok(true)
    }

    /// Copies all messages that are not in the log yet.
    async fn copy(&self, bundle: &Bundle, log: &mut Log, follow: bool) -> Result<(), ContainerError> {
        let client = self.engine.client().await?;
        let since = log.since();
        let mut known = self.written(bundle, log, since).await?;
        let options = options(follow, since, "all");
        let mut messages = pin!(client.logs(&bundle.name(), Some(options)).ready_chunks(BATCH));
        while let Some(batch) = messages.next().await {
            let mut text = Vec::new();
            let mut broken = None;
            for message in batch {
                match message {
                    Ok(_) if known > 0 => known -= 1,
                    Ok(message) => record(&message, &mut text),
                    Err(error) => broken = Some(self.engine.failed(error)),
                }
            }
            log.append(&text)?;
            if let Some(error) = broken {
                return Err(error);
            }
        }
        Ok(())
    }

    /// How many of the engine's messages since then are in the log: those up to its last record. There may be several such,
    /// parts of one line.
    async fn written(&self, bundle: &Bundle, log: &Log, since: i32) -> Result<u64, ContainerError> {
        if log.last().is_empty() {
            return Ok(0);
        }
        let client = self.engine.client().await?;
        let mut messages = pin!(client.logs(&bundle.name(), Some(options(false, since, "all"))));
        let (mut count, mut known, mut same) = (0, 0, 0);
        let mut text = Vec::new();
        while same < log.same()
            && let Some(message) = messages.next().await
        {
            text.clear();
            record(&message.map_err(|error| self.engine.failed(error))?, &mut text);
            count += 1;
            if text == log.last() {
                (known, same) = (count, same + 1);
            }
        }
        Ok(known)
    }

    /// Whether the engine's last message is the log's last record.
    async fn is_whole(&self, bundle: &Bundle, log: &Log) -> Result<bool, ContainerError> {
        let client = self.engine.client().await?;
        let mut last = Vec::new();
        let mut messages = pin!(client.logs(&bundle.name(), Some(options(false, 0, "1"))));
        while let Some(message) = messages.next().await {
            last.clear();
            record(&message.map_err(|error| self.engine.failed(error))?, &mut last);
        }
        Ok(last == log.last())
    }
}

fn options(follow: bool, since: i32, tail: &str) -> LogsOptions {
    let options = LogsOptionsBuilder::new().follow(follow).stdout(true).stderr(true).timestamps(true);
    options.since(since).tail(tail).build()
}
