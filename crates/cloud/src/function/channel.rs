//! The second socket between cloud and worker: what the worker is to be, and what its program asks of the cloud.
//!
//! The first socket carries the Lambda Runtime API and nothing else, so any runtime client can stand at its other end.
//! HTTP/1.1 answers in order, and a program waits for several things at once (`run.wait()` beside `bucket.get()`), so
//! calls have this socket: frames, each a length (4 bytes, little-endian) and so many bytes of JSON; answers come in
//! any order. The cloud sends an [`Assignment`] first, then the program's archive as one raw frame.

use std::{collections::BTreeMap, io};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tandem_model::{Report, StackId, resource::Properties};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::sandbox::Allowance;

/// Larger frames end the connection. An archive with its `include` files is the largest thing that is sent.
const MOST: u32 = 256 << 20;

/// What a worker becomes. It stays that for its whole life.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Assignment {
    pub(super) stack: StackId,
    pub(super) handler: String,
    /// The stack's configuration, by `<namespace>:<key>`.
    pub(super) config: BTreeMap<String, Value>,
    /// The environment of the program, complete.
    pub(super) environment: BTreeMap<String, String>,
    /// `<kind>/<name>` → outputs, of every resource of the stack.
    pub(super) resources: BTreeMap<String, Properties>,
    pub(super) allowance: Allowance,
}

/// From the worker: one call of its program.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Call {
    /// Chosen by the worker, and in its answer.
    pub(super) id: u64,
    /// The request it is made in; empty outside of any.
    pub(super) request: String,
    pub(super) method: String,
    pub(super) args: Value,
}

/// To the worker.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) id: u64,
    pub(super) result: Result<Value, Report>,
}

/// What is left of a call's frame for a program's arguments: 64 MiB in base 64, and some.
pub(super) const MOST_OF_A_CALL: u32 = 96 << 20;

/// Reads one frame; none if the other side closed between two.
///
/// # Errors
/// If the connection breaks inside a frame, or the frame is too large.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    match read_length(from, MOST).await? {
        Some(length) => read_rest(from, length).await.map(Some),
        None => Ok(None),
    }
}

/// Reads how long the next frame is; none if the other side closed before it.
///
/// # Errors
/// If the connection breaks, or the frame is longer than `most`.
pub(super) async fn read_length(from: &mut (impl AsyncRead + Unpin), most: u32) -> io::Result<Option<usize>> {
    match from.read_u32_le().await {
        Ok(length) if length > most => Err(io::Error::other(format!("a frame of {length} bytes"))),
        Ok(length) => Ok(Some(length as usize)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the frame whose length was just read.
///
/// # Errors
/// If the connection breaks.
pub(super) async fn read_rest(from: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<Bytes> {
    let mut frame = vec![0; length];
    from.read_exact(&mut frame).await?;
    Ok(frame.into())
}

/// Reads one frame as a value.
///
/// # Errors
/// As [`read`], or if it is not such a value.
pub(super) async fn read_value<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    Ok(match read(from).await? {
        Some(frame) => Some(serde_json::from_slice(&frame)?),
        None => None,
    })
}

/// # Errors
/// If the connection breaks.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).ok().filter(|length| *length <= MOST);
    let length = length.ok_or_else(|| io::Error::other("the frame is too large"))?;
    if frame.len() <= 4096 {
        // One system call.
        let mut whole = Vec::with_capacity(4 + frame.len());
        whole.extend_from_slice(&length.to_le_bytes());
        whole.extend_from_slice(frame);
        return to.write_all(&whole).await;
    }
    to.write_u32_le(length).await?;
    to.write_all(frame).await
}
