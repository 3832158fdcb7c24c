//! The attacker: what runs inside of a container, as root of its image, and reports what it got.
//!
//! It is this test's own binary, put into the image with the libraries that it needs, so it is native code, and the
//! compiler has read it.

#![expect(unsafe_code, reason = "raw system calls are what this is about")]

use std::{
    ffi::{CString, c_int, c_long},
    fs, io, mem,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
    ptr::null,
    thread,
};

const KEPT: &str = "kept";
pub(super) const ESCAPED: &str = "ESCAPED";
pub(super) const DONE: &str = "all attempts are made";

fn say(attempt: &str, kept: bool, how: impl std::fmt::Display) {
    println!("{} {attempt}: {how}", if kept { KEPT } else { ESCAPED });
}

fn told(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not told"))
}

fn last() -> io::Error {
    io::Error::last_os_error()
}

/// The attacks, by name.
pub(super) const ATTACKS: &[(&str, fn())] = &[
    ("calls", calls),
    ("files", files),
    ("kernel_files", kernel_files),
    ("devices", devices),
    ("privileges", privileges),
    ("chroot", chroot),
    ("sockets", sockets),
    ("processes", processes),
];

/// These do not come to an end by themselves.
pub(super) const GLUTTONS: &[(&str, fn())] =
    &[("processes_without_end", processes_without_end), ("memory_without_end", memory_without_end)];

#[test]
#[ignore = "runs inside of the containers of the other tests"]
fn attack() {
    let name = told("ATTACK");
    let all = ATTACKS.iter().chain(GLUTTONS);
    let attack = all.clone().find(|(known, _)| *known == name).expect("it is one of them").1;
    attack();
    println!("{DONE}");
}

type Call = (&'static str, fn() -> c_long);

macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {
        // SAFETY: it is refused; if it is not, the test fails, in a process that ends right after.
        (stringify!($number), || unsafe { libc::syscall(libc::$number $(, $argument)*) })
    };
}

const ROOT: *const std::ffi::c_char = c"/".as_ptr();
static ZEROES: [u64; 2] = [0; 2];

const CALLS: &[Call] = &[
    call!(SYS_mount, c"none".as_ptr(), c"/tmp".as_ptr(), c"tmpfs".as_ptr(), 0, 0),
    call!(
        SYS_mount,
        c"none".as_ptr(),
        c"/sys".as_ptr(),
        c"none".as_ptr(),
        libc::MS_REMOUNT | libc::MS_BIND,
        0
    ),
    call!(SYS_umount2, c"/proc/sys".as_ptr(), libc::MNT_DETACH),
    call!(SYS_pivot_root, ROOT, ROOT),
    call!(SYS_fsopen, c"proc".as_ptr(), 0),
    call!(SYS_open_tree, libc::AT_FDCWD, ROOT, 1),
    call!(SYS_move_mount, 0, ROOT, 0, ROOT, 0),
    call!(SYS_mount_setattr, libc::AT_FDCWD, ROOT, 0, 0, 0),
    call!(SYS_unshare, libc::CLONE_NEWUSER),
    call!(SYS_unshare, libc::CLONE_NEWNS),
    call!(SYS_unshare, libc::CLONE_NEWNET),
    call!(SYS_unshare, libc::CLONE_NEWCGROUP),
    call!(SYS_setns, 0, 0),
    call!(SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0),
    call!(SYS_clone, libc::CLONE_NEWNS | libc::SIGCHLD, 0, 0, 0, 0),
    call!(SYS_clone3, null::<u8>(), 88),
    call!(SYS_keyctl, 0, 0, 0, 0, 0),
    call!(SYS_add_key, ROOT, ROOT, ROOT, 1, 0),
    call!(SYS_request_key, ROOT, ROOT, 0, 0),
    call!(SYS_bpf, 0, null::<u8>(), 0),
    call!(SYS_perf_event_open, null::<u8>(), 0, -1, -1, 0),
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
    call!(SYS_syslog, 3, 0, 0),
    call!(SYS_reboot, 0xfee1_dead_u32, 0x2812_1969, 0x0123_4567, 0),
    call!(SYS_swapon, ROOT, 0),
    call!(SYS_acct, 0),
    call!(SYS_quotactl, 0, 0, 0, 0),
    call!(SYS_fanotify_init, 0, 0),
    call!(SYS_lookup_dcookie, 0, 0, 0),
    call!(SYS_open_by_handle_at, 0, null::<u8>(), 0),
    call!(SYS_clock_settime, libc::CLOCK_REALTIME, &raw const ZEROES),
    call!(SYS_settimeofday, &raw const ZEROES, 0),
    call!(SYS_sethostname, ROOT, 1),
    call!(SYS_setdomainname, ROOT, 1),
    call!(SYS_kcmp, 1, 1, 0, 0, 0),
    call!(SYS_vmsplice, 0, 0, 0, 0),
];

fn calls() {
    for (name, call) in CALLS {
        let result = call();
        let error = last();
        let refused = result == -1 && matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS));
        say(name, refused, if result == -1 { error.to_string() } else { format!("answered {result}") });
    }
}

fn files() {
    let home = told("HOME_OF_HOST");
    for path in [
        home.clone(),
        format!("/proc/1/root{home}"),
        format!("/proc/self/root/../../..{home}"),
        format!("/proc/self/cwd/../../../../..{home}"),
        format!("/proc/{}/environ", told("HOST_PID")),
        format!("/proc/{}/root", told("HOST_PID")),
        "/host".to_owned(),
        "/run/systemd".to_owned(),
        "/var/lib/containers".to_owned(),
    ] {
        say(&format!("see {path}"), fs::symlink_metadata(&path).is_err(), "it is there or not");
    }
    let open: Vec<_> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| Some((entry.as_ref().ok()?.file_name(), fs::read_link(entry.ok()?.path()).ok()?)))
        .collect();
    // The list itself is one of them, and is closed by now.
    let leaked: Vec<_> = open
        .iter()
        .filter(|(_, to)| to.starts_with("/") && !to.starts_with("/dev/null") && !to.starts_with("/proc"))
        .collect();
    say("find an open file of the host", leaked.is_empty(), format!("{leaked:?}"));
    for number in 0..64 {
        let path = format!("/proc/self/fd/{number}/../..{home}");
        if fs::symlink_metadata(&path).is_ok() {
            say(&format!("go through {path}"), false, "there");
        }
    }
}

/// Beside the trees of version 1 there is an empty folder of the container's own.
fn is_control_group(path: &str) -> bool {
    let path = CString::new(path).unwrap();
    let mut about: libc::statfs = unsafe { mem::zeroed() };
    let known = unsafe { libc::statfs(path.as_ptr(), &raw mut about) } == 0;
    known && [0x0027_e0eb, 0x6367_7270].contains(&about.f_type)
}

fn kernel_files() {
    for (path, content) in [
        ("/proc/sys/kernel/core_pattern", "|/tmp/x"),
        ("/proc/sys/kernel/modprobe", "/tmp/x"),
        ("/proc/sys/kernel/hostname", "x"),
        ("/proc/sys/vm/overcommit_memory", "1"),
        ("/proc/sysrq-trigger", "h"),
        ("/proc/irq/default_smp_affinity", "1"),
        ("/proc/1/oom_score_adj", "-1000"),
        ("/sys/kernel/uevent_helper", "/tmp/x"),
        ("/sys/kernel/mm/transparent_hugepage/enabled", "never"),
        ("/sys/power/state", "mem"),
        ("/sys/module/kernel/parameters/panic", "1"),
    ] {
        let written = fs::write(path, content);
        say(&format!("write {path}"), written.is_err(), format!("{written:?}"));
    }
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/sys/firmware/dmi"] {
        let read = fs::read(path).unwrap_or_default();
        say(&format!("read {path}"), read.is_empty(), format!("{} bytes", read.len()));
    }
    let mut groups = vec!["/sys/fs/cgroup".to_owned()];
    let listed = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    groups.extend(listed.filter_map(|entry| entry.path().to_str().map(str::to_owned)));
    for group in groups.iter().filter(|group| is_control_group(group)) {
        let made = fs::create_dir(format!("{group}/escape"));
        say(&format!("make a group in {group}"), made.is_err(), format!("{made:?}"));
        for file in [
            "release_agent",
            "notify_on_release",
            "memory.limit_in_bytes",
            "memory.max",
            "pids.max",
            "devices.allow",
            "cgroup.procs",
        ] {
            let path = format!("{group}/{file}");
            if fs::metadata(&path).is_ok() {
                let written = fs::write(&path, "1");
                say(&format!("write {path}"), written.is_err(), format!("{written:?}"));
            }
        }
    }
}

/// Whether any disk, the kernel's memory or a driver can be opened through a node that one makes.
fn devices() {
    let own_disk = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let numbers = own_disk.lines().filter_map(|line| {
        let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    let disks = numbers.filter(|(major, _): &(u32, u32)| *major != 0).map(|(a, b)| (libc::S_IFBLK, a, b));
    let known = [
        (libc::S_IFCHR, 1, 1),    // mem
        (libc::S_IFCHR, 1, 4),    // port
        (libc::S_IFCHR, 1, 11),   // kmsg
        (libc::S_IFCHR, 10, 229), // fuse
        (libc::S_IFCHR, 10, 200), // tun
        (libc::S_IFCHR, 10, 232), // kvm
        (libc::S_IFCHR, 10, 237), // loop-control
        (libc::S_IFCHR, 4, 1),    // tty1
        (libc::S_IFBLK, 7, 0),
        (libc::S_IFBLK, 8, 0),
        (libc::S_IFBLK, 254, 0),
        (libc::S_IFBLK, 259, 0),
    ];
    for (kind, major, minor) in known.into_iter().chain(disks) {
        let _ = fs::remove_file("/tmp/node");
        let path = c"/tmp/node";
        let made = unsafe { libc::mknod(path.as_ptr(), kind | 0o666, libc::makedev(major, minor)) };
        let file = if made == 0 {
            unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK) }
        } else {
            -1
        };
        // ENXIO would say that there is no such device, but that one might have it.
        let refused = file == -1 && last().raw_os_error() == Some(libc::EPERM);
        say(&format!("open device {major}:{minor}"), refused, last());
    }
    for (name, ..) in NODES {
        let opened = fs::File::open(format!("/{name}"));
        let refused = opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        say(&format!("open {name} of its image"), refused, format!("{opened:?}"));
    }
}

/// What a hostile image may have: name, kind, numbers.
pub(super) const NODES: &[(&str, char, u64, u64)] = &[
    ("node-mem", 'c', 1, 1),
    ("node-kmsg", 'c', 1, 11),
    ("node-tun", 'c', 10, 200),
    ("node-fuse", 'c', 10, 229),
    ("node-disk", 'b', 254, 0),
];

fn privileges() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    // Docker's default capabilities without NET_RAW and MKNOD.
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        say(set, field(set) == "00000000a00405fb", field(set));
    }
    say("no new privileges", field("NoNewPrivs:") == "1", field("NoNewPrivs:"));
    say("filtered", field("Seccomp:") == "2", field("Seccomp:"));
    // A program of root's that anybody may run as root.
    fs::copy("/bin/busybox", "/tmp/busybox").unwrap();
    fs::set_permissions("/tmp/busybox", fs::Permissions::from_mode(0o6755)).unwrap();
    let mut id = Command::new("/tmp/busybox");
    use std::os::unix::process::CommandExt;
    let ran = id.args(["id", "-u"]).uid(1000).gid(1000).output().unwrap();
    say("become root by a set-uid program", ran.stdout == b"1000\n", String::from_utf8_lossy(&ran.stdout));
    let header = [0x2008_0522_u32, 0];
    let all = [u32::MAX; 6];
    let raised = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), all.as_ptr()) };
    say("raise capabilities", raised == -1, last());
}

/// The classic way out of a root that was only changed: keep a folder open, change the root below it, climb up.
fn chroot() {
    let home = told("HOME_OF_HOST");
    fs::create_dir("/tmp/below").unwrap();
    unsafe {
        let outside = libc::open(c"/".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY);
        libc::chroot(c"/tmp/below".as_ptr());
        libc::fchdir(outside);
        for _ in 0..64 {
            libc::chdir(c"..".as_ptr());
        }
        libc::chroot(c".".as_ptr());
    }
    say("climb out of a changed root", fs::symlink_metadata(home).is_err(), "");
    let files = fs::read_dir("/").unwrap().filter_map(|e| e.ok()?.file_name().into_string().ok());
    let files: Vec<_> = files.collect();
    say("see another root", files.iter().any(|name| name == "attacker"), format!("{files:?}"));
}

fn sockets() {
    const RAW: c_int = libc::SOCK_RAW;
    for (name, family, kind, protocol) in [
        ("raw", libc::AF_INET, RAW, libc::IPPROTO_ICMP),
        ("raw with IPPROTO_RAW", libc::AF_INET, RAW, libc::IPPROTO_RAW),
        ("raw of version 6", libc::AF_INET6, RAW, libc::IPPROTO_ICMPV6),
        ("packet", libc::AF_PACKET, RAW, 0x0300),
        ("packet datagram", libc::AF_PACKET, libc::SOCK_DGRAM, 0x0300),
        ("vsock", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        ("kernel crypto", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        ("bluetooth", libc::AF_BLUETOOTH, RAW, 0),
        ("xdp", libc::AF_XDP, RAW, 0),
        ("can", libc::AF_CAN, RAW, 1),
        ("key", libc::AF_KEY, RAW, 2),
        ("tipc", libc::AF_TIPC, libc::SOCK_SEQPACKET, 0),
    ] {
        let socket = unsafe { libc::socket(family, kind, protocol) };
        let refused = socket == -1 && matches!(last().raw_os_error(), Some(libc::EPERM | libc::ENOSYS));
        say(&format!("open a {name} socket"), refused, last());
    }
    // Taking down the host's network needs a capability that is not there.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let mut request: libc::ifreq = mem::zeroed();
        request.ifr_name[0] = b'l' as _;
        request.ifr_name[1] = b'o' as _;
        let done = libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request);
        say("take down a network interface", done == -1, last());
    }
    use std::os::{linux::net::SocketAddrExt, unix::net};
    let address = net::SocketAddr::from_abstract_name(told("ABSTRACT")).unwrap();
    let reached = net::UnixStream::connect_addr(&address);
    let scoped = told("SCOPED") == "true";
    say(
        "reach a socket of the host by an abstract name",
        reached.is_err() || !scoped,
        format!("{reached:?}"),
    );
    let reached = net::UnixDatagram::unbound().unwrap().connect_addr(&address);
    say("reach it by a datagram", reached.is_err(), format!("{reached:?}"));
    // Its own are its own business.
    let own = net::SocketAddr::from_abstract_name(format!("own-{}", std::process::id())).unwrap();
    let listener = net::UnixListener::bind_addr(&own).unwrap();
    say("use abstract names of its own", net::UnixStream::connect_addr(&own).is_ok(), "must work");
    drop(listener);
}

fn processes() {
    let all: Vec<u32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    say("see processes of others", all == [1], format!("{all:?}"));
    let host: c_int = told("HOST_PID").parse().unwrap();
    say("kill a process of the host", unsafe { libc::kill(host, libc::SIGKILL) } == -1, last());
    let limit = libc::rlimit { rlim_cur: 1 << 30, rlim_max: 1 << 30 };
    for (name, resource) in
        [("files", libc::RLIMIT_NOFILE), ("priority", libc::RLIMIT_NICE), ("realtime", libc::RLIMIT_RTPRIO)]
    {
        let raised = unsafe { libc::setrlimit(resource, &raw const limit) };
        say(&format!("raise the limit of {name}"), raised == -1, last());
    }
    let nice = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    say("raise its priority", nice == -1, last());
    let open = (0..2_000_000).map_while(|_| fs::File::open("/dev/null").ok().map(mem::forget)).count();
    say("open two million files", open < 2_000_000, format!("{open}: {}", last()));
    // A process that leads a session of its own goes with the container all the same; the test looks for it outside.
    let name = CString::new(told("DAEMON")).unwrap();
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            if libc::fork() == 0 {
                libc::signal(libc::SIGTERM, libc::SIG_IGN);
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
                for file in 0..64 {
                    libc::close(file);
                }
                libc::prctl(libc::PR_SET_NAME, name.as_ptr());
                loop {
                    libc::pause();
                }
            }
            libc::_exit(0);
        }
    }
    println!("{DONE}");
    unsafe { libc::_exit(0) }
}

fn processes_without_end() {
    let mut count = 0;
    loop {
        match unsafe { libc::fork() } {
            0 => loop {
                unsafe { libc::pause() };
            },
            -1 => break,
            _ => count += 1,
        }
    }
    say("fork without an end", count < 8192, format!("{count}: {}", last()));
    // Stays, with all of them, until it is ended from outside.
    loop {
        thread::park();
    }
}

fn memory_without_end() {
    println!("{DONE}");
    // Many small ones, so that no single process is the one to be ended.
    for _ in 0..64 {
        if unsafe { libc::fork() } == 0 {
            let mut all = Vec::new();
            loop {
                all.push(vec![1_u8; 1 << 20]);
            }
        }
    }
    unsafe {
        while libc::wait(std::ptr::null_mut()) > 0 {}
        libc::_exit(9)
    }
}

/// Makes links at places where a runtime mounts, which lead to the host if they are followed there.
pub(super) fn trap(layer: &std::path::Path, victim: &std::path::Path) {
    for name in ["etc/resolv.conf", "etc/hosts"] {
        let path = layer.join(name);
        let _ = fs::remove_file(&path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let up = format!("../../../../../../../../../..{}", victim.display());
        symlink(up, path).unwrap();
    }
    let up = format!("../../../../../../../../../..{}", victim.parent().unwrap().display());
    fs::create_dir_all(layer.join("run")).unwrap();
    symlink(up, layer.join("run/tandem")).unwrap();
}
