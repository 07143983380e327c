//! The command line without an emulator: exact status, standard output and standard error.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test stops where its world is not as it must be, and reads the PATH it runs under"
)]

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// One run of the program in a directory and a home of its own.
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub(crate) struct Place {
    pub(crate) directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::Builder::new().prefix("acc").tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The program, seeing nothing of this machine's environment but `PATH`.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentcore"));
        command.env_clear().current_dir(self.path()).stdin(Stdio::null());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.env("AGENTCORE_HOME", self.path().join("home"));
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        self.command().args(args).output().unwrap().into()
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

impl Run {
    #[track_caller]
    fn is(&self, status: i32, stdout: &str, stderr: &str) {
        let found = (self.status, self.stdout.as_str(), self.stderr.as_str());
        assert_eq!(found, (status, stdout, stderr));
    }
}

#[test]
fn version_and_help_are_results() {
    let place = Place::new();
    let version = format!("agentcore {}\n", env!("CARGO_PKG_VERSION"));
    place.run(&["--version"]).is(0, &version, "");
    let mut verbs = vec![vec!["--help"]];
    for verb in ["create", "session", "completions", "local"] {
        verbs.push(vec![verb, "--help"]);
    }
    for verb in [
        "up", "down", "status", "env", "logs", "deploy", "invoke", "exec", "stop", "session", "clock", "demo",
    ] {
        verbs.push(vec!["local", verb, "--help"]);
    }
    for verb in verbs {
        let run = place.run(&verb);
        assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{verb:?}");
        assert!(run.stdout.contains("Usage: agentcore"), "{verb:?}: {}", run.stdout);
        assert!(run.stdout.contains("--output"), "{verb:?}");
    }
    assert!(!place.path().join("home").exists(), "asking for help made state");
}

#[test]
fn wrong_usage_is_two_and_names_the_thing() {
    let place = Place::new();
    place.run(&["local", "stauts"]).is(
        2,
        "",
        "error: unrecognized subcommand `stauts`\nhint: a similar subcommand exists: `status`\n",
    );
    place.run(&["create"]).is(
        2,
        "",
        "error: the following required arguments were not provided: <NAME>\nhint: usage: agentcore create <NAME>\n",
    );
    let run = place.run(&["local", "exec", "--timeout", "2h", "ls"]);
    assert_eq!(run.status, 2);
    assert!(run.stderr.contains("the service takes 1 to 3600 whole seconds"), "{}", run.stderr);
    let run = place.run(&["create", "1agent"]);
    assert_eq!(run.status, 2);
    assert!(run.stderr.starts_with("error: `1agent` cannot name an agent"), "{}", run.stderr);
    assert_eq!(place.run(&[] as &[&str]).status, 2);
}

#[test]
fn a_bad_project_file_is_three_and_says_where() {
    let place = Place::new();
    place.write(".bedrock_agentcore.yaml", "name: my-agent\nentrypoint: main.py\n");
    let file = place.path().join(".bedrock_agentcore.yaml");
    let message = format!(
        "error: {}:1:7: `my-agent`: agent runtime name must begin with a letter and have at most 48 letters, digits and `_`\n",
        file.display()
    );
    place.run(&["session", "id", "x"]).is(3, "", &message);
    // In JSON the same is a document on standard output too.
    let run = place.run(&["session", "id", "x", "--output", "json"]);
    let value: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(value["error"]["class"], "project");
    assert_eq!(value["error"]["exitCode"], 3);
    let run = place.run(&["session", "id", "x", "--config", "none.yaml"]);
    assert_eq!(run.status, 3);
    assert!(run.stderr.contains("none.yaml` cannot be read"), "{}", run.stderr);
    // `exec` keeps its own failures apart from the codes of commands.
    assert_eq!(place.run(&["local", "exec", "true"]).status, 125);
}

#[test]
fn no_project_is_three_with_the_way_out() {
    let place = Place::new();
    let run = place.run(&["session", "id", "x"]);
    assert_eq!(run.status, 3);
    assert!(run.stderr.starts_with("error: no `.bedrock_agentcore.yaml` in `"), "{}", run.stderr);
    assert!(run.stderr.contains("\nhint: run `agentcore create NAME`"), "{}", run.stderr);
}

#[test]
fn session_ids_follow_the_public_rule() {
    let place = Place::new();
    // SHA-256 over "coder", a zero byte and "ticket-8421", first 32 digits.
    let id = "ticket-8421-cfd830ae72fcb8d9923c587ef5729155";
    let run = place.run(&["session", "id", "ticket-8421", "--agent", "coder"]);
    assert_eq!(run.status, 0);
    assert_eq!(run.stdout.trim_end(), agentcore::model::session_id_for_name("coder", "ticket-8421").as_str());
    assert_eq!(run.stdout.trim_end(), id);
    place.write(".bedrock_agentcore.yaml", "name: coder\nentrypoint: main.py\n");
    let json = place.run(&["session", "id", "ticket-8421", "--output", "json"]);
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value, serde_json::json!({ "sessionId": id, "name": "ticket-8421", "agent": "coder" }));
}

#[test]
fn create_makes_a_project_whole_and_never_over_another() {
    let place = Place::new();
    place.run(&["create", "my-agent"]).is(
        0,
        "made agent `my_agent` in `my-agent`\n",
        "next: cd my-agent && agentcore local invoke \"hello\"\n",
    );
    let text = std::fs::read_to_string(place.path().join("my-agent/.bedrock_agentcore.yaml")).unwrap();
    assert!(text.contains("default_agent: my_agent"), "{text}");
    let run = place.run(&["create", "my-agent"]);
    assert_eq!((run.status, run.stdout.as_str()), (1, ""));
    assert!(run.stderr.contains("exists and is not an empty directory"), "{}", run.stderr);
    let run = place.run(&["create", "other", "--template", "sdk", "--quiet", "--output", "json"]);
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    let value: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(value["files"].as_array().unwrap().iter().any(|f| f == "requirements.txt"));
    let entries = std::fs::read_dir(place.path()).unwrap().count();
    assert_eq!(entries, 2, "something was left behind");
}

#[test]
fn an_emulator_that_does_not_run_is_told_without_starting_one() {
    let place = Place::new();
    place.run(&["local", "status"]).is(1, "not running\n", "hint: start it with `agentcore local up`\n");
    let run = place.run(&["local", "status", "--output", "json", "--quiet"]);
    let value: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((run.status, value["running"].as_bool()), (1, Some(false)));
    place.run(&["local", "down"]).is(0, "no emulator was running\n", "");
    place.run(&["local", "stop", "--all"]).is(0, "no emulator was running\n", "");
    assert!(!place.path().join("home").exists(), "a question made state");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let place = Place::new();
    let mut command = place.command();
    command.args(["completions", "zsh"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let run: Run = child.wait_with_output().unwrap().into();
    run.is(0, "", "");
}

#[test]
fn committed_completions_are_current() {
    let place = Place::new();
    for (shell, file) in [
        ("bash", "agentcore.bash"),
        ("zsh", "_agentcore"),
        ("fish", "agentcore.fish"),
        ("powershell", "agentcore.ps1"),
    ] {
        let run = place.run(&["completions", shell]);
        assert_eq!((run.status, run.stderr.as_str()), (0, ""));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions").join(file);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == run.stdout,
            "completions/{file} is not current: agentcore completions {shell} > completions/{file}"
        );
    }
}

#[test]
fn the_help_command_lists_what_there_is_and_hides_the_rest() {
    let run = Place::new().run(&["--help"]);
    assert!(!run.stdout.contains("demo-agent"), "{}", run.stdout);
    assert!(run.stdout.contains("completions"));
}

#[test]
fn a_home_that_is_a_file_and_a_payload_that_is_not_there_say_what_to_do() {
    let place = Place::new();
    place.write("file", "");
    let run = place.run(&["local", "--home", "file", "up"]);
    assert_eq!(run.status, 1, "{}", run.stderr);
    assert!(run.stderr.contains("Not a directory"), "{}", run.stderr);
    assert!(run.stderr.contains("hint: set `AGENTCORE_HOME`"), "{}", run.stderr);
    let run = place.run(&["local", "invoke", "@missing"]);
    assert_eq!(run.status, 1, "{}", run.stderr);
    assert!(run.stderr.contains("`missing`") && run.stderr.contains("hint: `@FILE` reads"), "{}", run.stderr);
}
