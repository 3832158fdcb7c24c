//! Stock clients for tests: boto3 and the AWS CLI, in a Python that `cargo xtask test` prepares, and the AWS SDK for
//! JavaScript beside it; rclone and s3cmd, as Debian has them.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

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

/// As [`environment`] of the stack `shop/dev`, with the keys of `other/dev` besides: `OTHER_ACCESS_KEY_ID`, `OTHER_SECRET_ACCESS_KEY`.
pub(crate) fn two_stacks(endpoint: Endpoint, credentials: &Credentials) -> Vec<(&'static str, String)> {
    let mut all = environment(endpoint, credentials, "shop/dev");
    let other = environment(endpoint, credentials, "other/dev");
    all.extend(other.into_iter().filter_map(|(name, value)| match name {
        "AWS_ACCESS_KEY_ID" => Some(("OTHER_ACCESS_KEY_ID", value)),
        "AWS_SECRET_ACCESS_KEY" => Some(("OTHER_SECRET_ACCESS_KEY", value)),
        _ => None,
    }));
    all
}

/// Runs a Python script, which fails by raising. It finds the AWS CLI's script under `AWS`.
///
/// # Panics
/// With the script's error, or if there is no such Python.
pub(crate) async fn run(script: &str, environment: Vec<(&'static str, String)>) {
    let python = env::var("TANDEM_TEST_PYTHON").expect(
        "TANDEM_TEST_PYTHON names no Python with boto3 and awscli; run the tests by `cargo xtask test`, which makes one",
    );
    let mut client = Command::new(&python);
    client.args(["-c", script]).env("AWS", Path::new(&python).with_file_name("aws"));
    finish(client, environment).await;
}

/// As [`run`], with a boto3 that speaks the Query protocol of SQS.
pub(crate) async fn run_old(script: &str, mut environment: Vec<(&'static str, String)>) {
    let python = PathBuf::from(env::var_os("TANDEM_TEST_PYTHON").expect("TANDEM_TEST_PYTHON"));
    let folder = python.ancestors().nth(2).expect("a Python in an environment").join("query");
    assert!(
        folder.join("boto3").is_dir(),
        "run the tests by `cargo xtask test`, which installs an older boto3"
    );
    environment.push(("PYTHONPATH", folder.display().to_string()));
    run(script, environment).await;
}

/// Runs an ES module of JavaScript, which fails by throwing. It finds the packages of the AWS SDK.
///
/// # Panics
/// With the script's error, or if there is no Node.js, or not these packages.
pub(crate) async fn run_node(script: &str, environment: Vec<(&'static str, String)>) {
    let packages = node_packages();
    assert!(
        packages.join("node_modules/@aws-sdk").is_dir(),
        "`{}` holds no AWS SDK; run the tests by `cargo xtask test`, which installs it",
        packages.display()
    );
    let mut client = Command::new("node");
    // An ES module finds packages from the folder of its file, so it lies beside them.
    let file =
        tempfile::Builder::new().suffix(".mjs").tempfile_in(&packages).expect("a file beside the packages");
    std::fs::write(&file, script).expect("a script");
    client.arg(file.path());
    finish(client, environment).await;
}

/// Where `cargo xtask setup` puts the packages: `target/js`, beside the Python in `target/py`.
fn node_packages() -> PathBuf {
    if let Some(folder) = env::var_os("TANDEM_TEST_JS") {
        return folder.into();
    }
    let python =
        PathBuf::from(env::var_os("TANDEM_TEST_PYTHON").expect("TANDEM_TEST_JS or TANDEM_TEST_PYTHON"));
    let target = python.ancestors().nth(3).expect("a Python in target/py/bin");
    target.join("js")
}

async fn finish(mut client: Command, environment: Vec<(&'static str, String)>) {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let output = client
        .envs(environment)
        // The cloud's address is plain HTTP; some clients stop at a bundle that they cannot use.
        .env_remove("AWS_CA_BUNDLE")
        .current_dir(scratch.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("the client starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
}
