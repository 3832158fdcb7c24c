//! What may be written on the command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use tandem_model::StackName;

use crate::{
    commands::{
        backup, build, completions, config, dead_letters, destroy, env, explain, image, invoke, logs, new,
        preview, ps, refresh, restore, run, runs, serve, stack, up, why, workflow,
    },
    complete,
    ui::Color,
};

/// Functions and containers in one program, on one engine, in one binary.
///
/// Write a program with buckets, functions and container tasks; `tandem preview` shows what would change, `tandem up`
/// makes it so, in a cloud on this machine.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed (the error has a code, see `tandem explain`); 2 wrong usage; 3 declined at the prompt; \
129, 130, 143 stopped by SIGHUP, Ctrl-C, SIGTERM. `tandem run` exits with the container's code.

Ctrl-C finishes what runs and says so; a second one stops. Either way the next command goes on from there.

Everything lives under $TANDEM_HOME (default: ~/.tandem).";

/// What every command understands.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// The stack: one deployment of the project
    #[arg(short, long, global = true, env = "TANDEM_STACK", default_value = "dev", value_name = "NAME", add = ArgValueCandidates::new(complete::stacks))]
    pub(crate) stack: StackName,
    /// Work in this folder instead of the current one
    #[arg(short = 'C', long, global = true, value_name = "FOLDER")]
    pub(crate) cwd: Option<PathBuf>,
    /// Print data as JSON on standard output, and errors as JSON on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours; NO_COLOR, CLICOLOR and CLICOLOR_FORCE are heard as well
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new project
    New(new::Args),
    /// Show what `up` would change
    Preview(preview::Args),
    /// Make the stack what the program declares
    Up(up::Args),
    /// Delete everything that the stack consists of
    Destroy(destroy::Args),
    /// Bring the state in line with what exists in the cloud
    Refresh(refresh::Args),
    /// Show stacks and their outputs, and forget them
    Stack(stack::Args),
    /// Show and change the stack's settings
    Config(config::Args),
    /// Print or follow what functions and containers printed
    Logs(logs::Args),
    /// Show functions, workers and runs
    Ps(ps::Args),
    /// Call one function
    Invoke(invoke::Args),
    /// Run one task; exits with the container's exit code
    Run(run::Args),
    /// List, show, wait for and stop runs of tasks
    Runs(runs::Args),
    /// Tell what became of an object, an event, a request or a run, or why nothing happened
    Why(why::Args),
    /// Start, show and steer instances of workflows
    Workflow(workflow::Args),
    /// List, show, redrive and drop the events that were given up
    DeadLetters(dead_letters::Args),
    /// Build a folder into an image, with or without a Dockerfile
    Build(build::Args),
    /// Import, list and remove images
    Image(image::Args),
    /// Print AWS_ENDPOINT_URL and credentials, for `eval "$(tandem env)"`
    Env(env::Args),
    /// Run the cloud on this machine
    Serve(serve::Args),
    /// Copy all that the cloud keeps into one file, while it runs
    Backup(backup::Args),
    /// Make a cloud from a backup, in an empty TANDEM_HOME
    Restore(restore::Args),
    /// Explain an error code: what happened, why, what to do
    Explain(explain::Args),
    /// Print the script that makes a shell complete commands and names
    Completions(completions::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn no_two_arguments_of_a_command_collide() {
        super::Args::command().debug_assert();
    }
}
