//! Named places where a test can kill the process, make a write fail, or hold it, so that "a crash at every commit
//! point" and "a full disk at every write" are loops over names.
//!
//! `TANDEM_FAILPOINT` arms places; several are separated by commas. Each is `name[@turn[+]][:action]`:
//!
//! | part | means |
//! |---|---|
//! | `bucket.put.committed` | the first time the process comes by |
//! | `…@3` | the third time; `…@3+` the third time and every one after |
//! | no action | kills the process: SIGKILL to itself, as `kill -9` would |
//! | `…:enospc`, `…:eio`, `…:edquot` | a place that can fail ([`try_hit`]) answers that error |
//! | `…:hold=/path/of/a/fifo` | waits there: see [`hold`] |
//!
//! `TANDEM_FAILPOINTS_MET=/file` has every passing written to that file, one line each: `hit name`, or `try name` for
//! a place that can fail. A dry run so lists what a loop must go through, and how often each is met.
//!
//! Without either variable a place costs one load of an initialised cell.
//! Names are `<area>.<what>.<moment>`; `cargo xtask tidy` lists them and checks that each stands in one place only.

use std::{
    env,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// The environment variable that arms failpoints.
pub const VARIABLE: &str = "TANDEM_FAILPOINT";
/// The environment variable that names the file in which every passing is noted.
pub const MET_VARIABLE: &str = "TANDEM_FAILPOINTS_MET";

#[derive(Debug, PartialEq)]
enum Action {
    Kill,
    Fail(i32),
    Hold(String),
}

#[derive(Debug)]
struct Point {
    name: String,
    turn: u32,
    and_after: bool,
    action: Action,
    passed: AtomicU32,
}

impl Point {
    fn parse(text: &str) -> Result<Self, String> {
        let (place, action) = text.split_once(':').unwrap_or((text, "kill"));
        let action = match action {
            "kill" => Action::Kill,
            "enospc" => Action::Fail(libc::ENOSPC),
            "edquot" => Action::Fail(libc::EDQUOT),
            "eio" => Action::Fail(libc::EIO),
            other => match other.strip_prefix("hold=") {
                Some(path) => Action::Hold(path.to_owned()),
                None => return Err(format!("`{other}` is none of kill, enospc, edquot, eio, hold=<path>")),
            },
        };
        let (name, turn) = place.split_once('@').unwrap_or((place, "1"));
        let (turn, and_after) = turn.strip_suffix('+').map_or((turn, false), |turn| (turn, true));
        let turn = turn.parse().ok().filter(|turn| *turn > 0);
        let turn = turn.ok_or_else(|| format!("`{place}` does not end in a turn from 1 on"))?;
        Ok(Self { name: name.to_owned(), turn, and_after, action, passed: AtomicU32::new(0) })
    }

    /// Counts a passing, and answers whether its turn has come.
    fn pass(&self) -> bool {
        let turn = self.passed.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        if self.and_after { turn >= self.turn } else { turn == self.turn }
    }
}

#[derive(Debug)]
struct Armed {
    points: Vec<Point>,
    met: Option<File>,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

fn armed() -> Option<&'static Armed> {
    ARMED.get_or_init(read).as_ref()
}

/// Only tests set the variables: one that is wrong ends the process, or the test would pass without its crash.
fn read() -> Option<Armed> {
    let text = env::var(VARIABLE).unwrap_or_default();
    let points = text.split(',').filter(|point| !point.is_empty()).map(Point::parse);
    let points = points.collect::<Result<Vec<_>, _>>().unwrap_or_else(|wrong| panic!("{VARIABLE}: {wrong}"));
    let met = env::var_os(MET_VARIABLE).map(|path| {
        let opened = OpenOptions::new().append(true).create(true).open(&path);
        opened.unwrap_or_else(|error| panic!("{MET_VARIABLE}: cannot open `{}`: {error}", path.display()))
    });
    (!points.is_empty() || met.is_some()).then_some(Armed { points, met })
}

impl Armed {
    fn note(&self, how: &str, name: &str) {
        if let Some(mut met) = self.met.as_ref() {
            // One write, so that the lines of processes that share the file stay whole.
            let _ = met.write_all(format!("{how} {name}\n").as_bytes());
        }
    }

    fn due(&self, name: &str) -> Option<&Action> {
        let mut due = None;
        // All of them count, also those behind one that is due.
        for point in self.points.iter().filter(|point| point.name == name) {
            if point.pass() {
                due = due.or(Some(&point.action));
            }
        }
        due
    }
}

/// Passes the place called `name`; kills or holds the process if that place is armed and its turn has come.
pub fn hit(name: &str) {
    let Some(armed) = armed() else { return };
    armed.note("hit", name);
    match armed.due(name) {
        None => {}
        Some(Action::Kill) => kill(),
        Some(Action::Hold(path)) => hold(path, name),
        Some(Action::Fail(_)) => panic!("{VARIABLE}: `{name}` is no place that can fail"),
    }
}

/// Passes the place called `name`, which stands before a write; answers an error as the write would if that is what
/// the place is armed with.
///
/// # Errors
/// Only if armed: [`io::ErrorKind::StorageFull`] and its like. The write must then not be tried.
pub fn try_hit(name: &str) -> io::Result<()> {
    let Some(armed) = armed() else { return Ok(()) };
    armed.note("try", name);
    match armed.due(name) {
        None => {}
        Some(Action::Kill) => kill(),
        Some(Action::Hold(path)) => hold(path, name),
        Some(Action::Fail(errno)) => return Err(io::Error::from_raw_os_error(*errno)),
    }
    Ok(())
}

/// Holds the thread at a fifo: writes the place's name to it, which the test reads and so knows that the place was
/// reached; then reads it to its end, which comes when the test has opened it for writing and closed it.
///
/// A fifo that is gone holds nobody, so that a test that has ended leaves no process behind.
fn hold(path: &str, name: &str) {
    let written = OpenOptions::new().write(true).open(path).and_then(|mut fifo| writeln!(fifo, "{name}"));
    if written.is_ok()
        && let Ok(mut fifo) = File::open(path)
    {
        let _ = fifo.read_to_end(&mut Vec::new());
    }
}

#[expect(unsafe_code, reason = "kill has no safe wrapper here, and takes no pointer")]
fn kill() {
    // SAFETY: a signal to ourselves; SIGKILL cannot be handled, so nothing runs after it.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due_at(point: &str, passings: usize) -> Vec<usize> {
        let point = Point::parse(point).unwrap();
        (1..=passings)
            .filter(|_| point.pass())
            .map(|_| point.passed.load(Ordering::SeqCst) as usize)
            .collect()
    }

    #[test]
    fn a_place_is_due_at_its_turn_or_from_it_on() {
        assert_eq!(due_at("a.b.c", 3), [1]);
        assert_eq!(due_at("a.b.c@2", 3), [2]);
        assert_eq!(due_at("a.b.c@2+:enospc", 4), [2, 3, 4]);
    }

    #[test]
    fn an_action_is_read_and_a_wrong_one_is_refused() {
        let action = |text: &str| Point::parse(text).map(|point| point.action);
        assert_eq!(action("a.b.c"), Ok(Action::Kill));
        assert_eq!(action("a.b.c@3:eio"), Ok(Action::Fail(libc::EIO)));
        assert_eq!(action("a.b.c:hold=/tmp/x"), Ok(Action::Hold("/tmp/x".into())));
        for wrong in ["a.b.c:explode", "a.b.c@0", "a.b.c@x", "a.b.c@+"] {
            assert!(Point::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn several_places_are_armed_and_each_counts_for_itself() {
        let points = ["a.b.c@2:eio", "d.e.f:enospc"].map(|text| Point::parse(text).unwrap());
        let armed = Armed { points: points.into(), met: None };
        assert_eq!(armed.due("a.b.c"), None);
        assert_eq!(armed.due("d.e.f"), Some(&Action::Fail(libc::ENOSPC)));
        assert_eq!(armed.due("a.b.c"), Some(&Action::Fail(libc::EIO)));
        assert_eq!(armed.due("d.e.f"), None);
    }
}
