//! Sessions: one task each, which owns the session's state and its compute.
//!
//! A known session is an entry in a map, with its record and, while it has a compute, the way into it.
//! A call enters a ready compute through the entry alone ([`live`]); everything else is a message to the
//! session's task ([`actor`]), which exists only while there is something to do: a thousand stopped
//! sessions cost a thousand entries and nothing more. Decisions by time and by the agent's fate are pure
//! ([`lifecycle`]); what takes time is in [`launch`].
//!
//! # The agent's fate
//!
//! `Ready` means that a compute runs, whatever its agent does. What becomes of compute and calls:
//!
//! | the agent | a call needing it waits | then |
//! |---|---|---|
//! | ends before its first healthy ping | yes | the calls fail with `AgentDied` and its last lines; the compute ends (`StartFailed`) |
//! | ends before its first healthy ping | no, commands only | the compute lives on under the idle and lifetime rules [observed: commands run beside an agent that never listens, and share `/tmp`] |
//! | is not healthy within the init timeout | yes | the calls fail with `InitTimeout` and its last lines; the compute ends (`StartFailed`) |
//! | is not healthy within the init timeout | no | as above: the compute lives on; an agent that becomes healthy later is taken |
//! | ends after it was healthy | - | the compute ends (`Exited`) |
//! | does not answer pings | - | nothing: a hard-working agent may miss some. A last `HealthyBusy` is believed for [`lifecycle::MAX_SILENT_PINGS`] pings |
//!
//! "The compute ends" waits for calls that are inside (a command goes on to its end); new commands
//! still enter meanwhile. Calls of a dead agent are waited for some seconds, in which its last words arrive, and
//! then cut: a caller that does not read must not keep the session. A later call that needs the agent:
//!
//! | agent | no command inside | commands inside |
//! |---|---|---|
//! | starting | waits | waits |
//! | healthy | enters | enters |
//! | late or dead | the compute is ended in the same way and the call starts a new one | fails at once with what became of the agent |
//!
//! # A stop
//!
//! The gate is closed, streams are cut and SIGTERM is sent in one moment, as on the service [observed:
//! SIGTERM arrives in the middle of work and ongoing streams are cut; the agent may use its grace to
//! save, not to answer]. After the grace SIGKILL, then storage is made durable, then the stop is answered.
//! Calls that were waiting for the session when the stop came fail with `Busy`; calls that come after
//! it wait for its end and start anew (or fail with `Busy` under [`super::ConflictMode::Aws`]).
//!
//! A stop that could not be made durable (the disk was full) fails, although nothing runs any more. It is owed from then on:
//! the next stop makes it durable, or fails again, and is not told that there was nothing to stop.
//!
//! # Storage
//!
//! Stamped with the version whose computes may see it. Replaced by a version update or unused for 14
//! days, it is set aside: recorded and kept on disk until [`Sessions::prune`] or the session's removal.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use parking_lot::RwLock;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::EmulatorConfig;
use super::clock::Clock;
use super::engines::{Engines, Site, Sites};
use super::logs::Logs;
use super::registry::{Registry, Target};
use super::store::sessions::SessionRecord;
use super::store::{Store, StoreError};
use crate::artifacts::ArtifactStore;
use crate::engine::{ComputeRecord, Engine, EngineError};
pub use crate::engine::{Holder, Limit};
use crate::model::{
    Artifact, EndReason, EndpointName, RuntimeArn, RuntimeId, SessionId, SessionKey, SessionState, Timestamp,
    Version,
};
use crate::storage::{Place, StorageError, StorageId};

use actor::{Message, Refused};
use listing::is_live;
use live::Entry;

mod actor;
mod bundles;
mod gate;
mod launch;
mod lifecycle;
mod listing;
mod live;
mod sources;
mod stats;
#[cfg(test)]
mod tests;

pub use super::logs::{LogEntry, LogFilter};
pub use listing::{Listing, SessionFilter};
pub use live::{Cut, Familiar, Lease};
pub use sources::{SourceChange, SourceError};
pub use stats::{FirstAnswers, Stats, Totals};

/// Time until an engine that could not be asked what is left on it is asked again. [ours]
const SWEEP_AGAIN: Duration = Duration::from_secs(30);
/// Times between looks at an engine where what a dead emulator asked for may still be done. [ours: a daemon makes a container
/// in tenths of a second, and in tens of seconds where many are made on a busy machine]
const SWEEP_LATE: [Duration; 3] = [Duration::from_secs(3), Duration::from_secs(15), Duration::from_secs(60)];
/// Time between two looks for storage that has expired, besides every move of the clock. [ours]
const EXPIRY_LOOK: Duration = Duration::from_secs(3600);
/// Time between two writes of last activities to the store. [ours]
const ACTIVITY_WRITE: Duration = Duration::from_secs(5);
/// Computes of a dead emulator that are ended at a time. [ours]
const RECOVERIES_AT_A_TIME: usize = 8;

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
    /// The compute has ended, but that, or what its session wrote, could not be made durable.
    #[error("the session was ended, but that could not be made durable: {0}")]
    Stop(String),
    /// The emulator is shutting down.
    #[error("the emulator is shutting down")]
    ShuttingDown,
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
    /// The engine that it runs on, or ran on last.
    pub engine: String,
    /// Its storage.
    pub storage: Option<StorageView>,
    /// The limits in force; for a single session with a compute only.
    pub limits: Vec<Limit>,
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

/// Where a session that starts anew learns what its endpoint serves.
trait Targets: Send + Sync + 'static {
    /// What `(runtime, endpoint)` serves now; nothing when it does not exist or is being deleted.
    fn current(&self, runtime: &RuntimeId, endpoint: &EndpointName) -> Option<Arc<Target>>;

    /// Every runtime there is.
    fn runtimes(&self) -> Vec<RuntimeId>;

    /// What any version of them runs: keys of bundles, names of images.
    fn all_sources(&self) -> HashSet<String>;
}

impl Targets for Registry {
    fn current(&self, runtime: &RuntimeId, endpoint: &EndpointName) -> Option<Arc<Target>> {
        Registry::current(self, runtime, endpoint)
    }

    fn runtimes(&self) -> Vec<RuntimeId> {
        Registry::runtime_ids(self)
    }

    fn all_sources(&self) -> HashSet<String> {
        Registry::all_sources(self)
    }
}

/// What every session's task uses.
struct Shared {
    store: Store,
    targets: Arc<dyn Targets>,
    sites: Sites,
    artifacts: ArtifactStore,
    clock: Arc<Clock>,
    config: EmulatorConfig,
    logs: Logs,
    entries: RwLock<HashMap<SessionKey, Arc<Entry>>>,
    /// What happened and is not kept yet; shared with live computes.
    events: Arc<stats::Events>,
    /// Code that computes of a runtime's version run in place of the version's own.
    sources: RwLock<HashMap<RuntimeId, (Version, String)>>,
    shutting_down: AtomicBool,
    /// Cancelled when [`Sessions`] is dropped: no task outlives it.
    dropped: CancellationToken,
    recovery: Semaphore,
}

impl Shared {
    /// Runs a task that ends with [`Sessions`] at the latest.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let dropped = self.dropped.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = dropped.cancelled() => {}
                () = work => {}
            }
        })
    }

    fn entry(&self, key: &SessionKey) -> Option<Arc<Entry>> {
        self.entries.read().get(key).cloned()
    }

    /// The session's entry, a new one if there is none.
    fn entry_or_new(&self, key: &SessionKey) -> Arc<Entry> {
        let new = || Arc::new(Entry::new(key.clone(), self.clock.clone(), None));
        self.entries.write().entry(key.clone()).or_insert_with(new).clone()
    }

    fn all(&self) -> Vec<Arc<Entry>> {
        self.entries.read().values().cloned().collect()
    }

    /// Takes this very entry out of the map.
    fn forget_entry(&self, entry: &Arc<Entry>) {
        let mut entries = self.entries.write();
        if entries.get(&entry.key).is_some_and(|known| Arc::ptr_eq(known, entry)) {
            entries.remove(&entry.key);
        }
    }

    /// Where storage of a session can be: on the engine that it ran on last, and on those whose storage was set aside.
    async fn sites_of(
        &self,
        key: &SessionKey,
        record: Option<&SessionRecord>,
    ) -> Result<Vec<Site>, SessionError> {
        let failed = |e: StoreError| SessionError::Start(e.to_string());
        let aside =
            self.store.set_aside().await.map_err(failed)?.into_iter().filter(|aside| aside.key == *key);
        let mut names: Vec<String> = aside.map(|aside| aside.engine).collect();
        names.extend(record.map(|record| record.engine.clone()));
        let mut found: Vec<Site> = Vec::new();
        for name in names {
            let site = self.sites.recorded(&name)?;
            if !found.iter().any(|known| Arc::ptr_eq(&known.storage, &site.storage)) {
                found.push(site.clone());
            }
        }
        Ok(found)
    }
}

/// Owner of all sessions. Dropping it without [`Sessions::shutdown`] ends every compute without grace.
pub struct Sessions {
    shared: Arc<Shared>,
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.shared.dropped.cancel();
    }
}

impl Sessions {
    /// Reads the sessions from the store and ends the computes that a dead emulator left.
    pub async fn open(
        store: Store,
        registry: Arc<Registry>,
        engines: Engines,
        artifacts: ArtifactStore,
        clock: Arc<Clock>,
        config: EmulatorConfig,
    ) -> Result<Arc<Self>, StoreError> {
        Self::open_with(store, registry, engines, artifacts, clock, config).await
    }

    async fn open_with(
        store: Store,
        targets: Arc<dyn Targets>,
        engines: Engines,
        artifacts: ArtifactStore,
        clock: Arc<Clock>,
        config: EmulatorConfig,
    ) -> Result<Arc<Self>, StoreError> {
        let home = |source| StoreError::Home { path: config.home.clone(), source };
        let logs = Logs::below(&config.home, clock.clone()).map_err(home)?;
        let records = store.sessions().await?;
        let aside = store.set_aside().await?.into_iter().map(|aside| (aside.key, aside.id));
        let known = records.iter().filter_map(|r| Some((r.key.clone(), r.storage.as_ref()?.id)));
        let known: HashSet<_> = known.chain(aside).collect();
        let computes: Vec<_> = records.iter().filter_map(|record| record.compute.clone()).collect();
        let sources = store.changed_sources().await?.into_iter().map(|s| (s.runtime, (s.version, s.bundle)));
        let shared = Arc::new(Shared {
            store,
            targets,
            sites: engines.with_storage(&config.home),
            artifacts,
            clock,
            config,
            logs,
            entries: RwLock::default(),
            events: Arc::default(),
            sources: RwLock::new(sources.collect()),
            shutting_down: AtomicBool::new(false),
            dropped: CancellationToken::new(),
            recovery: Semaphore::new(RECOVERIES_AT_A_TIME),
        });
        let mut left = Vec::new();
        for mut record in records {
            let at_rest = matches!(record.state, SessionState::Stopped | SessionState::Expired);
            let stopping = record.compute.is_some() || !at_rest;
            if stopping {
                record.state = SessionState::Stopping;
            }
            let key = record.key.clone();
            let entry = Arc::new(Entry::new(key.clone(), shared.clock.clone(), Some(record)));
            if stopping {
                left.push(entry.clone());
            }
            shared.entries.write().insert(key, entry);
        }
        for entry in left {
            entry.send(Message::Recover, &shared);
        }
        for site in shared.sites.all() {
            shared.spawn(sweep(shared.clone(), site.clone(), computes.clone(), known.clone()));
        }
        shared.spawn(expire_storages(shared.clone()));
        shared.spawn(write_activities(shared.clone()));
        shared.spawn(stats::keep_at_intervals(shared.clone()));
        shared.spawn(bundles::sweep_at_intervals(shared.clone()));
        Ok(Arc::new(Self { shared }))
    }

    /// Enters a session, making, starting or resuming it as `need` asks. On the path of every call:
    /// a ready session is entered without a message to its task and without the store.
    pub async fn acquire(
        &self,
        target: &Arc<Target>,
        session: &SessionId,
        need: Need,
    ) -> Result<Lease, SessionError> {
        let key = SessionKey {
            runtime: target.arn.id.clone(),
            endpoint: target.endpoint.clone(),
            session: session.clone(),
        };
        if let Some(lease) = self.shared.entry(&key).and_then(|entry| entry.enter(need)) {
            return Ok(lease);
        }
        // Boxed, so that the usual path does not carry the size of this one.
        let slow = Box::pin(self.enter_slowly(&key, need));
        timeout(self.shared.config.wait_limit, slow).await.unwrap_or(Err(SessionError::Busy))
    }

    /// The same for a session that is named again and again: found where it was last time, it is not looked for.
    pub async fn acquire_familiar(
        &self,
        target: &Arc<Target>,
        session: &Familiar,
        need: Need,
    ) -> Result<Lease, SessionError> {
        if let Some(lease) = session.enter(target, need) {
            return Ok(lease);
        }
        let lease = self.acquire(target, &session.id, need).await?;
        session.remember(&lease);
        Ok(lease)
    }

    async fn enter_slowly(&self, key: &SessionKey, need: Need) -> Result<Lease, SessionError> {
        let shared = &self.shared;
        loop {
            if shared.shutting_down.load(Ordering::SeqCst) {
                return Err(SessionError::ShuttingDown);
            }
            let entry = shared.entry_or_new(key);
            if let Some(lease) = entry.enter(need) {
                return Ok(lease);
            }
            let (reply, answer) = oneshot::channel();
            if entry.send(Message::Acquire { need, reply }, shared) {
                match answer.await {
                    Ok(Ok(lease)) => return Ok(lease),
                    Ok(Err(Refused::Error(error))) => return Err(error),
                    Ok(Err(Refused::Retry)) => {}
                    Err(_) => return Err(SessionError::ShuttingDown),
                }
            }
            // The entry is on its way out of the map.
            tokio::task::yield_now().await;
        }
    }

    /// StopRuntimeSession: returns when the compute is gone and its storage durable.
    pub async fn stop(&self, key: &SessionKey) -> Result<(), SessionError> {
        let entry = self.shared.entry(key).ok_or(SessionError::Unknown)?;
        self.stop_entry(&entry, EndReason::Requested).await
    }

    async fn stop_entry(&self, entry: &Arc<Entry>, reason: EndReason) -> Result<(), SessionError> {
        let (reply, answer) = oneshot::channel();
        if !entry.send(Message::Stop { reason, reply }, &self.shared) {
            return Err(SessionError::Unknown);
        }
        answer.await.unwrap_or(Err(SessionError::ShuttingDown))
    }

    /// Every known session, newest activity first. Starts nothing and touches no idle clock.
    pub fn list(&self) -> Vec<SessionView> {
        let mut listing = self.listing(&SessionFilter::default());
        std::iter::from_fn(|| listing.next(view)).collect()
    }

    /// Known sessions, newest activity first, to be looked at one by one. Starts nothing and touches no idle clock.
    pub fn listing(&self, filter: &SessionFilter) -> Listing {
        Listing::of(self.shared.all(), filter)
    }

    /// How many sessions have a compute or are about to have one, and how many are known.
    pub fn count(&self) -> (usize, usize) {
        let states = self.shared.all().into_iter().filter_map(|entry| entry.look(|_, state, _| state));
        states.fold((0, 0), |(live, known), state| (live + usize::from(is_live(state)), known + 1))
    }

    /// One session, with the use of its storage.
    pub async fn show(&self, key: &SessionKey) -> Result<SessionView, SessionError> {
        let entry = self.shared.entry(key).ok_or(SessionError::Unknown)?;
        let record = entry.shown().ok_or(SessionError::Unknown)?;
        let stamp = record.storage.clone();
        let mut view = view(&record, record.state, record.last_activity_at);
        view.limits = entry.live().map(|live| live.compute.limits()).unwrap_or_default();
        if let (Some(storage), Some(stamp)) = (&mut view.storage, stamp) {
            // Replaced or removed meanwhile: then there is nothing to count.
            if let Ok(site) = self.shared.sites.recorded(&view.engine) {
                let usage = site.storage.usage(key, stamp.id).await;
                storage.usage = usage.ok().map(|u| (u.bytes, u.files));
            }
        }
        Ok(view)
    }

    /// Ends a session's compute and deletes its storage and its record.
    pub async fn remove(&self, key: &SessionKey) -> Result<(), SessionError> {
        let entry = self.shared.entry(key).ok_or(SessionError::Unknown)?;
        self.remove_entry(&entry, false).await
    }

    async fn remove_entry(&self, entry: &Arc<Entry>, if_expired: bool) -> Result<(), SessionError> {
        let (reply, answer) = oneshot::channel();
        if !entry.send(Message::Remove { if_expired, reply }, &self.shared) {
            return Err(SessionError::Unknown);
        }
        answer.await.unwrap_or(Err(SessionError::ShuttingDown))
    }

    /// Forgets expired sessions and deletes storage that was set aside.
    pub async fn prune(&self) -> Result<Pruned, SessionError> {
        let failed = |e: &dyn std::fmt::Display| SessionError::Start(e.to_string());
        let shared = &self.shared;
        let mut pruned = Pruned::default();
        for aside in shared.store.set_aside().await.map_err(|e| failed(&e))? {
            let site = shared.sites.recorded(&aside.engine)?.clone();
            let usage = site.storage.usage(&aside.key, aside.id).await.unwrap_or_default();
            let place = match self.discard(&aside.key, aside.id, aside.engine).await {
                // The session is being started or removed: the next prune finds what is left.
                Err(SessionError::Busy) => continue,
                place => place?,
            };
            if place.is_some() {
                pruned.storages += 1;
                pruned.bytes += usage.bytes;
            }
            site.delete(place).await;
        }
        for entry in shared.all() {
            let expired = entry.record().is_some_and(|r| r.state == SessionState::Expired);
            if expired && self.remove_entry(&entry, true).await.is_ok() {
                pruned.sessions += 1;
            }
        }
        Ok(pruned)
    }

    /// Removes the images that were built for this emulator and that nothing runs any more: no version, no changed code, no
    /// running compute. None while somebody builds one, which nothing names yet; nobody does meanwhile. Once begun it goes on
    /// to its end, whoever asked for it.
    pub async fn prune_images(&self) -> Result<usize, SessionError> {
        let shared = self.shared.clone();
        let pruned = tokio::spawn(async move { bundles::prune_images(&shared).await }).await;
        pruned.map_err(|e| SessionError::Start(e.to_string()))?
    }

    /// Asks the owner of a session, who alone knows which storage is in use, to give one up that was set aside.
    async fn discard(
        &self,
        key: &SessionKey,
        id: StorageId,
        engine: String,
    ) -> Result<Option<Place>, SessionError> {
        let (reply, answer) = oneshot::channel();
        if !self.shared.entry_or_new(key).send(Message::Discard { id, engine, reply }, &self.shared) {
            return Err(SessionError::Busy);
        }
        answer.await.unwrap_or(Err(SessionError::ShuttingDown))
    }

    /// The engine that runs an artifact.
    pub(super) fn engine_of(&self, artifact: &Artifact) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(self.shared.sites.of(artifact)?.engine.clone())
    }

    /// Lines of agents' logs, oldest first.
    pub fn logs(&self, filter: LogFilter) -> BoxStream<'static, LogEntry> {
        self.shared.logs.stream(filter)
    }

    /// Ends every compute of a runtime and deletes its sessions and their storage.
    /// On an error something is left, and this is to be called again.
    pub async fn purge_runtime(&self, id: &RuntimeId) -> Result<(), SessionError> {
        self.purge(|key| key.runtime == *id).await?;
        // What no record tells of: left by a crash in the middle of a creation.
        for site in self.shared.sites.all() {
            match site.storage.discard_runtime(id).await {
                Ok(places) => site.delete(places).await,
                // Every session has gone with its storage; a daemon that is away does not keep the runtime.
                Err(e) if !site.engine.mounts_late() => tracing::warn!("{e}"),
                Err(e) => return Err(SessionError::Start(e.to_string())),
            }
        }
        self.shared.forget_source(id).await;
        // Those that wait belong to it too.
        self.shared.keep_events().await;
        if let Err(e) = self.shared.store.forget_events(id.clone()).await {
            tracing::warn!("the statistics of `{id}` could not be forgotten: {e}");
        }
        self.shared.logs.forget_runtime(id).await;
        Ok(())
    }

    /// Ends every compute of an endpoint and deletes its sessions and their storage.
    /// As [`Self::purge_runtime`].
    pub async fn purge_endpoint(&self, id: &RuntimeId, endpoint: &EndpointName) -> Result<(), SessionError> {
        self.purge(|key| key.runtime == *id && key.endpoint == *endpoint).await
    }

    /// The registry has stopped to resolve these keys before this is called. An entry stands in the map
    /// before its task asks the registry, so a start either is seen here or finds nothing to start.
    async fn purge(&self, doomed: impl Fn(&SessionKey) -> bool) -> Result<(), SessionError> {
        let entries = self.shared.all().into_iter().filter(|e| doomed(&e.key));
        let removals = entries.map(|entry| async move {
            match self.remove_entry(&entry, false).await {
                Ok(()) | Err(SessionError::Unknown) => Ok(()),
                Err(e) => {
                    tracing::warn!("session `{}` could not be deleted: {e}", entry.key.session);
                    Err(e)
                }
            }
        });
        join_all(removals).await.into_iter().collect()
    }

    /// Stops every compute with grace.
    pub async fn shutdown(&self) {
        self.shared.shutting_down.store(true, Ordering::SeqCst);
        // An entry without a task has no compute; one that gets a task from now on starts nothing.
        let open = |e: &Arc<Entry>| e.has_task() || e.is_owed();
        let running: Vec<_> = self.shared.all().into_iter().filter(open).collect();
        let stops = running.iter().map(|entry| async move {
            match self.stop_entry(entry, EndReason::Shutdown).await {
                Ok(()) | Err(SessionError::Unknown) => {}
                Err(e) => tracing::warn!("session `{}` did not stop cleanly: {e}", entry.key.session),
            }
        });
        join_all(stops).await;
        self.shared.keep_events().await;
        self.shared.logs.flush().await;
    }
}

fn view(record: &SessionRecord, state: SessionState, last_activity_at: Timestamp) -> SessionView {
    let storage = record.storage.as_ref();
    SessionView {
        storage: storage.map(|s| StorageView { mount_path: s.mount_path.to_string(), usage: None }),
        key: record.key.clone(),
        arn: record.arn.clone(),
        version: record.version,
        state,
        created_at: record.created_at,
        last_activity_at,
        last_end: record.last_end,
        engine: record.engine.clone(),
        limits: Vec::new(),
    }
}

/// Clears away what earlier emulators made and did not get to record, or discarded and did not get to delete. An engine
/// that cannot be asked now is asked again.
async fn sweep(
    shared: Arc<Shared>,
    site: Site,
    computes: Vec<ComputeRecord>,
    known: HashSet<(SessionKey, StorageId)>,
) {
    let mut warned = false;
    let mut again = SWEEP_LATE.into_iter();
    loop {
        let swept = match site.engine.sweep(computes.clone()).await {
            Ok(()) => sweep_storage(&shared, &site, known.clone()).await.map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        };
        match swept {
            // What a dead emulator asked of a daemon, that may still do after the first look.
            Ok(()) => match again.next() {
                Some(pause) if site.engine.works_on() => {
                    sleep(pause).await;
                    continue;
                }
                _ => return,
            },
            Err(e) if warned => tracing::debug!("{e}"),
            Err(e) => tracing::warn!("what an earlier emulator left will be looked for again: {e}"),
        }
        warned = true;
        sleep(SWEEP_AGAIN).await;
    }
}

async fn sweep_storage(
    shared: &Shared,
    site: &Site,
    known: HashSet<(SessionKey, StorageId)>,
) -> Result<(), StorageError> {
    let unknown = site.storage.discard_unknown(shared.targets.runtimes(), known).await?;
    if !unknown.is_empty() {
        tracing::info!("{} storages that no session knows are deleted", unknown.len());
    }
    // Directories are among what was discarded; a volume is in one list alone.
    let discarded: HashSet<Place> = site.storage.discarded().await?.into_iter().chain(unknown).collect();
    site.delete(discarded).await;
    Ok(())
}

/// Asks stopped sessions whose storage has been kept for long enough to set it aside. After the clock was set back,
/// times ahead of it would keep storage for as long as it had been moved.
async fn expire_storages(shared: Arc<Shared>) {
    let mut moves = shared.clock.moves();
    loop {
        let mut rebased = Vec::new();
        let entries = shared.all();
        // Read after the entries: whoever is active now is not ahead of it.
        let now = shared.clock.now();
        for entry in entries {
            if entry.rebase(now) {
                rebased.push((entry.key.clone(), now));
            }
            let due = |r: SessionRecord| {
                r.state == SessionState::Stopped
                    && r.storage.is_some()
                    && lifecycle::storage_expired(r.last_activity_at, now)
            };
            if entry.record().is_some_and(due) {
                entry.send(Message::Expire, &shared);
            }
        }
        if !rebased.is_empty()
            && let Err(e) = shared.store.touch_sessions(rebased).await
        {
            tracing::warn!("times of last activity could not be kept: {e}");
        }
        tokio::select! {
            () = sleep(EXPIRY_LOOK) => {}
            moved = moves.changed() => if moved.is_err() { return },
        }
    }
}

/// Writes the times of last activity that have changed, so that a crash loses few seconds of them.
async fn write_activities(shared: Arc<Shared>) {
    let mut written: HashMap<SessionKey, Timestamp> = HashMap::new();
    loop {
        sleep(ACTIVITY_WRITE).await;
        let live: Vec<_> = shared.all().into_iter().filter(|e| e.has_task()).collect();
        let keys: HashSet<&SessionKey> = live.iter().map(|e| &e.key).collect();
        written.retain(|key, _| keys.contains(key));
        let mut changed = Vec::new();
        for entry in live {
            let at = entry.last_activity();
            if written.insert(entry.key.clone(), at) != Some(at) {
                changed.push((entry.key.clone(), at));
            }
        }
        if !changed.is_empty()
            && let Err(e) = shared.store.touch_sessions(changed).await
        {
            tracing::warn!("times of last activity could not be kept: {e}");
        }
    }
}
