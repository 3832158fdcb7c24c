//! Throughput of the S3 protocol beside other servers, one after the other in the same run with the same client.
//!
//! Every server gets the same requests: objects of 1 KiB and of 16 MiB, put and read by 1 and by 16 connections, and a
//! bucket of 10,000 keys listed whole, in pages of 1,000.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;

use crate::{
    cloud::{Cloud, Connection, Endpoint, block_on},
    floors::Floors,
    rival::{KINDS, Rival},
    stats::Samples,
    table::{Row, Value},
};

const SMALL: usize = 1 << 10;
const LARGE: usize = 16 << 20;
const KEYS: usize = 10_000;
const SPAN: Duration = Duration::from_secs(3);
/// How many different large objects a connection writes: they are overwritten, so that the disk does not fill.
const LARGE_KEYS: u32 = 2;
/// How many objects each connection writes at least, and how many different ones it reads.
const READ: u32 = 10;

pub(crate) fn run(floors: &Floors) -> Result<Vec<Row>> {
    let ours = {
        let cloud = Cloud::start()?;
        cloud.deploy(
            "const cloud = require(\"@tandem/cloud\");\n\
             exports.bucket = new cloud.Bucket(\"bucket\", { forceDestroy: true }).id;\n",
        )?;
        let bucket = cloud.output("bucket")?;
        block_on(measure(&cloud.endpoint()?, &bucket))?
    };
    let mut others = Vec::new();
    for kind in KINDS {
        let Some(rival) = Rival::start(kind)? else {
            eprintln!("{} is not installed: not measured", kind.name);
            continue;
        };
        eprintln!("measuring {} …", kind.name);
        let endpoint = rival.endpoint();
        let figures = block_on(async {
            endpoint.connect().await?.create_bucket("bucket").await?;
            measure(&endpoint, "bucket").await
        });
        // What another server cannot do takes nothing from what was measured.
        match figures {
            Ok(figures) => others.push((kind.name, figures)),
            Err(error) => eprintln!("{} was not measured: {error:#}", kind.name),
        }
    }
    let mut rows = Vec::new();
    for (number, figure) in ours.iter().enumerate() {
        let mut row = Row::new(figure.what, figure.value).p99(figure.p99);
        if let Some(budget) = figure.budget {
            row = row.budget(budget);
        }
        // The first figure is the durable one of many clients: how much is won by sharing syncs.
        if number == 0 {
            row = row.floor(Value::PerSecond(1.0 / floors.append.median().as_secs_f64()), "appends by one");
        }
        rows.push(row);
        for (name, figures) in &others {
            let Some(theirs) = figures.get(number) else { continue };
            rows.push(
                Row::new(format!("  {name}"), theirs.value).p99(theirs.p99).floor(figure.value, "Tandem"),
            );
        }
    }
    Ok(rows)
}

struct Figure {
    what: &'static str,
    value: Value,
    p99: Duration,
    budget: Option<Value>,
}

/// The same figures, in the same order, for every server.
async fn measure(endpoint: &Endpoint, bucket: &str) -> Result<Vec<Figure>> {
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(endpoint.connect().await?);
    }
    let (small, large) = (Bytes::from(vec![b'x'; SMALL]), Bytes::from(vec![b'y'; LARGE]));
    let put_small = async |connection: &mut Connection, client: usize, number: u32| {
        connection.put(bucket, &format!("small/{client}-{number}"), &small).await
    };
    let get_small = async |connection: &mut Connection, client: usize, number: u32| {
        let size = connection.drain(bucket, &format!("small/{client}-{}", number % READ)).await?;
        ensure!(size == SMALL as u64, "an object came back with {size} bytes");
        Ok(())
    };
    let put_large = async |connection: &mut Connection, client: usize, number: u32| {
        connection.put(bucket, &format!("large/{client}-{}", number % LARGE_KEYS), &large).await
    };
    let get_large = async |connection: &mut Connection, client: usize, _: u32| {
        let size = connection.drain(bucket, &format!("large/{client}-0")).await?;
        ensure!(size == LARGE as u64, "an object came back with {size} bytes");
        Ok(())
    };
    let mut figures = Vec::new();
    let mut take = |what, (count, samples): (f64, Samples), size: usize, budget| {
        #[expect(clippy::cast_precision_loss, reason = "sizes of some mebibytes")]
        let value = match size {
            SMALL => Value::PerSecond(count),
            _ => Value::MebibytesPerSecond(count * (size >> 20) as f64),
        };
        figures.push(Figure { what, value, p99: samples.quantile(0.99), budget });
    };
    // Sixteen first: they leave the objects that one client then reads.
    let many = rate(&mut clients, &put_small).await?;
    take("PUT 1 KiB, fsynced, 16 clients", many, SMALL, Some(Value::PerSecond(5000.0)));
    take("PUT 1 KiB, fsynced, 1 client", rate(&mut clients[..1], &put_small).await?, SMALL, None);
    let many = rate(&mut clients, &get_small).await?;
    take("GET 1 KiB, 16 clients", many, SMALL, Some(Value::PerSecond(15_000.0)));
    take("GET 1 KiB, 1 client", rate(&mut clients[..1], &get_small).await?, SMALL, None);
    take("PUT 16 MiB, fsynced, 16 clients", rate(&mut clients, &put_large).await?, LARGE, None);
    let one = rate(&mut clients[..1], &put_large).await?;
    take("PUT 16 MiB, fsynced, 1 client", one, LARGE, Some(Value::MebibytesPerSecond(400.0)));
    take("GET 16 MiB, 16 clients", rate(&mut clients, &get_large).await?, LARGE, None);
    let one = rate(&mut clients[..1], &get_large).await?;
    take("GET 16 MiB, 1 client", one, LARGE, Some(Value::MebibytesPerSecond(1500.0)));
    // The last one: not every server ends a listing of many pages.
    match list(&mut clients, bucket).await {
        Ok(figure) => figures.push(figure),
        Err(error) => eprintln!("the listing was not measured: {error:#}"),
    }
    Ok(figures)
}

async fn list(clients: &mut [Connection], bucket: &str) -> Result<Figure> {
    let nothing = Bytes::new();
    let count = clients.len();
    futures::future::try_join_all(clients.iter_mut().enumerate().map(|(client, connection)| {
        let nothing = &nothing;
        async move {
            for number in (client..KEYS).step_by(count) {
                connection.put(bucket, &format!("listed/{number:05}"), nothing).await?;
            }
            anyhow::Ok(())
        }
    }))
    .await?;
    let mut samples = Samples::default();
    for _ in 0..10 {
        let started = Instant::now();
        let (mut keys, mut token) = (0, None);
        loop {
            let (some, next) = clients[0].list(bucket, "listed/", token.as_deref()).await?;
            keys += some;
            ensure!(keys <= KEYS, "a listing of {KEYS} keys does not end");
            token = next;
            if token.is_none() {
                break;
            }
        }
        samples.push(started.elapsed());
        ensure!(keys == KEYS, "a listing of {KEYS} keys has {keys}");
    }
    let (value, p99) = (Value::Time(samples.median()), samples.quantile(0.99));
    Ok(Figure { what: "LIST 10,000 keys, 1 client", value, p99, budget: Some(Value::millis(100.0)) })
}

/// Lets every client do it again and again for a while; gives how often all did it a second, and how long each took.
async fn rate(
    clients: &mut [Connection],
    work: &impl AsyncFn(&mut Connection, usize, u32) -> Result<()>,
) -> Result<(f64, Samples)> {
    let started = Instant::now();
    let all = futures::future::try_join_all(clients.iter_mut().enumerate().map(
        |(client, connection)| async move {
            let mut taken = Vec::new();
            for number in 0.. {
                let begun = Instant::now();
                // Everybody writes what is read later, however slow.
                if begun - started >= SPAN && number >= READ {
                    break;
                }
                work(connection, client, number).await?;
                taken.push(begun.elapsed());
            }
            anyhow::Ok(taken)
        },
    ))
    .await?;
    let samples: Samples = all.into_iter().flatten().collect();
    #[expect(clippy::cast_precision_loss, reason = "some ten thousand requests")]
    let count = samples.len() as f64;
    Ok((count / started.elapsed().as_secs_f64(), samples))
}
