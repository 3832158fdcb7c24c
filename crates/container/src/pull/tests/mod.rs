//! Pulls from a registry that answers as registries do on bad days.

mod access;
mod broken;
pub(crate) mod registry;

use std::{collections::HashSet, fs, path::Path, time::Duration};

use serde_json::Value;
use tandem_model::{Explain, Report};

use super::*;
use crate::conformance::Collected;
use registry::{Doors, Fault, Registry, digest};

/// Settings of nobody, and no long pauses.
pub(crate) fn pauses() -> Pauses {
    Pauses {
        first: Duration::from_millis(1),
        longest: Duration::from_secs(2),
        times: 3,
        silence: Duration::from_secs(20),
    }
}

/// A user with a folder.
pub(super) struct Home(tempfile::TempDir);

impl Home {
    pub(super) fn new() -> Self {
        Self(tempfile::TempDir::new().unwrap())
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// As another process would find it.
    pub(super) fn puller(&self) -> Puller {
        let sources = Sources {
            passwords: vec![self.path().join("auth.json")],
            registries: vec![self.path().join("registries.conf")],
            programs: vec![self.path().to_owned()],
            ..Sources::default()
        };
        Puller::new(self.path().join("pulls"), Some(sources), pauses())
    }

    pub(super) async fn pull(&self, name: &str) -> Result<Pulled, ContainerError> {
        self.puller().pull(name, None, &HashSet::new(), &Collected::default()).await
    }

    pub(super) async fn refused(&self, name: &str) -> Report {
        self.pull(name).await.expect_err("it is refused").report()
    }

    /// Logs in as `docker login` does.
    pub(super) fn log_in(&self, registry: &Registry, known: &str) {
        let auth = data_encoding::BASE64.encode(known.as_bytes());
        let text = json!({ "auths": { registry.host(): { "auth": auth } } });
        fs::write(self.path().join("auth.json"), text.to_string()).unwrap();
    }
}

/// A layer of so many bytes that do not repeat.
pub(super) fn layer(bytes: usize) -> Vec<u8> {
    let mut next = bytes as u64;
    let mut byte = || {
        next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (next >> 33) as u8
    };
    (0..bytes).map(|_| byte()).collect()
}

pub(super) fn here() -> String {
    Platform::here().architecture().to_owned()
}

/// The layout has the image with this manifest, and each blob has the digest that its name says.
pub(super) fn assert_whole(folder: &Path, manifest: &str, blobs: usize) {
    let index: Value = serde_json::from_slice(&fs::read(folder.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["digest"], manifest);
    let mut count = 0;
    for entry in fs::read_dir(folder.join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(digest(&fs::read(&path).unwrap()), format!("sha256:{name}"));
        count += 1;
    }
    assert_eq!(count, blobs);
}

#[tokio::test]
async fn an_image_comes_as_a_layout_and_how_far_it_is_is_told() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Open).await);
    let layers = [layer(300_000), layer(200_000), layer(300_000)];
    let manifest = registry.put("v1", &here(), &layers);
    let (lines, name) = (Collected::default(), registry.name(":v1"));
    let pulled = home.puller().pull(&name, None, &HashSet::new(), &lines).await.unwrap();
    assert_whole(&pulled.folder, &manifest, 4);
    assert!(lines.text().starts_with(&format!("pulling {name}")), "{}", lines.text());
    assert_eq!((registry.sent(), pulled.lacking), (500_000 + config_size(&pulled.folder), false));
    let folder = pulled.folder.clone();
    pulled.finish();
    assert!(!folder.exists());

    // What the image store has is not asked for.
    let stored = HashSet::from([digest(&layers[0])]);
    let pulled = home.puller().pull(&name, None, &stored, &lines).await.unwrap();
    assert!(pulled.lacking);
    let asked = registry.requests();
    assert_eq!(asked.iter().filter(|line| line.contains(&digest(&layers[0]))).count(), 1, "{asked:?}");
}

fn config_size(folder: &Path) -> u64 {
    let read =
        |path: &str| -> Value { serde_json::from_slice(&fs::read(folder.join(path)).unwrap()).unwrap() };
    let manifest = read("index.json")["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    read(&format!("blobs/{manifest}"))["config"]["size"].as_u64().unwrap()
}

#[tokio::test]
async fn of_several_platforms_the_right_one_comes_and_what_is_not_there_is_listed() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Open).await);
    let other = registry.put("other", "mips64le", &[layer(20_000)]);
    let ours = registry.put("ours", &here(), &[layer(10_000)]);
    let both = [("linux/mips64le", &*other), (&*format!("linux/{}", here()), &*ours)];
    let index = registry.put_index("both", &both);
    registry.put_index("lacking", &both[..1]);

    let pulled = home.pull(&registry.name(":both")).await.unwrap();
    assert_eq!(pulled.platform, Some(Platform::here()));
    assert_whole(&pulled.folder, &index, 4);
    let named = home.pull(&registry.name(&format!("@{index}"))).await.unwrap();
    assert_whole(&named.folder, &index, 4);
    let mips = "linux/mips64le".parse().unwrap();
    let asked = home.puller();
    let pulled =
        asked.pull(&registry.name(":both"), Some(&mips), &HashSet::new(), &Collected::default()).await;
    assert_eq!(pulled.unwrap().platform, Some(mips.clone()));

    let refused = home.refused(&registry.name(":lacking")).await;
    assert_eq!((&*refused.code, &*refused.causes[0]), ("E0418", "it is there for linux/mips64le"));
    registry.requests();
    // Without a list, the image itself says what it is for, before its layers come.
    let refused = home.refused(&registry.name(":other")).await;
    assert!(refused.code == "E0412" && refused.message.contains("linux/mips64le"), "{refused:?}");
    let asked = registry.requests();
    assert_eq!(asked.iter().filter(|line| line.contains("/blobs/")).count(), 1, "{asked:?}");
    let refused = asked_for(&home, &registry.name(":ours"), &mips).await;
    assert_eq!(refused.code, "E0418");
}

async fn asked_for(home: &Home, name: &str, platform: &Platform) -> Report {
    let pulled = home.puller().pull(name, Some(platform), &HashSet::new(), &Collected::default()).await;
    pulled.expect_err("it is refused").report()
}

#[tokio::test]
async fn what_is_no_image_or_not_there_is_told_by_its_name() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Open).await);
    let missing = home.refused(&registry.name(":none")).await;
    assert_eq!(missing.code, "E0403");
    assert!(
        missing.message.contains("/team/app:none") && missing.causes[0].contains("manifest unknown"),
        "{missing:?}"
    );
    let config =
        json!({ "mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": digest(b"x"), "size": 1 });
    let chart = json!({ "schemaVersion": 2, "config": config, "layers": [] });
    registry.put_manifest("chart", "application/vnd.oci.image.manifest.v1+json", &chart);
    let chart = home.refused(&registry.name(":chart")).await;
    assert!(chart.code == "E0403" && chart.causes[0].contains("helm"), "{chart:?}");
    let nobody = home.refused("127.0.0.1:1/team/app:v1").await;
    assert!(nobody.code == "E0403" && nobody.causes[0].contains("127.0.0.1:1"), "{nobody:?}");
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0, "nothing is left of what never began");
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_the_registry_if_it_fails() {
    let home = Home::new();
    let (mirror, own) = (Registry::serve(Doors::Open).await, Registry::serve(Doors::Open).await);
    for registry in [&mirror, &own] {
        registry.put("v1", &here(), &[layer(100_000)]);
    }
    let settings = format!(
        "[[registry]]\nprefix = \"registry.invalid\"\nlocation = \"{}\"\n\
         [[registry.mirror]]\nlocation = \"127.0.0.1:1\"\n[[registry.mirror]]\nlocation = \"{}\"\n",
        own.host(),
        mirror.host()
    );
    fs::write(home.path().join("registries.conf"), settings).unwrap();
    let name = "registry.invalid/team/app:v1";
    home.pull(name).await.unwrap().finish();
    assert_eq!(own.sent(), 0);
    // It breaks off in the middle, and what came of it counts.
    mirror.fail("/blobs/", Fault::Half, 99);
    let before = mirror.sent();
    let lines = Collected::default();
    home.puller().pull(name, None, &HashSet::new(), &lines).await.unwrap().finish();
    assert!(lines.text().contains(&format!("the mirror {}", mirror.host())), "{}", lines.text());
    let (of_mirror, of_own) = (mirror.sent() - before, own.sent());
    assert!(of_mirror > 0 && of_own > 0 && of_mirror + of_own <= 101_000, "{of_mirror} {of_own}");
}

#[tokio::test]
async fn leftovers_go_when_they_are_old_and_not_before() {
    let home = Home::new();
    let pulls = home.path().join("pulls");
    for (name, days) in [("old", 8), ("young", 1)] {
        let blobs = pulls.join(name).join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let then = std::time::SystemTime::now() - Duration::from_secs(days * 86_400);
        for path in [blobs.join("a.part"), pulls.join(name)] {
            if !path.exists() {
                fs::write(&path, "half").unwrap();
            }
            fs::File::open(&path).unwrap().set_modified(then).unwrap();
        }
    }
    clear(&pulls).unwrap();
    assert_eq!((pulls.join("old").exists(), pulls.join("young").exists()), (false, true));
}
