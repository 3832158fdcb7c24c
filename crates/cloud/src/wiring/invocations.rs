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
    function::{Invocation, InvokeError, invoke_api::Enqueue},
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
            data: serde_json::from_slice(&invocation.payload).unwrap_or(Value::Null),
        };
        let mut batch = Batch::default();
        let enqueued = self.outbox.enqueue_to(&mut batch, &recorded.urn, event, ATTEMPTS);
        self.store.commit(batch).await.map_err(|e| e.report())?;
        self.outbox.committed(enqueued);
        Ok(())
    }
}

/// Lets a principal call the functions of its own stack only (I8). A function of another stack is as good as absent.
pub(crate) async fn within_reach(
    State(resources): State<Arc<Resources>>,
    Path(name): Path<String>,
    request: Request,
    next: Next,
) -> Response {
    // A name may be an ARN and may have a qualifier: `arn:aws:lambda:…:function:<name>:$LATEST`.
    let bare = name.split_once(":function:").map_or(name.as_str(), |(_, rest)| rest);
    let bare = bare.split(':').next().unwrap_or(bare);
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
