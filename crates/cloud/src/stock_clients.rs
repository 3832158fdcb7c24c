//! Stock clients for tests: boto3 and the AWS CLI, in a Python that `cargo xtask test` prepares.

use std::{env, path::Path, process::Stdio};

use tokio::process::Command;

use crate::{
    credential::{Credentials, Principal},
    endpoint::{Endpoint, REGION},
};

/// The variables by which a client of that stack finds the cloud, and nothing of the machine that runs the test.
pub(crate) fn environment(
    endpoint: Endpoint,
    credentials: &Credentials,
    stack: &str,
) -> Vec<(&'static str, String)> {
    let key = credentials.for_principal(&Principal::Operator { stack: stack.parse().expect("a stack's id") });
    vec![
        ("AWS_ENDPOINT_URL", endpoint.url()),
        ("AWS_ACCESS_KEY_ID", key.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", key.secret_access_key),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_DEFAULT_REGION", REGION.to_owned()),
        ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ]
}

/// Runs a Python script, which fails by raising. It finds the AWS CLI's script under `AWS`.
///
/// # Panics
/// With the script's error, or if there is no such Python.
pub(crate) async fn run(script: &str, environment: Vec<(&'static str, String)>) {
    let python = env::var("TANDEM_TEST_PYTHON").expect(
        "TANDEM_TEST_PYTHON names no Python with boto3 and awscli; run the tests by `cargo xtask test`, which makes one",
    );
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(&python)
        .args(["-c", script])
        .envs(environment)
        .env("AWS", Path::new(&python).with_file_name("aws"))
        .current_dir(scratch.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("Python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
