//! Images that nobody needs go; what a stack uses never does, whatever happens meanwhile.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;

use crate::harness::{Cloud, PATIENCE, Project, Ran};

const TASK: &str = "const cloud = require('@tandem/cloud');\nnew cloud.Task('job', { build: './job' });\n";

fn dockerfile(version: &str) -> String {
    format!(
        "FROM busybox\nRUN echo {version} > /version\nRUN echo more >> /version\nCMD [\"cat\", \"/version\"]\n"
    )
}

fn project<'a>(cloud: &'a Cloud, version: &str) -> Project<'a> {
    cloud.project("tidy", &[("index.js", TASK), ("job/Dockerfile", &dockerfile(version))])
}

fn runs(project: &Project<'_>, version: &str) {
    assert_eq!(project.tandem(&["run", "job"]).ok().stdout, format!("{version}\nmore\n"));
}

/// Names of what went or would, how many steps of builds, and whether that frees anything.
fn prune(cloud: &Cloud, arguments: &[&str]) -> (Vec<String>, usize, bool) {
    let pruned = cloud.tandem(&[&["image", "prune", "--json"], arguments].concat()).ok();
    let pruned: Value = serde_json::from_str(&pruned.stdout).unwrap();
    let all = pruned["images"].as_array().unwrap();
    let (steps, images): (Vec<&Value>, Vec<&Value>) = all.iter().partition(|one| one["step"] == true);
    let names = |one: &&Value| {
        one["names"].as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    (images.iter().flat_map(names).collect(), steps.len(), pruned["freed"] != 0)
}

fn names(cloud: &Cloud) -> Vec<String> {
    let images: Value = serde_json::from_str(&cloud.tandem(&["image", "ls", "--json"]).ok().stdout).unwrap();
    let of = |image: &Value| image["names"].as_array().unwrap().clone();
    images.as_array().unwrap().iter().flat_map(of).map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_nobody_needs_goes_and_what_a_stack_uses_stays() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_busybox();
    let project = project(&cloud, "one");
    project.up();
    assert_eq!(prune(&cloud, &[]), (vec![], 0, false), "all of it is used");
    project.edit("job/Dockerfile", &dockerfile("two"));
    project.up();
    assert_eq!(names(&cloud).len(), 3);

    let foreseen = prune(&cloud, &["--dry-run"]);
    assert_eq!((foreseen.0.len(), foreseen.1), (1, 2), "one with its two steps: {foreseen:?}");
    assert!(foreseen.0[0].starts_with("localhost/tandem/tidy-dev-job:") && foreseen.2, "{foreseen:?}");
    assert_eq!(names(&cloud).len(), 3, "a dry run removes nothing");
    assert_eq!(prune(&cloud, &[]), foreseen);
    assert_eq!(names(&cloud).len(), 2);
    runs(&project, "two");
    // The steps of what is used are still there to be built upon.
    project.edit("job/Dockerfile", &format!("{}ENV X=1\n", dockerfile("two")));
    let rebuilt = project.tandem(&["up", "--yes"]).ok();
    assert!(rebuilt.stderr.contains("Using cache"), "{}", rebuilt.all());

    // With all names gone, what is used stays all the same; the base goes by name, and its layers stay.
    let (all, _, _) = prune(&cloud, &["--all"]);
    assert!(all.contains(&"docker.io/library/busybox:latest".to_owned()), "{all:?}");
    runs(&project, "two");
    project.destroy();
    let told = cloud.tandem(&["image", "prune"]).ok();
    assert!(told.stdout.contains("localhost/tandem/tidy-dev-job:"), "{}", told.all());
    assert!(told.stderr.contains("removed 1 image and"), "{}", told.all());
    assert_eq!(names(&cloud), [""; 0]);
    let left = fs::read_dir(cloud.home().join("containers/images")).unwrap().count();
    assert_eq!(left, 0, "no prepared image is left");
}

/// Where the cloud can die while images go.
const COMMIT_POINTS: &[&str] = &[
    "images.prune.forgotten",
    "container.discard.forgotten",
    "container.discard.unpinned",
    "container.discard.removed",
    "images.prune.forgotten@2",
];

#[test]
fn killed_anywhere_in_a_prune_the_next_one_goes_on_and_what_is_used_runs() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    cloud.import_busybox();
    let project = project(&cloud, "kept");
    project.up();
    assert!(serving.terminate().success());
    for point in COMMIT_POINTS {
        let serving = cloud.serve();
        let other = cloud.scratch().join("other");
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("Dockerfile"), dockerfile(point)).unwrap();
        cloud.tandem(&["build", "other"]).ok();
        assert!(serving.terminate().success());
        let serving = cloud.serve_until(point);
        let pruned = cloud.tandem(&["image", "prune"]);
        assert_ne!(pruned.code, Some(0), "{point}: {}", pruned.all());
        serving.died(point);
        let serving = cloud.serve();
        cloud.tandem(&["image", "prune"]).ok();
        assert_eq!(names(&cloud).len(), 2, "{point}");
        assert_eq!(prune(&cloud, &[]), (vec![], 0, false), "{point}: nothing is left");
        assert_eq!(fs::read_dir(cloud.home().join("containers/images")).unwrap().count(), 2, "{point}");
        runs(&project, "kept");
        assert!(serving.terminate().success(), "{point}");
    }
    let _serving = cloud.serve();
    project.destroy();
}

#[test]
fn builds_updates_and_runs_go_on_beside_prunes() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_busybox();
    let project = project(&cloud, "v0");
    project.up();
    let stop = AtomicBool::new(false);
    let mut prune = cloud.command();
    prune.args(["image", "prune"]);
    thread::scope(|scope| {
        let pruning = scope.spawn(|| {
            let mut times = 0;
            while !stop.load(Ordering::Relaxed) {
                Ran::run(&mut prune).ok();
                times += 1;
            }
            times
        });
        let ended = catch_unwind(AssertUnwindSafe(|| {
            for version in ["v1", "v2", "v1", "v3"] {
                project.edit("job/Dockerfile", &dockerfile(version));
                project.up();
                runs(&project, version);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        let times = pruning.join().unwrap();
        assert!(ended.is_ok() && times > 1, "{times} prunes went well");
    });
    project.destroy();
}

#[test]
fn what_nobody_asked_for_in_seven_days_goes_by_itself() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    cloud.import_busybox();
    let project = project(&cloud, "one");
    project.up();
    let former = names(&cloud);
    project.edit("job/Dockerfile", &dockerfile("two"));
    project.up();
    let all = names(&cloud);
    assert!(serving.terminate().success());

    // As if nobody had asked for any of them for so long.
    let aged = |days: u64| {
        let then = SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60);
        for file in fs::read_dir(cloud.home().join("containers/images")).unwrap() {
            fs::File::options().write(true).open(file.unwrap().path()).unwrap().set_modified(then).unwrap();
        }
    };
    aged(6);
    let serving = cloud.serve();
    runs(&project, "two");
    assert_eq!(names(&cloud), all);
    assert!(serving.terminate().success());
    aged(8);
    let _serving = cloud.serve();
    let deadline = Instant::now() + PATIENCE;
    while names(&cloud).len() == all.len() {
        assert!(Instant::now() < deadline, "it does not go");
        thread::sleep(Duration::from_millis(20));
    }
    let gone: Vec<_> = all.iter().filter(|name| !names(&cloud).contains(name)).cloned().collect();
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert!(former.contains(&gone[0]) && gone[0].starts_with("localhost/tandem/"), "{gone:?}");
    runs(&project, "two");
    project.destroy();
}
