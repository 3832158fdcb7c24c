//! `tandem refresh`: brings the stack's state in line with what exists.

use serde_json::{Value, json};
use tandem_engine::{Drift, DriftKind, Refresh, Stacks};
use tandem_program::Project;

use crate::{
    background,
    exit::{DECLINED, Failure},
    place::Place,
    ui,
    ui::{Style, Terminal},
};

/// Brings the state in line with what exists in the cloud, and changes nothing there.
///
/// For when the two have drifted apart: the cloud's data was wiped, the state was lost, edited or restored from a copy.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Go on without asking
    #[arg(short, long)]
    yes: bool,
}

pub(crate) async fn run(terminal: &Terminal, place: Place, args: Args) -> Result<(), Failure> {
    let stack = place.stack_of(&Project::find(&place.folder)?);
    let stacks = Stacks::new(place.home.stacks());
    // A state that cannot be read needs no cloud to say so.
    stacks.read(&stack)?;
    let files = stacks.lock(&stack, "tandem refresh")?;
    let cloud = background::ensure(&place).await?;
    let refresh = Refresh::look(stacks.read(&stack)?, &cloud).await?;
    if terminal.json() {
        terminal.record(&data(&refresh))?;
    }
    // Who is asked must see what for.
    if !terminal.json() || (terminal.is_interactive() && !args.yes) {
        terminal.write(&shown(&refresh, terminal.style()));
    }
    if !refresh.changes() {
        return Ok(());
    }
    if !args.yes && !ui::confirm(terminal, "write this into the state")? {
        terminal.say("Nothing was changed.");
        return Err(Failure::Code(DECLINED));
    }
    let left = refresh.resources();
    refresh.keep(&files, &cloud).await?;
    terminal.note(&format!(
        "The state of {stack} has {} now. `tandem preview` shows what the program wants otherwise.",
        ui::count(left, "resource")
    ));
    Ok(())
}

fn shown(refresh: &Refresh, style: Style) -> String {
    let mut lines = vec![refresh.stack.to_string()];
    if let Some(from) = &refresh.moved_from {
        let (from, here) = (start(&from.0), start(&refresh.cloud.0));
        lines.push(format!(
            "The stack was deployed to the cloud {from}, and this is the cloud {here}: another one, or its data was wiped."
        ));
    }
    lines.extend(refresh.drift.iter().map(|drift| line(drift, style)));
    if refresh.settled > 0 {
        let begun = ui::count(refresh.settled, "operation");
        lines.push(format!("{begun} of an interrupted update will not be repeated: what exists decides."));
    }
    if !refresh.changes() {
        lines.push("The state is as the cloud is.".to_owned());
    }
    lines.join("\n") + "\n"
}

/// As much of a cloud's id as tells it from another.
fn start(id: &str) -> String {
    id.chars().take(8).collect()
}

fn line(Drift { urn, id, kind }: &Drift, style: Style) -> String {
    let (paint, mark, what) = match kind {
        DriftKind::Gone => (ui::Paint::Bad, "-", "is gone".to_owned()),
        DriftKind::Found => (ui::Paint::Good, "+", "exists, and was not recorded".to_owned()),
        DriftKind::Changed(changes) => {
            let names: Vec<&str> = changes.iter().map(|change| change.property.as_str()).collect();
            (ui::Paint::Change, "~", format!("differs in {}", names.join(", ")))
        }
    };
    format!("{} {} ({}) {what}", style.paint(paint, mark), urn.short(), ui::harmless(&id.0))
}

fn data(refresh: &Refresh) -> Value {
    let drift = refresh.drift.iter().map(|Drift { urn, id, kind }| match kind {
        DriftKind::Gone => json!({ "urn": urn, "id": id, "drift": "gone" }),
        DriftKind::Found => json!({ "urn": urn, "id": id, "drift": "found" }),
        DriftKind::Changed(changes) => {
            let properties: Vec<&str> = changes.iter().map(|change| change.property.as_str()).collect();
            json!({ "urn": urn, "id": id, "drift": "changed", "properties": properties })
        }
    });
    json!({
        "stack": refresh.stack.to_string(),
        "movedFrom": refresh.moved_from,
        "cloud": refresh.cloud,
        "drift": drift.collect::<Vec<_>>(),
        "settled": refresh.settled,
    })
}
