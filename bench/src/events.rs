//! Events on their way: from an answered PUT to the message in a queue, and from a published message to ten functions.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use serde_json::json;

use crate::{
    cloud::{Cloud, between, block_on},
    floors::Floors,
    stats::Samples,
    table::{Row, Value},
};

const EVENTS: usize = 200;
/// The first ones start the workers.
const WARM: usize = 10;
const FUNCTIONS: usize = 10;

pub(crate) fn run(floors: &Floors) -> Result<Vec<Row>> {
    let cloud = Cloud::start()?;
    cloud.deploy(&format!(
        "const cloud = require(\"@tandem/cloud\");\n\
         const watched = new cloud.Bucket(\"watched\", {{ forceDestroy: true }});\n\
         const told = new cloud.Queue(\"told\", {{ forceDestroy: true }});\n\
         watched.onPut(\"tell\", told);\n\
         const topic = new cloud.Topic(\"topic\");\n\
         for (let n = 0; n < {FUNCTIONS}; n++)\n\
             topic.subscribe(\"heard\" + n, async (text) => console.log(\"heard \" + text));\n\
         const publish = new cloud.Function(\"publish\", async (text) => {{\n\
             await topic.publish(text);\n\
             console.log(\"published \" + text);\n\
         }});\n\
         exports.watched = watched.id;\n\
         exports.told = told.url;\n\
         exports.publish = publish.id;\n"
    ))?;
    let (watched, told, publish) =
        (cloud.output("watched")?, cloud.output("told")?, cloud.output("publish")?);
    let endpoint = cloud.endpoint()?;
    let notified = block_on(async {
        let (mut putting, mut receiving) = (endpoint.connect().await?, endpoint.connect().await?);
        let body = Bytes::from(vec![b'x'; 1024]);
        let receive = json!({ "QueueUrl": told, "WaitTimeSeconds": 20 });
        let mut samples = Samples::default();
        for number in 0..EVENTS + WARM {
            // Somebody waits already when the object is put, as a consumer does.
            let received = async {
                let got = receiving.sqs("ReceiveMessage", &receive).await?;
                anyhow::Ok((Instant::now(), got))
            };
            let answered = async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                putting.put(&watched, &format!("e{number}"), &body).await?;
                anyhow::Ok(Instant::now())
            };
            let ((received, got), answered) = tokio::try_join!(received, answered)?;
            let receipt = &got["Messages"][0]["ReceiptHandle"];
            ensure!(receipt.is_string(), "no notification came");
            receiving.sqs("DeleteMessage", &json!({ "QueueUrl": told, "ReceiptHandle": receipt })).await?;
            if number >= WARM {
                samples.push(received.saturating_duration_since(answered));
            }
        }
        anyhow::Ok(samples)
    })?;
    let log = cloud.log()?;
    let heard = block_on(async {
        let mut client = endpoint.connect().await?;
        let mut samples = Samples::default();
        for number in 0..EVENTS + WARM {
            client.invoke(&publish, format!("\"e{number}\"")).await?;
            let (published, heard) = (format!("published e{number}"), format!("heard e{number}"));
            let times = log.wait_for_all(&[(&published, 1), (&heard, FUNCTIONS)])?;
            if number >= WARM {
                samples.push(between(times[0], times[1]));
            }
        }
        anyhow::Ok(samples)
    })?;
    Ok(vec![
        Row::new("PUT answered to its notification received from a queue", Value::Time(notified.median()))
            .p99(notified.quantile(0.99))
            .floor(Value::Time(floors.round_trip.median() + floors.append.median()), "round trip + append")
            .budget(Value::millis(1.0)),
        Row::new("published to the first line of the last of 10 functions", Value::Time(heard.median()))
            .p99(heard.quantile(0.99))
            .floor(Value::Time(floors.round_trip.median()), "round trip"),
    ])
}
