//! The daemon once it has answered: what it is, and the few things that are asked of it everywhere.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions, SystemInfo,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, KillContainerOptionsBuilder,
    LogsOptionsBuilder, RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::Mutex;

use super::apart::Copied;
use super::connect::Address;
use super::helper::Helper;
use super::labels::Labels;
use super::plan::{BY_STREAMS, VOLUME};
use super::{CONTAINER_VERB, VOLUME_VERB};
use crate::engine::{EngineError, TOOL_PATH};
use crate::model::causes;

/// The image of containers that only look into a volume: nothing is in it.
const EMPTY_IMAGE: &str = "agentcore-empty:1";
/// A tar archive without entries: two blocks of zeros. [tar]
const EMPTY_ARCHIVE_BYTES: usize = 1024;
/// What a container's first process may write to its log, which is read when it fails. [ours]
const LOG_BYTES: &str = "64k";
/// Longest look into a volume. [ours: a flush of much data, or a count of a great many files]
const LOOK_LIMIT: Duration = Duration::from_secs(120);
/// How long a removal that somebody else has begun may take, and how often it is looked for. [ours]
const REMOVAL_LIMIT: Duration = Duration::from_secs(20);
const REMOVAL_TICK: Duration = Duration::from_millis(50);
/// How daemons say that a file is not there: Docker, Podman, Docker Desktop.
const MISSED: [&str; 3] =
    ["bind source path does not exist", "no such file or directory", "is not shared from the host"];
/// Where Linux says its own.
const KERNEL_VERSION: &str = "/proc/sys/kernel/osrelease";
/// What Docker Desktop calls itself. Its daemon runs in a virtual machine, wherever its socket is.
const DESKTOP: &str = "Docker Desktop";
/// Most that is read of what a container's first process says.
pub(super) const MAX_SAID_BYTES: usize = 16 * 1024;

/// What a daemon says of itself.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The architecture of its machine, in the words of images.
    pub(super) architecture: String,
    /// Memory of its machine.
    pub(super) memory: Option<u64>,
    /// Processors of its machine.
    pub(super) cpus: Option<u64>,
    /// It can hold containers to these.
    pub(super) holds: Holds,
    /// Its socket and its kernel are this machine's, as far as it tells.
    pub(super) local: bool,
    /// What it calls itself, for messages.
    pub(super) name: String,
}

/// What a daemon can hold containers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holds {
    pub(super) memory: bool,
    pub(super) swap: bool,
    pub(super) cpus: bool,
    pub(super) processes: bool,
}

impl Holds {
    const NOTHING: Self = Self { memory: false, swap: false, cpus: false, processes: false };
}

impl Facts {
    fn of(info: SystemInfo, address: &Address) -> Self {
        let architecture = of_images(info.architecture.as_deref().unwrap_or_default());
        let positive = |number: Option<i64>| number.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        let name = info.operating_system.unwrap_or_default();
        Self {
            architecture: architecture.to_owned(),
            memory: positive(info.mem_total),
            cpus: positive(info.ncpu),
            holds: Holds {
                memory: info.memory_limit.unwrap_or(false),
                swap: info.swap_limit.unwrap_or(false),
                cpus: info.cpu_cfs_quota.unwrap_or(false),
                processes: info.pids_limit.unwrap_or(false),
            },
            local: address.socket().is_some()
                && name != DESKTOP
                && is_this_kernel(info.kernel_version.as_deref()),
            name,
        }
    }
}

/// A daemon that has answered.
#[derive(Clone)]
pub(super) struct Daemon {
    pub(super) client: Docker,
    pub(super) facts: Facts,
    pub(super) helper: Helper,
    pub(super) labels: Labels,
    address: Address,
    sharing: Arc<Sharing>,
}

/// Whether a daemon shares this machine's files and sockets. It counts as one that does until it shows otherwise: nothing
/// that it says of itself tells, and whoever has one here should not pay for asking.
#[derive(Default)]
struct Sharing {
    apart: AtomicBool,
    copied: Mutex<Option<Copied>>,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContainerEnd {
    /// Its first process ended with this code.
    Exit(i64),
    /// There is no such container any more.
    Unknown,
}

impl Daemon {
    /// Asks a daemon what it is.
    pub(super) async fn meet(address: &Address, helper: Helper, labels: Labels) -> Result<Self, EngineError> {
        let silent = |e: Error| address.unreachable(&causes(&e));
        let client = address.client()?.negotiate_version().await.map_err(silent)?;
        let facts = Facts::of(client.info().await.map_err(silent)?, address);
        Ok(Self { client, facts, helper, labels, address: address.clone(), sharing: Arc::default() })
    }

    /// It was found to share neither files nor sockets of this machine.
    pub(super) fn is_apart(&self) -> bool {
        self.sharing.apart.load(Ordering::Relaxed)
    }

    /// Remembers that.
    pub(super) fn found_apart(&self, how: &str) {
        if !self.sharing.apart.swap(true, Ordering::Relaxed) {
            tracing::info!(
                "the docker daemon ({}) does not share this machine's files and sockets ({how}): \
                 this program is copied to it, and sessions are reached through it",
                self.facts.name
            );
            if self.address.is_in_the_clear() {
                tracing::warn!(
                    "`{}` is spoken to in the clear: whoever listens on the way reads what sessions are given, credentials among \
                     it; use `ssh://`, or TLS (`DOCKER_TLS_VERIFY`)",
                    self.address.host
                );
            }
        }
    }

    /// The mounts that every container of ours has.
    pub(super) async fn mounts(&self) -> Result<Vec<Mount>, EngineError> {
        if self.is_apart() {
            return Ok(vec![self.copied().await?.mount()]);
        }
        let bind =
            |(from, to): &(std::path::PathBuf, String)| read_only(from.display().to_string(), to.clone());
        Ok(self.helper.files.iter().map(bind).collect())
    }

    /// The copy of this program. Made by a task of its own: it may take minutes, and who asked for it may have gone by then.
    async fn copied(&self) -> Result<Copied, EngineError> {
        let daemon = self.clone();
        let making = tokio::spawn(async move {
            let mut copied = daemon.sharing.copied.lock().await;
            if let Some(copied) = &*copied {
                return Ok(copied.clone());
            }
            Ok(copied.insert(Copied::make(&daemon).await?).clone())
        });
        making.await.unwrap_or_else(|e| Err(EngineError::Helper(e.to_string())))
    }

    /// Makes sure of the copy before what uses it next: somebody may have deleted it.
    pub(super) async fn doubt_the_copy(&self) {
        *self.sharing.copied.lock().await = None;
    }

    /// This program, as long as its machine can run it.
    pub(super) fn helper_for_its_machine(&self) -> Result<Helper, EngineError> {
        let own = of_images(std::env::consts::ARCH);
        if self.facts.architecture == own {
            return Ok(self.helper.clone());
        }
        Err(EngineError::Unavailable {
            reason: format!(
                "the docker daemon ({}) runs on {}, and this program, which has to run in every session, is for {own}",
                self.facts.name, self.facts.architecture
            ),
            hint:
                "use a daemon on a machine of the same architecture, or run `agentcore` where the daemon runs"
                    .to_owned(),
        })
    }

    /// Makes a container of the empty image, for a look at what is mounted or for copying into it; gives the files of this
    /// machine that it needs too.
    async fn create_look(
        &self,
        mounts: Vec<Mount>,
        command_line: Vec<String>,
    ) -> Result<(String, Vec<String>), EngineError> {
        let body = ContainerCreateBody {
            image: Some(EMPTY_IMAGE.to_owned()),
            entrypoint: Some(command_line),
            user: Some("0:0".to_owned()),
            labels: Some(self.labels.of_look()),
            host_config: Some(HostConfig {
                mounts: Some(mounts),
                network_mode: Some("none".to_owned()),
                cap_drop: Some(vec!["ALL".to_owned()]),
                // Reads what only its owner may.
                cap_add: Some(vec!["DAC_OVERRIDE".to_owned()]),
                security_opt: Some(security()),
                log_config: Some(log()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let sources = sources(&body);
        self.make_empty_image().await?;
        let name = format!("agentcore-look-{}", uuid::Uuid::new_v4().simple());
        Ok((self.create(&name, body).await?, sources))
    }

    /// Clears away such a container.
    pub(super) async fn remove_look(&self, id: &str) {
        if let Err(e) = self.remove(id).await {
            tracing::warn!("a container could not be removed, which the next start does: {e}");
        }
    }

    /// A container that is never started and has one mount, for what is copied into it.
    pub(super) async fn carrier(&self, mount: Mount) -> Result<String, EngineError> {
        Ok(self.create_look(vec![mount], vec![TOOL_PATH.to_owned()]).await?.0)
    }

    /// A command line that runs this program in a container.
    pub(super) fn command_line(&self, words: &[&str]) -> Vec<String> {
        self.helper.argv.iter().cloned().chain(words.iter().map(|word| (*word).to_owned())).collect()
    }

    /// The command line of a session's first process.
    pub(super) fn entry_point(&self, by_streams: bool) -> Vec<String> {
        match by_streams {
            true => self.command_line(&[CONTAINER_VERB, BY_STREAMS]),
            false => self.command_line(&[CONTAINER_VERB]),
        }
    }

    /// Makes a container. Where that shows that the daemon does not see this machine's files, the failure is remembered
    /// ([`Self::is_apart`]).
    pub(super) async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<String, EngineError> {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        let sources = sources(&body);
        let made = self.client.create_container(Some(options), body).await;
        made.map(|made| made.id).map_err(|e| {
            self.learn(&sources, &e);
            self.classify("made", &e)
        })
    }

    /// Starts it.
    pub(super) async fn start(&self, id: &str, sources: &[String]) -> Result<(), EngineError> {
        self.client.start_container(id, None).await.map_err(|e| {
            self.learn(sources, &e);
            self.classify("started", &e)
        })
    }

    /// Notices that a file of this machine is not there for the daemon.
    fn learn(&self, sources: &[String], error: &Error) {
        let said = said(error);
        let missed = MISSED.iter().any(|words| said.contains(words));
        // Which one it is, all of them say; one that is not here either has nothing to do with the daemon.
        let here = |path: &String| said.contains(path.as_str()) && Path::new(path).exists();
        if missed && sources.iter().any(here) {
            self.found_apart(&said);
        }
    }

    /// What the daemon refused, or that it does not answer.
    pub(super) fn failed(&self, doing: &str, error: &Error) -> EngineError {
        match error {
            Error::DockerResponseServerError { .. } => {
                EngineError::Helper(format!("{doing}: {}", said(error)))
            }
            other => self.address.unreachable(&causes(other)),
        }
    }

    /// What a container that was asked to be held is held to. Podman without root says of itself that it holds containers
    /// on control groups of the first version, and does not.
    pub(super) async fn holds(&self, id: &str) -> Result<Holds, Error> {
        let said = self.facts.holds;
        if !said.memory {
            return Ok(said);
        }
        let host = self.client.inspect_container(id, None).await?.host_config.unwrap_or_default();
        Ok(if host.memory.is_some_and(|memory| memory > 0) { said } else { Holds::NOTHING })
    }

    fn classify(&self, done: &str, error: &Error) -> EngineError {
        let Error::DockerResponseServerError { .. } = error else {
            return self.address.unreachable(&causes(error));
        };
        EngineError::Start(format!("the container could not be {done}: {}", said(error)))
    }

    /// Waits for a container's end.
    pub(super) async fn ended(&self, id: &str) -> Result<ContainerEnd, Error> {
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let mut waiting = std::pin::pin!(self.client.wait_container(id, Some(options)));
        match waiting.next().await {
            Some(Ok(answer)) => Ok(ContainerEnd::Exit(answer.status_code)),
            Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(ContainerEnd::Exit(code)),
            Some(Err(e)) if status(&e) == Some(404) => Ok(ContainerEnd::Unknown),
            Some(Err(e)) => Err(e),
            None => Ok(ContainerEnd::Unknown),
        }
    }

    /// SIGKILL. One that does not run is no error.
    pub(super) async fn kill(&self, id: &str) -> Result<(), Error> {
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        match self.client.kill_container(id, Some(options)).await {
            Err(e) if matches!(status(&e), Some(404 | 409)) => Ok(()),
            // Podman's answer for one that does not run.
            Err(e) if status(&e) == Some(500) && said(&e).contains("not running") => Ok(()),
            done => done,
        }
    }

    /// Ends a container and clears it away, with volumes that have no name. False: there was none.
    pub(super) async fn remove(&self, id: &str) -> Result<bool, Error> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.client.remove_container(id, Some(options)).await {
            Err(e) if status(&e) == Some(404) => Ok(false),
            // Somebody else removes it right now: it holds its volume until that is done.
            Err(e) if status(&e) == Some(409) && said(&e).contains("already in progress") => {
                let deadline = tokio::time::Instant::now() + REMOVAL_LIMIT;
                while self.client.inspect_container(id, None).await.is_ok() {
                    if tokio::time::Instant::now() > deadline {
                        return Err(e);
                    }
                    tokio::time::sleep(REMOVAL_TICK).await;
                }
                Ok(true)
            }
            done => done.map(|()| true),
        }
    }

    /// What a container's first process wrote: standard output, standard error.
    pub(super) async fn said(&self, id: &str) -> (String, String) {
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).build();
        let mut logs = std::pin::pin!(self.client.logs(id, Some(options)));
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        while let Some(Ok(part)) = logs.next().await {
            let to = match &part {
                bollard::container::LogOutput::StdErr { .. } => &mut errors,
                _ => &mut output,
            };
            to.extend_from_slice(&part.into_bytes());
            if output.len() + errors.len() > MAX_SAID_BYTES {
                break;
            }
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        (text(output), text(errors))
    }

    /// Looks into a volume with a container that ends at once, and gives what it says.
    pub(super) async fn look(&self, volume: &str, verb: &str) -> Result<String, EngineError> {
        let looked = self.look_once(volume, verb).await;
        if looked.is_ok() || !self.is_apart() {
            return looked;
        }
        // It has just shown that it needs copies, or the copy has gone.
        self.doubt_the_copy().await;
        self.look_once(volume, verb).await
    }

    async fn look_once(&self, volume: &str, verb: &str) -> Result<String, EngineError> {
        let mut mounts = self.mounts().await?;
        mounts.push(volume_at(volume, VOLUME));
        let (id, sources) = self.create_look(mounts, self.command_line(&[VOLUME_VERB, verb])).await?;
        let looked = async {
            self.start(&id, &sources).await?;
            let end = self.ended(&id).await.map_err(|e| EngineError::Helper(said(&e)))?;
            let (output, errors) = self.said(&id).await;
            match end {
                ContainerEnd::Exit(0) => Ok(output),
                end => Err(EngineError::Helper(format!(
                    "looking into the volume `{volume}` failed ({end:?}): {errors}"
                ))),
            }
        };
        let late = |_| Err(EngineError::Helper(format!("looking into the volume `{volume}` took too long")));
        let looked = tokio::time::timeout(LOOK_LIMIT, looked).await.unwrap_or_else(late);
        self.remove_look(&id).await;
        looked
    }

    async fn make_empty_image(&self) -> Result<(), EngineError> {
        if self.client.inspect_image(EMPTY_IMAGE).await.is_ok() {
            return Ok(());
        }
        // The tag with the name: Podman overlooks one that stands beside it.
        let options = CreateImageOptionsBuilder::default().from_src("-").repo(EMPTY_IMAGE).build();
        let archive = bollard::body_full(Bytes::from_static(&[0; EMPTY_ARCHIVE_BYTES]));
        let mut making = std::pin::pin!(self.client.create_image(Some(options), Some(archive), None));
        while let Some(step) = making.next().await {
            step.map_err(|e| EngineError::Helper(format!("an empty image could not be made: {}", said(&e))))?;
        }
        Ok(())
    }
}

/// An architecture as images name it.
fn of_images(architecture: &str) -> &str {
    match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// False for the kernel of another machine, a virtual one behind a socket of this one say.
fn is_this_kernel(version: Option<&str>) -> bool {
    let own = std::fs::read_to_string(KERNEL_VERSION).unwrap_or_default();
    version.is_none_or(|version| version.is_empty() || version == own.trim())
}

/// The files of this machine that a container is to have.
pub(super) fn sources(body: &ContainerCreateBody) -> Vec<String> {
    let mounts = body.host_config.as_ref().and_then(|host| host.mounts.as_ref()).into_iter().flatten();
    mounts
        .filter(|mount| mount.typ == Some(MountType::BIND))
        .filter_map(|mount| mount.source.clone())
        .collect()
}

/// What every container of ours is kept from.
pub(super) fn security() -> Vec<String> {
    // Files of the host are shown with their own labels, which a daemon under SELinux would refuse to containers.
    vec!["no-new-privileges".to_owned(), "label=disable".to_owned()]
}

/// A log of the first process alone, which says only why it failed.
pub(super) fn log() -> HostConfigLogConfig {
    let settings = [("max-size", LOG_BYTES), ("max-file", "1")];
    let settings: HashMap<String, String> =
        settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(settings) }
}

/// None: what goes through the streams of the first process is not for a log.
pub(super) fn no_log() -> HostConfigLogConfig {
    HostConfigLogConfig { typ: Some("none".to_owned()), config: None }
}

/// A file or directory of the host.
pub(super) fn read_only(from: String, to: String) -> Mount {
    Mount {
        source: Some(from),
        target: Some(to),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        ..Mount::default()
    }
}

/// A volume that is not filled from the image.
pub(super) fn volume_at(name: &str, to: &str) -> Mount {
    Mount {
        source: Some(name.to_owned()),
        target: Some(to.to_owned()),
        typ: Some(MountType::VOLUME),
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
        ..Mount::default()
    }
}

/// The HTTP status that the daemon answered with.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// The daemon's own words.
pub(super) fn said(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        other => other.to_string(),
    }
}
