//! A file a verb: its flags, its help, and what it does.

pub(crate) mod backup;
pub(crate) mod config;
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
pub(crate) mod serve;
pub(crate) mod stack;
pub(crate) mod up;

use std::io;

use crate::{
    args::{Args, Command},
    exit::Failure,
    place::Place,
};

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::Explain(command) => explain::run(&command),
        Command::Serve(command) => serve::run(&Place::find(&args.global)?, &command),
        Command::Preview(command) => block_on(preview::run(Place::find(&args.global)?, command)),
        Command::Up(command) => block_on(up::run(Place::find(&args.global)?, command)),
        Command::Destroy(command) => block_on(destroy::run(Place::find(&args.global)?, command)),
        Command::Refresh(command) => block_on(refresh::run(Place::find(&args.global)?, command)),
        Command::Stack(command) => block_on(stack::run(Place::find(&args.global)?, command)),
        Command::Config(command) => config::run(&Place::find(&args.global)?, &command),
        Command::New(command) => new::run(&Place::find(&args.global)?, &command),
        Command::Logs(command) => block_on(logs::run(Place::find(&args.global)?, command)),
        Command::Ps(command) => block_on(ps::run(Place::find(&args.global)?, command)),
        Command::Invoke(command) => block_on(invoke::run(Place::find(&args.global)?, command)),
        Command::Run(command) => block_on(run::run(Place::find(&args.global)?, command)),
        Command::Image(command) => block_on(image::run(Place::find(&args.global)?, command)),
        Command::Backup(command) => block_on(backup::run(Place::find(&args.global)?, command)),
        Command::Restore(command) => block_on(restore::run(Place::find(&args.global)?, command)),
        Command::Env(command) => block_on(env::run(Place::find(&args.global)?, command)),
    }
}

/// Runs a command that waits for others. One thread is enough for a client.
fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(no_runtime(&error)),
    }
}

fn no_runtime(error: &io::Error) -> Failure {
    Failure::report(tandem_model::Report {
        code: "E0122".into(),
        message: "the machine has no resources left to start".into(),
        help: "close some programs or files, then try again".into(),
        causes: vec![error.to_string()],
    })
}
