//! Folders of the host in containers.

use std::fs;

use super::Home;
use crate::{
    Exit, Spec, Volume,
    conformance::{id, logged},
};

#[tokio::test]
async fn what_is_written_to_a_volume_stays_and_a_read_only_one_takes_nothing() {
    let home = Home::new();
    let runtime = home.open();
    let kept = tempfile::TempDir::new().unwrap();
    fs::write(kept.path().join("before"), "there\n").unwrap();
    let on = |read_only: bool, script: &str| {
        let volume = Volume { source: kept.path().to_owned(), target: "/srv/data/deep".into(), read_only };
        Spec { volumes: vec![volume], ..home.script(script) }
    };
    let write = "cat /srv/data/deep/before; echo kept >/srv/data/deep/after";
    runtime.start(&id("one"), &on(false, write)).await.unwrap();
    assert_eq!(runtime.wait(&id("one")).await.unwrap(), Exit::Code { code: 0 });
    assert_eq!(logged(&*runtime, &id("one"), "stdout"), "there\n");
    runtime.remove(&id("one")).await.unwrap();
    assert_eq!(fs::read_to_string(kept.path().join("after")).unwrap(), "kept\n");

    let script = "cat /srv/data/deep/after && ! touch /srv/data/deep/more 2>/dev/null";
    runtime.start(&id("two"), &on(true, script)).await.unwrap();
    assert_eq!(runtime.wait(&id("two")).await.unwrap(), Exit::Code { code: 0 });
    runtime.remove(&id("two")).await.unwrap();
    // What a container is removed with is its own, and never what is mounted in it.
    assert!(kept.path().join("before").exists() && !kept.path().join("more").exists());
    home.assert_nothing_is_left();
}
