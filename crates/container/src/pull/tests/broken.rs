//! Registries that fail, and pulls that are ended in the middle.

use std::{
    env,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
};

use super::*;

#[tokio::test]
async fn what_passes_is_waited_for_and_what_stays_is_told() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Open).await);
    registry.put("v1", &here(), &[layer(10_000)]);
    let name = registry.name(":v1");
    for (part, fault) in [
        ("/v2/", Fault::Later(0)),
        ("/v2/", Fault::Status(503)),
        ("/manifests/", Fault::Status(500)),
        ("/manifests/", Fault::Later(0)),
        ("/blobs/", Fault::Status(502)),
    ] {
        registry.fail(part, fault, 2);
        home.pull(&name).await.unwrap_or_else(|error| panic!("{part} {fault:?}: {error:?}")).finish();
    }
    for (fault, code) in [(Fault::Status(500), "E0416"), (Fault::Status(429), "E0415")] {
        registry.requests();
        registry.fail("/manifests/", fault, 4);
        let refused = home.refused(&name).await;
        assert_eq!(refused.code, code, "{refused:?}");
        let asked = registry.requests().iter().filter(|line| line.contains("/manifests/")).count();
        assert_eq!(asked, 4, "once, and three times again");
    }
    // What will not be another time is asked once.
    for (status, code) in [(401, "E0414"), (403, "E0414"), (404, "E0403")] {
        registry.requests();
        registry.fail("/manifests/", Fault::Status(status), 1);
        assert_eq!(home.refused(&name).await.code, code, "{status}");
        let asked = registry.requests().iter().filter(|line| line.contains("/manifests/")).count();
        assert_eq!(asked, 1, "{status}");
    }
}

#[tokio::test]
async fn when_to_come_again_is_heeded() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Open).await);
    registry.put("v1", &here(), &[]);
    registry.fail("/v2/", Fault::Later(1), 1);
    let begun = std::time::Instant::now();
    home.pull(&registry.name(":v1")).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn half_a_layer_is_not_sent_again() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Open).await);
    let bytes = layer(2_000_000);
    let manifest = registry.put("v1", &here(), std::slice::from_ref(&bytes));
    let path: &'static str = format!("/blobs/{}", digest(&bytes)).leak();
    // Each time half of what was left: more often than there are attempts without a step forward.
    registry.fail(path, Fault::Half, 4);
    let pulled = home.pull(&registry.name(":v1")).await.unwrap();
    assert_whole(&pulled.folder, &manifest, 3);
    let ranges: Vec<String> = registry.requests().into_iter().filter(|line| line.contains(path)).collect();
    assert_eq!(ranges.len(), 5, "{ranges:?}");
    assert!(!ranges[0].contains("bytes=") && ranges[1].ends_with("bytes=1000000-"), "{ranges:?}");
    assert_eq!(registry.sent(), 2_000_000 + config_size(&pulled.folder));
}

#[tokio::test]
async fn a_registry_that_knows_no_ranges_sends_the_whole_again() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Open).await);
    let manifest = registry.put("v1", &here(), &[layer(400_000)]);
    let path: &'static str = format!("/blobs/{}", digest(&layer(400_000))).leak();
    registry.fail(path, Fault::Half, 1);
    registry.fail(path, Fault::All, 1);
    assert_whole(&home.pull(&registry.name(":v1")).await.unwrap().folder, &manifest, 3);
}

#[tokio::test]
async fn other_bytes_than_announced_are_not_taken() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Open).await);
    let bytes = layer(100_000);
    let manifest = registry.put("v1", &here(), std::slice::from_ref(&bytes));
    let path: &'static str = format!("/blobs/{}", digest(&bytes)).leak();
    registry.fail(path, Fault::Other, 2);
    let refused = home.refused(&registry.name(":v1")).await;
    assert_eq!(refused.code, "E0417", "{refused:?}");
    assert!(refused.causes[0].contains(&digest(&bytes)), "{refused:?}");
    // Also behind a first half that was right.
    registry.fail(path, Fault::Half, 1);
    registry.fail(path, Fault::Other, 1);
    assert_whole(&home.pull(&registry.name(":v1")).await.unwrap().folder, &manifest, 3);
    // A manifest that is asked for by its digest has it.
    let other = registry.name(&format!("@{}", digest(b"other")));
    registry.put_manifest("x", "application/vnd.oci.image.manifest.v1+json", &json!({}));
    assert_eq!(home.refused(&other).await.code, "E0403");
}

#[tokio::test]
async fn silence_is_not_waited_for_and_how_much_has_come_is_told() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Open).await);
    let bytes = layer(400_000);
    registry.put("v1", &here(), std::slice::from_ref(&bytes));
    let path: &'static str = format!("/blobs/{}", digest(&bytes)).leak();
    registry.fail(path, Fault::Silence, 1);
    let mut puller = home.puller();
    puller.pauses.silence = Duration::from_millis(1_500);
    let lines = Collected::default();
    let name = registry.name(":v1");
    let pulled = puller.pull(&name, None, &HashSet::new(), &lines).await.unwrap();
    assert!(lines.text().contains(&format!("pulling {name}: 200 of 400 kB")), "{}", lines.text());
    assert_eq!(registry.sent(), 400_000 + config_size(&pulled.folder));
}

/// How much of a blob has come.
fn come(home: &Home, blob: &[u8]) -> u64 {
    let part = format!("{}.part", digest(blob).trim_start_matches("sha256:"));
    let folders = fs::read_dir(home.path().join("pulls")).into_iter().flatten().flatten();
    let parts = folders.map(|folder| folder.path().join("blobs/sha256").join(&part));
    parts.filter_map(|part| fs::metadata(part).ok()).map(|part| part.len()).sum()
}

#[tokio::test]
async fn a_pull_that_is_dropped_or_killed_goes_on_where_it_was() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Open).await);
    let bytes = layer(4_000_000);
    let manifest = registry.put("v1", &here(), std::slice::from_ref(&bytes));
    let path: &'static str = format!("/blobs/{}", digest(&bytes)).leak();
    let name = registry.name(":v1");
    let half = async |at_least: u64| {
        while come(&home, &bytes) < at_least {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    registry.fail(path, Fault::Silence, 1);
    let pulling = tokio::spawn({
        let (puller, name) = (home.puller(), name.clone());
        async move { puller.pull(&name, None, &HashSet::new(), &Collected::default()).await.map(drop) }
    });
    half(2_000_000).await;
    pulling.abort();
    assert!(pulling.await.unwrap_err().is_cancelled());

    registry.fail(path, Fault::Silence, 1);
    let mut other = Command::new(env::current_exe().unwrap())
        .args(["--exact", "pull::tests::broken::pulls_for_another_test", "--ignored"])
        .env("TANDEM_TEST_FOLDER", home.path())
        .env("TANDEM_TEST_IMAGE", &name)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    half(3_000_000).await;
    other.kill().unwrap();
    assert_eq!(other.wait().unwrap().signal(), Some(libc::SIGKILL));

    let before = registry.sent();
    let pulled = home.pull(&name).await.unwrap();
    assert_whole(&pulled.folder, &manifest, 3);
    assert_eq!(registry.sent() - before, 1_000_000, "only what was missing");
    let ranges: Vec<String> = registry.requests().into_iter().filter(|line| line.contains(path)).collect();
    assert!(ranges.last().unwrap().ends_with("bytes=3000000-"), "{ranges:?}");
}

#[tokio::test]
#[ignore = "another test runs it in a process of its own, and kills that"]
async fn pulls_for_another_test() {
    let folder = env::var("TANDEM_TEST_FOLDER").unwrap();
    let name = env::var("TANDEM_TEST_IMAGE").unwrap();
    let puller = Puller::new(Path::new(&folder).join("pulls"), Some(Sources::default()), pauses());
    let pulled = puller.pull(&name, None, &HashSet::new(), &Collected::default()).await;
    panic!("it was not killed: {pulled:?}");
}
