//! How far a pull is, for people who wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::Lines;

/// How often there is something to tell, at most.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// The bytes of a pull.
#[derive(Debug)]
pub(super) struct Progress {
    what: String,
    total: u64,
    done: Arc<AtomicU64>,
}

impl Progress {
    pub(super) fn of(name: &str, total: u64) -> Self {
        Self { what: name.to_owned(), total, done: Arc::default() }
    }

    /// For what is too small to tell of.
    pub(super) fn silent() -> Self {
        Self::of("", 0)
    }

    pub(super) fn done(&self) -> Arc<AtomicU64> {
        self.done.clone()
    }

    /// Tells how much is there, if that is a hundredth more than what was told last: a log gets no more lines than that.
    pub(super) fn tell(&self, lines: &dyn Lines, told: &mut u64) {
        let done = self.done.load(Ordering::Relaxed).min(self.total);
        if self.total > 0 && done >= (*told + self.total / 100).max(1) {
            *told = done;
            lines.line(&format!("pulling {}: {}", self.what, of(done, self.total)));
        }
    }
}

/// `31 of 119 MB`
fn of(done: u64, total: u64) -> String {
    let (unit, name) = if total < 1_000_000 { (1e3, "kB") } else { (1e6, "MB") };
    let shown = |bytes: u64| match total as f64 / unit {
        few if few < 10.0 => format!("{:.1}", bytes as f64 / unit),
        _ => format!("{:.0}", bytes as f64 / unit),
    };
    format!("{} of {} {name}", shown(done), shown(total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::Collected;

    #[test]
    fn sizes_are_told_in_the_units_of_their_whole() {
        assert_eq!(of(31_400_000, 119_000_000), "31 of 119 MB");
        assert_eq!(of(400_000, 2_100_000), "0.4 of 2.1 MB");
        assert_eq!(of(1_000, 25_000), "1 of 25 kB");
    }

    #[test]
    fn a_log_gets_a_line_for_a_hundredth_at_most() {
        let (progress, lines) = (Progress::of("a", 100_000_000), Collected::default());
        let mut told = 0;
        progress.tell(&lines, &mut told);
        for done in [5_000_000, 5_500_000, 6_000_000] {
            progress.done().store(done, Ordering::Relaxed);
            progress.tell(&lines, &mut told);
        }
        assert_eq!(lines.text(), "pulling a: 5 of 100 MB\npulling a: 6 of 100 MB");
    }
}
