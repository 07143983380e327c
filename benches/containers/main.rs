//! What sessions in containers cost, against the `docker` command line in the same run on the same machine.
//!
//! `benches/run --only containers` runs this alone, with the flags of `benches/run`: `--smoke`, `--strict`,
//! `--json FILE`. It needs what tests of containers need (`tests/lab/lab up`); without that it says so and measures
//! nothing, except in CI, where that is a failure. The agent, the client and the report are those of `runtime`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a benchmark is a program of its own: it prints, and it stops at the first thing that is not as it should be"
)]

#[path = "../runtime/agent.rs"]
mod agent;
mod docker;
#[path = "../runtime/load.rs"]
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod load;
#[path = "../runtime/report.rs"]
mod report;
#[path = "../runtime/world.rs"]
#[allow(dead_code, reason = "the other benchmark uses the rest")]
mod world;

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use docker::Image;
use load::{Client, Round, Target, quantile};
use report::{Limit, Report};
use world::{Emulator, path_of};

/// How much is done; `smoke` only shows that everything runs.
struct Scale {
    name: &'static str,
    starts: usize,
    commands: usize,
    outputs: usize,
    resumes: usize,
    rounds: usize,
    stored_megabytes: usize,
}

const FULL: Scale = Scale {
    name: "full",
    starts: 15,
    commands: 40,
    outputs: 5,
    resumes: 7,
    rounds: 21,
    stored_megabytes: 1024,
};
const SMOKE: Scale =
    Scale { name: "smoke", starts: 3, commands: 5, outputs: 1, resumes: 2, rounds: 1, stored_megabytes: 64 };
/// Output of the command whose rate is measured. Text in lines: what commands say.
const OUTPUT_BYTES: usize = 64 << 20;
const MAKE_OUTPUT: &str = "base64 -w 76 /dev/zero | head -c 67108864 > /tmp/output";
/// Longest time until a runtime is ready.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let ["agent", address] = args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        agent::serve(address.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let scale = if flag("--smoke") { SMOKE } else { FULL };
    let image = match Image::make() {
        Ok(image) => image,
        Err(missing) => {
            eprintln!("SKIPPED containers: {missing}; bring it up with `tests/lab/lab up`");
            let in_ci = std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
            return if in_ci { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let mut report = Report::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let emulator = Emulator::start_with(&["--platform", "native"]);
    let volumes = Volumes(&emulator);
    runtime.block_on(async {
        let mut ours = Ours::deploy(&emulator, &image).await;
        starts(&scale, &mut ours, &image, &mut report).await;
        commands(&scale, &mut ours, &image, &mut report).await;
        resumes(&scale, &mut ours, &mut report).await;
        invocations(&scale, &ours, &mut report).await;
    });
    drop(volumes);
    drop(emulator);
    let json = report.json(scale.name);
    if let Some(at) = args.iter().position(|arg| arg == "--json") {
        fs::write(&args[at + 1], format!("{json:#}\n")).unwrap();
    }
    let misses = report.misses();
    println!("{misses} promises missed ({} run)", scale.name);
    if flag("--strict") && misses > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// What the daemon keeps for an emulator. Goes with the value.
struct Volumes<'a>(&'a Emulator);

impl Drop for Volumes<'_> {
    fn drop(&mut self) {
        self.0.cli(&self.0.home(), &["local", "down", "--volumes"]);
    }
}

fn session(number: usize) -> String {
    format!("container-session-{number:0>32}")
}

fn middle(values: &[Duration]) -> Duration {
    quantile(values, 0.5)
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

/// A runtime of the emulator that is the image.
struct Ours<'a> {
    emulator: &'a Emulator,
    client: Client,
    arn: String,
}

impl<'a> Ours<'a> {
    async fn deploy(emulator: &'a Emulator, image: &Image) -> Self {
        let mut client = Client::connect(emulator.address).await;
        let body = json!({
            "agentRuntimeName": "containers",
            "agentRuntimeArtifact": { "containerConfiguration": { "containerUri": image.name } },
            "roleArn": "arn:aws:iam::123456789012:role/agent",
            "networkConfiguration": { "networkMode": "PUBLIC" },
            "filesystemConfigurations": [{ "sessionStorage": { "mountPath": "/mnt/workspace" } }],
        });
        let (status, body) = client.call("PUT", "/runtimes/", "", body.to_string()).await;
        assert!(status.is_success(), "{body:?}");
        let made: Value = serde_json::from_slice(&body).unwrap();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        let begin = Instant::now();
        loop {
            let path = format!("/runtimes/{}/", text("agentRuntimeId"));
            let now = client.call("GET", &path, "", "").await.1;
            if serde_json::from_slice::<Value>(&now).unwrap()["status"] == "READY" {
                break;
            }
            assert!(begin.elapsed() < LIMIT, "{now:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { emulator, client, arn: text("agentRuntimeArn") }
    }

    fn path(&self, operation: &str) -> String {
        path_of(&self.arn, operation)
    }

    async fn call(&mut self, operation: &str, session: &str) -> Duration {
        let path = self.path(operation);
        let begin = Instant::now();
        let (status, body) = self.client.call("POST", &path, session, "{}").await;
        assert!(status.is_success(), "{operation}: {body:?}");
        begin.elapsed()
    }

    async fn invoke(&mut self, session: &str) -> Duration {
        self.call("invocations", session).await
    }

    async fn stop(&mut self, session: &str) -> Duration {
        self.call("stopruntimesession", session).await
    }

    /// Runs a command to its end; its output is read and dropped. Gives how much came, too.
    async fn command(&mut self, session: &str, text: &str) -> (Duration, usize) {
        /// More than the last frame of a command has.
        const TAIL: usize = 512;
        let path = self.path("commands");
        let body = json!({ "command": text, "timeout": 600 }).to_string();
        let begin = Instant::now();
        let mut answer = self.client.begin("POST", &path, session, body).await;
        assert!(answer.status().is_success(), "{}", answer.status());
        let (mut tail, mut total) = (Vec::new(), 0);
        while let Some(frame) = answer.body_mut().frame().await {
            if let Ok(data) = frame.unwrap().into_data() {
                total += data.len();
                tail.extend_from_slice(&data[data.len().saturating_sub(TAIL)..]);
                tail.drain(..tail.len().saturating_sub(TAIL));
            }
        }
        let took = begin.elapsed();
        let said = String::from_utf8_lossy(&tail);
        assert!(said.contains(r#""exitCode":0"#), "`{text}`: {said}");
        (took, total)
    }
}

/// From nothing to the first answer.
async fn starts(scale: &Scale, ours: &mut Ours<'_>, image: &Image, report: &mut Report) {
    let (mut theirs, mut own) = (Vec::new(), Vec::new());
    // Turn by turn, so that whatever else the machine does meets both alike; the first of each is not counted.
    for number in 0..=scale.starts {
        let (container, took) = image.run();
        theirs.push(took);
        drop(container);
        own.push(ours.invoke(&session(100 + number)).await);
        ours.stop(&session(100 + number)).await;
    }
    let (theirs, own) = (middle(&theirs[1..]), middle(&own[1..]));
    report.millis("session start, `docker run` to the first healthy answer: median", theirs, None);
    report.millis("session start, emulator, to the first answer: median", own, None);
    report.add("session start, emulator / `docker run`", ratio(own, theirs), "x", Some(Limit::AtMost(1.1)));
}

async fn commands(scale: &Scale, ours: &mut Ours<'_>, image: &Image, report: &mut Report) {
    let (container, _) = image.run();
    let session = session(1);
    ours.command(&session, "true").await;
    let (mut theirs, mut own) = (Vec::new(), Vec::new());
    let name = session.as_str();
    for _ in 0..scale.commands {
        theirs.push(container.exec(&["true"]).0);
        own.push(ours.command(name, "true").await.0);
    }
    let (theirs, own) = (middle(&theirs), middle(&own));
    report.millis("command `true`, `docker exec`: median", theirs, None);
    report.millis("command `true`, emulator: median", own, None);
    report.add("command, emulator / `docker exec`", ratio(own, theirs), "x", Some(Limit::AtMost(0.3)));

    container.exec(&["sh", "-c", MAKE_OUTPUT]);
    ours.command(name, MAKE_OUTPUT).await;
    let (mut theirs, mut own) = (Vec::new(), Vec::new());
    for _ in 0..=scale.outputs {
        let (took, bytes) = container.exec(&["cat", "/tmp/output"]);
        assert_eq!(bytes, OUTPUT_BYTES);
        theirs.push(took);
        let (took, bytes) = ours.command(name, "cat /tmp/output").await;
        assert!(bytes >= OUTPUT_BYTES, "{bytes}");
        own.push(took);
    }
    let (theirs, own) = (middle(&theirs[1..]), middle(&own[1..]));
    let rate = |took: Duration| OUTPUT_BYTES as f64 / f64::from(1 << 20) / took.as_secs_f64();
    report.add("output of 64 MiB, `docker exec cat`: median", rate(theirs), "MiB/s", None);
    report.add("output of 64 MiB, emulator: median", rate(own), "MiB/s", None);
    report.add("output, emulator / `docker exec cat`", ratio(theirs, own), "x", Some(Limit::AtLeast(0.5)));
    ours.stop(name).await;
}

/// Stop and resume with much in the volume, and with nothing.
async fn resumes(scale: &Scale, ours: &mut Ours<'_>, report: &mut Report) {
    let (full, empty) = (session(2), session(3));
    let megabytes = scale.stored_megabytes;
    let fill = format!("head -c {megabytes}m /dev/urandom > /mnt/workspace/stored");
    ours.command(&full, &fill).await;
    ours.invoke(&empty).await;
    // The first stop writes what is dirty; from then on the data is clean.
    let flush = ours.stop(&full).await;
    ours.stop(&empty).await;
    let (mut with_much, mut with_nothing) = (Vec::new(), Vec::new());
    for _ in 0..=scale.resumes {
        for (session, times) in [(&full, &mut with_much), (&empty, &mut with_nothing)] {
            ours.invoke(session).await;
            let stopped = ours.stop(session).await;
            times.push(stopped + ours.invoke(session).await);
            ours.stop(session).await;
        }
    }
    let (with_much, with_nothing) = (middle(&with_much[1..]), middle(&with_nothing[1..]));
    report.millis(format!("stop with {megabytes} MB dirty: flush and all"), flush, None);
    report.millis("stop and resume, empty volume: median", with_nothing, None);
    report.millis(format!("stop and resume, {megabytes} MB in the volume: median"), with_much, None);
    let name = format!("stop and resume, {megabytes} MB / empty");
    report.add(name, ratio(with_much, with_nothing), "x", Some(Limit::AtMost(1.1)));
}

fn p50(round: &Round) -> Duration {
    round.p50
}

fn p99(round: &Round) -> Duration {
    round.p99
}

/// Length of a round of calls.
const SECONDS: usize = 1;

/// Warm calls of a container, and of the same agent in a session of the embedded engine.
async fn invocations(scale: &Scale, ours: &Ours<'_>, report: &mut Report) {
    let target = |name, arn: &str| Target {
        name,
        address: ours.emulator.address,
        path: path_of(arn, "invocations?qualifier=DEFAULT"),
        session: session(0),
    };
    let targets = [target("container", &ours.arn), target("embedded", &ours.emulator.arn)];
    for connections in [1, 32] {
        for target in &targets {
            load::check(target).await;
            load::round(target, connections, SECONDS);
        }
        let mut rounds: [Vec<Round>; 2] = Default::default();
        for _ in 0..scale.rounds {
            for (target, rounds) in targets.iter().zip(&mut rounds) {
                rounds.push(load::round(target, connections, SECONDS));
            }
        }
        for (what, quantile) in [("p50", p50 as fn(&Round) -> Duration), ("p99", p99)] {
            let of = |rounds: &[Round]| middle(&rounds.iter().map(quantile).collect::<Vec<_>>());
            let [container, embedded] = [of(&rounds[0]), of(&rounds[1])];
            for (target, time) in targets.iter().zip([container, embedded]) {
                let name = format!("invoke, {connections} connections, {}: {what}", target.name);
                report.micros(name, time, None);
            }
            let name = format!("invoke, {connections} connections, container / embedded: {what}");
            report.add(name, ratio(container, embedded), "x", None);
        }
    }
}
