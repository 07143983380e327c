//! The embedded engine: sessions as Linux namespaces, with no daemon and no image.
//!
//! A session is made by a launcher ([`launch`], this program again with one thread), whose child becomes the
//! first process of new user, mount, PID, network, IPC and UTS namespaces. It builds the root it will see
//! ([`root`]) and then is the session's helper ([`crate::helper::init`]). The emulator's side of the helper's
//! socket is [`super::linked`]. Which host ids a session has is decided in [`idmap`]; the system calls are in [`sys`].
//!
//! What it shows of the host is read-only and named: system directories, a few files of `/etc`, the paths of
//! [`ComputeSpec::read_only`]. The code directory is an overlay whose changes go with the session (a copy where
//! overlays are refused). Everything else but the storage is memory of the session. This adapter isolates
//! agents from the host's files, processes and network, and holds them to a share of the machine ([`groups`]).
//!
//! Where the host denies namespaces, and only when it is asked for by name ([`Isolation::Process`]), sessions are
//! processes of the host with a few places of their own ([`process`]).

mod code;
mod groups;
mod idmap;
mod launch;
mod plan;
mod process;
mod root;
mod sys;

pub(super) use sys::watch as watched;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use super::linked::{About, END_MARGIN, Line, LinkedCompute, Vessel, listener_of};
use super::{Compute, ComputeRecord, ComputeSpec, Engine, EngineError, Limit, WORKDIR};
use crate::helper::proto::ORPHAN_GRACE;
use crate::storage::Place;
use groups::{Groups, Held, Limits};
use idmap::IdMap;
use plan::{LaunchFailure, LaunchReport, LaunchRequest, LaunchStep, Plan, Secret};

/// Hidden first argument that makes this program a launcher.
const LAUNCHER_VERB: &str = "__session";
/// Longest time until a session stands. [ours: it takes milliseconds; copying a large bundle takes longer]
const START_LIMIT: Duration = Duration::from_secs(60);
/// What names of directories of trial sessions begin with.
const PROBE: &str = "probe-";
/// What remains where namespaces are denied.
const LAST_RESORT: &str = "or do without isolation, as a last resort: add `--isolation process` to \
     `agentcore local up` or `agentcore local demo`, and agents run as ordinary processes of yours";
/// Private to whoever runs the emulator.
const PRIVATE: u32 = 0o700;

/// What the engine is set to.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// This program's binary: the launcher, and what stands at [`super::TOOL_PATH`] in sessions.
    pub helper_exe: PathBuf,
    /// Scratch directory of this emulator, made if it does not exist, mode 0700.
    pub runtime_dir: PathBuf,
    /// What keeps sessions apart.
    pub isolation: Isolation,
    /// Time between SIGTERM and SIGKILL in sessions whose emulator has died.
    pub orphan_grace: Duration,
    /// Soft limit of each process's descriptors in sessions; nothing: this process's own.
    pub descriptors: Option<u64>,
}

/// What keeps sessions apart, and from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// Namespaces, a filter of calls, and limits.
    #[default]
    Namespaces,
    /// Nothing but a few places of their own: sessions are processes of whoever runs the emulator.
    Process,
}

impl EmbeddedConfig {
    /// With the running program as the helper.
    pub fn new(runtime_dir: PathBuf) -> Result<Self, EngineError> {
        let helper_exe = std::env::current_exe().map_err(|source| EngineError::Io {
            context: "finding this program's own file".to_owned(),
            source,
        })?;
        let isolation = Isolation::default();
        Ok(Self { helper_exe, runtime_dir, isolation, orphan_grace: ORPHAN_GRACE, descriptors: None })
    }
}

/// The engine.
pub struct EmbeddedEngine {
    config: EmbeddedConfig,
    ids: IdMap,
    limits: Limits,
    groups: Groups,
    ports: process::Ports,
}

/// What the record of a compute says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// The session's first process.
    pid: i32,
    /// Its start time: numbers of processes are used again.
    start_time: u64,
    /// Start times count from the machine's start.
    boot_id: String,
    /// Its control groups.
    #[serde(default)]
    groups: Vec<PathBuf>,
    /// What it has without namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<process::Traces>,
}

/// A launcher whose session does not stand yet. Dropping it kills it; later it ends with its session, which ends when
/// the emulator's end of the line closes, and clears up behind it.
struct Launcher(Option<Child>);

impl Drop for Launcher {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.start_kill();
        }
    }
}

/// A session that stands: its first process, the launcher that waits for it, and its control groups.
struct Namespaces {
    process: OwnedFd,
    launcher: tokio::sync::Mutex<Child>,
    groups: Mutex<Option<Held>>,
    bounds: Bounds,
}

/// What holds a session to its share of the machine.
struct Bounds {
    limits: Limits,
    groups: Vec<groups::Group>,
    /// The session's first process.
    pid: i32,
    /// Users of the session are no others' on the machine.
    own_users: bool,
}

impl Namespaces {
    fn new(process: OwnedFd, launcher: Child, groups: Held, bounds: Bounds) -> Self {
        let launcher = tokio::sync::Mutex::new(launcher);
        Self { process, launcher, groups: Mutex::new(Some(groups)), bounds }
    }
}

impl Vessel for Namespaces {
    fn limits(&self) -> Vec<Limit> {
        let Bounds { limits, groups, pid, own_users } = &self.bounds;
        groups::in_force(limits, groups, *pid, *own_users)
    }

    fn kill(&self) -> Result<(), EngineError> {
        // The launcher follows.
        sys::kill_process(&self.process)
            .map_err(|source| EngineError::Io { context: "ending a session".to_owned(), source })
    }

    /// The launcher ends after everything in the session.
    fn ended(&self) -> BoxFuture<'_, ()> {
        async move {
            let _ = self.launcher.lock().await.wait().await;
        }
        .boxed()
    }

    fn end(&self) -> BoxFuture<'_, ()> {
        let _ = self.kill();
        self.ended()
    }

    fn clear(&self) -> BoxFuture<'_, ()> {
        async move {
            let groups = self.groups.lock().take();
            if let Some(groups) = groups {
                groups.release().await;
            }
        }
        .boxed()
    }
}

/// The code of a compute, which this engine does without only for images.
fn code_of(code: Option<PathBuf>) -> Result<PathBuf, EngineError> {
    code.ok_or_else(|| EngineError::Start("this engine runs no container images".to_owned()))
}

/// The directory of a storage.
fn directory_of(place: Place) -> Result<PathBuf, EngineError> {
    match place {
        Place::Directory(path) => Ok(path),
        Place::Volume(name) => {
            Err(EngineError::Start(format!("its storage is the volume `{name}` of another engine")))
        }
    }
}

/// Serves the engine's hidden verbs; nothing when `args` (the whole command line) is not one of them.
pub fn hidden_entry(args: &[OsString]) -> Option<ExitCode> {
    (args.get(1)? == LAUNCHER_VERB).then(launch::main)
}

impl EmbeddedEngine {
    /// An engine that has tried nothing yet; see [`EmbeddedEngine::probe`].
    pub fn new(config: EmbeddedConfig) -> Result<Self, EngineError> {
        let context = format!("making the engine's directory `{}`", config.runtime_dir.display());
        let io = |source| EngineError::Io { context, source };
        std::fs::DirBuilder::new().recursive(true).mode(PRIVATE).create(&config.runtime_dir).map_err(io)?;
        let groups = Groups::find(&config.runtime_dir);
        let ports = process::Ports::default();
        let limits = Limits { descriptors: config.descriptors, ..Limits::of_host() };
        Ok(Self { config, ids: IdMap::choose(), limits, groups, ports })
    }

    /// Gives sessions less memory than the service does.
    pub fn limit_memory(&mut self, bytes: u64) {
        self.limits.memory_bytes = self.limits.memory_bytes.min(bytes);
    }

    /// True when sessions have more ids than one.
    pub fn has_many_ids(&self) -> bool {
        !matches!(self.ids, IdMap::Single { .. })
    }

    /// What control groups hold of a session: `memory`, `processes`, `processors`.
    pub fn held_by_groups(&self) -> Vec<&'static str> {
        self.groups.controllers().map(groups::Controller::word).collect()
    }

    /// Makes a whole session and ends it: the one sure way to know that this host can.
    pub async fn probe(&self) -> Result<(), EngineError> {
        let io =
            |source| EngineError::Io { context: "making a directory for a trial session".into(), source };
        // Left by an emulator that died in the middle of this. The directory is this emulator's alone.
        for entry in std::fs::read_dir(&self.config.runtime_dir).map_err(io)?.flatten() {
            if entry.file_name().as_bytes().starts_with(PROBE.as_bytes()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
            process::clear_abandoned(&entry.path());
        }
        let code = tempfile::Builder::new().prefix(PROBE).tempdir_in(&self.config.runtime_dir).map_err(io)?;
        let spec = ComputeSpec {
            label: "probe".to_owned(),
            image: None,
            code: Some(code.path().to_owned()),
            read_only: Vec::new(),
            environment: Vec::new(),
            storage: None,
            early_mount: false,
            listener: None,
            labels: Vec::new(),
        };
        self.start_session(spec).await?.terminate(Duration::ZERO).await
    }

    async fn start_session(&self, spec: ComputeSpec) -> Result<LinkedCompute, EngineError> {
        if self.config.isolation == Isolation::Process {
            return self.start_process_session(spec).await;
        }
        let (listen, files) = spec.listener.map(|l| (l.port, l.files)).unzip();
        let code = code_of(spec.code)?;
        let storage = spec.storage.map(|s| {
            let source = directory_of(s.source)?;
            Ok::<_, EngineError>((source, PathBuf::from(s.target.as_str())))
        });
        let secrets = files.unwrap_or_default().into_iter().map(|(path, content)| Secret { path, content });
        let plan = Plan {
            ids: self.ids.clone(),
            label: spec.label,
            staging: self.config.runtime_dir.clone(),
            tool: self.config.helper_exe.clone(),
            code,
            read_only: spec.read_only,
            environment: spec.environment,
            storage: storage.transpose()?,
            early_mount: spec.early_mount,
            limits: self.limits.clone(),
            groups: self.groups.plan(),
            listen,
            secrets: secrets.collect(),
            orphan_grace_millis: self.orphan_grace_millis(),
        };
        let (limits, made) = (plan.limits.clone(), plan.groups.clone());
        let groups: Vec<PathBuf> = plan.groups.iter().map(|group| group.directory.clone()).collect();
        let held = Held::new(groups.clone());
        let pipe_owner = self.ids.root_owner();
        let request = LaunchRequest::Session { plan: Box::new(plan) };
        let making = async {
            let (mut line, mut launcher) = self.launch(&request).await?;
            let (pid, process) = match line.receive::<LaunchReport>().await? {
                Some((LaunchReport::Started { pid }, mut fds)) => (pid, fds.pop().ok_or_else(unexpected)?),
                Some((LaunchReport::Failed { failure }, _)) => return Err(classify(&failure)),
                Some(_) => return Err(unexpected()),
                None => return Err(EngineError::Start("the launcher ended without a word".to_owned())),
            };
            // While the handle is held the number cannot be another process's. One that has failed may be gone
            // already: then the next message says why.
            let started = start_time(pid);
            let listener = match line.receive::<LaunchReport>().await? {
                Some((LaunchReport::Ready, fds)) => fds.into_iter().next(),
                Some((LaunchReport::Failed { failure }, _)) => return Err(classify(&failure)),
                Some(_) => return Err(unexpected()),
                None => return Err(EngineError::Start("it ended while its root was being built".to_owned())),
            };
            if listen.is_some() != listener.is_some() {
                return Err(unexpected());
            }
            let listener = listener.map(listener_of).transpose()?;
            let start_time = started.ok_or_else(unexpected)?;
            let record = Record { pid, start_time, boot_id: boot_id()?, groups, process: None };
            let child = launcher.0.take().ok_or_else(unexpected)?;
            let bounds = Bounds { limits, groups: made, pid, own_users: true };
            let vessel = Namespaces::new(process, child, held, bounds);
            let about = About { pipe_owner, ..About::new(record.to_opaque()?, WORKDIR) };
            Ok(LinkedCompute::new(line, Arc::new(vessel), about, listener))
        };
        match tokio::time::timeout(START_LIMIT, making).await {
            Ok(made) => made,
            Err(_) => Err(EngineError::Start(format!("it did not stand after {} s", START_LIMIT.as_secs()))),
        }
    }

    fn orphan_grace_millis(&self) -> u64 {
        u64::try_from(self.config.orphan_grace.as_millis()).unwrap_or(u64::MAX)
    }

    /// Starts a launcher and hands it its request.
    async fn launch(&self, request: &LaunchRequest) -> Result<(Line, Launcher), EngineError> {
        let io = |source| EngineError::Io { context: "starting a session's launcher".to_owned(), source };
        let (here, there) = std::os::unix::net::UnixStream::pair().map_err(io)?;
        // No hook runs before the program is executed, so that this is a vfork whatever the emulator's size.
        let child = Command::new(&self.config.helper_exe)
            .arg(LAUNCHER_VERB)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(there)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(io)?;
        let child = Launcher(Some(child));
        let mut line = Line::new(here.into()).map_err(io)?;
        line.push(request, vec![])?;
        line.flush().await?;
        Ok((line, child))
    }

    async fn remove_as_session(&self, path: PathBuf) -> Result<(), EngineError> {
        let (mut line, mut child) =
            self.launch(&LaunchRequest::Remove { ids: self.ids.clone(), path }).await?;
        let said = line.receive::<LaunchReport>().await?;
        if let Some(child) = &mut child.0 {
            let _ = child.wait().await;
        }
        match said {
            Some((LaunchReport::Removed, _)) => Ok(()),
            Some((LaunchReport::Failed { failure }, _)) => Err(classify(&failure)),
            _ => Err(unexpected()),
        }
    }
}

impl Engine for EmbeddedEngine {
    fn name(&self) -> &'static str {
        match self.config.isolation {
            Isolation::Namespaces => "embedded",
            Isolation::Process => "process",
        }
    }

    fn not_isolated(&self) -> Vec<String> {
        match self.config.isolation {
            Isolation::Namespaces => Vec::new(),
            Isolation::Process => process::not_isolated(),
        }
    }

    fn storage_owner(&self) -> Option<(u32, u32)> {
        match self.config.isolation {
            Isolation::Namespaces => self.ids.root_owner(),
            Isolation::Process => None,
        }
    }

    fn start(&self, spec: ComputeSpec) -> BoxFuture<'_, Result<Box<dyn Compute>, EngineError>> {
        async move { Ok(Box::new(self.start_session(spec).await?) as Box<dyn Compute>) }.boxed()
    }

    fn end_leftover(&self, record: ComputeRecord, grace: Duration) -> BoxFuture<'_, Result<(), EngineError>> {
        end_leftover(record, grace).boxed()
    }

    fn delete_storage(&self, place: Place) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            let path = match place {
                Place::Directory(path) => path,
                Place::Volume(name) => {
                    return Err(EngineError::Helper(format!("the volume `{name}` is another engine's")));
                }
            };
            let plain = path.clone();
            let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(plain)).await;
            let removed = removed.unwrap_or_else(|e| Err(std::io::Error::other(e)));
            match removed {
                Ok(()) => Ok(()),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
                // Nobody but this user has made anything in it.
                Err(_) if self.config.isolation == Isolation::Process => process::remove_tree(path).await,
                // Files of other ids, or directories that only the session's root may write.
                Err(e)
                    if e.kind() == std::io::ErrorKind::PermissionDenied
                        && self.ids.root_owner().is_none() =>
                {
                    self.remove_as_session(path).await
                }
                Err(source) => {
                    Err(EngineError::Io { context: format!("deleting `{}`", path.display()), source })
                }
            }
        }
        .boxed()
    }
}

/// A session whose emulator has died ends by itself, because its helper sees the socket close. This waits
/// for that, and helps where it does not happen.
async fn end_leftover(record: ComputeRecord, grace: Duration) -> Result<(), EngineError> {
    let Ok(record) = serde_json::from_str::<Record>(&record.0) else {
        return Err(EngineError::Helper("the record of a compute cannot be read".to_owned()));
    };
    let mut ended = end_process(record.pid, record.start_time, &record.boot_id, grace).await;
    if let Some(traces) = &record.process {
        ended = ended.and(traces.end(&record.boot_id).await);
    }
    Held::new(record.groups).release().await;
    ended
}

impl Record {
    fn to_opaque(&self) -> Result<ComputeRecord, EngineError> {
        Ok(ComputeRecord(serde_json::to_string(self).map_err(|e| EngineError::Start(e.to_string()))?))
    }
}

/// Waits for the end of a process for the grace and a little, then ends it. One that is not the one meant, or has
/// ended, is not an error.
async fn end_process(pid: i32, started: u64, boot: &str, grace: Duration) -> Result<(), EngineError> {
    let context = || "waiting for a compute of an earlier emulator".to_owned();
    let process = match sys::open_process(nix::unistd::Pid::from_raw(pid)) {
        Ok(process) => process,
        // No process of this number, or only a thread of another.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ESRCH | libc::EINVAL | libc::ENOENT)) => {
            return Ok(());
        }
        Err(source) => return Err(EngineError::Io { context: context(), source }),
    };
    // The handle was opened first, so these are the handle's process's.
    if boot_id()? != boot || start_time(pid) != Some(started) {
        return Ok(());
    }
    let process = sys::watch(process, tokio::io::Interest::READABLE)
        .map_err(|source| EngineError::Io { context: context(), source })?;
    // Readable when it has ended; a first process ends after everything else in its namespace.
    if tokio::time::timeout(grace + END_MARGIN, process.readable()).await.is_ok() {
        return Ok(());
    }
    sys::kill_process(process.get_ref()).map_err(|source| EngineError::Io { context: context(), source })?;
    match tokio::time::timeout(END_MARGIN, process.readable()).await {
        Ok(_) => Ok(()),
        Err(_) => Err(EngineError::Helper(format!("process {pid} does not end"))),
    }
}

fn unexpected() -> EngineError {
    EngineError::Start("its launcher gave an unexpected answer".to_owned())
}

/// When a process was started, in clock ticks since boot.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the start time is the 22nd field, the 20th after it.
    stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn boot_id() -> Result<String, EngineError> {
    let path = "/proc/sys/kernel/random/boot_id";
    match std::fs::read_to_string(path) {
        Ok(id) => Ok(id.trim().to_owned()),
        Err(source) => Err(EngineError::Io { context: format!("reading `{path}`"), source }),
    }
}

/// Says whether it is the host that cannot, or this session's own paths that are wrong.
fn classify(failure: &LaunchFailure) -> EngineError {
    let hint = match failure.step {
        LaunchStep::Paths | LaunchStep::Other => return EngineError::Start(failure.to_string()),
        LaunchStep::Proc => {
            "inside a container, start it with `--security-opt systempaths=unconfined` (Docker, Podman) so that \
             sessions may mount /proc, or use the docker engine"
                .to_owned()
        }
        LaunchStep::Ids | LaunchStep::Namespaces | LaunchStep::Mounts | LaunchStep::Network => {
            hint(failure.step, &|path| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned()))
        }
    };
    EngineError::Unavailable { reason: failure.to_string(), hint: format!("{hint}; {LAST_RESORT}") }
}

/// What to enable, from the settings that are known to forbid user namespaces.
fn hint(step: LaunchStep, setting: &dyn Fn(&str) -> Option<String>) -> String {
    let is = |path: &str, value: &str| setting(path).as_deref() == Some(value);
    if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        return "this system's AppArmor keeps programs without a profile from using user namespaces: write \
                agentcore's by `sudo agentcore doctor --fix`, or run \
                `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
            .to_owned();
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return "run `sudo sysctl -w kernel.unprivileged_userns_clone=1`".to_owned();
    }
    if is("/proc/sys/user/max_user_namespaces", "0") {
        return "run `sudo sysctl -w user.max_user_namespaces=15000`".to_owned();
    }
    if step == LaunchStep::Ids {
        return "check the ranges of this user in /etc/subuid and /etc/subgid: they must be ids that this \
                machine (or the container it is) has"
            .to_owned();
    }
    "sessions need user, mount, PID and network namespaces (Linux 5.12 or later): inside a container, allow them \
     with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`, or use the docker engine"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_launchers_verb_is_taken() {
        let args = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(hidden_entry(&args(&["agentcore"])).is_none());
        assert!(hidden_entry(&args(&["agentcore", "local", "__session"])).is_none());
        assert!(hidden_entry(&[]).is_none());
    }

    #[test]
    fn the_hint_names_the_setting_that_forbids() {
        let with = |path: &'static str, value: &'static str| {
            hint(LaunchStep::Namespaces, &move |asked| (asked == path).then(|| value.to_owned()))
        };
        let apparmor = with("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1");
        assert!(apparmor.contains("AppArmor"), "{apparmor}");
        assert!(
            with("/proc/sys/kernel/unprivileged_userns_clone", "0").contains("unprivileged_userns_clone=1")
        );
        assert!(with("/proc/sys/user/max_user_namespaces", "0").contains("max_user_namespaces"));
        assert!(with("/proc/sys/user/max_user_namespaces", "9").contains("container"));
        let ids = hint(LaunchStep::Ids, &|_| None);
        assert!(ids.contains("/etc/subuid"), "{ids}");
    }

    #[test]
    fn the_start_time_is_that_of_the_process() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(start_time(own), start_time(own));
        assert!(start_time(own).unwrap() > 0);
        assert_eq!(start_time(-5), None);
    }

    #[tokio::test]
    async fn a_record_of_a_process_that_is_not_ours_harms_nobody() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        for (start_time, boot_id) in [(1, boot_id().unwrap()), (start_time(pid).unwrap(), "other".to_owned())]
        {
            let record =
                serde_json::to_string(&Record { pid, start_time, boot_id, groups: vec![], process: None })
                    .unwrap();
            end_leftover(ComputeRecord(record), Duration::ZERO).await.unwrap();
        }
        assert!(child.try_wait().unwrap().is_none(), "another process was ended");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(end_leftover(ComputeRecord("?".into()), Duration::ZERO).await.is_err());
    }
}
