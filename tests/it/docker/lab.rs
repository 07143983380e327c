//! The daemon that these tests use, and images made without any registry.
//!
//! The daemon is the one that `DOCKER_HOST` names, else the usual one. Images are made of the root directories that
//! `tests/lab/lab up` keeps below `AGENTCORE_LAB`; nothing is pulled.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentcore::engine::docker::{DaemonChoice, DockerConfig, DockerEngine, Platform};
use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{
    BuildImageOptionsBuilder, CreateImageOptionsBuilder, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, ListVolumesOptionsBuilder, TagImageOptionsBuilder,
};
use futures_util::StreamExt;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::support;

/// The label of what a thing of ours is.
pub(crate) const KIND: &str = "agentcore.kind";
/// The architecture of this machine in the words of images.
pub(crate) const NATIVE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// A daemon with the roots of images.
#[derive(Clone)]
pub(crate) struct Lab {
    pub(crate) client: Docker,
    roots: PathBuf,
}

/// The lab; nothing, after [`support::skip`], where there is none.
pub(crate) async fn lab(test: &str) -> Option<Lab> {
    match find().await {
        Ok(lab) => Some(lab),
        Err(missing) => {
            support::skip(test, &missing);
            None
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the tests' own daemon is told by the environment")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What decides which daemon the program under test uses, here as there.
pub(crate) fn choice() -> DaemonChoice {
    DaemonChoice { host: variable("DOCKER_HOST"), ..DaemonChoice::default() }
}

async fn find() -> Result<Lab, String> {
    let scratch = tempfile::tempdir().unwrap();
    let engine = engine_at(scratch.path(), Platform::Native);
    engine.probe().await.map_err(|e| format!("{e}; bring one up with `tests/lab/lab up`"))?;
    lab_at(&variable("DOCKER_HOST").unwrap_or_else(|| "unix:///var/run/docker.sock".to_owned())).await
}

/// The same with a daemon that is known to be there.
pub(crate) async fn lab_at(host: &str) -> Result<Lab, String> {
    let client = Docker::connect_with_host(host).map_err(|e| e.to_string())?;
    let client = client.negotiate_version().await.map_err(|e| e.to_string())?;
    let lab = variable("AGENTCORE_LAB").ok_or("no `AGENTCORE_LAB`; bring it up with `tests/lab/lab up`")?;
    Ok(Lab { client, roots: Path::new(&lab).join("roots") })
}

/// An engine of its own home.
pub(crate) fn engine_at(home: &Path, platform: Platform) -> DockerEngine {
    engine_of(home, platform, choice())
}

/// The same with a daemon of the test's choice.
pub(crate) fn engine_of(home: &Path, platform: Platform, daemon: DaemonChoice) -> DockerEngine {
    DockerEngine::new(DockerConfig {
        helper_exe: support::BIN.into(),
        runtime_dir: home.join("d"),
        home: home.to_owned(),
        daemon,
        platform,
        orphan_grace: Duration::from_secs(10),
    })
}

impl Lab {
    /// An image of `root` (`python`, `busybox`) for this machine, with more lines of a Dockerfile.
    pub(crate) async fn image(&self, root: &str, lines: &[&str]) -> String {
        let archive = self.roots.join(format!("{root}-{NATIVE}.tar"));
        let about = std::fs::metadata(&archive).unwrap_or_else(|e| panic!("{}: {e}", archive.display()));
        let base = name_of(root, &format!("{:?}{}", about.modified().unwrap(), about.len()));
        self.once(&base, async |lab| {
            // Podman overlooks a tag that stands beside the name, and takes one line for each change.
            let options = CreateImageOptionsBuilder::default().from_src("-").repo(&base).build();
            let body = bollard::body_full(std::fs::read(&archive).unwrap().into());
            let mut making = std::pin::pin!(lab.client.create_image(Some(options), Some(body), None));
            while let Some(step) = making.next().await {
                step.unwrap();
            }
        })
        .await;
        self.build(root, &base, "", lines, None).await
    }

    /// What a Dockerfile makes of a local image; `archive` is in its context.
    async fn build(
        &self,
        root: &str,
        base: &str,
        platform: &str,
        lines: &[&str],
        archive: Option<&Path>,
    ) -> String {
        let about = archive.map(|file| file.metadata().unwrap().len());
        let image = name_of(root, &format!("{base}{lines:?}{about:?}"));
        self.once(&image, async |lab| {
            let scratch = tempfile::tempdir().unwrap();
            let text = format!("FROM {base}\n{}\n", lines.join("\n"));
            std::fs::write(scratch.path().join("Dockerfile"), text).unwrap();
            let mut tar = std::process::Command::new("tar");
            tar.arg("-C").arg(scratch.path()).args(["-c", "Dockerfile"]);
            if let Some(archive) = archive {
                tar.arg("-C").arg(archive.parent().unwrap()).arg(archive.file_name().unwrap());
            }
            let context = support::succeed(&mut tar).stdout;
            let options = BuildImageOptionsBuilder::default().t(&image).rm(true).platform(platform).build();
            let body = bollard::body_full(context.into());
            let mut making = std::pin::pin!(lab.client.build_image(options, None, Some(body)));
            while let Some(step) = making.next().await {
                let step = step.unwrap();
                assert!(step.error_detail.is_none(), "{step:?}");
            }
        })
        .await;
        image
    }

    /// Makes an image that is not there. One at a time: several tests want the same one.
    async fn once(&self, image: &str, make: impl AsyncFnOnce(&Self)) {
        static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _one = MAKING.lock().await;
        if self.client.inspect_image(image).await.is_err() {
            make(self).await;
        }
    }

    /// The image `python` for arm64, which this machine may have to emulate. The lab's registry has it.
    pub(crate) async fn arm64_image(&self, lines: &[&str]) -> Option<String> {
        let registry = variable("AGENTCORE_LAB_REGISTRY")?;
        let name = format!("{registry}/python");
        let options = CreateImageOptionsBuilder::default().from_image(&name).tag("arm64");
        let options = options.platform("linux/arm64").build();
        let mut pulling = std::pin::pin!(self.client.create_image(Some(options), None, None));
        while let Some(step) = pulling.next().await {
            step.unwrap();
        }
        Some(self.build("python", &format!("{name}:arm64"), "linux/arm64", lines, None).await)
    }

    /// Gives an image the name of a repository of ECR's, as runtimes must call it.
    pub(crate) async fn named(&self, image: &str, name: &str) -> String {
        let repository = format!("123456789012.dkr.ecr.us-west-2.amazonaws.com/{name}");
        let options = TagImageOptionsBuilder::default().repo(&repository).tag("1").build();
        self.client.tag_image(image, Some(options)).await.unwrap();
        format!("{repository}:1")
    }

    /// Containers and volumes with this label.
    pub(crate) async fn labelled(&self, label: &str) -> (Vec<String>, Vec<String>) {
        let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let containers = loop {
            match self.client.list_containers(Some(options.clone())).await {
                // Podman's word for what ended a moment ago is none of Docker's.
                Err(Error::JsonDataError { .. }) => tokio::time::sleep(Duration::from_millis(50)).await,
                listed => break listed.unwrap(),
            }
        };
        let mut there = Vec::new();
        for id in containers.into_iter().filter_map(|c| c.id) {
            // Docker goes on to list one whose end it noted while it was being removed, and knows nothing of it.
            match self.client.inspect_container(&id, None).await {
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
                _ => there.push(id),
            }
        }
        let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
        let volumes = self.client.list_volumes(Some(options)).await.unwrap().volumes.unwrap_or_default();
        // What a daemon apart has of the program belongs to no session.
        let volumes =
            volumes.into_iter().filter(|volume| volume.labels.get(KIND).is_none_or(|kind| kind != "helper"));
        (there, volumes.map(|volume| volume.name).collect())
    }

    /// SIGKILL to a container's first process, and so to all of it.
    pub(crate) async fn kill(&self, container: &str) {
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        self.client.kill_container(container, Some(options)).await.unwrap();
    }
}

/// A name that says what is in it.
fn name_of(root: &str, content: &str) -> String {
    let hash = Sha256::digest(content.as_bytes());
    let tag: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("localhost/agentcore-test-{root}:{tag}")
}

/// An image that has an agent of `tests/agents` as its command.
pub(crate) async fn agent_image(lab: &Lab, agent: &str, user: &str) -> String {
    let lines = agent_lines(agent, user);
    lab.image("python", &lines.each_ref().map(String::as_str)).await
}

/// The lines of a Dockerfile that start an agent of `tests/agents`.
pub(crate) fn agent_lines(agent: &str, user: &str) -> [String; 4] {
    let program = support::repository().join("tests/agents").join(agent).join("main.py");
    let start = json!(["python3", "-u", "-c", std::fs::read_to_string(program).unwrap()]);
    [PATH_LINE.to_owned(), "WORKDIR /app".to_owned(), format!("USER {user}"), format!("CMD {start}")]
}

const PATH_LINE: &str = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where Debian's Python looks for what was installed beside it.
const PACKAGES: &str = "usr/local/lib/python3.11/dist-packages";
/// What of the tests' Python no agent needs.
const NOT_IN_IMAGES: [&str; 5] = ["awscli", "botocore/data", "pip", "setuptools", "__pycache__"];

/// An image on the pattern of the toolkit's Dockerfile: the official package installed, the agent's files in `/app`,
/// an account `bedrock_agentcore` with the id 1000 that runs them as a module.
///
/// The package is copied from the tests' own environment, so that nothing is downloaded.
pub(crate) async fn official_image(lab: &Lab, venv: &Path) -> String {
    let base = lab.image("python", &[]).await;
    let packages = venv.join("lib/python3.11/site-packages");
    assert!(packages.is_dir(), "the lab's images have Python 3.11, and there is no `{}`", packages.display());
    let agent = support::repository().join("tests/agents/official");
    let accounts =
        "root:x:0:0:root:/root:/bin/bash\nbedrock_agentcore:x:1000:1000::/home/bedrock_agentcore:/bin/sh\n";
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("added.tar");
    std::fs::write(scratch.path().join("passwd"), accounts).unwrap();
    let mut tar = std::process::Command::new("tar");
    tar.arg("-cf").arg(&archive).args(NOT_IN_IMAGES.map(|name| format!("--exclude={name}")));
    tar.args([format!("--transform=s,^\\./,{PACKAGES}/,"), "--owner=0".into(), "--group=0".into()]);
    tar.args(["--transform=s,^main.py,app/main.py,", "--transform=s,^passwd,etc/passwd,"]);
    tar.arg("-C").arg(&packages).arg(".").arg("-C").arg(agent).arg("main.py").arg("-C").arg(scratch.path());
    support::succeed(tar.arg("passwd"));
    let lines = [
        PATH_LINE,
        "ADD added.tar /",
        "WORKDIR /app",
        "USER bedrock_agentcore",
        "CMD [\"python\", \"-m\", \"main\"]",
    ];
    lab.build("official", &base, "", &lines, Some(&archive)).await
}

/// The label of everything of a home.
pub(crate) fn label_of(home: &Path) -> String {
    format!("agentcore.home={}", std::fs::read_to_string(home.join("docker-id")).unwrap().trim())
}

/// A home that is swept when the test ends, however it ends.
pub(crate) struct Home(pub(crate) tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(support::short_temp_dir())
    }

    pub(crate) fn path(&self) -> &Path {
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
