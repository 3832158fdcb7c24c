//! What a worker that was taken over can say to the cloud on the sockets that it has.

#![expect(unsafe_code, reason = "the sockets belong to what was interrupted")]

use super::{
    attack::{finish, say},
    reach::{sockets_to_the_cloud, told},
};

fn write(file: i32, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let written = unsafe { libc::send(file, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
        match usize::try_from(written) {
            Ok(written) => bytes = &bytes[written..],
            Err(_) if std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN) => {
                std::thread::yield_now()
            }
            Err(_) => return,
        }
    }
}

/// What the cloud answers on this socket.
fn answer(socket: i32) -> String {
    let mut ready = libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
    unsafe { libc::poll(&raw mut ready, 1, 10_000) };
    let mut buffer = [0_u8; 4096];
    let read = unsafe { libc::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    String::from_utf8_lossy(&buffer[..usize::try_from(read).unwrap_or(0)]).into_owned()
}

/// Answers a request that another function is working on.
pub(super) extern "C" fn answers_for_another() -> ! {
    let request = told("request");
    let (runtime, _) = sockets_to_the_cloud();
    let body = "\"forged\"";
    for verb in ["response", "error"] {
        let text = format!(
            "POST /2018-06-01/runtime/invocation/{request}/{verb} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        write(runtime, text.as_bytes());
        let answer = answer(runtime);
        let status = answer.lines().next().unwrap_or_default();
        say(&format!("give another's {verb}"), status.starts_with("HTTP/1.1 4"), status);
    }
    finish()
}

/// Calls in the name of another function's request.
pub(super) extern "C" fn calls_for_another() -> ! {
    let call = format!(r#"{{"id":9,"request":"{}","method":"stolen","args":null}}"#, told("request"));
    let (_, channel) = sockets_to_the_cloud();
    write(channel, &u32::try_from(call.len()).unwrap().to_le_bytes());
    write(channel, call.as_bytes());
    say("call in another's name", !answer(channel).is_empty(), "answered, as whom the test looks up");
    finish()
}

/// Announces more than it sends, sends what is no message, and sends without an end.
pub(super) extern "C" fn talks_nonsense() -> ! {
    for socket in <[i32; 2]>::from(sockets_to_the_cloud()) {
        write(socket, &u32::MAX.to_le_bytes());
        for _ in 0..4096 {
            write(socket, &[0xff; 4096]);
        }
    }
    say("talk nonsense", true, "sent");
    finish()
}

/// Asks for answer after answer and reads none of them, until it is ended.
pub(super) extern "C" fn asks_and_never_listens() -> ! {
    let argument = "x".repeat(1 << 20);
    let call = format!(r#"{{"id":1,"request":"{}","method":"echo","args":"{argument}"}}"#, told("own"));
    let mut frame = u32::try_from(call.len()).unwrap().to_le_bytes().to_vec();
    frame.extend_from_slice(call.as_bytes());
    let (_, channel) = sockets_to_the_cloud();
    loop {
        write(channel, &frame);
    }
}
