//! Runs from their request to their end.

use super::*;

async fn outcome_of(script: &str, more: serde_json::Value) -> (Scene, Tasks, RunStatus) {
    let scene = Scene::new();
    let task = scene.deploy("job", script, more);
    let tasks = scene.open();
    let id = tasks.run(request(&task)).await.unwrap();
    let status = tasks.wait(&id).await.unwrap();
    (scene, tasks, status)
}

#[tokio::test]
async fn a_run_ends_with_its_exit_code_and_its_whole_log() {
    let (scene, tasks, status) = outcome_of("echo one; echo two; exit 7", json!({})).await;
    assert_eq!(status.outcome, Some(Outcome::Exited { code: 7 }));
    assert_eq!((status.state, status.exit_code), (RunState::Ended, Some(7)));
    assert!(status.accepted <= status.started.unwrap() && status.started <= status.ended);
    assert_eq!(scene.lines(&tasks, &status.id).await, ["one", "two", "exited with code 7"]);
    tasks.close().await;
    assert_eq!(scene.runtime.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_run_tells_when_it_reached_each_stage_also_after_a_restart() {
    let (scene, tasks, status) = outcome_of("exit 0", json!({})).await;
    let Stages { admitted, mounted, created } = status.stages;
    let times = [Some(status.accepted), admitted, mounted, created, status.started, status.ended];
    assert!(times.iter().all(Option::is_some) && times.is_sorted(), "{times:?}");
    tasks.close().await;
    assert_eq!(scene.open().get(&status.id).unwrap(), status);
}

#[tokio::test]
async fn a_failure_names_the_run_and_ends_with_what_it_printed_last() {
    let (_scene, tasks, status) = outcome_of("for i in $(seq 30); do echo $i; done; exit 7", json!({})).await;
    let error = format!("run `{}` of task/job exited with code 7", status.id);
    assert_eq!(status.error.as_deref(), Some(&*error));
    assert_eq!((status.log_tail.len(), &*status.log_tail[19]), (20, "30"));
    assert_eq!(tasks.get(&status.id).unwrap().log_tail, [""; 0], "only who waits is told");
    let (_scene, _, status) = outcome_of("echo fine", json!({})).await;
    assert_eq!((status.error, status.log_tail), (None, vec![]));
}

#[tokio::test]
async fn the_container_gets_image_cloud_task_and_run_variables() {
    let scene = Scene::new();
    let task = scene.deploy(
        "job",
        "echo $FROM_IMAGE $AWS_ACCESS_KEY_ID $LEVEL $WORD $TANDEM_RUN_ID $TRACEPARENT",
        json!({ "environment": { "LEVEL": "task", "WORD": "task" } }),
    );
    let tasks = scene.open();
    let asked = RunRequest {
        environment: [("WORD".to_owned(), "run".to_owned())].into(),
        traceparent: Some("00-trace-01".into()),
        ..request(&task)
    };
    let id = tasks.run(asked).await.unwrap();
    tasks.wait(&id).await.unwrap();
    assert_eq!(scene.lines(&tasks, &id).await, [format!("yes key-of-job task run {id} 00-trace-01")]);
}

#[tokio::test]
async fn a_timeout_is_told_apart() {
    let (scene, tasks, status) = outcome_of("sleep 1000", json!({ "timeout": 0.05 })).await;
    assert_eq!(status.outcome, Some(Outcome::TimedOut));
    assert_eq!(status.exit_code, Some(124));
    assert_eq!(scene.lines(&tasks, &status.id).await, ["timed out"]);
}

#[tokio::test]
async fn running_out_of_memory_is_told_apart_from_being_killed() {
    let (_scene, _, status) = outcome_of("touch $CONTAINER/oom; kill -9 $$", json!({})).await;
    assert_eq!(status.outcome, Some(Outcome::OutOfMemory { code: 137 }));
    let (_scene, _, status) = outcome_of("kill -9 $$", json!({})).await;
    assert_eq!(status.outcome, Some(Outcome::Exited { code: 137 }));
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let scene = Scene::new();
    let task = scene.deploy("job", "exit 0", json!({}));
    let mut image = scene.shelf.put("busybox", "sha256:busybox");
    image.entrypoint = vec!["/missing/program".into()];
    scene.shelf.images.lock().unwrap().insert("sha256:busybox".into(), image);
    let tasks = scene.open();
    let id = tasks.run(request(&task)).await.unwrap();
    let status = tasks.wait(&id).await.unwrap();
    let Some(Outcome::Failed { error }) = status.outcome else { panic!("{status:?}") };
    assert_eq!((error.code.as_str(), status.exit_code), ("E0405", Some(125)));
    let [line] = &scene.lines(&tasks, &id).await[..] else { panic!() };
    assert!(line.contains("failed to start") && line.contains("/missing/program"), "{line}");
}

#[tokio::test]
async fn a_stopped_run_may_end_by_itself_first() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = "trap 'echo bye; exit 3' TERM; read go <$GATE; echo ready; sleep 1000 & wait";
    let task = scene.deploy("job", script, json!({}));
    let tasks = scene.open();
    let id = tasks.run(at_gate(&task, &gate)).await.unwrap();
    gate.open().await;
    assert_eq!(tasks.get(&id).unwrap().state, RunState::Running);
    let mut follow = {
        scene.lines(&tasks, &id).await;
        let runs: Arc<dyn RunLogs> = Arc::new(tasks.clone());
        let log = Log::open(&scene.home).unwrap();
        log.attach_runs(Arc::downgrade(&runs));
        let filter = Filter { id: Some(id.0.clone()), ..Filter::default() };
        let follow = log.follow(filter).await.unwrap();
        (follow, runs, log)
    };
    use futures::StreamExt;
    assert_eq!(follow.0.next().await.unwrap().text, "ready");
    let status = tasks.stop(&id).await.unwrap();
    assert_eq!(status.outcome, Some(Outcome::Stopped));
    assert_eq!(follow.0.next().await.unwrap().text, "bye");
    // Once more changes nothing.
    assert_eq!(tasks.stop(&id).await.unwrap(), status);
}

#[tokio::test]
async fn a_run_that_does_not_heed_the_signal_is_killed_after_the_grace() {
    let scene = Scene { grace: Duration::from_millis(50), ..Scene::new() };
    let gate = scene.gate("gate");
    let task = scene.deploy("job", "trap '' TERM; read go <$GATE; while :; do sleep 1000; done", json!({}));
    let tasks = scene.open();
    let id = tasks.run(at_gate(&task, &gate)).await.unwrap();
    gate.open().await;
    assert_eq!(tasks.stop(&id).await.unwrap().outcome, Some(Outcome::Stopped));
}

#[tokio::test]
async fn runs_wait_for_memory_in_the_order_of_their_acceptance() {
    let scene = Scene::new();
    let (first_gate, second_gate) = (scene.gate("first"), scene.gate("second"));
    let task = scene.deploy("job", "read go <$GATE", json!({ "memoryReservation": 600 }));
    let tasks = scene.open();
    let first = tasks.run(at_gate(&task, &first_gate)).await.unwrap();
    let second = tasks.run(at_gate(&task, &second_gate)).await.unwrap();
    let third = tasks.run(at_gate(&task, &second_gate)).await.unwrap();
    running(&tasks, &first).await;
    let why = |id| tasks.get(id).unwrap().waits;
    assert_eq!(why(&second).as_deref(), Some("needs 600 MiB; 424 MiB and 2 cores free"));
    assert_eq!(why(&third).as_deref(), Some("behind 1 other run"));
    let listed: Vec<RunId> = tasks.status(None).unwrap().into_iter().map(|run| run.id).collect();
    assert_eq!(listed, [third.clone(), second.clone(), first.clone()]);
    // One that waits is stopped without ever starting.
    assert_eq!(tasks.stop(&third).await.unwrap().started, None);
    first_gate.open().await;
    second_gate.open().await;
    let (first, second) = (tasks.wait(&first).await.unwrap(), tasks.wait(&second).await.unwrap());
    assert!(second.started >= first.ended);
}

#[tokio::test]
async fn a_run_that_can_never_fit_is_refused() {
    let scene = Scene::new();
    let task = scene.deploy("job", "exit 0", json!({ "memoryReservation": 2048 }));
    let tasks = scene.open();
    let refused = tasks.run(request(&task)).await.unwrap_err();
    assert_eq!(tandem_model::Explain::code(&refused), "E0703");
    let expected = "a run of task/job sets aside 2 GiB, and this machine gives 1 GiB and 2 cores in all";
    assert_eq!(refused.to_string(), expected);
    let greedy = scene.deploy("greedy", "exit 0", json!({ "cpu": 3 }));
    assert!(matches!(tasks.run(request(&greedy)).await, Err(RunError::NeverFits { .. })));
    let missing = tasks.run(request(&urn("missing"))).await.unwrap_err();
    assert_eq!(missing.to_string(), "there is no task/missing");
    assert!(matches!(tasks.get(&RunId("nobody".into())), Err(RunError::NoRun(_))));
}

// I4
#[tokio::test]
async fn a_key_finds_its_run_however_often_and_whatever_became_of_it() {
    let scene = Scene::new();
    let starts = scene.path("starts");
    let task = scene.deploy("job", &format!("echo x >>{}; exit 1", starts.display()), json!({}));
    let tasks = scene.open();
    let keyed = || RunRequest { key: Some("delivery-1/0".into()), ..request(&task) };
    let at_once = futures::future::join_all((0..8).map(|_| tasks.run(keyed()))).await;
    let ids: std::collections::HashSet<RunId> = at_once.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids.len(), 1);
    let id = ids.into_iter().next().unwrap();
    tasks.wait(&id).await.unwrap();
    assert_eq!(tasks.run(keyed()).await.unwrap(), id);
    // Also when the task is gone.
    scene.undeploy("job");
    assert_eq!(tasks.run(keyed()).await.unwrap(), id);
    assert_eq!(std::fs::read_to_string(starts).unwrap(), "x\n");
}

#[tokio::test]
async fn a_deleted_task_takes_its_runs_and_their_logs_with_it() {
    use crate::provider::Provider;
    let scene = Scene::new();
    let task = scene.deploy("job", "echo here; sleep 1000", json!({}));
    let other = scene.deploy("other", "exit 0", json!({}));
    let tasks = scene.open();
    let kept = tasks.run(request(&other)).await.unwrap();
    tasks.wait(&kept).await.unwrap();
    let id = tasks.run(request(&task)).await.unwrap();
    scene.undeploy("job");
    tasks.settle(&task, &PhysicalId("job".into()), None).await;
    assert!(matches!(tasks.get(&id), Err(RunError::NoRun(_))));
    assert_eq!(scene.runtime.list().await.unwrap(), []);
    assert!(!scene.runtime.log_file(&container(&id)).exists());
    assert_eq!(tasks.status(None).unwrap().len(), 1);
}

#[tokio::test]
async fn of_many_runs_the_last_are_kept_and_old_keys_are_still_found() {
    let scene = Scene::new();
    let task = scene.deploy("job", "exit 0", json!({}));
    let tasks = scene.open();
    let oldest = RunRequest { key: Some("oldest".into()), ..request(&task) };
    let keyed = tasks.run(oldest.clone()).await.unwrap();
    tasks.wait(&keyed).await.unwrap();
    let second = tasks.run(request(&task)).await.unwrap();
    tasks.wait(&second).await.unwrap();
    // Ended runs as they would be written, without the time it takes to run them.
    let template = store::get(&*scene.store.snapshot().unwrap(), &second).unwrap().unwrap();
    for n in 0..250 {
        let accepted = template.accepted + jiff::SignedDuration::from_millis(n + 1);
        let record = Record { id: RunId::random(), accepted, ..template.clone() };
        scene.store.commit(store::accept(&record, &Exchange::default())).await.unwrap();
        scene.store.commit(store::advance(&record)).await.unwrap();
    }
    let excess = |now| store::excess(&*scene.store.snapshot().unwrap(), &task, now, false).unwrap();
    assert!(excess(Timestamp::now()).logs.contains(&container(&second)));
    let last = tasks.run(request(&task)).await.unwrap();
    tasks.wait(&last).await.unwrap();
    tasks.close().await;

    let kept = store::of_task(&*scene.store.snapshot().unwrap(), &task, usize::MAX).unwrap();
    assert_eq!(kept.len(), store::KEPT);
    assert!(!scene.runtime.log_file(&container(&second)).exists());
    assert!(!scene.runtime.log_file(&container(&keyed)).exists());
    assert!(matches!(tasks.get(&second), Err(RunError::NoRun(_))));
    assert_eq!(tasks.run(oldest).await.unwrap(), keyed);
    // After a day it is forgotten, too; but only when there is something to forget at all.
    let mut later = Timestamp::now() + store::SPENT_AFTER;
    for n in 0..30 {
        later += jiff::SignedDuration::from_millis(1);
        let record = Record { id: RunId(format!("later{n}")), accepted: later, ..template.clone() };
        scene.store.commit(store::accept(&record, &Exchange::default())).await.unwrap();
        scene.store.commit(store::advance(&record)).await.unwrap();
    }
    scene.store.commit(excess(later).batch).await.unwrap();
    assert!(store::get(&*scene.store.snapshot().unwrap(), &keyed).unwrap().is_none());
}

#[tokio::test]
async fn no_more_of_a_task_run_at_once_than_it_allows() {
    let scene = Scene::new();
    let (first_gate, second_gate) = (scene.gate("first"), scene.gate("second"));
    let task = scene.deploy("job", "read go <$GATE", json!({ "concurrency": 1 }));
    let other = scene.deploy("other", "exit 0", json!({}));
    let tasks = scene.open();
    let first = tasks.run(at_gate(&task, &first_gate)).await.unwrap();
    running(&tasks, &first).await;
    let second = tasks.run(at_gate(&task, &second_gate)).await.unwrap();
    assert_eq!(tasks.get(&second).unwrap().waits.as_deref(), Some("1 run of its task at once"));
    // Others are not held up.
    let passing = tasks.run(request(&other)).await.unwrap();
    assert!(tasks.wait(&passing).await.unwrap().outcome.unwrap().is_success());
    // A restart finds the one running and the other waiting.
    tasks.close().await;
    let tasks = scene.open();
    first_gate.open().await;
    second_gate.open().await;
    let (first, second) = (tasks.wait(&first).await.unwrap(), tasks.wait(&second).await.unwrap());
    assert!(second.started >= first.ended, "{first:?} {second:?}");
}

#[tokio::test]
async fn a_run_with_a_higher_priority_goes_first() {
    let scene = Scene::new();
    let gates = ["first", "low", "high"].map(|name| scene.gate(name));
    let low = scene.deploy("low", "read go <$GATE", json!({ "memoryReservation": 600 }));
    let high = scene.deploy("high", "read go <$GATE", json!({ "memoryReservation": 600, "priority": 1 }));
    let tasks = scene.open();
    let first = tasks.run(at_gate(&low, &gates[0])).await.unwrap();
    running(&tasks, &first).await;
    let late = tasks.run(at_gate(&low, &gates[1])).await.unwrap();
    let early = tasks.run(at_gate(&high, &gates[2])).await.unwrap();
    assert_eq!(tasks.get(&late).unwrap().waits.as_deref(), Some("behind 1 other run"));
    for gate in [&gates[0], &gates[2], &gates[1]] {
        gate.open().await;
    }
    let (early, late) = (tasks.wait(&early).await.unwrap(), tasks.wait(&late).await.unwrap());
    assert!(late.started >= early.ended, "{early:?} {late:?}");
}

#[tokio::test]
async fn a_device_that_is_not_there_is_named_when_a_run_asks_for_it() {
    let scene = Scene::new();
    let task = scene.deploy("job", "exit 0", json!({ "devices": [{ "path": "/dev/no-such" }] }));
    let refused = scene.open().run(request(&task)).await.unwrap_err();
    assert_eq!(refused.to_string(), "task/job: this machine has no device `/dev/no-such`");
}
