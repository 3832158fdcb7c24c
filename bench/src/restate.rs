//! Restate beside our workflows, in the same run: its server and its SDK for Node, from the package registry, with the
//! durability that it has by default.
//!
//! `TANDEM_BENCH_RESTATE` is the folder in which `cargo xtask bench` installed both. The chain is measured in both ways in which
//! Restate can write it: as calls of other services, and as steps (`ctx.run`) within one.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use tempfile::TempDir;

use crate::cloud::open;

const PATIENCE: Duration = Duration::from_secs(60);
const SERVER: &str = "node_modules/@restatedev/restate-server-linux-x64/bin/restate-server";

/// Older releases of Node than the SDK is made for have no `Promise.withResolvers`.
const SERVICE: &str = r#"
Promise.withResolvers ??= function () {
    let resolve, reject;
    const promise = new Promise((a, b) => { resolve = a; reject = b; });
    return { promise, resolve, reject };
};
const restate = await import("@restatedev/restate-sdk");
const step = (n) => async (ctx, x) => (x ?? 0) + n;
const steps = restate.service({ name: "steps", handlers: { f1: step(1), f2: step(2), f3: step(3), f4: step(4) } });
const part = restate.service({ name: "part", handlers: { one: async (ctx, n) => n + 1 } });
const chain = restate.service({
    name: "chain",
    handlers: {
        calls: async (ctx) => {
            const client = ctx.serviceClient({ name: "steps" });
            let x = await client.f1(0);
            x = await client.f2(x);
            x = await client.f3(x);
            return await client.f4(x);
        },
        steps: async (ctx) => {
            let x = 0;
            for (const n of [1, 2, 3, 4]) {
                const before = x;
                x = await ctx.run(`f${n}`, async () => before + n);
            }
            return x;
        },
        fan: async (ctx, n) => {
            const client = ctx.serviceClient({ name: "part" });
            const all = await restate.RestatePromise.all(Array.from({ length: n }, (_, i) => client.one(i)));
            return all.reduce((a, b) => a + b, 0);
        },
    },
});
restate.serve({ services: [steps, chain, part], port: Number(process.env.PORT) });
"#;

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Restate {
    ingress: SocketAddr,
    _processes: [Running; 2],
    _folder: TempDir,
}

impl Restate {
    /// `None` if it is not installed.
    pub(crate) async fn start() -> Result<Option<Self>> {
        let Some(installed) = env::var_os("TANDEM_BENCH_RESTATE").map(PathBuf::from) else { return Ok(None) };
        let folder = tempfile::Builder::new().prefix("tandem-bench-restate-").tempdir()?;
        let [ingress, admin, node, service] = [free()?, free()?, free()?, free()?];
        // Node looks for packages beside the module.
        let module = installed.join("tandem-bench.mjs");
        fs::write(&module, SERVICE)?;
        let mut serve = Command::new("node");
        serve.arg(&module).env("PORT", service.port().to_string()).env("RESTATE_LOGGING", "ERROR");
        let serving = spawn(&mut serve, folder.path(), "service")?;
        let mut server = Command::new(installed.join(SERVER));
        server.env("DO_NOT_TRACK", "1").env("RESTATE_BASE_DIR", folder.path().join("data"));
        server.env("RESTATE_INGRESS__BIND_ADDRESS", ingress.to_string());
        server.env("RESTATE_ADMIN__BIND_ADDRESS", admin.to_string());
        server.env("RESTATE_BIND_ADDRESS", node.to_string());
        server.env("RESTATE_ADVERTISED_ADDRESS", format!("http://{node}/"));
        let server = spawn(&mut server, folder.path(), "server")?;
        let restate = Self { ingress, _processes: [serving, server], _folder: folder };
        let deadline = Instant::now() + PATIENCE;
        let deployment = format!("{{\"uri\":\"http://{service}\"}}");
        while let Err(error) = post(admin, "/deployments", &deployment).await {
            ensure!(Instant::now() < deadline, "Restate does not answer: {error:#}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let mut client = restate.client().await?;
        while let Err(error) = client.run("steps", "", "10").await {
            ensure!(Instant::now() < deadline, "Restate does not serve: {error:#}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(Some(restate))
    }

    pub(crate) async fn client(&self) -> Result<Client> {
        Ok(Client { sender: open(self.ingress).await?, host: self.ingress.to_string() })
    }
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn spawn(command: &mut Command, folder: &Path, name: &str) -> Result<Running> {
    let log = fs::File::create(folder.join(name))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let program = command.get_program().to_owned();
    Ok(Running(command.spawn().with_context(|| format!("cannot run {}", program.display()))?))
}

async fn post(address: SocketAddr, path: &str, body: &str) -> Result<Bytes> {
    let mut client = Client { sender: open(address).await?, host: address.to_string() };
    client.post(path, body).await
}

/// One connection to its ingress.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Client {
    /// Calls a handler and waits for what it answers.
    pub(crate) async fn run(&mut self, handler: &str, input: &str, output: &str) -> Result<()> {
        let answer = self.post(&format!("/chain/{handler}"), input).await?;
        ensure!(answer == output, "{handler} answered {}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    async fn post(&mut self, path: &str, body: &str) -> Result<Bytes> {
        let request = Request::builder().method("POST").uri(path).header("host", &self.host);
        let request = match body {
            "" => request,
            _ => request.header("content-type", "application/json"),
        };
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::new(Bytes::from(body.to_owned())))?);
        let response = tokio::time::timeout(PATIENCE, response).await??;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{path}: {status} {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }
}
