//! Rows in a backup: entries of a few MiB, each row as `<length of the key> <length of the value> <key> <value>`, the
//! lengths as four bytes, least significant first. Rows are in the order of their keys, across entries.

use std::io::{self, Read};

use bytes::Bytes;

/// An entry is closed once it has so many bytes.
pub(super) const ENTRY_BYTES: usize = 4 << 20;

pub(super) fn name(number: u64) -> String {
    format!("rows/{number:08}")
}

pub(super) fn encode(key: &[u8], value: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
    for part in [key, value] {
        let length = u32::try_from(part.len())
            .map_err(|_| io::Error::new(io::ErrorKind::FileTooLarge, "a row of more than 4 GiB"))?;
        to.extend_from_slice(&length.to_le_bytes());
    }
    to.extend_from_slice(key);
    to.extend_from_slice(value);
    Ok(())
}

/// The next row; `None` at the end of the entry. Never believes a length: memory grows with what is there.
pub(super) fn decode(from: &mut dyn Read) -> io::Result<Option<(Bytes, Bytes)>> {
    let mut lengths = [0; 8];
    if !fill(from, &mut lengths)? {
        return Ok(None);
    }
    let length =
        |at: usize| u32::from_le_bytes([lengths[at], lengths[at + 1], lengths[at + 2], lengths[at + 3]]);
    let mut part = |length: u32| -> io::Result<Bytes> {
        let mut bytes = Vec::new();
        let read = from.take(length.into()).read_to_end(&mut bytes)?;
        if read as u64 != u64::from(length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes.into())
    };
    Ok(Some((part(length(0))?, part(length(4))?)))
}

/// Fills the buffer; `false` if there is nothing more at all.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
