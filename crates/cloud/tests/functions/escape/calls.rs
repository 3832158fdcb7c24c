//! System calls by which others have got out of a sandbox, made from inside of a worker.

#![expect(unsafe_code, reason = "raw system calls are what this is about")]

use std::{ffi::c_long, io, ptr::null};

use super::attack::{Attack, finish, say};

/// A call, and whether the filter itself must refuse it. Otherwise the kernel does, because the worker has no right.
type Call = (&'static str, fn() -> c_long);

macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {
        // SAFETY: it is refused; if it is not, the test fails, in a process that ends right after.
        (stringify!($number), || unsafe { libc::syscall(libc::$number $(, $argument)*) })
    };
}

const ROOT: *const std::ffi::c_char = c"/".as_ptr();
const NEW: *const std::ffi::c_char = c"/tmp/new".as_ptr();

/// More privilege, another user, another program, another root.
const PRIVILEGES: &[Call] = &[
    call!(SYS_setuid, 0),
    call!(SYS_setgid, 0),
    call!(SYS_setreuid, 0, 0),
    call!(SYS_setregid, 0, 0),
    call!(SYS_setresuid, 0, 0, 0),
    call!(SYS_setresgid, 0, 0, 0),
    call!(SYS_setgroups, 1, &raw const ZERO),
    call!(SYS_setfsuid, 0),
    call!(SYS_capset, null::<u8>(), null::<u8>()),
    call!(SYS_prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, 21, 0, 0),
    call!(SYS_prctl, libc::PR_SET_KEEPCAPS, 1, 0, 0, 0),
    call!(SYS_prctl, libc::PR_SET_SECCOMP, 0, 0, 0, 0),
    call!(SYS_prctl, libc::PR_SET_PTRACER, -1, 0, 0, 0),
    call!(SYS_prctl, libc::PR_SET_PDEATHSIG, 0, 0, 0, 0),
    call!(SYS_seccomp, 0, 0, 0),
    call!(SYS_personality, 0x0004_0000),
    call!(SYS_execve, ROOT, null::<u8>(), null::<u8>()),
    call!(SYS_execveat, 0, ROOT, null::<u8>(), null::<u8>(), 0),
    call!(SYS_unshare, libc::CLONE_NEWUSER),
    call!(SYS_unshare, libc::CLONE_NEWNS),
    call!(SYS_setns, 0, 0),
    call!(SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0),
    call!(
        SYS_clone,
        libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_VM | libc::CLONE_NEWUSER,
        0,
        0,
        0,
        0
    ),
    call!(
        SYS_clone,
        libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_VM | libc::CLONE_NEWNS,
        0,
        0,
        0,
        0
    ),
    call!(SYS_clone3, null::<u8>(), 88),
    call!(SYS_chroot, ROOT),
    call!(SYS_pivot_root, ROOT, ROOT),
    call!(SYS_mount, c"none".as_ptr(), c"/tmp".as_ptr(), c"proc".as_ptr(), 0, 0),
    call!(SYS_mount, c"none".as_ptr(), c"/".as_ptr(), c"none".as_ptr(), libc::MS_REMOUNT, 0),
    call!(SYS_umount2, c"/tmp".as_ptr(), libc::MNT_DETACH),
    call!(SYS_fsopen, c"proc".as_ptr(), 0),
    call!(SYS_fsmount, 0, 0, 0),
    call!(SYS_open_tree, libc::AT_FDCWD, ROOT, 1),
    call!(SYS_move_mount, 0, ROOT, 0, ROOT, 0),
    call!(SYS_mount_setattr, libc::AT_FDCWD, ROOT, 0, 0, 0),
    call!(SYS_mknod, NEW, libc::S_IFCHR | 0o666, 0x101),
    call!(SYS_mknodat, libc::AT_FDCWD, NEW, libc::S_IFBLK | 0o666, 0x800),
    call!(SYS_open_by_handle_at, 0, null::<u8>(), 0),
    call!(SYS_name_to_handle_at, libc::AT_FDCWD, ROOT, null::<u8>(), null::<u8>(), 0),
    call!(SYS_fork),
    call!(SYS_vfork),
    call!(SYS_clone, libc::SIGCHLD, 0, 0, 0, 0),
    call!(SYS_setsid),
    call!(SYS_setpgid, 0, 0),
    call!(SYS_setpriority, 0, 0, -20),
    call!(SYS_sched_setscheduler, 0, libc::SCHED_FIFO, null::<u8>()),
    call!(SYS_sched_setattr, 0, null::<u8>(), 0),
    call!(SYS_sched_setaffinity, 0, 8, &raw const ZERO),
    call!(SYS_ioprio_set, 1, 0, 0),
    call!(SYS_setrlimit, libc::RLIMIT_NOFILE, &raw const ZERO),
];

/// Parts of the kernel that no function needs, and where most holes were found.
const DEPTHS: &[Call] = &[
    call!(SYS_bpf, 0, null::<u8>(), 0),
    call!(SYS_perf_event_open, null::<u8>(), 0, -1, -1, 0),
    call!(SYS_keyctl, 0, 0, 0, 0, 0),
    call!(SYS_add_key, ROOT, ROOT, ROOT, 1, 0),
    call!(SYS_request_key, ROOT, ROOT, 0, 0),
    call!(SYS_io_uring_setup, 1, null::<u8>()),
    call!(SYS_io_uring_enter, 0, 0, 0, 0, 0, 0),
    call!(SYS_io_uring_register, 0, 0, 0, 0),
    call!(SYS_userfaultfd, 0),
    call!(SYS_kexec_load, 0, 0, 0, 0),
    call!(SYS_kexec_file_load, 0, 0, 0, 0, 0),
    call!(SYS_init_module, 0, 0, 0),
    call!(SYS_finit_module, 0, 0, 0),
    call!(SYS_delete_module, 0, 0),
    call!(SYS_iopl, 3),
    call!(SYS_ioperm, 0, 1, 1),
    call!(SYS_modify_ldt, 0, 0, 0),
    call!(SYS_syslog, 3, 0, 0),
    call!(SYS_reboot, 0, 0, 0, 0),
    call!(SYS_swapon, ROOT, 0),
    call!(SYS_acct, 0),
    call!(SYS_quotactl, 0, 0, 0, 0),
    call!(SYS_fanotify_init, 0, 0),
    call!(SYS_clock_settime, libc::CLOCK_REALTIME, &raw const ZEROES),
    call!(SYS_settimeofday, &raw const ZEROES, 0),
    call!(SYS_clock_adjtime, 0, null::<u8>()),
    call!(SYS_adjtimex, null::<u8>()),
    call!(SYS_sethostname, ROOT, 1),
    call!(SYS_setdomainname, ROOT, 1),
    call!(SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0),
    call!(SYS_process_vm_readv, 1, 0, 0, 0, 0, 0),
    call!(SYS_process_vm_writev, 1, 0, 0, 0, 0, 0),
    call!(SYS_process_madvise, 0, 0, 0, 0, 0),
    call!(SYS_kcmp, 1, 1, 0, 0, 0),
    call!(SYS_pidfd_open, 1, 0),
    call!(SYS_pidfd_getfd, 0, 0, 0),
    call!(SYS_pidfd_send_signal, 0, 0, 0, 0),
    call!(SYS_move_pages, 0, 0, 0, 0, 0, 0),
    call!(SYS_migrate_pages, 0, 0, 0, 0),
    call!(SYS_mbind, 0, 0, 0, 0, 0, 0),
    call!(SYS_memfd_secret, 0),
    call!(SYS_mlock, 0, 0),
    call!(SYS_mlockall, 1),
    call!(SYS_remap_file_pages, 0, 0, 0, 0, 0),
    call!(SYS_shmget, 1, 4096, 0o1600),
    call!(SYS_semget, 1, 1, 0o1600),
    call!(SYS_msgget, 1, 0o1600),
    call!(SYS_mq_open, NEW, libc::O_CREAT, 0o600, 0),
    call!(SYS_vmsplice, 0, 0, 0, 0),
    call!(SYS_tee, 0, 0, 0, 0),
    call!(SYS_ioctl, 0, libc::TIOCSTI, ROOT),
    call!(SYS_ioctl, 1, libc::TIOCSCTTY, 0),
    call!(SYS_landlock_create_ruleset, 0, 0, 0),
    call!(SYS_timer_create, 0, 0, 0),
    call!(SYS_setitimer, 0, 0, 0),
    // The same calls under the numbers of the x32 ABI, which a filter of numbers alone would not see.
    ("x32 getpid", || unsafe { libc::syscall(0x4000_0000 | libc::SYS_getpid) }),
    ("x32 execve", || unsafe { libc::syscall(0x4000_0000 | 520) }),
];

static ZERO: u32 = 0;
static ZEROES: [u64; 2] = [0; 2];

pub(super) const TESTS: &[Attack] = &[
    Attack {
        name: "escape::no_call_gains_a_privilege_or_a_namespace_or_a_process",
        run: privileges,
        lines: PRIVILEGES.len(),
    },
    Attack { name: "escape::no_call_reaches_the_depths_of_the_kernel", run: depths, lines: DEPTHS.len() },
];

extern "C" fn privileges() -> ! {
    attempt(PRIVILEGES)
}

extern "C" fn depths() -> ! {
    attempt(DEPTHS)
}

fn attempt(calls: &[Call]) -> ! {
    for (name, call) in calls {
        let result = call();
        let error = io::Error::last_os_error();
        // Any other error would mean that the call was looked at: the arguments are wrong on purpose.
        let refused = result == -1 && matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS));
        say(name, refused, &if result == -1 { error.to_string() } else { format!("answered {result}") });
    }
    finish()
}
