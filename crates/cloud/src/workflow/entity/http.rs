//! The URLs of entities in Durable Functions: signal, read, list.
//!
//! Source: Microsoft Learn, "HTTP APIs in Durable Functions".

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{EntityKey, EntityStatus};
use crate::workflow::http::{Api, Asked, Refused, read, traceparent};

/// How many entities a list holds, if the client does not say.
const TOP: usize = 100;

pub(in crate::workflow) fn routes() -> Router<Api> {
    Router::new()
        .route("/entities/{name}", get(list))
        .route("/entities/{name}/{key}", get(state).post(signal))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wanted {
    op: String,
    fetch_state: bool,
    top: usize,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { op: String::new(), fetch_state: false, top: TOP }
    }
}

async fn state(
    State(api): State<Api>,
    Path((name, key)): Path<(String, String)>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refused> {
    let entity = EntityKey::new(api.stack(&asked, &headers)?, &name, &key);
    match api.workflows.entity(&entity)? {
        Some(found) => Ok(Json(found.state)),
        None => Err(Refused(
            StatusCode::NOT_FOUND,
            json!({ "Message": format!("the entity `{entity}` has no state") }),
        )),
    }
}

async fn signal(
    State(api): State<Api>,
    Path((name, key)): Path<(String, String)>,
    Query(asked): Query<Asked>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refused> {
    let entity = EntityKey::new(api.stack(&asked, &headers)?, &name, &key);
    let input = read(&body)?;
    api.workflows.signal(&entity, &wanted.op, input.as_ref(), None, traceparent(&headers)).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn list(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Result<Json<Vec<Value>>, Refused> {
    let mut all = api.workflows.entities(&api.stack(&asked, &headers)?, Some(&name))?;
    all.truncate(wanted.top);
    let told = |one: EntityStatus| {
        let mut told = json!({
            "entityId": { "name": one.name, "key": one.key },
            "lastOperationTime": one.last_updated_time,
        });
        if wanted.fetch_state {
            told["state"] = one.state;
        }
        told
    };
    Ok(Json(all.into_iter().map(told).collect()))
}
