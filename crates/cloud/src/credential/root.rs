//! The root key's file.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::RootKeyError;

/// What everything is derived from.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct RootKey {
    /// Part of every secret: raising it ends all secrets and keeps the access key ids.
    pub(super) epoch: u32,
    #[serde(with = "hex")]
    pub(super) key: [u8; 32],
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootKey").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

pub(super) fn open(path: &Path) -> Result<RootKey, RootKeyError> {
    let failed = |action| move |source| RootKeyError::Io { action, path: path.to_owned(), source };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|source| RootKeyError::Damaged { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let root = RootKey { epoch: 1, key: random() };
            write(path, &root).map_err(failed("write"))?;
            Ok(root)
        }
        Err(error) => Err(failed("read")(error)),
    }
}

/// 256 bits from the operating system's generator, of which two random UUIDs carry 244.
fn random() -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    key[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    key
}

fn write(path: &Path, root: &RootKey) -> io::Result<()> {
    let beside = path.with_extension("new");
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&serde_json::to_vec(root)?)?;
    file.sync_all()?;
    tandem_failpoint::try_hit("credential.root.written")?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

/// Bytes as hexadecimal text.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(key: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&key.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u8>> =
            text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
        let bytes = digits
            .map(|digits| digits.chunks(2).map(|pair| pair.iter().fold(0, |n, d| n * 16 + d)).collect());
        bytes
            .and_then(|bytes: Vec<u8>| bytes.try_into().ok())
            .ok_or_else(|| D::Error::custom("the key is not 64 hexadecimal digits"))
    }
}
