//! Receiving.
//!
//! A receive picks messages, and one commit makes all of it true: the leases of those that the consumer gets, the move of
//! those that were received too often to their dead-letter queue, and the end of those that are too old.

use std::{sync::Arc, time::Duration};

use tandem_failpoint::hit;
use tandem_store::{Batch, Snapshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Queues, arn,
    core::{Flight, Picked, Rows},
    error::{QueueError, damaged},
    expect_open,
    key::{Key, Lease, lease_row, message_row},
    message::Message,
    moves::Arrival,
    name_in_arn,
    open::Open,
    receipt::Receipt,
    send::commit,
    settings::{LONGEST_VISIBILITY, LONGEST_WAIT},
    through,
};
use crate::dispatch::Became;

/// How often a receive tries again while its dead-letter queue is closed for a moment.
const CONTENDED: u32 = 100;

/// How a consumer receives.
#[derive(Debug, Clone, Default)]
pub struct Receive {
    /// At most so many: 1 to 10.
    pub most: usize,
    /// For how long they are hidden, in seconds. `None`: as long as the queue says.
    pub visibility: Option<u32>,
    /// How long it waits for the first one: at most 20 s. `None`: as long as the queue says.
    pub wait: Option<Duration>,
    /// A subscription receives.
    pub own: bool,
}

/// A message that a consumer has.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    pub(super) message: Message,
    pub(super) lease: Lease,
    pub receipt: String,
    pub(super) number: u64,
    /// Whether it is one of a FIFO queue.
    pub(super) in_order: bool,
}

/// What became of a picked message.
enum Fate {
    Received(Received),
    Expired(Message),
    Dead(Message),
}

impl Queues {
    /// Receives messages, waiting for the first if there is none. In a FIFO queue those of a group come in their order, and
    /// none of a group of which somebody has any.
    ///
    /// Each answer is recorded: it is hidden from others until its visibility timeout, also over a restart.
    ///
    /// # Errors
    /// [`QueueError::NoSuchQueue`], [`QueueError::OverLimit`], [`QueueError::Parameter`], or those of the store; nothing
    /// was received then.
    pub async fn receive(self: &Arc<Self>, queue: &str, how: &Receive) -> Result<Vec<Received>, QueueError> {
        self.receive_until(queue, how, &self.closing).await
    }

    /// As [`receive`](Self::receive), but waits no longer once it is to stop. What it has received then, it answers.
    pub(super) async fn receive_until(
        self: &Arc<Self>,
        queue: &str,
        how: &Receive,
        stop: &CancellationToken,
    ) -> Result<Vec<Received>, QueueError> {
        check(how)?;
        let started = Instant::now();
        loop {
            let open = self.open(queue).await?;
            let usual = || Duration::from_secs(open.settings().attributes.receive_wait.into());
            let left = how.wait.unwrap_or_else(usual).saturating_sub(started.elapsed());
            let mut arrival = std::pin::pin!(open.arrival.notified());
            // From here on no arrival is missed.
            arrival.as_mut().enable();
            let (received, wake) = self.try_receive(&open, how).await?;
            if !received.is_empty() || left.is_zero() || stop.is_cancelled() {
                return Ok(received);
            }
            let pause = wake.map(|wake| Duration::from_millis(wake.saturating_sub(open.now()).max(1)));
            tokio::select! {
                () = arrival => {}
                () = sleep(pause.unwrap_or(left).min(left)) => {}
                () = stop.cancelled() => return Ok(vec![]),
            }
        }
    }

    /// Receives what is there now. With when something may be there that is not now.
    async fn try_receive(
        self: &Arc<Self>,
        open: &Arc<Open>,
        how: &Receive,
    ) -> Result<(Vec<Received>, Option<u64>), QueueError> {
        for _ in 0..CONTENDED {
            match self.receive_once(open, how).await {
                // The dead-letter queue is being purged or deleted.
                Err(QueueError::Contended) => sleep(Duration::from_millis(10)).await,
                other => return other,
            }
        }
        Err(QueueError::Contended)
    }

    async fn receive_once(
        self: &Arc<Self>,
        open: &Arc<Open>,
        how: &Receive,
    ) -> Result<(Vec<Received>, Option<u64>), QueueError> {
        let (queues, open, how) = (self.clone(), open.clone(), how.clone());
        // What is picked must be settled, though whoever asked may go away.
        through(async move {
            let _gate = open.gate.clone().read_owned().await;
            let mut received = Vec::new();
            loop {
                let most = how.most - received.len();
                let now = open.now();
                let picked = {
                    let mut core = open.core();
                    // While memory stands still: what was committed before it is in the snapshot.
                    let snapshot = queues.store.snapshot()?;
                    core.pick(&Rows { snapshot: &*snapshot, queue: &open.name }, now, most)?
                };
                let (wake, count) = (picked.wake, picked.messages.len());
                if count == 0 {
                    return Ok((received, wake));
                }
                let before = received.len();
                match queues.record(&open, picked, &how, now).await {
                    Ok(more) => received.extend(more),
                    Err(error) if received.is_empty() => return Err(error),
                    // What it has already, it gets.
                    Err(_) => return Ok((received, wake)),
                }
                // Instead of those that moved or ended there may be others.
                if received.len() == how.most || received.len() - before == count {
                    // Others who wait may get what is left.
                    open.arrival.notify_one();
                    return Ok((received, wake));
                }
            }
        })
        .await
    }

    /// Commits what becomes of picked messages; on an error they are as they were.
    async fn record(
        self: &Arc<Self>,
        open: &Arc<Open>,
        picked: Picked,
        how: &Receive,
        now: u64,
    ) -> Result<Vec<Received>, QueueError> {
        let keys: Vec<_> = picked.messages.iter().map(|(key, _)| key.clone()).collect();
        let outcome = self.try_record(open, picked, how, now).await;
        let mut core = open.core();
        match outcome {
            Ok(fates) => {
                let mut received = Vec::new();
                for (key, fate) in fates {
                    match fate {
                        Fate::Received(message) => {
                            let Lease { until, secret, last, .. } = message.lease;
                            core.taken(&key, Flight { until, secret, received: last });
                            received.push(message);
                        }
                        Fate::Expired(_) | Fate::Dead(_) => core.gone(&key),
                    }
                }
                drop(core);
                open.released.notify_waiters();
                Ok(received)
            }
            Err(error) => {
                keys.iter().for_each(|key| core.released(key));
                drop(core);
                open.released.notify_waiters();
                open.arrival.notify_one();
                Err(error)
            }
        }
    }

    async fn try_record(
        self: &Arc<Self>,
        open: &Arc<Open>,
        picked: Picked,
        how: &Receive,
        now: u64,
    ) -> Result<Vec<(Key, Fate)>, QueueError> {
        let settings = open.settings();
        let visibility = how.visibility.unwrap_or(settings.attributes.visibility_timeout);
        let redrive = settings.attributes.redrive.as_ref();
        let in_order = settings.attributes.fifo;
        let most = redrive.map_or(u32::MAX, |redrive| redrive.max_receive_count);
        let mut fates = Vec::with_capacity(picked.messages.len());
        {
            let snapshot = self.store.snapshot()?;
            for (key, row) in picked.messages {
                let message = Message::decode(&row)?;
                let before = lease(&*snapshot, &open.name, &key)?;
                let fate = if message.sent + u64::from(settings.attributes.retention) * 1000 <= now {
                    Fate::Expired(message)
                } else if before.is_some_and(|lease| lease.receives >= most) {
                    Fate::Dead(message)
                } else {
                    let secret = Uuid::new_v4().as_u64_pair().0;
                    let lease = Lease {
                        receives: before.map_or(0, |lease| lease.receives) + 1,
                        first: before.map_or(now, |lease| lease.first),
                        last: now,
                        until: now + u64::from(visibility) * 1000,
                        secret,
                        own: how.own,
                    };
                    let receipt = Receipt { key: key.clone(), secret }.encode(&open.name);
                    Fate::Received(Received { message, lease, receipt, number: key.number(), in_order })
                };
                fates.push((key, fate));
            }
        }
        // What cannot move stays, and is received once more: a message is not lost because its dead-letter queue is.
        let target = redrive.and_then(|redrive| name_in_arn(&redrive.dead_letter_target_arn));
        let dead = fates.iter().any(|(_, fate)| matches!(fate, Fate::Dead(_)));
        let target = match target.filter(|_| dead) {
            Some(target) => self.open(target).await.ok(),
            None => None,
        };
        let target = target.filter(|target| target.settings().attributes.fifo == settings.attributes.fifo);
        // Who waits here, with a gate open, may be waited for.
        let gate = target.as_ref().map(|target| target.gate.clone().try_read_owned());
        let _gate = gate.transpose().map_err(|_| QueueError::Contended)?;
        let mut batch = Batch::default();
        expect_open(&mut batch, &open.name);
        let mut arrival = target.as_ref().map(|target| Arrival::begin(target, &mut batch));
        for (key, fate) in &mut fates {
            if let (Fate::Dead(message), None) = (&fate, &arrival) {
                tracing::warn!(
                    queue = open.name,
                    message = message.about.id,
                    "a message was received too often, and its dead-letter queue is not there"
                );
                let mut lease = lease(&*self.store.snapshot()?, &open.name, key)?.unwrap_or_default();
                lease.receives += 1;
                (lease.last, lease.until) = (now, now + u64::from(visibility) * 1000);
                lease.own = how.own;
                lease.secret = Uuid::new_v4().as_u64_pair().0;
                let receipt = Receipt { key: key.clone(), secret: lease.secret }.encode(&open.name);
                let message = message.clone();
                *fate = Fate::Received(Received { message, lease, receipt, number: key.number(), in_order });
            }
            match fate {
                Fate::Received(received) => {
                    batch.put(lease_row(&open.name, key), encode(&received.lease));
                }
                Fate::Expired(_) => drop_rows(&mut batch, &open.name, key),
                Fate::Dead(message) => {
                    drop_rows(&mut batch, &open.name, key);
                    if let Some(arrival) = &mut arrival {
                        let from = message.about.dead_from.clone().unwrap_or_else(|| arn(&open.name));
                        arrival.add(
                            &mut batch,
                            Message {
                                about: super::message::About {
                                    dead_from: Some(from),
                                    ..message.about.clone()
                                },
                                ..message.clone()
                            },
                        );
                    }
                }
            }
        }
        commit(&*self.store, &open.name, batch).await?;
        hit("queue.receive.committed");
        if let Some(arrival) = arrival {
            arrival.committed();
        }
        for (_, fate) in &fates {
            match (fate, &target) {
                (Fate::Expired(message), _) => self.tell(&open.name, &message.about.id, Became::Expired),
                (Fate::Dead(message), Some(target)) => {
                    self.tell(&open.name, &message.about.id, Became::Dead { to: self.called(&target.name) });
                }
                _ => {}
            }
        }
        Ok(fates)
    }
}

pub(super) fn encode(lease: &Lease) -> Vec<u8> {
    serde_json::to_vec(lease).expect("a struct has string keys")
}

/// The lease of a message, if it was received before.
pub(super) fn lease(snapshot: &dyn Snapshot, queue: &str, key: &Key) -> Result<Option<Lease>, QueueError> {
    let row = snapshot.get(&lease_row(queue, key))?;
    row.map(|row| serde_json::from_slice(&row).map_err(damaged)).transpose()
}

/// Deletes a message, and what is known of it.
pub(super) fn drop_rows(batch: &mut Batch, queue: &str, key: &Key) {
    batch.delete(message_row(queue, key)).delete(lease_row(queue, key));
}

fn check(how: &Receive) -> Result<(), QueueError> {
    if !(1..=10).contains(&how.most) {
        let wrong = format!("it is 1 to 10, not {}", how.most);
        return Err(QueueError::Parameter { name: "MaxNumberOfMessages", wrong });
    }
    let wait = how.wait.map(|wait| wait.as_secs_f64().ceil() as u64);
    for (name, given, most) in [
        ("VisibilityTimeout", how.visibility.map(u64::from), LONGEST_VISIBILITY),
        ("WaitTimeSeconds", wait, LONGEST_WAIT),
    ] {
        if let Some(given) = given.filter(|given| *given > most.into()) {
            return Err(QueueError::Parameter { name, wrong: format!("it is 0 to {most}, not {given}") });
        }
    }
    Ok(())
}
