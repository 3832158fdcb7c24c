//! What must be true, by what the clients were answered.

use std::collections::BTreeMap;

use bytes::Bytes;

/// What an object holds, without its bytes: they are made again to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    /// Each body's own number and size; several of a multipart upload.
    pub(super) pieces: Vec<(u64, usize)>,
    /// In how many files it is.
    pub(super) files: usize,
}

/// A longer body is in a file.
const INLINE: usize = 32 << 10;

impl Content {
    /// What one request brought.
    pub(super) fn whole(pieces: Vec<(u64, usize)>) -> Self {
        let size: usize = pieces.iter().map(|(_, size)| size).sum();
        Self { pieces, files: (size > INLINE).into() }
    }

    /// What an upload brought: each part is in a file of its own.
    pub(super) fn of_parts(pieces: Vec<(u64, usize)>) -> Self {
        Self { files: pieces.len(), pieces }
    }

    pub(super) fn bytes(&self) -> Bytes {
        self.pieces.iter().flat_map(|(number, size)| body(*number, *size)).collect()
    }
}

/// A body that no other number has, unless it is empty or nearly so.
pub(super) fn body(number: u64, size: usize) -> Bytes {
    let unit = format!("<{number:x}>");
    unit.as_bytes().iter().copied().cycle().take(size).collect()
}

/// A key as far as its client knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Key {
    /// None: there is no object.
    pub(super) holds: Option<Content>,
    /// A change that was not answered: what it would hold then.
    pub(super) perhaps: Option<Option<Content>>,
}

/// What a handler is called for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cause {
    /// The event's type, or [`CALL`], or [`JOB`].
    pub(super) kind: String,
    /// The object's key, or the call's name.
    pub(super) name: String,
    /// Of a put.
    pub(super) etag: String,
}

/// How many events of one cause there must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) least: usize,
    pub(super) most: usize,
    /// Nobody repeats it: a client waited for it.
    pub(super) once: bool,
    /// How often the handler fails by itself.
    pub(super) failures: usize,
}

/// All that one schedule did.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) keys: BTreeMap<String, Key>,
    pub(super) events: BTreeMap<Cause, Expected>,
}

pub(super) const PUT: &str = "dev.tandem.bucket.object.put";
pub(super) const DELETED: &str = "dev.tandem.bucket.object.deleted";
pub(super) const CALL: &str = "call";
/// A put that a task gets.
pub(super) const JOB: &str = "job";

/// How often a handler fails that does what the end of this name says; it is tried three times.
pub(super) fn failures(name: &str) -> usize {
    match name.rsplit('.').next() {
        Some("doomed") => 3,
        Some("flaky") => 1,
        _ => 0,
    }
}

impl Model {
    pub(super) fn key(&mut self, key: &str) -> &mut Key {
        self.keys.entry(key.to_owned()).or_default()
    }

    fn expect(&mut self, kind: &str, name: &str, etag: &str, least: usize) -> &mut Expected {
        let cause = Cause { kind: kind.to_owned(), name: name.to_owned(), etag: etag.to_owned() };
        let expected = self.events.entry(cause).or_default();
        expected.least += least;
        expected.most += 1;
        expected.failures = if kind == DELETED { 0 } else { failures(name) };
        expected
    }

    /// The object was written; `certain` unless it held the same before, and no answer came.
    pub(super) fn written(&mut self, key: &str, content: Content, etag: &str, certain: bool) {
        self.expect(PUT, key, etag, certain.into());
        if key.ends_with(".job") {
            self.expect(JOB, key, etag, certain.into());
        }
        *self.key(key) = Key { holds: Some(content), perhaps: None };
    }

    /// The object was deleted. One that was not there is deleted already, and makes no event.
    pub(super) fn deleted(&mut self, key: &str) {
        if self.key(key).holds.is_some() {
            self.expect(DELETED, key, "", 1);
        }
        *self.key(key) = Key::default();
    }

    /// A call that was answered, or taken; or of which that is not known.
    pub(super) fn called(&mut self, name: &str, waited_for: bool, certain: bool) {
        self.expect(CALL, name, "", certain.into()).once = waited_for;
    }
}

#[test]
fn bodies_differ() {
    assert_ne!(body(1, 100), body(2, 100));
    assert_eq!(Content::of_parts(vec![(1, 10), (2, 20)]).bytes().len(), 30);
}
