//! A terminal: what a person sees of a command, and the keys they press.
//!
//! The command runs on a pseudo-terminal of its own, which is its controlling one, so that a Ctrl-C reaches it as it
//! reaches it in a window. What it prints goes through the `vt100` crate, which is as a screen would show it.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard,
        mpsc::{self, Receiver},
    },
    thread,
    time::Instant,
};

use nix::pty::{Winsize, openpty};

use super::PATIENCE;

pub(crate) struct Screen {
    keyboard: File,
    child: Child,
    shown: Arc<Mutex<vt100::Parser>>,
    /// Told of at every piece of output; closed at its end.
    changes: Receiver<()>,
}

impl Screen {
    /// Runs a command on a terminal of this size.
    pub(crate) fn run(command: &Command, columns: u16, rows: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let end = |writer: &std::os::fd::OwnedFd| Stdio::from(writer.try_clone().unwrap());
        // `setsid --ctty` makes the terminal the command's own, without a line of unsafe code.
        let mut on_terminal = Command::new("setsid");
        on_terminal.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => on_terminal.env(name, value),
                None => on_terminal.env_remove(name),
            };
        }
        on_terminal.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        on_terminal.current_dir(command.get_current_dir().unwrap());
        on_terminal.stdin(end(&pty.slave)).stdout(end(&pty.slave)).stderr(Stdio::from(pty.slave));
        let child = on_terminal.spawn().unwrap();
        // It holds the terminal's other end; while it does, the output has no end.
        drop(on_terminal);
        let keyboard = File::from(pty.master);
        let mut output = keyboard.try_clone().unwrap();
        let shown = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 10_000)));
        let screen = shown.clone();
        let (tell, changes) = mpsc::channel();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            // A terminal whose other end is closed answers with an error.
            while let Ok(count @ 1..) = output.read(&mut piece) {
                screen.lock().unwrap().process(&piece[..count]);
                let _ = tell.send(());
            }
        });
        Self { keyboard, child, shown, changes }
    }

    fn shown(&self) -> MutexGuard<'_, vt100::Parser> {
        self.shown.lock().unwrap()
    }

    /// The lines of the screen, without empty ones at its end.
    pub(crate) fn lines(&self) -> Vec<String> {
        let shown = self.shown();
        let columns = shown.screen().size().1;
        let mut lines: Vec<String> = shown.screen().rows(0, columns).collect();
        while lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
        lines
    }

    /// The first line that was longer than the screen is wide, and goes on in the next one.
    pub(crate) fn cut_line(&self) -> Option<String> {
        let lines = self.lines();
        let shown = self.shown();
        let cut = |row: &usize| u16::try_from(*row).is_ok_and(|row| shown.screen().row_wrapped(row));
        (0..lines.len()).find(cut).map(|row| lines[row].clone())
    }

    /// Whether this text is shown in a colour.
    #[track_caller]
    pub(crate) fn colors(&self, text: &str) -> bool {
        let lines = self.lines();
        let found = lines.iter().enumerate().find_map(|(row, line)| Some((row, line.split_once(text)?.0)));
        let (row, before) = found.unwrap_or_else(|| panic!("`{text}` is not shown:\n{}", lines.join("\n")));
        let (row, column) = (u16::try_from(row).unwrap(), u16::try_from(before.chars().count()).unwrap());
        self.shown().screen().cell(row, column).unwrap().fgcolor() != vt100::Color::Default
    }

    /// Waits until the screen shows this.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.lines().iter().any(|line| line.contains(text)) {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.changes.recv_timeout(left).is_err()
                && !self.lines().iter().any(|line| line.contains(text))
            {
                panic!("`{text}` did not appear:\n{}", self.lines().join("\n"));
            }
        }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// The key that interrupts.
    pub(crate) fn press_ctrl_c(&mut self) {
        self.press("\x03");
    }

    /// Changes the window's size, as a person does with a mouse.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.keyboard, size).unwrap();
        self.shown().screen_mut().set_size(rows, columns);
    }

    /// Waits for the end of the command, and of its output.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.changes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    panic!("the command has not ended:\n{}", self.lines().join("\n"))
                }
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
