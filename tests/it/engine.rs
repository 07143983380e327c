//! The embedded engine with real namespaces and processes.
//!
//! Run by root, every test runs as root and again, in processes of their own, as an ordinary user with one id
//! and as one with a range of subordinate ids. A machine whose user namespaces are closed fails these tests with what to enable.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::time::{Duration, Instant};

use agentcore::engine::embedded::{EmbeddedConfig, EmbeddedEngine, Isolation};
use agentcore::engine::{
    Compute, ComputeRecord, ComputeSpec, Engine, EngineError, Process, ProcessExit, ProcessSpec, StorageMount,
};
use agentcore::storage::Place;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Set in the runs as a user: the directory that the user can reach, with the binaries in it.
const AGAIN: &str = "AGENTCORE_TEST_AGAIN";
/// Set in the run as a user with subordinate ids.
const WITH_RANGE: &str = "AGENTCORE_TEST_WITH_RANGE";
/// First subordinate id of the test's user.
const RANGE: u32 = 3_000_000;
/// An id that no account of a usual machine has.
const TEST_USER: u32 = 64_123;
pub(super) const SOON: Duration = Duration::from_secs(60);

/// An engine with a project and a storage of its own.
pub(super) struct Room<K = EmbeddedEngine> {
    pub(super) directory: tempfile::TempDir,
    pub(super) engine: K,
    /// Where the storage of its sessions is.
    pub(super) storage: Place,
}

/// What engines differ in, for the scenarios that all of them play.
pub(super) trait Kind: Engine + Sized {
    /// The image of computes, where they need one.
    fn image(&self) -> Option<String>;

    /// A second storage, as empty as the first.
    async fn another_storage(room: &Room<Self>) -> Place;

    /// Fails when something of the engine is left.
    async fn assert_nothing_left(room: &Room<Self>);
}

impl Kind for EmbeddedEngine {
    fn image(&self) -> Option<String> {
        None
    }

    async fn another_storage(room: &Room<Self>) -> Place {
        let other = room.path("other-storage");
        std::fs::create_dir(&other).unwrap();
        if let Some((uid, gid)) = room.engine.storage_owner() {
            std::os::unix::fs::chown(&other, Some(uid), Some(gid)).unwrap();
        }
        Place::Directory(other)
    }

    /// Neither in its directory, nor in this mount namespace, nor in the process table.
    async fn assert_nothing_left(room: &Room<Self>) {
        let runtime = room.path("runtime");
        let files: Vec<_> = std::fs::read_dir(&runtime).unwrap().collect();
        assert!(files.is_empty(), "left behind: {files:?}");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(runtime.to_str().unwrap()), "left mounted:\n{mounts}");
    }
}

pub(super) fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

#[allow(clippy::disallowed_methods, reason = "tells the second run of a test what it is")]
fn user_room() -> Option<PathBuf> {
    std::env::var_os(AGAIN).map(PathBuf::from)
}

pub(super) fn program() -> PathBuf {
    user_room().map_or_else(|| env!("CARGO_BIN_EXE_agentcore").into(), |room| room.join("agentcore"))
}

/// True in the run as a user with subordinate ids.
#[allow(clippy::disallowed_methods, reason = "tells the third run of a test what it is")]
fn has_range() -> bool {
    std::env::var_os(WITH_RANGE).is_some()
}

/// Runs a scenario as whoever runs the tests and, for root, as a user with one id and with a range.
/// `name` is the test's own; with its module where that is not this one.
pub(super) fn both<F>(name: &str, scenario: impl FnOnce(Room) -> F)
where
    F: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(scenario(Room::new(Isolation::Namespaces)));
    drop(runtime);
    if !is_root() {
        return;
    }
    again(name, "exec \"$@\"", &[], true);
    let needed = ["/usr/bin/newuidmap", "/usr/bin/newgidmap", "/etc/subuid", "/etc/subgid"];
    if needed.iter().all(|path| Path::new(path).exists()) {
        // The tables of ids as the test needs them, for this run alone.
        let script = format!(
            "set -e; printf 'agentcore-test:x:{TEST_USER}:{TEST_USER}::/:/bin/sh\\n' > passwd; \
             printf 'agentcore-test:{RANGE}:65536\\n' > ids; chmod 644 passwd ids; \
             mount --bind passwd /etc/passwd; mount --bind ids /etc/subuid; mount --bind ids /etc/subgid; exec \"$@\""
        );
        again(name, &script, &[(WITH_RANGE, "1")], true);
    }
}

/// Runs a scenario without namespaces, as whoever runs the tests and, for root, as an ordinary user.
pub(super) fn both_without_isolation<F>(name: &str, scenario: impl FnOnce(Room) -> F)
where
    F: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(scenario(Room::new(Isolation::Process)));
    drop(runtime);
    if is_root() {
        again(name, "exec \"$@\"", &[], true);
    }
}

/// Runs a test again in a process of its own, behind a shell script in a mount namespace of its own.
fn again(name: &str, script: &str, environment: &[(&str, &str)], as_user: bool) {
    let room = tempfile::Builder::new().prefix("agentcore-again-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(room.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let own = room.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let this = std::env::current_exe().unwrap();
    for (from, to) in [(this.as_path(), "tests"), (Path::new(env!("CARGO_BIN_EXE_agentcore")), "agentcore")] {
        let to = room.path().join(to);
        std::fs::hard_link(from, &to).or_else(|_| std::fs::copy(from, &to).map(drop)).unwrap();
    }
    let test = if name.contains("::") { name.to_owned() } else { format!("engine::{name}") };
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    if as_user {
        std::os::unix::fs::chown(&own, Some(TEST_USER), Some(TEST_USER)).unwrap();
        let ids = [format!("--reuid={TEST_USER}"), format!("--regid={TEST_USER}"), "--clear-groups".into()];
        command.arg("setpriv").args(ids).env(AGAIN, room.path());
    }
    let output = command
        .arg(room.path().join("tests"))
        .args(["--exact", &test, "--nocapture", "--test-threads=1"])
        .envs(environment.iter().copied())
        .env("TMPDIR", &own)
        .current_dir(&own)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "again with {environment:?}:\n{said}\n{errors}");
    assert!(said.contains("1 passed"), "the test did not run again:\n{said}");
}

/// The engine's configuration, with its scratch in `directory`.
fn config(directory: &Path) -> EmbeddedConfig {
    EmbeddedConfig { helper_exe: program(), ..EmbeddedConfig::new(directory.join("runtime")).unwrap() }
}

impl Room {
    pub(super) fn new(isolation: Isolation) -> Self {
        let directory = match user_room() {
            Some(room) => tempfile::tempdir_in(room.join("own")).unwrap(),
            None => tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(directory.path().join("code")).unwrap();
        let mut config = config(directory.path());
        config.isolation = isolation;
        let engine = EmbeddedEngine::new(config).unwrap();
        let storage = directory.path().join("storage");
        std::fs::create_dir(&storage).unwrap();
        if let Some((uid, gid)) = engine.storage_owner() {
            std::os::unix::fs::chown(&storage, Some(uid), Some(gid)).unwrap();
        }
        Self { directory, engine, storage: Place::Directory(storage) }
    }
}

impl<K: Kind> Room<K> {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn spec(&self) -> ComputeSpec {
        ComputeSpec {
            label: "test-session".to_owned(),
            image: self.engine.image(),
            code: Some(self.path("code")),
            read_only: vec![],
            environment: vec![("SPEC".to_owned(), "of the compute".to_owned())],
            storage: Some(StorageMount {
                source: self.storage.clone(),
                target: "/mnt/workspace".parse().unwrap(),
            }),
            early_mount: false,
            listener: None,
            labels: vec![],
        }
    }

    pub(super) async fn compute(&self) -> Box<dyn Compute> {
        self.engine.start(self.spec()).await.unwrap()
    }

    pub(super) async fn assert_nothing_left(&self) {
        K::assert_nothing_left(self).await;
    }

    /// What a file of the storage holds when the next compute looks.
    pub(super) async fn stored(&self, file: &str) -> String {
        let compute = self.compute().await;
        compute.mount_storage().await.unwrap();
        let (content, _, _) = run(&*compute, &format!("cat /mnt/workspace/{file}")).await;
        compute.terminate(Duration::ZERO).await.unwrap();
        content
    }
}

pub(super) fn sh(script: &str) -> ProcessSpec {
    argv(&["sh", "-c", script])
}

pub(super) fn argv(argv: &[&str]) -> ProcessSpec {
    ProcessSpec {
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
        environment: vec![],
        working_directory: None,
        user: None,
    }
}

async fn text(pipe: &mut Pin<Box<dyn tokio::io::AsyncRead + Send>>, limit: Duration) -> String {
    let mut text = String::new();
    tokio::time::timeout(limit, pipe.read_to_string(&mut text)).await.expect("output ends").unwrap();
    text
}

/// Runs a script to its end: output, errors, exit.
pub(super) async fn run(compute: &dyn Compute, script: &str) -> (String, String, ProcessExit) {
    finish(compute.spawn(sh(script)).await.unwrap()).await
}

pub(super) async fn finish(process: Process) -> (String, String, ProcessExit) {
    finish_within(SOON, process).await
}

/// The same for real work, which takes a busy machine longer than a test's processes live.
pub(super) async fn finish_within(limit: Duration, mut process: Process) -> (String, String, ProcessExit) {
    let (output, errors) = tokio::join!(text(&mut process.stdout, limit), text(&mut process.stderr, limit));
    let exit = tokio::time::timeout(limit, process.control.wait()).await.expect("it ends").unwrap();
    (output, errors, exit)
}

pub(super) async fn line(process: &mut Process) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let byte = tokio::time::timeout(SOON, process.stdout.read_u8()).await.expect("a line comes").unwrap();
        line.push(byte);
    }
    String::from_utf8(line).unwrap().trim().to_owned()
}

pub(super) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < SOON, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) fn first_process(record: &ComputeRecord) -> i32 {
    let record: serde_json::Value = serde_json::from_str(&record.0).unwrap();
    i32::try_from(record["pid"].as_i64().unwrap()).unwrap()
}

pub(super) fn alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Host processes whose parent is `pid`.
pub(super) fn children(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Scenarios that every engine plays, whatever it makes its computes of.
pub(super) mod on {
    use super::*;

    pub(in super::super) async fn output_is_split_and_the_exit_code_told<K: Kind>(room: Room<K>) {
        let compute = room.compute().await;
        let script = "echo to output; echo to errors >&2; echo again > /dev/stdout; exit 7";
        let (output, errors, exit) = run(&*compute, script).await;
        assert_eq!((output.as_str(), errors.as_str()), ("to output\nagain\n", "to errors\n"));
        assert_eq!(exit, ProcessExit::Code(7));
        let (_, _, exit) = run(&*compute, "kill -9 $$").await;
        assert_eq!(exit, ProcessExit::Signal(9));
        let (_, _, exit) = run(&*compute, "kill -40 $$").await;
        assert_eq!(exit, ProcessExit::Signal(40), "a real-time signal");
        compute.terminate(Duration::ZERO).await.unwrap();
        room.assert_nothing_left().await;
    }

    pub(in super::super) async fn a_process_has_the_environment_of_its_compute_and_its_own_and_no_other<
        K: Kind,
    >(
        room: Room<K>,
    ) {
        let compute = room.compute().await;
        let mut spec = argv(&["/usr/bin/env"]);
        spec.environment = vec![("OWN".into(), "a=b c".into()), ("HOME".into(), "/mnt".into())];
        let (output, _, _) = finish(compute.spawn(spec).await.unwrap()).await;
        let mut lines: Vec<_> = output.lines().filter(|l| !l.starts_with("AGENTCORE_PROCESS=")).collect();
        lines.sort_unstable();
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        assert_eq!(lines, ["HOME=/mnt", "OWN=a=b c", path, "SPEC=of the compute"]);
        let (output, _, _) =
            run(&*compute, "pwd; hostname; ls -l /proc/self/fd | grep -c ' [0-9]* -> '").await;
        let lines: Vec<_> = output.lines().collect();
        assert_eq!(lines[..2], ["/var/task", "test-session"], "{output}");
        assert_eq!(lines[2], "4", "0 to 2 and the directory that ls reads: {output}");
    }

    pub(in super::super) async fn commands_run_in_parallel<K: Kind>(room: Room<K>) {
        let compute = room.compute().await;
        let start = Instant::now();
        let commands = (0..40).map(|n| {
            let compute = &compute;
            async move {
                let (output, _, exit) = run(&**compute, &format!("sleep 0.5; echo {n}; exit {n}")).await;
                assert_eq!((output, exit), (format!("{n}\n"), ProcessExit::Code(n)));
            }
        });
        futures_util::future::join_all(commands).await;
        assert!(start.elapsed() < Duration::from_secs(18), "one after the other: {:?}", start.elapsed());
    }

    pub(in super::super) async fn many_sessions_start_at_once_and_never_mix<K: Kind>(room: Room<K>) {
        let sessions = (0..20).map(|n| {
            let room = &room;
            async move {
                let code = room.path(&format!("code-{n}"));
                std::fs::create_dir(&code).unwrap();
                std::fs::write(code.join("mine"), n.to_string()).unwrap();
                let label = format!("session-{n}");
                let compute =
                    room.engine.start(ComputeSpec { label, code: Some(code), ..room.spec() }).await.unwrap();
                run(&*compute, &format!("echo {n} > /tmp/number; (setsid sleep 300 &) > /dev/null 2>&1"))
                    .await;
                let script = "cat mine; echo; cat /tmp/number; hostname; ls /proc | grep -c '^[0-9]'";
                let (output, _, _) = run(&*compute, script).await;
                compute.terminate(Duration::from_secs(5)).await.unwrap();
                let (own, processes) = output.trim().rsplit_once('\n').unwrap();
                assert_eq!(own, format!("{n}\n{n}\nsession-{n}"));
                assert!(processes.parse::<u32>().unwrap() < 8, "{output}");
            }
        });
        futures_util::future::join_all(sessions).await;
        room.assert_nothing_left().await;
    }

    pub(in super::super) async fn storage_persists_and_nothing_else<K: Kind>(room: Room<K>) {
        std::fs::write(room.path("code/main.py"), "print('bundle')\n").unwrap();
        let first = room.compute().await;
        first.mount_storage().await.unwrap();
        let places = ["/tmp", "/var/tmp", "/var/task", "/root", "/run", "/mnt/workspace"];
        for place in places {
            let (_, errors, exit) = run(&*first, &format!("echo {place} > {place}/kept")).await;
            assert_eq!(exit, ProcessExit::Code(0), "{errors}");
        }
        let (_, errors, exit) =
            run(&*first, "echo changed >> /var/task/main.py && mkdir /var/task/new && rm /var/task/kept")
                .await;
        assert_eq!((errors.as_str(), exit), ("", ProcessExit::Code(0)));
        first.terminate(Duration::ZERO).await.unwrap();
        let second = room.compute().await;
        second.mount_storage().await.unwrap();
        let (output, _, _) = run(&*second, "cat /*/kept /*/*/kept; cat main.py; ls").await;
        assert_eq!(output, "/mnt/workspace\nprint('bundle')\nmain.py\n");
        assert_eq!(std::fs::read_to_string(room.path("code/main.py")).unwrap(), "print('bundle')\n");
        if let Place::Directory(storage) = &room.storage {
            let owner = std::fs::metadata(storage.join("kept")).unwrap();
            let user = nix::unistd::Uid::effective().as_raw();
            let expected = room.engine.storage_owner().map_or(user, |(uid, _)| uid);
            assert_eq!(owner.uid(), expected);
        }
    }

    pub(in super::super) async fn a_daemon_that_has_cut_every_tie_ends_with_its_session<K: Kind>(
        room: Room<K>,
    ) {
        let compute = room.compute().await;
        // A time that nobody else sleeps.
        let sleeper = format!("sleep 306.{}", std::process::id());
        let script =
            format!("(env -i setsid {sleeper} > /dev/null 2>&1 &); sleep 0.2; echo started; sleep 300");
        let mut process = compute.spawn(sh(&script)).await.unwrap();
        assert_eq!(line(&mut process).await, "started");
        let running = || {
            let processes = std::fs::read_dir("/proc").unwrap().flatten();
            let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
            let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
            lines.filter(|line| line.trim_end() == sleeper).count()
        };
        until("the daemon runs", async || running() == 1).await;
        // No parent, no session and no variable says whose it is.
        process.control.kill().await.unwrap();
        assert_eq!(running(), 1);
        compute.terminate(Duration::ZERO).await.unwrap();
        assert_eq!(running(), 0);
        room.assert_nothing_left().await;
    }

    pub(in super::super) async fn kill_ends_the_whole_tree<K: Kind>(room: Room<K>) {
        let compute = room.compute().await;
        let bystander = compute.spawn(sh("echo up; sleep 300")).await;
        let mut bystander = bystander.unwrap();
        line(&mut bystander).await;
        // In a session of its own; with its parent gone; with a cleared environment below a living parent;
        // stopped; and one that ignores SIGTERM.
        let script = "setsid sleep 301 & (setsid sh -c 'sleep 302; :' &) ; \
                      sh -c 'env -i setsid sleep 303; :' & sleep 304 & s=$!; sleep 0.1; kill -STOP $s; \
                      (trap '' TERM; sleep 305; :) & sleep 0.2; echo started; wait";
        let mut process = compute.spawn(sh(script)).await.unwrap();
        assert_eq!(line(&mut process).await, "started");
        // The commands' own text names them too; so look for what they are, not for what was said.
        let sleepers = "for d in /proc/[0-9]*; do tr '\\0' ' ' < $d/cmdline | grep -x 'sleep 30[1-5] '; done 2>/dev/null | wc -l";
        until("five sleepers", async || run(&*compute, sleepers).await.0.trim() == "5").await;
        tokio::time::timeout(SOON, process.control.kill()).await.unwrap().unwrap();
        assert_eq!(run(&*compute, sleepers).await.0.trim(), "0");
        assert_eq!(process.control.wait().await.unwrap(), ProcessExit::Signal(9));
        assert_eq!(process.control.wait().await.unwrap(), ProcessExit::Signal(9));
        process.control.kill().await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(50), bystander.control.wait()).await.is_err());

        // Dropping kills as well, detaching does not.
        let mut dropped =
            compute.spawn(sh("setsid sleep 301 & sleep 0.1; echo started; wait")).await.unwrap();
        line(&mut dropped).await;
        drop(dropped);
        until("the dropped tree ends", async || run(&*compute, sleepers).await.0.trim() == "0").await;
        // Its output goes nowhere then, but is not the end of it, and not a wait either.
        let noise = "(while [ ! -e /tmp/enough ]; do head -c 100000 /dev/zero; done; exec sleep 302) & echo started; exit 3";
        let mut kept = compute.spawn(sh(noise)).await.unwrap();
        line(&mut kept).await;
        assert_eq!(kept.control.wait().await.unwrap(), ProcessExit::Code(3));
        kept.control.detach();
        drop(kept);
        tokio::time::sleep(Duration::from_millis(100)).await;
        run(&*compute, "touch /tmp/enough").await;
        until("the detached child goes on", async || run(&*compute, sleepers).await.0.trim() == "1").await;
    }

    pub(in super::super) async fn terminate_asks_first_and_kills_then<K: Kind>(room: Room<K>) {
        let compute = room.compute().await;
        compute.mount_storage().await.unwrap();
        let graceful =
            "trap 'echo seen > /mnt/workspace/term; exit 5' TERM; echo up; while :; do sleep 0.05; done";
        let mut process = compute.spawn(sh(graceful)).await.unwrap();
        line(&mut process).await;
        let start = Instant::now();
        compute.terminate(Duration::from_secs(15)).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(14), "the whole grace was waited for");
        assert_eq!(process.control.wait().await.unwrap(), ProcessExit::Code(5));
        assert_eq!(room.stored("term").await, "seen\n");
        assert!(*compute.gone().borrow());
        compute.terminate(Duration::ZERO).await.unwrap();
        assert!(matches!(compute.spawn(sh("true")).await, Err(EngineError::Gone)));
        assert!(matches!(compute.connect(8080).await, Err(EngineError::Gone)));

        let compute = room.compute().await;
        let mut stubborn =
            compute.spawn(sh("trap '' TERM; echo up; while :; do sleep 0.05; done")).await.unwrap();
        line(&mut stubborn).await;
        let start = Instant::now();
        compute.terminate(Duration::from_millis(300)).await.unwrap();
        let took = start.elapsed();
        assert!(took >= Duration::from_millis(300) && took < SOON, "{took:?}");
        assert_eq!(stubborn.control.wait().await.unwrap(), ProcessExit::Signal(9));
        room.assert_nothing_left().await;
    }

    pub(in super::super) async fn connections_reach_listeners_inside_only<K: Kind>(room: Room<K>) {
        let compute = room.compute().await;
        // A listener on the host's loopback must not be what is reached.
        let outside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = outside.local_addr().unwrap().port();
        let refused = compute.connect(port).await;
        assert!(matches!(refused, Err(EngineError::Refused { port: p }) if p == port));
        let server = format!(
            "import socket\ns = socket.socket()\ns.bind(('0.0.0.0', {port}))\ns.listen()\nprint('up', flush=True)\n\
             while True:\n c, _ = s.accept()\n c.sendall(c.recv(100).upper())\n c.close()\n"
        );
        let mut process = compute.spawn(argv(&["python3", "-c", &server])).await.unwrap();
        line(&mut process).await;
        for _ in 0..3 {
            let mut stream = compute.connect(port).await.unwrap();
            if let agentcore::engine::SessionStream::Tcp(tcp) = &stream {
                assert!(tcp.nodelay().unwrap());
            }
            stream.write_all(b"hello").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "HELLO");
        }
        process.control.kill().await.unwrap();
        assert!(matches!(compute.connect(port).await, Err(EngineError::Refused { .. })));
    }
}

#[test]
fn output_is_split_and_the_exit_code_told() {
    both("output_is_split_and_the_exit_code_told", on::output_is_split_and_the_exit_code_told);
}

#[test]
fn a_daemon_that_has_cut_every_tie_ends_with_its_session() {
    both(
        "a_daemon_that_has_cut_every_tie_ends_with_its_session",
        on::a_daemon_that_has_cut_every_tie_ends_with_its_session,
    );
}

#[test]
fn a_process_has_the_environment_of_its_compute_and_its_own_and_no_other() {
    both(
        "a_process_has_the_environment_of_its_compute_and_its_own_and_no_other",
        on::a_process_has_the_environment_of_its_compute_and_its_own_and_no_other,
    );
}

#[test]
fn commands_run_in_parallel() {
    both("commands_run_in_parallel", on::commands_run_in_parallel);
}

#[test]
fn many_sessions_start_at_once_and_never_mix() {
    both("many_sessions_start_at_once_and_never_mix", on::many_sessions_start_at_once_and_never_mix);
}

#[test]
fn root_inside_is_not_root_outside() {
    both("root_inside_is_not_root_outside", async |room| {
        let compute = room.compute().await;
        let (output, _, _) = run(&*compute, "id -u; id -un; touch /tmp/x && stat -c %u:%g /tmp/x").await;
        assert_eq!(output, "0\nroot\n0:0\n");
        let mut process = compute.spawn(sh("echo here; sleep 60")).await.unwrap();
        assert_eq!(line(&mut process).await, "here");
        let first = first_process(&compute.record());
        let mut all = vec![first];
        all.extend(children(first));
        assert!(all.len() > 1, "the process is not the first process's child");
        let own = nix::unistd::Uid::effective().as_raw();
        for pid in all {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            for key in ["Uid:", "Gid:"] {
                let ids = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
                let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
                let expected = if is_root() { room.engine.storage_owner().unwrap().0 } else { own };
                assert_eq!(ids, [expected; 4], "{key} of {pid}");
                assert!(ids.iter().all(|id| *id != 0), "root of the host: {status}");
            }
        }
        process.control.kill().await.unwrap();
    });
}

#[test]
fn storage_persists_and_nothing_else() {
    both("storage_persists_and_nothing_else", on::storage_persists_and_nothing_else);
}

#[test]
fn storage_appears_when_it_is_mounted() {
    both("storage_appears_when_it_is_mounted", async |room| {
        std::fs::write(room.path("storage/file"), "stored").unwrap();
        let compute = room.compute().await;
        let look = "cat /mnt/workspace/file 2>&1 || ls -A /mnt";
        let (output, _, _) = run(&*compute, look).await;
        assert!(output.contains("No such file"), "{output}");
        assert!(!output.contains("stored"), "{output}");
        compute.mount_storage().await.unwrap();
        compute.mount_storage().await.unwrap();
        assert_eq!(run(&*compute, look).await.0, "stored");
        let (mounts, _, _) = run(&*compute, "grep -c ' /mnt/workspace ' /proc/self/mountinfo").await;
        assert_eq!(mounts, "1\n", "a second call does nothing");
        let (flags, _, _) = run(&*compute, "grep ' /mnt/workspace ' /proc/self/mounts").await;
        assert!(flags.contains("nosuid") && flags.contains("nodev"), "{flags}");
        let early = ComputeSpec { early_mount: true, ..room.spec() };
        let compute = room.engine.start(early).await.unwrap();
        assert_eq!(run(&*compute, look).await.0, "stored");
        compute.mount_storage().await.unwrap();
        assert_eq!(run(&*compute, look).await.0, "stored");
        let without = ComputeSpec { storage: None, ..room.spec() };
        let compute = room.engine.start(without).await.unwrap();
        compute.mount_storage().await.unwrap();
        assert!(run(&*compute, look).await.0.contains("No such file"));
    });
}

#[test]
fn the_host_is_out_of_sight_and_out_of_reach() {
    both("the_host_is_out_of_sight_and_out_of_reach", async |room| {
        let secret = room.path("secret");
        std::fs::write(&secret, "secret").unwrap();
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o644)).unwrap();
        let compute = room.compute().await;
        let hidden = [
            "/etc/shadow",
            "/var/run/docker.sock",
            "/run/docker.sock",
            "/sys/kernel",
            secret.to_str().unwrap(),
        ];
        for path in hidden {
            let (output, _, exit) = run(&*compute, &format!("ls -d {path}")).await;
            assert_ne!(exit, ProcessExit::Code(0), "{path} is visible: {output}");
        }
        let (output, _, _) = run(&*compute, "ls -A /home /root /run /tmp /mnt /opt/agentcore/bin").await;
        let empty = "/home:\n\n/mnt:\n\n/opt/agentcore/bin:\nagentcore\n\n/root:\n\n/run:\n\n/tmp:\n";
        assert_eq!(output, empty);
        let (output, _, _) = run(&*compute, "ls -A /").await;
        assert!(
            !output.contains("work") && !output.contains(".scratch") && !output.contains("sys"),
            "{output}"
        );
        let own_processes = "ls /proc | grep -c '^[0-9]'";
        let count: u32 = run(&*compute, own_processes).await.0.trim().parse().unwrap();
        assert!(count < 10, "processes of the host are visible: {count}");
        let forbidden = [
            "touch /usr/x",
            "touch /etc/ssl/certs/x",
            "mount -o remount,bind,rw /usr",
            "umount /proc",
            "mount -t tmpfs t /mnt",
            "echo x > /opt/agentcore/bin/agentcore",
            "mknod /tmp/sda b 8 0 && cat /tmp/sda",
            "echo 1 > /proc/sys/kernel/panic",
            "cat /proc/1/environ",
            "ls /proc/1/root/",
            "kill -9 1 && kill -0 1 && false",
        ];
        for attempt in forbidden {
            let (output, _, exit) = run(&*compute, attempt).await;
            assert_ne!(exit, ProcessExit::Code(0), "`{attempt}` worked: {output}");
        }
        let nested = "unshare -Urm sh -c 'mount -o remount,bind,rw /usr && touch /usr/agentcore-test'";
        let (output, _, exit) = run(&*compute, nested).await;
        assert_ne!(exit, ProcessExit::Code(0), "a nested namespace undid read-only: {output}");
        let (output, _, exit) =
            run(&*compute, "/opt/agentcore/bin/agentcore; ip -o link 2>/dev/null | grep -vc ' lo:'").await;
        assert!(output == "0\n" || output.is_empty(), "an interface besides loopback: {output} {exit:?}");
    });
}

#[test]
fn a_prefix_below_a_private_home_works_read_only() {
    both("a_prefix_below_a_private_home_works_read_only", async |room| {
        let home = room.path("home");
        let prefix = home.join(".local/share/tool");
        std::fs::create_dir_all(prefix.join("bin")).unwrap();
        let tool = prefix.join("bin/tool");
        std::fs::write(&tool, "#!/bin/sh\necho \"tool at $0\"\ncat \"${0%/*}/../private\"\n").unwrap();
        std::fs::write(prefix.join("private"), "private part\n").unwrap();
        // As `umask 077` leaves it: only its owner can read it.
        for (path, mode) in [(tool.clone(), 0o700), (prefix.join("private"), 0o600), (home.clone(), 0o700)] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        }
        std::fs::write(home.join("secret"), "secret").unwrap();
        let link = room.path("linked");
        std::os::unix::fs::symlink(&prefix, &link).unwrap();
        let spec = ComputeSpec { read_only: vec![prefix.clone(), tool.clone()], ..room.spec() };
        let compute = room.engine.start(spec).await.unwrap();
        let tool = tool.to_str().unwrap();
        let (output, errors, _) = run(&*compute, tool).await;
        assert_eq!((output, errors.as_str()), (format!("tool at {tool}\nprivate part\n"), ""));
        let prefix = prefix.to_str().unwrap();
        let write = format!("touch {prefix}/x || echo x > {tool} || mount -o remount,bind,rw {prefix}");
        assert_ne!(run(&*compute, &write).await.2, ProcessExit::Code(0));
        let (output, _, _) = run(&*compute, &format!("ls {}", home.display())).await;
        assert_eq!(output, "", "something beside the prefix is visible");

        let spec = ComputeSpec { read_only: vec![link.clone()], ..room.spec() };
        let compute = room.engine.start(spec).await.unwrap();
        let (output, _, _) = run(&*compute, &format!("{}/bin/tool; {tool}", link.display())).await;
        assert_eq!(output.matches("private part").count(), 2, "by its link and by its real path: {output}");

        for (path, part) in [("/", "has this place for itself"), ("/no/such/prefix", "No such file")] {
            let spec = ComputeSpec { read_only: vec![path.into()], ..room.spec() };
            let error = room.engine.start(spec).await.err().unwrap();
            let said = error.to_string();
            assert!(
                matches!(error, EngineError::Start(_)) && said.contains(part) && said.contains(path),
                "{said}"
            );
        }
        room.assert_nothing_left().await;
    });
}

#[test]
fn a_virtual_environment_below_a_private_home_works_at_its_own_place() {
    both("a_virtual_environment_below_a_private_home_works_at_its_own_place", async |room| {
        let home = room.path("home");
        let environment = home.join("project/.venv");
        std::fs::create_dir_all(home.join("project")).unwrap();
        let mut make = Command::new("python3");
        let made = make.args(["-m", "venv", "--without-pip"]).arg(&environment).status().unwrap();
        assert!(made.success());
        let packages = std::fs::read_dir(environment.join("lib")).unwrap().next().unwrap().unwrap().path();
        std::fs::write(packages.join("site-packages/installed.py"), "WHERE = 'in the environment'\n")
            .unwrap();
        std::fs::set_permissions(&home, PermissionsExt::from_mode(0o700)).unwrap();
        // The interpreter may itself be below a private home, as uv and pyenv have it.
        let ask =
            Command::new("python3").args(["-c", "import sys; print(sys.base_prefix)"]).output().unwrap();
        let prefix = PathBuf::from(String::from_utf8(ask.stdout).unwrap().trim());
        let spec = ComputeSpec { read_only: vec![environment.clone(), prefix], ..room.spec() };
        let compute = room.engine.start(spec).await.unwrap();
        let python = environment.join("bin/python3");
        let code = "import sys, installed; print(sys.prefix, installed.WHERE)";
        let process = compute.spawn(argv(&[python.to_str().unwrap(), "-c", code])).await.unwrap();
        let (output, errors, _) = finish(process).await;
        assert_eq!(
            (output, errors.as_str()),
            (format!("{} in the environment\n", environment.display()), "")
        );
        assert!(!packages.join("site-packages/__pycache__").exists(), "the environment was written to");
    });
}

#[test]
fn a_python_agent_runs_from_a_private_bundle() {
    both("a_python_agent_runs_from_a_private_bundle", async |room| {
        let code = room.path("code");
        std::fs::create_dir(code.join("package")).unwrap();
        std::fs::write(code.join("package/__init__.py"), "NAME = 'package'\n").unwrap();
        std::fs::write(
            code.join("main.py"),
            "import ssl, package; print(package.NAME, ssl.OPENSSL_VERSION[:7])\n",
        )
        .unwrap();
        std::fs::set_permissions(code.join("main.py"), PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::set_permissions(&code, PermissionsExt::from_mode(0o700)).unwrap();
        let compute = room.compute().await;
        let (output, errors, _) = run(&*compute, "python3 main.py && ls -d package/__pycache__").await;
        assert_eq!((output.as_str(), errors.as_str()), ("package OpenSSL\npackage/__pycache__\n", ""));
        assert!(!code.join("package/__pycache__").exists(), "the bundle was written to");
        let (output, _, _) = run(&*compute, "stat -c %u:%a . main.py; chmod 644 main.py && echo done").await;
        assert_eq!(output, "0:755\n0:600\ndone\n");
    });
}

/// Not a test of its own: the next one runs it on a file system that cannot show owners as others.
#[test]
fn code_without_an_overlay() {
    #[allow(clippy::disallowed_methods, reason = "set by the test that starts this one")]
    let copies = std::env::var_os("AGENTCORE_TEST_COPIES").is_some();
    if !copies {
        return;
    }
    let room = Room::new(Isolation::Namespaces);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        std::fs::create_dir(room.path("code/sub")).unwrap();
        std::fs::write(room.path("code/sub/private.py"), "print('copied')\n").unwrap();
        std::fs::set_permissions(room.path("code/sub/private.py"), PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(room.path("code/large"), vec![7; 3_000_000]).unwrap();
        let compute = room.compute().await;
        let script = "grep -c ' /var/task ' /proc/self/mounts; python3 sub/private.py; stat -c %u:%a:%s sub/private.py \
                      large; cksum < large; echo changed > sub/private.py; cat sub/private.py";
        let (output, errors, _) = run(&*compute, script).await;
        let sum = Command::new("sh").args(["-c", "cksum < large"]).current_dir(room.path("code")).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        let expected = format!("0\ncopied\n0:600:16\n0:644:3000000\n{sum}changed\n");
        assert_eq!((output, errors), (expected, String::new()));
        assert_eq!(std::fs::read_to_string(room.path("code/sub/private.py")).unwrap(), "print('copied')\n");
    });
}

#[test]
fn code_is_copied_where_it_cannot_be_an_overlay() {
    if !is_root() {
        // Only root's code needs its owners shown as others, and only root can make such a file system.
        return;
    }
    let script = "set -e; mount -t tmpfs own .; cd \"$PWD\"; mkdir lower layers merged; \
                  mount -t tmpfs layers layers; mkdir layers/upper layers/work; \
                  mount -t overlay own -o lowerdir=lower,upperdir=layers/upper,workdir=layers/work merged; \
                  export TMPDIR=\"$PWD/merged\"; exec \"$@\"";
    again("code_without_an_overlay", script, &[("AGENTCORE_TEST_COPIES", "1")], false);
}

#[test]
fn kill_ends_the_whole_tree() {
    both("kill_ends_the_whole_tree", on::kill_ends_the_whole_tree);
}

#[test]
fn terminate_asks_first_and_kills_then() {
    both("terminate_asks_first_and_kills_then", on::terminate_asks_first_and_kills_then);
}

#[test]
fn connections_reach_listeners_inside_only() {
    both("connections_reach_listeners_inside_only", on::connections_reach_listeners_inside_only);
}

#[test]
fn a_dropped_compute_leaves_nothing() {
    both("a_dropped_compute_leaves_nothing", async |room| {
        let compute = room.compute().await;
        let mut gone = compute.gone();
        let mut process = compute.spawn(sh("trap '' TERM; setsid sleep 300 & echo up; wait")).await.unwrap();
        line(&mut process).await;
        let first = first_process(&compute.record());
        let inside = children(first);
        assert!(!inside.is_empty());
        drop(compute);
        tokio::time::timeout(SOON, gone.wait_for(|gone| *gone)).await.unwrap().unwrap();
        until("every process ends", async || !alive(first) && inside.iter().all(|pid| !alive(*pid))).await;
        assert!(matches!(process.control.wait().await, Err(EngineError::Gone)));
        process.control.kill().await.unwrap();
        room.assert_nothing_left().await;
    });
}

#[test]
fn a_compute_whose_first_process_dies_is_gone() {
    both("a_compute_whose_first_process_dies_is_gone", async |room| {
        let compute = room.compute().await;
        let mut process = compute.spawn(sh("echo up; sleep 300")).await.unwrap();
        line(&mut process).await;
        let first = first_process(&compute.record());
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL).unwrap();
        let mut gone = compute.gone();
        tokio::time::timeout(SOON, gone.wait_for(|gone| *gone)).await.unwrap().unwrap();
        assert!(matches!(compute.spawn(sh("true")).await, Err(EngineError::Gone)));
        assert_eq!(text(&mut process.stdout, SOON).await, "");
        compute.terminate(Duration::from_secs(10)).await.unwrap();

        // Killing the launcher kills the session.
        let compute = room.compute().await;
        let first = first_process(&compute.record());
        let status = std::fs::read_to_string(format!("/proc/{first}/status")).unwrap();
        let launcher =
            status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(launcher), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        until("the first process ends", async || !alive(first)).await;
        compute.terminate(Duration::from_secs(10)).await.unwrap();
    });
}

/// Not a test of its own: an emulator that another test kills. It starts a compute, tells its record and waits.
#[test]
fn emulator_to_be_killed() {
    #[allow(clippy::disallowed_methods, reason = "set by the test that starts this one")]
    let Some(directory) = std::env::var_os("AGENTCORE_TEST_VICTIM") else { return };
    let directory = PathBuf::from(directory);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = EmbeddedEngine::new(config(&directory)).unwrap();
        let spec = ComputeSpec {
            label: "victim".into(),
            image: None,
            code: Some(directory.join("code")),
            read_only: vec![],
            environment: vec![],
            storage: Some(StorageMount {
                source: Place::Directory(directory.join("storage")),
                target: "/mnt/workspace".parse().unwrap(),
            }),
            early_mount: true,
            listener: None,
            labels: vec![],
        };
        let compute = engine.start(spec).await.unwrap();
        let script = "trap 'sleep 0.3; echo bye; echo bye >&2; echo saved > /mnt/workspace/saved; exit' TERM; echo up; while :; do sleep 0.05; done";
        let mut process = compute.spawn(sh(script)).await.unwrap();
        line(&mut process).await;
        std::fs::write(directory.join("record.new"), &compute.record().0).unwrap();
        std::fs::rename(directory.join("record.new"), directory.join("record")).unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
}

#[test]
fn a_session_outlives_its_emulator_for_its_grace_only() {
    both("a_session_outlives_its_emulator_for_its_grace_only", async |room| {
        let this = std::env::current_exe().unwrap();
        let mut emulator = Command::new(this)
            .args(["--exact", "engine::emulator_to_be_killed", "--nocapture"])
            .env("AGENTCORE_TEST_VICTIM", room.directory.path())
            .spawn()
            .unwrap();
        until("the compute starts", async || room.path("record").exists()).await;
        let record = ComputeRecord(std::fs::read_to_string(room.path("record")).unwrap());
        let first = first_process(&record);
        assert!(alive(first));
        let groups: serde_json::Value = serde_json::from_str(&record.0).unwrap();
        let groups: Vec<PathBuf> =
            groups["groups"].as_array().unwrap().iter().map(|g| g.as_str().unwrap().into()).collect();
        emulator.kill().unwrap();
        emulator.wait().unwrap();
        room.engine.end_leftover(record.clone(), Duration::from_secs(10)).await.unwrap();
        until("the session is reaped", async || !alive(first)).await;
        until("its groups go with it", async || groups.iter().all(|group| !group.exists())).await;
        let saved = std::fs::read_to_string(room.path("storage/saved")).unwrap();
        assert_eq!(saved, "saved\n", "the agent had no grace");
        room.engine.end_leftover(record, Duration::ZERO).await.unwrap();
        room.assert_nothing_left().await;
    });
}

#[test]
fn what_cannot_start_is_told() {
    both("what_cannot_start_is_told", async |room| {
        let compute = room.compute().await;
        let cases = [
            (argv(&["no-such-program"]), "no-such-program", "No such file"),
            (argv(&["/etc/passwd"]), "/etc/passwd", "Permission denied"),
            (ProcessSpec { working_directory: Some("/nowhere".into()), ..sh("true") }, "sh", "`/nowhere`"),
            (argv(&["a\0b"]), "a\0b", "zero byte"),
            (argv(&["sh", &"x".repeat(3 << 20)]), "sh", "too large"),
        ];
        for (spec, name, part) in cases {
            match compute.spawn(spec).await {
                Err(EngineError::Spawn { program, reason }) => {
                    assert_eq!(program, name);
                    assert!(reason.contains(part), "{reason}");
                }
                Err(other) => panic!("{name}: {other}"),
                Ok(_) => panic!("{name} started"),
            }
        }
        let large = "y".repeat(65_536);
        let (output, _, _) = run(&*compute, &format!("printf %s {large} | wc -c")).await;
        assert_eq!(output.trim(), "65536");
        let spec = ComputeSpec { code: Some(room.path("no-code")), ..room.spec() };
        let error = room.engine.start(spec).await.err().unwrap();
        assert!(matches!(&error, EngineError::Start(said) if said.contains("no-code")), "{error}");
    });
}

/// Not a test of its own: the next one runs it where user namespaces are closed.
#[test]
fn probe_where_namespaces_are_closed() {
    #[allow(clippy::disallowed_methods, reason = "set by the test that starts this one")]
    let closed = std::env::var_os("AGENTCORE_TEST_CLOSED").is_some();
    if !closed {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let engine = EmbeddedEngine::new(config(directory.path())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match runtime.block_on(engine.probe()) {
        Err(EngineError::Unavailable { reason, hint }) => {
            assert!(reason.contains("namespaces"), "{reason}");
            assert!(hint.contains("user.max_user_namespaces"), "{hint}");
        }
        other => panic!("{other:?}"),
    }
    assert!(std::fs::read_dir(directory.path().join("runtime")).unwrap().next().is_none());
}

#[test]
fn a_host_that_cannot_make_sessions_is_told_what_to_enable() {
    // The limit of namespaces below a user namespace of our own is ours to set.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "engine::probe_where_namespaces_are_closed", "--nocapture"])
        .env("AGENTCORE_TEST_CLOSED", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
fn trees_that_sessions_wrote_can_be_deleted() {
    both("trees_that_sessions_wrote_can_be_deleted", async |room| {
        let compute = room.compute().await;
        compute.mount_storage().await.unwrap();
        let script = "cd /mnt/workspace && mkdir -p a/b && touch a/b/c && chmod 000 a/b && chmod 555 a && \
                      touch owned && chown 1000:1000 owned && echo done";
        let (output, errors, _) = run(&*compute, script).await;
        assert_eq!((output.as_str(), errors.as_str()), ("done\n", ""));
        let owner = std::fs::metadata(room.path("storage/owned")).unwrap().uid();
        // Where id 1000 of the session lies, as the session's own table says; one id has all files.
        let (map, _, _) = run(&*compute, "cat /proc/self/uid_map").await;
        let extents = map.lines().map(|line| {
            let numbers: Vec<u32> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
            (numbers[0], numbers[1], numbers[2])
        });
        let extents: Vec<_> = extents.collect();
        assert!(!has_range() || extents == [(0, TEST_USER, 1), (1, RANGE, 65_535)], "{extents:?}");
        let holder = extents.iter().find(|(inside, _, count)| (*inside..inside + count).contains(&1000));
        let own = nix::unistd::Uid::effective().as_raw();
        let expected = holder.map_or(own, |(inside, outside, _)| outside + 1000 - inside);
        assert!(!is_root() || expected == room.engine.storage_owner().unwrap().0 + 1000);
        assert_eq!(owner, expected, "the owner on the host");
        compute.terminate(Duration::ZERO).await.unwrap();
        room.engine.delete_storage(Place::Directory(room.path("storage"))).await.unwrap();
        assert!(!room.path("storage").exists());
        room.engine.delete_storage(Place::Directory(room.path("storage"))).await.unwrap();
    });
}
