//! The emulator as a process: started in the background, waited for, and what it does in the foreground.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

use super::Local;
use super::admin::{Admin, AdminError};
use super::down::Deleted;
use super::home::{Home, Running};
use super::journal::Journal;
use super::up::{EngineChoice, Settings, warn_of};
use crate::cli::env::Env;
use crate::cli::exit::{Class, Failure, OK, Outcome};
use crate::emulator::clock::Clock;
use crate::emulator::engines::{Engines, Missing};
use crate::emulator::{Emulator, EmulatorConfig};
use crate::engine::EngineError;
use crate::engine::docker::DockerEngine;
use crate::engine::embedded::EmbeddedEngine;
use crate::wire::admin::Status;

/// Port of the emulator when none is asked for. [ours]
pub(crate) const DEFAULT_PORT: u16 = 8642;
/// Longest wait for a started emulator's first answer. [ours: crash recovery may end computes first]
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two looks whether the emulator answers.
const START_POLL: Duration = Duration::from_millis(10);
/// Largest core dump. [core(5): what a limit of 1 means]
const CORE_BYTES: u64 = 1;
/// Lines of the emulator's log that go into an error.
const TAIL_LINES: usize = 10;
/// As much of the log's end as is looked at for them.
const TAIL_BYTES: usize = 64 * 1024;

/// An emulator that answers.
pub(crate) struct Started {
    pub(crate) status: Status,
    /// False when another command started one at the same time, and that one serves everybody.
    pub(crate) by_us: bool,
}

impl Local<'_> {
    pub(crate) fn admin(&self) -> Admin {
        Admin::new(&self.home.socket())
    }

    /// The running emulator's status; starts one when none runs, saying so.
    pub(crate) async fn ensure_running(&self) -> Result<Status, Failure> {
        match self.admin().status().await {
            Ok(status) => Ok(status),
            Err(AdminError::Down(_)) => {
                let Started { status, by_us } = self.start(&Settings::default()).await?;
                if by_us {
                    self.context.ui.note(format!("started the emulator at {}", status.endpoint));
                }
                Ok(status)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Starts an emulator in the background and waits until it answers.
    pub(crate) async fn start(&self, settings: &Settings) -> Result<Started, Failure> {
        self.home.make()?;
        let log = File::options().create(true).append(true).open(self.home.log_file());
        let log = log.map_err(self.home.unusable())?;
        let begun = log.metadata().map_err(self.home.unusable())?.len();
        let mut child = self.spawn(settings, log)?;
        let _spinner = self.context.ui.spinner("starting the emulator");
        let deadline = Instant::now() + START_TIMEOUT;
        let mut ended = None;
        loop {
            match self.admin().status().await {
                Ok(status) => {
                    let by_us = status.pid == child.id();
                    // The emulator said it to its log, where nobody looks.
                    if by_us
                        && settings.port.is_none()
                        && !status.endpoint.ends_with(&format!(":{DEFAULT_PORT}"))
                    {
                        self.context.ui.note(format!("port {DEFAULT_PORT} is taken, so a free one is used"));
                    }
                    return Ok(Started { status, by_us });
                }
                Err(AdminError::Down(_)) => {}
                // It listens and is not ready to speak.
                Err(AdminError::Broken(_)) if Instant::now() < deadline => {}
                Err(e) => return Err(e.into()),
            }
            if ended.is_none() {
                ended = child.try_wait().map_err(self.home.unusable())?;
            }
            // One that ends well found another emulator starting, which will answer.
            if let Some(end) = ended.filter(|end| !end.success()) {
                return Err(self.start_failure(end.code(), begun));
            }
            if Instant::now() >= deadline {
                let message = format!("the emulator did not answer within {} s", START_TIMEOUT.as_secs());
                let log = self.home.log_file();
                return Err(Failure::failed(message)
                    .details(self.log_tail(begun))
                    .hint(format!("its log is `{}`", log.display())));
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    fn spawn(&self, settings: &Settings, log: File) -> Result<Child, Failure> {
        let program = std::env::current_exe()
            .map_err(|e| Failure::failed(format!("this program's own file cannot be found: {e}")))?;
        let error = log.try_clone().map_err(self.home.unusable())?;
        let mut command = Command::new(&program);
        command.arg("local").arg("--home").arg(self.home.path()).args(["up", "--foreground", "--detached"]);
        command.args(settings.to_arguments());
        // Not the caller's directory: it may be on something that is to be unmounted.
        command.current_dir("/").stdin(Stdio::null()).stdout(log).stderr(error);
        command.spawn().map_err(|e| Failure::failed(format!("`{}` cannot be run: {e}", program.display())))
    }

    /// The failure of a started emulator, from its exit code and what it wrote to the log.
    fn start_failure(&self, code: Option<i32>, begun: u64) -> Failure {
        let lines = self.log_tail(begun);
        let said = |start: &str| lines.iter().rev().find_map(|l| l.strip_prefix(start)).map(str::to_owned);
        let class = if code == Some(i32::from(Class::Engine.code())) { Class::Engine } else { Class::Failed };
        let mut failure = match said("error: ") {
            Some(message) => Failure::new(class, message),
            None => {
                Failure::new(class, "the emulator ended as soon as it was started").details(lines.clone())
            }
        };
        let log = format!("the emulator's log is `{}`", self.home.log_file().display());
        failure.hint = said("hint: ").or(Some(log));
        failure
    }

    /// The last lines that the log got since it had `begun` bytes.
    fn log_tail(&self, begun: u64) -> Vec<String> {
        let text = std::fs::read(self.home.log_file()).unwrap_or_default();
        // A log that is shorter than it was has been replaced meanwhile.
        let begun = usize::try_from(begun).ok().filter(|begun| *begun <= text.len()).unwrap_or(0);
        let start = begun.max(text.len().saturating_sub(TAIL_BYTES));
        let text = String::from_utf8_lossy(text.get(start..).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)).map(|l| (*l).to_owned()).collect()
    }

    /// Forbids core dumps of this process and of what it starts: they would have secrets of agents and the
    /// access key in them. One byte, not none: where dumps go to a program instead of a file, the kernel
    /// takes a limit of none for one that does not count.
    fn forbid_core_dumps(&self) {
        let limit = setrlimit(Resource::RLIMIT_CORE, CORE_BYTES, CORE_BYTES);
        if let Err(error) = limit {
            self.context.ui.warn(format!("core dumps cannot be forbidden: {error}"));
        }
    }

    /// Lets this process have as many descriptors as it may: each live session takes several, each connection one.
    /// Gives the limit that it had, for sessions: programs in them may be made for a small one, as those that use
    /// `select` or close every descriptor there could be.
    fn raise_descriptors(&self) -> Option<u64> {
        let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
            Ok(soft)
        });
        raised.inspect_err(|e| self.context.ui.warn(format!("descriptors stay few: {e}"))).ok()
    }

    /// Is the emulator, until a signal or the admin plane ends it. With a `journal`, that one writes the home's log.
    pub(crate) async fn serve(&self, settings: &Settings, journal: Option<&Journal>) -> Outcome {
        let ui = &self.context.ui;
        self.forbid_core_dumps();
        let descriptors = self.raise_descriptors();
        self.home.make()?;
        let Some(_lock) = self.home.lock()? else {
            ui.note("an emulator runs already in this state directory");
            return Ok(OK);
        };
        if let Some(journal) = journal {
            journal.take(self.home.log_file()).map_err(self.home.unusable())?;
        }
        let key = self.home.access_key()?;
        let emulator = open(&self.home, settings, &self.context.env, descriptors).await?;
        warn_of(ui, &emulator.not_isolated);
        let aws = listen(settings.port, ui).await?;
        let address = aws.local_addr().map_err(self.home.unusable())?;
        settings.check_port(address.port())?;
        emulator.config.egress.planes_are_at(address);
        let admin = self.listen_admin()?;
        let endpoint = format!("http://{address}");
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let running = Running { pid: std::process::id(), endpoint: endpoint.clone(), version };
        let _announcement = self.home.announce(&running)?;
        let deaf = |e: io::Error| Failure::failed(format!("signals cannot be heard: {e}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(deaf)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(deaf)?;
        ui.result(&running, &endpoint)?;
        if journal.is_some() {
            tracing::info!("agentcore {} serves {endpoint}", running.version);
        }
        let shutdown = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let served = crate::server::serve(emulator, aws, admin, key, shutdown).await;
        served.map_err(|e| Failure::failed(format!("the emulator could not go on serving: {e}")))?;
        if journal.is_some() {
            tracing::info!("the emulator has ended");
        } else {
            ui.note("the emulator has ended");
        }
        Ok(OK)
    }

    /// Deletes every session of this home with its storage, and what is left of the home on the docker daemon.
    pub(super) async fn delete_sessions(&self) -> Result<Deleted, Failure> {
        self.home.make()?;
        // Before the emulator's lock: whoever builds may be about to start one.
        let _images = self.own_images().await?;
        let _spinner = self.context.ui.spinner("deleting every session");
        let Some(_lock) = self.home.lock()? else {
            return Err(
                Failure::failed("an emulator has been started meanwhile").hint("run the command again")
            );
        };
        let (settings, env) = (Settings::default(), &self.context.env);
        let failed = |e: &dyn std::fmt::Display| Failure::failed(e.to_string());
        let mut sessions = 0;
        // A state directory that never had an emulator has no sessions.
        if self.home.has_state() {
            let emulator = open(&self.home, &settings, env, None).await?;
            for view in emulator.sessions.list() {
                emulator.sessions.remove(&view.key).await.map_err(|e| failed(&e))?;
                sessions += 1;
            }
            emulator.sessions.prune().await.map_err(|e| failed(&e))?;
            emulator.shutdown().await;
        }
        let config = settings.docker(self.home.path(), env.daemon())?;
        let left = DockerEngine::new(config).delete_everything().await?;
        Ok(Deleted { sessions, containers: left.containers, volumes: left.volumes, images: left.images })
    }

    fn listen_admin(&self) -> Result<UnixListener, Failure> {
        let socket = self.home.socket();
        // Whoever holds the lock is the only one to listen here, so a socket that is there is a dead one's.
        match std::fs::remove_file(&socket) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(self.home.unusable()(e)),
            _ => {}
        }
        let listener = UnixListener::bind(&socket).map_err(self.home.unusable())?;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&socket, mode).map_err(self.home.unusable())?;
        Ok(listener)
    }
}

/// Opens the emulator of `home` on an engine that works here. `descriptors`: the limit of them that its sessions get,
/// where that is not this process's own.
pub(crate) async fn open(
    home: &Home,
    settings: &Settings,
    env: &Env,
    descriptors: Option<u64>,
) -> Result<Arc<Emulator>, Failure> {
    let engines = engines(home, settings, env, descriptors).await?;
    let mut config =
        settings.apply(EmulatorConfig::new(home.path().to_owned(), settings.region()?, settings.account()?));
    config.egress = Arc::new(settings.egress(env).await?);
    config.importer = Some(settings.importer(home, env)?);
    Ok(Emulator::open(config, engines, Arc::new(Clock::system())).await?)
}

/// The engines that were asked for; where nothing was, both, and code in containers where this host allows no
/// namespaces and a daemon answers.
async fn engines(
    home: &Home,
    settings: &Settings,
    env: &Env,
    descriptors: Option<u64>,
) -> Result<Engines, Failure> {
    let made = settings.docker(home.path(), env.daemon()).map(DockerEngine::new);
    let docker = Arc::new(made?);
    let image = settings.base_image();
    let with_image = |engines: Engines| match image {
        Some(image) => engines.with_base_image(image),
        None => engines,
    };
    let only = |name: &str| Missing {
        reason: format!("this emulator was started with `--engine {name}`"),
        hint: "start it without `--engine` to have both: `agentcore local down`, then `agentcore local up`"
            .to_owned(),
    };
    if settings.engine() == Some(EngineChoice::Docker) {
        docker.probe().await?;
        return Ok(with_image(Engines::new(Err(only("docker")), Ok(docker))));
    }
    let embedded = match settings.embedded(home.run_directory(), descriptors).and_then(EmbeddedEngine::new) {
        Ok(engine) => engine.probe().await.map(|()| engine),
        Err(e) => Err(e),
    };
    match (embedded, settings.engine()) {
        (Ok(engine), None) => Ok(with_image(Engines::new(Ok(Arc::new(engine)), Ok(docker)))),
        (Ok(engine), Some(_)) => Ok(Engines::new(Ok(Arc::new(engine)), Err(only("embedded")))),
        (Err(EngineError::Unavailable { reason, hint }), None) if docker.probe().await.is_ok() => {
            tracing::warn!("code runs in containers, because this host cannot run sessions itself: {reason}");
            Ok(with_image(Engines::new(Err(Missing { reason, hint }), Ok(docker))))
        }
        (Err(e), _) => Err(e.into()),
    }
}

/// Listens on the port asked for, or on the default one, or, where that is taken, on any.
async fn listen(port: Option<u16>, ui: &crate::cli::ui::Ui) -> Result<TcpListener, Failure> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let wanted = port.unwrap_or(DEFAULT_PORT);
    let refused = |e: io::Error| {
        Failure::failed(format!("port `{wanted}` cannot be served: {e}")).hint("choose another with `--port`")
    };
    match bind(wanted).await {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse && port.is_none() => {
            ui.note(format!("port {wanted} is taken, so a free one is used"));
            bind(0).await.map_err(refused)
        }
        result => result.map_err(refused),
    }
}
