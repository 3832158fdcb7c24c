//! Workflows: a chain of four activities, and a fan-out of a hundred, started and waited for over their management URLs.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use serde_json::Value as Json;

use crate::{
    cloud::{Cloud, block_on, open},
    floors::Floors,
    stats::Samples,
    table::{Row, Value},
};

const SPAN: Duration = Duration::from_secs(6);
const ROUNDS: usize = 300;
const FANS: usize = 20;
const WARM: usize = 20;
const FAN: usize = 100;
const CLIENTS: [usize; 2] = [32, 128];
/// The steps of a chain, each of which waits for the commit of the one before; and its start.
const COMMITS: u32 = 6;

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
const df = require("durable-functions");
for (const n of [1, 2, 3, 4]) new cloud.Function("F" + n, async (x) => (x ?? 0) + n);
new cloud.Workflow("chain", df(function* (ctx) {
    const x = yield ctx.df.callActivity("F1");
    const y = yield ctx.df.callActivity("F2", x);
    const z = yield ctx.df.callActivity("F3", y);
    return yield ctx.df.callActivity("F4", z);
}));
new cloud.Workflow("fan", df(function* (ctx) {
    const all = [];
    for (let n = 0; n < ctx.df.getInput(); n++) all.push(ctx.df.callActivity("F1", n));
    return (yield ctx.df.Task.all(all)).reduce((sum, one) => sum + one, 0);
}));
"#;

pub(crate) fn run(floors: &Floors) -> Result<Vec<Row>> {
    let cloud = Cloud::start()?;
    cloud.deploy(PROGRAM)?;
    let variables: BTreeMap<String, String> = serde_json::from_str(&cloud.tandem(&["env", "--json"])?)?;
    let variable =
        |name: &str| variables.get(name).cloned().with_context(|| format!("`tandem env` has no {name}"));
    let code = format!("{}.{}", variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?);
    let address = variable("AWS_ENDPOINT_URL")?.trim_start_matches("http://").parse()?;
    block_on(async {
        let mut client = Client::connect(address, &code).await?;
        let chain = client.sample("chain", "null", "10", ROUNDS).await?;
        let sum = (FAN * (FAN - 1) / 2 + FAN).to_string();
        let fan = client.sample("fan", &FAN.to_string(), &sum, FANS).await?;
        let floor = floors.append.median() * COMMITS + floors.round_trip.median() * 2;
        let mut rows = vec![
            Row::new("workflow: a chain of four activities, 1 client", Value::Time(chain.median()))
                .p99(chain.quantile(0.99))
                .floor(Value::Time(floor), "6 appends + 2 round trips")
                .budget(Value::millis(5.0)),
        ];
        for clients in CLIENTS {
            let rate = rate(address, &code, clients).await?;
            rows.push(Row::new(
                format!("workflow: chains of four activities, {clients} clients"),
                Value::PerSecond(rate),
            ));
        }
        rows.push(
            Row::new("workflow: a fan-out of 100 activities, 1 client", Value::Time(fan.median()))
                .p99(fan.quantile(0.99)),
        );
        Ok(rows)
    })
}

/// How many chains end in a second.
async fn rate(address: SocketAddr, code: &str, clients: usize) -> Result<f64> {
    let started = Instant::now();
    let counts = futures::future::try_join_all((0..clients).map(|_| async {
        let mut client = Client::connect(address, code).await?;
        let mut count = 0u32;
        while started.elapsed() < SPAN {
            client.run("chain", "null", "10").await?;
            count += 1;
        }
        anyhow::Ok(count)
    }))
    .await?;
    Ok(f64::from(counts.iter().sum::<u32>()) / started.elapsed().as_secs_f64())
}

struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    code: String,
}

impl Client {
    async fn connect(address: SocketAddr, code: &str) -> Result<Self> {
        Ok(Self { sender: open(address).await?, host: address.to_string(), code: code.to_owned() })
    }

    async fn sample(&mut self, workflow: &str, input: &str, output: &str, rounds: usize) -> Result<Samples> {
        let mut samples = Samples::default();
        for round in 0..rounds + WARM {
            let started = Instant::now();
            self.run(workflow, input, output).await?;
            if round >= WARM {
                samples.push(started.elapsed());
            }
        }
        Ok(samples)
    }

    /// Starts an instance and waits for its end.
    async fn run(&mut self, workflow: &str, input: &str, output: &str) -> Result<()> {
        let started = self.ask("POST", &format!("orchestrators/{workflow}?"), input).await?;
        let id = started["id"].as_str().context("an instance has an id")?.to_owned();
        let ended = self.ask("GET", &format!("instances/{id}?wait=60&"), "").await?;
        ensure!(
            ended["output"] == serde_json::from_str::<Json>(output)?,
            "{workflow} ended otherwise: {ended}"
        );
        Ok(())
    }

    async fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Json> {
        let uri = format!("/runtime/webhooks/durabletask/{path}code={}", self.code);
        let request = Request::builder().method(method).uri(uri).header("host", &self.host);
        self.sender.ready().await?;
        let request = request.body(Full::new(Bytes::from(body.to_owned())))?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        Ok(serde_json::from_slice(&answer)?)
    }
}
