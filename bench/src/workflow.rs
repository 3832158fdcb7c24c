//! Workflows: a chain of four activities, a fan-out of a hundred, and ten thousand that wait, over their management URLs; Restate
//! beside them.

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
    memory::resident,
    restate::{self, Restate},
    stats::Samples,
    table::{Row, Value},
};

const SPAN: Duration = Duration::from_secs(6);
const ROUNDS: usize = 300;
const FANS: usize = 20;
const WARM: usize = 20;
const FAN: usize = 100;
const CLIENTS: [usize; 2] = [32, 128];
const ASLEEP: usize = 10_000;
const STARTERS: usize = 16;
const RESTATE: &str = ": Restate 1.7.12 (its default durability)";
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
new cloud.Workflow("sleeps", df(function* (ctx) {
    return yield ctx.df.waitForExternalEvent("wake");
}));
"#;

/// Whoever runs a chain or a fan-out, one after the other.
trait Runs: Sized {
    async fn run(&mut self, what: &str, input: &str, output: &str) -> Result<()>;
}

pub(crate) fn run(floors: &Floors) -> Result<Vec<Row>> {
    let cloud = Cloud::start()?;
    cloud.deploy(PROGRAM)?;
    let variables: BTreeMap<String, String> = serde_json::from_str(&cloud.tandem(&["env", "--json"])?)?;
    let variable =
        |name: &str| variables.get(name).cloned().with_context(|| format!("`tandem env` has no {name}"));
    let code = format!("{}.{}", variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?);
    let address = variable("AWS_ENDPOINT_URL")?.trim_start_matches("http://").parse()?;
    block_on(async {
        let connect = || Client::connect(address, &code);
        let floor = floors.append.median() * COMMITS + floors.round_trip.median() * 2;
        let chain = sample(&mut connect().await?, "chain", "null", "10", ROUNDS).await?;
        let mut rows = vec![
            Row::new("workflow: a chain of four activities, 1 client", Value::Time(chain.median()))
                .p99(chain.quantile(0.99))
                .floor(Value::Time(floor), "6 appends + 2 round trips")
                .budget(Value::millis(5.0)),
        ];
        for clients in CLIENTS {
            rows.push(rate("", clients, "chain", "null", connect).await?);
        }
        rows.push(fan("", &mut connect().await?).await?);
        rows.extend(asleep(&cloud, connect).await?);
        rows.extend(beside().await?);
        Ok(rows)
    })
}

/// The same of Restate, if it is installed.
async fn beside() -> Result<Vec<Row>> {
    let Some(restate) = Restate::start().await? else { return Ok(Vec::new()) };
    let mut rows = Vec::new();
    for (of, what) in [(" of service calls", "calls"), (" of steps in one service", "steps")] {
        let of = format!("{RESTATE}{of}");
        let mut client = restate.client().await?;
        let chain = sample(&mut client, what, "", "10", ROUNDS).await?;
        rows.push(
            Row::new(format!("workflow: a chain of four, 1 client{of}"), Value::Time(chain.median()))
                .p99(chain.quantile(0.99)),
        );
        for clients in CLIENTS {
            rows.push(rate(&of, clients, what, "", || restate.client()).await?);
        }
    }
    rows.push(fan(RESTATE, &mut restate.client().await?).await?);
    Ok(rows)
}

async fn fan(of: &str, client: &mut impl Runs) -> Result<Row> {
    let sum = (FAN * (FAN - 1) / 2 + FAN).to_string();
    let fan = sample(client, "fan", &FAN.to_string(), &sum, FANS).await?;
    let what = format!("workflow: a fan-out of 100 activities, 1 client{of}");
    Ok(Row::new(what, Value::Time(fan.median())).p99(fan.quantile(0.99)))
}

async fn sample(
    client: &mut impl Runs,
    what: &str,
    input: &str,
    output: &str,
    rounds: usize,
) -> Result<Samples> {
    let mut samples = Samples::default();
    for round in 0..rounds + WARM {
        let started = Instant::now();
        client.run(what, input, output).await?;
        if round >= WARM {
            samples.push(started.elapsed());
        }
    }
    Ok(samples)
}

/// How many chains end in a second.
async fn rate<R: Runs, F: Future<Output = Result<R>>>(
    of: &str,
    clients: usize,
    what: &str,
    input: &str,
    connect: impl Fn() -> F,
) -> Result<Row> {
    let started = Instant::now();
    let counts = futures::future::try_join_all((0..clients).map(|_| async {
        let mut client = connect().await?;
        let mut count = 0u32;
        while started.elapsed() < SPAN {
            client.run(what, input, "10").await?;
            count += 1;
        }
        anyhow::Ok(count)
    }))
    .await?;
    let rate = f64::from(counts.iter().sum::<u32>()) / started.elapsed().as_secs_f64();
    Ok(Row::new(
        format!("workflow: chains of four activities, {clients} clients{of}"),
        Value::PerSecond(rate),
    ))
}

/// What instances cost that wait, and how fast one of them goes on.
async fn asleep<F: Future<Output = Result<Client>>>(
    cloud: &Cloud,
    connect: impl Fn() -> F,
) -> Result<Vec<Row>> {
    let before = resident(cloud.pid()?)?;
    let each = ASLEEP / STARTERS;
    futures::future::try_join_all((0..STARTERS).map(|starter| {
        let connect = &connect;
        async move {
            let mut client = connect().await?;
            for n in starter * each..(starter + 1) * each {
                client.ask("POST", &format!("orchestrators/sleeps/s{n}?"), "null").await?;
            }
            anyhow::Ok(())
        }
    }))
    .await?;
    let mut client = connect().await?;
    let last = "instances?runtimeStatus=Pending&top=1&instanceIdPrefix=s&";
    while client.ask("GET", last, "").await?.as_array().is_some_and(|all| !all.is_empty()) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let after = resident(cloud.pid()?)?;
    let mut samples = Samples::default();
    for n in (0..ASLEEP).step_by(ASLEEP / ROUNDS) {
        let started = Instant::now();
        client.ask("POST", &format!("instances/s{n}/raiseEvent/wake?"), "1").await?;
        client.ended(&format!("s{n}"), "1").await?;
        samples.push(started.elapsed());
    }
    Ok(vec![
        Row::new(
            format!("workflow: the cloud's growth by {ASLEEP} instances that wait"),
            Value::Mebibytes(after - before),
        ),
        Row::new(
            format!("workflow: event to the end of one of {ASLEEP} that wait"),
            Value::Time(samples.median()),
        )
        .p99(samples.quantile(0.99)),
    ])
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

    /// Waits for the end of an instance.
    async fn ended(&mut self, id: &str, output: &str) -> Result<()> {
        let ended = self.ask("GET", &format!("instances/{id}?wait=60&"), "").await?;
        ensure!(ended["output"] == serde_json::from_str::<Json>(output)?, "{id} ended otherwise: {ended}");
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
        // What is only told to an instance is answered by nothing.
        Ok(if answer.is_empty() { Json::Null } else { serde_json::from_slice(&answer)? })
    }
}

impl Runs for Client {
    async fn run(&mut self, what: &str, input: &str, output: &str) -> Result<()> {
        let started = self.ask("POST", &format!("orchestrators/{what}?"), input).await?;
        let id = started["id"].as_str().context("an instance has an id")?.to_owned();
        self.ended(&id, output).await
    }
}

impl Runs for restate::Client {
    async fn run(&mut self, what: &str, input: &str, output: &str) -> Result<()> {
        restate::Client::run(self, what, input, output).await
    }
}
