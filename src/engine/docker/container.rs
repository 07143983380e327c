//! A session's container: made, watched to its end, cleared away.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig, RestartPolicy, RestartPolicyNameEnum};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::Shared;
use super::apart;
use super::daemon::{ContainerEnd, Daemon, Holds, log, no_log, read_only, security, sources, volume_at};
use super::image::{self, Image};
use super::plan::{CODE, Inside, LINK, OUT_OF_REACH, Plan, SOCKET};
use super::relay::near::Near;
use crate::engine::linked::{About, END_MARGIN, Line, LinkedCompute, Spawner, Vessel, listener_of};
use crate::engine::{ComputeRecord, ComputeSpec, EngineError, Holder, Limit, ProcessSpec, SessionListener};
use crate::helper::confine::kept_capabilities;
use crate::model::limits::{SESSION_CPUS, SESSION_MEMORY_BYTES, SESSION_PROCESSES};
use crate::storage::Place;

/// Longest time until a session stands. [ours: a loaded daemon makes many containers one after the other]
const START_LIMIT: Duration = Duration::from_secs(120);
/// The same where its code has to be copied to another machine. [ours: some hundred megabytes over a slow line]
const APART_LIMIT: Duration = Duration::from_secs(600);
/// How long the daemon may take to see a container's end before it is told to kill. [ours]
const END_NOTICE: Duration = Duration::from_secs(2);
/// Pause before a daemon that did not answer is asked again, doubled each time up to the second value. [ours]
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a daemon that answers may fail while what an earlier emulator left is ended. [ours: the time of a restart of
/// dockerd, which gives its containers ten seconds]
const DAEMON_BUSY: Duration = Duration::from_secs(30);
/// How long a daemon that does not answer is waited for then, by whoever calls the session. [ours: what a service manager
/// takes to start one that died]
const DAEMON_AWAY: Duration = Duration::from_secs(5);
/// Units of the daemon's for one processor. [API: NanoCpus]
const NANO_CPUS: u64 = 1_000_000_000;
/// How much likelier than others the processes of sessions are ended when the machine's memory is out. [as embedded]
const OOM_SCORE: i64 = 500;
/// Digits of the name of a socket's directory. Everybody may pass: the directory above is the emulator's alone, and ids inside may be others than outside.
const LINK_DIGITS: usize = 8;
const LINK_MODE: u32 = 0o755;
/// Private to whoever runs the emulator.
const PRIVATE: u32 = 0o700;
const SOCKET_MODE: u32 = 0o666;

/// What the record of a compute says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// The container's id.
    pub(super) container: String,
    /// The volume that is its storage.
    pub(super) volume: Option<String>,
}

/// A volume in a session that runs.
#[derive(Clone)]
pub(super) struct LiveVolume {
    pub(super) session: Spawner,
    pub(super) path: String,
}

/// The directory of a session's socket. Goes with the value.
struct LinkDirectory(PathBuf);

impl LinkDirectory {
    fn make(below: &Path) -> std::io::Result<(Self, UnixListener)> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        let short: String = uuid::Uuid::new_v4().simple().to_string().chars().take(LINK_DIGITS).collect();
        let path = below.join(short);
        std::fs::DirBuilder::new().recursive(true).mode(PRIVATE).create(below)?;
        std::fs::create_dir(&path)?;
        let made = Self(path);
        std::fs::set_permissions(&made.0, PermissionsExt::from_mode(LINK_MODE))?;
        let socket = made.0.join(SOCKET);
        let listener = UnixListener::bind(&socket)?;
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(SOCKET_MODE))?;
        Ok((made, listener))
    }
}

impl Drop for LinkDirectory {
    fn drop(&mut self) {
        // A directory that stays is removed at the next start.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A container of ours. One that does not become a session is removed when this is dropped.
struct Container {
    shared: Arc<Shared>,
    daemon: Daemon,
    id: String,
    volume: Option<String>,
    runtime: Handle,
    link: Mutex<Option<LinkDirectory>>,
    limits: Mutex<Vec<Limit>>,
    /// It was cleared away.
    cleared: Mutex<bool>,
}

impl Vessel for Container {
    fn limits(&self) -> Vec<Limit> {
        self.limits.lock().clone()
    }

    fn kill(&self) -> Result<(), EngineError> {
        let (daemon, id) = (self.daemon.clone(), self.id.clone());
        if !*self.cleared.lock() {
            self.runtime.spawn(async move {
                if let Err(e) = daemon.kill(&id).await {
                    tracing::warn!("container {id} could not be killed: {e}");
                }
            });
        }
        Ok(())
    }

    /// The helper's line tells.
    fn ended(&self) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }

    fn end(&self) -> BoxFuture<'_, ()> {
        async move {
            let end = end(&self.daemon, &self.id).await;
            self.shared.note_end(self.volume.as_deref(), end);
        }
        .boxed()
    }

    fn clear(&self) -> BoxFuture<'_, ()> {
        async move {
            if let Some(volume) = &self.volume {
                self.shared.live.lock().remove(volume);
            }
            until_answered(|| self.daemon.remove(&self.id)).await;
            drop(self.link.lock().take());
            *self.cleared.lock() = true;
        }
        .boxed()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let (daemon, id) = (self.daemon.clone(), self.id.clone());
        if !*self.cleared.lock() {
            // Not waited for: the next start removes what this does not get to.
            self.runtime.spawn(async move {
                if let Err(e) = daemon.remove(&id).await {
                    tracing::warn!("container {id} could not be removed: {e}");
                }
            });
        }
    }
}

/// Waits for a container's end, and kills it where that does not come.
async fn end(daemon: &Daemon, id: &str) -> ContainerEnd {
    let mut ended = tokio::time::timeout(END_NOTICE, daemon.ended(id)).await;
    let mut pause = FIRST_PAUSE;
    loop {
        match ended {
            Ok(Ok(end)) => return end,
            // The daemon has gone; when it is back it knows what became of its containers.
            Ok(Err(_)) => tokio::time::sleep(pause).await,
            Err(_) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        let _ = daemon.kill(id).await;
        ended = tokio::time::timeout(pause + END_MARGIN, daemon.ended(id)).await;
    }
}

/// Asks until the daemon has done it. Ends with the emulator at the latest.
async fn until_answered<T, F: Future<Output = Result<T, bollard::errors::Error>>>(ask: impl Fn() -> F) {
    let mut pause = FIRST_PAUSE;
    while let Err(e) = ask().await {
        tracing::debug!("the docker daemon is asked again in {pause:?}: {e}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What a container is made of.
struct Wanted {
    image: Image,
    name: String,
    spec: ComputeSpec,
    volume: Option<String>,
}

/// How the emulator and a container's first process come together.
enum Way {
    /// By a socket that both see.
    Socket(LinkDirectory, UnixListener),
    /// By the container's standard streams, through the daemon.
    Streams,
}

/// Makes a container and, in it, a session.
pub(super) async fn start(shared: &Arc<Shared>, spec: ComputeSpec) -> Result<LinkedCompute, EngineError> {
    let daemon = shared.daemon().await?;
    let name =
        spec.image.clone().ok_or_else(|| EngineError::Start("there is no image to make it of".to_owned()))?;
    let around_code = spec.code.is_some();
    let image =
        image::find(&daemon.client, &name, shared.config.platform, &daemon.facts, around_code).await?;
    if image.argv.is_empty() && spec.code.is_none() {
        return Err(EngineError::Start(format!("the image `{name}` has neither `ENTRYPOINT` nor `CMD`")));
    }
    let volume = match spec.storage.as_ref().map(|storage| &storage.source) {
        Some(Place::Volume(volume)) => Some(volume.clone()),
        Some(Place::Directory(path)) => {
            return Err(EngineError::Start(format!("its storage is the directory `{}`", path.display())));
        }
        None => None,
    };
    let wanted = Wanted { image, name, spec, volume };
    if !daemon.is_apart() {
        match within(START_LIMIT, make(shared, &daemon, &wanted, false)).await {
            // It has just shown that it needs copies.
            Err(_) if daemon.is_apart() => {}
            made => return made,
        }
    }
    match make_apart(shared, &daemon, &wanted).await {
        // Somebody may have deleted the copy.
        Err(_) => {
            daemon.doubt_the_copy().await;
            make_apart(shared, &daemon, &wanted).await
        }
        made => made,
    }
}

/// Where this program has to be copied first, that takes as long as it takes.
async fn make_apart(
    shared: &Arc<Shared>,
    daemon: &Daemon,
    wanted: &Wanted,
) -> Result<LinkedCompute, EngineError> {
    daemon.mounts().await?;
    within(APART_LIMIT, make(shared, daemon, wanted, true)).await
}

async fn within(
    limit: Duration,
    making: impl Future<Output = Result<LinkedCompute, EngineError>>,
) -> Result<LinkedCompute, EngineError> {
    match tokio::time::timeout(limit, making).await {
        Ok(made) => made,
        Err(_) => Err(EngineError::Start(format!("it did not stand after {} s", limit.as_secs()))),
    }
}

async fn make(
    shared: &Arc<Shared>,
    daemon: &Daemon,
    wanted: &Wanted,
    apart: bool,
) -> Result<LinkedCompute, EngineError> {
    let Wanted { image, spec, volume, .. } = wanted;
    let io = |doing: &'static str| move |source| EngineError::Io { context: doing.to_owned(), source };
    let way = match apart {
        true => Way::Streams,
        false => {
            let (link, listener) =
                LinkDirectory::make(&shared.config.runtime_dir).map_err(io("making a session's socket"))?;
            Way::Socket(link, listener)
        }
    };
    let body = body(daemon, wanted, &way).await?;
    let sources = sources(&body);
    let suffix: String = uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect();
    let id = daemon.create(&format!("agentcore-{}-{suffix}", spec.label), body).await?;
    let (link, listener) = match way {
        Way::Socket(link, listener) => (Some(link), Some(listener)),
        Way::Streams => (None, None),
    };
    let container = Arc::new(Container {
        shared: shared.clone(),
        daemon: daemon.clone(),
        id: id.clone(),
        volume: volume.clone(),
        runtime: Handle::current(),
        link: Mutex::new(link),
        limits: Mutex::new(limits(daemon, daemon.facts.holds)),
        cleared: Mutex::new(false),
    });
    if let Some(volume) = volume {
        shared.durable.lock().remove(volume);
    }
    let relayed = listener.is_none();
    if relayed && let Some(code) = &spec.code {
        apart::bring_code(daemon, &id, code).await?;
    }
    let mut line = match listener {
        Some(listener) => {
            daemon.start(&id, &sources).await?;
            FirstLine { line: connected(daemon, &id, listener).await?, relay: None }
        }
        None => {
            let (Near { line, arriving, refused }, errors) = apart::attach(daemon, &id).await?;
            daemon.start(&id, &sources).await?;
            FirstLine { line, relay: Some(Relay { arriving, refused, errors }) }
        }
    };
    let holds = shared.holds(daemon, &id).await;
    *container.limits.lock() = limits(daemon, holds);
    let (listen, files) = spec.listener.clone().map(|l| (l.port, l.files)).unzip();
    let mut environment = image.environment.clone();
    for (name, value) in &spec.environment {
        match environment.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(value),
            None => environment.push((name.clone(), value.clone())),
        }
    }
    let plan = Plan {
        environment,
        code: spec.code.is_some() && !relayed,
        storage: spec.storage.as_ref().map(|storage| storage.target.as_str().into()),
        listen,
        orphan_grace_millis: u64::try_from(shared.config.orphan_grace.as_millis()).unwrap_or(u64::MAX),
        secrets: files.unwrap_or_default(),
    };
    let storage = plan.storage.clone();
    let told = match line.tell(&plan).await {
        // What ended it says more than that the line has.
        Err(e) if tokio::time::timeout(END_NOTICE, daemon.ended(&id)).await.is_err() => return Err(e),
        told => told.unwrap_or_default(),
    };
    let inside = match told {
        Some((Inside::Ready, fds)) => fds.into_iter().next(),
        Some((Inside::Failed { reason }, _)) => return Err(EngineError::Start(reason)),
        Some((Inside::Here, _)) => return Err(EngineError::Helper("it came twice".to_owned())),
        None => return Err(line.died(daemon, &id).await),
    };
    let FirstLine { line, relay } = line;
    let inside = match relay {
        Some(relay) => listen.map(|_| SessionListener::Relayed(relay.arriving)),
        None => inside.map(listener_of).transpose()?,
    };
    if listen.is_some() != inside.is_some() {
        return Err(EngineError::Helper("its listener did not come along".to_owned()));
    }
    let record = serde_json::to_string(&Record { container: id, volume: volume.clone() });
    let of_code = spec.code.is_some();
    let directory = if of_code { crate::engine::WORKDIR } else { image.directory.as_str() };
    let about = About {
        agent: (!of_code).then(|| ProcessSpec {
            argv: image.argv.clone(),
            environment: Vec::new(),
            working_directory: Some(image.directory.clone()),
            user: image.user.clone(),
        }),
        relayed,
        ..About::new(ComputeRecord(record.map_err(|e| EngineError::Start(e.to_string()))?), directory)
    };
    let compute = LinkedCompute::new(line, container, about, inside);
    if let (Some(volume), Some(path)) = (volume, storage) {
        let live = LiveVolume { session: compute.spawner(), path: path.display().to_string() };
        shared.live.lock().insert(volume.clone(), live);
    }
    Ok(compute)
}

/// A line to a first process that is no session yet.
struct FirstLine {
    line: Line,
    relay: Option<Relay>,
}

/// What stands behind it where it is a relay's.
struct Relay {
    arriving: mpsc::Receiver<UnixStream>,
    refused: Arc<Mutex<Option<String>>>,
    errors: Arc<Mutex<String>>,
}

impl FirstLine {
    /// Tells it what to make, and gives what it says to that.
    async fn tell(&mut self, plan: &Plan) -> Result<Option<(Inside, Vec<OwnedFd>)>, EngineError> {
        self.line.push(plan, vec![])?;
        self.line.flush().await?;
        self.line.receive::<Inside>().await
    }

    /// Why its container ended before it was a session.
    async fn died(&self, daemon: &Daemon, id: &str) -> EngineError {
        let Some(relay) = &self.relay else { return died(daemon, id).await };
        if let Some(refused) = relay.refused.lock().clone() {
            return EngineError::Start(refused);
        }
        let end = tokio::time::timeout(END_NOTICE, daemon.ended(id)).await.ok();
        ended_early(&relay.errors.lock(), end, "the docker daemon let go of its streams")
    }
}

/// Waits for the first process to come over its socket.
async fn connected(daemon: &Daemon, id: &str, listener: UnixListener) -> Result<Line, EngineError> {
    let io = |source| EngineError::Io { context: "taking over a session's socket".to_owned(), source };
    let ended = async {
        match daemon.ended(id).await {
            Ok(end) => end,
            // Its end will show otherwise.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        // Nobody else connects: this is the first process, and no other runs before it has what it asks for.
        accepted = listener.accept() => {
            let (stream, _) = accepted.map_err(io)?;
            let mut named = Line::new(stream.into_std().map_err(io)?.into()).map_err(io)?;
            let line = match named.receive::<Inside>().await? {
                Some((Inside::Here, fds)) => fds.into_iter().next(),
                _ => None,
            };
            Line::new(line.ok_or_else(|| EngineError::Helper("it came without its line".to_owned()))?).map_err(io)
        }
        end = ended => {
            if end == ContainerEnd::Exit(i64::from(OUT_OF_REACH)) {
                // It ran and reached nobody, although this end listens: the socket is another machine's.
                daemon.found_apart("a first process could not reach its socket");
            }
            Err(died(daemon, id).await)
        }
    }
}

/// Why a container ended before it was a session.
async fn died(daemon: &Daemon, id: &str) -> EngineError {
    let end = tokio::time::timeout(END_NOTICE, daemon.ended(id)).await.ok();
    let (_, errors) = daemon.said(id).await;
    ended_early(&errors, end, "its first process has gone")
}

/// What a first process said of its end, else how it ended, else what is known otherwise.
fn ended_early(
    errors: &str,
    end: Option<Result<ContainerEnd, bollard::errors::Error>>,
    otherwise: &str,
) -> EngineError {
    EngineError::Start(match (errors.trim(), end) {
        ("", Some(Ok(ContainerEnd::Exit(code)))) => format!("its first process ended with exit code {code}"),
        ("", _) => otherwise.to_owned(),
        (errors, _) => format!("its first process ended: {errors}"),
    })
}

/// What the daemon holds a session to: control groups where it has them, nothing where not.
fn limits(daemon: &Daemon, holds: Holds) -> Vec<Limit> {
    let facts = &daemon.facts;
    let least = |service: u64, host: Option<u64>| host.map_or(service, |host| host.min(service));
    [
        ("memory", least(SESSION_MEMORY_BYTES, facts.memory), holds.memory),
        ("processes", SESSION_PROCESSES, holds.processes),
        ("processors", least(SESSION_CPUS, facts.cpus), holds.cpus),
    ]
    .map(|(of, amount, held)| Limit {
        of,
        amount,
        held_by: if held { Holder::Group } else { Holder::Nobody },
    })
    .to_vec()
}

async fn body(daemon: &Daemon, wanted: &Wanted, way: &Way) -> Result<ContainerCreateBody, EngineError> {
    let Wanted { image, name, spec, volume } = wanted;
    let holds = daemon.facts.holds;
    let number = |n: u64| i64::try_from(n).ok();
    let memory = daemon.facts.memory.map_or(SESSION_MEMORY_BYTES, |host| host.min(SESSION_MEMORY_BYTES));
    let memory = number(memory).filter(|_| holds.memory);
    let cpus = daemon.facts.cpus.map_or(SESSION_CPUS, |host| host.min(SESSION_CPUS));
    let mut mounts = daemon.mounts().await?;
    match way {
        Way::Socket(link, _) => {
            mounts.push(read_only(link.0.display().to_string(), LINK.to_owned()));
            mounts
                .extend(spec.code.iter().map(|code| read_only(code.display().to_string(), CODE.to_owned())));
            let shown = spec.read_only.iter().map(|path| path.display().to_string());
            mounts.extend(shown.map(|path| read_only(path.clone(), path)));
        }
        Way::Streams => {
            if let Some(path) = spec.read_only.first() {
                return Err(EngineError::Start(format!(
                    "its code needs `{}`, which the docker daemon does not see: deploy it again with `agentcore local deploy`",
                    path.display()
                )));
            }
        }
    }
    let streams = matches!(way, Way::Streams);
    if let (Some(volume), Some(storage)) = (volume, &spec.storage) {
        mounts.push(volume_at(volume, storage.target.as_str()));
    }
    Ok(ContainerCreateBody {
        hostname: Some(spec.label.clone()),
        image: Some(image.id.clone()),
        entrypoint: Some(daemon.entry_point(streams)),
        // Its input ends with the emulator that has it.
        open_stdin: Some(streams),
        stdin_once: Some(streams),
        attach_stdin: Some(streams),
        attach_stdout: Some(streams),
        attach_stderr: Some(streams),
        // Not the image's, which would come behind the entry point.
        cmd: Some(Vec::new()),
        user: Some("0:0".to_owned()),
        // The image's own check would run beside the emulator's.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        labels: Some(daemon.labels.of_session(name, &spec.labels)),
        host_config: Some(HostConfig {
            mounts: Some(mounts),
            network_mode: Some("none".to_owned()),
            memory,
            memory_swap: memory.filter(|_| holds.swap),
            nano_cpus: number(cpus * NANO_CPUS).filter(|_| holds.cpus),
            pids_limit: number(SESSION_PROCESSES).filter(|_| holds.processes),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(kept_capabilities().map(str::to_owned).collect()),
            security_opt: Some(security()),
            oom_score_adj: Some(OOM_SCORE),
            ipc_mode: Some("private".to_owned()),
            log_config: Some(if streams { no_log() } else { log() }),
            auto_remove: Some(false),
            init: Some(false),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    })
}

/// Ends what a dead emulator left of a container: its first process ends by itself when the socket closes.
pub(super) async fn end_leftover(
    shared: &Arc<Shared>,
    record: &Record,
    grace: Duration,
) -> Result<(), EngineError> {
    let begun = tokio::time::Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match try_end_leftover(shared, record, grace).await {
            Ok(()) => return Ok(()),
            // It stays recorded: the next call of the session ends it.
            Err(EngineError::Unavailable { reason, hint }) if begun.elapsed() >= DAEMON_AWAY => {
                let reason = format!("what runs of the session cannot be ended: {reason}");
                return Err(EngineError::Unavailable { reason, hint });
            }
            // A daemon that has just been started again answers when it has seen to its containers.
            Err(e) if begun.elapsed() >= grace + DAEMON_BUSY => return Err(e),
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn try_end_leftover(shared: &Arc<Shared>, record: &Record, grace: Duration) -> Result<(), EngineError> {
    let daemon = shared.daemon().await?;
    let failed = |e: bollard::errors::Error| daemon.failed("a container could not be ended", &e);
    let end = match tokio::time::timeout(grace + END_MARGIN, daemon.ended(&record.container)).await {
        Ok(end) => end.map_err(failed)?,
        Err(_) => {
            daemon.kill(&record.container).await.map_err(failed)?;
            daemon.ended(&record.container).await.map_err(failed)?
        }
    };
    shared.note_end(record.volume.as_deref(), end);
    daemon.remove(&record.container).await.map(drop).map_err(failed)
}
