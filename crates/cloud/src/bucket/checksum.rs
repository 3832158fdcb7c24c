//! Checksums of bodies, as S3 has them, and how those of parts become that of an object.
//!
//! Source: Amazon S3 user guide, "Checking object integrity".

use base64::{Engine as _, engine::general_purpose::STANDARD};
use data_encoding::HEXLOWER;
use s3s::{
    checksum::ChecksumHasher,
    crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256},
};
use serde::{Deserialize, Serialize};

use super::error::BucketError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    #[serde(rename = "CRC32")]
    Crc32,
    #[serde(rename = "CRC32C")]
    Crc32c,
    #[serde(rename = "CRC64NVME")]
    Crc64Nvme,
    #[serde(rename = "SHA1")]
    Sha1,
    #[serde(rename = "SHA256")]
    Sha256,
}

impl Algorithm {
    pub const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// What a body is given that comes with no checksum.
    pub const DEFAULT: Self = Self::Crc64Nvme;

    /// As S3's XML and headers spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// The polynomial, if checksums of neighbouring parts can be combined into that of the whole.
    fn combinable(self) -> Option<crc_fast::CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(crc_fast::CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(crc_fast::CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(crc_fast::CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    /// Whether an upload in parts has a checksum of the whole object, unless it asks otherwise.
    pub fn whole_by_default(self) -> bool {
        matches!(self, Self::Crc64Nvme)
    }

    pub fn can_be_whole(self) -> bool {
        self.combinable().is_some()
    }

    /// `CRC64NVME` knows the whole object only.
    pub fn can_be_composite(self) -> bool {
        !matches!(self, Self::Crc64Nvme)
    }
}

/// A checksum of an object or a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checksum {
    pub algorithm: Algorithm,
    /// Base 64; of a composite one, followed by `-` and the number of parts.
    pub value: String,
    /// Over the checksums of the parts instead of over the bytes.
    #[serde(default)]
    pub composite: bool,
}

/// Takes a body's bytes, and tells its MD5 and its checksums.
pub(super) struct Hasher {
    md5: Md5,
    checksums: Vec<(Algorithm, ChecksumHasher)>,
}

impl Hasher {
    pub(super) fn new(algorithms: &[Algorithm]) -> Self {
        Self { md5: Md5::new(), checksums: algorithms.iter().map(|a| (*a, hasher(*a))).collect() }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.checksums.iter_mut().for_each(|(_, hasher)| hasher.update(bytes));
    }

    /// The MD5, and the checksums in the order in which they were asked for.
    pub(super) fn finish(self) -> ([u8; 16], Vec<Checksum>) {
        let checksum =
            |(algorithm, hasher)| Checksum { algorithm, value: value(algorithm, hasher), composite: false };
        (self.md5.finalize(), self.checksums.into_iter().map(checksum).collect())
    }
}

fn hasher(algorithm: Algorithm) -> ChecksumHasher {
    let mut hasher = ChecksumHasher::default();
    match algorithm {
        Algorithm::Crc32 => hasher.crc32 = Some(Crc32::new()),
        Algorithm::Crc32c => hasher.crc32c = Some(Crc32c::new()),
        Algorithm::Crc64Nvme => hasher.crc64nvme = Some(Crc64Nvme::new()),
        Algorithm::Sha1 => hasher.sha1 = Some(Sha1::new()),
        Algorithm::Sha256 => hasher.sha256 = Some(Sha256::new()),
    }
    hasher
}

fn value(algorithm: Algorithm, hasher: ChecksumHasher) -> String {
    let all = hasher.finalize();
    match algorithm {
        Algorithm::Crc32 => all.checksum_crc32,
        Algorithm::Crc32c => all.checksum_crc32c,
        Algorithm::Crc64Nvme => all.checksum_crc64nvme,
        Algorithm::Sha1 => all.checksum_sha1,
        Algorithm::Sha256 => all.checksum_sha256,
    }
    .expect("the hasher computes the one that it was made for")
}

/// The checksum of an object from those of its parts, with their sizes, in order.
///
/// # Errors
/// [`BucketError::PartAlgorithm`] if a part has another algorithm.
pub(super) fn of_parts<'a>(
    algorithm: Algorithm,
    composite: bool,
    parts: impl Iterator<Item = (&'a Checksum, u64)> + Clone,
) -> Result<Checksum, BucketError> {
    let mut sums = Vec::new();
    for (checksum, size) in parts {
        if checksum.algorithm != algorithm {
            return Err(BucketError::PartAlgorithm { begun: algorithm, given: checksum.algorithm });
        }
        // Ours, or compared with ours: it is base 64.
        sums.push((STANDARD.decode(&checksum.value).unwrap_or_default(), size));
    }
    let value = match algorithm.combinable().filter(|_| !composite) {
        Some(crc) => whole(crc, &sums),
        None => {
            let mut hasher = hasher(algorithm);
            sums.iter().for_each(|(sum, _)| hasher.update(sum));
            format!("{}-{}", value(algorithm, hasher), sums.len())
        }
    };
    Ok(Checksum { algorithm, value, composite: composite || algorithm.combinable().is_none() })
}

fn whole(crc: crc_fast::CrcAlgorithm, sums: &[(Vec<u8>, u64)]) -> String {
    let width = sums.first().map_or(0, |(sum, _)| sum.len());
    let number = |sum: &[u8]| sum.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let combined = sums
        .iter()
        .map(|(sum, size)| (number(sum), *size))
        .reduce(|(left, length), (right, size)| {
            (crc_fast::checksum_combine(crc, left, right, size), length + size)
        })
        .map_or(0, |(sum, _)| sum);
    STANDARD.encode(&combined.to_be_bytes()[8 - width..])
}

/// The ETag of an object from the MD5s of its parts, in hexadecimal.
pub(super) fn etag_of_parts<'a>(parts: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = parts.len();
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(&HEXLOWER.decode(part.as_bytes()).unwrap_or_default());
    }
    format!("{}-{count}", HEXLOWER.encode(&md5.finalize()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(algorithm: Algorithm, bytes: &[u8]) -> Checksum {
        let mut hasher = Hasher::new(&[algorithm]);
        hasher.update(bytes);
        hasher.finish().1.remove(0)
    }

    #[test]
    fn checksums_are_those_of_the_standards() {
        // The check values of the CRC catalogue and of RFC 1321 for "123456789".
        let of = |algorithm| sum(algorithm, b"123456789").value;
        assert_eq!(of(Algorithm::Crc32), STANDARD.encode(0xcbf4_3926_u32.to_be_bytes()));
        assert_eq!(of(Algorithm::Crc32c), STANDARD.encode(0xe306_9283_u32.to_be_bytes()));
        assert_eq!(of(Algorithm::Crc64Nvme), STANDARD.encode(0xae8b_1486_0a79_9888_u64.to_be_bytes()));
        let (md5, _) = Hasher::new(&[]).finish();
        assert_eq!(HEXLOWER.encode(&md5), "d41d8cd98f00b204e9800998ecf8427e");
    }

    proptest! {
        #[test]
        fn the_checksum_of_the_whole_follows_from_those_of_its_parts(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6),
        ) {
            for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
                let sums: Vec<_> = parts.iter().map(|p| (sum(algorithm, p), p.len() as u64)).collect();
                let whole = of_parts(algorithm, false, sums.iter().map(|(sum, size)| (sum, *size))).unwrap();
                prop_assert_eq!(whole, sum(algorithm, &parts.concat()));
            }
        }
    }

    #[test]
    fn a_composite_checksum_is_over_the_checksums_and_says_how_many() {
        let parts = [sum(Algorithm::Sha256, b"a"), sum(Algorithm::Sha256, b"b")];
        let raw: Vec<u8> = parts.iter().flat_map(|p| STANDARD.decode(&p.value).unwrap()).collect();
        let object = of_parts(Algorithm::Sha256, true, parts.iter().map(|p| (p, 1))).unwrap();
        assert_eq!(object.value, format!("{}-2", sum(Algorithm::Sha256, &raw).value));
        assert!(object.composite);
        let mixed = [sum(Algorithm::Sha256, b"a"), sum(Algorithm::Sha1, b"b")];
        assert!(of_parts(Algorithm::Sha256, true, mixed.iter().map(|p| (p, 1))).is_err());
    }
}
