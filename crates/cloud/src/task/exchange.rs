//! What a run is given and what it answers: `run(input)` of a task is a call of a function that lives in a container.
//!
//! Both are JSON, of at most [`LARGEST`]. They have rows of their own beside the run's record, so that a list of runs need
//! not read them; the input's is written by the commit that accepts the run, the result's by the one that ends it (I3).
//! Until that commit the result is in the container's folder, which is removed after it.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tandem_container::{ContainerError, exchange::Left};
use tandem_model::ByteSize;

use super::{RunError, RunRequest, Shared, core::Answer, store::Record};

/// The largest input, and the largest result.
pub const LARGEST: ByteSize = ByteSize(256 << 10);

/// After a failure to read a result, it is tried again so often, with a pause in between.
const TRIES: usize = 5;
const AGAIN: Duration = Duration::from_secs(1);

/// The input of the run that is asked for, as text.
///
/// # Errors
/// [`RunError::InputTooLarge`].
pub(super) fn input(request: &RunRequest) -> Result<Option<String>, RunError> {
    let Some(text) = request.input.as_ref().map(Value::to_string) else { return Ok(None) };
    let size = ByteSize(text.len() as u64);
    if size > LARGEST {
        return Err(RunError::InputTooLarge { task: request.task.clone(), size });
    }
    Ok(Some(text))
}

/// Reads what the ended container of a run left.
pub(super) async fn answer(shared: &Shared, record: &Record) -> Answer {
    let mut left = shared.parts.runtime.result(&record.container(), LARGEST).await;
    for _ in 1..TRIES {
        match &left {
            Ok(_) | Err(ContainerError::Absent(_)) => break,
            Err(error) => tracing::warn!(run = %record.id, %error, "cannot read the result of a run"),
        }
        tokio::time::sleep(AGAIN).await;
        left = shared.parts.runtime.result(&record.container(), LARGEST).await;
    }
    match left {
        Ok(left) => judged(left),
        Err(ContainerError::Absent(_)) => Answer::Nothing,
        Err(error) => Answer::Unusable(format!("it cannot be read: {error}")),
    }
}

fn judged(left: Left) -> Answer {
    match left {
        Left::Nothing => Answer::Nothing,
        Left::Bytes(bytes) => match serde_json::from_slice::<Value>(&bytes) {
            Ok(value) => Answer::Result(Arc::from(value.to_string())),
            Err(_) if bytes.is_empty() => Answer::Unusable("it is empty".to_owned()),
            Err(error) => Answer::Unusable(format!("it is not JSON: {error}")),
        },
        Left::TooLarge { size } => Answer::Unusable(format!("it has {size}, more than {LARGEST}")),
        Left::NoFile => Answer::Unusable("it is no file".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Answer {
        judged(Left::Bytes(text.as_bytes().to_vec()))
    }

    #[test]
    fn one_json_value_is_a_result_and_nothing_else_is() {
        for (text, value) in
            [("{\"a\": [1, null]}\n", "{\"a\":[1,null]}"), ("null", "null"), (" \"x\" ", "\"x\"")]
        {
            assert_eq!(of(text), Answer::Result(value.into()), "{text}");
        }
        for text in ["", "{", "{} {}", "ok", "{a: 1}", "\u{feff}{}", "NaN"] {
            assert!(matches!(of(text), Answer::Unusable(_)), "{text}");
        }
        assert!(matches!(judged(Left::Bytes(vec![b'"', 0xff, b'"'])), Answer::Unusable(_)));
        // No deeper than we can follow.
        assert!(matches!(of(&"[".repeat(100_000)), Answer::Unusable(_)));
    }
}
