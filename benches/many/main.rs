//! Life with many sessions: what a call, a listing, a start and each session cost when there are many of them.
//!
//! `benches/run --only many` runs this alone, with the flags of `benches/run`: `--smoke`, `--strict`, `--json FILE`.
//! The agent, the client and the report are those of the other benchmark.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark is a program of its own: it prints, and it stops at the first thing that is not as it should be"
)]

#[path = "../runtime/agent.rs"]
mod agent;
#[path = "../runtime/load.rs"]
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod load;
#[path = "../runtime/report.rs"]
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod report;
#[path = "../../tests/it/crash/seed.rs"]
mod seed;
#[path = "../runtime/world.rs"]
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod world;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use load::{Client, quantile};
use report::{Limit, Report};
use world::{AGENTCORE, Emulator, Running, wait_for};

/// How much is done; `smoke` only shows that everything runs.
struct Scale {
    name: &'static str,
    live: usize,
    known: u32,
    calls: usize,
    rounds: usize,
    repeats: usize,
}

const FULL: Scale = Scale { name: "full", live: 300, known: 10_000, calls: 6_000, rounds: 5, repeats: 15 };
const SMOKE: Scale = Scale { name: "smoke", live: 8, known: 200, calls: 200, rounds: 1, repeats: 3 };
/// Longest time until a process has ended.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let ["agent", address] = args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        agent::serve(address.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let scale = if flag("--smoke") { SMOKE } else { FULL };
    let mut report = Report::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let emulator = Emulator::start();
    runtime.block_on(live(&scale, &emulator, &mut report));
    known(&scale, &emulator, &mut report);
    let json = report.json(scale.name);
    if let Some(at) = args.iter().position(|arg| arg == "--json") {
        fs::write(&args[at + 1], format!("{json:#}\n")).unwrap();
    }
    let misses = report.misses();
    println!("{misses} promises missed ({} run)", scale.name);
    if flag("--strict") && misses > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn session(number: usize) -> String {
    format!("many-session-{number:0>32}")
}

async fn call(client: &mut Client, emulator: &Emulator, session: &str) -> Duration {
    let begin = Instant::now();
    let (status, body) = client.call("POST", &emulator.path("invocations"), session, "{}").await;
    assert!(status.is_success(), "{body:?}");
    begin.elapsed()
}

/// Warm calls of one session alone, and of the same number of calls spread over many; memory of the emulator.
async fn live(scale: &Scale, emulator: &Emulator, report: &mut Report) {
    let mut client = Client::connect(emulator.address).await;
    let sessions: Vec<String> = (0..scale.live).map(session).collect();
    call(&mut client, emulator, &sessions[0]).await;
    let mut alone = Vec::new();
    for _ in 0..scale.rounds {
        alone.push(round(scale, &mut client, emulator, &sessions[..1]).await);
    }
    let pid = pid(&emulator.home());
    let before = memory(pid);
    let begin = Instant::now();
    for session in &sessions[1..] {
        call(&mut client, emulator, session).await;
    }
    let name = format!("{} live sessions", scale.live);
    let each = begin.elapsed() / u32::try_from(scale.live - 1).unwrap();
    report.millis(format!("{name}: start of one, average"), each, None);
    let mut among = Vec::new();
    for _ in 0..scale.rounds {
        among.push(round(scale, &mut client, emulator, &sessions).await);
    }
    let grown = memory(pid).saturating_sub(before) as f64 / 1024.0 / (scale.live - 1) as f64;
    let median = |rounds: &[Round], of: fn(&Round) -> Duration| {
        quantile(&rounds.iter().map(of).collect::<Vec<_>>(), 0.5)
    };
    let (p99_alone, p99_among) = (median(&alone, |r| r.p99), median(&among, |r| r.p99));
    report.micros("warm invoke, one live session: p50".to_owned(), median(&alone, |r| r.p50), None);
    report.micros(format!("warm invoke, {name}: p50"), median(&among, |r| r.p50), None);
    report.micros("warm invoke, one live session: p99".to_owned(), p99_alone, None);
    report.micros(format!("warm invoke, {name}: p99"), p99_among, None);
    let ratio = p99_among.as_secs_f64() / p99_alone.as_secs_f64();
    report.add(format!("warm invoke, {name} / one: p99"), ratio, "x", Some(Limit::AtMost(2.0)));
    report.add(format!("{name}: memory of the emulator, each"), grown, "MiB", Some(Limit::AtMost(1.0)));

    let begin = Instant::now();
    let mut stops = Vec::new();
    for session in sessions {
        let (address, path) = (emulator.address, emulator.path("stopruntimesession"));
        stops.push(tokio::spawn(async move {
            let (status, body) = Client::connect(address).await.call("POST", &path, &session, "{}").await;
            assert!(status.is_success(), "{body:?}");
        }));
    }
    for stop in stops {
        stop.await.unwrap();
    }
    report.millis(format!("{name}: stop of all at once"), begin.elapsed(), None);
}

/// What calls took.
struct Round {
    p50: Duration,
    p99: Duration,
}

/// Calls that go to each session in turn.
async fn round(scale: &Scale, client: &mut Client, emulator: &Emulator, sessions: &[String]) -> Round {
    let mut latencies = Vec::with_capacity(scale.calls);
    for session in sessions.iter().cycle().take(scale.calls) {
        latencies.push(call(client, emulator, session).await);
    }
    Round { p50: quantile(&latencies, 0.5), p99: quantile(&latencies, 0.99) }
}

/// Start and listing with many stopped sessions in the state.
fn known(scale: &Scale, emulator: &Emulator, report: &mut Report) {
    let home = emulator.home();
    end(pid(&home));
    seed::known(&home, scale.known);
    let name = format!("{} known sessions", scale.known);
    let mut command = Command::new(AGENTCORE);
    command.args(["local", "up", "--foreground"]).env("AGENTCORE_HOME", &home);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let _ = fs::remove_file(home.join("emulator.json"));
    let begin = Instant::now();
    let _running = Running::start(&mut command);
    let address: SocketAddr = loop {
        let endpoint = announced(&home).and_then(|v| v["endpoint"].as_str().map(str::to_owned));
        if let Some(endpoint) = endpoint {
            break endpoint.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        }
        assert!(begin.elapsed() < LIMIT, "the emulator did not start");
        std::thread::sleep(Duration::from_millis(1));
    };
    wait_for(address);
    report.millis(format!("{name}: start of the emulator"), begin.elapsed(), Some(Limit::AtMost(1000.0)));
    for output in ["text", "json"] {
        let mut times = Vec::new();
        for _ in 0..scale.repeats {
            let mut command = Command::new(AGENTCORE);
            command.args(["local", "session", "ls", "--output", output]).env("AGENTCORE_HOME", &home);
            let begin = Instant::now();
            let listed = command.output().unwrap();
            times.push(begin.elapsed());
            assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
            let last = seed::seeded(scale.known);
            assert!(String::from_utf8_lossy(&listed.stdout).contains(&last), "a session is missing");
        }
        let time = quantile(&times, 0.5);
        report.millis(format!("{name}: `local session ls`, {output}"), time, Some(Limit::AtMost(50.0)));
    }
    report.add(format!("{name}: memory of the emulator"), memory(pid(&home)) as f64 / 1024.0, "MiB", None);
}

fn announced(home: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(home.join("emulator.json")).ok()?).ok()
}

fn pid(home: &Path) -> Pid {
    let pid = announced(home).unwrap()["pid"].as_i64().unwrap();
    Pid::from_raw(pid.try_into().unwrap())
}

/// Resident memory in KiB.
fn memory(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Ends an emulator; its lock tells when it has.
fn end(pid: Pid) {
    kill(pid, Signal::SIGTERM).unwrap();
    let begin = Instant::now();
    let ended = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    };
    while !ended() {
        assert!(begin.elapsed() < LIMIT, "the emulator does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}
