//! What the emulator costs, against yardsticks measured in the same run on the same machine.
//!
//! `benches/run` runs this. `--smoke` makes everything small and judges nothing but that it works;
//! `--strict` fails when a promise is missed; `--json FILE` writes the numbers; `--only PART,PART` measures
//! some of `program`, `status`, `invoke`, `command` and `session`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a benchmark is a program of its own: it prints, and it stops at the first thing that is not as it should be"
)]

mod agent;
mod bare;
mod load;
mod report;
mod world;

use std::io::Read as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use nix::sys::resource::{UsageWho, getrusage};

use load::{Client, Round, Target, quantile};
use report::{Limit, Report};
use world::{AGENTCORE, Emulator, free_port, loopback, start_agent, start_bare, start_haproxy, wait_for};

/// How much is done; `smoke` only shows that everything runs.
struct Scale {
    name: &'static str,
    rounds: usize,
    seconds: usize,
    repeats: usize,
    stored_megabytes: usize,
    dirty_megabytes: usize,
}

// Many short rounds: what else the machine does comes and goes within seconds, and must meet all targets alike.
const FULL: Scale =
    Scale { name: "full", rounds: 21, seconds: 1, repeats: 25, stored_megabytes: 1024, dirty_megabytes: 256 };
const SMOKE: Scale =
    Scale { name: "smoke", rounds: 1, seconds: 1, repeats: 3, stored_megabytes: 32, dirty_megabytes: 8 };

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["agent", address] => {
            agent::serve(address.parse().unwrap());
            return ExitCode::SUCCESS;
        }
        ["bare", front, agent] => {
            bare::serve(front.parse().unwrap(), agent.parse().unwrap());
            return ExitCode::SUCCESS;
        }
        ["measure", program, ref rest @ ..] => return measure(program, rest),
        _ => {}
    }
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let value = |name: &str| args.iter().position(|arg| arg == name).map(|at| args[at + 1].as_str());
    let scale = if flag("--smoke") { SMOKE } else { FULL };
    let wanted = |part: &str| value("--only").is_none_or(|parts| parts.split(',').any(|p| p == part));
    let mut report = Report::default();
    if wanted("program") {
        program(&scale, &mut report);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    {
        let emulator = Emulator::start();
        if wanted("status") {
            status(&scale, &emulator, &mut report);
        }
        if wanted("invoke") {
            runtime.block_on(invocations(&scale, &emulator, &mut report));
        }
        if wanted("command") {
            runtime.block_on(commands(&scale, &emulator, &mut report));
        }
        if wanted("session") {
            runtime.block_on(sessions(&scale, &emulator, &mut report));
        }
    }
    let json = report.json(scale.name);
    if let Some(file) = value("--json") {
        std::fs::write(file, format!("{json:#}\n")).unwrap();
    }
    let misses = report.misses();
    println!("{misses} promises missed ({} run)", scale.name);
    if flag("--strict") && misses > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs a program once and prints its time and memory. A process of its own, because the kernel
/// counts a child's memory from before its exec, when it still is its parent's.
fn measure(program: &str, args: &[&str]) -> ExitCode {
    let begin = Instant::now();
    let status =
        Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    let took = begin.elapsed();
    assert!(status.success(), "{program} {args:?}: {status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    println!("{} {}", took.as_nanos(), usage.max_rss());
    ExitCode::SUCCESS
}

/// Median time and largest memory in KiB over some runs of the program.
fn measured(scale: &Scale, args: &[&str], home: Option<&Emulator>) -> (Duration, f64) {
    let mut times = Vec::new();
    let mut memory: f64 = 0.0;
    for _ in 0..scale.repeats {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["measure", AGENTCORE]).args(args);
        if let Some(emulator) = home {
            command.env("AGENTCORE_HOME", emulator.home());
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let (nanos, kib) = text.trim().split_once(' ').unwrap();
        times.push(Duration::from_nanos(nanos.parse().unwrap()));
        memory = memory.max(kib.parse().unwrap());
    }
    (quantile(&times, 0.5), memory)
}

fn program(scale: &Scale, report: &mut Report) {
    let (time, memory) = measured(scale, &["--version"], None);
    report.millis("`--version`: time, median", time, Some(Limit::AtMost(10.0)));
    report.add("`--version`: memory, largest", memory / 1024.0, "MiB", Some(Limit::AtMost(20.0)));
}

fn status(scale: &Scale, emulator: &Emulator, report: &mut Report) {
    let (time, memory) = measured(scale, &["local", "status"], Some(emulator));
    report.millis("`local status`: time, median", time, Some(Limit::AtMost(10.0)));
    report.add("`local status`: memory, largest", memory / 1024.0, "MiB", Some(Limit::AtMost(20.0)));
}

fn session(number: usize) -> String {
    format!("bench-session-{number:0>32}")
}

/// Warm invocations: the agent itself, behind haproxy, behind a bare proxy of our HTTP library with the service's
/// messages, behind the emulator.
async fn invocations(scale: &Scale, emulator: &Emulator, report: &mut Report) {
    let (agent_port, front, bare_front) = (free_port(), free_port(), free_port());
    let _agent = start_agent(agent_port);
    wait_for(loopback(agent_port));
    let proxy = start_haproxy(front, agent_port);
    wait_for(loopback(front));
    let bare = start_bare(bare_front, agent_port);
    wait_for(loopback(bare_front));
    let plain = |name, port| Target {
        name,
        address: loopback(port),
        path: "/invocations".into(),
        session: session(0),
    };
    let targets = [
        plain("direct", agent_port),
        plain("haproxy", front),
        Target { path: emulator.path("invocations?qualifier=DEFAULT"), ..plain("bare", bare_front) },
        Target {
            name: "emulator",
            address: emulator.address,
            path: emulator.path("invocations?qualifier=DEFAULT"),
            session: session(0),
        },
    ];
    for connections in [1, 32] {
        // What is measured is the warm path.
        for target in &targets {
            load::check(target).await;
            load::round(target, connections, 1);
        }
        let mut rounds: [Vec<Round>; 4] = Default::default();
        let used = || [proxy.used(), bare.used(), emulator.used()];
        let before = used();
        // Turn by turn, so that whatever else the machine does meets all three alike.
        for _ in 0..scale.rounds {
            for (target, rounds) in targets.iter().zip(&mut rounds) {
                rounds.push(load::round(target, connections, scale.seconds));
            }
        }
        // Says what a call costs even where the machine is busy with something else.
        let proxies = targets.iter().zip(&rounds).skip(1);
        for ((target, rounds), (before, after)) in proxies.zip(before.iter().zip(used())) {
            let name = format!("invoke, {connections} connections, {}: processor time a call", target.name);
            let calls: u32 = rounds.iter().map(|round| round.calls).sum();
            report.micros(name, after.saturating_sub(*before) / calls, None);
        }
        for (target, rounds) in targets.iter().zip(&rounds) {
            let name = |what: &str| format!("invoke, {connections} connections, {}: {what}", target.name);
            report.micros(name("p50"), median(rounds, |r| r.p50), None);
            report.micros(name("p99"), median(rounds, |r| r.p99), None);
            report.add(name("throughput"), middle(rounds.iter().map(Round::per_second)), "/s", None);
        }
        let [direct, haproxy, bare, ours] = &rounds;
        let pairs = [
            ("emulator / haproxy", ours, haproxy),
            ("emulator / bare", ours, bare),
            ("bare / haproxy", bare, haproxy),
        ];
        for (number, (pair, ones, others)) in pairs.into_iter().enumerate() {
            let ratio = |of: fn(&Round) -> f64| middle(ones.iter().zip(others).map(|(a, b)| of(a) / of(b)));
            let mut add = |what: &str, value: f64, limit: Limit| {
                let name = format!("invoke, {connections} connections, {pair}: {what}");
                // The others say where the distance comes from.
                report.add(name, value, "x", (number == 0).then_some(limit));
            };
            add("p50", ratio(|r| r.p50.as_secs_f64()), Limit::AtMost(1.3));
            add("p99", ratio(|r| r.p99.as_secs_f64()), Limit::AtMost(1.3));
            add("throughput", ratio(Round::per_second), Limit::AtLeast(0.8));
        }
        if connections == 1 {
            let added =
                ours.iter().zip(direct).map(|(a, b)| (a.p50.as_secs_f64() - b.p50.as_secs_f64()) * 1e6);
            let limit = Some(Limit::AtMost(250.0));
            report.add("invoke, 1 connection, emulator - direct: p50", middle(added), "us", limit);
        }
    }
}

fn middle(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> Duration) -> Duration {
    quantile(&rounds.iter().map(of).collect::<Vec<_>>(), 0.5)
}

/// Runs a command in a session; gives the time to its first output and to its end.
async fn command(
    client: &mut Client,
    emulator: &Emulator,
    session: &str,
    text: &str,
) -> (Duration, Duration) {
    let body = serde_json::json!({ "command": text, "timeout": 600 }).to_string();
    let begin = Instant::now();
    let mut answer = client.begin("POST", &emulator.path("commands"), session, body).await;
    assert!(answer.status().is_success(), "{}", answer.status());
    let (mut seen, mut first) = (Vec::new(), None);
    while let Some(frame) = answer.body_mut().frame().await {
        if let Ok(data) = frame.unwrap().into_data() {
            seen.extend_from_slice(&data);
        }
        if first.is_none() && find(&seen, b"contentDelta") {
            first = Some(begin.elapsed());
        }
    }
    assert!(find(&seen, br#""exitCode":0"#), "`{text}`: {}", String::from_utf8_lossy(&seen));
    (first.unwrap_or_default(), begin.elapsed())
}

fn find(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// First byte of a command's output, against the same command spawned by this program.
async fn commands(scale: &Scale, emulator: &Emulator, report: &mut Report) {
    const TEXT: &str = "echo x";
    let session = session(1);
    let mut client = Client::connect(emulator.address).await;
    command(&mut client, emulator, &session, TEXT).await;
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..scale.repeats * 4 {
        let begin = Instant::now();
        let mut child = Command::new("bash")
            .args(["-c", TEXT])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        plain.push(begin.elapsed());
        child.wait().unwrap();
        ours.push(command(&mut client, emulator, &session, TEXT).await.0);
    }
    let (ours, plain) = (quantile(&ours, 0.5), quantile(&plain, 0.5));
    report.millis("command, first byte, plain spawn: median", plain, None);
    report.millis("command, first byte, emulator: median", ours, None);
    report.millis("command, first byte, added", ours.saturating_sub(plain), Some(Limit::AtMost(2.0)));
}

/// Session start, and stop and resume with much data stored.
async fn sessions(scale: &Scale, emulator: &Emulator, report: &mut Report) {
    let boot = quantile(&(0..scale.repeats).map(|_| agent_boot()).collect::<Vec<_>>(), 0.5);
    report.millis("agent's own boot, plain spawn: median", boot, None);

    let mut client = Client::connect(emulator.address).await;
    let mut starts = Vec::new();
    for number in 0..scale.repeats {
        starts.push(invoke(&mut client, emulator, &session(100 + number)).await);
        stop(&mut client, emulator, &session(100 + number)).await;
    }
    let start = quantile(&starts, 0.5);
    report.millis("session start, first answer: median", start, None);
    report.millis(
        "session start, beside the agent's boot",
        start.saturating_sub(boot),
        Some(Limit::AtMost(30.0)),
    );

    let stored = session(2);
    let write = |name: &str, megabytes: usize| {
        format!("dd if=/dev/zero of=/mnt/workspace/{name} bs=1M count={megabytes} status=none")
    };
    let fill = format!("{} && sync -f /mnt/workspace", write("stored", scale.stored_megabytes));
    command(&mut client, emulator, &stored, &fill).await;
    // The first stop writes what is dirty; from then on the data is clean.
    stop(&mut client, emulator, &stored).await;
    let mut resumes = Vec::new();
    for _ in 0..scale.repeats.min(10) {
        invoke(&mut client, emulator, &stored).await;
        let stopped = stop(&mut client, emulator, &stored).await;
        resumes.push(stopped + invoke(&mut client, emulator, &stored).await);
    }
    let resume = quantile(&resumes, 0.5);
    let megabytes = scale.stored_megabytes;
    report.millis(format!("stop and resume, {megabytes} MB clean: median"), resume, None);
    report.millis(
        format!("stop and resume, {megabytes} MB clean, beside the agent's boot"),
        resume.saturating_sub(boot),
        Some(Limit::AtMost(50.0)),
    );
    command(&mut client, emulator, &stored, &write("dirty", scale.dirty_megabytes)).await;
    let flush = stop(&mut client, emulator, &stored).await;
    report.millis(format!("stop with {} MB dirty: flush and all", scale.dirty_megabytes), flush, None);
}

/// How long the agent takes from its spawn to its first answer, without anything around it.
fn agent_boot() -> Duration {
    let port = free_port();
    let begin = Instant::now();
    let agent = start_agent(port);
    wait_for(loopback(port));
    let took = begin.elapsed();
    drop(agent);
    took
}

async fn invoke(client: &mut Client, emulator: &Emulator, session: &str) -> Duration {
    let begin = Instant::now();
    let (status, body) = client.call("POST", &emulator.path("invocations"), session, "{}").await;
    assert!(status.is_success(), "{body:?}");
    begin.elapsed()
}

async fn stop(client: &mut Client, emulator: &Emulator, session: &str) -> Duration {
    let begin = Instant::now();
    let (status, body) = client.call("POST", &emulator.path("stopruntimesession"), session, "{}").await;
    assert!(status.is_success(), "{body:?}");
    begin.elapsed()
}
