//! Stock clients of registries push images that programs then run, and pull what Tandem has.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::harness::{Client, Cloud, Project, Ran};

/// A task that says what the image is, and a project that is not deployed yet: its image has still to be pushed.
fn project<'a>(cloud: &'a Cloud, image: &str) -> Project<'a> {
    let program = format!(
        "const cloud = require('@tandem/cloud');\n\
         new cloud.Task('job', {{ image: {image:?}, command: ['sh', '-c', 'echo runs $MADE; cat /made'] }});\n"
    );
    cloud.project("images", &[("index.js", &program)])
}

/// `skopeo`, with keys and without TLS, and the registry's address.
struct Skopeo<'a> {
    client: &'a Client,
    folder: &'a Path,
}

impl Skopeo<'_> {
    fn run(&self, arguments: &[&str]) -> Ran {
        // No key or policy of the person who runs the tests.
        let mut command = Command::new("skopeo");
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.folder);
        command.env("REGISTRY_AUTH_FILE", self.folder.join("auth.json"));
        Ran::run(command.arg("--insecure-policy").args(arguments))
    }

    fn name(&self, image: &str) -> String {
        format!("docker://{}/{image}", self.client.variable("TANDEM_REGISTRY"))
    }

    fn login(&self) -> Ran {
        let of = |name| self.client.variable(name);
        self.run(&[
            "login",
            "--tls-verify=false",
            "--username",
            of("TANDEM_REGISTRY_USER"),
            "--password",
            of("TANDEM_REGISTRY_PASSWORD"),
            of("TANDEM_REGISTRY"),
        ])
    }

    fn push(&self, from: &str, image: &str) -> Ran {
        self.run(&["copy", "--dest-tls-verify=false", from, &self.name(image)])
    }

    fn pull(&self, image: &str, to: &str) -> Ran {
        self.run(&["copy", "--src-tls-verify=false", &self.name(image), to])
    }

    fn inspect(&self, image: &str) -> Ran {
        self.run(&["inspect", "--tls-verify=false", &self.name(image)])
    }
}

/// A layout of BusyBox with one file more, as somebody's own build would make it elsewhere.
fn somebodys_image(cloud: &Cloud, made: &str) -> String {
    let buildah = Buildah::new(cloud, "elsewhere");
    let tar = crate::harness::prepared("TANDEM_TEST_BUSYBOX_IMAGE");
    let container = buildah.run(&["from", "scratch"]).ok().value().to_owned();
    buildah.run(&["add", "--quiet", &container, tar.to_str().unwrap(), "/"]).ok();
    let file = cloud.scratch().join("made");
    fs::write(&file, format!("made {made}\n")).unwrap();
    buildah.run(&["copy", "--quiet", &container, file.to_str().unwrap(), "/made"]).ok();
    buildah.run(&["config", "--env", &format!("MADE={made}"), "--cmd", "sh", &container]).ok();
    let layout = format!("oci:{}", cloud.scratch().join(made).display());
    buildah.run(&["commit", "--quiet", &container, &layout]).ok();
    buildah.run(&["rm", &container]).ok();
    layout
}

/// `buildah` with a store of its own.
struct Buildah {
    folder: std::path::PathBuf,
}

impl Buildah {
    fn new(cloud: &Cloud, name: &str) -> Self {
        let folder = cloud.scratch().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
        fs::write(folder.join("auth.json"), "{}").unwrap();
        Self { folder }
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let (verb, rest) = arguments.split_first().unwrap();
        let mut command = Command::new("buildah");
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", &self.folder);
        command.env("REGISTRY_AUTH_FILE", self.folder.join("auth.json"));
        command.arg("--root").arg(self.folder.join("root")).arg("--runroot").arg(self.folder.join("run"));
        command.args(["--storage-driver", "vfs", verb]);
        let (own, rest) = rest.split_at(usize::from(*verb == "manifest"));
        command.args(own);
        if matches!(*verb, "from" | "push" | "pull" | "commit") || own == ["push"] {
            command.arg("--signature-policy").arg(self.folder.join("policy.json"));
        }
        Ran::run(command.args(rest))
    }
}

/// The names that `tandem image ls` shows.
fn names(cloud: &Cloud) -> Vec<String> {
    let images: Value = serde_json::from_str(&cloud.tandem(&["image", "ls", "--json"]).ok().stdout).unwrap();
    let of = |image: &Value| image["names"].as_array().unwrap().clone();
    let names = images.as_array().unwrap().iter().flat_map(of);
    names.map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_image_that_skopeo_pushes_is_run_by_a_task_and_pulled_back_as_it_was() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let layout = somebodys_image(&cloud, "first");
    let project = project(&cloud, "team/app:v1");
    let client = cloud.client(&project);
    let skopeo = Skopeo { client: &client, folder: cloud.scratch() };

    // Before anything is deployed there are keys for images.
    let refused = skopeo.push(&layout, "team/app:v1");
    assert!(
        refused.code != Some(0) && refused.stderr.contains("authentication required"),
        "{}",
        refused.all()
    );
    skopeo.login().ok();
    let digest = cloud.scratch().join("digest");
    let to = skopeo.name("team/app:v1");
    let push = ["copy", "--digestfile", digest.to_str().unwrap(), "--dest-tls-verify=false", &layout, &to];
    skopeo.run(&push).ok();
    assert_eq!(names(&cloud), ["docker.io/team/app:v1"]);
    project.up();
    let ran = project.tandem(&["run", "job"]).ok();
    assert!(ran.stdout.contains("runs first\nmade first\n"), "{}", ran.all());

    let pulled = cloud.scratch().join("pulled");
    skopeo.pull("team/app:v1", &format!("oci:{}", pulled.display())).ok();
    let index: Value = serde_json::from_slice(&fs::read(pulled.join("index.json")).unwrap()).unwrap();
    let pushed = fs::read_to_string(&digest).unwrap();
    assert_eq!(index["manifests"][0]["digest"], pushed.trim(), "as it was pushed, to the byte");

    // The stack's own keys will do as well, now that there is a stack.
    let keys =
        format!("{}:{}", client.variable("AWS_ACCESS_KEY_ID"), client.variable("AWS_SECRET_ACCESS_KEY"));
    let archive = format!("docker-archive:{}", cloud.scratch().join("archive.tar").display());
    skopeo
        .run(&["copy", "--src-creds", &keys, "--src-tls-verify=false", &skopeo.name("team/app:v1"), &archive])
        .ok();
    skopeo.push(&archive, "other:from-archive").ok();
    let inspected: Value = serde_json::from_str(&skopeo.inspect("other:from-archive").ok().stdout).unwrap();
    assert_eq!(inspected["RepoTags"], serde_json::json!(["from-archive"]));

    // What a stack uses is not deleted; what it does not use any more is.
    let delete = |image: &str| skopeo.run(&["delete", "--tls-verify=false", &skopeo.name(image)]);
    cloud.tandem(&["image", "rm", "other:from-archive"]).ok();
    assert_ne!(skopeo.inspect("other:from-archive").code, Some(0), "what `image rm` removed is not pulled");
    let kept = delete("team/app:v1");
    assert!(kept.code != Some(0) && kept.stderr.contains("runs from it"), "{}", kept.all());
    project.destroy();
    delete("team/app:v1").ok();
    assert_eq!(names(&cloud), [""; 0]);
    assert_eq!(fs::read_dir(cloud.home().join("registry/blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn buildah_pulls_what_tandem_imported_and_pushes_what_a_dockerfile_builds_upon() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_busybox();
    let project = cloud.project(
        "images",
        &[
            (
                "index.js",
                "const cloud = require('@tandem/cloud');\n\
                 new cloud.Task('job', { build: './job', command: ['cat', '/made', '/built'] });\n",
            ),
            ("job/Dockerfile", "FROM base:mine\nRUN echo built here > /built\n"),
        ],
    );
    let client = cloud.client(&project);
    let of = |name| client.variable(name);
    let buildah = Buildah::new(&cloud, "client");
    let wrong = ["login", "--tls-verify=false", "-u", of("TANDEM_REGISTRY_USER"), "-p", "wrong"];
    let wrong = buildah.run(&[&wrong[..], &[of("TANDEM_REGISTRY")]].concat());
    assert!(wrong.code != Some(0) && wrong.stderr.contains("invalid username/password"), "{}", wrong.all());
    let password = of("TANDEM_REGISTRY_PASSWORD");
    buildah
        .run(&[
            "login",
            "--tls-verify=false",
            "-u",
            of("TANDEM_REGISTRY_USER"),
            "-p",
            password,
            of("TANDEM_REGISTRY"),
        ])
        .ok();

    // What was imported is pulled; what is made of it is pushed, and builds upon it find it.
    let remote = |image: &str| format!("docker://{}/{image}", of("TANDEM_REGISTRY"));
    let container = buildah.run(&["from", "--tls-verify=false", &remote("busybox")]).ok().value().to_owned();
    let file = cloud.scratch().join("made");
    fs::write(&file, "made elsewhere\n").unwrap();
    buildah.run(&["copy", "--quiet", &container, file.to_str().unwrap(), "/made"]).ok();
    buildah.run(&["commit", "--quiet", &container, "mine"]).ok();
    for format in ["oci", "v2s2"] {
        buildah.run(&["push", "--tls-verify=false", "--format", format, "mine", &remote("base:mine")]).ok();
    }
    project.up();
    let ran = project.tandem(&["run", "job"]).ok();
    assert!(ran.stdout.contains("made elsewhere\nbuilt here\n"), "{}", ran.all());

    // And what Tandem built is pulled by its name.
    let built =
        names(&cloud).into_iter().find(|name| name.starts_with("localhost/tandem/images-dev-job:")).unwrap();
    let container = buildah.run(&["from", "--tls-verify=false", &remote(&built)]).ok().value().to_owned();
    let root = buildah.run(&["mount", &container]).ok().value().to_owned();
    assert_eq!(fs::read_to_string(Path::new(&root).join("built")).unwrap(), "built here\n");
    buildah.run(&["umount", &container]).ok();
    buildah.run(&["rm", "--all"]).ok();
    project.destroy();
}

#[test]
fn of_a_list_of_platforms_this_machines_image_is_run_and_a_deployed_task_keeps_its_own() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let first = somebodys_image(&cloud, "first");
    let second = somebodys_image(&cloud, "second");
    let project = project(&cloud, "app");
    let client = cloud.client(&project);
    let skopeo = Skopeo { client: &client, folder: cloud.scratch() };
    skopeo.login().ok();
    // A list of one image for this machine and one for another.
    let buildah = Buildah::new(&cloud, "lists");
    fs::copy(cloud.scratch().join("auth.json"), buildah.folder.join("auth.json")).unwrap();
    buildah.run(&["manifest", "create", "list"]).ok();
    buildah.run(&["manifest", "add", "--os", "linux", "--arch", "s390x", "list", &second]).ok();
    buildah.run(&["manifest", "add", "list", &first]).ok();
    let to = skopeo.name("app");
    buildah.run(&["manifest", "push", "--all", "--tls-verify=false", "list", &to]).ok();
    let raw = skopeo.run(&["inspect", "--raw", "--tls-verify=false", &to]).ok();
    let list: Value = serde_json::from_str(&raw.stdout).unwrap();
    assert_eq!(list["manifests"].as_array().unwrap().len(), 2, "{list}");
    project.up();
    let run = |expected: &str| {
        let ran = project.tandem(&["run", "job"]).ok();
        assert!(ran.stdout.contains(expected), "{}", ran.all());
    };
    run("made first\n");

    // Another image gets the name. The task was deployed with the one before; a new one gets the other.
    skopeo.push(&second, "app").ok();
    assert_eq!(names(&cloud), ["docker.io/library/app:latest"]);
    run("made first\n");
    let table = cloud.tandem(&["image", "ls"]).ok().stdout;
    assert!(table.contains("(none)"), "{table}");
    project.destroy();
    // As it was pushed, with the address of the cloud.
    let program = fs::read_to_string(project.folder().join("index.js")).unwrap();
    let with_address = format!("'{}/app'", client.variable("TANDEM_REGISTRY"));
    project.edit("index.js", &program.replace("\"app\"", &with_address));
    project.up();
    run("made second\n");
    project.destroy();
}

/// Where the cloud can die while an image is pushed. The first two pass blobs, the others make an image of them.
const COMMIT_POINTS: &[&str] = &[
    "registry.blob.synced",
    "registry.blob.named@2",
    "registry.manifest.stored",
    "registry.manifest.committed",
    "container.image.imported",
    "container.image.pinned",
    "registry.image.imported",
    "registry.tag.committed",
];

#[test]
fn killed_anywhere_in_a_push_the_push_can_be_repeated_and_what_was_acknowledged_stays() {
    let cloud = Cloud::new();
    let first = somebodys_image(&cloud, "first");
    let second = somebodys_image(&cloud, "second");
    let project = project(&cloud, "app:v1");
    let serving = cloud.serve();
    let client = cloud.client(&project);
    let skopeo = Skopeo { client: &client, folder: cloud.scratch() };
    skopeo.login().ok();
    skopeo.push(&first, "app:acknowledged").ok();
    assert!(serving.terminate().success());
    let acknowledged = |point: &str| {
        let inspected: Value = serde_json::from_str(&skopeo.inspect("app:acknowledged").ok().stdout).unwrap();
        assert!(inspected["Env"].as_array().unwrap().contains(&"MADE=first".into()), "{point}: {inspected}");
    };
    for (n, point) in COMMIT_POINTS.iter().enumerate() {
        // Each push brings an image that is not there yet.
        let image = if n == 0 { second.clone() } else { somebodys_image(&cloud, &format!("killed-{n}")) };
        let serving = cloud.serve_until(point);
        let pushed = skopeo.push(&image, "app:v1");
        assert_ne!(pushed.code, Some(0), "{point}: it was acknowledged by a cloud that died");
        serving.died(point);
        let serving = cloud.serve();
        acknowledged(point);
        skopeo.push(&image, "app:v1").ok();
        assert_eq!(names(&cloud).iter().filter(|name| name.ends_with("/app:v1")).count(), 1, "{point}");
        assert!(serving.terminate().success(), "{point}");
    }
    let _serving = cloud.serve();
    project.up();
    let ran = project.tandem(&["run", "job"]).ok();
    let last = COMMIT_POINTS.len() - 1;
    assert!(ran.stdout.contains(&format!("made killed-{last}\n")), "{}", ran.all());
    project.destroy();
}
