//! Objects as events: from an answered PUT to the first line of the handler behind it.

use anyhow::Result;
use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    cloud::{Cloud, between, block_on},
    floors::Floors,
    stats::Samples,
    table::{Row, Value},
};

const EVENTS: usize = 200;

pub(crate) fn run(floors: &Floors) -> Result<Vec<Row>> {
    let cloud = Cloud::start()?;
    cloud.deploy(
        "const cloud = require(\"@tandem/cloud\");\n\
         const watched = new cloud.Bucket(\"watched\");\n\
         watched.onPut(\"seen\", async (args) => console.log(args.key));\n\
         exports.watched = watched.id;\n",
    )?;
    let watched = cloud.output("watched")?;
    let endpoint = cloud.endpoint()?;
    let log = cloud.log()?;
    block_on(async {
        let mut client = endpoint.connect().await?;
        let body = Bytes::from(vec![b'x'; 1024]);
        let mut events = Samples::default();
        for number in 0..EVENTS + 10 {
            let key = format!("e{number}");
            client.put(&watched, &key, &body).await?;
            let answered = Timestamp::now();
            let printed = log.wait_for(&key)?;
            // The first ones start the worker.
            if number >= 10 {
                events.push(between(answered, printed));
            }
        }
        Ok(vec![
            Row::new("PUT answered to the handler's first line", Value::Time(events.median()))
                .p99(events.quantile(0.99))
                .floor(Value::Time(floors.round_trip.median()), "round trip")
                .budget(Value::millis(1.0)),
        ])
    })
}
