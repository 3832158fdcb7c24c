//! How an error reaches a person: a code, a sentence, and what to do next.

use serde::{Deserialize, Serialize};

/// An error that can say what to do next. Its code has a page, `tandem explain <code>`.
pub trait Explain: std::error::Error {
    /// A stable code such as `E0201`; the page is `docs/errors/E0201.md`.
    fn code(&self) -> &'static str;
    /// What the reader can do about it, as an imperative sentence without a full stop. Empty if nothing can be done.
    fn help(&self) -> String;

    /// The error as plain data, for a wire or a display.
    fn report(&self) -> Report {
        Report::of(self)
    }
}

/// An error as plain data: what the CLI prints, the control API sends, and a dead letter keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Report {
    pub code: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
    /// The chain of causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
}

impl Report {
    /// What an error says, with its chain of causes.
    pub fn of<E: Explain + ?Sized>(error: &E) -> Self {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        Self { code: error.code().to_owned(), message: error.to_string(), help: error.help(), causes }
    }
}
