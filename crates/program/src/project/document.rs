//! Reads YAML key by key, so that an error names the line of the key that is wrong.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_yaml_ng::{Mapping, Value};

use super::ProjectError;

/// The host that runs the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// The embedded one.
    Js,
    /// Asked for by `nodejs`. This release runs such a program on the embedded host too.
    NodeJs,
}

impl Runtime {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Js => "js",
            Self::NodeJs => "nodejs",
        }
    }

    /// Reads `js`, `nodejs`, or Pulumi's object form `{name: nodejs, options: …}`.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        let name = match value {
            Value::Mapping(map) => map.get("name").and_then(Value::as_str),
            value => value.as_str(),
        };
        match name {
            Some("js") => Ok(Self::Js),
            Some("nodejs") => Ok(Self::NodeJs),
            Some(other) => Err(format!("there is no runtime `{other}`; write `js` or `nodejs`")),
            None => Err("the runtime is not a name; write `js` or `nodejs`".to_owned()),
        }
    }
}

/// A YAML file whose top is a map.
pub(super) struct Document<'a> {
    path: &'a Path,
    text: &'a str,
    map: Mapping,
}

impl<'a> Document<'a> {
    /// An empty text is an empty map. `known` are the keys it may have.
    pub(super) fn parse(path: &'a Path, text: &'a str, known: &[&str]) -> Result<Self, ProjectError> {
        let map: Option<Mapping> = serde_yaml_ng::from_str(text).map_err(|error| {
            let message = error.to_string();
            let reason = message.split(" at line ").next().unwrap_or(&message).to_owned();
            let place = match error.location() {
                Some(at) => format!("{}:{}:{}", path.display(), at.line(), at.column()),
                None => path.display().to_string(),
            };
            ProjectError::Invalid { place, reason }
        })?;
        let document = Self { path, text, map: map.unwrap_or_default() };
        match document.map.keys().find(|key| !key.as_str().is_some_and(|key| known.contains(&key))) {
            None => Ok(document),
            Some(key) => {
                let key = key.as_str().map_or_else(|| format!("{key:?}"), str::to_owned);
                Err(document.invalid(&key, format!("there is no key `{key}` in this file")))
            }
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// The key's value as a `T`.
    pub(super) fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ProjectError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        serde_yaml_ng::from_value(value.clone())
            .map(Some)
            .map_err(|error| self.invalid(key, format!("`{key}` is not as it should be: {error}")))
    }

    /// As [`Document::read`], of a key that must be there.
    pub(super) fn require<T: DeserializeOwned>(&self, key: &str) -> Result<T, ProjectError> {
        let missing = || ProjectError::Invalid {
            place: self.path.display().to_string(),
            reason: format!("`{key}` is missing"),
        };
        self.read(key)?.ok_or_else(missing)
    }

    pub(super) fn invalid(&self, key: &str, reason: String) -> ProjectError {
        ProjectError::Invalid { place: self.place(key), reason }
    }

    /// `path:line` of the first line that begins with the key.
    pub(super) fn place(&self, key: &str) -> String {
        let starts = |line: &str| {
            let line = line.trim_start().trim_start_matches(['"', '\'']);
            line.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches(['"', '\'']).starts_with(':'))
        };
        match self.text.lines().position(starts) {
            Some(line) => format!("{}:{}", self.path.display(), line + 1),
            None => self.path.display().to_string(),
        }
    }

    pub(super) fn into_map(self) -> Mapping {
        self.map
    }
}
