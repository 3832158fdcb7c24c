//! How programs that run speak with the cloud: what they are to be, and what they ask of it.
//!
//! A worker has a socket for this beside the one of the Lambda Runtime API, which carries nothing else, so that any
//! runtime client can stand at its other end. A container has one in a folder of its own ([`crate::program`]).
//! HTTP/1.1 answers in order, and a program waits for several things at once (`run.wait()` beside `bucket.get()`), so
//! there are frames, each a length (4 bytes, little-endian) and so many bytes of JSON; answers come in any order.

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tandem_model::Report;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

mod incoming;

pub(crate) use self::incoming::Incoming;

/// Larger frames end the connection. An archive with its `include` files is the largest thing that is sent.
const MOST: u32 = 256 << 20;

/// One call of a program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    /// Chosen by who calls, and in its answer.
    pub(crate) id: u64,
    /// The request it is made in; empty outside of any, and in a container, which has one only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) request: String,
    /// Which call of its method it is, from 0: of a container, which may repeat it. A worker's are counted by the cloud.
    #[serde(default)]
    pub(crate) ordinal: u32,
    pub(crate) method: String,
    pub(crate) args: Value,
}

/// To who called.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) result: Result<Value, Report>,
}

/// What is left of a call's frame for a program's arguments: 64 MiB in base 64, and some.
pub(crate) const MOST_OF_A_CALL: u32 = 96 << 20;

/// Reads one frame; none if the other side closed between two.
///
/// # Errors
/// If the connection breaks inside a frame, or the frame is too large.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Bytes>> {
    match read_length(from, MOST).await? {
        Some(length) => read_rest(from, length).await.map(Some),
        None => Ok(None),
    }
}

/// Reads how long the next frame is; none if the other side closed before it.
///
/// # Errors
/// If the connection breaks, or the frame is longer than `most`.
pub(crate) async fn read_length(from: &mut (impl AsyncRead + Unpin), most: u32) -> io::Result<Option<usize>> {
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
pub(crate) async fn read_rest(from: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<Bytes> {
    let mut frame = vec![0; length];
    from.read_exact(&mut frame).await?;
    Ok(frame.into())
}

/// Reads one frame as a value.
///
/// # Errors
/// As [`read`], or if it is not such a value.
pub(crate) async fn read_value<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    Ok(match read(from).await? {
        Some(frame) => Some(serde_json::from_slice(&frame)?),
        None => None,
    })
}

/// # Errors
/// If the connection breaks.
pub(crate) async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
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
