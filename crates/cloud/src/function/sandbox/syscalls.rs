//! The system calls that a worker of the `js` host may make. All others answer `EPERM`.
//!
//! A list of what is allowed, so a call that a future kernel adds is refused. No file is ever executed and no process
//! forked: a worker is a process with threads. Only internet sockets exist for it.

use std::{collections::BTreeMap, io};

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Compiled filters. Compiling takes longer than a fork, so the spawner does it once.
#[derive(Debug)]
pub(in crate::function) struct Filters {
    allowed: BpfProgram,
    /// glibc falls back from `clone3`, whose flags no filter can see, to `clone` only if it does not exist.
    hidden: BpfProgram,
}

/// Allowed with any arguments.
const ALLOWED: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_copy_file_range,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_lseek,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_truncate,
    libc::SYS_fallocate,
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    // Threads, time and signals.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_signalfd4,
    // Waiting.
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    // Network, on sockets that `socket` below lets it have.
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    // What a process may ask about itself and the machine.
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_getcpu,
    libc::SYS_getrlimit,
    libc::SYS_prlimit64,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getpriority,
    libc::SYS_capget,
    // By which it becomes its function's user; afterwards the kernel refuses them.
    libc::SYS_setgroups,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
];

/// The older forms that only this architecture has.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utimes,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_time,
    libc::SYS_getpgrp,
    libc::SYS_arch_prctl,
    libc::SYS_pause,
    libc::SYS_creat,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[c_long] = &[];

const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions)
}

fn argument(index: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value)
}

fn is_one_of(index: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    values.iter().map(|value| rule(vec![argument(index, SeccompCmpOp::Eq, *value)?])).collect()
}

impl Filters {
    /// # Errors
    /// If the list cannot be compiled for this architecture.
    pub(in crate::function) fn compile() -> io::Result<Self> {
        let build = || -> Result<Self, BackendError> {
            let architecture = std::env::consts::ARCH.try_into()?;
            let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
                ALLOWED.iter().chain(ALLOWED_HERE).map(|call| (*call, Vec::new())).collect();
            // The filter before this one says that it does not exist.
            rules.insert(libc::SYS_clone3, Vec::new());
            // A thread of this process in its namespaces, and nothing else.
            let thread = libc::CLONE_THREAD as u64;
            let looked_at = SeccompCmpOp::MaskedEq(thread | NAMESPACES as u64);
            rules.insert(libc::SYS_clone, vec![rule(vec![argument(0, looked_at, thread)?])?]);
            // TCP and UDP: no raw or packet sockets, no other protocols, no Unix sockets, no netlink.
            let kind = SeccompCmpOp::MaskedEq(0xf);
            let mut sockets = Vec::new();
            for family in [libc::AF_INET, libc::AF_INET6] {
                for (socket, protocol) in
                    [(libc::SOCK_STREAM, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, libc::IPPROTO_UDP)]
                {
                    for protocol in [0, protocol] {
                        sockets.push(rule(vec![
                            argument(0, SeccompCmpOp::Eq, family as u64)?,
                            argument(1, kind.clone(), socket as u64)?,
                            argument(2, SeccompCmpOp::Eq, protocol as u64)?,
                        ])?);
                    }
                }
            }
            rules.insert(libc::SYS_socket, sockets);
            // A stream stays with its peer. A datagram socket of a pair could send to any Unix socket of the host that
            // has an abstract name.
            let pair = vec![
                argument(0, SeccompCmpOp::Eq, libc::AF_UNIX as u64)?,
                argument(1, kind, libc::SOCK_STREAM as u64)?,
            ];
            rules.insert(libc::SYS_socketpair, vec![rule(pair)?]);
            let ioctls = [libc::FIONBIO, libc::FIONREAD, libc::FIOCLEX, libc::TCGETS, libc::TIOCGWINSZ];
            rules.insert(libc::SYS_ioctl, is_one_of(1, &ioctls)?);
            let options = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, libc::PR_SET_DUMPABLE]
                .map(|option| option as u64);
            rules.insert(libc::SYS_prctl, is_one_of(0, &options)?);

            let refused = SeccompAction::Errno(libc::EPERM as u32);
            let allowed = SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture)?;
            let missing = SeccompAction::Errno(libc::ENOSYS as u32);
            let hidden = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
            let hidden = SeccompFilter::new(hidden, SeccompAction::Allow, missing, architecture)?;
            Ok(Self { allowed: allowed.try_into()?, hidden: hidden.try_into()? })
        };
        build().map_err(io::Error::other)
    }

    /// Binds this process, all its threads and whatever they start, for good.
    ///
    /// # Errors
    /// If the kernel has no seccomp.
    pub(super) fn install(&self) -> io::Result<()> {
        // The last one forbids the call that installs filters, so it comes last.
        for filter in [&self.hidden, &self.allowed] {
            seccompiler::apply_filter_all_threads(filter).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_compiles_for_this_architecture() {
        let filters = Filters::compile().unwrap();
        // The kernel takes at most 4,096 instructions.
        assert!(filters.allowed.len() < 4096 && !filters.hidden.is_empty());
    }
}
