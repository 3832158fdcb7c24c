//! Keeps containers from the host's abstract Unix sockets.
//!
//! Containers share the host's network, and with it the names of abstract sockets, to which no file's permissions apply.
//! Landlock (`landlock(7)`, since its ABI 6, Linux 6.12) can forbid to connect to those that were made outside of the
//! own domain. The monitor enters such a domain before it begins, and so the container is born in it; with the others in
//! it, a container speaks on abstract names as ever. Older kernels have no such bound, which the guide says.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::OnceLock,
};

use tokio::process::Command;

/// `struct landlock_ruleset_attr` of the kernel's interface.
#[repr(C)]
struct Attributes {
    files: u64,
    network: u64,
    scoped: u64,
}

/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET`.
const ABSTRACT_SOCKETS: u64 = 1;

/// The rules, made once; none on a kernel that does not know them.
fn rules() -> Option<RawFd> {
    static RULES: OnceLock<Option<OwnedFd>> = OnceLock::new();
    RULES.get_or_init(make).as_ref().map(AsRawFd::as_raw_fd)
}

#[expect(unsafe_code, reason = "Landlock has no wrapper in libc")]
fn make() -> Option<OwnedFd> {
    let attributes = Attributes { files: 0, network: 0, scoped: ABSTRACT_SOCKETS };
    // SAFETY: reads so many bytes of the structure, and returns a new file or -1.
    let made = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attributes, size_of::<Attributes>(), 0)
    };
    // SAFETY: just opened, and known here only.
    RawFd::try_from(made).ok().filter(|file| *file >= 0).map(|file| unsafe { OwnedFd::from_raw_fd(file) })
}

/// Has the child that `command` starts, and all its descendants, live in a domain of their own.
#[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
pub(super) fn close(command: &mut Command) {
    let Some(rules) = rules() else { return };
    let enter = move || {
        // SAFETY: takes integers only; the file stays open for as long as this program runs.
        if unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: `enter` runs in the child after fork; it makes one system call and allocates nothing.
    unsafe { command.pre_exec(enter) };
}
