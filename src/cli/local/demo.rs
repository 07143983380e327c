//! `local demo`: the whole story in one command. Each step is checked; the exit code says whether all held.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::daemon;
use super::home::Home;
use super::up::{IsolationChoice, Settings, warn_of};
use crate::artifacts::{ArtifactStore, BUCKET, Launch, Manifest};
use crate::aws::{CommandCall, Connection, DataClient, InvokeCall, RuntimeSettings, SessionCall};
use crate::cli::exit::{Class, Failure, OK, Outcome};
use crate::cli::{Context, interrupts};
use crate::engine::TOOL_PATH;
use crate::engine::embedded::Isolation;
use crate::model::{
    Artifact, ArtifactRef, CommandEvent, CommandLine, EndpointName, OutputStream, SessionId,
    session_id_for_name,
};

/// The runtime's name.
const NAME: &str = "demo";
/// Where its sessions keep their files.
const MOUNT: &str = "/mnt/workspace";
/// How the names of directories of demos begin.
const SCRATCH: &str = "agentcore-demo-";
/// Age from which such a directory without a holder is one that was left. [ours: it is locked at once]
const SCRATCH_AGE: Duration = Duration::from_secs(60);
/// Longest answer of the demo agent.
const MAX_ANSWER: usize = 1024 * 1024;

/// Show the whole story: an agent writes a file, stops, resumes, and the file is there
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore local demo")]
pub(crate) struct DemoArgs {
    /// What keeps sessions apart [default: namespaces]; `process` is a last resort where the system denies them
    #[arg(long, value_enum, value_name = "KIND")]
    isolation: Option<IsolationChoice>,
}

/// A step that was taken.
struct Step {
    name: &'static str,
    detail: String,
    took: Duration,
}

/// The steps so far, told as they are taken.
struct Story<'a> {
    context: &'a Context,
    steps: Vec<Step>,
    begun: Instant,
}

impl Story<'_> {
    fn step(&mut self, name: &'static str, detail: impl Into<String>) -> Result<(), Failure> {
        let step = Step { name, detail: detail.into(), took: self.begun.elapsed() };
        if !self.context.ui.is_json() {
            let millis = step.took.as_secs_f64() * 1000.0;
            self.context.ui.line(&format!("{millis:8.1} ms  {:<8} {}", step.name, step.detail))?;
        }
        self.steps.push(step);
        self.begun = Instant::now();
        Ok(())
    }

    fn to_json(&self) -> Value {
        let step = |s: &Step| json!({ "step": s.name, "detail": s.detail, "seconds": s.took.as_secs_f64() });
        json!({ "ok": true, "steps": self.steps.iter().map(step).collect::<Vec<_>>() })
    }
}

impl DemoArgs {
    pub(crate) fn exec(self, context: &Context) -> Outcome {
        context.block_on_threads(async {
            sweep(&context.env.temporary);
            let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&context.env.temporary);
            let scratch =
                scratch.map_err(|e| Failure::failed(format!("no temporary directory could be made: {e}")))?;
            let home = Home::new(scratch.path().to_owned());
            home.make()?;
            // Held as long as this demo lives, however it ends.
            let _lock = home.lock()?;
            let mut story = Story { context, steps: Vec::new(), begun: Instant::now() };
            let settings = Settings::isolated(self.isolation);
            let emulator = daemon::open(&home, &settings, &context.env, None).await?;
            warn_of(&context.ui, &emulator.not_isolated);
            let refused = home.unusable();
            let aws = TcpListener::bind(("127.0.0.1", 0)).await.map_err(&refused)?;
            let endpoint = format!("http://{}", aws.local_addr().map_err(&refused)?);
            let admin = UnixListener::bind(home.socket()).map_err(&refused)?;
            let (end, ended) = oneshot::channel::<()>();
            let shutdown = async {
                // A sender that is dropped says the same.
                let _ = ended.await;
            };
            let deaf = |e| Failure::failed(format!("signals cannot be heard: {e}"));
            let mut terminated = signal(SignalKind::terminate()).map_err(deaf)?;
            let mut interrupts = interrupts()?;
            let engine = emulator.engine;
            let key = home.access_key()?;
            let server = tokio::spawn(crate::server::serve(emulator, aws, admin, key.clone(), shutdown));
            story.step("start", format!("emulator at {endpoint}, engine {}", engine))?;
            let connection = Connection::local(endpoint, settings.region()?).with_key(key);
            let outcome = tokio::select! {
                outcome = tell(&mut story, &home, &connection, settings.isolation()) => outcome,
                _ = interrupts.recv() => Err(Failure::new(Class::Interrupted, "the demo was ended")),
                _ = terminated.recv() => Err(Failure::new(Class::Interrupted, "the demo was ended")),
            };
            // Whatever happened, no session is left behind.
            let _ = end.send(());
            let served = server.await.map_err(|e| Failure::failed(format!("the emulator failed: {e}")))?;
            outcome?;
            served.map_err(|e| Failure::failed(format!("the emulator failed: {e}")))?;
            story.step("end", "the emulator has ended")?;
            if context.ui.is_json() {
                context.ui.result(&story.to_json(), "")?;
            }
            Ok(OK)
        })
    }
}

/// Deletes what demos left that were killed: directories of theirs that nobody holds.
fn sweep(temporary: &Path) {
    let own = nix::unistd::geteuid().as_raw();
    for entry in std::fs::read_dir(temporary).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(SCRATCH);
        // Not a link to elsewhere or another user's trap, and not one that is just being made.
        let old = entry.metadata().is_ok_and(|about| {
            about.is_dir()
                && about.uid() == own
                && about.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > SCRATCH_AGE))
        });
        if ours && old {
            // What cannot be deleted is no reason not to go on.
            if let Ok(Some(_lock)) = Home::new(entry.path()).lock() {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

async fn tell(
    story: &mut Story<'_>,
    home: &Home,
    connection: &Connection,
    isolation: Isolation,
) -> Result<(), Failure> {
    let control = connection.control();
    let settings = runtime_settings(home)?;
    let runtime = control.create(NAME, &settings).await?;
    control.wait_ready(&runtime.id).await?;
    story.step("deploy", runtime.arn.clone())?;

    let data = connection.data();
    let session = session_id_for_name(NAME, "demo");
    let call = SessionCall {
        arn: runtime.arn.clone(),
        qualifier: EndpointName::default_endpoint(),
        session: session.clone(),
    };
    let (first_boot, notes) = invoke(&data, &call, "buy milk").await?;
    expect("the first call finds empty storage", &notes, &["buy milk"])?;
    story.step("invoke", format!("the agent on compute {first_boot} wrote {MOUNT}/notes.txt"))?;

    // Elsewhere only where sessions have no root of their own.
    let (output, code) = run(&data, &call, &format!("ls -la ${{AGENTCORE_STORAGE:-{MOUNT}}}/")).await?;
    hold(code == 0 && output.contains("notes.txt"), "a command sees the agent's files", &output)?;
    let line = output.lines().find(|l| l.contains("notes.txt")).unwrap_or_default().to_owned();
    story.step("exec", format!("ls -la {MOUNT}: {line}"))?;

    data.stop(call.clone()).await?;
    story.step("stop", format!("session {session}: its compute is gone"))?;

    let (second_boot, notes) = invoke(&data, &call, "buy bread").await?;
    hold(first_boot != second_boot, "a resumed session has a new compute", &second_boot)?;
    expect("a resumed session finds its files", &notes, &["buy milk", "buy bread"])?;
    story.step("resume", format!("compute {second_boot} found the note of the one before"))?;

    let other = SessionCall { session: SessionId::random(), ..call.clone() };
    let (_, notes) = invoke(&data, &other, "a stranger's note").await?;
    expect("another session sees nothing of the first", &notes, &["a stranger's note"])?;
    let isolated = match isolation {
        Isolation::Namespaces => "another session sees nothing of the first",
        Isolation::Process => {
            "another session has a storage of its own, and nothing keeps it from the first's"
        }
    };
    story.step("isolate", isolated)?;

    let updated = control.update(&runtime.id, &settings).await?;
    control.wait_ready(&runtime.id).await?;
    data.stop(call.clone()).await?;
    let (_, notes) = invoke(&data, &call, "start over").await?;
    expect("a new version begins with empty storage", &notes, &["start over"])?;
    story
        .step("update", format!("version {} began with empty storage, as in the service", updated.version))?;

    control.delete(&runtime.id).await?;
    control.wait_gone(&runtime.id).await?;
    story.step("delete", "the runtime and its sessions' storage are gone")
}

/// The demo's runtime: this program in the session, as the agent.
fn runtime_settings(home: &Home) -> Result<RuntimeSettings, Failure> {
    let source = tempfile::tempdir_in(home.path()).map_err(home.unusable())?;
    let manifest = Manifest {
        format: Manifest::FORMAT,
        launch: Launch::Command { argv: vec![TOOL_PATH.to_owned(), "demo-agent".to_owned()] },
        read_only: Vec::new(),
        environment: Vec::new(),
        image: None,
    };
    let packed = ArtifactStore::below(home.path()).pack(source.path(), &manifest)?;
    let mount = MOUNT.parse().map_err(|e| Failure::failed(format!("`{MOUNT}`: {e}")))?;
    Ok(RuntimeSettings {
        artifact: Artifact::Code(ArtifactRef {
            bucket: BUCKET.to_owned(),
            prefix: packed.hash,
            version_id: None,
            runtime: "PYTHON_3_13".to_owned(),
            entry_point: vec!["demo-agent".to_owned()],
        }),
        role_arn: "arn:aws:iam::000000000000:role/agentcore-local".to_owned(),
        environment: Some(BTreeMap::new()),
        idle: None,
        max_lifetime: None,
        header_allowlist: Vec::new(),
        session_storage: Some(vec![mount]),
    })
}

/// Calls the agent; gives its compute's boot id and the notes.
async fn invoke(data: &DataClient, to: &SessionCall, prompt: &str) -> Result<(String, Vec<String>), Failure> {
    let call = InvokeCall {
        to: to.clone(),
        content_type: "application/json".into(),
        accept: "application/json".into(),
        payload: json!({ "prompt": prompt }).to_string().into_bytes(),
        user_id: None,
        headers: Vec::new(),
    };
    let mut answer = data.invoke(call).await?;
    let mut body = Vec::new();
    while let Some(bytes) = answer.next().await? {
        body.extend_from_slice(&bytes);
        hold(body.len() <= MAX_ANSWER, "the agent's answer is short", "")?;
    }
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let notes = value.get("notes").and_then(Value::as_array).into_iter().flatten();
    let notes = notes.filter_map(|n| n.as_str().map(str::to_owned)).collect();
    let boot = value.get("bootId").and_then(Value::as_str).unwrap_or_default();
    hold(!boot.is_empty(), "the agent tells its compute's boot id", &String::from_utf8_lossy(&body))?;
    Ok((boot.to_owned(), notes))
}

/// Runs a command; gives its standard output and exit code.
async fn run(data: &DataClient, to: &SessionCall, text: &str) -> Result<(String, i32), Failure> {
    let command = CommandLine::new(text.to_owned());
    let command = command.ok_or_else(|| Failure::failed(format!("`{text}` is no command")))?;
    let mut stream = data.run_command(CommandCall { to: to.clone(), command, timeout: None }).await?;
    let mut output = String::new();
    while let Some(event) = stream.next().await? {
        match event {
            CommandEvent::Delta(OutputStream::Stdout, text) => output.push_str(&text),
            CommandEvent::Stop { exit_code, .. } => return Ok((output, exit_code)),
            _ => {}
        }
        hold(output.len() <= MAX_ANSWER, "the command's output is short", "")?;
    }
    Err(Failure::new(Class::Remote, "the command's output ended without its exit code"))
}

fn expect(claim: &str, notes: &[String], expected: &[&str]) -> Result<(), Failure> {
    hold(notes == expected, claim, &notes.join(", "))
}

fn hold(truth: bool, claim: &str, found: &str) -> Result<(), Failure> {
    if truth {
        return Ok(());
    }
    Err(Failure::failed(format!("it does not hold that {claim}: found `{found}`")))
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes, create_dir, write};
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_killed_demos_left_is_deleted_and_nothing_else() {
        let room = tempfile::tempdir().unwrap();
        let make = |name: &str, age: Duration| {
            let path = room.path().join(name);
            create_dir(&path).unwrap();
            write(path.join("state.db"), "x").unwrap();
            let then = FileTimes::new().set_modified(SystemTime::now() - age);
            File::open(&path).unwrap().set_times(then).unwrap();
            path
        };
        let old = SCRATCH_AGE * 2;
        let left = make("agentcore-demo-left", old);
        let held = make("agentcore-demo-held", old);
        let young = make("agentcore-demo-young", Duration::ZERO);
        let other = make("agentcore-other", old);
        let _lock = Home::new(held.clone()).lock().unwrap().unwrap();
        File::open(&held).unwrap().set_times(FileTimes::new().set_modified(SystemTime::now() - old)).unwrap();
        let link = room.path().join("agentcore-demo-link");
        std::os::unix::fs::symlink(&other, &link).unwrap();
        sweep(room.path());
        assert_eq!([&left, &held, &young, &other].map(|path| path.exists()), [false, true, true, true]);
        assert!(other.join("state.db").exists());
    }
}
