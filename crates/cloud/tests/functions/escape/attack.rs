//! What an attack is, and how it reports.

/// Native code that tries to get out of a worker.
pub(super) struct Attack {
    /// Of the test.
    pub(super) name: &'static str,
    pub(super) run: extern "C" fn() -> !,
    /// How many attempts it reports.
    pub(super) lines: usize,
}

const KEPT: &str = "kept";
const ESCAPED: &str = "ESCAPED";
const DONE: &str = "all attempts are made";

/// Reports one attempt on standard output, which is the function's log.
#[expect(unsafe_code, reason = "the lock of the standard output may be held by what was interrupted")]
pub(super) fn say(attempt: &str, kept: bool, how: &str) {
    let line = format!("{} {attempt}: {how}\n", if kept { KEPT } else { ESCAPED });
    // SAFETY: writes from a buffer of this length.
    unsafe { libc::write(1, line.as_ptr().cast(), line.len()) };
}

/// Ends the worker, as one that was taken over would not go on.
#[expect(unsafe_code, reason = "the process must not run what the original registered for its end")]
pub(super) fn finish() -> ! {
    let line = format!("{DONE}\n");
    // SAFETY: writes from a buffer of this length, and ends the process.
    unsafe {
        libc::write(1, line.as_ptr().cast(), line.len());
        libc::_exit(0)
    }
}

/// Every attempt was made and failed.
#[track_caller]
pub(super) fn judge(lines: &[String], expected: usize) {
    assert!(lines.iter().any(|line| line == DONE), "it did not come to its end: {lines:#?}");
    let escaped: Vec<_> = lines.iter().filter(|line| line.starts_with(ESCAPED)).collect();
    assert!(escaped.is_empty(), "{escaped:#?}");
    let kept = lines.iter().filter(|line| line.starts_with(KEPT)).count();
    assert_eq!(kept, expected, "{lines:#?}");
}
