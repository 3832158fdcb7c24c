//! What subscriptions make of messages, with handlers that the tests are.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};
use tandem_model::{event::QUEUE_MESSAGES, inputs::Subscription};
use tokio::sync::mpsc;

use super::Fixture;
use crate::{
    dispatch::{BatchHandler, Delivery, Undelivered},
    queue::Subscribers,
};

/// Tells of each batch, and handles it.
struct Told(mpsc::UnboundedSender<Vec<String>>);

#[async_trait]
impl BatchHandler for Told {
    async fn handle(&self, batch: &Delivery) -> Result<HashSet<String>, Undelivered> {
        let messages = batch.event.data["messages"].as_array().unwrap();
        let bodies = messages.iter().map(|message| message["body"].as_str().unwrap().to_owned()).collect();
        self.0.send(bodies).unwrap();
        Ok(HashSet::new())
    }
}

fn subscription(options: Value) -> Subscription {
    let mut inputs = json!({
        "source": "urn:tandem:shop:dev:queue:orders",
        "consumer": "urn:tandem:shop:dev:function:work",
        "events": [QUEUE_MESSAGES],
    });
    inputs.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    serde_json::from_value(inputs).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_window_longer_than_a_receive_gathers_what_comes_within_it() {
    let f = Fixture::new().await;
    f.create("orders", json!({ "visibilityTimeout": 1 })).await.unwrap();
    let (sender, mut batches) = mpsc::unbounded_channel();
    let subscribers = Subscribers::new(f.queues.clone(), f.resources.clone(), Arc::new(Told(sender)));
    let urn = "urn:tandem:shop:dev:subscription:work".parse().unwrap();
    subscribers.settle(&urn, Some(subscription(json!({ "batchWindow": 50 }))));
    f.send("orders", "first").await;
    tokio::time::sleep(Duration::from_secs(45)).await;
    // The first one is still hidden, and waited with.
    f.pass(45_000);
    f.send("orders", "second").await;
    assert_eq!(batches.recv().await.unwrap(), ["first", "second"]);
    subscribers.close(Duration::from_secs(1)).await;
    assert_eq!(f.receive("orders", 10).await, [], "they are deleted");
}

#[test]
fn sizes_and_windows_that_cannot_be_are_named() {
    for (options, said) in [
        (json!({ "batchSize": 0 }), "`batchSize` is 1 to 1000"),
        (json!({ "concurrency": 1001 }), "`concurrency` is 1 to 1000"),
        (json!({ "batchWindow": -1 }), "`batchWindow` is 0 to 300"),
        (json!({ "batchWindow": 301 }), "`batchWindow` is 0 to 300"),
    ] {
        assert!(subscription(options.clone()).check().unwrap_err().contains(said), "{options}");
    }
    assert_eq!(
        subscription(json!({ "batchSize": 1000, "batchWindow": 300, "concurrency": 1 })).check(),
        Ok(())
    );
}
