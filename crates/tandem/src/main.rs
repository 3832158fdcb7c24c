//! Functions and containers in one program.

mod args;
mod background;
mod commands;
mod complete;
mod exit;
mod interrupt;
mod nowhere;
mod place;
mod ui;
mod usage;

use std::process::ExitCode;

use tandem_cloud::{function::spawner, program::inside};

fn main() -> ExitCode {
    // The child that runs a program's code: it must not do anything else in this process first.
    if std::env::args_os().nth(1).is_some_and(|first| first == tandem_program::host::child::SUBCOMMAND) {
        return tandem_program::host::child::child_main();
    }
    // The helper that starts workers, in place of one that has died: it must stay a process of one thread.
    if std::env::args_os().nth(1).is_some_and(|first| first == spawner::SUBCOMMAND) {
        return spawner::helper_main();
    }
    // The first process of a container that runs code of a program.
    if std::env::args_os().nth(1).is_some_and(|first| first == inside::SUBCOMMAND) {
        return inside::main();
    }
    // A shell that asks what could come next; answers and ends.
    clap_complete::CompleteEnv::with_factory(<args::Args as clap::CommandFactory>::command)
        .var(commands::completions::VARIABLE)
        .complete();
    match usage::parse(std::env::args_os()) {
        Ok(args) => {
            let terminal = ui::Terminal::new(args.global.json, args.global.color);
            exit::code(commands::run(args, &terminal), &terminal)
        }
        Err(code) => code,
    }
}
