//! Reads the log of a run: the format of the Kubernetes container runtime interface, which `conmon` writes.
//!
//! A record is `<RFC 3339 time> <stdout|stderr> <F|P> <text>`. `P` marks a part of a line that goes on in the next record
//! of its stream: what does not fit the monitor's buffer, and an end without a line feed.

use std::io;

use jiff::Timestamp;
use tandem_container::log;

use super::{
    Line, RunLog, Stream,
    line_file::{LineFile, Reach},
    position::{self, Begin},
};

/// A container that never prints a line feed gets its output in lines of this size.
const LINE_LIMIT: usize = 256 << 10;
/// So many more lines are read than are asked for, because the first ones may have begun before that.
const PARTED: usize = 16;

/// A position in the log of a run.
#[derive(Debug)]
pub(super) struct RunFile {
    pub(super) run: RunLog,
    reach: Reach,
    /// What need not be read.
    begin: Begin,
    file: Option<LineFile>,
    /// The file that was written to when a reader of what there is then began.
    newest: Option<u64>,
    /// Whether nothing more is written to the file.
    complete: bool,
    /// Of stdout and of stderr.
    begun: [Begun; 2],
}

/// A line that has begun: the time of its first part, and its text so far.
type Begun = Option<(Timestamp, Vec<u8>)>;

/// One record of the file.
#[derive(Debug, PartialEq)]
struct Record<'a> {
    time: Timestamp,
    stream: Stream,
    partial: bool,
    text: &'a [u8],
}

impl RunFile {
    pub(super) fn new(run: RunLog, reach: Reach, begin: Begin) -> Self {
        let begin = Begin { last: begin.last.map(|last| last.saturating_add(PARTED)), ..begin };
        Self { run, reach, begin, file: None, newest: None, complete: false, begun: [None, None] }
    }

    /// Whether nothing was read yet; then no line is older than the run.
    pub(super) fn is_unread(&self) -> bool {
        self.file.is_none()
    }

    /// The next complete line; `None` if there is none for now. A line without its end is given once the run has ended.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            if self.file.is_none() {
                self.file = self.begin()?;
            }
            let Some(file) = &mut self.file else { return Ok(None) };
            let begun = &mut self.begun;
            match file.next()?.map(|bytes| Record::parse(bytes).and_then(|record| take_up(begun, &record))) {
                Some(Some((time, stream, text))) => return Ok(Some(self.line(time, stream, &text))),
                Some(None) => {}
                None if self.complete => {
                    self.complete = false;
                    self.go_on()?;
                }
                // The monitor has begun another file. Only now it is certain that this one is complete, so it is read
                // once more.
                None if match self.newest {
                    None => file.is_replaced(&self.run.file),
                    Some(newest) => file.inode() != newest,
                } =>
                {
                    file.read_on();
                    self.complete = true;
                }
                None => return Ok(self.run.ended.and_then(|_| self.unfinished())),
            }
        }
    }

    /// The file that has the first line that is asked for, there.
    fn begin(&mut self) -> io::Result<Option<LineFile>> {
        let time = |bytes: &[u8]| Record::parse(bytes).map(|record| record.time);
        let whole = |bytes: &[u8]| Record::parse(bytes).is_some_and(|record| !record.partial);
        let Begin { since, last } = self.begin;
        let mut first = None;
        let files = log::files(&self.run.file)?;
        self.newest = files.last().map(|(inode, _)| *inode).filter(|_| self.reach == Reach::Now);
        for (_, path) in files.iter().rev() {
            let Some(mut file) = LineFile::open(path, self.reach)? else { continue };
            let at = file.seek(|file, end| {
                let by_time = since.map(|since| position::of_time(file, end, since, time)).transpose()?;
                let by_count = last.map(|last| position::of_last(file, end, last, whole)).transpose()?;
                Ok(by_time.unwrap_or(0).max(by_count.unwrap_or(0)))
            })?;
            first = Some(file);
            // In the middle of a file: what is asked for begins there. At its start, it may have begun in the one before.
            if at > 0 {
                break;
            }
        }
        Ok(first)
    }

    /// To the file after the one that is read.
    fn go_on(&mut self) -> io::Result<()> {
        let Some(read) = &self.file else { return Ok(()) };
        let files = log::files(&self.run.file)?;
        // One that is not there any more came before all.
        let next = files.iter().position(|(inode, _)| *inode == read.inode()).map_or(0, |at| at + 1);
        if next == files.len() && self.reach == Reach::Now {
            // What was the newest is gone by now: there is no more.
            self.newest = Some(read.inode());
            return Ok(());
        }
        // A file that was cut is read anew.
        self.file = match files.get(next).or(files.last()) {
            Some((_, path)) => LineFile::open(path, self.reach)?,
            None => None,
        };
        Ok(())
    }

    fn unfinished(&mut self) -> Option<Line> {
        let streams = [Stream::Stdout, Stream::Stderr];
        streams.into_iter().enumerate().find_map(|(i, stream)| {
            let (time, text) = self.begun[i].take()?;
            Some(self.line(time, stream, &text))
        })
    }

    fn line(&self, time: Timestamp, stream: Stream, text: &[u8]) -> Line {
        let text = String::from_utf8_lossy(text).into_owned();
        Line { time, resource: self.run.task.clone(), stream, id: self.run.id.clone(), text }
    }
}

/// Adds a record to its stream; answers the line if it is complete.
fn take_up(begun: &mut [Begun; 2], record: &Record<'_>) -> Option<(Timestamp, Stream, Vec<u8>)> {
    let slot = &mut begun[usize::from(record.stream == Stream::Stderr)];
    let (_, text) = slot.get_or_insert_with(|| (record.time, Vec::new()));
    text.extend_from_slice(record.text);
    if record.partial && text.len() < LINE_LIMIT {
        return None;
    }
    slot.take().map(|(time, text)| (time, record.stream, text))
}

impl<'a> Record<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut parts = bytes.splitn(4, |b| *b == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let stream = match parts.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        // Tags are separated by colons; the first says whether the line is whole.
        let partial = match parts.next()?.first()? {
            b'F' => false,
            b'P' => true,
            _ => return None,
        };
        Some(Self { time, stream, partial, text: parts.next().unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn run(file: &std::path::Path) -> RunLog {
        RunLog {
            task: "urn:tandem:p:dev:task:t".parse().unwrap(),
            id: "r1".into(),
            file: file.to_owned(),
            since: Timestamp::UNIX_EPOCH,
            ended: None,
        }
    }

    fn texts(file: &mut RunFile) -> Vec<String> {
        std::iter::from_fn(|| file.next().unwrap()).map(|line| line.text).collect()
    }

    #[test]
    fn parts_of_a_line_are_joined_per_stream_and_keep_the_time_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let records = "2024-05-01T10:00:00.5+00:00 stdout P Gr\u{fc}\n\
                       2024-05-01T10:00:01+00:00 stderr F warning: a b\n\
                       2024-05-01T10:00:02+00:00 stdout F \u{df}e\n\
                       2024-05-01T10:00:03+00:00 stdout F\n";
        fs::write(&path, records).unwrap();
        let mut file = RunFile::new(run(&path), Reach::Live, Begin::default());
        let lines: Vec<_> = std::iter::from_fn(|| file.next().unwrap()).collect();
        let seen: Vec<_> = lines.iter().map(|l| (l.stream, l.text.as_str())).collect();
        let expected =
            [(Stream::Stderr, "warning: a b"), (Stream::Stdout, "Gr\u{fc}\u{df}e"), (Stream::Stdout, "")];
        assert_eq!(seen, expected);
        assert_eq!(lines[1].time, "2024-05-01T10:00:00.5Z".parse().unwrap());
    }

    #[test]
    fn a_line_without_an_end_is_given_when_the_run_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "2024-05-01T10:00:00Z stdout P prompt> \n").unwrap();
        let mut file = RunFile::new(run(&path), Reach::Live, Begin::default());
        assert_eq!(texts(&mut file), Vec::<String>::new());
        file.run.ended = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(texts(&mut file), ["prompt> "]);
        assert_eq!(texts(&mut file), Vec::<String>::new());
    }

    #[test]
    fn what_is_no_record_is_skipped_and_a_torn_record_waits_for_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "garbage\n2024-05-01T10:00:00Z stdout F one\n2024-05-01T10:0").unwrap();
        let mut file = RunFile::new(run(&path), Reach::Live, Begin::default());
        assert_eq!(texts(&mut file), ["one"]);
        let mut end = fs::OpenOptions::new().append(true).open(&path).unwrap();
        end.write_all(b"0:01Z stdout F two\n").unwrap();
        assert_eq!(texts(&mut file), ["two"]);
    }

    #[test]
    fn a_reader_of_the_last_lines_gets_them_whole_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut records = String::new();
        for n in 0..100_000 {
            let time = Timestamp::from_second(n).unwrap();
            records.push_str(&format!("{time} stdout P {n}\n{time} stderr F warning\n{time} stdout F !\n"));
        }
        fs::write(&path, records).unwrap();
        let mut file = RunFile::new(run(&path), Reach::Now, Begin { last: Some(2), since: None });
        let texts = texts(&mut file);
        assert!(texts.len() < 40, "{} lines were read", texts.len());
        assert_eq!(texts[texts.len() - 2..], ["warning", "99999!"]);
    }

    #[test]
    fn all_files_of_a_log_are_read_in_order_from_where_it_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let begin_anew = |minutes: std::ops::Range<i64>| {
            let next = folder.path().join("log.tmp");
            let line = |n: i64| format!("{} stdout F {n}\n", Timestamp::from_second(60 * n).unwrap());
            fs::write(&next, minutes.map(line).collect::<String>()).unwrap();
            fs::rename(next, &path).unwrap();
        };
        begin_anew(0..10);
        log::tend(&path).unwrap();
        let mut live = RunFile::new(run(&path), Reach::Live, Begin::default());
        assert_eq!(texts(&mut live).len(), 10);
        begin_anew(10..20);
        log::tend(&path).unwrap();
        begin_anew(20..30);
        let texts_from = |begin| texts(&mut RunFile::new(run(&path), Reach::Now, begin));
        let expected: Vec<String> = (0..30).map(|n| n.to_string()).collect();
        assert_eq!(texts_from(Begin::default()), expected);
        assert_eq!(texts(&mut live), expected[10..], "who follows misses none");
        let last = texts_from(Begin { last: Some(15), since: None });
        assert_eq!(last[last.len() - 15..], expected[15..]);
        let since = Some(Timestamp::from_second(60 * 29).unwrap());
        assert_eq!(texts_from(Begin { last: None, since }).last(), expected.last());
        // Of what is gone nothing can be read; the rest is.
        log::tend(&path).unwrap();
        begin_anew(30..40);
        log::tend(&path).unwrap();
        assert_eq!(texts(&mut live), (30..40).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(texts_from(Begin::default()).first().unwrap(), "20");
    }

    #[test]
    fn who_reads_what_there_is_ends_though_the_log_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let write = |text: &str| {
            let next = folder.path().join("log.tmp");
            fs::write(&next, format!("2024-05-01T10:00:00Z stdout F {text}\n")).unwrap();
            fs::rename(next, &path).unwrap();
            log::tend(&path).unwrap();
        };
        write("0");
        let mut now = RunFile::new(run(&path), Reach::Now, Begin::default());
        let mut read = Vec::new();
        for n in 1.. {
            let Some(line) = now.next().unwrap() else { break };
            read.push(line.text);
            write(&n.to_string());
        }
        assert_eq!(read, ["0"]);
    }

    #[test]
    fn who_reads_what_there_is_ends_though_the_newest_file_is_gone_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let write = |text: &str| {
            let next = folder.path().join("log.tmp");
            fs::write(&next, format!("2024-05-01T10:00:00Z stdout F {text}\n")).unwrap();
            fs::rename(next, &path).unwrap();
            log::tend(&path).unwrap();
        };
        write("0");
        write("1");
        let mut now = RunFile::new(run(&path), Reach::Now, Begin::default());
        assert_eq!(now.next().unwrap().unwrap().text, "0");
        ["2", "3", "4"].into_iter().for_each(write);
        assert_eq!(texts(&mut now), ["3", "4"], "once each");
        assert_eq!(texts(&mut now), Vec::<String>::new());
    }

    #[test]
    fn a_file_that_is_replaced_is_read_from_its_new_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "2024-05-01T10:00:00Z stdout F old\n").unwrap();
        let mut file = RunFile::new(run(&path), Reach::Live, Begin::default());
        assert_eq!(texts(&mut file), ["old"]);
        let next = folder.path().join("log.new");
        fs::write(&next, "2024-05-01T10:00:01Z stdout F new\n").unwrap();
        fs::rename(&next, &path).unwrap();
        assert_eq!(texts(&mut file), ["new"]);
    }
}
