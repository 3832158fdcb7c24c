//! What was tried and how it ended: one line of JSON per entry, durable before the next thing happens.
//!
//! The lines are `{"begin": …}`, `{"done": …}` and `{"failed": …}`. [`decode`] tolerates a torn last line, which is
//! what a crash during an append leaves: an entry that is not completely on disk has not been waited for, so nothing
//! was done on its account. Anything else that cannot be read is damage, and refused with its line.

use std::{
    fs::File,
    io::{self, Write},
    sync::mpsc,
    thread,
};

use serde::{Deserialize, Serialize};
use tandem_model::{OpId, PhysicalId, Recorded, Report, Urn, plan::Change};
use tokio::sync::oneshot;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Entry {
    /// Written before the target is asked.
    Begin(Begin),
    /// Written when the target has answered.
    Done {
        op: OpId,
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// The target refused; nothing was changed.
    Failed { op: OpId, report: Report },
}

impl Entry {
    pub fn op(&self) -> &OpId {
        match self {
            Self::Begin(begin) => &begin.op,
            Self::Done { op, .. } | Self::Failed { op, .. } => op,
        }
    }
}

/// An operation that is about to be asked for, with all that is needed to ask again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Begin {
    pub op: OpId,
    pub change: Change,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Urn>,
    /// For a create that is half of a replacement: the older resource, to be deleted later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<PhysicalId>,
}

/// How an operation ended that was not refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", untagged)]
pub enum Outcome {
    Recorded {
        recorded: Recorded,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replaced: Option<PhysicalId>,
    },
    Removed {
        urn: Urn,
        id: PhysicalId,
    },
}

/// Which line of a journal cannot be read, counted from 1, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub line: usize,
    pub reason: String,
}

/// Reads a journal. Answers the entries and how many bytes they take: what follows is torn.
///
/// # Errors
/// [`Damage`] if a line that is not torn is no entry, or if an operation ends that has not begun.
pub fn decode(bytes: &[u8]) -> Result<(Vec<Entry>, usize), Damage> {
    let mut entries = Vec::new();
    let mut begun = std::collections::HashSet::new();
    let mut intact = 0;
    for (index, line) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let damage = |reason: String| Damage { line: index + 1, reason };
        let is_last = intact + line.len() == bytes.len();
        // A crash can leave a line without its end, or with blocks that were never written, which read as zeros.
        if is_last && (line.last() != Some(&b'\n') || line.contains(&0)) {
            break;
        }
        let entry: Entry = serde_json::from_slice(line).map_err(|e| damage(e.to_string()))?;
        match &entry {
            Entry::Begin(begin) => {
                begun.insert(begin.op.clone());
            }
            ended if !begun.contains(ended.op()) => {
                return Err(damage(format!("operation {} ends and has not begun", ended.op())));
            }
            _ => {}
        }
        entries.push(entry);
        intact += line.len();
    }
    Ok((entries, intact))
}

/// Appends entries from many tasks. Those that wait at the same time share one fsync.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Request>,
}

type Request = (Vec<u8>, oneshot::Sender<io::Result<()>>);

impl Writer {
    /// Takes a file opened for appending. The thread ends when the writer is dropped.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let (queue, requests) = mpsc::channel();
        thread::Builder::new().name("journal".into()).spawn(move || write(file, &requests))?;
        Ok(Self { queue })
    }

    /// Returns when the entry is on disk.
    pub(crate) async fn append(&self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let (answer, answered) = oneshot::channel();
        self.queue.send((line, answer)).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// The thread stops at the first failure, so that nothing is written behind a hole.
fn gone() -> io::Error {
    io::Error::other("an earlier write failed")
}

fn write(mut file: File, requests: &mpsc::Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let group: Vec<Request> = std::iter::once(first).chain(requests.try_iter()).collect();
        let bytes = group.iter().flat_map(|(line, _)| line).copied().collect::<Vec<u8>>();
        let result = tandem_failpoint::try_hit("engine.journal.writing")
            .and_then(|()| file.write_all(&bytes))
            .and_then(|()| file.sync_data());
        let failed = result.is_err();
        let mut result = Some(result);
        for (_, answer) in group {
            // The first waiter gets the error itself, the others that there was one.
            let _ = answer.send(result.take().unwrap_or_else(|| if failed { Err(gone()) } else { Ok(()) }));
        }
        if failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(op: &str) -> Entry {
        let urn = "urn:tandem:shop:dev:bucket:a".parse().unwrap();
        let change = Change::Delete { urn, id: PhysicalId("a-1".into()), force: false };
        Entry::Begin(Begin { op: OpId(op.into()), change, depends_on: vec![], replaces: None })
    }

    fn encode(entries: &[Entry]) -> Vec<u8> {
        entries.iter().flat_map(|e| [serde_json::to_vec(e).unwrap(), vec![b'\n']].concat()).collect()
    }

    #[test]
    fn a_journal_torn_at_any_byte_yields_the_entries_before() {
        let entries = [begin("1"), begin("2"), begin("3")];
        let bytes = encode(&entries);
        for cut in 0..=bytes.len() {
            let (read, intact) = decode(&bytes[..cut]).unwrap();
            assert_eq!(read, entries[..read.len()]);
            assert_eq!(bytes[..intact].iter().filter(|b| **b == b'\n').count(), read.len());
        }
    }

    #[test]
    fn blocks_that_were_never_written_are_a_tear() {
        let mut bytes = encode(&[begin("1"), begin("2")]);
        let from = bytes.len() - 20;
        bytes[from..from + 10].fill(0);
        assert_eq!(decode(&bytes).unwrap().0, [begin("1")]);
    }

    #[test]
    fn damage_elsewhere_is_refused_with_its_line() {
        let mut bytes = encode(&[begin("1"), begin("2")]);
        bytes[3] = b'#';
        assert_eq!(decode(&bytes).unwrap_err().line, 1);
        let ends = Entry::Failed { op: OpId("9".into()), report: report() };
        assert_eq!(decode(&encode(&[begin("1"), ends])).unwrap_err().line, 2);
    }

    fn report() -> Report {
        Report { code: "E0301".into(), message: "no".into(), help: String::new(), causes: vec![] }
    }

    #[test]
    fn an_entry_reads_as_a_person_expects() {
        let line = serde_json::to_string(&begin("1")).unwrap();
        assert_eq!(
            line,
            r#"{"begin":{"op":"1","change":{"change":"delete","urn":"urn:tandem:shop:dev:bucket:a","id":"a-1","force":false}}}"#
        );
    }
}
