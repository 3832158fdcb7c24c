//! The end of messages that nobody has received in their time.
//!
//! A receive never answers one that is too old. What nobody receives is looked for once a minute, so that it does not fill
//! the disk.

use std::{
    collections::HashMap,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use tandem_failpoint::hit;
use tandem_model::Kind;
use tandem_store::Batch;

use super::{
    Queues,
    core::Rows,
    error::QueueError,
    expect_open,
    key::Key,
    message::{Message, Times},
    open::Open,
    receive::drop_rows,
    send::commit,
    settings::LONGEST_DELAY,
    through,
};
use crate::dispatch::Became;

/// How often it is looked for.
const EVERY: Duration = Duration::from_secs(60);
/// How many messages go in one commit.
const AT_ONCE: usize = 1000;

/// Where to go on, if there may be more.
type Onward = Option<Vec<u8>>;

/// Looks for messages that are too old until the queues are gone.
pub async fn run(queues: Weak<Queues>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(queues) = queues.upgrade() else { return };
        for recorded in queues.resources.list(None) {
            if recorded.urn.kind == Kind::Queue
                && let Err(error) = queues.expire(&recorded.id.0).await
            {
                tracing::warn!(queue = %recorded.id, %error, "cannot remove old messages");
            }
        }
    }
}

impl Queues {
    /// Deletes the messages of a queue that are too old and that nobody has. Answers how many.
    pub(super) async fn expire(self: &Arc<Self>, queue: &str) -> Result<usize, QueueError> {
        let open = self.open(queue).await?;
        let mut gone = 0;
        let mut from = Vec::new();
        loop {
            let (queues, at) = (self.clone(), open.clone());
            let some = through(async move {
                let _gate = at.gate.clone().read_owned().await;
                queues.expire_some(&at, from).await
            });
            let (count, next) = some.await?;
            gone += count;
            match next {
                Some(next) => from = next,
                None => return Ok(gone),
            }
        }
    }

    /// One commit. With where to go on, if there may be more.
    async fn expire_some(&self, open: &Open, from: Vec<u8>) -> Result<(usize, Onward), QueueError> {
        let attributes = &open.settings().attributes;
        let before = open.now().saturating_sub(u64::from(attributes.retention) * 1000);
        if open.oldest.load(Ordering::Relaxed) > before {
            return Ok((0, None));
        }
        let (old, next) = self.old(open, &from, before, attributes.fifo)?;
        let (old, ids): (Vec<_>, HashMap<_, _>) =
            old.into_iter().map(|(key, id)| (key.clone(), (key, id))).unzip();
        let held = open.core().hold_idle(old);
        if held.is_empty() {
            return Ok((0, next));
        }
        let mut batch = Batch::default();
        expect_open(&mut batch, &open.name);
        for key in &held {
            drop_rows(&mut batch, &open.name, key);
        }
        let outcome = commit(&*self.store, &open.name, batch).await;
        hit("queue.retention.committed");
        {
            let mut core = open.core();
            for key in &held {
                match &outcome {
                    Ok(()) => core.gone(key),
                    Err(_) => core.released(key),
                }
            }
        }
        open.released.notify_waiters();
        open.arrival.notify_one();
        if outcome.is_ok() {
            for id in held.iter().filter_map(|key| ids.get(key)) {
                self.tell(&open.name, id, Became::Expired);
            }
        }
        outcome.map(|()| (held.len(), next))
    }

    /// The messages that were sent before then, with their ids, as far as one commit goes.
    fn old(
        &self,
        open: &Open,
        from: &[u8],
        before: u64,
        fifo: bool,
    ) -> Result<(Vec<(Key, String)>, Onward), QueueError> {
        let snapshot = self.store.snapshot()?;
        let (mut old, mut oldest) = (Vec::new(), open.now());
        for entry in (Rows { snapshot: &*snapshot, queue: &open.name }).range(from, &[])? {
            let (key, row) = entry?;
            if old.len() == AT_ONCE {
                return Ok((old, Some(key.0.to_vec())));
            }
            let sent = Times::of(&row)?.sent;
            oldest = oldest.min(sent);
            if sent <= before {
                old.push((key, Message::decode(&row)?.about.id));
            } else if !fifo && key.due() > before + u64::from(LONGEST_DELAY) * 1000 {
                // Those that come after it were sent later, too.
                break;
            }
        }
        // Rows of a FIFO queue are not by age: all of them were looked at.
        if fifo && from.is_empty() && old.is_empty() {
            open.oldest.store(oldest, Ordering::Relaxed);
        }
        Ok((old, None))
    }
}
