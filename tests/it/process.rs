//! Sessions without namespaces (`--isolation process`): what works as with them, and what is told.
//!
//! As in [`super::engine`], tests of the engine run as whoever runs the tests and, for root, as a user too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use agentcore::engine::{Compute, ComputeRecord, Engine, EngineError, ProcessExit};
use agentcore::model::limits::SESSION_MEMORY_BYTES;
use agentcore::storage::Place;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::engine::{Room, SOON, argv, both_without_isolation, finish, first_process, line, run, sh, until};
use super::support::{self, Emulator, Project};

/// What the record says of the session's scratch directory.
fn scratch(record: &ComputeRecord) -> PathBuf {
    let record: Value = serde_json::from_str(&record.0).unwrap();
    record["process"]["scratch"].as_str().unwrap().into()
}

fn launcher(record: &ComputeRecord) -> i32 {
    let record: Value = serde_json::from_str(&record.0).unwrap();
    i32::try_from(record["process"]["launcher"][0].as_i64().unwrap()).unwrap()
}

/// A process that has been killed may wait for its parent to look.
fn runs(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z') && !rest.starts_with('X'))
}

/// Starts four processes that try to get away, and waits; their numbers and its own are its first line.
const RUNAWAYS: &str = "setsid sh -c 'trap \"\" TERM; echo $$ >> pids; sleep 300; :' & \
     (setsid sh -c 'echo $$ >> pids; sleep 300; :' &) ; \
     env -i setsid sh -c 'echo $$ >> pids; sleep 300; :' & \
     sh -c 'trap \"\" TERM HUP; echo $$ >> pids; while :; do sleep 0.1; done' & \
     while [ \"$(wc -l < pids 2>/dev/null)\" != 4 ]; do sleep 0.02; done; echo $$ $(cat pids); sleep 300";

async fn runaways(compute: &dyn Compute) -> (agentcore::engine::Process, Vec<i32>) {
    run(compute, "rm -f pids").await;
    let mut process = compute.spawn(sh(RUNAWAYS)).await.unwrap();
    let pids: Vec<i32> = line(&mut process).await.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(pids.len() == 5 && pids.iter().all(|pid| runs(*pid)), "{pids:?}");
    (process, pids)
}

#[test]
fn a_session_has_places_of_its_own_and_leaves_nothing() {
    both_without_isolation(
        "process::a_session_has_places_of_its_own_and_leaves_nothing",
        async |room: Room| {
            std::fs::write(room.path("code/main.txt"), "original").unwrap();
            room.engine.probe().await.unwrap();
            let mut spec = room.spec();
            spec.environment.push(("DATA".to_owned(), "/mnt/workspace/data".to_owned()));
            let compute = room.engine.start(spec).await.unwrap();
            let scratch = scratch(&compute.record());
            let inside = |path: &str| format!("{}{path}", scratch.display());
            let (output, _, _) =
                run(&*compute, "pwd; echo $HOME; echo $TMPDIR; echo $AGENTCORE_STORAGE; echo $DATA").await;
            let expected =
                ["/var/task", "/root", "/tmp", "/mnt/workspace", "/mnt/workspace/data"].map(inside);
            assert_eq!(output.lines().collect::<Vec<_>>(), expected);
            // The storage appears when it is asked for; what is changed elsewhere is lost.
            let script = "ls $AGENTCORE_STORAGE 2>/dev/null || echo none; echo changed > main.txt; echo x > $HOME/x; \
                      mkdir -m 555 $TMPDIR/closed; chmod 000 $TMPDIR/closed";
            assert_eq!(run(&*compute, script).await.0, "none\n");
            compute.mount_storage().await.unwrap();
            let write = "echo kept > $AGENTCORE_STORAGE/file && cat $AGENTCORE_STORAGE/file";
            assert_eq!(run(&*compute, write).await.0, "kept\n");
            // A path as an argument is found too.
            let cat = compute.spawn(argv(&["cat", "/mnt/workspace/file"])).await.unwrap();
            assert_eq!(finish(cat).await.0, "kept\n");
            assert_eq!(
                run(&*compute, "id -u; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status")
                    .await
                    .0
                    .lines()
                    .count(),
                3
            );
            // By a group or by the process, memory is limited.
            let record: Value = serde_json::from_str(&compute.record().0).unwrap();
            let groups = record["groups"]
                .as_array()
                .unwrap()
                .iter()
                .map(|group| PathBuf::from(group.as_str().unwrap()));
            let by_group =
                groups.flat_map(|group| ["memory.limit_in_bytes", "memory.max"].map(|name| group.join(name)));
            let limit = by_group.filter_map(|file| std::fs::read_to_string(file).ok()).next();
            let limit = match limit {
                Some(bytes) => bytes.trim().parse::<u64>().unwrap(),
                None => run(&*compute, "ulimit -d").await.0.trim().parse::<u64>().unwrap() * 1024,
            };
            assert!(limit > 0 && limit <= SESSION_MEMORY_BYTES, "{limit}");
            compute.terminate(Duration::from_secs(5)).await.unwrap();
            assert!(!scratch.exists(), "left behind");
            assert_eq!(std::fs::read_to_string(room.path("storage/file")).unwrap(), "kept\n");
            assert_eq!(std::fs::read_to_string(room.path("code/main.txt")).unwrap(), "original");

            let compute = room.compute().await;
            compute.mount_storage().await.unwrap();
            let look = "cat $AGENTCORE_STORAGE/file main.txt; ls $HOME | wc -l";
            assert_eq!(run(&*compute, look).await.0, "kept\noriginal0\n");
            compute.terminate(Duration::ZERO).await.unwrap();
            room.assert_nothing_left().await;
            room.engine.delete_storage(Place::Directory(room.path("storage"))).await.unwrap();
        },
    );
}

#[test]
fn ends_take_every_process_along() {
    both_without_isolation("process::ends_take_every_process_along", async |room: Room| {
        let compute = room.compute().await;
        let other = room.compute().await;
        let mut bystander = other.spawn(sh("echo $$; sleep 300")).await.unwrap();
        let bystander: i32 = line(&mut bystander).await.parse().unwrap();
        // The kill of one process.
        let (mut process, pids) = runaways(&*compute).await;
        process.control.kill().await.unwrap();
        assert!(pids.iter().all(|pid| !runs(*pid)), "{pids:?}");
        // The end of a session, with daemons that have lost their parent, their name and their patience.
        let (_process, mut pids) = runaways(&*compute).await;
        let daemon = "(env -i setsid sh -c 'trap \"\" TERM; echo $$ > daemon; sleep 300; :' > /dev/null 2>&1 &); \
                      while [ ! -s daemon ]; do sleep 0.02; done; cat daemon";
        pids.push(run(&*compute, daemon).await.0.trim().parse().unwrap());
        let (output, _, exit) = {
            let mut graceful = compute
                .spawn(sh("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"))
                .await
                .unwrap();
            line(&mut graceful).await;
            let (ended, said) = tokio::join!(compute.terminate(Duration::from_millis(500)), finish(graceful));
            ended.unwrap();
            said
        };
        assert_eq!((output.as_str(), exit), ("bye\n", ProcessExit::Code(3)));
        assert!(pids.iter().all(|pid| !runs(*pid)), "{pids:?}");
        assert!(runs(bystander), "a process of another session was ended");
        drop(other);
        until("a dropped session ends", async || !runs(bystander)).await;
        until("nothing is left", async || std::fs::read_dir(room.path("runtime")).unwrap().next().is_none())
            .await;
    });
}

#[test]
fn nothing_outlives_a_killed_helper_or_launcher() {
    both_without_isolation("process::nothing_outlives_a_killed_helper_or_launcher", async |room: Room| {
        for victim in [first_process as fn(&ComputeRecord) -> i32, launcher] {
            let compute = room.compute().await;
            let record = compute.record();
            let (_process, pids) = runaways(&*compute).await;
            kill(Pid::from_raw(victim(&record)), Signal::SIGKILL).unwrap();
            let mut gone = compute.gone();
            tokio::time::timeout(SOON, gone.wait_for(|gone| *gone)).await.unwrap().unwrap();
            assert!(pids.iter().all(|pid| !runs(*pid)), "{pids:?}");
            compute.terminate(Duration::from_secs(5)).await.unwrap();
            room.assert_nothing_left().await;
        }
        // Both at once: nobody is left to end the others, but the record tells the next emulator of them.
        let compute = room.compute().await;
        let record = compute.record();
        let (_process, mut pids) = runaways(&*compute).await;
        for pid in [launcher(&record), first_process(&record)] {
            kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        }
        for pid in [launcher(&record), first_process(&record)] {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
        until("both end", async || !runs(launcher(&record)) && !runs(first_process(&record))).await;
        room.engine.end_leftover(record, Duration::from_secs(5)).await.unwrap();
        // One of them has no variables to be known by.
        let unknown = pids.remove(3);
        pids.retain(|pid| runs(*pid));
        let left: Vec<i32> = pids.into_iter().chain([unknown]).filter(|pid| runs(*pid)).collect();
        for pid in &left {
            kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap();
        }
        assert!(left.len() <= 1, "{left:?}");
        room.assert_nothing_left().await;
    });
}

async fn page(compute: &dyn Compute, port: u16) -> Result<String, EngineError> {
    let mut stream = compute.connect(port).await?;
    stream.write_all(b"GET /page HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    Ok(answer.rsplit_once("\r\n\r\n").unwrap().1.to_owned())
}

#[test]
fn each_agent_is_reached_on_its_own_port_and_nobody_else_is_taken_for_it() {
    let name = "process::each_agent_is_reached_on_its_own_port_and_nobody_else_is_taken_for_it";
    both_without_isolation(name, async |room: Room| {
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        let (one, two) = (room.compute().await, room.compute().await);
        // Somebody of the machine, who is of no session.
        assert!(matches!(one.connect(port).await, Err(EngineError::Taken { .. })));
        assert!(matches!(one.obstacle(port).await, Some(EngineError::Taken { .. })));
        drop(free);
        assert!(matches!(one.connect(port).await, Err(EngineError::Refused { .. })));
        assert!(one.obstacle(port).await.is_none());
        // An agent that insists on the port has it to itself.
        let serve = |port: &str| {
            sh(&format!(
                "echo $PORT > page; exec python3 -u -m http.server --bind 127.0.0.1 {port} 2>/dev/null"
            ))
        };
        let mut insisting = one.spawn(serve(&port.to_string())).await.unwrap();
        line(&mut insisting).await;
        let own = run(&*one, "echo $PORT").await.0;
        assert_eq!(page(&*one, port).await.unwrap(), own);
        let error = page(&*two, port).await.unwrap_err();
        assert!(error.to_string().contains("`PORT`"), "{error}");
        // One that listens where it is told is reached whoever has the other.
        let mut told = two.spawn(serve("$PORT")).await.unwrap();
        line(&mut told).await;
        let other = run(&*two, "echo $PORT").await.0;
        assert_ne!(own, other);
        assert_eq!(page(&*two, port).await.unwrap(), other);
        assert_eq!(page(&*one, port).await.unwrap(), own);
        for compute in [one, two] {
            compute.terminate(Duration::ZERO).await.unwrap();
        }
        room.assert_nothing_left().await;
    });
}

#[test]
fn sessions_without_isolation_survive_stops_and_crashes_as_others_do() {
    let mut emulator = Emulator::start(&["--isolation", "process", "--grace", "2s"]);
    let status: Value = serde_json::from_slice(
        &emulator.run(Path::new("/"), &["local", "status", "--output", "json"]).stdout,
    )
    .unwrap();
    assert_eq!(status["engine"], "process");
    let not_isolated = status["notIsolated"].as_array().unwrap();
    for what in ["files:", "processes:", "network:", "ports:", "storage:"] {
        assert!(not_isolated.iter().any(|line| line.as_str().unwrap().starts_with(what)), "{status}");
    }
    assert!(emulator.output().contains("agents are not isolated"), "{}", emulator.output());
    let mount = json!([{ "session_storage": { "mount_path": "/mnt/workspace" } }]);
    let command = json!([agentcore::engine::TOOL_PATH, "demo-agent"]);
    let project =
        Project::new("lab", "lab", json!({ "command": command, "filesystem_configurations": mount }));
    let answer = |emulator: &Emulator, session: &str, note: &str| -> Value {
        let output = emulator.run(project.path(), &["local", "invoke", "--session", session, note]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    emulator.run(project.path(), &["local", "deploy"]);
    assert_eq!(answer(&emulator, "one", "a")["notes"], json!(["a"]));
    assert_eq!(answer(&emulator, "two", "z")["notes"], json!(["z"]));
    let list = emulator.run(
        project.path(),
        &["local", "exec", "--session", "one", "--", "sh", "-c", "cat $AGENTCORE_STORAGE/notes.txt; exit 0"],
    );
    assert_eq!(String::from_utf8_lossy(&list.stdout), "a\n");
    emulator.run(project.path(), &["local", "stop", "--session", "one"]);
    assert_eq!(answer(&emulator, "one", "b")["notes"], json!(["a", "b"]));
    // A command that runs too long is ended with all it started.
    let slow = [
        "local",
        "exec",
        "--session",
        "one",
        "--timeout",
        "1",
        "--",
        "sh",
        "-c",
        "echo $$; setsid sleep 300",
    ];
    let output = emulator.command().current_dir(project.path()).args(slow).output().unwrap();
    assert_eq!(output.status.code(), Some(124), "{output:?}");
    let pid: i32 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    assert!(!runs(pid), "left behind");

    let home = emulator.home().to_owned();
    let directories = || std::fs::read_dir(home.join("run")).map_or(0, Iterator::count);
    assert_eq!(directories(), 2);
    emulator.crash();
    support::eventually(SOON, "what a dead emulator left ends", || (directories() == 0).then_some(()));
    // The next one has namespaces, and the same sessions.
    let next = Emulator::start_in(&home);
    support::eventually(SOON, "its sessions are taken up", || {
        let sessions = next.run(project.path(), &["local", "session", "ls", "--output", "json"]);
        let sessions: Value = serde_json::from_slice(&sessions.stdout).unwrap();
        let mut sessions = sessions.as_array().unwrap().iter();
        sessions.all(|s| s["lastEnd"] == "emulatorCrashed" && s["state"] == "stopped").then_some(())
    });
    if !nix::unistd::geteuid().is_root() {
        assert_eq!(answer(&next, "one", "c")["notes"], json!(["a", "b", "c"]));
    }
}

#[test]
fn what_cannot_be_held_without_isolation_is_refused() {
    let home = support::short_temp_dir();
    let mut command = support::clean(support::BIN);
    command.env("AGENTCORE_HOME", home.path());
    let output =
        command.args(["local", "up", "--isolation", "process", "--network", "off"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("error: `--network off` cannot be held") && said.contains("hint: "), "{said}");
}
