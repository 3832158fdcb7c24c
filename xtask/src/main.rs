//! The project's chores: `cargo xtask <chore>`.
//!
//! One file a chore. Kept free of heavy dependencies, because it is compiled before anything else can happen.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a chore talks to the person who runs it")]

mod base_image;
mod bench;
mod cgroup2;
mod chaos;
mod demo;
mod engine;
mod process;
mod setup;
mod suite;
mod tidy;
mod tree;
mod video;

use std::{env, process::ExitCode};

use anyhow::{Result, bail};

struct Chore {
    name: &'static str,
    summary: &'static str,
    help: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const CHORES: &[Chore] = &[
    Chore {
        name: "setup",
        summary: "install what the other chores need",
        help: setup::HELP,
        run: setup::main,
    },
    Chore {
        name: "demo",
        summary: "run the video thumbnailer and show the result",
        help: demo::HELP,
        run: demo::main,
    },
    Chore { name: "test", summary: "pass every test", help: suite::HELP, run: suite::main },
    Chore { name: "bench", summary: "measure, beside the budgets", help: bench::HELP, run: bench::main },
    Chore { name: "chaos", summary: "kill the cloud at random", help: chaos::HELP, run: chaos::main },
    Chore {
        name: "cgroup2",
        summary: "run the sandbox's tests with control groups version 2",
        help: cgroup2::HELP,
        run: cgroup2::main,
    },
    Chore { name: "tidy", summary: "check what the compiler does not", help: tidy::HELP, run: tidy::main },
    Chore {
        name: "base-image",
        summary: "make the base image of the examples from Debian packages",
        help: base_image::HELP,
        run: base_image::main,
    },
    Chore { name: "video", summary: "make the example's video", help: video::HELP, run: video::main },
];

fn usage() -> String {
    let mut text = "usage: cargo xtask <chore> [--help]\n\n".to_owned();
    for chore in CHORES {
        text += &format!("  {:<11} {}\n", chore.name, chore.summary);
    }
    text
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let wants_help = arguments.iter().any(|a| a == "--help" || a == "-h");
    let Some(name) = arguments.first().filter(|a| !a.starts_with('-')) else {
        if !wants_help {
            bail!("no chore given\n\n{}", usage());
        }
        print!("{}", usage());
        return Ok(());
    };
    let Some(chore) = CHORES.iter().find(|c| c.name == name) else {
        bail!("there is no chore `{name}`\n\n{}", usage());
    };
    if wants_help {
        print!("{}", chore.help);
        return Ok(());
    }
    (chore.run)(&arguments[1..])
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
