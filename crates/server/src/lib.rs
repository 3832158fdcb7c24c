//! The control API of the embedded cloud: what `tandem` asks of `tandem serve`, over a Unix socket.
//!
//! HTTP/1.1 with JSON bodies; long answers are newline-delimited JSON, a record a line. The socket has mode 0600 and is
//! in no sandbox, so whoever can open it may do everything. Start at [`wire`] for the shapes, [`listen`] for the
//! server's side, [`client`] for the other.

pub mod api;
pub mod client;
pub mod listen;
pub mod wire;

pub use client::{Client, ClientError};
