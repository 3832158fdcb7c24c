//! What only this backend promises: its files survive any crash, and it leaves nothing on the machine. What every
//! backend promises is in [`crate::conformance`], which runs beside the image store's tests.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, Stdio},
    slice,
};

use tandem_model::{ByteSize, Explain};
use tempfile::TempDir;

use super::*;
use crate::{
    Image,
    conformance::{id, logged, script, write_busybox},
    prepared::Prepared,
};

mod volumes;

const DIGEST: &str = "sha256:00000000000000000000000000000000000000000000000000000000000000aa";

/// A folder of its own with one image, whose layer is unpacked by us: these tests are about containers only.
pub(super) struct Home {
    folder: TempDir,
    image: Image,
}

impl Home {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// With a second layer on top, of whatever `fill` puts into it.
    pub(super) fn with(fill: impl FnOnce(&Path)) -> Self {
        let folder = TempDir::new().unwrap();
        let (tar, layer) = (folder.path().join("base.tar"), folder.path().join("layer"));
        write_busybox(&tar);
        tar::Archive::new(fs::File::open(tar).unwrap()).unpack(&layer).unwrap();
        let image = Image {
            digest: DIGEST.into(),
            names: vec![],
            size: ByteSize(0),
            created: Timestamp::UNIX_EPOCH,
            entrypoint: vec![],
            command: vec![],
            environment: vec![],
            working_dir: String::new(),
            user: String::new(),
            platform: None,
        };
        let home = Self { folder, image };
        let upper = home.folder.path().join("upper-layer");
        fs::create_dir(&upper).unwrap();
        fill(&upper);
        let layers = vec![upper, layer];
        let prepared = Prepared { image: home.image.clone(), layers, pin: "none".into() };
        prepared::write(&Layout::new(&home.containers()), &prepared).unwrap();
        home
    }

    pub(super) fn containers(&self) -> PathBuf {
        self.folder.path().join("containers")
    }

    pub(super) fn open(&self) -> Arc<dyn Runtime> {
        OciRuntime::open(&self.containers(), None)
    }

    pub(super) fn script(&self, text: &str) -> Spec {
        script(&self.image, text)
    }

    /// Does one thing in a process of its own: `start` or `remove` of the container `one`.
    fn elsewhere(&self, what: &str, spec: &Spec) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "runtime::tests::does_one_thing_for_another_test", "--ignored", "--nocapture"])
            .env("TANDEM_TEST_FOLDER", self.containers())
            .env("TANDEM_TEST_ACTION", what)
            .env("TANDEM_TEST_SPEC", serde_json::to_string(spec).unwrap())
            .stdout(Stdio::piped());
        command
    }

    /// As [`Self::elsewhere`], killed when it comes by a failpoint.
    pub(super) fn killed_at(&self, failpoint: &str, what: &str, spec: &Spec) {
        let status = self.elsewhere(what, spec).env(tandem_failpoint::VARIABLE, failpoint).status().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGKILL), "{failpoint} was not come by");
    }

    /// Nothing of ours is left on the machine: no mount, no control group, no process.
    pub(super) fn assert_nothing_is_left(&self) {
        let folder = self.folder.path().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(folder), "{mounts}");
        let ours = cgroup::name(&Layout::new(&self.containers()).bundle(&id("x")), &id("x"));
        let prefix = ours.strip_suffix('x').unwrap();
        for tree in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            // With version 2 the groups are there; with version 1 there is a tree for each controller.
            let name = tree.file_name().into_string().unwrap();
            assert!(!name.starts_with(prefix), "{name}");
            for group in fs::read_dir(tree.path()).into_iter().flatten().flatten() {
                let name = group.file_name().into_string().unwrap();
                assert!(!name.starts_with(prefix), "{name} in {:?}", tree.path());
            }
        }
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            assert!(!line.contains(folder), "{line}");
        }
        for left in ["bundles", "exits", "state"] {
            let entries: Vec<_> = fs::read_dir(self.containers().join(left)).unwrap().collect();
            assert!(entries.is_empty(), "{left}: {entries:?}");
        }
    }
}

/// Reads until a process says this line.
fn says(child: &mut Child, line: &str) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|said| said.unwrap() == line), "it never said {line}");
}

#[tokio::test]
#[ignore = "other tests run it in a process of its own, with an environment that says what to do"]
async fn does_one_thing_for_another_test() {
    let runtime = OciRuntime::open(std::env::var("TANDEM_TEST_FOLDER").unwrap().as_ref(), None);
    let spec: Spec = serde_json::from_str(&std::env::var("TANDEM_TEST_SPEC").unwrap()).unwrap();
    match std::env::var("TANDEM_TEST_ACTION").unwrap().as_str() {
        "start" => println!("\n{}", result(runtime.start(&id("one"), &spec).await)),
        "remove" => runtime.remove(&id("one")).await.unwrap(),
        "start and stay" => {
            runtime.start(&id("one"), &spec).await.unwrap();
            println!("\nstarted");
            std::future::pending::<()>().await;
        }
        other => panic!("{other}"),
    }
}

fn result(started: Result<Started, ContainerError>) -> String {
    match started {
        Ok(_) => "started".into(),
        Err(error) => format!("{} {error}", error.code()),
    }
}

#[tokio::test]
async fn killed_before_the_command_ran_the_container_is_unstarted_and_starts_again() {
    let home = Home::new();
    let (runtime, one) = (home.open(), id("one"));
    let spec = home.script("echo ran; exit 6");
    for gap in ["prepared", "mounted", "monitored", "begun"] {
        home.killed_at(&format!("container.start.{gap}"), "start", &spec);
        assert_eq!(runtime.inspect(&one).await.unwrap(), Container::Unstarted, "{gap}");
        assert_eq!(runtime.list().await.unwrap(), slice::from_ref(&one), "{gap}");
        assert_eq!(runtime.wait(&one).await.unwrap_err().code(), "E0406", "{gap}");
        runtime.remove(&one).await.unwrap();
        assert_eq!(runtime.inspect(&one).await.unwrap(), Container::Absent, "{gap}");
        home.assert_nothing_is_left();

        runtime.start(&one, &spec).await.unwrap();
        assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 6 }, "{gap}");
        assert_eq!(logged(&*runtime, &one, "stdout"), "ran\n", "{gap}: it ran once");
        runtime.remove(&one).await.unwrap();
        fs::remove_file(runtime.log_file(&one)).unwrap();
    }
    home.assert_nothing_is_left();
}

#[tokio::test]
async fn killed_after_the_command_ran_the_container_is_running_and_ends_with_its_code() {
    let home = Home::new();
    let (runtime, one) = (home.open(), id("one"));
    let spec = home.script("trap 'exit 6' TERM; echo ready; sleep 600 & wait");
    home.killed_at("container.start.started", "start", &spec);
    assert_eq!(runtime.inspect(&one).await.unwrap(), Container::Running);
    while logged(&*runtime, &one, "stdout").is_empty() {
        tokio::task::yield_now().await;
    }
    runtime.signal(&one, libc::SIGTERM, false).await.unwrap();
    assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 6 });
    runtime.remove(&one).await.unwrap();
    home.assert_nothing_is_left();
}

#[tokio::test]
async fn killed_during_a_removal_the_exit_stays_known_until_all_is_gone() {
    let home = Home::new();
    let (runtime, one) = (home.open(), id("one"));
    for gap in ["deleted", "unmounted", "cleared"] {
        runtime.start(&one, &home.script("exit 4")).await.unwrap();
        assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 4 });
        home.killed_at(&format!("container.remove.{gap}"), "remove", &home.script(""));
        assert_eq!(runtime.list().await.unwrap(), slice::from_ref(&one), "{gap}");
        assert_eq!(runtime.inspect(&one).await.unwrap(), Container::Exited(Exit::Code { code: 4 }), "{gap}");
        runtime.remove(&one).await.unwrap();
        home.assert_nothing_is_left();
    }
}

#[tokio::test]
async fn a_container_outlives_the_process_group_that_started_it() {
    let home = Home::new();
    let (runtime, one) = (home.open(), id("one"));
    let spec = home.script("trap 'echo last words; exit 11' TERM; echo up; sleep 600 & wait");
    let mut starter = home.elsewhere("start and stay", &spec).process_group(0).spawn().unwrap();
    says(&mut starter, "started");
    let group = rustix::process::Pid::from_raw(i32::try_from(starter.id()).unwrap()).unwrap();
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
    assert_eq!(starter.wait().unwrap().signal(), Some(libc::SIGKILL));

    assert_eq!(runtime.inspect(&one).await.unwrap(), Container::Running);
    while logged(&*runtime, &one, "stdout").is_empty() {
        tokio::task::yield_now().await;
    }
    runtime.signal(&one, libc::SIGTERM, false).await.unwrap();
    assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 11 });
    assert_eq!(logged(&*runtime, &one, "stdout"), "up\nlast words\n");
    runtime.remove(&one).await.unwrap();
    home.assert_nothing_is_left();
}

#[tokio::test]
async fn what_ended_while_nobody_looked_is_known_with_code_and_log() {
    let home = Home::new();
    let one = id("one");
    let starter = home.elsewhere("start", &home.script("echo done; exit 12")).output().unwrap();
    assert!(String::from_utf8_lossy(&starter.stdout).contains("\nstarted\n"), "{starter:?}");
    assert_eq!(home.open().wait(&one).await.unwrap(), Exit::Code { code: 12 });
    assert_eq!(logged(&*home.open(), &one, "stdout"), "done\n");
    home.open().remove(&one).await.unwrap();
    home.assert_nothing_is_left();
}

#[tokio::test]
async fn a_container_whose_monitor_was_killed_is_lost_and_removed_with_its_processes() {
    let home = Home::new();
    let (runtime, one) = (home.open(), id("one"));
    let started = runtime.start(&one, &home.script("sleep 600")).await.unwrap();
    let waiting = tokio::spawn({
        let (runtime, one) = (runtime.clone(), one.clone());
        async move { runtime.wait(&one).await }
    });
    let pid = fs::read_to_string(home.containers().join("bundles/one/conmon.pid")).unwrap();
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Exit::Lost { full: false });
    assert_eq!(runtime.inspect(&one).await.unwrap(), Container::Exited(Exit::Lost { full: false }));
    assert!(Path::new(&format!("/proc/{}", started.pid)).exists(), "its process lives on, unobserved");
    runtime.remove(&one).await.unwrap();
    home.assert_nothing_is_left();
}

#[tokio::test]
async fn a_running_container_can_be_removed() {
    let home = Home::new();
    let (runtime, one) = (home.open(), id("one"));
    runtime.start(&one, &home.script("sleep 600")).await.unwrap();
    runtime.remove(&one).await.unwrap();
    assert_eq!(runtime.inspect(&one).await.unwrap(), Container::Absent);
    home.assert_nothing_is_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_containers_at_once_each_have_their_own_code_and_log() {
    let home = Home::new();
    let runs: Vec<_> = (0..20)
        .map(|n| {
            let (runtime, spec) = (home.open(), home.script(&format!("echo I am {n}; exit {n}")));
            tokio::spawn(async move {
                let one = id(&format!("run-{n}"));
                runtime.start(&one, &spec).await.unwrap();
                assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: n });
                assert_eq!(logged(&*runtime, &one, "stdout"), format!("I am {n}\n"));
                runtime.remove(&one).await.unwrap();
            })
        })
        .collect();
    for run in runs {
        run.await.unwrap();
    }
    home.assert_nothing_is_left();
}

#[tokio::test]
async fn a_container_can_neither_mount_nor_make_namespaces_nor_see_the_host() {
    let home = Home::new();
    let (runtime, one) = (home.open(), id("one"));
    let hidden = home.folder.path().display();
    let text = format!(
        "busybox mount -t tmpfs none /tmp; busybox unshare -U true; test -e {hidden} && echo seen; \
         busybox mknod /tmp/disk b 8 0 && cat /tmp/disk; echo x > /proc/sys/kernel/hostname; \
         busybox grep Cap /proc/self/status; exit 5"
    );
    runtime.start(&one, &home.script(&text)).await.unwrap();
    assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 5 });
    let errors = logged(&*runtime, &one, "stderr");
    for refused in [
        "mount: mounting none on /tmp failed",
        "unshare: unshare(0x10000000): Function not implemented",
        "mknod: /tmp/disk: Operation not permitted",
        "can't create /proc/sys/kernel/hostname: Read-only file system",
    ] {
        assert!(errors.contains(refused), "{refused} is not in {errors}");
    }
    let said = logged(&*runtime, &one, "stdout");
    assert!(!said.contains("seen"), "{said}");
    // Docker's default capabilities without NET_RAW (bit 13) and MKNOD (bit 27).
    assert!(said.contains("CapBnd:\t00000000a00405fb"), "{said}");
    runtime.remove(&one).await.unwrap();
    home.assert_nothing_is_left();
}

#[tokio::test]
async fn a_failed_start_leaves_nothing() {
    let home = Home::new();
    let runtime = home.open();
    let bad = [
        Spec { args: vec!["/nope".into()], ..home.script("") },
        Spec { user: "nobody".into(), ..home.script("true") },
        Spec { working_dir: "relative".into(), ..home.script("true") },
        Spec { memory: Some(ByteSize(4096)), ..home.script("true") },
    ];
    for spec in bad {
        let error = runtime.start(&id("one"), &spec).await.unwrap_err();
        assert_eq!(error.code(), "E0405", "{error}");
        assert_eq!(runtime.inspect(&id("one")).await.unwrap(), Container::Absent);
        home.assert_nothing_is_left();
        assert!(!runtime.log_file(&id("one")).exists(), "{error}");
    }
}

#[tokio::test]
async fn a_start_that_nobody_waits_for_any_more_runs_to_its_end() {
    let home = Home::new();
    let (runtime, one) = (home.open(), id("one"));
    let spec = home.script("exit 8");
    // Polled once, then dropped.
    let start = runtime.start(&one, &spec);
    tokio::select! {
        biased;
        _ = start => panic!("it cannot be done yet"),
        () = std::future::ready(()) => {}
    }
    while runtime.inspect(&one).await.unwrap() == Container::Absent {
        tokio::task::yield_now().await;
    }
    assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 8 });
    runtime.remove(&one).await.unwrap();
    home.assert_nothing_is_left();
}

#[test]
fn missing_programs_and_missing_root_are_named() {
    let home = Home::new();
    let spec = home.script("true");
    let run = |command: &mut Command| {
        let done = command.output().unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let said = run(home.elsewhere("start", &spec).env("PATH", "/nowhere"));
    assert!(said.contains("E0401 `conmon` is not installed"), "{said}");

    // Everybody may run the copy, whatever folder the tests were built in.
    let copy = home.folder.path().join("tests");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::set_permissions(home.folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let like = home.elsewhere("start", &spec);
    let mut other = Command::new(&copy);
    other
        .args(like.get_args())
        .envs(like.get_envs().filter_map(|(k, v)| Some((k, v?))))
        .uid(65534)
        .current_dir("/");
    let said = run(&mut other);
    assert!(said.contains("E0405 the container could not be started: this needs root"), "{said}");
}

#[tokio::test]
async fn a_runtime_asked_for_by_name_is_the_one_that_is_used() {
    let home = Home::new();
    let runtime = OciRuntime::open(&home.containers(), Some("no-such-runtime"));
    let error = runtime.start(&id("one"), &home.script("true")).await.unwrap_err();
    assert!(
        matches!(&error, ContainerError::NotInstalled { program, .. } if program == "no-such-runtime"),
        "{error}"
    );
}

#[test]
fn opening_touches_nothing() {
    let folder = TempDir::new().unwrap();
    let _runtime = OciRuntime::open(folder.path(), None);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
