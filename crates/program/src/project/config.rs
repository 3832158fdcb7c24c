//! The configuration of a stack: `config:` in `Tandem.<stack>.yaml`, over the project's defaults.
//!
//! A key is `project:name`; one without a project belongs to this project, as with Pulumi. A value is text; what YAML
//! gives as anything else is kept as its JSON text, which is what `config.getNumber` and `getObject` read.
//!
//! Secret settings are in a file of their own, `Tandem.<stack>.secrets`, of the same form, readable by its owner only. It
//! is not encrypted; it is apart so that it can be kept out of version control, and never gets into an image (0130). A key
//! is in one of the two files: setting it in one removes it from the other. A file is replaced as a whole.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions, Permissions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde_yaml_ng::{Mapping, Value};
use tandem_model::{ProjectName, StackName};

use super::{Project, ProjectError, document::Document, read};

/// What a stack's file may have. All but the first are Pulumi's, and mean nothing here.
const KEYS: [&str; 5] = ["config", "encryptionsalt", "encryptedkey", "secretsprovider", "environment"];
/// How the name of a file with secrets ends; that of a stack's file ends in `.yaml`, whatever the stack is called.
const SECRETS: &str = "secrets";

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub value: String,
    /// Not to be shown.
    pub secret: bool,
}

/// Full keys (`project:name`) and their settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config(pub BTreeMap<String, Setting>);

/// Whether a file of that name holds secrets: such a file is never packed.
pub(crate) fn holds_secrets(name: &str) -> bool {
    let own = name.starts_with("Tandem.") || name.starts_with("Pulumi.");
    // With what is being written.
    own && (name.ends_with(".secrets") || name.ends_with(".secrets.new"))
}

impl Project {
    /// The file with the configuration of a stack, whether it exists or not. It has the project file's prefix.
    pub fn stack_file(&self, stack: &StackName) -> PathBuf {
        let extension = self.file.extension().and_then(|s| s.to_str()).unwrap_or("yaml");
        self.file_of(stack, extension)
    }

    /// The file with the secret settings of a stack.
    pub fn secrets_file(&self, stack: &StackName) -> PathBuf {
        self.file_of(stack, SECRETS)
    }

    fn file_of(&self, stack: &StackName, extension: &str) -> PathBuf {
        let stem = self.file.file_stem().and_then(|s| s.to_str()).unwrap_or("Tandem");
        self.folder.join(format!("{stem}.{stack}.{extension}"))
    }

    /// What the program sees as its configuration in a stack. A stack without a file has the project's defaults.
    ///
    /// # Errors
    /// [`ProjectError::Invalid`] with the place, [`ProjectError::Secure`] for a value that Pulumi encrypted.
    pub fn config(&self, stack: &StackName) -> Result<Config, ProjectError> {
        let mut config = self.defaults.clone();
        for (path, secret) in [(self.stack_file(stack), false), (self.secrets_file(stack), true)] {
            let text = text_or_empty(&path)?;
            let document = Document::parse(&path, &text, &KEYS)?;
            let values = document.read("config")?.unwrap_or_default();
            config.0.extend(Config::of_values(&document, &self.name, values, secret)?.0);
        }
        Ok(config)
    }

    /// The full form of a key, `project:name`.
    ///
    /// # Errors
    /// [`ProjectError::Key`] if it is not a key.
    pub fn full_key(&self, key: &str) -> Result<String, ProjectError> {
        full_key(&self.name, key)
    }

    /// Sets one key of the stack. Comments in the file are lost.
    ///
    /// # Errors
    /// As [`Project::config`]; [`ProjectError::Key`] if it is not a key.
    pub fn set_config(&self, stack: &StackName, key: &str, setting: Setting) -> Result<(), ProjectError> {
        let full = full_key(&self.name, key)?;
        self.config(stack)?;
        let (here, elsewhere) = match setting.secret {
            true => (self.secrets_file(stack), self.stack_file(stack)),
            false => (self.stack_file(stack), self.secrets_file(stack)),
        };
        self.edit(&here, &full, Some(&setting.value))?;
        self.edit(&elsewhere, &full, None)
    }

    /// Removes one key of the stack; the project's default is seen again, if it has one.
    ///
    /// # Errors
    /// As [`Project::set_config`].
    pub fn remove_config(&self, stack: &StackName, key: &str) -> Result<(), ProjectError> {
        let full = full_key(&self.name, key)?;
        self.config(stack)?;
        self.edit(&self.stack_file(stack), &full, None)?;
        self.edit(&self.secrets_file(stack), &full, None)
    }

    /// Sets or removes a key in one file. A file in which nothing changes is not touched.
    fn edit(&self, path: &Path, full: &str, value: Option<&str>) -> Result<(), ProjectError> {
        let text = text_or_empty(path)?;
        let mut root = Document::parse(path, &text, &KEYS)?.into_map();
        let mut config = match root.remove("config") {
            Some(Value::Mapping(config)) => config,
            _ => Mapping::new(),
        };
        let is_it =
            |k: &Value| k.as_str().and_then(|k| full_key(&self.name, k).ok()).as_deref() == Some(full);
        if value.is_none() && !config.keys().any(is_it) {
            return Ok(());
        }
        config.retain(|k, _| !is_it(k));
        if let Some(value) = value {
            config.insert(full.into(), value.into());
        }
        root.insert("config".into(), config.into());
        let text = serde_yaml_ng::to_string(&root).expect("a map of text was YAML before");
        replace(path, &text).map_err(|source| ProjectError::Unwritable { file: path.to_owned(), source })
    }
}

/// Replaces a file as a whole, so that a kill in between costs nothing.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let secret = path.extension().is_some_and(|extension| extension == SECRETS);
    let next = path.with_extension(if secret { "secrets.new" } else { "yaml.new" });
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if secret {
        options.mode(0o600);
    }
    let mut file = options.open(&next)?;
    if secret {
        // One that was there keeps its mode otherwise.
        file.set_permissions(Permissions::from_mode(0o600))?;
    } else if let Ok(before) = fs::metadata(path) {
        file.set_permissions(before.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    fs::rename(&next, path)
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
        Self::of_values(document, project, values.collect(), false)
    }

    fn of_values(
        document: &Document<'_>,
        project: &ProjectName,
        values: BTreeMap<String, Value>,
        secret: bool,
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
            config.insert(full, Setting { value, secret });
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
