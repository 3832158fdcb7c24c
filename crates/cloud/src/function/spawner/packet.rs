//! What the cloud and its spawner say to each other: one JSON value a packet, with open files beside it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// From the cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Ask {
    /// Comes first. The cgroup that will hold the workers' seats.
    Prepare { cgroup: String },
    /// With the worker's ends of its sockets and pipes, in the order of [`crate::function::worker::Ends`].
    Spawn { worker: u64 },
    /// Ends it if it still lives.
    Kill { worker: u64 },
}

/// From the spawner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Tell {
    /// `unlimited` says why memory limits cannot be enforced here, if they cannot.
    Ready {
        unlimited: Option<String>,
    },
    /// Nothing can be started on this machine.
    Unfit {
        reason: String,
    },
    Spawned {
        worker: u64,
        pid: i32,
    },
    NotSpawned {
        worker: u64,
        reason: String,
    },
    /// The wait status, as `waitpid` gives it.
    Exited {
        worker: u64,
        status: i32,
        out_of_memory: bool,
    },
}

/// More than any packet has.
const MOST_BYTES: usize = 4096;
const MOST_FILES: usize = 8;

/// Sends one packet whole, or nothing.
///
/// # Errors
/// `WouldBlock` if the socket is full and does not block; `BrokenPipe` if the other side is gone.
pub(super) fn send(socket: BorrowedFd<'_>, packet: &impl Serialize, files: &[RawFd]) -> io::Result<()> {
    let bytes = serde_json::to_vec(packet)?;
    let rights = [ControlMessage::ScmRights(files)];
    let rights = if files.is_empty() { &[][..] } else { &rights };
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], rights, MsgFlags::MSG_NOSIGNAL, None)
        {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives one packet; none if the other side is gone.
///
/// # Errors
/// `WouldBlock` if there is none and the socket does not block.
pub(super) fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = [0; MOST_BYTES];
    let mut control = cmsg_space!([RawFd; MOST_FILES]);
    let (length, files) = loop {
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        match recvmsg::<()>(socket.as_raw_fd(), &mut buffers, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)
        {
            Ok(message) => {
                let mut files = Vec::new();
                for control in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(raw) = control {
                        files.extend(raw.into_iter().map(own));
                    }
                }
                break (message.bytes, files);
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    if length == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&bytes[..length])?, files)))
}

#[expect(
    unsafe_code,
    reason = "the kernel has just put this file into our table, and nobody else knows its number"
)]
fn own(file: RawFd) -> OwnedFd {
    // SAFETY: received by SCM_RIGHTS, so it is open and ours alone.
    unsafe { OwnedFd::from_raw_fd(file) }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Write},
        os::fd::AsFd,
    };

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    #[test]
    fn files_arrive_with_the_packet_they_were_sent_with() {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        send(a.as_fd(), &Ask::Kill { worker: 1 }, &[]).unwrap();
        send(a.as_fd(), &Ask::Spawn { worker: 2 }, &[writer.as_raw_fd()]).unwrap();
        drop((a, writer));
        let (first, none) = receive::<Ask>(b.as_fd()).unwrap().unwrap();
        assert_eq!((first, none.len()), (Ask::Kill { worker: 1 }, 0));
        let (second, mut files) = receive::<Ask>(b.as_fd()).unwrap().unwrap();
        assert_eq!((second, files.len()), (Ask::Spawn { worker: 2 }, 1));
        File::from(files.remove(0)).write_all(b"through the pipe").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the pipe");
        assert!(receive::<Ask>(b.as_fd()).unwrap().is_none());
    }
}
