//! The docker engine: a container for each session, on any daemon that speaks Docker's API.
//!
//! A session's first process is this program, shown read-only in the container ([`helper`]) and run by [`inside`] as
//! the same helper that the embedded engine has ([`crate::helper::init`]). It comes to the emulator over a socket in a
//! directory that its container alone sees, so that no port is published, no address of a container is dialled, and a
//! daemon that dies takes no running session's line with it. The container has no network but its own loopback: what
//! the helper hands out is the only way in, and the emulator's listener the only way out, as in the embedded engine.
//!
//! Where the daemon does not share this machine's files and sockets, copies ([`apart`]) and a relay ([`relay`]) stand for
//! them.
//!
//! Session storage is a volume ([`volumes`]). Everything of ours carries the home's id in its labels ([`labels`]): by
//! them the next emulator finds what a dead one left.

mod apart;
mod connect;
mod container;
mod daemon;
mod helper;
mod image;
mod inside;
mod labels;
mod plan;
mod relay;
mod volumes;

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::ListContainersOptionsBuilder;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::{Compute, ComputeRecord, ComputeSpec, Engine, EngineError};
use crate::helper::proto::ORPHAN_GRACE;
use crate::storage::{Place, Storage};
pub use connect::DaemonChoice;
use container::{LiveVolume, Record};
use daemon::{ContainerEnd, Daemon, Holds, said};
use helper::Helper;
pub use image::Platform;
use labels::Labels;
pub use labels::of_image;
use volumes::VolumeStorage;

/// Hidden first argument that makes this program a container's first process.
const CONTAINER_VERB: &str = "__container";
/// Hidden first argument of a look into a volume.
const VOLUME_VERB: &str = "__volume";
/// The file of a home's id.
const HOME_ID: &str = "docker-id";
/// The directory below a home for sockets. Short: where the admin socket fits, these do.
const LINKS: &str = "d";
/// How long Podman may take from a container's end to having cleared up behind it, and how often that is looked for.
/// [ours: it takes tenths of a second]
const SETTLED: Duration = Duration::from_secs(10);
const SETTLED_TICK: Duration = Duration::from_millis(50);

/// What the engine is set to.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    /// This program's binary.
    pub helper_exe: PathBuf,
    /// Scratch directory of this emulator for sockets, made when it is needed, mode 0700. Its path is short enough
    /// for sockets.
    pub runtime_dir: PathBuf,
    /// State directory of the emulator. Its id, by which what the daemon keeps is labelled, is made at the first use
    /// of the daemon; a home without one never asks it anything.
    pub home: PathBuf,
    /// Which daemon.
    pub daemon: DaemonChoice,
    /// Which images.
    pub platform: Platform,
    /// Time between SIGTERM and SIGKILL in sessions whose emulator has died.
    pub orphan_grace: Duration,
}

impl DockerConfig {
    /// With the running program as the helper, for the state below `home`.
    pub fn new(home: &Path, daemon: DaemonChoice, platform: Platform) -> Result<Self, EngineError> {
        let helper_exe = std::env::current_exe().map_err(|source| EngineError::Io {
            context: "finding this program's own file".to_owned(),
            source,
        })?;
        let runtime_dir = home.join(LINKS);
        let home = home.to_owned();
        Ok(Self { helper_exe, runtime_dir, home, daemon, platform, orphan_grace: ORPHAN_GRACE })
    }
}

/// The id of a state directory, where it has one.
fn known_id(home: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(home.join(HOME_ID)) {
        Ok(id) => Ok(Some(id.trim().to_owned()).filter(|id| !id.is_empty())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The id of a state directory: random, so that two machines with one daemon never take each other's for theirs.
pub fn home_id(home: &Path) -> io::Result<String> {
    let file = home.join(HOME_ID);
    if let Some(id) = known_id(home)? {
        return Ok(id);
    }
    let id = uuid::Uuid::new_v4().simple().to_string();
    let new = tempfile::NamedTempFile::new_in(home)?;
    std::fs::write(new.path(), &id)?;
    new.as_file().sync_all()?;
    match new.persist_noclobber(&file) {
        Ok(_) => Ok(id),
        // Another process was first, and its is the one.
        Err(_) => known_id(home)?.ok_or_else(|| io::ErrorKind::InvalidData.into()),
    }
}

/// The engine. Making one asks nothing of the daemon; the first use does.
pub struct DockerEngine {
    shared: Arc<Shared>,
    storage: Arc<VolumeStorage>,
}

/// What all parts of the engine use.
struct Shared {
    config: DockerConfig,
    labels: Mutex<Option<Labels>>,
    daemon: OnceCell<Daemon>,
    /// What it really holds containers to, as the first one shows.
    holds: OnceCell<Holds>,
    /// Volumes whose session ended well, so that they are durable.
    durable: Mutex<HashSet<String>>,
    /// Volumes in sessions that run.
    live: Mutex<HashMap<String, LiveVolume>>,
    /// Directories of sockets that an earlier emulator left.
    old_links: Mutex<Vec<PathBuf>>,
}

impl Shared {
    /// The daemon. One that does not answer is asked again the next time.
    async fn daemon(&self) -> Result<Daemon, EngineError> {
        let meet = async || {
            let helper = Helper::of(&self.config.helper_exe)?;
            Daemon::meet(&self.config.daemon.address()?, helper, self.labels()?).await
        };
        self.daemon.get_or_try_init(meet).await.cloned()
    }

    /// What the daemon holds containers to; `id` is one of them. Where it cannot be seen, what the daemon says.
    async fn holds(&self, daemon: &Daemon, id: &str) -> Holds {
        let seen = self.holds.get_or_try_init(|| daemon.holds(id)).await;
        seen.copied().unwrap_or(daemon.facts.holds)
    }

    fn labels(&self) -> Result<Labels, EngineError> {
        let mut labels = self.labels.lock();
        if let Some(labels) = &*labels {
            return Ok(labels.clone());
        }
        let context = || "keeping the state directory's id".to_owned();
        let id =
            home_id(&self.config.home).map_err(|source| EngineError::Io { context: context(), source })?;
        Ok(labels.insert(Labels::new(id)).clone())
    }

    /// True when the daemon may keep something of this home.
    fn used(&self) -> bool {
        // An id that cannot be read may well be one.
        self.labels.lock().is_some() || known_id(&self.config.home).map_or(true, |id| id.is_some())
    }

    /// Remembers whether a session's first process did its last deed, which is to make the volume durable.
    fn note_end(&self, volume: Option<&str>, end: ContainerEnd) {
        if let (Some(volume), ContainerEnd::Exit(0)) = (volume, end) {
            self.durable.lock().insert(volume.to_owned());
        }
    }
}

/// Serves the engine's hidden verbs; nothing when `args` (the whole command line) is not one of them.
pub fn hidden_entry(args: &[OsString]) -> Option<ExitCode> {
    let word = |index: usize| args.get(index).and_then(|word: &OsString| OsStr::to_str(word));
    match word(1)? {
        CONTAINER_VERB => Some(inside::main(word(2) == Some(plan::BY_STREAMS))),
        VOLUME_VERB => Some(inside::look(word(2).unwrap_or_default(), word(3))),
        _ => None,
    }
}

impl DockerEngine {
    /// An engine for the daemon that the configuration names.
    pub fn new(config: DockerConfig) -> Self {
        let old_links = std::fs::read_dir(&config.runtime_dir).into_iter().flatten().flatten();
        let shared = Arc::new(Shared {
            old_links: Mutex::new(old_links.map(|entry| entry.path()).collect()),
            labels: Mutex::new(None),
            config,
            daemon: OnceCell::new(),
            holds: OnceCell::new(),
            durable: Mutex::default(),
            live: Mutex::default(),
        });
        let storage = Arc::new(VolumeStorage::new(shared.clone()));
        Self { shared, storage }
    }

    /// Asks the daemon whether it is there.
    pub async fn probe(&self) -> Result<(), EngineError> {
        self.shared.daemon().await.map(drop)
    }

    /// Deletes everything of this home that the daemon keeps: containers first, which hold the volumes.
    pub async fn delete_everything(&self) -> Result<Deleted, EngineError> {
        let mut deleted = Deleted::default();
        if !self.shared.used() {
            return Ok(deleted);
        }
        let daemon = self.shared.daemon().await?;
        for (id, _) in containers(&daemon).await? {
            let there = daemon.remove(&id).await.map_err(|e| EngineError::Helper(said(&e)))?;
            deleted.containers += usize::from(there);
        }
        for volume in volumes::list(&daemon, daemon.labels.of_home()).await? {
            volumes::delete(&daemon, &volume.name).await?;
            deleted.volumes += 1;
        }
        deleted.images = image::prune(&daemon, &HashSet::new()).await?;
        Ok(deleted)
    }
}

/// What was deleted of a home.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Containers.
    pub containers: usize,
    /// Volumes.
    pub volumes: usize,
    /// Names of images that were built for the home.
    pub images: usize,
}

/// Every container of this home with its labels, and maybe some that have gone: Docker goes on to list one whose end it
/// noted while it was being removed, and knows nothing of it.
async fn containers(daemon: &Daemon) -> Result<Vec<(String, HashMap<String, String>)>, EngineError> {
    let filters = daemon.labels.of_home();
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let deadline = tokio::time::Instant::now() + SETTLED;
    let listed = loop {
        match daemon.client.list_containers(Some(options.clone())).await {
            Ok(listed) => break listed,
            // Podman has a word of its own for a container that ended a moment ago, which the client does not know.
            Err(Error::JsonDataError { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(SETTLED_TICK).await;
            }
            Err(e) => {
                return Err(EngineError::Helper(format!("containers could not be listed: {}", said(&e))));
            }
        }
    };
    let found = listed.into_iter().filter_map(|c| Some((c.id?, c.labels.unwrap_or_default())));
    Ok(found.filter(|(_, labels)| Labels::fit(&filters, labels)).collect())
}

impl Engine for DockerEngine {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn storage_owner(&self) -> Option<(u32, u32)> {
        None
    }

    fn start(&self, spec: ComputeSpec) -> BoxFuture<'_, Result<Box<dyn Compute>, EngineError>> {
        async move { Ok(Box::new(container::start(&self.shared, spec).await?) as Box<dyn Compute>) }.boxed()
    }

    fn end_leftover(&self, record: ComputeRecord, grace: Duration) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            let Ok(record) = serde_json::from_str::<Record>(&record.0) else {
                return Err(EngineError::Helper("the record of a compute cannot be read".to_owned()));
            };
            container::end_leftover(&self.shared, &record, grace).await
        }
        .boxed()
    }

    fn delete_storage(&self, place: Place) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            match place {
                Place::Volume(name) => volumes::delete(&self.shared.daemon().await?, &name).await,
                Place::Directory(path) => Err(EngineError::Helper(format!(
                    "the directory `{}` is another engine's storage",
                    path.display()
                ))),
            }
        }
        .boxed()
    }

    fn storage(&self) -> Option<Arc<dyn Storage>> {
        Some(self.storage.clone())
    }

    fn mounts_late(&self) -> bool {
        false
    }

    /// A daemon makes what it was asked for whether anybody waits or not.
    fn works_on(&self) -> bool {
        true
    }

    fn check_image<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        async move {
            let daemon = self.shared.daemon().await?;
            image::find(&daemon.client, name, self.shared.config.platform, &daemon.facts, false)
                .await
                .map(drop)
        }
        .boxed()
    }

    fn prune_images(&self, keep: HashSet<String>) -> BoxFuture<'_, Result<usize, EngineError>> {
        async move {
            if !self.shared.used() {
                return Ok(0);
            }
            image::prune(&self.shared.daemon().await?, &keep).await
        }
        .boxed()
    }

    fn sweep(&self, known: Vec<ComputeRecord>) -> BoxFuture<'_, Result<(), EngineError>> {
        async move {
            for link in std::mem::take(&mut *self.shared.old_links.lock()) {
                let _ = std::fs::remove_dir_all(link);
            }
            if !self.shared.used() {
                return Ok(());
            }
            let daemon = self.shared.daemon().await?;
            let known = known.iter().filter_map(|record| serde_json::from_str::<Record>(&record.0).ok());
            let known: HashSet<String> = known.map(|record| record.container).collect();
            for (id, labels) in containers(&daemon).await? {
                if daemon.labels.is_old(&labels) && !known.contains(&id) {
                    let there = daemon.remove(&id).await.map_err(|e| EngineError::Helper(said(&e)))?;
                    if there {
                        tracing::info!("container {id} of an earlier emulator was removed");
                    }
                }
            }
            Ok(())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_keeps_its_id_and_no_two_have_the_same() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = home_id(one.path()).unwrap();
        assert_eq!(home_id(one.path()).unwrap(), id);
        assert_ne!(home_id(other.path()).unwrap(), id);
        assert_eq!(id.len(), 32);
    }

    #[test]
    fn only_the_hidden_verbs_are_taken() {
        let args = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(hidden_entry(&args(&["agentcore"])).is_none());
        assert!(hidden_entry(&args(&["agentcore", "local", "__container"])).is_none());
        // A look that nobody knows fails; it touches nothing.
        let code = hidden_entry(&args(&["agentcore", "__volume", "format"])).unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
    }
}
