//! The compute port: how a session's isolated compute is made, used and ended.
//!
//! The emulator knows this port and nothing behind it; the adapters ([`embedded`], [`docker`]) know nothing of
//! sessions, endpoints or HTTP. Both speak to the same helper inside, over the same link (`linked`). [`agent_http`] is the client for the agent's own protocol over any compute's connections.

use std::collections::HashSet;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};

use crate::model::MountPath;
use crate::storage::{Place, Storage};

pub mod agent_http;
pub mod docker;
pub mod embedded;
mod linked;
mod terminal;
#[cfg(test)]
pub(crate) mod tests_support;

/// Makes computes of one kind.
pub trait Engine: Send + Sync + 'static {
    /// The engine's name in output and in the store: `embedded`, `docker`.
    fn name(&self) -> &'static str;

    /// What of the host sessions are not kept from, a sentence for each; nothing when they are kept from all.
    fn not_isolated(&self) -> Vec<String> {
        Vec::new()
    }

    /// Host owner that a session's storage directory must have so that the session's root owns it;
    /// nothing when it must not be changed.
    fn storage_owner(&self) -> Option<(u32, u32)>;

    /// Makes a compute. When this returns, commands can run in it; no agent has been started.
    fn start(&self, spec: ComputeSpec) -> BoxFuture<'_, Result<Box<dyn Compute>, EngineError>>;

    /// Ends what is left of a compute that a dead emulator had made, and returns when nothing of it
    /// runs any more. An unknown or finished one is not an error.
    fn end_leftover(&self, record: ComputeRecord, grace: Duration) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Deletes a storage that was discarded, whoever owns its files on the host.
    fn delete_storage(&self, place: Place) -> BoxFuture<'_, Result<(), EngineError>>;

    /// The engine's own carrier of session storage; nothing where computes see directories of the host.
    fn storage(&self) -> Option<Arc<dyn Storage>> {
        None
    }

    /// True when storage appears in a running compute at [`Compute::mount_storage`]; false when only a compute that
    /// is being made can get it, so that it is there from the start.
    fn mounts_late(&self) -> bool {
        true
    }

    /// True where what a dead emulator asked for may still be done, by somebody who did not die with it.
    fn works_on(&self) -> bool {
        false
    }

    /// Looks whether computes can be made of an image: it is there, and this machine can run it.
    fn check_image<'a>(&'a self, image: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        let reason = format!("`{image}` is a container image, and the engine `{}` runs none", self.name());
        let hint = "start the emulator with `--engine docker`, or without `--engine`".to_owned();
        Box::pin(async move { Err(EngineError::Unavailable { reason, hint }) })
    }

    /// Removes the images that were built for this home, but for those of these names, and says how many.
    fn prune_images(&self, keep: HashSet<String>) -> BoxFuture<'_, Result<usize, EngineError>> {
        drop(keep);
        Box::pin(async { Ok(0) })
    }

    /// Ends and clears away what an earlier emulator of the same home made and nobody knows of any more. `known` are
    /// the records of computes that are ended on their own ([`Engine::end_leftover`]).
    fn sweep(&self, known: Vec<ComputeRecord>) -> BoxFuture<'_, Result<(), EngineError>> {
        drop(known);
        Box::pin(async { Ok(()) })
    }
}

/// What a compute is made from.
#[derive(Debug, Clone)]
pub struct ComputeSpec {
    /// Name for people: host name and process titles. Letters, digits, `-`.
    pub label: String,
    /// The image by name whose files stand around everything else; nothing for the host's own programs.
    pub image: Option<String>,
    /// The agent's code on the host; appears writable at [`WORKDIR`], changes are lost with the compute. Nothing when
    /// the image has it.
    pub code: Option<PathBuf>,
    /// Host paths that appear read-only at their own absolute path (interpreter prefixes, environments).
    pub read_only: Vec<PathBuf>,
    /// Environment of every process of the compute.
    pub environment: Vec<(String, String)>,
    /// Session storage: the host directory and where it appears.
    pub storage: Option<StorageMount>,
    /// False: the storage appears when [`Compute::mount_storage`] is called. True: from the start.
    pub early_mount: bool,
    /// A listener of the emulator's on the compute's own loopback; see [`Compute::take_listener`].
    pub listener: Option<InsideListener>,
    /// What the compute is for, written on it where the engine can: name and value.
    pub labels: Vec<(String, String)>,
}

/// What the emulator serves inside a compute, which has no other way out of it.
#[derive(Clone)]
pub struct InsideListener {
    /// On 127.0.0.1 of the compute.
    pub port: u16,
    /// Files that only the compute's root may read, by absolute path; their content is secret.
    pub files: Vec<(PathBuf, String)>,
}

impl std::fmt::Debug for InsideListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files: Vec<_> = self.files.iter().map(|(path, _)| path).collect();
        f.debug_struct("InsideListener").field("port", &self.port).field("files", &files).finish()
    }
}

/// Where the agent's code stands inside a compute. [observed: code deployments run in /var/task]
pub const WORKDIR: &str = "/var/task";
/// Where every compute finds this program's binary.
pub const TOOL_PATH: &str = "/opt/agentcore/bin/agentcore";

/// A storage shown inside a compute.
#[derive(Debug, Clone)]
pub struct StorageMount {
    /// A volume of the engine's, or a directory on the host that exists and is owned by [`Engine::storage_owner`].
    pub source: Place,
    /// Inside.
    pub target: MountPath,
}

/// What the store keeps of a live compute, so that a later emulator can end it. Opaque JSON of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputeRecord(pub String);

/// One running compute. Dropping it ends it without grace.
pub trait Compute: Send + Sync {
    /// What to keep for crash recovery.
    fn record(&self) -> ComputeRecord;

    /// Makes the session storage appear. A second call does nothing.
    fn mount_storage(&self) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Opens a connection to a port of the compute's own loopback.
    fn connect(&self, port: u16) -> BoxFuture<'_, Result<SessionStream, EngineError>>;

    /// The limits that are in force now; nothing where the engine does not know.
    fn limits(&self) -> Vec<Limit> {
        Vec::new()
    }

    /// What keeps an agent from being reached on `port` that is not the agent's fault, where there is such a thing.
    fn obstacle(&self, _port: u16) -> BoxFuture<'_, Option<EngineError>> {
        Box::pin(std::future::ready(None))
    }

    /// The listener that [`ComputeSpec::listener`] asked for, once. It stands from before the first process on, so
    /// nobody inside can have taken its port; what is accepted from it comes from inside this compute and nowhere else.
    fn take_listener(&self) -> Option<SessionListener> {
        None
    }

    /// How the agent is started, where the compute's image says it.
    fn agent(&self) -> Option<ProcessSpec> {
        None
    }

    /// Starts a process, as the compute's root unless told otherwise, in a process group of its own.
    fn spawn(&self, spec: ProcessSpec) -> BoxFuture<'_, Result<Process, EngineError>>;

    /// Starts a process on a terminal of its own, as [`Self::spawn`] starts one on pipes.
    fn spawn_terminal(
        &self,
        spec: ProcessSpec,
        _size: TerminalSize,
    ) -> BoxFuture<'_, Result<Terminal, EngineError>> {
        let program = spec.argv.into_iter().next().unwrap_or_default();
        let reason = "this engine has no terminals; `agentcore local exec` runs commands".to_owned();
        Box::pin(std::future::ready(Err(EngineError::Spawn { program, reason })))
    }

    /// SIGTERM to every process, SIGKILL to what is left after `grace`; returns when nothing runs. Idempotent.
    fn terminate(&self, grace: Duration) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Becomes true when the compute as a whole has gone, asked for or not.
    fn gone(&self) -> watch::Receiver<bool>;
}

/// How much of the machine a compute may use of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Of what: `memory` in bytes, `processes`, `processors`.
    pub of: &'static str,
    /// How much.
    pub amount: u64,
    /// What holds the compute to it.
    pub held_by: Holder,
}

/// What holds a compute to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A control group: all processes together.
    Group,
    /// A limit of processes: each process for itself.
    Process,
    /// A limit of processes: each user of the compute for itself.
    User,
    /// Nothing.
    Nobody,
}

/// A process to start.
#[derive(Debug, Clone)]
pub struct ProcessSpec {
    /// The program and its arguments. A program without `/` is looked up in `PATH`.
    pub argv: Vec<String>,
    /// Added to the compute's environment.
    pub environment: Vec<(String, String)>,
    /// Working directory; the image's, or [`WORKDIR`], when nothing is said.
    pub working_directory: Option<String>,
    /// Who it runs as, in the words of an image (`USER`); the compute's root when nothing is said.
    pub user: Option<String>,
}

/// A started process. Dropping it kills its whole process tree.
pub struct Process {
    /// Standard output; ends when every writer has gone.
    pub stdout: OutputPipe,
    /// Standard error.
    pub stderr: OutputPipe,
    /// Its end, and the means to end it.
    pub control: Box<dyn ProcessControl>,
}

/// Columns and rows of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// A process on a terminal. Dropping it kills its whole process tree.
pub struct Terminal {
    /// What it shows; ends when no process has the terminal any more.
    pub output: OutputPipe,
    /// What is typed.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// Its size.
    pub window: Box<dyn TerminalWindow>,
    /// The process's end, and the means to end it.
    pub control: Box<dyn ProcessControl>,
}

/// The size of a terminal.
pub trait TerminalWindow: Send {
    /// Gives it another size; its processes are told.
    fn resize(&self, size: TerminalSize) -> std::io::Result<()>;
}

/// Readable output of a process.
pub type OutputPipe = Pin<Box<dyn AsyncRead + Send>>;

/// The end of a process, and the means to end it.
pub trait ProcessControl: Send {
    /// Waits for the process itself (not for children that live on). Later calls give the same answer.
    fn wait(&mut self) -> BoxFuture<'_, Result<ProcessExit, EngineError>>;

    /// SIGKILL to the process and everything that descends from it, `setsid` children included;
    /// resolves when they are gone.
    fn kill(&mut self) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Lets the process and its children live on when this value is dropped.
    fn detach(&mut self);
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessExit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl ProcessExit {
    /// The exit code as a shell reports it: 128 + n after signal n.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// A byte stream into a compute.
pub enum SessionStream {
    /// A real socket of the compute's network, handed out by its helper: no relay in between.
    Tcp(TcpStream),
    /// A socket of this machine, behind which a relay carries the bytes into a compute that stands elsewhere.
    Relayed(UnixStream),
    /// A pipe of a test's own.
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
}

impl SessionStream {
    /// Sends small writes at once.
    pub fn set_nodelay(&self) -> std::io::Result<()> {
        match self {
            Self::Tcp(s) => s.set_nodelay(true),
            Self::Relayed(_) => Ok(()),
            #[cfg(test)]
            Self::Memory(_) => Ok(()),
        }
    }

    /// Acknowledges at once what has been received, where the system has a way to.
    pub fn acknowledge(&self) {
        match self {
            // A help and no more: without it the acknowledgement goes out a little later.
            #[cfg(target_os = "linux")]
            Self::Tcp(s) => drop(s.set_quickack(true)),
            #[cfg(not(target_os = "linux"))]
            Self::Tcp(_) => {}
            Self::Relayed(_) => {}
            #[cfg(test)]
            Self::Memory(_) => {}
        }
    }
}

impl AsyncRead for SessionStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Relayed(s) => Pin::new(s).poll_read(cx, buf),
            #[cfg(test)]
            Self::Memory(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for SessionStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Self::Relayed(s) => Pin::new(s).poll_write(cx, buf),
            #[cfg(test)]
            Self::Memory(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Relayed(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            #[cfg(test)]
            Self::Memory(s) => Pin::new(s).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
            Self::Relayed(s) => Pin::new(s).poll_flush(cx),
            #[cfg(test)]
            Self::Memory(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Relayed(s) => Pin::new(s).poll_shutdown(cx),
            #[cfg(test)]
            Self::Memory(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

/// What comes out of a compute by itself: connections that programs in it make to the emulator's listener there.
pub enum SessionListener {
    /// The listener itself, handed out by the compute's helper.
    Tcp(TcpListener),
    /// What a relay brings from the listener of a compute that stands elsewhere.
    Relayed(mpsc::Receiver<UnixStream>),
}

impl SessionListener {
    /// The connections, as they come.
    pub fn connections(self) -> impl Stream<Item = std::io::Result<SessionStream>> + Send {
        stream::unfold(self, |mut listener| async move { Some((listener.accept().await, listener)) })
    }

    async fn accept(&mut self) -> std::io::Result<SessionStream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A help and no more: without it small answers go out a little later.
                let _ = stream.set_nodelay(true);
                Ok(SessionStream::Tcp(stream))
            }
            Self::Relayed(arriving) => match arriving.recv().await {
                Some(stream) => Ok(SessionStream::Relayed(stream)),
                // With the compute; whoever serves it notices that otherwise.
                None => std::future::pending().await,
            },
        }
    }
}

/// What an engine could not do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// This host cannot run the engine; `hint` says what to enable.
    #[error("this host cannot run sessions: {reason}")]
    Unavailable {
        /// What is missing.
        reason: String,
        /// What to do about it.
        hint: String,
    },
    /// The compute could not be made.
    #[error("the session's compute could not be made: {0}")]
    Start(String),
    /// There is no such image; `hint` says how to get it.
    #[error("there is no image `{image}` on this machine: {hint}")]
    NoImage {
        /// The image's name.
        image: String,
        /// How to build, tag or pull it.
        hint: String,
    },
    /// The image is for machines of another architecture than sessions have. [observed: the service's words]
    #[error("Architecture incompatible for uri '{image}'. Supported architectures: [{supported}]")]
    Architecture {
        /// The image's name.
        image: String,
        /// What it would have to be.
        supported: String,
    },
    /// The compute is no longer there.
    #[error("the session's compute has gone")]
    Gone,
    /// Nothing listens on the port.
    #[error("nothing listens on port {port} in the session")]
    Refused {
        /// The port asked for.
        port: u16,
    },
    /// Somebody who is not of the session listens on the port.
    #[error(
        "port {port} is held by another session's agent or by another program of this machine: without isolation an \
         agent must listen on the port that the variable `PORT` names, or run alone"
    )]
    Taken {
        /// The port asked for.
        port: u16,
    },
    /// The program could not be started.
    #[error("`{program}` could not be started in the session: {reason}")]
    Spawn {
        /// The first argument.
        program: String,
        /// The system's reason.
        reason: String,
    },
    /// Talking to the compute's helper failed.
    #[error("the session's helper did not answer as expected: {0}")]
    Helper(String),
    /// The host's file system or kernel refused something.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

impl EngineError {
    /// With what to do about it, for messages of one line.
    pub fn in_full(&self) -> String {
        match self {
            Self::Unavailable { hint, .. } => format!("{self}; {hint}"),
            other => other.to_string(),
        }
    }
}
