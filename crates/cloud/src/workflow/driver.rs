//! The driver of an instance: takes turns while there is anything to tell it, and does what each of them began.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tandem_store::Batch;
use tokio::time::sleep;

use super::{
    Mail, Shared, WorkflowError, core, lock,
    record::{Message, Record, Status},
    store::{self, InstanceKey, Loaded, Waiting},
};

/// How many messages one turn takes.
const MESSAGES: usize = 1000;
/// How long an instance is left alone whose turn could not be recorded.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// What a step of a driver came to.
enum Step {
    /// There may be more to do.
    More,
    /// It waits for something.
    Rest,
}

impl Shared {
    /// Lets an instance be driven, with a message if there is one.
    pub(super) fn wake(self: &Arc<Self>, instance: &InstanceKey, message: Option<Message>) {
        let mut driven = lock(&self.driven);
        if let Some(mail) = driven.get_mut(instance) {
            mail.messages.extend(message);
            mail.woken = true;
            return;
        }
        if self.closing.is_cancelled() {
            return;
        }
        driven.insert(instance.clone(), Mail { messages: message.into_iter().collect(), woken: true });
        let (shared, instance) = (self.clone(), instance.clone());
        self.working.spawn(async move { shared.drive(&instance).await });
    }

    async fn drive(self: Arc<Self>, instance: &InstanceKey) {
        let mut messages = Vec::new();
        loop {
            {
                let mut driven = lock(&self.driven);
                let Some(mail) = driven.get_mut(instance) else { return };
                if !mail.woken || self.closing.is_cancelled() {
                    driven.remove(instance);
                    return;
                }
                mail.woken = false;
                messages.append(&mut mail.messages);
            }
            loop {
                match self.step(instance, &mut messages).await {
                    Ok(Step::More) => {}
                    Ok(Step::Rest) => break,
                    Err(_) if self.closing.is_cancelled() => return,
                    Err(error) => {
                        tracing::error!(%instance, %error, "a turn of a workflow cannot be recorded; trying again");
                        tokio::select! {
                            () = sleep(AFTER_ERROR) => {}
                            () = self.closing.cancelled() => return,
                        }
                    }
                }
            }
        }
    }

    /// Tells the instance what there is to tell. On an error `messages` are still to be told.
    async fn step(
        self: &Arc<Self>,
        instance: &InstanceKey,
        messages: &mut Vec<Message>,
    ) -> Result<Step, WorkflowError> {
        let (loaded, inbox) = {
            let snapshot = self.store.snapshot()?;
            (store::load(&*snapshot, instance)?, store::inbox(&*snapshot, instance, MESSAGES)?)
        };
        let full = inbox.len() == MESSAGES;
        let Some(loaded) = loaded.filter(|loaded| !loaded.record.status.ended()) else {
            messages.clear();
            return self.drop_messages(inbox).await;
        };
        if let Some(step) = self.control(instance, &loaded, &inbox, messages).await? {
            return Ok(step);
        }
        if messages.is_empty() && inbox.is_empty() {
            return Ok(Step::Rest);
        }
        let rows: Vec<_> = inbox.iter().map(|(row, _)| row.clone()).collect();
        let told = messages.iter().cloned().chain(inbox.into_iter().map(|(_, message)| message));
        let Some(turn) = core::begin(&loaded.record, &loaded.open, told, Timestamp::now()) else {
            messages.clear();
            self.delete(rows).await?;
            return Ok(if full { Step::More } else { Step::Rest });
        };
        let Some(turned) = self.take(instance, &loaded, turn).await? else { return Ok(Step::Rest) };
        self.commit(instance, &loaded, &turned, rows).await?;
        messages.clear();
        self.follow(instance, &turned);
        let more = full || turned.renewed;
        Ok(if more { Step::More } else { Step::Rest })
    }

    async fn drop_messages(&self, inbox: Vec<Waiting>) -> Result<Step, WorkflowError> {
        if inbox.is_empty() {
            return Ok(Step::Rest);
        }
        self.delete(inbox.into_iter().map(|(row, _)| row)).await?;
        Ok(Step::More)
    }

    async fn delete(&self, rows: impl IntoIterator<Item = Bytes>) -> Result<(), WorkflowError> {
        let mut batch = Batch::default();
        for row in rows {
            batch.delete(row);
        }
        if !batch.writes.is_empty() {
            self.store.commit(batch).await?;
        }
        Ok(())
    }

    /// What an instance is told that its orchestrator is not: to end, to rest, to go on.
    async fn control(
        self: &Arc<Self>,
        instance: &InstanceKey,
        loaded: &Loaded,
        inbox: &[Waiting],
        messages: &mut Vec<Message>,
    ) -> Result<Option<Step>, WorkflowError> {
        let now = Timestamp::now();
        for (row, message) in inbox {
            match message {
                Message::Terminate { reason } => {
                    let turned = core::stop(&loaded.record, Status::Terminated, reason, now);
                    self.commit(instance, loaded, &turned, [row.clone()]).await?;
                    messages.clear();
                    self.follow(instance, &turned);
                    return Ok(Some(Step::More));
                }
                Message::Suspend { .. } | Message::Resume { .. } => {
                    let status = match message {
                        Message::Suspend { .. } => Status::Suspended,
                        _ => Status::Running,
                    };
                    let record =
                        Record { status, updated: now.max(loaded.record.updated), ..loaded.record.clone() };
                    let mut batch = Batch::default();
                    let key = store::record_key(instance);
                    batch.expect(key.clone(), Some(store::encode(&loaded.record)));
                    batch.put(key, store::encode(&record)).delete(row.clone());
                    self.store.commit(batch).await?;
                    return Ok(Some(Step::More));
                }
                _ => {}
            }
        }
        if loaded.record.status != Status::Suspended {
            return Ok(None);
        }
        // What it would be told now waits on disk until it goes on.
        let mut batch = Batch::default();
        for message in messages.iter() {
            store::tell(&mut batch, instance, message);
        }
        if !batch.writes.is_empty() {
            self.store.commit(batch).await?;
            messages.clear();
        }
        Ok(Some(Step::Rest))
    }
}
