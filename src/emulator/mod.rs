//! The local domain: runtimes and their versions, sessions and their life, the clock, the store.
//!
//! Knows no HTTP, no bollard and no volume: it speaks to computes and storage through the ports of
//! [`crate::engine`] and [`crate::storage`]. The server calls [`Emulator`]; nothing calls back.
//!
//! Ownership: [`registry::Registry`] owns runtimes, versions, endpoints and tags; [`sessions::Sessions`]
//! owns sessions, one task each; [`store::Store`] owns the SQLite connection, one thread;
//! [`clock::Clock`] owns the time that all lifecycle decisions use.

pub mod clock;
pub mod command;
pub mod engines;
mod logs;
pub mod registry;
pub mod sessions;
pub mod shells;
mod stop_tokens;
pub mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::artifacts::ArtifactStore;
use crate::artifacts::import::Importer;
use crate::egress::Egress;
use crate::engine::EngineError;
use crate::model::{AccountId, Artifact, EndpointName, Region, RuntimeId, SessionKey, Timestamp};

use clock::{Clock, ClockError};
use engines::Engines;
use registry::{
    ClientToken, EndpointDeletion, EndpointOutcome, Refusal, Registry, RegistryError, RuntimeDeletion,
    RuntimeOutcome, RuntimeSettings,
};
use sessions::{SessionError, Sessions};
use stop_tokens::StopTokens;
use store::{Store, StoreError};

/// What an emulator is set to.
#[derive(Debug, Clone)]
pub struct EmulatorConfig {
    /// State directory (`AGENTCORE_HOME`), mode 0700.
    pub home: PathBuf,
    /// Region in ARNs.
    pub region: Region,
    /// Account in ARNs.
    pub account: AccountId,
    /// Which images run: `linux/arm64`, or `native` for those of this machine. Told to whoever builds one.
    pub platform: String,
    /// Time between SIGTERM and SIGKILL when a session stops. [observed: 5 to 60 s on the service]
    pub stop_grace: Duration,
    /// Time a runtime or endpoint stays CREATING or UPDATING. [observed: about 10 s on the service]
    pub ready_delay: Duration,
    /// What a call meets that comes while its session starts or stops.
    pub conflicts: ConflictMode,
    /// Storage is there from the start of the compute instead of from the first healthy ping or command.
    pub early_mount: bool,
    /// Time between two pings of a live agent.
    pub ping_interval: Duration,
    /// Longest wait of a call for a session that starts or stops.
    pub wait_limit: Duration,
    /// Longest time to an agent's first healthy ping.
    pub init_timeout: Duration,
    /// What sessions reach outside.
    pub egress: Arc<Egress>,
    /// Fetches code packages from buckets; nothing: the emulator's own store is the only one.
    pub importer: Option<Importer>,
}

impl EmulatorConfig {
    /// The defaults, for state below `home`; sessions reach nothing outside.
    pub fn new(home: PathBuf, region: Region, account: AccountId) -> Self {
        Self {
            home,
            region,
            account,
            platform: "linux/arm64".to_owned(),
            stop_grace: Duration::from_secs(10),
            ready_delay: Duration::from_millis(100),
            conflicts: ConflictMode::Wait,
            early_mount: false,
            ping_interval: Duration::from_secs(5),
            wait_limit: Duration::from_secs(120),
            init_timeout: crate::model::limits::AGENT_INIT_TIMEOUT,
            egress: Arc::new(Egress::new(false, None)),
            importer: None,
        }
    }
}

/// What a call meets that comes while its session starts or stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictMode {
    /// It waits, bounded by [`EmulatorConfig::wait_limit`].
    Wait,
    /// 409 RetryableConflictException at once, as documented for the service.
    Aws,
}

/// The emulator as the server sees it.
pub struct Emulator {
    /// The settings it was opened with.
    pub config: EmulatorConfig,
    /// Runtimes, versions, endpoints, tags.
    pub registry: Arc<Registry>,
    /// Sessions.
    pub sessions: Arc<Sessions>,
    /// The clock.
    pub clock: Arc<Clock>,
    /// Name of the engine that runs code.
    pub engine: &'static str,
    /// What of the host it does not keep sessions from, a sentence for each.
    pub not_isolated: Vec<String>,
    /// The image that all code runs on in containers, where one was named.
    pub base_image: Option<String>,
    /// When it was opened.
    pub started_at: Timestamp,
    /// Interactive shells.
    pub shells: shells::Shells,
    store: Store,
    stops: Arc<StopTokens>,
}

/// Why an emulator could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The home directory.
    #[error("the state directory `{path}` cannot be used: {source}")]
    Home {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

impl Emulator {
    /// Opens the state below `config.home`, ends what a dead emulator left and takes up its sessions.
    pub async fn open(
        config: EmulatorConfig,
        engines: Engines,
        clock: Arc<Clock>,
    ) -> Result<Arc<Self>, OpenError> {
        let store = Store::open(&config.home.join("state.db")).await?;
        clock.restore(&store).await?;
        let registry = Registry::open(store.clone(), config.clone(), clock.clone()).await?;
        let artifacts = ArtifactStore::below(&config.home);
        let (engine, not_isolated, base_image) =
            (engines.name(), engines.not_isolated(), engines.base_image());
        let sessions = Sessions::open(
            store.clone(),
            registry.clone(),
            engines,
            artifacts,
            clock.clone(),
            config.clone(),
        )
        .await?;
        let (runtimes, endpoints) = registry.unfinished_deletions();
        for deletion in runtimes {
            tokio::spawn(purge_runtime(registry.clone(), sessions.clone(), deletion));
        }
        for deletion in endpoints {
            tokio::spawn(purge_endpoint(registry.clone(), sessions.clone(), deletion));
        }
        Ok(Arc::new(Self {
            started_at: clock.unshifted(),
            config,
            registry,
            sessions,
            clock,
            engine,
            not_isolated,
            base_image,
            shells: shells::Shells::default(),
            store,
            stops: Arc::default(),
        }))
    }

    /// Looks whether computes of a version could be made of its image, as the service does before it makes the version.
    /// An image that is not there yet, or an engine that cannot be asked, is for the session that needs it to tell.
    pub async fn check_image(&self, settings: &RuntimeSettings) -> Result<(), RegistryError> {
        let artifact = &settings.spec().artifact;
        let Artifact::Image(name) = artifact else { return Ok(()) };
        let refused = |e: EngineError| {
            RegistryError::Refused(vec![Refusal {
                member: "agentRuntimeArtifact.containerConfiguration.containerUri".to_owned(),
                message: e.in_full(),
            }])
        };
        let engine = self.sessions.engine_of(artifact).map_err(refused)?;
        match engine.check_image(name).await {
            Err(e @ EngineError::Architecture { .. }) => Err(refused(e)),
            _ => Ok(()),
        }
    }

    /// DeleteAgentRuntime: the runtime, its computes and all its sessions' storage. Answers when the runtime is marked
    /// DELETING and resolves no more; the rest follows in the background, or at the next start.
    pub async fn delete_agent_runtime(
        &self,
        id: &RuntimeId,
        token: Option<ClientToken>,
    ) -> Result<RuntimeOutcome, RegistryError> {
        let (registry, sessions, id) = (self.registry.clone(), self.sessions.clone(), id.clone());
        carried_out(move |answer| async move {
            let (outcome, deletion) = match registry.begin_delete_runtime(&id, token).await {
                Ok((outcome, deletion)) => (Ok(outcome), deletion),
                Err(e) => (Err(e), None),
            };
            let _ = answer.send(outcome);
            if let Some(deletion) = deletion {
                purge_runtime(registry, sessions, deletion).await;
            }
        })
        .await
        .unwrap_or_else(|| Err(StoreError::Closed.into()))
    }

    /// DeleteAgentRuntimeEndpoint: the endpoint, its computes and its sessions' storage. As [`Self::delete_agent_runtime`].
    pub async fn delete_agent_runtime_endpoint(
        &self,
        id: &RuntimeId,
        endpoint: &EndpointName,
        token: Option<ClientToken>,
    ) -> Result<EndpointOutcome, RegistryError> {
        let (registry, sessions) = (self.registry.clone(), self.sessions.clone());
        let (id, endpoint) = (id.clone(), endpoint.clone());
        carried_out(move |answer| async move {
            let (outcome, deletion) = match registry.begin_delete_endpoint(&id, &endpoint, token).await {
                Ok((outcome, deletion)) => (Ok(outcome), deletion),
                Err(e) => (Err(e), None),
            };
            let _ = answer.send(outcome);
            if let Some(deletion) = deletion {
                purge_endpoint(registry, sessions, deletion).await;
            }
        })
        .await
        .unwrap_or_else(|| Err(StoreError::Closed.into()))
    }

    /// StopRuntimeSession. The same `token` gets the same answer again: a client that lost the answer of a
    /// stop and repeats it must not hear that the session is unknown.
    pub async fn stop_session(&self, key: &SessionKey, token: Option<&str>) -> Result<(), SessionError> {
        if token.is_some_and(|token| self.stops.knows(key, token)) {
            return Ok(());
        }
        let (sessions, stops) = (self.sessions.clone(), self.stops.clone());
        let (key, token) = (key.clone(), token.map(str::to_owned));
        carried_out(move |answer| async move {
            let stopped = sessions.stop(&key).await;
            if let (Ok(()), Some(token)) = (&stopped, &token) {
                stops.remember(&key, token);
            }
            let _ = answer.send(stopped);
        })
        .await
        .unwrap_or(Err(SessionError::ShuttingDown))
    }

    /// Moves the clock ahead; every lifecycle decision follows at once.
    pub async fn advance_clock(&self, by: Duration) -> Result<(), ClockError> {
        self.clock.advance(by, &self.store).await
    }

    /// Back to real time.
    pub async fn reset_clock(&self) -> Result<(), StoreError> {
        self.clock.reset(&self.store).await
    }

    /// Stops every compute with grace and makes everything durable.
    pub async fn shutdown(&self) {
        self.sessions.shutdown().await;
    }
}

/// Runs work that must go to its end once it has begun: the caller only waits for its answer, and may leave. No
/// answer comes only from work that failed.
async fn carried_out<T: Send + 'static, W: Future<Output = ()> + Send + 'static>(
    work: impl FnOnce(oneshot::Sender<T>) -> W,
) -> Option<T> {
    let (answer, answered) = oneshot::channel();
    tokio::spawn(work(answer));
    answered.await.ok()
}

/// Time before a deletion that failed is tried again, doubled each time up to the second value. [ours]
const PURGE_PAUSE: Duration = Duration::from_secs(1);
const PURGE_PAUSE_MOST: Duration = Duration::from_secs(60);

/// Purges until nothing is left, since what is forgotten with files or processes behind it is never found again.
/// Returns false when the emulator ends before: the next one finds the deletion unfinished.
async fn purged(
    sessions: Arc<Sessions>,
    what: &str,
    id: &RuntimeId,
    endpoint: Option<&EndpointName>,
) -> bool {
    let mut sessions = sessions;
    let mut pause = PURGE_PAUSE;
    loop {
        let done = match endpoint {
            Some(endpoint) => sessions.purge_endpoint(id, endpoint).await,
            None => sessions.purge_runtime(id).await,
        };
        match done {
            Ok(()) => return true,
            Err(SessionError::ShuttingDown) => return false,
            Err(e) => tracing::warn!("{what} stays DELETING and is tried again in {}s: {e}", pause.as_secs()),
        }
        // Not kept alive by a deletion that does not get on.
        let waiting = Arc::downgrade(&sessions);
        drop(sessions);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PURGE_PAUSE_MOST);
        match waiting.upgrade() {
            Some(still) => sessions = still,
            None => return false,
        }
    }
}

async fn purge_runtime(registry: Arc<Registry>, sessions: Arc<Sessions>, deletion: RuntimeDeletion) {
    let id = deletion.id().clone();
    let what = format!("agent runtime `{id}`");
    if !purged(sessions, &what, &id, None).await {
        return;
    }
    if let Err(e) = registry.finish_delete_runtime(deletion).await {
        tracing::error!("deleting {what} will be finished at the next start: {e}");
    }
}

async fn purge_endpoint(registry: Arc<Registry>, sessions: Arc<Sessions>, deletion: EndpointDeletion) {
    let (id, name) = (deletion.runtime().clone(), deletion.name().clone());
    let what = format!("endpoint `{name}` of `{id}`");
    if !purged(sessions, &what, &id, Some(&name)).await {
        return;
    }
    if let Err(e) = registry.finish_delete_endpoint(deletion).await {
        tracing::error!("deleting {what} will be finished at the next start: {e}");
    }
}
