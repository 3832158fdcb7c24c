//! Subscriptions to streams: records to functions and tasks.
//!
//! Each shard has as many lanes as the subscription says, and a key is in one of them. A lane reads a batch, notes that it hands
//! it over, hands it over, and notes that it is done: by one commit a batch, while there are more. Lanes know nothing of each
//! other, so one that is slow, or fails, holds up no other, nor other subscriptions.
//!
//! Who owns it: the rows of lanes, each changed only if it is as this lane left it. So a subscription that is deleted meanwhile,
//! with its rows, ends it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tandem_model::{Urn, inputs::Subscription};
use tandem_store::Batch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Streams,
    error::{StreamError, damaged},
    key::{lane_row, lanes_of, parse_lane},
    lane::Lane,
    open::Open,
};
use crate::{dispatch::BatchHandler, log::Sink, resource::Resources};

mod attend;
mod gather;
mod run;
mod told;

pub(crate) use self::told::{record_failed, shown};
use self::{
    attend::attend,
    run::{AFTER_ERROR, Worker},
};

/// The subscriptions to streams that are deployed.
pub struct Subscribers {
    streams: Arc<Streams>,
    resources: Arc<Resources>,
    handler: Arc<dyn BatchHandler>,
    log: Arc<dyn Sink>,
    running: Mutex<HashMap<Urn, Running>>,
    working: TaskTracker,
}

struct Running {
    subscription: Subscription,
    stop: CancellationToken,
    work: JoinHandle<()>,
}

impl Subscribers {
    pub fn new(
        streams: Arc<Streams>,
        resources: Arc<Resources>,
        handler: Arc<dyn BatchHandler>,
        log: Arc<dyn Sink>,
    ) -> Arc<Self> {
        let (running, working) = (Mutex::default(), TaskTracker::new());
        Arc::new(Self { streams, resources, handler, log, running, working })
    }

    /// Lets a subscription be as it is deployed; `None`: it is gone, or is none to a stream. When it answers, it is on disk
    /// where the subscription begins.
    pub async fn settle(self: &Arc<Self>, urn: &Urn, now: Option<Subscription>) {
        let before = {
            let mut running = self.running();
            match running.get(urn) {
                Some(running) if Some(&running.subscription) == now.as_ref() => return,
                _ => running.remove(urn),
            }
        };
        if let Some(before) = &before {
            before.stop.cancel();
        }
        let Some(subscription) = now else { return };
        // Whatever the old one is at ends first: a batch is not handed over twice because of a change.
        let before = before.map(|before| before.work);
        if before.is_none()
            && let Some(stream) = self.stream(&subscription)
            && let Err(error) = self.lanes(urn, &subscription, &stream).await
        {
            tracing::warn!(subscription = %urn, %error, "cannot note where a subscription begins; trying again");
        }
        let stop = CancellationToken::new();
        let (subscribers, its_urn, its, halt) =
            (self.clone(), urn.clone(), subscription.clone(), stop.clone());
        let work = self.working.spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            subscribers.attend(&its_urn, &its, &halt).await;
        });
        self.running().insert(urn.clone(), Running { subscription, stop, work });
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<Urn, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over no more, and waits for what is under way. What is not done by the end of the runtime is handed over again
    /// after the next start.
    pub async fn close(&self, grace: std::time::Duration) {
        for running in self.running().values() {
            running.stop.cancel();
        }
        self.working.close();
        let _ = tokio::time::timeout(grace, self.working.wait()).await;
    }

    /// The name of the stream as it is deployed.
    fn stream(&self, subscription: &Subscription) -> Option<String> {
        self.resources.by_urn(&subscription.source).map(|found| found.id.0.clone())
    }

    /// Works through the stream; and through the one that takes its place, if it is replaced.
    async fn attend(self: &Arc<Self>, urn: &Urn, subscription: &Subscription, stop: &CancellationToken) {
        let mut changes = self.streams.changed.subscribe();
        while !stop.is_cancelled() {
            changes.borrow_and_update();
            let Some(stream) = self.stream(subscription) else {
                tokio::select! {
                    _ = changes.changed() => continue,
                    () = stop.cancelled() => return,
                }
            };
            let replaced = stop.child_token();
            let work = async {
                match self.work(urn, subscription, &stream, &replaced).await {
                    Ok(false) => replaced.cancelled().await,
                    // It was closed, and may be open again.
                    Ok(true) => tokio::select! {
                        () = tokio::time::sleep(AFTER_ERROR) => {}
                        () = replaced.cancelled() => {}
                    },
                    Err(error) => {
                        if !stop.is_cancelled() && !matches!(error, StreamError::NoSuchStream { .. }) {
                            tracing::warn!(subscription = %urn, %error, "cannot read a stream; trying again");
                        }
                        tokio::select! {
                            () = tokio::time::sleep(AFTER_ERROR) => {}
                            () = replaced.cancelled() => {}
                        }
                    }
                }
            };
            let watch = async {
                while changes.changed().await.is_ok() {
                    if self.stream(subscription).as_ref() != Some(&stream) {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            };
            let mut work = std::pin::pin!(work);
            tokio::select! {
                () = &mut work => {}
                () = watch => {
                    replaced.cancel();
                    work.await;
                }
            }
        }
    }

    /// Runs all lanes, until told to stop or the stream is gone. Answers whether it is gone.
    async fn work(
        self: &Arc<Self>,
        urn: &Urn,
        subscription: &Subscription,
        stream: &str,
        stop: &CancellationToken,
    ) -> Result<bool, StreamError> {
        let open = self.streams.open(stream).await?;
        let lanes = self.lanes(urn, subscription, stream).await?;
        let mut working = JoinSet::new();
        for (shard, lane, state) in lanes {
            let worker = Worker {
                streams: self.streams.clone(),
                handler: self.handler.clone(),
                log: self.log.clone(),
                open: open.clone(),
                urn: urn.clone(),
                subscription: subscription.clone(),
                shard,
                lane,
                stop: stop.clone(),
            };
            working.spawn(attend(worker, state));
        }
        while working.join_next().await.is_some() {}
        Ok(open.gone.is_cancelled())
    }

    /// The lanes of a subscription, as they are on disk. Those that are not there begin where the subscription says; those of
    /// another number of lanes, all at the one that was the farthest behind, without what the others had done.
    async fn lanes(
        &self,
        urn: &Urn,
        subscription: &Subscription,
        stream: &str,
    ) -> Result<Vec<(u32, u32, Lane)>, StreamError> {
        let open = self.streams.open(stream).await?;
        let of = subscription.parallelism.unwrap_or(1);
        let mut rows = HashMap::new();
        let mut batch = Batch::default();
        let mut had_another = false;
        {
            let snapshot = self.streams.store.snapshot()?;
            for entry in snapshot.prefix(&lanes_of(urn))? {
                let (key, row) = entry?;
                let (name, shard, lane) = parse_lane(&key, urn)?;
                if name == stream {
                    let state: Lane = serde_json::from_slice(&row).map_err(damaged)?;
                    rows.entry(shard).or_insert_with(Vec::new).push((lane, state));
                } else {
                    had_another = true;
                    batch.delete(key);
                }
            }
        }
        // Shards without lanes beside others with some: they were not there when the subscription began.
        let had_another = had_another || !rows.is_empty();
        let mut lanes = Vec::new();
        for shard in 0..open.shards() {
            let found = rows.remove(&shard).unwrap_or_default();
            if found.len() == of as usize && found.iter().all(|(_, lane)| lane.of == of) {
                lanes.extend(found.into_iter().map(|(lane, state)| (shard, lane, state)));
                continue;
            }
            for (lane, _) in &found {
                batch.delete(lane_row(urn, stream, shard, *lane));
            }
            // They are in the order of their numbers.
            let found: Vec<_> = found.into_iter().map(|(_, lane)| lane).collect();
            let begin = match found.is_empty() {
                false => Lane::divided_anew(&found, of),
                true => Lane::new(self.begin(&open, shard, subscription, had_another).await?, of),
            };
            for lane in 0..of {
                let state = begin.clone();
                batch.put(lane_row(urn, stream, shard, lane), run::encode(&state));
                lanes.push((shard, lane, state));
            }
        }
        if !batch.writes.is_empty() {
            self.streams.store.commit(batch).await?;
            tandem_failpoint::hit("stream.lanes.committed");
        }
        Ok(lanes)
    }

    /// Where a subscription begins. In a stream that took the place of another one, at its beginning: all that is there came
    /// after what it has read.
    async fn begin(
        &self,
        open: &Arc<Open>,
        shard: u32,
        subscription: &Subscription,
        had_another: bool,
    ) -> Result<u64, StreamError> {
        if had_another {
            return Ok(1);
        }
        let position = subscription.starting_position.unwrap_or_default();
        let number = self.streams.number_at(open, shard, position).await?;
        // What was too old before it began is not lost to it.
        Ok(number.max(self.streams.oldest(open, shard).await?))
    }
}

/// How many records a batch has at most, if the program does not say.
fn batch_size(subscription: &Subscription) -> usize {
    let default = if subscription.starts() { 1 } else { 100 };
    subscription.batch_size.unwrap_or(default) as usize
}
