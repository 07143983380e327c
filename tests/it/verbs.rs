//! The everyday verbs on both targets: the same command line in the emulator and "in the cloud", which is another
//! emulator behind `--endpoint-url`. Status, standard output and standard error are compared word for word.
//!
//! Needs namespaces and python3; where they are missing the emulator says so and the tests fail.

use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agentcore::model::{CommandEvent, CommandStatus, OutputStream};
use agentcore::wire::eventstream;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use crate::cli::Run;
use crate::support::{self, Emulator, Project, short_temp_dir};

/// Longest wait for what must happen.
const LIMIT: Duration = Duration::from_secs(60);

/// One project that is deployed to two emulators.
pub(crate) struct Both {
    pub(crate) local: Emulator,
    pub(crate) cloud: Emulator,
    pub(crate) project: Project,
    /// What the cloud verbs remember; no emulator of theirs ever runs here.
    pub(crate) home: tempfile::TempDir,
    pub(crate) arn: String,
}

impl Both {
    pub(crate) fn new() -> Self {
        let project = Project::new("lab", "lab", json!({}));
        let (local, cloud) = (Emulator::start(&[]), Emulator::start(&[]));
        local.run(project.path(), &["local", "deploy"]);
        let deployed = cloud.run(project.path(), &["local", "deploy", "--output", "json"]);
        let deployed: Value = serde_json::from_slice(&deployed.stdout).unwrap();
        let arn = deployed["agentRuntimeArn"].as_str().unwrap().to_owned();
        let file = project.path().join(".bedrock_agentcore.yaml");
        let mut content: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        content["agents"]["lab"]["bedrock_agentcore"] = json!({ "agent_arn": arn });
        std::fs::write(&file, content.to_string()).unwrap();
        // The file's own time is part of the code's state; looked at once, it is known.
        local.run(project.path(), &["local", "exec", "--session", "first", "true"]);
        Self { local, cloud, project, home: short_temp_dir(), arn }
    }

    pub(crate) fn local(&self, args: &[&str]) -> Command {
        let mut command = self.local.command();
        command.current_dir(self.project.path()).arg("local").args(args);
        command
    }

    pub(crate) fn cloud(&self, args: &[&str]) -> Command {
        let mut command = self.cloud.command();
        command.env("AGENTCORE_HOME", self.home.path()).current_dir(self.project.path());
        // Signed by nobody the emulator knows: as its own user that does not matter.
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        let (verb, rest) = args.split_first().unwrap();
        command.args([verb, "--endpoint-url", self.cloud.endpoint()]).args(rest);
        command
    }

    /// What the cloud verbs say before anything leaves the machine.
    pub(crate) fn told(&self) -> String {
        let id = self.arn.rsplit('/').next().unwrap();
        format!("account 000000000000, region us-west-2: runtime {id} at {}\n", self.cloud.endpoint())
    }
}

pub(crate) fn with_input(mut command: Command, input: Option<&[u8]>) -> Run {
    let Some(input) = input else { return command.output().unwrap().into() };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(pipe.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output.into()
}

/// One line of the table: arguments, input, and the expected status and standard output.
struct Row<'a>(&'a [&'a str], Option<&'a [u8]>, i32, &'a str);

#[test]
fn every_verb_does_the_same_on_both_targets() {
    let both = Both::new();
    // Not in the project, where they would be code.
    let (payload, script) = (both.home.path().join("payload.json"), both.home.path().join("check.sh"));
    std::fs::write(&payload, "{\"do\": \"echo\", \"a\": \"é\"}\r\n").unwrap();
    std::fs::write(&script, "#!/bin/sh\r\nprintf '<%s>' \"$@\"\r\nexit 3\r\n").unwrap();
    let payload = format!("@{}", payload.display());
    let script = script.display().to_string();
    let id = agentcore::model::session_id_for_name("lab", "s");
    let stopped = format!("stopped s ({id})\n");
    let was_down = format!("was not running: s ({id})\n");
    let stopped_json = json!({ "sessionId": id, "name": "s", "wasRunning": false, "knownDown": true });
    let stopped_json = format!("{}\n", serde_json::to_string_pretty(&stopped_json).unwrap());
    let echo = "{\"do\": \"echo\", \"text\": \"[/INST] \\u001b[31mred\"}";
    let rows = [
        Row(&["invoke", "--session", "s", echo], None, 0, "{\"text\": \"[/INST] \\u001b[31mred\"}"),
        Row(&["invoke", &payload], None, 0, "{\"a\": \"\\u00e9\"}"),
        Row(&["invoke", "-"], Some(b"{\"do\": \"echo\", \"b\": 1}"), 0, "{\"b\": 1}"),
        Row(&["invoke"], Some(b"{\"do\": \"echo\", \"c\": 2}"), 0, "{\"c\": 2}"),
        Row(&["invoke", "{\"do\": \"sse\", \"count\": 2}"], None, 0, "{\"number\": 0}\n{\"number\": 1}\n"),
        Row(&["invoke", "--raw", "{\"do\": \"sse\", \"count\": 1}"], None, 0, "data: {\"number\": 0}\n\n"),
        Row(&["invoke", "{\"do\": \"fail\", \"status\": 500}"], None, 4, ""),
        Row(&["invoke", "--qualifier", "nothere", "x"], None, 4, ""),
        Row(&["invoke", "--new-session", "--session", "s"], None, 2, ""),
        Row(
            &["exec", "--session", "s", "--", "sh", "-c", "echo \"a  b\"; echo e >&2; exit 7"],
            None,
            7,
            "a  b\n",
        ),
        Row(&["exec", "ls", "--no-such-option"], None, 2, ""),
        Row(&["exec", "printf", "%s|", "a b", "$HOME", "", "*"], None, 0, "a b|$HOME||*|"),
        Row(
            &["exec", "--cwd", "/tmp", "--env", "A=it's", "sh", "-c", "pwd; echo \"$A\""],
            None,
            0,
            "/tmp\nit's\n",
        ),
        Row(&["exec", "cat"], Some(b"piped in\n"), 0, "piped in\n"),
        Row(&["exec", "--no-stdin", "cat"], Some(b"piped in\n"), 0, ""),
        Row(&["exec", "--file", &script, "a b", "c"], None, 3, "<a b><c>"),
        Row(&["exec", "--file", &script], Some(b"x"), 3, "<>"),
        Row(&["exec", "--timeout", "3", "sh", "-c", "echo early; sleep 30"], None, 124, "early\n"),
        Row(&["exec", "no-such-program"], None, 127, ""),
        Row(&["exec", "sh", "-c", "kill -9 $$"], None, 137, ""),
        Row(&["exec", "--session", "s,t", "--", "sh", "-c", "echo hello; echo there"], None, 0, "sorted"),
        Row(&["stop", "--session", "s"], None, 0, &stopped),
        Row(&["stop", "--session", "s"], None, 0, &was_down),
        Row(&["stop", "--session", "s", "--output", "json"], None, 0, &stopped_json),
    ];
    for Row(args, input, status, stdout) in rows {
        let local = with_input(both.local(args), input);
        let cloud = with_input(both.cloud(args), input);
        assert_eq!(local.status, status, "{args:?}: {}{}", local.stdout, local.stderr);
        if stdout == "sorted" {
            // Two sessions write when they do; their lines are whole.
            let sorted = |run: &Run| {
                let mut lines: Vec<String> = run.stdout.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            assert_eq!(sorted(&local), ["[s] hello", "[s] there", "[t] hello", "[t] there"]);
            assert_eq!(sorted(&cloud), sorted(&local));
            continue;
        }
        assert_eq!(local.stdout, stdout, "{args:?}: {}", local.stderr);
        assert_eq!(
            (cloud.status, &cloud.stdout),
            (local.status, &local.stdout),
            "{args:?}: {}",
            cloud.stderr
        );
        if status == 2 && !cloud.stderr.contains("session: ") {
            // Nothing was called, so nothing was told. The usage line names the options of its target.
            assert_eq!(cloud.stderr.lines().next(), local.stderr.lines().next(), "{args:?}");
            continue;
        }
        assert!(cloud.stderr.starts_with(&both.told()), "{args:?}: {}", cloud.stderr);
        let plain = |run: &Run| {
            let text = run.stderr.replace(&both.told(), "").replace("agentcore local", "agentcore");
            // The emulator's log is at hand, the one of AWS is another command away; what runs where has its own id.
            let text = text.lines().filter(|l| !l.starts_with("  | ")).collect::<Vec<_>>().join("\n");
            mask(&text)
        };
        if status == 4 && args.contains(&"--qualifier") {
            assert!(cloud.stderr.contains("hint: `agentcore list` shows the runtimes"), "{}", cloud.stderr);
            continue;
        }
        assert_eq!(plain(&cloud), plain(&local), "{args:?}");
    }
}

#[test]
fn every_error_and_every_view_says_the_same_on_both_targets() {
    let both = Both::new();
    assert_eq!(with_input(both.cloud(&["exec", "--session", "first", "true"]), None).status, 0);
    let id = agentcore::model::session_id_for_name("lab", "first");
    let session = format!("session: first ({id})\n");
    let said = |text: &str| format!("{session}{text}");
    let list = "NAME  ID              VERSION  STATUS  LAST UPDATED\nlab   lab-ID  1        READY   TIME\n";
    let head = json!({ "sessionId": id, "name": "first" });
    let answer = json!({
        "sessionId": id, "name": "first", "contentType": "application/json", "statusCode": 200, "response": { "a": 1 },
    });
    let answer = format!("{}\n", serde_json::to_string_pretty(&answer).unwrap());
    let events = format!(
        "{head}\n{{\"contentStart\":{{}}}}\n{{\"contentDelta\":{{\"stdout\":\"x\"}}}}\n\
         {{\"contentStop\":{{\"exitCode\":3,\"status\":\"COMPLETED\"}}}}\n"
    );
    let streamed =
        json!({ "sessionId": id, "name": "first", "contentType": "text/event-stream", "statusCode": 200 });
    let streamed = format!("{streamed}\n{{\"data\":{{\"number\":0}}}}\n");
    let rows: [(&[&str], i32, &str, &str); 22] = [
        (&["list"], 0, list, "TOLD"),
        (&["invoke", "{\"do\": \"echo\", \"a\": 1}", "--output", "json"], 0, &answer, &session),
        (&["invoke", "{\"do\": \"sse\", \"count\": 1}", "--output", "json"], 0, &streamed, &session),
        (&["exec", "--output", "json", "sh", "-c", "printf x; exit 3"], 3, &events, &session),
        (
            &["invoke", "--timeout", "1s", "{\"do\": \"sleep\", \"seconds\": 5}"],
            4,
            "",
            &said(
                "error: `InvokeAgentRuntime` was not answered in time\nhint: give it more time with `--timeout`\n",
            ),
        ),
        (
            &["invoke", "@missing"],
            1,
            "",
            "error: the payload cannot be read from `missing`: No such file or directory (os error 2)\n\
             hint: `@FILE` reads a file and `-` standard input; other text is sent as it is\n",
        ),
        (
            &["exec", "--file", "missing"],
            125,
            "",
            "error: the script `missing` cannot be read: No such file or directory (os error 2)\n",
        ),
        (
            &["exec", "--file", "missing", "--output", "json"],
            125,
            "JSON failed",
            "error: the script `missing` cannot be read: No such file or directory (os error 2)\n",
        ),
        (
            &["invoke", "--header", "x", "y"],
            2,
            "",
            "error: invalid value `x` for `--header <NAME:VALUE>`: expected `NAME:VALUE`\n",
        ),
        (
            &["invoke", "--user-id"],
            2,
            "",
            "error: a value is required for `--user-id <ID>` but none was supplied\n",
        ),
        (&["exec"], 2, "", "error: the following required arguments were not provided: <COMMAND>...\n"),
        (
            &["exec", "--env", "A", "true"],
            2,
            "",
            "error: invalid value `A` for `--env <NAME=VALUE>`: expected `NAME=VALUE`\n",
        ),
        (
            &["exec", "--timeout", "2h", "true"],
            2,
            "",
            "error: invalid value `2h` for `--timeout <DURATION>`: the service takes 1 to 3600 whole seconds\n",
        ),
        (
            &["exec", "--new-session", "--session", "s", "true"],
            2,
            "",
            "error: the argument `--new-session` cannot be used with `--session <NAME>`\n",
        ),
        (&["shell"], 2, "", "error: `shell` needs a terminal for its input and its output\n"),
        (
            &["shell", "--reattach", "--new-session"],
            2,
            "",
            "error: the argument `--reattach` cannot be used with `--new-session`\n",
        ),
        (&["shell", "--shell-id", "a b"], 2, "", "error: invalid value `a b` for `--shell-id <ID>`"),
        (
            &["stop", "--all", "--session", "s"],
            2,
            "",
            "error: the argument `--all` cannot be used with `--session <NAME>`\n",
        ),
        (&["logs", "--grep", "("], 2, "", "error: invalid value `(` for `--grep <REGEX>`"),
        (
            &["logs", "--since", "yesterday"],
            2,
            "",
            "error: invalid value `yesterday` for `--since <DURATION>`",
        ),
        (&["list", "--what"], 2, "", "error: unexpected argument `--what` found\n"),
        (
            &["cp", "one"],
            2,
            "",
            "error: 2 values required by `<SRC… DST> <SRC… DST>...`; only 1 was provided\n",
        ),
    ];
    let cloud = |args: &[&str]| {
        let mut command = both.cloud(args);
        command.env("AWS_REGION", "us-west-2");
        command
    };
    let mut wrong = Vec::new();
    for (args, status, stdout, stderr) in rows {
        for (target, run) in
            [("local", with_input(both.local(args), None)), ("cloud", with_input(cloud(args), None))]
        {
            let shown = mask_time(&mask(&run.stdout));
            let told = run.stderr.replace(&both.told(), "");
            let as_expected = match stdout.strip_prefix("JSON ") {
                Some(class) => {
                    let value: Value = serde_json::from_str(&run.stdout).unwrap();
                    (&value["error"]["class"], &value["error"]["exitCode"]) == (&json!(class), &json!(status))
                }
                None => shown == stdout,
            };
            let told_so = match (stderr, target) {
                ("TOLD", "local") => told.is_empty(),
                ("TOLD", _) => {
                    told == format!(
                        "account of your credentials, region us-west-2 at {}\n",
                        both.cloud.endpoint()
                    )
                }
                // What follows is the usage, or a hint in the words of the target.
                _ if status == 2 => told.starts_with(stderr),
                _ => told == stderr,
            };
            if run.status != status || !as_expected || !told_so {
                wrong.push(format!("{target} {args:?}: {}\n{shown}\n{told}", run.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The text without times.
fn mask_time(text: &str) -> String {
    regex::Regex::new(r"\d{4}-\d\d-\d\dT[0-9:.]+Z").unwrap().replace_all(text, "TIME").into_owned()
}

/// The text without the random part of runtimes' ids.
fn mask(text: &str) -> String {
    regex::Regex::new("lab-[A-Za-z0-9]{10}").unwrap().replace_all(text, "lab-ID").into_owned()
}

#[test]
fn bytes_arrive_unharmed_in_both_directions() {
    let both = Both::new();
    // 10 MB of every byte, which is no UTF-8, and a line of 1 MB.
    let bytes: Vec<u8> = (0..10_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = both.home.path().join("bytes");
    std::fs::write(&file, &bytes).unwrap();
    let payload = format!("@{}", file.display());
    let line = format!("{}\u{1b}[31m[/INST]\n", "x".repeat(1_000_000));
    for mut command in [
        both.local(&["invoke", "--content-type", "application/x-echo", &payload]),
        both.cloud(&["invoke", "--content-type", "application/x-echo", &payload]),
    ] {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == bytes, "{} bytes came back", output.stdout.len());
    }
    for command in [both.local(&["exec", "cat"]), both.cloud(&["exec", "cat"])] {
        let run = with_input(command, Some(line.as_bytes()));
        assert_eq!(run.status, 0, "{}", run.stderr);
        assert!(run.stdout == line, "{} bytes came back", run.stdout.len());
    }
    let digest = |command: Command| {
        let run = with_input(command, Some(&bytes[..3_000_000]));
        assert_eq!(run.status, 0, "{}", run.stderr);
        run.stdout
    };
    let expected = {
        use sha2::Digest;
        let hash = sha2::Sha256::digest(&bytes[..3_000_000]);
        hash.iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    assert_eq!(digest(both.local(&["exec", "sha256sum"])), format!("{expected}  -\n"));
    // What carried it is gone.
    let left = both.local(&["exec", "sh", "-c", "ls -A /tmp | wc -l"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "0\n");
}

/// Answers calls with three events, and breaks each answer off behind the third.
fn breaking_off(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        // All of it: a connection that is closed with something unread is reset, and what was sent is lost.
        while !request.ends_with(b"the end") {
            let count = stream.read(&mut buffer).unwrap();
            request.extend_from_slice(&buffer[..count]);
        }
        let mut answer =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_owned();
        for number in 0..3 {
            let event = format!("data: {{\"number\": {number}}}\n\n");
            answer.push_str(&format!("{:x}\r\n{event}\r\n", event.len()));
        }
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

#[test]
fn what_came_of_an_answer_that_is_cut_is_shown_before_the_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || breaking_off(&listener));
    let home = short_temp_dir();
    let invoke = |more: &[&str]| {
        let mut command = support::clean(support::BIN);
        command.env("AGENTCORE_HOME", home.path()).current_dir(home.path());
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command.args(["invoke", "--content-type", "text/plain", "--endpoint-url", &endpoint, "--arn"]);
        command.args(["arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/lab-AbCdEf0123", "the end"]);
        Run::from(command.args(more).output().unwrap())
    };
    let run = invoke(&[]);
    let events: Vec<String> = (0..3).map(|n| format!("{{\"number\": {n}}}")).collect();
    assert_eq!((run.status, run.stdout.lines().map(str::to_owned).collect()), (4, events), "{}", run.stderr);
    assert!(run.stderr.contains("error: `InvokeAgentRuntime` got no complete answer"), "{}", run.stderr);
    let run = invoke(&["--output", "json"]);
    let lines: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((run.status, lines.len()), (4, 5), "{}", run.stdout);
    let numbers: Vec<_> = lines[1..4].iter().map(|line| line["data"]["number"].as_u64()).collect();
    assert_eq!(numbers, [Some(0), Some(1), Some(2)]);
    assert!(lines[0]["sessionId"].is_string() && lines[4]["error"].is_object(), "{}", run.stdout);
}

#[test]
fn whoever_reads_the_answer_may_take_his_time_leave_or_be_given_up() {
    let both = Both::new();
    let bytes: Vec<u8> = (0..10_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = both.home.path().join("bytes");
    std::fs::write(&file, &bytes).unwrap();
    let payload = format!("@{}", file.display());
    let echo = ["invoke", "--content-type", "application/x-echo", payload.as_str()];
    let begin = |more: &[&str]| {
        let mut command = both.local(&[&echo[..], more].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut reader = child.stdout.take().unwrap();
        // It has begun, and no pipe takes the rest.
        let mut first = [0];
        reader.read_exact(&mut first).unwrap();
        (child, reader, first)
    };

    // He who is slow gets everything, and so does a file.
    let (child, mut reader, first) = begin(&[]);
    let mut all = first.to_vec();
    let mut buffer = vec![0; 300_000];
    loop {
        let count = reader.read(&mut buffer).unwrap();
        if count == 0 {
            break;
        }
        all.extend_from_slice(&buffer[..count]);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(child.wait_with_output().unwrap().status.success());
    assert!(all == bytes, "{} bytes came", all.len());
    let kept = both.home.path().join("kept");
    let mut command = both.local(&echo);
    assert!(
        command
            .stdout(std::fs::File::create(&kept).unwrap())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    );
    assert!(std::fs::read(&kept).unwrap() == bytes, "a file has other bytes");

    // He who leaves is no failure.
    let (child, reader, _) = begin(&[]);
    drop(reader);
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!((run.status, run.stderr.contains("error")), (0, false), "{}", run.stderr);

    // He who reads no more does not keep anybody from going.
    for more in [&[][..], &["--output", "json"]] {
        let (child, reader, _) = begin(more);
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!(run.status, 130, "{more:?}: {}", run.stderr);
        assert!(run.stderr.contains("stopped waiting; session "), "{more:?}: {}", run.stderr);
        drop(reader);
    }
}

/// A reader that is not reading yet, and who fills what he can take.
struct Reader {
    child: Child,
    from: PipeReader,
    /// The other end, to see that it is full.
    into: PipeWriter,
}

impl Reader {
    /// Of standard output, and of standard error beside it if `both`; else that is to be had when it has ended.
    fn of(mut command: Command, both: bool) -> Self {
        let (from, into) = std::io::pipe().unwrap();
        command.stdin(Stdio::null()).stdout(into.try_clone().unwrap());
        command.stderr(if both { Stdio::from(into.try_clone().unwrap()) } else { Stdio::piped() });
        Self { child: command.spawn().unwrap(), from, into }
    }

    /// Waits until not even a page more can be written.
    fn is_full(&self) {
        support::eventually(LIMIT, "nobody reads what is written", || {
            let mut room = [PollFd::new(self.into.as_fd(), PollFlags::POLLOUT)];
            (poll(&mut room, PollTimeout::ZERO).unwrap() == 0).then_some(())
        });
    }

    fn interrupt(&self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    }

    /// The exit code and standard error, without a byte being read; or the reader leaves.
    fn end(mut self, leave: bool) -> (i32, String) {
        let from = (!leave).then_some(self.from);
        let ended =
            support::eventually(LIMIT, "it ends although nobody reads", || self.child.try_wait().unwrap());
        drop(from);
        let mut said = String::new();
        self.child.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said).unwrap());
        (ended.code().unwrap(), said)
    }

    /// All that came, taken in large pieces with time between them.
    fn slowly(mut self) -> (i32, String) {
        drop(self.into);
        let (mut all, mut buffer) = (Vec::new(), vec![0; 300_000]);
        loop {
            let count = self.from.read(&mut buffer).unwrap();
            if count == 0 {
                return (self.child.wait().unwrap().code().unwrap(), String::from_utf8(all).unwrap());
            }
            all.extend_from_slice(&buffer[..count]);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn whoever_reads_a_command_or_a_log_may_take_his_time_leave_or_be_given_up() {
    let emulator = Emulator::start(&[]);
    // An agent with more to say than all that waits for a reader.
    let command = ["sh", "-c", "seq 20000; exec python3 main.py"];
    let project = Project::new("lab", "lab", json!({ "command": command }));
    let local = |args: &[&str]| {
        let mut command = emulator.command();
        command.current_dir(project.path()).arg("local").args(args);
        command
    };
    let exec = |text: &str| local(&["exec", "--session", "s", "--", "sh", "-c", text]);
    let numbers: Vec<String> = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(Reader::of(exec("seq 200000"), false).slowly(), (0, numbers.concat()));
    // Into files all of it comes at once, which is what everybody else has to get.
    let written = |args: &[&str]| {
        let file = project.path().join("written");
        let status = local(args).stdout(std::fs::File::create(&file).unwrap()).stderr(Stdio::null()).status();
        assert!(status.unwrap().success());
        std::fs::read_to_string(file).unwrap()
    };
    let log = support::eventually(LIMIT, "the agent's log", || {
        Some(written(&["logs"])).filter(|log| log.contains("listens"))
    });
    assert!(log.lines().count() > 20_000);
    // Something may be added in between.
    let (code, slowly) = Reader::of(local(&["logs"]), false).slowly();
    assert!(code == 0 && slowly.starts_with(&log), "{code}: {} bytes of {}", slowly.len(), log.len());

    let json = ["--output", "json"];
    let follow = local(&["logs", "--follow"]);
    // He who reads nothing keeps nobody from going, whichever of both he has.
    for (command, both, code, words) in [
        (exec("yes"), false, 130, "the command was ended\n"),
        (exec("yes"), true, 130, ""),
        (exec("yes >&2"), true, 130, ""),
        (local(&[&["exec", "--session", "s"], &json[..], &["--", "yes"]].concat()), true, 130, ""),
        (local(&["exec", "--session", "s,t", "--", "yes"]), true, 130, ""),
        (local(&["logs"]), false, 130, "interrupted\n"),
        (local(&[&["logs"], &json[..]].concat()), true, 130, ""),
        (follow, true, 0, ""),
    ] {
        let shown = format!("{command:?}");
        let reader = Reader::of(command, both);
        reader.is_full();
        reader.interrupt();
        let (ended, said) = reader.end(false);
        assert!(ended == code && said.ends_with(words), "{shown}: {ended} {said}");
    }
    // He who leaves is no failure, and a command or a log that is silent from then on is not waited for.
    let silent = exec("seq 200000; sleep 600");
    for command in [silent, local(&["logs", "--follow"])] {
        let shown = format!("{command:?}");
        let reader = Reader::of(command, false);
        reader.is_full();
        let (ended, said) = reader.end(true);
        assert!(ended == 0 && !said.contains("error"), "{shown}: {ended} {said}");
    }
}

#[test]
fn what_a_command_wrote_to_both_comes_in_its_order() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let rounds = 20_000;
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&request).contains("the end") {
            let count = stream.read(&mut buffer).unwrap();
            request.extend_from_slice(&buffer[..count]);
        }
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\n\
                           Connection: close\r\n\r\n"
            .to_vec();
        let mut add = |event: &CommandEvent| answer.extend_from_slice(&eventstream::event(event).unwrap());
        add(&CommandEvent::Start);
        for round in 0..rounds {
            add(&CommandEvent::Delta(OutputStream::Stdout, format!("out {round}\n")));
            add(&CommandEvent::Delta(OutputStream::Stderr, format!("err {round}\n")));
        }
        add(&CommandEvent::Stop { exit_code: 124, status: CommandStatus::TimedOut });
        stream.write_all(&answer).unwrap();
    });
    let home = short_temp_dir();
    let mut command = support::clean(support::BIN);
    command.env("AGENTCORE_HOME", home.path()).current_dir(home.path());
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command.args(["exec", "--endpoint-url", &endpoint, "--arn"]);
    command.args(["arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/lab-AbCdEf0123", "the end"]);
    let (code, text) = Reader::of(command, true).slowly();
    let mut expected: String = (0..rounds).map(|round| format!("out {round}\nerr {round}\n")).collect();
    expected.push_str("the command was ended at its time limit\n");
    assert_eq!(code, 124, "{}", &text[..1000]);
    let begin = text.find("out 0\n").unwrap();
    assert!(text[begin..] == expected, "{}", &text[..1000]);
}

#[test]
fn stop_all_in_the_cloud_goes_by_the_ledger_and_says_so() {
    let both = Both::new();
    for name in ["one", "two"] {
        assert_eq!(with_input(both.cloud(&["exec", "--session", name, "true"]), None).status, 0);
    }
    assert_eq!(with_input(both.cloud(&["stop", "--session", "one"]), None).status, 0);
    let run = with_input(both.cloud(&["stop", "--all"]), None);
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(run.stderr.contains("these are the sessions that this tool used here"), "{}", run.stderr);
    assert_eq!(run.stdout.lines().count(), 1, "{}", run.stdout);
    assert!(run.stdout.starts_with("stopped two (two-"), "{}", run.stdout);
    let run = with_input(both.cloud(&["stop", "--all", "--output", "json"]), None);
    assert_eq!(serde_json::from_str::<Value>(&run.stdout).unwrap(), json!({ "stopped": [] }));
}

#[test]
fn a_cloud_verb_without_a_runtime_says_how_to_name_one() {
    let place = crate::cli::Place::new();
    let run = place.run(&["invoke", "hi"]);
    assert_eq!(run.status, 3, "{}", run.stderr);
    assert!(run.stderr.contains("hint: name a runtime with `--arn`"), "{}", run.stderr);
    place.write(".bedrock_agentcore.yaml", "name: coder\nentrypoint: main.py\n");
    let run = place.run(&["invoke", "hi"]);
    assert_eq!((run.status, run.stdout.as_str()), (3, ""));
    let file = place.path().join(".bedrock_agentcore.yaml");
    let expected = format!(
        "error: agent `coder` has not been deployed: `{}` has no `bedrock_agentcore.agent_arn` for it\n\
         hint: run `agentcore deploy`, or name a runtime with `--arn`\n",
        file.display()
    );
    assert_eq!(run.stderr, expected);
    let arn = "arn:aws:bedrock-agentcore:eu-west-1:123456789012:runtime/coder-AbCdEf0123";
    let run = place.run(&["invoke", "hi", "--arn", arn, "--region", "us-east-1"]);
    assert_eq!(run.status, 2);
    assert!(
        run.stderr.contains("`--region us-east-1` is not the region of the runtime, `eu-west-1`"),
        "{}",
        run.stderr
    );
    assert_eq!(place.run(&["exec", "--arn", "arn:nothing", "true"]).status, 2);
    assert_eq!(place.run(&["exec", "--bearer-token", "@nowhere", "--arn", arn, "true"]).status, 125);
    // Nothing listens: told at once, with the account and the region before.
    let mut command = place.command();
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command.args([
        "invoke",
        "hi",
        "--arn",
        arn,
        "--bearer-token",
        "secret",
        "--endpoint-url",
        "http://127.0.0.1:9",
    ]);
    let run = Run::from(command.output().unwrap());
    assert_eq!(run.status, 4, "{}", run.stderr);
    assert!(
        run.stderr.starts_with("account 123456789012, region eu-west-1: runtime coder-AbCdEf0123 at"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("could not connect"), "{}", run.stderr);
    assert!(!run.stderr.contains("secret"), "{}", run.stderr);
    assert!(!Path::new("home/emulator.json").exists());
}

#[test]
fn an_empty_name_is_a_usage_error_and_no_default() {
    let place = crate::cli::Place::new();
    place.write(".bedrock_agentcore.yaml", "name: coder\nentrypoint: main.py\n");
    let none = |option: &str| format!("error: a value is required for `{option}` but none was supplied\n");
    let session = none("--session <NAME>");
    let qualifier = "error: invalid value `` for `--qualifier <NAME>`: ".to_owned();
    // An unset variable of a script, as it arrives here: on both targets, in the cloud, in the emulator.
    let rows: [(&str, &[&str], &str); 29] = [
        ("both", &["invoke", "--session", "", "x"], &session),
        ("both", &["invoke", "--session=", "x"], &session),
        ("both", &["exec", "--session", "", "true"], &session),
        ("both", &["exec", "--session", "a,,b", "true"], &session),
        ("both", &["exec", "--session", "a,", "true"], &session),
        ("both", &["shell", "--session", ""], &session),
        ("both", &["stop", "--session", ""], &session),
        ("both", &["logs", "--session", ""], &session),
        ("both", &["invoke", "--qualifier", "", "x"], &qualifier),
        ("both", &["exec", "--qualifier", "", "true"], &qualifier),
        ("both", &["shell", "--qualifier", ""], &qualifier),
        ("both", &["cp", "--qualifier", "", "x", ":x"], &qualifier),
        ("both", &["stop", "--qualifier", ""], &qualifier),
        ("both", &["invoke", "--user-id", "", "x"], &none("--user-id <ID>")),
        ("both", &["invoke", "--content-type", "", "x"], &none("--content-type <TYPE>")),
        ("both", &["exec", "--cwd", "", "true"], &none("--cwd <DIR>")),
        ("both", &["exec", "--file", ""], &none("--file <FILE>")),
        ("both", &["invoke", "--agent", "", "x"], &none("--agent <NAME>")),
        ("both", &["invoke", "--config", "", "x"], &none("--config <FILE>")),
        ("cloud", &["invoke", "--arn", "", "x"], "error: invalid value `` for `--arn <ARN>`: "),
        ("cloud", &["invoke", "--region", "", "x"], "error: invalid value `` for `--region <REGION>`: "),
        ("cloud", &["invoke", "--profile", "", "x"], &none("--profile <NAME>")),
        ("cloud", &["invoke", "--endpoint-url", "", "x"], &none("--endpoint-url <URL>")),
        ("cloud", &["invoke", "--bearer-token", "", "x"], &none("--bearer-token <TOKEN>")),
        ("cloud", &["session", "use", ""], &none("<SESSION>")),
        ("cloud", &["session", "id", ""], &none("<NAME>")),
        ("cloud", &["deploy", "--image", ""], &none("--image <URI>")),
        ("local", &["session", "show", ""], &none("<SESSION>")),
        ("local", &["session", "rm", ""], &none("<SESSIONS>...")),
    ];
    for (targets, args, error) in rows {
        for (target, first) in [("cloud", [].as_slice()), ("local", &["local"])] {
            if targets != "both" && targets != target {
                continue;
            }
            let run = place.run(&[first, args].concat());
            assert_eq!((run.status, run.stdout.as_str()), (2, ""), "{target} {args:?}: {}", run.stderr);
            assert!(run.stderr.starts_with(error), "{target} {args:?}: {}", run.stderr);
            let hints = run.stderr.lines().filter(|line| line.starts_with("hint: ")).count();
            assert_eq!((run.stderr.lines().count(), hints), (2, 1), "{target} {args:?}: {}", run.stderr);
        }
    }
    assert!(!place.path().join("home").exists(), "something was remembered");
}

#[test]
fn what_there_is_is_shown_on_both_targets() {
    let both = Both::new();
    assert_eq!(with_input(both.cloud(&["exec", "--session", "s", "true"]), None).status, 0);
    let json = |command: Command| {
        let run = with_input(command, None);
        assert_eq!(run.status, 0, "{}", run.stderr);
        (
            serde_json::from_str::<Value>(&run.stdout).unwrap_or_else(|e| panic!("{e}: {}", run.stdout)),
            run.stderr,
        )
    };
    let (list, said) = json(both.cloud(&["list", "--output", "json", "--region", "us-west-2"]));
    assert_eq!(list[0]["agentRuntimeArn"], both.arn.as_str());
    assert_eq!(list[0]["status"], "READY");
    assert_eq!(said, format!("account of your credentials, region us-west-2 at {}\n", both.cloud.endpoint()));
    let (list, _) = json(both.local(&["list", "--output", "json"]));
    assert_eq!(list[0]["agentRuntimeName"], "lab");
    let text = with_input(both.local(&["list"]), None);
    assert!(text.stdout.starts_with("NAME  ID"), "{}", text.stdout);

    let (status, said) = json(both.cloud(&["status", "--output", "json"]));
    assert_eq!(said, both.told());
    assert_eq!(status["endpoints"][0]["name"], "DEFAULT");
    assert_eq!(status["endpoints"][0]["liveVersion"], "1");
    assert_eq!((status["sessions"][0]["name"].as_str(), status["drift"].clone()), (Some("s"), json!([])));
    // What the project file says and the service has not is told, setting by setting.
    let file = both.project.path().join(".bedrock_agentcore.yaml");
    let mut content: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    content["agents"]["lab"]["environment_variables"] = json!({ "SECRET": "hush" });
    content["agents"]["lab"]["filesystem_configurations"] =
        json!([{ "session_storage": { "mount_path": "/mnt/work" } }]);
    std::fs::write(&file, content.to_string()).unwrap();
    let run = with_input(both.cloud(&["status"]), None);
    assert!(
        run.stderr.contains("`session storage` is `none` in the service and `/mnt/work` in the project file"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("SECRET") && !run.stderr.contains("hush"), "{}", run.stderr);

    // The ledger needs no network.
    let ledger = |args: &[&str]| {
        let mut command = both.cloud.command();
        command.env("AGENTCORE_HOME", both.home.path()).current_dir(both.project.path()).args(args);
        command
    };
    let (sessions, said) = json(ledger(&["session", "ls", "--output", "json"]));
    assert_eq!(
        (sessions[0]["name"].as_str(), sessions[0]["stoppedAt"].clone(), said),
        (Some("s"), Value::Null, String::new())
    );
    assert!(with_input(ledger(&["session", "ls"]), None).stdout.contains("not stopped here"));
    let (used, _) = json(ledger(&["session", "use", "t", "--output", "json"]));
    assert_eq!(used["name"], "t");
    let run = with_input(both.cloud(&["exec", "true"]), None);
    assert!(run.stderr.contains("session: t (t-"), "{}", run.stderr);

    // Logs: by session, by expression, by time; without the noise of pings.
    assert_eq!(with_input(both.local(&["invoke", "--session", "s", "{\"do\": \"who\"}"]), None).status, 0);
    let all = with_input(both.local(&["logs", "--grep", "lab agent .* listens"]), None);
    assert_eq!((all.status, all.stdout.lines().count()), (0, 2), "{}{}", all.stdout, all.stderr);
    let none = with_input(both.local(&["logs", "--session", "s", "--grep", "no such line"]), None);
    assert_eq!((none.status, none.stdout.as_str()), (0, ""), "{}", none.stderr);
    assert_eq!(
        with_input(both.local(&["logs", "--since", "1h"]), None).stdout,
        with_input(both.local(&["logs"]), None).stdout
    );
    assert_eq!(with_input(both.local(&["logs", "--grep", "("]), None).status, 2);
}

#[test]
fn every_command_has_examples_and_a_manual_page() {
    let place = crate::cli::Place::new();
    for verb in ["invoke", "exec", "shell", "stop", "status", "list", "logs", "session"] {
        let help = place.run(&[verb, "--help"]);
        assert!(help.stdout.contains("Examples:\n  "), "{verb}: {}", help.stdout);
    }
    assert_eq!(place.run(&["man-pages", "man"]).status, 0);
    let page = std::fs::read_to_string(place.path().join("man/agentcore-local-invoke.1")).unwrap();
    assert!(page.contains("new\\-session"), "{page}");
    assert!(place.path().join("man/agentcore.1").is_file());
    assert!(!place.path().join("man/agentcore-complete.1").exists());
}
