//! The environment: the only place that reads it, so that every input of a command is visible here.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the place that the ban on reading the environment points to"
)]

use std::ffi::OsString;
use std::path::PathBuf;

use etcetera::BaseStrategy;

use super::exit::Failure;
use crate::aws::NetworkSettings;
use crate::build::DockerEnv;
use crate::engine::docker::DaemonChoice;

/// What the program takes from its environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Env {
    /// `AGENTCORE_HOME`, or the user's data directory.
    home: Option<PathBuf>,
    /// The user's home directory.
    pub(crate) user_home: Option<PathBuf>,
    /// `PATH`.
    pub(crate) path: Option<OsString>,
    /// `NO_COLOR` says something.
    pub(crate) no_color: bool,
    /// AWS credentials or a profile are named, so that placeholders would do harm.
    pub(crate) has_credentials: bool,
    /// `AWS_ENDPOINT_URL_BEDROCK_AGENTCORE` or `AWS_ENDPOINT_URL`: where the data plane is.
    pub(crate) data_endpoint: Option<String>,
    /// `AGENTCORE_BEARER_TOKEN`: a token of a runtime's identity provider.
    pub(crate) bearer_token: Option<String>,
    /// `AWS_ENDPOINT_URL` or `AWS_ENDPOINT_URL_S3` moves S3 to a server that is not AWS.
    pub(crate) own_endpoints: bool,
    /// `AWS_REGION`, or `AWS_DEFAULT_REGION`.
    pub(crate) region: Option<String>,
    /// `AGENTCORE_LOG`: a filter for the emulator's own log.
    pub(crate) log: Option<String>,
    /// The proxies of this machine: `http_proxy`, `https_proxy`, `no_proxy`, each also in capitals.
    pub(crate) proxies: [Option<String>; 3],
    /// `AWS_CA_BUNDLE`: whose certificates are trusted on the way to AWS.
    ca_bundle: Option<PathBuf>,
    /// `DOCKER_TLS_VERIFY` says something.
    docker_verify: bool,
    /// `DOCKER_CERT_PATH`.
    docker_certificates: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    runtime_dir: Option<PathBuf>,
    /// `PORT`: where the agent of the demo is asked to listen.
    pub(crate) port: Option<u16>,
    /// `AGENTCORE_STORAGE`: where the agent of the demo has its session storage.
    pub(crate) storage: Option<PathBuf>,
    /// `DOCKER_HOST`, `DOCKER_CONTEXT` and `BUILDX_BUILDER`.
    docker: [Option<String>; 3],
    /// `DOCKER_CONFIG`.
    docker_config: Option<PathBuf>,
    /// Where the command was given.
    directory: Option<PathBuf>,
    /// `TMPDIR`, or the system's directory for what nobody keeps.
    pub(crate) temporary: PathBuf,
}

impl Env {
    pub(crate) fn read() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        let data = || etcetera::choose_base_strategy().ok().map(|s| s.data_dir().join("agentcore"));
        let text = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        Self {
            home: set("AGENTCORE_HOME").map(PathBuf::from).or_else(data),
            user_home: etcetera::home_dir().ok(),
            path: set("PATH"),
            no_color: set("NO_COLOR").is_some(),
            has_credentials: ["AWS_ACCESS_KEY_ID", "AWS_PROFILE"].iter().any(|n| set(n).is_some()),
            data_endpoint: text("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE").or_else(|| text("AWS_ENDPOINT_URL")),
            bearer_token: text("AGENTCORE_BEARER_TOKEN"),
            own_endpoints: ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"].iter().any(|n| set(n).is_some()),
            region: text("AWS_REGION").or_else(|| text("AWS_DEFAULT_REGION")),
            log: std::env::var("AGENTCORE_LOG").ok(),
            proxies: ["http_proxy", "https_proxy", "no_proxy"]
                .map(|name| text(name).or_else(|| text(&name.to_ascii_uppercase()))),
            ca_bundle: set("AWS_CA_BUNDLE").map(PathBuf::from),
            docker_verify: set("DOCKER_TLS_VERIFY").is_some(),
            docker_certificates: set("DOCKER_CERT_PATH").map(PathBuf::from),
            runtime_dir: set("XDG_RUNTIME_DIR").map(PathBuf::from),
            port: text("PORT").and_then(|port| port.parse().ok()),
            storage: set("AGENTCORE_STORAGE").map(PathBuf::from),
            docker: ["DOCKER_HOST", "DOCKER_CONTEXT", "BUILDX_BUILDER"].map(text),
            docker_config: set("DOCKER_CONFIG").map(PathBuf::from),
            directory: std::env::current_dir().ok(),
            temporary: std::env::temp_dir(),
        }
    }

    /// The emulator's home.
    pub(crate) fn home(&self) -> Result<PathBuf, Failure> {
        let home = self.home.clone().ok_or_else(|| {
            Failure::failed("there is no home directory to keep the emulator's state in")
                .hint("set `AGENTCORE_HOME` to a directory")
        })?;
        Ok(self.directory()?.join(home))
    }

    /// How AWS is reached, in the words of the variables that every AWS tool follows.
    pub(crate) fn network(&self) -> NetworkSettings {
        let [http_proxy, https_proxy, no_proxy] = self.proxies.clone();
        let (ca_bundle, home) = (self.ca_bundle.clone(), self.user_home.clone());
        NetworkSettings { http_proxy, https_proxy, no_proxy, ca_bundle, home }
    }

    /// What decides which docker daemon is used, as the `docker` command line reads it.
    pub(crate) fn daemon(&self) -> DaemonChoice {
        let [host, context, _] = self.docker.clone();
        let config = || self.user_home.as_ref().map(|home| home.join(".docker"));
        DaemonChoice {
            host,
            context,
            verify: self.docker_verify,
            certificates: self.docker_certificates.clone(),
            config: self.docker_config.clone().or_else(config),
            runtime_dir: self.runtime_dir.clone(),
        }
    }

    /// What it says of Docker.
    pub(crate) fn docker(&self) -> DockerEnv {
        let [host, context, builder] = self.docker.clone();
        DockerEnv {
            path: self.path.clone(),
            user_home: self.user_home.clone(),
            host,
            context,
            config: self.docker_config.clone(),
            builder,
        }
    }

    /// The current directory.
    pub(crate) fn directory(&self) -> Result<PathBuf, Failure> {
        self.directory.clone().ok_or_else(|| Failure::failed("the current directory does not exist any more"))
    }
}
