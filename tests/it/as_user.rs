//! The suites again as an ordinary user: one with an id that no account has, without subordinate ids, with a home
//! of his own. The bodies are the same; this runs this very test binary once more for each suite.
//!
//! `boto3::story` is the pass as whoever runs the tests, in CI root; `as_user::boto3` is the pass of all of
//! `boto3::` as the user. Whoever is an ordinary user has had that pass already. [`super::engine`],
//! [`super::escape`] and [`super::isolation`] do the like by themselves, test by test, and with subordinate ids too.

#![allow(clippy::disallowed_methods, reason = "hands PATH on to the second pass")]

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support;

/// An id that no account of a usual machine has.
pub(crate) const USER: u32 = 64_124;
/// Threads of a suite's second pass: most of its tests wait most of the time.
const THREADS: &str = "--test-threads=4";

macro_rules! suites {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            again(stringify!($name));
        })*
    };
}

suites! { boto3 cli cli_local control crash guard keep malformed network offline project scale sdk terminal verbs }

/// What only root can try, with the reason. Everything else runs in both passes.
const ROOTS_ONLY: &[(&str, &str)] = &[
    ("crash::kill::kill_rounds_with_containers", "starts a daemon of its own"),
    ("crash::disk::", "mounts a small file system"),
    ("crash::power::", "mounts images of file systems"),
    ("guard::another_user_is_served_by_the_access_key_alone", "becomes another user for some calls"),
    ("guard::another_users_connections_are_counted_apart", "becomes another user for some calls"),
    ("network::the_network_is_reached_through_the_proxy_alone", "makes a network with a neighbour in it"),
    ("sdk::a_root_file_system_without_ca_certificates", "changes its root directory"),
];

fn again(suite: &str) {
    let test = format!("as_user::{suite}");
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    if support::which("unshare").is_none() || support::which("setpriv").is_none() {
        return support::skip(&test, "no `unshare` or `setpriv` in PATH; install util-linux");
    }
    let Some(python) = support::python(&test) else { return };
    let room = tempfile::Builder::new().prefix("ac-").tempdir_in("/tmp").unwrap();
    let own = room.path().join("own");
    std::fs::set_permissions(room.path(), Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(&own).unwrap();
    std::fs::create_dir(own.join("home")).unwrap();
    for path in [own.clone(), own.join("home")] {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    let mut script = "set -e\n".to_owned();
    let programs = Path::new(support::BIN).parent().unwrap();
    let shown = [support::repository(), programs, Path::new(env!("CARGO_TARGET_TMPDIR")), &base_of(&python)];
    for (number, path) in shown.into_iter().enumerate() {
        script.push_str(&show(path, &room.path().join(format!("shown-{number}"))));
    }
    script.push_str("exec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command.args(["setpriv", &format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
    command.arg(std::env::current_exe().unwrap()).args([&format!("{suite}::"), THREADS]);
    for (name, _) in ROOTS_ONLY {
        command.args(["--skip", name]);
    }
    command.env("HOME", own.join("home")).env("TMPDIR", &own).env(support::VENV, support::venv_of(&python));
    command.env("PATH", reachable_path()).env_remove("XDG_DATA_HOME").env_remove("XDG_RUNTIME_DIR");
    let output = command.current_dir(&own).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{suite} as an ordinary user:\n{said}\n{errors}");
    assert!(said.contains("test result: ok.") && !said.contains(" 0 passed"), "nothing ran again:\n{said}");
    println!("{said}");
}

/// Lines of a script of root's that let everybody reach `path` in the script's own view of the file system. A
/// checkout or a Python may lie below a home that is closed to others: an open, empty directory takes the place
/// of the home, with nothing but the path in it.
pub(crate) fn show(path: &Path, aside: &Path) -> String {
    let closed = |directory: &&Path| {
        let mode = directory.metadata().map(|meta| meta.permissions().mode());
        !mode.is_ok_and(|mode| mode & 0o001 != 0)
    };
    let ancestors: Vec<&Path> = path.ancestors().skip(1).collect();
    let Some(closed) = ancestors.into_iter().rev().find(closed) else { return String::new() };
    let word = |path: &Path| shlex::try_quote(path.to_str().unwrap()).unwrap().into_owned();
    let (path, aside, closed) = (word(path), word(aside), word(closed));
    // What an earlier line has opened already is added to.
    format!(
        "if [ -d {path} ]; then mkdir -p {aside}; else : >{aside}; fi\n\
         mount --rbind {path} {aside}\n\
         [ -e {closed}/.opened-for-tests ] || {{ mount -t tmpfs -o mode=755 opened {closed}; : >{closed}/.opened-for-tests; }}\n\
         if [ -d {aside} ]; then mkdir -p {path}; else mkdir -p \"$(dirname {path})\"; : >>{path}; fi\n\
         mount --rbind {aside} {path}\n"
    )
}

/// The directory of the Python that a virtual environment was made with.
pub(crate) fn base_of(python: &Path) -> PathBuf {
    let program = "import sys; print(sys.base_prefix)";
    let output = support::succeed(support::clean(python).args(["-c", program]));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// PATH without what lies below closed directories.
pub(crate) fn reachable_path() -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let open = |directory: &PathBuf| {
        directory
            .ancestors()
            .all(|a| a.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o005 == 0o005))
    };
    std::env::join_paths(std::env::split_paths(&path).filter(open)).unwrap()
}
