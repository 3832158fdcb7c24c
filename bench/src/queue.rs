//! Messages over SQS: send, receive and delete, beside another server in the same run with the same client.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value as Json, json};

use crate::{
    cloud::{Cloud, Connection, Endpoint, block_on},
    floors::Floors,
    rival::{KINDS, Rival},
    stats::Samples,
    table::{Row, Value},
};

const CLIENTS: usize = 8;
const BATCH: usize = 10;
const SPAN: Duration = Duration::from_secs(4);
const ROUNDS: usize = 1000;
const WARM: usize = 100;
/// How many messages a deep queue holds, and a shallow one.
const DEEP: usize = 1_000_000;
const SHALLOW: usize = 1_000;
const RECEIVES: usize = 300;

pub(crate) fn run(floors: &Floors) -> Result<Vec<Row>> {
    let cloud = Cloud::start()?;
    cloud.deploy(
        "const cloud = require(\"@tandem/cloud\");\n\
         for (const name of [\"many\", \"one\", \"deep\", \"shallow\"])\n\
             exports[name] = new cloud.Queue(name, { forceDestroy: true }).url;\n",
    )?;
    let url = |name: &str| cloud.output(name);
    let endpoint = cloud.endpoint()?;
    let rate = block_on(throughput(&endpoint, &url("many")?))?;
    let trip = block_on(round_trip(&endpoint, &url("one")?))?;
    let mut rows = vec![
        Row::new(
            "queue: send + receive + delete in batches of 10, 8 clients, messages",
            Value::PerSecond(rate),
        )
        .floor(Value::PerSecond(1.0 / floors.append.median().as_secs_f64()), "appends by one")
        .budget(Value::PerSecond(10_000.0)),
    ];
    let mut others = Vec::new();
    for kind in KINDS.iter().filter(|kind| kind.queues) {
        let Some(rival) = Rival::start(kind)? else {
            eprintln!("{} is not installed: not measured", kind.name);
            continue;
        };
        eprintln!("measuring {} …", kind.name);
        let endpoint = rival.endpoint();
        let figures = block_on(async {
            let mut client = endpoint.connect().await?;
            let mut made = Vec::new();
            for name in ["many", "one"] {
                let answer = client.sqs("CreateQueue", &json!({ "QueueName": name })).await?;
                made.push(answer["QueueUrl"].as_str().context("a queue has a URL")?.to_owned());
            }
            Ok((throughput(&endpoint, &made[0]).await?, round_trip(&endpoint, &made[1]).await?))
        });
        match figures {
            Ok(figures) => others.push((kind.name, figures)),
            Err(error) => eprintln!("{} was not measured: {error:#}", kind.name),
        }
    }
    for (name, (theirs, _)) in &others {
        let (theirs, ours) = (Value::PerSecond(*theirs), Value::PerSecond(rate));
        rows.push(Row::new(format!("  {name}"), theirs).floor(ours, "Tandem"));
    }
    rows.push(
        Row::new("queue: one message sent, received and deleted", Value::Time(trip.median()))
            .p99(trip.quantile(0.99))
            .floor(
                Value::Time(floors.round_trip.median() * 3 + floors.append.median() * 3),
                "3 × (round trip + append)",
            )
            .budget(Value::millis(1.5)),
    );
    for (name, (_, theirs)) in &others {
        let row = Row::new(format!("  {name}"), Value::Time(theirs.median())).p99(theirs.quantile(0.99));
        rows.push(row.floor(Value::Time(trip.median()), "Tandem"));
    }
    let shallow = block_on(receives(&endpoint, &url("shallow")?, SHALLOW))?;
    let deep = block_on(receives(&endpoint, &url("deep")?, DEEP))?;
    rows.push(
        Row::new("queue: a receive of 1 from 1,000 messages", Value::Time(shallow.median()))
            .p99(shallow.quantile(0.99)),
    );
    rows.push(
        Row::new("queue: a receive of 1 from 1,000,000 messages", Value::Time(deep.median()))
            .p99(deep.quantile(0.99))
            .floor(Value::Time(shallow.median()), "from 1,000"),
    );
    Ok(rows)
}

async fn clients(endpoint: &Endpoint, count: usize) -> Result<Vec<Connection>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(endpoint.connect().await?);
    }
    Ok(clients)
}

/// Each client sends ten, receives up to ten, deletes what it got. Counts the messages that went all the way.
async fn throughput(endpoint: &Endpoint, queue: &str) -> Result<f64> {
    let started = Instant::now();
    let done = futures::future::try_join_all(clients(endpoint, CLIENTS).await?.into_iter().map(|mut client| async move {
        let mut done = 0usize;
        while started.elapsed() < SPAN {
            client.sqs("SendMessageBatch", &batch(queue)).await?;
            let got = client.sqs("ReceiveMessage", &json!({ "QueueUrl": queue, "MaxNumberOfMessages": BATCH })).await?;
            let Some(messages) = got["Messages"].as_array() else { continue };
            let entry = |(n, message): (usize, &Json)| json!({ "Id": n.to_string(), "ReceiptHandle": message["ReceiptHandle"] });
            let entries: Vec<_> = messages.iter().enumerate().map(entry).collect();
            let answer = client.sqs("DeleteMessageBatch", &json!({ "QueueUrl": queue, "Entries": entries })).await?;
            done += answer["Successful"].as_array().map_or(0, Vec::len);
        }
        anyhow::Ok(done)
    }))
    .await?;
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousand messages")]
    Ok(done.iter().sum::<usize>() as f64 / started.elapsed().as_secs_f64())
}

fn batch(queue: &str) -> Json {
    let entries: Vec<_> =
        (0..BATCH).map(|n| json!({ "Id": n.to_string(), "MessageBody": "x".repeat(100) })).collect();
    json!({ "QueueUrl": queue, "Entries": entries })
}

async fn round_trip(endpoint: &Endpoint, queue: &str) -> Result<Samples> {
    let mut client = endpoint.connect().await?;
    let mut samples = Samples::default();
    for round in 0..ROUNDS + WARM {
        let started = Instant::now();
        client.sqs("SendMessage", &json!({ "QueueUrl": queue, "MessageBody": "x".repeat(100) })).await?;
        let got = client.sqs("ReceiveMessage", &json!({ "QueueUrl": queue })).await?;
        let receipt = &got["Messages"][0]["ReceiptHandle"];
        ensure!(receipt.is_string(), "what was sent was not received");
        client.sqs("DeleteMessage", &json!({ "QueueUrl": queue, "ReceiptHandle": receipt })).await?;
        if round >= WARM {
            samples.push(started.elapsed());
        }
    }
    Ok(samples)
}

/// Fills a queue, and receives single messages from it.
async fn receives(endpoint: &Endpoint, queue: &str, depth: usize) -> Result<Samples> {
    let each = depth.div_ceil(BATCH).div_ceil(CLIENTS);
    futures::future::try_join_all(clients(endpoint, CLIENTS).await?.into_iter().map(
        |mut client| async move {
            for _ in 0..each {
                client.sqs("SendMessageBatch", &batch(queue)).await?;
            }
            anyhow::Ok(())
        },
    ))
    .await?;
    let mut client = endpoint.connect().await?;
    let mut samples = Samples::default();
    for _ in 0..RECEIVES {
        let started = Instant::now();
        let got = client.sqs("ReceiveMessage", &json!({ "QueueUrl": queue })).await?;
        samples.push(started.elapsed());
        ensure!(got["Messages"].is_array(), "a queue of {depth} messages was found empty");
    }
    Ok(samples)
}
