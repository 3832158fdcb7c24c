//! The two ends of the Lambda Invoke API that are not the functions' own: who may call what, and where requests go that
//! nobody waits for.

use std::sync::Arc;

use async_trait::async_trait;
use axum::{
    extract::{Path, Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_model::{
    Event, Explain, Kind, PhysicalId, Report,
    event::{FUNCTION_INVOKED, SpecVersion},
};
use tandem_store::{Batch, Store};

use crate::{
    credential::Principal,
    dispatch::Outbox,
    function::{
        Invocation, InvokeError,
        invoke_api::{Enqueue, parse_name},
    },
    resource::Resources,
};

/// How often an asynchronous invocation is tried, as on AWS.
const ATTEMPTS: u32 = 3;

/// Stores asynchronous invocations as deliveries.
pub(crate) struct Deferred {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) resources: Arc<Resources>,
}

#[async_trait]
impl Enqueue for Deferred {
    async fn enqueue(&self, function: &PhysicalId, invocation: Invocation) -> Result<(), Report> {
        let data = match &invocation.payload[..] {
            [] => Value::Null,
            // Deeper or larger in its numbers than JSON values are kept here.
            payload => serde_json::from_slice(payload).map_err(|e| unfit(&e))?,
        };
        let Some(recorded) = self.resources.by_id(Kind::Function, function) else {
            return Err(InvokeError::NoSuchFunction { name: function.to_string() }.report());
        };
        let event = Event {
            specversion: SpecVersion::V1,
            id: invocation.request_id,
            source: recorded.urn.to_string(),
            kind: FUNCTION_INVOKED.to_owned(),
            subject: None,
            time: Timestamp::now(),
            traceparent: invocation.traceparent,
            datacontenttype: "application/json".to_owned(),
            data,
        };
        let mut batch = Batch::default();
        let enqueued = self.outbox.enqueue_to(&mut batch, &recorded.urn, event, ATTEMPTS);
        self.outbox.commit(&self.store, batch, [enqueued]).await.map_err(|e| e.report())
    }
}

fn unfit(error: &serde_json::Error) -> Report {
    Report {
        code: "E0651".into(),
        message: "the payload of an asynchronous invocation cannot be kept".into(),
        help: "nest it less than 128 levels deep, and keep numbers within the range of a double".into(),
        causes: vec![error.to_string()],
    }
}

/// Lets a principal call the functions of its own stack only (I8). A function of another stack is as good as absent.
pub(crate) async fn within_reach(
    State(resources): State<Arc<Resources>>,
    Path(name): Path<String>,
    request: Request,
    next: Next,
) -> Response {
    let (bare, _) = parse_name(&name);
    let function = resources.by_id(Kind::Function, &PhysicalId(bare.to_owned()));
    let principal = request.extensions().get::<Principal>();
    match (principal, function) {
        (Some(principal), Some(function)) if principal.may_reach(&function.urn) => next.run(request).await,
        _ => {
            let message = format!("there is no function {bare} in this stack");
            let body = axum::Json(json!({ "Type": "User", "Message": message }));
            (StatusCode::NOT_FOUND, [("x-amzn-errortype", "ResourceNotFoundException")], body).into_response()
        }
    }
}

/// Of the Lambda API only invocations are there: functions are made by programs.
pub(crate) async fn unsupported(request: Request) -> Response {
    let message = format!("{} {} is not supported: only Invoke is", request.method(), request.uri().path());
    let body = axum::Json(json!({ "Type": "User", "Message": message }));
    (StatusCode::NOT_IMPLEMENTED, [("x-amzn-errortype", "NotImplementedException")], body).into_response()
}
