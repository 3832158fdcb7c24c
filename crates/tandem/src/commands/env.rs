//! `tandem env`: what stock clients need to find the cloud.

use std::collections::BTreeMap;

use tandem_model::StackId;
use tandem_server::wire::Environment;

use crate::{exit::Failure, place::Place};

/// Prints shell exports: AWS_ENDPOINT_URL, a region, and credentials of this stack.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print a JSON object instead of shell exports
    #[arg(long)]
    json: bool,
}

#[expect(clippy::print_stdout, reason = "the variables are the command's data")]
pub(crate) async fn run(place: Place, args: Args) -> Result<(), Failure> {
    let project = tandem_program::Project::find(&place.folder)?;
    let stack = StackId { project: project.name.clone(), stack: place.stack.clone() };
    let variables: BTreeMap<String, String> = place.client().post("/v1/env", &Environment { stack }).await?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&variables).expect("a map of strings"));
    } else {
        for (name, value) in variables {
            println!("export {name}={}", quoted(&value));
        }
    }
    Ok(())
}

/// The value as one word of a POSIX shell.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+@".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_one_word() {
        assert_eq!(quoted("http://127.0.0.1:4566"), "http://127.0.0.1:4566");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
