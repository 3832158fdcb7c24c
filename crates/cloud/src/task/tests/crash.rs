//! Kills a cloud with -9 at each of its commit points and looks at what the next one makes of it.

use std::{
    env,
    process::{Command, Stdio},
};

use tandem_store::{Options, RedbStore};

use super::*;

const FOLDER: &str = "TANDEM_TASK_CRASH_FOLDER";
const SCRIPT: &str = "TANDEM_TASK_CRASH_SCRIPT";
/// So many attempts, without a pause worth waiting for.
const ATTEMPTS: &str = "TANDEM_TASK_CRASH_ATTEMPTS";

fn scene(folder: &Path) -> Scene {
    let options = Options { keep_free: ByteSize(0), ..Options::default() };
    let store = RedbStore::open(folder.join("store.redb"), options).unwrap();
    Scene { grace: Duration::from_millis(50), ..Scene::at(folder, Arc::new(store)) }
}

fn keyed(task: &Urn) -> RunRequest {
    RunRequest { key: Some("delivery-1/0".into()), input: Some(json!({ "n": 1 })), ..request(task) }
}

/// The cloud that is killed: accepts one run and waits for its end, or stops it.
#[tokio::test]
#[ignore = "started by the other tests of this file"]
async fn cloud() {
    let (Some(folder), Ok(script)) = (env::var_os(FOLDER), env::var(SCRIPT)) else { return };
    let scene = scene(Path::new(&folder));
    let attempts = env::var(ATTEMPTS).unwrap().parse().unwrap();
    let task = scene.deploy("job", &script, retries(attempts));
    let tasks = scene.open();
    let id = tasks.run(keyed(&task)).await.unwrap();
    if script.contains("sleep") {
        tasks.stop(&id).await.unwrap();
    }
    tasks.wait(&id).await.unwrap();
    tasks.close().await;
    scene.undeploy("job");
    crate::provider::Provider::settle(&tasks, &task, &PhysicalId("job".into()), None).await;
}

fn retries(attempts: u32) -> serde_json::Value {
    json!({ "retries": { "attempts": attempts, "backoff": 0.01 } })
}

fn killed_at(failpoint: &str, folder: &Path, script: &str) {
    killed_in_one_of(1, failpoint, folder, script);
}

fn killed_in_one_of(attempts: u32, failpoint: &str, folder: &Path, script: &str) {
    let status = Command::new(env::current_exe().unwrap())
        .args(["task::tests::crash::cloud", "--exact", "--ignored", "--nocapture"])
        .env(tandem_failpoint::VARIABLE, failpoint)
        .env(FOLDER, folder)
        .env(SCRIPT, script)
        .env(ATTEMPTS, attempts.to_string())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{failpoint} was not met: {status}");
}

// I3, I4
async fn runs_once_and_ends_truly(failpoint: &str) {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "echo x >>{}; echo one; echo two; cat $TANDEM_INPUT >$TANDEM_RESULT; exit 7",
        folder.path().join("starts").display()
    );
    killed_at(failpoint, folder.path(), &script);

    let scene = scene(folder.path());
    let task = scene.deploy("job", &script, json!({}));
    let tasks = scene.open();
    // Its event is delivered again.
    let id = tasks.run(keyed(&task)).await.unwrap();
    let status = tasks.wait(&id).await.unwrap();
    assert_eq!(status.outcome, Some(Outcome::Exited { code: 7 }), "{failpoint}");
    assert_eq!(status.result, Some(json!({ "n": 1 })), "{failpoint}");
    assert_eq!(std::fs::read_to_string(scene.path("starts")).unwrap(), "x\n", "{failpoint}: started once");
    let lines = scene.lines(&tasks, &id).await;
    assert_eq!(lines[..2], ["one", "two"], "{failpoint}");
    assert_eq!(tasks.status(None).unwrap().len(), 1, "{failpoint}");
    tasks.close().await;
    assert_eq!(scene.runtime.list().await.unwrap(), [], "{failpoint}: nothing is left");
}

#[tokio::test]
async fn killed_after_the_run_was_accepted_starts_it() {
    runs_once_and_ends_truly("task.run.committed").await;
}

#[tokio::test]
async fn killed_after_the_container_was_created_takes_it_over() {
    runs_once_and_ends_truly("task.container.created").await;
}

#[tokio::test]
async fn killed_after_the_start_was_recorded_waits_for_the_end() {
    runs_once_and_ends_truly("task.run.started-committed").await;
}

#[tokio::test]
async fn killed_before_the_outcome_is_recorded_records_the_true_one() {
    runs_once_and_ends_truly("task.exit.observed").await;
}

#[tokio::test]
async fn killed_before_a_result_is_recorded_finds_it_again() {
    runs_once_and_ends_truly("task.result.read").await;
}

#[tokio::test]
async fn killed_before_the_container_is_removed_removes_it() {
    runs_once_and_ends_truly("task.run.ended-committed").await;
}

#[tokio::test]
async fn killed_while_it_stops_a_run_stops_it_after_the_restart() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trap '' TERM; sleep 1000";
    killed_at("task.stop.committed", folder.path(), script);
    let scene = scene(folder.path());
    let task = scene.deploy("job", script, json!({}));
    let tasks = scene.open();
    let id = tasks.run(keyed(&task)).await.unwrap();
    assert_eq!(tasks.wait(&id).await.unwrap().outcome, Some(Outcome::Stopped));
    tasks.close().await;
    assert_eq!(scene.runtime.list().await.unwrap(), []);
}

#[tokio::test]
async fn killed_while_it_forgets_runs_forgets_them_after_the_restart() {
    let folder = tempfile::tempdir().unwrap();
    killed_at("task.logs.removed", folder.path(), "exit 0");
    let scene = scene(folder.path());
    assert_eq!(store::tasks(&*scene.store.snapshot().unwrap(), None).unwrap(), [urn("job")]);
    let tasks = scene.open();
    tasks.close().await;
    assert_eq!(store::tasks(&*scene.store.snapshot().unwrap(), None).unwrap(), []);
    assert_eq!(tasks.status(None).unwrap(), []);
}

/// I3: of three attempts the third succeeds, and each is started once, wherever the cloud is killed.
async fn tries_each_attempt_once(failpoint: &str) {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts").display().to_string();
    let script = format!(
        "echo $TANDEM_ATTEMPT >>{starts}; echo attempt $TANDEM_ATTEMPT; echo $TANDEM_ATTEMPT >$TANDEM_RESULT; \
         [ $TANDEM_ATTEMPT = 3 ]"
    );
    killed_in_one_of(3, failpoint, folder.path(), &script);

    let scene = scene(folder.path());
    let task = scene.deploy("job", &script, retries(3));
    let tasks = scene.open();
    let id = tasks.run(keyed(&task)).await.unwrap();
    let status = tasks.wait(&id).await.unwrap();
    assert_eq!(
        (status.outcome, status.result),
        (Some(Outcome::Exited { code: 0 }), Some(json!(3))),
        "{failpoint}"
    );
    let failed: Vec<_> = status.attempts.into_iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(failed, [Outcome::Exited { code: 1 }, Outcome::Exited { code: 1 }], "{failpoint}");
    assert_eq!(std::fs::read_to_string(scene.path("starts")).unwrap(), "1\n2\n3\n", "{failpoint}");
    let lines = scene.lines(&tasks, &id).await;
    let printed: Vec<_> = lines.iter().filter(|line| !line.contains("the next one in")).collect();
    assert_eq!(printed, ["attempt 1", "attempt 2", "attempt 3"], "{failpoint}: {lines:?}");
    tasks.close().await;
    assert_eq!(scene.runtime.list().await.unwrap(), [], "{failpoint}: nothing is left");
}

#[tokio::test]
async fn killed_between_attempts_goes_on_with_the_next() {
    tries_each_attempt_once("task.run.retry-committed").await;
    tries_each_attempt_once("task.run.retry-committed@2").await;
    tries_each_attempt_once("task.retry.discarded").await;
}

#[tokio::test]
async fn killed_before_the_end_of_an_attempt_is_recorded_finds_that_it_ended() {
    tries_each_attempt_once("task.exit.observed").await;
    tries_each_attempt_once("task.result.read@2").await;
}

#[tokio::test]
async fn killed_while_a_further_attempt_starts_does_not_start_it_twice() {
    tries_each_attempt_once("task.container.created@2").await;
    tries_each_attempt_once("task.run.started-committed@3").await;
}

#[tokio::test]
async fn killed_when_the_last_attempt_has_ended_records_or_keeps_its_outcome() {
    tries_each_attempt_once("task.exit.observed@3").await;
    tries_each_attempt_once("task.run.ended-committed").await;
}
