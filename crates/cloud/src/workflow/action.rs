//! What an orchestrator answers to a turn, in the form that Durable Functions has for it (schema version 2): the actions it
//! took, in their order, and whether it is done.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

use super::{http_call::HttpRequest, record::Retries};

/// The answer to a turn.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct State {
    pub(super) is_done: bool,
    actions: Vec<Vec<Action>>,
    pub(super) output: Option<Value>,
    pub(super) error: Option<String>,
    /// Where it was thrown.
    stack: Option<String>,
    pub(super) custom_status: Option<Value>,
    /// The number of the first action in `actions`: our own host answers only what is new.
    pub(super) from: u32,
    /// Timers that were created in an earlier turn and are cancelled in this one.
    pub(super) canceled: Vec<u32>,
}

impl State {
    /// This and what comes after it as one: two pages of a replay.
    pub(super) fn followed_by(mut self, mut next: Self) -> Self {
        self.actions.append(&mut next.actions);
        self.canceled.append(&mut next.canceled);
        Self { actions: self.actions, canceled: self.canceled, from: self.from, ..next }
    }

    /// The places where its error was thrown, nearest first.
    pub(super) fn frames(&self) -> Option<String> {
        let frames: Vec<_> =
            self.stack.as_deref()?.lines().map(str::trim).filter(|line| line.starts_with("at ")).collect();
        (!frames.is_empty()).then(|| frames.join("\n"))
    }

    /// The actions in the order in which they were taken, those within `Task.all` and `Task.any` at their place.
    pub(super) fn actions(self) -> Vec<Action> {
        let mut flat = Vec::new();
        for action in self.actions.into_iter().flatten() {
            flatten(action, &mut flat);
        }
        flat
    }
}

fn flatten(action: Action, flat: &mut Vec<Action>) {
    match action.what {
        What::Compound(actions) => actions.into_iter().for_each(|one| flatten(one, flat)),
        _ => flat.push(action),
    }
}

/// One action, with the id of the task that it begins where the host tells it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Action {
    pub(super) id: Option<u32>,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    Activity {
        name: String,
        input: Option<Value>,
        retries: Option<Retries>,
    },
    Child {
        name: String,
        instance: Option<String>,
        input: Option<Value>,
        retries: Option<Retries>,
    },
    /// A run of a container task; an action of our own.
    Run {
        name: String,
        input: Option<Value>,
        retries: Option<Retries>,
    },
    Http {
        request: HttpRequest,
    },
    /// An operation of an entity; of a signal, nobody waits for the answer.
    Entity {
        to: String,
        operation: String,
        input: Option<Value>,
        waits: bool,
    },
    /// A lock on entities; an action of our own.
    Lock {
        entities: Vec<String>,
    },
    /// The lock that is this task is given back; an action of our own.
    Unlock {
        lock: u32,
        entities: Vec<String>,
    },
    ContinueAsNew {
        input: Option<Value>,
    },
    Timer {
        fire_at: Timestamp,
        canceled: bool,
    },
    WaitForEvent {
        name: String,
    },
    Compound(Vec<Action>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    action_type: u32,
    #[serde(default)]
    id: Option<u32>,
    #[serde(default)]
    function_name: Option<String>,
    #[serde(default)]
    task_name: Option<String>,
    #[serde(default)]
    external_event_name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    input: Option<Value>,
    #[serde(default)]
    instance_id: Option<String>,
    #[serde(default)]
    retry_options: Option<Retries>,
    #[serde(default)]
    fire_at: Option<Timestamp>,
    #[serde(default)]
    operation: Option<String>,
    #[serde(default)]
    http_request: Option<HttpRequest>,
    #[serde(default)]
    entities: Vec<String>,
    #[serde(default)]
    lock: Option<u32>,
    #[serde(default)]
    is_canceled: bool,
    #[serde(default)]
    compound_actions: Vec<Action>,
}

/// `null` is a value: only what is absent is none. A text is wrapped once more than other values, and unwrapped here.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Ok(Some(match Value::deserialize(value)? {
        Value::String(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        other => other,
    }))
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        let number = wire.action_type;
        let name = |name: Option<String>| {
            name.ok_or_else(|| D::Error::custom(format!("an action of type {number} names nothing")))
        };
        let what = match number {
            0 | 1 => What::Activity {
                name: name(wire.function_name)?,
                input: wire.input,
                retries: wire.retry_options,
            },
            2 | 3 => What::Child {
                name: name(wire.function_name)?,
                instance: wire.instance_id,
                input: wire.input,
                retries: wire.retry_options,
            },
            4 => What::ContinueAsNew { input: wire.input },
            5 => What::Timer {
                fire_at: wire.fire_at.ok_or_else(|| D::Error::missing_field("fireAt"))?,
                canceled: wire.is_canceled,
            },
            6 => What::WaitForEvent { name: name(wire.external_event_name)? },
            7 | 9 => What::Entity {
                to: wire.instance_id.ok_or_else(|| D::Error::missing_field("instanceId"))?,
                operation: wire.operation.unwrap_or_default(),
                input: wire.input,
                waits: number == 7,
            },
            8 => What::Http {
                request: wire.http_request.ok_or_else(|| D::Error::missing_field("httpRequest"))?,
            },
            11 | 12 => What::Compound(wire.compound_actions),
            100 | 101 => {
                What::Run { name: name(wire.task_name)?, input: wire.input, retries: wire.retry_options }
            }
            102 => What::Lock { entities: wire.entities },
            103 => What::Unlock {
                lock: wire.lock.ok_or_else(|| D::Error::missing_field("lock"))?,
                entities: wire.entities,
            },
            other => return Err(D::Error::custom(format!("there is no action of type {other}"))),
        };
        Ok(Self { id: wire.id, what })
    }
}
