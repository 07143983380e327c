//! Many sessions, and sessions that say much. How long things take is measured by `benches/many`.

use std::fs;

use serde_json::{Value, json};

use crate::crash::room::room;
use crate::crash::seed::{known, seeded};
use crate::crash::world::{World, names, runtime};
use crate::pty::Terminal;
use crate::support::{self, Project};

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
    let all = listed.as_array().unwrap();
    assert_eq!(all.len(), usize::try_from(KNOWN).unwrap() + 1);
    lists_of_many(&world, all);
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

/// What of many sessions is shown, to whom.
fn lists_of_many(world: &World, all: &[Value]) {
    let run = |arguments: &[&str]| {
        let output = support::succeed(world.command().args(["local", "session"]).args(arguments));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&output.stdout), text(&output.stderr))
    };
    let rows = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    // A program that reads it has every one, in the same order.
    let (text, said) = run(&["ls"]);
    let ids: Vec<_> = rows(&text).iter().map(|row| row.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(ids, all.iter().map(|s| s["sessionId"].as_str().unwrap().to_owned()).collect::<Vec<_>>());
    assert_eq!(said, "");
    // So has one that asks for the first of them, and is told that there are more.
    let (some, said) = run(&["ls", "--limit", "3", "--output", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&some).unwrap(), json!(all[..3]));
    assert!(said.starts_with("9,998 more of 10,001 sessions"), "{said}");
    // Nothing runs: whatever was called, the emulator was started anew since.
    assert_eq!(run(&["ls", "--live"]), (String::new(), "no session runs\n".to_owned()));
    assert_eq!(run(&["ls", "--live", "--output", "json"]).0, "[]\n");
    let (shown, _) = run(&["show", &seeded(KNOWN), "--output", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["sessionId"], json!(seeded(KNOWN)));
    // Who looks at it sees as many as can be looked at, unless they want all.
    let project = Project::new("lab", "lab", json!({}));
    let look = |arguments: &[&str]| {
        let arguments = [&["local", "session", "ls"], arguments].concat();
        let (code, text) = Terminal::at(world.home(), project.path(), &arguments, &[]).end();
        assert_eq!(code, 0, "{text}");
        text
    };
    let text = look(&[]);
    assert_eq!(text.lines().filter(|line| line.contains(" stopped ")).count(), 100, "{text}");
    assert!(text.contains("9,901 more of 10,001 sessions: `--all` lists every one"), "{text}");
    let text = look(&["--all"]);
    assert_eq!(text.lines().filter(|line| line.contains(" stopped ")).count(), all.len());
    assert!(!text.contains("more of"));
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
