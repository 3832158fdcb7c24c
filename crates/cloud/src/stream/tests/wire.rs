//! Over the wire, with stock clients.

use super::Served;
use crate::stock_clients;

#[tokio::test]
async fn boto3_puts_and_reads_records_and_is_refused_what_is_not_there() {
    let served = Served::new().await;
    let f = &served.fixture;
    f.create("posts", serde_json::json!({ "shards": 3 })).await.unwrap();
    f.create("other-posts", serde_json::json!({})).await.unwrap();
    // Keys are those of stacks that have something.
    let urn = "urn:tandem:other:dev:stream:theirs".parse().unwrap();
    let mut inputs = serde_json::json!({ "streamName": "theirs" });
    let inputs = std::mem::take(inputs.as_object_mut().unwrap());
    f.apply(&tandem_model::plan::Change::Create { urn, inputs }).await.unwrap();
    let environment = stock_clients::two_stacks(served.endpoint, &served.credentials);
    stock_clients::run(include_str!("streams.py"), environment).await;
}
