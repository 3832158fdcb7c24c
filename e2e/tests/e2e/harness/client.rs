//! Stock clients with what `tandem env` tells them.

use std::{collections::BTreeMap, process::Command};

use super::{Beside, Project, Ran, prepared};

/// The AWS CLI and boto3, as a user's shell runs them after `eval "$(tandem env)"`.
pub(crate) struct Client {
    variables: BTreeMap<String, String>,
}

impl Client {
    pub(super) fn new(project: &Project<'_>) -> Self {
        let script = project.tandem(&["env"]).ok().stdout;
        let mut shell = Command::new("sh");
        let all = Ran::run(shell.env_clear().args(["-c", "eval \"$1\"; env", "sh", &script])).ok().stdout;
        let ours = |line: &&str| line.starts_with("AWS_") || line.starts_with("TANDEM_REGISTRY");
        let aws = all.lines().filter(ours).filter_map(|line| line.split_once('='));
        let variables = aws.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { variables }
    }

    pub(crate) fn variable(&self, name: &str) -> &str {
        self.variables.get(name).unwrap_or_else(|| panic!("`tandem env` does not set {name}"))
    }

    /// The same with another value of one variable.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut variables = self.variables.clone();
        variables.insert(name.to_owned(), value.to_owned());
        Self { variables }
    }

    fn environment(&self, command: &mut Command) {
        // Only what `tandem env` says: no profile or credentials of the person who runs the tests.
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent").env("LC_ALL", "C.UTF-8");
        command.envs(&self.variables);
    }

    /// The stock AWS CLI.
    pub(crate) fn aws(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(prepared("TANDEM_TEST_AWS"));
        self.environment(&mut command);
        Ran::run(command.args(arguments))
    }

    /// A Python script that finds a boto3 client as `s3`, and its arguments in `arguments`.
    pub(crate) fn boto3(&self, script: &str, arguments: &[&str]) -> Ran {
        Ran::run(&mut self.boto3_command(script, arguments))
    }

    /// The same, running beside the test.
    pub(crate) fn boto3_beside(&self, script: &str, arguments: &[&str]) -> Beside {
        Beside::start(&mut self.boto3_command(script, arguments))
    }

    fn boto3_command(&self, script: &str, arguments: &[&str]) -> Command {
        const PRELUDE: &str = "\
import boto3, sys, json
from botocore.config import Config
from botocore.exceptions import ClientError
s3 = boto3.client('s3', config=Config(retries={'max_attempts': 1}, connect_timeout=5, read_timeout=60))
arguments = sys.argv[1:]
";
        let mut command = Command::new(prepared("TANDEM_TEST_PYTHON"));
        self.environment(&mut command);
        command.args(["-c", &format!("{PRELUDE}{script}")]).args(arguments);
        command
    }
}
