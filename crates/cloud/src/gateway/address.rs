//! Choosing the address once, and keeping it.

use std::{
    fs::{self, File},
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use tokio::net::TcpListener;

use super::BindError;
use crate::{endpoint::Endpoint, home::Home};

/// The ports that a first start chooses from. They lie below those that the kernel gives to outgoing connections
/// (32768 and up), so that the port is most likely still free after a reboot.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// How many of them are tried.
const ATTEMPTS: u32 = 100;

/// The listening socket, before anything is served on it: resources need its [`Endpoint`] first.
#[derive(Debug)]
pub struct Bound {
    pub(super) listener: TcpListener,
    endpoint: Endpoint,
}

impl Bound {
    /// Listens at this cloud's address; at the first start chooses it and records it durably before anyone learns of it.
    ///
    /// # Errors
    /// [`BindError::Taken`] if something else listens there.
    pub async fn bind(home: &Home) -> Result<Self, BindError> {
        let path = home.address();
        match fs::read_to_string(&path) {
            Ok(text) => {
                let address = text.trim().parse().map_err(|_| BindError::Damaged { path: path.clone() })?;
                Self::at(address).await.map_err(|source| match source.kind() {
                    io::ErrorKind::AddrInUse => BindError::Taken { address, record: path },
                    _ => BindError::Listen { source },
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let bound = Self::anywhere().await.map_err(|source| BindError::Listen { source })?;
                record(&path, bound.endpoint.address()).map_err(|source| BindError::Record {
                    action: "write",
                    path,
                    source,
                })?;
                Ok(bound)
            }
            Err(source) => Err(BindError::Record { action: "read", path, source }),
        }
    }

    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    async fn at(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let endpoint = Endpoint::new(listener.local_addr()?);
        Ok(Self { listener, endpoint })
    }

    async fn anywhere() -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let random = uuid::Uuid::new_v4().as_u128() % u128::from(PORTS.end - PORTS.start);
            let port = PORTS.start + u16::try_from(random).unwrap_or(0);
            match Self::at((Ipv4Addr::LOCALHOST, port).into()).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                other => return other,
            }
        }
        Self::at((Ipv4Addr::LOCALHOST, 0).into()).await
    }
}

fn record(path: &Path, address: SocketAddr) -> io::Result<()> {
    let beside = path.with_extension("new");
    tandem_failpoint::try_hit("gateway.address.writing")?;
    let mut file = File::create(&beside)?;
    writeln!(file, "{address}")?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
