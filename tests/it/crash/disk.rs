//! The disk is full: errors are clear, nothing that was acknowledged is lost, and all works again when there is room.

use std::fs;

use http::StatusCode;
use serde_json::json;

use super::kill::{all_stopped, nothing_left};
use super::load::TAG;
use super::room;
use super::world::{Answer, World, names, runtime};
use crate::support;

const MEGABYTES: u32 = 24;
/// More writes than the log of the state file takes without growing.
const MANY: u64 = 3000;

fn session(name: &str) -> String {
    format!("{name}-{:040}", 0)
}

/// The text of an answer that must be an error.
fn refused(answer: Answer) -> (StatusCode, String) {
    let (status, body) = answer.unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(!status.is_success(), "{text}");
    (status, text)
}

fn done(answer: Answer) -> String {
    let (status, body) = answer.unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(status.is_success(), "{status} {text}");
    text
}

fn says_full(text: &str) -> bool {
    text.contains("full") || text.contains("No space left")
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let room = room::room();
    let test = "crash::disk::a_full_disk_is_told_and_survived";
    let Some(mount) = room::small(test, room.path(), MEGABYTES) else { return };
    let mut world = World::at(support::short_temp_dir(), mount.path().join("home"));
    let planes = world.planes();
    let runtime = runtime();
    let (stopped, running, new) = (session("stopped"), session("running"), session("new"));
    let write = |number: u64| json!({ "number": number, "sync": true });
    let mut tag = 0;
    runtime.block_on(async {
        done(planes.invoke(&stopped, write(1)).await);
        done(planes.stop(&stopped).await);
        done(planes.invoke(&running, write(1)).await);
        // Storage: the session's own programs are told.
        let fill = "cat /dev/zero > /mnt/workspace/fill; cat /dev/zero >> /mnt/workspace/fill; true";
        let said = done(planes.command(&running, fill).await);
        assert!(said.contains("No space left"), "{said}");
        let (status, _) =
            refused(planes.invoke(&running, json!({ "number": 2, "sync": true, "file": "other" })).await);
        assert_eq!(status, StatusCode::FAILED_DEPENDENCY);

        // Registry.
        let mut said = None;
        for number in 1..MANY {
            match planes.tag(TAG, number).await.unwrap() {
                (status, _) if status.is_success() => tag = number,
                (status, body) => {
                    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
                    said = Some(String::from_utf8_lossy(&body).into_owned());
                    break;
                }
            }
        }
        let said = said.unwrap();
        assert!(says_full(&said), "{said}");
        let (_, said) = refused(planes.command(&new, "true").await);
        assert!(says_full(&said), "{said}");
        // Logs: the agent goes on although nobody keeps what it says.
        done(planes.invoke(&running, json!({ "log": 500 })).await);
        // A stop that cannot be recorded is not acknowledged.
        let (_, said) = refused(planes.stop(&running).await);
        assert!(says_full(&said) && !said.contains("started"), "{said}");
        assert_eq!(planes.sessions().await.unwrap().len(), 2);
    });

    // A crash while there is no room: the next start works, or says why not.
    world.crash();
    if let Err(said) = world.start() {
        assert!(says_full(&said), "{said}");
    }
    world.crash();
    let id = planes.arn.rsplit('/').next().unwrap();
    let storages = world.home().join(format!("storage/{id}/DEFAULT/{running}"));
    let [number] = &names(&storages)[..] else { panic!("not one storage: {:?}", names(&storages)) };
    fs::remove_file(storages.join(number).join("data/fill")).unwrap();
    world.start().unwrap();
    runtime.block_on(async {
        let sessions = all_stopped(&planes).await;
        nothing_left(&world, &sessions).await;
        let kept = planes.tags().await.unwrap();
        assert_eq!(kept.get(TAG).map_or(0, |v| v.parse().unwrap()), tag);
        for session in [&stopped, &running, &new] {
            done(planes.invoke(session, write(3)).await);
        }
        done(planes.tag(TAG, tag + 1).await);
        for session in [&stopped, &running, &new] {
            done(planes.stop(session).await);
        }
    });
    world.end();
    assert_eq!(world.ledger(&stopped, "agent", false), Ok(vec![1, 3]));
    assert_eq!(world.ledger(&running, "agent", false), Ok(vec![1, 3]));
    assert_eq!(world.ledger(&new, "agent", false), Ok(vec![3]));
}

#[test]
fn an_emulator_goes_on_when_there_is_room_again() {
    let room = room::room();
    let test = "crash::disk::an_emulator_goes_on_when_there_is_room_again";
    let Some(mount) = room::small(test, room.path(), MEGABYTES) else { return };
    let mut world = World::at(support::short_temp_dir(), mount.path().join("home"));
    let planes = world.planes();
    let (running, new) = (session("running"), session("new"));
    runtime().block_on(async {
        done(planes.invoke(&running, json!({ "number": 1, "sync": true })).await);
        let fill = "cat /dev/zero > /mnt/workspace/fill; cat /dev/zero >> /mnt/workspace/fill; true";
        done(planes.command(&running, fill).await);
        refused(planes.command(&new, "true").await);
        done(planes.command(&running, "rm /mnt/workspace/fill").await);
        done(planes.invoke(&running, json!({ "number": 2, "sync": true })).await);
        done(planes.command(&new, "true").await);
        done(planes.stop(&running).await);
        done(planes.stop(&new).await);
        let sessions = planes.sessions().await.unwrap();
        nothing_left(&world, &sessions).await;
    });
    world.end();
    assert_eq!(world.ledger(&running, "agent", false), Ok(vec![1, 2]));
}

#[test]
fn a_stop_that_failed_succeeds_when_there_is_room_again() {
    let room = room::room();
    let test = "crash::disk::a_stop_that_failed_succeeds_when_there_is_room_again";
    let Some(mount) = room::small(test, room.path(), MEGABYTES) else { return };
    let mut world = World::at(support::short_temp_dir(), mount.path().join("home"));
    let planes = world.planes();
    let session = session("owes");
    runtime().block_on(async {
        done(planes.invoke(&session, json!({ "number": 1, "sync": true })).await);
        let fill = mount.path().join("fill");
        let mut file = fs::File::create(&fill).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        drop(file);
        // The log of the state file takes some writes more without growing.
        let mut number = 0;
        while planes.tag(TAG, number).await.unwrap().0.is_success() {
            number += 1;
            assert!(number < MANY, "the disk is not full");
        }
        // Each stop is told the same as long as nothing has changed, and nothing runs any more.
        for _ in 0..2 {
            let (status, said) = refused(planes.stop(&session).await);
            assert!(says_full(&said), "{said}");
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{said}");
        }
        fs::remove_file(&fill).unwrap();
        done(planes.stop(&session).await);
        let (status, said) = refused(planes.stop(&session).await);
        assert_eq!(status, StatusCode::NOT_FOUND, "{said}");
        nothing_left(&world, &planes.sessions().await.unwrap()).await;
    });
    // It is as durable as any other.
    world.crash();
    world.start().unwrap();
    runtime().block_on(async {
        let sessions = planes.sessions().await.unwrap();
        assert_eq!(sessions[&session]["lastEnd"], "requested", "{sessions:?}");
        done(planes.invoke(&session, json!({ "number": 2, "sync": true })).await);
        done(planes.stop(&session).await);
    });
    world.end();
    assert_eq!(world.ledger(&session, "agent", false), Ok(vec![1, 2]));
}
