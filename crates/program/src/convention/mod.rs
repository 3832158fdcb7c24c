//! Folders without a Dockerfile: what they are by their files, and the Dockerfile that is written for them.
//!
//! The text goes into the packed build folder beside the sources, so such a folder is hashed, sent and built like one that
//! has a Dockerfile of its own. It is made of names and manifests alone: no clock, no machine, so the same folder always
//! gives the same text.
//!
//! All of them: dependencies are a layer of their own before the sources, what only a build needs stays in a stage of its
//! own, nobody is root, and `PORT` (8080) is where a service listens. The images that they begin with, and the order in
//! which files are looked for, are in decision 0143.
//!
//! Start at [`of`]; a file a kind.

mod go;
mod node;
mod procfile;
mod python;
mod rust;
mod site;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use tandem_model::Explain;

/// What a folder without a Dockerfile is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Rust,
    Go,
    Python,
    Node,
    Site,
}

impl Kind {
    /// The order in which they are looked for. A `package.json` is often beside another language, for its tools, and many
    /// of them have an `index.html`.
    const ORDER: [Self; 5] = [Self::Rust, Self::Go, Self::Python, Self::Node, Self::Site];

    /// The files by which it is known: one is enough.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["Cargo.toml"],
            Self::Go => &["go.mod"],
            Self::Python => &["requirements.txt", "pyproject.toml"],
            Self::Node => &["package.json"],
            Self::Site => &["index.html"],
        }
    }

    /// What stays out of such a build, before what the folder's own `.dockerignore` says.
    fn ignored(self) -> &'static str {
        match self {
            Self::Rust => "target\n",
            Self::Go | Self::Python | Self::Node => "",
            // What begins with a dot is nobody's to see, but for what is there to be seen.
            Self::Site => "**/.*\n!.well-known\n!.well-known/**\n",
        }
    }
}

/// What stays out of every build without a Dockerfile: what is made again, what is large, what is secret.
const IGNORED: &str = "\
.git
.hg
.svn
**/.DS_Store
**/node_modules
**/__pycache__
**/*.pyc
**/.venv
**/venv
**/.tox
**/.pytest_cache
**/.mypy_cache
**/.ruff_cache
**/.env
**/.env.*
Tandem.yaml
Tandem.*.yaml
";

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust project",
            Self::Go => "Go project",
            Self::Python => "Python project",
            Self::Node => "Node project",
            Self::Site => "static site",
        })
    }
}

/// How a folder is built that does not say so itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Convention {
    pub kind: Kind,
    pub dockerfile: String,
}

impl Convention {
    /// Patterns as in a `.dockerignore`, to be heard before the folder's own.
    pub(crate) fn ignored(&self) -> String {
        format!("{IGNORED}{}", self.kind.ignored())
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConventionError {
    #[error("nothing in `{}` says how to build it", folder.display())]
    Nothing { folder: PathBuf },
    #[error("nothing in `{}` says how the {kind} is started", folder.display())]
    NoStart { folder: PathBuf, kind: Kind, looked_for: &'static str },
    #[error("cannot read `{}`", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("`{}` cannot be understood: {reason}", path.display())]
    Manifest { path: PathBuf, reason: String },
}

impl Explain for ConventionError {
    fn code(&self) -> &'static str {
        match self {
            Self::Nothing { .. } => "E0545",
            Self::NoStart { .. } | Self::Manifest { .. } => "E0549",
            Self::Unreadable { .. } => "E0541",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Nothing { .. } => {
                let all: Vec<_> = Kind::ORDER.iter().flat_map(|kind| kind.files()).copied().collect();
                format!("write a `Dockerfile`, or one of what was looked for: {}", all.join(", "))
            }
            Self::NoStart { looked_for, .. } => {
                format!("looked for {looked_for}; give one of them, or write a `Dockerfile`")
            }
            Self::Unreadable { path, .. } => format!("check that you may read `{}`", path.display()),
            Self::Manifest { .. } => "correct it, or write a `Dockerfile`".into(),
        }
    }
}

/// Tells what a folder is, and writes its Dockerfile.
///
/// # Errors
/// [`ConventionError`] names what was looked for, or what is wrong with what was found.
pub fn of(folder: &Path) -> Result<Convention, ConventionError> {
    let source = Source { folder };
    let found = |kind: &Kind| kind.files().iter().any(|file| source.has(file));
    let kind = Kind::ORDER.into_iter().find(found);
    let kind = kind.ok_or_else(|| ConventionError::Nothing { folder: folder.to_owned() })?;
    let dockerfile = match kind {
        Kind::Rust => rust::dockerfile(&source),
        Kind::Go => go::dockerfile(&source),
        Kind::Python => python::dockerfile(&source),
        Kind::Node => node::dockerfile(&source),
        Kind::Site => site::dockerfile(&source),
    }?;
    let head = format!(
        "# By convention: {}. Print it with `tandem build --print-dockerfile`, and keep it as `Dockerfile` to change it.\n",
        described(kind)
    );
    Ok(Convention { kind, dockerfile: head + &dockerfile })
}

fn described(kind: Kind) -> String {
    format!("a {kind} ({})", kind.files().join(" or "))
}

/// Who the processes of such an image are. It needs no entry in the image's `passwd`, and `scratch` has none.
const USER: &str = "65532:65532";
/// Where a service of such an image listens.
const PORT: u16 = 8080;

/// The process of number 1 gets no signal that it does not ask for, so a shell is that one: it hands on the request to
/// stop, waits, and ends as the program did.
const FIRST: &str = "\"$@\" & pid=$!; trap 'kill $pid' TERM INT; wait $pid; code=$?; \
    while kill -0 $pid 2>/dev/null; do wait $pid; code=$?; done; exit $code";

fn entrypoint() -> String {
    exec(&["sh", "-c", FIRST, "sh"])
}

/// A folder that is looked at.
struct Source<'a> {
    folder: &'a Path,
}

impl Source<'_> {
    fn has(&self, file: &str) -> bool {
        self.folder.join(file).is_file()
    }

    /// The first of these that is there.
    fn first<'a>(&self, files: &[&'a str]) -> Option<&'a str> {
        files.iter().copied().find(|file| self.has(file))
    }

    fn read(&self, file: &str) -> Result<String, ConventionError> {
        let path = self.folder.join(file);
        fs::read_to_string(&path).map_err(|source| ConventionError::Unreadable { path, source })
    }

    fn toml(&self, file: &str) -> Result<toml_edit::Document<String>, ConventionError> {
        let text = self.read(file)?;
        toml_edit::Document::parse(text).map_err(|error| self.wrong(file, error.message()))
    }

    fn wrong(&self, file: &str, reason: &str) -> ConventionError {
        ConventionError::Manifest { path: self.folder.join(file), reason: reason.to_owned() }
    }

    fn no_start(&self, kind: Kind, looked_for: &'static str) -> ConventionError {
        ConventionError::NoStart { folder: self.folder.to_owned(), kind, looked_for }
    }

    /// The names of the files and folders in a folder of this one, sorted.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.folder.join(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        names
    }
}

/// The form of an instruction that no shell reads.
fn exec(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| serde_json::Value::from(*word).to_string()).collect();
    format!("[{}]", quoted.join(", "))
}

/// A word that a shell takes as it is.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./@=+,:".contains(&b);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests;
