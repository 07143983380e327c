//! The local domain: runtimes and their versions, sessions and their life, the clock, the store.
//!
//! Knows no HTTP, no bollard and no volume: it speaks to computes and storage through the ports of
//! [`crate::engine`] and [`crate::storage`]. The server calls [`Emulator`]; nothing calls back.
//!
//! Ownership: [`registry::Registry`] owns runtimes, versions, endpoints and tags; [`sessions::Sessions`]
//! owns sessions, one task each; [`store::Store`] owns the SQLite connection, one thread;
//! [`clock::Clock`] owns the time that all lifecycle decisions use.

pub mod clock;
mod logs;
pub mod registry;
pub mod sessions;
pub mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::artifacts::ArtifactStore;
use crate::engine::Engine;
use crate::model::{AccountId, EndpointName, Region, RuntimeId};

use clock::Clock;
use registry::{Registry, RegistryError};
use sessions::Sessions;
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
}

impl EmulatorConfig {
    /// The defaults, for state below `home`.
    pub fn new(home: PathBuf, region: Region, account: AccountId) -> Self {
        Self {
            home,
            region,
            account,
            stop_grace: Duration::from_secs(10),
            ready_delay: Duration::from_millis(100),
            conflicts: ConflictMode::Wait,
            early_mount: false,
            ping_interval: Duration::from_secs(5),
            wait_limit: Duration::from_secs(120),
            init_timeout: crate::model::limits::AGENT_INIT_TIMEOUT,
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
    /// Name of the engine that runs sessions.
    pub engine: &'static str,
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
        engine: Arc<dyn Engine>,
        clock: Arc<Clock>,
    ) -> Result<Arc<Self>, OpenError> {
        let store = Store::open(&config.home.join("state.db")).await?;
        clock.restore(&store).await?;
        let registry = Registry::open(store.clone(), config.clone(), clock.clone()).await?;
        let artifacts = ArtifactStore::below(&config.home);
        let engine_name = engine.name();
        let sessions =
            Sessions::open(store, registry.clone(), engine, artifacts, clock.clone(), config.clone()).await?;
        Ok(Arc::new(Self { config, registry, sessions, clock, engine: engine_name }))
    }

    /// DeleteAgentRuntime: the runtime, its computes and all its sessions' storage.
    pub async fn delete_agent_runtime(&self, id: &RuntimeId) -> Result<(), RegistryError> {
        let deletion = self.registry.begin_delete_runtime(id).await?;
        self.sessions.purge_runtime(id).await;
        self.registry.finish_delete_runtime(deletion).await
    }

    /// DeleteAgentRuntimeEndpoint: the endpoint, its computes and its sessions' storage.
    pub async fn delete_agent_runtime_endpoint(
        &self,
        id: &RuntimeId,
        endpoint: &EndpointName,
    ) -> Result<(), RegistryError> {
        let deletion = self.registry.begin_delete_endpoint(id, endpoint).await?;
        self.sessions.purge_endpoint(id, endpoint).await;
        self.registry.finish_delete_endpoint(deletion).await
    }

    /// Stops every compute with grace and makes everything durable.
    pub async fn shutdown(&self) {
        self.sessions.shutdown().await;
    }
}
