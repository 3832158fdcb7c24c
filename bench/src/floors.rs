//! What the machine itself needs, measured in the same run as everything that is compared with it.

use std::{
    convert::Infallible,
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::{
    cloud::{block_on, open},
    stats::{Samples, repeat},
    table::{Row, Value},
};

pub(crate) struct Floors {
    pub(crate) spawn: Samples,
    /// 1 KiB appended to a file, `fdatasync`.
    pub(crate) append: Samples,
    /// A request over a connection that stays open, answered by a bare server in a process of its own thread.
    pub(crate) round_trip: Samples,
    /// Requests per second of 16 such connections.
    pub(crate) round_trips: f64,
}

const CLIENTS: usize = 16;

impl Floors {
    pub(crate) fn measure() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tandem-bench-").tempdir()?;
        let spawn = repeat(200, || {
            Command::new("/bin/true").stdin(Stdio::null()).status().map(drop).map_err(anyhow::Error::from)
        })?;
        let append = appends(folder.path())?;
        let address = bare_server()?;
        let (round_trip, round_trips) = block_on(async move {
            let mut samples = Samples::default();
            let mut sender = open(address).await?;
            for round in 0..2200 {
                let started = Instant::now();
                ask(&mut sender).await?;
                if round >= 200 {
                    samples.push(started.elapsed());
                }
            }
            let mut clients = Vec::new();
            for _ in 0..CLIENTS {
                clients.push(open(address).await?);
            }
            let span = Duration::from_secs(2);
            let deadline = Instant::now() + span;
            let counts = futures::future::try_join_all(clients.into_iter().map(|mut sender| async move {
                let mut count = 0u32;
                while Instant::now() < deadline {
                    ask(&mut sender).await?;
                    count += 1;
                }
                anyhow::Ok(count)
            }))
            .await?;
            anyhow::Ok((samples, f64::from(counts.iter().sum::<u32>()) / span.as_secs_f64()))
        })?;
        Ok(Self { spawn, append, round_trip, round_trips })
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        let timed = |what: &str, samples: &Samples| {
            Row::new(format!("floor: {what}"), Value::Time(samples.median())).p99(samples.quantile(0.99))
        };
        vec![
            timed("start and end of a process", &self.spawn),
            timed("append 1 KiB, fdatasync", &self.append),
            timed("HTTP round trip", &self.round_trip),
            Row::new("floor: HTTP round trips, 16 clients", Value::PerSecond(self.round_trips)),
        ]
    }
}

fn appends(folder: &Path) -> Result<Samples> {
    let path = folder.join("append");
    let mut file: File = OpenOptions::new().create(true).append(true).open(&path)?;
    let block = [7u8; 1024];
    let samples = repeat(500, || file.write_all(&block).and_then(|()| file.sync_data()))?;
    fs::remove_file(path)?;
    Ok(samples)
}

async fn ask(sender: &mut hyper::client::conn::http1::SendRequest<Full<Bytes>>) -> Result<()> {
    sender.ready().await?;
    let request =
        Request::post("/").header("host", "localhost").body(Full::new(Bytes::from_static(b"{}")))?;
    let response = sender.send_request(request).await?;
    response.into_body().collect().await?;
    Ok(())
}

/// A server that answers everything with `{}`, on a thread that ends with the process.
fn bare_server() -> Result<std::net::SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        block_on(async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let answer = service_fn(|request: Request<Incoming>| async move {
                    // A real server reads what it is sent.
                    let _ = request.into_body().collect().await;
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{}"))))
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
            #[expect(unreachable_code, reason = "gives the endless block its type")]
            anyhow::Ok(())
        })
    });
    Ok(address)
}
