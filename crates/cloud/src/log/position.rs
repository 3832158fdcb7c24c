//! Where to begin in a file of lines, without reading what comes before.
//!
//! Both searches may answer a place that is too early, never one that is too late: what is read too much, the filter
//! drops. A line whose time cannot be told is never skipped on that account.

use std::{fs::File, io, os::unix::fs::FileExt};

use jiff::{SignedDuration, Timestamp};

use super::Filter;

/// How far the times of lines of one file may be out of order, and the clock be set back, before a line is missed.
pub(super) const SLACK: SignedDuration = SignedDuration::from_secs(60);
/// What is not worth a further step of a search, and what is read at once.
const BLOCK: u64 = 64 << 10;

/// What a reader need not see of a log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Begin {
    /// What is older.
    pub(super) since: Option<Timestamp>,
    /// What comes before the last so many lines.
    pub(super) last: Option<usize>,
}

impl Begin {
    /// `last` only if every line counts: the last ten of a request may be anywhere.
    pub(super) fn of(filter: &Filter) -> Self {
        let every = filter.id.is_none() && filter.until.is_none();
        Self { since: filter.since, last: filter.tail.filter(|_| every) }
    }
}

/// A place before the first line that is not older than `since`, in the first `end` bytes.
pub(super) fn of_time(
    file: &File,
    end: u64,
    since: Timestamp,
    time: impl Fn(&[u8]) -> Option<Timestamp>,
) -> io::Result<u64> {
    let since = since.saturating_sub(SLACK).unwrap_or(since);
    let (mut low, mut high) = (0, end);
    // All before `low` is older.
    while high - low > BLOCK {
        let middle = low + (high - low) / 2;
        match line_after(file, middle, high)? {
            Some((start, line)) if time(&line).is_some_and(|time| time < since) => low = start,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The first line that begins after this place and ends before `end`, and where it begins.
fn line_after(file: &File, from: u64, end: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut text = Vec::new();
    let mut start = None;
    loop {
        let at = from + text.len() as u64;
        let mut block = vec![0; usize::try_from((end - at).min(BLOCK)).unwrap_or(0)];
        if block.is_empty() {
            return Ok(None);
        }
        file.read_exact_at(&mut block, at)?;
        let searched = text.len();
        text.extend_from_slice(&block);
        for i in searched..text.len() {
            match start {
                _ if text[i] != b'\n' => {}
                None => start = Some(i + 1),
                Some(begin) => return Ok(Some((from + begin as u64, text[begin..i].to_vec()))),
            }
        }
    }
}

/// Where the last so many lines of the first `end` bytes begin that count.
pub(super) fn of_last(
    file: &File,
    end: u64,
    lines: usize,
    counts: impl Fn(&[u8]) -> bool,
) -> io::Result<u64> {
    // The end itself may be in the middle of a line.
    let lines = lines.max(1);
    let mut found = 0;
    let mut at = end;
    // The end of a line whose beginning was not seen yet.
    let mut rest = Vec::new();
    while at > 0 {
        let size = at.min(BLOCK);
        at -= size;
        let mut block = vec![0; usize::try_from(size).unwrap_or(0)];
        file.read_exact_at(&mut block, at)?;
        block.append(&mut rest);
        let mut line_end = block.len();
        while let Some(before) = block[..line_end.saturating_sub(1)].iter().rposition(|b| *b == b'\n') {
            if counts(block[before + 1..line_end].trim_ascii_end()) {
                found += 1;
                if found == lines {
                    return Ok(at + before as u64 + 1);
                }
            }
            line_end = before + 1;
        }
        block.truncate(line_end);
        rest = block;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A line each second, as long as they may differ.
    fn file(lines: i64) -> (File, Vec<u64>) {
        let mut file = tempfile::tempfile().unwrap();
        let (mut starts, mut text) = (Vec::new(), String::new());
        for n in 0..lines {
            starts.push(text.len() as u64);
            text.push_str(&format!("{n} {}\n", "x".repeat(usize::try_from(n % 97).unwrap())));
        }
        file.write_all(text.as_bytes()).unwrap();
        (file, starts)
    }

    fn time(line: &[u8]) -> Option<Timestamp> {
        let number = std::str::from_utf8(line).ok()?.split(' ').next()?.parse().ok()?;
        Timestamp::from_second(number).ok()
    }

    fn size(file: &File) -> u64 {
        file.metadata().unwrap().len()
    }

    #[test]
    fn a_search_by_time_begins_shortly_before_the_first_line_that_is_wanted() {
        let (file, starts) = file(20_000);
        for since in [0, 61, 5_000, 12_345, 19_999, 50_000] {
            let at = of_time(&file, size(&file), Timestamp::from_second(since).unwrap(), time).unwrap();
            assert!(starts.contains(&at), "{at} is no start of a line");
            let first = starts.iter().position(|start| *start == at).unwrap();
            let wanted = usize::try_from(since).unwrap().min(starts.len());
            assert!(first <= wanted, "{since}: line {first} is too late");
            let early = starts.get(wanted).copied().unwrap_or(size(&file)) - at;
            assert!(early < 3 * BLOCK, "{since}: {early} bytes too early");
        }
    }

    #[test]
    fn lines_without_a_time_are_not_skipped_over() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all("torn\n".repeat(100_000).as_bytes()).unwrap();
        assert_eq!(of_time(&file, size(&file), Timestamp::from_second(9).unwrap(), time).unwrap(), 0);
    }

    #[test]
    fn the_last_lines_are_counted_from_the_end() {
        let (file, starts) = file(20_000);
        for lines in [1, 10, 5_000, 20_000] {
            let at = of_last(&file, size(&file), lines, |_| true).unwrap();
            assert_eq!(at, starts[starts.len() - lines]);
        }
        assert_eq!(of_last(&file, size(&file), 30_000, |_| true).unwrap(), 0);
        assert_eq!(of_last(&file, size(&file), 0, |_| true).unwrap(), *starts.last().unwrap());
    }

    #[test]
    fn lines_that_do_not_count_are_given_as_well() {
        let (file, starts) = file(20_000);
        let even = |line: &[u8]| time(line).is_some_and(|time| time.as_second() % 2 == 0);
        assert_eq!(of_last(&file, size(&file), 10, even).unwrap(), starts[19_980]);
    }
}
