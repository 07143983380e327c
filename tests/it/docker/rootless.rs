//! The same tests on daemons of an ordinary user: rootless Docker and rootless Podman, each with the emulator as that user.
//!
//! The user has no account; tables of ids that give him one and a range of subordinate ids are bound over the machine's in
//! a mount namespace. Daemon, tests and all that they start are in a process namespace of their own, whose first process
//! is the shell that runs the tests: nothing outlives it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use super::lab::variable;
use super::podman::named;
use crate::as_user::{USER, base_of, reachable_path, show};
use crate::support;

/// The first of his subordinate ids, and how many they are. [as `useradd` gives]
const RANGE: &str = "700000:65536";
/// Beginnings of names of the tests: what a session promises, how it lives, and the story of the Python suite.
const ON_DOCKER: &[&str] = &[
    "docker::engine::",
    "docker::lifecycle::an_emulator_that_is_killed_leaves_no_container_and_loses_no_file",
    "docker::lifecycle::an_image_is_deployed_called_stopped_and_resumed",
    "docker::lifecycle::down_with_volumes_removes_all_of_ours_and_nothing_else",
    "docker::suite::official_package",
    "docker::suite::story",
];
/// Fewer on Podman, which takes seconds for each container: those that depend on who the daemon is.
const ON_PODMAN: &[&str] = &[
    "docker::engine::a_container_has_no_network_and_the_limits_of_a_session",
    "docker::engine::a_container_that_is_killed_is_gone_and_its_volume_is_not",
    "docker::engine::calls_that_act_on_the_machine_are_refused",
    "docker::engine::other_sessions_are_out_of_reach",
    "docker::engine::storage_persists_and_nothing_else",
    "docker::engine::the_agent_is_started_as_its_image_says_and_commands_run_as_root",
    "docker::engine::what_a_dead_emulator_left_is_ended_by_its_record_or_swept",
    "docker::lifecycle::an_image_is_deployed_called_stopped_and_resumed",
];

/// Docker as `dockerd-rootless.sh` starts it, but without a network of its own: sessions have none.
const DOCKER: &str = r#"
rootlesskit --state-dir="$ROOM/run/rootlesskit" --net=host --copy-up=/etc --copy-up=/run --propagation=rslave \
    sh -c 'rm -f /run/docker /run/containerd /run/xtables.lock; exec "$@"' sh \
    dockerd --rootless --data-root "$ROOM/data" --exec-root "$ROOM/run/exec" --pidfile "$ROOM/run/pid" \
    -H "$DOCKER_HOST" --bridge none --iptables=false --ip-forward=false"#;

/// Podman's service. Storage is at the usual place below the user's home.
const PODMAN: &str = r#"
mkdir -p "$HOME/.config/containers"
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$HOME/.config/containers/policy.json"
echo 'unqualified-search-registries = []' >"$ROOM/etc-registries"
cat >"$ROOM/etc-containers" <<END
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
conmon_path = ["$AGENTCORE_LAB/podman/conmon"]
helper_binaries_dir = ["$AGENTCORE_LAB/tools/usr/lib/podman", "$AGENTCORE_LAB/tools/usr/libexec/podman"]
runtime = "runc"
[engine.runtimes]
runc = ["$AGENTCORE_LAB/podman/runc"]
END
CONTAINERS_CONF="$ROOM/etc-containers" CONTAINERS_REGISTRIES_CONF="$ROOM/etc-registries" \
    podman system service --time 0 "$DOCKER_HOST""#;

#[test]
fn rootless_docker_serves_sessions_as_docker_does() {
    serves(
        "rootless_docker_serves_sessions_as_docker_does",
        DOCKER,
        ON_DOCKER,
        "rootless/usr/bin/rootlesskit",
    );
}

#[test]
fn rootless_podman_serves_sessions_as_docker_does() {
    serves("rootless_podman_serves_sessions_as_docker_does", PODMAN, ON_PODMAN, "podman/conmon");
}

/// Runs tests once more as the user, with the daemon that a script starts; `part` of the lab is needed for it.
fn serves(test: &str, daemon: &str, tests: &[&str], part: &str) {
    let test = &format!("docker::rootless::{test}");
    let Some(lab) = variable("AGENTCORE_LAB") else {
        return support::skip(test, "no `AGENTCORE_LAB`; bring it up with `tests/lab/lab up`");
    };
    let lab = Path::new(&lab);
    if !nix::unistd::geteuid().is_root() {
        return support::skip(test, "only root becomes another user");
    }
    if !lab.join(part).is_file() {
        return support::skip(
            test,
            &format!("no `{part}` in the lab; bring it up again with `tests/lab/lab up`"),
        );
    }
    let needed = ["/usr/bin/newuidmap", "/usr/bin/newgidmap", "/etc/subuid", "/etc/subgid"];
    if let Some(missing) = needed.iter().find(|path| !Path::new(path).exists()) {
        return support::skip(test, &format!("no `{missing}`; install uidmap"));
    }
    let Some(python) = support::python(test) else { return };
    let room = tempfile::Builder::new().prefix("ac-").tempdir_in("/tmp").unwrap();
    let own = room.path().join("own");
    fs::set_permissions(room.path(), Permissions::from_mode(0o755)).unwrap();
    for directory in ["", "home", "run", "tmp"].map(|name| own.join(name)) {
        fs::create_dir(&directory).unwrap();
        chown(&directory, Some(USER), Some(USER)).unwrap();
    }
    fs::set_permissions(own.join("run"), Permissions::from_mode(0o700)).unwrap();
    let account = format!("agentcore-test:x:{USER}:{USER}::{}:/bin/sh\n", own.join("home").display());
    let accounts = fs::read_to_string("/etc/passwd").unwrap() + &account;
    for (table, content) in [("passwd", accounts), ("ids", format!("agentcore-test:{RANGE}\n"))] {
        fs::write(room.path().join(table), content).unwrap();
        fs::set_permissions(room.path().join(table), Permissions::from_mode(0o644)).unwrap();
    }
    let mut script = "set -e\ncd \"$1\"; shift\n".to_owned();
    let programs = Path::new(support::BIN).parent().unwrap();
    let shown =
        [support::repository(), programs, Path::new(env!("CARGO_TARGET_TMPDIR")), &base_of(&python), lab];
    for (number, path) in shown.into_iter().enumerate() {
        script.push_str(&show(path, &room.path().join(format!("shown-{number}"))));
    }
    script.push_str(
        "mount --bind passwd /etc/passwd; mount --bind ids /etc/subuid; mount --bind ids /etc/subgid\nexec \"$@\"",
    );
    let service = format!(
        "cd \"$ROOM/tmp\"\n({daemon}) >\"$ROOM/daemon.log\" 2>&1 &\n{WAIT}\nunset LD_LIBRARY_PATH\n\"$@\" || exit $?\n"
    );
    let library = lab.join("tools/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    // Docker 26 does not answer behind a RootlessKit that has no network of its own, and this one is to have none.
    let engine = lab.join("engine-20/usr");
    if !engine.join("bin/docker").is_file() {
        return support::skip(test, "no engine 20 in the lab; bring it up with `tests/lab/lab up`");
    }
    let path =
        [lab.join("rootless/usr/bin"), engine.join("sbin"), engine.join("bin"), lab.join("tools/usr/sbin")];
    let path = path.map(|part| part.display().to_string()).join(":");
    let path = format!("{path}:{}", lab.join("tools/usr/bin").display());
    let path = format!("{path}:{}", reachable_path().to_string_lossy());
    let count = named(tests);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["sh", "-c", &script, "sh"]).arg(room.path());
    command.args(["setpriv", &format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
    command.args(["sh", "-c", &service, "sh"]);
    command.arg(std::env::current_exe().unwrap()).arg("--test-threads=2").args(tests);
    command.env("ROOM", &own).env("HOME", own.join("home")).env("TMPDIR", own.join("tmp"));
    command.env("XDG_RUNTIME_DIR", own.join("run")).env_remove("XDG_DATA_HOME").env_remove("DOCKER_CONFIG");
    command.env("DOCKER_HOST", format!("unix://{}", own.join("run/s").display()));
    command.env("PATH", path).env("LD_LIBRARY_PATH", library).env(support::VENV, support::venv_of(&python));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let log = || fs::read_to_string(own.join("daemon.log")).unwrap_or_default();
    assert!(output.status.success(), "{test}:\n{said}\n{errors}\n--- the daemon wrote:\n{}", log());
    assert!(said.contains(&format!("test result: ok. {count} passed")), "{said}");
    println!("{said}");
}

/// Until the daemon answers, or a minute has passed.
const WAIT: &str = r#"tries=0
until docker version >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { echo 'the daemon does not answer' >&2; exit 1; }
    sleep 0.2
done"#;
