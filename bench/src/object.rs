//! Objects: durable PUT and GET of 1 KiB, and from an answered PUT to the first line of the handler behind it.

use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    cloud::{Cloud, Connection, between, block_on},
    floors::Floors,
    stats::Samples,
    table::{Row, Value},
};

const CLIENTS: usize = 16;
const SPAN: Duration = Duration::from_secs(5);
const EVENTS: usize = 200;

pub(crate) fn run(floors: &Floors) -> Result<Vec<Row>> {
    let cloud = Cloud::start()?;
    cloud.deploy(
        "const cloud = require(\"@tandem/cloud\");\n\
         const plain = new cloud.Bucket(\"plain\");\n\
         const watched = new cloud.Bucket(\"watched\");\n\
         watched.onPut(\"seen\", async (args) => console.log(args.key));\n\
         exports.plain = plain.id;\n\
         exports.watched = watched.id;\n",
    )?;
    let (plain, watched) = (cloud.output("plain")?, cloud.output("watched")?);
    let endpoint = cloud.endpoint()?;
    let log = cloud.log()?;
    block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(endpoint.connect().await?);
        }
        let body = Bytes::from(vec![b'x'; 1024]);
        let (puts, latency) = rate(&mut clients, async |connection, client, number| {
            connection.put(&plain, &format!("{client}-{number}"), &body).await
        })
        .await?;
        let (gets, _) = rate(&mut clients, async |connection, client, number| {
            connection.get(&plain, &format!("{client}-{}", number % 100)).await.map(drop)
        })
        .await?;

        let mut events = Samples::default();
        for number in 0..EVENTS + 10 {
            let key = format!("e{number}");
            clients[0].put(&watched, &key, &body).await?;
            let answered = Timestamp::now();
            let printed = log.wait_for(&key)?;
            // The first ones start the worker.
            if number >= 10 {
                events.push(between(answered, printed));
            }
        }
        Ok(vec![
            Row::new("PUT 1 KiB, fsynced, 16 clients", Value::PerSecond(puts))
                .p99(latency.quantile(0.99))
                .floor(Value::PerSecond(1.0 / floors.append.median().as_secs_f64()), "appends by one")
                .budget(Value::PerSecond(5000.0)),
            Row::new("GET 1 KiB, 16 clients", Value::PerSecond(gets))
                .floor(Value::PerSecond(floors.round_trips), "round trips")
                .budget(Value::PerSecond(15_000.0)),
            Row::new("PUT answered to the handler's first line", Value::Time(events.median()))
                .p99(events.quantile(0.99))
                .floor(Value::Time(floors.round_trip.median()), "round trip")
                .budget(Value::millis(1.0)),
        ])
    })
}

/// Lets every client do it again and again for a while; gives how often all did it a second, and how long each took.
async fn rate(
    clients: &mut [Connection],
    work: impl AsyncFn(&mut Connection, usize, u32) -> Result<()>,
) -> Result<(f64, Samples)> {
    let deadline = Instant::now() + SPAN;
    let work = &work;
    let all = futures::future::try_join_all(clients.iter_mut().enumerate().map(
        |(client, connection)| async move {
            let mut taken = Vec::new();
            for number in 0.. {
                let started = Instant::now();
                if started >= deadline {
                    break;
                }
                work(connection, client, number).await?;
                taken.push(started.elapsed());
            }
            anyhow::Ok(taken)
        },
    ))
    .await?;
    let samples: Samples = all.into_iter().flatten().collect();
    #[expect(clippy::cast_precision_loss, reason = "some ten thousand requests")]
    let count = samples.len() as f64;
    Ok((count / SPAN.as_secs_f64(), samples))
}
