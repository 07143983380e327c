//! An emulator that may be killed: its process, its planes over plain HTTP, and what of it the machine shows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::docker::daemon::{Daemon, is_unstarted};
use crate::docker::lab::{self, Lab};
use crate::support::{self, Project, ReservedPort};

const SESSION_HEADER: &str = "x-amzn-bedrock-agentcore-runtime-session-id";
/// Longest time one call may take, starts and stops of its session included.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// Longest time until an emulator answers.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longest time until it has ended after SIGTERM.
const END_LIMIT: Duration = Duration::from_secs(90);
/// Grace of the emulators under test: the agents of these tests end at once.
pub const GRACE: Duration = Duration::from_secs(2);

/// The planes of an emulator; clones are used by everybody who calls it.
#[derive(Debug, Clone)]
pub struct Planes {
    pub address: SocketAddr,
    pub socket: PathBuf,
    pub arn: String,
}

/// What a call came to: an answer, whole, or what broke it.
pub type Answer = Result<(StatusCode, Bytes), String>;

impl Planes {
    pub async fn aws(&self, method: &str, path: &str, session: &str, body: String) -> Answer {
        let call = async {
            let stream = TcpStream::connect(self.address).await.map_err(|e| e.to_string())?;
            stream.set_nodelay(true).map_err(|e| e.to_string())?;
            exchange(stream, method, path, session, body).await
        };
        tokio::time::timeout(CALL_LIMIT, call).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    pub async fn admin(&self, path: &str) -> Result<Value, String> {
        let call = async {
            let stream = UnixStream::connect(&self.socket).await.map_err(|e| e.to_string())?;
            exchange(stream, "GET", path, "", String::new()).await
        };
        let answer = tokio::time::timeout(CALL_LIMIT, call).await;
        let (status, body) = answer.unwrap_or_else(|_| Err("no answer in time".to_owned()))?;
        if !status.is_success() {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
        }
        serde_json::from_slice(&body).map_err(|e| e.to_string())
    }

    fn path(&self, operation: &str) -> String {
        format!("/runtimes/{}/{operation}", self.arn.replace(':', "%3A").replace('/', "%2F"))
    }

    pub async fn invoke(&self, session: &str, payload: Value) -> Answer {
        self.aws("POST", &self.path("invocations"), session, payload.to_string()).await
    }

    /// Runs a command; an answer only if it ended with 0.
    pub async fn command(&self, session: &str, command: &str) -> Answer {
        let body = json!({ "command": command, "timeout": 60 }).to_string();
        let (status, body) = self.aws("POST", &self.path("commands"), session, body).await?;
        let done = String::from_utf8_lossy(&body).contains(r#""exitCode":0"#);
        if status.is_success() && !done {
            return Err(format!("the command did not end well: {}", String::from_utf8_lossy(&body)));
        }
        Ok((status, body))
    }

    pub async fn stop(&self, session: &str) -> Answer {
        self.aws("POST", &self.path("stopruntimesession"), session, "{}".to_owned()).await
    }

    fn tags_path(&self) -> String {
        format!("/tags/{}", self.arn.replace(':', "%3A").replace('/', "%2F"))
    }

    pub async fn tag(&self, key: &str, value: u64) -> Answer {
        let body = json!({ "tags": { key: value.to_string() } }).to_string();
        self.aws("POST", &self.tags_path(), "", body).await
    }

    pub async fn tags(&self) -> Result<HashMap<String, String>, String> {
        let (status, body) = self.aws("GET", &self.tags_path(), "", String::new()).await?;
        if !status.is_success() {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
        }
        let value: Value = serde_json::from_slice(&body).map_err(|e| e.to_string())?;
        serde_json::from_value(value["tags"].clone()).map_err(|e| e.to_string())
    }

    /// Every known session by its id.
    pub async fn sessions(&self) -> Result<BTreeMap<String, Value>, String> {
        let list = self.admin("/sessions").await?;
        let named = |s: &Value| Some((s["sessionId"].as_str()?.to_owned(), s.clone()));
        Ok(list.as_array().into_iter().flatten().filter_map(named).collect())
    }
}

async fn exchange<S>(stream: S, method: &str, path: &str, session: &str, body: String) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let words = |e: hyper::Error| e.to_string();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
    let connection = tokio::spawn(connection);
    let mut request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1")
        .header("content-type", "application/json");
    if !session.is_empty() {
        request = request.header(SESSION_HEADER, session);
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|e| e.to_string())?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(words)?;
        let status = answer.status();
        // A body that is cut off is an error here, so what is returned is whole.
        let body = answer.into_body().collect().await.map_err(words)?.to_bytes();
        Ok((status, body))
    };
    let answer = answer.await;
    connection.abort();
    answer
}

/// What a process of an emulator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Launcher,
    /// First process of a session.
    Helper,
    Agent,
    Command,
}

/// An emulator with a program file of its own, so that everything it leaves can be told from everything else.
pub struct World {
    scratch: TempDir,
    home: PathBuf,
    program: PathBuf,
    child: Option<Child>,
    /// The same for all its emulators, between whose lives it is nobody's.
    port: ReservedPort,
    arn: String,
    flags: Vec<String>,
    containers: Option<Containers>,
}

/// The daemon of a world whose sessions are containers: one of the world's own, because it is killed too.
pub struct Containers {
    pub daemon: Daemon,
    base: String,
}

impl Containers {
    /// Starts the daemon; nothing, after [`support::skip`], where there is none to be started.
    pub fn start(test: &str) -> Option<Self> {
        let there = runtime().block_on(lab::lab(test))?;
        drop(there);
        let mut daemon = Daemon::for_test(test)?;
        daemon.start();
        let base = runtime().block_on(async {
            let lab = lab::lab_at(&daemon.host()).await.unwrap();
            lab.image("python", &["ENV PATH=/usr/local/bin:/usr/bin:/bin"]).await
        });
        Some(Self { daemon, base })
    }

    /// Asks the daemon, from within whatever asks.
    fn ask<T: Send>(&self, question: impl AsyncFnOnce(&Lab) -> T + Send) -> T {
        let host = self.daemon.host();
        std::thread::scope(|scope| {
            let asking = scope
                .spawn(|| runtime().block_on(async { question(&lab::lab_at(&host).await.unwrap()).await }));
            asking.join().unwrap()
        })
    }
}

impl World {
    /// A started emulator with the ledger agent deployed, its home in a directory of its own.
    #[track_caller]
    pub fn new() -> Self {
        let scratch = support::short_temp_dir();
        let home = scratch.path().join("home");
        Self::at(scratch, home)
    }

    /// The same with another home, which must not outlive the world.
    #[track_caller]
    pub fn at(scratch: TempDir, home: PathBuf) -> Self {
        let mut world = Self::down(scratch, home);
        world.start().unwrap();
        world.deploy();
        world
    }

    /// An emulator that has not been started.
    pub fn down(scratch: TempDir, home: PathBuf) -> Self {
        let program = scratch.path().join("agentcore");
        // By a process of its own: a file that this one has open for writing, a child of another thread may hold
        // open until it executes, and what is open for writing cannot be executed.
        support::succeed(std::process::Command::new("cp").arg(support::BIN).arg(&program));
        let port = ReservedPort::new();
        let flags = vec!["--grace".to_owned(), format!("{}s", GRACE.as_secs())];
        Self { scratch, home, program, child: None, port, arn: String::new(), flags, containers: None }
    }

    /// As [`Self::new`], with sessions in containers.
    #[track_caller]
    pub fn of_containers(containers: Containers) -> Self {
        let scratch = support::short_temp_dir();
        let home = scratch.path().join("home");
        let mut world = Self::down(scratch, home);
        let flags = ["--engine", "docker", "--platform", "native", "--base-image", &containers.base];
        world.flags.extend(flags.map(str::to_owned));
        world.containers = Some(containers);
        world.start().unwrap();
        world.deploy();
        world
    }

    /// What its sessions are in, where they are in containers.
    pub fn containers(&self) -> Option<&Containers> {
        self.containers.as_ref()
    }

    /// SIGKILL to the daemon, and so much later its next start.
    pub fn kill_daemon(&mut self, away: Duration) {
        let daemon = &mut self.containers.as_mut().unwrap().daemon;
        daemon.end(Signal::SIGKILL);
        std::thread::sleep(away);
        daemon.start();
    }

    /// Containers and volumes of this home.
    fn labelled(&self, containers: &Containers) -> (Vec<String>, Vec<String>) {
        let label = lab::label_of(&self.home);
        containers.ask(async |lab| lab.labelled(&label).await)
    }

    /// Kills one of the session's containers by the daemon; nothing where there is none.
    pub fn kill_container(&self, choice: u64) -> Option<()> {
        let containers = self.containers.as_ref()?;
        let running = self.labelled(containers).0;
        let chosen = running.get(usize::try_from(choice).unwrap() % running.len().max(1))?;
        // It may have ended in the meantime.
        containers.ask(async |lab| lab.client.kill_container(chosen, None).await).ok()
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn planes(&self) -> Planes {
        Planes {
            address: SocketAddr::from(([127, 0, 0, 1], self.port.number)),
            socket: self.home.join("emulator.sock"),
            arn: self.arn.clone(),
        }
    }

    /// The agent's runtime, where it was deployed elsewhere.
    pub fn knows(&mut self, arn: &str) {
        self.arn = arn.to_owned();
    }

    fn log_file(&self) -> PathBuf {
        self.scratch.path().join("output.log")
    }

    /// What all emulators of this world have written.
    pub fn output(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Starts the emulator and kills it so much later, wherever it then is.
    pub fn stumble(&self, after: Duration) {
        let mut child = self.spawn();
        std::thread::sleep(after);
        let _ = child.kill();
        let _ = child.wait();
    }

    fn spawn(&self) -> Child {
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = support::clean(&self.program);
        command
            .env("AGENTCORE_HOME", &self.home)
            .args(["local", "up", "--foreground", "--port", &self.port.number.to_string()])
            .args(&self.flags)
            .envs(self.containers.as_ref().map(|c| ("DOCKER_HOST", c.daemon.host())))
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command.spawn().unwrap()
    }

    /// Starts the emulator; gives how long it took until it answered.
    pub fn start(&mut self) -> Result<Duration, String> {
        let begin = Instant::now();
        let mut child = self.spawn();
        loop {
            if std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, self.port.number)).is_ok()
                // The file of a dead emulator's socket may still be there.
                && std::os::unix::net::UnixStream::connect(self.home.join("emulator.sock")).is_ok()
            {
                self.child = Some(child);
                return Ok(begin.elapsed());
            }
            let ended = child.try_wait().unwrap();
            if ended.is_some() || begin.elapsed() > START_LIMIT {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("the emulator did not start ({ended:?}):\n{}", self.output()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The program, pointed at this emulator.
    pub fn command(&self) -> std::process::Command {
        let mut command = support::clean(&self.program);
        command.env("AGENTCORE_HOME", &self.home);
        command.envs(self.containers.as_ref().map(|c| ("DOCKER_HOST", c.daemon.host())));
        command
    }

    #[track_caller]
    fn deploy(&mut self) {
        let storage = json!([{ "session_storage": { "mount_path": "/mnt/workspace" } }]);
        let project = Project::new("ledger", "ledger", json!({ "filesystem_configurations": storage }));
        support::succeed(self.command().current_dir(project.path()).args(["local", "deploy"]));
        let planes = self.planes();
        let (status, body) = runtime()
            .block_on(planes.aws("POST", "/runtimes/", "", "{}".to_owned()))
            .unwrap_or_else(|e| panic!("{e}:\n{}", self.output()));
        assert!(status.is_success(), "{body:?}");
        let found: Value = serde_json::from_slice(&body).unwrap();
        self.arn = found["agentRuntimes"][0]["agentRuntimeArn"].as_str().unwrap().to_owned();
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().unwrap().id()).unwrap()
    }

    /// SIGKILL to the emulator.
    pub fn crash(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM to the emulator, and its end.
    #[track_caller]
    pub fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
        let end = Instant::now() + END_LIMIT;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "{status}:\n{}", self.output());
                return;
            }
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the emulator does not end:\n{}", self.output());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Processes of this world's sessions, whoever their parents are by now.
    pub fn processes(&self) -> Vec<(i32, Kind)> {
        let about = fs::metadata(&self.program).unwrap();
        let program = (about.dev(), about.ino());
        let own = fs::read_link("/proc/self/ns/mnt").unwrap();
        let mark = self.scratch.path().to_str().unwrap();
        let emulator = self.child.as_ref().map(Child::id);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            if emulator.is_some_and(|e| u32::try_from(pid) == Ok(e)) {
                continue;
            }
            let proc = entry.path();
            let is_program =
                fs::metadata(proc.join("exe")).is_ok_and(|about| (about.dev(), about.ino()) == program);
            let elsewhere = fs::read_link(proc.join("ns/mnt")).is_ok_and(|ns| ns != own)
                && fs::read_to_string(proc.join("mountinfo")).is_ok_and(|text| text.contains(mark));
            let command = fs::read(proc.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).into_owned();
            // A helper lets nobody but root look at its program; its command line is that of its launcher.
            let is_program = is_program || command.starts_with(&*self.program.to_string_lossy());
            if (!is_program && !elsewhere) || is_unstarted(&pid.to_string()) {
                continue;
            }
            let status = fs::read_to_string(proc.join("status")).unwrap_or_default();
            let Some(inside) = status.lines().find_map(|l| l.strip_prefix("NSpid:")) else { continue };
            if status.lines().any(|l| l.starts_with("State:\tZ")) {
                continue;
            }
            let numbers: Vec<&str> = inside.split_whitespace().collect();
            let kind = match (numbers.len(), numbers.last()) {
                (1, _) if command.contains("__session") => Kind::Launcher,
                (1, _) => continue,
                (_, Some(&"1")) => Kind::Helper,
                _ if command.contains("main.py") => Kind::Agent,
                _ => Kind::Command,
            };
            found.push((pid, kind));
        }
        found
    }

    /// What is there although no session runs: processes, mounts, scratch, storage that no record names.
    pub fn leftovers(&self, sessions: &BTreeMap<String, Value>) -> Vec<String> {
        let mut left: Vec<String> = self.processes().iter().map(|p| format!("process {p:?}")).collect();
        let below = format!("{}/", self.home.display());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(mounts.lines().filter(|l| l.contains(&below)).map(|l| format!("mount {l}")));
        left.extend(names(&self.home.join("run")).iter().map(|n| format!("scratch run/{n}")));
        left.extend(names(&self.home.join("storage/.discarded")).iter().map(|n| format!("discarded {n}")));
        let expected: BTreeSet<&str> = [
            "access-key.json",
            "artifacts",
            "emulator.json",
            "emulator.log",
            "emulator.lock",
            "emulator.sock",
            "logs",
            "projects",
            "run",
            "state.db",
            "state.db-shm",
            "state.db-wal",
            "storage",
        ]
        .into();
        let others = names(&self.home).into_iter().filter(|n| !expected.contains(n.as_str()));
        if let Some(containers) = &self.containers {
            left.extend(others.filter(|n| n != "d" && n != "docker-id"));
            left.extend(names(&self.home.join("d")).iter().map(|n| format!("socket d/{n}")));
            left.extend(self.labelled(containers).0.iter().map(|id| {
                let shown = containers.ask(async |lab| lab.client.inspect_container(id, None).await);
                let shown = shown.map(|shown| shown.state.unwrap_or_default());
                format!("container {id}: {shown:?}")
            }));
            left.extend(containers.daemon.shims_of_something().iter().map(|pid| format!("shim {pid}")));
        } else {
            left.extend(others.map(|n| format!("unexpected `{n}` in the home")));
        }
        for (session, numbers) in self.kept() {
            let known = sessions.get(&session).is_some_and(|s| !s["storage"].is_null());
            if !known || numbers.len() != 1 {
                left.push(format!("storage of {session}: {numbers:?}, known: {known}"));
            }
        }
        left
    }

    /// Where the files of a session's storages are.
    fn data(&self, session: &str) -> Vec<PathBuf> {
        if let Some(containers) = &self.containers {
            let label = format!("agentcore.session={session}");
            let volumes = containers.ask(async |lab| lab.labelled(&label).await).1;
            return volumes.iter().map(|name| containers.daemon.volume(name)).collect();
        }
        let found = self.storages().into_iter().find(|(name, _)| name == session);
        found.map_or_else(Vec::new, |(_, directory)| {
            names(&directory).into_iter().map(|storage| directory.join(storage).join("data")).collect()
        })
    }

    /// Every session with the names of its storages.
    pub fn kept(&self) -> Vec<(String, Vec<String>)> {
        let Some(containers) = &self.containers else {
            return self.storages().into_iter().map(|(n, directory)| (n, names(&directory))).collect();
        };
        let mut kept: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in self.labelled(containers).1 {
            let about = containers.ask(async |lab| lab.client.inspect_volume(&name).await.unwrap());
            kept.entry(about.labels["agentcore.session"].clone()).or_default().push(name);
        }
        kept.into_iter().collect()
    }

    /// Every session's directory of storages.
    fn storages(&self) -> Vec<(String, PathBuf)> {
        let id = self.arn.rsplit('/').next().unwrap();
        let sessions = self.home.join("storage").join(id).join("DEFAULT");
        names(&sessions).into_iter().map(|n| (n.clone(), sessions.join(n))).collect()
    }

    /// What a session's storage holds in one file, as numbers; a line that is none is an error.
    pub fn ledger(&self, session: &str, file: &str, power_cut: bool) -> Result<Vec<u64>, String> {
        let mut numbers = Vec::new();
        for data in self.data(session) {
            let path = data.join(file);
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(format!("{}: {e}", path.display())),
            };
            // An append that nobody made durable may, after a power cut, have left its length without its bytes.
            for line in text.lines().filter(|line| !(power_cut && line.contains('\0'))) {
                numbers.push(line.parse().map_err(|_| format!("{}: a torn line `{line}`", path.display()))?);
            }
        }
        Ok(numbers)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.output();
            let tail: Vec<&str> = text.lines().rev().take(60).collect();
            println!("--- the emulator wrote last:");
            tail.iter().rev().for_each(|line| println!("{line}"));
        }
        self.crash();
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Names of what is in a directory; none where there is no directory.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}
