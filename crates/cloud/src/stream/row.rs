//! Records that were put together, packed into one row.
//!
//! | bytes | |
//! |---|---|
//! | 1 | the form: 1 |
//! | 8 | when they came, in milliseconds since 1970 |
//! | 4 | how many records |
//! | 2 | how many causes; then each with its length in one byte before it |
//! | | each record: 2 bytes which cause, counted from 1, or 0; 2 bytes the length of the key; 4 bytes that of the data; key; data |
//!
//! Numbers are little-endian. The number of the first record is in the row's key; the others follow it.

use bytes::{Buf, Bytes};

use super::error::{StreamError, damaged};

const FORM: u8 = 1;

/// A record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Among those of its shard.
    pub number: u64,
    pub key: String,
    pub data: Bytes,
    /// When it came, in milliseconds since 1970. Never before that of an earlier record of the shard.
    pub arrived: u64,
    /// W3C trace context.
    pub cause: Option<String>,
}

impl Record {
    /// Copies the data out of its row, which has so many bytes: whoever keeps the record does not keep all that was put with it.
    pub(super) fn detach(&mut self, row: usize) {
        if self.data.len() < row / 2 {
            self.data = Bytes::copy_from_slice(&self.data);
        }
    }
}

/// A record that is to be put into a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) key: String,
    pub(super) data: Bytes,
    pub(super) cause: Option<String>,
}

/// # Panics
/// If keys or causes are longer than they were checked to be.
pub(super) fn encode(arrived: u64, records: &[Packed]) -> Bytes {
    let mut causes: Vec<&str> = Vec::new();
    let mut which = Vec::with_capacity(records.len());
    for record in records {
        let Some(cause) = record.cause.as_deref() else {
            which.push(0);
            continue;
        };
        // Those of one put have one, and come one after the other.
        if causes.last() != Some(&cause) && causes.len() < usize::from(u16::MAX) {
            causes.push(cause);
        }
        which.push(u16::try_from(causes.len()).unwrap_or(u16::MAX));
    }
    let size: usize = records.iter().map(|record| 8 + record.key.len() + record.data.len()).sum();
    let mut row = Vec::with_capacity(15 + causes.len() * 56 + size);
    row.push(FORM);
    row.extend_from_slice(&arrived.to_le_bytes());
    row.extend_from_slice(&length::<u32>(records.len()).to_le_bytes());
    row.extend_from_slice(&length::<u16>(causes.len()).to_le_bytes());
    for cause in causes {
        row.push(length(cause.len()));
        row.extend_from_slice(cause.as_bytes());
    }
    for (record, which) in records.iter().zip(which) {
        row.extend_from_slice(&which.to_le_bytes());
        row.extend_from_slice(&length::<u16>(record.key.len()).to_le_bytes());
        row.extend_from_slice(&length::<u32>(record.data.len()).to_le_bytes());
        row.extend_from_slice(record.key.as_bytes());
        row.extend_from_slice(&record.data);
    }
    row.into()
}

fn length<T: TryFrom<usize>>(length: usize) -> T {
    T::try_from(length).unwrap_or_else(|_| unreachable!("lengths are checked before: {length}"))
}

/// A row, as far as it was read.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) first: u64,
    pub(super) arrived: u64,
    /// How many records it has.
    pub(super) count: u32,
    causes: Vec<String>,
    left: Bytes,
    next: u64,
}

impl Row {
    /// # Errors
    /// If it is not as [`encode`] writes it.
    pub(super) fn read(first: u64, mut row: Bytes) -> Result<Self, StreamError> {
        let short = || damaged("a row of records ends too early");
        if row.try_get_u8().map_err(|_| short())? != FORM {
            return Err(damaged("a row of records is of an unknown form"));
        }
        let arrived = row.try_get_u64_le().map_err(|_| short())?;
        let count = row.try_get_u32_le().map_err(|_| short())?;
        let mut causes = Vec::new();
        for _ in 0..row.try_get_u16_le().map_err(|_| short())? {
            let length = row.try_get_u8().map_err(|_| short())?;
            causes.push(text(part(&mut row, length.into())?)?);
        }
        Ok(Self { first, arrived, count, causes, left: row, next: first })
    }

    /// The number after that of its last record.
    pub(super) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    fn record(&mut self) -> Result<Record, StreamError> {
        let short = || damaged("a record ends too early");
        let row = &mut self.left;
        let cause = row.try_get_u16_le().map_err(|_| short())?;
        let key = row.try_get_u16_le().map_err(|_| short())?;
        let data = row.try_get_u32_le().map_err(|_| short())? as usize;
        let key = text(part(row, key.into())?)?;
        let data = part(row, data)?;
        let cause = usize::from(cause).checked_sub(1).and_then(|which| self.causes.get(which).cloned());
        let number = self.next;
        self.next += 1;
        Ok(Record { number, key, data, arrived: self.arrived, cause })
    }
}

impl Iterator for Row {
    type Item = Result<Record, StreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.next < self.end()).then(|| self.record())
    }
}

fn part(row: &mut Bytes, length: usize) -> Result<Bytes, StreamError> {
    match row.len() {
        left if left < length => Err(damaged("a row of records ends too early")),
        _ => Ok(row.split_to(length)),
    }
}

fn text(bytes: Bytes) -> Result<String, StreamError> {
    String::from_utf8(bytes.into()).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn records() -> impl Strategy<Value = Vec<Packed>> {
        let record = (".{1,20}", proptest::collection::vec(any::<u8>(), 0..40), 0..3u8).prop_map(
            |(key, data, cause)| {
                let cause = (cause > 0).then(|| format!("00-{cause}"));
                Packed { key, data: data.into(), cause }
            },
        );
        proptest::collection::vec(record, 0..20)
    }

    proptest! {
        #[test]
        fn what_is_packed_is_read_again_and_no_cut_of_it_is(packed in records(), first in 0..u64::MAX / 2, cut in any::<usize>()) {
            let row = encode(77, &packed);
            let read = Row::read(first, row.clone()).unwrap();
            prop_assert_eq!(read.end(), first + packed.len() as u64);
            let read: Vec<_> = read.map(Result::unwrap).collect();
            prop_assert_eq!(read.len(), packed.len());
            for (n, (read, packed)) in read.into_iter().zip(&packed).enumerate() {
                let number = first + n as u64;
                let Packed { key, data, cause } = packed.clone();
                prop_assert_eq!(read, Record { number, key, data, arrived: 77, cause });
            }
            let cut = row.slice(..cut % row.len());
            let whole = Row::read(first, cut).and_then(|row| row.collect::<Result<Vec<_>, _>>());
            prop_assert!(whole.is_err());
        }
    }
}
