//! From root to a function's own user, with no way back.

use std::io;

use nix::{
    sys::prctl,
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};

/// Sees to it that no privilege is gained any more: by executing a file, or by becoming root again.
///
/// # Errors
/// Of the system calls; the process must end.
pub(super) fn bound() -> io::Result<()> {
    empty_bounding_set()?;
    prctl::set_no_new_privs()?;
    Ok(())
}

/// Becomes `user`. The kernel clears the effective, permitted and ambient capabilities when the last user id leaves 0.
///
/// # Errors
/// Of the system calls; the process may have lost some privileges and must end.
pub(super) fn drop_all(user: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    prctl::set_dumpable(false)?;
    Ok(())
}

#[expect(unsafe_code, reason = "PR_CAPBSET_DROP has no wrapper in nix")]
fn empty_bounding_set() -> io::Result<()> {
    for capability in 0..64_u64 {
        // SAFETY: takes integers only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } == -1 {
            let error = io::Error::last_os_error();
            // The first number that this kernel does not know ends the list.
            return if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 {
                Ok(())
            } else {
                Err(error)
            };
        }
    }
    Ok(())
}
