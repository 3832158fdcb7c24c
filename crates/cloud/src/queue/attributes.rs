//! What clients ask and say of a queue as a whole: its attributes and its tags.

use std::{collections::BTreeMap, sync::Arc};

use tandem_failpoint::hit;
use tandem_model::StackId;
use tandem_store::{Batch, CommitError, Direction};

use super::{
    Queues, arn,
    error::{QueueError, damaged},
    expect_open,
    key::settings_row,
    message::Times,
    name_in_arn,
    open::Open,
    settings::{Attributes, Settings},
    status::Depth,
    through,
};

impl Queues {
    /// All attributes of a queue, as on the wire: what it is set to, and what it holds.
    ///
    /// # Errors
    /// [`QueueError::NoSuchQueue`], or those of the store.
    pub async fn attributes(&self, queue: &str) -> Result<BTreeMap<&'static str, String>, QueueError> {
        let open = self.open(queue).await?;
        let settings = open.settings();
        let mut told = settings.attributes.told();
        let Depth { visible, in_flight, delayed } = self.depth_of(&open)?;
        told.insert("QueueArn", arn(queue));
        told.insert("CreatedTimestamp", settings.created.to_string());
        told.insert("LastModifiedTimestamp", settings.modified.to_string());
        told.insert("ApproximateNumberOfMessages", visible.to_string());
        told.insert("ApproximateNumberOfMessagesNotVisible", in_flight.to_string());
        told.insert("ApproximateNumberOfMessagesDelayed", delayed.to_string());
        Ok(told)
    }

    /// How many messages it holds.
    ///
    /// # Errors
    /// [`QueueError::NoSuchQueue`], or those of the store.
    pub(super) async fn depth(&self, queue: &str) -> Result<Depth, QueueError> {
        self.depth_of(&*self.open(queue).await?)
    }

    fn depth_of(&self, open: &Open) -> Result<Depth, QueueError> {
        let delayed = self.delayed(open)?;
        let (messages, in_flight) = {
            let mut core = open.core();
            core.expire(open.now());
            (core.messages(), core.in_flight() as u64)
        };
        Ok(Depth { visible: messages.saturating_sub(in_flight).saturating_sub(delayed), in_flight, delayed })
    }

    /// Whether each message to it must say by what it is recognised.
    ///
    /// # Errors
    /// [`QueueError::NoSuchQueue`], or those of the store.
    pub async fn needs_deduplication_id(&self, queue: &str) -> Result<bool, QueueError> {
        let attributes = &self.open(queue).await?.settings().attributes;
        Ok(attributes.fifo && !attributes.content_based_deduplication)
    }

    /// How many messages have been sent with a delay that is not over.
    fn delayed(&self, open: &Open) -> Result<u64, QueueError> {
        let snapshot = self.store.snapshot()?;
        let table = super::key::table("message", &open.name);
        let (now, end) = (open.now(), tandem_store::after_prefix(&table));
        let fifo = open.settings().attributes.fifo;
        if fifo && open.settings().attributes.delay == 0 {
            return Ok(0);
        }
        // Of a standard queue they are the last ones.
        let from = match fifo {
            true => table.to_vec(),
            false => [&table[..], &(now + 1).to_be_bytes()].concat(),
        };
        let mut delayed = 0;
        for entry in snapshot.range(&from, &end, Direction::Ascending)? {
            delayed += u64::from(Times::of(&entry?.1)?.due > now);
        }
        Ok(delayed)
    }

    /// Sets attributes, all or none.
    ///
    /// # Errors
    /// [`QueueError::AttributeName`] or [`QueueError::AttributeValue`] names the one that cannot be; those of the store.
    pub async fn set_attributes(
        self: &Arc<Self>,
        queue: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<(), QueueError> {
        let stack = self.find(queue).map(|recorded| recorded.urn.stack.clone());
        let stack = stack.ok_or_else(|| QueueError::NoSuchQueue { queue: queue.to_owned() })?;
        self.change_settings(queue, |settings| {
            for (name, value) in attributes {
                settings.attributes.set(name, value)?;
            }
            self.check_dead_letters(&stack, &settings.attributes)
        })
        .await
    }

    /// The tags of a queue.
    ///
    /// # Errors
    /// [`QueueError::NoSuchQueue`], or those of the store.
    pub async fn tags(&self, queue: &str) -> Result<BTreeMap<String, String>, QueueError> {
        Ok(self.open(queue).await?.settings().tags.clone())
    }

    /// Adds tags, and takes some away.
    ///
    /// # Errors
    /// [`QueueError::Parameter`] if a tag cannot be, or there are more than 50; those of the store.
    pub async fn tag(
        self: &Arc<Self>,
        queue: &str,
        add: BTreeMap<String, String>,
        remove: &[String],
    ) -> Result<(), QueueError> {
        self.change_settings(queue, |settings| {
            settings.tags.retain(|name, _| !remove.contains(name));
            settings.tags.extend(add.clone());
            check_tags(&settings.tags)
        })
        .await
    }

    /// Changes the settings, in one commit.
    async fn change_settings(
        self: &Arc<Self>,
        queue: &str,
        mut change: impl FnMut(&mut Settings) -> Result<(), QueueError>,
    ) -> Result<(), QueueError> {
        let open = self.open(queue).await?;
        // Nobody sends by what is being changed.
        let gate = open.gate.clone().write_owned().await;
        let row = self.store.snapshot()?.get(&settings_row(queue))?;
        let row = row.ok_or_else(|| QueueError::NoSuchQueue { queue: queue.to_owned() })?;
        let mut settings: Settings = serde_json::from_slice(&row).map_err(damaged)?;
        change(&mut settings)?;
        settings.modified = open.now() / 1000;
        let mut batch = Batch::default();
        expect_open(&mut batch, queue);
        batch.expect(settings_row(queue), Some(row)).put(settings_row(queue), encode(&settings));
        let store = self.store.clone();
        through(async move {
            match store.commit(batch).await {
                // Its program was deployed meanwhile, or it is being deleted.
                Err(CommitError::Conflict { .. }) => return Err(QueueError::Contended),
                other => other?,
            }
            hit("queue.settings.committed");
            open.set(settings);
            drop(gate);
            Ok(())
        })
        .await
    }

    /// Refuses a dead-letter queue that the stack has not, or that is of the other sort.
    pub(super) fn check_dead_letters(
        &self,
        stack: &StackId,
        attributes: &Attributes,
    ) -> Result<(), QueueError> {
        let Some(redrive) = &attributes.redrive else { return Ok(()) };
        let arn = &redrive.dead_letter_target_arn;
        let refuse = |wrong: &str| {
            let (name, value) = ("RedrivePolicy".to_owned(), arn.clone());
            Err(QueueError::AttributeValue { name, value, wrong: wrong.to_owned() })
        };
        match name_in_arn(arn) {
            None => refuse("it is not the ARN of a queue of this cloud"),
            Some(name) if self.find(name).is_none_or(|found| found.urn.stack != *stack) => {
                refuse("this stack has no such queue")
            }
            Some(name) if name.ends_with(".fifo") != attributes.fifo => {
                refuse("the dead-letter queue of a FIFO queue is one too, and only of such")
            }
            Some(_) => Ok(()),
        }
    }

    /// The ARN of the queue that takes what is received too often.
    pub(super) fn dead_letters_of(&self, queue: &str) -> Option<String> {
        let row = self.store.snapshot().ok()?.get(&settings_row(queue)).ok()??;
        let settings: Settings = serde_json::from_slice(&row).ok()?;
        settings.attributes.redrive.map(|redrive| redrive.dead_letter_target_arn)
    }
}

pub(super) fn encode(settings: &Settings) -> Vec<u8> {
    serde_json::to_vec(settings).expect("settings have string keys only")
}

/// Source: Amazon SQS, TagQueue: at most 50, names of at most 128 and values of at most 256 characters.
pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), QueueError> {
    let refuse = |wrong: String| Err(QueueError::Parameter { name: "Tags", wrong });
    if tags.len() > 50 {
        return refuse(format!("a queue has at most 50 tags, not {}", tags.len()));
    }
    for (name, value) in tags {
        if name.is_empty() || name.chars().count() > 128 || value.chars().count() > 256 {
            return refuse(format!(
                "the tag `{name}` is empty or too long: names of at most 128, values of at most 256 characters"
            ));
        }
    }
    Ok(())
}
