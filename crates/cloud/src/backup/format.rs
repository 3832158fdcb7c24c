//! The file: a tar (POSIX ustar with GNU long names) in which each entry is followed by its checksum.
//!
//! ```text
//! manifest.json           what it is, of which cloud and moment
//! manifest.json.sha256    as `sha256sum` writes it: the digest, two spaces, the name
//! root-key.json, address
//! stacks/<project>/<stack>/journal.ndjson, state.json
//! rows/<number>           see `rows`
//! archives/<sha-256>
//! blobs/<id>
//! end.json                how many entries came before, and the digest of all their checksum lines in order
//! ```
//!
//! Each of the others has its `.sha256` too. So one pass with little memory can write and check it, damage is found in
//! the entry that has it, and an entry that is missing is found at the end. A file that has no end was cut short.

use std::io::{self, Read, Write};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const SUFFIX: &str = ".sha256";

/// What the last entry says of those before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) entries: u64,
    /// Of the lines of all checksums.
    pub(super) sums: String,
    pub(super) summary: super::Summary,
}

/// Reads through to what it wraps, and sums up.
struct Summing<R> {
    from: R,
    sum: Sha256,
    count: u64,
}

impl<R: Read> Summing<R> {
    fn new(from: R) -> Self {
        Self { from, sum: Sha256::new(), count: 0 }
    }
}

impl<R: Read> Read for Summing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.sum.update(&buffer[..read]);
        self.count += read as u64;
        Ok(read)
    }
}

fn hex(sum: Sha256) -> String {
    HEXLOWER.encode(&sum.finalize())
}

fn line(sum: Sha256, name: &str) -> String {
    format!("{}  {name}\n", hex(sum))
}

pub(super) struct Writer<W: Write> {
    tar: tar::Builder<W>,
    time: u64,
    sums: Sha256,
    entries: u64,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// `time` is what the entries are dated, in seconds since 1970.
    pub(super) fn new(to: W, time: u64) -> Self {
        Self { tar: tar::Builder::new(to), time, sums: Sha256::new(), entries: 0, bytes: 0 }
    }

    /// How many bytes of content were written.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds an entry of exactly `size` bytes.
    pub(super) fn add(&mut self, name: &str, size: u64, content: &mut dyn Read) -> io::Result<()> {
        let line = self.append(name, size, content)?;
        self.sums.update(&line);
        self.entries += 1;
        Ok(())
    }

    fn append(&mut self, name: &str, size: u64, content: &mut dyn Read) -> io::Result<String> {
        let mut summing = Summing::new(content.take(size));
        self.raw(name, size, &mut summing)?;
        if summing.count != size {
            let reason = format!("`{name}` ended after {} of {size} bytes", summing.count);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        let line = line(summing.sum, name);
        self.raw(&format!("{name}{SUFFIX}"), line.len() as u64, line.as_bytes())?;
        self.bytes += size;
        Ok(line)
    }

    fn raw(&mut self, name: &str, size: u64, content: impl Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        self.tar.append_data(&mut header, name, content)
    }

    /// Adds the last entry, and gives back what was written to.
    pub(super) fn finish(mut self, summary: super::Summary) -> io::Result<W> {
        let end = End { entries: self.entries, sums: hex(self.sums.clone()), summary };
        let text = serde_json::to_vec_pretty(&end)?;
        self.append(super::END, text.len() as u64, &mut &text[..])?;
        self.tar.into_inner()
    }
}

/// Why a file cannot be read on.
#[derive(Debug)]
pub(super) enum Fault {
    /// The content is not what was written; says where.
    Damaged(String),
    /// What takes the content failed.
    Sink(io::Error),
}

/// Reads all entries, in order, and hands each to `sink`, which reads it to its end. An entry is checked right after it was handed over,
/// so whatever `sink` makes of it must not be true before this returns.
pub(super) fn read(
    from: impl Read,
    sink: &mut dyn FnMut(&str, u64, &mut dyn Read) -> io::Result<()>,
) -> Result<End, Fault> {
    let mut archive = tar::Archive::new(from);
    let unreadable = |error: io::Error| Fault::Damaged(format!("cannot be read: {error}"));
    let mut entries = archive.entries().map_err(unreadable)?;
    let mut sums = Sha256::new();
    let (mut count, mut last) = (0, "its beginning".to_owned());
    loop {
        let Some(entry) = entries.next() else { return Err(Fault::Damaged(format!("it ends after {last}"))) };
        let after = |error: io::Error| Fault::Damaged(format!("what follows {last} is no entry ({error})"));
        let entry = entry.map_err(after)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let size = entry.size();
        let mut summing = Summing::new(Caught { from: entry, error: None });
        let mut end = Vec::new();
        let taken = match name.as_str() {
            super::END => summing.read_to_end(&mut end).map(drop),
            _ => sink(&name, size, &mut summing),
        };
        // The file is at fault before anything that its content led to.
        if let Some(error) = summing.from.error.take() {
            return Err(Fault::Damaged(format!("`{name}` cannot be read: {error}")));
        }
        // What the sink left of it is read all the same: damage explains why it could not go on.
        io::copy(&mut summing, &mut io::sink())
            .map_err(|error| Fault::Damaged(format!("`{name}` cannot be read: {error}")))?;
        if summing.count != size {
            return Err(Fault::Damaged(format!("it ends within `{name}`")));
        }
        let line = line(summing.sum, &name);
        if sum_after(&name, entries.next())? != line {
            return Err(Fault::Damaged(format!("`{name}` is not what its checksum says")));
        }
        taken.map_err(Fault::Sink)?;
        if name == super::END {
            let end: End = serde_json::from_slice(&end)
                .map_err(|error| Fault::Damaged(format!("`{name}` cannot be read: {error}")))?;
            if (end.entries, end.sums.as_str()) != (count, hex(sums).as_str()) {
                let reason = format!("it has {count} entries, and its end tells of {} others", end.entries);
                return Err(Fault::Damaged(reason));
            }
            return Ok(end);
        }
        sums.update(&line);
        count += 1;
        last = format!("`{name}`");
    }
}

/// The checksum's line that must follow the entry `name`.
fn sum_after<R: Read>(name: &str, next: Option<io::Result<tar::Entry<'_, R>>>) -> Result<String, Fault> {
    let missing = || Fault::Damaged(format!("the checksum of `{name}` is missing"));
    let entry = next.ok_or_else(missing)?.map_err(|_| missing())?;
    if entry.path_bytes().as_ref() != format!("{name}{SUFFIX}").as_bytes() {
        return Err(missing());
    }
    let mut stated = String::new();
    // A line is short; what claims to be longer is none.
    entry.take(4096).read_to_string(&mut stated).map_err(|_| missing())?;
    Ok(stated)
}

/// Remembers the error that reading ended with, to tell it from those of what is written to.
struct Caught<R> {
    from: R,
    error: Option<io::Error>,
}

impl<R: Read> Read for Caught<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.from.read(buffer).inspect_err(|error| {
            self.error = Some(io::Error::new(error.kind(), error.to_string()));
        })
    }
}
