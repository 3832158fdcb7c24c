//! Runs of several attempts.

use futures::StreamExt;

use super::*;

fn retries(attempts: u32, backoff: f64) -> serde_json::Value {
    json!({ "retries": { "attempts": attempts, "backoff": backoff } })
}

async fn ended(script: &str, more: serde_json::Value) -> (Scene, Tasks, RunStatus) {
    let scene = Scene::new();
    let task = scene.deploy("job", script, more);
    let tasks = scene.open();
    let id = tasks.run(request(&task)).await.unwrap();
    let status = tasks.wait(&id).await.unwrap();
    (scene, tasks, status)
}

#[tokio::test]
async fn a_run_is_tried_until_an_attempt_succeeds() {
    let script = "echo try $TANDEM_ATTEMPT; [ $TANDEM_ATTEMPT = 3 ] || exit $TANDEM_ATTEMPT";
    let (scene, tasks, status) = ended(script, retries(5, 0.02)).await;
    assert_eq!((status.outcome, status.attempt), (Some(Outcome::Exited { code: 0 }), 3));
    let failed: Vec<_> = status.attempts.iter().map(|attempt| attempt.outcome.exit_code()).collect();
    assert_eq!(failed, [1, 2]);
    assert!(status.attempts[1].ended < status.started.unwrap(), "there was a pause");
    let lines = scene.lines(&tasks, &status.id).await;
    assert_eq!(lines.iter().filter(|line| line.starts_with("try ")).count(), 3, "{lines:?}");
    assert!(lines[1].starts_with("attempt 1 of 5 exited with code 1; the next one in 0.0 s"), "{lines:?}");
    assert_eq!(lines.last().unwrap(), "try 3");
    tasks.close().await;
    assert_eq!(scene.runtime.list().await.unwrap(), []);
}

#[tokio::test]
async fn the_last_attempt_decides_and_its_deadline_is_its_own() {
    // The first attempt's deadline passes while the second one runs.
    let script = "[ $TANDEM_ATTEMPT = 2 ] || exit 1; sleep 3; exit 7";
    let mut more = retries(2, 3.0);
    more["timeout"] = json!(5);
    let (_scene, _, status) = ended(script, more).await;
    assert_eq!((status.outcome, status.attempt), (Some(Outcome::Exited { code: 7 }), 2));
}

#[tokio::test]
async fn a_run_that_timed_out_is_tried_again_and_one_that_could_not_be_started_is_not() {
    let mut more = retries(2, 0.01);
    more["timeout"] = json!(2);
    let (_scene, _, status) = ended("[ $TANDEM_ATTEMPT = 2 ] || sleep 1000", more).await;
    assert_eq!(status.outcome, Some(Outcome::Exited { code: 0 }));
    assert_eq!(status.attempts[0].outcome, Outcome::TimedOut);

    let scene = Scene::new();
    let task = scene.deploy("job", "exit 0", retries(3, 0.01));
    let mut image = scene.shelf.put("busybox", "sha256:busybox");
    image.entrypoint = vec!["/missing/program".into()];
    scene.shelf.images.lock().unwrap().insert("sha256:busybox".into(), image);
    let tasks = scene.open();
    let id = tasks.run(request(&task)).await.unwrap();
    let status = tasks.wait(&id).await.unwrap();
    assert!(
        matches!(status.outcome, Some(Outcome::Failed { .. })) && status.attempts.is_empty(),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_run_that_rests_gives_its_room_to_others_says_so_and_can_be_stopped() {
    let scene = Scene::new();
    let mut more = retries(2, 3600.0);
    more["retries"]["maxBackoff"] = json!(3600);
    more["memoryReservation"] = json!(900);
    let task = scene.deploy("job", "exit 1", more);
    let other = scene.deploy("other", "exit 0", json!({ "memoryReservation": 900 }));
    let tasks = scene.open();
    let id = tasks.run(request(&task)).await.unwrap();
    let mut watched = tasks.shared.live().get(&id).unwrap().record.clone();
    watched.wait_for(|record| record.run.attempt == 2).await.unwrap();
    let status = tasks.get(&id).unwrap();
    assert_eq!((status.state, status.attempt), (RunState::Queued, 2));
    assert!(status.waits.as_ref().unwrap().starts_with("attempt 2 begins at "), "{status:?}");
    let beside = tasks.run(request(&other)).await.unwrap();
    assert!(tasks.wait(&beside).await.unwrap().outcome.unwrap().is_success());
    // It rests on after a restart.
    tasks.close().await;
    let tasks = scene.open();
    assert_eq!(tasks.get(&id).unwrap().attempt, 2);
    let status = tasks.stop(&id).await.unwrap();
    assert_eq!((status.outcome, status.attempt), (Some(Outcome::Stopped), 2));
    assert_eq!(status.attempts[0].outcome, Outcome::Exited { code: 1 });
    tasks.close().await;
    assert_eq!(scene.runtime.list().await.unwrap(), []);
}

#[tokio::test]
async fn who_follows_a_run_follows_all_its_attempts() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = "read go <$GATE; echo in $TANDEM_ATTEMPT; [ $TANDEM_ATTEMPT = 2 ]";
    let task = scene.deploy("job", script, retries(2, 0.05));
    let tasks = scene.open();
    let id = tasks.run(at_gate(&task, &gate)).await.unwrap();
    let runs: Arc<dyn RunLogs> = Arc::new(tasks.clone());
    scene.log.attach_runs(Arc::downgrade(&runs));
    let filter = Filter { id: Some(id.0.clone()), ..Filter::default() };
    let follow = scene.log.follow(filter).await.unwrap();
    gate.open().await;
    // The first attempt may still hold the gate open, and would let the second one's word go unread.
    let mut watched = tasks.shared.live().get(&id).unwrap().record.clone();
    watched.wait_for(|record| record.run.attempt == 2).await.unwrap();
    gate.open().await;
    // Ends by itself, with the last attempt.
    let lines: Vec<_> = follow.map(|line| line.text).collect().await;
    let printed: Vec<_> = lines.iter().filter(|line| line.starts_with("in ")).collect();
    assert_eq!(printed, ["in 1", "in 2"], "{lines:?}");
}

#[tokio::test]
async fn the_logs_of_all_attempts_are_forgotten_together() {
    let (scene, tasks, status) = ended("echo x; exit 1", retries(3, 0.01)).await;
    let files = || -> Vec<String> {
        let folder = std::fs::read_dir(scene.home.containers().join("logs")).unwrap();
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    // Beside each there may be a link to it, which keeps its end.
    let logs = files().iter().filter(|name| name.ends_with(".log")).count();
    assert_eq!((status.attempt, logs), (3, 3));
    scene.undeploy("job");
    crate::provider::Provider::settle(&tasks, &urn("job"), &PhysicalId("job".into()), None).await;
    assert_eq!(files(), [""; 0]);
}
