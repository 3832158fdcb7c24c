//! What there is of a stack's events, for people who ask after one.

use tandem_model::StackId;
use tandem_store::ReadError;

use super::{
    DeadLetter, DeadLetters, Delivery,
    row::{DEAD, DELIVERIES, of_stack},
};

/// Where a delivery is.
#[derive(Debug)]
pub enum Row {
    /// On its way; `ahead` came before it, of the same subscription.
    Open {
        delivery: Delivery,
        ahead: usize,
    },
    Dead(DeadLetter),
}

impl DeadLetters {
    /// Gives each delivery of a stack that is on its way or was given up to `each`, as of one moment.
    ///
    /// # Errors
    /// [`ReadError`] if they cannot be read.
    pub fn rows(&self, stack: &StackId, mut each: impl FnMut(Row)) -> Result<(), ReadError> {
        let snapshot = self.store.snapshot()?;
        let unreadable = |e| ReadError(Box::new(e));
        let (mut subscription, mut ahead) = (None, 0);
        for entry in snapshot.prefix(of_stack(DELIVERIES, Some(stack)).as_bytes())? {
            let delivery: Delivery = serde_json::from_slice(&entry?.1).map_err(unreadable)?;
            if subscription.as_ref() != Some(&delivery.subscription) {
                subscription = Some(delivery.subscription.clone());
                ahead = 0;
            }
            each(Row::Open { delivery, ahead });
            ahead += 1;
        }
        for entry in snapshot.prefix(of_stack(DEAD, Some(stack)).as_bytes())? {
            each(Row::Dead(serde_json::from_slice(&entry?.1).map_err(unreadable)?));
        }
        Ok(())
    }
}
