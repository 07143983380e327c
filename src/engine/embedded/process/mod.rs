//! Sessions without namespaces: the last resort, asked for by name.
//!
//! A session is a tree of ordinary processes of whoever runs the emulator. The helper is the same as in a session
//! with namespaces ([`crate::helper::init`]) and adopts what loses its parent, so commands, ends of trees, stops and
//! crash recovery work alike; the launcher ([`launch`]) watches over the helper and ends what that would leave.
//!
//! What a session has of its own lies in a scratch directory, laid out as the root of a session is: a copy of the
//! code, a home, a directory for temporary files, a link to the session storage. Paths of a session's root in
//! arguments and variables are replaced by these ([`Elsewhere`]); a path in a program's text is not found. Ports
//! are the machine's: each session is given one of its own in `PORT`, and an agent that insists on another gets it
//! as long as nobody else has it.

pub(super) mod launch;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::groups::{Group, Held, Limits};
use super::plan::{LaunchReport, LaunchRequest, Secret};
use super::{
    Bounds, EmbeddedEngine, Namespaces, Record, START_LIMIT, boot_id, classify, code_of, directory_of,
    end_process, start_time, unexpected,
};
use crate::engine::linked::{self, About, LinkedCompute};
use crate::engine::{ComputeSpec, EngineError, SessionListener, TOOL_PATH, WORKDIR};
use crate::helper::tree;

/// What names of scratch directories begin with.
const SCRATCH: &str = "process-";
/// Lies in a scratch directory and is locked as long as somebody of its session lives.
const LOCK_FILE: &str = "lock";
/// Marks every process of a session with the name of its scratch directory.
const MARK: &str = "AGENTCORE_COMPUTE";
/// Says to agents where their session storage is.
const STORAGE_VARIABLE: &str = "AGENTCORE_STORAGE";
/// Says to agents where they should listen. [the usual variable of platforms that give a port]
const PORT_VARIABLE: &str = "PORT";
/// Ports that sessions are given: above Linux's ephemeral ones, so that no outgoing connection has them. [ours]
const PORTS: std::ops::Range<u16> = 61_100..64_600;
/// How long what survived its launcher may take to end, and how often it is looked for. [ours]
const END_LIMIT: Duration = Duration::from_secs(5);
const END_TICK: Duration = Duration::from_millis(10);

/// What is not kept apart, for people.
pub(super) fn not_isolated() -> Vec<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    let user = user.map_or_else(|| nix::unistd::geteuid().to_string(), |user| user.name);
    [
        format!("files: agents read and change whatever `{user}` may, other sessions' files among it"),
        format!("processes: agents see and can end every process of `{user}`, the emulator among them"),
        "network: agents reach this machine and the network directly, past the proxy".to_owned(),
        format!(
            "ports: agents share this machine's; each is given one of its own in `{PORT_VARIABLE}`, and of those that \
             insist on another one runs at a time"
        ),
        format!(
            "storage: it is where `{STORAGE_VARIABLE}` says, not at the mount path; the code and `HOME` are not at \
             the service's paths either"
        ),
        "limits: the number of a session's processes is not limited where control groups are not to be had"
            .to_owned(),
    ]
    .into()
}

/// What a session is made of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    /// Its scratch directory, which does not exist yet.
    pub(super) scratch: PathBuf,
    /// The agent's code.
    pub(super) code: PathBuf,
    /// Environment of every process.
    pub(super) environment: Vec<(String, String)>,
    /// The session storage: its directory, and the link to it.
    pub(super) storage: Option<(PathBuf, PathBuf)>,
    /// The link is there from the start.
    pub(super) early_mount: bool,
    /// How much of the machine it may use.
    pub(super) limits: Limits,
    /// The control groups to make for it.
    pub(super) groups: Vec<Group>,
    /// Files for the session alone.
    pub(super) secrets: Vec<Secret>,
    /// The port that its agent is asked to listen on.
    pub(super) port: u16,
    /// Time between SIGTERM and SIGKILL when the emulator has died.
    pub(super) orphan_grace_millis: u64,
}

/// Where a session finds what has a fixed place in a session with a root of its own.
#[derive(Debug)]
pub(super) struct Elsewhere {
    /// From, to. The first is an absolute path or a URL.
    moved: Vec<(String, String)>,
    /// Kept as long as the session lives.
    _port: Port,
}

impl linked::Elsewhere for Elsewhere {
    /// A list of paths is taken path by path.
    fn find(&self, word: &str) -> String {
        find(&self.moved, word)
    }
}

fn find(moved: &[(String, String)], word: &str) -> String {
    let one = |part: &str| {
        let found = moved.iter().find_map(|(from, to)| {
            let rest = part.strip_prefix(from.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{to}{rest}"))
        });
        found.unwrap_or_else(|| part.to_owned())
    };
    // A URL has a colon too, and is no list.
    if word.contains("://") { one(word) } else { word.split(':').map(one).collect::<Vec<_>>().join(":") }
}

/// The ports that sessions of this emulator have been given.
#[derive(Debug, Default)]
pub(super) struct Ports(Arc<Mutex<BTreeSet<u16>>>);

/// A port that no other session of this emulator is given.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    all: Arc<Mutex<BTreeSet<u16>>>,
}

impl Ports {
    /// The next port that nobody listens on.
    fn take(&self) -> Result<Port, EngineError> {
        let mut taken = self.0.lock();
        // After the last one given: one that was just given back may still be in use for a moment.
        let after = taken.last().map_or(PORTS.start, |last| last + 1);
        let free = |number: &u16| {
            !taken.contains(number) && TcpListener::bind((Ipv4Addr::UNSPECIFIED, *number)).is_ok()
        };
        let number = (after..PORTS.end).chain(PORTS.start..after).find(free);
        let number = number.ok_or_else(|| EngineError::Start("no port is free for its agent".to_owned()))?;
        taken.insert(number);
        Ok(Port { number, all: self.0.clone() })
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.all.lock().remove(&self.number);
    }
}

/// What the record of a session says besides its helper: enough to end it and to leave nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Traces {
    /// The launcher, and its start time.
    launcher: (i32, u64),
    scratch: PathBuf,
}

impl Traces {
    /// Waits for what is left of a session whose helper has ended, and ends it.
    pub(super) async fn end(&self, boot: &str) -> Result<(), EngineError> {
        let (pid, started) = self.launcher;
        end_process(pid, started, boot, END_LIMIT).await?;
        let mark = mark(&self.scratch);
        let deadline = tokio::time::Instant::now() + END_LIMIT;
        while !tree::end_marked(MARK, &mark) {
            if tokio::time::Instant::now() >= deadline {
                return Err(EngineError::Helper("processes of the session do not end".to_owned()));
            }
            tokio::time::sleep(END_TICK).await;
        }
        remove_tree(self.scratch.clone()).await
    }
}

fn mark(scratch: &Path) -> String {
    scratch.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl EmbeddedEngine {
    pub(super) async fn start_process_session(
        &self,
        spec: ComputeSpec,
    ) -> Result<LinkedCompute, EngineError> {
        let io = |source| EngineError::Io { context: "listening for a session".to_owned(), source };
        let scratch = self.config.runtime_dir.join(format!("{SCRATCH}{}", uuid::Uuid::new_v4().simple()));
        let port = self.ports.take()?;
        let inside = |path: &str| format!("{}{path}", scratch.display());
        let mut moved = vec![
            (TOOL_PATH.to_owned(), self.config.helper_exe.display().to_string()),
            (WORKDIR.to_owned(), inside(WORKDIR)),
        ];
        let mut own =
            vec![(PORT_VARIABLE.to_owned(), port.number.to_string()), (MARK.to_owned(), mark(&scratch))];
        let mut defaults = vec![("HOME", inside(launch::HOME)), ("TMPDIR", inside(launch::TEMPORARY))];
        let storage = spec.storage.map(|storage| {
            let link = inside(storage.target.as_str());
            moved.push((storage.target.as_str().to_owned(), link.clone()));
            own.push((STORAGE_VARIABLE.to_owned(), link.clone()));
            directory_of(storage.source).map(|source| (source, PathBuf::from(link)))
        });
        let mut secrets = Vec::new();
        let mut listener = None;
        if let Some(wanted) = spec.listener {
            let bound = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(io)?;
            let number = bound.local_addr().map_err(io)?.port();
            moved.push((format!("http://127.0.0.1:{}", wanted.port), format!("http://127.0.0.1:{number}")));
            for (path, content) in wanted.files {
                let path = path.display().to_string();
                let here = inside(&path);
                moved.push((path, here.clone()));
                secrets.push(Secret { path: here.into(), content });
            }
            listener = Some(bound);
        }
        defaults.retain(|(name, _)| !spec.environment.iter().any(|(given, _)| given == name));
        let given = spec.environment.into_iter().filter(|(name, _)| !own.iter().any(|(own, _)| own == name));
        let mut environment: Vec<_> = given.map(|(name, value)| (name, find(&moved, &value))).collect();
        environment.extend(defaults.into_iter().map(|(name, value)| (name.to_owned(), value)));
        environment.extend(own);
        let groups = self.groups.plan();
        let directories: Vec<PathBuf> = groups.iter().map(|group| group.directory.clone()).collect();
        let held = Held::new(directories.clone());
        let (limits, made) = (self.limits.clone(), groups.clone());
        let plan = Plan {
            scratch: scratch.clone(),
            code: code_of(spec.code)?,
            environment,
            storage: storage.transpose()?,
            early_mount: spec.early_mount,
            limits: self.limits.clone(),
            groups,
            secrets,
            port: port.number,
            orphan_grace_millis: self.orphan_grace_millis(),
        };
        let request = LaunchRequest::Process { plan: Box::new(plan) };
        let elsewhere: Arc<dyn linked::Elsewhere> = Arc::new(Elsewhere { moved, _port: port });
        let making = async {
            let (mut line, mut launcher) = self.launch(&request).await?;
            let guard =
                launcher.0.as_ref().and_then(tokio::process::Child::id).and_then(|id| i32::try_from(id).ok());
            let guard = guard.and_then(|pid| Some((pid, start_time(pid)?)));
            let (pid, process) = match line.receive::<LaunchReport>().await? {
                Some((LaunchReport::Started { pid }, mut fds)) => (pid, fds.pop().ok_or_else(unexpected)?),
                Some((LaunchReport::Failed { failure }, _)) => return Err(classify(&failure)),
                Some(_) => return Err(unexpected()),
                None => return Err(EngineError::Start("the launcher ended without a word".to_owned())),
            };
            let started = start_time(pid);
            match line.receive::<LaunchReport>().await? {
                Some((LaunchReport::Ready, _)) => {}
                Some((LaunchReport::Failed { failure }, _)) => return Err(classify(&failure)),
                Some(_) => return Err(unexpected()),
                None => {
                    return Err(EngineError::Start("it ended while its places were being made".to_owned()));
                }
            }
            let record = Record {
                pid,
                start_time: started.ok_or_else(unexpected)?,
                boot_id: boot_id()?,
                groups: directories,
                process: Some(Traces { launcher: guard.ok_or_else(unexpected)?, scratch }),
            };
            let child = launcher.0.take().ok_or_else(unexpected)?;
            let bounds = Bounds { limits, groups: made, pid, own_users: false };
            let vessel = Namespaces::new(process, child, held, bounds);
            let about = About { elsewhere: Some(elsewhere), ..About::new(record.to_opaque()?, WORKDIR) };
            Ok(LinkedCompute::new(line, Arc::new(vessel), about, listener.map(SessionListener::Tcp)))
        };
        match tokio::time::timeout(START_LIMIT, making).await {
            Ok(made) => made,
            Err(_) => Err(EngineError::Start(format!("it did not stand after {} s", START_LIMIT.as_secs()))),
        }
    }
}

/// Removes the scratch directory of a session of which nobody is left; for anything else it does nothing. Only a
/// launcher that was killed together with its helper leaves one.
pub(super) fn clear_abandoned(directory: &Path) {
    if !mark(directory).starts_with(SCRATCH) {
        return;
    }
    let lock = fs::File::open(directory.join(LOCK_FILE));
    let locked = lock.map(|file| file.try_lock().is_err());
    if matches!(locked, Ok(true)) {
        return;
    }
    let _ = tree::end_marked(MARK, &mark(directory));
    let _ = remove_slowly(directory);
}

/// Deletes a tree of this user's files, directories without write permission included.
pub(super) async fn remove_tree(path: PathBuf) -> Result<(), EngineError> {
    let context = format!("deleting `{}`", path.display());
    let removed = tokio::task::spawn_blocking(move || remove_slowly(&path)).await;
    removed.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(|source| EngineError::Io { context, source })
}

fn remove_slowly(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => return Ok(()),
    }
    open_up(path)?;
    fs::remove_dir_all(path)
}

/// Lets this user write to every directory of a tree. Links are not followed.
fn open_up(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(super::PRIVATE))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_paths_and_the_proxys_url_are_found_elsewhere() {
        let moved = [
            ("/var/task", "/s/task"),
            ("/mnt/work", "/s/work"),
            ("http://127.0.0.1:1", "http://127.0.0.1:2"),
        ];
        let moved = moved.map(|(from, to)| (from.to_owned(), to.to_owned()));
        for (word, found) in [
            ("/var/task", "/s/task"),
            ("/var/task/main.py", "/s/task/main.py"),
            ("/var/tasks", "/var/tasks"),
            ("/usr/lib:/var/task:/mnt/work/lib", "/usr/lib:/s/task:/s/work/lib"),
            ("http://127.0.0.1:1", "http://127.0.0.1:2"),
            ("http://127.0.0.1:1/credentials", "http://127.0.0.1:2/credentials"),
            ("http://127.0.0.1:10/", "http://127.0.0.1:10/"),
            ("cat /mnt/work/x", "cat /mnt/work/x"),
            ("", ""),
        ] {
            assert_eq!(find(&moved, word), found);
        }
    }

    #[test]
    fn no_port_is_given_twice() {
        let ports = Ports::default();
        let given: Vec<Port> = (0..5).map(|_| ports.take().unwrap()).collect();
        let numbers: BTreeSet<u16> = given.iter().map(|port| port.number).collect();
        assert_eq!(numbers.len(), 5);
        assert!(numbers.iter().all(|number| PORTS.contains(number)));
        drop(given);
        assert!(ports.0.lock().is_empty());
    }

    #[test]
    fn trees_without_write_permission_are_removed() {
        let scratch = tempfile::tempdir().unwrap();
        let tree = scratch.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", tree.join("a/link")).unwrap();
        for directory in ["a/b", "a"] {
            fs::set_permissions(tree.join(directory), fs::Permissions::from_mode(0o555)).unwrap();
        }
        open_up(&tree).unwrap();
        let mode = fs::metadata(tree.join("a/b")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700);
        remove_slowly(&tree).unwrap();
        assert!(!tree.exists());
        remove_slowly(&tree).unwrap();
    }
}
