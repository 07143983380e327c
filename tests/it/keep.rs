//! What an emulator that runs for long keeps within bounds: its log, its descriptors, its code bundles.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::{self, Emulator, Project};

const SOON: Duration = Duration::from_secs(60);
/// More than the emulator's log may have.
const TOO_MUCH: usize = 5 * 1024 * 1024;

fn project() -> Project {
    let mount = json!([{ "session_storage": { "mount_path": "/mnt/workspace" } }]);
    let command = json!([agentcore::engine::TOOL_PATH, "demo-agent"]);
    Project::new("lab", "lab", json!({ "command": command, "filesystem_configurations": mount }))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Ends the emulator of a home, however the test ends.
struct Ended<'a>(&'a Path);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let _ = support::clean(support::BIN).env("AGENTCORE_HOME", self.0).args(["local", "down"]).output();
    }
}

#[test]
fn the_emulators_log_is_bounded_and_one_emulator_replaces_it() {
    let home = support::short_temp_dir();
    let _ended = Ended(home.path());
    let path = |name: &str| home.path().join(name);
    let local = |arguments: &[&str]| {
        let mut command = support::clean(support::BIN);
        command.env("AGENTCORE_HOME", home.path()).arg("local").args(arguments);
        support::succeed(&mut command)
    };
    let said = |name: &str| fs::read_to_string(path(name)).unwrap_or_default();
    fs::write(path("emulator.log"), vec![b'o'; TOO_MUCH]).unwrap();
    local(&["up"]);
    let full = u64::try_from(TOO_MUCH).unwrap();
    assert!(fs::metadata(path("emulator.log.1")).unwrap().len() >= full);
    support::eventually(SOON, "a line of the emulator", || {
        said("emulator.log").contains("serves").then_some(())
    });
    assert!(said("emulator.log").len() < TOO_MUCH / 10);

    // One that finds out that it is too many adds its line, to a log that is full, and replaces nothing.
    let mut log = File::options().append(true).open(path("emulator.log")).unwrap();
    log.write_all(&vec![b'n'; TOO_MUCH]).unwrap();
    let (inode, former) =
        (log.metadata().unwrap().ino(), fs::metadata(path("emulator.log.1")).unwrap().ino());
    let second = local(&["up", "--foreground", "--detached"]);
    assert!(String::from_utf8_lossy(&second.stderr).contains("an emulator runs already"), "{second:?}");
    assert_eq!(fs::metadata(path("emulator.log")).unwrap().ino(), inode);
    assert_eq!(fs::metadata(path("emulator.log.1")).unwrap().ino(), former);

    // The first one does with its next line, and its last words go to the new file too.
    local(&["down"]);
    assert!(said("emulator.log").contains("the emulator has ended"), "{}", said("emulator.log"));
    assert!(said("emulator.log").len() < TOO_MUCH / 10);
    assert!(said("emulator.log.1").ends_with('n'));

    // What it says of its failure is found, although the log was replaced between.
    fs::write(path("emulator.log"), vec![b'o'; TOO_MUCH]).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = support::clean(support::BIN);
    command.env("AGENTCORE_HOME", home.path()).args(["local", "up", "--port", &port]);
    let failed = command.output().unwrap();
    let errors = String::from_utf8_lossy(&failed.stderr);
    assert!(failed.status.code() == Some(1) && errors.contains("cannot be served"), "{errors}");
}

/// Both limits of a process's descriptors, as the kernel says them.
fn limits(text: &str) -> (String, String) {
    let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let mut words = line.split_whitespace().skip(3).map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

#[test]
fn the_emulator_has_all_descriptors_it_may_and_sessions_have_the_usual_number() {
    const USUAL: &str = "413";
    for isolation in [&[][..], &["--isolation", "process"]] {
        let home = support::short_temp_dir();
        let _ended = Ended(home.path());
        let project = project();
        let mut up = Command::new("sh");
        up.args(["-c", &format!("ulimit -Sn {USUAL} && exec \"$@\""), "sh", support::BIN, "local", "up"]);
        let mut clean = support::clean("env");
        clean.env("AGENTCORE_HOME", home.path()).arg(up.get_program()).args(up.get_args()).args(isolation);
        let up = support::succeed(clean.args(["--output", "json"]));
        let status: Value = serde_json::from_slice(&up.stdout).unwrap();
        let own = fs::read_to_string(format!("/proc/{}/limits", status["pid"])).unwrap();
        let (soft, hard) = limits(&own);
        assert_eq!(soft, hard);
        assert_ne!(soft, USUAL, "the hard limit of this machine is no test");

        let run = |arguments: &[&str]| {
            let mut command = support::clean(support::BIN);
            command.env("AGENTCORE_HOME", home.path()).current_dir(project.path()).arg("local");
            text(&support::succeed(command.args(arguments)))
        };
        run(&["invoke", "hello"]);
        assert_eq!(run(&["exec", "--", "sh", "-c", "ulimit -Sn; ulimit -Hn"]), format!("{USUAL}\n{hard}\n"));
        // The agent, and the helper that is its parent.
        let agent = "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | grep -q 'demo-agent $' && \
                     cat $p/limits /proc/$(awk '{print $4}' $p/stat)/limits && exit; done 2>/dev/null";
        let found = run(&["exec", "--", "sh", "-c", agent]);
        assert_eq!(found.matches("Max open files").count(), 2, "{found}");
        let (agent, helper) = found.split_at(found.rfind("Limit ").unwrap());
        assert_eq!((limits(agent).0.as_str(), limits(helper).0.as_str()), (USUAL, USUAL));
    }
}

#[test]
fn bundles_that_nothing_names_are_deleted_and_those_in_use_are_not() {
    let mut emulator = Emulator::start(&[]);
    let project = project();
    let bundles = |home: &Path| {
        let names = fs::read_dir(home.join("artifacts")).unwrap();
        let mut names: Vec<_> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let home = emulator.home().to_owned();
    let mut made = Vec::new();
    for edit in 0..4 {
        fs::write(project.path().join("edit.txt"), format!("{edit}")).unwrap();
        // The third one is a version of its own.
        if edit == 2 {
            emulator.run(project.path(), &["local", "deploy"]);
        }
        emulator.run(project.path(), &["local", "invoke", "--session", "one", "hello"]);
        emulator.run(project.path(), &["local", "stop", "--session", "one"]);
        made.extend(bundles(&home).into_iter().find(|bundle| !made.contains(bundle)));
    }
    let [first, second, third, fourth] = &made[..] else { panic!("{made:?}") };
    let age = |bundle: &String| {
        let directory = File::open(home.join("artifacts").join(bundle)).unwrap();
        directory.set_modified(SystemTime::now() - Duration::from_secs(2 * 3600)).unwrap();
    };
    made.iter().for_each(age);
    // What a sweep left that was killed.
    fs::create_dir_all(home.join("artifacts").join(format!(".swept-{second}/code"))).unwrap();
    emulator.crash();
    let mut emulator = Emulator::start_in(&home);
    let mut kept = vec![first.clone(), third.clone(), fourth.clone()];
    kept.sort();
    support::eventually(SOON, "the second edit is deleted, and nothing else", || {
        (bundles(&home) == kept).then_some(())
    });
    // The changed source still runs, and the edit that was deleted is packed anew.
    emulator.run(project.path(), &["local", "invoke", "--session", "one", "hello"]);
    fs::write(project.path().join("edit.txt"), "1").unwrap();
    emulator.run(project.path(), &["local", "stop", "--session", "one"]);
    emulator.run(project.path(), &["local", "invoke", "--session", "one", "hello"]);
    assert!(bundles(&home).contains(second));
    emulator.crash();
}
