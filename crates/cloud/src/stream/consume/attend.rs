//! Looks after a lane: one that ends though nobody told it to goes on from what the disk holds.

use std::{any::Any, panic::AssertUnwindSafe};

use futures::FutureExt as _;

use super::{
    Lane,
    run::{AFTER_ERROR, Over, Worker},
};
use crate::stream::error::{StreamError, damaged};

/// Runs a lane until it is told to stop, its stream is gone, or its row is: then the subscription has other lanes, or is none
/// any more.
pub(super) async fn attend(worker: Worker, mut lane: Lane) {
    loop {
        match AssertUnwindSafe(worker.run(lane)).catch_unwind().await {
            Ok(Over::Told) => return,
            Ok(Over::Overtaken) => {}
            Err(panic) => {
                let (subscription, shard, number) = (&worker.urn, worker.shard, worker.lane);
                tracing::error!(%subscription, shard, lane = number, panic = said(&*panic), "a lane broke off; it is started again");
            }
        }
        lane = loop {
            if worker.pause(AFTER_ERROR).await.is_err() {
                return;
            }
            match on_disk(&worker) {
                Ok(Some(lane)) if lane.of == worker.subscription.parallelism.unwrap_or(1) => break lane,
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(subscription = %worker.urn, %error, "cannot read how far a subscription has come; trying again");
                }
            }
        };
    }
}

fn on_disk(worker: &Worker) -> Result<Option<Lane>, StreamError> {
    let row = worker.streams.store.snapshot()?.get(&worker.row())?;
    row.map(|row| serde_json::from_slice(&row).map_err(damaged)).transpose()
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it does not say why")
}
