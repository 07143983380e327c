//! A running session as the emulator sees it: one task that owns the helper's socket.
//!
//! Everybody else holds a sender to that task. Requests are answered through one-shot channels, ends of
//! processes through watches, so that a caller that goes away leaves nothing behind.
//!
//! What the helper runs in is the adapter's own, a [`Vessel`]: namespaces behind a launcher, or a container.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::fchown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};

use super::terminal::{Side, Typed};
use super::{
    Compute, ComputeRecord, EngineError, Limit, Process, ProcessControl, ProcessExit, ProcessSpec,
    SessionListener, SessionStream, Terminal, TerminalSize, TerminalWindow,
};
use crate::helper::link::{Inbox, LinkError, Outbox, Received};
use crate::helper::proto::{Exit, Failure, Report, Request, Step};

/// What the end of a session may take beyond its grace. [ours]
pub(super) const END_MARGIN: Duration = Duration::from_secs(5);
/// Longest wait for the end of a session that was killed. [ours: a daemon without root on a busy machine takes a dozen
/// seconds to notice]
const KILLED_MARGIN: Duration = Duration::from_secs(30);

/// The error of a program that this machine cannot read. [errno: ENOEXEC]
const NO_FORMAT: i32 = 8;
/// What that means.
const FOREIGN_PROGRAM: &str = "it is no program of this machine's architecture (Exec format error)";

/// What a helper and its session run in.
pub(super) trait Vessel: Send + Sync + 'static {
    /// What holds the session to its share of the machine.
    fn limits(&self) -> Vec<Limit>;

    /// SIGKILL to everything in it. Need not wait.
    fn kill(&self) -> Result<(), EngineError>;

    /// Resolves when everything in it has ended by itself; may never do so where only the helper's line tells. May be
    /// given up and asked again.
    fn ended(&self) -> BoxFuture<'_, ()>;

    /// Ends what is left in it and waits for that.
    fn end(&self) -> BoxFuture<'_, ()>;

    /// Clears it away, once it has ended.
    fn clear(&self) -> BoxFuture<'_, ()>;
}

impl From<LinkError> for EngineError {
    fn from(error: LinkError) -> Self {
        Self::Helper(error.to_string())
    }
}

/// The emulator's end of a socket to a helper, and to whatever makes it.
pub(super) struct Line {
    socket: UnixStream,
    inbox: Inbox,
    outbox: Outbox,
}

impl Line {
    /// Over a socket that is made non-blocking.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self { socket: UnixStream::from_std(socket)?, inbox: Inbox::default(), outbox: Outbox::default() })
    }

    /// Queues a message.
    pub(super) fn push(&mut self, message: &impl Serialize, fds: Vec<OwnedFd>) -> Result<(), EngineError> {
        Ok(self.outbox.push(message, fds)?)
    }

    /// Sends all that is queued. May be given up and called again.
    pub(super) async fn flush(&mut self) -> Result<(), EngineError> {
        while !self.send()? {
            self.socket.writable().await.map_err(LinkError::from)?;
        }
        Ok(())
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
            let ready = self.socket.ready(interest).await.map_err(LinkError::from)?;
            if ready.is_writable() {
                self.send()?;
            }
            if ready.is_readable() && self.take_in()? == Received::End {
                return Ok(None);
            }
        }
    }

    /// Sends what the socket takes now. True when nothing is left.
    fn send(&mut self) -> Result<bool, LinkError> {
        let mut sent = Ok(false);
        // Its error is this closure's own: that the socket is full, which is waited for next time.
        let _ = self.socket.try_io(Interest::WRITABLE, || {
            sent = self.outbox.flush(&self.socket);
            if matches!(sent, Ok(false)) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        sent
    }

    /// Takes once what has come.
    fn take_in(&mut self) -> Result<Received, LinkError> {
        let mut received = Ok(Received::Nothing);
        let _ = self.socket.try_io(Interest::READABLE, || {
            received = self.inbox.receive(&self.socket);
            if matches!(received, Ok(Received::Nothing)) {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(())
            }
        });
        received
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
pub(super) struct LinkedCompute {
    spawner: Spawner,
    vessel: Arc<dyn Vessel>,
    gone: watch::Receiver<bool>,
    record: ComputeRecord,
    agent: Option<ProcessSpec>,
    listener: Mutex<Option<SessionListener>>,
}

/// What starts processes in a session, as long as it lives.
#[derive(Clone)]
pub(super) struct Spawner {
    link: Link,
    pipe_owner: Option<(u32, u32)>,
    directory: Arc<str>,
    elsewhere: Option<Arc<dyn Elsewhere>>,
    relayed: bool,
}

/// What its adapter says of a session.
pub(super) struct About {
    /// What is kept of it.
    pub(super) record: ComputeRecord,
    /// Host owner that pipes must have so that programs of the session can open them by name.
    pub(super) pipe_owner: Option<(u32, u32)>,
    /// Where a process begins that was not told where.
    pub(super) directory: String,
    /// How the agent is started, where the image says it.
    pub(super) agent: Option<ProcessSpec>,
    /// Where things stand that are not at their usual place.
    pub(super) elsewhere: Option<Arc<dyn Elsewhere>>,
    /// A relay stands between the line and the helper: connections and terminals that come over the line are UNIX sockets
    /// of its own, and it sets the sizes of terminals when it is told to.
    pub(super) relayed: bool,
}

impl About {
    /// With everything at its usual place.
    pub(super) fn new(record: ComputeRecord, directory: &str) -> Self {
        Self {
            record,
            pipe_owner: None,
            directory: directory.to_owned(),
            agent: None,
            elsewhere: None,
            relayed: false,
        }
    }
}

/// Where a session finds what other sessions have at fixed places. Kept as long as the session.
pub(super) trait Elsewhere: Send + Sync + 'static {
    /// A word with what it names where it is here.
    fn find(&self, word: &str) -> String;
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

impl LinkedCompute {
    /// Takes over a session that stands.
    pub(super) fn new(
        line: Line,
        vessel: Arc<dyn Vessel>,
        about: About,
        listener: Option<SessionListener>,
    ) -> Self {
        let (orders, queue) = mpsc::unbounded_channel();
        let (going, gone) = watch::channel(false);
        let task = Task { line, queue, answers: HashMap::new(), processes: HashMap::new() };
        tokio::spawn(task.run(vessel.clone(), going));
        let link = Link { orders, next: Arc::new(AtomicU64::new(1)) };
        let About { record, pipe_owner, directory, agent, elsewhere, relayed } = about;
        let spawner = Spawner { link, pipe_owner, directory: directory.into(), elsewhere, relayed };
        Self { spawner, vessel, gone, record, agent, listener: Mutex::new(listener) }
    }

    /// For processes that are not the emulator's.
    pub(super) fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }
}

impl Spawner {
    /// A pipe for an output: the emulator's reading end, the writing end, the helper's reading end.
    fn pipe(&self) -> io::Result<(pipe::Receiver, OwnedFd, OwnedFd)> {
        let (read, write) = io::pipe()?;
        if let Some((uid, gid)) = self.pipe_owner {
            // Else a program could not open its own /dev/stdout: a pipe belongs to whoever made it.
            fchown(&write, Some(uid), Some(gid))?;
        }
        let other = read.try_clone()?;
        // Makes both reading ends non-blocking: they are one open file.
        Ok((pipe::Receiver::from_owned_fd(read.into())?, write.into(), other.into()))
    }

    /// Starts a process, as the session's root unless told otherwise.
    pub(super) async fn spawn_process(&self, mut spec: ProcessSpec) -> Result<Process, EngineError> {
        let mut directory = spec.working_directory.take().unwrap_or_else(|| self.directory.to_string());
        if let Some(elsewhere) = &self.elsewhere {
            let values = spec.environment.iter_mut().map(|(_, value)| value);
            let words = spec.argv.iter_mut().chain([&mut directory]).chain(values);
            words.for_each(|word| *word = elsewhere.find(word));
        }
        let io = |source| EngineError::Io { context: "making pipes for a process".to_owned(), source };
        let (stdout, output, read_output) = self.pipe().map_err(io)?;
        let (stderr, errors, read_errors) = self.pipe().map_err(io)?;
        let program = spec.argv.first().cloned().unwrap_or_default();
        let id = self.link.number();
        let request = Request::Spawn {
            id,
            argv: spec.argv,
            environment: spec.environment,
            working_directory: directory.clone(),
            user: spec.user,
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

    /// Starts a process on a terminal, as the session's root.
    pub(super) async fn spawn_on_terminal(
        &self,
        spec: ProcessSpec,
        size: TerminalSize,
    ) -> Result<Terminal, EngineError> {
        let program = spec.argv.first().cloned().unwrap_or_default();
        let directory = spec.working_directory.unwrap_or_else(|| self.directory.to_string());
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
                let side = Side::new(master).map_err(io)?;
                Ok(Terminal {
                    output: Box::pin(Typed::on(&side)),
                    input: Box::pin(Typed::on(&side)),
                    window: match self.relayed {
                        false => Box::new(Typed::on(&side)),
                        true => Box::new(Window { link: self.link.clone(), id }),
                    },
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
}

impl LinkedCompute {
    async fn open_connection(&self, port: u16) -> Result<SessionStream, EngineError> {
        let id = self.spawner.link.number();
        match self.spawner.link.ask(id, Request::Connect { id, port }, vec![], None).await? {
            Ok(Some(socket)) => {
                let io = |source| EngineError::Io { context: "taking over a connection".to_owned(), source };
                if self.spawner.relayed {
                    let stream = std::os::unix::net::UnixStream::from(socket);
                    return Ok(SessionStream::Relayed(UnixStream::from_std(stream).map_err(io)?));
                }
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
        let id = self.spawner.link.number();
        match self.spawner.link.ask(id, Request::MountStorage { id }, vec![], None).await? {
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
        let _ = self.spawner.link.orders.send(Order::Tell { request: Request::Terminate { grace_millis } });
        if gone_within(self.gone.clone(), grace.saturating_add(END_MARGIN)).await {
            return Ok(());
        }
        self.vessel.kill()?;
        if gone_within(self.gone.clone(), KILLED_MARGIN).await {
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
        Failure::System { step: Step::Execute, errno: NO_FORMAT } => FOREIGN_PROGRAM.to_owned(),
        Failure::System { errno, .. } => io::Error::from_raw_os_error(errno).to_string(),
        Failure::Invalid { reason } => reason,
        Failure::Refused | Failure::Taken => return unexpected(&failure),
    };
    EngineError::Spawn { program, reason }
}

/// Takes over the listener that came with a session.
pub(super) fn listener_of(socket: OwnedFd) -> Result<SessionListener, EngineError> {
    let io = |source| EngineError::Io { context: "taking over the session's listener".to_owned(), source };
    // It was made non-blocking inside.
    TcpListener::from_std(socket.into()).map(SessionListener::Tcp).map_err(io)
}

fn unexpected(failure: &Failure) -> EngineError {
    EngineError::Helper(format!("{failure:?}"))
}

async fn gone_within(mut gone: watch::Receiver<bool>, limit: Duration) -> bool {
    // A sender that was dropped without a word went with its runtime, and the session with it.
    tokio::time::timeout(limit, gone.wait_for(|gone| *gone)).await.is_ok()
}

impl Compute for LinkedCompute {
    fn record(&self) -> ComputeRecord {
        self.record.clone()
    }

    fn agent(&self) -> Option<ProcessSpec> {
        self.agent.clone()
    }

    fn mount_storage(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        self.show_storage().boxed()
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, Result<SessionStream, EngineError>> {
        self.open_connection(port).boxed()
    }

    fn limits(&self) -> Vec<Limit> {
        self.vessel.limits()
    }

    fn obstacle(&self, port: u16) -> BoxFuture<'_, Option<EngineError>> {
        async move {
            self.spawner.elsewhere.as_ref()?;
            self.open_connection(port).await.err().filter(|e| matches!(e, EngineError::Taken { .. }))
        }
        .boxed()
    }

    fn take_listener(&self) -> Option<SessionListener> {
        self.listener.lock().take()
    }

    fn spawn(&self, spec: ProcessSpec) -> BoxFuture<'_, Result<Process, EngineError>> {
        self.spawner.spawn_process(spec).boxed()
    }

    fn spawn_terminal(
        &self,
        spec: ProcessSpec,
        size: TerminalSize,
    ) -> BoxFuture<'_, Result<Terminal, EngineError>> {
        self.spawner.spawn_on_terminal(spec, size).boxed()
    }

    fn terminate(&self, grace: Duration) -> BoxFuture<'_, Result<(), EngineError>> {
        self.end(grace).boxed()
    }

    fn gone(&self) -> watch::Receiver<bool> {
        self.gone.clone()
    }
}

impl Drop for LinkedCompute {
    fn drop(&mut self) {
        // The kernel ends whatever the first process of a PID namespace leaves.
        let _ = self.vessel.kill();
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

/// The size of a terminal whose other side is behind a relay.
struct Window {
    link: Link,
    id: u64,
}

impl TerminalWindow for Window {
    fn resize(&self, size: TerminalSize) -> io::Result<()> {
        let request = Request::Resize { process: self.id, width: size.width, height: size.height };
        self.link.orders.send(Order::Tell { request }).map_err(|_| io::ErrorKind::BrokenPipe.into())
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

/// Owner of the socket.
struct Task {
    line: Line,
    queue: mpsc::UnboundedReceiver<Order>,
    answers: HashMap<u64, Answer>,
    processes: HashMap<u64, Ended>,
}

impl Task {
    /// Serves until everything in the session has ended.
    async fn run(mut self, vessel: Arc<dyn Vessel>, going: watch::Sender<bool>) {
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
                // What a helper does that is still there, it does to the end of its line.
                () = vessel.ended() => break,
            };
            if over {
                // The helper has ended or talks nonsense: in both cases the session is over.
                vessel.end().await;
                break;
            }
        }
        self.hear_the_rest().await;
        drop(self);
        vessel.clear().await;
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
