//! The same tests with a daemon that sees nothing of this machine's files and sockets, as one on another machine or in a
//! virtual machine: this very test binary runs once more, with its files where that daemon does not see them.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use bollard::query_parameters::ListVolumesOptionsBuilder;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::lab::{KIND, Lab, lab, lab_at, label_of};
use super::podman::named;
use crate::support::{self, Emulator, Project, succeed};

/// Beginnings of names: sessions and escapes from them on the engine, the Python suite, and the life of sessions.
const TESTS: &[&str] = &[
    "docker::engine::",
    "docker::lifecycle::an_emulator_that_is_killed_leaves_no_container_and_loses_no_file",
    "docker::lifecycle::an_image_is_deployed_called_stopped_and_resumed",
    "docker::lifecycle::down_with_volumes_removes_all_of_ours_and_nothing_else",
    "docker::suite::",
];

#[test]
fn a_daemon_apart_serves_sessions_as_one_of_this_machine_does() {
    let test = "docker::apart::a_daemon_apart_serves_sessions_as_one_of_this_machine_does";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if runtime.block_on(lab(test)).is_none() {
        return;
    }
    let Some(mut daemon) = Daemon::for_test(test) else { return };
    // The environment of the suite's Python is made by one process.
    let Some(python) = support::python(test) else { return };
    let hidden = support::short_temp_dir();
    daemon.hide(hidden.path());
    daemon.start();
    let count = named(TESTS);
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.arg("--test-threads=2").args(TESTS);
    again.env("DOCKER_HOST", daemon.host()).env("TMPDIR", hidden.path());
    again.env(support::VENV, support::venv_of(&python));
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "on a daemon apart:\n{said}\n{errors}");
    assert!(said.contains(&format!("test result: ok. {count} passed")), "{said}");
    println!("{said}");
}

/// The copies of this program that a daemon has for a home.
async fn copies(lab: &Lab, label: &str) -> Vec<String> {
    let filters = HashMap::from([("label".to_owned(), vec![label.to_owned(), format!("{KIND}=helper")])]);
    let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let volumes = lab.client.list_volumes(Some(options)).await.unwrap().volumes.unwrap_or_default();
    volumes.into_iter().map(|volume| volume.name).collect()
}

#[test]
fn what_a_daemon_apart_keeps_of_this_program_is_made_once_and_goes_with_the_home() {
    let test = "docker::apart::what_a_daemon_apart_keeps_of_this_program_is_made_once_and_goes_with_the_home";
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if runtime.block_on(lab(test)).is_none() {
        return;
    }
    let Some(mut daemon) = Daemon::for_test(test) else { return };
    let scratch = support::short_temp_dir();
    daemon.hide(scratch.path());
    daemon.start();
    runtime.block_on(async {
        let lab = lab_at(&daemon.host()).await.unwrap();
        let image = lab.image("python", &["ENV PATH=/usr/local/bin:/usr/bin:/bin"]).await;
        let home = scratch.path().join("h");
        let keys = json!({
            "filesystem_configurations": [{ "session_storage": { "mount_path": "/mnt/workspace" } }],
        });
        let project = Project::new("lab", "apart", keys);
        let flags = ["--engine", "docker", "--platform", "native", "--base-image", &image];
        let host = daemon.host();
        let start = || Emulator::start_in_as(&home, &flags, &[("DOCKER_HOST", &host)]);
        let run = |emulator: &Emulator, args: &[&str]| {
            let mut command = emulator.command();
            command.current_dir(project.path()).env("DOCKER_HOST", &host).arg("local").args(args);
            String::from_utf8(succeed(&mut command).stdout).unwrap()
        };
        let emulator = start();
        run(&emulator, &["deploy"]);
        let kept = run(
            &emulator,
            &["exec", "--session", "one", "--", "sh", "-c", "echo kept > /mnt/workspace/f; cat main.py"],
        );
        // The code came along, and is not the helper's to change: a session may write to its own copy.
        assert!(kept.contains("import"), "{kept}");
        run(&emulator, &["stop", "--session", "one"]);
        let label = label_of(&home);
        let first = copies(&lab, &label).await;
        assert_eq!(first.len(), 1, "{first:?}");

        // The next emulator finds the copy, and the storage of a session is counted by it before any session runs.
        drop(emulator);
        let emulator = start();
        let shown: Value =
            serde_json::from_str(&run(&emulator, &["session", "show", "one", "--output", "json"])).unwrap();
        assert_eq!(
            (shown["storage"]["files"].as_u64(), shown["storage"]["bytes"].as_u64()),
            (Some(1), Some(5)),
            "{shown}"
        );
        assert_eq!(run(&emulator, &["exec", "--session", "one", "--", "cat", "/mnt/workspace/f"]), "kept\n");
        assert_eq!(copies(&lab, &label).await, first);
        let refused = run(
            &emulator,
            &["exec", "--session", "one", "--", "sh", "-c", "touch /opt/agentcore/x 2>&1 || echo refused"],
        );
        assert!(refused.ends_with("refused\n"), "{refused}");

        // A daemon that ends takes its sessions along, and loses nothing.
        daemon.end(Signal::SIGTERM);
        daemon.start();
        support::eventually(Duration::from_secs(60), "the session has ended with the daemon", || {
            let shown = run(&emulator, &["session", "show", "one", "--output", "json"]);
            let shown: Value = serde_json::from_str(&shown).unwrap();
            (shown["state"] == "stopped").then_some(())
        });
        assert_eq!(run(&emulator, &["exec", "--session", "one", "--", "cat", "/mnt/workspace/f"]), "kept\n");
        run(&emulator, &["down", "--volumes"]);
        assert_eq!(copies(&lab, &label).await, Vec::<String>::new());
        assert_eq!(lab.labelled(&label).await, (vec![], vec![]));
    });
}
