//! What a build reads besides its folder, and what is said of folders that cannot be built from.

use std::{
    fs,
    os::unix::net::UnixListener,
    path::Path,
    time::{Duration, SystemTime},
};

use crate::harness::{Cloud, Ran, prepared};

fn program(build: &str) -> String {
    format!(
        r#"
const cloud = require("@tandem/cloud");
const pulumi = require("@pulumi/pulumi");
const config = new pulumi.Config();
new cloud.Task("job", {{ build: {build} }});
"#
    )
}

const DOCKERFILE: &str = "FROM busybox\nCMD [\"echo\", \"built\"]\n";

/// The files below a folder in which a text is.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(&entry.path(), text));
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).unwrap_or_default();
            if bytes.windows(text.len()).any(|part| part == text.as_bytes()) {
                found.push(entry.path().display().to_string());
            }
        }
    }
    found
}

#[test]
fn secrets_and_certificates_are_in_steps_and_nowhere_else_and_another_secret_builds_nothing() {
    let cloud = Cloud::new();
    cloud.import_busybox();
    let build = r#"{
        context: "./image",
        secrets: { file: { file: "./token" }, env: { env: "TANDEM_TEST_SECRET" }, setting: config.requireSecret("key") },
        extraCaCertificates: ["own.pem"],
    }"#;
    let dockerfile = "FROM busybox\n\
        RUN --mount=type=secret,id=file --mount=type=secret,id=env --mount=type=secret,id=setting \
        cd /run/secrets && busybox sha256sum file env setting | busybox cut -c1-16 > /seen\n\
        RUN busybox grep -c b3VyIG93bg== \"$SSL_CERT_FILE\" >> /seen\n\
        CMD [\"cat\", \"/seen\"]\n";
    let pem = "-----BEGIN CERTIFICATE-----\nb3VyIG93bg==\n-----END CERTIFICATE-----\n";
    let files = [
        ("index.js", program(build)),
        ("image/Dockerfile", dockerfile.to_owned()),
        ("token", "hush-from-a-file".to_owned()),
        ("own.pem", pem.to_owned()),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let project = cloud.project("discreet", &files);
    project.tandem(&["config", "set", "--secret", "key", "hush-from-a-setting"]).ok();
    project.tandem(&["preview"]).refused().says("E0548").says("TANDEM_TEST_SECRET");
    let up = |value: &str| {
        let mut command = project.command();
        command.args(["up", "--yes", "--json"]).env("TANDEM_TEST_SECRET", value);
        Ran::run(&mut command).ok()
    };
    let said = up("hush-from-a-variable");
    for value in ["hush-from-a-file", "hush-from-a-variable", "hush-from-a-setting"] {
        assert!(!said.all().contains(value), "{}", said.all());
        assert_eq!(files_with(&cloud.home(), value), [""; 0], "{value}");
    }
    // What their SHA-256 begin with, and how often the certificate is in the bundle.
    let seen = project.tandem(&["run", "job"]).ok().stdout;
    let digests = ["791a4e1443e7d55c", "55fcc334c34b0109", "6f31daaf5f924a06", "1"];
    assert_eq!(seen.lines().collect::<Vec<_>>(), digests);

    project.edit("token", "another");
    let unchanged = up("another").stdout;
    assert!(!unchanged.contains("stepStarted"), "{unchanged}");
    project.edit("own.pem", "-----BEGIN CERTIFICATE-----\nYW5vdGhlcg==\n-----END CERTIFICATE-----\n");
    let changed = up("another").stdout;
    assert!(changed.contains("build.extraCaCertificates"), "{changed}");
    project.destroy();
}

#[test]
fn folders_that_cannot_be_built_from_say_what_is_in_the_way_before_anything_is_read() {
    let cloud = Cloud::new();
    cloud.import_busybox();
    let files = [("index.js", program("\"./image\"")), ("image/Dockerfile", DOCKERFILE.to_owned())];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let project = cloud.project("awkward", &files);
    let image = project.folder().join("image");
    fs::File::create(image.join("disk.img")).unwrap().set_len(10 << 30).unwrap();
    let large = project.tandem(&["preview"]).refused().says("E0546").says("`disk.img` (10 GiB)");
    assert!(large.all().contains(".dockerignore") && large.all().contains("contextLimit"), "{}", large.all());
    project.edit("image/.dockerignore", "disk.img\n");
    let socket = UnixListener::bind(image.join("app.sock")).unwrap();
    project.tandem(&["preview"]).refused().says("E0547").says("app.sock` is a socket");
    project.edit("image/.dockerignore", "disk.img\n*.sock\n");
    project.tandem(&["preview"]).ok();
    drop(socket);

    for (build, code, text) in [
        (r#"{ context: "./image", dockerfile: "../Dockerfile" }"#, "E0540", "../Dockerfile"),
        (r#"{ context: "./image", extraCaCertificates: ["no.pem"] }"#, "E0548", "no.pem"),
        (r#"{ context: "./image", secrets: { npm: { file: "no" } } }"#, "E0548", "the secret `npm`"),
        (r#"{ context: "./image", secrets: { npm: { path: "no" } } }"#, "E0506", "build.secrets.npm"),
        (r#"{ context: "./image", platform: "arm" }"#, "E0531", "`build.platform` is `arm`"),
        (r#"{ context: "./image", maxAge: "later" }"#, "E0531", "`later` is not an age"),
    ] {
        project.edit("index.js", &program(build));
        project.tandem(&["preview"]).refused().says(code).says(text);
    }
    project.edit("index.js", &program(r#"{ context: "./image", platform: "linux/mips64le" }"#));
    project.tandem(&["up", "--yes"]).failed("E0412").says("linux/mips64le");
    project.edit("index.js", &program("\"./image\""));
    project.edit("image/Dockerfile", "# nothing\nFROM localhost:1/nobody/nothing:none\n");
    project.tandem(&["up", "--yes"]).failed("E0403").says("./image/Dockerfile:2");
    project.destroy();
}

#[test]
fn a_preview_names_the_files_that_changed_and_the_base_that_is_newer_and_builds_nothing() {
    let cloud = Cloud::new();
    cloud.import_busybox();
    let build = |more: &str| program(&format!(r#"{{ context: "./image"{more} }}"#));
    let dockerfile = "FROM busybox\nCOPY . /files\nCMD [\"cat\", \"/files/a\"]\n";
    let files = [
        ("index.js", build("")),
        ("image/Dockerfile", dockerfile.to_owned()),
        ("image/a", "one".to_owned()),
        ("image/b", "one".to_owned()),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let project = cloud.project("renewed", &files);
    project.up();
    let images = || cloud.tandem(&["image", "ls"]).ok().stdout;
    assert!(images().contains("AGE") && images().contains("second"), "{}", images());
    project.edit("image/a", "two");
    project.edit("image/new", "two");
    fs::remove_file(project.folder().join("image/b")).unwrap();
    let before = images().lines().count();
    let preview = || project.tandem(&["preview"]).ok().stdout;
    assert!(preview().contains("rebuild: 3 files changed: a, b (gone), new (new)"), "{}", preview());
    assert_eq!(images().lines().count(), before, "{}", images());
    project.up();
    assert_eq!(project.tandem(&["run", "job"]).ok().stdout.trim(), "two");
    assert!(preview().contains("Nothing to do"), "{}", preview());

    // The same name means another image now: the same files, made at another time.
    let again = cloud.scratch().join("busybox.tar");
    fs::copy(prepared("TANDEM_TEST_BUSYBOX_IMAGE"), &again).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    fs::File::options().write(true).open(&again).unwrap().set_modified(then).unwrap();
    cloud.tandem(&["image", "import", "docker.io/library/busybox", again.to_str().unwrap()]).ok();
    let note = "note: docker.io/library/busybox:latest, from which task/job is built, has a newer image";
    let told = preview().replace('\n', " ");
    assert!(told.contains(note) && told.contains("Nothing to do"), "{told}");
    project.tandem(&["up", "--yes"]).ok().says("Nothing to do");
    let pulled = project.tandem(&["up", "--yes", "--pull"]).ok();
    assert!(pulled.all().contains("rebuild: docker.io/library/busybox:latest is newer"), "{}", pulled.all());
    assert!(preview().contains("Nothing to do"), "{}", preview());
    project.destroy();
}
