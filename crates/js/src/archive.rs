//! A program's code as one immutable value: every module, already stripped of types, with its imports resolved.
//!
//! The encoding is JSON, so that a person can read what was deployed. The hash of the encoding names the version.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A packed program. Paths are relative to the project's folder, with `/`, and never leave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// The path of the module that is loaded first.
    pub entry: String,
    pub modules: BTreeMap<String, Module>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    pub kind: ModuleKind,
    /// JavaScript at the positions of the original (types are blanked out, not cut), or JSON.
    pub source: String,
    /// Specifier as written → path of a module in the archive. Built-in modules are not listed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub imports: BTreeMap<String, String>,
    /// For CommonJS: the names that ES modules of this archive import from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named_exports: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleKind {
    CommonJs,
    Esm,
    Json,
    /// Any other file that `include` in the project file names; its source is text.
    Text,
}

/// Bytes that are not an archive.
#[derive(Debug, thiserror::Error)]
#[error("the program's archive cannot be read")]
pub struct DecodeError(#[from] serde_json::Error);

impl Archive {
    /// The same archive always has the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an archive is strings and maps with string keys")
    }

    /// # Errors
    /// [`DecodeError`] if the bytes are not an archive.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// The name of a version: `sha256:<hex>` of the encoded archive.
pub fn hash(encoded: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(encoded).iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
