//! Warm invocations through the Lambda API.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    cloud::{Cloud, block_on},
    floors::Floors,
    stats::Samples,
    table::{Row, Value},
};

const CLIENTS: usize = 16;
const SPAN: Duration = Duration::from_secs(5);

pub(crate) fn run(floors: &Floors) -> Result<Vec<Row>> {
    let cloud = Cloud::start()?;
    cloud.deploy(
        "const cloud = require(\"@tandem/cloud\");\n\
         exports.echo = new cloud.Function(\"echo\", async (event) => event).id;\n",
    )?;
    let name = cloud.output("echo")?;
    let endpoint = cloud.endpoint()?;
    let (one, rate) = block_on(async {
        let mut connection = endpoint.connect().await?;
        let mut samples = Samples::default();
        for round in 0..2200 {
            let started = Instant::now();
            connection.invoke(&name, "{\"n\":1}").await?;
            if round >= 200 {
                samples.push(started.elapsed());
            }
        }
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut connection = endpoint.connect().await?;
            connection.invoke(&name, "{}").await?;
            clients.push(connection);
        }
        let deadline = Instant::now() + SPAN;
        let counts = futures::future::try_join_all(clients.into_iter().map(|mut connection| {
            let name = &name;
            async move {
                let mut count = 0u32;
                while Instant::now() < deadline {
                    connection.invoke(name, "{\"n\":1}").await?;
                    count += 1;
                }
                anyhow::Ok(count)
            }
        }))
        .await?;
        anyhow::Ok((samples, f64::from(counts.iter().sum::<u32>()) / SPAN.as_secs_f64()))
    })?;
    Ok(vec![
        Row::new("warm invocation, 1 client", Value::Time(one.median()))
            .p99(one.quantile(0.99))
            .floor(Value::Time(floors.round_trip.median()), "round trip")
            .budget(Value::millis(1.0)),
        Row::new("warm invocations, 16 clients", Value::PerSecond(rate))
            .floor(Value::PerSecond(floors.round_trips), "round trips")
            .budget(Value::PerSecond(5000.0)),
    ])
}
