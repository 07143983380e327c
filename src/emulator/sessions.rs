//! Sessions: one task each, which owns the session's state and its compute.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;

use super::EmulatorConfig;
use super::clock::Clock;
use super::registry::{Registry, Target};
use super::store::{Store, StoreError};
use crate::artifacts::ArtifactStore;
use crate::engine::agent_http::{AgentError, AgentRequest, AgentResponse};
use crate::engine::{Engine, EngineError, Process, ProcessSpec};
use crate::model::{
    EndReason, EndpointName, RuntimeArn, RuntimeId, SessionId, SessionKey, SessionState, Timestamp, Version,
};

/// What a call needs of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// An agent that answers pings.
    Agent,
    /// A compute; its agent may be starting, sick or dead.
    Command,
}

/// What a session could not do. HTTP meaning is given in `server/errors.rs` only.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionError {
    /// No such session, or it has no compute to stop.
    #[error("Session not found or already terminated")]
    Unknown,
    /// The session starts or stops ([`super::ConflictMode::Aws`], or the wait was too long).
    #[error("Session operation in progress, please retry")]
    Busy,
    /// No healthy ping in time.
    #[error(
        "Runtime initialization time exceeded. Please make sure that initialization completes in {}s.",
        limit.as_secs()
    )]
    InitTimeout {
        /// The limit that passed.
        limit: Duration,
        /// The last lines the agent wrote.
        last_lines: Vec<String>,
    },
    /// The agent ended before its first healthy ping.
    #[error("the agent ended before it was healthy ({exit})")]
    AgentDied {
        /// How it ended, in words.
        exit: String,
        /// The last lines the agent wrote.
        last_lines: Vec<String>,
    },
    /// The engine could not do its part.
    #[error("{0}")]
    Engine(Arc<EngineError>),
    /// The code bundle is missing or bad, or storage or the store failed.
    #[error("{0}")]
    Start(String),
    /// The emulator is shutting down.
    #[error("the emulator is shutting down")]
    ShuttingDown,
}

/// One call in a session. While it lives the session is active and is not idled; its end counts as activity.
pub struct Lease {}

impl Lease {
    /// The session's id.
    pub fn session(&self) -> &SessionId {
        unreachable!()
    }

    /// Sends a call to the agent.
    pub async fn invoke(&self, _request: AgentRequest) -> Result<AgentResponse, AgentError> {
        unreachable!()
    }

    /// Starts a process in the session.
    pub async fn spawn(&self, _spec: ProcessSpec) -> Result<Process, EngineError> {
        unreachable!()
    }

    /// Resolves when the session is being ended: open streams must then end with an error. Cheap to clone futures of.
    pub fn cut(&self) -> Cut {
        unreachable!()
    }
}

/// Tells streams that their session is being ended.
#[derive(Clone)]
pub struct Cut {}

impl Cut {
    /// Waits for the end.
    pub async fn wait(&mut self) {}
}

/// A session as it is shown.
#[derive(Debug, Clone)]
pub struct SessionView {
    /// Its key.
    pub key: SessionKey,
    /// Its runtime's ARN.
    pub arn: RuntimeArn,
    /// The version it runs, or ran last.
    pub version: Version,
    /// Where it stands.
    pub state: SessionState,
    /// When it was first called.
    pub created_at: Timestamp,
    /// Its last activity.
    pub last_activity_at: Timestamp,
    /// Why its last compute ended.
    pub last_end: Option<EndReason>,
    /// Its storage.
    pub storage: Option<StorageView>,
}

/// A session's storage as it is shown.
#[derive(Debug, Clone)]
pub struct StorageView {
    /// Where it is mounted.
    pub mount_path: String,
    /// Bytes and files; counted for a single session only.
    pub usage: Option<(u64, u64)>,
}

/// What a prune removed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pruned {
    /// Sessions forgotten.
    pub sessions: usize,
    /// Storages deleted.
    pub storages: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// One line an agent wrote, or a remark of the emulator on its session.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// When.
    pub at: Timestamp,
    /// The runtime.
    pub runtime: RuntimeId,
    /// The session.
    pub session: SessionId,
    /// `stdout`, `stderr` or `system`.
    pub stream: &'static str,
    /// The line, without its end.
    pub message: String,
}

/// Which log lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Of this runtime only.
    pub runtime: Option<RuntimeId>,
    /// Of this session only.
    pub session: Option<SessionId>,
    /// Go on with lines as they come.
    pub follow: bool,
}

/// Owner of all sessions.
pub struct Sessions;

impl Sessions {
    /// Reads the sessions from the store and ends the computes that a dead emulator left.
    pub async fn open(
        _store: Store,
        _registry: Arc<Registry>,
        _engine: Arc<dyn Engine>,
        _artifacts: ArtifactStore,
        _clock: Arc<Clock>,
        _config: EmulatorConfig,
    ) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self))
    }

    /// Enters a session, making, starting or resuming it as `need` asks. On the path of every call:
    /// a ready session is entered without a message to its task and without the store.
    pub async fn acquire(
        &self,
        _target: &Arc<Target>,
        _session: &SessionId,
        _need: Need,
    ) -> Result<Lease, SessionError> {
        Err(SessionError::Unknown)
    }

    /// StopRuntimeSession: returns when the compute is gone and its storage durable.
    pub async fn stop(&self, _key: &SessionKey) -> Result<(), SessionError> {
        Err(SessionError::Unknown)
    }

    /// Every known session, newest activity first. Starts nothing and touches no idle clock.
    pub fn list(&self) -> Vec<SessionView> {
        Vec::new()
    }

    /// One session, with the use of its storage.
    pub async fn show(&self, _key: &SessionKey) -> Result<SessionView, SessionError> {
        Err(SessionError::Unknown)
    }

    /// Ends a session's compute and deletes its storage and its record.
    pub async fn remove(&self, _key: &SessionKey) -> Result<(), SessionError> {
        Err(SessionError::Unknown)
    }

    /// Forgets expired sessions and deletes storage that was set aside.
    pub async fn prune(&self) -> Result<Pruned, SessionError> {
        Ok(Pruned::default())
    }

    /// Lines of agents' logs, oldest first.
    pub fn logs(&self, _filter: LogFilter) -> BoxStream<'static, LogEntry> {
        Box::pin(futures_util::stream::empty())
    }

    /// Ends every compute of a runtime and deletes its sessions and their storage.
    pub async fn purge_runtime(&self, _id: &RuntimeId) {}

    /// Ends every compute of an endpoint and deletes its sessions and their storage.
    pub async fn purge_endpoint(&self, _id: &RuntimeId, _endpoint: &EndpointName) {}

    /// Stops every compute with grace.
    pub async fn shutdown(&self) {}
}
