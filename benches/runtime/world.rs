//! The processes of a run: agent, proxy, emulator. Each ends with its value.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const AGENTCORE: &str = env!("CARGO_BIN_EXE_agentcore");
const LIMIT: Duration = Duration::from_secs(30);

/// A process that is asked to end, and then made to.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// Processor time that the process has used, all its threads together, itself and for it in the kernel.
    pub fn used(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        // After the name, which may hold anything: utime and stime are the 12th and 13th.
        let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).unwrap().unwrap();
        Duration::from_secs_f64(ticks as f64 / hertz as f64)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let end = Instant::now() + LIMIT;
        while Instant::now() < end && matches!(self.0.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody listens on. Somebody else could take it before it is used; then the run fails at once.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Waits until something accepts connections; gives how long that took.
pub fn wait_for(address: SocketAddr) -> Duration {
    let begin = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(begin.elapsed() < LIMIT, "nothing listens at {address}");
        std::thread::sleep(Duration::from_micros(200));
    }
    begin.elapsed()
}

/// A program in a session of its own, as daemons run. The kernel shares processors out by session: what is measured
/// must not share with its load, nor one yardstick with another.
fn daemon(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setsid");
    // Replaced by the program, whose process this is then.
    command.arg(program);
    command
}

/// This program as an agent of its own.
pub fn start_agent(port: u16) -> Running {
    let mut command = daemon(std::env::current_exe().unwrap());
    Running::start(command.args(["agent", &loopback(port).to_string()]))
}

/// This program as a bare proxy.
pub fn start_bare(front: u16, agent: u16) -> Running {
    let mut command = daemon(std::env::current_exe().unwrap());
    Running::start(command.args(["bare", &loopback(front).to_string(), &loopback(agent).to_string()]))
}

/// haproxy with the committed configuration.
pub fn start_haproxy(front: u16, agent: u16) -> Running {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/haproxy.cfg");
    let program = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy", "haproxy"]
        .into_iter()
        .find(|p| !p.starts_with('/') || Path::new(p).exists())
        .unwrap_or("haproxy");
    let mut command = daemon(program);
    command.arg("-db").arg("-q").arg("-f").arg(config);
    Running::start(
        command.env("BENCH_FRONT_PORT", front.to_string()).env("BENCH_AGENT_PORT", agent.to_string()),
    )
}

/// The path of an operation on a runtime.
pub fn path_of(arn: &str, operation: &str) -> String {
    let arn = arn.replace(':', "%3A").replace('/', "%2F");
    format!("/runtimes/{arn}/{operation}")
}

/// An emulator with the bench agent deployed.
pub struct Emulator {
    home: TempDir,
    // Ends before the directory goes.
    process: Option<Running>,
    pub address: SocketAddr,
    pub arn: String,
}

impl Emulator {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with flags of its own.
    pub fn start_with(flags: &[&str]) -> Self {
        let home = tempfile::Builder::new().prefix("ac-bench-").tempdir().unwrap();
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        let mut command = daemon(AGENTCORE);
        command.args(["local", "up", "--foreground"]).args(flags);
        command.env("AGENTCORE_HOME", home.path().join("home"));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let process = Running::start(&mut command);
        let begin = Instant::now();
        let address = loop {
            let text = std::fs::read_to_string(home.path().join("home/emulator.json")).unwrap_or_default();
            let endpoint = serde_json::from_str::<Value>(&text)
                .ok()
                .and_then(|v| v["endpoint"].as_str().map(str::to_owned));
            if let Some(address) =
                endpoint.and_then(|e| e.trim_start_matches("http://").trim_end_matches('/').parse().ok())
            {
                wait_for(address);
                break address;
            }
            assert!(
                begin.elapsed() < LIMIT,
                "the emulator did not start:\n{}",
                std::fs::read_to_string(home.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut emulator = Self { home, process: Some(process), address, arn: String::new() };
        emulator.deploy();
        emulator
    }

    fn deploy(&mut self) {
        let project = self.home.path().join("project");
        std::fs::create_dir(&project).unwrap();
        std::fs::copy(std::env::current_exe().unwrap(), project.join("agent")).unwrap();
        let file = json!({ "default_agent": "bench", "agents": { "bench": {
            "name": "bench",
            "entrypoint": "agent",
            "command": ["/var/task/agent", "agent", "0.0.0.0:8080"],
            "filesystem_configurations": [{ "session_storage": { "mount_path": "/mnt/workspace" } }],
        }}});
        std::fs::write(project.join(".bedrock_agentcore.yaml"), file.to_string()).unwrap();
        self.cli(&project, &["local", "deploy"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (status, body) = runtime.block_on(async {
            super::load::Client::connect(self.address).await.call("POST", "/runtimes/", "", "{}").await
        });
        assert!(status.is_success(), "{body:?}");
        let found: Value = serde_json::from_slice(&body).unwrap();
        self.arn = found["agentRuntimes"][0]["agentRuntimeArn"].as_str().unwrap().to_owned();
    }

    pub fn used(&self) -> Duration {
        self.process.as_ref().unwrap().used()
    }

    pub fn home(&self) -> PathBuf {
        self.home.path().join("home")
    }

    /// The path of an operation on the deployed runtime.
    pub fn path(&self, operation: &str) -> String {
        path_of(&self.arn, operation)
    }

    /// Runs the program.
    pub fn cli(&self, directory: &Path, args: &[&str]) -> Output {
        let mut command = Command::new(AGENTCORE);
        let output =
            command.env("AGENTCORE_HOME", self.home()).current_dir(directory).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        drop(self.process.take());
    }
}
