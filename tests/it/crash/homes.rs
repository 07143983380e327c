//! Homes that are somebody else's: another emulator's, a newer program's, another program's, or open to others.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use rusqlite::Connection;

use super::world::{World, runtime};
use crate::support;

fn up(home: &Path, flags: &[&str]) -> Output {
    let mut command: Command = support::clean(support::BIN);
    command.env("AGENTCORE_HOME", home).args(["local", "up"]).args(flags).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_second_emulator_on_a_home_says_so_and_harms_nothing() {
    let world = World::new();
    let second = up(world.home(), &["--foreground"]);
    assert!(second.status.success(), "{}", said(&second));
    assert!(said(&second).contains("an emulator runs already in this state directory"), "{}", said(&second));
    let third = up(world.home(), &[]);
    assert!(third.status.success() && said(&third).contains("runs already"), "{}", said(&third));
    runtime().block_on(async {
        let planes = world.planes();
        let (status, body) = planes.command(&"still-".repeat(7), "true").await.unwrap();
        assert!(status.is_success(), "{body:?}");
        assert_eq!(planes.sessions().await.unwrap().len(), 1);
    });
}

#[test]
fn a_state_file_that_is_not_ours_is_refused_with_the_way_out() {
    let home = support::short_temp_dir();
    let state = home.path().join("state.db");
    Connection::open(&state).unwrap().pragma_update(None, "user_version", 99).unwrap();
    for flags in [&["--foreground"][..], &[]] {
        let output = up(home.path(), flags);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(
            said(&output).contains("use a newer agentcore, or another AGENTCORE_HOME"),
            "{}",
            said(&output)
        );
    }
    fs::write(&state, "this is not a database, however long it may be. ".repeat(200)).unwrap();
    let output = up(home.path(), &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("move it away"), "{}", said(&output));
    // The way out is one.
    fs::remove_file(&state).unwrap();
    let output = up(home.path(), &[]);
    assert!(output.status.success(), "{}", said(&output));
    let down =
        support::clean(support::BIN).env("AGENTCORE_HOME", home.path()).args(["local", "down"]).output();
    assert!(down.unwrap().status.success());
}

#[test]
fn a_home_that_others_may_read_is_closed() {
    let scratch = support::short_temp_dir();
    let home = scratch.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    let mut world = World::at(scratch, home);
    assert_eq!(fs::metadata(world.home()).unwrap().permissions().mode() & 0o777, 0o700);
    world.end();
}
