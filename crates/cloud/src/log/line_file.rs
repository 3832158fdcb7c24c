//! Reads the complete lines of a file that grows.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Take},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// How far a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// To where it ended when it was opened: a file that grows faster than it is read would keep a reader for ever.
    Now,
    /// To its end, however far that moves.
    Live,
}

/// A position in a file. What follows the last line feed is kept until its line is complete.
#[derive(Debug)]
pub(super) struct LineFile {
    reader: BufReader<Take<File>>,
    inode: u64,
    line: Vec<u8>,
    given: bool,
}

impl LineFile {
    /// Opens a file at its start; `None` if there is none.
    pub(super) fn open(path: &Path, reach: Reach) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let metadata = file.metadata()?;
        let limit = match reach {
            Reach::Now => metadata.len(),
            Reach::Live => u64::MAX,
        };
        let reader = BufReader::new(file.take(limit));
        Ok(Some(Self { reader, inode: metadata.ino(), line: Vec::new(), given: false }))
    }

    /// Goes to the place that `search` finds in what there is now, which is the start of a line, and answers it. Before the
    /// first read.
    pub(super) fn seek(&mut self, search: impl FnOnce(&File, u64) -> io::Result<u64>) -> io::Result<u64> {
        let file = self.reader.get_mut();
        let end = file.limit().min(file.get_ref().metadata()?.len());
        let at = search(file.get_ref(), end)?;
        file.get_mut().seek(SeekFrom::Start(at))?;
        let limit = file.limit();
        file.set_limit(limit - at);
        Ok(at)
    }

    /// The next complete line without its line feed; `None` if there is none for now.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if std::mem::take(&mut self.given) {
            self.line.clear();
        }
        self.reader.read_until(b'\n', &mut self.line)?;
        if self.line.last() != Some(&b'\n') {
            return Ok(None);
        }
        self.line.pop();
        self.given = true;
        Ok(Some(&self.line))
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    /// Reads to the end from here on, wherever that was at first: nothing is written there any more.
    pub(super) fn read_on(&mut self) {
        self.reader.get_mut().set_limit(u64::MAX);
    }

    /// Whether the path now names another file, or this one was cut. Of one that is read live.
    pub(super) fn is_replaced(&self, path: &Path) -> bool {
        let read = u64::MAX - self.reader.get_ref().limit();
        std::fs::metadata(path).is_ok_and(|m| m.ino() != self.inode || m.len() < read)
    }
}
