//! The file that a container's log is written to, as `conmon` writes it: begun anew when it has grown large (see
//! [`crate::log`]).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    path::PathBuf,
};

use bollard::container::LogOutput;
use jiff::Timestamp;
use tokio::task::spawn_blocking;

use super::bundle::Bundle;
use crate::{ContainerError, layout::at, log::PART, tool};

/// Writes a message as a record: `<time> <stream> <F|P> <text>`. The engine ends each message but a part with a newline.
pub(super) fn record(message: &LogOutput, to: &mut Vec<u8>) {
    let (stream, message) = match message {
        LogOutput::StdErr { message } => ("stderr", message),
        LogOutput::StdOut { message } => ("stdout", message),
        // Of containers with a terminal; ours have none.
        LogOutput::StdIn { .. } | LogOutput::Console { .. } => return,
    };
    let split = message.iter().position(|byte| *byte == b' ').unwrap_or(message.len());
    let (time, text) = (&message[..split], message.get(split + 1..).unwrap_or_default());
    let (text, tag) = match text.strip_suffix(b"\n") {
        Some(text) => (text, "F"),
        None => (text, "P"),
    };
    to.extend_from_slice(time);
    to.extend_from_slice(format!(" {stream} {tag} ").as_bytes());
    // Whoever reads it goes by lines.
    to.extend(text.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
    to.push(b'\n');
}

/// An open log file.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    path: PathBuf,
    end: u64,
    /// At which size it is begun anew.
    part: u64,
    told: Told,
}

/// What the records say about where to go on.
#[derive(Debug, Default)]
struct Told {
    /// The last one, with its newline.
    last: Vec<u8>,
    /// How often it is there.
    same: u64,
    /// When the lines of each stream began that have not ended: their further parts have that time, too.
    open: [Option<i64>; 2],
}

impl Told {
    fn note(&mut self, record: &[u8]) {
        let same = self.last == record;
        self.same = if same { self.same + 1 } else { 1 };
        let mut fields =
            record.splitn(4, |byte| *byte == b' ').map(|field| str::from_utf8(field).unwrap_or_default());
        let (time, stream, tag) = (fields.next(), fields.next(), fields.next());
        let stream = usize::from(stream == Some("stderr"));
        self.open[stream] = if tag == Some("P") { time.and_then(seconds) } else { None };
        if !same {
            self.last = record.to_vec();
        }
    }

    fn since(&self) -> i64 {
        let last = str::from_utf8(self.last.split(|byte| *byte == b' ').next().unwrap_or_default());
        let last = last.ok().and_then(seconds);
        last.into_iter().chain(self.open.into_iter().flatten()).min().unwrap_or(0)
    }
}

fn seconds(time: &str) -> Option<i64> {
    time.parse().map(Timestamp::as_second).ok()
}

impl Log {
    /// Opens a container's log where it ends. A record that is there in part, because the machine stopped, is taken away.
    pub(super) async fn open(bundle: &Bundle) -> Result<Self, ContainerError> {
        let path = bundle.log.clone();
        spawn_blocking(move || Self::read(path, PART)).await.map_err(tool::broken)?
    }

    fn read(path: PathBuf, part: u64) -> Result<Self, ContainerError> {
        let open = || {
            let file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
            let (mut told, mut end) = (Told::default(), 0);
            let mut reader = BufReader::with_capacity(1 << 16, &file);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
                end += line.len() as u64;
                told.note(&line);
                line.clear();
            }
            if file.metadata()?.len() > end {
                file.set_len(end)?;
            }
            Ok((file, told, end))
        };
        let (file, told, end) = open().map_err(at(&path))?;
        Ok(Self { file, path, end, part, told })
    }

    /// The last record, with its newline; nothing if there is none.
    pub(super) fn last(&self) -> &[u8] {
        &self.told.last
    }

    /// How often that is the last record, one after the other.
    pub(super) fn same(&self) -> u64 {
        self.told.same
    }

    /// No message that is missing is older than this second.
    pub(super) fn since(&self) -> i32 {
        i32::try_from(self.told.since()).unwrap_or(0)
    }

    /// Appends whole records, or nothing. A file that is begun anew begins with them, so that it says where to go on.
    pub(super) fn append(&mut self, text: &[u8]) -> Result<(), ContainerError> {
        if text.is_empty() {
            return Ok(());
        }
        // Not within a line: the new file would not say when that began.
        let anew = self.end >= self.part && self.told.open == [None; 2];
        let write = |this: &mut Self| -> io::Result<()> {
            if anew {
                let next = this.path.with_extension("tmp");
                let mut file = File::create(&next)?;
                file.write_all(text)?;
                fs::rename(&next, &this.path)?;
                this.file = file;
                this.end = 0;
            } else if let Err(error) = this.file.write_all(text) {
                let _ = this.file.set_len(this.end);
                return Err(error);
            }
            Ok(())
        };
        write(self).map_err(at(&self.path))?;
        self.end += text.len() as u64;
        text.split_inclusive(|byte| *byte == b'\n').for_each(|record| self.told.note(record));
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<(), ContainerError> {
        self.file.sync_data().map_err(at(&self.path))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn written(text: &'static str) -> String {
        let mut record = Vec::new();
        super::record(&LogOutput::StdOut { message: Bytes::from_static(text.as_bytes()) }, &mut record);
        String::from_utf8(record).unwrap()
    }

    #[test]
    fn a_message_is_a_record_and_a_part_stays_one() {
        let time = "2026-01-02T03:04:05.000000006Z";
        assert_eq!(written("2026-01-02T03:04:05.000000006Z a b\n"), format!("{time} stdout F a b\n"));
        assert_eq!(written("2026-01-02T03:04:05.000000006Z \n"), format!("{time} stdout F \n"));
        assert_eq!(written("2026-01-02T03:04:05.000000006Z x"), format!("{time} stdout P x\n"));
    }

    #[test]
    fn a_log_goes_on_where_it_ended_and_without_half_a_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let two = "1970-01-01T00:00:01.5Z stdout F a\n1970-01-01T00:00:02Z stdout F b\n";
        fs::write(&path, format!("{two}1970-01-01T00:0")).unwrap();
        let mut log = Log::read(path.clone(), PART).unwrap();
        assert_eq!((log.last(), log.same(), log.since()), (&b"1970-01-01T00:00:02Z stdout F b\n"[..], 1, 2));
        let parts = "1970-01-01T00:00:03Z stdout P x\n".repeat(3);
        log.append(parts.as_bytes()).unwrap();
        assert_eq!((log.same(), log.since()), (3, 3));
        let other = "1970-01-01T00:00:09Z stderr F d\n";
        log.append(other.as_bytes()).unwrap();
        assert_eq!((log.last(), log.since()), (other.as_bytes(), 3), "the line's next part has its time");
        let again = Log::read(path.clone(), PART).unwrap();
        assert_eq!((again.last(), again.since()), (log.last(), 3));
        assert_eq!(fs::read_to_string(path).unwrap(), format!("{two}{parts}{other}"));
    }

    #[test]
    fn a_large_file_is_begun_anew_between_lines_and_says_where_to_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let mut log = Log::read(path.clone(), 40).unwrap();
        let [first, part, rest, next] =
            ["F a", "P b", "F c", "F d"].map(|text| format!("1970-01-01T00:00:07Z stdout {text}\n"));
        for text in [&first, &part, &rest] {
            log.append(text.as_bytes()).unwrap();
            crate::log::tend(&path).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{first}{part}{rest}"));
        log.append(next.as_bytes()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), next);
        assert_eq!(crate::log::files(&path).unwrap().len(), 2);
        assert_eq!(Log::read(path, 40).unwrap().last(), next.as_bytes());
    }
}
