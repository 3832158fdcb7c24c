//! What runs, and functions called by hand.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    routing::post,
};
use serde_json::Value;
use tandem_cloud::{Cloud, capacity::CapacityStatus, function::Invocation, is_made_by_client};
use uuid::Uuid;

use super::Refusal;
use crate::wire::{Invoke, Invoked, Made, OfStack, Processes};

/// In bytes. A client that sends more is cut off without an answer.
const LARGEST_BODY: usize = 64 << 20;

pub(super) fn routes() -> Router<super::State> {
    Router::new()
        .route("/v1/ps", post(processes))
        .route("/v1/capacity", post(capacity))
        .route("/v1/invoke", post(invoke))
        // Beyond what a function takes, so that it is the function's refusal that is told.
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
}

async fn processes(
    State(cloud): State<Arc<Cloud>>,
    Json(OfStack { stack }): Json<OfStack>,
) -> Result<Json<Processes>, Refusal> {
    let within = |urn: &tandem_model::Urn| stack.as_ref().is_none_or(|stack| urn.stack == *stack);
    // What waits before what it turns into: an event that waits no more is a run, an invocation or a dead letter by then,
    // and nothing is in neither.
    let backlog: BTreeMap<_, _> = cloud
        .dispatcher
        .backlog()
        .map_err(|e| Refusal::of(&e))?
        .into_iter()
        .filter(|(urn, _)| within(urn))
        .map(|(urn, waiting)| (urn.short(), waiting))
        .collect();
    let (functions, spares) = cloud.functions.processes();
    let functions = functions.into_iter().filter(|f| within(&f.urn)).collect();
    let runs = cloud.tasks.status(stack.as_ref()).map_err(|e| Refusal::of(&e))?;
    let dead_letters = cloud.dead_letters.count(stack.as_ref()).map_err(|e| Refusal::of(&e))?;
    let all = cloud.resources.list(stack.as_ref()).into_iter();
    let made_by_clients = all.filter(|r| is_made_by_client(&r.urn));
    let made_by_clients = made_by_clients.map(|r| Made { urn: r.urn.clone(), id: r.id.clone() }).collect();
    let services = cloud.services.status(stack.as_ref());
    let timers = cloud.timers.status(stack.as_ref());
    let queues = cloud.queues.status(stack.as_ref()).await.map_err(|e| Refusal::of(&e))?;
    let workflows = cloud.workflows.counts(stack.as_ref()).map_err(|e| Refusal::of(&e))?;
    Ok(Json(Processes {
        functions,
        spares,
        runs,
        services,
        timers,
        queues,
        workflows,
        backlog,
        dead_letters,
        made_by_clients,
    }))
}

async fn capacity(
    State(cloud): State<Arc<Cloud>>,
    Json(OfStack { stack }): Json<OfStack>,
) -> Json<CapacityStatus> {
    Json(cloud.capacity(stack.as_ref()))
}

async fn invoke(
    State(cloud): State<Arc<Cloud>>,
    Json(Invoke { function, payload }): Json<Invoke>,
) -> Result<Json<Invoked>, Refusal> {
    let request_id = Uuid::new_v4().to_string();
    let payload = payload.to_string().into();
    let invocation = Invocation { request_id: request_id.clone(), payload, traceparent: None };
    let answer = cloud.functions.invoke(&function, invocation).await.map_err(|e| Refusal::of(&e))?;
    Ok(Json(Invoked {
        payload: serde_json::from_slice(&answer.payload).unwrap_or(Value::Null),
        request_id,
        log_tail: answer.log_tail,
        duration: answer.duration,
        cold: answer.cold,
    }))
}
