//! Images that come from a registry, in the image store.

use super::{tests::Home, *};
use crate::{
    Exit, Unheard,
    conformance::{Collected, Subject, id, script, write_busybox},
    pull::tests::{
        pauses,
        registry::{Doors, Fault, Registry, digest},
    },
};

/// Two layers of which images run.
fn layers(home: &Home) -> Vec<Vec<u8>> {
    let tar = home.scratch().join("busybox.tar");
    write_busybox(&tar);
    let mut made = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(10);
    made.append_data(&mut header, "made", &b"elsewhere\n"[..]).unwrap();
    vec![std::fs::read(tar).unwrap(), made.into_inner().unwrap()]
}

/// The store of a home, which knows no passwords and no mirrors.
fn store(home: &Home) -> BuildahStore {
    BuildahStore::pulling(&home.folder(), Some(Sources::default()), pauses())
}

fn here() -> String {
    Platform::here().architecture().to_owned()
}

async fn runs(home: &Home, image: &Image, text: &str) {
    let (runtime, one) = (home.runtime(), id("pulled"));
    runtime.start(&one, &script(image, text)).await.unwrap();
    assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 0 }, "{text}");
    runtime.remove(&one).await.unwrap();
}

#[tokio::test]
async fn a_pulled_image_runs_and_is_found_by_its_name_and_by_the_digests_of_its_manifests() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Open).await);
    let layers = layers(&home);
    let manifest = registry.put("single", &here(), &layers);
    let other = registry.put("other", "mips64le", &layers[1..]);
    let index =
        registry.put_index("v1", &[("linux/mips64le", &other), (&format!("linux/{}", here()), &manifest)]);
    let (store, name, lines) = (store(&home), registry.name(":v1"), Collected::default());
    let image = store.resolve(&ImageRef(name.clone()), &lines).await.unwrap();
    assert_eq!((&*image.names, &*image.command), (&[name.clone()][..], &["/bin/sh".to_owned()][..]));
    assert!(lines.text().contains(&format!("unpacking {name}")), "{}", lines.text());
    runs(&home, &image, "test \"$(cat /made)\" = elsewhere").await;
    assert_eq!(std::fs::read_dir(home.folder().join("pulls")).unwrap().count(), 0);

    // What is there is not asked for: by its name, by its list and by what the list leads to.
    registry.requests();
    for known in [name.clone(), registry.name(&format!("@{index}")), registry.name(&format!("@{manifest}"))] {
        let found = store.resolve(&ImageRef(known.clone()), &Unheard).await.unwrap();
        assert_eq!(found.digest, image.digest, "{known}");
    }
    assert_eq!(registry.requests(), [""; 0]);
    // A pull asks what the name means; layers that are there do not come again.
    let sent = registry.sent();
    let again = store.pull(&ImageRef(name.clone()), None, &Unheard).await.unwrap();
    assert_eq!(again.digest, image.digest);
    assert!(registry.sent() - sent < 1_000, "only the configuration: {}", registry.sent() - sent);
    let mut more = layers.clone();
    more.push(layers[1].clone());
    registry.put("v1", &here(), &more);
    let sent = registry.sent();
    let newer = store.pull(&ImageRef(name.clone()), None, &Unheard).await.unwrap();
    assert!(newer.digest != image.digest && newer.names == [name.clone()], "{newer:?}");
    assert!(registry.sent() - sent < 1_000, "only the configuration: {}", registry.sent() - sent);
    runs(&home, &newer, "test \"$(cat /made)\" = elsewhere").await;
    home.assert_no_build_is_left().await;
}

#[tokio::test]
async fn an_image_by_digest_keeps_that_name_and_is_built_upon() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Open).await);
    let manifest = registry.put("v1", &here(), &layers(&home));
    let index = registry.put_index("list", &[(&format!("linux/{}", here()), &manifest)]);
    let store = store(&home);
    for digest in [&index, &manifest] {
        let name = registry.name(&format!("@{digest}"));
        let image = store.resolve(&ImageRef(name.clone()), &Unheard).await.unwrap();
        assert_eq!(image.names, std::slice::from_ref(&name));
        assert_eq!(store.names().await.unwrap(), [(name.clone(), image.digest.clone())]);
        registry.requests();
        let (subject, dockerfile) = (Stored(&home, &store), format!("FROM {name}\nRUN cat /made\n"));
        let built = crate::conformance::build(&subject, "upon", &dockerfile, &Unheard).await.unwrap();
        assert_eq!(registry.requests(), [""; 0], "what is there is not asked for");
        store.remove(&ImageRef(built.digest)).await.unwrap();
        store.remove(&ImageRef(name)).await.unwrap();
        assert_eq!(store.list().await.unwrap(), []);
    }
}

/// A home whose builds pull with these settings.
struct Stored<'a>(&'a Home, &'a BuildahStore);

impl Subject for Stored<'_> {
    fn builder(&self) -> Arc<dyn Builder> {
        Arc::new(self.1.clone())
    }
    fn runtime(&self) -> Arc<dyn crate::Runtime> {
        self.0.runtime()
    }
    fn scratch(&self) -> std::path::PathBuf {
        self.0.scratch()
    }
}

#[tokio::test]
async fn a_base_that_a_build_finds_missing_is_pulled_by_us_and_what_the_registry_says_is_told() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Open).await);
    registry.put("v1", &here(), &layers(&home));
    let (store, lines) = (store(&home), Collected::default());
    let dockerfile = format!("FROM {}\nRUN cat /made\n", registry.name(":v1"));
    let build = async |name: &str, text: &str| {
        crate::conformance::build(&Stored(&home, &store), name, text, &lines).await
    };
    registry.fail("/manifests/", Fault::Status(403), 1);
    let refused = build("upon", &dockerfile).await.unwrap_err();
    assert!(matches!(&refused, ContainerError::Pull(crate::PullError::Denied { .. })), "{refused:?}");
    build("upon", &dockerfile).await.unwrap();
    assert!(lines.text().contains("elsewhere"), "{}", lines.text());
    home.assert_no_build_is_left().await;
}

#[tokio::test]
async fn layers_that_went_from_the_store_meanwhile_are_fetched_after_all() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Open).await);
    let layers = layers(&home);
    registry.put("v1", &here(), &layers);
    let (store, name) = (store(&home), registry.name(":v1"));
    store.resolve(&ImageRef(name.clone()), &Unheard).await.unwrap();
    store.remove(&ImageRef(name.clone())).await.unwrap();
    // As if they had gone after the store was read.
    let known = layers.iter().map(|layer| digest(layer)).collect();
    let image = store.fetch_without(&name, None, known, &Unheard).await.unwrap();
    runs(&home, &image, "cat /made").await;
}

#[tokio::test]
async fn what_docker_pushed_runs_too() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Open).await);
    let manifest = registry.put_by_docker("v1", &layers(&home));
    let store = store(&home);
    let image = store.resolve(&ImageRef(registry.name(":v1")), &Unheard).await.unwrap();
    runs(&home, &image, "test \"$(cat /made)\" = elsewhere").await;
    let known = store.resolve(&ImageRef(registry.name(&format!("@{manifest}"))), &Unheard).await.unwrap();
    assert_eq!(known.digest, image.digest);
}
