//! Over the wire, with stock clients: boto3 and the AWS CLI.

use std::{env, path::Path, process::Stdio};

use tokio::process::Command;

use super::Fixture;

/// The interpreter that has boto3 and the AWS CLI beside it.
fn python() -> String {
    env::var("TANDEM_TEST_PYTHON").expect(
        "TANDEM_TEST_PYTHON names no Python with boto3 and awscli; run the tests by `cargo xtask test`, which makes one",
    )
}

/// Runs a script of this folder, which fails by raising.
async fn run(script: &str, f: &mut Fixture) {
    f.serve();
    let scratch = tempfile::tempdir().unwrap();
    let python = python();
    let other = f.environment("other/dev");
    let find = |name: &str| other.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone()).unwrap();
    let output = Command::new(&python)
        .arg("-c")
        .arg(script)
        .envs(f.environment("shop/dev"))
        .env("OTHER_ACCESS_KEY_ID", find("AWS_ACCESS_KEY_ID"))
        .env("OTHER_SECRET_ACCESS_KEY", find("AWS_SECRET_ACCESS_KEY"))
        .env("AWS", Path::new(&python).with_file_name("aws"))
        .current_dir(scratch.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

async fn with_other_stack() -> Fixture {
    let f = Fixture::new().await;
    f.create_bucket("other/dev", "secrets", false).await.unwrap();
    f
}

#[tokio::test]
async fn boto3_puts_gets_lists_copies_and_deletes() {
    let mut f = with_other_stack().await;
    f.subscribe().await;
    run(include_str!("objects.py"), &mut f).await;
    let happened = f.happened();
    assert_eq!(
        happened.iter().filter(|h| h.ends_with(" plain.txt")).collect::<Vec<_>>(),
        ["put plain.txt", "deleted plain.txt"]
    );
}

#[tokio::test]
async fn boto3_uploads_in_parts() {
    let mut f = with_other_stack().await;
    f.subscribe().await;
    run(include_str!("uploads.py"), &mut f).await;
    assert_eq!(f.happened().iter().filter(|h| *h == "put by hand").count(), 1);
}

#[tokio::test]
async fn bodies_in_chunks_are_verified_chunk_by_chunk_and_at_their_end() {
    let mut f = with_other_stack().await;
    run(include_str!("chunks.py"), &mut f).await;
}

#[tokio::test]
async fn bad_requests_get_the_errors_that_s3_gives() {
    let mut f = with_other_stack().await;
    run(include_str!("refusals.py"), &mut f).await;
}

#[tokio::test]
async fn the_aws_cli_copies_syncs_moves_and_removes() {
    let mut f = with_other_stack().await;
    run(include_str!("cli.py"), &mut f).await;
}
