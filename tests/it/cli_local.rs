//! The command line on a real emulator with the embedded engine: the day of somebody who writes an agent.
//!
//! Needs namespaces and python3; where they are missing the tests say so and pass, except in CI.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test stops where its world is not as it must be, and reads the PATH it runs under"
)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::{Place, Run};

/// An emulator's home with a project in it; the emulator is ended when the test is.
struct World {
    place: Place,
}

impl World {
    /// Nothing where this machine cannot run the tests.
    fn new() -> Option<Self> {
        let missing = |what: &str| {
            assert!(std::env::var_os("CI").is_none(), "{what} is missing, and CI must have it");
            eprintln!("skipped: {what} is missing");
        };
        let python = Command::new("python3").arg("--version").stdout(Stdio::null()).status();
        if !python.is_ok_and(|s| s.success()) {
            missing("python3");
            return None;
        }
        let world = Self { place: Place::new() };
        let run = world.run(&["create", "coder"]);
        assert_eq!(run.status, 0, "{}", run.stderr);
        // `up` probes the engine, so its exit code tells whether namespaces work here.
        let run = world.local(&["up"]);
        if run.status == 5 {
            missing("an engine");
            return None;
        }
        assert_eq!(run.status, 0, "{}", run.stderr);
        Some(world)
    }

    fn run(&self, args: &[&str]) -> Run {
        self.place.run(args)
    }

    /// A local verb inside the project.
    fn local(&self, args: &[&str]) -> Run {
        let mut command = self.place.command();
        command.current_dir(self.place.path().join("coder")).arg("local").args(args);
        command.output().unwrap().into()
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let run = self.local(args);
        assert_eq!(run.status, 0, "{args:?}: {}{}", run.stdout, run.stderr);
        run.stdout
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.extend(["--output", "json"]);
        let text = self.ok(&args);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.local(&["down"]);
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn the_day_of_an_agent() {
    let Some(world) = World::new() else { return };
    let run = world.local(&["invoke", "buy milk", "--session", "shopping"]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(run.stderr.contains("deploying agent `coder` for its first use\n"), "{}", run.stderr);
    assert!(run.stderr.contains("session: shopping (shopping-"), "{}", run.stderr);
    let answer: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(answer["notes"], serde_json::json!(["buy milk"]));

    // A command in the same session, which is now the last one.
    let run = world.local(&["exec", "--", "cat", "/mnt/workspace/notes.txt"]);
    assert_eq!((run.status, run.stdout.as_str()), (0, "buy milk\n"), "{}", run.stderr);
    let run = world.local(&["exec", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((run.status, run.stdout.as_str()), (7, "out\n"));
    assert!(run.stderr.ends_with("err\n"), "{}", run.stderr);
    let run = world.local(&["exec", "--timeout", "1", "--", "sh", "-c", "echo early; sleep 30"]);
    assert_eq!((run.status, run.stdout.as_str()), (124, "early\n"), "{}", run.stderr);
    let odd = "a 'b' \"c\" $HOME `id` \\ *";
    assert_eq!(world.ok(&["exec", "printf", "%s", odd]), odd);
    assert_eq!(
        world.ok(&["exec", "--cwd", "/tmp", "--env", "A=x y", "sh", "-c", "pwd; echo $A"]),
        "/tmp\nx y\n"
    );

    let stopped = world.ok(&["stop"]);
    assert!(stopped.starts_with("stopped shopping (shopping-"), "{stopped}");
    let again = world.json(&["stop", "--session", "shopping"]);
    assert_eq!(again["wasRunning"], false);
    assert_eq!(world.local(&["stop", "--session", "nobody-knows"]).status, 4);

    // Resumed: the file is there. Streamed: its data line by line.
    let answer = world.json(&["invoke", "buy bread"]);
    assert_eq!(answer["response"]["notes"], serde_json::json!(["buy milk", "buy bread"]));
    assert_eq!(answer["name"], "shopping");
    let streamed = world.ok(&["invoke", "{\"prompt\": \"buy eggs\", \"stream\": true}"]);
    assert_eq!(streamed.lines().last(), Some("\"note 3: buy eggs\""), "{streamed}");
    let raw = world.ok(&["invoke", "--raw", "{\"prompt\": \"x\", \"stream\": true}"]);
    assert!(raw.starts_with("data: \"note 1: buy milk\"\n\n"), "{raw}");

    // Another session sees nothing of it.
    let answer = world.json(&["invoke", "hello", "--new-session"]);
    assert_eq!(answer["response"]["notes"], serde_json::json!(["hello"]));

    let sessions = world.json(&["session", "ls"]);
    assert_eq!(sessions.as_array().unwrap().len(), 2, "{sessions}");
    let shown = world.json(&["session", "show", "shopping"]);
    assert_eq!((shown["state"].as_str(), shown["name"].as_str()), (Some("ready"), Some("shopping")));
    assert_eq!(shown["storage"]["mountPath"], "/mnt/workspace");
    assert_eq!(shown["storage"]["files"], 1);
    assert!(world.ok(&["session", "ls"]).contains("shopping"));
    world.ok(&["session", "rm", "shopping"]);
    assert_eq!(world.local(&["session", "show", "shopping"]).status, 1);
    world.ok(&["session", "prune"]);
}

#[test]
fn terminals_that_use_a_project_for_the_first_time_at_once_all_get_their_answer() {
    let Some(world) = World::new() else { return };
    world.ok(&["down"]);
    let children: Vec<_> = (0..4)
        .map(|i| {
            let mut command = world.place.command();
            command.current_dir(world.place.path().join("coder")).args(["local", "invoke", &format!("{i}")]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!(run.status, 0, "{}", run.stderr);
        assert!(run.stdout.contains("noted"), "{}", run.stdout);
    }
    let deployed = world.json(&["deploy"]);
    assert_eq!(
        (deployed["agentRuntimeVersion"].as_str(), deployed["changed"].as_bool()),
        (Some("1"), Some(false))
    );
}

#[test]
fn an_agent_on_another_port_is_told_where_it_is_expected() {
    let Some(world) = World::new() else { return };
    world.ok(&["down"]);
    world.ok(&["up", "--init-timeout", "1s"]);
    let main = std::fs::read_to_string(world.place.path().join("coder/main.py")).unwrap();
    world.place.write("coder/main.py", &main.replace("8080), Handler", "9999), Handler"));
    let run = world.local(&["invoke", "hello"]);
    assert_eq!(run.status, 4, "{}", run.stderr);
    assert!(
        run.stderr.contains("hint: an agent answers `GET /ping` on port 8080, address 0.0.0.0"),
        "{}",
        run.stderr
    );
}

#[test]
fn exec_streams_its_events_as_json() {
    let Some(world) = World::new() else { return };
    let run =
        world.local(&["exec", "--output", "json", "--session", "j", "--", "sh", "-c", "echo a; exit 3"]);
    assert_eq!(run.status, 3, "{}", run.stderr);
    let events = lines(&run.stdout);
    assert_eq!(events[0]["name"], "j");
    assert_eq!(events[1], serde_json::json!({ "contentStart": {} }));
    assert_eq!(events[2], serde_json::json!({ "contentDelta": { "stdout": "a\n" } }));
    let stop = serde_json::json!({ "contentStop": { "exitCode": 3, "status": "COMPLETED" } });
    assert_eq!(events.last(), Some(&stop));
}

#[test]
fn deploy_makes_a_version_only_where_something_changed() {
    let Some(world) = World::new() else { return };
    let first = world.json(&["deploy"]);
    assert_eq!((first["agentRuntimeVersion"].as_str(), first["changed"].as_bool()), (Some("1"), Some(true)));
    let second = world.json(&["deploy"]);
    assert_eq!(
        (second["agentRuntimeVersion"].as_str(), second["changed"].as_bool()),
        (Some("1"), Some(false))
    );
    let forced = world.json(&["deploy", "--force"]);
    assert_eq!(forced["agentRuntimeVersion"], "2");
    let main = world.place.path().join("coder/main.py");
    let text = std::fs::read_to_string(&main).unwrap() + "\n# changed\n";
    std::fs::write(main, text).unwrap();
    let third = world.json(&["deploy"]);
    assert_eq!((third["agentRuntimeVersion"].as_str(), third["changed"].as_bool()), (Some("3"), Some(true)));
}

#[test]
fn an_agent_that_dies_shows_its_last_words() {
    let Some(world) = World::new() else { return };
    world.place.write("coder/main.py", "import sys\nprint('half way')\nraise SystemExit('no such model')\n");
    let run = world.local(&["invoke", "hello"]);
    assert_eq!(run.status, 4, "{}", run.stderr);
    assert!(run.stderr.contains("`RuntimeClientError`"), "{}", run.stderr);
    assert!(run.stderr.contains("  | no such model\n"), "{}", run.stderr);
    let logs = lines(&world.ok(&["logs", "--output", "json"]));
    assert!(logs.iter().any(|l| l["message"] == "no such model" && l["stream"] == "stderr"), "{logs:?}");
}

#[test]
fn up_is_once_and_down_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let endpoint = world.ok(&["up"]);
    let again = world.local(&["up"]);
    assert_eq!((again.status, again.stdout.as_str()), (0, endpoint.as_str()));
    assert!(again.stderr.contains("the emulator runs already"), "{}", again.stderr);
    let status = world.json(&["status"]);
    assert_eq!(status["running"], true);
    assert_eq!(format!("{}\n", status["endpoint"].as_str().unwrap()), endpoint);
    let exports = world.ok(&["env"]);
    assert!(exports.contains(&format!("export AWS_ENDPOINT_URL_BEDROCK_AGENTCORE={}", endpoint.trim())));
    assert!(exports.contains("export AWS_ACCESS_KEY_ID=test"), "{exports}");

    let before = world.json(&["clock", "show"]);
    assert_eq!(before["offsetSeconds"], 0);
    assert_eq!(world.json(&["clock", "advance", "16m"])["offsetSeconds"], 960);
    assert_eq!(world.json(&["clock", "reset"])["offsetSeconds"], 0);

    let pid = status["pid"].as_u64().unwrap();
    assert_eq!(world.ok(&["down"]), "the emulator has ended\n");
    let deadline = Instant::now() + Duration::from_secs(5);
    while std::path::Path::new(&format!("/proc/{pid}/stat")).exists() {
        // Our child's child: somebody reaps it soon, and until then it is only a name.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.rsplit(") ").next().is_some_and(|s| s.starts_with('Z')) {
            break;
        }
        assert!(Instant::now() < deadline, "the emulator lives on: {stat}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let home = world.place.path().join("home");
    assert!(!home.join("emulator.sock").exists() && !home.join("emulator.json").exists());
}

/// Sends Ctrl-C to `child` once its standard error shows that it waits; gives its end.
fn interrupt(mut command: Command) -> Run {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    child.wait_with_output().unwrap().into()
}

#[test]
fn ctrl_c_ends_the_waiting_and_the_command_but_not_the_session() {
    let Some(world) = World::new() else { return };
    let main = std::fs::read_to_string(world.place.path().join("coder/main.py")).unwrap();
    let slow = "        if prompt == \"slow\":\n            __import__(\"time\").sleep(60)\n        notes = remember(prompt)\n";
    world.place.write("coder/main.py", &main.replace("        notes = remember(prompt)\n", slow));
    world.ok(&["invoke", "first", "--session", "s"]);
    let local = |args: &[&str]| {
        let mut command = world.place.command();
        command.current_dir(world.place.path().join("coder")).arg("local").args(args);
        command
    };
    let run = interrupt(local(&["invoke", "slow"]));
    assert_eq!((run.status, run.stdout.as_str()), (130, ""), "{}", run.stderr);
    assert!(run.stderr.contains("stopped waiting; session s ("), "{}", run.stderr);
    assert_eq!(world.json(&["session", "show", "s"])["state"], "ready");

    let run = interrupt(local(&["exec", "--", "sh", "-c", "echo begun; sleep 4242"]));
    assert_eq!((run.status, run.stdout.as_str()), (130, "begun\n"), "{}", run.stderr);
    let deadline = Instant::now() + Duration::from_secs(10);
    // The pattern in brackets does not find itself.
    while world.local(&["exec", "--", "sh", "-c", "grep -l 424[2] /proc/[0-9]*/cmdline"]).status == 0 {
        assert!(Instant::now() < deadline, "the command lives on");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_demo_is_true() {
    let place = Place::new();
    let run = place.run(&["local", "demo", "--output", "json"]);
    if run.status == 5 {
        assert!(
            std::env::var_os("CI").is_none(),
            "an engine is missing, and CI must have it: {}",
            run.stderr
        );
        return;
    }
    assert_eq!(run.status, 0, "{}{}", run.stdout, run.stderr);
    let story: Value = serde_json::from_str(&run.stdout).unwrap();
    let steps: Vec<_> =
        story["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    let expected =
        ["start", "deploy", "invoke", "exec", "stop", "resume", "isolate", "update", "delete", "end"];
    assert_eq!(steps, expected);
}
