//! The daemon that these tests use, and images made without any registry.
//!
//! The daemon is the one that `DOCKER_HOST` names, else the usual one. Images are made of the root directories that
//! `tests/lab/lab up` keeps below `AGENTCORE_LAB`; nothing is pulled.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use agentcore::engine::docker::{DaemonChoice, DockerConfig, DockerEngine, Platform};
use bollard::Docker;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    ListVolumesOptionsBuilder,
};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use crate::support;

/// The architecture of this machine in the words of images.
pub(super) const NATIVE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// A daemon with the roots of images.
#[derive(Clone)]
pub(super) struct Lab {
    pub(super) client: Docker,
    roots: PathBuf,
}

/// The lab; nothing, after [`support::skip`], where there is none.
pub(super) async fn lab(test: &str) -> Option<Lab> {
    match find().await {
        Ok(lab) => Some(lab),
        Err(missing) => {
            support::skip(test, &missing);
            None
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the tests' own daemon is told by the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What decides which daemon the program under test uses, here as there.
pub(super) fn choice() -> DaemonChoice {
    DaemonChoice { host: variable("DOCKER_HOST"), ..DaemonChoice::default() }
}

async fn find() -> Result<Lab, String> {
    let scratch = tempfile::tempdir().unwrap();
    let engine = engine_at(scratch.path(), Platform::Native);
    engine.probe().await.map_err(|e| format!("{e}; bring one up with `tests/lab/lab up`"))?;
    lab_at(&variable("DOCKER_HOST").unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned())).await
}

/// The same with a daemon that is known to be there.
pub(super) async fn lab_at(host: &str) -> Result<Lab, String> {
    let client = Docker::connect_with_host(host).map_err(|e| e.to_string())?;
    let client = client.negotiate_version().await.map_err(|e| e.to_string())?;
    let lab = variable("AGENTCORE_LAB").ok_or("no `AGENTCORE_LAB`; bring it up with `tests/lab/lab up`")?;
    Ok(Lab { client, roots: Path::new(&lab).join("roots") })
}

/// An engine of its own home.
pub(super) fn engine_at(home: &Path, platform: Platform) -> DockerEngine {
    DockerEngine::new(DockerConfig {
        helper_exe: support::BIN.into(),
        runtime_dir: home.join("d"),
        home: home.to_owned(),
        daemon: choice(),
        platform,
        orphan_grace: Duration::from_secs(10),
    })
}

impl Lab {
    /// An image of `root` (`python`, `busybox`) for this machine, with more lines of a Dockerfile.
    pub(super) async fn image(&self, root: &str, lines: &[&str]) -> String {
        // One at a time: several tests want the same one.
        static MAKING: Mutex<()> = Mutex::new(());
        let archive = self.roots.join(format!("{root}-{NATIVE}.tar"));
        let about = std::fs::metadata(&archive).unwrap_or_else(|e| panic!("{}: {e}", archive.display()));
        let seal = format!("{lines:?}{:?}{}", about.modified().unwrap(), about.len());
        let hash: String =
            Sha256::digest(seal.as_bytes()).iter().take(6).map(|b| format!("{b:02x}")).collect();
        let (name, tag) = (format!("agentcore-test-{root}"), hash);
        let image = format!("{name}:{tag}");
        let (client, lines) =
            (self.client.clone(), lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>());
        let made = image.clone();
        let handle = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
            handle.block_on(async {
                if client.inspect_image(&made).await.is_ok() {
                    return;
                }
                let options = CreateImageOptionsBuilder::default().from_src("-").repo(&name).tag(&tag);
                let options = options.changes(lines).build();
                let body = bollard::body_full(std::fs::read(&archive).unwrap().into());
                let mut making = std::pin::pin!(client.create_image(Some(options), Some(body), None));
                while let Some(step) = making.next().await {
                    step.unwrap();
                }
            });
        })
        .await
        .unwrap();
        image
    }

    /// Containers and volumes with this label.
    pub(super) async fn labelled(&self, label: &str) -> (Vec<String>, Vec<String>) {
        let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let containers = self.client.list_containers(Some(options)).await.unwrap();
        let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
        let volumes = self.client.list_volumes(Some(options)).await.unwrap().volumes.unwrap_or_default();
        (
            containers.into_iter().filter_map(|c| c.id).collect(),
            volumes.into_iter().map(|volume| volume.name).collect(),
        )
    }

    /// SIGKILL to a container's first process, and so to all of it.
    pub(super) async fn kill(&self, container: &str) {
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        self.client.kill_container(container, Some(options)).await.unwrap();
    }
}

/// The label of everything of a home.
pub(super) fn label_of(home: &Path) -> String {
    format!("agentcore.home={}", std::fs::read_to_string(home.join("docker-id")).unwrap().trim())
}

/// A home that is swept when the test ends, however it ends.
pub(super) struct Home(pub(super) tempfile::TempDir);

impl Home {
    pub(super) fn new() -> Self {
        Self(support::short_temp_dir())
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let home = self.0.path().to_owned();
        // A thread and a runtime of its own: this may be a failing test's.
        let swept = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let sweep = async { engine_at(&home, Platform::Native).delete_everything().await };
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(120), sweep).await })
        });
        match swept.join() {
            Ok(Ok(Ok(_))) => {}
            other if std::thread::panicking() => println!("the home was not swept: {other:?}"),
            other => panic!("the home was not swept: {other:?}"),
        }
    }
}
