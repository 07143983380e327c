//! How a session's compute is made and how it is ended: everything that takes time and is not waiting.
//!
//! Order of a start: what can fail without a trace comes first (the version, its bundle, its command
//! line), then storage, then the record and the compute at the same time. The record is durable before
//! anybody is told of the compute, so whatever a crash leaves is found by the next emulator.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use super::lifecycle::storage_expired;
use super::live::{Entry, Live, Measure};
use super::{SessionError, Shared};
use crate::artifacts::{BUCKET, Bundle, Launch, Manifest};
use crate::egress::{self, Way};
use crate::emulator::engines::Site;
use crate::emulator::logs::{LogStream, Tail};
use crate::emulator::registry::Target;
use crate::emulator::store::events::Happening;
use crate::emulator::store::sessions::{SessionRecord, SetAside, StorageStamp};
use crate::engine::agent_http::AgentClient;
use crate::engine::{
    Compute, ComputeSpec, EngineError, InsideListener, Process, ProcessExit, ProcessSpec, StorageMount,
};
use crate::model::{
    Artifact, ArtifactRef, EndReason, ResetReason, RuntimeSpec, SessionKey, SessionState, Timestamp, limits,
    remarks,
};
use crate::storage::{StorageError, Usage};

/// What terminating may take beyond its grace before the compute counts as stuck. [ours]
const TERMINATE_SLACK: Duration = Duration::from_secs(15);
/// A wrapper that AWS's starter kits put before the program; it only adds tracing.
const TRACING_WRAPPER: &str = "opentelemetry-instrument";
/// The interpreter of the image that code runs on.
const IMAGE_PYTHON: &str = "python3";

/// A compute that has just been made.
pub(super) struct Started {
    pub(super) live: Arc<Live>,
    pub(super) spec: Arc<RuntimeSpec>,
    pub(super) started_at: Timestamp,
    pub(super) agent: RunningAgent,
}

/// The agent's process as the session sees it.
pub(super) struct RunningAgent {
    /// How it ended, in words, once it has.
    pub(super) ended: watch::Receiver<Option<String>>,
    /// What it wrote last.
    pub(super) tail: Tail,
}

/// The outcome of a start, and the record as it now stands in the store.
pub(super) struct Launched {
    pub(super) record: Option<SessionRecord>,
    pub(super) result: Result<Started, SessionError>,
}

fn failed(reason: impl std::fmt::Display) -> SessionError {
    SessionError::Start(reason.to_string())
}

impl From<EngineError> for SessionError {
    fn from(error: EngineError) -> Self {
        Self::Engine(Arc::new(error))
    }
}

/// Starts a session: a compute of the version its endpoint serves now, and the agent in it.
pub(super) async fn launch(shared: Arc<Shared>, entry: Arc<Entry>, known: Option<SessionRecord>) -> Launched {
    let mut record = known;
    let result = try_launch(&shared, &entry, &mut record).await;
    Launched { record, result }
}

async fn try_launch(
    shared: &Arc<Shared>,
    entry: &Arc<Entry>,
    kept: &mut Option<SessionRecord>,
) -> Result<Started, SessionError> {
    if let Some(record) = kept {
        end_leftover(shared, record).await?;
    }
    let key = &entry.key;
    let target = shared.targets.current(&key.runtime, &key.endpoint).ok_or(SessionError::Unknown)?;
    let source = shared.bundle(&target);
    let site = site_of(shared, kept.as_ref(), &target)?;
    let program = find_program(shared, &site, &target.spec, source.clone()).await?;

    let (now, begun) = (shared.clock.now(), std::time::Instant::now());
    let before = kept.as_ref().and_then(|r| r.storage.as_ref()).map(|s| s.id);
    let mut record = kept.clone().unwrap_or_else(|| SessionRecord {
        key: key.clone(),
        arn: target.arn.clone(),
        version: target.version,
        state: SessionState::Stopped,
        created_at: now,
        last_activity_at: now,
        last_end: None,
        storage: None,
        compute: None,
        engine: site.engine.name().to_owned(),
    });
    let (aside, reset) = fit_storage(shared, &site, &mut record, &target, now).await?;
    let resumed = before.filter(|id| record.storage.as_ref().is_some_and(|s| s.id == *id));
    record.arn = target.arn.clone();
    record.version = target.version;
    record.state = SessionState::Provisioning;
    record.last_activity_at = now;
    entry.touch();

    let way = shared.config.egress.open(&target.spec.role_arn);
    let spec = compute_spec(shared, &site, &record, &target.spec, &program, way.as_ref());
    let storage_ready = spec.early_mount || spec.storage.is_none();
    let early = spec.early_mount && spec.storage.is_some();
    let (saved, made) =
        tokio::join!(shared.store.save_session(record.clone(), aside), site.engine.start(spec));
    if let Err(e) = saved {
        end_at_once(made).await;
        discard_new_storage(&site, kept.as_ref(), &record).await;
        return Err(failed(e));
    }
    if let Some(reason) = reset {
        shared.happened(key, Happening::Reset(reason));
    }
    *kept = Some(record.clone());
    entry.publish(Some(record.clone()));
    let compute = made?;
    // Counted beside the agent's start, which does not wait for it.
    let found = resumed.map(|id| tokio::spawn(site.storage.usage(key, id)));
    let outside = way.zip(compute.take_listener()).map(|(way, listener)| way.serve(listener.connections()));

    record.compute = Some(compute.record());
    record.state = SessionState::Ready;
    let process = match program {
        Program::Code { argv, .. } => {
            ProcessSpec { argv, environment: Vec::new(), working_directory: None, user: None }
        }
        Program::Image(name) => compute.agent().ok_or_else(|| failed(format!("`{name}` starts no agent")))?,
    };
    let save = shared.store.save_session(record.clone(), None);
    let (saved, spawned) = if early {
        // This agent has the storage from its first moment: if the emulator dies now, the next one must know
        // of the compute, or it would start a second one beside it. An agent without storage harms nobody.
        (save.await, compute.spawn(process).await)
    } else {
        tokio::join!(save, compute.spawn(process))
    };
    if let Err(e) = saved {
        drop(spawned);
        end_at_once(Ok(compute)).await;
        return Err(failed(e));
    }
    *kept = Some(record);
    let agent = watch_agent(shared, key, spawned);
    note_start(shared, key, now, found);
    shared.logs.remark(key, &format!("session started, version {}", target.version)).await;
    let live = Live {
        compute,
        agent: AgentClient::new(target.spec.port),
        source,
        measure: Measure {
            events: shared.events.clone(),
            begun,
            resumed: resumed.is_some(),
            done: AtomicBool::new(false),
        },
        gate: Gate::default(),
        agent_ready: AtomicBool::new(false),
        agent_ended: AtomicBool::new(false),
        storage_ready: AtomicBool::new(storage_ready),
        usable: AtomicBool::new(false),
        cut: CancellationToken::new(),
        _outside: outside,
    };
    Ok(Started { live: Arc::new(live), spec: target.spec.clone(), started_at: now, agent })
}

/// Notes a start for the statistics; one that found storage when what it found is counted.
fn note_start(
    shared: &Arc<Shared>,
    key: &SessionKey,
    at: Timestamp,
    found: Option<JoinHandle<Result<Usage, StorageError>>>,
) {
    let Some(found) = found else { return shared.events.note(key, at, Happening::Started) };
    let (events, key) = (shared.events.clone(), key.clone());
    shared.spawn(async move {
        // Gone while it was counted, so nothing was found.
        let usage = found.await.ok().and_then(Result::ok).unwrap_or_default();
        events.note(&key, at, Happening::Resumed { files: usage.files, bytes: usage.bytes });
    });
}

/// Ends a compute that came to be although its record could not be kept.
async fn end_at_once(made: Result<Box<dyn Compute>, EngineError>) {
    if let Ok(compute) = made
        && let Err(e) = compute.terminate(Duration::ZERO).await
    {
        tracing::error!("a compute could not be ended: {e}");
    }
}

/// Deletes the storage that `record` has got beyond what is kept of the session: nothing names it.
async fn discard_new_storage(site: &Site, kept: Option<&SessionRecord>, record: &SessionRecord) {
    let id = |record: &SessionRecord| record.storage.as_ref().map(|stamp| stamp.id);
    let Some(new) = id(record).filter(|new| kept.and_then(id) != Some(*new)) else { return };
    match site.storage.discard(&record.key, new).await {
        Ok(place) => site.delete(place).await,
        // The next start finds it.
        Err(e) => tracing::warn!("{e}"),
    }
}

/// Ends what an earlier emulator, or a failed stop, left of the session.
pub(super) async fn end_leftover(shared: &Shared, record: &mut SessionRecord) -> Result<(), SessionError> {
    if let Some(compute) = record.compute.clone() {
        let site = shared.sites.recorded(&record.engine)?;
        site.engine.end_leftover(compute, shared.config.stop_grace).await?;
        record.compute = None;
    }
    Ok(())
}

/// Sees to it that the record has the storage that the version asks for, stamped with that version. Gives
/// what is set aside for that, and why the session lost the storage it had.
async fn fit_storage(
    shared: &Shared,
    site: &Site,
    record: &mut SessionRecord,
    target: &Target,
    now: Timestamp,
) -> Result<(Option<SetAside>, Option<ResetReason>), SessionError> {
    let key = record.key.clone();
    let (mut aside, mut reset) = (None, None);
    if let Some(stamp) = &record.storage {
        let old = shared.sites.recorded(&record.engine)?;
        let there = old.storage.exists(&key, stamp.id).await.map_err(failed)?;
        let expired = storage_expired(record.last_activity_at, now);
        if !there || expired || stamp.version != target.version || target.spec.session_storage.is_none() {
            let (reason, why) = match (there, expired) {
                (false, _) => (ResetReason::Missing, "is no longer there".to_owned()),
                (_, true) => (ResetReason::Expired, "was not used for 14 days".to_owned()),
                _ => (ResetReason::NewVersion, format!("is of version {}", stamp.version)),
            };
            reset = Some(reason);
            shared.logs.remark(&key, &format!("the session's storage {why}: it is set aside")).await;
            let engine = record.engine.clone();
            aside = there.then(|| SetAside {
                key: key.clone(),
                id: stamp.id,
                version: stamp.version,
                at: now,
                engine,
            });
            record.storage = None;
        }
    }
    site.engine.name().clone_into(&mut record.engine);
    if let (None, Some(mount_path)) = (&record.storage, &target.spec.session_storage) {
        let owner = site.engine.storage_owner();
        let id = site.storage.create(&key, target.version, owner).await.map_err(failed)?;
        let stamp = StorageStamp { id, version: target.version, mount_path: mount_path.clone() };
        record.storage = Some(stamp);
    }
    Ok((aside, reset))
}

/// What the agent is started from.
enum Program {
    /// A bundle, with the agent's command line, and the image around it where it runs in containers.
    Code { bundle: Box<Bundle>, argv: Vec<String>, image: Option<String> },
    /// An image by name, which says how its agent is started.
    Image(String),
}

/// The engine of a start: the one that has the storage which the session will keep, else the one for its artifact.
fn site_of(shared: &Shared, kept: Option<&SessionRecord>, target: &Target) -> Result<Site, SessionError> {
    let usual = shared.sites.of(&target.spec.artifact);
    let stored = kept.filter(|r| r.storage.as_ref().is_some_and(|stamp| stamp.version == target.version));
    let site = match stored {
        Some(record) if target.spec.session_storage.is_some() => shared.sites.recorded(&record.engine),
        _ => usual,
    };
    Ok(site?.clone())
}

async fn find_program(
    shared: &Shared,
    site: &Site,
    spec: &RuntimeSpec,
    source: String,
) -> Result<Program, SessionError> {
    let code = match &spec.artifact {
        Artifact::Image(_) => return Ok(Program::Image(source)),
        Artifact::Code(code) => code,
    };
    let bundle = Box::new(find_bundle(shared, code, source).await?);
    let image = shared.sites.image_around(site, bundle.manifest.image.as_deref());
    let argv = match &image {
        None => command_line(&bundle.manifest, &code.entry_point, |p| p.exists()),
        Some(_) => image_command_line(&bundle.manifest, &code.entry_point),
    };
    Ok(Program::Code { bundle, argv, image })
}

async fn find_bundle(shared: &Shared, code: &ArtifactRef, key: String) -> Result<Bundle, SessionError> {
    if code.bucket != BUCKET {
        let bucket = &code.bucket;
        return Err(failed(format!(
            "the code of this runtime is in bucket `{bucket}`, not in the emulator's own store"
        )));
    }
    let artifacts = shared.artifacts.clone();
    let found = tokio::task::spawn_blocking(move || artifacts.find(&key)).await;
    found.map_err(failed)?.map_err(failed)
}

/// The agent's command line. A leading tracing wrapper stays only where it is installed beside the
/// interpreter: offline there is nothing to trace to, and without it the agent would not start.
fn command_line(
    manifest: &Manifest,
    entry_point: &[String],
    exists: impl Fn(&std::path::Path) -> bool,
) -> Vec<String> {
    let interpreter = match &manifest.launch {
        Launch::Command { argv } => return argv.clone(),
        Launch::Python { interpreter } => interpreter,
    };
    let mut argv = Vec::new();
    let wrapped = entry_point.first().is_some_and(|first| first == TRACING_WRAPPER);
    if wrapped {
        let wrapper = interpreter.with_file_name(TRACING_WRAPPER);
        if exists(&wrapper) {
            argv.push(wrapper.to_string_lossy().into_owned());
        }
    }
    argv.push(interpreter.to_string_lossy().into_owned());
    argv.extend(entry_point.iter().skip(usize::from(wrapped)).cloned());
    argv
}

/// The same on an image, which has an interpreter of its own and no wrapper.
fn image_command_line(manifest: &Manifest, entry_point: &[String]) -> Vec<String> {
    match &manifest.launch {
        Launch::Command { argv } => argv.clone(),
        Launch::Python { .. } => {
            let wrapped = entry_point.first().is_some_and(|first| first == TRACING_WRAPPER);
            let words = entry_point.iter().skip(usize::from(wrapped)).cloned();
            std::iter::once(IMAGE_PYTHON.to_owned()).chain(words).collect()
        }
    }
}

/// Environment of a compute, each layer over the one before: ours, the bundle's, the runtime's.
///
/// A name that is given in either case replaces ours in both: programs differ in which case they read.
fn environment(
    region: &str,
    outside: Vec<(String, String)>,
    bundle: &[(String, String)],
    runtime: &[(String, String)],
) -> Vec<(String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let ours =
        [pair("AWS_REGION", region), pair("AWS_DEFAULT_REGION", region), pair("PYTHONUNBUFFERED", "1")];
    let given = |name: &str| {
        let mut names = bundle.iter().chain(runtime).map(|(name, _)| name);
        names.any(|known| known.eq_ignore_ascii_case(name))
    };
    // A key of ours would stand before a profile of the runtime's.
    let is_key = |name: &str| matches!(name, "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY");
    let has_own = ["AWS_PROFILE", "AWS_ACCESS_KEY_ID"].into_iter().any(given);
    let outside = outside.into_iter().filter(|(name, _)| !(given(name) || has_own && is_key(name)));
    let outside: Vec<_> = outside.collect();
    let mut merged: Vec<(String, String)> = Vec::new();
    for (name, value) in ours.iter().chain(&outside).chain(bundle).chain(runtime) {
        match merged.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(value),
            None => merged.push((name.clone(), value.clone())),
        }
    }
    merged
}

fn compute_spec(
    shared: &Shared,
    site: &Site,
    record: &SessionRecord,
    spec: &RuntimeSpec,
    program: &Program,
    way: Option<&Way>,
) -> ComputeSpec {
    let storage = record.storage.as_ref().map(|stamp| StorageMount {
        source: site.storage.place(&record.key, stamp.id),
        target: stamp.mount_path.clone(),
    });
    let (image, code, read_only, own) = match program {
        Program::Image(name) => (Some(name.clone()), None, Vec::new(), Vec::new()),
        Program::Code { bundle, image: None, .. } => {
            let manifest = &bundle.manifest;
            (None, Some(bundle.code.clone()), manifest.read_only.clone(), manifest.environment.clone())
        }
        // The host's interpreter and its packages are no use on an image, nor is what leads to them.
        Program::Code { bundle, image, .. } => {
            (image.clone(), Some(bundle.code.clone()), Vec::new(), Vec::new())
        }
    };
    let outside = way.map(Way::environment).unwrap_or_default();
    let key = &record.key;
    let labels = [
        ("runtime", key.runtime.to_string()),
        ("endpoint", key.endpoint.to_string()),
        ("session", key.session.to_string()),
        ("version", record.version.to_string()),
    ];
    ComputeSpec {
        label: label(key),
        image,
        code,
        read_only,
        environment: environment(shared.config.region.as_str(), outside, &own, &spec.environment),
        storage,
        early_mount: shared.config.early_mount || !site.engine.mounts_late(),
        listener: way.map(|way| InsideListener { port: egress::PORT, files: way.files() }),
        labels: labels.map(|(name, value)| (name.to_owned(), value)).to_vec(),
    }
}

/// `name-session`, cut so that it is a host name.
fn label(key: &SessionKey) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = key.runtime.name().chars().take(24).map(legal).collect();
    let session: String = key.session.as_str().chars().take(36).map(legal).collect();
    format!("{name}-{session}").trim_end_matches('-').to_owned()
}

/// Pumps the agent's output into the log and reports its end.
fn watch_agent(
    shared: &Arc<Shared>,
    key: &SessionKey,
    spawned: Result<Process, EngineError>,
) -> RunningAgent {
    let (report, ended) = watch::channel(None);
    let tail = Tail::default();
    match spawned {
        Ok(process) => {
            let pump = |stream, pipe| {
                shared.spawn(shared.logs.clone().pump(key.clone(), stream, pipe, tail.clone()))
            };
            let pumps = [pump(LogStream::Stdout, process.stdout), pump(LogStream::Stderr, process.stderr)];
            let mut control = process.control;
            shared.spawn(async move {
                let exit = match control.wait().await {
                    Ok(ProcessExit::Code(code)) => format!("exit code {code}"),
                    Ok(ProcessExit::Signal(number)) => signal_words(number),
                    Err(e) => e.to_string(),
                };
                // What it wrote last is the reason more often than not; children may hold the pipe open.
                let _ = timeout(limits::COMMAND_DRAIN, futures_util::future::join_all(pumps)).await;
                report.send_replace(Some(exit));
            });
        }
        Err(e) => {
            report.send_replace(Some(e.to_string()));
        }
    }
    RunningAgent { ended, tail }
}

fn signal_words(number: i32) -> String {
    match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => format!("ended by {signal}"),
        Err(_) => format!("ended by signal {number}"),
    }
}

/// Ends a compute: SIGTERM, grace, SIGKILL; then makes storage durable; then keeps the new state.
pub(super) async fn end(
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    live: Arc<Live>,
    record: SessionRecord,
    reason: EndReason,
) -> Ended {
    let grace = shared.config.stop_grace;
    shared.logs.remark(&entry.key, &format!("session stops: {}", words(reason))).await;
    let ended = match timeout(grace + TERMINATE_SLACK, live.compute.terminate(grace)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err("it did not end in time".to_owned()),
    };
    let mut record = record;
    match ended {
        Ok(()) => record.compute = None,
        Err(first) => {
            // A second way: what the engine knows how to do for the computes of dead emulators.
            tracing::warn!("session `{}` could not be terminated: {first}", entry.key.session);
            if let Err(e) = end_leftover(&shared, &mut record).await {
                return settle(&shared, &entry, record, reason, Err(e)).await;
            }
        }
    }
    settle(&shared, &entry, record, reason, Ok(())).await
}

/// Ends what a dead emulator left of a session.
pub(super) async fn recover(shared: Arc<Shared>, entry: Arc<Entry>, record: SessionRecord) -> Ended {
    let mut record = record;
    // Closed never: the semaphore lives as long as `shared`.
    let _permit = shared.recovery.acquire().await;
    shared.logs.remark(&entry.key, remarks::LEFT).await;
    let ended = end_leftover(&shared, &mut record).await;
    settle(&shared, &entry, record, EndReason::EmulatorCrashed, ended).await
}

/// The record after an end, and whether everything about it went well.
pub(super) struct Ended {
    pub(super) record: SessionRecord,
    pub(super) result: Result<(), SessionError>,
}

/// Makes an end durable that could not be made durable before.
pub(super) async fn settle_again(shared: Arc<Shared>, entry: Arc<Entry>, record: SessionRecord) -> Ended {
    let mut record = record;
    let ended = end_leftover(&shared, &mut record).await;
    make_durable(&shared, &entry, record, ended).await
}

async fn settle(
    shared: &Shared,
    entry: &Entry,
    mut record: SessionRecord,
    reason: EndReason,
    result: Result<(), SessionError>,
) -> Ended {
    shared.happened(&entry.key, Happening::Ended(reason));
    record.state = SessionState::Stopped;
    record.last_end = Some(reason);
    make_durable(shared, entry, record, result).await
}

/// Makes what the session wrote and its record durable.
async fn make_durable(
    shared: &Shared,
    entry: &Entry,
    mut record: SessionRecord,
    mut result: Result<(), SessionError>,
) -> Ended {
    if let Some(stamp) = &record.storage {
        let flushed = match shared.sites.recorded(&record.engine) {
            Ok(site) => site.storage.flush(&record.key, stamp.id).await.map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        };
        result = result.and(flushed.map_err(SessionError::Stop));
    }
    record.last_activity_at = entry.last_activity();
    if let Err(e) = shared.store.save_session(record.clone(), None).await {
        result = result.and(Err(SessionError::Stop(e.to_string())));
    }
    entry.owe(result.is_err());
    match &result {
        Ok(()) => shared.logs.remark(&entry.key, remarks::STOPPED).await,
        Err(e) => shared.logs.remark(&entry.key, &format!("{}{e}", remarks::STOPPED_BADLY)).await,
    }
    Ended { record, result }
}

/// A reason in words.
fn words(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Requested => "asked for",
        EndReason::IdleTimeout => "idle timeout",
        EndReason::MaxLifetime => "longest lifetime reached",
        EndReason::StartFailed => "the start failed",
        EndReason::Exited => "the agent or its compute ended",
        EndReason::SourceChanged => "restarted on changed code",
        EndReason::Deleted => "deleted",
        EndReason::Shutdown => "the emulator is shut down",
        EndReason::EmulatorCrashed => "the emulator crashed",
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn python() -> Manifest {
        Manifest {
            format: Manifest::FORMAT,
            launch: Launch::Python { interpreter: PathBuf::from("/p/.venv/bin/python3") },
            read_only: Vec::new(),
            environment: vec![("PATH".into(), "/p/.venv/bin".into()), ("A".into(), "bundle".into())],
            image: None,
        }
    }

    #[test]
    fn the_tracing_wrapper_stays_only_where_it_is_installed() {
        let entry = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let plain = command_line(&python(), &entry(&["main.py"]), |_| false);
        assert_eq!(plain, ["/p/.venv/bin/python3", "main.py"]);
        let wrapped = entry(&["opentelemetry-instrument", "main.py"]);
        assert_eq!(command_line(&python(), &wrapped, |_| false), plain);
        assert_eq!(
            command_line(&python(), &wrapped, |p| p.ends_with("opentelemetry-instrument")),
            ["/p/.venv/bin/opentelemetry-instrument", "/p/.venv/bin/python3", "main.py"]
        );
        let command = Manifest { launch: Launch::Command { argv: entry(&["node", "x.js"]) }, ..python() };
        assert_eq!(command_line(&command, &wrapped, |_| true), ["node", "x.js"]);
    }

    #[test]
    fn labels_are_host_names() {
        let key = SessionKey {
            runtime: format!("a_{}-AbCdEf0123", "b".repeat(60)).parse().unwrap(),
            endpoint: "DEFAULT".parse().unwrap(),
            session: format!("s{}", "_".repeat(60)).parse().unwrap(),
        };
        let label = label(&key);
        assert!(label.len() <= 63 && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{label}");
        assert!(!label.ends_with('-'));
    }
}
