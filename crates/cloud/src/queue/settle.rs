//! What a consumer does with a message that it has: delete it, or hide it for longer or shorter.

use std::sync::Arc;

use tandem_failpoint::hit;
use tandem_store::Batch;

use super::{
    Queues,
    core::{Flight, Unheld},
    error::QueueError,
    expect_open,
    key::{Key, lease_row, message_row},
    open::Open,
    receipt::Receipt,
    receive::{drop_rows, encode, lease},
    send::commit,
    settings::LONGEST_VISIBILITY,
    through,
};

impl Queues {
    /// Deletes messages, in one commit; each is deleted or refused on its own. One that is gone already is deleted.
    ///
    /// # Errors
    /// If none could be looked at, or the commit failed; then none is deleted.
    pub async fn delete(
        self: &Arc<Self>,
        queue: &str,
        receipts: Vec<String>,
    ) -> Result<Vec<Result<(), QueueError>>, QueueError> {
        let open = self.open(queue).await?;
        let queues = self.clone();
        through(async move {
            let _gate = open.gate.clone().read_owned().await;
            let mut answers = answers_to(&receipts);
            let mut held = Vec::new();
            for (at, receipt) in in_order(&receipts, &open.name, &mut answers, |receipt| receipt) {
                match queues.hold_to_delete(&open, receipt).await {
                    Ok(Some(key)) => held.push(key),
                    Ok(None) => {}
                    Err(error) => answers[at] = Err(error),
                }
            }
            if held.is_empty() {
                return Ok(answers);
            }
            let mut batch = Batch::default();
            expect_open(&mut batch, &open.name);
            for key in &held {
                drop_rows(&mut batch, &open.name, key);
            }
            let outcome = commit(&*queues.store, &open.name, batch).await;
            hit("queue.delete.committed");
            {
                let mut core = open.core();
                for key in &held {
                    match &outcome {
                        Ok(()) => core.gone(key),
                        Err(_) => core.released(key),
                    }
                }
            }
            // Of a FIFO queue the next of the group can be received.
            freed(&open);
            outcome.map(|()| answers)
        })
        .await
    }

    /// Holds a message so that it can be deleted; `None` if there is nothing to do.
    async fn hold_to_delete(&self, open: &Open, receipt: Receipt) -> Result<Option<Key>, QueueError> {
        let Receipt { key, secret } = receipt;
        let fifo = open.settings().attributes.fifo;
        match hold(open, &key, secret).await {
            Ok(_) => Ok(Some(key)),
            // In a standard queue that does nothing: whoever received it since has it.
            Err(Unheld::Stale) if !fifo => Ok(None),
            Err(_) => {
                let snapshot = self.store.snapshot()?;
                if snapshot.get(&message_row(&open.name, &key))?.is_none() {
                    return Ok(None);
                }
                if fifo {
                    return Err(QueueError::ReceiptExpired);
                }
                // Visible again, but nobody has received it since.
                let last = lease(&*snapshot, &open.name, &key)?;
                let is_last = last.is_some_and(|lease| lease.secret == secret);
                Ok(Some(key.clone()).filter(|key| is_last && open.core().hold_visible(key)))
            }
        }
    }

    /// Hides messages for so many seconds from now, each on its own; 0 makes one visible at once.
    ///
    /// # Errors
    /// If none could be looked at, or the commit failed; then all are as they were.
    pub async fn change_visibility(
        self: &Arc<Self>,
        queue: &str,
        changes: Vec<(String, u32)>,
    ) -> Result<Vec<Result<(), QueueError>>, QueueError> {
        self.hide(queue, changes, true).await
    }

    /// As [`change_visibility`](Self::change_visibility), and the last receive does not count.
    pub(super) async fn give_back(
        self: &Arc<Self>,
        queue: &str,
        changes: Vec<(String, u32)>,
    ) -> Result<Vec<Result<(), QueueError>>, QueueError> {
        self.hide(queue, changes, false).await
    }

    /// How long a received message of the queue is hidden, in seconds.
    pub(super) async fn visibility_timeout(&self, queue: &str) -> Result<u32, QueueError> {
        Ok(self.open(queue).await?.settings().attributes.visibility_timeout)
    }

    async fn hide(
        self: &Arc<Self>,
        queue: &str,
        changes: Vec<(String, u32)>,
        counted: bool,
    ) -> Result<Vec<Result<(), QueueError>>, QueueError> {
        let open = self.open(queue).await?;
        let queues = self.clone();
        through(async move {
            let _gate = open.gate.clone().read_owned().await;
            let mut answers = answers_to(&changes);
            let mut held = Vec::<(Key, Flight)>::new();
            for (at, receipt) in in_order(&changes, &open.name, &mut answers, |(receipt, _)| receipt) {
                match hold_to_change(&open, receipt, changes[at].1).await {
                    Ok(changed) => held.push(changed),
                    Err(error) => answers[at] = Err(error),
                }
            }
            if held.is_empty() {
                return Ok(answers);
            }
            let outcome = queues.record_visibility(&open, &held, counted).await;
            {
                let mut core = open.core();
                let now = open.now();
                for (key, flight) in &held {
                    match &outcome {
                        Ok(()) if flight.until <= now => core.returned(key),
                        Ok(()) => core.taken(key, *flight),
                        Err(_) => core.released(key),
                    }
                }
            }
            freed(&open);
            outcome.map(|()| answers)
        })
        .await
    }

    async fn record_visibility(
        &self,
        open: &Open,
        held: &[(Key, Flight)],
        counted: bool,
    ) -> Result<(), QueueError> {
        let mut batch = Batch::default();
        expect_open(&mut batch, &open.name);
        {
            let snapshot = self.store.snapshot()?;
            for (key, flight) in held {
                let mut lease = lease(&*snapshot, &open.name, key)?.unwrap_or_default();
                lease.until = flight.until;
                lease.receives -= u32::from(!counted && lease.receives > 0);
                batch.put(lease_row(&open.name, key), encode(&lease));
            }
        }
        commit(&*self.store, &open.name, batch).await?;
        hit("queue.visibility.committed");
        Ok(())
    }
}

fn answers_to<T>(asked: &[T]) -> Vec<Result<(), QueueError>> {
    asked.iter().map(|_| Ok(())).collect()
}

/// The receipts in the order of their messages, so that two requests never wait for each other; each message once. One that
/// is none is answered so.
fn in_order<T>(
    asked: &[T],
    queue: &str,
    answers: &mut [Result<(), QueueError>],
    receipt: impl Fn(&T) -> &String,
) -> Vec<(usize, Receipt)> {
    let mut receipts = Vec::with_capacity(asked.len());
    for (at, asked) in asked.iter().enumerate() {
        match Receipt::decode(receipt(asked), queue) {
            Ok(receipt) => receipts.push((at, receipt)),
            Err(error) => answers[at] = Err(error),
        }
    }
    receipts.sort_by(|(_, one), (_, other)| one.key.cmp(&other.key));
    receipts.dedup_by(|(_, one), (_, other)| one.key == other.key);
    receipts
}

/// Somebody who waits may receive, or hold, what was not free.
fn freed(open: &Open) {
    open.released.notify_waiters();
    open.arrival.notify_one();
}

/// Holds a message in flight, after whoever holds it just now.
async fn hold(open: &Open, key: &Key, secret: u64) -> Result<Flight, Unheld> {
    loop {
        let mut released = std::pin::pin!(open.released.notified());
        released.as_mut().enable();
        let held = open.core().hold(key, secret, open.now());
        match held {
            Err(Unheld::Busy) => released.await,
            other => return other,
        }
    }
}

async fn hold_to_change(open: &Open, receipt: Receipt, seconds: u32) -> Result<(Key, Flight), QueueError> {
    if seconds > LONGEST_VISIBILITY {
        let wrong = format!("it is 0 to {LONGEST_VISIBILITY}, not {seconds}");
        return Err(QueueError::Parameter { name: "VisibilityTimeout", wrong });
    }
    let Receipt { key, secret } = receipt;
    let flight = match hold(open, &key, secret).await {
        Ok(flight) => flight,
        Err(Unheld::Stale) => return Err(QueueError::ReceiptExpired),
        Err(_) => return Err(QueueError::NotInFlight),
    };
    let until = open.now() + u64::from(seconds) * 1000;
    // Source: Amazon SQS, ChangeMessageVisibility: twelve hours from when the message was received.
    if until > flight.received + u64::from(LONGEST_VISIBILITY) * 1000 {
        open.core().released(&key);
        open.released.notify_waiters();
        let wrong = format!(
            "the message would be hidden for more than {LONGEST_VISIBILITY} seconds since it was received"
        );
        return Err(QueueError::Parameter { name: "VisibilityTimeout", wrong });
    }
    Ok((key, Flight { until, ..flight }))
}
