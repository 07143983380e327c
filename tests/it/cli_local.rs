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
    let mut starters = 0;
    for child in children {
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!(run.status, 0, "{}", run.stderr);
        assert!(run.stdout.contains("noted"), "{}", run.stdout);
        starters += usize::from(run.stderr.contains("started the emulator"));
    }
    assert!(starters <= 1, "{starters} terminals say that they started the emulator");
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
fn a_failure_shows_the_log_of_its_own_compute() {
    let Some(world) = World::new() else { return };
    edit(&world, "import json", "import json, sys\nprint('words of', __file__, flush=True)");
    edit(
        &world,
        "        notes = remember(prompt)\n",
        "        notes = remember(prompt)\n        print('noted', prompt, flush=True)\n        assert prompt != 'fail'\n",
    );
    world.ok(&["invoke", "first", "--session", "s"]);
    world.ok(&["stop"]);
    let run = world.local(&["invoke", "fail"]);
    assert_eq!(run.status, 4, "{}", run.stderr);
    assert!(run.stderr.contains("| noted fail"), "{}", run.stderr);
    assert!(
        !run.stderr.contains("noted first") && run.stderr.matches("words of").count() <= 1,
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
fn a_key_that_is_missing_keeps_what_the_runtime_has() {
    let Some(world) = World::new() else { return };
    let file = world.place.path().join("coder/.bedrock_agentcore.yaml");
    let plain = std::fs::read_to_string(&file).unwrap();
    let with = |line: &str| std::fs::write(&file, format!("{plain}{line}")).unwrap();
    with("    environment_variables: {A: b}\n");
    assert_eq!(world.json(&["deploy"])["agentRuntimeVersion"], "1");
    // The toolkit writes the file without it: nothing changed, and a version made for another reason keeps it.
    with("");
    assert_eq!(world.json(&["deploy"])["changed"], false);
    edit(&world, "noted: ", "written: ");
    assert_eq!(world.json(&["deploy"])["agentRuntimeVersion"], "2");
    assert_eq!(world.ok(&["exec", "--session", "s", "--", "sh", "-c", "echo $A"]), "b\n");
    with("    environment_variables: {}\n");
    assert_eq!(world.json(&["deploy"])["agentRuntimeVersion"], "3");
    world.ok(&["stop", "--session", "s"]);
    assert_eq!(
        world.ok(&["exec", "--session", "s", "--", "sh", "-c", "echo $A; ls -d /mnt/*"]),
        "\n/mnt/workspace\n"
    );
}

/// Replaces text in the project's `main.py`.
fn edit(world: &World, from: &str, to: &str) {
    let main = world.place.path().join("coder/main.py");
    let text = std::fs::read_to_string(&main).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(main, text.replace(from, to)).unwrap();
}

#[test]
fn changed_code_runs_from_the_next_start_with_the_files_kept() {
    let Some(world) = World::new() else { return };
    world.ok(&["invoke", "one", "--session", "s"]);
    edit(&world, "noted: ", "written: ");
    // The running session keeps its code, and the change is told once.
    let run = world.local(&["invoke", "two"]);
    assert!(run.stdout.contains("noted: two"), "{}", run.stdout);
    let told = "the code of `coder` has changed: sessions use it from their next start, in version 1 with their \
                storage; the running one keeps the old code until `agentcore local stop`\n";
    assert!(run.stderr.contains(told), "{}", run.stderr);
    let run = world.local(&["invoke", "three"]);
    assert!(!run.stderr.contains("has changed"), "{}", run.stderr);
    world.ok(&["stop"]);
    let answer = world.json(&["invoke", "four"]);
    assert_eq!(answer["response"]["result"], "written: four");
    assert_eq!(answer["response"]["notes"].as_array().unwrap().len(), 4, "{answer}");
    assert_eq!(world.json(&["session", "show", "s"])["version"], "1");

    // Settings are no code: a deployment applies them. Told once too.
    let file = world.place.path().join("coder/.bedrock_agentcore.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}    environment_variables: {{A: b}}\n")).unwrap();
    let run = world.local(&["invoke", "five"]);
    assert!(
        run.stderr.contains("are not those of version 1: `agentcore local deploy` applies them"),
        "{}",
        run.stderr
    );

    // A deployment makes a version of it, which starts with empty storage.
    assert_eq!(world.json(&["deploy"])["agentRuntimeVersion"], "2");
    world.ok(&["stop"]);
    let answer = world.json(&["invoke", "six"]);
    assert_eq!(answer["response"]["result"], "written: six");
    assert_eq!(answer["response"]["notes"], serde_json::json!(["six"]));
    // An edit that is taken back is the version's own code again.
    edit(&world, "written: ", "drawn: ");
    world.ok(&["invoke", "seven"]);
    edit(&world, "drawn: ", "written: ");
    assert_eq!(world.json(&["deploy"])["changed"], false);
    world.ok(&["stop"]);
    assert_eq!(world.json(&["invoke", "eight"])["response"]["result"], "written: eight");
}

#[test]
fn a_watched_project_restarts_its_sessions_and_keeps_their_files() {
    let Some(world) = World::new() else { return };
    world.ok(&["invoke", "one", "--session", "s"]);
    let mut watch = world.place.command();
    watch.current_dir(world.place.path().join("coder")).args(["local", "up", "--watch", "--output", "json"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut events = std::io::BufReader::new(watch.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut events, &mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    };
    assert!(next()["endpoint"].is_string());
    // A look or two must have seen the project as it was.
    std::thread::sleep(Duration::from_millis(1500));
    edit(&world, "noted: ", "written: ");
    let event = |restarted: u32, failed: u32| serde_json::json!({ "agent": "coder", "restarted": restarted, "failed": failed });
    assert_eq!(next(), event(1, 0));
    let answer = world.json(&["invoke", "two"]);
    assert_eq!(answer["response"]["result"], "written: two");
    assert_eq!(answer["response"]["notes"], serde_json::json!(["one", "two"]));
    // A mistake is told of as soon as it is saved.
    edit(&world, "import json", "import json, not_a_module");
    assert_eq!(next(), event(0, 1));
    let shown = world.json(&["session", "show", "s"]);
    assert_eq!((shown["state"].as_str(), shown["lastEnd"].as_str()), (Some("stopped"), Some("startFailed")));
    edit(&world, "import json, not_a_module", "import json");
    assert_eq!(next(), event(0, 0));
    assert_eq!(world.json(&["invoke", "three"])["response"]["notes"].as_array().unwrap().len(), 3);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(watch.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let run = Run::from(watch.wait_with_output().unwrap());
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(run.stderr.contains("the emulator runs on"), "{}", run.stderr);
    assert!(run.stderr.contains("ended as soon as it was started"), "{}", run.stderr);
    assert_eq!(world.json(&["status"])["running"], true);
}

#[test]
fn stats_tell_what_persistence_did() {
    let Some(world) = World::new() else { return };
    assert_eq!(world.json(&["session", "stats"]), serde_json::json!({ "runtimes": [], "sessions": [] }));
    // A set-up of 1 s that is spared where its result is found.
    let setup = "        if not __import__(\"os\").path.exists(\"/mnt/workspace/set-up\"):\n            \
                 __import__(\"time\").sleep(1)\n            open(\"/mnt/workspace/set-up\", \"w\").close()\n        \
                 notes = remember(prompt)\n";
    edit(&world, "        notes = remember(prompt)\n", setup);
    for _ in 0..3 {
        world.ok(&["invoke", "hello", "--session", "s"]);
        world.ok(&["stop"]);
    }
    let stats = world.json(&["session", "stats", "s"]);
    let number = |value: &Value| value.as_i64().unwrap_or_else(|| panic!("{stats}"));
    assert_eq!(
        (stats["name"].as_str(), number(&stats["starts"]), number(&stats["resumes"])),
        (Some("s"), 1, 2)
    );
    // The notes and the mark of the set-up, 6 and 12 bytes of notes.
    assert_eq!((number(&stats["filesFound"]), number(&stats["bytesFound"])), (4, 18));
    let (fresh, resumed) = (&stats["firstAnswerAfterStart"], &stats["firstAnswerAfterResume"]);
    assert_eq!((number(&fresh["count"]), number(&resumed["count"])), (1, 2));
    assert!(number(&fresh["medianMillis"]) >= 1000, "{stats}");
    assert!(number(&resumed["medianMillis"]) < number(&fresh["medianMillis"]), "{stats}");
    assert!(number(&stats["setupSavedMillis"]) > 500, "{stats}");
    assert_eq!(stats["ends"], serde_json::json!({ "requested": 3 }));
    assert_eq!(stats["resets"], serde_json::json!({}));

    // A version and a removal reset storage; what happened is known after a restart of the emulator too.
    world.ok(&["deploy", "--force"]);
    world.ok(&["exec", "--", "true"]);
    world.ok(&["session", "rm", "s"]);
    world.ok(&["down"]);
    let stats = world.json(&["session", "stats"]);
    let (session, runtime) = (&stats["sessions"][0], &stats["runtimes"][0]);
    assert_eq!(session["resets"], serde_json::json!({ "newVersion": 1, "removed": 1 }), "{stats}");
    // The command was the first answer of its compute.
    assert_eq!(session["firstAnswerAfterStart"]["count"], 2, "{stats}");
    assert_eq!((runtime["sessions"].as_i64(), runtime["starts"].as_i64()), (Some(1), Some(2)), "{stats}");
    let text = world.ok(&["session", "stats"]);
    assert!(text.contains("2 files, 9 B") && text.contains("(1 session)"), "{text}");
    assert_eq!(world.local(&["session", "stats", "nobody"]).status, 1);
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
    assert!(exports.contains("export AWS_ACCESS_KEY_ID=LOCAL"), "{exports}");

    let before = world.json(&["clock", "show"]);
    assert_eq!(before["offsetSeconds"], 0);
    assert_eq!(world.json(&["clock", "advance", "16m"])["offsetSeconds"], 960);
    assert_eq!(world.json(&["clock", "reset"])["offsetSeconds"], 0);

    let pid = status["pid"].as_u64().unwrap();
    assert_eq!(world.ok(&["down"]), "the emulator has ended\n");
    let deadline = Instant::now() + Duration::from_secs(30);
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

/// Sends Ctrl-C to a command once its output shows `sign`; gives its end.
fn interrupt(mut command: Command, sign: &str) -> Run {
    let room = tempfile::tempdir().unwrap();
    let files = [room.path().join("stdout"), room.path().join("stderr")];
    let [stdout, stderr] = files.each_ref().map(|file| std::fs::File::create(file).unwrap());
    let mut child = command.stdout(stdout).stderr(stderr).spawn().unwrap();
    let said = || files.each_ref().map(|file| std::fs::read_to_string(file).unwrap());
    let deadline = Instant::now() + Duration::from_secs(30);
    while !said().iter().any(|text| text.contains(sign)) {
        assert!(Instant::now() < deadline, "no `{sign}`: {:?}", said());
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let status = child.wait().unwrap().code().unwrap_or(-1);
    let [stdout, stderr] = said();
    Run { status, stdout, stderr }
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
    let run = interrupt(local(&["invoke", "slow"]), "session: s (");
    assert_eq!((run.status, run.stdout.as_str()), (130, ""), "{}", run.stderr);
    assert!(run.stderr.contains("stopped waiting; session s ("), "{}", run.stderr);
    assert_eq!(world.json(&["session", "show", "s"])["state"], "ready");

    let run = interrupt(local(&["exec", "--", "sh", "-c", "echo begun; sleep 4242"]), "begun");
    assert_eq!((run.status, run.stdout.as_str()), (130, "begun\n"), "{}", run.stderr);
    let deadline = Instant::now() + Duration::from_secs(30);
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
