//! The question before something happens.

use std::io::{self, BufRead, IsTerminal};

use tandem_model::Explain;

use super::{Terminal, style::Paint};

/// A question that nobody can answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot ask whether to {what}: the input is not a terminal")]
pub(crate) struct NobodyToAsk {
    what: &'static str,
}

impl Explain for NobodyToAsk {
    fn code(&self) -> &'static str {
        "E0130"
    }
    fn help(&self) -> String {
        "pass --yes to go on without being asked".into()
    }
}

/// Asks whether to do something. Anything but a yes is a no.
///
/// # Errors
/// [`NobodyToAsk`] if standard input or error is not a terminal.
pub(crate) fn confirm(terminal: &Terminal, what: &'static str) -> Result<bool, NobodyToAsk> {
    if !terminal.is_interactive() || !io::stdin().is_terminal() {
        return Err(NobodyToAsk { what });
    }
    let question = terminal.style().paint(Paint::Strong, &capitalised(what));
    terminal.write(&format!("\n{question}? [y/N] "));
    let mut answer = String::new();
    // An input that ends or fails is nobody saying yes.
    let answered = io::stdin().lock().read_line(&mut answer).is_ok_and(|read| read > 0);
    if !answered {
        terminal.write("\n");
    }
    Ok(answered && is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(["y\n", "YES\n", " yes "].iter().all(|answer| is_yes(answer)));
        assert!(!["", "\n", "n\n", "yep\n", "true"].iter().any(|answer| is_yes(answer)));
    }
}
