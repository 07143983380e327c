//! The same tests on Podman's socket, which speaks Docker's API: this very test binary runs once more, with the other
//! daemon. Chosen are those that show what a session promises; how the daemon dies is Docker's own.

use std::process::Command;

use super::lab::variable;
use crate::support;

const TESTS: &[&str] = &[
    "docker::engine::a_container_has_no_network_and_the_limits_of_a_session",
    "docker::engine::a_container_that_is_killed_is_gone_and_its_volume_is_not",
    "docker::engine::a_session_sees_nothing_of_the_host_but_this_program",
    "docker::engine::calls_that_act_on_the_machine_are_refused",
    "docker::engine::kill_ends_the_whole_tree",
    "docker::engine::no_process_has_more_rights_than_a_container",
    "docker::engine::other_sessions_are_out_of_reach",
    "docker::engine::storage_persists_and_nothing_else",
    "docker::engine::the_agent_is_started_as_its_image_says_and_commands_run_as_root",
    "docker::engine::the_helper_is_out_of_reach",
    "docker::engine::volumes_are_labelled_counted_and_discarded",
    "docker::engine::what_a_dead_emulator_left_is_ended_by_its_record_or_swept",
    "docker::lifecycle::an_emulator_that_is_killed_leaves_no_container_and_loses_no_file",
    "docker::lifecycle::an_image_is_deployed_called_stopped_and_resumed",
    "docker::lifecycle::down_with_volumes_removes_all_of_ours_and_nothing_else",
    "docker::suite::official_package",
    "docker::suite::story",
];

#[test]
fn podman_serves_sessions_as_docker_does() {
    let test = "docker::podman::podman_serves_sessions_as_docker_does";
    let Some(socket) = variable("AGENTCORE_LAB_PODMAN") else {
        return support::skip(test, "no `AGENTCORE_LAB_PODMAN`; bring it up with `tests/lab/lab up`");
    };
    // The environment of the suite's Python is made by one process.
    let Some(python) = support::python(test) else { return };
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "--test-threads=4"]).args(TESTS);
    again.env("DOCKER_HOST", socket).env(support::VENV, support::venv_of(&python));
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "on Podman:\n{said}\n{errors}");
    // A name that is no test's any more would be passed over.
    assert!(said.contains(&format!("test result: ok. {} passed", TESTS.len())), "{said}");
    println!("{said}");
}
