//! The tree of causes, from what is known.

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
};

use tandem_model::{
    Event, Urn,
    event::{FUNCTION_INVOKED, OBJECT_DELETED, OBJECT_PUT, QUEUE_MESSAGES},
};

use super::{
    Node, NodeKind, State, Why, WhyError, instance,
    known::{Asked, Hop, Known, messages_of},
    message, reason,
};
use crate::{
    dispatch::Outcome,
    log::{Filter, Line},
    task::{Caused, RunState},
};

/// How many events, deliveries and runs are told of, so that an answer stays readable and a question cheap.
const MOST: usize = 500;
/// How many of its last lines are told of a delivery or run.
const LINES: usize = 20;

pub(super) struct Teller<'a> {
    pub(super) why: &'a Why,
    pub(super) known: &'a Known,
    told: AtomicUsize,
}

type Telling<'t, T> = Pin<Box<dyn Future<Output = Result<T, WhyError>> + Send + 't>>;

impl<'a> Teller<'a> {
    pub(super) fn new(why: &'a Why, known: &'a Known) -> Self {
        Self { why, known, told: AtomicUsize::new(0) }
    }

    /// The tree below what was asked for, and above it the chain of what led there, without what else that led to.
    pub(super) async fn asked(&self, asked: &Asked) -> Result<Node, WhyError> {
        if let Asked::Happening(at) = asked {
            return self.asked_event(*at).await;
        }
        let mut node = match asked {
            Asked::Hop(at) => self.hop(*at).await?,
            Asked::Run(at) => self.run(*at).await?,
            Asked::Instance(at) => self.instance(*at).await?,
            Asked::Happening(at) => self.event(*at).await?,
        };
        node.asked = true;
        self.below(self.above(*asked), node)
    }

    pub(super) async fn asked_event(&self, at: usize) -> Result<Node, WhyError> {
        let mut node = self.event(at).await?;
        node.asked = true;
        let told: Vec<Urn> = node.children.iter().filter_map(|child| child.resource.clone()).collect();
        node.children.extend(reason::of_event(self.why, &self.known.happenings[at].event, &told));
        self.below(self.above(Asked::Happening(at)), node)
    }

    /// What led to it.
    fn above(&self, asked: Asked) -> Option<Asked> {
        let above = match asked {
            Asked::Hop(hop) => self.known.happening_of(hop).map(Asked::Happening),
            Asked::Happening(at) => {
                self.known.cause_of(self.known.happenings[at].event.traceparent.as_deref())
            }
            Asked::Run(at) => self.known.cause_of(self.known.runs[at].traceparent.as_deref()),
            Asked::Instance(at) => self.known.cause_of(self.known.instances[at].traceparent.as_deref()),
        };
        above.filter(|above| *above != asked)
    }

    /// The node below the chain of what led to it.
    pub(super) fn below(&self, mut above: Option<Asked>, mut node: Node) -> Result<Node, WhyError> {
        // A chain is as long as it is; one that was made up by a client may have no end.
        for _ in 0..MOST {
            let Some(at) = above else { break };
            let mut parent = match at {
                Asked::Happening(at) => head(&self.known.happenings[at].event),
                Asked::Hop(at) => self.hop_head(&self.known.hops[at]),
                Asked::Run(at) => run_head(&self.known.runs[at]),
                Asked::Instance(at) => instance::head(&self.known.instances[at], &self.known.stack),
            };
            parent.children.push(node);
            (node, above) = (parent, self.above(at));
        }
        Ok(node)
    }

    /// Whether one more may be told of.
    fn has_room(&self) -> bool {
        self.told.fetch_add(1, Ordering::Relaxed) < MOST
    }

    fn event(&self, at: usize) -> Telling<'_, Node> {
        Box::pin(async move {
            let happening = &self.known.happenings[at];
            let mut node = head(&happening.event);
            for hop in &happening.hops {
                if !self.has_room() {
                    node.children.push(Node::new(NodeKind::Reason, "and more, which is not told here"));
                    break;
                }
                node.children.push(self.hop(*hop).await?);
            }
            Ok(node)
        })
    }

    fn hop_head(&self, hop: &Hop) -> Node {
        let delivery = &hop.delivery;
        let redriven = self.known.redriven_as(&delivery.id).map(|hop| hop.delivery.id.as_str());
        let (state, standing) = reason::standing(self.why, hop, redriven);
        let way = match delivery.subscription == delivery.consumer {
            true => delivery.consumer.short(),
            false => format!("{} → {}", delivery.subscription.short(), delivery.consumer.short()),
        };
        Node {
            time: hop.tries.first().map(|first| first.began),
            id: Some(delivery.id.clone()),
            resource: Some(delivery.subscription.clone()),
            state: Some(state),
            error: match &hop.standing {
                super::known::Standing::Dead(letter) => Some(letter.error.clone()),
                _ => None,
            },
            ..Node::new(NodeKind::Delivery, format!("{way}: {standing}"))
        }
    }

    /// A delivery: the attempts that failed, what was printed, and all that it led to, in the order of time.
    pub(super) fn hop(&self, at: usize) -> Telling<'_, Node> {
        Box::pin(async move {
            let hop = &self.known.hops[at];
            let mut node = self.hop_head(hop);
            node.children.extend(hop.tries.iter().filter_map(attempt));
            let delivery = &hop.delivery;
            node.children.extend(self.lines(&delivery.consumer, &delivery.id).await?);
            self.effects(&delivery.traceparent(), &mut node).await?;
            Ok(node)
        })
    }

    fn run(&self, at: usize) -> Telling<'_, Node> {
        Box::pin(async move {
            let caused = &self.known.runs[at];
            let mut node = run_head(caused);
            node.children.extend(self.lines(&caused.run.task, caused.run.id.as_str()).await?);
            self.effects(&caused.own_cause(), &mut node).await?;
            Ok(node)
        })
    }

    pub(super) async fn effects(&self, cause: &str, node: &mut Node) -> Result<(), WhyError> {
        for run in self.known.runs_of(cause) {
            if self.has_room() {
                node.children.push(self.run(*run).await?);
            }
        }
        for at in self.known.instances_of(cause) {
            if self.has_room() {
                node.children.push(Box::pin(self.instance(*at)).await?);
            }
        }
        for happening in self.known.happenings_of(cause) {
            if self.has_room() {
                node.children.push(self.event(*happening).await?);
            }
        }
        node.children.sort_by_key(|child| child.time);
        Ok(())
    }

    pub(super) async fn lines(&self, resource: &Urn, id: &str) -> Result<Vec<Node>, WhyError> {
        let filter = Filter {
            stack: Some(resource.stack.clone()),
            resource: Some(resource.name.to_string()),
            kind: Some(resource.kind),
            id: Some(id.to_owned()),
            tail: Some(LINES),
            ..Filter::default()
        };
        let lines = self.why.log.read(&filter).await?;
        let node = |line: Line| Node {
            time: Some(line.time),
            resource: Some(line.resource),
            ..Node::new(NodeKind::Line, line.text)
        };
        Ok(lines.into_iter().map(node).collect())
    }
}

fn head(event: &Event) -> Node {
    let source = event.source.parse::<Urn>().ok();
    let place = source.as_ref().map_or_else(|| event.source.clone(), Urn::short);
    let key = event.subject.as_deref().unwrap_or_default();
    let text = match event.kind.as_str() {
        OBJECT_DELETED => format!("{key} was deleted from {place}"),
        QUEUE_MESSAGES => message::told_event(&place, &messages_of(event)),
        FUNCTION_INVOKED => format!("{place} was called, and not waited for"),
        OBJECT_PUT => format!("{key} was put into {place}"),
        _ if key.is_empty() => format!("{} of {place}", event.kind),
        _ => format!("{key} changed in {place}"),
    };
    Node {
        time: Some(event.time),
        id: Some(event.id.clone()),
        resource: source,
        ..Node::new(NodeKind::Event, text)
    }
}

fn run_head(Caused { run, .. }: &Caused) -> Node {
    let (state, how) = match (&run.outcome, run.state) {
        (Some(outcome), _) if outcome.is_success() => (State::Handled, outcome.to_string()),
        (Some(outcome), _) => (State::Failed, outcome.to_string()),
        (None, RunState::Queued) => {
            let why = run.waits.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            (State::Waiting, format!("waits{why}"))
        }
        (None, _) => (State::Running, "runs".to_owned()),
    };
    Node {
        time: Some(run.accepted),
        id: Some(run.id.to_string()),
        resource: Some(run.task.clone()),
        state: Some(state),
        ..Node::new(NodeKind::Run, format!("run {} of {} {how}", run.id, run.task.short()))
    }
}

/// An attempt that failed. One that was handled is told by its delivery.
fn attempt(tried: &super::known::Try) -> Option<Node> {
    let n = tried.attempt;
    let (text, error) = match &tried.outcome {
        Outcome::Handled => return None,
        Outcome::Again { error: None, .. } => (format!("attempt {n} was cut off, and does not count"), None),
        Outcome::Again { pause, error: Some(error) } => {
            let pause = pause.as_secs_f64();
            (
                format!(
                    "attempt {n} failed: {} {}; tried again after {pause:.1}s",
                    error.code, error.message
                ),
                Some(error),
            )
        }
        Outcome::GivenUp { error } => {
            (format!("given up after attempt {n}: {} {}", error.code, error.message), Some(error))
        }
    };
    let error = error.cloned();
    Some(Node {
        time: Some(tried.ended),
        state: Some(State::Failed),
        error,
        ..Node::new(NodeKind::Attempt, text)
    })
}
