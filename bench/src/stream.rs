//! Streams: records put over Kinesis in batches of 500 by 8 clients; and the same with a handler behind them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use data_encoding::BASE64;
use serde_json::{Value as Json, json};

use crate::{
    cloud::{Cloud, Connection, Endpoint, between, block_on},
    floors::Floors,
    stats::Samples,
    table::{Row, Value},
};

const CLIENTS: usize = 8;
const BATCH: usize = 500;
const SPAN: Duration = Duration::from_secs(4);
const SHARDS: u32 = 4;
const ROUNDS: usize = 500;
const WARM: usize = 50;
pub(crate) fn run(floors: &Floors) -> Result<Vec<Row>> {
    let cloud = Cloud::start()?;
    cloud.deploy(&format!(
        "const cloud = require(\"@tandem/cloud\");\n\
         const stream = (name) => new cloud.Stream(name, {{ shards: {SHARDS}, forceDestroy: true }});\n\
         const handled = stream(\"handled\");\n\
         handled.subscribe(\"handle\", async (records) => {{\n\
             for (const {{ value, shard }} of records) if (value === \"end\") console.log(`end of ${{shard}}`);\n\
         }}, {{ batchSize: 1000 }});\n\
         const one = new cloud.Stream(\"one\", {{ forceDestroy: true }});\n\
         one.subscribe(\"first\", async ([{{ value }}]) => console.log(value));\n\
         exports.plain = stream(\"plain\").name;\n\
         exports.handled = handled.name;\n\
         exports.one = one.name;\n",
    ))?;
    let endpoint = cloud.endpoint()?;
    let (put, puts) = block_on(throughput(&endpoint, &cloud.output("plain")?))?;
    let handled = cloud.output("handled")?;
    let log = cloud.log()?;
    let started = Instant::now();
    let (rate, _) = block_on(throughput(&endpoint, &handled))?;
    let records = rate * started.elapsed().as_secs_f64();
    block_on(ends(&endpoint, &handled))?;
    for shard in 0..SHARDS {
        log.wait_for(&format!("end of shardId-{shard:012}"))?;
    }
    let through = records / started.elapsed().as_secs_f64();
    let one = cloud.output("one")?;
    let mut delays = Samples::default();
    block_on(async {
        let mut client = endpoint.connect().await?;
        for round in 0..ROUNDS + WARM {
            let data = format!("r{round}");
            let record = json!({ "StreamName": one, "PartitionKey": "k", "Data": BASE64.encode(format!("\"{data}\"").as_bytes()) });
            client.kinesis("PutRecord", record.to_string().into()).await?;
            let answered = jiff::Timestamp::now();
            let printed = log.wait_for(&data)?;
            if round >= WARM {
                delays.push(between(answered, printed));
            }
        }
        anyhow::Ok(())
    })?;
    Ok(vec![
        Row::new("stream: put in batches of 500, 8 clients, records", Value::PerSecond(put))
            .p99(puts.quantile(0.99))
            .floor(Value::PerSecond(1.0 / floors.append.median().as_secs_f64()), "appends by one")
            .budget(Value::PerSecond(50_000.0)),
        Row::new("stream: the same, put and handled by a function", Value::PerSecond(through))
            .floor(Value::PerSecond(put), "put"),
        Row::new("stream: PutRecord answered to the handler's first line", Value::Time(delays.median()))
            .p99(delays.quantile(0.99))
            .floor(Value::Time(floors.round_trip.median()), "round trip"),
    ])
}

/// Records a second, and how long a put takes.
async fn throughput(endpoint: &Endpoint, stream: &str) -> Result<(f64, Samples)> {
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        clients.push((endpoint.connect().await?, batch(stream, n)));
    }
    let started = Instant::now();
    let work = clients.into_iter().map(|(client, batch)| put(client, batch, started));
    let times = futures::future::try_join_all(work).await?;
    let elapsed = started.elapsed();
    let mut samples = Samples::default();
    let mut count = 0;
    for time in times.into_iter().flatten() {
        samples.push(time);
        count += BATCH;
    }
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousand records")]
    Ok((count as f64 / elapsed.as_secs_f64(), samples))
}

async fn put(mut client: Connection, batch: Bytes, started: Instant) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    while started.elapsed() < SPAN {
        let began = Instant::now();
        let answer = client.kinesis("PutRecords", batch.clone()).await?;
        ensure!(answer["FailedRecordCount"] == 0, "records were not put");
        times.push(began.elapsed());
    }
    Ok(times)
}

fn batch(stream: &str, client: usize) -> Bytes {
    let data = BASE64.encode(&[b'x'; 100]);
    let record = |n: usize| json!({ "PartitionKey": format!("key {client} {n}"), "Data": data });
    let records: Vec<Json> = (0..BATCH).map(record).collect();
    json!({ "StreamName": stream, "Records": records }).to_string().into()
}

/// One last record for each shard.
async fn ends(endpoint: &Endpoint, stream: &str) -> Result<()> {
    let mut client = endpoint.connect().await?;
    let shards = client.kinesis("ListShards", json!({ "StreamName": stream }).to_string().into()).await?;
    for shard in shards["Shards"].as_array().context("a stream has shards")? {
        let hash = &shard["HashKeyRange"]["StartingHashKey"];
        let record = json!({ "StreamName": stream, "PartitionKey": "end", "ExplicitHashKey": hash, "Data": BASE64.encode(b"\"end\"") });
        client.kinesis("PutRecord", record.to_string().into()).await?;
    }
    Ok(())
}
