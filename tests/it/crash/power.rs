//! The machine loses its power: what is on the disk at a random moment, and nothing else, is what the next
//! emulator finds.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection;

use super::kill::{all_stopped, nothing_left};
use super::load::{Book, Dice, Load, TAG};
use super::world::{World, runtime};
use super::{figures, full, room, tell};
use crate::support;

/// Longest time until stopped processes stand still.
const STILL: Duration = Duration::from_secs(60);
const IMAGE_MEGABYTES: u64 = 64;

/// Every process of a world, stopped; they go on when this is dropped.
struct Frozen(Vec<Pid>);

impl Frozen {
    fn new(world: &World) -> Self {
        let all = world.processes().into_iter().map(|p| p.0);
        let frozen = Self(std::iter::once(world.pid()).chain(all).map(Pid::from_raw).collect());
        for pid in &frozen.0 {
            let _ = kill(*pid, Signal::SIGSTOP);
        }
        let end = Instant::now() + STILL;
        while frozen.0.iter().any(|pid| runs(*pid)) {
            assert!(Instant::now() < end, "processes do not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
        frozen
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill(*pid, Signal::SIGCONT);
        }
    }
}

fn runs(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|l| l.starts_with("State:") && !l.contains("(stopped)") && !l.contains("(zombie)"))
}

/// The image as it is at one moment. The kernel may still be writing to it, so it is read until two readings
/// agree: then the first is what stood there when the second began.
fn copy(image: &Path, to: &Path) {
    let end = Instant::now() + STILL;
    let mut before = fs::read(image).unwrap();
    loop {
        let now = fs::read(image).unwrap();
        if now == before {
            return fs::write(to, now).unwrap();
        }
        assert!(Instant::now() < end, "the image does not come to rest");
        before = now;
    }
}

#[test]
fn power_cuts_keep_what_was_acknowledged() {
    let test = "crash::power::power_cuts_keep_what_was_acknowledged";
    let (cuts, live) = if full() { (100, 6) } else { (8, 3) };
    let seed = Dice::seed();
    let mut dice = Dice::new(seed);
    let room = room::room();
    let Some((image, mount)) = room::image(test, room.path(), IMAGE_MEGABYTES) else { return };
    let world = World::at(support::short_temp_dir(), mount.path().join("home"));
    let planes = world.planes();
    let after_mount = room.path().join("after");
    let mut after = World::down(support::short_temp_dir(), after_mount.join("home"));
    after.knows(&planes.arn);
    let after_planes = after.planes();

    let runtime = runtime();
    let load = runtime.block_on(async { Load::begin(&planes, live, seed) });
    let (mut recoveries, mut kept, mut gone) = (Vec::new(), 0, 0);
    for cut in 0..cuts {
        std::thread::sleep(Duration::from_millis(200 + dice.below(600)));
        // A name of its own: whoever copied our mounts meanwhile keeps the last one's device, which a mount of
        // the same file would use again, with what it remembers.
        let found = room.path().join(format!("found-{cut}"));
        let frozen = Frozen::new(&world);
        copy(&image, &found);
        let (books, (answered, attempted)): (Vec<Book>, _) = (load.books(), load.tag());
        drop(frozen);

        let mount = room::mount_image(&found, after_mount.clone()).unwrap();
        start_of_the_machine(&after.home().join("state.db"));
        let begin = Instant::now();
        after.start().unwrap();
        runtime.block_on(async {
            let sessions = all_stopped(&after_planes).await;
            recoveries.push(begin.elapsed());
            kept = 0;
            for book in &books {
                kept += book.check(&after, true).unwrap();
                gone += book.missing(&after);
                if book.stopped {
                    let session = &sessions[&book.session];
                    assert_eq!(
                        session["lastEnd"], "requested",
                        "an acknowledged stop was forgotten: {session}"
                    );
                }
            }
            let tag = after_planes.tags().await.unwrap().get(TAG).map_or(0, |v| v.parse().unwrap());
            assert!((answered..=attempted).contains(&tag), "{tag} is not within {answered} and {attempted}");
            nothing_left(&after, &sessions).await;
            // And it works.
            let (status, body) =
                after_planes.command(&books[0].session, "test -d /mnt/workspace").await.unwrap();
            assert!(status.is_success(), "{body:?}");
        });
        after.end();
        drop(mount);
        fs::remove_file(found).unwrap();
    }
    assert_eq!(load.surprises(), Vec::<String>::new());
    runtime.block_on(load.end());
    assert!(kept > 0, "nothing was ever durable");
    tell(&format!(
        "power cuts: {cuts} (seed {seed}); {kept} durable writes at the last, 0 lost; {gone} times a write was gone \
         that nobody had made durable; all sessions stopped after: {}",
        figures(&recoveries),
    ));
}

/// What a start of the machine does to the state: nothing, but that the processes it tells of are of an
/// earlier one. The file itself must be whole.
fn start_of_the_machine(state: &Path) {
    let connection = Connection::open(state).unwrap();
    let said: String = connection.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
    assert_eq!(said, "ok");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    connection
        .execute("UPDATE sessions SET compute = replace(compute, ?1, 'before')", [boot.trim()])
        .unwrap();
}
