//! Makes a worker execute native code, as if a hostile handler had found a hole in the JavaScript engine.
//!
//! Handlers are JavaScript and cannot make system calls of their own choice. What the sandbox is for is the day on which
//! one can. So a real worker, confined as in production, is stopped by `ptrace` from outside and sent to a function of
//! this very binary: a worker is a fork of it, so the function is in its memory, at the same address. No door for this
//! is in the product.

use std::{
    ffi::c_void,
    fs::OpenOptions,
    mem::MaybeUninit,
    os::unix::fs::FileExt,
    ptr::{null_mut, without_provenance_mut},
};

/// What an attack is told. Written into the worker's memory from outside.
#[repr(C)]
pub(super) struct Parameters {
    length: usize,
    text: [u8; 4096],
}

/// In the worker it is what [`possess`] has written; here it stays empty.
static PARAMETERS: std::sync::RwLock<Parameters> =
    std::sync::RwLock::new(Parameters { length: 0, text: [0; 4096] });

/// What this process was told, in the worker.
pub(super) fn parameters() -> String {
    // Nothing here writes to it, which the compiler must not conclude anything from.
    let all = std::hint::black_box(PARAMETERS.read().unwrap());
    String::from_utf8_lossy(&all.text[..all.length]).into_owned()
}

/// Sends the worker `pid` to `attack`, which must not return, and lets it go.
#[expect(unsafe_code, reason = "ptrace has no safe interface")]
pub(super) fn possess(pid: i32, attack: extern "C" fn() -> !, told: &str) {
    assert!(told.len() <= 4096);
    trace(libc::PTRACE_SEIZE, pid, null_mut());
    trace(libc::PTRACE_INTERRUPT, pid, null_mut());
    let mut status = 0;
    // SAFETY: `status` is writable for the call.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) }, pid);
    assert!(libc::WIFSTOPPED(status), "{status:x}");

    let memory = OpenOptions::new().write(true).open(format!("/proc/{pid}/mem")).unwrap();
    let place = PARAMETERS.read().unwrap();
    let at = |of: *const u8| of.addr() as u64;
    memory.write_all_at(&told.len().to_ne_bytes(), at((&raw const place.length).cast())).unwrap();
    memory.write_all_at(told.as_bytes(), at(place.text.as_ptr())).unwrap();

    let mut registers = MaybeUninit::<libc::user_regs_struct>::uninit();
    trace(libc::PTRACE_GETREGS, pid, registers.as_mut_ptr().cast());
    // SAFETY: the call before has filled them.
    let mut registers = unsafe { registers.assume_init() };
    registers.rip = attack as *const () as u64;
    // Below what the interrupted function may still use, and as after a call: 8 bytes off a multiple of 16.
    registers.rsp = (registers.rsp - 4096) / 16 * 16 - 8;
    // Else the kernel would step back to the system call that was interrupted.
    registers.orig_rax = u64::MAX;
    trace(libc::PTRACE_SETREGS, pid, (&raw mut registers).cast());
    trace(libc::PTRACE_DETACH, pid, null_mut());
}

#[expect(unsafe_code, reason = "ptrace has no safe interface")]
fn trace(request: libc::c_uint, pid: i32, data: *mut c_void) {
    // SAFETY: `data` is what the request asks for; it acts on a process that this test has started.
    let done = unsafe { libc::ptrace(request, pid, without_provenance_mut::<c_void>(0), data) };
    assert_eq!(done, 0, "ptrace {request:x}: {}", std::io::Error::last_os_error());
}
