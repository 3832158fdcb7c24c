//! Over the wire, with stock clients: boto3, the AWS CLI, the AWS SDK for JavaScript, rclone and s3cmd.

use super::Fixture;
use crate::stock_clients;

/// Runs a script of this folder that uses boto3, as the operator of one stack, who also knows the keys of another.
pub(super) async fn run(script: &str, f: &mut Fixture) {
    let script = [include_str!("client.py"), script].concat();
    stock_clients::run(&script, environment(f)).await;
}

fn environment(f: &mut Fixture) -> Vec<(&'static str, String)> {
    f.serve();
    keys(f)
}

fn keys(f: &Fixture) -> Vec<(&'static str, String)> {
    stock_clients::two_stacks(f.endpoint, &f.credentials)
}

pub(super) async fn with_other_stack() -> Fixture {
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
async fn boto3_keeps_lists_reads_and_deletes_versions() {
    let mut f = with_other_stack().await;
    run(include_str!("versions.py"), &mut f).await;
}

#[tokio::test]
async fn boto3_tags_objects_and_asks_for_their_attributes() {
    let mut f = with_other_stack().await;
    run(include_str!("tags.py"), &mut f).await;
}

#[tokio::test]
async fn each_condition_that_s3_documents_is_kept() {
    let mut f = with_other_stack().await;
    run(include_str!("conditions.py"), &mut f).await;
}

#[tokio::test]
async fn limits_are_where_s3_has_them() {
    let mut f = with_other_stack().await;
    run(include_str!("limits.py"), &mut f).await;
    // What was cut off or refused has left nothing.
    assert_eq!(f.blobs.list().await.unwrap(), []);
}

#[tokio::test]
async fn boto3_makes_lists_and_deletes_buckets_of_its_stack() {
    let mut f = with_other_stack().await;
    run(include_str!("buckets.py"), &mut f).await;
}

#[tokio::test]
async fn boto3_configures_a_bucket_as_far_as_there_is_something_to_configure() {
    let mut f = with_other_stack().await;
    run(include_str!("configuration.py"), &mut f).await;
}

#[tokio::test]
async fn browsers_are_told_what_pages_of_other_origins_may_do() {
    let mut f = with_other_stack().await;
    run(include_str!("cors.py"), &mut f).await;
}

#[tokio::test]
async fn forms_of_browsers_are_taken_within_their_policy() {
    let mut f = with_other_stack().await;
    run(include_str!("forms.py"), &mut f).await;
}

#[tokio::test]
async fn presigned_urls_are_good_for_what_was_signed_and_while_they_last() {
    let mut f = with_other_stack().await;
    run(include_str!("presigned.py"), &mut f).await;
}

#[tokio::test]
async fn what_no_client_sends_is_refused_and_leaves_nothing() {
    let mut f = Fixture::new().await;
    let body = std::time::Duration::from_millis(500);
    f.serve_within(crate::gateway::Limits { body, ..crate::gateway::Limits::of_this_process() });
    stock_clients::run(include_str!("bad_wire.py"), keys(&f)).await;
    assert_eq!(f.blobs.list().await.unwrap(), [], "bodies that were cut off are gone");
}

#[tokio::test]
async fn lifecycle_rules_come_back_as_they_were_put_and_say_when_objects_go() {
    let mut f = with_other_stack().await;
    run(include_str!("lifecycle.py"), &mut f).await;
}

#[tokio::test]
async fn the_aws_cli_copies_syncs_moves_and_removes() {
    let mut f = with_other_stack().await;
    stock_clients::run(include_str!("cli.py"), environment(&mut f)).await;
}

#[tokio::test]
async fn the_aws_sdk_for_javascript_makes_a_bucket_fills_it_signs_and_deletes_it() {
    let mut f = with_other_stack().await;
    stock_clients::run_node(include_str!("sdk.mjs"), environment(&mut f)).await;
}

#[tokio::test]
async fn rclone_makes_syncs_checks_moves_links_and_purges() {
    let mut f = with_other_stack().await;
    stock_clients::run(include_str!("rclone.py"), environment(&mut f)).await;
}

#[tokio::test]
async fn s3cmd_makes_syncs_describes_moves_signs_and_removes() {
    let mut f = with_other_stack().await;
    stock_clients::run(include_str!("s3cmd.py"), environment(&mut f)).await;
}

/// By default 300 MiB; `TANDEM_TEST_LARGE_OBJECT` names another number of bytes, up to 5 GiB.
#[tokio::test]
async fn a_large_object_takes_no_memory_of_the_cloud() {
    let mut f = with_other_stack().await;
    f.put("warm", vec![1; 10 << 20]).await;
    let before = super::paging::peak(true);
    run(include_str!("large.py"), &mut f).await;
    let added = super::paging::peak(false).saturating_sub(before);
    eprintln!("{before} bytes before, at most {added} more");
    assert!(added < 64 << 20, "{added} bytes more");
}
