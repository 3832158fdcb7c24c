//! What a worker that was taken over can reach: files, descriptors, sockets, other processes, others' requests.

#![expect(unsafe_code, reason = "raw system calls are what this is about")]

use std::{
    ffi::{CString, c_int},
    fs, io, mem,
    net::TcpListener,
};

use super::{
    attack::{Attack, finish, say},
    possess::parameters,
};

pub(super) const TESTS: &[Attack] = &[
    Attack { name: "escape::no_file_of_the_host_is_in_reach", run: files, lines: 33 },
    Attack { name: "escape::no_descriptor_leads_out", run: descriptors, lines: 4 },
    Attack { name: "escape::no_socket_but_those_of_the_internet", run: sockets, lines: 20 },
    Attack { name: "escape::no_other_process_is_in_reach", run: processes, lines: 6 },
];

fn last() -> String {
    io::Error::last_os_error().to_string()
}

/// `<name>=<value>` among the parameters.
pub(super) fn told(name: &str) -> String {
    let all = parameters();
    let value = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_default().to_owned()
}

extern "C" fn files() -> ! {
    let mut seen: Vec<_> = fs::read_dir("/").unwrap().map(|e| e.unwrap().file_name()).collect();
    seen.sort();
    say("list the root", seen == ["dev", "etc", "tmp", "var"], &format!("{seen:?}"));
    let victim = told("victim");
    for path in [
        "/proc/self/environ",
        "/proc/1/environ",
        "/proc/1/root",
        &format!("/proc/{victim}/environ"),
        &format!("/proc/{victim}/root/tmp/secret"),
        "/sys/fs/cgroup",
        "/sys/kernel",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/vda",
        "/dev/kvm",
        "/dev/fuse",
        "/dev/net/tun",
        "/dev/shm",
        "/run",
        "/root",
        "/etc/passwd",
        "/etc/shadow",
        "/usr/bin/su",
        // Of another function.
        "/tmp/secret",
        &told("home"),
        &told("socket"),
        // The same, seen from below.
        &format!("../../../..{}", told("home")),
    ] {
        let path = CString::new(path).unwrap();
        let file = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_PATH) };
        say(&format!("open {path:?}"), file == -1, &last());
    }
    for path in ["/x", "/etc/hosts", "/etc/x", "/dev/x", "/var/task/x", "/dev/null/x"] {
        let made = fs::write(path, "x");
        say(&format!("write {path}"), made.is_err(), &format!("{made:?}"));
    }
    fs::write("/tmp/program", "\x7fELF").unwrap();
    let file = fs::File::open("/tmp/program").unwrap();
    let code = unsafe {
        use std::os::fd::AsRawFd;
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_EXEC, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
    };
    say("map a file of its own to execute it", code == libc::MAP_FAILED, &last());
    let linked = fs::hard_link("/etc/hosts", "/tmp/hosts");
    say("link a file of the root", linked.is_err(), &format!("{linked:?}"));
    std::os::unix::fs::symlink("/proc/self/root/etc/shadow", "/tmp/link").unwrap();
    say("follow a link of its own", fs::read("/tmp/link").is_err(), "dangles");
    finish()
}

fn kinds() -> Vec<(c_int, u32)> {
    (0..1024)
        .filter_map(|file| {
            let mut stat = unsafe { mem::zeroed::<libc::stat>() };
            (unsafe { libc::fstat(file, &raw mut stat) } == 0).then_some((file, stat.st_mode & libc::S_IFMT))
        })
        .collect()
}

extern "C" fn descriptors() -> ! {
    let all = kinds();
    let kind =
        |wanted: u32| all.iter().filter(|(_, kind)| *kind == wanted).map(|(f, _)| *f).collect::<Vec<_>>();
    let folders = kind(libc::S_IFDIR);
    say("find a folder that was left open", folders.is_empty(), &format!("{folders:?}"));
    let disks = kind(libc::S_IFBLK);
    say("find a disk that was left open", disks.is_empty(), &format!("{disks:?}"));
    // Files of the read-only root may be open, none of the host's.
    let written: Vec<_> = kind(libc::S_IFREG)
        .into_iter()
        .filter(|file| unsafe { libc::fcntl(*file, libc::F_GETFL) } & libc::O_ACCMODE != libc::O_RDONLY)
        .collect();
    say("find a file that can be written", written.is_empty(), &format!("{written:?}"));
    let unix: Vec<_> =
        kind(libc::S_IFSOCK).into_iter().filter(|file| family(*file) == libc::AF_UNIX).collect();
    let tied = unix.iter().all(|file| {
        let result = unsafe { connect_abstract(*file, &told("abstract")) };
        result == -1
    });
    say("point a socket of its own elsewhere", tied, &format!("{unix:?}: {}", last()));
    finish()
}

pub(super) fn family(file: c_int) -> c_int {
    let mut value: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    unsafe {
        libc::getsockopt(file, libc::SOL_SOCKET, libc::SO_DOMAIN, (&raw mut value).cast(), &raw mut length)
    };
    value
}

/// The two sockets whose other end is the cloud's: that of the Runtime API, which is open twice, and that of calls.
pub(super) fn sockets_to_the_cloud() -> (c_int, c_int) {
    let theirs = |file: c_int| {
        let mut peer = libc::ucred { pid: -1, uid: 0, gid: 0 };
        let mut length = size_of::<libc::ucred>() as libc::socklen_t;
        let to = (&raw mut peer).cast();
        unsafe { libc::getsockopt(file, libc::SOL_SOCKET, libc::SO_PEERCRED, to, &raw mut length) };
        // From outside of this process namespace. A pair of its own is process 1's.
        peer.pid == 0
    };
    let number = |file: c_int| {
        let mut stat = unsafe { mem::zeroed::<libc::stat>() };
        unsafe { libc::fstat(file, &raw mut stat) };
        stat.st_ino
    };
    let all: Vec<_> = kinds()
        .into_iter()
        .filter(|(file, kind)| *kind == libc::S_IFSOCK && family(*file) == libc::AF_UNIX && theirs(*file))
        .map(|(file, _)| (file, number(file)))
        .collect();
    let times = |wanted: u64| all.iter().filter(|(_, number)| *number == wanted).count();
    let open = |wanted: usize| all.iter().find(|(_, number)| times(*number) == wanted).unwrap().0;
    (open(2), open(1))
}

unsafe fn connect_abstract(file: c_int, name: &str) -> c_int {
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, from) in address.sun_path[1..].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let length = size_of::<libc::sa_family_t>() + 1 + name.len();
    unsafe { libc::connect(file, (&raw const address).cast(), length as libc::socklen_t) }
}

extern "C" fn sockets() -> ! {
    const STREAM: c_int = libc::SOCK_STREAM;
    const DGRAM: c_int = libc::SOCK_DGRAM;
    const RAW: c_int = libc::SOCK_RAW;
    for (name, family, kind, protocol) in [
        ("raw", libc::AF_INET, RAW, libc::IPPROTO_ICMP),
        ("raw with IPPROTO_RAW", libc::AF_INET, RAW, libc::IPPROTO_RAW),
        ("raw of version 6", libc::AF_INET6, RAW, libc::IPPROTO_ICMPV6),
        ("ping", libc::AF_INET, DGRAM, libc::IPPROTO_ICMP),
        ("ping of version 6", libc::AF_INET6, DGRAM, libc::IPPROTO_ICMPV6),
        ("sctp", libc::AF_INET, libc::SOCK_SEQPACKET, libc::IPPROTO_SCTP),
        ("stream sctp", libc::AF_INET, STREAM, libc::IPPROTO_SCTP),
        ("mptcp", libc::AF_INET, STREAM, 262),
        ("udp lite", libc::AF_INET, DGRAM, libc::IPPROTO_UDPLITE),
        ("packet", libc::AF_PACKET, RAW, 0x0300),
        ("packet datagram", libc::AF_PACKET, DGRAM, 0x0300),
        ("netlink", libc::AF_NETLINK, RAW, 0),
        ("unix", libc::AF_UNIX, STREAM, 0),
        ("unix datagram", libc::AF_UNIX, DGRAM, 0),
        ("vsock", libc::AF_VSOCK, STREAM, 0),
        ("kernel crypto", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        ("bluetooth", libc::AF_BLUETOOTH, RAW, 0),
    ] {
        let socket = unsafe { libc::socket(family, kind, protocol) };
        let refused = socket == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
        say(&format!("open a {name} socket"), refused, &last());
    }
    // One of a pair of datagram sockets can be sent to any address; one of a pair of streams cannot.
    for (name, kind) in [("datagram", DGRAM), ("packet", libc::SOCK_SEQPACKET)] {
        let mut pair = [0; 2];
        let made = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) };
        let out = made == 0 && unsafe { connect_abstract(pair[0], &told("abstract")) } == 0;
        say(&format!("reach an abstract address through a {name} pair"), !out && made == -1, &last());
    }
    let port: u16 = told("taken").parse().unwrap();
    let stolen = TcpListener::bind(("127.0.0.1", port));
    say("take the port on which the cloud listens", stolen.is_err(), &format!("{stolen:?}"));
    finish()
}

extern "C" fn processes() -> ! {
    let victim: c_int = told("victim").parse().unwrap();
    for (name, process) in [("another function", victim), ("the cloud", told("cloud").parse().unwrap())] {
        let sent = unsafe { libc::kill(process, libc::SIGKILL) };
        say(&format!("kill {name}"), sent == -1, &last());
    }
    let sent = unsafe { libc::kill(-1, libc::SIGCONT) };
    say("signal all processes", sent == -1, &last());
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, victim, victim, libc::SIGKILL) };
    say("kill a thread of another function", sent == -1, &last());
    let (own, parent) = unsafe { (libc::getpid(), libc::getppid()) };
    say(
        "know the host's number of its process",
        own == 1 && parent == 0,
        &format!("{own}, child of {parent}"),
    );
    let limit = libc::rlimit { rlim_cur: 1 << 30, rlim_max: 1 << 30 };
    let raised = [libc::RLIMIT_CORE, libc::RLIMIT_NOFILE, libc::RLIMIT_NPROC, libc::RLIMIT_FSIZE].iter().any(
        |resource| (unsafe { libc::prlimit(0, *resource, &raw const limit, std::ptr::null_mut()) }) == 0,
    );
    say("raise its limits", !raised, &last());
    finish()
}
