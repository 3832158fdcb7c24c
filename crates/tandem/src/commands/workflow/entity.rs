//! Entities, by hand: their states, and what is sent to them.

use jiff::Timestamp;
use tandem_cloud::workflow::{EntityStatus, LockedBy};
use tandem_model::StackId;
use tandem_server::{
    Client,
    wire::{Instance, OfEntities, SignalEntity},
};

use super::{super::invoke, ps, shown};
use crate::{
    exit::Failure,
    ui::{self, Terminal},
};

/// Shows an entity; `None` if the id is none of an entity that has a state.
pub(super) async fn show(terminal: &Terminal, client: &Client, of: Instance) -> Result<Option<()>, Failure> {
    if !of.id.starts_with('@') {
        return Ok(None);
    }
    // An instance may be called so, too: then that error is told.
    let Ok(found) = client.post::<EntityStatus>("/v1/entities/show", &of).await else { return Ok(None) };
    if terminal.json() {
        return Ok(Some(terminal.record(&found)?));
    }
    let now = Timestamp::now();
    let rows = [
        ("entity", found.entity_id),
        ("state", found.state.to_string()),
        ("applied", format!("{} operations", found.operations)),
        ("updated", format!("{} ago", ps::age(found.last_updated_time, now))),
    ];
    let locked = found.locked_by.map(|by| ("locked", locked(&by, now)));
    let rows = rows.into_iter().chain(locked);
    let text: String = rows.map(|(name, value)| format!("{name:<10}{value}\n")).collect();
    Ok(Some(terminal.data(&text)?))
}

fn locked(by: &LockedBy, now: Timestamp) -> String {
    match by.since {
        Some(since) => format!("by {} for {}", by.instance_id, ps::age(since, now)),
        None => format!("by {}, which waits for others", by.instance_id),
    }
}

pub(super) async fn list(
    terminal: &Terminal,
    client: &Client,
    stack: StackId,
    name: Option<String>,
) -> Result<(), Failure> {
    let all: Vec<EntityStatus> = client.post("/v1/entities", &OfEntities { stack, name }).await?;
    if terminal.json() {
        return Ok(terminal.record(&all)?);
    }
    if all.is_empty() {
        terminal.note("There are no entities.");
        return Ok(());
    }
    let now = Timestamp::now();
    let rows = all.iter().map(|one| {
        let updated = ps::age(one.last_updated_time, now);
        [one.entity_id.clone(), one.operations.to_string(), updated, shown(&one.state)]
    });
    let names = ["ENTITY", "OPERATIONS", "UPDATED", "STATE"];
    Ok(terminal.data(&ui::table(names, rows, terminal.data_width()))?)
}

pub(super) async fn signal(
    terminal: &Terminal,
    client: &Client,
    of: Instance,
    operation: String,
    input: Option<String>,
) -> Result<(), Failure> {
    let input = input.map(|input| invoke::read("input", &input)).transpose()?;
    let (entity, sent) = (of.id.clone(), operation.clone());
    client.post::<()>("/v1/entities/signal", &SignalEntity { of, operation, input }).await?;
    terminal.note(&format!("sent `{sent}` to {entity}"));
    Ok(())
}
