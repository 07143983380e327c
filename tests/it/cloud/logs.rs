//! `logs` in AWS, where moto stands in for CloudWatch Logs: the log group of an endpoint, as the service names it.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::world::{ACCOUNT, Project, World};

const ID: &str = "coder-AbCdEf0123";
const SESSION: &str = "ticket-1-0123456789abcdef0123456789abcdef";

fn group() -> String {
    format!("/aws/bedrock-agentcore/runtimes/{ID}-DEFAULT")
}

/// Writes lines of so many seconds ago.
fn put(world: &World, stream: &str, lines: &[(u64, &str)]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let event = |(ago, message): &(u64, &str)| json!({ "timestamp": u64::try_from(now).unwrap() - ago * 1000, "message": message });
    let events: Vec<Value> = lines.iter().map(event).collect();
    let events = json!(events).to_string();
    let (group, args) = (group(), ["logs", "put-log-events", "--log-group-name"]);
    world.aws(&[&args[..], &[&group, "--log-stream-name", stream, "--log-events", &events]].concat());
}

fn make(world: &World, streams: &[&str]) {
    let group = group();
    world.aws(&["logs", "create-log-group", "--log-group-name", &group]);
    for stream in streams {
        let args = ["logs", "create-log-stream", "--log-group-name", &group, "--log-stream-name", stream];
        world.aws(&args);
    }
}

/// Messages without the time of day before them.
fn messages(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split_once(' ').unwrap_or_else(|| panic!("{line}")).1).collect()
}

#[test]
fn logs_are_read_from_the_group_of_the_endpoint() {
    let Some(world) = World::new("cloud::logs::logs_are_read_from_the_group_of_the_endpoint") else { return };
    let arn = format!("arn:aws:bedrock-agentcore:us-west-2:{ACCOUNT}:runtime/{ID}");
    let project: Project = world.project("coder", json!({ "bedrock_agentcore": { "agent_arn": arn } }));
    let run = |args: &[&str]| {
        let done = world.run(&project, &[&["logs"], args].concat());
        assert!(
            done.stderr.starts_with(&format!("account {ACCOUNT}, region us-west-2: runtime {ID}")),
            "{done:?}"
        );
        let said = done.stderr.split_once('\n').unwrap().1.to_owned();
        (done.code, done.stdout, said)
    };
    let none = format!(
        "error: there is no log group `{}`\n\
         hint: an agent's log begins with its first session; `--qualifier` names another endpoint\n",
        group()
    );
    assert_eq!(run(&[]), (4, String::new(), none));

    let (first, second) = ("2026/11/21/[runtime-logs]0d1f", "otel-rt-logs");
    make(&world, &[first, second]);
    let of_session = format!("{{\"message\":\"Invocation completed\",\"sessionId\":\"{SESSION}\"}}");
    put(
        &world,
        first,
        &[
            (5000, "of long ago"),
            (50, "listens\n"),
            (49, "GET /ping HTTP/1.1"),
            (48, "\"GET /ping HTTP/1.1\" 200 OK"),
        ],
    );
    put(
        &world,
        second,
        &[(30, &of_session), (20, "Traceback: \u{1b}[31mred\u{1b}[0m \u{e9}"), (10, "GET /ping HTTP/1.1")],
    );

    // Streams in one order, by time; pings folded where they stood.
    let (code, stdout, said) = run(&[]);
    assert_eq!(
        (code, messages(&stdout)),
        (0, vec!["listens", of_session.as_str(), "Traceback: \u{1b}[31mred\u{1b}[0m \u{e9}"])
    );
    assert_eq!(said, "… 2 requests for `/ping`\n… 1 request for `/ping`\n");
    let (_, stdout, said) = run(&["--pings"]);
    assert_eq!((messages(&stdout).len(), said.as_str()), (6, ""));
    let (_, stdout, _) = run(&["--since", "2h"]);
    assert_eq!(messages(&stdout).first(), Some(&"of long ago"));
    let (_, stdout, said) = run(&["--grep", "^Trace"]);
    assert_eq!((messages(&stdout).len(), said.as_str()), (1, ""));
    let (_, stdout, _) = run(&["--session", SESSION]);
    assert_eq!(messages(&stdout), [of_session.as_str()]);
    let (_, stdout, _) = run(&["--session", "ticket-of-nobody"]);
    assert_eq!(stdout, "");
    let (_, stdout, _) = run(&["--grep", "listens", "--output", "json"]);
    let line: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&line["logStream"], &line["message"]), (&json!(first), &json!("listens")));
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    let (code, stdout, said) = run(&["--all"]);
    let expected = "error: `--all` is the emulator's: in AWS each runtime has a log group of its own\n";
    assert_eq!((code, stdout.as_str(), said.as_str()), (2, "", expected));
    let (code, _, said) = run(&["--qualifier", "prod"]);
    assert!(code == 4 && said.contains(&format!("{ID}-prod`")), "{said}");

    // Following shows what is written later, each line once, and Ctrl-C is its end and no failure.
    let mut child = world
        .command(&project, &["logs", "--follow", "--grep", "listens|later"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().ends_with(" listens"));
    put(&world, second, &[(0, "later one")]);
    assert!(lines.next().unwrap().unwrap().ends_with(" later one"));
    put(&world, first, &[(0, "later two")]);
    assert!(lines.next().unwrap().unwrap().ends_with(" later two"));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert!(lines.next().is_none());
    assert_eq!(said.lines().count(), 1, "{said}");
}
