//! Events of what a stack no longer has.
//!
//! The deliveries and dead letters of a subscription go with it, in the commit that deletes it. Those that are addressed to
//! a function directly stay when a program has no such function any more: it may come back. When the whole stack goes,
//! `destroy` says how many there are, and drops them; one that was interrupted leaves them to the next, and to
//! `tandem dead-letters drop`.

use serde::{Deserialize, Serialize};
use tandem_model::{StackId, Urn};
use tandem_store::{Batch, ReadError};

use super::{
    DeadLetterError, DeadLetters,
    row::{DEAD, DELIVERIES, count, prefix, subscriptions_with_rows},
};

/// How many rows go in one commit.
const AT_ONCE: usize = 1000;

/// How many events of a stack are not handled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// On their way.
    pub waiting: usize,
    pub dead_letters: usize,
}

impl DeadLetters {
    /// What a stack holds, with what it no longer has; or only these subscriptions of it.
    ///
    /// # Errors
    /// [`ReadError`] if it cannot be counted.
    pub fn held(&self, stack: &StackId, only: Option<&[Urn]>) -> Result<Held, ReadError> {
        let snapshot = self.store.snapshot()?;
        let rows = |table| {
            let mut subscriptions = subscriptions_with_rows(&*snapshot, table, Some(stack))?;
            subscriptions.retain(|urn| only.is_none_or(|only| only.contains(urn)));
            subscriptions
                .iter()
                .try_fold(0, |sum, urn| Ok::<_, ReadError>(sum + count(&*snapshot, table, urn)?))
        };
        Ok(Held { waiting: rows(DELIVERIES)?, dead_letters: rows(DEAD)? })
    }

    /// Drops the events of a stack whose subscription or function does not exist any more. One that is being tried ends as
    /// it ends, and is not tried again.
    ///
    /// # Errors
    /// [`DeadLetterError`]; what went is gone, and asking again goes on.
    pub async fn drop_leftovers(&self, stack: &StackId) -> Result<Held, DeadLetterError> {
        Ok(Held {
            waiting: self.drop_of(DELIVERIES, stack).await?,
            dead_letters: self.drop_of(DEAD, stack).await?,
        })
    }

    async fn drop_of(&self, table: &str, stack: &StackId) -> Result<usize, DeadLetterError> {
        let mut subscriptions = subscriptions_with_rows(&*self.store.snapshot()?, table, Some(stack))?;
        subscriptions.retain(|urn| self.resources.by_urn(urn).is_none());
        let mut dropped = 0;
        for urn in subscriptions {
            loop {
                let keys: Vec<_> = {
                    let snapshot = self.store.snapshot()?;
                    let rows = snapshot.prefix(&prefix(table, &urn))?.take(AT_ONCE);
                    rows.map(|row| Ok(row?.0)).collect::<Result<_, ReadError>>()?
                };
                if keys.is_empty() {
                    break;
                }
                let mut batch = Batch::default();
                dropped += keys.len();
                keys.into_iter().for_each(|key| _ = batch.delete(key));
                batch.frees();
                self.store.commit(batch).await?;
            }
        }
        Ok(dropped)
    }
}
