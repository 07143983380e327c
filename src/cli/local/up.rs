//! `local up`: starts the emulator.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;

use super::admin::AdminError;
use super::daemon::Started;
use super::journal::Journal;
use super::{Local, identity};
use crate::artifacts::import::Importer;
use crate::cli::env::Env;
use crate::cli::exit::{Failure, OK, Outcome};
use crate::cli::ui::Ui;
use crate::egress::{Allowance, Egress, Grants, Upstream};
use crate::emulator::{ConflictMode, EmulatorConfig};
use crate::engine::EngineError;
use crate::engine::docker::{DaemonChoice, DockerConfig, Platform};
use crate::engine::embedded::{EmbeddedConfig, Isolation};
use crate::model::{AccountId, Region, parse_duration};

/// Region in ARNs when none is asked for. Not taken from the environment: the same emulator would then
/// change its runtimes' ARNs from shell to shell.
const DEFAULT_REGION: &str = "us-west-2";
/// Account in ARNs when none is asked for: one that AWS gives to nobody.
const DEFAULT_ACCOUNT: &str = "000000000000";

/// Start the emulator, in the background unless told otherwise
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore local up
  agentcore local up --watch                      # restarts sessions when the code changes
  agentcore local up --aws-identity profile dev
  agentcore local up --network off --network-allow localhost:11434")]
pub(crate) struct UpArgs {
    #[command(flatten)]
    settings: Settings,
    /// Stay in the foreground until Ctrl-C
    #[arg(long)]
    foreground: bool,
    /// Watch the project here, and restart its running sessions as soon as their code changes
    #[arg(long, conflicts_with = "foreground")]
    watch: bool,
    /// Leave the terminal's session
    #[arg(long, hide = true, requires = "foreground")]
    detached: bool,
}

/// What an emulator can be told at its start.
#[derive(clap::Args, Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Port on the loopback interface [default: 8642, or a free one when that is taken]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: Option<u16>,
    /// What runs sessions [default: code in namespaces where this host allows them, images in containers]
    #[arg(long, value_enum, value_name = "ENGINE")]
    engine: Option<EngineChoice>,
    /// Which container images run [default: linux/arm64]
    #[arg(long, value_enum, value_name = "PLATFORM")]
    platform: Option<PlatformChoice>,
    /// The image that code runs on in containers [default: agentcore-base:latest]
    #[arg(long, value_name = "IMAGE")]
    base_image: Option<String>,
    /// What keeps sessions apart [default: namespaces]; `process` is a last resort where the system denies them
    #[arg(long, value_enum, value_name = "KIND")]
    isolation: Option<IsolationChoice>,
    /// Show session storage from the start of a compute instead of from its first call
    #[arg(long)]
    early_mount: bool,
    /// Time between SIGTERM and SIGKILL when a session stops [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    grace: Option<Duration>,
    /// What a call meets while its session starts or stops [default: wait]
    #[arg(long, value_enum, value_name = "MODE")]
    conflicts: Option<ConflictChoice>,
    /// Time that a runtime stays CREATING or UPDATING [default: 100ms]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    ready_delay: Option<Duration>,
    /// Longest time to an agent's first healthy ping [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    init_timeout: Option<Duration>,
    /// Whether sessions reach the network, through the emulator's proxy [default: on]
    #[arg(long, value_enum, value_name = "MODE")]
    network: Option<NetworkChoice>,
    /// Service of this machine that sessions may reach, as `host.docker.internal:PORT`: a model server for one; repeatable
    #[arg(long, value_name = "HOST:PORT")]
    network_allow: Vec<Allowance>,
    /// Let agents call the emulator: invoke and change every runtime, run commands in every session
    #[arg(long)]
    allow_agent_calls: bool,
    /// AWS credentials that agents get: `none`, `profile NAME`, or `role` for each runtime's own role [default: none]
    #[arg(long, num_args = 1..=2, value_names = ["IDENTITY", "NAME"])]
    aws_identity: Vec<String>,
    /// Region in ARNs [default: us-west-2]
    #[arg(long, value_name = "REGION")]
    region: Option<Region>,
    /// Account in ARNs [default: 000000000000]
    #[arg(long, value_name = "ID")]
    account: Option<AccountId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum EngineChoice {
    /// Namespaces of this Linux host, which run code
    Embedded,
    /// Containers, which run images and code
    Docker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PlatformChoice {
    /// Those for arm64, as on the service; emulated where this machine is another
    #[value(name = "linux/arm64")]
    Arm64,
    /// Those for this machine
    Native,
}

impl PlatformChoice {
    /// The word of the command line.
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IsolationChoice {
    /// Namespaces of this Linux host, a filter of calls, and limits
    Namespaces,
    /// Nothing: agents are processes of yours, with a home and a port of their own
    Process,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NetworkChoice {
    /// All but this machine, through the proxy that the usual variables name
    On,
    /// Nothing but their own loopback
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ConflictChoice {
    /// It waits
    Wait,
    /// 409 RetryableConflictException at once, as the service documents it
    Aws,
}

impl Settings {
    /// The engine that was asked for.
    pub(super) fn engine(&self) -> Option<EngineChoice> {
        self.engine
    }

    /// Which images run.
    fn platform(&self) -> Platform {
        match self.platform {
            Some(PlatformChoice::Native) => Platform::Native,
            Some(PlatformChoice::Arm64) | None => Platform::Service,
        }
    }

    /// The image for code in containers.
    pub(super) fn base_image(&self) -> Option<String> {
        self.base_image.clone()
    }

    /// The defaults, with this isolation.
    pub(crate) fn isolated(isolation: Option<IsolationChoice>) -> Self {
        Self { isolation, ..Self::default() }
    }

    /// Refuses what does not go together.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        identity::parse(&self.aws_identity)?;
        if self.isolation() == Isolation::Process && self.network == Some(NetworkChoice::Off) {
            let message =
                "`--network off` cannot be held without isolation: agents have this machine's network";
            return Err(Failure::usage(message).hint("leave out `--network off` or `--isolation process`"));
        }
        Ok(())
    }

    /// Refuses an allowance of the emulator itself, which has a way of its own.
    pub(crate) fn check_port(&self, own: u16) -> Result<(), Failure> {
        match self.network_allow.iter().find(|allowance| allowance.port() == own && allowance.is_loopback()) {
            None => Ok(()),
            Some(allowance) => {
                let message = format!("`--network-allow {allowance}` is the emulator itself");
                Err(Failure::usage(message).hint("let agents call it with `--allow-agent-calls`"))
            }
        }
    }

    /// What keeps sessions apart.
    pub(crate) fn isolation(&self) -> Isolation {
        match self.isolation {
            Some(IsolationChoice::Process) => Isolation::Process,
            Some(IsolationChoice::Namespaces) | None => Isolation::Namespaces,
        }
    }

    /// The engine's configuration, with its scratch below `directory`.
    pub(crate) fn embedded(
        &self,
        directory: PathBuf,
        descriptors: Option<u64>,
    ) -> Result<EmbeddedConfig, EngineError> {
        let mut config = EmbeddedConfig::new(directory)?;
        config.descriptors = descriptors;
        config.isolation = self.isolation();
        config.orphan_grace = self.grace.unwrap_or(config.orphan_grace);
        Ok(config)
    }

    /// The docker engine's settings, for an emulator in this home.
    pub(crate) fn docker(&self, home: &Path, daemon: DaemonChoice) -> Result<DockerConfig, EngineError> {
        let mut config = DockerConfig::new(home, daemon, self.platform())?;
        config.orphan_grace = self.grace.unwrap_or(config.orphan_grace);
        Ok(config)
    }

    /// The command line that says the same.
    pub(crate) fn to_arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        let mut add = |flag: &str, value: Option<String>| {
            if let Some(value) = value {
                arguments.extend([OsString::from(flag), value.into()]);
            }
        };
        let millis = |d: Duration| format!("{}ms", d.as_millis());
        let word =
            |v: &dyn Fn() -> Option<clap::builder::PossibleValue>| v().map(|p| p.get_name().to_owned());
        add("--port", self.port.map(|p| p.to_string()));
        add("--engine", self.engine.and_then(|e| word(&|| e.to_possible_value())));
        add("--platform", self.platform.and_then(|p| word(&|| p.to_possible_value())));
        add("--base-image", self.base_image.clone());
        add("--isolation", self.isolation.and_then(|i| word(&|| i.to_possible_value())));
        add("--grace", self.grace.map(millis));
        add("--conflicts", self.conflicts.and_then(|c| word(&|| c.to_possible_value())));
        add("--network", self.network.and_then(|n| word(&|| n.to_possible_value())));
        add("--ready-delay", self.ready_delay.map(millis));
        add("--init-timeout", self.init_timeout.map(millis));
        add("--region", self.region.as_ref().map(Region::to_string));
        add("--account", self.account.as_ref().map(AccountId::to_string));
        for allowance in &self.network_allow {
            arguments.extend(["--network-allow".into(), allowance.to_string().into()]);
        }
        if self.allow_agent_calls {
            arguments.push("--allow-agent-calls".into());
        }
        if !self.aws_identity.is_empty() {
            arguments.push("--aws-identity".into());
            arguments.extend(self.aws_identity.iter().map(OsString::from));
        }
        if self.early_mount {
            arguments.push("--early-mount".into());
        }
        arguments
    }

    pub(crate) fn region(&self) -> Result<Region, Failure> {
        match &self.region {
            Some(region) => Ok(region.clone()),
            None => DEFAULT_REGION.parse().map_err(|e| Failure::failed(format!("`{DEFAULT_REGION}`: {e}"))),
        }
    }

    pub(crate) fn account(&self) -> Result<AccountId, Failure> {
        match &self.account {
            Some(account) => Ok(account.clone()),
            None => DEFAULT_ACCOUNT.parse().map_err(|e| Failure::failed(format!("`{DEFAULT_ACCOUNT}`: {e}"))),
        }
    }

    /// What sessions reach outside.
    pub(crate) async fn egress(&self, env: &Env) -> Result<Egress, Failure> {
        let identity = match identity::parse(&self.aws_identity)? {
            Some(kind) => Some(identity::open(kind, self.region()?, &env.network()).await?),
            None => None,
        };
        let [http, https, direct] = env.proxies.each_ref().map(Option::as_deref);
        // A variable that other programs may understand is no reason to refuse work that needs no network.
        let upstream = Upstream::new(http, https, direct).unwrap_or_else(|e| {
            tracing::warn!("{e}: sessions reach the network without a proxy of this machine");
            Upstream::default()
        });
        let grants = Grants { allowances: self.network_allow.clone(), agent_calls: self.allow_agent_calls };
        Ok(Egress::behind(self.network != Some(NetworkChoice::Off), identity, upstream, grants))
    }

    /// Where code packages come from that are not in the emulator's own store.
    pub(crate) fn importer(&self, home: &super::Home, env: &Env) -> Result<Importer, Failure> {
        let (path_style, network) = (env.own_endpoints, env.network());
        let buckets = super::code::Buckets { region: self.region()?, path_style, network };
        let (path, user_home) = (env.path.clone(), env.user_home.clone());
        Ok(Importer::new(Arc::new(buckets), home.path().to_owned(), path, user_home))
    }

    /// The configuration with these settings in place of its defaults.
    pub(crate) fn apply(&self, mut config: EmulatorConfig) -> EmulatorConfig {
        config.early_mount = self.early_mount;
        // Whoever builds an image for this emulator asks it.
        config.platform = self.platform.unwrap_or(PlatformChoice::Arm64).name();
        config.stop_grace = self.grace.unwrap_or(config.stop_grace);
        config.ready_delay = self.ready_delay.unwrap_or(config.ready_delay);
        config.init_timeout = self.init_timeout.unwrap_or(config.init_timeout);
        config.conflicts = match self.conflicts {
            Some(ConflictChoice::Aws) => ConflictMode::Aws,
            Some(ConflictChoice::Wait) => ConflictMode::Wait,
            None => config.conflicts,
        };
        config
    }
}

impl UpArgs {
    fn tell_of_running(&self, context: &crate::cli::Context) {
        context.ui.note("the emulator runs already");
        if self.settings != Settings::default() {
            context.ui.warn("the settings given do not apply to it: run `agentcore local down` first");
        }
    }

    pub(crate) fn exec(self, local: &Local<'_>) -> Outcome {
        let context = local.context;
        // Before anything is started: a wrong word is this command's to refuse.
        self.settings.check()?;
        if self.foreground {
            if self.detached {
                // A terminal that closes must not take the emulator with it. The process was just
                // forked, so it leads no group and this cannot fail for that reason.
                nix::unistd::setsid()
                    .map_err(|e| Failure::failed(format!("the terminal's session cannot be left: {e}")))?;
            }
            let journal = Arc::new(Journal::new());
            start_log(context, journal.clone());
            // Elsewhere the output is whoever's that started it.
            let journal = self.detached.then_some(&*journal);
            return context.block_on_threads(local.serve(&self.settings, journal));
        }
        context.block_on(async {
            let status = match local.admin().status().await {
                Ok(status) => {
                    self.tell_of_running(context);
                    status
                }
                Err(AdminError::Down(_)) => {
                    let Started { status, by_us } = local.start(&self.settings).await?;
                    if !by_us {
                        self.tell_of_running(context);
                    }
                    status
                }
                Err(e) => return Err(e.into()),
            };
            warn_of(&context.ui, &status.not_isolated);
            super::deploy::prepare_images(local, &status).await;
            if self.watch {
                // One line for each event, and this is the first.
                if context.ui.is_json() {
                    context.ui.event(&status)?;
                } else {
                    context.ui.line(&status.endpoint)?;
                }
                return local.watch(&status).await;
            }
            context.ui.result(&status, &status.endpoint)?;
            Ok(OK)
        })
    }
}

/// Says what agents are not kept from.
pub(crate) fn warn_of(ui: &Ui, not_isolated: &[String]) {
    if not_isolated.is_empty() {
        return;
    }
    ui.warn("agents are not isolated (`--isolation process`):");
    not_isolated.iter().for_each(|what| ui.warn(format!("  {what}")));
}

/// The emulator's own log goes to standard error; in the background to `emulator.log`.
fn start_log(context: &crate::cli::Context, journal: Arc<Journal>) {
    let level = match context.ui.verbose() {
        0 => "agentcore=info",
        1 => "agentcore=debug",
        _ => "debug",
    };
    let filter = context.env.log.clone().unwrap_or_else(|| level.to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    // A second subscriber is refused; there is only this one.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(journal).try_init();
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    #[test]
    fn settings_survive_the_way_through_a_command_line() {
        let line = "x --port 9000 --engine docker --platform native --base-image b:1 --isolation process --early-mount --grace 250ms --conflicts aws --network off --network-allow localhost:11434 --network-allow [::1]:80 --allow-agent-calls --aws-identity profile dev \
                    --ready-delay 2s --init-timeout 1m --region eu-west-1 --account 123456789012";
        let first = Line::parse_from(line.split_whitespace()).settings;
        let again = std::iter::once(OsString::from("x")).chain(first.to_arguments());
        assert_eq!(Line::parse_from(again).settings, first);
        assert_eq!(first.grace, Some(Duration::from_millis(250)));
        assert!(Settings::default().to_arguments().is_empty());
    }

    #[test]
    fn builders_are_told_the_platform_that_the_engine_runs() {
        let told = |line: &[&str]| {
            let settings = Line::parse_from([&["x"], line].concat()).settings;
            let (region, account) = (settings.region().unwrap(), settings.account().unwrap());
            settings.apply(EmulatorConfig::new("/".into(), region, account)).platform
        };
        assert_eq!(told(&["--platform", "native"]), "native");
        assert_eq!(told(&["--platform", "linux/arm64"]), "linux/arm64");
        assert_eq!(told(&[]), "linux/arm64");
    }
}
