//! What a build reads besides its folder, and when it is made again.

use tandem_model::{Secrets, resource::Properties};

use super::{deploy::create, *};
use crate::image::{Base, BuildFacts};

/// The inputs with more in their `build`.
fn with(mut inputs: Properties, more: serde_json::Value) -> Properties {
    let build = inputs["build"].as_object_mut().unwrap();
    build.extend(more.as_object().unwrap().clone());
    inputs
}

fn deployed(scene: &Scene, name: &str, inputs: &Properties, outputs: &Properties) {
    scene.resources.put(Recorded {
        urn: urn(name),
        id: PhysicalId(format!("shop-dev-{name}")),
        inputs: inputs.clone(),
        outputs: outputs.clone(),
        depends_on: vec![],
    });
}

fn days(n: i64) -> jiff::SignedDuration {
    jiff::SignedDuration::from_hours(24 * n)
}

#[tokio::test]
async fn secrets_are_used_up_by_one_change_and_another_value_builds_nothing() {
    let scene = Scene::new();
    scene.shelf.put("base", "sha256:base1");
    let tasks = scene.open();
    let images = &tasks.shared.parts.images;
    let inputs = with(scene.context("FROM base\nRUN true\n"), json!({ "secrets": ["npm", "token"] }));
    let bring = |npm: &str| {
        let values = [("npm", npm), ("token", "t")].map(|(id, v)| (id.to_owned(), v.as_bytes().to_vec()));
        images.entrust(&urn("one"), Secrets(values.into()));
    };
    let missing = create(&tasks, "one", inputs.clone()).await.unwrap_err();
    assert_eq!(missing.code, "E0413");
    assert!(missing.message.contains("needs the secrets `npm` and `token`"), "{}", missing.message);
    bring("first");
    assert_eq!(create(&tasks, "one", inputs.clone()).await.unwrap().0["image"], "sha256:built1");
    let asked = scene.shelf.requests.lock().unwrap()[0].secrets.clone();
    assert_eq!((asked.0["npm"].as_slice(), asked.0["token"].as_slice()), (&b"first"[..], &b"t"[..]));
    bring("second");
    assert_eq!(create(&tasks, "one", inputs.clone()).await.unwrap().0["image"], "sha256:built1");
    // Nothing in the store tells them, and they are not here for a second change.
    for entry in scene.store.snapshot().unwrap().prefix(b"").unwrap() {
        assert!(!String::from_utf8_lossy(&entry.unwrap().1).contains("first"));
    }
    let changed = with(inputs, json!({ "args": { "A": "1" } }));
    assert_eq!(create(&tasks, "one", changed).await.unwrap_err().code, "E0413");
}

#[tokio::test]
async fn a_build_that_is_too_old_is_made_again_and_a_young_one_is_not() {
    let scene = Scene::new();
    scene.shelf.put("base", "sha256:base1");
    let tasks = scene.open();
    let inputs = with(scene.context("FROM base\nRUN true\n"), json!({ "maxAge": "7d" }));
    *scene.shelf.now.lock().unwrap() = Some(Timestamp::now() - days(8));
    assert_eq!(create(&tasks, "one", inputs.clone()).await.unwrap().0["image"], "sha256:built1");
    *scene.shelf.now.lock().unwrap() = Some(Timestamp::now() - days(6));
    for _ in 0..2 {
        let (outputs, _) = create(&tasks, "one", inputs.clone()).await.unwrap();
        assert_eq!(outputs["image"], "sha256:built2");
    }
    let asked = scene.shelf.requests.lock().unwrap()[1].max_age;
    assert_eq!(asked, Some(Duration::from_secs(7 * 86_400)));
    // Without a bound it stays, whatever its age.
    let (outputs, _) = create(&tasks, "one", scene.context("FROM base\nRUN true\n")).await.unwrap();
    assert_eq!(outputs["image"], "sha256:built2");
}

#[tokio::test]
async fn it_is_known_how_old_a_build_is_and_which_of_its_bases_are_newer() {
    let scene = Scene::new();
    scene.shelf.put("base", "sha256:base1");
    scene.shelf.put("tools", "sha256:tools1");
    let tasks = scene.open();
    let then = Timestamp::from_second(1_700_000_000).unwrap();
    *scene.shelf.now.lock().unwrap() = Some(then);
    let inputs = with(scene.context("FROM base\nCOPY --from=tools /x /x\n"), json!({ "secrets": ["npm"] }));
    let images = &tasks.shared.parts.images;
    images.entrust(&urn("one"), Secrets([("npm".to_owned(), vec![1])].into()));
    let (outputs, _) = create(&tasks, "one", inputs.clone()).await.unwrap();
    deployed(&scene, "one", &inputs, &outputs);
    deployed(&scene, "two", json!({ "image": "base" }).as_object().unwrap(), &Properties::new());

    scene.shelf.put("base", "sha256:base2");
    let base = |name: &str, used: &str, now: &str| Base {
        name: format!("docker.io/library/{name}:latest"),
        used: used.to_owned(),
        now: Some(now.to_owned()),
    };
    let bases =
        vec![base("base", "sha256:base1", "sha256:base2"), base("tools", "sha256:tools1", "sha256:tools1")];
    assert_eq!(bases.iter().map(Base::is_newer).collect::<Vec<_>>(), [true, false]);
    let facts = images.facts(&scene.resources.list(None)).await.unwrap();
    let known = BuildFacts { urn: urn("one"), container: None, since: Some(then), bases, gone: false };
    assert_eq!(facts, std::slice::from_ref(&known));
    scene.shelf.remove(&ImageRef(outputs["image"].as_str().unwrap().to_owned())).await.unwrap();
    let facts = images.facts(&scene.resources.list(None)).await.unwrap();
    assert_eq!(facts, [BuildFacts { gone: true, ..known }]);
}

#[tokio::test]
async fn images_for_other_machines_are_refused_by_the_names_of_both() {
    let scene = Scene::new();
    let foreign: Platform = "linux/mips64le".parse().unwrap();
    for name in ["foreign", "sha256:foreign"] {
        let image = scene.shelf.put("foreign", "sha256:foreign");
        let image = Image { platform: Some(foreign.clone()), ..image };
        scene.shelf.images.lock().unwrap().insert(name.to_owned(), image);
    }
    let image =
        scene.shelf.resolve(&ImageRef("sha256:foreign".into()), &tandem_container::Unheard).await.unwrap();
    scene.shelf.images.lock().unwrap().insert("foreign".to_owned(), image);
    let tasks = scene.open();
    let refused = async |inputs: Properties| {
        let report = create(&tasks, "one", inputs).await.unwrap_err();
        assert_eq!(report.code, "E0412", "{}", report.message);
        report.message
    };
    let here = Platform::here();
    let named = refused(json!({ "image": "foreign" }).as_object().unwrap().clone()).await;
    assert_eq!(named, format!("the image `foreign` is for `linux/mips64le`, and this machine is `{here}`"));
    let based = refused(scene.context("FROM foreign\n")).await;
    assert!(
        based.starts_with("the base image `foreign` (./image/Dockerfile:1) is for `linux/mips64le`"),
        "{based}"
    );
    let built = refused(with(scene.context("FROM foreign\n"), json!({ "platform": "linux/mips64le" }))).await;
    assert!(built.starts_with("the build of task/one is for `linux/mips64le`"), "{built}");
}
