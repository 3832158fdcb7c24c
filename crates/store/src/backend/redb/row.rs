//! A row as it is in the file: the value, and behind it a checksum of key and value.
//!
//! redb checks its pages after a crash, and not while it reads: a bit that the disk turned would be served. So each row
//! carries a CRC-32C of its own, and what is read is what was written, or an error.

use crc_fast::{CrcAlgorithm, Digest};

const SUM: usize = 4;

fn sum(key: &[u8], value: &[u8]) -> [u8; SUM] {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    // Where the key ends is part of it.
    digest.update(&(key.len() as u64).to_le_bytes());
    digest.update(key);
    digest.update(value);
    (digest.finalize() as u32).to_le_bytes()
}

pub(super) fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    [value, &sum(key, value)].concat()
}

/// The value; `None` if this is not what was written under the key.
pub(super) fn unseal<'a>(key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (value, stated) = sealed.split_last_chunk::<SUM>()?;
    (*stated == sum(key, value)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_only_as_it_was_written() {
        let sealed = seal(b"key", b"value");
        assert_eq!(unseal(b"key", &sealed), Some(&b"value"[..]));
        assert_eq!(unseal(b"kez", &sealed), None);
        assert_eq!(unseal(b"key", b"abc"), None);
        assert_eq!(unseal(b"", &seal(b"", b"")), Some(&b""[..]));
        for bit in 0..sealed.len() * 8 {
            let mut turned = sealed.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unseal(b"key", &turned), None, "bit {bit}");
        }
    }
}
