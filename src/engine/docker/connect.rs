//! Finding the daemon as the `docker` command line does: what the caller names, `DOCKER_HOST`, the active context, the
//! usual sockets, Podman's and those of daemons without root among them.

use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use bollard::Docker;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::engine::EngineError;
use crate::model::causes;

/// Longest time that an answer of the daemon may take. [ours: under load it makes containers one after the other]
const ANSWER_SECONDS: u64 = 180;
/// The context that means no context. [the docker command line]
const NO_CONTEXT: &str = "default";

/// What of the environment decides which daemon is used.
#[derive(Debug, Clone, Default)]
pub struct DaemonChoice {
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub context: Option<String>,
    /// `DOCKER_TLS_VERIFY` says something.
    pub verify: bool,
    /// `DOCKER_CERT_PATH`.
    pub certificates: Option<PathBuf>,
    /// `DOCKER_CONFIG`, or `~/.docker`.
    pub config: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
}

/// Where a daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// As `DOCKER_HOST` says it.
    pub(super) host: String,
    /// A directory with `ca.pem`, `cert.pem` and `key.pem`, where it is spoken to over TLS.
    pub(super) certificates: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigFile {
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct ContextFile {
    #[serde(rename = "Endpoints")]
    endpoints: ContextEndpoints,
}

#[derive(Deserialize)]
struct ContextEndpoints {
    docker: ContextEndpoint,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(rename = "Host")]
    host: String,
}

impl DaemonChoice {
    /// The daemon's address.
    pub(super) fn address(&self) -> Result<Address, EngineError> {
        let given = |value: &Option<String>| value.clone().filter(|text| !text.is_empty());
        if let Some(host) = given(&self.host) {
            let tcp = host.starts_with("tcp://") || host.starts_with("https://");
            let certificates =
                (self.verify && tcp).then(|| self.certificates.clone().or(self.config.clone()));
            return Ok(Address { host, certificates: certificates.flatten() });
        }
        let named = given(&self.context).or_else(|| self.current_context());
        if let Some(name) = named.filter(|name| name != NO_CONTEXT) {
            return self.of_context(&name);
        }
        Ok(Address { host: format!("unix://{}", self.socket().display()), certificates: None })
    }

    fn current_context(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.config.as_ref()?.join("config.json")).ok()?;
        serde_json::from_str::<ConfigFile>(&text).ok()?.current_context.filter(|name| !name.is_empty())
    }

    fn of_context(&self, name: &str) -> Result<Address, EngineError> {
        let failed = |reason: String| EngineError::Unavailable {
            reason: format!("the docker context `{name}` cannot be used: {reason}"),
            hint: "choose another with `docker context use`, or set `DOCKER_HOST`".to_owned(),
        };
        let config = self.config.as_ref().ok_or_else(|| failed("there is no docker configuration".into()))?;
        let id: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let meta = config.join("contexts/meta").join(&id).join("meta.json");
        let text =
            std::fs::read_to_string(&meta).map_err(|e| failed(format!("`{}`: {e}", meta.display())))?;
        let file: ContextFile =
            serde_json::from_str(&text).map_err(|e| failed(format!("`{}`: {e}", meta.display())))?;
        let certificates = Some(config.join("contexts/tls").join(&id).join("docker"));
        Ok(Address {
            host: file.endpoints.docker.host,
            certificates: certificates.filter(|dir| dir.is_dir()),
        })
    }

    /// The first of the usual sockets that somebody listens on, else the most usual one.
    fn socket(&self) -> PathBuf {
        let all = self.sockets();
        let listening = all.iter().find(|path| UnixStream::connect(path).is_ok());
        let there = || all.iter().find(|path| path.exists());
        listening.or_else(there).or(all.first()).cloned().unwrap_or_default()
    }

    fn sockets(&self) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::from("/var/run/docker.sock")];
        let own = |directory: &Option<PathBuf>, name: &str| directory.as_ref().map(|d| d.join(name));
        found.extend(own(&self.runtime_dir, "docker.sock"));
        found.extend(own(&self.config, "run/docker.sock"));
        found.extend(own(&self.runtime_dir, "podman/podman.sock"));
        found.push("/run/podman/podman.sock".into());
        found
    }
}

impl Address {
    /// The socket's path, where it is one of this machine.
    pub(super) fn socket(&self) -> Option<&Path> {
        self.host.strip_prefix("unix://").map(Path::new)
    }

    /// True where others can listen to what is said to it.
    pub(super) fn is_in_the_clear(&self) -> bool {
        let place = match (&self.certificates, self.host.split_once("://")) {
            (None, Some(("tcp" | "http", place))) => place,
            _ => return false,
        };
        let host = place.split('/').next().unwrap_or_default();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
        host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// A client of the daemon; it has said nothing yet.
    pub(super) fn client(&self) -> Result<Docker, EngineError> {
        if let Some(socket) = self.socket() {
            UnixStream::connect(socket).map_err(|e| self.refused(&e))?;
        }
        let version = bollard::API_DEFAULT_VERSION;
        let host = self.host.as_str();
        let made = match (&self.certificates, host.split_once("://")) {
            (_, Some(("unix", _))) => Docker::connect_with_unix(host, ANSWER_SECONDS, version),
            (Some(dir), Some(("tcp" | "https", _))) => {
                let file = |name: &str| dir.join(name);
                let (key, certificate, authority) = (file("key.pem"), file("cert.pem"), file("ca.pem"));
                Docker::connect_with_ssl(host, &key, &certificate, &authority, ANSWER_SECONDS, version)
            }
            (None, Some(("tcp" | "http", _))) => Docker::connect_with_http(host, ANSWER_SECONDS, version),
            (_, Some(("ssh", rest))) if rest.contains([':', '/']) => {
                return Err(EngineError::Unavailable {
                    reason: format!("`{host}` names more than a user and a host"),
                    hint: "give the host a name in `~/.ssh/config`, with its `Port`, and set `DOCKER_HOST` to `ssh://NAME`; \
                           the daemon is the one that `docker` uses there"
                        .to_owned(),
                });
            }
            (_, Some(("ssh", _))) => Docker::connect_with_ssh(host, ANSWER_SECONDS, version, None),
            _ => {
                return Err(EngineError::Unavailable {
                    reason: format!("`{host}` is no address of a docker daemon"),
                    hint: "set `DOCKER_HOST` to `unix://…`, `tcp://…` or `ssh://…`".to_owned(),
                });
            }
        };
        made.map_err(|e| self.unreachable(&causes(&e)))
    }

    /// The daemon did not answer.
    pub(super) fn unreachable(&self, why: &str) -> EngineError {
        let hint = match self.host.strip_prefix("ssh://") {
            Some(host) => format!(
                "`ssh {host} docker version` has to answer without asking anything: a key, a known host, Docker's client \
                 there; on another machine than this one run `agentcore` itself"
            ),
            None => "start it, or set `DOCKER_HOST`; `docker version` tells whether it answers".to_owned(),
        };
        let reason = format!("the docker daemon at `{}` does not answer: {why}", self.host);
        EngineError::Unavailable { reason, hint }
    }

    fn refused(&self, error: &io::Error) -> EngineError {
        let socket = self.socket().unwrap_or(Path::new("")).display();
        let (reason, hint) = match error.kind() {
            io::ErrorKind::NotFound => (
                format!("there is no docker daemon: nothing is at `{socket}`"),
                "install Docker (`apt-get install docker.io`) or Podman and start it, or set `DOCKER_HOST`"
                    .to_owned(),
            ),
            io::ErrorKind::ConnectionRefused => (
                format!("the docker daemon does not run: nobody listens at `{socket}`"),
                "start it: `systemctl start docker`, or `dockerd`".to_owned(),
            ),
            io::ErrorKind::PermissionDenied => (
                format!("you may not use the docker daemon at `{socket}`"),
                "add yourself to its group: `sudo usermod -aG docker $USER`, then log in again".to_owned(),
            ),
            _ => return self.unreachable(&error.to_string()),
        };
        EngineError::Unavailable { reason, hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_config() -> (tempfile::TempDir, DaemonChoice) {
        let directory = tempfile::tempdir().unwrap();
        let choice = DaemonChoice { config: Some(directory.path().to_owned()), ..DaemonChoice::default() };
        (directory, choice)
    }

    fn write_context(config: &Path, name: &str, host: &str) -> PathBuf {
        let id: String = Sha256::digest(name.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
        let meta = config.join("contexts/meta").join(&id);
        std::fs::create_dir_all(&meta).unwrap();
        let text = serde_json::json!({ "Name": name, "Metadata": {}, "Endpoints": { "docker": { "Host": host, "SkipTLSVerify": false } } });
        std::fs::write(meta.join("meta.json"), text.to_string()).unwrap();
        config.join("contexts/tls").join(&id).join("docker")
    }

    #[test]
    fn the_host_comes_before_the_context_and_the_context_before_the_sockets() {
        let (directory, mut choice) = with_config();
        write_context(directory.path(), "lab", "unix:///lab.sock");
        let tls = write_context(directory.path(), "far", "tcp://far:2376");
        std::fs::create_dir_all(&tls).unwrap();
        std::fs::write(directory.path().join("config.json"), r#"{"auths":{},"currentContext":"lab"}"#)
            .unwrap();
        assert_eq!(choice.address().unwrap().host, "unix:///lab.sock");
        choice.context = Some("far".into());
        let far = choice.address().unwrap();
        assert_eq!((far.host.as_str(), far.certificates), ("tcp://far:2376", Some(tls)));
        choice.host = Some("tcp://near:2375".into());
        assert_eq!(choice.address().unwrap(), Address { host: "tcp://near:2375".into(), certificates: None });
        choice.verify = true;
        assert_eq!(choice.address().unwrap().certificates, choice.config);
        choice.host = Some(String::new());
        choice.context = Some("default".into());
        assert!(choice.address().unwrap().socket().is_some());
        choice.context = Some("no-such".into());
        let error = choice.address().unwrap_err().to_string();
        assert!(error.contains("`no-such`"), "{error}");
    }

    #[test]
    fn only_what_goes_over_a_network_unsealed_is_in_the_clear() {
        let at = |host: &str, certificates: Option<&str>| {
            Address { host: host.into(), certificates: certificates.map(PathBuf::from) }.is_in_the_clear()
        };
        for clear in ["tcp://10.0.0.7:2375", "http://builder", "tcp://[fd00::7]:2375"] {
            assert!(at(clear, None) && !at(clear, Some("/certs")), "{clear}");
        }
        for sealed in
            ["tcp://127.0.0.1:2375", "tcp://localhost:2375", "tcp://[::1]:1", "unix:///s", "ssh://me@far"]
        {
            assert!(!at(sealed, None), "{sealed}");
        }
    }

    #[test]
    fn what_is_not_there_is_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &Path| Address { host: format!("unix://{}", path.display()), certificates: None };
        let missing = at(&directory.path().join("none")).client().err().unwrap().to_string();
        assert!(missing.contains("there is no docker daemon"), "{missing}");
        let dead = directory.path().join("dead");
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        let refused = at(&dead).client().err().unwrap().to_string();
        assert!(refused.contains("does not run"), "{refused}");
        let odd =
            Address { host: "gopher://x".into(), certificates: None }.client().err().unwrap().to_string();
        assert!(odd.contains("`gopher://x`"), "{odd}");
    }

    #[test]
    fn a_socket_that_somebody_listens_on_is_taken_before_one_that_is_only_there() {
        let (directory, mut choice) = with_config();
        choice.runtime_dir = Some(directory.path().to_owned());
        std::fs::create_dir_all(directory.path().join("podman")).unwrap();
        let podman = directory.path().join("podman/podman.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&podman).unwrap();
        drop(std::os::unix::net::UnixListener::bind(directory.path().join("docker.sock")).unwrap());
        // Where a daemon listens at the usual place, that one is meant.
        let usual = choice.sockets().remove(0);
        let expected = if UnixStream::connect(&usual).is_ok() { usual } else { podman };
        assert_eq!(choice.socket(), expected);
    }
}
