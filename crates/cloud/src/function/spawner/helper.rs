//! The spawner's own side: a process with one thread, no secrets, and no view of the host's files.
//!
//! It waits for packets and for children that end, and does nothing else. A worker is a fork of it without `exec`: the
//! program's pages are mapped already, so what a birth costs is the fork and the namespaces (0.24 ms measured).
//! When the cloud is gone its socket closes, and it goes too; so do the workers, by their own sockets.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns, unshare},
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::{ForkResult, Pid, dup2_stdin, setsid},
};

use tandem_js::Vm;

use super::packet::{Ask, Tell, receive, send};
use crate::function::{
    sandbox::{
        root,
        seat::{Hierarchy, Row, Seat, open_roots},
        syscalls::Filters,
    },
    worker::{self, Ends},
};

/// A living worker, and what must be tidied when it is gone.
struct Child {
    worker: u64,
    seat: Option<Seat>,
}

struct Spawner<'a> {
    cloud: BorrowedFd<'a>,
    own_processes: OwnedFd,
    filters: Filters,
    row: Option<Row>,
    /// Where this process sits, for the next worker to be born in.
    next: Option<Seat>,
    children: HashMap<i32, Child>,
    /// What every worker goes on with a copy of.
    template: Option<Vm>,
}

/// Serves until the cloud is gone. Called in a fresh fork of the only thread.
pub(super) fn run(cloud: OwnedFd) -> io::Result<()> {
    let hierarchy = Hierarchy::detect();
    detach(cloud.as_raw_fd())?;
    let own_processes = own_process_namespace()?;
    let prepared = hierarchy.as_ref().map(|hierarchy| (hierarchy, open_roots(hierarchy)));
    let ended = block_child_signals()?;
    let Some((Ask::Prepare { cgroup }, _)) = receive(cloud.as_fd())? else { return Ok(()) };
    let filters = match root::enter().and_then(|()| Filters::compile()) {
        Ok(filters) => filters,
        Err(error) => return send(cloud.as_fd(), &Tell::Unfit { reason: error.to_string() }, &[]),
    };
    let template = match Vm::template() {
        Ok(template) => Some(template),
        Err(error) => return send(cloud.as_fd(), &Tell::Unfit { reason: error.to_string() }, &[]),
    };
    let (row, unlimited) = match prepared {
        None => (None, Some("no cgroup hierarchy with a memory controller is mounted".to_owned())),
        Some((hierarchy, roots)) => match roots.and_then(|roots| Row::open(hierarchy, roots, &cgroup)) {
            Ok(row) => (Some(row), None),
            Err(error) => (None, Some(error.to_string())),
        },
    };
    let mut spawner = Spawner {
        cloud: cloud.as_fd(),
        own_processes,
        filters,
        row,
        next: None,
        children: HashMap::new(),
        template,
    };
    let unlimited = unlimited.or_else(|| spawner.sit_down().err().map(|error| error.to_string()));
    send(cloud.as_fd(), &Tell::Ready { unlimited }, &[])?;
    let served = spawner.serve(&ended);
    spawner.end_all();
    if let Some(row) = spawner.row.take() {
        row.leave(spawner.next.as_ref());
    }
    served
}

/// Leaves the cloud's terminal and closes its files, so that they live exactly as long as the cloud.
fn detach(cloud: RawFd) -> io::Result<()> {
    setsid()?;
    nix::sys::prctl::set_name(c"tandem-spawner")?;
    // A service manager's SIGTERM goes to the whole group; the cloud decides when its workers end.
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        ignore(signal)?;
    }
    // Should the machine have no memory left, workers go before the cloud. Not permitted everywhere, and no reason to stop.
    let _ = std::fs::write("/proc/self/oom_score_adj", "300");
    let null = std::fs::File::open("/dev/null")?;
    dup2_stdin(&null)?;
    drop(null);
    worker::close_all_but(&[0, 1, 2, cloud]);
    Ok(())
}

#[expect(unsafe_code, reason = "signal dispositions have no safe wrapper")]
fn ignore(signal: Signal) -> io::Result<()> {
    // SAFETY: ignoring installs no handler.
    unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigIgn) }?;
    Ok(())
}

#[expect(unsafe_code, reason = "pidfd_open has no wrapper in nix")]
fn own_process_namespace() -> io::Result<OwnedFd> {
    // SAFETY: takes integers only, and returns a new file or -1.
    let file = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) };
    let file = RawFd::try_from(file).map_err(io::Error::other)?;
    if file == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and known here only.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

fn block_child_signals() -> io::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

impl Spawner<'_> {
    fn serve(&mut self, ended: &SignalFd) -> io::Result<()> {
        loop {
            let mut files =
                [PollFd::new(self.cloud, PollFlags::POLLIN), PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
            match poll(&mut files, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [asked, died] = files.map(|file| file.any().unwrap_or_default());
            if died {
                while ended.read_signal()?.is_some() {}
                self.reap()?;
            }
            if asked {
                match receive(self.cloud)? {
                    None => return Ok(()),
                    Some((ask, files)) => self.answer(ask, files)?,
                }
            }
        }
    }

    fn answer(&mut self, ask: Ask, files: Vec<OwnedFd>) -> io::Result<()> {
        match ask {
            Ask::Prepare { .. } => Ok(()),
            Ask::Spawn { worker } => {
                let told = match self.spawn(worker, files) {
                    Ok(pid) => Tell::Spawned { worker, pid },
                    Err(error) => Tell::NotSpawned { worker, reason: error.to_string() },
                };
                send(self.cloud, &told, &[])?;
                if self.next.is_none() && self.row.is_some() {
                    // Without a seat the next worker would count against this one's.
                    let _ = self.sit_down();
                }
                Ok(())
            }
            Ask::Kill { worker } => {
                // The child is not reaped yet, so its number cannot be anybody else's.
                if let Some((pid, _)) = self.children.iter().find(|(_, child)| child.worker == worker) {
                    let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
                }
                Ok(())
            }
        }
    }

    fn sit_down(&mut self) -> io::Result<()> {
        if let Some(row) = &mut self.row {
            self.next = Some(row.sit_down()?);
        }
        Ok(())
    }

    fn spawn(&mut self, worker: u64, files: Vec<OwnedFd>) -> io::Result<i32> {
        let ends = Ends::try_from(files)?;
        if self.row.is_some() && self.next.is_none() {
            self.sit_down()?;
        }
        // Concerns the children only, and is undone right after, so that each child is the first of a new namespace.
        unshare(CloneFlags::CLONE_NEWPID)?;
        let forked = fork();
        if let Ok(None) = forked {
            self.become_worker(ends);
        }
        setns(&self.own_processes, CloneFlags::CLONE_NEWPID)?;
        let pid = forked?.map_or(0, Pid::as_raw);
        self.children.insert(pid, Child { worker, seat: self.next.take() });
        Ok(pid)
    }

    /// Runs in the child.
    fn become_worker(&mut self, ends: Ends) -> ! {
        let seat = self.next.take();
        worker::become_one(ends, seat, &self.filters, self.template.take())
    }

    /// The cloud is gone, so the workers are about to go too. Their seats are removed after them.
    fn end_all(&mut self) {
        for pid in self.children.keys() {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        for (pid, child) in self.children.drain() {
            let _ = nix::sys::wait::waitpid(Pid::from_raw(pid), None);
            if let (Some(row), Some(seat)) = (&self.row, &child.seat) {
                row.remove(seat);
            }
        }
    }

    fn reap(&mut self) -> io::Result<()> {
        while let Some((pid, status)) = wait()? {
            let Some(child) = self.children.remove(&pid) else { continue };
            let out_of_memory = child.seat.as_ref().is_some_and(Seat::ran_out_of_memory);
            if let (Some(row), Some(seat)) = (&self.row, &child.seat) {
                row.remove(seat);
            }
            send(self.cloud, &Tell::Exited { worker: child.worker, status, out_of_memory }, &[])?;
        }
        Ok(())
    }
}

/// The child gets none.
#[expect(unsafe_code, reason = "fork is unsafe in programs with several threads")]
fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: this process has one thread, so no lock can be held by a thread that the child lacks.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// The next child that has ended, with its raw status.
#[expect(unsafe_code, reason = "nix's waitpid does not give the raw status")]
fn wait() -> io::Result<Option<(i32, i32)>> {
    let mut status = 0;
    // SAFETY: `status` is writable for the call.
    match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
        0 => Ok(None),
        -1 => match Errno::last() {
            Errno::ECHILD | Errno::EINTR => Ok(None),
            error => Err(error.into()),
        },
        pid => Ok(Some((pid, status))),
    }
}
