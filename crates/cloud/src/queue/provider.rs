//! Queues as resources: what the target asks.
//!
//! A queue is deleted in three steps, as a bucket is: it is closed, emptied in commits of bounded size, and its rows go with
//! the resource's record. Killed in between, the next start opens it again with what is left.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tandem_model::{
    Explain, PhysicalId, Report, Urn, inputs,
    plan::Change,
    resource::{Properties, Recorded},
};
use tandem_store::Batch;

use super::{
    Queues, arn,
    attributes::{check_tags, encode},
    error::{QueueError, damaged},
    key::{CLOSING, OPEN, queue_row, settings_row},
    made::{self, is_made},
    settings::{Attributes, Settings},
};
use crate::provider::{Holding, Lines, Provider};

/// The queues as the target knows them: they hand themselves to work that goes on.
#[derive(Debug)]
pub struct Provided(pub Arc<Queues>);

#[async_trait]
impl Provider for Provided {
    async fn prepare(&self, change: &Change, id: &PhysicalId, _: &dyn Lines) -> Result<Properties, Report> {
        let queues = &self.0;
        match change {
            Change::Create { urn, inputs } | Change::Update { urn, new: inputs, .. } => {
                let typed = read(urn, inputs)?;
                // What clients make is pinned to the name that they chose, and called after it.
                let made = typed.queue_name.as_ref().and_then(|queue| made::urn(&urn.stack, queue).ok());
                if is_made(urn) && made.as_ref() != Some(urn) {
                    return Err(QueueError::ReservedName { name: urn.name.to_string() }.report());
                }
                check_name(&id.0, typed.fifo).map_err(|e| e.report())?;
                check_tags(&typed.tags).map_err(|e| e.report())?;
                let attributes = declared(&typed).map_err(|e| e.report())?;
                queues.check_dead_letters(&urn.stack, &attributes).map_err(|e| e.report())?;
                Ok(queues.outputs(&id.0))
            }
            Change::Delete { urn, force, .. } => {
                let recorded = queues.find(&id.0);
                let inputs = recorded.map(|recorded| read(urn, &recorded.inputs)).transpose()?;
                let force = *force || inputs.is_some_and(|inputs| inputs.force_destroy);
                match queues.close(&id.0, force).await {
                    // It is only a record any more.
                    Ok(()) | Err(QueueError::NoSuchQueue { .. }) => Ok(Properties::new()),
                    Err(error) => {
                        if let Err(error) = queues.set_state(&id.0, OPEN).await {
                            tracing::error!(queue = %id, %error, "cannot open a queue whose deletion failed");
                        }
                        Err(error.report())
                    }
                }
            }
        }
    }

    fn write(&self, batch: &mut Batch, change: &Change, id: &PhysicalId) -> Result<(), Report> {
        let row = queue_row(&id.0);
        match change {
            Change::Create { urn, inputs } => {
                let typed = read(urn, inputs)?;
                let now = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
                let attributes = declared(&typed).map_err(|e| e.report())?;
                let settings = Settings { created: now, modified: now, attributes, tags: typed.tags };
                batch.put(row, OPEN).put(settings_row(&id.0), encode(&settings));
            }
            Change::Update { urn, old, new, .. } => {
                let (old, new) = (read(urn, old)?, read(urn, new)?);
                let snapshot = self.0.store.snapshot().map_err(|e| e.report())?;
                let before = snapshot.get(&settings_row(&id.0)).map_err(|e| e.report())?;
                let Some(before) = before else {
                    return Err(QueueError::NoSuchQueue { queue: id.0.clone() }.report());
                };
                let mut settings: Settings =
                    serde_json::from_slice(&before).map_err(|e| damaged(e).report())?;
                settings.attributes.declare(&old, &new).map_err(|e| e.report())?;
                settings.tags.retain(|name, _| !old.tags.contains_key(name));
                settings.tags.extend(new.tags);
                settings.modified = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
                batch.expect(settings_row(&id.0), Some(before));
                batch.put(settings_row(&id.0), encode(&settings));
            }
            Change::Delete { .. } => {
                batch.expect(row.clone(), Some(Bytes::from_static(CLOSING)));
                batch.delete(row).delete(settings_row(&id.0));
            }
        }
        Ok(())
    }

    async fn settle(&self, urn: &Urn, id: &PhysicalId, now: Option<&Recorded>) {
        let queues = &self.0;
        if now.is_none() {
            return queues.forget(&id.0);
        }
        if let Err(error) = queues.set_state(&id.0, OPEN).await {
            tracing::error!(%urn, %error, "cannot open a queue whose deletion was interrupted");
        }
        queues.settings_changed(&id.0);
        queues.resume_moves(&id.0);
    }

    async fn holding(&self, id: &PhysicalId) -> Result<Option<Holding>, Report> {
        let messages = match self.0.open(&id.0).await {
            Ok(open) => open.core().messages(),
            Err(QueueError::NoSuchQueue { .. }) => 0,
            Err(error) => return Err(error.report()),
        };
        Ok(Some(Holding { items: messages, unit: "message", ..Holding::default() }))
    }
}

impl Queues {
    /// What a program gets of a queue.
    fn outputs(&self, queue: &str) -> Properties {
        let output = |name: &str, value: String| (name.to_owned(), value.into());
        Properties::from_iter([
            output("id", queue.to_owned()),
            output("name", queue.to_owned()),
            output("arn", arn(queue)),
            output("url", self.url(queue)),
        ])
    }

    /// A commit of the target changed what a queue is set to.
    fn settings_changed(&self, queue: &str) {
        let loaded = {
            let open = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            open.get(queue).and_then(|cell| cell.get().cloned())
        };
        let Some(open) = loaded else { return };
        let row = self.store.snapshot().and_then(|snapshot| snapshot.get(&settings_row(queue)));
        if let Ok(Some(row)) = row
            && let Ok(settings) = serde_json::from_slice(&row)
        {
            open.set(settings);
        }
    }
}

fn read(urn: &Urn, inputs: &Properties) -> Result<inputs::Queue, Report> {
    inputs::read(urn, inputs).map_err(|error| Report {
        code: "E0302".into(),
        message: error.to_string(),
        help: "see what a queue takes in the typings of `@tandem/cloud`".into(),
        causes: vec![],
    })
}

/// What a new queue is set to.
fn declared(inputs: &inputs::Queue) -> Result<Attributes, QueueError> {
    let mut attributes = Attributes { fifo: inputs.fifo, ..Attributes::default() };
    attributes.declare(&inputs::Queue::default(), inputs)?;
    Ok(attributes)
}

/// # Errors
/// [`QueueError::Name`].
pub(super) fn check_name(name: &str, fifo: bool) -> Result<(), QueueError> {
    inputs::Queue::check_name(name, fifo).map_err(|wrong| QueueError::Name { name: name.to_owned(), wrong })
}
