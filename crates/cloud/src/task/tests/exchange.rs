//! What runs are given and what they leave.

use serde_json::Value;

use super::*;

async fn answered(script: &str, input: Option<Value>) -> (Scene, Tasks, RunStatus) {
    let scene = Scene::new();
    let task = scene.deploy("job", script, json!({}));
    let tasks = scene.open();
    let id = tasks.run(RunRequest { input, ..request(&task) }).await.unwrap();
    let status = tasks.wait(&id).await.unwrap();
    (scene, tasks, status)
}

#[tokio::test]
async fn a_run_is_a_call_with_an_argument_and_a_result() {
    let input = json!({ "key": "é \" \n", "list": [1, 2.5, null, true] });
    let (scene, tasks, status) = answered("cat $TANDEM_INPUT >$TANDEM_RESULT", Some(input.clone())).await;
    assert_eq!((status.result.as_ref(), status.exit_code), (Some(&input), Some(0)));
    // Whoever asks, and when.
    assert_eq!(tasks.get(&status.id).unwrap(), status);
    let listed = tasks.status(None).unwrap();
    assert_eq!((listed.len(), listed[0].result.as_ref()), (1, None), "a list reads no results");
    tasks.close().await;
    assert_eq!(scene.runtime.list().await.unwrap(), []);
    assert_eq!(scene.open().wait(&status.id).await.unwrap(), status);
}

#[tokio::test]
async fn without_an_input_and_without_a_result_there_are_none() {
    let (scene, tasks, status) = answered("echo ${TANDEM_INPUT-none}; test ! -e $TANDEM_RESULT", None).await;
    assert_eq!((&status.result, status.exit_code), (&None, Some(0)));
    assert_eq!(scene.lines(&tasks, &status.id).await, ["none"]);
}

#[tokio::test]
async fn a_result_that_is_none_fails_the_run_and_says_why() {
    let long = format!("head -c {} /dev/zero >$TANDEM_RESULT", LARGEST.bytes() + 1);
    for (script, why) in [
        ("echo ok >$TANDEM_RESULT", "it is not JSON"),
        (">$TANDEM_RESULT", "it is empty"),
        (long.as_str(), "it has 256 KiB, more than 256 KiB"),
    ] {
        let (scene, tasks, status) = answered(script, None).await;
        let Some(Outcome::BadResult { reason }) = &status.outcome else { panic!("{script}: {status:?}") };
        assert!(reason.starts_with(why), "{reason}");
        assert_eq!((&status.result, status.exit_code), (&None, Some(125)), "{script}");
        let [line] = &scene.lines(&tasks, &status.id).await[..] else { panic!("{script}") };
        assert_eq!(*line, format!("left a result that cannot be used: {reason}"));
    }
}

#[tokio::test]
async fn a_run_that_fails_keeps_its_code_whatever_it_leaves() {
    let (_scene, _, status) = answered("echo '[1]' >$TANDEM_RESULT; exit 3", None).await;
    assert_eq!((status.outcome, status.result), (Some(Outcome::Exited { code: 3 }), Some(json!([1]))));
    let (scene, tasks, status) = answered("echo ok >$TANDEM_RESULT; exit 3", None).await;
    assert_eq!((status.outcome, status.result), (Some(Outcome::Exited { code: 3 }), None));
    let lines = scene.lines(&tasks, &status.id).await;
    assert!(lines.iter().any(|line| line.starts_with("its result is not kept: it is not JSON")), "{lines:?}");
}

#[tokio::test]
async fn a_run_that_was_stopped_or_timed_out_has_no_result() {
    let scene = Scene::new();
    let script = "trap 'exit 0' TERM; echo 1 >$TANDEM_RESULT; sleep 1000 & wait";
    let task = scene.deploy("job", script, json!({ "timeout": 0.5 }));
    let tasks = scene.open();
    let id = tasks.run(request(&task)).await.unwrap();
    let status = tasks.wait(&id).await.unwrap();
    assert_eq!((status.outcome, status.result), (Some(Outcome::TimedOut), None));
}

#[tokio::test]
async fn an_input_that_is_too_large_is_refused_and_one_that_just_fits_is_not() {
    let scene = Scene::new();
    let task = scene.deploy("job", "cat $TANDEM_INPUT >$TANDEM_RESULT", json!({}));
    let tasks = scene.open();
    let of = |length: u64| Some(json!("x".repeat(length as usize - 2)));
    let asked = |length| RunRequest { input: of(length), ..request(&task) };
    let refused = tasks.run(asked(LARGEST.bytes() + 1)).await.unwrap_err();
    assert_eq!(tandem_model::Explain::code(&refused), "E0710");
    assert_eq!(tasks.status(None).unwrap(), [], "there is no run");
    let id = tasks.run(asked(LARGEST.bytes())).await.unwrap();
    assert_eq!(tasks.wait(&id).await.unwrap().result, of(LARGEST.bytes()));
}

#[tokio::test]
async fn inputs_and_results_are_forgotten_with_their_runs() {
    let (scene, tasks, status) = answered("cat $TANDEM_INPUT >$TANDEM_RESULT", Some(json!(7))).await;
    let kept = || {
        let snapshot = scene.store.snapshot().unwrap();
        (store::given(&*snapshot, &status.id).unwrap().input, store::result(&*snapshot, &status.id).unwrap())
    };
    assert_eq!(kept(), (Some("7".to_owned()), Some(json!(7))));
    scene.undeploy("job");
    crate::provider::Provider::settle(&tasks, &urn("job"), &PhysicalId("job".into()), None).await;
    assert_eq!(kept(), (None, None));
}
