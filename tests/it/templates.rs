//! The templates of `create`: each passes its own test, and what needs no packages runs in the emulator as it is.

use std::path::Path;
use std::process::Command;

use agentcore::project::templates::Template;
use serde_json::Value;

use crate::support::{self, Emulator};

fn created(template: Template) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    template.create(&dir.path().join("coder"), &"coder".parse().unwrap()).unwrap();
    dir
}

/// Runs a template's own test as its README says.
#[track_caller]
fn passes(template: Template, program: &Path, args: &[&str]) {
    let dir = created(template);
    let mut command: Command = support::clean(program);
    command.current_dir(dir.path().join("coder")).env("PYTHONDONTWRITEBYTECODE", "1").args(args);
    let output = support::succeed(&mut command);
    let report = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(report.contains("Ran ") || report.contains(" pass 3\n"), "no test ran:\n{report}");
}

#[test]
fn minimal_passes_its_test() {
    let Some(python) = support::which("python3") else {
        return support::skip("templates::minimal", "no `python3` in PATH");
    };
    passes(Template::Minimal, &python, &["-m", "unittest"]);
}

#[test]
fn sdk_passes_its_test() {
    let Some(python) = support::python("templates::sdk") else { return };
    passes(Template::Sdk, &python, &["-m", "unittest"]);
}

#[test]
fn strands_passes_its_test() {
    let Some(python) = support::strands_python("templates::strands") else { return };
    passes(Template::Strands, &python, &["-m", "unittest"]);
}

#[test]
fn node_passes_its_test() {
    let Some(node) = support::which("node") else {
        return support::skip("templates::node", "no `node` in PATH");
    };
    passes(Template::Node, &node, &["--test"]);
}

#[test]
fn node_runs_in_the_emulator_as_it_is() {
    if support::which("node").is_none() {
        return support::skip("templates::node_runs", "no `node` in PATH");
    }
    let emulator = Emulator::start(&[]);
    let dir = created(Template::Node);
    let project = dir.path().join("coder");
    let notes = |prompt: &str| -> Value {
        let output = emulator.run(&project, &["local", "invoke", prompt, "--session", "shopping"]);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        answer["notes"].clone()
    };
    assert_eq!(notes("milk"), serde_json::json!(["milk"]));
    let exec = ["local", "exec", "--session", "shopping", "--", "cat", "/mnt/workspace/notes.txt"];
    assert_eq!(emulator.run(&project, &exec).stdout, b"milk\n");
    emulator.run(&project, &["local", "stop", "--session", "shopping"]);
    assert_eq!(notes("bread"), serde_json::json!(["milk", "bread"]));
}
