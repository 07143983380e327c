//! The same tests on Podman's socket, which speaks Docker's API: this very test binary runs once more, with the other
//! daemon. How the daemon dies is Docker's own.

use std::process::Command;

use super::lab::variable;
use crate::support;

/// Beginnings of names: sessions and escapes from them on the engine, the Python suite, and the life of sessions.
pub(super) const TESTS: &[&str] = &[
    "docker::engine::",
    "docker::lifecycle::an_emulator_that_is_killed_leaves_no_container_and_loses_no_file",
    "docker::lifecycle::an_image_is_deployed_called_stopped_and_resumed",
    "docker::lifecycle::down_with_volumes_removes_all_of_ours_and_nothing_else",
    "docker::suite::",
];

/// Tests whose names begin so, each beginning with one at least: one that no test has any more would be passed over.
pub(super) fn named(beginnings: &[&str]) -> usize {
    let mut list = Command::new(std::env::current_exe().unwrap());
    let output = support::succeed(list.args(["--list", "--format=terse"]));
    let text = String::from_utf8(output.stdout).unwrap();
    let tests: Vec<&str> = text.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let of = |beginning: &&str| tests.iter().filter(|name| name.starts_with(*beginning)).count();
    let counts: Vec<usize> = beginnings.iter().map(of).collect();
    assert!(counts.iter().all(|count| *count > 0), "{beginnings:?}: {counts:?}");
    counts.iter().sum()
}

#[test]
fn podman_serves_sessions_as_docker_does() {
    let test = "docker::podman::podman_serves_sessions_as_docker_does";
    let Some(socket) = variable("AGENTCORE_LAB_PODMAN") else {
        return support::skip(test, "no `AGENTCORE_LAB_PODMAN`; bring it up with `tests/lab/lab up`");
    };
    // The environment of the suite's Python is made by one process.
    let Some(python) = support::python(test) else { return };
    let count = named(TESTS);
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.arg("--test-threads=2").args(TESTS);
    again.env("DOCKER_HOST", socket).env(support::VENV, support::venv_of(&python));
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "on Podman:\n{said}\n{errors}");
    assert!(said.contains(&format!("test result: ok. {count} passed")), "{said}");
    println!("{said}");
}
