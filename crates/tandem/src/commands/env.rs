//! `tandem env`: what stock clients need to find the cloud.

use std::collections::BTreeMap;

use tandem_model::StackId;
use tandem_server::wire::Environment;

use crate::{exit::Failure, place::Place, ui::Terminal};

/// Prints shell exports: AWS_ENDPOINT_URL, a region, and credentials of this stack; TANDEM_REGISTRY, and credentials for
/// images. With --json, an object.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(terminal: &Terminal, place: Place, Args {}: Args) -> Result<(), Failure> {
    let project = tandem_program::Project::find(&place.folder)?;
    let stack = StackId { project: project.name.clone(), stack: place.stack.clone() };
    let variables: BTreeMap<String, String> = place.client().post("/v1/env", &Environment { stack }).await?;
    if terminal.json() {
        return Ok(terminal.record(&variables)?);
    }
    let exports = variables.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value)));
    Ok(terminal.data(&exports.collect::<String>())?)
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
