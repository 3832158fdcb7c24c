use std::{fs, os::unix::process::ExitStatusExt, path::PathBuf, process::Command as Process, sync::Mutex};

use tandem_model::Explain;
use tokio::sync::mpsc;

use super::*;
use crate::{
    Exit, OciRuntime, Runtime, Unheard,
    conformance::{BASE, Collected, Subject, build, id, import_base, script, write_busybox},
};

/// Buildah and an OCI runtime in a folder of their own.
pub(super) struct Home(tempfile::TempDir);

impl Home {
    pub(super) fn new() -> Self {
        Self(tempfile::TempDir::new().unwrap())
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.0.path().join("containers")
    }

    pub(super) fn store(&self) -> BuildahStore {
        BuildahStore::new(&self.folder())
    }

    async fn working_containers(&self) -> Vec<String> {
        let store = self.store();
        let driver = store.driver().await.unwrap();
        let all = storage::containers(&store.layout.storage(), driver).unwrap();
        all.into_iter()
            .flat_map(|one| one.names.unwrap_or_default())
            .filter(|n| !n.starts_with(PIN_PREFIX))
            .collect()
    }

    /// Nothing of a build is left but what the store keeps.
    pub(super) async fn assert_no_build_is_left(&self) {
        let folder = self.0.path().to_str().unwrap();
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
            assert!(!line.contains(folder), "{line}");
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(folder), "{mounts}");
        assert_eq!(self.working_containers().await, [""; 0]);
        for left in ["scratch", "build-state"] {
            let entries: Vec<_> = fs::read_dir(self.folder().join(left)).into_iter().flatten().collect();
            assert!(entries.is_empty(), "{left}: {entries:?}");
        }
    }

    /// Does one thing in a process of its own, which is killed when it comes by a failpoint.
    fn killed_at(&self, failpoint: &str, what: &str) {
        let status = Process::new(env::current_exe().unwrap())
            .args(["--exact", "buildah::tests::does_one_thing_for_another_test", "--ignored"])
            .env("TANDEM_TEST_FOLDER", self.0.path())
            .env("TANDEM_TEST_ACTION", what)
            .env(tandem_failpoint::VARIABLE, failpoint)
            .output()
            .unwrap()
            .status;
        assert_eq!(status.signal(), Some(libc::SIGKILL), "{failpoint} was not come by");
    }
}

/// The folder of another test's home.
struct Elsewhere(PathBuf);

macro_rules! subject {
    ($home:ty, $root:expr) => {
        impl Subject for $home {
            fn builder(&self) -> Arc<dyn Builder> {
                BuildahStore::open(&$root(self).join("containers"))
            }
            fn runtime(&self) -> Arc<dyn Runtime> {
                OciRuntime::open(&$root(self).join("containers"), None)
            }
            fn scratch(&self) -> PathBuf {
                let folder = $root(self).join("scratch");
                fs::create_dir_all(&folder).unwrap();
                folder
            }
        }
    };
}

subject!(Home, |home: &Home| home.0.path().to_owned());
subject!(Elsewhere, |home: &Elsewhere| home.0.clone());

crate::container_conformance_tests!(Home::new());

#[tokio::test]
#[ignore = "other tests run it in a process of its own, with an environment that says what to do"]
async fn does_one_thing_for_another_test() {
    let home = Elsewhere(env::var("TANDEM_TEST_FOLDER").unwrap().into());
    match env::var("TANDEM_TEST_ACTION").unwrap().as_str() {
        "import" => drop(import_base(&home).await),
        "build" => {
            let error = build(&home, "built", BUILT, &Collected::default()).await;
            panic!("it was not killed: {error:?}");
        }
        "remove" => home.builder().remove(&ImageRef("base".into())).await.unwrap(),
        other => panic!("{other}"),
    }
}

const BUILT: &str = "FROM base\nRUN echo built > /made\n";

#[tokio::test]
async fn killed_at_each_gap_an_image_is_found_or_made_again() {
    let home = Home::new();
    let base = ImageRef("base".into());
    home.killed_at("container.image.imported", "import");
    assert_eq!(home.builder().resolve(&base, &Unheard).await.unwrap_err().code(), "E0403");

    home.killed_at("container.image.pinned", "import");
    let image = home.builder().resolve(&base, &Unheard).await.unwrap();
    assert_eq!(image.names, [BASE], "the names it had on its way in are gone, of both attempts");
    home.assert_no_build_is_left().await;

    home.killed_at("container.image.built", "build");
    let built = home.builder().resolve(&ImageRef("built".into()), &Unheard).await.unwrap();
    let runtime = home.runtime();
    runtime.start(&id("made"), &script(&built, "cat /made && exit 2")).await.unwrap();
    assert_eq!(runtime.wait(&id("made")).await.unwrap(), Exit::Code { code: 2 });
    runtime.remove(&id("made")).await.unwrap();

    home.builder().remove(&ImageRef("built".into())).await.unwrap();
    home.killed_at("container.image.forgotten", "remove");
    home.builder().remove(&base).await.unwrap();
    assert_eq!(home.builder().list().await.unwrap(), []);
}

/// Tells each line to somebody who waits for it.
struct Told(Mutex<mpsc::UnboundedSender<String>>);

impl Lines for Told {
    fn line(&self, line: &str) {
        let _ = self.0.lock().unwrap().send(line.to_owned());
    }
}

#[tokio::test]
async fn a_build_that_is_dropped_leaves_nothing() {
    let home = Arc::new(Home::new());
    import_base(&*home).await;
    let (lines, mut said) = mpsc::unbounded_channel();
    let building = tokio::spawn({
        let home = home.clone();
        async move {
            let lines = Told(Mutex::new(lines));
            build(&*home, "endless", "FROM base\nRUN echo begun && sleep 600\n", &lines).await
        }
    });
    while said.recv().await.expect("the step begins") != "begun" {}
    building.abort();
    assert!(building.await.unwrap_err().is_cancelled());
    // Others can build at once, beside what is still ending.
    build(&*home, "next", "FROM base\nRUN true\n", &Collected::default()).await.unwrap();
    session::settle(&home.store()).await.unwrap();
    home.assert_no_build_is_left().await;
    let gone =
        home.builder().resolve(&ImageRef("registry.invalid/endless".into()), &Unheard).await.unwrap_err();
    assert_eq!(gone.code(), "E0403");
}

#[tokio::test]
async fn steps_trust_whom_the_host_trusts_and_the_image_shows_nothing_of_it() {
    let home = Home::new();
    import_base(&home).await;
    let lines = Collected::default();
    let dockerfile = "FROM base\nENV MINE=1\nRUN env && cat \"$SSL_CERT_FILE\" | busybox sha256sum\n\
                      RUN test \"$PIP_CERT\" = \"$CURL_CA_BUNDLE\" && test -s \"$APT_CONFIG\"\n";
    let image = build(&home, "trusting", dockerfile, &lines).await.unwrap();
    let access = host::access(&home.store().layout.settings(), &[]).unwrap();
    let bundle = fs::read(&access.files[0].0).expect("this machine has a bundle of certificates");
    let digest = archive::hex(<sha2::Sha256 as sha2::Digest>::new_with_prefix(bundle));
    assert!(lines.text().contains(&digest), "{}", lines.text());

    assert!(image.environment.contains(&"MINE=1".to_owned()));
    let record = home.store().find(&Reference::Digest(image.digest.clone())).await.unwrap().unwrap();
    let mut inspect = home.store().buildah().await.unwrap();
    inspect.args(["inspect", "--type", "image", &record.id]);
    let inspected = tool::output("buildah", &mut inspect).await.unwrap();
    for (name, _) in &access.variables {
        assert!(!inspected.contains(&format!("{name}=")), "{name} is in {inspected}");
    }
    for layer in &prepared::read(&home.store().layout, &image.digest).unwrap().unwrap().layers {
        assert!(!layer.join("dev/tandem").exists(), "{layer:?}");
    }
}

/// The files below a folder in which a text is.
fn files_with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(files_with(&path, text));
        } else if kind.is_file()
            && fs::read(&path).is_ok_and(|all| all.windows(text.len()).any(|part| part == text.as_bytes()))
        {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn a_secret_is_seen_by_its_step_alone_and_stays_nowhere_even_after_a_kill() {
    let home = Arc::new(Home::new());
    import_base(&*home).await;
    let value = format!("{}-{}", "hush", std::process::id());
    let context = home.scratch().join("discreet");
    fs::create_dir_all(&context).unwrap();
    let step = "RUN --mount=type=secret,id=token cat /run/secrets/token | busybox sha256sum";
    let request = |dockerfile: String| {
        fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        let secrets = tandem_model::Secrets([("token".to_owned(), value.clone().into_bytes())].into());
        let (context, name) = (context.clone(), "discreet".into());
        BuildRequest { context, dockerfile: "Dockerfile".into(), name, secrets, ..BuildRequest::default() }
    };
    let lines = Collected::default();
    let whole = request(format!("FROM base\n{step}\nRUN test ! -s /run/secrets/token\n"));
    home.builder().build(&whole, &lines).await.unwrap();
    let digest = archive::hex(<sha2::Sha256 as sha2::Digest>::new_with_prefix(&value));
    assert!(lines.text().contains(&digest), "{}", lines.text());
    assert_eq!(files_with(&home.folder(), &value), [""; 0].map(PathBuf::from));

    let (lines, mut said) = mpsc::unbounded_channel();
    let endless = request(format!("FROM base\n{step} && echo begun && sleep 600\n"));
    let building = tokio::spawn({
        let home = home.clone();
        async move { home.builder().build(&endless, &Told(Mutex::new(lines))).await }
    });
    while said.recv().await.expect("the step begins") != "begun" {}
    for process in fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            let text = fs::read(process.path().join(file)).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&text).contains(&value), "{process:?}: {file}");
        }
    }
    building.abort();
    assert!(building.await.unwrap_err().is_cancelled());
    session::settle(&home.store()).await.unwrap();
    assert_eq!(files_with(&home.folder(), &value), [""; 0].map(PathBuf::from));
    home.assert_no_build_is_left().await;
}

#[tokio::test]
async fn steps_trust_a_builds_own_certificates_besides_the_hosts_and_no_layer_has_them() {
    let home = Home::new();
    import_base(&home).await;
    let pem = "-----BEGIN CERTIFICATE-----\nb3VyIG93bg==\n-----END CERTIFICATE-----";
    let context = home.scratch().join("own");
    fs::create_dir_all(&context).unwrap();
    let dockerfile = "FROM base\nRUN cat \"$SSL_CERT_FILE\" | busybox grep -c -e BEGIN -e b3VyIG93bg==\n";
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let (dockerfile, certificates) = ("Dockerfile".into(), vec![pem.to_owned()]);
    let request =
        BuildRequest { context, dockerfile, name: "own".into(), certificates, ..BuildRequest::default() };
    let lines = Collected::default();
    home.builder().build(&request, &lines).await.unwrap();
    let hosts = host::access(&home.store().layout.settings(), &[]).unwrap();
    let hosts = fs::read_to_string(&hosts.files[0].0).expect("this machine has a bundle of certificates");
    let count = hosts.lines().filter(|line| line.contains("BEGIN")).count() + 2;
    assert!(lines.text().lines().any(|line| line == count.to_string()), "{count}: {}", lines.text());
    assert_eq!(files_with(&home.folder(), "b3VyIG93bg==\n"), [""; 0].map(PathBuf::from));
    home.assert_no_build_is_left().await;
}

#[tokio::test]
async fn several_builds_at_once_share_the_store() {
    let home = Arc::new(Home::new());
    import_base(&*home).await;
    let builds: Vec<_> = (0..4)
        .map(|n| {
            let home = home.clone();
            tokio::spawn(async move {
                let dockerfile =
                    format!("FROM base\nRUN echo {n} > /number\nENTRYPOINT [\"cat\", \"/number\"]\n");
                build(&*home, &format!("number-{n}"), &dockerfile, &Collected::default()).await.unwrap()
            })
        })
        .collect();
    let mut digests = Vec::new();
    for build in builds {
        digests.push(build.await.unwrap().digest);
    }
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 4);
    assert_eq!(home.builder().list().await.unwrap().len(), 5);
    home.assert_no_build_is_left().await;
}

#[tokio::test]
async fn image_archives_are_imported_under_the_given_name_alone_compressed_or_not() {
    let home = Home::new();
    let image = import_base(&home).await;
    let record = home.store().find(&Reference::Digest(image.digest.clone())).await.unwrap().unwrap();
    for (transport, compressed) in
        [("docker-archive", false), ("oci-archive", false), ("docker-archive", true)]
    {
        let file = home.scratch().join(format!("{transport}-{compressed}.tar"));
        let mut push = home.store().buildah().await.unwrap();
        push.args(["push", "--quiet"]);
        settings::allow(&mut push, &home.store().layout);
        tool::output("buildah", push.arg(&record.id).arg(format!("{transport}:{}", file.display())))
            .await
            .unwrap();
        let file = match compressed {
            true => {
                let packed = file.with_extension("tar.zst");
                fs::write(&packed, zstd::encode_all(fs::File::open(&file).unwrap(), 1).unwrap()).unwrap();
                packed
            }
            false => file,
        };
        let imported = home.builder().import(&file, "again:1").await.unwrap();
        assert!(imported.names.contains(&"docker.io/library/again:1".to_owned()), "{imported:?}");
        assert_eq!(imported.command, image.command);
        assert!(imported.names.iter().all(|name| !name.contains("tandem-import")), "{imported:?}");
        let runtime = home.runtime();
        runtime.start(&id("again"), &script(&imported, "exit 3")).await.unwrap();
        assert_eq!(runtime.wait(&id("again")).await.unwrap(), Exit::Code { code: 3 });
        runtime.remove(&id("again")).await.unwrap();
    }
}

#[tokio::test]
async fn a_home_with_awkward_letters_works_the_same() {
    let parent = tempfile::TempDir::new().unwrap();
    let home = Elsewhere(parent.path().join("My Home (é)"));
    let image = import_base(&home).await;
    let built = build(&home, "built", BUILT, &Collected::default()).await.unwrap();
    assert_ne!(built.digest, image.digest);
    let runtime = home.runtime();
    runtime.start(&id("made"), &script(&built, "test \"$(cat /made)\" = built")).await.unwrap();
    assert_eq!(runtime.wait(&id("made")).await.unwrap(), Exit::Code { code: 0 });
    runtime.remove(&id("made")).await.unwrap();
}

#[tokio::test]
async fn opening_touches_nothing_and_a_missing_buildah_is_named() {
    let home = Home::new();
    let _builder = home.builder();
    assert!(!home.folder().exists());
    let tar = home.scratch().join("base.tar");
    write_busybox(&tar);
    let done = Process::new(env::current_exe().unwrap())
        .args(["--exact", "buildah::tests::does_one_thing_for_another_test", "--ignored"])
        .env("TANDEM_TEST_FOLDER", home.0.path())
        .env("TANDEM_TEST_ACTION", "import")
        .env("PATH", "/nowhere")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("NotInstalled { program: \"buildah\", package: \"buildah\" }"), "{said}");
}

/// Builds that overlap without end must not keep somebody waiting who needs all of them to be done.
#[tokio::test]
async fn who_waits_for_the_end_of_builds_comes_before_those_that_begin_later() {
    let home = Home::new();
    import_base(&home).await;
    let first = session::Session::begin(&home.store()).await.unwrap();
    let waiting = tokio::spawn({
        let store = home.store();
        async move { store.quiet(true).await.unwrap().unwrap() }
    });
    let door = fs::File::open(home.store().layout.settings().join("door.lock")).unwrap();
    while door.try_lock_shared().is_ok() {
        door.unlock().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let second = tokio::spawn({
        let store = home.store();
        async move { session::Session::begin(&store).await.unwrap().finish() }
    });
    first.finish();
    let quiet = waiting.await.unwrap();
    assert!(!second.is_finished());
    // Of what is there, anybody may be asked for meanwhile.
    home.builder().resolve(&ImageRef(BASE.to_owned()), &Unheard).await.unwrap();
    drop(quiet);
    second.await.unwrap();
}
