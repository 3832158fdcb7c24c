//! `tandem completions`: what a shell needs to complete commands, flags and names.

use clap_complete::env::Shells;

use crate::{exit::Failure, ui::Terminal};

/// The variable by which the shell asks this binary.
pub(crate) const VARIABLE: &str = "TANDEM_COMPLETE";

/// Prints the script that makes a shell complete tandem's commands, flags, stacks, functions, tasks and outputs.
#[derive(Debug, clap::Args)]
#[command(after_help = INSTALL)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_parser = ["bash", "elvish", "fish", "powershell", "zsh"])]
    shell: String,
}

const INSTALL: &str = "\
Install it, for all shells to come:
  bash   echo 'source <(tandem completions bash)' >> ~/.bashrc
  zsh    echo 'source <(tandem completions zsh)' >> ~/.zshrc    # after compinit
  fish   tandem completions fish > ~/.config/fish/completions/tandem.fish";

pub(crate) fn run(terminal: &Terminal, Args { shell }: &Args) -> Result<(), Failure> {
    let shells = Shells::builtins();
    let completer = shells.completer(shell).expect("the parser lets only these through");
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, "tandem", "tandem", "tandem", &mut script)
        .expect("writing to memory");
    Ok(terminal.data(&String::from_utf8_lossy(&script))?)
}
