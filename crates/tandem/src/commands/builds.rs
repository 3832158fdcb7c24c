//! What a plan says of builds: why an image is made again, and what could be newer. Builds nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::StreamExt;
use tandem_cloud::image::{self, BuildFacts};
use tandem_engine::Summary;
use tandem_model::{
    Explain, Report, StackId,
    plan::{Op, PropertyChange},
};
use tandem_program::{Deployment, Known};
use tandem_server::{
    Client,
    wire::{Building, ImageName, OfStack},
};

use crate::{
    exit::Failure,
    ui::{self, Rebuild, Rebuilds, Steady, Terminal},
};

/// So many files are named of those that changed.
const NAMED: usize = 3;

/// What the cloud knows of the builds of a stack.
#[derive(Debug, Default)]
pub(crate) struct Builds(Vec<BuildFacts>);

impl Builds {
    /// Asks the cloud, and tells the deployment what is to be made again.
    pub(crate) async fn ask(
        client: &Client,
        stack: &StackId,
        deployment: &Deployment,
    ) -> Result<Self, Failure> {
        let facts = facts(client, stack).await?;
        know(&facts, deployment, false);
        Ok(Self(facts))
    }

    /// As [`ask`](Self::ask), after the base images were pulled: what they changed is made again.
    pub(crate) async fn pull(
        terminal: &Terminal,
        client: &Client,
        stack: &StackId,
        deployment: &Deployment,
    ) -> Result<Self, Failure> {
        let known = facts(client, stack).await?;
        let names: BTreeSet<&String> =
            known.iter().flat_map(|of| of.bases.iter().map(|base| &base.name)).collect();
        // Nobody else has what has a name of this machine; and a digest stays what it is.
        for name in names.into_iter().filter(|name| !name.starts_with("localhost/") && !name.contains('@')) {
            terminal.note(&format!("pulling {name}"));
            if let Err(report) = pull(terminal, client, name).await {
                let reason = report.causes.first().unwrap_or(&report.message);
                terminal.note(&format!("{name} stays as it is: {reason}"));
            }
        }
        let facts = facts(client, stack).await?;
        know(&facts, deployment, true);
        Ok(Self(facts))
    }

    /// What there is to say beside a plan.
    pub(crate) async fn told(
        &self,
        client: &Client,
        deployment: &Deployment,
        plan: &Summary,
    ) -> Result<Rebuilds, Failure> {
        let mut told = Rebuilds::default();
        let renewals = deployment.renewals();
        for facts in &self.0 {
            let step = plan.steps.iter().find(|step| step.urn == facts.urn && step.op != Op::Delete);
            let Some(step) = step else { continue };
            let prefix = match &facts.container {
                Some(container) => format!("containers.{container}.build"),
                None => "build".to_owned(),
            };
            let changes = step.changes.iter().filter(|change| {
                change
                    .property
                    .strip_prefix(&prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            });
            let changes: Vec<&PropertyChange> = changes.collect();
            let newer = facts.bases.iter().filter(|base| base.is_newer()).map(|base| base.name.clone());
            if changes.is_empty() {
                told.newer.extend(newer.map(|name| (facts.urn.clone(), name)));
                continue;
            }
            let mut reasons = Vec::new();
            let context = format!("{prefix}.context");
            if let Some(change) = changes.iter().find(|change| change.property == context) {
                reasons.extend(files(client, deployment, change).await?);
            }
            let asked =
                renewals.get(&(facts.urn.clone(), facts.container.clone())).cloned().unwrap_or_default();
            let asked: HashSet<String> = asked.into_iter().chain(newer.map(|name| is_newer(&name))).collect();
            let mut asked: Vec<String> = asked.into_iter().collect();
            asked.sort();
            reasons.extend(asked);
            let hides = [context, format!("{prefix}.renewed")].into();
            if !reasons.is_empty() {
                let (urn, container) = (facts.urn.clone(), facts.container.clone());
                told.all.push(Rebuild { urn, container, reasons, hides });
            }
        }
        Ok(told)
    }
}

/// Has the cloud take what the name means in its registry now, and shows how far that is.
async fn pull(terminal: &Terminal, client: &Client, name: &str) -> Result<(), Report> {
    let asked = client.stream::<Building>("/v1/images/pull", &ImageName { name: name.to_owned() }).await;
    let mut records = asked.map_err(|error| error.report())?;
    let mut line = Steady::new(terminal);
    let mut ended = Ok(());
    while let Some(record) = records.next().await {
        match record.map_err(|error| error.report())? {
            Building::Line(text) => line.show(&ui::harmless(&text)),
            Building::Done(_) => {}
            Building::Failed(report) => ended = Err(report),
        }
    }
    line.clear();
    ended
}

async fn facts(client: &Client, stack: &StackId) -> Result<Vec<BuildFacts>, Failure> {
    Ok(client.post("/v1/builds", &OfStack { stack: Some(stack.clone()) }).await?)
}

fn is_newer(name: &str) -> String {
    format!("{name} is newer")
}

fn know(facts: &[BuildFacts], deployment: &Deployment, pulled: bool) {
    for of in facts {
        let newer = of.bases.iter().filter(|base| pulled && base.is_newer());
        let mut reasons: Vec<String> = newer.map(|base| is_newer(&base.name)).collect();
        if of.gone {
            reasons.push("its image is gone".to_owned());
        }
        let name = (of.urn.clone(), of.container.clone());
        deployment.know(name, Known { since: of.since, reasons });
    }
}

/// Which files of the folder changed, in one line. `None` if that cannot be told.
async fn files(
    client: &Client,
    deployment: &Deployment,
    change: &PropertyChange,
) -> Result<Option<String>, Failure> {
    let hash = |value: &Option<serde_json::Value>| Some(value.as_ref()?.as_str()?.to_owned());
    let (Some(old), Some(new)) = (hash(&change.old), hash(&change.new)) else { return Ok(None) };
    let Some(Ok(tar)) = deployment.packed_folder(&new) else { return Ok(None) };
    let new = tokio::task::spawn_blocking(move || image::files(std::io::BufReader::new(tar))).await;
    // A plan is as good without their names.
    let old: Result<BTreeMap<String, String>, _> = client.get(&format!("/v1/archives/{old}/files")).await;
    let (Ok(Ok(new)), Ok(old)) = (new, old) else { return Ok(None) };
    Ok(Some(changed(&old, &new)))
}

/// `2 files changed: a, b (new)`
fn changed(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> String {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differs = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    let all: Vec<String> = differs
        .map(|name| match (old.contains_key(name), new.contains_key(name)) {
            (false, _) => format!("{name} (new)"),
            (_, false) => format!("{name} (gone)"),
            _ => name.clone(),
        })
        .collect();
    let rest = all.len().saturating_sub(NAMED);
    let named = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match (all.len(), rest) {
        // A folder without files, or its mode.
        (0, _) => "folders changed".to_owned(),
        (1, _) => format!("1 file changed: {named}"),
        (n, 0) => format!("{n} files changed: {named}"),
        (n, rest) => format!("{n} files changed: {named} and {rest} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_files_that_changed_are_named_and_all_are_counted() {
        let files =
            |all: &[(&str, &str)]| all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let old = files(&[("a", "1"), ("b", "1"), ("c", "1"), ("e", "1")]);
        let said = |new: &[(&str, &str)]| changed(&old, &files(new));
        assert_eq!(said(&[("a", "1"), ("b", "1"), ("c", "1"), ("e", "1")]), "folders changed");
        assert_eq!(said(&[("a", "2"), ("b", "1"), ("c", "1"), ("e", "1")]), "1 file changed: a");
        assert_eq!(
            said(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]),
            "2 files changed: d (new), e (gone)"
        );
        assert_eq!(said(&[]), "4 files changed: a (gone), b (gone), c (gone) and 1 more");
    }
}
