//! The project: its folder, its file `Tandem.yaml` (or `Pulumi.yaml`), and the configuration of its stacks.
//!
//! A project file has `name`, `runtime`, and optionally `main`, `description`, `include` and `config`. What Pulumi
//! has besides is accepted and ignored, so that a `Pulumi.yaml` stands as it is; a misspelt key is an error.

mod config;
mod document;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use document::Document;
use tandem_model::{Explain, NameError, ProjectName};

pub(crate) use config::holds_secrets;
pub use config::{Config, Setting};
pub use document::Runtime;

/// The names of a project file, the first one found wins.
const FILES: [&str; 4] = ["Tandem.yaml", "Tandem.yml", "Pulumi.yaml", "Pulumi.yml"];

/// What a project file may have. The second line is what Pulumi has besides; none of it means anything here.
const KEYS: [&str; 14] = [
    "name",
    "runtime",
    "main",
    "description",
    "include",
    "config",
    "author",
    "backend",
    "license",
    "options",
    "plugins",
    "stackConfigDir",
    "template",
    "website",
];

/// A project, as its file describes it.
#[derive(Debug, Clone)]
pub struct Project {
    /// Absolute; everything the program consists of is inside.
    pub folder: PathBuf,
    /// The project file.
    pub file: PathBuf,
    pub name: ProjectName,
    pub runtime: Runtime,
    /// The program's entry: a file, or a folder with an `index` file or a `package.json`. Relative to the folder.
    pub main: Option<String>,
    pub description: Option<String>,
    /// Globs of files that belong to the program though no module names them.
    pub include: Vec<String>,
    /// Values for keys that a stack does not set.
    pub defaults: Config,
}

impl Project {
    /// Finds the project of a folder: the nearest project file in it or above it.
    ///
    /// # Errors
    /// [`ProjectError::NotFound`] if there is none, otherwise as [`Project::load`].
    pub fn find(from: &Path) -> Result<Self, ProjectError> {
        let start = from
            .canonicalize()
            .map_err(|source| ProjectError::Unreadable { file: from.to_owned(), source })?;
        let file = start
            .ancestors()
            .flat_map(|folder| FILES.map(|name| folder.join(name)))
            .find(|file| file.is_file())
            .ok_or(ProjectError::NotFound { from: start.clone() })?;
        Self::load(&file)
    }

    /// Reads a project file.
    ///
    /// # Errors
    /// [`ProjectError::Invalid`] with line and column of what is wrong.
    pub fn load(file: &Path) -> Result<Self, ProjectError> {
        let text = read(file)?;
        let document = Document::parse(file, &text, &KEYS)?;
        let name: String = document.require("name")?;
        let name: ProjectName =
            name.parse().map_err(|e: NameError| document.invalid("name", e.to_string()))?;
        let runtime: serde_yaml_ng::Value = document.require("runtime")?;
        Ok(Self {
            folder: file.parent().unwrap_or(Path::new("/")).to_owned(),
            file: file.to_owned(),
            runtime: Runtime::read(&runtime).map_err(|reason| document.invalid("runtime", reason))?,
            main: document.read("main")?,
            description: document.read("description")?,
            include: document.read("include")?.unwrap_or_default(),
            defaults: Config::of_project(&document, &name)?,
            name,
        })
    }
}

fn read(file: &Path) -> Result<String, ProjectError> {
    fs::read_to_string(file).map_err(|source| ProjectError::Unreadable { file: file.to_owned(), source })
}

#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    #[error("no project file `Tandem.yaml` in `{}` or a folder above it", from.display())]
    NotFound { from: PathBuf },
    #[error("cannot read `{}`", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    /// `place` is `path:line:column`, or the path where no line is to blame.
    #[error("{place}: {reason}")]
    Invalid { place: String, reason: String },
    #[error("{place}: the value of `{key}` is encrypted by Pulumi, and Tandem has no key for it")]
    Secure { place: String, key: String },
    #[error("`{key}` is not a configuration key: {reason}")]
    Key { key: String, reason: &'static str },
    #[error("cannot write `{}`", file.display())]
    Unwritable { file: PathBuf, source: io::Error },
}

impl Explain for ProjectError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "E0101",
            Self::Unreadable { .. } | Self::Unwritable { .. } => "E0102",
            Self::Invalid { .. } => "E0103",
            Self::Secure { .. } => "E0104",
            Self::Key { .. } => "E0105",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::NotFound { .. } => "change to a project's folder, or make one with `tandem new`".into(),
            Self::Unreadable { file, .. } | Self::Unwritable { file, .. } => {
                format!("check that `{}` exists and that you may read and write it", file.display())
            }
            Self::Invalid { .. } => {
                "a project file has `name`, `runtime: js`, and optionally `main`, `description`, `include`, `config`; \
                 a stack's file has `config`"
                    .into()
            }
            Self::Secure { key, .. } => {
                format!("write the plain value of `{key}` in the file, or pass it to the program in its environment")
            }
            Self::Key { .. } => "write a key as `name` or `project:name`".into(),
        }
    }
}

#[cfg(test)]
mod tests;
