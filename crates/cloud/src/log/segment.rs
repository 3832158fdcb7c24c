//! The files of one resource's log: numbered segments, of which the newest few are kept.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use tandem_model::{Kind, StackId, Urn};

use super::{
    Line,
    line_file::{LineFile, Reach},
    position::{self, Begin, SLACK},
};

/// A segment that has reached this many bytes is followed by a new one.
pub(super) const LIMIT: u64 = 8 << 20;
/// How many segments of a resource are kept.
pub(super) const KEPT: usize = 2;

const EXTENSION: &str = "ndjson";

/// The folder of a resource's segments. Names are validated where they are made, so none can lead out of the root.
pub(super) fn folder(root: &Path, resource: &Urn) -> PathBuf {
    let StackId { project, stack } = &resource.stack;
    root.join(project.as_str()).join(stack.as_str()).join(format!(
        "{}-{}",
        resource.kind,
        resource.name.as_str()
    ))
}

/// The resources that have a folder and are asked for.
pub(super) fn resources(root: &Path, wanted: impl Fn(&Urn) -> bool) -> io::Result<Vec<Urn>> {
    let mut found = Vec::new();
    for project in names(root)? {
        for stack in names(&root.join(&project))? {
            let Ok(id) = format!("{project}/{stack}").parse::<StackId>() else { continue };
            for name in names(&root.join(&project).join(&stack))? {
                let parts = name
                    .split_once('-')
                    .and_then(|(kind, name)| Some((kind.parse::<Kind>().ok()?, name.parse().ok()?)));
                found.extend(parts.map(|(kind, name)| Urn::new(id.clone(), kind, name)).filter(&wanted));
            }
        }
    }
    Ok(found)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(vec![]);
        }
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// The numbers of the segments in a folder, ascending.
fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let number = |name: &String| name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok();
    let mut numbers: Vec<u64> = names(folder)?.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// When the newest segment was last written to; none if there is none.
pub(super) fn last_written(folder: &Path) -> io::Result<Option<Timestamp>> {
    let Some(newest) = numbers(folder)?.last().copied() else { return Ok(None) };
    let modified = fs::metadata(path(folder, newest))?.modified()?;
    Timestamp::try_from(modified).map(Some).map_err(io::Error::other)
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number}.{EXTENSION}"))
}

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Tip {
    folder: PathBuf,
    limit: u64,
    number: u64,
    file: File,
    size: u64,
}

impl Tip {
    /// Opens the newest segment, creating the first. A line that a crash tore is ended, so that it spoils no other.
    pub(super) fn open(folder: PathBuf, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let number = numbers(&folder)?.last().copied().unwrap_or(1);
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path(&folder, number))?;
        let mut size = file.metadata()?.len();
        if size > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        Ok(Self { folder, limit, number, file, size })
    }

    /// Appends complete lines, then begins a new segment if this one is full.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        tandem_failpoint::try_hit("log.segment.writing")?;
        self.file.write_all(lines)?;
        self.size += lines.len() as u64;
        if self.size < self.limit {
            return Ok(());
        }
        let numbers = numbers(&self.folder)?;
        // With the one that is about to begin, so many are kept.
        for old in numbers.iter().rev().skip(KEPT - 1) {
            fs::remove_file(path(&self.folder, *old))?;
        }
        let next = path(&self.folder, self.number + 1);
        self.file = OpenOptions::new().append(true).create(true).open(next)?;
        self.number += 1;
        self.size = 0;
        Ok(())
    }
}

/// A position in a resource's segments.
#[derive(Debug)]
pub(super) struct Segments {
    folder: PathBuf,
    reach: Reach,
    number: u64,
    file: Option<LineFile>,
    /// Where to begin in the first segment that is read.
    begin: Begin,
}

impl Segments {
    /// At the first line that is kept, or past what the reader need not see.
    pub(super) fn new(folder: PathBuf, reach: Reach, begin: Begin) -> io::Result<Self> {
        let numbers = numbers(&folder)?;
        let mut skipped = 0;
        if let Some(since) = begin.since.and_then(|since| since.checked_sub(SLACK).ok()) {
            for pair in numbers.windows(2) {
                if first_time(&path(&folder, pair[1]))?.is_some_and(|begins| begins < since) {
                    skipped = pair[0];
                }
            }
        }
        if let (Some(last), [.., before, newest]) = (begin.last, &numbers[..])
            && holds(&path(&folder, *newest), last)?
        {
            skipped = skipped.max(*before);
        }
        Ok(Self { folder, reach, number: skipped, file: None, begin })
    }

    /// Opens the segment that comes next.
    fn open(&mut self, number: u64) -> io::Result<()> {
        self.number = number;
        self.file = LineFile::open(&path(&self.folder, number), self.reach)?;
        let Begin { since, last } = std::mem::take(&mut self.begin);
        if let Some(file) = &mut self.file {
            file.seek(|file, end| {
                let by_time = since.map(|since| position::of_time(file, end, since, time)).transpose()?;
                let by_count = last.map(|last| position::of_last(file, end, last, is_line)).transpose()?;
                Ok(by_time.unwrap_or(0).max(by_count.unwrap_or(0)))
            })?;
        }
        Ok(())
    }

    /// The next line; `None` if there is none for now.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.next_in_segment()? {
                return Ok(Some(line));
            }
            let Some(later) = numbers(&self.folder)?.into_iter().find(|n| *n > self.number) else {
                return Ok(None);
            };
            // Only now it is certain that this segment is complete: the last lines may have come after we looked.
            if let Some(line) = self.next_in_segment()? {
                return Ok(Some(line));
            }
            self.open(later)?;
        }
    }

    fn next_in_segment(&mut self) -> io::Result<Option<Line>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        while let Some(bytes) = file.next()? {
            // What is no line was torn by a crash.
            if let Ok(line) = serde_json::from_slice(bytes) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }
}

/// Whether so many lines are in a segment.
fn holds(path: &Path, lines: usize) -> io::Result<bool> {
    match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        file => {
            let file = file?;
            // The first line of the file is not past its start.
            Ok(position::of_last(&file, file.metadata()?.len(), lines, is_line)? > 0)
        }
    }
}

/// Whether it is a line, and not what a crash tore.
fn is_line(bytes: &[u8]) -> bool {
    time(bytes).is_some()
}

fn time(bytes: &[u8]) -> Option<Timestamp> {
    /// All else is skipped over without being kept.
    #[derive(serde::Deserialize)]
    struct Timed {
        time: Timestamp,
    }
    serde_json::from_slice::<Timed>(bytes).ok().map(|line| line.time)
}

fn first_time(path: &Path) -> io::Result<Option<Timestamp>> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut text = Vec::new();
    BufReader::new(file).read_until(b'\n', &mut text)?;
    Ok(time(&text))
}
