//! Completions in the shells they are for: the committed scripts are sourced, and the shell is asked what it offers.

#![allow(clippy::disallowed_methods, reason = "tests have no cli/env.rs")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::cli::Place;
use crate::support;

/// A project whose ledger knows a session in each place, and a profile.
fn project() -> Place {
    let place = Place::new();
    place.write(".bedrock_agentcore.yaml", "name: coder\nentrypoint: main.py\n");
    place.write("main.py", "");
    place.write(".aws/config", "[default]\n[profile dev]\nregion = x\n[sso-session other]\n");
    assert_eq!(place.run(&["session", "use", "ticket-8421"]).status, 0);
    // Nothing listens there, and the session is in the ledger all the same: it may have been started.
    let arn = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/coder-AbCdEf0123";
    place.write(
        ".bedrock_agentcore.yaml",
        &format!("name: coder\nentrypoint: main.py\nbedrock_agentcore: {{agent_arn: \"{arn}\"}}\n"),
    );
    let mut command = place.command();
    command.args(["invoke", "x", "--session", "ticket-1", "--endpoint-url", "http://127.0.0.1:9"]);
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    assert_eq!(command.output().unwrap().status.code(), Some(4));
    place
}

fn complete(place: &Place, words: &[&str]) -> Vec<String> {
    let mut all = vec!["complete", "--", "agentcore"];
    all.extend_from_slice(words);
    let mut command = place.command();
    let output = command.env("HOME", place.path()).args(&all).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn values(place: &Place, words: &[&str]) -> Vec<String> {
    let first = |line: String| line.split('\t').next().unwrap().to_owned();
    complete(place, words).into_iter().map(first).collect()
}

#[test]
fn what_may_stand_there_is_offered_with_what_it_is() {
    let place = project();
    assert_eq!(values(&place, &["in"]), ["invoke"]);
    assert!(values(&place, &[""]).contains(&"local".to_owned()));
    assert!(!values(&place, &[""]).contains(&"complete".to_owned()), "a hidden verb is offered");
    assert_eq!(values(&place, &["local", "cl"]), ["clock"]);
    let sessions = complete(&place, &["invoke", "--session", ""]);
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    assert!(sessions[0].starts_with("ticket-1\tcoder, not stopped, used "), "{sessions:?}");
    assert_eq!(values(&place, &["exec", "--session", "a,tick"]), ["a,ticket-1"]);
    assert_eq!(values(&place, &["invoke", "--session=ti"]), ["ticket-1"]);
    assert_eq!(values(&place, &["local", "invoke", "--session", ""]), [] as [&str; 0]);
    assert_eq!(values(&place, &["invoke", "--agent", ""]), ["coder"]);
    assert_eq!(values(&place, &["invoke", "--qualifier", ""]), ["DEFAULT"]);
    assert_eq!(values(&place, &["invoke", "--profile", ""]), ["default", "dev"]);
    assert_eq!(values(&place, &["invoke", "--output", ""]), ["text", "json"]);
    assert_eq!(values(&place, &["create", "--template", ""]).first().map(String::as_str), Some("minimal"));
    assert_eq!(values(&place, &["stop", "--al"]), ["--all"]);
    assert_eq!(values(&place, &["exec", "ls", ""]), [":files"]);
    assert_eq!(values(&place, &["cp", "notes.txt", "tick"]), ["ticket-1:", ":files"]);
    // How PowerShell hands an empty word on.
    assert_eq!(values(&place, &["invoke", "--session", "\"\""]), ["ticket-1"]);
    // Nobody waits for a Tab.
    let ask = |_| {
        let begun = Instant::now();
        values(&place, &["invoke", "--session", ""]);
        begun.elapsed()
    };
    // The quickest: others use the machine too.
    let quickest = (0..10).map(ask).min().unwrap();
    assert!(quickest < Duration::from_millis(1500), "{quickest:?}");
}

/// Runs a script in a shell in which `agentcore` is the program under test.
fn in_shell(place: &Place, shell: &Path, args: &[&str], script: &str) -> String {
    let bin = Path::new(support::BIN).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(shell);
    command.env_clear().env("PATH", path).env("HOME", place.path()).env("TERM", "dumb");
    command.env("AGENTCORE_HOME", place.path().join("home")).current_dir(place.path());
    let output = command.args(args).arg(script).stdin(Stdio::null()).output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn script(name: &str) -> String {
    support::repository().join("completions").join(name).display().to_string()
}

fn shell(test: &str, name: &str) -> Option<std::path::PathBuf> {
    let found = support::which(name);
    if found.is_none() {
        support::skip(test, &format!("`{name}` is not installed"));
    }
    found
}

#[test]
fn bash_offers_them() {
    let Some(bash) = shell("bash_offers_them", "bash") else { return };
    let place = project();
    let ask = |line: &str, words: &str, at: usize| {
        let text = format!(
            "source '{}'; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=({words}); COMP_CWORD={at}; \
             _agentcore agentcore; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script("agentcore.bash")
        );
        in_shell(&place, &bash, &["--norc", "-c"], &text)
    };
    assert_eq!(ask("agentcore invoke --session tick", "agentcore invoke --session tick", 3), "ticket-1\n");
    assert_eq!(ask("agentcore local cl", "agentcore local cl", 2), "clock\n");
    // What bash cuts at `=` comes back without what stands before the cut.
    assert_eq!(ask("agentcore invoke --session=ti", "agentcore invoke --session = ti", 4), "ticket-1\n");
    assert_eq!(ask("agentcore cp x tick", "agentcore cp x tick", 3), "ticket-1:\n");
    assert!(ask("agentcore ", "agentcore ''", 1).contains("invoke\n"));
    assert!(ask("agentcore invoke --config ma", "agentcore invoke --config ma", 3).contains("main.py\n"));
}

#[test]
fn zsh_offers_them() {
    let Some(zsh) = shell("zsh_offers_them", "zsh") else { return };
    let place = project();
    // `compadd` is what every offer ends in.
    let text = format!(
        "autoload -Uz compinit; compinit -u -D; source '{}'; \
         _describe() {{ local -a all; all=(\"${{(@P)argv[3]}}\"); print -rl -- \"${{all[@]}}\"; }}; _files() {{ print files; }}; \
         words=(agentcore invoke --session ''); CURRENT=4; _agentcore; words=(agentcore cp ti); CURRENT=3; _agentcore; \
         words=(agentcore exec ls ''); CURRENT=4; _agentcore",
        script("_agentcore")
    );
    let found = in_shell(&place, &zsh, &["-f", "-c"], &text);
    assert!(found.contains("ticket-1:coder, not stopped, used "), "{found}");
    assert!(found.contains("ticket-1\\::coder, not stopped, used "), "{found}");
    assert!(found.ends_with("files\n"), "{found}");
}

#[test]
fn fish_offers_them() {
    let Some(fish) = shell("fish_offers_them", "fish") else { return };
    let place = project();
    let ask = |line: &str| {
        let text = format!("source '{}'; complete -C '{line}'", script("agentcore.fish"));
        in_shell(&place, &fish, &["--no-config", "-c"], &text)
    };
    let found = ask("agentcore invoke --session ");
    assert!(found.starts_with("ticket-1\tcoder, not stopped, used "), "{found}");
    assert!(ask("agentcore local cl").starts_with("clock\t"));
    assert!(ask("agentcore --config ma").contains("main.py"));
}

#[test]
fn powershell_offers_them() {
    let Some(pwsh) = support::which("pwsh") else {
        // The shell is seldom installed where this program runs; then its script is read as text alone.
        let text = std::fs::read_to_string(script("agentcore.ps1")).unwrap();
        for part in [
            "Register-ArgumentCompleter -Native -CommandName agentcore -ScriptBlock {",
            "param($wordToComplete, $commandAst, $cursorPosition)",
            "& $words[0] complete -- @words 2>$null",
            "$_ -ne ':files'",
            "[System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $about)",
        ] {
            assert!(text.contains(part), "no `{part}` in {text}");
        }
        let count = |c: char| text.chars().filter(|found| *found == c).count();
        for (open, close) in [('{', '}'), ('(', ')'), ('[', ']')] {
            assert_eq!(count(open), count(close), "`{open}` in {text}");
        }
        return;
    };
    let place = project();
    let line = "agentcore invoke --session ti";
    let text = format!(
        ". '{}'; (TabExpansion2 '{line}' {}).CompletionMatches.CompletionText",
        script("agentcore.ps1"),
        line.len()
    );
    assert_eq!(in_shell(&place, &pwsh, &["-NoProfile", "-Command"], &text), "ticket-1\n");
}
