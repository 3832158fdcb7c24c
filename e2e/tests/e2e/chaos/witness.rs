//! Where handlers say that they have been called: outside of the cloud, so that it cannot forget.
//!
//! A function's log is no proof: what the cloud had not yet written when it was killed is not in it, and need not be.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// What a handler said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// `begin`, `run` or `end`.
    pub(super) what: String,
    /// The request's.
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) etag: String,
    /// The run that was started.
    pub(super) run: String,
}

/// Hears all that handlers say, each by a request of its own: `GET /what~id~kind~name~etag~run`.
pub(super) struct Witness {
    pub(super) port: u16,
    heard: Arc<Mutex<Vec<Said>>>,
}

impl Witness {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::<Mutex<Vec<Said>>>::default();
        let hearing = heard.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A worker that was killed on its way here has said nothing.
                if let Some(said) = hear(&stream) {
                    hearing.lock().unwrap().push(said);
                    let _ = (&stream)
                        .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                }
            }
        });
        Self { port, heard }
    }

    /// What was said since the last time.
    pub(super) fn take(&self) -> Vec<Said> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

fn hear(stream: &TcpStream) -> Option<Said> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next()?.ok()?;
    // To the end of the head, so that nothing unread cuts the answer off.
    while !lines.next()?.ok()?.is_empty() {}
    let mut words = request.split(' ').nth(1)?.trim_start_matches('/').split('~').map(str::to_owned);
    let mut word = || words.next();
    Some(Said { what: word()?, id: word()?, kind: word()?, name: word()?, etag: word()?, run: word()? })
}
