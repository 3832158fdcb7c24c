//! Functions and containers in one program.

mod args;
mod background;
mod commands;
mod exit;
mod place;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    exit::code(commands::run(args))
}
