//! Clouds that close and open again, without a crash in between; those are in `crash`.

use super::*;

#[tokio::test]
async fn a_container_that_runs_across_a_restart_ends_with_its_true_exit_code() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let task = scene.deploy("job", "echo before; read go <$GATE; echo after; exit 7", json!({}));
    let tasks = scene.open();
    let id = tasks.run(at_gate(&task, &gate)).await.unwrap();
    running(&tasks, &id).await;
    tasks.close().await;

    let tasks = scene.open();
    gate.open().await;
    let status = tasks.wait(&id).await.unwrap();
    assert_eq!(status.outcome, Some(Outcome::Exited { code: 7 }));
    assert_eq!(scene.lines(&tasks, &id).await, ["before", "after", "exited with code 7"]);
}

#[tokio::test]
async fn a_container_that_ended_while_there_was_no_cloud_keeps_its_exit_code_past_its_timeout() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let task = scene.deploy("job", "read go <$GATE; exit 7", json!({ "timeout": 1000 }));
    let tasks = scene.open();
    let id = tasks.run(at_gate(&task, &gate)).await.unwrap();
    running(&tasks, &id).await;
    tasks.close().await;
    gate.open().await;
    scene.runtime.wait(&container(&id)).await.unwrap();
    // As if it had been started long ago.
    let mut record = store::get(&*scene.store.snapshot().unwrap(), &id).unwrap().unwrap();
    record.run.phase = core::Phase::Running { started: Timestamp::UNIX_EPOCH, pid: None };
    scene.store.commit(store::advance(&record)).await.unwrap();

    let tasks = scene.open();
    assert_eq!(tasks.wait(&id).await.unwrap().outcome, Some(Outcome::Exited { code: 7 }));
    tasks.close().await;
    assert_eq!(scene.runtime.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_clock_that_is_set_forward_over_a_restart_ends_no_run_before_its_time() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let task = scene.deploy("job", "read go <$GATE; exit 7", json!({ "timeout": 1000 }));
    let tasks = scene.open();
    let id = tasks.run(at_gate(&task, &gate)).await.unwrap();
    running(&tasks, &id).await;
    tasks.close().await;
    // What the record says of the start is long ago by the clock of now.
    let mut record = store::get(&*scene.store.snapshot().unwrap(), &id).unwrap().unwrap();
    let core::Phase::Running { started, pid } = record.run.phase else { panic!("{:?}", record.run.phase) };
    let started = started.checked_sub(jiff::SignedDuration::from_hours(9)).unwrap();
    record.run.phase = core::Phase::Running { started, pid };
    scene.store.commit(store::advance(&record)).await.unwrap();

    let tasks = scene.open();
    running(&tasks, &id).await;
    gate.open().await;
    assert_eq!(tasks.wait(&id).await.unwrap().outcome, Some(Outcome::Exited { code: 7 }));
}

#[tokio::test]
async fn a_run_whose_process_has_just_ended_is_not_timed_out_by_the_clock() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let task = scene.deploy("job", "read go <$GATE; exit 7", json!({ "timeout": 1000 }));
    let tasks = scene.open();
    let id = tasks.run(at_gate(&task, &gate)).await.unwrap();
    running(&tasks, &id).await;
    tasks.close().await;
    // The process is gone, and what waits for it has not said so yet.
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    let pid = i32::try_from(gone.id()).unwrap();
    gone.wait().unwrap();
    let mut record = store::get(&*scene.store.snapshot().unwrap(), &id).unwrap().unwrap();
    record.run.phase = core::Phase::Running { started: Timestamp::UNIX_EPOCH, pid: Some(pid) };
    scene.store.commit(store::advance(&record)).await.unwrap();

    let tasks = scene.open();
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.open().await;
    assert_eq!(tasks.wait(&id).await.unwrap().outcome, Some(Outcome::Exited { code: 7 }));
}

#[tokio::test]
async fn a_timeout_that_passed_while_there_was_no_cloud_ends_the_run() {
    let scene = Scene { grace: Duration::from_millis(50), ..Scene::new() };
    let gate = scene.gate("gate");
    let task = scene.deploy("job", "read go <$GATE; exec sleep 1000", json!({ "timeout": 0.3 }));
    let tasks = scene.open();
    let id = tasks.run(at_gate(&task, &gate)).await.unwrap();
    running(&tasks, &id).await;
    let record = store::get(&*scene.store.snapshot().unwrap(), &id).unwrap().unwrap();
    tasks.close().await;
    let core::Phase::Running { pid: Some(pid), .. } = record.run.phase else {
        panic!("{:?}", record.run.phase)
    };
    while age::of_process(pid).unwrap() < Duration::from_millis(400) {
        tokio::task::yield_now().await;
    }
    let tasks = scene.open();
    assert_eq!(tasks.wait(&id).await.unwrap().outcome, Some(Outcome::TimedOut));
}

#[tokio::test]
async fn a_run_is_lost_only_if_its_monitor_died() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let task = scene.deploy("job", "read go <$GATE", json!({}));
    let tasks = scene.open();
    let id = tasks.run(at_gate(&task, &gate)).await.unwrap();
    running(&tasks, &id).await;
    scene.runtime.kill_monitor(&container(&id));
    assert_eq!(tasks.wait(&id).await.unwrap().outcome, Some(Outcome::Lost { full_disk: false }));
}

#[tokio::test]
async fn what_runs_already_counts_before_anything_new_starts() {
    let scene = Scene::new();
    let (first_gate, second_gate) = (scene.gate("first"), scene.gate("second"));
    let task = scene.deploy("job", "read go <$GATE", json!({ "memoryReservation": 600 }));
    let tasks = scene.open();
    let first = tasks.run(at_gate(&task, &first_gate)).await.unwrap();
    running(&tasks, &first).await;
    let second = tasks.run(at_gate(&task, &second_gate)).await.unwrap();
    tasks.close().await;

    let tasks = scene.open();
    first_gate.open().await;
    second_gate.open().await;
    let (first, second) = (tasks.wait(&first).await.unwrap(), tasks.wait(&second).await.unwrap());
    assert!(second.started >= first.ended, "{first:?} {second:?}");
}

#[tokio::test]
async fn a_container_that_no_record_knows_is_ended_and_removed() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let task = scene.deploy("job", "read go <$GATE", json!({}));
    let stranger = ContainerId("00112233445566778899".into());
    let spec = tandem_container::Spec {
        image: "sha256:busybox".into(),
        args: ["sh", "-c", "sleep 1000"].map(str::to_owned).into(),
        environment: [("PATH".to_owned(), std::env::var("PATH").unwrap())].into(),
        working_dir: "/".into(),
        user: String::new(),
        memory: None,
        cpu: None,
        cpu_set: None,
        devices: Vec::new(),
        network: None,
        volumes: vec![],
        exchange: None,
        storage: None,
        labels: BTreeMap::new(),
    };
    scene.runtime.start(&stranger, &spec).await.unwrap();
    let before = scene.open();
    let known = before.run(at_gate(&task, &gate)).await.unwrap();
    running(&before, &known).await;
    before.close().await;
    // What the first start had no time for, the next one does.
    let after = scene.open();
    while scene.runtime.list().await.unwrap() != [container(&known)] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gate.open().await;
    assert!(after.wait(&known).await.unwrap().outcome.unwrap().is_success());
}

#[tokio::test]
async fn runs_of_a_task_that_was_deleted_right_before_a_crash_are_ended_and_forgotten() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let task = scene.deploy("job", "read go <$GATE", json!({}));
    let tasks = scene.open();
    let id = tasks.run(at_gate(&task, &gate)).await.unwrap();
    running(&tasks, &id).await;
    tasks.close().await;
    scene.undeploy("job");
    let tasks = scene.open();
    // Its end is seen, and then nothing is.
    let _ = tasks.wait(&id).await;
    while tasks.get(&id).is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(scene.runtime.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_stop_that_was_asked_before_the_restart_is_seen_through_after_it() {
    let scene = Scene { grace: Duration::from_millis(50), ..Scene::new() };
    let gate = scene.gate("gate");
    let task = scene.deploy("job", "trap '' TERM; read go <$GATE; sleep 1000", json!({}));
    let tasks = scene.open();
    let id = tasks.run(at_gate(&task, &gate)).await.unwrap();
    gate.open().await;
    running(&tasks, &id).await;
    tasks.close().await;
    let mut record = store::get(&*scene.store.snapshot().unwrap(), &id).unwrap().unwrap();
    record.run.ending = Some(core::Ending::Stop);
    scene.store.commit(store::advance(&record)).await.unwrap();

    let tasks = scene.open();
    assert_eq!(tasks.wait(&id).await.unwrap().outcome, Some(Outcome::Stopped));
}
