//! `tandem up`: shows what would change, asks, and makes it so.

use std::sync::{Arc, Mutex, PoisonError};

use tandem_engine::{ApplyError, Events, Options, Stacks, Target, Update};
use tandem_program::{DeployHost, Deployment, Project, Uploading};
use tandem_server::wire::Holders;

use super::{builds::Builds, deploy};
use crate::{
    background,
    exit::Failure,
    place::Place,
    ui::{Note, Terminal},
};

/// Makes the stack what the program declares: shows the plan, asks, and carries it out. Starts a cloud if none runs.
///
/// Can be stopped or killed at any time: the next `up` goes on where it stopped.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    consent: deploy::Consent,
    /// Pull the base images of what is built, and build anew what they changed
    #[arg(long)]
    pull: bool,
}

pub(crate) async fn run(terminal: &Terminal, place: Place, args: Args) -> Result<(), Failure> {
    deploy::told(terminal, up(terminal, place, args)).await
}

async fn up(terminal: &Terminal, place: Place, Args { consent, pull }: Args) -> Result<(), Failure> {
    // Before the cloud is started: a program that cannot be read needs none.
    let deployment = Deployment::new(Project::find(&place.folder)?)?;
    let stack = place.stack_of(deployment.project());
    let stacks = Stacks::new(place.home.stacks());
    let files = Arc::new(stacks.lock(&stack, "tandem up")?);
    let cloud = background::ensure(&place).await?;
    let target: Arc<dyn Target> = Arc::new(Uploading::new(Arc::new(cloud.clone()), deployment.archives()));
    let builds = match pull {
        true => Builds::pull(terminal, &cloud, &stack, &deployment).await?,
        false => Builds::ask(&cloud, &stack, &deployment).await?,
    };
    let host = DeployHost::of_this_binary()?;

    let preview = Update::preview(stacks.read(&stack)?, target.clone(), Events::ignored()).await?;
    // The program prints the same in both passes; the first one is heard only if it fails.
    let printed = Mutex::new(Vec::new());
    let keep = |line: &str| printed.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
    let exports = match host.run(&deployment, deploy::pass(&place, true), &preview, &keep).await {
        Ok(exports) => exports,
        Err(error) => {
            printed
                .into_inner()
                .unwrap_or_else(PoisonError::into_inner)
                .iter()
                .for_each(|line| terminal.say(line));
            return Err(error.into());
        }
    };
    let plan = preview.finish(exports).await?;
    let builds = builds.told(&cloud, &deployment, &plan).await?;
    let subscriptions = Some(deploy::deleted_subscriptions(&plan));
    deploy::tell_held(terminal, &cloud, Holders { stack: stack.clone(), subscriptions }).await?;
    let mut warnings = deployment.warnings();
    warnings.extend(deploy::ending_instances(&cloud, &plan).await?);
    deploy::agree(terminal, &plan, &builds, &warnings, &consent, "make these changes")?;

    let options = Options { expected: Some(plan.steps), force: consent.force, ..Options::default() };
    let done = deploy::carry_out(terminal, &cloud, files, target, options, |update, notes| async move {
        let console = |line: &str| drop(notes.send(Note::Printed(line.to_owned())));
        match host.run(&deployment, deploy::pass(&place, false), &update, &console).await {
            Ok(exports) => Ok(update.finish(exports).await?),
            Err(error) => Err(failure(error, update.abandon().await)),
        }
    });
    deploy::tell(terminal, &done.await?)
}

/// What to say when the program failed: if steps failed, the program's failure is only their echo. A registration that
/// was rejected is said by the program's own error, which knows the place.
fn failure(program: tandem_program::RunError, update: Result<(), ApplyError>) -> Failure {
    match update {
        Ok(()) | Err(ApplyError::Rejected(_)) => program.into(),
        Err(error) => error.into(),
    }
}
