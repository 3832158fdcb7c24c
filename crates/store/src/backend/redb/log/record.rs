//! A record: the writes of one group of commits, in whole blocks, under one checksum.
//!
//! | bytes | |
//! |---|---|
//! | 8 | what it is |
//! | 8 | the log it is of |
//! | 8 | its number |
//! | 4 | the length of the writes |
//! | 4 | CRC-32C of all the others up to the end of the writes |
//! | | the writes: length of the key, length of the value (or [`DELETED`]), key, value |
//! | | zeros up to the end of the block |
//!
//! Numbers are little-endian. A record begins at a block's start, so that what is written never shares a block with what was
//! acknowledged, and so that the records behind a damaged one are found.

use std::collections::BTreeMap;

use crc_fast::{CrcAlgorithm, Digest};

pub(super) const BLOCK: usize = 4096;
const MAGIC: [u8; 8] = *b"TDMWAL01";
const HEADER: usize = 32;
const DELETED: u32 = u32::MAX;

/// A record that is being made.
#[derive(Debug)]
pub(in super::super) struct Record {
    bytes: Vec<u8>,
}

impl Record {
    pub(in super::super) fn new() -> Self {
        Self { bytes: vec![0; HEADER] }
    }

    /// A put of the value, or a deletion. Both are shorter than 4 GiB, as no larger ones [fit](super::Limits::largest).
    pub(in super::super) fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        let length = value.map_or(DELETED, |value| value.len() as u32);
        self.bytes.extend((key.len() as u32).to_le_bytes());
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(key);
        self.bytes.extend(value.unwrap_or_default());
    }

    /// As it is written to the log.
    pub(super) fn seal(mut self, id: u64, number: u64) -> Vec<u8> {
        let length = (self.bytes.len() - HEADER) as u32;
        self.bytes[..8].copy_from_slice(&MAGIC);
        self.bytes[8..16].copy_from_slice(&id.to_le_bytes());
        self.bytes[16..24].copy_from_slice(&number.to_le_bytes());
        self.bytes[24..28].copy_from_slice(&length.to_le_bytes());
        let sum = sum(&self.bytes);
        self.bytes[28..32].copy_from_slice(&sum);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self.bytes
    }
}

fn sum(record: &[u8]) -> [u8; 4] {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&record[..28]);
    digest.update(&record[HEADER..]);
    (digest.finalize() as u32).to_le_bytes()
}

/// How many bytes a record of so many writes takes at most, whose keys and values have so many bytes.
pub(super) fn size(writes: u64, bytes: u64) -> u64 {
    (HEADER as u64 + 8 * writes + bytes).next_multiple_of(BLOCK as u64)
}

/// A record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) number: u64,
    /// In the log, with its zeros.
    pub(super) size: usize,
    writes: &'a [u8],
}

/// The record at the start of `bytes`, if there is a whole one of the log `id`.
pub(super) fn read(bytes: &[u8], id: u64) -> Option<Found<'_>> {
    let header = bytes.first_chunk::<HEADER>()?;
    let number = |at: usize| header[at..at + 8].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    if header[..8] != MAGIC || number(8)? != id {
        return None;
    }
    let length = u32::from_le_bytes(*header[24..].first_chunk()?) as usize;
    let record = bytes.get(..HEADER.checked_add(length)?)?;
    let size = record.len().next_multiple_of(BLOCK);
    (header[28..] == sum(record)).then_some(Found { number: number(16)?, size, writes: &record[HEADER..] })
}

/// All whole records of the log `id`, by their numbers, with where they begin.
pub(super) fn all(bytes: &[u8], id: u64) -> BTreeMap<u64, (usize, Found<'_>)> {
    let (mut all, mut at) = (BTreeMap::new(), 0);
    while at < bytes.len() {
        let found = read(&bytes[at..], id);
        all.extend(found.map(|found| (found.number, (at, found))));
        at += found.map_or(BLOCK, |found| found.size);
    }
    all
}

impl<'a> Found<'a> {
    /// Its writes in their order: a key, and its value unless it is deleted.
    pub(super) fn writes(self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let mut rest = self.writes;
        std::iter::from_fn(move || {
            let (lengths, after) = rest.split_at_checked(8)?;
            let key = u32::from_le_bytes(*lengths.first_chunk()?) as usize;
            let value = u32::from_le_bytes(*lengths.last_chunk()?);
            let (key, after) = after.split_at_checked(key)?;
            if value == DELETED {
                rest = after;
                return Some((key, None));
            }
            let (value, after) = after.split_at_checked(value as usize)?;
            rest = after;
            Some((key, Some(value)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Vec<u8> {
        let mut record = Record::new();
        record.push(b"a", Some(b"one"));
        record.push(b"", Some(b""));
        record.push(b"b", None);
        record.push(b"large", Some(&[7; 5000]));
        record.seal(9, 77)
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let bytes = sealed();
        assert_eq!(bytes.len(), 2 * BLOCK);
        assert_eq!(size(4, 1 + 3 + 1 + 5 + 5000), bytes.len() as u64);
        let found = read(&bytes, 9).unwrap();
        assert_eq!((found.number, found.size), (77, 2 * BLOCK));
        let expected: [(&[u8], Option<&[u8]>); 4] =
            [(b"a", Some(b"one")), (b"", Some(b"")), (b"b", None), (b"large", Some(&[7; 5000]))];
        assert_eq!(found.writes().collect::<Vec<_>>(), expected);
        assert_eq!(read(&bytes, 10), None, "of another log");
    }

    #[test]
    fn no_part_of_a_record_and_none_with_a_turned_bit_is_one() {
        let bytes = sealed();
        let end = HEADER + 4 * 8 + 1 + 3 + 1 + 5 + 5000;
        for length in 0..end {
            assert_eq!(read(&bytes[..length], 9), None, "{length} bytes of it");
        }
        for bit in 0..end * 8 {
            let mut turned = bytes.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&turned, 9), None, "bit {bit}");
        }
    }
}
