//! How much a worker that was taken over can use up: threads, files, memory, time of the processor.

#![expect(unsafe_code, reason = "raw system calls are what this is about")]

use std::{fs, io, net::TcpListener, ptr::null_mut, thread, time::Duration};

use super::attack::{Attack, finish, say};

pub(super) const TESTS: &[Attack] = &[
    Attack { name: "escape::threads_are_bounded", run: threads, lines: 1 },
    Attack { name: "escape::open_files_and_ports_are_bounded", run: open_files, lines: 2 },
    Attack { name: "escape::files_without_content_are_bounded", run: empty_files, lines: 1 },
];

/// These end by the memory's limit, and report nothing.
pub(super) const GLUTTONS: &[(&str, extern "C" fn() -> !)] = &[
    ("escape::memory_taken_at_once_is_bounded", at_once),
    ("escape::memory_taken_slowly_is_bounded", slowly),
    ("escape::memory_taken_by_files_is_bounded", by_files),
    ("escape::memory_taken_by_nameless_files_is_bounded", by_nameless_files),
];

extern "C" fn threads() -> ! {
    let mut count = 0;
    while count < 1000 {
        let begun = thread::Builder::new().stack_size(16 << 10).spawn(|| {
            loop {
                thread::park();
            }
        });
        if begun.is_err() {
            break;
        }
        count += 1;
    }
    say("start a thousand threads", count < 128, &format!("{count}: {}", io::Error::last_os_error()));
    finish()
}

extern "C" fn open_files() -> ! {
    let ports: Vec<_> = (0..2000).map_while(|_| TcpListener::bind("127.0.0.1:0").ok()).collect();
    say("listen on two thousand ports", ports.len() < 1024, &format!("{}", ports.len()));
    drop(ports);
    let files: Vec<_> = (0..2000).map_while(|_| fs::File::open("/dev/null").ok()).collect();
    say("open two thousand files", files.len() < 1024, &format!("{}", files.len()));
    finish()
}

extern "C" fn empty_files() -> ! {
    let made = (0..100_000).take_while(|n| fs::File::create(format!("/tmp/{n}")).is_ok()).count();
    say("make a hundred thousand files", made < 65_536, &format!("{made}: {}", io::Error::last_os_error()));
    finish()
}

fn take(bytes: usize) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    let taken = unsafe { libc::mmap(null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if taken != libc::MAP_FAILED {
        unsafe { taken.cast::<u8>().write_bytes(1, bytes) };
    }
}

extern "C" fn at_once() -> ! {
    take(1 << 30);
    finish()
}

extern "C" fn slowly() -> ! {
    for _ in 0..4096 {
        take(256 << 10);
        thread::sleep(Duration::from_micros(200));
    }
    finish()
}

extern "C" fn by_files() -> ! {
    let content = vec![1; 1 << 20];
    for n in 0..4096 {
        let _ = fs::write(format!("/tmp/{n}"), &content);
    }
    finish()
}

extern "C" fn by_nameless_files() -> ! {
    use std::{io::Write, os::fd::FromRawFd};
    let content = vec![1; 1 << 20];
    for _ in 0..64 {
        let file = unsafe { libc::memfd_create(c"x".as_ptr(), 0) };
        let mut file = unsafe { fs::File::from_raw_fd(file) };
        for _ in 0..64 {
            let _ = file.write_all(&content);
        }
        std::mem::forget(file);
    }
    finish()
}

/// Computes on more threads than any machine has processors, until it is ended.
pub(super) extern "C" fn busy_for_ever() -> ! {
    for _ in 0..64 {
        let _ = thread::Builder::new().stack_size(16 << 10).spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    loop {
        std::hint::spin_loop();
    }
}
