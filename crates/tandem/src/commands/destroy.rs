//! `tandem destroy`: removes all of a stack.

use std::{sync::Arc, time::Duration};

use tandem_cloud::dispatch::Held;
use tandem_engine::{Events, Options, Stacks, Summary, Target, Update};
use tandem_model::{StackId, inputs, resource::Properties};
use tandem_program::Project;
use tandem_server::{
    Client,
    wire::{Holders, Resources},
};

use super::deploy;
use crate::{
    background,
    exit::Failure,
    place::Place,
    ui::{self, Terminal},
};

/// Deletes everything that the stack consists of, in reverse order, also the buckets that clients made over S3.
/// Buckets that are not empty need --force. Events on their way and dead letters go with the stack.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: deploy::Consent,
}

pub(crate) async fn run(terminal: &Terminal, place: Place, args: Args) -> Result<(), Failure> {
    deploy::told(terminal, destroy(terminal, place, args)).await
}

/// An update to nothing: the same plan, question and journal as for any other.
async fn destroy(terminal: &Terminal, place: Place, Args { consent }: Args) -> Result<(), Failure> {
    let stack = place.stack_of(&Project::find(&place.folder)?);
    let stacks = Stacks::new(place.home.stacks());
    let folded = stacks.read(&stack)?;
    let recorded = !folded.state.is_empty() || !folded.pending.is_empty();
    // A state that was deleted must not pass for a stack that is: a cloud that has data is asked.
    if !recorded && !place.home.data().is_dir() {
        return tell_nothing(terminal, stack);
    }
    let files = Arc::new(stacks.lock(&stack, "tandem destroy")?);
    let cloud = background::ensure(&place).await?;
    let made = cloud.made(&stack).await?;
    let target: Arc<dyn Target> = Arc::new(cloud.clone());
    // Read again: what was there before the lock may have changed since.
    let mut folded = stacks.read(&stack)?;
    folded.adopt(made.clone());
    let builds = folded.state.resources.values().any(|r| inputs::builds(&r.inputs).next().is_some());
    let preview = Update::preview(folded, target.clone(), Events::ignored()).await?;
    let plan = preview.finish(Properties::new()).await?;
    if !plan.changes() {
        drop_leftovers(terminal, &cloud, &stack).await?;
        return tell_nothing(terminal, stack);
    }
    deploy::tell_held(terminal, &cloud, Holders { stack: stack.clone(), subscriptions: None }).await?;
    let warnings = deploy::ending_instances(&cloud, &plan).await?;
    deploy::agree(terminal, &plan, &ui::Rebuilds::default(), &warnings, &consent, "destroy all of this")?;

    let options = Options { expected: Some(plan.steps), force: consent.force, adopt: made };
    let done = deploy::carry_out(terminal, &cloud, files, target, options, |update, _| async move {
        Ok(update.finish(Properties::new()).await?)
    });
    let done = done.await?;
    drop_leftovers(terminal, &cloud, &stack).await?;
    deploy::tell(terminal, &done)?;
    if builds {
        terminal.note(
            "Images that were built stay, so that they need not be built again: see `tandem image ls`.",
        );
    }
    Ok(())
}

/// Drops the events that are addressed to what is gone: those of functions that were called directly. The others went with
/// their subscriptions.
async fn drop_leftovers(terminal: &Terminal, cloud: &Client, stack: &StackId) -> Result<(), Failure> {
    let of = Resources { stack: stack.clone() };
    let dropped: Held = cloud.post("/v1/dead-letters/drop-leftovers", &of).await?;
    let dropped = dropped.waiting + dropped.dead_letters;
    if dropped > 0 {
        terminal.note(&format!("dropped {} of functions that are gone", ui::count(dropped, "event")));
    }
    Ok(())
}

/// Tells what came of a stack that has nothing.
fn tell_nothing(terminal: &Terminal, stack: StackId) -> Result<(), Failure> {
    terminal.note(&format!("There is nothing to destroy in {stack}."));
    let nothing = Summary {
        stack,
        steps: Vec::new(),
        resumes: Vec::new(),
        contents: Vec::new(),
        forfeit: Vec::new(),
        exports: Properties::new(),
        elapsed: Duration::ZERO,
    };
    deploy::tell(terminal, &nothing)
}
