//! The driver of an instance: takes turns while there is anything to tell it, and does what each of them began.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tandem_store::{Batch, CommitError};
use tokio::{sync::Notify, time::sleep};

use super::{
    Mail, Shared, WorkflowError, core, lock,
    record::{Message, Open, Record, Status, Work},
    store::{self, InstanceKey, Loaded, Waiting},
};

/// How many messages one turn takes.
const MESSAGES: usize = 1000;
/// How long an instance is left alone that changed underneath, and whose turn could not be recorded.
const AFTER_CONFLICT: Duration = Duration::from_millis(10);
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// How long a driver stays that has nothing to do: results often come close together, and the next one need not read it anew.
const LINGER: Duration = Duration::from_millis(50);

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
            if message.is_none() {
                mail.news.notify_one();
            }
            mail.messages.extend(message);
            mail.woken = true;
            mail.called.notify_one();
            return;
        }
        if self.closing.is_cancelled() {
            return;
        }
        let mail = Mail { messages: message.into_iter().collect(), woken: true, ..Mail::default() };
        let (shared, instance) = (self.clone(), instance.clone());
        let (called, news) = (mail.called.clone(), mail.news.clone());
        driven.insert(instance.clone(), mail);
        self.working.spawn(async move { shared.drive(&instance, &called, &news).await });
    }

    async fn drive(self: Arc<Self>, instance: &InstanceKey, called: &Notify, news: &Notify) {
        let (mut messages, mut known, mut linger) = (Vec::new(), None, true);
        loop {
            let woken = {
                let mut driven = lock(&self.driven);
                let Some(mail) = driven.get_mut(instance) else { return };
                if self.closing.is_cancelled() || !(mail.woken || linger) {
                    driven.remove(instance);
                    return;
                }
                messages.append(&mut mail.messages);
                std::mem::take(&mut mail.woken)
            };
            if !woken {
                tokio::select! {
                    () = called.notified() => {}
                    () = sleep(LINGER) => linger = false,
                    () = self.closing.cancelled() => {}
                }
                continue;
            }
            linger = true;
            loop {
                match self.step(instance, &mut messages, &mut known, news).await {
                    Ok(Step::More) => {}
                    Ok(Step::Rest) => break,
                    Err(_) if self.closing.is_cancelled() => return,
                    // It was erased, or what it begins has begun otherwise: look again.
                    Err(WorkflowError::Commit(CommitError::Conflict { .. })) => sleep(AFTER_CONFLICT).await,
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

    /// Tells the instance what there is to tell. On an error `messages` are still to be told. `known` is how it stands, if that
    /// is known from the step before.
    async fn step(
        self: &Arc<Self>,
        instance: &InstanceKey,
        messages: &mut Vec<Message>,
        known: &mut Option<Loaded>,
        news: &Notify,
    ) -> Result<Step, WorkflowError> {
        let (loaded, inbox) = {
            let snapshot = self.store.snapshot()?;
            let loaded = match known.take() {
                Some(known) => Some(known),
                None => store::load(&*snapshot, instance)?,
            };
            (loaded, store::inbox(&*snapshot, instance, MESSAGES)?)
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
            *known = Some(loaded);
            return Ok(Step::Rest);
        }
        let rows: Vec<_> = inbox.iter().map(|(row, _)| row.clone()).collect();
        let told = messages.iter().cloned().chain(inbox.into_iter().map(|(_, message)| message));
        let Some(turn) = core::begin(&loaded.record, &loaded.open, told, Timestamp::now()) else {
            messages.clear();
            self.delete(rows).await?;
            *known = Some(loaded);
            return Ok(if full { Step::More } else { Step::Rest });
        };
        let turned = tokio::select! {
            turned = self.take(instance, &loaded, turn) => turned?,
            // Its orchestrator may never answer; nobody waits for that.
            terminated = self.terminated(instance, news) => return terminated.map(|()| Step::More),
        };
        let Some(turned) = turned else { return Ok(Step::Rest) };
        self.commit(instance, &loaded, &turned, rows).await?;
        messages.clear();
        self.follow(instance, &turned);
        let more = full || turned.renewed;
        // What has ended may be begun anew by others; requests note in their rows where they stand.
        let is_request = |open: &Open| matches!(open.work, Work::Http { .. });
        *known = Some(loaded.after(turned))
            .filter(|known| !known.record.status.ended() && !known.open.values().any(is_request));
        Ok(if more { Step::More } else { Step::Rest })
    }

    /// Returns when the instance was told to end.
    async fn terminated(&self, instance: &InstanceKey, news: &Notify) -> Result<(), WorkflowError> {
        loop {
            news.notified().await;
            let inbox = store::inbox(&*self.store.snapshot()?, instance, MESSAGES)?;
            if inbox.iter().any(|(_, message)| matches!(message, Message::Terminate { .. })) {
                return Ok(());
            }
        }
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
                    let turned = core::stop(&loaded.record, Status::Terminated, reason, vec![], now);
                    self.commit(instance, loaded, &turned, [row.clone()]).await?;
                    messages.clear();
                    self.follow(instance, &turned);
                    return Ok(Some(Step::More));
                }
                Message::Suspend | Message::Resume => {
                    let status = match message {
                        Message::Suspend => Status::Suspended,
                        _ => Status::Running,
                    };
                    let record =
                        Record { status, updated: now.max(loaded.record.updated), ..loaded.record.clone() };
                    let mut batch = Batch::default();
                    let key = store::record_key(instance);
                    batch.expect(key.clone(), Some(store::json(&loaded.record)));
                    batch.put(key, store::json(&record)).delete(row.clone());
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
