//! The command line, read; and what is said when it cannot be.

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, ValueEnum, error::ErrorKind};
use tandem_model::Report;

use crate::{
    args::Args,
    exit::{self, Failure, USAGE},
    ui::{Color, Terminal, Wishes},
};

/// Reads the command line, or says what is wrong with it: for people with the parser's own words and its guess at what
/// was meant, with `--json` as any other error.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Args, ExitCode> {
    let words: Vec<OsString> = words.collect();
    let (json, color) = asked(&words);
    let command = Args::command().color(color.for_help(Wishes::of_environment()));
    let parsed = command.try_get_matches_from(words).and_then(|found| Args::from_arg_matches(&found));
    parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A reader that went away has read enough.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ if json => {
            let failed = Failure::report(report(&error)).with_code(USAGE);
            exit::code(Err(failed), &Terminal::new(json, color))
        }
        _ => {
            let _ = error.print();
            let _ = std::io::stderr().flush();
            ExitCode::from(USAGE)
        }
    })
}

/// What the words ask for that decides how their own errors are shown.
fn asked(words: &[OsString]) -> (bool, Color) {
    let (mut json, mut color) = (false, Color::default());
    let mut words = words.iter().filter_map(|word| word.to_str()).take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        let value = match word {
            "--json" => {
                json = true;
                continue;
            }
            "--color" => words.next(),
            other => other.strip_prefix("--color="),
        };
        if let Some(Ok(asked)) = value.map(|value| Color::from_str(value, false)) {
            color = asked;
        }
    }
    (json, color)
}

/// The parser's words as an error of our own.
fn report(error: &clap::Error) -> Report {
    let text = error.render().to_string();
    let mut parts = text.split("\n\n").map(|part| part.trim().lines().map(str::trim));
    let message = parts.next().map(|lines| lines.collect::<Vec<_>>().join(" ")).unwrap_or_default();
    let tip = parts.flatten().find_map(|line| line.strip_prefix("tip: ")).map(str::to_owned);
    let missing = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    Report {
        code: "E0107".into(),
        message: if missing {
            "a command is missing".into()
        } else {
            message.trim_start_matches("error: ").to_owned()
        },
        help: tip.unwrap_or_else(|| "see `tandem --help`".into()),
        causes: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn refused(line: &str) -> Report {
        report(&Args::command().try_get_matches_from(words(line)).unwrap_err())
    }

    #[test]
    fn a_misspelt_command_is_answered_with_the_one_that_was_meant() {
        let report = refused("tandem preveiw");
        assert_eq!(report.message, "unrecognized subcommand 'preveiw'");
        assert!(report.help.contains("'preview'"), "{}", report.help);
    }

    #[test]
    fn a_missing_argument_is_named() {
        assert_eq!(
            refused("tandem invoke").message,
            "the following required arguments were not provided: <NAME>"
        );
        assert_eq!(refused("tandem").message, "a command is missing");
    }

    #[test]
    fn how_errors_are_shown_is_known_before_the_words_are_understood() {
        assert_eq!(asked(&words("tandem --color never nonsense --json")), (true, Color::Never));
        assert_eq!(asked(&words("tandem run x -- --json --color=always")), (false, Color::Auto));
    }
}
