//! The session machine against a double of the engine: single stories, a reference model, races, crashes.
//!
//! Time stands still unless [`drive`] moves it a millisecond at a time, so what real threads (the store,
//! the file system) take does not count. Computes are values in memory; their agents answer over pipes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use super::*;
use crate::artifacts::{Launch, Manifest};
use crate::emulator::Emulator;
use crate::emulator::registry::{ClientToken, NewEndpoint, NewRuntime, RuntimeRef, RuntimeSettings, Status};
use crate::emulator::store::sessions::SetAside;
use crate::engine::agent_http::AgentRequest;
use crate::engine::{
    Compute, ComputeRecord, ComputeSpec, Process, ProcessControl, ProcessExit, ProcessSpec, SessionStream,
};
use crate::model::{Artifact, ArtifactRef, HeaderAllowlist, Lifecycle, RuntimeSpec, ServerProtocol};

// ---------------------------------------------------------------- doubles

/// What the agent of every compute made from now on does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conduct {
    /// Answers pings.
    Healthy,
    /// Writes a line and ends.
    Dies,
    /// Lives and never listens.
    Mute,
}

#[derive(Default)]
struct Engines {
    made: AtomicUsize,
    starts_fail: AtomicBool,
    ends_fail: AtomicBool,
    state: Mutex<EngineState>,
}

#[derive(Default)]
struct EngineState {
    conduct: Option<Conduct>,
    /// Running computes by session.
    running: HashMap<PathBuf, usize>,
    violations: Vec<String>,
    leftovers_ended: Vec<String>,
    ping: String,
    agents: Vec<watch::Sender<bool>>,
    /// What every removal of images was told to keep, and what it waits for.
    prunes: Vec<HashSet<String>>,
    prune_gate: Option<watch::Receiver<bool>>,
}

impl Engines {
    fn conduct(&self, conduct: Conduct) {
        self.state.lock().conduct = Some(conduct);
    }

    fn says(&self, ping: &str) {
        ping.clone_into(&mut self.state.lock().ping);
    }

    fn running(&self) -> usize {
        self.state.lock().running.len()
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    /// Ends the agents of all computes, not the computes.
    fn end_agents(&self) {
        for agent in self.state.lock().agents.drain(..) {
            agent.send_replace(true);
        }
    }
}

fn directory(place: &Place) -> &std::path::Path {
    let Place::Directory(path) = place else { panic!("{place:?}") };
    path
}

/// With its name.
struct DoubleEngine(Arc<Engines>, &'static str);

impl Engine for DoubleEngine {
    fn name(&self) -> &'static str {
        self.1
    }

    fn storage_owner(&self) -> Option<(u32, u32)> {
        None
    }

    fn start(&self, spec: ComputeSpec) -> BoxFuture<'_, Result<Box<dyn Compute>, EngineError>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            if self.0.starts_fail.load(Ordering::SeqCst) {
                return Err(EngineError::Start("as told".into()));
            }
            let number = self.0.made.fetch_add(1, Ordering::SeqCst) + 1;
            let mut state = self.0.state.lock();
            // One session's storages stand in one directory; without storage the label will do.
            let session = spec.storage.as_ref().and_then(|s| directory(&s.source).parent()?.parent());
            let session = session.map_or_else(|| PathBuf::from(&spec.label), PathBuf::from);
            if let Some(other) = state.running.insert(session.clone(), number) {
                state.violations.push(format!("computes {other} and {number} of one session at once"));
            }
            let compute = DoubleCompute {
                engines: self.0.clone(),
                session,
                number,
                conduct: state.conduct.unwrap_or(Conduct::Healthy),
                seen: Arc::new(Mutex::new(None)),
                spec,
                up: watch::channel(false).0,
                gone: watch::channel(false).0,
            };
            Ok(Box::new(compute) as Box<dyn Compute>)
        })
    }

    fn end_leftover(&self, record: ComputeRecord, _: Duration) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if self.0.ends_fail.load(Ordering::SeqCst) {
                return Err(EngineError::Helper("as told".into()));
            }
            self.0.state.lock().leftovers_ended.push(record.0);
            Ok(())
        })
    }

    fn prune_images(&self, keep: HashSet<String>) -> BoxFuture<'_, Result<usize, EngineError>> {
        Box::pin(async move {
            let gate = {
                let mut state = self.0.state.lock();
                state.prunes.push(keep);
                state.prune_gate.clone()
            };
            if let Some(mut gate) = gate {
                gate.wait_for(|open| *open).await.unwrap();
            }
            Ok(1)
        })
    }

    fn delete_storage(&self, place: Place) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            let context = "removing".to_owned();
            let Place::Directory(path) = place else { panic!("{place:?}") };
            std::fs::remove_dir_all(path).map_err(|source| EngineError::Io { context, source })
        })
    }
}

struct DoubleCompute {
    engines: Arc<Engines>,
    session: PathBuf,
    number: usize,
    conduct: Conduct,
    /// Numbers of the computes that used the storage before this one; nothing until it is mounted.
    seen: Arc<Mutex<Option<String>>>,
    spec: ComputeSpec,
    up: watch::Sender<bool>,
    gone: watch::Sender<bool>,
}

impl DoubleCompute {
    fn end(&self) {
        let mut state = self.engines.state.lock();
        if state.running.get(&self.session) == Some(&self.number) {
            state.running.remove(&self.session);
        }
        drop(state);
        self.gone.send_replace(true);
    }

    /// What commands and calls answer, told when they ask.
    fn report(&self) -> impl Fn() -> String + Send + Sync + Clone + 'static {
        let version = self.spec.environment.iter().find(|(name, _)| name == "VERSION");
        let version = version.map_or("?".to_owned(), |(_, value)| value.clone());
        let (number, seen) = (self.number, self.seen.clone());
        move || {
            let seen = seen.lock().clone().unwrap_or_else(|| "unmounted".into());
            format!("{number} {version} {seen}")
        }
    }
}

impl Drop for DoubleCompute {
    fn drop(&mut self) {
        self.end();
    }
}

impl Compute for DoubleCompute {
    fn record(&self) -> ComputeRecord {
        ComputeRecord(self.number.to_string())
    }

    fn mount_storage(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            let mut seen = self.seen.lock();
            if let (None, Some(storage)) = (&*seen, &self.spec.storage) {
                let file = directory(&storage.source).join("computes");
                let before = std::fs::read_to_string(&file).unwrap_or_default();
                std::fs::write(&file, format!("{before}[{}]", self.number)).unwrap();
                *seen = Some(before);
            }
            Ok(())
        })
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, Result<SessionStream, EngineError>> {
        Box::pin(async move {
            if *self.gone.borrow() {
                return Err(EngineError::Gone);
            }
            if !*self.up.borrow() {
                return Err(EngineError::Refused { port });
            }
            let (ours, theirs) = tokio::io::duplex(16 * 1024);
            let (report, engines) = (self.report(), self.engines.clone());
            let mut gone = self.gone.subscribe();
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let ping = request.uri().path() == "/ping";
                let text = if ping { engines.state.lock().ping.clone() } else { report() };
                async move { Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from(text)))) }
            });
            tokio::spawn(async move {
                let server = hyper::server::conn::http1::Builder::new();
                tokio::select! {
                    _ = server.serve_connection(TokioIo::new(theirs), service) => {}
                    _ = gone.wait_for(|gone| *gone) => {}
                }
            });
            Ok(SessionStream::Memory(ours))
        })
    }

    fn spawn(&self, spec: ProcessSpec) -> BoxFuture<'_, Result<Process, EngineError>> {
        Box::pin(async move {
            if *self.gone.borrow() {
                return Err(EngineError::Gone);
            }
            let agent = spec.argv[0] == "agent";
            let stdout = if agent { String::new() } else { self.report()() };
            let (mut stderr, mut exit) = ("", None);
            let (ended, ended_by_test) = watch::channel(false);
            if agent {
                self.engines.state.lock().agents.push(ended);
                match self.conduct {
                    Conduct::Healthy => {
                        let up = self.up.clone();
                        tokio::spawn(async move {
                            tokio::time::sleep(Duration::from_millis(7)).await;
                            up.send_replace(true);
                        });
                    }
                    Conduct::Dies => (stderr, exit) = ("ImportError: no module\n", Some(1)),
                    Conduct::Mute => {}
                }
            } else {
                exit = Some(0);
            }
            Ok(Process {
                stdout: Box::pin(std::io::Cursor::new(stdout)),
                stderr: Box::pin(std::io::Cursor::new(stderr)),
                control: Box::new(DoubleControl { exit, gone: self.gone.subscribe(), ended_by_test }),
            })
        })
    }

    fn terminate(&self, _grace: Duration) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(3)).await;
            if self.engines.ends_fail.load(Ordering::SeqCst) {
                return Err(EngineError::Helper("as told".into()));
            }
            self.end();
            Ok(())
        })
    }

    fn gone(&self) -> watch::Receiver<bool> {
        self.gone.subscribe()
    }
}

struct DoubleControl {
    exit: Option<i32>,
    gone: watch::Receiver<bool>,
    ended_by_test: watch::Receiver<bool>,
}

impl ProcessControl for DoubleControl {
    fn wait(&mut self) -> BoxFuture<'_, Result<ProcessExit, EngineError>> {
        Box::pin(async move {
            if let Some(code) = self.exit {
                tokio::time::sleep(Duration::from_millis(4)).await;
                return Ok(ProcessExit::Code(code));
            }
            let killed = async {
                if self.ended_by_test.wait_for(|e| *e).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                _ = self.gone.wait_for(|gone| *gone) => Ok(ProcessExit::Signal(15)),
                () = killed => Ok(ProcessExit::Signal(9)),
            }
        })
    }

    fn kill(&mut self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async { Ok(()) })
    }

    fn detach(&mut self) {}
}

/// One runtime whose endpoint serves the newest version; nothing once it is deleted.
struct DoubleTargets {
    version: Mutex<Option<Version>>,
    storage: bool,
}

const BUNDLE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

impl Targets for DoubleTargets {
    fn runtimes(&self) -> Vec<RuntimeId> {
        vec!["coder-AbCdEf0123".parse().unwrap()]
    }

    fn all_sources(&self) -> HashSet<String> {
        HashSet::from([BUNDLE.to_owned()])
    }

    fn current(&self, runtime: &RuntimeId, endpoint: &EndpointName) -> Option<Arc<Target>> {
        let version = (*self.version.lock())?;
        Some(Arc::new(Target {
            arn: format!("arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/{runtime}")
                .parse()
                .unwrap(),
            endpoint: endpoint.clone(),
            version,
            spec: Arc::new(RuntimeSpec {
                artifact: Artifact::Code(ArtifactRef {
                    bucket: crate::artifacts::BUCKET.into(),
                    prefix: BUNDLE.into(),
                    version_id: None,
                    runtime: "PYTHON_3_13".into(),
                    entry_point: vec!["main.py".into()],
                }),
                role_arn: "arn:aws:iam::123456789012:role/agent".into(),
                protocol: ServerProtocol::Http,
                port: 8080,
                lifecycle: Lifecycle::new(Some(60), Some(600)).unwrap(),
                environment: vec![("VERSION".into(), version.to_string())],
                header_allowlist: HeaderAllowlist::default(),
                session_storage: self.storage.then(|| "/mnt/work".parse().unwrap()),
            }),
        }))
    }
}

/// Everything that outlives an emulator.
struct World {
    home: tempfile::TempDir,
    engines: Arc<Engines>,
    targets: Arc<DoubleTargets>,
    clock: Arc<Clock>,
    config: EmulatorConfig,
}

const INIT_TIMEOUT: Duration = Duration::from_millis(400);

impl World {
    fn new(clock: Clock) -> Self {
        // Memory where there is some: the store waits for the disk at every write.
        let memory = std::path::Path::new("/dev/shm");
        let home = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let bundle = home.path().join("artifacts").join(BUNDLE);
        std::fs::create_dir_all(bundle.join("code")).unwrap();
        let manifest = Manifest {
            format: Manifest::FORMAT,
            launch: Launch::Command { argv: vec!["agent".into()] },
            read_only: Vec::new(),
            environment: Vec::new(),
            image: None,
        };
        std::fs::write(bundle.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
        let region = "us-west-2".parse().unwrap();
        let mut config = EmulatorConfig::new(home.path().to_owned(), region, "123456789012".parse().unwrap());
        config.init_timeout = INIT_TIMEOUT;
        let targets = DoubleTargets { version: Mutex::new(Some(Version::FIRST)), storage: true };
        Self { home, engines: Arc::default(), targets: Arc::new(targets), clock: Arc::new(clock), config }
    }

    fn standing() -> Self {
        Self::new(Clock::tokio(Timestamp(1_700_000_000_000)))
    }

    async fn open(&self) -> (Arc<Sessions>, Store) {
        self.open_on(super::Engines::only(self.engine("double"))).await
    }

    fn engine(&self, name: &'static str) -> Arc<dyn Engine> {
        Arc::new(DoubleEngine(self.engines.clone(), name))
    }

    async fn open_on(&self, engines: super::Engines) -> (Arc<Sessions>, Store) {
        let store = Store::open(&self.home.path().join("state.db")).await.unwrap();
        let artifacts = ArtifactStore::below(self.home.path());
        let (clock, config) = (self.clock.clone(), self.config.clone());
        let sessions =
            Sessions::open_with(store.clone(), self.targets.clone(), engines, artifacts, clock, config).await;
        (sessions.unwrap(), store)
    }

    fn key(&self, session: u8) -> SessionKey {
        SessionKey {
            runtime: "coder-AbCdEf0123".parse().unwrap(),
            endpoint: EndpointName::default_endpoint(),
            session: format!("s{session:040}").parse().unwrap(),
        }
    }

    /// What the registry would have resolved for a call; the session asks again when it starts.
    fn target(&self) -> Arc<Target> {
        let key = self.key(0);
        let still = DoubleTargets { version: Mutex::new(Some(Version::FIRST)), storage: true };
        self.targets
            .current(&key.runtime, &key.endpoint)
            .or_else(|| still.current(&key.runtime, &key.endpoint))
            .unwrap()
    }

    async fn acquire(&self, sessions: &Sessions, session: u8, need: Need) -> Result<Lease, SessionError> {
        sessions.acquire(&self.target(), &self.key(session).session, need).await
    }

    fn state(&self, sessions: &Sessions, session: u8) -> Option<(SessionState, Option<EndReason>)> {
        let key = self.key(session);
        sessions.list().into_iter().find(|v| v.key == key).map(|v| (v.state, v.last_end))
    }

    fn key_is_up(&self, sessions: &Sessions, session: u8) -> bool {
        sessions.shared.entry(&self.key(session)).is_some_and(|entry| entry.live().is_some())
    }

    /// Waits until the session stands so.
    async fn until(&self, sessions: &Sessions, session: u8, state: SessionState, end: Option<EndReason>) {
        let right = async {
            while self.state(sessions, session) != Some((state, end)) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), right).await.is_err() {
            panic!("session {session} is {:?}, not {state:?} {end:?}", self.state(sessions, session));
        }
    }

    fn update(&self) {
        let mut version = self.targets.version.lock();
        *version = version.unwrap().next();
    }

    fn check(&self) {
        assert_eq!(self.engines.state.lock().violations, Vec::<String>::new());
    }
}

/// What the compute behind a lease says of itself: its number, its version, who was there before.
async fn report(lease: &Lease, need: Need) -> (usize, String, String) {
    let text = match need {
        Need::Agent => {
            let body = Full::new(Bytes::from_static(b"{}")).map_err(|never| match never {}).boxed_unsync();
            let answer = lease.invoke(AgentRequest { headers: http::HeaderMap::new(), body }).await.unwrap();
            String::from_utf8(answer.body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
        }
        Need::Command => {
            let spec = ProcessSpec {
                argv: vec!["report".into()],
                environment: vec![],
                working_directory: None,
                user: None,
            };
            let mut text = String::new();
            lease.spawn(spec).await.unwrap().stdout.read_to_string(&mut text).await.unwrap();
            text
        }
    };
    let mut parts = text.splitn(3, ' ').map(str::to_owned);
    (parts.next().unwrap().parse().unwrap(), parts.next().unwrap(), parts.next().unwrap())
}

/// Runs a story on a clock that moves only while the story waits: a millisecond at a time, with a
/// moment of real time for other threads.
fn drive<T>(story: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        // tokio moves a paused clock by itself unless blocking work is under way.
        tokio::task::spawn_blocking(move || stopped.recv());
        let mut story = std::pin::pin!(story);
        for _ in 0..400_000 {
            tokio::select! {
                biased;
                value = &mut story => {
                    drop(stop);
                    return value;
                }
                () = async {
                    std::thread::sleep(Duration::from_micros(60));
                    tokio::time::advance(Duration::from_millis(1)).await;
                } => {}
            }
        }
        drop(stop);
        panic!("the story does not end");
    })
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(60)).await;
}

const STOPPED: SessionState = SessionState::Stopped;
const READY: SessionState = SessionState::Ready;

// ---------------------------------------------------------------- stories

#[test]
fn calls_at_once_share_one_start_and_storage_survives_a_stop() {
    drive(async {
        let world = World::standing();
        let (sessions, _store) = world.open().await;
        let calls = (0..10).map(|n| {
            let need = if n % 2 == 0 { Need::Agent } else { Need::Command };
            let (world, sessions) = (&world, &sessions);
            async move { report(&world.acquire(sessions, 1, need).await.unwrap(), need).await }
        });
        for (compute, version, seen) in join_all(calls).await {
            assert_eq!((compute, version.as_str(), seen.as_str()), (1, "1", ""));
        }
        let key = world.key(1);
        let (a, b) = tokio::join!(sessions.stop(&key), sessions.stop(&key));
        assert!(a.is_ok() && b.is_ok(), "{a:?} {b:?}");
        assert!(matches!(sessions.stop(&key).await, Err(SessionError::Unknown)));
        assert!(matches!(sessions.stop(&world.key(9)).await, Err(SessionError::Unknown)));
        assert_eq!(world.state(&sessions, 1), Some((STOPPED, Some(EndReason::Requested))));
        assert_eq!(world.engines.running(), 0);
        let lease = world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        assert_eq!(report(&lease, Need::Agent).await, (2, "1".into(), "[1]".into()));
        // Sessions do not mix.
        let other = world.acquire(&sessions, 2, Need::Agent).await.unwrap();
        assert_eq!(report(&other, Need::Agent).await.2, "");
        let view = sessions.show(&key).await.unwrap();
        assert_eq!(view.storage.unwrap().usage, Some((6, 1)));
        world.check();
    });
}

#[test]
fn an_agent_that_dies_shows_its_last_lines_and_the_next_call_starts_anew() {
    drive(async {
        let world = World::standing();
        let (sessions, _store) = world.open().await;
        world.engines.conduct(Conduct::Dies);
        let error = world.acquire(&sessions, 1, Need::Agent).await.err().unwrap();
        let SessionError::AgentDied { exit, last_lines } = &error else { panic!("{error}") };
        assert_eq!(
            (exit.as_str(), last_lines.as_slice()),
            ("exit code 1", &["ImportError: no module".to_owned()][..])
        );
        world.until(&sessions, 1, STOPPED, Some(EndReason::StartFailed)).await;
        assert_eq!(world.engines.running(), 0);
        let lines: Vec<_> =
            sessions.logs(LogFilter::default()).map(|e| (e.stream, e.message)).collect().await;
        assert!(lines.contains(&("stderr", "ImportError: no module".to_owned())), "{lines:?}");
        assert!(lines.contains(&("system", "the agent ended (exit code 1)".to_owned())), "{lines:?}");
        world.engines.conduct(Conduct::Healthy);
        world.acquire(&sessions, 1, Need::Agent).await.unwrap();
    });
}

#[test]
fn commands_run_beside_a_dead_agent_and_share_the_compute() {
    drive(async {
        let world = World::standing();
        let (sessions, store) = world.open().await;
        world.engines.conduct(Conduct::Dies);
        let first = report(&world.acquire(&sessions, 1, Need::Command).await.unwrap(), Need::Command).await;
        settle().await;
        let lease = world.acquire(&sessions, 1, Need::Command).await.unwrap();
        assert_eq!(report(&lease, Need::Command).await, first);
        // A call that needs the agent is told at once, and the command goes on.
        let told = world.acquire(&sessions, 1, Need::Agent).await.err().unwrap();
        assert!(matches!(told, SessionError::AgentDied { .. }), "{told}");
        settle().await;
        assert_eq!(report(&lease, Need::Command).await, first);
        // Having let a call down, the compute ends with the last command.
        drop(lease);
        world.until(&sessions, 1, STOPPED, Some(EndReason::Exited)).await;
        // With nobody inside, a call that needs the agent gets a new compute.
        world.acquire(&sessions, 1, Need::Command).await.unwrap();
        settle().await;
        world.engines.conduct(Conduct::Healthy);
        let lease = world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        assert_eq!(report(&lease, Need::Agent).await.0, 3);
        drop(lease);
        world.clock.advance(Duration::from_secs(61), &store).await.unwrap();
        world.until(&sessions, 1, STOPPED, Some(EndReason::IdleTimeout)).await;
        world.check();
    });
}

#[test]
fn an_agent_that_never_answers_times_out_without_ending_a_command() {
    drive(async {
        let world = World::standing();
        let (sessions, _store) = world.open().await;
        world.engines.conduct(Conduct::Mute);
        let command = world.acquire(&sessions, 1, Need::Command).await.unwrap();
        let error = world.acquire(&sessions, 1, Need::Agent).await.err().unwrap();
        assert!(matches!(error, SessionError::InitTimeout { limit: INIT_TIMEOUT, .. }), "{error}");
        settle().await;
        assert_eq!(world.state(&sessions, 1), Some((READY, None)));
        report(&command, Need::Command).await;
        drop(command);
        world.until(&sessions, 1, STOPPED, Some(EndReason::StartFailed)).await;
        // Nobody let down: the compute stays.
        world.acquire(&sessions, 2, Need::Command).await.unwrap();
        tokio::time::sleep(2 * INIT_TIMEOUT).await;
        assert_eq!(world.state(&sessions, 2), Some((READY, None)));
    });
}

#[test]
fn an_agent_that_dies_later_ends_its_compute_but_not_a_command() {
    drive(async {
        let world = World::standing();
        let (sessions, _store) = world.open().await;
        world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        let command = world.acquire(&sessions, 1, Need::Command).await.unwrap();
        world.engines.end_agents();
        settle().await;
        assert_eq!(world.state(&sessions, 1), Some((READY, None)));
        report(&command, Need::Command).await;
        drop(command);
        world.until(&sessions, 1, STOPPED, Some(EndReason::Exited)).await;
        world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        world.check();
    });
}

#[test]
fn a_dead_agents_unread_answer_does_not_keep_the_session() {
    drive(async {
        let world = World::standing();
        let (sessions, _store) = world.open().await;
        let unread = world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        let command = world.acquire(&sessions, 1, Need::Command).await.unwrap();
        world.engines.end_agents();
        settle().await;
        // Beside a command the next call is told at once, as ever.
        let refused = world.acquire(&sessions, 1, Need::Agent).await.err().unwrap();
        assert!(matches!(refused, SessionError::AgentDied { .. }), "{refused}");
        drop(command);
        settle().await;
        // What the agent wrote last has some time to arrive ...
        assert!(!unread.cut().is_cut());
        assert_eq!(world.state(&sessions, 1), Some((READY, None)));
        // ... and the next call waits for that and no longer.
        let again = world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        assert!(unread.cut().is_cut());
        assert_eq!(report(&again, Need::Agent).await, (2, "1".into(), "[1]".into()));
        // Without a next call it ends, too; a command is waited for as long as it takes.
        let command = world.acquire(&sessions, 1, Need::Command).await.unwrap();
        world.engines.end_agents();
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert!(!command.cut().is_cut());
        drop(command);
        world.until(&sessions, 1, STOPPED, Some(EndReason::Exited)).await;
        assert!(again.cut().is_cut());
        world.check();
    });
}

#[test]
fn a_start_that_the_engine_refuses_is_told_and_leaves_nothing() {
    drive(async {
        let world = World::standing();
        let (sessions, _store) = world.open().await;
        world.engines.starts_fail.store(true, Ordering::SeqCst);
        let error = world.acquire(&sessions, 1, Need::Command).await.err().unwrap();
        assert!(matches!(error, SessionError::Engine(_)), "{error}");
        assert_eq!(world.state(&sessions, 1), Some((STOPPED, Some(EndReason::StartFailed))));
        world.engines.starts_fail.store(false, Ordering::SeqCst);
        world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        // A runtime that is not there leaves no session behind.
        *world.targets.version.lock() = None;
        assert!(matches!(world.acquire(&sessions, 2, Need::Agent).await, Err(SessionError::Unknown)));
        settle().await;
        assert_eq!(world.state(&sessions, 2), None);
        assert_eq!(sessions.shared.all().len(), 1);
    });
}

#[test]
fn a_stop_cuts_streams_and_calls_after_it_start_anew() {
    drive(async {
        let world = World::standing();
        let (sessions, _store) = world.open().await;
        let lease = world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        let mut cut = lease.cut();
        assert!(!cut.is_cut());
        let key = world.key(1);
        let (stopped, (), fresh) = tokio::join!(sessions.stop(&key), cut.wait(), async {
            // The stop is under way when this call comes.
            while world.state(&sessions, 1).unwrap().0 != SessionState::Stopping {
                tokio::task::yield_now().await;
            }
            world.acquire(&sessions, 1, Need::Agent).await.unwrap()
        });
        stopped.unwrap();
        assert_eq!(report(&fresh, Need::Agent).await, (2, "1".into(), "[1]".into()));
        assert!(
            lease
                .spawn(ProcessSpec {
                    argv: vec!["x".into()],
                    environment: vec![],
                    working_directory: None,
                    user: None
                })
                .await
                .is_err()
        );
        world.check();
    });
}

#[test]
fn with_conflicts_as_on_aws_calls_in_between_are_refused() {
    drive(async {
        let mut world = World::standing();
        world.config.conflicts = crate::emulator::ConflictMode::Aws;
        let (sessions, _store) = world.open().await;
        let (first, second) =
            tokio::join!(world.acquire(&sessions, 1, Need::Agent), world.acquire(&sessions, 1, Need::Agent));
        assert!(first.is_ok());
        assert!(matches!(second, Err(SessionError::Busy)));
        let key = world.key(1);
        let (stopped, during) = tokio::join!(sessions.stop(&key), async {
            world.until(&sessions, 1, SessionState::Stopping, None).await;
            world.acquire(&sessions, 1, Need::Command).await
        });
        stopped.unwrap();
        assert!(matches!(during, Err(SessionError::Busy)));
        assert!(world.acquire(&sessions, 1, Need::Command).await.is_ok());
    });
}

#[test]
fn a_busy_agent_is_asked_before_an_idle_stop_and_kept() {
    drive(async {
        let world = World::standing();
        let (sessions, store) = world.open().await;
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        // No ping is due for seconds: only the question before the stop can find this out.
        world.engines.says(r#"{"status":"HealthyBusy"}"#);
        world.clock.advance(Duration::from_secs(100), &store).await.unwrap();
        settle().await;
        assert_eq!(world.state(&sessions, 1), Some((READY, None)));
        world.engines.says(r#"{"status":"Healthy"}"#);
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(world.state(&sessions, 1), Some((READY, None)));
        world.clock.advance(Duration::from_secs(61), &store).await.unwrap();
        world.until(&sessions, 1, STOPPED, Some(EndReason::IdleTimeout)).await;
        // Going back in time does not keep a session for as long as the clock was ahead.
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        world.clock.reset(&store).await.unwrap();
        settle().await;
        world.clock.advance(Duration::from_secs(61), &store).await.unwrap();
        world.until(&sessions, 1, STOPPED, Some(EndReason::IdleTimeout)).await;
    });
}

#[test]
fn replaced_and_expired_storage_is_set_aside_until_pruned() {
    drive(async {
        let world = World::standing();
        let (sessions, store) = world.open().await;
        let key = world.key(1);
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        world.update();
        // A running session keeps its version.
        let lease = world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        assert_eq!(report(&lease, Need::Agent).await, (1, "1".into(), String::new()));
        drop(lease);
        sessions.stop(&key).await.unwrap();
        let lease = world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        assert_eq!(report(&lease, Need::Agent).await, (2, "2".into(), String::new()));
        drop(lease);
        assert_eq!(store.set_aside().await.unwrap().len(), 1);
        let pruned = sessions.prune().await.unwrap();
        assert_eq!((pruned.sessions, pruned.storages, pruned.bytes), (0, 1, 3));
        assert!(store.set_aside().await.unwrap().is_empty());
        // Idle stop and expiry in one move of the clock.
        world.clock.advance(Duration::from_secs(15 * 24 * 3600), &store).await.unwrap();
        world.until(&sessions, 1, SessionState::Expired, Some(EndReason::IdleTimeout)).await;
        let lease = world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        assert_eq!(report(&lease, Need::Agent).await.2, "");
        drop(lease);
        world.clock.advance(Duration::from_secs(15 * 24 * 3600), &store).await.unwrap();
        world.until(&sessions, 1, SessionState::Expired, Some(EndReason::IdleTimeout)).await;
        let pruned = sessions.prune().await.unwrap();
        assert_eq!((pruned.sessions, pruned.storages), (1, 2));
        assert!(sessions.list().is_empty());
        assert!(
            !world.home.path().join("storage/coder-AbCdEf0123/DEFAULT").join(key.session.as_str()).exists()
        );
    });
}

#[test]
fn a_stop_that_failed_is_owed_until_one_succeeds() {
    drive(async {
        let world = World::standing();
        let (sessions, store) = world.open().await;
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        let key = world.key(1);
        world.engines.ends_fail.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            let failed = sessions.stop(&key).await.unwrap_err();
            assert!(!matches!(failed, SessionError::Unknown), "{failed}");
        }
        // Shown as what it is, with what is left of it in its record.
        assert_eq!(world.state(&sessions, 1), Some((SessionState::Stopped, Some(EndReason::Requested))));
        let left = || async { store.sessions().await.unwrap().remove(0).compute };
        assert!(left().await.is_some());
        world.engines.ends_fail.store(false, Ordering::SeqCst);
        sessions.stop(&key).await.unwrap();
        assert!(left().await.is_none());
        assert!(matches!(sessions.stop(&key).await, Err(SessionError::Unknown)));
        // A session that is used meanwhile owes nothing any more.
        drop(world.acquire(&sessions, 2, Need::Agent).await.unwrap());
        world.engines.ends_fail.store(true, Ordering::SeqCst);
        sessions.stop(&world.key(2)).await.unwrap_err();
        world.engines.ends_fail.store(false, Ordering::SeqCst);
        drop(world.acquire(&sessions, 2, Need::Agent).await.unwrap());
        sessions.stop(&world.key(2)).await.unwrap();
        assert!(matches!(sessions.stop(&world.key(2)).await, Err(SessionError::Unknown)));
        world.check();
    });
}

#[test]
fn a_session_is_shown_as_ready_once_it_can_be_used() {
    drive(async {
        let world = World::standing();
        let (sessions, _store) = world.open().await;
        let shown = |session| world.state(&sessions, session).map(|(state, _)| state);
        world.engines.conduct(Conduct::Mute);
        let target = world.target();
        let id = world.key(1).session;
        let mut waiting = Box::pin(sessions.acquire(&target, &id, Need::Agent));
        while !world.key_is_up(&sessions, 1) {
            tokio::select! {
                early = &mut waiting => panic!("{:?}", early.err()),
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
            }
        }
        // Its compute runs, and its agent has said nothing yet.
        assert_eq!(shown(1), Some(SessionState::Provisioning));
        assert_eq!(sessions.show(&world.key(1)).await.unwrap().state, SessionState::Provisioning);
        // Commands need no healthy agent.
        let command = world.acquire(&sessions, 1, Need::Command).await.unwrap();
        assert_eq!(shown(1), Some(SessionState::Ready));
        drop(command);
        drop(waiting);
        world.engines.conduct(Conduct::Healthy);
        drop(world.acquire(&sessions, 2, Need::Agent).await.unwrap());
        assert_eq!(shown(2), Some(SessionState::Ready));
    });
}

#[test]
fn a_session_whose_caller_left_is_shown_as_what_it_is() {
    for need in [Need::Command, Need::Agent] {
        for conduct in [Conduct::Mute, Conduct::Dies] {
            for left_after in [0, 1, 3, 5, 20] {
                drive(async {
                    let world = World::standing();
                    let (sessions, _store) = world.open().await;
                    world.engines.conduct(conduct);
                    let (target, id) = (world.target(), world.key(1).session);
                    let call =
                        timeout(Duration::from_millis(left_after), sessions.acquire(&target, &id, need));
                    drop(call.await);
                    // Whoever left needs no agent any more: its start is over when it is given up, and commands get in.
                    let right = async || {
                        loop {
                            match world.state(&sessions, 1) {
                                Some((READY, None)) => return true,
                                // It died on a caller who was still there.
                                Some((STOPPED, end)) => return end == Some(EndReason::StartFailed),
                                _ => tokio::time::sleep(Duration::from_millis(1)).await,
                            }
                        }
                    };
                    let in_time = timeout(world.config.init_timeout + Duration::from_secs(5), right()).await;
                    let state = world.state(&sessions, 1);
                    assert_eq!(in_time.ok(), Some(true), "{need:?} {conduct:?} {left_after}: {state:?}");
                    let failed = state.unwrap().0 == STOPPED;
                    assert!(
                        !failed || (need, conduct) == (Need::Agent, Conduct::Dies),
                        "{need:?} {conduct:?}"
                    );
                });
            }
        }
    }
}

#[test]
fn lists_have_what_is_asked_for_newest_first() {
    drive(async {
        let world = World::standing();
        let (sessions, _store) = world.open().await;
        let named = crate::model::session_id_for_name("coder", "ticket");
        let ids: Vec<_> = (1..=4).map(|n| world.key(n).session).chain([named.clone()]).collect();
        for id in &ids {
            drop(sessions.acquire(&world.target(), id, Need::Command).await.unwrap());
            settle().await;
        }
        sessions.stop(&world.key(2)).await.unwrap();
        let list = |filter: SessionFilter| {
            let mut listing = sessions.listing(&filter);
            let total = listing.total();
            let shown = std::iter::from_fn(|| listing.next(|record, _, _| record.key.session.clone()));
            (total, shown.collect::<Vec<_>>())
        };
        let newest: Vec<_> = ids.iter().rev().cloned().collect();
        let all = SessionFilter::default;
        assert_eq!(list(all()), (5, newest.clone()));
        assert_eq!(sessions.list().into_iter().map(|v| v.key.session).collect::<Vec<_>>(), newest);
        for limit in [1, 2, 4, 5, 9] {
            let shown = newest.iter().take(limit).cloned().collect();
            assert_eq!(list(SessionFilter { limit: Some(limit), ..all() }), (5, shown));
        }
        let running: Vec<_> = newest.iter().filter(|id| **id != ids[1]).cloned().collect();
        assert_eq!(list(SessionFilter { live: true, ..all() }), (4, running.clone()));
        assert_eq!(list(SessionFilter { live: true, limit: Some(1), ..all() }), (4, running[..1].to_vec()));
        assert_eq!(sessions.count(), (4, 5));
        for name in ["ticket", named.as_str()] {
            let session = Some(name.to_owned());
            assert_eq!(list(SessionFilter { session, ..all() }), (1, vec![named.clone()]));
        }
        let nobody = Some("nobody".to_owned());
        assert_eq!(list(SessionFilter { session: nobody.clone(), ..all() }), (0, vec![]));
        assert_eq!(list(SessionFilter { agent: nobody, ..all() }), (0, vec![]));
        assert_eq!(list(SessionFilter { agent: Some("coder".into()), ..all() }).0, 5);
        // One that is removed while the list is read is left out.
        let mut listing = sessions.listing(&all());
        sessions.remove(&world.key(4)).await.unwrap();
        let shown: Vec<_> =
            std::iter::from_fn(|| listing.next(|record, _, _| record.key.session.clone())).collect();
        assert_eq!(shown, [&newest[..1], &newest[2..]].concat());
    });
}

#[test]
fn bundles_that_something_names_or_runs_are_kept() {
    drive(async {
        let world = World::standing();
        let (sessions, _store) = world.open().await;
        let in_use = || sessions.shared.sources_in_use().unwrap();
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<HashSet<_>>();
        assert_eq!(in_use(), set(&[BUNDLE]), "of a version");
        let [first, second] = ["1", "2"].map(|digit| digit.repeat(64));
        let artifacts = world.home.path().join("artifacts");
        for bundle in [&first, &second] {
            std::fs::create_dir_all(artifacts.join(bundle)).unwrap();
            let manifest = |bundle: &str| artifacts.join(bundle).join("manifest.json");
            std::fs::copy(manifest(BUNDLE), manifest(bundle)).unwrap();
        }
        let runtime = world.key(0).runtime;
        let change = async |bundle: &str| {
            sessions.change_source(&runtime, Version::FIRST, bundle.to_owned(), false).await.unwrap()
        };
        change(&first).await;
        assert_eq!(in_use(), set(&[BUNDLE, &first]), "a changed source");
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        change(&second).await;
        assert_eq!(in_use(), set(&[BUNDLE, &first, &second]), "what a compute runs");
        // A compute that could not be ended may still run it.
        world.engines.ends_fail.store(true, Ordering::SeqCst);
        sessions.stop(&world.key(1)).await.unwrap_err();
        assert_eq!(in_use(), set(&[BUNDLE, &first, &second]), "what is left of a compute runs");
        world.engines.ends_fail.store(false, Ordering::SeqCst);
        sessions.stop(&world.key(1)).await.unwrap();
        assert_eq!(in_use(), set(&[BUNDLE, &second]));
    });
}

#[test]
fn no_bundle_is_deleted_while_code_of_a_dead_emulators_computes_may_run() {
    drive(async {
        let world = World::standing();
        let (sessions, store) = world.open().await;
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        world.engines.ends_fail.store(true, Ordering::SeqCst);
        drop((sessions, store));
        let (sessions, _store) = world.open().await;
        assert_eq!(sessions.shared.sources_in_use(), None);
        world.engines.ends_fail.store(false, Ordering::SeqCst);
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        sessions.stop(&world.key(1)).await.unwrap();
        assert_eq!(sessions.shared.sources_in_use(), Some(HashSet::from([BUNDLE.to_owned()])));
    });
}

#[test]
fn calls_that_wait_for_a_stop_fail_with_the_next_one() {
    drive(async {
        let world = World::standing();
        let (sessions, _store) = world.open().await;
        let key = world.key(1);
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        let later = async {
            world.until(&sessions, 1, SessionState::Stopping, None).await;
            tokio::join!(biased; world.acquire(&sessions, 1, Need::Agent), sessions.stop(&key))
        };
        let (first, (waited, second)) = tokio::join!(biased; sessions.stop(&key), later);
        assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
        assert!(matches!(waited, Err(SessionError::Busy)));
        settle().await;
        // Nothing was started for a call that had been told to go.
        assert_eq!((world.engines.made(), world.state(&sessions, 1).unwrap().0), (1, STOPPED));
    });
}

#[test]
fn a_call_that_waits_for_the_agent_keeps_its_session() {
    drive(async {
        let mut world = World::standing();
        world.config.init_timeout = Duration::from_secs(5);
        let (sessions, store) = world.open().await;
        world.engines.conduct(Conduct::Mute);
        let moves = async {
            settle().await;
            // Beyond the idle timeout of 60 s, and not beyond the lifetime.
            world.clock.advance(Duration::from_secs(90), &store).await.unwrap();
            settle().await;
            assert_eq!(world.state(&sessions, 1), Some((SessionState::Provisioning, None)));
        };
        let (waited, ()) = tokio::join!(world.acquire(&sessions, 1, Need::Agent), moves);
        let error = waited.err().unwrap();
        assert!(matches!(error, SessionError::InitTimeout { .. }), "{error}");
        world.check();
    });
}

#[test]
fn after_the_clock_is_set_back_stopped_sessions_count_from_then() {
    let days = |n: u64| Duration::from_secs(n * 24 * 3600);
    drive(async {
        let world = World::standing();
        let (sessions, store) = world.open().await;
        world.clock.advance(days(100), &store).await.unwrap();
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        sessions.stop(&world.key(1)).await.unwrap();
        world.clock.reset(&store).await.unwrap();
        let reset = world.clock.now();
        settle().await;
        assert!(sessions.list()[0].last_activity_at.since(reset) < days(1));
        assert!(store.sessions().await.unwrap()[0].last_activity_at.since(reset) < days(1));
        world.clock.advance(days(13), &store).await.unwrap();
        settle().await;
        assert_eq!(world.state(&sessions, 1).unwrap().0, STOPPED);
        world.clock.advance(days(2), &store).await.unwrap();
        world.until(&sessions, 1, SessionState::Expired, Some(EndReason::Requested)).await;
    });
}

#[test]
fn pruning_never_deletes_storage_in_use() {
    drive(async {
        let world = World::standing();
        let (sessions, store) = world.open().await;
        let key = world.key(1);
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        sessions.stop(&key).await.unwrap();
        let record = store.sessions().await.unwrap().remove(0);
        let first = record.storage.clone().unwrap().id;
        // A line that names the storage in use loses, and not the storage.
        let line = |id| SetAside {
            key: key.clone(),
            id,
            version: Version::FIRST,
            at: world.clock.now(),
            engine: "double".into(),
        };
        store.save_session(record.clone(), Some(line(first))).await.unwrap();
        let pruned = sessions.prune().await.unwrap();
        assert_eq!((pruned.sessions, pruned.storages), (0, 0));
        assert!(store.set_aside().await.unwrap().is_empty());
        let lease = world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        assert_eq!(report(&lease, Need::Agent).await.2, "[1]");
        drop(lease);
        // The tree of a storage set aside goes and its line stays, as a crash in the middle of a prune leaves it.
        world.update();
        sessions.stop(&key).await.unwrap();
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        let below = world.home.path().join("storage/coder-AbCdEf0123/DEFAULT").join(key.session.as_str());
        std::fs::remove_dir_all(below.join(first.0.to_string())).unwrap();
        drop((sessions, store));
        settle().await;
        let (sessions, store) = world.open().await;
        world.update();
        let lease = world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        let (ran, _, files) = report(&lease, Need::Agent).await;
        assert_eq!(files, "");
        drop(lease);
        sessions.stop(&key).await.unwrap();
        assert_eq!(store.set_aside().await.unwrap().len(), 2);
        // Two at once: each storage is deleted and counted once, and what names nothing is forgotten.
        let (one, two) = tokio::join!(sessions.prune(), sessions.prune());
        assert_eq!(one.unwrap().storages + two.unwrap().storages, 1);
        assert!(store.set_aside().await.unwrap().is_empty());
        let lease = world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        assert_eq!(report(&lease, Need::Agent).await.2, format!("[{ran}]"));
        world.check();
    });
}

#[test]
fn deleting_ends_computes_and_leaves_no_files() {
    drive(async {
        let world = World::standing();
        let (sessions, store) = world.open().await;
        let leases = [
            world.acquire(&sessions, 1, Need::Agent).await.unwrap(),
            world.acquire(&sessions, 2, Need::Agent).await.unwrap(),
        ];
        sessions.remove(&world.key(2)).await.unwrap();
        assert!(leases[1].cut().is_cut() && !leases[0].cut().is_cut());
        assert!(matches!(sessions.show(&world.key(2)).await, Err(SessionError::Unknown)));
        let again = world.acquire(&sessions, 2, Need::Agent).await.unwrap();
        assert_eq!(report(&again, Need::Agent).await.2, "");
        *world.targets.version.lock() = None;
        let runtime = world.key(0).runtime;
        let purged = sessions.purge_runtime(&runtime);
        let (purged, late) = tokio::join!(purged, world.acquire(&sessions, 3, Need::Agent));
        purged.unwrap();
        assert!(matches!(late, Err(SessionError::Unknown)));
        assert!(sessions.list().is_empty() && store.sessions().await.unwrap().is_empty());
        assert_eq!(world.engines.running(), 0);
        assert!(!world.home.path().join("storage").join(runtime.as_str()).exists());
        assert!(!world.home.path().join("logs").join(runtime.as_str()).exists());
        settle().await;
        assert!(sessions.shared.all().is_empty());
    });
}

#[test]
fn a_shutdown_ends_everything_and_starts_nothing() {
    drive(async {
        let world = World::standing();
        let (sessions, _store) = world.open().await;
        let _lease = world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        let starting = world.acquire(&sessions, 2, Need::Agent);
        let ((), late) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                sessions.shutdown().await
            },
            starting
        );
        assert!(matches!(late, Err(SessionError::ShuttingDown)));
        assert_eq!(world.engines.running(), 0);
        assert_eq!(world.state(&sessions, 1), Some((STOPPED, Some(EndReason::Shutdown))));
        assert!(matches!(world.acquire(&sessions, 1, Need::Command).await, Err(SessionError::ShuttingDown)));
        assert_eq!(world.engines.running(), 0);
    });
}

#[test]
fn after_a_crash_leftovers_are_ended_and_files_are_there() {
    drive(async {
        let world = World::standing();
        let (sessions, store) = world.open().await;
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        drop(world.acquire(&sessions, 2, Need::Agent).await.unwrap());
        sessions.stop(&world.key(2)).await.unwrap();
        drop((sessions, store));
        settle().await;
        let (sessions, _store) = world.open().await;
        assert_eq!(world.state(&sessions, 1).unwrap().0, SessionState::Stopping);
        // A call that comes before the leftover is ended waits for that.
        let lease = world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        assert_eq!(report(&lease, Need::Agent).await, (3, "1".into(), "[1]".into()));
        assert_eq!(world.state(&sessions, 1), Some((READY, Some(EndReason::EmulatorCrashed))));
        assert_eq!(world.state(&sessions, 2), Some((STOPPED, Some(EndReason::Requested))));
        assert_eq!(world.engines.state.lock().leftovers_ended, ["1"]);
        world.check();
    });
}

#[test]
fn a_task_that_fails_is_replaced_and_its_compute_ended() {
    drive(async {
        let world = World::standing();
        let (sessions, _store) = world.open().await;
        let shared = &sessions.shared;
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        // The nearest thing to a panic: the task is gone and has not retired.
        shared.entry(&world.key(1)).unwrap().send(Message::Fail, shared);
        settle().await;
        assert!(sessions.stop(&world.key(1)).await.is_ok());
        assert_eq!(world.engines.running(), 0);
        assert_eq!(world.engines.state.lock().leftovers_ended, ["1"]);
        let lease = world.acquire(&sessions, 1, Need::Agent).await.unwrap();
        assert_eq!(report(&lease, Need::Agent).await, (2, "1".into(), "[1]".into()));
        world.check();
    });
}

#[test]
fn a_thousand_known_sessions_open_quickly_and_have_no_tasks() {
    drive(async {
        let world = World::standing();
        let (sessions, store) = world.open().await;
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        sessions.stop(&world.key(1)).await.unwrap();
        let record = store.sessions().await.unwrap().remove(0);
        for n in 0..1000 {
            let key = SessionKey { session: format!("t{n:040}").parse().unwrap(), ..record.key.clone() };
            store.save_session(SessionRecord { key, ..record.clone() }, None).await.unwrap();
        }
        drop((sessions, store));
        let begun = std::time::Instant::now();
        let (sessions, _store) = world.open().await;
        assert_eq!(sessions.list().len(), 1001);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert!(!sessions.shared.all().iter().any(|e| e.has_task()));
    });
}

#[test]
fn a_session_goes_on_where_its_storage_is() {
    use crate::emulator::engines::{Engines, Missing};
    let missing = || Missing { reason: "as told".into(), hint: "none".into() };
    let world = World::standing();
    drive(async {
        let engine_of = |sessions: &Sessions, number| {
            let views = sessions.list();
            views.iter().find(|view| view.key == world.key(number)).unwrap().engine.clone()
        };
        let only_docker = || Engines::new(Err(missing()), Ok(world.engine("docker")));
        let (sessions, _store) = world.open_on(only_docker()).await;
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        assert_eq!(engine_of(&sessions, 1), "docker");
        sessions.shutdown().await;
        drop(sessions);
        // With both, new sessions run on the host's, and the old one stays.
        let both = Engines::new(Ok(world.engine("double")), Ok(world.engine("docker")));
        let (sessions, _store) = world.open_on(both).await;
        for (number, engine) in [(1, "docker"), (2, "double")] {
            drop(world.acquire(&sessions, number, Need::Agent).await.unwrap());
            assert_eq!(engine_of(&sessions, number), engine);
        }
        sessions.shutdown().await;
        drop(sessions);
        // An engine that is not there any more is named, and the files wait for it.
        let (sessions, _store) =
            world.open_on(Engines::new(Ok(world.engine("double")), Err(missing()))).await;
        let error = world.acquire(&sessions, 1, Need::Agent).await.err().unwrap();
        assert!(error.to_string().contains("as told"), "{error}");
        drop(world.acquire(&sessions, 2, Need::Agent).await.unwrap());
        sessions.shutdown().await;
    });
}

// ---------------------------------------------------------------- callers that leave

/// The whole emulator, with one runtime.
async fn emulator(world: &World) -> (Arc<Emulator>, Arc<Target>) {
    let engine = super::Engines::only(Arc::new(DoubleEngine(world.engines.clone(), "double")));
    let emulator = Emulator::open(world.config.clone(), engine, world.clock.clone()).await.unwrap();
    let input = serde_json::json!({
        "agentRuntimeArtifact": { "codeConfiguration": {
            "code": { "s3": { "bucket": crate::artifacts::BUCKET, "prefix": BUNDLE } },
            "runtime": "PYTHON_3_13",
            "entryPoint": ["main.py"],
        } },
        "roleArn": "arn:aws:iam::123456789012:role/agent",
        "networkConfiguration": { "networkMode": "PUBLIC" },
        "filesystemConfigurations": [{ "sessionStorage": { "mountPath": "/mnt/work" } }],
    });
    let settings = RuntimeSettings::from_input(input.as_object().unwrap()).unwrap();
    let new = NewRuntime { name: "coder".parse().unwrap(), settings, tags: Default::default() };
    let id = emulator.registry.create_runtime(new, None).await.unwrap().id;
    let target = ready(&emulator, &id, &EndpointName::default_endpoint()).await;
    (emulator, target)
}

async fn ready(emulator: &Emulator, id: &RuntimeId, endpoint: &EndpointName) -> Arc<Target> {
    let runtime = RuntimeRef::Arn(emulator.registry.arn(id));
    emulator.registry.resolve_when_ready(&runtime, endpoint).await.unwrap()
}

/// Makes a call far enough to give its order, and leaves.
fn abandon<T>(call: impl Future<Output = T>) {
    assert!(call.now_or_never().is_none(), "it was answered at once");
}

async fn in_time(mut done: impl FnMut() -> bool) {
    let right = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), right).await.is_ok(), "it does not come true");
}

#[test]
fn a_deletion_goes_on_when_its_caller_leaves() {
    drive(async {
        let world = World::standing();
        let (emulator, target) = emulator(&world).await;
        let id = target.arn.id.clone();
        let session = world.key(1).session;
        drop(emulator.sessions.acquire(&target, &session, Need::Agent).await.unwrap());
        let endpoint: EndpointName = "side".parse().unwrap();
        let made = NewEndpoint {
            name: endpoint.clone(),
            version: None,
            description: None,
            tags: Default::default(),
        };
        emulator.registry.create_endpoint(&id, made, None).await.unwrap();
        let side = ready(&emulator, &id, &endpoint).await;
        drop(emulator.sessions.acquire(&side, &session, Need::Command).await.unwrap());
        assert_eq!(world.engines.running(), 2);

        abandon(emulator.delete_agent_runtime_endpoint(&id, &endpoint, None));
        in_time(|| emulator.registry.endpoint(&id, &endpoint).is_err()).await;
        assert_eq!((world.engines.running(), emulator.sessions.list().len()), (1, 1));

        let token = || Some(ClientToken::new("t".repeat(33), &serde_json::Map::new()));
        abandon(emulator.delete_agent_runtime(&id, token()));
        // The repetition finds the deletion going on.
        let again = emulator.delete_agent_runtime(&id, token()).await.unwrap();
        assert_eq!(again.id, id);
        in_time(|| emulator.registry.runtime(&id).is_err()).await;
        assert_eq!((world.engines.running(), emulator.sessions.list().len()), (0, 0));
    });
}

#[test]
fn a_deletion_that_cannot_end_a_session_is_tried_again() {
    drive(async {
        let world = World::standing();
        let (emulator, target) = emulator(&world).await;
        let id = target.arn.id.clone();
        drop(emulator.sessions.acquire(&target, &world.key(1).session, Need::Agent).await.unwrap());
        world.engines.ends_fail.store(true, Ordering::SeqCst);
        emulator.delete_agent_runtime(&id, None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2500)).await;
        // What may still run is not forgotten.
        assert_eq!(emulator.registry.runtime(&id).unwrap().status, Status::Deleting);
        assert_eq!(emulator.sessions.list().len(), 1);
        world.engines.ends_fail.store(false, Ordering::SeqCst);
        in_time(|| emulator.registry.runtime(&id).is_err()).await;
        assert!(emulator.sessions.list().is_empty());
        assert_eq!(world.engines.state.lock().leftovers_ended, ["1"]);
        assert!(!world.home.path().join("storage").join(id.as_str()).exists());
    });
}

#[test]
fn a_stop_whose_caller_leaves_is_known_by_its_token() {
    drive(async {
        let world = World::standing();
        let (emulator, target) = emulator(&world).await;
        let key = SessionKey { runtime: target.arn.id.clone(), ..world.key(1) };
        drop(emulator.sessions.acquire(&target, &key.session, Need::Agent).await.unwrap());
        let stop = emulator.stop_session(&key, Some("token"));
        // The client goes in the middle of the stop and repeats it when all is over.
        assert!(tokio::time::timeout(Duration::from_millis(1), stop).await.is_err());
        in_time(|| emulator.sessions.list()[0].state == STOPPED).await;
        settle().await;
        emulator.stop_session(&key, Some("token")).await.unwrap();
        assert!(matches!(emulator.stop_session(&key, Some("other")).await, Err(SessionError::Unknown)));
        assert!(matches!(emulator.stop_session(&key, None).await, Err(SessionError::Unknown)));
    });
}

// ---------------------------------------------------------------- the reference model

#[derive(Debug, Clone)]
enum Step {
    Acquire(u8, bool),
    Release(u8),
    Stop(u8),
    Advance(u32),
    Update,
    EndAgents,
    Remove(u8),
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3u8, any::<bool>()).prop_map(|(s, agent)| Step::Acquire(s, agent)),
        3 => (0..3u8).prop_map(Step::Release),
        2 => (0..3u8).prop_map(Step::Stop),
        // Far from the limits of 60 s and 600 s, whatever they add up to, and beyond 14 days.
        4 => prop_oneof![Just(25u32), Just(200), Just(15 * 24 * 3600)].prop_map(Step::Advance),
        2 => Just(Step::Update),
        1 => Just(Step::EndAgents),
        1 => (0..3u8).prop_map(Step::Remove),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..24)
}

/// What a session should be, without tasks, gates or engines.
#[derive(Default)]
struct Reference {
    known: bool,
    live: Option<ReferenceCompute>,
    /// Version of the storage, and the computes that have written there.
    storage: Option<(Version, String)>,
    expired: bool,
    last_activity: Timestamp0,
    leases: Vec<Lease>,
}

/// A time that begins at zero, for `Default`.
type Timestamp0 = i64;

struct ReferenceCompute {
    number: usize,
    version: Version,
    started: Timestamp0,
    agent: bool,
    seen: String,
}

impl Reference {
    fn ended(&mut self, now: i64, cut: bool) {
        if self.live.take().is_some() && cut && !self.leases.is_empty() {
            self.last_activity = now;
        }
    }

    fn expire(&mut self, now: i64) {
        if self.live.is_none() && self.storage.is_some() && now - self.last_activity >= 14 * 24 * 3600 * 1000
        {
            self.storage = None;
            self.expired = true;
        }
    }

    /// Rules of time, with margins that the noise of the test stays far below.
    fn tick(&mut self, now: i64) {
        if let Some(live) = &self.live {
            let (age, idle) = (now - live.started, now - self.last_activity);
            let old = age >= 600_000;
            let quiet = self.leases.is_empty() && idle >= 60_000;
            if old || quiet {
                self.ended(now, old);
                // Calls that were cut hold no later compute.
                self.leases.clear();
            }
        }
        self.expire(now);
    }
}

async fn compare(steps: Vec<Step>) {
    let world = World::standing();
    let (mut sessions, mut store) = world.open().await;
    let mut references: Vec<Reference> = (0..3).map(|_| Reference::default()).collect();
    for step in steps {
        let version = world.targets.version.lock().unwrap();
        match step {
            Step::Acquire(s, agent) => {
                let need = if agent { Need::Agent } else { Need::Command };
                let lease = world.acquire(&sessions, s, need).await;
                let lease = lease.unwrap_or_else(|e| panic!("{e}"));
                let (number, ran, seen) = report(&lease, need).await;
                let now = world.clock.now().0;
                let reference = &mut references[usize::from(s)];
                reference.known = true;
                reference.expired = false;
                match &reference.live {
                    Some(live) => {
                        assert_eq!((number, &seen), (live.number, &live.seen), "another compute");
                        assert_eq!(ran, live.version.to_string());
                    }
                    None => {
                        let files = reference.storage.take().filter(|(stamp, _)| *stamp == version);
                        let files = files.map_or(String::new(), |(_, files)| files);
                        assert_eq!((&ran, &seen), (&version.to_string(), &files), "session {s}");
                        reference.storage = Some((version, format!("{files}[{number}]")));
                        reference.live =
                            Some(ReferenceCompute { number, version, started: now, agent: true, seen });
                    }
                }
                reference.last_activity = now;
                reference.leases.push(lease);
            }
            Step::Release(s) => {
                let reference = &mut references[usize::from(s)];
                if let Some(lease) = reference.leases.pop() {
                    drop(lease);
                    reference.last_activity = world.clock.now().0;
                    // The last to leave a compute whose agent has died ends it.
                    if reference.leases.is_empty() && reference.live.as_ref().is_some_and(|l| !l.agent) {
                        reference.live = None;
                    }
                }
            }
            Step::Stop(s) => {
                let stopped = sessions.stop(&world.key(s)).await;
                let reference = &mut references[usize::from(s)];
                assert_eq!(stopped.is_ok(), reference.live.is_some(), "{stopped:?}");
                assert_eq!(
                    world.engines.state.lock().running.len(),
                    references_live(&references) - usize::from(stopped.is_ok())
                );
                let reference = &mut references[usize::from(s)];
                reference.ended(world.clock.now().0, true);
                assert!(reference.leases.iter().all(|l| l.cut().is_cut()));
                reference.leases.clear();
            }
            Step::Advance(seconds) => {
                world.clock.advance(Duration::from_secs(u64::from(seconds)), &store).await.unwrap();
                let now = world.clock.now().0;
                for reference in &mut references {
                    reference.tick(now);
                }
            }
            Step::Update => world.update(),
            Step::EndAgents => {
                // Every agent is healthy by then: only commands outlive it. To keep the reference
                // simple, calls are over before.
                tokio::time::sleep(Duration::from_millis(50)).await;
                world.engines.end_agents();
                for reference in &mut references {
                    if let Some(live) = &mut reference.live {
                        live.agent = false;
                        if reference.leases.is_empty() {
                            reference.live = None;
                        }
                    }
                }
                // Leave no compute with a dead agent: what calls meet there has stories of its own.
                for reference in &mut references {
                    if reference.live.as_ref().is_some_and(|l| !l.agent) {
                        settle().await;
                        reference.leases.clear();
                        reference.last_activity = world.clock.now().0;
                        reference.live = None;
                    }
                }
            }
            Step::Remove(s) => {
                let removed = sessions.remove(&world.key(s)).await;
                assert_eq!(removed.is_ok(), references[usize::from(s)].known, "{removed:?}");
                references[usize::from(s)] = Reference::default();
            }
            Step::Crash => {
                for reference in &mut references {
                    reference.leases.clear();
                    reference.live = None;
                }
                // What only memory knows of activity may be some seconds older after a crash.
                drop((sessions, store));
                settle().await;
                (sessions, store) = world.open().await;
            }
        }
        settle().await;
        for (s, reference) in (0u8..).zip(&references) {
            let expected = match reference {
                Reference { known: false, .. } => None,
                Reference { live: Some(_), .. } => Some(READY),
                Reference { expired: true, .. } => Some(SessionState::Expired),
                _ => Some(STOPPED),
            };
            let stands = async {
                while world.state(&sessions, s).map(|(state, _)| state) != expected {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let timely = tokio::time::timeout(Duration::from_secs(5), stands).await;
            assert!(timely.is_ok(), "session {s} is {:?}, not {expected:?}", world.state(&sessions, s));
        }
        world.check();
        assert_eq!(world.engines.running(), references_live(&references));
    }
    references.clear();
    sessions.shutdown().await;
    assert_eq!(world.engines.running(), 0);
    world.check();
}

fn references_live(references: &[Reference]) -> usize {
    references.iter().filter(|r| r.live.is_some()).count()
}

// ---------------------------------------------------------------- images

#[test]
fn nobody_builds_while_images_are_removed_and_none_is_removed_while_somebody_builds() {
    drive(async {
        let world = World::standing();
        let (sessions, _store) = world.open().await;
        let builder = ArtifactStore::below(world.home.path());
        let held = builder.try_hold_images().unwrap().unwrap();
        assert_eq!(sessions.prune_images().await.unwrap(), 0);
        assert_eq!(world.engines.state.lock().prunes.len(), 0, "removed what somebody builds");
        drop(held);

        // Whoever asked has gone in the middle: the removal goes on, and nobody finds an image that it takes.
        let (open, gate) = watch::channel(false);
        world.engines.state.lock().prune_gate = Some(gate);
        let ask = || {
            let sessions = sessions.clone();
            tokio::spawn(async move { sessions.prune_images().await })
        };
        let mut asking = ask();
        // A process that another test forks has the lock, too, until it runs its program: nobody waits for it.
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while world.engines.state.lock().prunes.is_empty() {
            assert!(std::time::Instant::now() < end, "images were not removed");
            std::thread::sleep(Duration::from_millis(1));
            tokio::task::yield_now().await;
            if asking.is_finished() {
                assert_eq!(asking.await.unwrap().unwrap(), 0);
                asking = ask();
            }
        }
        assert_eq!(world.engines.state.lock().prunes, [HashSet::from([BUNDLE.to_owned()])]);
        asking.abort();
        assert!(asking.await.unwrap_err().is_cancelled());
        assert!(builder.own_images().unwrap().is_none());
        assert!(builder.try_hold_images().unwrap().is_none());
        // A second one has nothing to do.
        assert_eq!(sessions.prune_images().await.unwrap(), 0);
        assert!(builder.try_hold_images().unwrap().is_none());
        open.send_replace(true);
        while builder.try_hold_images().unwrap().is_none() {
            assert!(std::time::Instant::now() < end, "the images are not given back");
            std::thread::sleep(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
        sessions.shutdown().await;
    });
}

// ---------------------------------------------------------------- changed sources

#[test]
fn changed_code_runs_from_the_next_start_with_the_storage_kept() {
    drive(async {
        let world = World::standing();
        let (sessions, store) = world.open().await;
        let edited = "1".repeat(64);
        let artifacts = world.home.path().join("artifacts");
        std::fs::create_dir_all(artifacts.join(&edited).join("code")).unwrap();
        std::fs::copy(
            artifacts.join(BUNDLE).join("manifest.json"),
            artifacts.join(&edited).join("manifest.json"),
        )
        .unwrap();
        let runtime = world.key(0).runtime;
        let change = async |sessions: &Sessions, bundle: &str, restart| {
            sessions.change_source(&runtime, Version::FIRST, bundle.to_owned(), restart).await
        };
        let code = |sessions: &Sessions, session| {
            let entry = sessions.shared.entry(&world.key(session)).unwrap();
            entry.live().map(|live| live.source.clone())
        };
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        drop(world.acquire(&sessions, 2, Need::Agent).await.unwrap());

        // Told, and nothing that runs is touched.
        let told = change(&sessions, &edited, false).await.unwrap();
        assert_eq!(told, SourceChange { changed: true, outdated: 2, restarted: 0, failed: 0 });
        assert_eq!(code(&sessions, 1).as_deref(), Some(BUNDLE));
        let storage = |n| {
            let storage = sessions.shared.entry(&world.key(n)).unwrap().record().unwrap().storage.unwrap();
            (storage.id.0, storage.version)
        };
        let (first, second) = (storage(1), storage(2));
        sessions.stop(&world.key(1)).await.unwrap();
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        assert_eq!(code(&sessions, 1), Some(edited.clone()));
        assert_eq!(storage(1), first);

        // Told again, with a restart: only the session that still runs the old code is restarted.
        let made = world.engines.made();
        let told = change(&sessions, &edited, true).await.unwrap();
        assert_eq!(told, SourceChange { changed: false, outdated: 1, restarted: 1, failed: 0 });
        assert_eq!((code(&sessions, 2), world.engines.made()), (Some(edited.clone()), made + 1));
        assert_eq!(storage(2), second);

        // An agent that ends at its start is told of, and its session is stopped.
        change(&sessions, BUNDLE, false).await.unwrap();
        world.engines.conduct(Conduct::Dies);
        let told = change(&sessions, BUNDLE, true).await.unwrap();
        assert_eq!((told.restarted, told.failed), (0, 2));
        let stopped = Some((SessionState::Stopped, Some(EndReason::StartFailed)));
        assert_eq!([1, 2].map(|n| world.state(&sessions, n)), [stopped, stopped]);
        world.engines.conduct(Conduct::Healthy);
        change(&sessions, &edited, false).await.unwrap();

        // The next emulator knows it too; a new version runs its own code.
        sessions.shutdown().await;
        drop((sessions, store));
        let (sessions, _store) = world.open().await;
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        assert_eq!(code(&sessions, 1), Some(edited.clone()));
        sessions.stop(&world.key(1)).await.unwrap();
        *world.targets.version.lock() = Version::FIRST.next();
        drop(world.acquire(&sessions, 1, Need::Agent).await.unwrap());
        assert_eq!(code(&sessions, 1).as_deref(), Some(BUNDLE));

        // What cannot be: a version that is not the newest, a bundle that is not there.
        let late = change(&sessions, &edited, false).await;
        assert!(matches!(late, Err(SourceError::OtherVersion { .. })), "{late:?}");
        *world.targets.version.lock() = Some(Version::FIRST);
        let missing = change(&sessions, &"2".repeat(64), false).await;
        assert!(matches!(missing, Err(SourceError::Bundle(_))), "{missing:?}");
        // Back to the version's own code.
        assert!(change(&sessions, BUNDLE, false).await.unwrap().changed);
        assert!(sessions.shared.sources.read().is_empty());
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_does_what_the_reference_says(steps in steps()) {
        drive(compare(steps));
    }
}

// ---------------------------------------------------------------- races

#[test]
fn calls_and_stops_race_and_never_meet_two_computes_or_hang() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut world = World::new(Clock::system());
        world.config.stop_grace = Duration::from_millis(5);
        let world = Arc::new(world);
        let (sessions, _store) = world.open().await;
        let entered = Arc::new(AtomicUsize::new(0));
        let tasks = (0..24u64).map(|task| {
            let (world, sessions, entered) = (world.clone(), sessions.clone(), entered.clone());
            tokio::spawn(async move {
                let mut random = task.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
                for _ in 0..40 {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let session = (random % 3) as u8;
                    match random % 11 {
                        0 => drop(sessions.stop(&world.key(session)).await),
                        1 if session == 2 => drop(sessions.remove(&world.key(session)).await),
                        r => {
                            let need = if r % 2 == 0 { Need::Agent } else { Need::Command };
                            let call = world.acquire(&sessions, session, need);
                            match tokio::time::timeout(Duration::from_secs(20), call)
                                .await
                                .expect("a call hangs")
                            {
                                Ok(lease) => {
                                    entered.fetch_add(1, Ordering::SeqCst);
                                    assert_eq!(lease.session(), &world.key(session).session);
                                    tokio::time::sleep(Duration::from_micros(random % 3000)).await;
                                }
                                Err(
                                    SessionError::Busy
                                    | SessionError::Unknown
                                    | SessionError::AgentDied { .. },
                                ) => {}
                                Err(e) => panic!("{e}"),
                            }
                        }
                    }
                }
            })
        });
        for done in join_all(tasks).await {
            done.unwrap();
        }
        assert!(entered.load(Ordering::SeqCst) > 300, "{entered:?}");
        assert!(world.engines.made() > 10);
        sessions.shutdown().await;
        world.check();
        assert_eq!(world.engines.running(), 0);
    });
}
