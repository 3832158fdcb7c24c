//! `test`: every test of the workspace, with the stock clients and base images that some of them need.

use std::process::Command;

use anyhow::Result;

use crate::{base_image, engine, process, setup, tree, video};

pub(crate) const HELP: &str = "\
usage: cargo xtask test [ARGUMENT…]

Sets up, builds, and runs all tests with cargo-nextest. Arguments go to nextest: a name runs the tests whose name
contains it, `-p tandem-store` those of one crate, `--no-capture` shows what they print.
";

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    setup::ensure()?;
    let cargo = tree::cargo();
    let video = tree::target()?.join("cat_00-01.mp4");
    video::ensure(&video)?;
    let ffmpeg = base_image::ffmpeg()?;
    let busybox = base_image::busybox()?;
    let runtimes = base_image::runtimes()?;
    let servers = base_image::servers()?;
    // With --workspace it gets the features that the tests' build gives it, so that nothing is compiled twice.
    let mut build = Command::new(&cargo);
    process::run(build.args(["build", "--workspace", "--bin", "tandem"]))?;
    let root = tree::root()?;
    if arguments.is_empty() && has_doc_tests(&root)? {
        process::run(Command::new(&cargo).args(["test", "--workspace", "--doc", "--quiet"]))?;
    }
    let mut tests = Command::new(&cargo);
    tests.args(["nextest", "run", "--workspace"]).args(arguments);
    tests.env("TANDEM_BIN", tree::target()?.join("debug/tandem"));
    tests.env("TANDEM_TEST_PYTHON", setup::python()?);
    tests.env("TANDEM_TEST_AWS", setup::aws()?);
    tests.env("TANDEM_TEST_JS", setup::node_packages()?);
    tests.env("TANDEM_TEST_FFMPEG_IMAGE", ffmpeg);
    tests.env("TANDEM_TEST_BUSYBOX_IMAGE", busybox);
    tests.env("TANDEM_TEST_RUNTIMES_IMAGE", runtimes);
    tests.env("TANDEM_TEST_SERVERS_IMAGE", servers);
    tests.env("TANDEM_TEST_VIDEO", video);
    engine::offer(&mut tests)?;
    process::run(&mut tests)
}

/// Whether any documentation comment has a block that rustdoc would run. Asking rustdoc itself takes a minute.
fn has_doc_tests(root: &std::path::Path) -> Result<bool> {
    for file in tree::files(root)?.iter().filter(|f| f.starts_with("crates/") && f.ends_with(".rs")) {
        let text = tree::read(&root.join(file))?;
        let mut open = false;
        for line in text.lines() {
            let line = line.trim_start();
            let Some(comment) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
                open = false;
                continue;
            };
            if let Some(language) = comment.trim().strip_prefix("```") {
                if !open && (language.is_empty() || language.starts_with("rust") || language == "no_run") {
                    return Ok(true);
                }
                open = !open;
            }
        }
    }
    Ok(false)
}
