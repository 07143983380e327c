//! Rounds of SIGKILL under load.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::load::{Book, Dice, Load, TAG};
use super::seed::known;
use super::world::{Containers, GRACE, Kind, Planes, World, runtime};
use super::{figures, full, tell};
use crate::support;

/// Longest time until the registry and the machine agree again after something was killed. [ours]
const SETTLE: Duration = Duration::from_secs(60);
/// The same where a daemon that was killed has to see to its containers first. [ours]
const SETTLE_CONTAINERS: Duration = Duration::from_secs(120);
/// Sessions that are known besides those under load.
const KNOWN: u32 = 1000;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Emulator,
    Process(Kind),
    /// By the daemon.
    Container,
    Daemon,
    /// At the same time, as by whoever is out of memory.
    DaemonAndEmulator,
}

impl Victim {
    fn choose(dice: &mut Dice) -> Self {
        match dice.below(10) {
            0..4 => Self::Emulator,
            4..6 => Self::Process(Kind::Launcher),
            6..8 => Self::Process(Kind::Helper),
            8 => Self::Process(Kind::Agent),
            _ => Self::Process(Kind::Command),
        }
    }

    fn choose_with_containers(dice: &mut Dice) -> Self {
        match dice.below(12) {
            0..4 => Self::Emulator,
            4..6 => Self::Process(Kind::Helper),
            6 => Self::Process(Kind::Agent),
            7 => Self::Process(Kind::Command),
            8..10 => Self::Container,
            10 => Self::Daemon,
            _ => Self::DaemonAndEmulator,
        }
    }

    fn ends_the_emulator(self) -> bool {
        matches!(self, Self::Emulator | Self::DaemonAndEmulator)
    }
}

fn settle(world: &World) -> Duration {
    if world.containers().is_some() { SETTLE_CONTAINERS } else { SETTLE }
}

fn state(session: &Value) -> &str {
    session["state"].as_str().unwrap_or_default()
}

fn count(processes: &[(i32, Kind)], kind: Kind) -> usize {
    processes.iter().filter(|p| p.1 == kind).count()
}

/// Waits until what is known agrees with what runs: each ready session has its two processes, its agent at most once
/// besides, and no other session has any.
async fn agreement(world: &World, planes: &Planes) -> BTreeMap<String, Value> {
    let end = Instant::now() + settle(world);
    let in_containers = world.containers().is_some();
    loop {
        let sessions = planes.sessions().await.unwrap();
        let ready = sessions.values().filter(|s| state(s) == "ready").count();
        let at_rest = sessions.values().all(|s| matches!(state(s), "ready" | "stopped"));
        let processes = world.processes();
        let run = (count(&processes, Kind::Launcher), count(&processes, Kind::Helper));
        let launchers = if in_containers { 0 } else { ready };
        let idle = count(&processes, Kind::Agent) <= ready && count(&processes, Kind::Command) == 0;
        if at_rest && run == (launchers, ready) && idle {
            return sessions;
        }
        assert!(Instant::now() < end, "{ready} sessions are ready, and there run {processes:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The time until no session is anything but stopped.
pub(super) async fn all_stopped(planes: &Planes) -> BTreeMap<String, Value> {
    stopped_within(planes, SETTLE).await
}

async fn stopped_within(planes: &Planes, limit: Duration) -> BTreeMap<String, Value> {
    let end = Instant::now() + limit;
    loop {
        let sessions = planes.sessions().await.unwrap();
        if sessions.values().all(|s| state(s) == "stopped") {
            return sessions;
        }
        assert!(Instant::now() < end, "{sessions:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until nothing is there that belongs to no session.
pub(super) async fn nothing_left(world: &World, sessions: &BTreeMap<String, Value>) {
    let end = Instant::now() + settle(world);
    loop {
        let left = world.leftovers(sessions);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "left behind: {left:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn check_books(world: &World, books: &[Book], sessions: &BTreeMap<String, Value>) -> usize {
    let mut acknowledged = 0;
    for book in books {
        acknowledged += book.check(world, false).unwrap();
        if book.stopped {
            let session = &sessions[&book.session];
            assert_eq!(state(session), "stopped", "an acknowledged stop was forgotten: {session}");
            // One that comes while a killed session is being ended is answered with that end, and one that comes when
            // a start has failed, for want of the daemon that was killed, finds nothing to end.
            let why = session["lastEnd"].as_str();
            assert!(matches!(why, Some("requested" | "exited" | "startFailed")), "{session}");
        }
    }
    acknowledged
}

async fn check_tag(planes: &Planes, load: &Load) {
    let (answered, attempted) = load.tag();
    let value = planes.tags().await.unwrap().get(TAG).map_or(0, |v| v.parse().unwrap());
    assert!((answered..=attempted).contains(&value), "{value} is not within {answered} and {attempted}");
}

#[test]
fn kill_rounds_lose_nothing_and_leave_nothing() {
    let (rounds, live) = if full() { (300, 6) } else { (14, 3) };
    let mut world = World::new();
    let planes = world.planes();
    // Many sessions are known besides those that are used.
    runtime().block_on(async {
        let (status, body) = planes.command(&"first-".repeat(7), "true").await.unwrap();
        assert!(status.is_success(), "{body:?}");
    });
    world.end();
    known(world.home(), KNOWN);
    world.start().unwrap();
    kill_rounds(
        &format!("kill rounds with {KNOWN} known sessions"),
        world,
        rounds,
        live,
        Victim::choose,
        &[],
    );
}

#[test]
fn kill_rounds_with_containers_lose_nothing_and_leave_nothing() {
    let (rounds, live) = if full() { (100, 5) } else { (6, 2) };
    let test = "crash::kill::kill_rounds_with_containers_lose_nothing_and_leave_nothing";
    let Some(containers) = Containers::start(test) else { return };
    let world = World::of_containers(containers);
    // Every run has each of these; the others are as chance will have it.
    let first = [Victim::Daemon, Victim::Container, Victim::DaemonAndEmulator];
    kill_rounds("kill rounds with containers", world, rounds, live, Victim::choose_with_containers, &first);
}

/// Kills what `choose` says while sessions are used, and looks each time whether what was acknowledged is there and
/// nothing else is. The first victim is the emulator, so that every run has its recovery; then come those of `next`.
fn kill_rounds(
    name: &str,
    mut world: World,
    rounds: usize,
    live: usize,
    choose: fn(&mut Dice) -> Victim,
    next: &[Victim],
) {
    let seed = Dice::seed();
    let mut dice = Dice::new(seed);
    let runtime = runtime();
    let planes = world.planes();
    let load = runtime.block_on(async { Load::begin(&planes, live, seed) });
    let (mut answers, mut recoveries) = (Vec::new(), Vec::new());
    let mut killed: BTreeMap<String, usize> = BTreeMap::new();
    let mut acknowledged = 0;
    for round in 0..rounds {
        // A container takes longer to make than a session with namespaces.
        let used = if world.containers().is_some() { 2500 } else { 400 };
        std::thread::sleep(Duration::from_millis(100 + dice.below(used)));
        let mut victim = match round {
            0 => Victim::Emulator,
            _ => next.get(round - 1).copied().unwrap_or_else(|| choose(&mut dice)),
        };
        load.disturb();
        match victim {
            Victim::Process(kind) => {
                let all = world.processes();
                let of_kind: Vec<_> = all.iter().filter(|p| p.1 == kind).collect();
                match of_kind.get(dice.below(of_kind.len().max(1) as u64) as usize) {
                    Some((pid, _)) => {
                        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
                    }
                    None => victim = Victim::Emulator,
                }
            }
            Victim::Container => {
                let end = Instant::now() + SETTLE;
                while world.kill_container(dice.below(64)).is_none() {
                    assert!(Instant::now() < end, "no session has a container");
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            Victim::Daemon => world.kill_daemon(Duration::from_millis(dice.below(1000))),
            _ => {}
        }
        *killed.entry(format!("{victim:?}")).or_default() += 1;
        if victim.ends_the_emulator() {
            world.crash();
            runtime.block_on(load.pause());
            if victim == Victim::DaemonAndEmulator {
                world.kill_daemon(Duration::from_millis(dice.below(1000)));
            }
            if dice.below(3) == 0 {
                // Dead again while it starts or recovers.
                world.stumble(Duration::from_millis(dice.below(150)));
                *killed.entry("starting emulator".to_owned()).or_default() += 1;
            }
            answers.push(world.start().unwrap());
            let begin = Instant::now();
            runtime.block_on(async {
                stopped_within(&planes, settle(&world)).await;
                recoveries.push(*answers.last().unwrap() + begin.elapsed());
            });
        } else {
            std::thread::sleep(Duration::from_millis(dice.below(100)));
            runtime.block_on(load.pause());
        }
        runtime.block_on(async {
            if victim == Victim::Process(Kind::Agent) {
                // A compute without its agent refuses who comes beside a command; who comes alone gets a new one.
                for (session, _) in
                    agreement(&world, &planes).await.iter().filter(|(_, s)| state(s) == "ready")
                {
                    let (status, body) = planes.invoke(session, serde_json::json!({})).await.unwrap();
                    assert!(status.is_success(), "{session}: {status} {body:?}");
                }
            }
            let sessions = agreement(&world, &planes).await;
            acknowledged = check_books(&world, &load.books(), &sessions);
            check_tag(&planes, &load).await;
            if victim.ends_the_emulator() {
                nothing_left(&world, &sessions).await;
            }
        });
        assert_eq!(load.surprises(), Vec::<String>::new(), "calls failed although nothing was wrong");
        load.resume();
    }
    assert!(acknowledged > 0 && !recoveries.is_empty());
    let calls = load.calls();
    let books = runtime.block_on(async {
        load.pause().await;
        load.resume();
        load.end().await
    });
    // Every session works, and then an ordinary end leaves nothing.
    runtime.block_on(async {
        for book in &books {
            let (status, body) = planes.command(&book.session, "test -d /mnt/workspace").await.unwrap();
            assert!(status.is_success(), "{body:?}");
        }
    });
    world.end();
    for book in &books {
        book.check(&world, false).unwrap();
    }
    assert_eq!(world.processes(), vec![]);
    assert!(!world.home().join("emulator.sock").exists() && !world.home().join("emulator.json").exists());
    if let Some(containers) = world.containers() {
        assert_eq!(containers.daemon.shims_of_something(), Vec::<i32>::new());
        support::succeed(world.command().args(["local", "down", "--volumes"]));
        assert_eq!(world.kept(), vec![]);
    }
    tell(&format!(
        "{name}: {rounds} rounds (seed {seed}), killed {killed:?}; {} calls, {} failed while something was killed; \
         {acknowledged} acknowledged writes, 0 lost, 0 left behind; `up` answers after: {}; all sessions stopped after: {}",
        calls.0,
        calls.1,
        figures(&answers),
        figures(&recoveries),
    ));
}

#[test]
fn a_call_waits_for_what_ends_slowly_after_a_crash() {
    let mut world = World::new();
    let planes = world.planes();
    let (slow, other) = ("slow-".repeat(8), "other-".repeat(7));
    let runtime = runtime();
    let write = |number: u64| serde_json::json!({ "number": number, "sync": false });
    runtime.block_on(async {
        for session in [&slow, &other] {
            assert!(planes.invoke(session, write(1)).await.unwrap().0.is_success());
        }
        let stubborn = "(trap '' TERM; while :; do sleep 0.1; done) > /dev/null 2>&1 & sleep 0.2";
        assert!(planes.command(&slow, stubborn).await.unwrap().0.is_success());
    });
    world.crash();
    world.start().unwrap();
    runtime.block_on(async {
        let begin = Instant::now();
        let timed = async |session: &str| {
            let answer = planes.invoke(session, write(2)).await;
            (answer, begin.elapsed())
        };
        let ((first, waited), second) = tokio::join!(timed(&slow), timed(&other));
        assert!(first.unwrap().0.is_success() && second.0.unwrap().0.is_success());
        // A machine that needs longer than the grace for a start alone tells nothing.
        let alone = second.1 < waited || second.1 > GRACE;
        assert!(alone, "a session waited for another: {:?}, {waited:?}", second.1);
        let sessions = agreement(&world, &planes).await;
        assert_eq!(state(&sessions[&slow]), "ready");
        assert_eq!(count(&world.processes(), Kind::Agent), 2);
        tell(&format!(
            "a call to a session that ignored SIGTERM waited {waited:.1?} after the crash, others {:.1?}",
            second.1
        ));
    });
    world.end();
    assert_eq!(world.ledger(&slow, "agent", false), Ok(vec![1, 2]));
}
