//! The configuration of a stack: `config:` in `Tandem.<stack>.yaml`, over the project's defaults.
//!
//! A key is `project:name`; one without a project belongs to this project, as with Pulumi. A value is text; what YAML
//! gives as anything else is kept as its JSON text, which is what `config.getNumber` and `getObject` read.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde_yaml_ng::{Mapping, Value};
use tandem_model::{ProjectName, StackName};

use super::{Project, ProjectError, document::Document, read};

/// What a stack's file may have. All but the first are Pulumi's, and mean nothing here.
const KEYS: [&str; 5] = ["config", "encryptionsalt", "encryptedkey", "secretsprovider", "environment"];

/// Full keys (`project:name`) and their values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config(pub BTreeMap<String, String>);

impl Project {
    /// The file with the configuration of a stack, whether it exists or not. It has the project file's prefix.
    pub fn stack_file(&self, stack: &StackName) -> PathBuf {
        let stem = self.file.file_stem().and_then(|s| s.to_str()).unwrap_or("Tandem");
        let extension = self.file.extension().and_then(|s| s.to_str()).unwrap_or("yaml");
        self.folder.join(format!("{stem}.{stack}.{extension}"))
    }

    /// What the program sees as its configuration in a stack. A stack without a file has the project's defaults.
    ///
    /// # Errors
    /// [`ProjectError::Invalid`] with the place, [`ProjectError::Secure`] for a value that Pulumi encrypted.
    pub fn config(&self, stack: &StackName) -> Result<Config, ProjectError> {
        let mut config = self.defaults.clone();
        let path = self.stack_file(stack);
        let text = text_or_empty(&path)?;
        config.0.extend(Config::of_stack(&Document::parse(&path, &text, &KEYS)?, &self.name)?.0);
        Ok(config)
    }

    /// Sets one key in the stack's file, or removes it if `value` is none. Comments in the file are lost.
    ///
    /// # Errors
    /// As [`Project::config`]; [`ProjectError::Key`] if it is not a key.
    pub fn set_config(&self, stack: &StackName, key: &str, value: Option<&str>) -> Result<(), ProjectError> {
        let full = full_key(&self.name, key)?;
        self.config(stack)?;
        let path = self.stack_file(stack);
        let text = text_or_empty(&path)?;
        let mut root = Document::parse(&path, &text, &KEYS)?.into_map();
        let mut config = match root.remove("config") {
            Some(Value::Mapping(config)) => config,
            _ => Mapping::new(),
        };
        config.retain(|k, _| k.as_str().and_then(|k| full_key(&self.name, k).ok()).as_ref() != Some(&full));
        if let Some(value) = value {
            config.insert(full.into(), value.into());
        }
        root.insert("config".into(), config.into());
        let text = serde_yaml_ng::to_string(&root).expect("a map of text was YAML before");
        fs::write(&path, text).map_err(|source| ProjectError::Unwritable { file: path, source })
    }
}

fn text_or_empty(path: &Path) -> Result<String, ProjectError> {
    match read(path) {
        Err(ProjectError::Unreadable { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Ok(String::new())
        }
        other => other,
    }
}

impl Config {
    /// The defaults in a project file: values, or Pulumi's `{type, description, default}` and `{value}`.
    pub(super) fn of_project(document: &Document<'_>, project: &ProjectName) -> Result<Self, ProjectError> {
        let described = |map: &Mapping| {
            ["default", "type", "description", "value", "secret"].iter().any(|key| map.contains_key(*key))
        };
        let values: BTreeMap<String, Value> = document.read("config")?.unwrap_or_default();
        let values = values.into_iter().filter_map(|(key, value)| match value {
            Value::Mapping(map) if described(&map) => {
                map.get("default").or_else(|| map.get("value")).cloned().map(|value| (key, value))
            }
            value => Some((key, value)),
        });
        Self::of_values(document, project, values.collect())
    }

    fn of_stack(document: &Document<'_>, project: &ProjectName) -> Result<Self, ProjectError> {
        Self::of_values(document, project, document.read("config")?.unwrap_or_default())
    }

    fn of_values(
        document: &Document<'_>,
        project: &ProjectName,
        values: BTreeMap<String, Value>,
    ) -> Result<Self, ProjectError> {
        let mut config = BTreeMap::new();
        for (key, value) in values {
            let full = full_key(project, &key)?;
            let value = match value {
                Value::String(text) => text,
                Value::Mapping(map) if map.contains_key("secure") => {
                    return Err(ProjectError::Secure { place: document.place(&key), key });
                }
                other => serde_json::to_string(&other).map_err(|error| {
                    document.invalid(&key, format!("the value of `{key}` has no JSON form: {error}"))
                })?,
            };
            config.insert(full, value);
        }
        Ok(Self(config))
    }
}

fn full_key(project: &ProjectName, key: &str) -> Result<String, ProjectError> {
    let bad = |reason| ProjectError::Key { key: key.to_owned(), reason };
    if key.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad("it contains a space"));
    }
    match key.split(':').collect::<Vec<_>>()[..] {
        [""] | ["", _] | [_, ""] => Err(bad("a part of it is empty")),
        [name] => Ok(format!("{project}:{name}")),
        // Pulumi's older files write `project:config:name`.
        [_, _] => Ok(key.to_owned()),
        [space, "config", name] if !space.is_empty() && !name.is_empty() => Ok(format!("{space}:{name}")),
        _ => Err(bad("it has too many colons")),
    }
}
