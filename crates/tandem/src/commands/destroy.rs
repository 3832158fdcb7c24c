//! `tandem destroy`: removes all of a stack.

use std::sync::Arc;

use tandem_engine::{Events, Options, Stacks, Target, Update};
use tandem_model::resource::Properties;
use tandem_program::Project;

use super::deploy;
use crate::{background, exit::Failure, place::Place, ui::Terminal};

/// Deletes everything that the stack consists of, in reverse order, also the buckets that clients made over S3.
/// Buckets that are not empty need --force.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: deploy::Consent,
}

/// An update to nothing: the same plan, question and journal as for any other.
pub(crate) async fn run(place: Place, Args { consent }: Args) -> Result<(), Failure> {
    let terminal = Terminal::stderr();
    let stack = place.stack_of(&Project::find(&place.folder)?);
    let stacks = Stacks::new(place.home.stacks());
    let folded = stacks.read(&stack)?;
    let recorded = !folded.state.is_empty() || !folded.pending.is_empty();
    // A state that was deleted must not pass for a stack that is: a cloud that has data is asked.
    if !recorded && !place.home.data().is_dir() {
        terminal.say(&format!("There is nothing to destroy in {stack}."));
        return Ok(());
    }
    let files = Arc::new(stacks.lock(&stack, "tandem destroy")?);
    let client = background::ensure(&place).await?;
    let made = client.made(&stack).await?;
    let target: Arc<dyn Target> = Arc::new(client);
    // Read again: what was there before the lock may have changed since.
    let mut folded = stacks.read(&stack)?;
    folded.adopt(made.clone());
    let builds = folded.state.resources.values().any(|r| r.inputs.contains_key("build"));
    let preview = Update::preview(folded, target.clone(), Events::ignored()).await?;
    let plan = preview.finish(Properties::new()).await?;
    if !plan.changes() {
        terminal.say(&format!("There is nothing to destroy in {stack}."));
        return Ok(());
    }
    deploy::agree(&terminal, &plan, &consent, "destroy all of this")?;

    let options = Options { expected: Some(plan.steps), force: consent.force, adopt: made };
    let done = deploy::carry_out(&terminal, files, target, options, |update, _| async move {
        Ok(update.finish(Properties::new()).await?)
    });
    deploy::tell(&terminal, &done.await?, &consent);
    if builds {
        terminal
            .say("Images that were built stay, so that they need not be built again: see `tandem image ls`.");
    }
    Ok(())
}
