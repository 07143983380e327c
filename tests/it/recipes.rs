//! The README's recipes, run as they stand there, and its list of messages, which must be the program's own.
//!
//! Needs namespaces and python3; where they are missing the emulator says so and the tests fail.

#![allow(clippy::disallowed_methods, reason = "puts the program under test before the PATH it runs under")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{self, short_temp_dir};

fn readme() -> String {
    std::fs::read_to_string(support::repository().join("README.md")).unwrap()
}

/// The first block of a language in the part of the README that begins with `heading`.
fn block(heading: &str, language: &str) -> String {
    let readme = readme();
    let part = readme.split_once(heading).unwrap_or_else(|| panic!("no `{heading}`")).1;
    let block = part.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("no {language}")).1;
    block.split_once("\n```").unwrap().0.to_owned()
}

/// A project made by `create`, and an emulator's state directory, ended with the value.
struct World {
    home: tempfile::TempDir,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { home: short_temp_dir(), directory: tempfile::tempdir().unwrap() };
        let mut create = support::clean(support::BIN);
        create.env("AGENTCORE_HOME", world.home.path()).current_dir(world.directory.path());
        support::succeed(create.args(["create", "coder"]));
        world
    }

    fn project(&self) -> std::path::PathBuf {
        self.directory.path().join("coder")
    }

    fn command(&self, program: &str) -> Command {
        let bin = Path::new(support::BIN).parent().unwrap().display().to_string();
        let mut command = support::clean(program);
        command.env("AGENTCORE_HOME", self.home.path()).current_dir(self.project());
        command.env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()));
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let ended = self.command(support::BIN).args(["local", "down"]).output();
        assert!(std::thread::panicking() || ended.is_ok_and(|o| o.status.success()));
    }
}

#[test]
fn the_recipe_for_ci_passes_and_fails_with_what_it_checks() {
    let world = World::new();
    let script = block("**In CI**", "sh");
    let passed = support::succeed(world.command("sh").args(["-c", &script]));
    let errors = String::from_utf8_lossy(&passed.stderr).into_owned();
    assert!(errors.contains("\nRan ") && !errors.contains("\nRan 0 "), "{errors}");
    let answer = std::fs::read_to_string(world.project().join("answer.json")).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["response"]["notes"][0], "remember the milk", "{answer:#}");
    let kept = std::fs::read_to_string(world.project().join("artifacts/notes.txt")).unwrap();
    assert_eq!(kept, "remember the milk\n");
    // A test that fails is the job's end, with the test's own code.
    let test = world.project().join("test_main.py");
    let text = std::fs::read_to_string(&test).unwrap().replace("[\"milk\"]", "[\"bread\"]");
    std::fs::write(&test, text).unwrap();
    let output = world.command("sh").args(["-c", &script]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("FAIL: test_it_remembers"), "{errors}");
}

#[test]
fn the_recipe_for_boto3_runs() {
    let Some(python) = support::python("recipes::the_recipe_for_boto3_runs") else { return };
    let world = World::new();
    support::succeed(world.command(support::BIN).args(["local", "deploy"]));
    let script = format!("eval \"$(agentcore local env)\"; exec '{}' -c \"$RECIPE\"", python.display());
    let mut command = world.command("sh");
    let output = support::succeed(command.env("RECIPE", block("**boto3**", "python")).args(["-c", &script]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("'notes': ['remember the milk']"), "{text}");
}

#[test]
fn the_recipe_for_pre_commit_runs() {
    let world = World::new();
    let hooks = block("**pre-commit**", "yaml");
    let entry = hooks.lines().find_map(|l| l.trim().strip_prefix("entry: ")).unwrap();
    support::succeed(world.command("sh").args(["-c", entry]));
    std::fs::write(world.project().join("main.py"), "def (\n").unwrap();
    let output = world.command("sh").args(["-c", entry]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{errors}");
    assert!(errors.contains("SyntaxError"), "{errors}");
    // What the recipe of the devcontainer asks for is what the engine's own hints ask for.
    let container: Value = serde_json::from_str(&block("**A devcontainer**", "json")).unwrap();
    let hints = std::fs::read_to_string(support::repository().join("src/engine/embedded/mod.rs")).unwrap();
    let options: Vec<&str> =
        container["runArgs"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
    for option in options.iter().filter(|o| o.contains('=')) {
        assert!(hints.contains(&format!("--security-opt {option}")), "{option}");
    }
}

#[test]
fn messages_in_the_readme_are_the_programs_own() {
    fn collect(directory: &Path, out: &mut String) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => collect(&path, out),
                false => out.push_str(&std::fs::read_to_string(&path).unwrap_or_default()),
            }
        }
    }
    let mut source = String::new();
    collect(&support::repository().join("src"), &mut source);
    // A text may go on in the next line of the source.
    let source = regex::Regex::new(r"\\\n\s*").unwrap().replace_all(&source, "").into_owned();
    let source = source.replace("{FILE_NAME}", ".bedrock_agentcore.yaml");
    let readme = readme();
    let table = readme.split_once("| it says | because | do |\n|---|---|---|\n").unwrap().1;
    let rows: Vec<&str> = table.lines().take_while(|l| l.starts_with('|')).collect();
    assert!(rows.len() >= 10, "{rows:?}");
    for row in rows {
        let message = row.trim_start_matches('|').split(" | ").next().unwrap().trim();
        assert!(source.contains(message), "nothing says `{message}`");
    }
}
