//! Why a program cannot be packed.

use std::{io, path::PathBuf};

use tandem_model::Explain;

use crate::place::Place;

/// A `frame` is the line of the source with a caret under the place, on lines of its own.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("the program has no entry: {}", wanted.join(", "))]
    NoEntry { folder: PathBuf, wanted: Vec<String> },
    #[error("{place}: {reason}\n{frame}")]
    Syntax { place: Place, reason: String, frame: String },
    #[error("{place}: {what} cannot be turned into JavaScript in place\n{frame}")]
    TypeScript { place: Place, what: &'static str, instead: &'static str, frame: String },
    #[error("{place}: no module `{specifier}`\n{frame}")]
    Missing { place: Place, specifier: String, advice: String, frame: String },
    #[error("{place}: `{specifier}` is outside of the project's folder\n{frame}")]
    Outside { place: Place, specifier: String, frame: String },
    #[error("{place}: `{specifier}` is not part of the embedded JavaScript host\n{frame}")]
    NoBuiltin { place: Place, specifier: String, frame: String },
    #[error("cannot read `{path}`")]
    Unreadable { path: String, source: io::Error },
    #[error("`{path}` is not text in UTF-8")]
    Binary { path: String },
    #[error("`{pattern}` in `include` is not a pattern: {reason}")]
    Pattern { pattern: String, reason: String },
    #[error("`{pattern}` in `include` matches no file")]
    NothingIncluded { pattern: String },
}

impl Explain for PackError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoEntry { .. } => "E0520",
            Self::Syntax { .. } => "E0521",
            Self::TypeScript { .. } => "E0522",
            Self::Missing { .. } => "E0523",
            Self::Outside { .. } => "E0524",
            Self::NoBuiltin { .. } => "E0525",
            Self::Unreadable { .. } | Self::Binary { .. } => "E0526",
            Self::Pattern { .. } | Self::NothingIncluded { .. } => "E0527",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::NoEntry { folder, .. } => {
                format!("write `index.js` in `{}`, or name the program's first file with `main`", folder.display())
            }
            Self::Syntax { .. } => "mend the program and run the command again; nothing was changed".into(),
            Self::TypeScript { instead, .. } => (*instead).into(),
            Self::Missing { advice, .. } => advice.clone(),
            Self::Outside { .. } => {
                "move the module into the project's folder, or link its folder into `node_modules`".into()
            }
            Self::NoBuiltin { .. } => {
                "use one of the modules that `docs/guide/programs.md` lists, or the global `fetch` instead of `http`".into()
            }
            Self::Unreadable { path, .. } => format!("check that you may read `{path}`"),
            Self::Binary { .. } => {
                "a program consists of text; put other files into a bucket or into the image of a task".into()
            }
            Self::Pattern { .. } => "write a pattern like `templates/*.html` or `data/**/*.json`".into(),
            Self::NothingIncluded { pattern } => {
                format!("correct or remove `{pattern}` in the project file; patterns are relative to it")
            }
        }
    }
}
