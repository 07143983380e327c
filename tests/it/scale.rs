//! Many sessions, and sessions that say much. How long things take is measured by `benches/many`.

use std::fs;

use serde_json::{Value, json};

use crate::crash::room::room;
use crate::crash::seed::{known, seeded};
use crate::crash::world::{World, names, runtime};
use crate::support;

const KNOWN: u32 = 10_000;
/// What a session's logs may take: twice the size at which a file is put aside, and the piece that went over it.
const MOST_LOG_BYTES: u64 = 17 * 1024 * 1024;

#[test]
fn ten_thousand_known_sessions_are_opened_listed_and_used() {
    let room = room();
    let mut world = World::at(support::short_temp_dir(), room.path().join("home"));
    let planes = world.planes();
    let first = "first-".repeat(7);
    runtime().block_on(async {
        assert!(planes.invoke(&first, json!({ "number": 1, "sync": false })).await.unwrap().0.is_success());
    });
    world.end();
    known(world.home(), KNOWN);
    world.start().unwrap();
    let listed = support::succeed(world.command().args(["local", "session", "ls", "--output", "json"]));
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), usize::try_from(KNOWN).unwrap() + 1);
    runtime().block_on(async {
        let seeded = seeded(KNOWN / 2);
        assert!(planes.invoke(&first, json!({ "number": 2, "sync": false })).await.unwrap().0.is_success());
        assert!(planes.command(&seeded, "test -d /mnt/workspace").await.unwrap().0.is_success());
        let states = planes.sessions().await.unwrap();
        let ready: Vec<_> = states.values().filter(|s| s["state"] == "ready").collect();
        assert_eq!(ready.len(), 2, "{ready:?}");
    });
    world.end();
    assert_eq!(world.ledger(&first, "agent", false), Ok(vec![1, 2]));
}

#[test]
fn logs_of_a_talkative_session_stay_bounded() {
    let mut world = World::new();
    let planes = world.planes();
    let session = "talks-".repeat(7);
    runtime().block_on(async {
        // About 40 MB in all.
        for _ in 0..4 {
            let answer = planes.invoke(&session, json!({ "log": 10_000 })).await.unwrap();
            assert!(answer.0.is_success(), "{answer:?}");
        }
        assert!(planes.stop(&session).await.unwrap().0.is_success());
    });
    world.end();
    let id = planes.arn.rsplit('/').next().unwrap();
    let logs = world.home().join("logs").join(id).join("DEFAULT");
    let files = names(&logs);
    assert_eq!(files.len(), 2, "{files:?}");
    let size: u64 = files.iter().map(|f| fs::metadata(logs.join(f)).unwrap().len()).sum();
    assert!((MOST_LOG_BYTES / 4..MOST_LOG_BYTES).contains(&size), "{size}");
    // The newest lines are the ones that are kept.
    let text = fs::read_to_string(logs.join(format!("{session}.log"))).unwrap();
    assert!(text.lines().last().unwrap().contains("session stopped"), "{:?}", text.lines().last());
}
