//! A batch at the entity's function: what it is asked, and what its answer comes to.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tandem_model::{Report, Urn};
use tokio::time::sleep;

use super::{
    EntityKey, Operation,
    driver::{ATTEMPTS, BUSY},
    store::State,
};
use crate::{
    cause,
    workflow::{Shared, host::Fault, record::Failure},
};

/// The largest state and the largest result of an operation, as JSON.
const LARGEST: usize = 1 << 20;

/// What a batch makes true.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Applied {
    pub(super) exists: bool,
    pub(super) state: Option<String>,
    /// One for each operation, in their order.
    pub(super) results: Vec<Result<Value, Failure>>,
    pub(super) signals: Vec<Signal>,
}

/// What an operation sends to an entity.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Signal {
    pub(super) target: Target,
    pub(super) name: String,
    /// As JSON; empty if there is none.
    #[serde(default)]
    pub(super) input: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    entity_exists: bool,
    #[serde(default)]
    entity_state: Option<String>,
    results: Vec<Told>,
    #[serde(default)]
    signals: Vec<Signal>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    is_error: bool,
    #[serde(default)]
    result: Option<String>,
}

/// The batch in the form that Durable Functions has for it.
fn request(entity: &EntityKey, state: Option<&State>, batch: &[&Operation]) -> Bytes {
    let operations: Vec<_> = batch
        .iter()
        .map(|operation| {
            json!({
                "id": operation.id,
                "isSignal": operation.caller.is_none(),
                "name": operation.name,
                "input": operation.input,
            })
        })
        .collect();
    json!({
        "self": { "name": entity.name(), "key": entity.key },
        "exists": state.is_some(),
        "state": state.and_then(|state| state.state.as_deref()),
        "batch": operations,
    })
    .to_string()
    .into()
}

/// # Errors
/// Why the answer counts for nothing.
fn read(answer: &[u8], operations: usize) -> Result<Applied, Failure> {
    let wrong = |reason: String| Failure { reason, details: String::new() };
    let answer: Answer = serde_json::from_slice(answer)
        .map_err(|error| wrong(format!("the answer of the entity cannot be read: {error}")))?;
    if answer.results.len() != operations {
        let count = answer.results.len();
        return Err(wrong(format!("the entity answered {count} results to {operations} operations")));
    }
    let too_large = |what: &str, bytes: usize| {
        let reason = format!("{what} is {bytes} bytes long, and 1 MiB is the most");
        Failure { reason, details: "put it into a bucket, and keep its key".to_owned() }
    };
    if let Some(state) = answer.entity_state.as_ref().filter(|state| state.len() > LARGEST) {
        return Err(too_large("the state of the entity", state.len()));
    }
    let mut results = Vec::with_capacity(operations);
    for Told { is_error, result } in answer.results {
        let text = result.unwrap_or_else(|| "null".to_owned());
        if text.len() > LARGEST {
            return Err(too_large("what the entity returns", text.len()));
        }
        let value = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("what the entity returns is no JSON: {error}")))?;
        results.push(match (is_error, value) {
            (false, value) => Ok(value),
            (true, Value::String(reason)) => Err(wrong(reason)),
            (true, other) => Err(wrong(other.to_string())),
        });
    }
    let Answer { entity_exists, entity_state, signals, .. } = answer;
    let state = entity_state.filter(|state| entity_exists && !state.is_empty());
    Ok(Applied { exists: entity_exists, state, results, signals })
}

impl Shared {
    /// Hands a batch over; `None` if the cloud closes. A batch of one that its worker does not survive is tried again, and
    /// fails then, with the state as it was.
    ///
    /// # Errors
    /// Why nothing came of a batch of several: one of them may be to blame.
    pub(super) async fn apply(
        &self,
        function: &Urn,
        entity: &EntityKey,
        state: Option<&State>,
        batch: &[&Operation],
    ) -> Option<Result<Applied, Failure>> {
        let request = request(entity, state, batch);
        let traceparent = batch.first().map(|first| cause::of_run(first.traceparent.as_deref(), &first.id));
        let _room = self.entities.room.acquire().await.ok()?;
        let mut lost = 0;
        loop {
            let called = tokio::select! {
                called = self.host.operations(function, request.clone(), traceparent.clone()) => called,
                () = self.closing.cancelled() => return None,
            };
            let failure = match called {
                Ok(answer) => match read(&answer, batch.len()) {
                    Ok(applied) => return Some(Ok(applied)),
                    // It would be the same the next time.
                    Err(failure) => return Some(self.alone(entity, state, batch, failure)),
                },
                Err(Fault::Busy(_)) => {
                    tokio::select! {
                        () = sleep(BUSY) => {}
                        () = self.closing.cancelled() => return None,
                    }
                    continue;
                }
                Err(Fault::Lost(report)) => failure_of(report),
            };
            lost += 1;
            if batch.len() > 1 || lost == ATTEMPTS {
                return Some(self.alone(entity, state, batch, failure));
            }
            tracing::warn!(%entity, reason = failure.reason, "an operation of an entity is tried again");
        }
    }

    /// An operation by itself is to blame for its failure; of several, nobody knows which.
    fn alone(
        &self,
        entity: &EntityKey,
        state: Option<&State>,
        batch: &[&Operation],
        failure: Failure,
    ) -> Result<Applied, Failure> {
        let [operation] = batch else { return Err(failure) };
        if operation.caller.is_none() {
            let (name, reason) = (&operation.name, &failure.reason);
            tracing::error!(%entity, operation = name, reason, "a signal to an entity is given up");
        }
        Ok(Applied {
            exists: state.is_some(),
            state: state.and_then(|state| state.state.clone()),
            results: vec![Err(failure)],
            signals: Vec::new(),
        })
    }
}

fn failure_of(report: Report) -> Failure {
    let details = report.to_string();
    Failure { reason: report.message, details }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_of_each_operation_or_counts_for_nothing() {
        let told = json!({
            "entityExists": true, "entityState": "1",
            "results": [{ "isError": false, "result": "\"a\"" }, { "isError": true, "result": "\"no\"" }, { "isError": false }],
            "signals": [{ "target": { "name": "Other", "key": "x" }, "name": "hear", "input": "" }],
        })
        .to_string();
        let applied = read(told.as_bytes(), 3).unwrap();
        let failure = Failure { reason: "no".into(), details: String::new() };
        assert_eq!(applied.results, [Ok(json!("a")), Err(failure), Ok(Value::Null)]);
        assert_eq!((applied.exists, applied.state.as_deref()), (true, Some("1")));
        assert!(read(told.as_bytes(), 2).unwrap_err().reason.contains("3 results to 2 operations"));
        let large = json!({ "entityExists": true, "entityState": "x".repeat(LARGEST + 1), "results": [] });
        assert!(read(large.to_string().as_bytes(), 0).unwrap_err().reason.contains("1 MiB is the most"));
        let gone = json!({ "entityExists": false, "entityState": "1", "results": [] }).to_string();
        assert_eq!(read(gone.as_bytes(), 0).unwrap().state, None);
    }
}
