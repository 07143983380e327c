//! The starter toolkit 0.3.14, unmodified, as a client of the emulator: what it did against AWS it does here.

#![allow(clippy::disallowed_methods, reason = "puts the toolkit's programs before the PATH it runs under")]

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::world::{Done, Project, World};
use crate::support;

struct Toolkit<'w> {
    world: &'w World,
    bin: PathBuf,
    stand_ins: tempfile::TempDir,
}

impl<'w> Toolkit<'w> {
    fn new(world: &'w World, test: &str) -> Option<Self> {
        let bin = support::toolkit_python(test)?.parent().unwrap().to_owned();
        let stand_ins = tempfile::tempdir().unwrap();
        // It looks whether there is one and packs by Python itself.
        support::script(&stand_ins.path().join("zip"), "exit 1");
        Some(Self { world, bin, stand_ins })
    }

    #[track_caller]
    fn run(&self, project: &Project, args: &[&str]) -> Done {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{}:{path}", self.bin.display(), self.stand_ins.path().display());
        let mut command = support::clean(self.bin.join("agentcore"));
        self.world.point(&mut command);
        command
            .current_dir(project.path())
            .env("PATH", path)
            .env("HOME", self.stand_ins.path())
            .env("COLUMNS", "400")
            .env("AGENTCORE_SUPPRESS_RECOMMENDATION", "1")
            .args(args);
        let done = Done::of(&mut command);
        assert_eq!(done.code, 0, "{args:?}\n{}\n{}", done.stdout, done.stderr);
        done
    }
}

#[test]
fn the_toolkit_drives_the_emulator() {
    const TEST: &str = "cloud::toolkit::the_toolkit_drives_the_emulator";
    let Some(world) = World::new(TEST) else { return };
    let Some(toolkit) = Toolkit::new(&world, TEST) else { return };
    let project = Project::empty();
    fs::write(project.path().join("requirements.txt"), "").unwrap();
    toolkit.run(
        &project,
        &[
            "configure",
            "-e",
            "main.py",
            "-n",
            "writer",
            "-ni",
            "-dm",
            "-do",
            "-dt",
            "direct_code_deploy",
            "-rt",
            "PYTHON_3_12",
            "--region",
            "us-west-2",
            "--idle-timeout",
            "300",
        ],
    );
    // The agent keeps its notes where this tool can give it a place.
    let deploy = ["deploy", "--env", "WORKSPACE=/tmp"];
    toolkit.run(&project, &deploy);
    let runtimes = world.planes(&["list-agent-runtimes"]);
    let made = &runtimes["agentRuntimes"][0];
    assert_eq!(
        (&made["agentRuntimeName"], &made["status"]),
        (&json!("writer"), &json!("READY")),
        "{runtimes:#}"
    );
    let id = made["agentRuntimeId"].as_str().unwrap();
    let runtime = world.runtime(id);
    assert_eq!(runtime["environmentVariables"], json!({ "WORKSPACE": "/tmp" }), "{runtime:#}");
    assert_eq!(runtime["agentRuntimeArtifact"]["codeConfiguration"]["runtime"], "PYTHON_3_12", "{runtime:#}");

    let status = toolkit.run(&project, &["status"]);
    assert!(status.stdout.contains(id) && status.stdout.contains("Ready"), "{status:?}");
    let verbose = toolkit.run(&project, &["status", "--verbose"]);
    assert!(verbose.stdout.contains("\"READY\""), "{verbose:?}");

    let session = "ticket-0123456789-0123456789-0123456789";
    let milk = toolkit.run(&project, &["invoke", "-s", session, r#"{"prompt": "milk"}"#]);
    assert!(milk.stdout.contains("noted: milk"), "{milk:?}");
    // The same session: the same compute with its files. Another: neither.
    let bread = toolkit.run(&project, &["invoke", r#"{"prompt": "bread", "stream": true}"#]);
    assert!(bread.stdout.contains("note 1: milk") && bread.stdout.contains("note 2: bread"), "{bread:?}");
    // Ours goes on where the toolkit was.
    let ours = world.run(&project, &["invoke", "--session", session, "eggs"]);
    assert!(ours.code == 0 && ours.stdout.contains("bread") && ours.stdout.contains("eggs"), "{ours:?}");
    toolkit.run(&project, &["stop-session"]);
    let after = toolkit.run(&project, &["invoke", "-s", session, r#"{"prompt": "tea"}"#]);
    assert!(after.stdout.contains("noted: tea") && !after.stdout.contains("milk"), "{after:?}");

    // It makes a version with every deployment.
    toolkit.run(&project, &[&deploy[..], &["--auto-update-on-conflict"]].concat());
    assert_eq!(world.runtime(id)["agentRuntimeVersion"], "2");
    toolkit.run(&project, &["destroy", "--force"]);
    assert_eq!(world.planes(&["list-agent-runtimes"])["agentRuntimes"], json!([]));
}
