//! `doctor`: what sessions need of this machine, what of it is missing, and the command that fixes it.

use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;
use serde_json::json;

use super::Context;
use super::exit::{Class, Failure, OK, Outcome};
use super::local::DEFAULT_PORT;
use crate::build::{
    BuildError, Choice, Docker, Engine, SERVICE_PLATFORM, emulation_missing, host_runs, shell_line,
};
use crate::engine::EngineError;
use crate::engine::embedded::{EmbeddedConfig, EmbeddedEngine};

/// Says whether AppArmor keeps programs without a profile from user namespaces. [Ubuntu 23.10 and later]
const RESTRICTION: &str = "proc/sys/kernel/apparmor_restrict_unprivileged_userns";
/// Where AppArmor's profiles lie, and ours among them.
const PROFILES: &str = "etc/apparmor.d";
const PROFILE: &str = "agentcore";
/// Characters that mean something in the path of a profile.
const PATTERN_CHARACTERS: [char; 12] = ['*', '?', '[', ']', '{', '}', '"', '\\', '^', '@', ',', '\n'];
/// Space that a few agents with their environments and storages take. [ours]
const ENOUGH_DISK_BYTES: u64 = 2_000_000_000;
/// Oldest API of an engine that images run on: that of 20.10. [ours]
const OLDEST_API: &str = "1.41";
/// Oldest Python of the templates. [ours]
const OLDEST_PYTHON: (u32, u32) = (3, 10);

/// Check what this machine has for running sessions, and say what fixes what it lacks
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore doctor
  agentcore doctor --output json")]
pub(crate) struct DoctorArgs {
    /// Write the AppArmor profile that lets this program make sessions (needs root)
    #[arg(long)]
    fix: bool,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// Something works less well than it could.
    Warning,
    /// Sessions cannot run.
    Missing,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, state: State::Ok, message: message.into(), fix: None }
    }

    fn warning(name: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Warning, message: message.into(), fix: Some(fix.into()) }
    }
}

impl DoctorArgs {
    pub(crate) fn exec(self, context: &Context) -> Outcome {
        if self.fix {
            let machine = Machine::this();
            let done = machine.fix(&program()?)?;
            if done.is_some() {
                machine.load_profile()?;
            }
            let text = match &done {
                Some(path) => format!("wrote and loaded `{}`", path.display()),
                None => {
                    "nothing to fix: AppArmor does not keep programs from user namespaces here".to_owned()
                }
            };
            context.ui.result(&json!({ "profile": done }), text)?;
            return Ok(OK);
        }
        context.block_on(async {
            let checks = check_all(context).await;
            let missing = checks.iter().any(|check| check.state == State::Missing);
            let mut text = String::new();
            for check in &checks {
                let word = match check.state {
                    State::Ok => "ok",
                    State::Warning => "warning",
                    State::Missing => "missing",
                };
                text.push_str(&format!("{word:<8} {:<10} {}\n", check.name, check.message));
                if let Some(fix) = &check.fix {
                    text.push_str(&format!("{:<20}fix: {fix}\n", ""));
                }
            }
            context.ui.result(&json!({ "ok": !missing, "checks": checks }), text.trim_end())?;
            Ok(if missing { Class::Engine.code() } else { OK })
        })
    }
}

async fn check_all(context: &Context) -> Vec<Check> {
    let machine = Machine::this();
    let mut checks = sessions().await;
    checks.extend(machine.apparmor());
    if let Ok(home) = context.env.home() {
        checks.push(disk(&home));
    }
    checks.push(port());
    checks.extend(containers(context).await);
    checks.push(fuse(Path::new("/dev/fuse")));
    checks.push(python(context));
    checks.push(match find(context, "uv") {
        Some(path) => Check::ok("uv", path.display().to_string()),
        None => Check::warning(
            "uv",
            "not installed: `pip` makes the environments of agents, which takes longer",
            "python3 -m pip install uv",
        ),
    });
    checks
}

/// Makes a whole session, and tells what holds it.
async fn sessions() -> Vec<Check> {
    const NAME: &str = "sessions";
    let missing = |message: String, fix: Option<String>| {
        vec![Check { name: NAME, state: State::Missing, message, fix }]
    };
    let scratch = match tempfile::Builder::new().prefix("agentcore-doctor-").tempdir() {
        Ok(scratch) => scratch,
        Err(e) => return missing(format!("no temporary directory could be made: {e}"), None),
    };
    let config = EmbeddedConfig::new(scratch.path().join("run"));
    let engine = match config.and_then(EmbeddedEngine::new) {
        Ok(engine) => engine,
        Err(e) => return missing(e.to_string(), None),
    };
    match engine.probe().await {
        Ok(()) => {}
        Err(EngineError::Unavailable { reason, hint }) => return missing(reason, Some(hint)),
        Err(e) => return missing(e.to_string(), None),
    }
    let mut checks = vec![Check::ok(NAME, "a trial session was made and ended")];
    checks.push(if engine.has_many_ids() {
        Check::ok("ids", "sessions have a range of user and group ids")
    } else {
        Check::warning(
            "ids",
            "sessions have one user id: changes of owners are answered as done, and `su` does not work inside",
            "sudo apt-get install uidmap && sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \
             \"$(id -un)\"",
        )
    });
    let held = engine.held_by_groups();
    let all = ["memory", "processes", "processors"];
    checks.push(if held.len() == all.len() {
        Check::ok("limits", "control groups hold memory, processes and processor time of sessions")
    } else {
        let loose: Vec<&str> = all.into_iter().filter(|name| !held.contains(name)).collect();
        Check::warning(
            "limits",
            format!("no control group holds {}: each process is limited for itself", loose.join(", ")),
            "start the emulator inside a delegated group: `systemd-run --user --scope --property=Delegate=yes \
             agentcore local up --foreground`",
        )
    });
    checks
}

/// What images need: Docker's client, an engine, buildx, and a way to linux/arm64.
async fn containers(context: &Context) -> Vec<Check> {
    let told = |name, error: BuildError| match error {
        BuildError::Missing { message, fix } => Check::warning(name, message, fix),
        other => Check::warning(name, other.to_string(), "docker version shows what the client meets"),
    };
    let docker = match Docker::find(context.env.docker()) {
        Ok(docker) => docker,
        Err(e) => return vec![told("docker", e)],
    };
    let mut checks = vec![Check::ok("docker", docker.program().display().to_string())];
    let engine = docker.engine().await;
    let engine = match engine {
        Ok(engine) => {
            let Engine { version, api, architecture, address, .. } = &engine;
            checks.push(if older(api, OLDEST_API) {
                let message = format!("{version} speaks API {api}; images need {OLDEST_API}");
                Check::warning("engine", message, "install a newer engine: 20.10 or later")
            } else {
                Check::ok("engine", format!("{version} (API {api}, {architecture}) at `{address}`"))
            });
            Some(engine)
        }
        Err(e) => {
            checks.push(told("engine", e));
            None
        }
    };
    let buildx = docker.check_buildx().await;
    let has_buildx = buildx.is_ok();
    checks.push(match buildx {
        Ok(()) => Check::ok("buildx", "the client has it"),
        Err(e) => told("buildx", e),
    });
    let Some(engine) = engine else { return checks };
    if has_buildx {
        checks.push(match docker.choose_builder(&engine, None, SERVICE_PLATFORM, true).await {
            Ok(chosen) if chosen.choice == Choice::Current => {
                Check::ok("builder", format!("the one in use makes {SERVICE_PLATFORM} images"))
            }
            Ok(chosen) => match chosen.choice.creation() {
                None => Check::ok("builder", chosen.reason.unwrap_or_default()),
                Some(creation) => Check::warning(
                    "builder",
                    format!(
                        "none makes {SERVICE_PLATFORM} images yet; `agentcore build` makes one that does"
                    ),
                    shell_line("docker", &creation),
                ),
            },
            Err(e) => told("builder", e),
        });
    }
    checks.push(emulation(&engine));
    checks
}

/// Whether images of the service's platform run on that engine.
fn emulation(engine: &Engine) -> Check {
    const NAME: &str = "arm64";
    let native = SERVICE_PLATFORM == format!("linux/{}", engine.architecture);
    if native {
        return Check::ok(NAME, format!("the engine runs {SERVICE_PLATFORM} images itself"));
    }
    if host_runs(SERVICE_PLATFORM) && engine.here {
        return Check::ok(NAME, format!("the engine runs {SERVICE_PLATFORM} images through an emulator"));
    }
    if !engine.here {
        return Check::ok(NAME, "the engine runs elsewhere: whether it emulates arm64 is known there alone");
    }
    match emulation_missing() {
        BuildError::Missing { message, fix } => Check::warning(NAME, message, fix),
        other => Check::warning(NAME, other.to_string(), "install an emulator of arm64"),
    }
}

/// True when version `version` is before `wanted`, both of numbers between dots.
fn older(version: &str, wanted: &str) -> bool {
    let numbers = |text: &str| text.split('.').map(|n| n.parse().unwrap_or(0)).collect::<Vec<u32>>();
    numbers(version) < numbers(wanted)
}

/// Whether file systems of programs can be mounted.
fn fuse(device: &Path) -> Check {
    const NAME: &str = "fuse";
    let message = |text: &str| format!("{text}: storage with the service's limits needs it, nothing else");
    match fs::OpenOptions::new().read(true).write(true).open(device) {
        Ok(_) => Check::ok(NAME, format!("`{}` can be used", device.display())),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Check::warning(
            NAME,
            message(&format!("`{}` is closed to you", device.display())),
            "sudo chmod 666 /dev/fuse (a udev rule keeps it), or run the emulator as root",
        ),
        Err(_) => Check::warning(
            NAME,
            message(&format!("there is no `{}`", device.display())),
            "sudo modprobe fuse && sudo apt-get install fuse3",
        ),
    }
}

fn disk(home: &Path) -> Check {
    const NAME: &str = "disk";
    let there = home.ancestors().find(|directory| directory.exists()).unwrap_or(home);
    match nix::sys::statvfs::statvfs(there) {
        Ok(about) => {
            let free = about.blocks_available().saturating_mul(about.fragment_size());
            let message = format!("{} MB free for `{}`", free / 1_000_000, home.display());
            if free >= ENOUGH_DISK_BYTES {
                Check::ok(NAME, message)
            } else {
                Check::warning(
                    NAME,
                    message,
                    "agentcore local session prune, or set `AGENTCORE_HOME` to another disk",
                )
            }
        }
        Err(e) => Check::warning(NAME, format!("`{}`: {e}", there.display()), "set `AGENTCORE_HOME`"),
    }
}

fn port() -> Check {
    const NAME: &str = "port";
    match std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, DEFAULT_PORT)) {
        Ok(_) => Check::ok(NAME, format!("{DEFAULT_PORT} is free")),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Check::ok(
            NAME,
            format!("{DEFAULT_PORT} is taken, perhaps by an emulator; another one takes a free port"),
        ),
        Err(e) => Check::warning(NAME, format!("{DEFAULT_PORT}: {e}"), "agentcore local up --port PORT"),
    }
}

fn python(context: &Context) -> Check {
    const NAME: &str = "python3";
    let fix = "sudo apt-get install python3 python3-venv, or: uv python install";
    let Some(path) = find(context, NAME) else {
        return Check::warning(NAME, "not installed: Python agents need it, others do not", fix);
    };
    let program = "import sys, venv, ensurepip; print(*sys.version_info[:2])";
    let mut command = Command::new(&path);
    let said = command.args(["-c", program]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let said =
        said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    let version = said.split_once(' ').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match version {
        Some(version) if version >= OLDEST_PYTHON => {
            Check::ok(NAME, format!("{}.{} at `{}`", version.0, version.1, path.display()))
        }
        Some((major, minor)) => {
            Check::warning(NAME, format!("{major}.{minor} is older than the templates need"), fix)
        }
        None => Check::warning(NAME, format!("`{}` has no `venv` or does not run", path.display()), fix),
    }
}

fn find(context: &Context, name: &str) -> Option<PathBuf> {
    let path = context.env.path.as_ref()?;
    std::env::split_paths(path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

fn program() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe().and_then(|program| program.canonicalize());
    program.map_err(|e| Failure::failed(format!("this program's own file is not known: {e}")))
}

/// The part of a machine that AppArmor is about.
struct Machine {
    root: PathBuf,
}

impl Machine {
    fn this() -> Self {
        Self { root: PathBuf::from("/") }
    }

    fn restricted(&self) -> bool {
        fs::read_to_string(self.root.join(RESTRICTION)).is_ok_and(|text| text.trim() == "1")
    }

    fn profile(&self) -> PathBuf {
        self.root.join(PROFILES).join(PROFILE)
    }

    fn apparmor(&self) -> Option<Check> {
        const NAME: &str = "apparmor";
        if !self.restricted() {
            return None;
        }
        let program = program().ok()?;
        let current = profile_of(&program).ok().zip(fs::read_to_string(self.profile()).ok());
        Some(match current {
            Some((wanted, found)) if wanted == found => {
                Check::ok(NAME, "the profile of this program is there")
            }
            Some(_) => Check::warning(
                NAME,
                "the profile is of another place of this program, or was changed",
                format!("sudo {} doctor --fix", program.display()),
            ),
            None => Check::warning(
                NAME,
                "programs without a profile may not use user namespaces here",
                format!("sudo {} doctor --fix", program.display()),
            ),
        })
    }

    /// Writes the profile; nothing where none is needed.
    fn fix(&self, program: &Path) -> Result<Option<PathBuf>, Failure> {
        if !self.restricted() {
            return Ok(None);
        }
        let file = self.profile();
        let text = profile_of(program)?;
        write_whole(&file, &text).map_err(|e| {
            Failure::failed(format!("`{}` cannot be written: {e}", file.display()))
                .hint(format!("this needs root: sudo {} doctor --fix", program.display()))
        })?;
        Ok(Some(file))
    }

    fn load_profile(&self) -> Result<(), Failure> {
        let file = self.profile();
        let hint = "install the package `apparmor`, or restart the machine: profiles are loaded then";
        let mut parser = Command::new("apparmor_parser");
        let output = parser.arg("--replace").arg(&file).stdin(Stdio::null()).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                Err(Failure::failed(format!("`{}` cannot be loaded: {said}", file.display())).hint(hint))
            }
            Err(e) => Err(Failure::failed(format!("`apparmor_parser` does not run: {e}")).hint(hint)),
        }
    }
}

/// The profile: it takes nothing from the program and allows it user namespaces.
fn profile_of(program: &Path) -> Result<String, Failure> {
    let path = program.to_str().filter(|path| !path.contains(PATTERN_CHARACTERS));
    let path = path.ok_or_else(|| {
        Failure::failed(format!("`{}` cannot stand in an AppArmor profile", program.display()))
            .hint("install agentcore to a path of letters and digits")
    })?;
    Ok(format!(
        "# Lets agentcore make the user namespaces that its sessions run in. Written by `agentcore doctor --fix`.\n\
         abi <abi/4.0>,\n\
         include <tunables/global>\n\n\
         profile agentcore \"{path}\" flags=(unconfined) {{\n  \
         userns,\n\n  \
         include if exists <local/agentcore>\n\
         }}\n"
    ))
}

/// Replaces a file by one with this content, whole or not at all.
fn write_whole(file: &Path, text: &str) -> io::Result<()> {
    let new = file.with_file_name(format!("{PROFILE}.{}.new", std::process::id()));
    let written = fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new);
    let written = written.and_then(|mut out| out.write_all(text.as_bytes()).and_then(|()| out.sync_all()));
    let placed = written.and_then(|()| fs::rename(&new, file));
    if placed.is_err() {
        let _ = fs::remove_file(&new);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(restricted: &str) -> (tempfile::TempDir, Machine) {
        let root = tempfile::tempdir().unwrap();
        let setting = root.path().join(RESTRICTION);
        fs::create_dir_all(setting.parent().unwrap()).unwrap();
        fs::create_dir_all(root.path().join(PROFILES)).unwrap();
        fs::write(setting, restricted).unwrap();
        let machine = Machine { root: root.path().to_owned() };
        (root, machine)
    }

    #[test]
    fn the_profile_is_written_where_it_is_needed() {
        let (_root, free) = machine("0\n");
        assert!(free.fix(Path::new("/usr/bin/agentcore")).unwrap().is_none());
        assert!(!free.profile().exists() && free.apparmor().is_none());

        let (_root, restricted) = machine("1\n");
        assert_eq!(restricted.apparmor().unwrap().state, State::Warning);
        restricted.fix(Path::new("/opt/other/agentcore")).unwrap().unwrap();
        assert!(restricted.apparmor().unwrap().message.contains("another place"));
        let file = restricted.fix(&program().unwrap()).unwrap().unwrap();
        let text = fs::read_to_string(file).unwrap();
        assert!(
            text.contains(program().unwrap().to_str().unwrap()) && text.contains("\n  userns,\n"),
            "{text}"
        );
        assert_eq!(restricted.apparmor().unwrap().state, State::Ok);
        let left: Vec<_> = fs::read_dir(restricted.root.join(PROFILES)).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(older("1.40", OLDEST_API) && older("1.9", OLDEST_API));
        assert!(!older("1.41", OLDEST_API) && !older("1.100", OLDEST_API) && !older("2.0", OLDEST_API));
    }

    #[test]
    fn a_missing_and_a_closed_device_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("fuse");
        assert!(fuse(&device).message.contains("there is no"));
        fs::write(&device, "").unwrap();
        assert_eq!(fuse(&device).state, State::Ok);
    }

    #[test]
    fn a_path_that_is_a_pattern_is_refused() {
        for path in ["/home/a*/agentcore", "/opt/{a}/agentcore", "/opt/a\"b/agentcore"] {
            assert!(profile_of(Path::new(path)).is_err(), "{path}");
        }
        assert!(profile_of(Path::new("/home/me/.local/bin/agentcore")).is_ok());
    }

    #[test]
    fn who_may_not_write_the_profile_is_told_to_be_root() {
        let (_root, restricted) = machine("1");
        fs::remove_dir(restricted.root.join(PROFILES)).unwrap();
        let failure = restricted.fix(Path::new("/usr/bin/agentcore")).unwrap_err();
        assert!(failure.hint.unwrap().contains("sudo /usr/bin/agentcore doctor --fix"));
    }
}
