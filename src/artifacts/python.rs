//! Which Python runs an agent, and what of the host that Python needs: its prefix, the environment
//! with the agent's packages, shared libraries in odd places.
//!
//! A project's own `.venv` is used as it is. Otherwise its requirements are installed once into an
//! environment that is kept under the emulator's home by a hash of what went in, so that the next
//! deployment needs neither time nor network. A project without requirements gets the plain interpreter.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Directories that every session has anyway.
const SYSTEM: [&str; 6] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32"];
/// Package managers whose programs find each other by absolute path all over one tree.
const WHOLE_TREES: [&str; 3] = ["/nix/store", "/gnu/store", "/home/linuxbrew/.linuxbrew"];
/// `PATH` of a session without an environment of its own.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where a session has the agent's code. [service: bundles are unpacked there]
const CODE_DIRECTORY: &str = "/var/task";
/// A directory that holds one of these is somebody's home, wherever it stands.
const KEYS: [&str; 3] = [".ssh", ".aws", ".gnupg"];
/// Directories of a home that all programs of the user keep their things in, keys among them.
const SHARED_OF_HOME: [&str; 4] = [".local", ".local/share", ".config", ".cache"];
/// Written last, so that an environment without it was interrupted.
const COMPLETE: &str = ".agentcore-complete";
/// Lines of an installer's output that go into an error.
const TAIL_LINES: usize = 20;

/// Where the packages of an agent may come from.
#[derive(Debug, Clone)]
pub struct PythonRequest<'a> {
    /// The agent's source directory.
    pub source: &'a Path,
    /// The project's directory, the second place for `.venv`.
    pub project: &'a Path,
    /// The emulator's home, where environments are kept.
    pub home: &'a Path,
    /// `runtime_type` of the project file.
    pub runtime: Option<&'a str>,
    /// The user's `PATH`.
    pub path: Option<&'a OsStr>,
    /// The user's home directory, which is never shown.
    pub user_home: Option<&'a Path>,
}

/// A Python ready to run an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Python {
    /// What starts the agent.
    pub interpreter: PathBuf,
    /// Its version as the service's `runtime`, such as `PYTHON_3_13`.
    pub runtime: String,
    /// Host paths it needs at their own place.
    pub read_only: Vec<PathBuf>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    /// What it shows of the host beside its own installation and what it leaves out, a line each.
    pub remarks: Vec<String>,
}

/// Why there is no Python for an agent.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    /// None on `PATH`.
    #[error("no Python interpreter was found (looked for {})", looked_for.join(", "))]
    Missing {
        /// The names looked for.
        looked_for: Vec<String>,
    },
    /// The interpreter does not run or answers nonsense.
    #[error("the Python interpreter `{}` does not work: {reason}", interpreter.display())]
    Broken {
        /// The interpreter.
        interpreter: PathBuf,
        /// What it said.
        reason: String,
    },
    /// The packages could not be installed.
    #[error("the agent's packages could not be installed: `{command}` failed")]
    Install {
        /// The command.
        command: String,
        /// Its last lines.
        last_lines: Vec<String>,
    },
    /// It is installed over a directory that holds more than Python.
    #[error(
        "the Python `{}` is installed into `{}`: showing that to sessions would show private files",
        interpreter.display(), prefix.display()
    )]
    Private {
        /// The interpreter.
        interpreter: PathBuf,
        /// Its prefix.
        prefix: PathBuf,
    },
    /// The requirements cannot be understood.
    #[error("`{}` cannot be read for its dependencies: {reason}", file.display())]
    Requirements {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file system refused something.
    #[error("{context} `{}`: {source}", path.display())]
    Io {
        /// What was being done.
        context: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// What an interpreter says of itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    version: (u32, u32),
    executable: PathBuf,
    real_executable: PathBuf,
    prefix: PathBuf,
    base_prefix: PathBuf,
    module_path: Vec<PathBuf>,
    libraries: Vec<PathBuf>,
}

/// Loads what agents load, so that the shared libraries behind it show up, and prints [`Facts`].
const ASK: &str = r#"
import sys, os, json
for name in ("ssl", "sqlite3", "ctypes", "zlib", "bz2", "lzma", "hashlib", "uuid"):
    try:
        __import__(name)
    except Exception:
        pass
libraries = set()
try:
    with open("/proc/self/maps") as maps:
        for line in maps:
            parts = line.rstrip("\n").split(None, 5)
            if len(parts) == 6 and parts[5].startswith("/") and " (deleted)" not in parts[5]:
                libraries.add(parts[5])
except OSError:
    pass
print(json.dumps({
    "version": [sys.version_info[0], sys.version_info[1]],
    "executable": sys.executable,
    "realExecutable": os.path.realpath(sys.executable),
    "prefix": sys.prefix,
    "basePrefix": sys.base_prefix,
    "modulePath": [p for p in sys.path if os.path.isdir(p)],
    "libraries": sorted(libraries),
}))
"#;

/// Prints the dependencies of a `pyproject.toml`, one a line.
const DEPENDENCIES: &str = r#"
import sys, tomllib
with open(sys.argv[1], "rb") as f:
    print("\n".join(tomllib.load(f).get("project", {}).get("dependencies", [])))
"#;

impl Python {
    /// Finds or makes the Python of an agent. `progress` hears of what takes long.
    pub fn prepare(request: &PythonRequest<'_>, progress: &dyn Fn(&str)) -> Result<Self, PythonError> {
        for place in [request.source, request.project] {
            let interpreter = place.join(".venv/bin/python");
            if interpreter.exists() {
                return Self::from_facts(&ask(&interpreter)?, request);
            }
        }
        let base = base_interpreter(request)?;
        let Some(requirements) = requirements(request.source, &base)? else {
            return Self::from_facts(&base, request);
        };
        let environment = environment(request, &base, &requirements, progress)?;
        Self::from_facts(&ask(&environment.join("bin/python"))?, request)
    }

    /// The interpreter alone.
    pub fn plain(request: &PythonRequest<'_>) -> Result<Self, PythonError> {
        Self::from_facts(&base_interpreter(request)?, request)
    }

    /// The interpreter with an environment that has the packages of `list`.
    pub fn with_packages(
        request: &PythonRequest<'_>,
        list: &str,
        progress: &dyn Fn(&str),
    ) -> Result<Self, PythonError> {
        let environment = environment(request, &base_interpreter(request)?, list, progress)?;
        Self::from_facts(&ask(&environment.join("bin/python"))?, request)
    }

    fn from_facts(facts: &Facts, request: &PythonRequest<'_>) -> Result<Self, PythonError> {
        let virtual_environment = facts.prefix != facts.base_prefix;
        let mut places = Places::new(request.user_home);
        let own = if virtual_environment { Some(&facts.prefix) } else { None };
        for prefix in own.into_iter().chain([&facts.base_prefix]) {
            if !places.add(prefix) {
                let (interpreter, prefix) = (facts.executable.clone(), prefix.clone());
                return Err(PythonError::Private { interpreter, prefix });
            }
        }
        if let Some(prefix) = facts.real_executable.parent().and_then(Path::parent) {
            places.add_or(prefix, &facts.real_executable);
        }
        if virtual_environment {
            for hop in hops(&facts.executable) {
                places.add_hop(&hop);
            }
        }
        for library in &facts.libraries {
            if let Some(tree) = WHOLE_TREES.iter().find(|t| library.starts_with(t)) {
                places.add(Path::new(tree));
            } else if let Some(directory) = library.parent() {
                places.add_or(directory, library);
            }
        }
        let elsewhere = Elsewhere::of(facts, request, &mut places);
        let interpreter =
            if virtual_environment { facts.executable.clone() } else { facts.real_executable.clone() };
        let mut environment = Vec::new();
        let binaries = interpreter.parent().unwrap_or(Path::new("/usr/bin")).display();
        let path = if is_system(&interpreter) {
            SYSTEM_PATH.to_owned()
        } else {
            format!("{binaries}:{SYSTEM_PATH}")
        };
        environment.push(("PATH".to_owned(), path));
        if virtual_environment {
            environment.push(("VIRTUAL_ENV".to_owned(), facts.prefix.display().to_string()));
        }
        if !elsewhere.in_bundle.is_empty() {
            environment.push(("PYTHONPATH".to_owned(), elsewhere.in_bundle.join(":")));
        }
        let (major, minor) = facts.version;
        Ok(Self {
            interpreter,
            runtime: format!("PYTHON_{major}_{minor}"),
            read_only: places.shown,
            environment,
            remarks: elsewhere.remarks,
        })
    }
}

/// Module directories outside the interpreter's own: a `.pth` file or an editable install may lead anywhere.
#[derive(Default)]
struct Elsewhere {
    /// Those of the agent's own code, by their path in the session.
    in_bundle: Vec<String>,
    remarks: Vec<String>,
}

impl Elsewhere {
    /// The agent's code has its place in the session, without what deployments leave out; of any other
    /// directory the modules alone are shown, not the project that they stand in.
    fn of(facts: &Facts, request: &PythonRequest<'_>, places: &mut Places) -> Self {
        let mut found = Self::default();
        let source = real(request.source);
        for entry in &facts.module_path {
            if is_system(entry) || [&facts.prefix, &facts.base_prefix].iter().any(|p| entry.starts_with(p)) {
                continue;
            }
            let (shown, entry) = (entry.display(), real(entry));
            if let Ok(below) = entry.strip_prefix(&source) {
                let below = Path::new(CODE_DIRECTORY).join(below);
                found.in_bundle.push(below.display().to_string().trim_end_matches('/').to_owned());
            } else if source.starts_with(&entry) {
                found.remarks.push(format!(
                    "Python modules of `{shown}` are not shown to sessions: the agent's directory is inside it"
                ));
            } else if places.private(&entry) {
                found.remarks.push(format!(
                    "Python modules of `{shown}` are not shown to sessions: it is a home directory or holds keys"
                ));
            } else {
                for module in modules(&entry) {
                    places.add(&module);
                }
                found.remarks.push(format!("sessions see the Python modules in `{shown}` (read-only)"));
            }
        }
        found
    }
}

/// What can be imported from a directory, and what describes it to `importlib.metadata`.
fn modules(directory: &Path) -> Vec<PathBuf> {
    let is_module = |path: &Path| matches!(path.extension().and_then(OsStr::to_str), Some("py" | "so"));
    let list = |path: &Path| -> Vec<PathBuf> {
        path.read_dir().into_iter().flatten().flatten().map(|e| e.path()).collect()
    };
    // Links are not followed out of the directory: what they lead to was not put on the module path.
    let plain = |path: &Path| path.symlink_metadata().is_ok_and(|m| !m.is_symlink());
    let package = |path: &Path| {
        let inside = list(path);
        // A package without `__init__.py` may have its modules one level further down.
        inside.iter().any(|p| is_module(p)) || inside.iter().any(|p| p.join("__init__.py").is_file())
    };
    let mut found: Vec<PathBuf> = list(directory)
        .into_iter()
        .filter(|path| {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            let identifier = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
            let metadata = name.ends_with(".dist-info") || name.ends_with(".egg-info");
            plain(path)
                && !name.starts_with('.')
                && if path.is_dir() { metadata || (identifier && package(path)) } else { is_module(path) }
        })
        .collect();
    found.sort();
    found
}

/// The path without links, or as it is where it does not exist.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// What a command needs of the host beside the system directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandNeeds {
    /// Host paths it needs at their own place.
    pub read_only: Vec<PathBuf>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    /// It is Node.
    pub node: bool,
    /// As [`Python::remarks`].
    pub remarks: Vec<String>,
}

impl CommandNeeds {
    /// What `program` needs: the agent's packages for a Python, the installation's prefix for a program
    /// of `PATH` that is in an odd place, nothing for one of the system or of the agent's own code.
    pub fn of(
        program: &str,
        request: &PythonRequest<'_>,
        progress: &dyn Fn(&str),
    ) -> Result<Self, PythonError> {
        let name = program.rsplit('/').next().unwrap_or(program);
        let node = name == "node";
        if name.starts_with("python") {
            let python = Python::prepare(request, progress)?;
            let Python { read_only, environment, remarks, .. } = python;
            return Ok(Self { read_only, environment, node, remarks });
        }
        let found = if program.contains('/') {
            Some(PathBuf::from(program)).filter(|p| p.is_absolute())
        } else {
            on_path(request.path, program)
        };
        let real = found.and_then(|f| f.canonicalize().ok()).filter(|f| !is_system(f));
        let Some(real) = real else {
            let environment = vec![("PATH".to_owned(), SYSTEM_PATH.to_owned())];
            return Ok(Self { read_only: Vec::new(), environment, node, remarks: Vec::new() });
        };
        let mut places = Places::new(request.user_home);
        if let Some(tree) = WHOLE_TREES.iter().find(|t| real.starts_with(t)) {
            places.add(Path::new(tree));
        }
        let binaries = real.parent().unwrap_or(Path::new("/"));
        // `bin` has its libraries beside it; a program that stands alone comes alone.
        match binaries.parent().filter(|_| binaries.ends_with("bin")) {
            Some(prefix) => places.add_or(prefix, &real),
            None => places.add_or(&real, &real),
        }
        let path = format!("{}:{SYSTEM_PATH}", binaries.display());
        let environment = vec![("PATH".to_owned(), path)];
        Ok(Self { read_only: places.shown, environment, node, remarks: Vec::new() })
    }
}

/// Host paths to show, none of them inside another or in a system directory.
struct Places {
    shown: Vec<PathBuf>,
    /// The user's home, as it is called and as it really is.
    homes: Vec<PathBuf>,
}

impl Places {
    fn new(user_home: Option<&Path>) -> Self {
        let homes = user_home.into_iter().flat_map(|home| [home.to_owned(), real(home)]).collect();
        Self { shown: Vec::new(), homes }
    }

    /// Showing it would show what is nobody's but the user's.
    fn private(&self, path: &Path) -> bool {
        let is = |path: &Path| {
            self.homes.iter().any(|home| {
                home.starts_with(path) || SHARED_OF_HOME.iter().any(|shared| home.join(shared) == path)
            }) || KEYS.iter().any(|key| path.join(key).symlink_metadata().is_ok())
        };
        is(path) || is(&real(path))
    }

    /// False when the path is private, and so is not shown.
    fn add(&mut self, path: &Path) -> bool {
        let depth = path.components().count();
        // `/` and its children are nobody's prefix: showing `/home` would show everything in it.
        if depth < 3 || is_system(path) || self.shown.iter().any(|p| path.starts_with(p)) {
            return true;
        }
        if self.private(path) {
            return false;
        }
        self.shown.retain(|p| !p.starts_with(path));
        self.shown.push(path.to_owned());
        true
    }

    /// A directory, or where that is private the one file of it that is needed.
    fn add_or(&mut self, directory: &Path, file: &Path) {
        if !self.add(directory) {
            self.add(file);
        }
    }

    /// A link on the way from a virtual environment to its interpreter must exist in the session too.
    fn add_hop(&mut self, hop: &Path) {
        let prefix = hop.parent().and_then(Path::parent);
        match prefix.filter(|p| p.join("lib").is_dir() && p.join("bin").is_dir()) {
            Some(prefix) if prefix.join("lib").read_dir().is_ok_and(has_python) => self.add_or(prefix, hop),
            _ => self.add_or(hop, hop),
        }
    }
}

fn has_python(mut directory: fs::ReadDir) -> bool {
    directory.any(|e| e.is_ok_and(|e| e.file_name().to_string_lossy().starts_with("python3")))
}

fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|s| path.starts_with(s))
}

/// The files that a chain of links passes through, the first one excluded.
fn hops(start: &Path) -> Vec<PathBuf> {
    /// As many as the kernel follows.
    const MOST: usize = 40;
    let mut found = Vec::new();
    let mut at = start.to_owned();
    while let Ok(target) = fs::read_link(&at) {
        at = at.parent().unwrap_or(Path::new("/")).join(target);
        found.push(at.clone());
        if found.len() == MOST {
            break;
        }
    }
    found
}

fn ask(interpreter: &Path) -> Result<Facts, PythonError> {
    let broken = |reason: String| PythonError::Broken { interpreter: interpreter.to_owned(), reason };
    let output = Command::new(interpreter)
        .args(["-I", "-c", ASK])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| broken(e.to_string()))?;
    if !output.status.success() {
        let lines = tail(&output);
        return Err(broken(lines.last().cloned().unwrap_or_else(|| output.status.to_string())));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| broken(e.to_string()))
}

/// The first interpreter on `PATH` that works, the one of the project's `runtime_type` before others.
fn base_interpreter(request: &PythonRequest<'_>) -> Result<Facts, PythonError> {
    let asked = request.runtime.and_then(|r| r.strip_prefix("PYTHON_3_")).map(|v| format!("python3.{v}"));
    let names: Vec<String> = asked.into_iter().chain(["python3".into(), "python".into()]).collect();
    let mut broken = None;
    for name in &names {
        let Some(program) = on_path(request.path, name) else { continue };
        match ask(&program) {
            Ok(facts) if facts.version.0 == 3 => return Ok(facts),
            Ok(_) => {}
            Err(e) => broken = broken.or(Some(e)),
        }
    }
    Err(broken.unwrap_or(PythonError::Missing { looked_for: names }))
}

/// The program of this name on `PATH`.
pub fn on_path(path: Option<&OsStr>, name: &str) -> Option<PathBuf> {
    let directories = std::env::split_paths(path?);
    directories.filter(|d| d.is_absolute()).map(|d| d.join(name)).find(|p| p.is_file())
}

/// The agent's requirements, wherever they are installed. A Python is needed for those of a `pyproject.toml` only.
pub(super) fn requirements_of(request: &PythonRequest<'_>) -> Result<Option<String>, PythonError> {
    let listed =
        ["requirements.txt", "pyproject.toml"].iter().any(|name| request.source.join(name).is_file());
    if !listed {
        return Ok(None);
    }
    requirements(request.source, &base_interpreter(request)?)
}

/// The agent's requirements as one text, or nothing when it has none.
fn requirements(source: &Path, base: &Facts) -> Result<Option<String>, PythonError> {
    let file = source.join("requirements.txt");
    if file.is_file() {
        let mut text = String::new();
        include(&file, &mut text, 0)?;
        let some = text.lines().any(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#'));
        return Ok(some.then_some(text));
    }
    let file = source.join("pyproject.toml");
    if !file.is_file() {
        return Ok(None);
    }
    let unreadable = |reason: String| PythonError::Requirements { file: file.clone(), reason };
    let output = Command::new(&base.real_executable)
        .args([OsStr::new("-I"), OsStr::new("-c"), OsStr::new(DEPENDENCIES), file.as_os_str()])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| unreadable(e.to_string()))?;
    if !output.status.success() {
        return Err(unreadable(tail(&output).pop().unwrap_or_else(|| output.status.to_string())));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((!text.trim().is_empty()).then_some(text))
}

/// The file that a line of requirements names, to include it or as constraints.
fn included(line: &str) -> Option<&str> {
    let flags = ["-r", "--requirement", "-c", "--constraint"];
    let rest = flags.iter().find_map(|flag| line.strip_prefix(flag))?;
    rest.strip_prefix([' ', '=']).map(str::trim)
}

/// The files that say which packages an agent needs, by their paths below `source`: `requirements.txt` with those that
/// it names, else `pyproject.toml`. Nothing is run for that.
pub fn requirement_files(source: &Path) -> Result<Vec<PathBuf>, PythonError> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> =
        ["requirements.txt", "pyproject.toml"].map(PathBuf::from).into_iter().collect();
    open.retain(|name| source.join(name).is_file());
    open.truncate(1);
    while let Some(name) = open.pop() {
        if found.contains(&name) {
            continue;
        }
        let file = source.join(&name);
        let unreadable = |reason: String| PythonError::Requirements { file: file.clone(), reason };
        let text = fs::read_to_string(&file).map_err(|e| unreadable(e.to_string()))?;
        if name.extension().is_none_or(|kind| kind != "toml") {
            let directory = name.parent().unwrap_or(Path::new(""));
            for other in text.lines().filter_map(|line| included(line.trim())) {
                let other = directory.join(other);
                let below =
                    other.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
                if !below {
                    let reason = format!(
                        "`{}` is not below the agent's directory, so no image has it",
                        other.display()
                    );
                    return Err(unreadable(reason));
                }
                open.push(other);
            }
        }
        found.push(name);
    }
    Ok(found)
}

/// Reads a requirements file with the ones it includes, which are as much a part of the environment.
fn include(file: &Path, text: &mut String, depth: usize) -> Result<(), PythonError> {
    /// Deeper is a circle.
    const DEEPEST: usize = 10;
    let unreadable = |reason: String| PythonError::Requirements { file: file.to_owned(), reason };
    if depth > DEEPEST {
        return Err(unreadable("it includes itself".into()));
    }
    let here = fs::read_to_string(file).map_err(|e| unreadable(e.to_string()))?;
    let directory = file.parent().unwrap_or(Path::new("/"));
    for line in here.lines() {
        let line = line.trim();
        if let Some(other) = included(line) {
            text.push_str("# ");
            text.push_str(line);
            text.push('\n');
            let constraint = line.starts_with("-c") || line.starts_with("--constraint");
            if constraint {
                text.push_str(&format!("-c {}\n", directory.join(other).display()));
            } else {
                include(&directory.join(other), text, depth + 1)?;
            }
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(())
}

/// The environment with `requirements`, made when it is not there.
fn environment(
    request: &PythonRequest<'_>,
    base: &Facts,
    requirements: &str,
    progress: &dyn Fn(&str),
) -> Result<PathBuf, PythonError> {
    let root = request.home.join("environments");
    fs::create_dir_all(&root).map_err(io("making", &root))?;
    let mut hash = Sha256::new();
    hash.update(base.real_executable.as_os_str().as_encoded_bytes());
    hash.update([0, u8::try_from(base.version.1).unwrap_or(u8::MAX)]);
    hash.update(requirements);
    let name: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
    let directory = root.join(&name);
    // Whoever comes second waits and finds the environment made.
    let lock_file = root.join(format!("{name}.lock"));
    let _lock = lock(&lock_file)?;
    if directory.join(COMPLETE).is_file() {
        return Ok(directory);
    }
    match fs::remove_dir_all(&directory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io("removing", &directory)(e)),
        _ => {}
    }
    let list = root.join(format!("{name}.txt"));
    fs::write(&list, requirements).map_err(io("writing", &list))?;
    let words = |text: &[&str]| text.iter().map(OsString::from).collect::<Vec<_>>();
    let python = directory.join("bin/python");
    let run = |what: &str, program: &Path, arguments: Vec<OsString>| -> Result<(), PythonError> {
        progress(what);
        // An environment must be readable by sessions, whatever the user's umask.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "umask 022; exec \"$@\"", "sh"]).arg(program).args(&arguments);
        command.current_dir(request.source).stdin(Stdio::null());
        let shown = std::iter::once(program.as_os_str()).chain(arguments.iter().map(OsString::as_os_str));
        let shown = shown.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
        let output = command.output().map_err(io("running", program))?;
        if output.status.success() {
            return Ok(());
        }
        Err(PythonError::Install { command: shown, last_lines: tail(&output) })
    };
    if let Some(uv) = on_path(request.path, "uv") {
        let mut arguments = words(&["venv", "--quiet", "--python"]);
        arguments.extend([base.real_executable.clone().into(), directory.clone().into()]);
        run("making a Python environment", &uv, arguments)?;
        let mut arguments = words(&["pip", "install", "--python"]);
        arguments.extend([python.into(), "-r".into(), list.into()]);
        run("installing the agent's packages", &uv, arguments)?;
    } else {
        let mut arguments = words(&["-m", "venv"]);
        arguments.push(directory.clone().into());
        run("making a Python environment", &base.real_executable, arguments)?;
        let mut arguments =
            words(&["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-r"]);
        arguments.push(list.into());
        run("installing the agent's packages", &python, arguments)?;
    }
    let mark = directory.join(COMPLETE);
    fs::write(&mark, "").map_err(io("writing", &mark))?;
    Ok(directory)
}

/// Waits until nobody else holds the lock.
pub(super) fn lock(path: &Path) -> Result<Flock<File>, PythonError> {
    let file = File::options().create(true).append(true).open(path).map_err(io("opening", path))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| io("locking", path)(e.into()))
}

fn io<'a>(context: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> PythonError + 'a {
    move |source| PythonError::Io { context, path: path.to_owned(), source }
}

/// The last lines of what a program said.
pub(super) fn tail(output: &Output) -> Vec<String> {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)).map(|l| (*l).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(prefix: &str, base: &str, executable: &str, libraries: &[&str]) -> Facts {
        Facts {
            version: (3, 12),
            executable: executable.into(),
            real_executable: format!("{base}/bin/python3.12").into(),
            prefix: prefix.into(),
            base_prefix: base.into(),
            module_path: vec![format!("{prefix}/lib/python3.12/site-packages").into()],
            libraries: libraries.iter().map(PathBuf::from).collect(),
        }
    }

    fn request(source: &Path) -> PythonRequest<'_> {
        PythonRequest {
            source,
            project: source,
            home: Path::new("/h"),
            runtime: None,
            path: None,
            user_home: Some(Path::new("/home/u")),
        }
    }

    #[test]
    fn a_system_python_needs_nothing_more_and_an_odd_one_its_prefix() {
        let source = Path::new("/home/u/agent");
        let system = facts("/usr", "/usr", "/usr/bin/python3", &["/usr/lib/x86_64-linux-gnu/libssl.so.3"]);
        let python = Python::from_facts(&system, &request(source)).unwrap();
        assert_eq!(python.read_only, Vec::<PathBuf>::new());
        assert_eq!(python.interpreter, Path::new("/usr/bin/python3.12"));
        assert_eq!(python.runtime, "PYTHON_3_12");

        let odd = facts(
            "/home/u/agent/.venv",
            "/home/u/.pyenv/versions/3.12.1",
            "/home/u/agent/.venv/bin/python",
            &["/nix/store/abc-openssl/lib/libssl.so.3", "/opt/odd/lib/libz.so"],
        );
        let python = Python::from_facts(&odd, &request(source)).unwrap();
        let expected =
            ["/home/u/agent/.venv", "/home/u/.pyenv/versions/3.12.1", "/nix/store", "/opt/odd/lib"];
        assert_eq!(python.read_only, expected.map(PathBuf::from));
        assert_eq!(python.interpreter, Path::new("/home/u/agent/.venv/bin/python"));
        assert!(python.environment[0].1.starts_with("/home/u/agent/.venv/bin:"));
        assert_eq!(python.environment[1].0, "VIRTUAL_ENV");
    }

    #[test]
    fn home_and_root_are_never_shown_whole() {
        let mut places = Places::new(Some(Path::new("/home/u/me")));
        for path in ["/", "/home", "/root", "/usr/local"] {
            places.add(Path::new(path));
        }
        for path in ["/home/u", "/home/u/me", "/home/u/me/.local", "/home/u/me/.local/share"] {
            assert!(!places.add(Path::new(path)), "{path}");
        }
        assert!(places.shown.is_empty(), "{:?}", places.shown);
        places.add_or(Path::new("/home/u/me"), Path::new("/home/u/me/bin/tool"));
        assert_eq!(places.shown, [Path::new("/home/u/me/bin/tool")]);
    }

    #[test]
    fn a_python_installed_over_a_home_is_refused() {
        let over = facts("/home/u", "/home/u", "/home/u/bin/python3", &[]);
        let error = Python::from_facts(&over, &request(Path::new("/home/u/agent"))).unwrap_err();
        assert!(error.to_string().contains("is installed into `/home/u`"), "{error}");
    }

    #[test]
    fn of_module_directories_elsewhere_only_the_modules_are_shown() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let files = [
            "project/agent/src/mine/__init__.py",
            "project/agent/.env",
            "shared/.env",
            "shared/README.md",
            "shared/tool.py",
            "shared/pkg/__init__.py",
            "shared/space/inner/__init__.py",
            "shared/pkg-1.0.dist-info/METADATA",
            "shared/notes/private.txt",
            "keys/.ssh/id_rsa",
            "keys/mine.py",
            "home/mine.py",
        ];
        for file in files {
            let file = root.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        std::os::unix::fs::symlink(root.join("home/mine.py"), root.join("shared/linked.py")).unwrap();
        let mut facts = facts("/usr", "/usr", "/usr/bin/python3", &[]);
        facts.module_path = ["project/agent", "project/agent/src", "project", "shared", "keys", "home"]
            .map(|entry| root.join(entry))
            .into();
        let (source, home) = (root.join("project/agent"), root.join("home"));
        let request = PythonRequest { user_home: Some(&home), ..request(&source) };
        let python = Python::from_facts(&facts, &request).unwrap();
        let expected = ["pkg", "pkg-1.0.dist-info", "space", "tool.py"];
        assert_eq!(python.read_only, expected.map(|name| root.join("shared").join(name)));
        let variable = python.environment.iter().find(|(name, _)| name == "PYTHONPATH").unwrap();
        assert_eq!(variable.1, "/var/task:/var/task/src");
        let remarks = python.remarks.join("\n");
        let parts = ["project` are not", "in `", "shared` (read-only)", "keys` are not", "home` are not"];
        assert!(parts.iter().all(|part| remarks.contains(part)), "{remarks}");
        assert_eq!(python.remarks.len(), 4, "{remarks}");
    }

    #[test]
    fn requirements_follow_their_includes_and_a_circle_ends() {
        let dir = tempfile::tempdir().unwrap();
        let base = facts("/usr", "/usr", "/usr/bin/python3", &[]);
        assert_eq!(requirements(dir.path(), &base).unwrap(), None);
        fs::write(dir.path().join("requirements.txt"), "# nothing\n\n").unwrap();
        assert_eq!(requirements(dir.path(), &base).unwrap(), None);
        fs::write(dir.path().join("requirements.txt"), "-r more.txt\nboto3\n").unwrap();
        fs::write(dir.path().join("more.txt"), "httpx==1\n").unwrap();
        let text = requirements(dir.path(), &base).unwrap().unwrap();
        assert!(text.contains("httpx==1") && text.contains("boto3"), "{text}");
        fs::write(dir.path().join("more.txt"), "-r requirements.txt\n").unwrap();
        assert!(matches!(requirements(dir.path(), &base), Err(PythonError::Requirements { .. })));
    }

    #[test]
    fn the_files_of_requirements_are_named_and_stay_below_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        assert!(requirement_files(dir.path()).unwrap().is_empty());
        fs::write(dir.path().join("pyproject.toml"), "[project]\n").unwrap();
        assert_eq!(requirement_files(dir.path()).unwrap(), [PathBuf::from("pyproject.toml")]);
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("requirements.txt"), "-r sub/more.txt\n-c=limits.txt\nboto3\n").unwrap();
        fs::write(dir.path().join("sub/more.txt"), "--requirement  most.txt\n").unwrap();
        fs::write(dir.path().join("sub/most.txt"), "-r most.txt\n").unwrap();
        fs::write(dir.path().join("limits.txt"), "").unwrap();
        let mut found = requirement_files(dir.path()).unwrap();
        found.sort();
        let expected = ["limits.txt", "requirements.txt", "sub/more.txt", "sub/most.txt"];
        assert_eq!(found, expected.map(PathBuf::from));
        for outside in ["-r ../x.txt", "-c /etc/passwd"] {
            fs::write(dir.path().join("requirements.txt"), outside).unwrap();
            assert!(matches!(requirement_files(dir.path()), Err(PythonError::Requirements { .. })));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_requirements_are_read_or_refused(
            text in "(-r|--requirement|-c|--constraint|#|[ =./a]|requirements.txt|more|\\PC|\\n){0,20}",
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let base = facts("/usr", "/usr", "/nowhere", &[]);
            fs::write(dir.path().join("more"), bytes).unwrap();
            fs::write(dir.path().join("requirements.txt"), &text).unwrap();
            match requirements(dir.path(), &base) {
                Ok(None) => {}
                Ok(Some(read)) => proptest::prop_assert!(!read.trim().is_empty()),
                Err(e) => proptest::prop_assert!(matches!(e, PythonError::Requirements { .. }), "{e}"),
            }
        }
    }

    #[test]
    fn an_interpreter_that_is_none_says_so() {
        let error = ask(Path::new("/bin/false")).unwrap_err();
        assert!(matches!(error, PythonError::Broken { .. }));
        assert_eq!(on_path(Some(OsStr::new("/nowhere:/bin")), "sh"), Some(PathBuf::from("/bin/sh")));
        assert_eq!(on_path(None, "sh"), None);
    }
}
