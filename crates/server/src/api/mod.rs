//! The requests the control API answers. A folder's worth of routes for each thing it controls.
//!
//! Every error is a [`Report`] as JSON: 400 for what the asker can mend, 404 for what is not there.

mod backup;
mod builds;
mod cloud;
mod dead_letters;
mod images;
mod logs;
mod processes;
mod runs;
mod target;
mod why;
mod workflows;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::FromRef,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tandem_cloud::Cloud;
use tandem_model::{Explain, Report};
use tokio::sync::watch;

/// What the handlers share.
#[derive(Clone)]
struct State {
    cloud: Arc<Cloud>,
    /// Set to true to stop the cloud.
    stop: watch::Sender<bool>,
}

impl FromRef<State> for Arc<Cloud> {
    fn from_ref(state: &State) -> Self {
        state.cloud.clone()
    }
}

/// All routes of the control API.
pub fn router(open: Arc<Cloud>, stop: watch::Sender<bool>) -> Router {
    Router::new()
        .merge(cloud::routes())
        .merge(backup::routes())
        .merge(target::routes())
        .merge(logs::routes())
        .merge(processes::routes())
        .merge(runs::routes())
        .merge(dead_letters::routes())
        .merge(workflows::routes())
        .merge(why::routes())
        .merge(images::routes())
        .merge(builds::routes())
        .with_state(State { cloud: open, stop })
}

/// A refusal, as an answer.
struct Refusal(Report);

impl From<Report> for Refusal {
    fn from(report: Report) -> Self {
        Self(report)
    }
}

impl Refusal {
    fn of(error: &impl Explain) -> Self {
        Self(error.report())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(self.0)).into_response()
    }
}
