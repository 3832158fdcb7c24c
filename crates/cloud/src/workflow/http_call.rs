//! `callHttp`: requests that the cloud makes for an orchestrator.
//!
//! A request is an open task. Its answer is told to the instance as the result of an activity is, and recorded by the next
//! turn's commit. One that is accepted (202) with a `Location` is asked for there until it is over, as Durable Functions'
//! asynchronous pattern has it: where and when is committed to the task's row, so a restart goes on asking and does not make
//! the request again.
//!
//! | killed | the task's row | a restart |
//! |---|---|---|
//! | before the request was answered | as the turn's commit wrote it | makes the request again: at least once |
//! | after it was accepted, before that was committed | the same | the same |
//! | after that commit | says where to ask, and when | asks there |
//! | after the last answer, before the turn that records it | as before | asks, or makes the request, once more |

use std::{collections::BTreeMap, fmt, time::Duration};

use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tandem_failpoint::hit;
use tandem_store::{Batch, CommitError};
use tokio::time::sleep;

use super::{
    Shared,
    record::{Failure, Open, Work},
    store::{self, InstanceKey},
    web::{Answer, Outgoing},
};

/// What a history calls a request.
pub(super) const NAME: &str = "BuiltIn::HttpActivity";
/// How long an answer may take, as in Durable Functions.
pub(super) const TIMEOUT: Duration = Duration::from_secs(100);
/// How long to wait before asking for the end, if the answer does not say; as in Durable Functions.
const PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// A server that wants no pause gets one all the same.
const SHORTEST: SignedDuration = SignedDuration::from_millis(100);
/// How long a request is left alone whose instance could not be read.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// What is told to the server that was asked first, and to no other.
const PRIVATE: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];
/// Durable Functions keep it to the first request: the key of a function does not open the address of its status.
const FUNCTIONS_KEY: &str = "x-functions-key";

/// What an orchestrator asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HttpRequest {
    method: String,
    uri: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<String, Value>>,
    #[serde(default = "yes")]
    asynchronous_pattern_enabled: bool,
}

fn yes() -> bool {
    true
}

/// As JSON.
impl fmt::Display for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// Where an accepted request is asked for, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Poll {
    uri: String,
    at: Timestamp,
}

impl HttpRequest {
    /// The request itself, or the next question for its end.
    fn outgoing(&self, poll: Option<&Poll>, traceparent: String) -> Outgoing {
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in self.headers.iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            headers.insert(name.to_ascii_lowercase(), text);
        }
        headers.entry("traceparent".to_owned()).or_insert(traceparent);
        let Some(poll) = poll else {
            if self.content.is_some() {
                headers.entry("content-type".to_owned()).or_insert_with(|| "application/json".to_owned());
            }
            let (method, uri, content) = (self.method.clone(), self.uri.clone(), self.content.clone());
            return Outgoing { method, uri, headers, content };
        };
        headers.remove(FUNCTIONS_KEY);
        // They spoke of the first request's body.
        headers.retain(|name, _| !name.starts_with("content-"));
        if !same_origin(&self.uri, &poll.uri) {
            headers.retain(|name, _| !PRIVATE.contains(&name.as_str()));
        }
        Outgoing { method: "GET".to_owned(), uri: poll.uri.clone(), headers, content: None }
    }

    /// Where to ask for the end of what was accepted at `uri`; `None` if this is the answer.
    fn accepted(&self, uri: &str, answer: &Answer, now: Timestamp) -> Option<Poll> {
        if !self.asynchronous_pattern_enabled || answer.status != 202 {
            return None;
        }
        let location = answer.headers.get("location")?;
        let uri = Url::parse(uri).ok()?.join(location).ok()?;
        let pause = answer.headers.get("retry-after").and_then(|text| pause(text, now)).unwrap_or(PAUSE);
        let at = now.saturating_add(pause.max(SHORTEST)).unwrap_or(Timestamp::MAX);
        Some(Poll { uri: uri.into(), at })
    }
}

/// Seconds, or a date.
fn pause(retry_after: &str, now: Timestamp) -> Option<SignedDuration> {
    if let Ok(seconds) = retry_after.trim().parse() {
        return Some(SignedDuration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(retry_after).ok()?;
    Some(date.timestamp().duration_since(now))
}

fn same_origin(one: &str, other: &str) -> bool {
    match (Url::parse(one), Url::parse(other)) {
        (Ok(one), Ok(other)) => one.origin() == other.origin(),
        _ => false,
    }
}

impl Shared {
    /// What comes of a request; `None` if nobody waits for it any more.
    pub(super) async fn requested(
        &self,
        instance: &InstanceKey,
        execution: &str,
        task: u32,
    ) -> Option<Result<Value, Failure>> {
        // It counts from here on, so that a row that cannot be written makes no request twice.
        let mut poll = None;
        loop {
            let (record, open) =
                match self.store.snapshot().and_then(|s| store::task(&*s, instance, execution, task)) {
                    Ok(found) => found?,
                    Err(error) => {
                        tracing::error!(%instance, %error, "an instance cannot be read; trying again");
                        sleep(AFTER_ERROR).await;
                        continue;
                    }
                };
            let Work::Http { request, poll: recorded } = open.work.clone() else { return None };
            let now_due = poll.take().or(recorded);
            if let Some(poll) = &now_due {
                sleep(Duration::try_from(poll.at.duration_since(Timestamp::now())).unwrap_or_default()).await;
            }
            let outgoing = request.outgoing(now_due.as_ref(), record.cause());
            let answer = match self.web.send(&outgoing).await {
                Ok(answer) => answer,
                Err(wrong) => {
                    let reason = format!("{} {} failed: {}", outgoing.method, outgoing.uri, wrong.reason);
                    return Some(Err(Failure { reason, details: wrong.help }));
                }
            };
            match request.accepted(&outgoing.uri, &answer, Timestamp::now()) {
                None => return Some(Ok(told(answer))),
                Some(next) => {
                    self.record_poll(instance, execution, task, &open, &request, &next).await;
                    poll = Some(next);
                }
            }
        }
    }

    /// From this commit on a restart asks for the end, and does not make the request again.
    async fn record_poll(
        &self,
        instance: &InstanceKey,
        execution: &str,
        task: u32,
        open: &Open,
        request: &HttpRequest,
        poll: &Poll,
    ) {
        let key = store::open_key(instance, execution, task);
        let work = Work::Http { request: request.clone(), poll: Some(poll.clone()) };
        let mut batch = Batch::default();
        // A row that is gone stays gone: nobody waits any more.
        batch.expect(key.clone(), Some(store::json(open)));
        batch.put(key, store::json(&Open { work, ..open.clone() }));
        match self.store.commit(batch).await {
            Ok(()) => hit("workflow.http.accepted"),
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => {
                tracing::warn!(%instance, task, %error, "that a request was accepted cannot be recorded; a restart makes it again");
            }
        }
    }
}

/// The answer as the orchestrator gets it.
fn told(answer: Answer) -> Value {
    json!({ "statusCode": answer.status, "headers": answer.headers, "content": answer.content })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: Value) -> HttpRequest {
        serde_json::from_value(json).unwrap()
    }

    fn answer(status: u16, headers: &[(&str, &str)]) -> Answer {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Answer { status, headers, content: String::new() }
    }

    #[test]
    fn an_accepted_request_is_asked_for_where_and_when_the_answer_says() {
        let now = Timestamp::UNIX_EPOCH;
        let asked = request(json!({ "method": "POST", "uri": "http://a.test/jobs?x=1" }));
        let at = |headers: &[(&str, &str)]| {
            let poll = asked.accepted("http://a.test/jobs?x=1", &answer(202, headers), now)?;
            Some((poll.uri, poll.at.as_millisecond()))
        };
        let there = "http://a.test/jobs/7".to_owned();
        assert_eq!(at(&[("location", "/jobs/7"), ("retry-after", "2")]), Some((there.clone(), 2000)));
        assert_eq!(at(&[("location", "/jobs/7")]), Some((there.clone(), 30_000)));
        assert_eq!(at(&[("location", "jobs/7"), ("retry-after", "0")]), Some((there.clone(), 100)));
        let date = "Thu, 01 Jan 1970 00:00:05 GMT";
        assert_eq!(at(&[("location", "/jobs/7"), ("retry-after", date)]), Some((there, 5000)));
        assert_eq!(at(&[("retry-after", "2")]), None, "nobody says where");
        assert_eq!(asked.accepted("http://a.test/", &answer(200, &[("location", "/x")]), now), None);
        let off = json!({ "method": "POST", "uri": "http://a.test/", "asynchronousPatternEnabled": false });
        assert_eq!(request(off).accepted("http://a.test/", &answer(202, &[("location", "/x")]), now), None);
    }

    #[test]
    fn a_question_for_the_end_takes_credentials_to_the_same_server_only() {
        let asked = request(json!({
            "method": "POST", "uri": "http://a.test/jobs", "content": "{}",
            "headers": { "Authorization": "t", "X-Functions-Key": "k", "Content-Type": "a/b", "x-own": 7 },
        }));
        let names = |poll: Option<&str>| {
            let poll = poll.map(|uri| Poll { uri: uri.to_owned(), at: Timestamp::UNIX_EPOCH });
            let outgoing = asked.outgoing(poll.as_ref(), "00-x".to_owned());
            (outgoing.method, outgoing.content, outgoing.headers.into_keys().collect::<Vec<_>>())
        };
        let (method, content, headers) = names(None);
        assert_eq!((method.as_str(), content.as_deref()), ("POST", Some("{}")));
        assert_eq!(headers, ["authorization", "content-type", "traceparent", "x-functions-key", "x-own"]);
        let (method, content, headers) = names(Some("http://a.test/jobs/7"));
        assert_eq!((method.as_str(), content), ("GET", None));
        assert_eq!(headers, ["authorization", "traceparent", "x-own"]);
        assert_eq!(names(Some("http://a.test:81/jobs/7")).2, ["traceparent", "x-own"]);
    }
}
