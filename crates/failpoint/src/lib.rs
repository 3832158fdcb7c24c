//! Named places where a test can kill the process, so that "a crash at every commit point" is a loop over names.
//!
//! `TANDEM_FAILPOINT=bucket.put.committed` kills the process (SIGKILL to itself, as `kill -9` would) the first time
//! it comes by; `name@3` the third time. Without the variable a [`hit`] costs one relaxed load.
//! Names are `<area>.<what>.<moment>`; `cargo xtask tidy` lists them and checks that each stands in one place only.

use std::{
    env,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// The environment variable that arms one failpoint.
pub const VARIABLE: &str = "TANDEM_FAILPOINT";

struct Armed {
    name: String,
    left: AtomicU32,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

fn armed() -> Option<&'static Armed> {
    ARMED
        .get_or_init(|| {
            let value = env::var(VARIABLE).ok()?;
            let (name, count) = value.split_once('@').unwrap_or((&value, "1"));
            Some(Armed { name: name.to_owned(), left: AtomicU32::new(count.parse().unwrap_or(1)) })
        })
        .as_ref()
}

/// Passes the place called `name`; kills the process if that place is armed and its turn has come.
pub fn hit(name: &str) {
    if let Some(armed) = armed()
        && armed.name == name
        && armed.left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        kill();
    }
}

#[expect(unsafe_code, reason = "raise has no safe wrapper here, and takes no pointer")]
fn kill() {
    // SAFETY: a signal to ourselves; SIGKILL cannot be handled, so nothing runs after it.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}
