//! Functions and containers in one program.

mod args;
mod background;
mod commands;
mod exit;
mod nowhere;
mod place;
mod ui;

use std::process::ExitCode;

use clap::Parser;
use tandem_cloud::function::spawner;

fn main() -> ExitCode {
    // The child that runs a program's code: it must not do anything else in this process first.
    if std::env::args_os().nth(1).is_some_and(|first| first == tandem_program::host::child::SUBCOMMAND) {
        return tandem_program::host::child::child_main();
    }
    // The helper that starts workers, in place of one that has died: it must stay a process of one thread.
    if std::env::args_os().nth(1).is_some_and(|first| first == spawner::SUBCOMMAND) {
        return spawner::helper_main();
    }
    let args = args::Args::parse();
    exit::code(commands::run(args))
}
