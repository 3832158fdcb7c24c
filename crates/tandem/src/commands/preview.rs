//! `tandem preview`: what `up` would do.

use std::sync::Arc;

use tandem_engine::{Events, Stacks, Target, Update, state::Folded};
use tandem_program::{DeployHost, Deployment, Project, Uploading};
use tandem_server::Client;

use super::{builds::Builds, deploy};
use crate::{background, exit::Failure, nowhere::Nowhere, place::Place, ui, ui::Terminal};

/// Shows what `up` would change. Changes nothing and builds nothing.
///
/// A stack with resources is compared with its cloud, which is started in the background if it does not run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(terminal: &Terminal, place: Place, Args {}: Args) -> Result<(), Failure> {
    let deployment = Deployment::new(Project::find(&place.folder)?)?;
    let stack = place.stack_of(deployment.project());
    let folded = Stacks::new(place.home.stacks()).read(&stack)?;
    let cloud = cloud(&place, &folded).await?;
    let builds = match &cloud {
        Some(cloud) => Builds::ask(cloud, &stack, &deployment).await?,
        None => Builds::default(),
    };
    let target: Arc<dyn Target> = match cloud.clone() {
        Some(cloud) => Arc::new(cloud),
        None => Arc::new(Nowhere),
    };
    let target = Arc::new(Uploading::new(target, deployment.archives()));
    let update = Update::preview(folded, target, Events::ignored()).await?;
    let run = deploy::pass(&place, true);
    let console = |line: &str| terminal.say(line);
    let exports = DeployHost::of_this_binary()?.run(&deployment, run, &update, &console).await?;
    let plan = update.finish(exports).await?;
    let builds = match &cloud {
        Some(cloud) => builds.told(cloud, &deployment, &plan).await?,
        None => ui::Rebuilds::default(),
    };
    let mut warnings = deployment.warnings();
    if let Some(cloud) = &cloud {
        warnings.extend(deploy::ending_instances(cloud, &plan).await?);
    }
    if terminal.json() {
        return Ok(terminal.record(&ui::json_plan(&plan, &builds, &warnings))?);
    }
    terminal.data(&ui::plan(&plan, &builds, false, terminal.data_style()))?;
    deploy::warn(terminal, &warnings);
    Ok(())
}

/// The cloud; `None` if none runs and there is nothing to look up in one. A preview should not
/// need the rights to run a cloud just to say that everything would be made.
async fn cloud(place: &Place, folded: &Folded) -> Result<Option<Client>, Failure> {
    let nothing = folded.pending.is_empty() && folded.state.resources.is_empty();
    if nothing && place.client().info().await.is_err() {
        return Ok(None);
    }
    Ok(Some(background::ensure(place).await?))
}
