//! The management URLs of Durable Functions: start, status, raise, terminate, suspend, resume, rewind, restart, purge.
//!
//! Source: Microsoft Learn, "HTTP APIs in Durable Functions". A URL carries its key, as there: `code` is an access key id and
//! its secret, with a dot between. What a key reaches is its stack.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, Method, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tandem_model::{Explain, Kind, StackId, Urn};

use super::{InstanceKey, InstanceStatus, Start, Status, WorkflowError, Workflows, entity};
use crate::{
    credential::{Credentials, Holder},
    endpoint::Endpoint,
};

/// Where the URLs begin.
pub const ROOT: &str = "/runtime/webhooks/durabletask";

/// How many instances a list holds, if the client does not say.
const TOP: usize = 100;

#[derive(Clone)]
pub(super) struct Api {
    pub(super) workflows: Workflows,
    credentials: Arc<Credentials>,
    endpoint: Endpoint,
}

/// The routes below [`ROOT`], without it.
pub fn router(workflows: Workflows, credentials: Arc<Credentials>, endpoint: Endpoint) -> Router {
    let routes = Router::new()
        .route("/orchestrators/{name}", post(start_new))
        .route("/orchestrators/{name}/{id}", post(start_named))
        .route("/instances", get(list).delete(purge_many))
        .route("/instances/{id}", get(status).delete(purge))
        .route("/instances/{id}/raiseEvent/{event}", post(raise))
        .route("/instances/{id}/{verb}", post(told))
        .merge(entity::http::routes())
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        // An input has 1 MiB at most, and says so itself.
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(Api { workflows, credentials, endpoint });
    Router::new().nest(ROOT, routes)
}

/// How long a body may be.
const LARGEST: usize = 16 << 20;

async fn unknown(method: Method, uri: Uri) -> Refused {
    let message = format!("there is no {method} {ROOT}{}", uri.path());
    Refused(StatusCode::NOT_FOUND, json!({ "Message": message }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Asked {
    code: String,
    show_history: bool,
    show_input: Option<bool>,
    return_internal_server_error_on_failure: bool,
    reason: String,
    runtime_status: String,
    created_time_from: Option<Timestamp>,
    created_time_to: Option<Timestamp>,
    instance_id_prefix: String,
    top: Option<usize>,
    restart_with_new_instance_id: Option<bool>,
    /// Our own: how many seconds the answer may wait for the instance's end.
    wait: f64,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Refused;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let Query(asked) =
            Query::from_request_parts(parts, state).await.map_err(|error: QueryRejection| {
                Refused(StatusCode::BAD_REQUEST, json!({ "Message": error.body_text() }))
            })?;
        Ok(asked)
    }
}

impl Asked {
    fn wants(&self, status: &InstanceStatus) -> bool {
        let named = format!("{:?}", status.runtime_status);
        let all = self.runtime_status.is_empty();
        (all || self.runtime_status.split(',').any(|one| one.trim().eq_ignore_ascii_case(&named)))
            && status.instance_id.starts_with(&self.instance_id_prefix)
            && self.created_time_from.is_none_or(|from| from <= status.created_time)
            && self.created_time_to.is_none_or(|to| status.created_time <= to)
    }
}

/// An answer that is no success.
pub(super) struct Refused(pub(super) StatusCode, pub(super) Value);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

impl From<WorkflowError> for Refused {
    fn from(error: WorkflowError) -> Self {
        let status = match error {
            WorkflowError::NoWorkflow(_)
            | WorkflowError::NoInstance { .. }
            | WorkflowError::NoEntity { .. } => StatusCode::NOT_FOUND,
            WorkflowError::InUse { .. } | WorkflowError::SameEntity { .. } => StatusCode::CONFLICT,
            WorkflowError::Ended { .. } => StatusCode::GONE,
            WorkflowError::NotEnded { .. }
            | WorkflowError::NotFailed { .. }
            | WorkflowError::LockGone { .. }
            | WorkflowError::InvalidId { .. }
            | WorkflowError::InvalidEvent { .. }
            | WorkflowError::NotEntity { .. }
            | WorkflowError::TooDeep(_)
            | WorkflowError::TooLarge { .. } => StatusCode::BAD_REQUEST,
            WorkflowError::Read(_) | WorkflowError::Commit(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, json!({ "Message": format!("{error}; {}", error.help()), "Code": error.code() }))
    }
}

impl Api {
    /// The stack whose key the URL carries.
    pub(super) fn stack(&self, asked: &Asked, headers: &HeaderMap) -> Result<StackId, Refused> {
        let given = headers.get("x-functions-key").and_then(|key| key.to_str().ok());
        let code = if asked.code.is_empty() { given.unwrap_or_default() } else { &asked.code };
        let holder = code.split_once('.').and_then(|(id, secret)| self.credentials.holder(id, secret));
        match holder {
            Some(Holder::Principal(principal)) => Ok(principal.stack().clone()),
            _ => {
                let message = "the `code` of the URL is no key of a stack; `tandem env` has the parts: \
                               AWS_ACCESS_KEY_ID, a dot, AWS_SECRET_ACCESS_KEY";
                Err(Refused(StatusCode::UNAUTHORIZED, json!({ "Message": message })))
            }
        }
    }

    fn instance(&self, asked: &Asked, headers: &HeaderMap, id: String) -> Result<InstanceKey, Refused> {
        Ok(InstanceKey { stack: self.stack(asked, headers)?, id })
    }

    /// What a client is told that started an instance.
    fn links(&self, id: &str, code: &str) -> Value {
        let at = format!("{}{ROOT}/instances/{id}", self.endpoint.url());
        json!({
            "id": id,
            "statusQueryGetUri": format!("{at}?code={code}"),
            "sendEventPostUri": format!("{at}/raiseEvent/{{eventName}}?code={code}"),
            "terminatePostUri": format!("{at}/terminate?reason={{text}}&code={code}"),
            "suspendPostUri": format!("{at}/suspend?reason={{text}}&code={code}"),
            "resumePostUri": format!("{at}/resume?reason={{text}}&code={code}"),
            "rewindPostUri": format!("{at}/rewind?reason={{text}}&code={code}"),
            "restartPostUri": format!("{at}/restart?code={code}"),
            "purgeHistoryDeleteUri": format!("{at}?code={code}"),
        })
    }

    async fn start(
        &self,
        asked: &Asked,
        headers: &HeaderMap,
        name: String,
        id: Option<String>,
        body: &[u8],
    ) -> Result<Response, Refused> {
        let stack = self.stack(asked, headers)?;
        let Ok(name) = name.parse() else {
            return Err(Refused(
                StatusCode::NOT_FOUND,
                json!({ "Message": format!("there is no workflow `{name}`") }),
            ));
        };
        let workflow = Urn::new(stack, Kind::Workflow, name);
        let input = read(body)?;
        let start = Start { workflow, id, input, key: None, traceparent: traceparent(headers) };
        let id = self.workflows.start(start).await?;
        Ok(self.started(&id, &asked.code))
    }

    fn started(&self, id: &str, code: &str) -> Response {
        let links = self.links(id, code);
        let location = links["statusQueryGetUri"].as_str().unwrap_or_default().to_owned();
        let headers = [(header::LOCATION, location), (header::RETRY_AFTER, "10".to_owned())];
        (StatusCode::ACCEPTED, headers, Json(links)).into_response()
    }
}

pub(super) fn traceparent(headers: &HeaderMap) -> Option<String> {
    headers.get("traceparent").and_then(|value| value.to_str().ok()).map(str::to_owned)
}

pub(super) fn read(body: &[u8]) -> Result<Option<Value>, Refused> {
    if body.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(body).map(Some).map_err(|error| {
        Refused(StatusCode::BAD_REQUEST, json!({ "Message": format!("the body is no JSON: {error}") }))
    })
}

async fn start_new(
    State(api): State<Api>,
    Path(name): Path<String>,
    asked: Asked,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    api.start(&asked, &headers, name, None, &body).await
}

async fn start_named(
    State(api): State<Api>,
    Path((name, id)): Path<(String, String)>,
    asked: Asked,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    api.start(&asked, &headers, name, Some(id), &body).await
}

async fn status(
    State(api): State<Api>,
    Path(id): Path<String>,
    asked: Asked,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let instance = api.instance(&asked, &headers, id)?;
    let patience = Duration::try_from_secs_f64(asked.wait).unwrap_or_default();
    if !patience.is_zero() {
        let _ = tokio::time::timeout(patience, api.workflows.wait(&instance)).await;
    }
    let mut status = api.workflows.status(&instance, asked.show_history)?;
    if asked.show_input == Some(false) {
        status.input = Value::Null;
    }
    let failed = status.runtime_status == Status::Failed;
    Ok(match status.runtime_status.ended() {
        true if failed && asked.return_internal_server_error_on_failure => {
            (StatusCode::INTERNAL_SERVER_ERROR, Json(status)).into_response()
        }
        true => Json(status).into_response(),
        false => {
            let links = api.links(&status.instance_id, &asked.code);
            let location = links["statusQueryGetUri"].as_str().unwrap_or_default().to_owned();
            (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(status)).into_response()
        }
    })
}

async fn list(
    State(api): State<Api>,
    asked: Asked,
    headers: HeaderMap,
) -> Result<Json<Vec<InstanceStatus>>, Refused> {
    let mut all = api.workflows.list(&api.stack(&asked, &headers)?)?;
    all.retain(|status| asked.wants(status));
    all.truncate(asked.top.unwrap_or(TOP));
    if asked.show_input == Some(false) {
        all.iter_mut().for_each(|status| status.input = Value::Null);
    }
    Ok(Json(all))
}

async fn raise(
    State(api): State<Api>,
    Path((id, event)): Path<(String, String)>,
    asked: Asked,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Refused> {
    let instance = api.instance(&asked, &headers, id)?;
    api.workflows.raise(&instance, &event, read(&body)?.unwrap_or_default()).await?;
    Ok(StatusCode::ACCEPTED)
}

async fn told(
    State(api): State<Api>,
    Path((id, verb)): Path<(String, String)>,
    asked: Asked,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refused> {
    let instance = api.instance(&asked, &headers, id)?;
    match verb.as_str() {
        "terminate" => api.workflows.terminate(&instance, asked.reason).await?,
        "suspend" => api.workflows.suspend(&instance).await?,
        "resume" => api.workflows.resume(&instance).await?,
        "rewind" => api.workflows.rewind(&instance).await?,
        "restart" => {
            let new_id = asked.restart_with_new_instance_id.unwrap_or(true);
            let id = api.workflows.restart(&instance, new_id, traceparent(&headers)).await?;
            return Ok(api.started(&id, &asked.code));
        }
        _ => return Err(unknown(method, uri).await),
    }
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn purge(
    State(api): State<Api>,
    Path(id): Path<String>,
    asked: Asked,
    headers: HeaderMap,
) -> Result<Json<Value>, Refused> {
    let instance = api.instance(&asked, &headers, id)?;
    api.workflows.purge(&instance).await?;
    Ok(Json(json!({ "instancesDeleted": 1 })))
}

/// Deletes what has ended and fits; without a condition, nothing.
async fn purge_many(
    State(api): State<Api>,
    asked: Asked,
    headers: HeaderMap,
) -> Result<Json<Value>, Refused> {
    let stack = api.stack(&asked, &headers)?;
    if asked.created_time_from.is_none() {
        let message = "give `createdTimeFrom`: what was started since then, and has ended, is deleted";
        return Err(Refused(StatusCode::BAD_REQUEST, json!({ "Message": message })));
    }
    let mut deleted = 0;
    for status in api.workflows.list(&stack)? {
        if status.runtime_status.ended() && asked.wants(&status) {
            api.workflows.purge(&InstanceKey { stack: stack.clone(), id: status.instance_id }).await?;
            deleted += 1;
        }
    }
    Ok(Json(json!({ "instancesDeleted": deleted })))
}
