//! A running session as the emulator sees it: one task that owns the helper's socket and the launcher.
//!
//! Everybody else holds a sender to that task. Requests are answered through one-shot channels, ends of
//! processes through watches, so that a caller that goes away leaves nothing behind.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Gid, Uid, fchown};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::TcpListener;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot, watch};

use super::groups::{self, Group, Held, Limits};
use super::process::Elsewhere;
use super::{END_MARGIN, sys};
use crate::engine::{
    Compute, ComputeRecord, EngineError, Limit, Process, ProcessControl, ProcessExit, ProcessSpec,
    SessionStream, Terminal, TerminalSize, TerminalWindow, WORKDIR,
};
use crate::helper::link::{Inbox, LinkError, Outbox, Received};
use crate::helper::proto::{Exit, Failure, Report, Request, Step};

impl From<LinkError> for EngineError {
    fn from(error: LinkError) -> Self {
        Self::Helper(error.to_string())
    }
}

/// The emulator's end of a socket to a launcher and the helper after it.
pub(super) struct Line {
    socket: AsyncFd<OwnedFd>,
    inbox: Inbox,
    outbox: Outbox,
}

impl Line {
    /// Over a socket that is made non-blocking.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
        fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self {
            socket: sys::watch(socket, Interest::READABLE | Interest::WRITABLE)?,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
        })
    }

    /// Queues a message.
    pub(super) fn push(&mut self, message: &impl Serialize, fds: Vec<OwnedFd>) -> Result<(), EngineError> {
        Ok(self.outbox.push(message, fds)?)
    }

    /// Sends all that is queued. May be given up and called again.
    pub(super) async fn flush(&mut self) -> Result<(), EngineError> {
        loop {
            let mut ready = self.socket.writable().await.map_err(LinkError::from)?;
            if self.outbox.flush(ready.get_inner())? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    /// The next message; nothing when the other side has gone. Sends what is queued meanwhile. May be given
    /// up and called again.
    pub(super) async fn receive<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, EngineError> {
        loop {
            if let Some(message) = self.inbox.take()? {
                return Ok(Some(message));
            }
            let interest = match self.outbox.is_empty() {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            let mut ready = self.socket.ready(interest).await.map_err(LinkError::from)?;
            if ready.ready().is_writable() && !self.outbox.flush(ready.get_inner())? {
                ready.clear_ready_matching(Ready::WRITABLE);
            }
            if ready.ready().is_readable() {
                match self.inbox.receive(ready.get_inner())? {
                    Received::Some => {}
                    Received::Nothing => ready.clear_ready_matching(Ready::READABLE),
                    Received::End => return Ok(None),
                }
            }
        }
    }
}

type Answer = oneshot::Sender<Result<Option<OwnedFd>, Failure>>;
type Ended = watch::Sender<Option<ProcessExit>>;

/// What the task is told.
enum Order {
    /// Send a request that is answered.
    Ask { id: u64, request: Request, fds: Vec<OwnedFd>, answer: Answer, ended: Option<Ended> },
    /// Send a request that nobody waits for.
    Tell { request: Request },
}

/// One running session.
pub(super) struct EmbeddedCompute {
    link: Link,
    process: Arc<OwnedFd>,
    gone: watch::Receiver<bool>,
    record: ComputeRecord,
    pipe_owner: Option<(u32, u32)>,
    listener: Mutex<Option<TcpListener>>,
    elsewhere: Option<Elsewhere>,
    bounds: Bounds,
}

/// What holds a session to its share of the machine.
pub(super) struct Bounds {
    pub(super) limits: Limits,
    pub(super) groups: Vec<Group>,
    /// The session's first process.
    pub(super) pid: i32,
}

/// What a session has besides its processes.
#[derive(Default)]
pub(super) struct Places {
    /// Owner of the pipes that its processes write to.
    pub(super) pipe_owner: Option<(u32, u32)>,
    /// The emulator's listener inside.
    pub(super) listener: Option<TcpListener>,
    /// Where things stand that are not at their usual place.
    pub(super) elsewhere: Option<Elsewhere>,
}

/// A sender to the task. The queue has no bound of its own: what is in it is bounded by the calls that wait for
/// their answers and the processes whose owners have let go.
#[derive(Clone)]
struct Link {
    orders: mpsc::UnboundedSender<Order>,
    next: Arc<AtomicU64>,
}

impl Link {
    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    async fn ask(
        &self,
        id: u64,
        request: Request,
        fds: Vec<OwnedFd>,
        ended: Option<Ended>,
    ) -> Result<Result<Option<OwnedFd>, Failure>, EngineError> {
        let (answer, answered) = oneshot::channel();
        let order = Order::Ask { id, request, fds, answer, ended };
        self.orders.send(order).map_err(|_| EngineError::Gone)?;
        answered.await.map_err(|_| EngineError::Gone)
    }
}

impl EmbeddedCompute {
    /// Takes over a session that stands. `process` is its first process.
    pub(super) fn new(
        line: Line,
        launcher: Child,
        process: OwnedFd,
        record: ComputeRecord,
        groups: Held,
        bounds: Bounds,
        places: Places,
    ) -> Self {
        let (orders, queue) = mpsc::unbounded_channel();
        let (going, gone) = watch::channel(false);
        let process = Arc::new(process);
        let task = Task { line, queue, answers: HashMap::new(), processes: HashMap::new() };
        tokio::spawn(task.run(launcher, process.clone(), groups, going));
        let link = Link { orders, next: Arc::new(AtomicU64::new(1)) };
        let Places { pipe_owner, listener, elsewhere } = places;
        Self { link, process, gone, record, pipe_owner, listener: Mutex::new(listener), elsewhere, bounds }
    }

    /// A pipe for an output: the emulator's reading end, the writing end, the helper's reading end.
    fn pipe(&self) -> io::Result<(pipe::Receiver, OwnedFd, OwnedFd)> {
        let (read, write) = io::pipe()?;
        if let Some((uid, gid)) = self.pipe_owner {
            // Else a program could not open its own /dev/stdout: a pipe belongs to whoever made it.
            fchown(&write, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        let other = read.try_clone()?;
        // Makes both reading ends non-blocking: they are one open file.
        Ok((pipe::Receiver::from_owned_fd(read.into())?, write.into(), other.into()))
    }

    async fn spawn_process(&self, mut spec: ProcessSpec) -> Result<Process, EngineError> {
        spec.working_directory.get_or_insert_with(|| WORKDIR.to_owned());
        if let Some(elsewhere) = &self.elsewhere {
            let values = spec.environment.iter_mut().map(|(_, value)| value);
            let words = spec.argv.iter_mut().chain(&mut spec.working_directory).chain(values);
            words.for_each(|word| *word = elsewhere.find(word));
        }
        let io = |source| EngineError::Io { context: "making pipes for a process".to_owned(), source };
        let (stdout, output, read_output) = self.pipe().map_err(io)?;
        let (stderr, errors, read_errors) = self.pipe().map_err(io)?;
        let program = spec.argv.first().cloned().unwrap_or_default();
        let directory = spec.working_directory.unwrap_or_else(|| WORKDIR.to_owned());
        let id = self.link.number();
        let request = Request::Spawn {
            id,
            argv: spec.argv,
            environment: spec.environment,
            working_directory: directory.clone(),
        };
        let (ended, exit) = watch::channel(None);
        // Before the request: a caller that goes away while the process starts kills it by dropping this.
        let mut tree = Tree { link: self.link.clone(), id, exit, kill_on_drop: true };
        let link = || self.link.clone();
        let stdout = Output { pipe: stdout, link: link(), id, errors: false };
        let stderr = Output { pipe: stderr, link: link(), id, errors: true };
        let fds = vec![output, errors, read_output, read_errors];
        let failure = match self.link.ask(id, request, fds, Some(ended)).await? {
            Ok(_) => {
                return Ok(Process {
                    stdout: Box::pin(stdout),
                    stderr: Box::pin(stderr),
                    control: Box::new(tree),
                });
            }
            Err(failure) => failure,
        };
        tree.detach();
        Err(unstarted(program, &directory, failure))
    }

    async fn spawn_on_terminal(
        &self,
        spec: ProcessSpec,
        size: TerminalSize,
    ) -> Result<Terminal, EngineError> {
        let program = spec.argv.first().cloned().unwrap_or_default();
        let directory = spec.working_directory.unwrap_or_else(|| WORKDIR.to_owned());
        let id = self.link.number();
        let request = Request::SpawnTerminal {
            id,
            argv: spec.argv,
            environment: spec.environment,
            working_directory: directory.clone(),
            width: size.width,
            height: size.height,
        };
        let (ended, exit) = watch::channel(None);
        let mut tree = Tree { link: self.link.clone(), id, exit, kill_on_drop: true };
        match self.link.ask(id, request, vec![], Some(ended)).await? {
            Ok(Some(master)) => {
                let io = |source| EngineError::Io { context: "taking over a terminal".to_owned(), source };
                let side = Arc::new(Side::new(master).map_err(io)?);
                Ok(Terminal {
                    output: Box::pin(Typed(side.clone())),
                    input: Box::pin(Typed(side.clone())),
                    window: Box::new(Typed(side)),
                    control: Box::new(tree),
                })
            }
            Ok(None) => Err(EngineError::Helper("a terminal without its descriptor".to_owned())),
            Err(failure) => {
                tree.detach();
                Err(unstarted(program, &directory, failure))
            }
        }
    }

    async fn open_connection(&self, port: u16) -> Result<SessionStream, EngineError> {
        let id = self.link.number();
        match self.link.ask(id, Request::Connect { id, port }, vec![], None).await? {
            Ok(Some(socket)) => {
                let io = |source| EngineError::Io { context: "taking over a connection".to_owned(), source };
                // The helper has made it non-blocking, and `Nagle` is off.
                let stream = std::net::TcpStream::from(socket);
                Ok(SessionStream::Tcp(tokio::net::TcpStream::from_std(stream).map_err(io)?))
            }
            Ok(None) => Err(EngineError::Helper("a connection without its socket".to_owned())),
            Err(Failure::Refused) => Err(EngineError::Refused { port }),
            Err(Failure::Taken) => Err(EngineError::Taken { port }),
            Err(Failure::Ending) => Err(EngineError::Gone),
            Err(Failure::System { errno, .. }) => Err(EngineError::Io {
                context: format!("connecting to port {port} in the session"),
                source: io::Error::from_raw_os_error(errno),
            }),
            Err(failure) => Err(unexpected(&failure)),
        }
    }

    async fn show_storage(&self) -> Result<(), EngineError> {
        let id = self.link.number();
        match self.link.ask(id, Request::MountStorage { id }, vec![], None).await? {
            Ok(_) => Ok(()),
            Err(Failure::System { errno, .. }) => Err(EngineError::Io {
                context: "mounting the session storage".to_owned(),
                source: io::Error::from_raw_os_error(errno),
            }),
            Err(failure) => Err(unexpected(&failure)),
        }
    }

    async fn end(&self, grace: Duration) -> Result<(), EngineError> {
        let grace_millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        // A task that has ended takes no orders: then the session has gone already.
        let _ = self.link.orders.send(Order::Tell { request: Request::Terminate { grace_millis } });
        if gone_within(self.gone.clone(), grace.saturating_add(END_MARGIN)).await {
            return Ok(());
        }
        sys::kill_process(&self.process)
            .map_err(|source| EngineError::Io { context: "ending a session".to_owned(), source })?;
        if gone_within(self.gone.clone(), END_MARGIN).await {
            return Ok(());
        }
        Err(EngineError::Helper("the session does not end".to_owned()))
    }
}

/// Why a process was not started.
fn unstarted(program: String, directory: &str, failure: Failure) -> EngineError {
    let reason = match failure {
        Failure::Ending => return EngineError::Gone,
        Failure::System { step: Step::WorkingDirectory, errno } => {
            format!("the working directory `{directory}`: {}", io::Error::from_raw_os_error(errno))
        }
        Failure::System { errno, .. } => io::Error::from_raw_os_error(errno).to_string(),
        Failure::Invalid { reason } => reason,
        Failure::Refused | Failure::Taken => return unexpected(&failure),
    };
    EngineError::Spawn { program, reason }
}

/// Takes over the listener that came with a session.
pub(super) fn listener(socket: OwnedFd) -> Result<TcpListener, EngineError> {
    let io = |source| EngineError::Io { context: "taking over the session's listener".to_owned(), source };
    // It was made non-blocking inside.
    TcpListener::from_std(socket.into()).map_err(io)
}

fn unexpected(failure: &Failure) -> EngineError {
    EngineError::Helper(format!("{failure:?}"))
}

async fn gone_within(mut gone: watch::Receiver<bool>, limit: Duration) -> bool {
    // A sender that was dropped without a word went with its runtime, and the session with it.
    tokio::time::timeout(limit, gone.wait_for(|gone| *gone)).await.is_ok()
}

impl Compute for EmbeddedCompute {
    fn record(&self) -> ComputeRecord {
        self.record.clone()
    }

    fn mount_storage(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        self.show_storage().boxed()
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, Result<SessionStream, EngineError>> {
        self.open_connection(port).boxed()
    }

    fn limits(&self) -> Vec<Limit> {
        let Bounds { limits, groups, pid } = &self.bounds;
        groups::in_force(limits, groups, *pid, self.elsewhere.is_none())
    }

    fn obstacle(&self, port: u16) -> BoxFuture<'_, Option<EngineError>> {
        async move {
            self.elsewhere.as_ref()?;
            self.open_connection(port).await.err().filter(|e| matches!(e, EngineError::Taken { .. }))
        }
        .boxed()
    }

    fn take_listener(&self) -> Option<TcpListener> {
        self.listener.lock().take()
    }

    fn spawn(&self, spec: ProcessSpec) -> BoxFuture<'_, Result<Process, EngineError>> {
        self.spawn_process(spec).boxed()
    }

    fn spawn_terminal(
        &self,
        spec: ProcessSpec,
        size: TerminalSize,
    ) -> BoxFuture<'_, Result<Terminal, EngineError>> {
        self.spawn_on_terminal(spec, size).boxed()
    }

    fn terminate(&self, grace: Duration) -> BoxFuture<'_, Result<(), EngineError>> {
        self.end(grace).boxed()
    }

    fn gone(&self) -> watch::Receiver<bool> {
        self.gone.clone()
    }
}

impl Drop for EmbeddedCompute {
    fn drop(&mut self) {
        // The kernel ends whatever the first process of a PID namespace leaves; the launcher follows.
        let _ = sys::kill_process(&self.process);
    }
}

/// A process and all that descends from it.
struct Tree {
    link: Link,
    id: u64,
    exit: watch::Receiver<Option<ProcessExit>>,
    kill_on_drop: bool,
}

impl ProcessControl for Tree {
    fn wait(&mut self) -> BoxFuture<'_, Result<ProcessExit, EngineError>> {
        async move {
            let exit = self.exit.wait_for(Option::is_some).await.map_err(|_| EngineError::Gone)?;
            exit.ok_or(EngineError::Gone)
        }
        .boxed()
    }

    fn kill(&mut self) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            let id = self.link.number();
            let kill = Request::Kill { id, process: self.id };
            match self.link.ask(id, kill, vec![], None).await {
                // With the session every process of it has gone.
                Ok(Ok(_)) | Err(EngineError::Gone) => {
                    self.kill_on_drop = false;
                    Ok(())
                }
                Ok(Err(failure)) => Err(unexpected(&failure)),
                Err(e) => Err(e),
            }
        }
        .boxed()
    }

    fn detach(&mut self) {
        self.kill_on_drop = false;
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if self.kill_on_drop {
            let request = Request::Kill { id: self.link.number(), process: self.id };
            let _ = self.link.orders.send(Order::Tell { request });
        }
    }
}

/// An output of a process. The helper holds the pipe's reading end too, and takes over when this is dropped.
struct Output {
    pipe: pipe::Receiver,
    link: Link,
    id: u64,
    errors: bool,
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buf)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let request = Request::Release { process: self.id, errors: self.errors };
        let _ = self.link.orders.send(Order::Tell { request });
    }
}

/// Our side of a terminal.
struct Side {
    fd: AsyncFd<OwnedFd>,
}

impl Side {
    fn new(master: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&master, FcntlArg::F_GETFL)?);
        fcntl(&master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self { fd: sys::watch(master, Interest::READABLE | Interest::WRITABLE)? })
    }
}

/// Reads, writes and measures a terminal.
struct Typed(Arc<Side>);

impl AsyncRead for Typed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = std::task::ready!(self.0.fd.poll_read_ready(cx))?;
            let free = buf.initialize_unfilled();
            match ready.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), free)?)) {
                Ok(Ok(count)) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // So the kernel says that no process has the terminal any more.
                Ok(Err(e)) if e.raw_os_error() == Some(nix::libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for Typed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = std::task::ready!(self.0.fd.poll_write_ready(cx))?;
            match ready.try_io(|fd| Ok(nix::unistd::write(fd.get_ref(), bytes)?)) {
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return Poll::Ready(written),
                Err(_) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TerminalWindow for Typed {
    fn resize(&self, size: TerminalSize) -> io::Result<()> {
        crate::helper::terminal::resize(self.0.fd.get_ref(), size.width, size.height)
    }
}

/// Owner of the socket.
struct Task {
    line: Line,
    queue: mpsc::UnboundedReceiver<Order>,
    answers: HashMap<u64, Answer>,
    processes: HashMap<u64, Ended>,
}

impl Task {
    /// Serves until the launcher has ended, which is after everything in the session.
    async fn run(
        mut self,
        mut launcher: Child,
        process: Arc<OwnedFd>,
        groups: Held,
        going: watch::Sender<bool>,
    ) {
        let mut ordering = true;
        loop {
            let over = tokio::select! {
                order = self.queue.recv(), if ordering => match order {
                    Some(order) => self.take(order).is_err(),
                    None => { ordering = false; false }
                },
                report = self.line.receive() => match report {
                    Ok(Some(report)) => { self.hear(report); false }
                    Ok(None) | Err(_) => true,
                },
                _ = launcher.wait() => break,
            };
            if over {
                // The helper has ended or talks nonsense: in both cases the session is over.
                let _ = sys::kill_process(&process);
                let _ = launcher.wait().await;
                break;
            }
        }
        self.hear_the_rest().await;
        drop(self);
        groups.release().await;
        going.send_replace(true);
    }

    fn take(&mut self, order: Order) -> Result<(), EngineError> {
        match order {
            Order::Ask { id, request, fds, answer, ended } => match self.line.push(&request, fds) {
                Ok(()) => {
                    self.answers.insert(id, answer);
                    if let Some(ended) = ended {
                        self.processes.insert(id, ended);
                    }
                }
                // Only a spawn can be too large.
                Err(e) => {
                    let _ = answer.send(Err(Failure::Invalid { reason: e.to_string() }));
                }
            },
            Order::Tell { request } => self.line.push(&request, vec![])?,
        }
        Ok(())
    }

    fn hear(&mut self, (report, mut fds): (Report, Vec<OwnedFd>)) {
        match report {
            Report::Ready => {}
            Report::Done { id } => {
                if let Some(answer) = self.answers.remove(&id) {
                    let _ = answer.send(Ok(fds.pop()));
                }
            }
            Report::Failed { id, failure } => {
                self.processes.remove(&id);
                if let Some(answer) = self.answers.remove(&id) {
                    let _ = answer.send(Err(failure));
                }
            }
            Report::Exited { process, exit } => {
                if let Some(ended) = self.processes.remove(&process) {
                    ended.send_replace(Some(match exit {
                        Exit::Code(code) => ProcessExit::Code(code),
                        Exit::Signal(signal) => ProcessExit::Signal(signal),
                    }));
                }
            }
        }
    }

    /// The helper's last reports, which lie in the socket when it has ended.
    async fn hear_the_rest(&mut self) {
        self.line.outbox = Outbox::default();
        while let Ok(Some(report)) = self.line.receive().await {
            self.hear(report);
        }
    }
}
