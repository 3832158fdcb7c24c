//! `bench`: runs the benchmarks in release.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{base_image, process, setup, tree};

pub(crate) const HELP: &str = "\
usage: cargo xtask bench [NAME…]

Builds in release, measures a cloud of its own and prints a table with the machine, the floors measured in the same
run, and the budgets. Names choose what is measured: `cargo xtask bench -- --list` names them. Needs root.
";

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
    let release = tree::target()?.join("release");
    let mut bench = Command::new(release.join("tandem-bench"));
    bench.args(arguments.iter().filter(|a| *a != "--"));
    bench.env("TANDEM_BIN", release.join("tandem")).env("TANDEM_TEST_BUSYBOX_IMAGE", busybox);
    process::run(&mut bench)
}
