//! The calls that come over one connection: as many at once as there is room for.

use std::{io, sync::Arc};

use tokio::{
    net::unix::OwnedReadHalf,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{Call, MOST_OF_A_CALL, read_length, read_rest};

/// What one program may have open at once: calls, and the cloud's memory for them in units of [`UNIT`]. More waits in
/// its socket.
const OPEN: u32 = 256;
const UNIT: usize = 512 << 10;
/// Values in the arguments of one call: read, each takes many times what it took as text.
const MOST_VALUES: usize = 4 << 20;

/// Reads calls.
#[derive(Debug)]
pub(crate) struct Incoming {
    reader: OwnedReadHalf,
    open: Arc<Semaphore>,
}

impl Incoming {
    pub(crate) fn new(reader: OwnedReadHalf) -> Self {
        Self { reader, open: Arc::new(Semaphore::new(OPEN as usize)) }
    }

    /// Reads the next call once there is room for it; none if there will be no more. The room is given back with what is
    /// answered along with it, so that answers which nobody reads do not pile up.
    ///
    /// # Errors
    /// If the connection breaks, or what comes is no call.
    pub(crate) async fn next(&mut self) -> io::Result<Option<(Call, OwnedSemaphorePermit)>> {
        let Some(length) = read_length(&mut self.reader, MOST_OF_A_CALL).await? else { return Ok(None) };
        let room = |units| self.open.clone().acquire_many_owned(units);
        let mut taken = room(weight(length)).await.map_err(io::Error::other)?;
        let frame = read_rest(&mut self.reader, length).await?;
        if frame.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count() > MOST_VALUES {
            return Err(io::Error::other("a call of too many values"));
        }
        let call: Call = serde_json::from_slice(&frame)?;
        taken.merge(room(weight_of_answer(&call.method)).await.map_err(io::Error::other)?);
        Ok(Some((call, taken)))
    }
}

/// How much of [`OPEN`] a call of so many bytes takes.
fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes / UNIT + 1).unwrap_or(OPEN).min(OPEN)
}

/// What it takes besides, for an answer that may be large.
fn weight_of_answer(method: &str) -> u32 {
    if method == "bucket.get" { OPEN / 4 } else { 0 }
}
