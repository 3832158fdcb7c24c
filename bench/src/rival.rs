//! Other servers of S3 and SQS from the package registries, to stand beside ours in the same run.
//!
//! What each makes durable was read in the source of the pinned version, and is part of its name in the table: a server
//! that syncs nothing answers before the disk has anything.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use tandem_aws_client::Signer;

use crate::cloud::Endpoint;

const PATIENCE: Duration = Duration::from_secs(30);
const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

pub(crate) struct Kind {
    /// With what it syncs.
    pub(crate) name: &'static str,
    /// Names its program; `cargo xtask bench` installs it and says where.
    variable: &'static str,
    /// Whether it has queues, too.
    pub(crate) queues: bool,
    start: fn(&mut Command, u16, &std::path::Path),
}

pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "s3s-fs 0.14.1 (files, no fsync)",
        variable: "TANDEM_BENCH_S3S_FS",
        queues: false,
        start: |command, port, data| {
            command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
            command.args(["--access-key", KEY_ID, "--secret-key", SECRET]).arg(data);
        },
    },
    Kind {
        name: "MiniStack 1.5.33 (files, no fsync)",
        variable: "TANDEM_BENCH_MINISTACK",
        queues: true,
        start: |command, port, data| {
            command.env("GATEWAY_PORT", port.to_string()).env("S3_PERSIST", "1").env("S3_DATA_DIR", data);
        },
    },
];

/// A running server; it and its folder end with this.
pub(crate) struct Rival {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Rival {
    /// `None` if it is not installed.
    pub(crate) fn start(kind: &Kind) -> Result<Option<Self>> {
        let Some(program) = env::var_os(kind.variable).map(PathBuf::from) else { return Ok(None) };
        let folder = tempfile::Builder::new().prefix("tandem-bench-rival-").tempdir()?;
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new(&program);
        (kind.start)(&mut command, port, &data);
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot run `{}`", program.display()))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut rival = Self { child, address, _folder: folder };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = rival.child.try_wait()? {
                bail!("{} ended: {status}", kind.name);
            }
            if Instant::now() > deadline {
                bail!("{} does not answer", kind.name);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Some(rival))
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        let (key_id, secret) = (KEY_ID.to_owned(), SECRET.to_owned());
        Endpoint::new(self.address, Signer { key_id, secret, region: "us-east-1".to_owned() })
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
