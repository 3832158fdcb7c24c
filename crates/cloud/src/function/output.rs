//! What a worker prints, as lines of its function's log.
//!
//! Before an invocation ends, the pipes are read until they are empty, so its lines carry its id and precede its end.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read},
    mem,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use tandem_model::Urn;
use tokio::net::unix::pipe::Receiver;

use crate::log::{Line, Sink, Stream};

/// A longer line is cut into several.
const LONGEST_LINE: usize = 256 << 10;
/// How much of an invocation's end is kept, in bytes.
const TAIL: usize = 4 << 10;
/// How much is read before others get their turn. More than a pipe holds.
const MOST_AT_ONCE: usize = 1 << 20;

/// The lines of one worker.
pub(super) struct Output {
    sink: Arc<dyn Sink>,
    state: Mutex<State>,
}

struct State {
    pipes: Vec<Pipe>,
    function: Option<Urn>,
    /// The requests in flight. A line belongs to the only one; among several it cannot be told.
    requests: Vec<String>,
    tail: VecDeque<String>,
    tail_bytes: usize,
}

struct Pipe {
    file: Arc<File>,
    stream: Stream,
    partial: Vec<u8>,
    open: bool,
}

impl Output {
    /// Takes the reading ends, which must not block.
    pub(super) fn new(sink: Arc<dyn Sink>, pipes: [(OwnedFd, Stream); 2]) -> Self {
        let pipes = pipes
            .into_iter()
            .map(|(file, stream)| Pipe {
                file: Arc::new(file.into()),
                stream,
                partial: Vec::new(),
                open: true,
            })
            .collect();
        let state =
            State { pipes, function: None, requests: Vec::new(), tail: VecDeque::new(), tail_bytes: 0 };
        Self { sink, state: Mutex::new(state) }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads whenever there is something, until both pipes are closed.
    ///
    /// # Errors
    /// If a pipe cannot be waited for.
    pub(super) async fn follow(&self) -> io::Result<()> {
        let files = self.with(|state| {
            state
                .pipes
                .iter()
                .map(|pipe| Ok(OwnedFd::from(pipe.file.try_clone()?)))
                .collect::<io::Result<Vec<_>>>()
        })?;
        let [out, err] =
            <[OwnedFd; 2]>::try_from(files).map_err(|_| io::Error::other("a worker has two pipes"))?;
        let pipes = [Receiver::from_owned_fd(out)?, Receiver::from_owned_fd(err)?];
        loop {
            let open = self.with(|state| [state.pipes[0].open, state.pipes[1].open]);
            let ready = tokio::select! {
                ready = pipes[0].readable(), if open[0] => ready.map(|()| 0),
                ready = pipes[1].readable(), if open[1] => ready.map(|()| 1),
                else => return Ok(()),
            }?;
            // Read through tokio, which takes note when the pipe is empty and waits for more.
            while self.with(|state| state.read(ready, |buffer| pipes[ready].try_read(buffer), &*self.sink)) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Reads what is there now, up to a bound, without waiting for tokio to notice it.
    pub(super) fn drain(&self) {
        self.with(|state| {
            for index in 0..state.pipes.len() {
                let file = state.pipes[index].file.clone();
                state.read(index, |buffer| (&*file).read(buffer), &*self.sink);
            }
        });
    }

    /// Names the function whose log the lines go to.
    pub(super) fn assign(&self, function: Urn) {
        self.with(|state| state.function = Some(function));
    }

    /// Lines from here on belong to this request.
    pub(super) fn begin(&self, request: &str) {
        self.with(|state| {
            if state.requests.is_empty() {
                state.forget_tail();
            }
            state.requests.push(request.to_owned());
        });
    }

    /// Ends the request, after what the cloud says about it, and answers the last lines.
    pub(super) fn end(&self, request: &str, said: &[String]) -> Vec<String> {
        self.with(|state| {
            for index in 0..state.pipes.len() {
                let rest = mem::take(&mut state.pipes[index].partial);
                if !rest.is_empty() {
                    state.line(state.pipes[index].stream, &rest, &*self.sink);
                }
            }
            for line in said {
                state.line(Stream::System, line.as_bytes(), &*self.sink);
            }
            state.requests.retain(|r| r != request);
            state.tail.iter().cloned().collect()
        })
    }

    /// Says something outside of any request.
    pub(super) fn say(&self, text: &str) {
        self.with(|state| state.line(Stream::System, text.as_bytes(), &*self.sink));
    }
}

impl State {
    /// Reads until there is nothing or it is others' turn, which is when it answers true.
    fn read(
        &mut self,
        index: usize,
        mut from: impl FnMut(&mut [u8]) -> io::Result<usize>,
        sink: &dyn Sink,
    ) -> bool {
        let mut buffer = [0; 16 << 10];
        let mut total = 0;
        while self.pipes[index].open {
            match from(&mut buffer) {
                Ok(0) => self.pipes[index].open = false,
                Ok(length) => {
                    self.take(index, &buffer[..length], sink);
                    total += length;
                    if total >= MOST_AT_ONCE {
                        return true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.pipes[index].open = false,
            }
        }
        false
    }

    fn take(&mut self, index: usize, mut bytes: &[u8], sink: &dyn Sink) {
        let stream = self.pipes[index].stream;
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = &rest[1..];
            if self.pipes[index].partial.is_empty() {
                self.line(stream, line, sink);
            } else {
                let mut whole = mem::take(&mut self.pipes[index].partial);
                whole.extend_from_slice(line);
                self.line(stream, &whole, sink);
            }
        }
        self.pipes[index].partial.extend_from_slice(bytes);
        while self.pipes[index].partial.len() >= LONGEST_LINE {
            let rest = self.pipes[index].partial.split_off(LONGEST_LINE);
            let line = mem::replace(&mut self.pipes[index].partial, rest);
            self.piece(stream, &line, sink);
        }
    }

    fn line(&mut self, stream: Stream, bytes: &[u8], sink: &dyn Sink) {
        if bytes.is_empty() {
            return self.piece(stream, bytes, sink);
        }
        for piece in bytes.chunks(LONGEST_LINE) {
            self.piece(stream, piece, sink);
        }
    }

    fn piece(&mut self, stream: Stream, bytes: &[u8], sink: &dyn Sink) {
        let text = String::from_utf8_lossy(bytes).trim_end_matches('\r').to_owned();
        self.tail_bytes += text.len() + 1;
        self.tail.push_back(text.clone());
        while self.tail_bytes > TAIL && self.tail.len() > 1 {
            self.tail_bytes -= self.tail.pop_front().map_or(0, |line| line.len() + 1);
        }
        let id = match &self.requests[..] {
            [only] => only.clone(),
            _ => String::new(),
        };
        match &self.function {
            Some(function) => {
                sink.write(Line { time: Timestamp::now(), resource: function.clone(), stream, id, text })
            }
            // A spare has no log yet. It says something only when it cannot go on.
            None => tracing::warn!(%text, "a spare worker says"),
        }
    }

    fn forget_tail(&mut self) {
        self.tail.clear();
        self.tail_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Write};

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Line>>);
    impl Sink for Kept {
        fn write(&self, line: Line) {
            self.0.lock().unwrap().push(line);
        }
    }

    fn output() -> (Arc<Kept>, Output, PipeWriter, PipeWriter) {
        let sink = Arc::new(Kept::default());
        let [(out, out_writer), (err, err_writer)] = [(); 2].map(|()| {
            let (reader, writer) = io::pipe().unwrap();
            fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
            (OwnedFd::from(reader), writer)
        });
        let output = Output::new(sink.clone(), [(out, Stream::Stdout), (err, Stream::Stderr)]);
        output.assign("urn:tandem:shop:dev:function:f".parse().unwrap());
        (sink, output, out_writer, err_writer)
    }

    #[test]
    fn lines_carry_the_request_in_flight_and_the_last_needs_no_newline() {
        let (sink, output, mut out, mut err) = output();
        output.begin("r1");
        out.write_all(b"one\ntw").unwrap();
        output.drain();
        out.write_all(b"o\r\nthree").unwrap();
        err.write_all(b"oops\n").unwrap();
        output.drain();
        assert_eq!(
            output.end("r1", &["timed out after 3 s".to_owned()]).last().unwrap(),
            "timed out after 3 s"
        );
        out.write_all(b"later\n").unwrap();
        output.drain();
        let lines = sink.0.lock().unwrap();
        let shown: Vec<_> = lines.iter().map(|l| (l.text.as_str(), l.id.as_str(), l.stream)).collect();
        use Stream::{Stderr, Stdout, System};
        assert_eq!(
            shown,
            [
                ("one", "r1", Stdout),
                ("two", "r1", Stdout),
                ("oops", "r1", Stderr),
                ("three", "r1", Stdout),
                ("timed out after 3 s", "r1", System),
                ("later", "", Stdout),
            ]
        );
    }

    #[test]
    fn a_line_without_end_is_cut_and_the_tail_is_bounded() {
        let (sink, output, mut out, _err) = output();
        output.begin("r1");
        for _ in 0..LONGEST_LINE / 1024 {
            out.write_all(&[b'x'; 1024]).unwrap();
            output.drain();
        }
        out.write_all(b"yz\nend\n").unwrap();
        output.drain();
        let lines = sink.0.lock().unwrap();
        assert_eq!(lines.iter().map(|l| l.text.len()).collect::<Vec<_>>(), [LONGEST_LINE, 2, 3]);
        drop(lines);
        assert_eq!(output.end("r1", &[]), ["yz", "end"]);
    }
}
