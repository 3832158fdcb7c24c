//! Real kills (SIGKILL) at every failpoint of the engine, with the state in files and the world in one beside it.

use std::{
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, ExitStatus},
    sync::Arc,
};

use super::{program::declare, stack, world::World};
use crate::{Events, Options, Stacks, Stop, Summary, Update, port::StateStore, state};

const FAILPOINTS: [&str; 7] = [
    "engine.journal.begun",
    "engine.target.applied",
    "engine.journal.done",
    "engine.journal.failed",
    "engine.state.written",
    "engine.state.saved",
    "engine.state.acknowledged",
];

/// One update of the stack below `folder`, as the process does it.
async fn up(folder: &Path, program: &str) -> Result<Summary, crate::ApplyError> {
    let world = Arc::new(World::kept(folder.join("world.json")));
    let files = Stacks::new(folder.join("stacks")).lock(&stack(), "test")?;
    let options = Options::default();
    let update = Update::apply(Arc::new(files), world, options, Events::ignored(), Stop::default()).await?;
    declare(&update, &program.parse().unwrap()).await
}

#[tokio::test]
#[ignore = "the tests of this file run it, in a process that is killed"]
async fn child() {
    let folder = std::env::var("SCENARIO_FOLDER").unwrap();
    // A refusal is what some programs are for; the parent looks at what is left.
    let _ = up(folder.as_ref(), &std::env::var("SCENARIO_PROGRAM").unwrap()).await;
}

fn spawn(folder: &Path, program: &str, failpoint: &str) -> ExitStatus {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "scenario::killed::child", "--ignored", "--quiet"]);
    command.env("SCENARIO_FOLDER", folder).env("SCENARIO_PROGRAM", program);
    command.env(tandem_failpoint::VARIABLE, failpoint);
    command.env(tandem_failpoint::MET_VARIABLE, folder.join("met"));
    command.output().unwrap().status
}

/// Every write of the engine, in the order in which an update comes by.
const WRITES: [&str; 7] = [
    "engine.folder.making",
    "engine.lock.writing",
    "engine.state.writing",
    "engine.state.written",
    "engine.journal.opening",
    "engine.journal.writing",
    "engine.journal.clearing",
];

#[tokio::test]
async fn an_update_that_met_a_full_disk_at_any_write_is_finished_by_the_next() {
    for (point, errno) in WRITES.iter().flat_map(|point| [(point, "enospc"), (point, "eio")]) {
        for turn in 1..=4 {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            let program = "bucket/a; task/b pin=1; function/c env=@task/b";
            let armed = format!("{point}@{turn}:{errno}");
            let status = spawn(folder, program, &armed);
            assert!(status.success(), "{armed}: it must end by itself: {status}");
            let met = std::fs::read_to_string(folder.join("met")).unwrap();
            assert!(met.contains(&format!("try {point}\n")), "{armed} was not passed");
            up(folder, program).await.unwrap_or_else(|error| panic!("{armed}: {error}"));
            let files = Stacks::new(folder.join("stacks")).lock(&stack(), "test").unwrap();
            let stored = files.load().await.unwrap();
            let folded = state::fold(stored.state, stored.journal);
            let world = World::kept(folder.join("world.json"));
            let recorded: Vec<String> =
                folded.state.resources.values().map(|r| format!("{}={}", r.urn.short(), r.id)).collect();
            assert_eq!(world.list(), recorded, "{armed}");
            assert_eq!((folded.pending.len(), world.unacknowledged()), (0, 0), "{armed}");
        }
    }
}

#[tokio::test]
async fn killed_at_any_failpoint_an_update_is_finished_by_the_next() {
    for failpoint in FAILPOINTS {
        for turn in 1..=4 {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            World::kept(folder.join("world.json")).refuse(&super::urn("task/no"), true);
            up(folder, "bucket/old; task/a pin=1").await.unwrap();
            let status = spawn(
                folder,
                "task/a pin=2; function/b env=@task/a; task/no",
                &format!("{failpoint}@{turn}"),
            );
            assert!(turn > 1 || status.signal() == Some(9), "{failpoint} was not passed: {status}");

            up(folder, "task/a pin=2; function/b env=@task/a").await.unwrap();
            let files = Stacks::new(folder.join("stacks")).lock(&stack(), "test").unwrap();
            let folded = state::fold(files.load().await.unwrap().state, files.load().await.unwrap().journal);
            drop(files);
            let world = World::kept(folder.join("world.json"));
            let recorded: Vec<String> =
                folded.state.resources.values().map(|r| format!("{}={}", r.urn.short(), r.id)).collect();
            assert_eq!(world.list(), recorded, "{failpoint}@{turn}");
            assert_eq!(
                (folded.pending.len(), world.unacknowledged(), recorded.len()),
                (0, 0, 2),
                "{failpoint}@{turn}"
            );
            up(folder, "").await.unwrap();
            assert_eq!(World::kept(folder.join("world.json")).list(), Vec::<String>::new());
        }
    }
}
