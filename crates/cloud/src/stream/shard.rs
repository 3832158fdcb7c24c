//! Shards: which keys are whose, and how they and their records are called.
//!
//! The hash of a key is its MD5 as a number of 128 bits, and each shard has a part of those numbers, in order. Source: Amazon
//! Kinesis Data Streams, PutRecord (`PartitionKey`, `ExplicitHashKey`) and `HashKeyRange`.

use s3s::crypto::{Checksum as _, Md5};

/// How many bits of a sequence number tell the shard.
const BITS: u32 = 16;

/// The hash by which a key finds its shard.
pub(super) fn hash(key: &str) -> u128 {
    let mut md5 = Md5::new();
    md5.update(key.as_bytes());
    let digest = md5.finalize();
    let bytes: &[u8] = digest.as_ref();
    u128::from_be_bytes(bytes.try_into().expect("MD5 has 16 bytes"))
}

/// The shard, of so many, that has the hash.
pub(super) fn of(hash: u128, shards: u32) -> u32 {
    let width = width(shards);
    // The last one has what is left over.
    u32::try_from(hash / width).unwrap_or(u32::MAX).min(shards - 1)
}

/// The first and the last hash of a shard.
pub(super) fn range(shard: u32, shards: u32) -> (u128, u128) {
    let (width, start) = (width(shards), |shard: u32| width(shards) * u128::from(shard));
    match shard + 1 == shards {
        true => (start(shard), u128::MAX),
        false => (start(shard), start(shard) + width - 1),
    }
}

fn width(shards: u32) -> u128 {
    u128::MAX / u128::from(shards)
}

/// Which of so many lanes has a key. Of the other half of the hash, so that it does not follow from the shard.
pub(super) fn lane(key: &str, lanes: u32) -> u32 {
    match lanes {
        1 => 0,
        _ => {
            let low = u64::try_from(hash(key) & u128::from(u64::MAX)).unwrap_or_default();
            u32::try_from(low % u64::from(lanes)).unwrap_or_default()
        }
    }
}

pub(crate) fn id(shard: u32) -> String {
    format!("shardId-{shard:012}")
}

pub(super) fn parse_id(id: &str) -> Option<u32> {
    let digits = id.strip_prefix("shardId-").filter(|digits| digits.len() == 12)?;
    digits.parse().ok()
}

/// A record's number as it is told: unique in the stream, and growing in each shard.
pub(crate) fn sequence(shard: u32, number: u64) -> String {
    (u128::from(number) << BITS | u128::from(shard)).to_string()
}

/// The number, if it can be of that shard.
pub(super) fn parse_sequence(sequence: &str, shard: u32) -> Option<u64> {
    let told: u128 = sequence.parse().ok()?;
    let number = u64::try_from(told >> BITS).ok()?;
    (self::sequence(shard, number) == sequence).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_hash_is_in_the_range_of_its_shard(hash in any::<u128>(), shards in 1u32..=256) {
            let shard = of(hash, shards);
            let (first, last) = range(shard, shards);
            prop_assert!(shard < shards && (first..=last).contains(&hash));
        }

        #[test]
        fn ranges_follow_each_other_without_a_gap(shards in 1u32..=256) {
            let all: Vec<_> = (0..shards).map(|shard| range(shard, shards)).collect();
            prop_assert_eq!((all[0].0, all[all.len() - 1].1), (0, u128::MAX));
            prop_assert!(all.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
        }

        #[test]
        fn a_sequence_number_is_read_by_its_shard_only(number in any::<u64>(), shard in 0u32..256, other in 0u32..256) {
            let told = sequence(shard, number);
            prop_assert_eq!(parse_sequence(&told, shard), Some(number));
            prop_assert_eq!(parse_sequence(&told, other).is_some(), other == shard);
        }
    }

    #[test]
    fn a_key_is_hashed_as_clients_hash_it() {
        assert_eq!(format!("{:032x}", hash("a")), "0cc175b9c0f1b6a831c399e269772661");
        assert_eq!(parse_id(&id(7)), Some(7));
        assert_eq!(parse_id("shardId-7"), None);
        for bad in ["", "-1", "01", "x", "340282366920938463463374607431768211456"] {
            assert_eq!(parse_sequence(bad, 0), None, "{bad}");
        }
    }
}
