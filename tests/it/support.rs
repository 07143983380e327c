//! What the modules of this test binary share: skipping, a running emulator, projects, the Python environment.

#![allow(clippy::disallowed_methods, reason = "tests hand the environment on to the programs they start")]

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The program under test.
pub const BIN: &str = env!("CARGO_BIN_EXE_agentcore");

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// True where nothing may be skipped.
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// A count of a load or fault test: the small one, or the one of a release where that is asked for.
pub fn count(small: usize, full: usize) -> usize {
    if std::env::var("AGENTCORE_TEST_FULL").is_ok_and(|value| value == "1") { full } else { small }
}

/// Says that `test` cannot run here. On a laptop that is one line on the real stderr, which libtest
/// does not capture; in CI it is a failure, because a test that never runs proves nothing.
pub fn skip(test: &str, missing: &str) {
    assert!(!in_ci(), "{test} cannot be skipped in CI: {missing}");
    // `Stderr::write_all` goes to file descriptor 2; only the print macros are captured.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {missing}");
}

/// A command whose environment says nothing of AWS or of another emulator.
pub fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("AWS_")
            || text.starts_with("AGENTCORE_")
            || text.starts_with("BEDROCK_")
            || text.to_ascii_lowercase().ends_with("_proxy")
        {
            command.env_remove(&name);
        }
    }
    command.env_remove("VIRTUAL_ENV").env("NO_PROXY", "127.0.0.1,localhost").stdin(Stdio::null());
    command
}

/// Runs a command to its end and fails with everything it wrote when it fails.
#[track_caller]
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}\n{}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Finds a program in `PATH`.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Waits until `done` gives something.
#[track_caller]
pub fn eventually<T>(limit: Duration, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Makes a program of a shell script. Another process writes it: a program that is being written cannot be run, and
/// while this process writes, a thread of another test may start a process that keeps the file open.
#[track_caller]
pub fn script(file: &Path, text: &str) {
    let write = "printf '#!/bin/sh\n%s\n' \"$0\" >\"$1\" && chmod 755 \"$1\"";
    succeed(Command::new("/bin/sh").args(["-c", write, text]).arg(file));
}

/// A temporary directory whose path is short enough for the sockets that the program puts below it.
pub fn short_temp_dir() -> TempDir {
    tempfile::Builder::new().prefix("ac-").tempdir().unwrap()
}

/// A port that nobody else is given while this lives: bound, not listened on, and shared with whoever says so, as
/// listeners do. One that is merely let go again may be another test's by the time it is used.
pub struct ReservedPort {
    _socket: tokio::net::TcpSocket,
    pub number: u16,
}

impl ReservedPort {
    pub fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let number = socket.local_addr().unwrap().port();
        Self { _socket: socket, number }
    }
}

/// A running emulator of its own: own state directory, own port. Ends with the value.
pub struct Emulator {
    child: Child,
    home: PathBuf,
    endpoint: String,
    scratch: TempDir,
}

impl Emulator {
    /// Starts `agentcore local up --foreground` with `flags` and waits until it answers.
    #[track_caller]
    pub fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, &[])
    }

    /// Starts one with more in its environment.
    #[track_caller]
    pub fn start_with(flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let scratch = short_temp_dir();
        Self::start_at(scratch.path().join("home"), scratch, flags, environment)
    }

    /// Starts one whose state directory is `home`.
    #[track_caller]
    pub fn start_in(home: &Path) -> Self {
        Self::start_at(home.to_owned(), short_temp_dir(), &[], &[])
    }

    /// The same with `flags`.
    #[track_caller]
    pub fn start_in_with(home: &Path, flags: &[&str]) -> Self {
        Self::start_in_as(home, flags, &[])
    }

    /// The same with more in its environment.
    #[track_caller]
    pub fn start_in_as(home: &Path, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_at(home.to_owned(), short_temp_dir(), flags, environment)
    }

    #[track_caller]
    fn start_at(home: PathBuf, scratch: TempDir, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let log_file = scratch.path().join("test-output.log");
        let log = File::create(&log_file).unwrap();
        let mut command = clean(BIN);
        // Without `--port`, whoever finds the usual port taken gets a free one.
        command
            .env("AGENTCORE_HOME", &home)
            // Nothing is asked for with credentials of whoever runs the tests.
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(environment.iter().copied())
            .args(["local", "up", "--foreground"])
            .args(flags)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = command.spawn().unwrap();
        let end = Instant::now() + START_LIMIT;
        let endpoint = loop {
            let text = fs::read_to_string(home.join("emulator.json")).unwrap_or_default();
            let found = serde_json::from_str::<serde_json::Value>(&text).ok();
            // One that was killed has left its own, and its port may be another test's by now.
            let found = found.filter(|v| v["pid"] == child.id());
            let endpoint = found.and_then(|v| v["endpoint"].as_str().map(str::to_owned));
            if let Some(endpoint) = endpoint.filter(|e| answers(e)) {
                break endpoint;
            }
            let ended = child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                let log = fs::read_to_string(&log_file).unwrap_or_default();
                panic!("the emulator did not start ({ended:?}); it wrote:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Self { child, home, endpoint, scratch }
    }

    /// Base URL of both planes.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The state directory.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The program, pointed at this emulator.
    pub fn command(&self) -> Command {
        let mut command = clean(BIN);
        command.env("AGENTCORE_HOME", self.home());
        command
    }

    /// The program run in a project; fails the test when it fails.
    #[track_caller]
    pub fn run(&self, directory: &Path, args: &[&str]) -> Output {
        succeed(self.command().current_dir(directory).args(args))
    }

    /// The memory of the emulator's process, in KiB.
    pub fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the emulator has written to its terminal.
    pub fn output(&self) -> String {
        fs::read_to_string(self.scratch.path().join("test-output.log")).unwrap()
    }

    /// SIGKILL, as a crash.
    pub fn crash(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).map(Pid::from_raw);
        let asked = matches!(self.child.try_wait(), Ok(None))
            && pid.is_ok_and(|pid| kill(pid, Signal::SIGTERM).is_ok());
        let end = Instant::now() + STOP_LIMIT;
        while asked && Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let hung = matches!(self.child.try_wait(), Ok(None));
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = fs::read_to_string(self.scratch.path().join("test-output.log")).unwrap_or_default();
        if std::thread::panicking() {
            println!("--- the emulator wrote:\n{log}");
        } else {
            assert!(!hung, "the emulator did not end within {STOP_LIMIT:?} of SIGTERM; it wrote:\n{log}");
        }
    }
}

fn answers(endpoint: &str) -> bool {
    let address = endpoint.trim_start_matches("http://").trim_end_matches('/');
    address.parse::<SocketAddr>().is_ok_and(|a| TcpStream::connect_timeout(&a, START_LIMIT).is_ok())
}

/// A project directory with one of the agents of `tests/agents`.
pub struct Project {
    directory: TempDir,
}

impl Project {
    /// Copies `tests/agents/<agent>` and writes a project file that calls it `name`; `keys` are
    /// added to the agent's entry.
    pub fn new(agent: &str, name: &str, keys: serde_json::Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(repository().join("tests/agents").join(agent)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
        }
        let mut fields = serde_json::json!({ "name": name, "entrypoint": "main.py" });
        for (key, value) in keys.as_object().unwrap() {
            fields[key] = value.clone();
        }
        // JSON is YAML, so the project file needs no YAML writer here.
        let file = serde_json::json!({ "default_agent": name, "agents": { name: fields } });
        fs::write(
            directory.path().join(".bedrock_agentcore.yaml"),
            serde_json::to_string_pretty(&file).unwrap(),
        )
        .unwrap();
        Self { directory }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// A Python with boto3, the AWS CLI and the official SDK, pinned by `tests/python/requirements.txt`.
///
/// Made once per content of that file, below cargo's directory for test data. `None`, after
/// [`skip`], where it cannot be made.
pub fn python(test: &str) -> Option<PathBuf> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let make =
        || std::env::var_os(VENV).map_or_else(|| make_python("requirements.txt"), |made| Ok(made.into()));
    interpreter(test, MADE.get_or_init(make))
}

/// A Python with the starter toolkit, pinned by `tests/python/toolkit.txt`; else as [`python`].
pub fn toolkit_python(test: &str) -> Option<PathBuf> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    interpreter(test, MADE.get_or_init(|| make_python("toolkit.txt")))
}

/// A Python with what the coding agent's template needs, pinned by `tests/python/strands.txt`; else as [`python`].
pub fn strands_python(test: &str) -> Option<PathBuf> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    interpreter(test, MADE.get_or_init(|| make_python("strands.txt")))
}

fn interpreter(test: &str, made: &Result<PathBuf, String>) -> Option<PathBuf> {
    match made {
        Ok(directory) => Some(directory.join("bin/python")),
        Err(missing) => {
            skip(test, missing);
            None
        }
    }
}

/// Names the environment of [`python`] to a second pass, which may not make one.
pub const VENV: &str = "AGENTCORE_TEST_VENV";

/// The environment that a Python of [`python`] is in.
pub fn venv_of(python: &Path) -> &Path {
    python.parent().and_then(Path::parent).unwrap()
}

/// The program of moto, which stands in for AWS's other services, pinned by `tests/python/requirements-cloud.txt`.
pub fn moto(test: &str) -> Option<PathBuf> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match MADE.get_or_init(|| make_python("requirements-cloud.txt")) {
        Ok(directory) => Some(directory.join("bin/moto_server")),
        Err(missing) => {
            skip(test, missing);
            None
        }
    }
}

fn make_python(list: &str) -> Result<PathBuf, String> {
    let base = which("python3").ok_or("no `python3` in PATH; install Python 3.10 or newer with venv")?;
    let requirements = repository().join("tests/python").join(list);
    let version = Command::new(&base).arg("--version").output().map_err(|e| format!("{base:?}: {e}"))?;
    let mut hash = Sha256::new();
    hash.update(fs::read(&requirements).unwrap());
    hash.update(&version.stdout);
    let hash: String = hash.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect();
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(root).unwrap();
    let directory = root.join(format!("test-venv-{hash}"));
    let complete = directory.join("complete");
    // Two test processes at once: the second waits here and finds the work done.
    let lock = File::create(root.join("test-venv.lock")).unwrap();
    lock.lock().unwrap();
    if complete.exists() {
        return Ok(directory);
    }
    let _ = fs::remove_dir_all(&directory);
    let step = |command: &mut Command| -> Result<(), String> {
        let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = text.lines().last().unwrap_or_default().to_owned();
        if output.status.success() { Ok(()) } else { Err(last) }
    };
    step(Command::new(&base).args(["-m", "venv"]).arg(&directory))
        .map_err(|e| format!("`python3 -m venv` failed ({e}); install python3-venv"))?;
    step(
        Command::new(directory.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(&requirements),
    )
    .map_err(|e| format!("pip could not install tests/python/{list} ({e}); connect once"))?;
    fs::write(complete, b"").unwrap();
    Ok(directory)
}

#[test]
fn a_deadline_that_passes_says_what_was_waited_for() {
    let failed = std::panic::catch_unwind(|| {
        eventually(Duration::from_millis(1), "the end of the world", || None::<()>);
    });
    let message = *failed.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("the end of the world"), "{message}");
}
