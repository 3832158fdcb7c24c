//! The suite of the ports, and what only this backend promises.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, Stdio},
    slice,
    sync::Arc,
    time::SystemTime,
};

use tandem_model::{Explain, Secrets};
use tandem_own_engine::OwnEngine;

use super::*;
use crate::{
    BuildRequest, Builder, Container, Exit, ImageRef, Network, Networking, Runtime, Spec,
    conformance::{Collected, Subject, build, id, import_base, logged, script, write_busybox},
    tidy::{Needs, Tidy},
};

/// A folder of its own, by an engine of its own.
struct Home {
    folder: tempfile::TempDir,
    engine: OwnEngine,
}

impl Home {
    /// `None` if no engine can run here; the engine says so.
    fn new() -> Option<Self> {
        let engine = OwnEngine::for_test()?;
        Some(Self { folder: tempfile::TempDir::new().unwrap(), engine })
    }

    fn docker(&self) -> Docker {
        Docker::open(&self.folder.path().join("containers"), &self.engine.host())
    }

    /// A process of its own that does one thing. See [`does_one_thing_for_another_test`].
    fn elsewhere(&self, what: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "docker::tests::does_one_thing_for_another_test", "--ignored"])
            .env("TANDEM_TEST_FOLDER", self.folder.path())
            .env("TANDEM_TEST_HOST", self.engine.host())
            .env("TANDEM_TEST_ACTION", what)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Does one thing in a process that is killed when it comes by a failpoint.
    fn killed_at(&self, failpoint: &str, what: &str) {
        let mut command = self.elsewhere(what);
        let status = command.env(tandem_failpoint::VARIABLE, failpoint).status().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "{failpoint} was not come by");
    }

    /// Nothing is left of any container, here and in the engine.
    async fn assert_no_container_is_left(&self) {
        assert_eq!(Runtime::list(&self.docker()).await.unwrap(), []);
        assert_eq!(self.docker().in_use().await.unwrap(), [""; 0]);
    }
}

macro_rules! subject {
    ($home:ty, $folder:expr) => {
        impl Subject for $home {
            fn builder(&self) -> Arc<dyn Builder> {
                Arc::new(self.docker())
            }
            fn runtime(&self) -> Arc<dyn Runtime> {
                Arc::new(self.docker())
            }
            fn scratch(&self) -> PathBuf {
                let folder = $folder(self).join("scratch");
                fs::create_dir_all(&folder).unwrap();
                folder
            }
            // Its disk is the one of the temporary folder, whatever that is.
            fn bounds_storage(&self) -> bool {
                false
            }
        }
    };
}

subject!(Home, |home: &Home| home.folder.path().to_owned());

/// The home of another test, in another process.
struct Elsewhere(PathBuf, String);

impl Elsewhere {
    fn docker(&self) -> Docker {
        Docker::open(&self.0.join("containers"), &self.1)
    }
}

subject!(Elsewhere, |home: &Elsewhere| home.0.clone());

macro_rules! home {
    () => {
        match Home::new() {
            Some(home) => home,
            None => return,
        }
    };
}

crate::container_conformance_tests!(home!());

const COUNTING: &str = "for n in $(seq 500); do echo line $n; busybox usleep 2000; done; exit 7";

/// What [`Home::elsewhere`] does.
#[tokio::test]
#[ignore = "a part of other tests, which run it in a process of its own"]
async fn does_one_thing_for_another_test() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let home = Elsewhere(variable("TANDEM_TEST_FOLDER").into(), variable("TANDEM_TEST_HOST"));
    let (runtime, one) = (home.runtime(), id("one"));
    let image = home.builder().resolve(&ImageRef("base".into()), &Collected::default()).await.unwrap();
    match variable("TANDEM_TEST_ACTION").as_str() {
        "build" => {
            let dockerfile = "FROM base\nRUN echo built > /made\n";
            let built = build(&home, "built", dockerfile, &Collected::default()).await;
            panic!("it was not killed: {built:?}");
        }
        "count" => {
            runtime.start(&one, &script(&image, COUNTING)).await.unwrap();
            runtime.wait(&one).await.unwrap();
        }
        "run" => {
            runtime.start(&one, &script(&image, "echo said; exit 7")).await.unwrap();
            runtime.wait(&one).await.unwrap();
            runtime.remove(&one).await.unwrap();
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn killed_at_each_gap_a_container_is_found_as_it_is() {
    let home = home!();
    import_base(&home).await;
    let (runtime, one) = (home.runtime(), id("one"));
    for failpoint in ["docker.start.prepared", "docker.start.created"] {
        home.killed_at(failpoint, "run");
        assert_eq!(runtime.inspect(&one).await.unwrap(), Container::Unstarted, "{failpoint}");
        assert_eq!(Runtime::list(&home.docker()).await.unwrap(), slice::from_ref(&one));
        runtime.remove(&one).await.unwrap();
        home.assert_no_container_is_left().await;
    }
    for failpoint in ["docker.start.started", "docker.exit.logged", "docker.remove.removed"] {
        home.killed_at(failpoint, "run");
        if failpoint != "docker.remove.removed" {
            assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 7 }, "{failpoint}");
        }
        assert_eq!(logged(&*runtime, &one, "stdout"), "said\n", "{failpoint}");
        assert_eq!(Runtime::list(&home.docker()).await.unwrap(), slice::from_ref(&one));
        runtime.remove(&one).await.unwrap();
        home.assert_no_container_is_left().await;
        fs::remove_file(runtime.log_file(&one)).unwrap();
    }
    home.killed_at("docker.image.built", "build");
    home.builder().resolve(&ImageRef("built".into()), &Collected::default()).await.unwrap();
}

#[tokio::test]
async fn a_log_goes_on_where_the_cloud_was_killed_without_loss_or_repetition() {
    let home = home!();
    import_base(&home).await;
    let (runtime, one) = (home.runtime(), id("one"));
    let mut cloud = home.elsewhere("count").spawn().unwrap();
    let log = runtime.log_file(&one);
    while fs::read_to_string(&log).unwrap_or_default().lines().count() < 50 {
        tokio::task::yield_now().await;
    }
    cloud.kill().unwrap();
    cloud.wait().unwrap();
    let before = fs::read_to_string(&log).unwrap().lines().count();
    assert!(before < 500, "it was killed in the middle");
    assert_eq!(runtime.inspect(&one).await.unwrap(), Container::Running);
    assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 7 });
    let all: String = (1..=500).map(|n| format!("line {n}\n")).collect();
    assert_eq!(logged(&*runtime, &one, "stdout"), all);
    runtime.remove(&one).await.unwrap();
    home.assert_no_container_is_left().await;
}

#[tokio::test]
async fn a_container_that_goes_with_its_engine_or_by_other_hands_is_told() {
    let mut home = home!();
    let image = import_base(&home).await;
    let (runtime, one, other) = (home.runtime(), id("one"), id("other"));
    for id in [&one, &other] {
        runtime
            .start(id, &script(&image, "trap 'echo bye; exit 3' TERM; echo up; sleep 600 & wait"))
            .await
            .unwrap();
        while logged(&*runtime, id, "stdout").is_empty() {
            tokio::task::yield_now().await;
        }
    }
    // By somebody with the stock client.
    let client = home.docker();
    let options = bollard::query_parameters::RemoveContainerOptionsBuilder::new().force(true).build();
    client.engine.client().await.unwrap().remove_container("tandem-other", Some(options)).await.unwrap();
    assert_eq!(runtime.wait(&other).await.unwrap(), Exit::Lost { full: false });
    runtime.remove(&other).await.unwrap();

    let waiting = tokio::spawn({
        let (runtime, one) = (runtime.clone(), one.clone());
        async move { runtime.wait(&one).await }
    });
    tokio::task::yield_now().await;
    home.engine.again().unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Exit::Code { code: 3 });
    assert_eq!(logged(&*runtime, &one, "stdout"), "up\nbye\n");
    runtime.remove(&one).await.unwrap();
    home.assert_no_container_is_left().await;
}

/// A network that no other test uses: tests run in processes of their own.
fn network(host: u8, alias: &str) -> Network {
    let pid = std::process::id();
    let (second, third) = (64 + (pid / 256 % 64) as u8, (pid % 256) as u8);
    Network {
        bridge: format!("tdd{pid}"),
        subnet: format!("10.{second}.{third}.0/24"),
        gateway: Ipv4Addr::new(10, second, third, 1),
        address: Ipv4Addr::new(10, second, third, host),
        aliases: vec![alias.to_owned()],
    }
}

#[tokio::test]
async fn containers_share_a_network_that_goes_with_its_last() {
    let home = home!();
    let image = import_base(&home).await;
    let runtime = home.runtime();
    let bridge = PathBuf::from("/sys/class/net").join(network(2, "").bridge);
    let serve = "mkdir /www && echo hello >/www/index.html && exec httpd -f -p 80 -h /www";
    let own = |host, alias: &str, text: &str| Spec {
        network: Some(Networking::Own(network(host, alias))),
        ..script(&image, text)
    };
    runtime.start(&id("server"), &own(2, "web", serve)).await.unwrap();
    assert!(bridge.exists());
    let ask = |at: &str| format!("until busybox wget -q -O- http://{at}/; do busybox usleep 10000; done");
    let names = "busybox nslookup web 127.0.0.11";
    let text = format!("{}; {names}; busybox hostname", ask(&network(2, "").address.to_string()));
    runtime.start(&id("client"), &own(3, "client", &text)).await.unwrap();
    let beside = Spec { network: Some(Networking::Of(id("server"))), ..script(&image, &ask("127.0.0.1")) };
    runtime.start(&id("beside"), &beside).await.unwrap();
    for one in ["client", "beside"] {
        let exit = runtime.wait(&id(one)).await.unwrap();
        let said = logged(&*runtime, &id(one), "stdout");
        assert_eq!(exit, Exit::Code { code: 0 }, "{said}{}", logged(&*runtime, &id(one), "stderr"));
        assert!(said.starts_with("hello\n"), "{said}");
        if one == "client" {
            assert!(
                said.contains(&network(2, "").address.to_string()) && said.ends_with("client\n"),
                "{said}"
            );
        }
        runtime.remove(&id(one)).await.unwrap();
        assert!(bridge.exists(), "the server has it");
    }
    runtime.remove(&id("server")).await.unwrap();
    assert!(!bridge.exists());
    home.assert_no_container_is_left().await;
}

#[tokio::test]
async fn a_container_has_the_bounds_that_the_other_backend_sets() {
    let home = home!();
    let image = import_base(&home).await;
    let (runtime, one) = (home.runtime(), id("one"));
    let volume = home.scratch().join("volume");
    fs::create_dir_all(&volume).unwrap();
    let text = "busybox grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; \
                busybox unshare -m true || echo no namespaces; busybox mount -t tmpfs x /tmp || echo no mounts; \
                echo kept >/data/file; echo x >/fixed/file || echo read only; busybox cat /proc/self/oom_score_adj; \
                echo [$GONE]";
    let spec = Spec {
        volumes: vec![
            crate::Volume { source: volume.clone(), target: "/data".into(), read_only: false },
            crate::Volume { source: volume.clone(), target: "/fixed".into(), read_only: true },
        ],
        ..script(&image, text)
    };
    runtime.start(&one, &spec).await.unwrap();
    runtime.wait(&one).await.unwrap();
    let said = logged(&*runtime, &one, "stdout").replace('\t', " ");
    let expected = "CapEff: 00000000a00405fb\nCapBnd: 00000000a00405fb\nNoNewPrivs: 1\nSeccomp: 2\n\
                    no namespaces\nno mounts\nread only\n500\n[]\n";
    assert_eq!(said, expected);
    assert_eq!(fs::read_to_string(volume.join("file")).unwrap(), "kept\n");
    runtime.remove(&one).await.unwrap();
}

#[tokio::test]
async fn what_the_engines_builder_cannot_do_is_refused_by_its_name() {
    // Before the engine is asked.
    let docker = Docker::open(&PathBuf::from("/nowhere"), "unix:///nowhere/docker.sock");
    let secrets = Secrets([("token".to_owned(), b"x".to_vec())].into_iter().collect());
    for request in [
        BuildRequest { secrets, ..BuildRequest::default() },
        BuildRequest { certificates: vec!["pem".into()], ..BuildRequest::default() },
    ] {
        let error = docker.build(&request, &Collected::default()).await.unwrap_err();
        assert_eq!(error.code(), "E0421");
        assert!(error.to_string().starts_with("the Docker backend cannot "), "{error}");
    }
}

#[tokio::test]
async fn tidying_takes_what_came_by_this_cloud_and_leaves_what_others_have_in_the_engine() {
    let home = home!();
    let image = import_base(&home).await;
    let theirs = Elsewhere(home.folder.path().join("theirs"), home.engine.host());
    let dockerfile = "FROM base\nRUN echo theirs > /x\n";
    let built = build(&theirs, "theirs", dockerfile, &Collected::default()).await.unwrap();
    let failing = "FROM base\nRUN echo step > /x\nRUN false\n";
    build(&home, "failing", failing, &Collected::default()).await.unwrap_err();
    let docker = home.docker();
    let needs = Needs::default();
    let unused = docker.unused(&needs).await.unwrap();
    let of = |one: &crate::tidy::Unused| (one.digest == image.digest, one.step);
    assert_eq!(unused.iter().map(of).collect::<Vec<_>>(), [(false, true), (true, false)]);
    // Asked for after the plan was made, it stays.
    assert!(!docker.discard(&image.digest, SystemTime::UNIX_EPOCH).await.unwrap());
    for one in unused {
        assert!(docker.discard(&one.digest, SystemTime::now()).await.unwrap());
    }
    assert_eq!(docker.unused(&needs).await.unwrap(), []);
    let left = Builder::list(&docker).await.unwrap();
    assert_eq!(left.iter().map(|one| &one.digest).collect::<Vec<_>>(), [&built.digest]);
}

#[tokio::test]
async fn image_archives_of_the_engine_are_imported_under_the_given_name_alone() {
    let home = home!();
    let image = import_base(&home).await;
    let saved = home.scratch().join("saved.tar");
    home.docker().save(&image.digest, &saved).await.unwrap();
    let packed = home.scratch().join("saved.tar.zst");
    fs::write(&packed, zstd::encode_all(fs::File::open(&saved).unwrap(), 1).unwrap()).unwrap();
    let zipped = home.scratch().join("base.tar.zst");
    let plain = home.scratch().join("plain.tar");
    write_busybox(&plain);
    fs::write(&zipped, zstd::encode_all(fs::File::open(&plain).unwrap(), 1).unwrap()).unwrap();
    home.builder().remove(&ImageRef("base".into())).await.unwrap();
    for file in [saved, packed, zipped] {
        let imported = home.builder().import(&file, "again:1").await.unwrap();
        assert_eq!(imported.names, ["docker.io/library/again:1"], "{}", file.display());
        let runtime = home.runtime();
        runtime.start(&id("again"), &script(&imported, "exit 3")).await.unwrap();
        assert_eq!(runtime.wait(&id("again")).await.unwrap(), Exit::Code { code: 3 });
        runtime.remove(&id("again")).await.unwrap();
        home.builder().remove(&ImageRef("again:1".into())).await.unwrap();
    }
}
