//! Instances of workflows in the tree of causes.

use tandem_model::{Kind, Urn};

use super::{Node, NodeKind, State, WhyError, tell::Teller};
use crate::workflow::{CallOutcome, CalledActivity, CausedInstance, InstanceKey, Status};

/// How many of its last calls are told.
const CALLS: usize = 50;

pub(super) fn head(CausedInstance { status, .. }: &CausedInstance, stack: &tandem_model::StackId) -> Node {
    let workflow = status.name.parse().ok().map(|name| Urn::new(stack.clone(), Kind::Workflow, name));
    let (state, mut how) = match status.runtime_status {
        Status::Completed => (State::Handled, "completed".to_owned()),
        Status::Failed => (State::Failed, "failed".to_owned()),
        Status::Terminated => (State::Failed, "was terminated".to_owned()),
        Status::Pending => (State::Waiting, "waits for its first turn".to_owned()),
        Status::Suspended => (State::Waiting, "is suspended".to_owned()),
        Status::Running => (State::Running, "goes on".to_owned()),
    };
    if state == State::Failed {
        how = format!("{how}: {}", status.output.as_str().unwrap_or_default());
    }
    if !status.events_awaited.is_empty() {
        how = format!("{how}, and waits for the event {}", status.events_awaited.join(", "));
    }
    Node {
        time: Some(status.created_time),
        id: Some(status.instance_id.clone()),
        resource: workflow,
        state: Some(state),
        ..Node::new(
            NodeKind::Instance,
            format!("instance {} of workflow/{} {how}", status.instance_id, status.name),
        )
    }
}

impl Teller<'_> {
    /// An instance, the activities that it called, and all that they led to.
    pub(super) async fn instance(&self, at: usize) -> Result<Node, WhyError> {
        let caused = &self.known.instances[at];
        let mut node = head(caused, &self.known.stack);
        let key = InstanceKey { stack: self.known.stack.clone(), id: caused.status.instance_id.clone() };
        for call in self.why.workflows.called(&key, CALLS)? {
            let mut child = step(&call);
            child.children = self.lines(&call.function, &call.request).await?;
            node.children.push(child);
        }
        self.effects(&caused.cause, &mut node).await?;
        Ok(node)
    }
}

fn step(CalledActivity { function, request, began, outcome }: &CalledActivity) -> Node {
    let (state, how) = match outcome {
        CallOutcome::Open => (State::Running, "is called".to_owned()),
        CallOutcome::Done => (State::Handled, "answered".to_owned()),
        CallOutcome::Failed(reason) => (State::Failed, format!("failed: {reason}")),
    };
    Node {
        time: Some(*began),
        id: Some(request.clone()),
        resource: Some(function.clone()),
        state: Some(state),
        ..Node::new(NodeKind::Call, format!("{} {how}", function.short()))
    }
}
