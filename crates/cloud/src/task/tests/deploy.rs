//! Tasks as resources and as consumers.

use super::*;
use crate::{
    dispatch::{Consumer, Delivery, Undelivered},
    provider::{Lines, Provider},
};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tandem_model::{Report, event::Event, plan::Change, resource::Properties};

#[derive(Default)]
struct Shown(Mutex<Vec<String>>);

impl Lines for Shown {
    fn line(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
}

impl Scene {
    /// Stores a build context, as `up` does, and answers the inputs of a task that is built from it.
    pub(super) fn context(&self, dockerfile: &str) -> Properties {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(dockerfile.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, "Dockerfile", dockerfile.as_bytes()).unwrap();
        let bytes = archive.into_inner().unwrap();
        let hex = HEXLOWER.encode(&Sha256::digest(&bytes));
        std::fs::create_dir_all(self.home.archives()).unwrap();
        std::fs::write(self.home.archives().join(&hex), bytes).unwrap();
        let build = json!({ "folder": "./image", "context": format!("sha256:{hex}") });
        json!({ "build": build }).as_object().unwrap().clone()
    }
}

pub(super) async fn create(
    tasks: &Tasks,
    name: &str,
    inputs: Properties,
) -> Result<(Properties, Vec<String>), Report> {
    let lines = Shown::default();
    let change = Change::Create { urn: urn(name), inputs };
    let outputs = tasks.prepare(&change, &PhysicalId(format!("shop-dev-{name}")), &lines).await?;
    Ok((outputs, lines.0.into_inner().unwrap()))
}

#[tokio::test]
async fn the_same_content_is_built_once_and_again_when_its_base_or_its_image_changed() {
    let scene = Scene::new();
    scene.shelf.put("base", "sha256:base1");
    let tasks = scene.open();
    let inputs = scene.context("FROM base\nRUN true\n");
    let (outputs, lines) = create(&tasks, "one", inputs.clone()).await.unwrap();
    let expected = json!({ "id": "shop-dev-one", "image": "sha256:built1", "name": "one" });
    assert_eq!(serde_json::Value::Object(outputs), expected);
    assert_eq!(lines, ["STEP 1/1"]);

    let both = tokio::join!(create(&tasks, "one", inputs.clone()), create(&tasks, "two", inputs.clone()));
    for result in [both.0, both.1] {
        assert_eq!(result.unwrap().0["image"], "sha256:built1");
    }
    scene.shelf.put("base", "sha256:base2");
    assert_eq!(create(&tasks, "one", inputs.clone()).await.unwrap().0["image"], "sha256:built2");
    scene.shelf.remove(&ImageRef("sha256:built2".into())).await.unwrap();
    assert_eq!(create(&tasks, "one", inputs).await.unwrap().0["image"], "sha256:built3");
    let left = std::fs::read_dir(crate::image::context::scratch(&scene.home)).unwrap().count();
    assert_eq!(left, 0, "unpacked contexts are removed");
}

#[tokio::test]
async fn an_image_that_is_gone_with_all_that_was_known_of_it_is_made_again_once() {
    let scene = Scene::new();
    scene.shelf.put("base", "sha256:base1");
    let tasks = scene.open();
    let inputs = scene.context("FROM base\nRUN true\n");
    let (outputs, _) = create(&tasks, "one", inputs.clone()).await.unwrap();
    scene.resources.put(Recorded {
        urn: urn("one"),
        id: PhysicalId("shop-dev-one".into()),
        inputs,
        outputs,
        depends_on: vec![],
    });
    scene.shelf.remove(&ImageRef("sha256:built1".into())).await.unwrap();
    let mut batch = tandem_store::Batch::default();
    for entry in scene.store.snapshot().unwrap().prefix(b"task/").unwrap() {
        let row = entry.unwrap().0;
        assert!(crate::image::is_of_this_machine(&row), "{}", row.escape_ascii());
        batch.delete(row);
    }
    scene.store.commit(batch).await.unwrap();
    for _ in 0..2 {
        let id = tasks.run(request(&urn("one"))).await.unwrap();
        let record = store::get(&*scene.store.snapshot().unwrap(), &id).unwrap().unwrap();
        assert_eq!(record.spec.image, "sha256:built2");
    }
    assert_eq!(scene.shelf.builds.load(Ordering::SeqCst), 2);
    tasks.close().await;
}

#[tokio::test]
async fn what_cannot_be_deployed_says_what_is_wrong() {
    let scene = Scene::new();
    scene.shelf.put("base", "sha256:base1");
    let tasks = scene.open();
    let code = async |inputs: Properties| create(&tasks, "job", inputs).await.unwrap_err();
    let properties = |json: serde_json::Value| json.as_object().unwrap().clone();
    assert_eq!(code(properties(json!({}))).await.code, "E0707");
    assert_eq!(code(properties(json!({ "image": "base", "cpu": -1.0 }))).await.code, "E0707");
    assert_eq!(code(properties(json!({ "image": "base", "timeout": 0.0 }))).await.code, "E0707");
    assert_eq!(code(properties(json!({ "image": "base", "memory": "1KiB" }))).await.code, "E0707");
    assert_eq!(code(properties(json!({ "image": "base", "memroy": 1 }))).await.code, "E0707");
    assert_eq!(code(properties(json!({ "image": "nowhere" }))).await.code, "E0403");
    let based = code(scene.context("# alone\nFROM nowhere\n")).await;
    assert_eq!((based.code.as_str(), &based.causes[..]), ("E0403", &["not here".to_owned()][..]));
    assert_eq!(based.message, "there is no image `nowhere`, which ./image/Dockerfile:2 starts from");
    let failed = code(scene.context("FROM base\nRUN false\n")).await;
    assert_eq!((failed.code.as_str(), &failed.causes[..]), ("E0402", &["nope".to_owned()][..]));
    let gone = json!({ "build": { "folder": "./x", "context": format!("sha256:{}", "0".repeat(64)) } });
    assert_eq!(code(properties(gone)).await.code, "E0709");
    let (_, lines) = create(&tasks, "job", properties(json!({ "image": "base", "memoryReservation": 9999 })))
        .await
        .unwrap();
    assert!(lines[0].starts_with("warning: a run sets aside 9.8 GiB"), "{lines:?}");
}

fn delivery(task: &Urn, attempt: u32) -> Delivery {
    let event = Event {
        specversion: Default::default(),
        id: "e1".into(),
        source: "urn:tandem:shop:dev:bucket:b".into(),
        kind: tandem_model::event::OBJECT_PUT.into(),
        subject: Some("cat.mp4".into()),
        time: Timestamp::UNIX_EPOCH,
        traceparent: Some("00-trace-01".into()),
        datacontenttype: "application/json".into(),
        data: json!({ "key": "cat.mp4" }),
    };
    Delivery {
        id: "d1".into(),
        subscription: "urn:tandem:shop:dev:subscription:s".parse().unwrap(),
        consumer: task.clone(),
        attempt,
        max_attempts: 3,
        event,
        redriven: None,
    }
}

#[tokio::test]
async fn an_event_runs_the_task_and_its_failure_carries_the_end_of_the_log() {
    let scene = Scene::new();
    let starts = scene.path("starts");
    let script = format!(
        "echo $TANDEM_EVENT $TRACEPARENT >>{}; seq 30; test -e {}",
        starts.display(),
        scene.path("ok").display()
    );
    let task = scene.deploy("job", &script, json!({}));
    let tasks = scene.open();
    let Err(Undelivered::Failed { error, log_tail }) = tasks.deliver(&delivery(&task, 1)).await else {
        panic!()
    };
    assert_eq!(error.code, "E0705");
    assert!(error.message.contains("task/job exited with code 1"), "{error}");
    assert_eq!(log_tail, (11..=30).map(|n| n.to_string()).collect::<Vec<_>>());
    // The same attempt, told again, is the same run; the next one is another.
    assert!(tasks.deliver(&delivery(&task, 1)).await.is_err());
    std::fs::write(scene.path("ok"), "").unwrap();
    assert_eq!(tasks.deliver(&delivery(&task, 2)).await, Ok(()));
    // Cut off in the last attempt: what became of it is still found out.
    assert_eq!(tasks.resume(&delivery(&task, 2)).await, Some(Ok(())));
    assert_eq!(tasks.resume(&Delivery { id: "other".into(), ..delivery(&task, 2) }).await, None);
    // Killed before the outcome was recorded: the next attempt finds that it is done.
    assert_eq!(tasks.deliver(&delivery(&task, 3)).await, Ok(()));
    let seen = std::fs::read_to_string(starts).unwrap();
    assert_eq!(seen.lines().count(), 2);
    let event = delivery(&task, 1).envelope().to_string().replace('"', "");
    assert_eq!(seen.lines().next().unwrap().replace('"', ""), format!("{event} 00-trace-01"));
}

#[tokio::test]
async fn an_event_for_a_task_that_was_deleted_fails_with_its_name() {
    let scene = Scene::new();
    let tasks = scene.open();
    let Err(Undelivered::Failed { error, .. }) = tasks.deliver(&delivery(&urn("gone"), 1)).await else {
        panic!("it must end in the dead letters, not wait for ever")
    };
    assert!(error.message.contains("task/gone"), "{error}");
}

#[tokio::test]
async fn a_closing_cloud_gives_the_event_back_and_the_next_one_finds_its_run() {
    let scene = Scene::new();
    let starts = scene.path("starts");
    let gate = scene.gate("gate");
    let script = format!("echo x >>{}; read go <{}", starts.display(), gate.0.display());
    let task = scene.deploy("job", &script, json!({}));
    let tasks = scene.open();
    let given = delivery(&task, 1);
    let delivering = async {
        let result = tasks.deliver(&given).await;
        assert_eq!(result, Err(Undelivered::Throttled));
    };
    let closing = async {
        while !starts.exists() {
            tokio::task::yield_now().await;
        }
        tasks.close().await;
    };
    tokio::join!(delivering, closing);
    let tasks = scene.open();
    // A delivery that was given back is counted as the same attempt again.
    tokio::join!(gate.open(), async { assert_eq!(tasks.deliver(&given).await, Ok(())) });
    assert_eq!(std::fs::read_to_string(starts).unwrap(), "x\n");
}
