//! Interactive shells: a process on a terminal in a session, which outlives whoever looks at it.
//!
//! A task of its own runs each shell. Somebody who looks at it is attached; without anybody its output is kept,
//! up to a bound, for the next one. Attaching to a shell that somebody has takes it from him. An attached shell
//! keeps its session active, a detached one does not.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::sessions::{Cut, Lease};
use crate::engine::{EngineError, ProcessSpec, Terminal};
use crate::model::{SessionKey, ShellId, limits};

// How a shell ends and how large its terminal is are the engine's values; the server needs no more of the engine.
pub use crate::engine::{ProcessExit, TerminalSize};

/// Shells tried, the service's own for commands first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];
/// What the shell is told of the terminal. [ours: what terminal emulators of the day say of themselves]
const TERM: &str = "xterm-256color";
/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;
/// Pieces that wait for who looks, and for the shell. [ours]
const WAITING: usize = 16;
/// How long what a shell has written is still taken after its end. [ours]
const DRAIN: Duration = Duration::from_millis(100);
/// Longest wait until who looks takes a shell's last words. [ours]
const REST_LIMIT: Duration = Duration::from_secs(5);
/// Size of a terminal of which nobody has said one.
const SIZE: TerminalSize = TerminalSize { width: 80, height: 24 };

/// The shells of all sessions.
#[derive(Default)]
pub struct Shells {
    known: Arc<Mutex<HashMap<(SessionKey, ShellId), Known>>>,
}

struct Known {
    /// Tells the entry of this shell from that of a later one of the same name.
    number: u64,
    door: mpsc::Sender<Visitor>,
}

/// Somebody who comes to look.
struct Visitor {
    output: mpsc::Sender<Bytes>,
    input: mpsc::Receiver<Input>,
    end: oneshot::Sender<ShellEnd>,
    /// Held while he looks, so that the session is active.
    lease: Lease,
}

/// What somebody who looks does.
#[derive(Debug)]
pub enum Input {
    /// Types.
    Bytes(Bytes),
    /// Has a window of another size.
    Resize(TerminalSize),
    /// Wants the shell to end.
    Close,
}

/// Why there is nothing more to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShellEnd {
    /// The shell has ended.
    Exit(ProcessExit),
    /// Somebody else looks at it now.
    Taken,
    /// It has existed for as long as a shell may.
    Expired,
    /// Its session is being ended.
    Session,
}

/// A shell as one sees it who looks at it. Dropping it leaves the shell running.
pub struct Attached {
    /// True when the shell was there before.
    pub reconnected: bool,
    /// What it shows.
    pub output: mpsc::Receiver<Bytes>,
    /// What is typed.
    pub input: mpsc::Sender<Input>,
    /// Its end.
    pub end: oneshot::Receiver<ShellEnd>,
}

/// Why there is no shell.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The runtime has as many as it may.
    #[error("the runtime has {} shells, the most it may have", limits::MAX_SHELLS)]
    TooMany,
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Shells {
    /// Attaches to the shell of this name in the lease's session; makes it where it is not there.
    pub async fn attach(&self, key: &SessionKey, id: &ShellId, lease: Lease) -> Result<Attached, ShellError> {
        let (output, shown) = mpsc::channel(WAITING);
        let (typed, input) = mpsc::channel(WAITING);
        let (end, ended) = oneshot::channel();
        let attached = |reconnected| Attached { reconnected, output: shown, input: typed, end: ended };
        let mut visitor = Visitor { output, input, end, lease };
        let at = (key.clone(), id.clone());
        let door = self.known.lock().get(&at).map(|known| known.door.clone());
        if let Some(door) = door {
            match door.send(visitor).await {
                Ok(()) => return Ok(attached(true)),
                // It ended just now.
                Err(mpsc::error::SendError(back)) => visitor = back,
            }
        }
        let (door, visitors) = mpsc::channel(1);
        let number = uuid::Uuid::new_v4().as_u64_pair().0;
        {
            let mut known = self.known.lock();
            known.retain(|_, known| !known.door.is_closed());
            if known.keys().filter(|(k, _)| k.runtime == key.runtime).count() >= limits::MAX_SHELLS {
                return Err(ShellError::TooMany);
            }
            known.insert(at.clone(), Known { number, door });
        }
        let entry = Entry { known: self.known.clone(), at, number };
        let terminal = start(&visitor.lease).await?;
        let cut = visitor.lease.cut();
        let shell = Shell {
            terminal,
            cut,
            until: Instant::now() + limits::SHELL_LIFETIME,
            kept: VecDeque::new(),
            unsent: Bytes::new(),
            unread: BytesMut::new(),
            visitor: Some(visitor),
            _entry: entry,
        };
        tokio::spawn(shell.run(visitors));
        Ok(attached(false))
    }
}

/// The name of a shell that exists; forgotten with it.
struct Entry {
    known: Arc<Mutex<HashMap<(SessionKey, ShellId), Known>>>,
    at: (SessionKey, ShellId),
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut known = self.known.lock();
        if known.get(&self.at).is_some_and(|k| k.number == self.number) {
            known.remove(&self.at);
        }
    }
}

async fn start(lease: &Lease) -> Result<Terminal, EngineError> {
    let mut missing = None;
    for shell in SHELLS {
        let spec = ProcessSpec {
            argv: vec![shell.to_owned()],
            environment: vec![("TERM".to_owned(), TERM.to_owned())],
            working_directory: None,
            user: None,
        };
        match lease.spawn_terminal(spec, SIZE).await {
            Ok(terminal) => return Ok(terminal),
            Err(e @ EngineError::Spawn { .. }) => missing = Some(e),
            Err(e) => return Err(e),
        }
    }
    Err(missing.unwrap_or(EngineError::Gone))
}

struct Shell {
    terminal: Terminal,
    cut: Cut,
    until: Instant,
    /// The last output, for whoever comes next.
    kept: VecDeque<u8>,
    /// Output that who looks has not taken.
    unsent: Bytes,
    /// Input that the shell has not taken.
    unread: BytesMut,
    visitor: Option<Visitor>,
    _entry: Entry,
}

/// What happens to a shell.
enum Event {
    Output(usize),
    Sent,
    Input(Option<Input>),
    Typed(usize),
    Visitor(Option<Visitor>),
    Left,
    End(ShellEnd),
}

impl Shell {
    async fn run(mut self, mut visitors: mpsc::Receiver<Visitor>) {
        let mut buffer = vec![0; READ_BYTES].into_boxed_slice();
        let end = loop {
            match self.next(&mut buffer, &mut visitors).await {
                Event::Output(0) => break self.exit().await,
                Event::Output(count) => self.show(buffer.get(..count).unwrap_or_default()),
                Event::Sent => {}
                Event::Typed(count) => self.unread.advance(count),
                Event::Input(Some(Input::Bytes(bytes))) => self.unread.extend_from_slice(&bytes),
                Event::Input(Some(Input::Resize(size))) => {
                    // A terminal that has just lost its last process has no size any more.
                    let _ = self.terminal.window.resize(size);
                }
                Event::Input(Some(Input::Close)) => {
                    let _ = self.terminal.control.kill().await;
                    break self.exit().await;
                }
                Event::Input(None) | Event::Left => self.leave(),
                Event::Visitor(Some(visitor)) => self.welcome(visitor),
                // The door's other side lives in the entry, which this value holds.
                Event::Visitor(None) => break ShellEnd::Session,
                Event::End(ShellEnd::Exit(exit)) => {
                    self.drain(&mut buffer).await;
                    break ShellEnd::Exit(exit);
                }
                Event::End(end) => break end,
            }
        };
        if !matches!(end, ShellEnd::Exit(_)) {
            let _ = self.terminal.control.kill().await;
        }
        self.say_the_rest().await;
        if let Some(visitor) = self.visitor.take() {
            let _ = visitor.end.send(end);
        }
    }

    async fn next(&mut self, buffer: &mut [u8], visitors: &mut mpsc::Receiver<Visitor>) -> Event {
        let (unsent_bytes, unread_bytes) = (self.unsent.len(), self.unread.len());
        let Self { terminal, cut, until, unsent, unread, visitor, .. } = self;
        let Terminal { output, input, control, .. } = terminal;
        let (sender, typed) = match visitor {
            Some(visitor) => (Some(visitor.output.clone()), Some(&mut visitor.input)),
            None => (None, None),
        };
        let sending = async {
            let Some(sender) = &sender else { return std::future::pending().await };
            match sender.reserve().await {
                Ok(place) => {
                    place.send(std::mem::take(unsent));
                    Event::Sent
                }
                Err(_) => Event::Left,
            }
        };
        let leaving = async {
            match &sender {
                Some(sender) => sender.closed().await,
                None => std::future::pending().await,
            }
        };
        let typing = async {
            match typed {
                Some(typed) => typed.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = cut.wait() => Event::End(ShellEnd::Session),
            () = tokio::time::sleep_until(*until) => Event::End(ShellEnd::Expired),
            visitor = visitors.recv() => Event::Visitor(visitor),
            () = leaving => Event::Left,
            event = sending, if unsent_bytes > 0 => event,
            typed = typing, if unread_bytes == 0 => Event::Input(typed),
            // What can no longer be written is forgotten: the terminal's end is told by its output.
            written = input.write(unread), if unread_bytes > 0 => Event::Typed(written.unwrap_or(unread_bytes)),
            read = output.read(buffer), if unsent_bytes == 0 => Event::Output(read.unwrap_or(0)),
            exit = control.wait() => Event::End(match exit {
                Ok(exit) => ShellEnd::Exit(exit),
                Err(_) => ShellEnd::Session,
            }),
        }
    }

    /// Output: kept for the next one, and for who looks now.
    fn show(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
        let excess = self.kept.len().saturating_sub(limits::SHELL_REPLAY_BYTES);
        self.kept.drain(..excess);
        if self.visitor.is_some() {
            let mut all = BytesMut::from(std::mem::take(&mut self.unsent));
            all.extend_from_slice(bytes);
            self.unsent = all.freeze();
        }
    }

    fn welcome(&mut self, visitor: Visitor) {
        if let Some(mut before) = self.visitor.replace(visitor) {
            self.take_last_keys(&mut before);
            let _ = before.end.send(ShellEnd::Taken);
        }
        // What the one before did not take is part of it.
        self.unsent = self.kept.iter().copied().collect::<Vec<u8>>().into();
    }

    fn leave(&mut self) {
        if let Some(mut visitor) = self.visitor.take() {
            self.take_last_keys(&mut visitor);
        }
        self.unsent = Bytes::new();
    }

    /// What somebody typed before he left is typed all the same.
    fn take_last_keys(&mut self, visitor: &mut Visitor) {
        while let Ok(input) = visitor.input.try_recv() {
            if let Input::Bytes(bytes) = input {
                self.unread.extend_from_slice(&bytes);
            }
        }
    }

    /// No process has the terminal any more: the shell's end follows, or nobody could ever reach it.
    async fn exit(&mut self) -> ShellEnd {
        let Terminal { control, .. } = &mut self.terminal;
        let ended = tokio::time::timeout(DRAIN, control.wait()).await;
        let exit = match ended {
            Ok(exit) => exit,
            Err(_) => {
                let _ = control.kill().await;
                control.wait().await
            }
        };
        exit.map_or(ShellEnd::Session, ShellEnd::Exit)
    }

    /// What the shell had written when it ended; its children may hold the terminal for as long as they like.
    async fn drain(&mut self, buffer: &mut [u8]) {
        let until = Instant::now() + DRAIN;
        loop {
            let read = tokio::time::timeout_at(until, self.terminal.output.read(buffer)).await;
            match read {
                Ok(Ok(count)) if count > 0 => self.show(buffer.get(..count).unwrap_or_default()),
                _ => return,
            }
        }
    }

    /// The last output for who looks, unless he does not take it.
    async fn say_the_rest(&mut self) {
        let rest = std::mem::take(&mut self.unsent);
        if let Some(visitor) = self.visitor.as_ref().filter(|_| !rest.is_empty()) {
            let _ = tokio::time::timeout(REST_LIMIT, visitor.output.send(rest)).await;
        }
    }
}
