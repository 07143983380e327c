//! Defects of the starter toolkit that are shown absent where they need a cloud to be seen. The table of all of them
//! is in `docs/ARCHITECTURE.md`.

use std::fs;

use serde_json::{Value, json};

use super::proxy::Fault;
use super::world::World;

/// An ELF file of a machine that this one is not.
pub(super) fn foreign_module() -> Vec<u8> {
    let machine: u16 = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes
}

/// The toolkit takes an answer for markup of its own: it loses tags, fails at others, is wrapped at 80 columns, and
/// stands among headings.
#[test]
fn defect_4_an_answer_arrives_as_it_is_and_alone() {
    let Some(world) = World::new("cloud::defects::defect_4") else { return };
    let project = world.project("echo", json!({ "environment_variables": { "WORKSPACE": "/tmp" } }));
    world.json(&project, &["deploy", "--yes"]);
    let said = format!("[red]a[/red] [/INST] [bold \\[x] :smile: {}", "long ".repeat(60));
    let said = said.trim();
    let answer = world.run(&project, &["invoke", "--session", "s", said]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(answer.stdout.trim_end().lines().count(), 1, "{answer:?}");
    let value: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(value, json!({ "result": format!("noted: {said}"), "notes": [said] }));
    let payload = json!({ "prompt": "more", "stream": true }).to_string();
    let streamed = world.run(&project, &["invoke", "--session", "s", &payload]);
    assert_eq!(streamed.code, 0, "{streamed:?}");
    let first: Value = serde_json::from_str(streamed.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(first, format!("note 1: {said}"), "{streamed:?}");
    world.json(&project, &["destroy", "--yes"]);
}

/// The toolkit writes a session id that is refused into the project file, and fails with it from then on.
#[test]
fn defect_5_no_bad_session_id_is_kept_or_taken_over() {
    let Some(world) = World::new("cloud::defects::defect_5") else { return };
    // As the toolkit leaves it behind.
    let keys = json!({
        "bedrock_agentcore": { "agent_session_id": "short" },
        "environment_variables": { "WORKSPACE": "/tmp" },
    });
    let project = world.project("named", keys);
    world.json(&project, &["deploy", "--yes"]);
    let before = project.text();
    // Whatever a session is called, the service gets an id that it takes, and the file stays as it is.
    let long = "long ".repeat(60);
    for name in ["short", "a b/\u{fc}", &long] {
        let done = world.run(&project, &["invoke", "--session", name, "hello"]);
        assert_eq!(done.code, 0, "{name}: {done:?}");
    }
    assert_eq!(project.text(), before);
    for args in [&["invoke", "again"][..], &["stop"]] {
        let done = world.run(&project, args);
        assert_eq!(done.code, 0, "{args:?}: {done:?}");
    }
    world.json(&project, &["destroy", "--yes"]);
}

/// The toolkit ends with 0 where a deletion failed, where a version never became READY, and where the agent died.
#[test]
fn defect_6_what_failed_ends_with_a_code_that_says_so() {
    let Some(world) = World::new("cloud::defects::defect_6") else { return };
    let project = world.project("broken", json!({}));
    // Code that cannot run here becomes a version that fails, with the file and the ways out.
    fs::write(project.path().join("native.so"), foreign_module()).unwrap();
    let failed = world.run(&project, &["deploy", "--yes"]);
    assert_eq!(failed.code, 4, "{failed:?}");
    for part in ["CREATE_FAILED", "`native.so` is for", "agentcore local deploy", "use a container"] {
        assert!(failed.stderr.contains(part), "{part}: {failed:?}");
    }
    let text = project.text();
    let id = text.lines().find_map(|l| l.trim().strip_prefix("agent_id: ")).unwrap();
    let runtime = world.runtime(id);
    assert_eq!(runtime["status"], "CREATE_FAILED", "{runtime:#}");
    assert!(runtime["failureReason"].as_str().unwrap().contains("native.so"), "{runtime:#}");
    assert!(runtime.as_object().unwrap().keys().all(|name| !name.contains(':')), "{runtime:#}");
    let endpoint =
        world.planes(&["get-agent-runtime-endpoint", "--agent-runtime-id", id, "--endpoint-name", "DEFAULT"]);
    assert_eq!(endpoint["status"], "CREATE_FAILED", "{endpoint:#}");
    // The same again is not "nothing changed"; mended, it goes on from there.
    assert_eq!(world.run(&project, &["deploy", "--yes"]).code, 4);
    fs::remove_file(project.path().join("native.so")).unwrap();
    // This time the agent dies as it starts.
    fs::write(project.path().join("main.py"), "raise SystemExit('out of luck')\n").unwrap();
    let third = world.json(&project, &["deploy", "--yes"]);
    assert_eq!(third["agentRuntimeVersion"], "3", "{third:#}");
    let dead = world.run(&project, &["invoke", "--session", "s", "hello"]);
    assert_eq!(dead.code, 4, "{dead:?}");

    world.faults.only("Action=DeleteRole");
    for _ in 0..2 {
        world.faults.plan(Some((0, Fault::Denied)));
        let destroyed = world.run(&project, &["destroy", "--yes"]);
        assert_eq!(destroyed.code, 4, "{destroyed:?}");
        assert!(destroyed.stdout.is_empty(), "{destroyed:?}");
    }
    world.faults.plan(None);
    world.json(&project, &["destroy", "--yes"]);
    let left = world.json(&project, &["destroy", "--dry-run"]);
    assert_eq!(left["steps"], json!([]), "{left:#}");
}
