//! Whether a container of a replica is well: asked from outside, as its clients would.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use tandem_model::inputs;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What is asked of one container, and how often.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Check {
    /// None: who runs is well.
    port: Option<u16>,
    path: Option<String>,
    timeout: Duration,
    pub(super) interval: Duration,
    /// So many failures in a row, and the replica is replaced.
    pub(super) retries: u32,
    pub(super) start_period: Duration,
}

impl Check {
    pub(super) fn of(container: &inputs::Container) -> Self {
        let health = &container.health_check;
        let seconds = |value: f64| Duration::try_from_secs_f64(value).unwrap_or(Duration::from_secs(60));
        Self {
            port: health.port.or_else(|| {
                let tcp = container.ports.iter().find(|port| port.protocol != inputs::Protocol::Udp);
                tcp.map(inputs::Port::target)
            }),
            path: health.path.clone(),
            timeout: seconds(health.timeout),
            interval: seconds(health.interval),
            retries: health.retries,
            start_period: seconds(health.start_period),
        }
    }

    /// Asks once.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) async fn ask(&self, address: Ipv4Addr) -> Result<(), String> {
        let Some(port) = self.port else { return Ok(()) };
        let asked = async {
            let mut stream = TcpStream::connect(SocketAddrV4::new(address, port))
                .await
                .map_err(|error| format!("port {port} takes no connection: {error}"))?;
            match &self.path {
                None => Ok(()),
                Some(path) => answer(&mut stream, path).await,
            }
        };
        match tokio::time::timeout(self.timeout, asked).await {
            Ok(answered) => answered,
            Err(_) => Err(format!("no answer on port {port} within {:?}", self.timeout)),
        }
    }
}

/// The status of a GET; the rest of the answer is of no interest.
async fn answer(stream: &mut TcpStream, path: &str) -> Result<(), String> {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nuser-agent: tandem\r\nconnection: close\r\n\r\n");
    let told = |error: std::io::Error| format!("GET {path}: {error}");
    stream.write_all(request.as_bytes()).await.map_err(told)?;
    let mut line = Vec::new();
    let mut byte = [0; 256];
    while !line.contains(&b'\n') && line.len() < 4096 {
        match stream.read(&mut byte).await.map_err(told)? {
            0 => break,
            n => line.extend_from_slice(&byte[..n]),
        }
    }
    let text = String::from_utf8_lossy(&line);
    let status = text.split_whitespace().nth(1).and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(200..400) => Ok(()),
        Some(status) => Err(format!("GET {path} answers {status}")),
        None => Err(format!("GET {path}: the answer is not HTTP")),
    }
}
