//! `bench`: runs the benchmarks in release.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, bail};

use crate::{base_image, engine, process, setup, tree};

pub(crate) const HELP: &str = "\
usage: cargo xtask bench [NAME…]

Builds in release, measures a cloud of its own and prints a table with the machine, the floors measured in the same
run, and the budgets. Installs other servers into target/rivals, to measure them beside ours. Names choose what is measured: `cargo xtask bench -- --list` names them. Needs root.
";

const RESTATE: [&str; 2] = ["@restatedev/restate-server@1.7.12", "@restatedev/restate-sdk@1.17.2"];

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    setup::ensure()?;
    if !setup::is_root()? {
        bail!("the benchmarks start containers and sandboxes: run them as root");
    }
    let busybox = base_image::busybox()?;
    process::run(Command::new(tree::cargo()).args([
        "build",
        "--release",
        "-p",
        "tandem",
        "-p",
        "tandem-bench",
    ]))?;
    let rivals = rivals()?;
    let release = tree::target()?.join("release");
    let mut bench = Command::new(release.join("tandem-bench"));
    bench.args(arguments.iter().filter(|a| *a != "--"));
    bench.env("TANDEM_BIN", release.join("tandem")).env("TANDEM_TEST_BUSYBOX_IMAGE", busybox);
    bench.envs(rivals);
    engine::offer(&mut bench)?;
    process::run(&mut bench)
}

/// The servers that ours is measured beside, pinned, in a folder of their own; and the variables that name them.
fn rivals() -> Result<[(&'static str, PathBuf); 3]> {
    let folder = tree::target()?.join("rivals");
    let (s3s_fs, ministack) = (folder.join("bin/s3s-fs"), folder.join("py/bin/ministack"));
    if !s3s_fs.exists() {
        let mut install = Command::new(tree::cargo());
        install.args(["install", "--quiet", "--locked", "--version", "0.14.1", "--features", "binary"]);
        install.arg("--root").arg(&folder).arg("s3s-fs");
        process::timed("installing s3s-fs (it is compiled: some minutes)", || process::run(&mut install))?;
    }
    if !ministack.exists() {
        process::timed("installing MiniStack", || {
            let python = folder.join("py/bin/python");
            process::output(Command::new("python3").args(["-m", "venv"]).arg(folder.join("py")))?;
            let mut install = Command::new(python);
            install.args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "ministack==1.5.33",
            ]);
            process::output(&mut install).map(drop)
        })?;
    }
    let restate = folder.join("restate");
    if !restate.join("node_modules/@restatedev/restate-server-linux-x64").is_dir() {
        std::fs::create_dir_all(&restate)?;
        process::timed("installing Restate", || {
            let mut install = Command::new("npm");
            install
                .args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix"])
                .arg(&restate);
            install.args(RESTATE);
            process::output(&mut install).map(drop)
        })?;
    }
    Ok([
        ("TANDEM_BENCH_S3S_FS", s3s_fs),
        ("TANDEM_BENCH_MINISTACK", ministack),
        ("TANDEM_BENCH_RESTATE", restate),
    ])
}
