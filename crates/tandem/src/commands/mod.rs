//! A file a verb: its flags, its help, and what it does.

pub(crate) mod backup;
pub(crate) mod build;
mod builds;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod dead_letters;
mod deploy;
pub(crate) mod destroy;
pub(crate) mod env;
pub(crate) mod explain;
pub(crate) mod image;
pub(crate) mod invoke;
pub(crate) mod logs;
pub(crate) mod new;
pub(crate) mod preview;
pub(crate) mod ps;
pub(crate) mod refresh;
pub(crate) mod restore;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod serve;
pub(crate) mod stack;
pub(crate) mod up;
pub(crate) mod why;
pub(crate) mod workflow;

use std::io;

use crate::{
    args::{Args, Command},
    exit::Failure,
    place::Place,
    ui::Terminal,
};

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<(), Failure> {
    match args.command {
        Command::Explain(command) => explain::run(terminal, &command),
        Command::Completions(command) => completions::run(terminal, &command),
        Command::Serve(command) => serve::run(terminal, &Place::find(&args.global)?, &command),
        Command::Preview(command) => block_on(preview::run(terminal, Place::find(&args.global)?, command)),
        Command::Up(command) => block_on(up::run(terminal, Place::find(&args.global)?, command)),
        Command::Destroy(command) => block_on(destroy::run(terminal, Place::find(&args.global)?, command)),
        Command::Refresh(command) => block_on(refresh::run(terminal, Place::find(&args.global)?, command)),
        Command::Stack(command) => block_on(stack::run(terminal, Place::find(&args.global)?, command)),
        Command::Config(command) => config::run(terminal, &Place::find(&args.global)?, &command),
        Command::New(command) => new::run(terminal, &Place::find(&args.global)?, &command),
        Command::Logs(command) => block_on(logs::run(terminal, Place::find(&args.global)?, command)),
        Command::Ps(command) => block_on(ps::run(terminal, Place::find(&args.global)?, command)),
        Command::Invoke(command) => block_on(invoke::run(terminal, Place::find(&args.global)?, command)),
        Command::Run(command) => block_on(run::run(terminal, Place::find(&args.global)?, command)),
        Command::Runs(command) => block_on(runs::run(terminal, Place::find(&args.global)?, command)),
        Command::Why(command) => block_on(why::run(terminal, Place::find(&args.global)?, command)),
        Command::Workflow(command) => block_on(workflow::run(terminal, Place::find(&args.global)?, command)),
        Command::DeadLetters(command) => {
            block_on(dead_letters::run(terminal, Place::find(&args.global)?, command))
        }
        Command::Build(command) => block_on(build::run(terminal, Place::find(&args.global)?, command)),
        Command::Image(command) => block_on(image::run(terminal, Place::find(&args.global)?, command)),
        Command::Backup(command) => block_on(backup::run(terminal, Place::find(&args.global)?, command)),
        Command::Restore(command) => block_on(restore::run(terminal, Place::find(&args.global)?, command)),
        Command::Env(command) => block_on(env::run(terminal, Place::find(&args.global)?, command)),
    }
}

/// Runs a command that waits for others. One thread is enough for a client.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(no_runtime(&error)),
    }
}

pub(crate) fn no_runtime(error: &io::Error) -> Failure {
    Failure::report(tandem_model::Report {
        code: "E0122".into(),
        message: "the machine has no resources left to start".into(),
        help: "close some programs or files, then try again".into(),
        causes: vec![error.to_string()],
    })
}
