//! The program on a terminal of a test's own, which is read and typed on.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, PtySize, native_pty_system};

use crate::support;

/// Longest wait for what must appear.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A command on a terminal; ended with the value.
pub struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    keyboard: Box<dyn std::io::Write + Send>,
    screen: Receiver<Vec<u8>>,
    /// All that came, and the text in it: what comes in one piece may end within a character or a control sequence.
    bytes: Vec<u8>,
    text: String,
    /// Where the search for the next question begins, in the text without control sequences.
    seen: usize,
}

impl Terminal {
    /// One of the emulator's users, in the environment of the test with this besides.
    pub fn at(home: &Path, directory: &Path, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = CommandBuilder::new(support::BIN);
        command.env("AGENTCORE_HOME", home);
        environment.iter().for_each(|(name, value)| command.env(name, value));
        command.env("TERM", "xterm");
        command.env("NO_COLOR", "1");
        Self::start(command, directory, args)
    }

    /// One whose environment has nothing but the terminal's name.
    pub fn bare(directory: &Path, args: &[&str]) -> Self {
        let mut command = CommandBuilder::new(support::BIN);
        command.env_clear();
        command.env("TERM", "xterm-256color");
        Self::start(command, directory, args)
    }

    fn start(mut command: CommandBuilder, directory: &Path, args: &[&str]) -> Self {
        let size = PtySize { rows: 40, cols: 120, ..PtySize::default() };
        let pair = native_pty_system().openpty(size).unwrap();
        command.args(args);
        command.cwd(directory);
        let child = pair.slave.spawn_command(command).unwrap();
        let (mut reader, keyboard) =
            (pair.master.try_clone_reader().unwrap(), pair.master.take_writer().unwrap());
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            // The other side must be open as long as somebody reads.
            let _master = pair.master;
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keyboard, screen, bytes: Vec::new(), text: String::new(), seen: 0 }
    }

    /// Reads until the text is there, control sequences and all.
    #[track_caller]
    pub fn until(&mut self, text: &str) {
        self.read_until(text, |terminal| terminal.text.contains(text).then_some(()));
    }

    /// Reads until these words come behind those of the expectation before.
    #[track_caller]
    pub fn expect(&mut self, words: &str) {
        self.seen = self.read_until(words, |terminal| {
            let text = console::strip_ansi_codes(&terminal.text);
            text[terminal.seen..].find(words).map(|at| terminal.seen + at + words.len())
        });
    }

    #[track_caller]
    fn read_until<T>(&mut self, words: &str, found: impl Fn(&Self) -> Option<T>) -> T {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            match self.screen.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(piece) => self.show(&piece),
                Err(e) => panic!("no `{words}` ({e}) in: {:?}", self.text),
            }
        }
    }

    fn show(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        self.text = String::from_utf8_lossy(&self.bytes).into_owned();
    }

    pub fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Waits for the question, then types the answer.
    #[track_caller]
    pub fn answer(&mut self, question: &str, answer: &str) {
        self.expect(question);
        self.press(answer.as_bytes());
    }

    /// The exit code, and all that was shown but the key for Ctrl-C: the kernel echoes it after the signal, so it may stand
    /// before or behind what the program says to it.
    #[track_caller]
    pub fn end(mut self) -> (u32, String) {
        let end = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "it does not end: {:?}", self.text);
            while let Ok(piece) = self.screen.recv_timeout(Duration::from_millis(20)) {
                self.show(&piece);
            }
        };
        // The terminal ends with its last user, after everything that was written to it.
        while let Ok(piece) = self.screen.recv_timeout(LIMIT) {
            self.show(&piece);
        }
        (status.exit_code(), self.text.replace("^C", ""))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
