//! A gate that containers stop at: the test learns that one has come, and decides when it goes on.
//!
//! A container runs `wget -q -O - http://127.0.0.1:PORT/NAME`; containers share the host's network. Every visit is
//! counted, so that a container started twice cannot go unseen.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Instant,
};

use super::PATIENCE;

pub(crate) struct Gate {
    port: u16,
    visits: mpsc::Receiver<Visit>,
    waiting: VecDeque<Visit>,
    /// The names of all who came, in order.
    came: Vec<String>,
}

/// A container that stands at the gate.
pub(crate) struct Visit {
    name: String,
    stream: TcpStream,
}

impl Gate {
    /// Everyone stops.
    pub(crate) fn shut() -> Self {
        Self::new(false)
    }

    /// Nobody stops; everyone is counted.
    pub(crate) fn open() -> Self {
        Self::new(true)
    }

    fn new(open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (send, visits) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // `GET /NAME HTTP/1.1`
                let mut request = String::new();
                if BufReader::new(&stream).read_line(&mut request).is_err() {
                    continue;
                }
                let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
                let visit = Visit { name, stream };
                if open {
                    visit.answer();
                }
                if send.send(visit).is_err() {
                    return;
                }
            }
        });
        Self { port, visits, waiting: VecDeque::new(), came: Vec::new() }
    }

    /// The shell command by which a container stops at the gate.
    pub(crate) fn command(&self, name: &str) -> String {
        format!("wget -q -O - http://127.0.0.1:{}/{name}", self.port)
    }

    /// Waits until a container of this name stands at the gate.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, name: &str) -> Visit {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.waiting.iter().position(|visit| visit.name == name) {
                return self.waiting.remove(at).unwrap();
            }
            match self.visits.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(visit) => self.admit(visit),
                Err(_) => panic!("`{name}` did not come to the gate; {:?} did", self.came),
            }
        }
    }

    /// How many of this name have come.
    pub(crate) fn count(&mut self, name: &str) -> usize {
        while let Ok(visit) = self.visits.try_recv() {
            self.admit(visit);
        }
        self.came.iter().filter(|other| *other == name).count()
    }

    fn admit(&mut self, visit: Visit) {
        self.came.push(visit.name.clone());
        self.waiting.push_back(visit);
    }
}

impl Visit {
    /// Lets it go on.
    pub(crate) fn release(self) {
        self.answer();
    }

    fn answer(&self) {
        // It may have been ended meanwhile: a test that kills containers does not care.
        let _ = (&self.stream).write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
}
