//! What every pair of [`Builder`] and [`Runtime`] must do. A backend runs the suite with
//! [`container_conformance_tests!`](crate::container_conformance_tests).
//!
//! Everything here really builds images and runs containers; the image is made of the host's static `busybox`.

#![expect(clippy::unwrap_used, reason = "a check fails by panicking")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    slice,
    sync::{Arc, Mutex},
    time::Duration,
};

use tandem_model::{ByteSize, Explain};

use crate::{
    BuildRequest, Builder, Container, ContainerError, ContainerId, Exit, Image, ImageRef, Lines, Platform,
    Runtime, Spec, Unheard,
    exchange::{Exchange, Left},
};

/// A backend in a folder of its own.
pub trait Subject: Send + Sync {
    /// Opens the image store anew, as another process would.
    fn builder(&self) -> Arc<dyn Builder>;
    /// Opens the containers anew, as another process would.
    fn runtime(&self) -> Arc<dyn Runtime>;
    /// A folder for what the checks write.
    fn scratch(&self) -> PathBuf;
    /// Whether it can bound what a container writes. An engine does it on few file systems; on others it must say so.
    fn bounds_storage(&self) -> bool {
        true
    }
}

/// Runs the suite against the backend that an expression makes: a fresh one for each check.
#[macro_export]
macro_rules! container_conformance_tests {
    ($fresh:expr) => {
        $crate::container_conformance_tests!(@each $fresh;
            an_imported_image_is_found_by_name_and_digest,
            an_image_that_was_written_out_is_taken_in_again_as_the_same,
            a_build_makes_an_image_that_runs,
            a_failed_instruction_is_named_with_its_last_lines,
            a_missing_base_image_says_how_to_get_it,
            a_missing_dockerfile_is_named,
            layers_are_made_again_when_they_are_too_old,
            a_build_for_other_machines_is_refused_by_their_names,
            an_image_in_use_is_not_removed,
            a_container_ends_with_its_true_code_and_its_whole_log,
            a_start_hands_over_environment_user_and_folder,
            a_container_is_given_its_input_and_leaves_a_result,
            a_container_finds_its_event_on_its_standard_input,
            a_container_over_its_memory_is_told_from_one_that_was_killed,
            a_command_that_is_not_there_is_refused_and_leaves_nothing,
            an_id_is_used_once_and_removed_as_often_as_asked,
            a_container_fills_its_own_disk_and_no_other,
            the_processor_time_of_a_container_is_told,
            what_one_opened_another_finds,
        );
    };
    (@each $fresh:expr; $($check:ident,)*) => {
        $(
            #[tokio::test]
            async fn $check() {
                let subject = $fresh;
                $crate::conformance::$check(&subject).await;
            }
        )*
    };
}

/// Collects what a build prints.
#[derive(Debug, Default)]
pub struct Collected(Mutex<Vec<String>>);

impl Collected {
    pub fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

impl Lines for Collected {
    fn line(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }
}

/// Writes a tar of a root file system: busybox under its usual names, and a user `app`.
///
/// # Panics
/// If this machine has no static busybox (Debian: `busybox-static`).
pub fn write_busybox(to: &Path) {
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    let program = program.expect("the suite needs the package busybox-static");
    let mut tar = tar::Builder::new(File::create(to).unwrap());
    let mut entry = |path: &str, kind: tar::EntryType, mode: u32, data: &[u8], link: Option<&str>| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        match link {
            Some(link) => tar.append_link(&mut header, path, link).unwrap(),
            None => tar.append_data(&mut header, path, data).unwrap(),
        }
    };
    for (folder, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777), ("root/", 0o700)] {
        entry(folder, tar::EntryType::Directory, mode, &[], None);
    }
    entry("bin/busybox", tar::EntryType::Regular, 0o755, &fs::read(program).unwrap(), None);
    for name in [
        "sh", "true", "false", "echo", "cat", "sleep", "id", "env", "test", "dd", "seq", "kill", "head",
        "mkdir", "httpd", "timeout",
    ] {
        entry(&format!("bin/{name}"), tar::EntryType::Symlink, 0o777, &[], Some("busybox"));
    }
    let users = b"root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/tmp:/bin/sh\n";
    entry("etc/passwd", tar::EntryType::Regular, 0o644, users, None);
    entry("etc/group", tar::EntryType::Regular, 0o644, b"root:x:0:\napp:x:1001:\nvideo:x:44:app\n", None);
    tar.finish().unwrap();
}

/// The name under which the suite imports busybox.
pub const BASE: &str = "docker.io/library/base:latest";

/// # Panics
/// If the subject does something else.
pub async fn an_image_that_was_written_out_is_taken_in_again_as_the_same(subject: &dyn Subject) {
    let (base, builder) = (import_base(subject).await, subject.builder());
    let folder = subject.scratch().join("layout");
    builder.export(&base.digest, &folder).await.unwrap();
    builder.remove(&ImageRef("base".into())).await.unwrap();
    assert_eq!(builder.names().await.unwrap(), []);
    let again = builder.import(&folder, "again:1").await.unwrap();
    assert_eq!((&again.digest, &again.command), (&base.digest, &base.command));
    let name = "docker.io/library/again:1".to_owned();
    assert_eq!(builder.names().await.unwrap(), [(name.clone(), base.digest)]);
    assert_eq!(builder.resolve(&ImageRef("again:1".into()), &Unheard).await.unwrap().names, [name]);
    let absent = format!("sha256:{}", "0".repeat(64));
    let error = builder.export(&absent, &subject.scratch().join("nothing")).await.unwrap_err();
    assert_eq!(error.code(), "E0403");
}

/// Imports busybox as [`BASE`].
pub async fn import_base(subject: &dyn Subject) -> Image {
    let tar = subject.scratch().join("base.tar");
    write_busybox(&tar);
    subject.builder().import(&tar, "base").await.unwrap()
}

/// Runs a shell script.
#[must_use]
pub fn script(image: &Image, text: &str) -> Spec {
    Spec {
        image: image.digest.clone(),
        args: vec!["sh".into(), "-c".into(), text.into()],
        environment: BTreeMap::new(),
        working_dir: String::new(),
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
    }
}

#[must_use]
pub fn id(text: &str) -> ContainerId {
    ContainerId(text.to_owned())
}

/// What one stream of a log says, its parts put together.
#[must_use]
pub fn logged(runtime: &dyn Runtime, id: &ContainerId, stream: &str) -> String {
    let log = fs::read(runtime.log_file(id)).unwrap();
    let mut text = String::new();
    for record in String::from_utf8(log).unwrap().lines() {
        let mut fields = record.splitn(4, ' ');
        let (_time, of, tag) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        if of == stream {
            text.push_str(fields.next().unwrap_or_default());
            if tag == "F" {
                text.push('\n');
            }
        }
    }
    text
}

/// Writes a Dockerfile and builds it.
///
/// # Errors
/// As [`Builder::build`].
pub async fn build(
    subject: &dyn Subject,
    name: &str,
    dockerfile: &str,
    lines: &dyn Lines,
) -> Result<Image, ContainerError> {
    let context = subject.scratch().join(name);
    fs::create_dir_all(&context).unwrap();
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let request = BuildRequest {
        context,
        dockerfile: "Dockerfile".into(),
        args: BTreeMap::from([("GREETING".to_owned(), "hello from an argument".to_owned())]),
        name: name.into(),
        ..BuildRequest::default()
    };
    Ok(subject.builder().build(&request, lines).await?.image)
}

pub async fn an_imported_image_is_found_by_name_and_digest(subject: &dyn Subject) {
    let image = import_base(subject).await;
    assert_eq!(image.names, [BASE]);
    assert!(image.size > ByteSize::mebibytes(1), "{:?}", image.size);
    let builder = subject.builder();
    for name in ["base", "library/base:latest", "docker.io/library/base", &image.digest] {
        assert_eq!(builder.resolve(&ImageRef(name.to_owned()), &Unheard).await.unwrap(), image, "{name}");
    }
    assert_eq!(builder.list().await.unwrap(), slice::from_ref(&image));
    let again = builder.import(&subject.scratch().join("base.tar"), "other:1").await.unwrap();
    assert_eq!(again.digest, image.digest, "the same file is the same image");
    assert_eq!(again.names.len(), 2, "{:?}", again.names);
    builder.remove(&ImageRef("other:1".into())).await.unwrap();
    assert_eq!(builder.list().await.unwrap(), slice::from_ref(&image), "one name less");

    builder.remove(&ImageRef("base".into())).await.unwrap();
    assert!(builder.list().await.unwrap().is_empty());
    let gone = builder.remove(&ImageRef("base".into())).await.unwrap_err();
    assert_eq!(gone.code(), "E0403");
    let no_archive = subject.scratch().join("text");
    fs::write(&no_archive, "this is no archive").unwrap();
    assert!(builder.import(&no_archive, "text").await.is_err());
}

pub async fn a_build_makes_an_image_that_runs(subject: &dyn Subject) {
    import_base(subject).await;
    let lines = Collected::default();
    let dockerfile = "FROM base\nARG GREETING\nRUN echo \"$GREETING\" > /greeting && echo said\n\
                      ENV KIND=test\nWORKDIR /tmp/work\nUSER app\nENTRYPOINT cat /greeting\n";
    let image = build(subject, "greeter", dockerfile, &lines).await.unwrap();
    assert!(lines.text().contains("said"), "{}", lines.text());
    assert_eq!(image.names, ["docker.io/library/greeter:latest"]);
    assert_eq!((image.working_dir.as_str(), image.user.as_str()), ("/tmp/work", "app"));
    assert_eq!(image.entrypoint, ["/bin/sh", "-c", "cat /greeting"]);
    assert!(image.environment.contains(&"KIND=test".to_owned()), "{:?}", image.environment);
    assert_eq!(subject.builder().resolve(&ImageRef("greeter".into()), &Unheard).await.unwrap(), image);

    let again = build(subject, "greeter", dockerfile, &Collected::default()).await.unwrap();
    assert_eq!(again.digest, image.digest, "nothing changed, so nothing is built");

    let (runtime, one) = (subject.runtime(), id("greeting"));
    let spec = Spec { args: image.entrypoint.clone(), ..script(&image, "") };
    runtime.start(&one, &spec).await.unwrap();
    assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 0 });
    assert_eq!(logged(&*runtime, &one, "stdout"), "hello from an argument\n");
    runtime.remove(&one).await.unwrap();
}

pub async fn a_failed_instruction_is_named_with_its_last_lines(subject: &dyn Subject) {
    import_base(subject).await;
    let dockerfile = "FROM base\nRUN true\nRUN echo to stdout; echo to stderr >&2; exit 7\nRUN never\n";
    let error = build(subject, "failing", dockerfile, &Collected::default()).await.unwrap_err();
    let ContainerError::Build { step, instruction, tail } = &error else { panic!("{error:?}") };
    assert_eq!(step.as_deref(), Some("STEP 3/4"));
    assert_eq!(instruction, "RUN echo to stdout; echo to stderr >&2; exit 7");
    assert!(
        tail.len() <= 20 && tail.contains(&"to stdout".into()) && tail.contains(&"to stderr".into()),
        "{tail:?}"
    );

    let error = build(subject, "unknown", "FROM base\nRUNN x\n", &Collected::default()).await.unwrap_err();
    assert!(matches!(&error, ContainerError::Build { .. }), "{error:?}");
    assert!(error.report().causes.iter().any(|line| line.contains("RUNN")), "{:?}", error.report());
    assert_eq!(subject.builder().list().await.unwrap().len(), 1, "a failed build leaves no image");
}

pub async fn a_missing_base_image_says_how_to_get_it(subject: &dyn Subject) {
    // A name that cannot be resolved anywhere (RFC 2606).
    let missing = "registry.invalid/nobody/nothing";
    let dockerfile = format!("FROM {missing}\nRUN true\n");
    for error in [
        build(subject, "orphan", &dockerfile, &Collected::default()).await.unwrap_err(),
        subject.builder().resolve(&ImageRef(missing.into()), &Unheard).await.unwrap_err(),
    ] {
        let ContainerError::NoImage { image, .. } = &error else { panic!("{error:?}") };
        assert!(image.starts_with(missing), "{image}");
        assert!(
            error.help().contains("tandem image import registry.invalid/nobody/nothing"),
            "{}",
            error.help()
        );
    }
}

pub async fn a_missing_dockerfile_is_named(subject: &dyn Subject) {
    let request = BuildRequest {
        context: subject.scratch(),
        dockerfile: "Containerfile".into(),
        name: "nothing".into(),
        ..BuildRequest::default()
    };
    for (dockerfile, reason) in
        [("Containerfile", "there is no such file"), ("../Dockerfile", "leads out of the build's folder")]
    {
        let request = BuildRequest { dockerfile: dockerfile.into(), ..request.clone() };
        let error = subject.builder().build(&request, &Collected::default()).await.unwrap_err().to_string();
        assert!(error.contains(dockerfile) && error.contains(reason), "{error}");
    }
}

pub async fn layers_are_made_again_when_they_are_too_old(subject: &dyn Subject) {
    import_base(subject).await;
    let context = subject.scratch().join("ageing");
    fs::create_dir_all(&context).unwrap();
    fs::write(context.join("Dockerfile"), "FROM base\nRUN busybox date > /made\nRUN true\n").unwrap();
    let request = BuildRequest {
        context,
        dockerfile: "Dockerfile".into(),
        name: "ageing".into(),
        // Nobody answers there; a build goes on without.
        cache_from: vec!["localhost:1/nobody".into()],
        max_age: Some(Duration::from_secs(3_600)),
        ..BuildRequest::default()
    };
    let builder = subject.builder();
    let first = builder.build(&request, &Collected::default()).await.unwrap();
    let again = builder.build(&request, &Collected::default()).await.unwrap();
    assert_eq!(again.image.digest, first.image.digest);
    let made = again.since;
    assert!(first.since <= made && made <= first.image.created, "{first:?} {again:?}");
    let old = BuildRequest { max_age: Some(Duration::from_millis(1)), ..request };
    let renewed = builder.build(&old, &Collected::default()).await.unwrap();
    assert_ne!(renewed.image.digest, first.image.digest);
    assert!(renewed.since > made, "{renewed:?}");
}

pub async fn a_build_for_other_machines_is_refused_by_their_names(subject: &dyn Subject) {
    let context = subject.scratch().join("foreign");
    fs::create_dir_all(&context).unwrap();
    fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
    let platform = Some("linux/mips64le".parse().unwrap());
    let (dockerfile, name) = ("Dockerfile".into(), "foreign".into());
    let request = BuildRequest { context, dockerfile, name, platform, ..BuildRequest::default() };
    let error = subject.builder().build(&request, &Collected::default()).await.unwrap_err();
    let here = Platform::here();
    assert_eq!(error.to_string(), format!("the build is for `linux/mips64le`, and this machine is `{here}`"));
    let request = BuildRequest { platform: Some(here.clone()), ..request };
    let built = subject.builder().build(&request, &Collected::default()).await.unwrap();
    assert_eq!(built.image.platform, Some(here));
}

pub async fn an_image_in_use_is_not_removed(subject: &dyn Subject) {
    let image = import_base(subject).await;
    let (runtime, one) = (subject.runtime(), id("user"));
    runtime.start(&one, &script(&image, "sleep 600")).await.unwrap();
    for name in ["base", &image.digest] {
        let error = subject.builder().remove(&ImageRef(name.to_owned())).await.unwrap_err();
        assert_eq!(error.code(), "E0404", "{error:?}");
    }
    runtime.signal(&one, libc::SIGKILL, true).await.unwrap();
    assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 137 });
    runtime.remove(&one).await.unwrap();
    subject.builder().remove(&ImageRef(image.digest.clone())).await.unwrap();
    let error = runtime.start(&one, &script(&image, "true")).await.unwrap_err();
    assert_eq!(error.code(), "E0403", "{error:?}");
}

pub async fn a_container_ends_with_its_true_code_and_its_whole_log(subject: &dyn Subject) {
    let image = import_base(subject).await;
    let (runtime, one) = (subject.runtime(), id("talker"));
    let text = "head -c 100000 /dev/zero | busybox tr '\\0' x; echo; echo oops >&2; busybox printf 'no newline'; exit 42";
    runtime.start(&one, &script(&image, text)).await.unwrap();
    assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 42 });
    assert_eq!(runtime.inspect(&one).await.unwrap(), Container::Exited(Exit::Code { code: 42 }));
    assert_eq!(logged(&*runtime, &one, "stdout"), format!("{}\nno newline", "x".repeat(100_000)));
    assert_eq!(logged(&*runtime, &one, "stderr"), "oops\n");
    runtime.remove(&one).await.unwrap();
    assert!(runtime.log_file(&one).exists(), "the log stays");
}

pub async fn a_start_hands_over_environment_user_and_folder(subject: &dyn Subject) {
    let image = import_base(subject).await;
    let (runtime, one) = (subject.runtime(), id("who"));
    let spec = Spec {
        environment: BTreeMap::from([("AWKWARD".to_owned(), "a b=\"c\" \n$d é".to_owned())]),
        working_dir: "/tmp/deep/er".into(),
        user: "app".into(),
        cpu: Some(0.5),
        memory: Some(ByteSize::mebibytes(64)),
        ..script(&image, "id; echo \"$AWKWARD\"; busybox pwd; busybox hostname")
    };
    runtime.start(&one, &spec).await.unwrap();
    assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 0 });
    let expected =
        "uid=1000(app) gid=1001(app) groups=44(video),1001(app)\na b=\"c\" \n$d é\n/tmp/deep/er\nwho\n"
            .to_owned();
    assert_eq!(
        logged(&*runtime, &one, "stdout").replace("groups=44(video)\n", "groups=44(video),1001(app)\n"),
        expected
    );
    runtime.remove(&one).await.unwrap();
    let error = runtime.start(&one, &Spec { user: "nobody".into(), ..spec }).await.unwrap_err();
    assert!(error.to_string().contains("no user `nobody`"), "{error}");
}

pub async fn a_container_is_given_its_input_and_leaves_a_result(subject: &dyn Subject) {
    const LIMIT: ByteSize = ByteSize(32);
    let image = import_base(subject).await;
    let runtime = subject.runtime();
    let given = |input: &str| Some(Exchange { input: Some(input.to_owned()), event: None });
    let text = "busybox sed s/in/out/ $TANDEM_INPUT >$TANDEM_RESULT";
    let echo = Spec { exchange: given(r#""in é""#), ..script(&image, text) };
    // A result needs no input, and no root.
    let text = "echo [${TANDEM_INPUT-}] >$TANDEM_RESULT; exit 3";
    let app = Spec { exchange: Some(Exchange::default()), user: "app".into(), ..script(&image, text) };
    let outside = Spec { exchange: given("0"), ..script(&image, "busybox ln -s /etc/passwd $TANDEM_RESULT") };
    let hard =
        Spec { exchange: given("0"), ..script(&image, "busybox ln /etc/passwd $TANDEM_RESULT || true") };
    let pipe = Spec { exchange: given("0"), ..script(&image, "busybox mkfifo $TANDEM_RESULT") };
    let long = Spec { exchange: given("0"), ..script(&image, "head -c 33 /dev/zero >$TANDEM_RESULT") };
    let none = script(&image, "echo ${TANDEM_RESULT-none}");
    let size = ByteSize(33);
    for (name, spec, left) in [
        ("echo", &echo, Left::Bytes(r#""out é""#.into())),
        ("app", &app, Left::Bytes(b"[]\n".into())),
        ("outside", &outside, Left::NoFile),
        ("hard", &hard, Left::Nothing),
        ("pipe", &pipe, Left::NoFile),
        ("long", &long, Left::TooLarge { size }),
        ("none", &none, Left::Nothing),
    ] {
        runtime.start(&id(name), spec).await.unwrap();
        let exit = runtime.wait(&id(name)).await.unwrap();
        let code = if name == "app" { 3 } else { 0 };
        assert_eq!(exit, Exit::Code { code }, "{name}: {}", logged(&*runtime, &id(name), "stderr"));
        // As another process would ask, and as often as it likes.
        for runtime in [subject.runtime(), runtime.clone()] {
            assert_eq!(runtime.result(&id(name), LIMIT).await.unwrap(), left, "{name}");
        }
        runtime.remove(&id(name)).await.unwrap();
        assert_eq!(runtime.result(&id(name), LIMIT).await.unwrap(), Left::Nothing, "{name}: removed");
    }
    assert_eq!(logged(&*runtime, &id("none"), "stdout"), "none\n");
}

pub async fn a_container_finds_its_event_on_its_standard_input(subject: &dyn Subject) {
    let image = import_base(subject).await;
    let runtime = subject.runtime();
    let given = |event: &str| Some(Exchange { input: None, event: Some(event.to_owned()) });
    let text = "read -r line; echo \"$line\"; busybox cat; busybox cat $TANDEM_EVENT_FILE";
    let small = Spec { exchange: given(r#"{"n":"é"}"#), ..script(&image, text) };
    let app = Spec { user: "app".into(), ..small.clone() };
    // Larger than what pipes and sockets hold.
    let text = "busybox wc -c; busybox wc -c <$TANDEM_EVENT_FILE";
    let large = Spec { exchange: given(&"x".repeat(3 << 20)), ..script(&image, text) };
    // Who does not read it is not held up, and ends.
    let deaf = Spec { exchange: given(&"x".repeat(3 << 20)), ..script(&image, "echo done") };
    let none = script(&image, "busybox wc -c; echo [${TANDEM_EVENT_FILE-}]");
    let size = (3 << 20) + 1;
    for (name, spec, expected) in [
        ("small", &small, "{\"n\":\"é\"}\n{\"n\":\"é\"}\n".to_owned()),
        ("app", &app, "{\"n\":\"é\"}\n{\"n\":\"é\"}\n".to_owned()),
        ("large", &large, format!("{size}\n{size}\n")),
        ("deaf", &deaf, "done\n".to_owned()),
        ("none", &none, "0\n[]\n".to_owned()),
    ] {
        runtime.start(&id(name), spec).await.unwrap();
        let exit = runtime.wait(&id(name)).await.unwrap();
        assert_eq!(exit, Exit::Code { code: 0 }, "{name}: {}", logged(&*runtime, &id(name), "stderr"));
        assert_eq!(logged(&*runtime, &id(name), "stdout"), expected, "{name}");
        runtime.remove(&id(name)).await.unwrap();
    }
}

pub async fn a_container_over_its_memory_is_told_from_one_that_was_killed(subject: &dyn Subject) {
    let image = import_base(subject).await;
    let runtime = subject.runtime();
    let memory = Some(ByteSize::mebibytes(24));
    let greedy = Spec { memory, ..script(&image, "exec dd if=/dev/zero of=/dev/null bs=256M count=1") };
    // The kernel kills a child here, and the container ends because of it.
    let parent = Spec { memory, ..script(&image, "dd if=/dev/zero of=/dev/null bs=256M count=1; exit 3") };
    let killed = Spec { memory, ..script(&image, "kill -KILL $$; sleep 600") };
    let modest = Spec { memory, ..script(&image, "exit 9") };
    for (name, spec) in [("greedy", &greedy), ("parent", &parent), ("killed", &killed), ("modest", &modest)] {
        runtime.start(&id(name), spec).await.unwrap();
    }
    assert_eq!(runtime.wait(&id("greedy")).await.unwrap(), Exit::OutOfMemory { code: 137 });
    assert_eq!(runtime.wait(&id("parent")).await.unwrap(), Exit::OutOfMemory { code: 3 });
    runtime.signal(&id("killed"), libc::SIGKILL, false).await.unwrap();
    assert_eq!(runtime.wait(&id("killed")).await.unwrap(), Exit::Code { code: 137 });
    assert_eq!(runtime.wait(&id("modest")).await.unwrap(), Exit::Code { code: 9 });
    for one in runtime.list().await.unwrap() {
        runtime.remove(&one).await.unwrap();
    }
}

pub async fn a_command_that_is_not_there_is_refused_and_leaves_nothing(subject: &dyn Subject) {
    let image = import_base(subject).await;
    let runtime = subject.runtime();
    for (args, reason) in [
        (vec!["/no/such/command"], "/no/such/command"),
        (vec!["etc/passwd"], "etc/passwd"),
        (vec![], "no command"),
    ] {
        let args = args.into_iter().map(str::to_owned).collect();
        let error = runtime.start(&id("nothing"), &Spec { args, ..script(&image, "") }).await.unwrap_err();
        assert!(
            matches!(&error, ContainerError::Start { .. }) && error.to_string().contains(reason),
            "{error}"
        );
        assert!(!error.to_string().contains("level=error"), "{error}");
        assert_eq!(runtime.inspect(&id("nothing")).await.unwrap(), Container::Absent);
    }
    assert!(runtime.list().await.unwrap().is_empty());
    for bad in ["", "a/b", "..", "-x", "a b", &"x".repeat(65)] {
        assert!(runtime.start(&id(bad), &script(&image, "true")).await.is_err(), "{bad}");
    }
}

pub async fn an_id_is_used_once_and_removed_as_often_as_asked(subject: &dyn Subject) {
    let image = import_base(subject).await;
    let (runtime, one) = (subject.runtime(), id("once"));
    assert_eq!(runtime.inspect(&one).await.unwrap(), Container::Absent);
    assert_eq!(runtime.wait(&one).await.unwrap_err().code(), "E0406");
    assert_eq!(runtime.signal(&one, libc::SIGTERM, false).await.unwrap_err().code(), "E0406");
    runtime.remove(&one).await.unwrap();

    runtime.start(&one, &script(&image, "exit 1")).await.unwrap();
    let taken = runtime.start(&one, &script(&image, "exit 2")).await.unwrap_err();
    assert!(taken.to_string().contains("there is a container `once` already"), "{taken}");
    assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 1 });
    assert!(runtime.start(&one, &script(&image, "exit 2")).await.is_err());
    assert_eq!(runtime.signal(&one, libc::SIGTERM, false).await.unwrap_err().code(), "E0406");
    runtime.remove(&one).await.unwrap();
    runtime.remove(&one).await.unwrap();
    runtime.start(&one, &script(&image, "exit 2")).await.unwrap();
    assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 2 });
    runtime.remove(&one).await.unwrap();
}

pub async fn a_container_fills_its_own_disk_and_no_other(subject: &dyn Subject) {
    let image = import_base(subject).await;
    let runtime = subject.runtime();
    let storage = Some(ByteSize::mebibytes(24));
    let text = "dd if=/dev/zero of=/fill bs=1M count=64; echo $?; rm /fill; dd if=/dev/zero of=/again bs=1M count=8 && ls /";
    let spec = Spec { storage, ..script(&image, text) };
    let started = runtime.start(&id("full"), &spec).await;
    if !subject.bounds_storage() {
        assert_eq!(started.unwrap_err().code(), "E0421");
        assert!(runtime.list().await.unwrap().is_empty());
        return;
    }
    started.unwrap();
    // Another one's is not touched by it, nor is what has no limit.
    runtime
        .start(&id("other"), &Spec { storage, ..script(&image, "dd if=/dev/zero of=/a bs=1M count=16") })
        .await
        .unwrap();
    let unlimited = "dd if=/dev/zero of=/a bs=1M count=64";
    runtime.start(&id("unlimited"), &script(&image, unlimited)).await.unwrap();
    for name in ["full", "other", "unlimited"] {
        assert_eq!(runtime.wait(&id(name)).await.unwrap(), Exit::Code { code: 0 }, "{name}");
    }
    let (said, errors) = (logged(&*runtime, &id("full"), "stdout"), logged(&*runtime, &id("full"), "stderr"));
    assert!(said.starts_with("1\n") && !said.contains("lost+found"), "{said}");
    assert!(errors.contains("No space left on device"), "{errors}");
    for name in ["full", "other", "unlimited"] {
        runtime.remove(&id(name)).await.unwrap();
    }
}

pub async fn the_processor_time_of_a_container_is_told(subject: &dyn Subject) {
    let image = import_base(subject).await;
    let runtime = subject.runtime();
    let absent = runtime.cpu_time(&id("busy")).await.unwrap_err();
    assert_eq!(absent.code(), "E0406");
    runtime.start(&id("busy"), &script(&image, "while :; do :; done")).await.unwrap();
    runtime.start(&id("idle"), &script(&image, "sleep 600")).await.unwrap();
    let enough = Duration::from_millis(300);
    while runtime.cpu_time(&id("busy")).await.unwrap() < enough {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(runtime.cpu_time(&id("idle")).await.unwrap() < enough);
    for name in ["busy", "idle"] {
        runtime.signal(&id(name), libc::SIGKILL, true).await.unwrap();
        runtime.wait(&id(name)).await.unwrap();
        runtime.remove(&id(name)).await.unwrap();
    }
}

pub async fn what_one_opened_another_finds(subject: &dyn Subject) {
    let image = import_base(subject).await;
    let one = id("shared");
    let started = subject
        .runtime()
        .start(&one, &script(&image, "trap 'exit 5' TERM; echo up; sleep 600 & wait"))
        .await
        .unwrap();
    assert!(Path::new(&format!("/proc/{}", started.pid)).exists());
    let other = subject.runtime();
    assert_eq!(other.list().await.unwrap(), slice::from_ref(&one));
    assert_eq!(other.inspect(&one).await.unwrap(), Container::Running);
    let waiting = tokio::spawn({
        let (another, one) = (subject.runtime(), one.clone());
        async move { another.wait(&one).await }
    });
    // A signal before the shell has set its trap would end it otherwise; its first line says that it has.
    while logged(&*other, &one, "stdout").is_empty() {
        tokio::task::yield_now().await;
    }
    other.signal(&one, libc::SIGTERM, false).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Exit::Code { code: 5 });
    assert_eq!(other.wait(&one).await.unwrap(), Exit::Code { code: 5 });
    other.remove(&one).await.unwrap();
}
