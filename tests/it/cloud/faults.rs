//! The fault table: every call of a deployment fails once, in every way; the next run goes on and comes to the same.

use serde_json::{Value, json};

use super::proxy::Fault;
use super::world::World;
use crate::support;

const FAULTS: [Fault; 5] =
    [Fault::Throttled, Fault::Denied, Fault::Unanswered, Fault::LostAnswer, Fault::Killed];

/// How many of the ways each call fails in.
fn ways(call: usize) -> Vec<Fault> {
    let many = support::count(1, FAULTS.len());
    (0..many).map(|n| FAULTS[(call + n) % FAULTS.len()]).collect()
}

#[test]
fn a_deployment_that_fails_anywhere_is_gone_on_with() {
    let Some(world) = World::new("cloud::a_deployment_that_fails_anywhere_is_gone_on_with") else { return };
    let keys = || json!({ "endpoints": { "prod": {} } });
    world.faults.plan(None);
    let project = world.project("fault_none", keys());
    world.json(&project, &["deploy", "--yes"]);
    let calls = world.faults.count();
    world.json(&project, &["destroy", "--yes"]);
    assert!(calls > 15, "{calls} calls");
    for call in 0..calls {
        for fault in ways(call) {
            let name = format!("fault_{call}_{fault:?}");
            let project = world.project(&name, keys());
            let (first, hit) = world.struck(&project, "deploy", call, fault);
            let said =
                format!("{name}: {hit:?}\n{:?}\n{}", first.status, String::from_utf8_lossy(&first.stderr));
            println!("{said}");
            // What can pass by itself is not the user's to repeat.
            if matches!(fault, Fault::Throttled | Fault::Unanswered) {
                assert!(first.status.success(), "{said}");
            }
            let second = world.json(&project, &["deploy", "--yes"]);
            assert_eq!(second["agentRuntimeVersion"], "1", "{said}\n{second:#}");
            let third = world.json(&project, &["deploy", "--yes"]);
            let steps = third["plan"]["steps"].as_array().unwrap();
            assert!(steps.iter().all(|s: &Value| s["action"] == "keep"), "{said}\n{third:#}");
            world.json(&project, &["destroy", "--yes"]);
            let left = world.json(&project, &["destroy", "--dry-run"]);
            assert_eq!(left["steps"], json!([]), "{said}\n{left:#}");
        }
    }
}

#[test]
fn a_removal_that_fails_anywhere_is_gone_on_with() {
    let Some(world) = World::new("cloud::a_removal_that_fails_anywhere_is_gone_on_with") else { return };
    let mut call = 0;
    loop {
        let name = format!("gone_{call}");
        let project = world.project(&name, json!({}));
        world.faults.plan(None);
        world.json(&project, &["deploy", "--yes"]);
        let fault = FAULTS[call % FAULTS.len()];
        let (first, hit) = world.struck(&project, "destroy", call, fault);
        println!("{name}: {fault:?} {hit:?} {:?}\n{}", first.status, String::from_utf8_lossy(&first.stderr));
        world.json(&project, &["destroy", "--yes"]);
        let left = world.json(&project, &["destroy", "--dry-run"]);
        assert_eq!(left["steps"], json!([]), "{name}: {left:#}");
        if hit.is_none() {
            break;
        }
        call += 1;
    }
    assert!(call > 10, "{call} calls");
}
