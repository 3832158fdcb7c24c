//! Where clients find the cloud. URLs are made here and nowhere else.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

/// Where clients reach the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint(SocketAddr);

impl Endpoint {
    pub fn new(address: SocketAddr) -> Self {
        Self(address)
    }

    /// `http://127.0.0.1:<port>`, without a slash at the end: the value of `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.0)
    }

    /// As [`url`](Self::url), for who reaches the cloud by way of another address of this machine.
    pub fn url_at(&self, address: Ipv4Addr) -> String {
        format!("http://{}", SocketAddr::new(IpAddr::V4(address), self.0.port()))
    }

    pub fn address(&self) -> SocketAddr {
        self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url())
    }
}

/// The region that clients are told. Everything is here; clients insist on one.
pub const REGION: &str = "us-east-1";

/// What owns everything: there are no accounts here, and clients expect one.
pub const OWNER: &str = "000000000000";
