//! What people see who sit at a terminal, on a terminal of a test's own.

use std::net::TcpListener;

use serde_json::json;

use crate::pty::{LIMIT, Terminal};
use crate::support::{self, Emulator, Project};

const CTRL_C: &[u8] = b"\x03";
/// What clears a line.
const CLEARED: &str = "\r\u{1b}[2K";

/// What stands after the last clearing of a line.
fn after_spinner(text: &str) -> &str {
    text.rsplit_once(CLEARED).unwrap_or_else(|| panic!("nothing was cleared: {text:?}")).1
}

fn deployed(flags: &[&str], environment: serde_json::Value) -> (Emulator, Project) {
    let emulator = Emulator::start(flags);
    let project = Project::new("lab", "lab", json!({ "environment_variables": environment }));
    emulator.run(project.path(), &["local", "deploy"]);
    (emulator, project)
}

#[test]
fn an_answer_ends_its_line_on_a_terminal_and_not_in_a_pipe() {
    let (emulator, project) = deployed(&[], json!({}));
    let call = ["local", "invoke", "--session", "s", r#"{"do": "echo", "n": 1}"#];
    let piped = emulator.run(project.path(), &call);
    assert_eq!(piped.stdout, br#"{"n": 1}"#);
    let (code, text) = Terminal::at(emulator.home(), project.path(), &call, &[]).end();
    assert_eq!(code, 0, "{text:?}");
    assert!(text.ends_with("{\"n\": 1}\r\n"), "{text:?}");
}

#[test]
fn ctrl_c_clears_the_spinner_and_the_last_line_is_true() {
    let (emulator, project) = deployed(
        &["--grace", "4s", "--ready-delay", "5s"],
        json!({ "LAB_SLOW_START": "4", "LAB_GRACE": "3" }),
    );
    // The call is given up; its session is not.
    let call = ["local", "invoke", "--session", "s", r#"{"do": "echo", "n": 1}"#];
    let mut terminal = Terminal::at(emulator.home(), project.path(), &call, &[]);
    terminal.until("waiting for the agent");
    terminal.press(CTRL_C);
    let (code, text) = terminal.end();
    assert_eq!(code, 130, "{text:?}");
    let last = after_spinner(&text);
    assert!(last.starts_with("stopped waiting; session s (") && last.ends_with("goes on\r\n"), "{text:?}");
    let answer = emulator.run(project.path(), &call);
    assert_eq!(answer.stdout, br#"{"n": 1}"#);
    // A stop that has begun is not taken back.
    let mut terminal =
        Terminal::at(emulator.home(), project.path(), &["local", "stop", "--session", "s"], &[]);
    terminal.until("stopping the session");
    terminal.press(CTRL_C);
    let (code, text) = terminal.end();
    assert_eq!(code, 130, "{text:?}");
    assert_eq!(
        after_spinner(&text),
        "stopped waiting; what was asked to stop goes on stopping\r\n",
        "{text:?}"
    );
    // Where there is no more to say.
    let mut terminal = Terminal::at(emulator.home(), project.path(), &["local", "deploy", "--force"], &[]);
    terminal.until("waiting until the runtime is ready");
    terminal.press(CTRL_C);
    let (code, text) = terminal.end();
    assert_eq!(code, 130, "{text:?}");
    assert_eq!(after_spinner(&text), "interrupted\r\n", "{text:?}");
}

#[test]
fn ctrl_c_at_every_other_wait_ends_it_with_a_true_line() {
    let (emulator, project) = deployed(&[], json!({ "LAB_SLOW_START": "8" }));
    // While the session of a shell starts: the terminal is what it was.
    let mut terminal =
        Terminal::at(emulator.home(), project.path(), &["local", "shell", "--session", "s"], &[]);
    terminal.until("waiting for the session");
    terminal.press(CTRL_C);
    let (code, text) = terminal.end();
    assert_eq!(code, 130, "{text:?}");
    assert_eq!(after_spinner(&text), "stopped waiting for the shell\r\n", "{text:?}");
    // A copy that has begun: nothing of it is left in the session.
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("large");
    std::fs::write(&file, vec![b'x'; 20_000_000]).unwrap();
    let file = file.display().to_string();
    let exec = |text: &str| {
        let output = emulator.run(project.path(), &["local", "exec", "--session", "t", "sh", "-c", text]);
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(exec("ls -A /tmp"), "");
    let mut terminal =
        Terminal::at(emulator.home(), project.path(), &["local", "cp", &file, "t:/tmp/copy"], &[]);
    terminal.until("sending to the session: 3 of ");
    terminal.press(CTRL_C);
    let (code, text) = terminal.end();
    assert_eq!(code, 130, "{text:?}");
    let expected = "the copy was given up; no file is at its destination in part\r\n";
    assert_eq!(after_spinner(&text), expected, "{text:?}");
    assert_eq!(exec("ls -A /tmp"), "");
    // Following a log has no end of its own, so Ctrl-C is none that failed.
    let mut terminal = Terminal::at(emulator.home(), project.path(), &["local", "logs", "--follow"], &[]);
    terminal.until("lab agent");
    terminal.press(CTRL_C);
    let (code, text) = terminal.end();
    assert_eq!(code, 0, "{text:?}");
    assert!(text.ends_with("listens\r\n"), "{text:?}");
    // A command is ended with its caller.
    let mut terminal = Terminal::at(
        emulator.home(),
        project.path(),
        &["local", "exec", "--session", "t", "sh", "-c", "echo begun; sleep 300"],
        &[],
    );
    terminal.until("begun");
    terminal.press(CTRL_C);
    let (code, text) = terminal.end();
    assert_eq!(code, 130, "{text:?}");
    assert!(text.ends_with("the command was ended\r\n"), "{text:?}");
    support::eventually(LIMIT, "the command has ended", || {
        (exec("pgrep -x sleep | wc -l").trim() == "0").then_some(())
    });
}

#[test]
fn ctrl_c_while_the_emulator_starts_leaves_none_half_started() {
    let home = support::short_temp_dir();
    let project = Project::new("lab", "lab", json!({}));
    let mut terminal = Terminal::at(home.path(), project.path(), &["local", "session", "ls"], &[]);
    terminal.until("starting the emulator");
    terminal.press(CTRL_C);
    let (code, text) = terminal.end();
    // It may have been there already when the key arrived.
    assert!(code == 130 || code == 0, "{code}: {text:?}");
    if code == 130 {
        assert!(after_spinner(&text).starts_with("interrupted"), "{text:?}");
    }
    // Either way the next command finds one or starts one, and it can be ended.
    let run = |args: &[&str]| {
        let mut command = support::clean(support::BIN);
        support::succeed(command.env("AGENTCORE_HOME", home.path()).current_dir(project.path()).args(args))
    };
    assert_eq!(run(&["local", "session", "ls", "--output", "json"]).stdout, b"[]\n");
    run(&["local", "down"]);
}

#[test]
fn ctrl_c_at_every_wait_for_aws_ends_it_with_a_true_line() {
    // Connections are made and never answered.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let arn = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/lab-AbCdEf0123";
    let home = support::short_temp_dir();
    let project = Project::new(
        "lab",
        "lab",
        json!({ "bedrock_agentcore": { "agent_arn": arn }, "aws": { "region": "us-west-2" }, "deployment_type": "direct_code_deploy" }),
    );
    let environment = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ];
    let copied = "the copy was given up; no file is at its destination in part\r\n";
    let rows: [(&[&str], &str, &str); 10] = [
        (&["invoke", "--session", "s", "x"], "waiting for the agent", "stopped waiting; session s ("),
        (&["exec", "true"], "waiting for the session", "the command was ended\r\n"),
        (&["cp", "main.py", "s:/tmp"], "waiting for the session", copied),
        (&["shell"], "waiting for the session", "stopped waiting for the shell\r\n"),
        (&["stop"], "stopping the session", "stopped waiting; what was asked to stop goes on stopping\r\n"),
        (&["status"], "runtime lab-AbCdEf0123", "interrupted\r\n"),
        (&["list"], "region us-west-2", "interrupted\r\n"),
        (&["logs"], "runtime lab-AbCdEf0123", "interrupted\r\n"),
        (&["deploy", "--yes"], "asking AWS whose credentials these are", "interrupted\r\n"),
        (&["destroy", "--yes"], "asking AWS whose credentials these are", "interrupted\r\n"),
    ];
    for (args, until, last) in rows {
        let mut terminal = Terminal::at(home.path(), project.path(), args, &environment);
        terminal.until(until);
        terminal.press(CTRL_C);
        if args[0] == "cp" {
            // What it clears away in the session cannot be waited for either.
            terminal.until("clearing away what was begun");
            terminal.press(CTRL_C);
        }
        let (code, text) = terminal.end();
        assert_eq!(code, 130, "{args:?}: {text:?}");
        let end = text.rsplit(CLEARED).next().unwrap();
        let line = end.trim_end_matches("\r\n").rsplit("\r\n").next().unwrap();
        assert!(format!("{line}\r\n").starts_with(last), "{args:?}: {text:?}");
    }
}
