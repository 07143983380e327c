//! Docker's client, its buildx plugin and the engine behind it: where they are, whether they answer, and what
//! is wrong where they do not. What can be seen without starting a process is, so that a build that has
//! everything begins at once.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::BuildError;
use super::progress::{Event, Parser, StepState};
use super::recipe::Recipe;

/// Where an engine listens that nothing is said about. [Docker]
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// Directories of plugins beside the user's own. [Docker's client]
const PLUGIN_DIRECTORIES: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];
const PLUGIN: &str = "docker-buildx";
/// Where a machine has the engine's program although its user's `PATH` does not.
const SYSTEM_DIRECTORIES: [&str; 4] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];
/// Longest wait for an engine's answer. [ours]
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer to a question for the version. [ours: it has 2 KB]
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;
/// Lines of a failing step that are kept. [ours]
const LOG_LINES: usize = 200;
/// Read size.
const BLOCK: usize = 16 * 1024;

/// What the environment says of Docker.
#[derive(Debug, Clone, Default)]
pub struct DockerEnv {
    /// `PATH`.
    pub path: Option<OsString>,
    /// The user's home directory.
    pub user_home: Option<PathBuf>,
    /// `DOCKER_HOST`.
    pub host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub context: Option<String>,
    /// `DOCKER_CONFIG`.
    pub config: Option<PathBuf>,
    /// `BUILDX_BUILDER`.
    pub builder: Option<String>,
}

/// Docker's client on this machine.
#[derive(Debug, Clone)]
pub struct Docker {
    program: PathBuf,
    pub(super) env: DockerEnv,
}

/// An engine that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Its version, such as `20.10.24`.
    pub version: String,
    /// Version of its API.
    pub api: String,
    /// Its processor, such as `amd64`.
    pub architecture: String,
    /// Where it listens.
    pub address: String,
    /// It runs on this machine's own kernel, as far as its address says.
    pub here: bool,
}

#[derive(Deserialize)]
struct VersionDto {
    #[serde(rename = "Version")]
    version: String,
    #[serde(rename = "ApiVersion")]
    api: String,
    #[serde(rename = "Arch")]
    architecture: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct ConfigDto {
    #[serde(rename = "currentContext")]
    context: Option<String>,
    #[serde(rename = "cliPluginsExtraDirs")]
    plugins: Vec<PathBuf>,
}

impl DockerEnv {
    fn find(&self, name: &str) -> Option<PathBuf> {
        let path = self.path.as_ref()?;
        std::env::split_paths(path).map(|directory| directory.join(name)).find(|file| is_program(file))
    }

    /// The directory of the client's settings.
    pub(super) fn config_directory(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| Some(self.user_home.as_ref()?.join(".docker")))
    }

    fn config_file(&self) -> ConfigDto {
        let text = self.config_directory().and_then(|d| fs::read(d.join("config.json")).ok());
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// The context in use and the address it stands for.
    pub(super) fn endpoint(&self) -> Result<(String, String), BuildError> {
        let default = || "default".to_owned();
        if let Some(host) = &self.host {
            return Ok((default(), host.clone()));
        }
        let name = self.context.clone().or_else(|| self.config_file().context).unwrap_or_else(default);
        if name == "default" {
            return Ok((name, format!("unix://{DEFAULT_SOCKET}")));
        }
        let digest: String = Sha256::digest(name.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
        let file = self.config_directory().map(|d| d.join("contexts/meta").join(digest).join("meta.json"));
        let text = file.and_then(|file| fs::read(file).ok()).unwrap_or_default();
        let meta: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        match meta.pointer("/Endpoints/docker/Host").and_then(|host| host.as_str()) {
            Some(host) => Ok((name, host.to_owned())),
            None => Err(BuildError::Missing {
                message: format!("the Docker context `{name}` is not known"),
                fix: "docker context ls, then: docker context use NAME".to_owned(),
            }),
        }
    }
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// The buildx plugin's file, as far as Docker's client would find it.
pub fn buildx_plugin(env: &DockerEnv) -> Option<PathBuf> {
    let own = env.config_directory().map(|d| d.join("cli-plugins"));
    let all = own.into_iter().chain(env.config_file().plugins);
    let all = all.chain(PLUGIN_DIRECTORIES.map(PathBuf::from));
    all.map(|directory| directory.join(PLUGIN)).find(|file| is_program(file))
}

impl Docker {
    /// Docker's client.
    pub fn find(env: DockerEnv) -> Result<Self, BuildError> {
        match env.find("docker") {
            Some(program) => Ok(Self { program, env }),
            None => Err(BuildError::Missing {
                message: "Docker's client `docker` is not installed".to_owned(),
                fix: "install Docker: sudo apt-get install docker.io docker-buildx, or https://docs.docker.com/get-docker"
                    .to_owned(),
            }),
        }
    }

    /// The client's file.
    pub fn program(&self) -> &Path {
        &self.program
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    pub(super) async fn output<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Output, BuildError> {
        let output = self.command().args(arguments).output().await;
        output.map_err(super::io("running", &self.program))
    }

    /// The standard output of a command that succeeds.
    pub(super) async fn said<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String, BuildError> {
        let output = self.output(arguments).await?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let shown: Vec<_> = arguments.iter().map(|a| a.as_ref().to_string_lossy()).collect();
        Err(BuildError::Failed {
            message: format!("`docker {}` failed", shown.join(" ")),
            log: String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect(),
        })
    }

    /// What the engine itself says about something of its own, where its socket is one of this machine's. Outer
    /// nothing: the client has to be asked.
    pub(super) async fn asked<T: DeserializeOwned + Send + 'static>(
        &self,
        path: String,
    ) -> Option<Option<T>> {
        let (_, address) = self.env.endpoint().ok()?;
        let socket = PathBuf::from(address.strip_prefix("unix://")?);
        tokio::task::spawn_blocking(move || ask(&socket, &path)).await.ok()?.ok()
    }

    /// Fails where the client has no buildx.
    pub async fn check_buildx(&self) -> Result<(), BuildError> {
        if buildx_plugin(&self.env).is_some() {
            return Ok(());
        }
        // The client knows places that are not listed here.
        match self.output(&["buildx", "version"]).await? {
            output if output.status.success() => Ok(()),
            _ => Err(BuildError::Missing {
                message: "Docker's client has no `buildx` plugin".to_owned(),
                fix: "sudo apt-get install docker-buildx (`docker-buildx-plugin` from Docker's own packages), or put \
                      the release's binary at ~/.docker/cli-plugins/docker-buildx"
                    .to_owned(),
            }),
        }
    }

    /// Asks the engine who it is; tells not installed, not running, and not allowed apart.
    pub async fn engine(&self) -> Result<Engine, BuildError> {
        let (context, address) = self.env.endpoint()?;
        let Some(socket) = address.strip_prefix("unix://") else { return self.remote_engine(&address).await };
        let socket = PathBuf::from(socket);
        let asked = {
            let socket = socket.clone();
            tokio::task::spawn_blocking(move || ask::<VersionDto>(&socket, "/version")).await
        };
        let asked = asked.unwrap_or_else(|e| Err(io::Error::other(e)));
        match asked.and_then(|said| said.ok_or_else(|| io::ErrorKind::InvalidData.into())) {
            Ok(said) => Ok(Engine {
                version: said.version,
                api: said.api,
                architecture: said.architecture,
                // Docker Desktop's socket, in the user's own directory, leads into a virtual machine.
                here: cfg!(target_os = "linux") && context == "default" && !address.contains("/.docker/"),
                address,
            }),
            Err(e) => Err(self.unreachable(&address, &socket, &e)),
        }
    }

    fn unreachable(&self, address: &str, socket: &Path, error: &io::Error) -> BuildError {
        let ordinary = address == format!("unix://{DEFAULT_SOCKET}");
        let (message, fix) = match error.kind() {
            io::ErrorKind::PermissionDenied => (
                format!("you may not use Docker's engine at `{address}`: permission denied"),
                "sudo usermod -aG docker \"$USER\", then log in again".to_owned(),
            ),
            io::ErrorKind::NotFound if ordinary && !self.engine_installed() => (
                format!("Docker's engine is not installed: there is no `{}`", socket.display()),
                "sudo apt-get install docker.io, or https://docs.docker.com/engine/install".to_owned(),
            ),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => (
                format!("Docker's engine is not running: nothing listens at `{address}`"),
                if ordinary {
                    "sudo systemctl start docker, or start Docker Desktop".to_owned()
                } else {
                    "start that engine, or choose another: unset DOCKER_HOST, docker context use NAME"
                        .to_owned()
                },
            ),
            _ => (
                format!("Docker's engine at `{address}` does not answer: {error}"),
                "docker version shows what the client meets there".to_owned(),
            ),
        };
        BuildError::Missing { message, fix }
    }

    fn engine_installed(&self) -> bool {
        self.env.find("dockerd").is_some()
            || SYSTEM_DIRECTORIES.iter().any(|d| is_program(&Path::new(d).join("dockerd")))
            || Path::new("/opt/docker-desktop").exists()
    }

    /// An engine that only the client itself knows how to reach.
    async fn remote_engine(&self, address: &str) -> Result<Engine, BuildError> {
        let output = self.output(&["version", "--format", "{{json .Server}}"]).await?;
        match serde_json::from_slice::<VersionDto>(&output.stdout) {
            Ok(said) => Ok(Engine {
                version: said.version,
                api: said.api,
                architecture: said.architecture,
                address: address.to_owned(),
                here: false,
            }),
            Err(_) => {
                let text = String::from_utf8_lossy(&output.stderr);
                let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no answer");
                Err(BuildError::Missing {
                    message: format!("Docker's engine at `{address}` does not answer: {}", last.trim()),
                    fix: "start that engine, or choose another: unset DOCKER_HOST, docker context use NAME"
                        .to_owned(),
                })
            }
        }
    }

    /// Runs the build and hands over what happens as it does.
    pub async fn build(&self, recipe: &Recipe, mut each: impl FnMut(&Event)) -> Result<(), BuildError> {
        match self.run(&recipe.arguments("rawjson"), &mut each).await? {
            End::Built => Ok(()),
            End::Failed(error) => Err(error),
            // Older plugins have plain lines only.
            End::NoSuchProgress => match self.run(&recipe.arguments("plain"), &mut each).await? {
                End::Built => Ok(()),
                End::Failed(error) => Err(error),
                End::NoSuchProgress => Err(BuildError::Failed {
                    message: "this `docker buildx` has no way to tell its progress".to_owned(),
                    log: Vec::new(),
                }),
            },
        }
    }

    async fn run(&self, arguments: &[OsString], each: &mut impl FnMut(&Event)) -> Result<End, BuildError> {
        let failed = super::io("running", &self.program);
        let spawned = self.command().args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(failed)?;
        let mut parser = Parser::default();
        let mut tail = Tail::default();
        let mut events = Vec::new();
        if let Some(mut output) = child.stderr.take() {
            let mut block = vec![0; BLOCK];
            loop {
                let read = output.read(&mut block).await.map_err(super::io("reading from", &self.program))?;
                let Some(piece) = block.get(..read).filter(|piece| !piece.is_empty()) else { break };
                parser.feed(piece, &mut events);
                for event in events.drain(..) {
                    tail.note(&event);
                    each(&event);
                }
            }
        }
        parser.end(&mut events);
        for event in events.drain(..) {
            tail.note(&event);
            each(&event);
        }
        let status = child.wait().await.map_err(super::io("waiting for", &self.program))?;
        if status.success() {
            return Ok(End::Built);
        }
        if tail
            .said
            .iter()
            .any(|line| line.contains("invalid progress mode") || line.contains("progress=rawjson"))
        {
            return Ok(End::NoSuchProgress);
        }
        Ok(End::Failed(tail.error()))
    }

    /// Pushes an image that the engine has.
    pub async fn push(&self, tag: &str) -> Result<(), BuildError> {
        self.said(&["push", "--quiet", tag]).await.map(drop)
    }

    /// Gives an image of the engine the name `tag` as well and pushes that, with credentials for its registry that
    /// are kept nowhere: neither on a command line nor in the user's own settings.
    pub async fn push_with(
        &self,
        image: &str,
        tag: &str,
        registry: &str,
        user: &str,
        password: &str,
    ) -> Result<(), BuildError> {
        self.said(&["tag", image, tag]).await?;
        let scratch = tempfile::Builder::new().prefix("agentcore-push-").tempdir();
        let scratch = scratch.map_err(super::io("making a directory for", Path::new("credentials")))?;
        self.settings_with(scratch.path(), registry, user, password)?;
        let output =
            self.command().env("DOCKER_CONFIG", scratch.path()).args(["push", "--quiet", tag]).output();
        let output = output.await.map_err(super::io("running", &self.program))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(BuildError::Failed {
            message: format!("`{tag}` could not be pushed"),
            log: text.lines().map(str::to_owned).collect(),
        })
    }

    /// Takes a name from an image of this engine, and the image with its last name.
    pub async fn untag(&self, name: &str) -> Result<(), BuildError> {
        self.said(&["image", "rm", "--no-prune", name]).await.map(drop)
    }

    /// The user's own settings of the client, with one login more.
    fn settings_with(
        &self,
        directory: &Path,
        registry: &str,
        user: &str,
        password: &str,
    ) -> Result<(), BuildError> {
        use std::os::unix::fs::OpenOptionsExt;
        let own = self.env.config_directory();
        let text = own.as_ref().and_then(|own| fs::read(own.join("config.json")).ok()).unwrap_or_default();
        let mut settings: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&text).unwrap_or_default();
        // A helper would be asked in place of what stands here.
        settings.remove("credsStore");
        settings.remove("credHelpers");
        let login = BASE64_STANDARD.encode(format!("{user}:{password}"));
        settings.insert("auths".to_owned(), serde_json::json!({ registry: { "auth": login } }));
        for name in ["contexts", "cli-plugins"] {
            let Some(from) = own.as_ref().map(|own| own.join(name)).filter(|from| from.is_dir()) else {
                continue;
            };
            let from = from.canonicalize().unwrap_or(from);
            std::os::unix::fs::symlink(&from, directory.join(name)).map_err(super::io("linking", &from))?;
        }
        let file = directory.join("config.json");
        let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
        let text = serde_json::Value::Object(settings).to_string();
        made.and_then(|mut out| out.write_all(text.as_bytes())).map_err(super::io("writing", &file))
    }
}

enum End {
    Built,
    Failed(BuildError),
    NoSuchProgress,
}

/// The last lines of each step, for the step that fails.
#[derive(Default)]
struct Tail {
    logs: std::collections::BTreeMap<u32, VecDeque<String>>,
    names: std::collections::BTreeMap<u32, String>,
    failed: Option<(u32, String)>,
    /// What stood outside of steps.
    said: VecDeque<String>,
}

impl Tail {
    fn note(&mut self, event: &Event) {
        let keep = |lines: &mut VecDeque<String>, line: &str| {
            lines.push_back(line.to_owned());
            if lines.len() > LOG_LINES {
                lines.pop_front();
            }
        };
        match event {
            Event::Step { number, name, state, .. } => {
                self.names.insert(*number, name.clone());
                match state {
                    StepState::Failed { error } => {
                        // What else fails then was cancelled by the first.
                        self.failed.get_or_insert((*number, error.clone()));
                    }
                    StepState::Done | StepState::Cached => _ = self.logs.remove(number),
                    StepState::Started => {}
                }
            }
            Event::Log { step, line } => keep(self.logs.entry(*step).or_default(), line),
            Event::Talk { line } => keep(&mut self.said, line),
            Event::Transfer { .. } => {}
        }
    }

    fn error(mut self) -> BuildError {
        let last = self.said.iter().rev().find_map(|line| line.strip_prefix("ERROR: ")).map(str::to_owned);
        match self.failed {
            Some((number, error)) => {
                let name = self.names.remove(&number).unwrap_or_default();
                let log = self.logs.remove(&number).unwrap_or_default();
                BuildError::Failed { message: format!("step `{name}` failed: {error}"), log: log.into() }
            }
            None => BuildError::Failed {
                message: match last {
                    Some(line) => format!("the build failed: {line}"),
                    None => "the build failed".to_owned(),
                },
                log: self.said.into(),
            },
        }
    }
}

/// One question to an engine over its UNIX socket, by hand: `GET` and the object that is the answer. Nothing: it
/// answered that it does not have that.
fn ask<T: DeserializeOwned>(socket: &Path, path: &str) -> io::Result<Option<T>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not an engine's");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(strange)?;
    match head.split_whitespace().nth(1) {
        Some("200") => {}
        Some("404") => return Ok(None),
        _ => return Err(strange()),
    }
    // Between chunk sizes, where an engine sends chunks, stands the one object.
    let object = body.find('{').zip(body.rfind('}')).and_then(|(from, to)| body.get(from..=to));
    serde_json::from_str(object.unwrap_or_default()).map(Some).map_err(|_| strange())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn docker(dir: &Path, host: &str) -> Docker {
        let program = dir.join("docker");
        fs::write(&program, "#!/bin/sh\necho no >&2; exit 1\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let env = DockerEnv {
            path: Some(dir.into()),
            host: Some(host.to_owned()),
            config: Some(dir.to_owned()),
            ..DockerEnv::default()
        };
        Docker::find(env).unwrap()
    }

    fn message(error: BuildError) -> (String, String) {
        match error {
            BuildError::Missing { message, fix } => (message, fix),
            other => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn an_engine_that_does_not_answer_is_told_by_why() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let host = format!("unix://{}", socket.display());
        let docker = docker(dir.path(), &host);
        let (said, _) = message(docker.engine().await.unwrap_err());
        assert!(said.contains("not running"), "{said}");
        // A socket without anybody behind it.
        drop(UnixListener::bind(&socket).unwrap());
        let (said, _) = message(docker.engine().await.unwrap_err());
        assert!(said.contains("not running"), "{said}");
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        let (said, fix) = message(docker.unreachable(&host, &socket, &refused));
        assert!(said.contains("permission denied") && fix.contains("usermod"), "{said} {fix}");
        let (said, fix) = message(docker.remote_engine("tcp://127.0.0.1:1").await.unwrap_err());
        assert!(said.contains("does not answer: no") && fix.contains("DOCKER_HOST"), "{said} {fix}");
    }

    #[tokio::test]
    async fn an_engine_says_its_version_in_one_piece_or_in_chunks() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let docker = docker(dir.path(), &format!("unix://{}", socket.display()));
        let listener = UnixListener::bind(&socket).unwrap();
        let body = r#"{"Version":"26.1.5","ApiVersion":"1.45","Arch":"arm64","Os":"linux"}"#;
        let answers = [
            format!("HTTP/1.0 200 OK\r\n\r\n{body}"),
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            ),
        ];
        let server = std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 1024]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        for _ in 0..2 {
            let engine = docker.engine().await.unwrap();
            assert_eq!((engine.version.as_str(), engine.api.as_str()), ("26.1.5", "1.45"));
        }
        server.join().unwrap();
    }

    #[test]
    fn the_address_comes_from_the_variable_the_context_or_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let env = |host: Option<&str>, context: Option<&str>| DockerEnv {
            host: host.map(str::to_owned),
            context: context.map(str::to_owned),
            config: Some(dir.path().to_owned()),
            ..DockerEnv::default()
        };
        let address = |env: DockerEnv| env.endpoint().map(|(_, address)| address);
        assert_eq!(address(env(None, None)).unwrap(), "unix:///var/run/docker.sock");
        assert_eq!(address(env(Some("tcp://h:1"), Some("x"))).unwrap(), "tcp://h:1");
        assert!(message(address(env(None, Some("desk"))).unwrap_err()).0.contains("`desk`"));
        // sha256("desk")
        let digest: String = Sha256::digest(b"desk").iter().map(|b| format!("{b:02x}")).collect();
        let meta = dir.path().join("contexts/meta").join(digest);
        fs::create_dir_all(&meta).unwrap();
        fs::write(meta.join("meta.json"), r#"{"Name":"desk","Endpoints":{"docker":{"Host":"unix:///d"}}}"#)
            .unwrap();
        assert_eq!(address(env(None, Some("desk"))).unwrap(), "unix:///d");
        fs::write(dir.path().join("config.json"), r#"{"currentContext":"desk"}"#).unwrap();
        assert_eq!(address(env(None, None)).unwrap(), "unix:///d");
    }
}
