//! One client: does its operations one after the other, and tells the model what it was answered.

use std::cell::RefCell;

use bytes::Bytes;
use http::{Method, StatusCode};
use tandem_aws_client::{Answer, Connection, Endpoint, Unanswered};

use super::{
    model::{Content, Model, body},
    schedule::{Behaviour, End, Op},
};

/// What the clients of a schedule share.
pub(super) struct Shared<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) bucket: &'a str,
    pub(super) function: &'a str,
    pub(super) model: &'a RefCell<Model>,
    /// Whether the disk fails, so that changes may be refused: then they must not have happened, or not halfway.
    pub(super) disk: bool,
    /// Called at each answer.
    pub(super) answered: &'a dyn Fn(),
    /// Whether functions may fail for no reason of their own: their workers are killed, or the cloud ends.
    pub(super) disturbed: &'a dyn Fn() -> bool,
}

pub(super) struct Client<'a> {
    shared: &'a Shared<'a>,
    /// The first number of its bodies and calls; each operation has one of its own.
    first: u64,
    pub(super) ops: &'a [Op],
    pub(super) done: usize,
}

/// The connection broke, or the disk failed: what the operation did is not known.
pub(super) struct Broke;

impl From<Unanswered> for Broke {
    fn from(_: Unanswered) -> Self {
        Self
    }
}

impl<'a> Client<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, seed: u64, number: usize, ops: &'a [Op]) -> Self {
        Self { shared, first: (seed << 16) + ((number as u64) << 12), ops, done: 0 }
    }

    /// Works until all is done, or the connection breaks. The operation during which it breaks counts as done.
    pub(super) async fn work(&mut self) {
        let Ok(mut connection) = self.shared.endpoint.connect().await else { return };
        while let Some(op) = self.ops.get(self.done) {
            // Several bodies of one operation have several numbers.
            let number = self.first + 16 * self.done as u64;
            self.done += 1;
            if self.perform(&mut connection, op, number).await.is_err() {
                return;
            }
            (self.shared.answered)();
        }
    }

    async fn perform(&self, connection: &mut Connection, op: &Op, number: u64) -> Result<(), Broke> {
        match op {
            Op::Put { key, size } => {
                let content = Content::whole(vec![(number, *size)]);
                self.perhaps(key, Some(content.clone()));
                let answer = connection.put(self.shared.bucket, key, body(number, *size)).await?;
                self.success(op, &answer)?;
                let etag = etag(&answer);
                self.shared.model.borrow_mut().written(key, content, &etag, true);
            }
            Op::Multipart { key, parts, end } => {
                return self.upload(connection, op, (key, parts, *end), number).await;
            }
            Op::Delete { key } => {
                self.perhaps(key, None);
                let path = self.path(key);
                let answer = connection.send("s3", Method::DELETE, &path, &[], Bytes::new()).await?;
                self.success(op, &answer)?;
                self.shared.model.borrow_mut().deleted(key);
            }
            Op::Copy { from, to } => {
                let source = self.shared.model.borrow_mut().key(from).holds.clone();
                let source = source.map(|content| Content::whole(content.pieces));
                if from == to {
                    return Ok(());
                }
                if source.is_some() {
                    self.perhaps(to, source.clone());
                }
                let header = [("x-amz-copy-source", &*self.path(from))];
                let answer =
                    connection.send("s3", Method::PUT, &self.path(to), &header, Bytes::new()).await?;
                match source {
                    Some(content) => {
                        self.success(op, &answer)?;
                        let text = String::from_utf8_lossy(&answer.body).into_owned();
                        let etag = between(&text, "<ETag>", "</ETag>");
                        let etag = etag.trim_matches('"').replace("&quot;", "");
                        self.shared.model.borrow_mut().written(to, content, &etag, true);
                    }
                    None => assert_eq!(answer.status, StatusCode::NOT_FOUND, "{op:?}: {answer:?}"),
                }
            }
            Op::Get { key } => {
                let answer = connection.get(self.shared.bucket, key).await?;
                let holds = self.shared.model.borrow_mut().key(key).holds.clone();
                assert!(is(&answer, holds.as_ref()), "{op:?} does not read what was written: {answer:?}");
            }
            Op::Invoke { waited_for, behaviour } => {
                return self.invoke(connection, op, *waited_for, *behaviour, number).await;
            }
        }
        Ok(())
    }

    async fn upload(
        &self,
        connection: &mut Connection,
        op: &Op,
        (key, parts, end): (&str, &[usize], End),
        number: u64,
    ) -> Result<(), Broke> {
        let path = self.path(key);
        let begun =
            connection.send("s3", Method::POST, &format!("{path}?uploads="), &[], Bytes::new()).await?;
        self.success(op, &begun)?;
        let id = between(&String::from_utf8_lossy(&begun.body), "<UploadId>", "</UploadId>").to_owned();
        let (mut pieces, mut manifest) = (Vec::new(), String::new());
        for (index, size) in parts.iter().enumerate() {
            let (part, own) = (index + 1, number + index as u64);
            pieces.push((own, *size));
            let at = format!("{path}?partNumber={part}&uploadId={id}");
            let stored = connection.send("s3", Method::PUT, &at, &[], body(own, *size)).await?;
            self.success(op, &stored)?;
            let etag = etag(&stored);
            manifest += &format!("<Part><ETag>\"{etag}\"</ETag><PartNumber>{part}</PartNumber></Part>");
        }
        let at = format!("{path}?uploadId={id}");
        match end {
            End::Leave => {}
            End::Abort => {
                let answer = connection.send("s3", Method::DELETE, &at, &[], Bytes::new()).await?;
                self.success(op, &answer)?;
            }
            End::Complete => {
                let content = Content::of_parts(pieces);
                self.perhaps(key, Some(content.clone()));
                let body = format!(
                    "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{manifest}</CompleteMultipartUpload>"
                );
                let answer = connection.send("s3", Method::POST, &at, &[], body.into()).await?;
                self.success(op, &answer)?;
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                let etag = between(&text, "<ETag>", "</ETag>").replace("&quot;", "");
                let etag = etag.trim_matches('"');
                self.shared.model.borrow_mut().written(key, content, etag, true);
            }
        }
        Ok(())
    }

    async fn invoke(
        &self,
        connection: &mut Connection,
        op: &Op,
        waited_for: bool,
        behaviour: Behaviour,
        number: u64,
    ) -> Result<(), Broke> {
        let name = format!("call-{number:x}.{}", behaviour.suffix());
        let payload = format!("{{\"name\":\"{name}\"}}");
        let headers = [("x-amz-invocation-type", if waited_for { "RequestResponse" } else { "Event" })];
        let answer = connection.invoke(self.shared.function, &headers, payload.into()).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(unanswered) => {
                self.shared.model.borrow_mut().called(&name, waited_for, false);
                return Err(unanswered.into());
            }
        };
        let failed = !answer.status.is_success() || answer.headers.contains_key("x-amz-function-error");
        let should_fail = waited_for && behaviour.failures() > 0;
        let asked_for = String::from_utf8_lossy(&answer.body).contains("as asked");
        let as_it_should = if should_fail { failed && asked_for } else { !failed };
        let disturbed = (self.shared.disturbed)() || self.shared.disk;
        assert!(as_it_should || disturbed, "{op:?}: {answer:?}");
        self.shared.model.borrow_mut().called(&name, waited_for, as_it_should);
        Ok(())
    }

    fn success(&self, op: &Op, answer: &Answer) -> Result<(), Broke> {
        if self.shared.disk && answer.status.is_server_error() {
            return Err(Broke);
        }
        assert!(answer.status.is_success(), "{op:?}: {answer:?}");
        Ok(())
    }

    fn perhaps(&self, key: &str, content: Option<Content>) {
        self.shared.model.borrow_mut().key(key).perhaps = Some(content);
    }

    fn path(&self, key: &str) -> String {
        format!("/{}/{key}", self.shared.bucket)
    }
}

/// Whether the answer to a GET is this object, or that there is none.
pub(super) fn is(answer: &Answer, content: Option<&Content>) -> bool {
    match content {
        None => answer.status == StatusCode::NOT_FOUND,
        Some(content) => answer.status == StatusCode::OK && answer.body == content.bytes(),
    }
}

pub(super) fn etag(answer: &Answer) -> String {
    let value = answer.headers.get("etag").and_then(|value| value.to_str().ok());
    value.unwrap_or_default().trim_matches('"').to_owned()
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let rest = text.split_once(before).unwrap_or_else(|| panic!("no {before} in {text}")).1;
    rest.split_once(after).unwrap_or_else(|| panic!("no {after} in {text}")).0
}
