//! What is remembered of a project between two commands: its agents' last sessions, the short names behind
//! ids, and the ledger of the sessions it has used, because AWS has no operation that lists them. Kept in the
//! emulator's home, so that the project file stays as it is; what was used in AWS apart from what was used here.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::exit::Failure;
use super::local::home::{Home, write_whole};
use crate::model::{EndpointName, SessionId, Timestamp};

/// Names kept for a project; the oldest ids lose theirs first. [ours]
const MOST_NAMES: usize = 1000;
/// Sessions kept in a project's ledger; the ones that were not used for longest go first. [ours]
const MOST_SESSIONS: usize = 1000;

/// The memory of one project.
pub(crate) struct Memory {
    home: Home,
    file: PathBuf,
    project: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Content {
    /// For people who look into the file.
    project: PathBuf,
    /// The last session of each agent.
    last_session: BTreeMap<String, SessionId>,
    /// Short names, oldest first.
    names: Vec<(SessionId, String)>,
    /// The code of each agent, as the emulator was told it last.
    sources: BTreeMap<String, Seen>,
    /// The shell of each session that was left running.
    shells: BTreeMap<String, String>,
    /// The ledger, the last one used at the end.
    sessions: Vec<Used>,
}

/// A session that was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Used {
    pub(crate) session_id: SessionId,
    pub(crate) name: Option<String>,
    pub(crate) agent: String,
    pub(crate) runtime_arn: String,
    pub(crate) qualifier: EndpointName,
    pub(crate) first_used_at: String,
    pub(crate) last_used_at: String,
    /// When it was last known to be down; nothing since it was used again.
    pub(crate) stopped_at: Option<String>,
}

impl Used {
    fn is(&self, arn: &str, qualifier: &EndpointName, session: &SessionId) -> bool {
        self.runtime_arn == arn && self.qualifier == *qualifier && self.session_id == *session
    }
}

/// The state of an agent's code that the emulator knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Seen {
    /// Id of its runtime.
    pub(crate) runtime: String,
    pub(crate) version: String,
    /// What the files looked like.
    pub(crate) stamp: String,
    /// The image that it is, or runs on in containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
}

impl Memory {
    /// What the project in `root` did in the emulator.
    pub(crate) fn of(home: &Home, root: &Path) -> Self {
        Self::named(home, root, "")
    }

    /// What the project in `root`, or whoever used the runtime of that ARN, did in AWS.
    pub(crate) fn of_cloud(home: &Home, root: &Path) -> Self {
        Self::named(home, root, "-cloud")
    }

    fn named(home: &Home, root: &Path, kind: &str) -> Self {
        let digest = Sha256::digest(root.as_os_str().as_encoded_bytes());
        let name: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
        let file = home.path().join("projects").join(format!("{name}{kind}.json"));
        Self { home: home.clone(), file, project: root.to_owned() }
    }

    /// The last session of `agent`.
    pub(crate) fn last_session(&self, agent: &str) -> Option<SessionId> {
        self.read().last_session.remove(agent)
    }

    /// The short name that `session` was made from.
    pub(crate) fn name(&self, session: &SessionId) -> Option<String> {
        self.read().names.into_iter().find(|(id, _)| id == session).map(|(_, name)| name)
    }

    /// All short names by the session that was made from each.
    pub(crate) fn names(&self) -> HashMap<String, String> {
        self.read().names.into_iter().map(|(id, name)| (id.to_string(), name)).collect()
    }

    /// The state of the agent's code that the emulator was told last.
    pub(crate) fn seen(&self, agent: &str) -> Option<Seen> {
        self.read().sources.remove(agent)
    }

    /// Remembers the state of the agent's code that the emulator was told.
    pub(crate) fn see(&self, agent: &str, seen: Seen) -> Result<(), Failure> {
        self.change(|content| {
            content.sources.insert(agent.to_owned(), seen);
        })
    }

    /// The sessions that were used and are still remembered, the last one first.
    pub(crate) fn sessions(&self) -> Vec<Used> {
        let mut sessions = self.read().sessions;
        sessions.reverse();
        sessions
    }

    /// Remembers the session in use as the agent's last one, and in the ledger. The times are this function's.
    pub(crate) fn remember(&self, agent: &str, used: Used) -> Result<(), Failure> {
        self.change(|content| {
            content.last_session.insert(agent.to_owned(), used.session_id.clone());
            if let Some(name) = used.name.as_ref().filter(|n| *n != used.session_id.as_str()) {
                content.names.retain(|(id, _)| *id != used.session_id);
                content.names.push((used.session_id.clone(), name.clone()));
                let excess = content.names.len().saturating_sub(MOST_NAMES);
                content.names.drain(..excess);
            }
            let now = now();
            let before = content
                .sessions
                .iter()
                .position(|s| s.is(&used.runtime_arn, &used.qualifier, &used.session_id));
            let first = before.map(|at| content.sessions.remove(at).first_used_at);
            let first_used_at = first.unwrap_or_else(|| now.clone());
            content.sessions.push(Used { first_used_at, last_used_at: now, stopped_at: None, ..used });
            let excess = content.sessions.len().saturating_sub(MOST_SESSIONS);
            content.sessions.drain(..excess);
        })
    }

    /// Chooses the agent's last session.
    pub(crate) fn choose(&self, agent: &str, session: &SessionId, name: Option<&str>) -> Result<(), Failure> {
        self.change(|content| {
            content.last_session.insert(agent.to_owned(), session.clone());
            if let Some(name) = name {
                content.names.retain(|(id, _)| id != session);
                content.names.push((session.clone(), name.to_owned()));
            }
        })
    }

    /// The shell of the session that was left running last.
    pub(crate) fn shell(&self, session: &SessionId) -> Option<String> {
        self.read().shells.remove(session.as_str())
    }

    /// Notes the shell that was left running, or that there is none.
    pub(crate) fn note_shell(&self, session: &SessionId, shell: Option<&str>) -> Result<(), Failure> {
        if shell.is_none() && self.shell(session).is_none() {
            return Ok(());
        }
        self.change(|content| match shell {
            Some(shell) => drop(content.shells.insert(session.to_string(), shell.to_owned())),
            None => drop(content.shells.remove(session.as_str())),
        })
    }

    /// Notes that a session is known to be down, where it is in the ledger.
    pub(crate) fn note_stopped(
        &self,
        arn: &str,
        qualifier: &EndpointName,
        session: &SessionId,
    ) -> Result<(), Failure> {
        if !self.read().sessions.iter().any(|s| s.is(arn, qualifier, session)) {
            return Ok(());
        }
        self.change(|content| {
            for used in content.sessions.iter_mut().filter(|s| s.is(arn, qualifier, session)) {
                used.stopped_at = Some(now());
            }
            // Shells end with their session's compute.
            content.shells.remove(session.as_str());
        })
    }

    fn change(&self, change: impl FnOnce(&mut Content)) -> Result<(), Failure> {
        // Nobody else looks into it, whether an emulator ever ran here or not.
        self.home.make()?;
        let directory = self.home.path().join("projects");
        fs::create_dir_all(&directory).map_err(self.home.unusable())?;
        // Two commands at once must not lose each other's line.
        let lock = File::options().create(true).append(true).open(directory.join(".lock"));
        let _lock = Flock::lock(lock.map_err(self.home.unusable())?, FlockArg::LockExclusive)
            .map_err(|(_, e)| self.home.unusable()(e.into()))?;
        let mut content = self.read();
        content.project.clone_from(&self.project);
        change(&mut content);
        let text = serde_json::to_vec_pretty(&content).map_err(std::io::Error::other);
        text.and_then(|t| write_whole(&self.file, &t)).map_err(self.home.unusable())
    }

    /// What is remembered. It is a convenience: a file that cannot be read remembers nothing.
    fn read(&self) -> Content {
        fs::read(&self.file).ok().and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default()
    }
}

/// Now, as people and programs read it.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(0).plus(since).to_rfc3339()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(session: &SessionId, name: Option<&str>) -> Used {
        Used {
            session_id: session.clone(),
            name: name.map(str::to_owned),
            agent: "coder".to_owned(),
            runtime_arn: "arn:aws:bedrock-agentcore:us-west-2:000000000000:runtime/coder-AbCdEf0123"
                .to_owned(),
            qualifier: EndpointName::default_endpoint(),
            first_used_at: String::new(),
            last_used_at: String::new(),
            stopped_at: None,
        }
    }

    #[test]
    fn each_project_remembers_its_own_last_session_and_names() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        let memory = Memory::of(&home, Path::new("/p/one"));
        let (first, second) = (SessionId::random(), SessionId::random());
        assert_eq!(memory.last_session("coder"), None);
        memory.remember("coder", used(&first, Some("ticket-1"))).unwrap();
        memory.remember("coder", used(&second, None)).unwrap();
        assert_eq!(memory.last_session("coder"), Some(second.clone()));
        assert_eq!(memory.last_session("other"), None);
        assert_eq!(memory.name(&first).as_deref(), Some("ticket-1"));
        assert_eq!(memory.name(&second), None);
        assert_eq!(memory.names(), HashMap::from([(first.to_string(), "ticket-1".to_owned())]));
        assert_eq!(Memory::of(&home, Path::new("/p/two")).last_session("coder"), None);
    }

    #[test]
    fn the_ledger_has_each_session_once_and_knows_which_are_down() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        let memory = Memory::of_cloud(&home, Path::new("/p/one"));
        let (first, second) = (SessionId::random(), SessionId::random());
        for session in [&first, &second, &first] {
            memory.remember("coder", used(session, None)).unwrap();
        }
        let arn = used(&first, None).runtime_arn;
        memory.note_stopped(&arn, &EndpointName::default_endpoint(), &second).unwrap();
        let sessions = memory.sessions();
        assert_eq!(sessions.iter().map(|s| &s.session_id).collect::<Vec<_>>(), [&first, &second]);
        assert_eq!(sessions.iter().map(|s| s.stopped_at.is_some()).collect::<Vec<_>>(), [false, true]);
        assert!(
            sessions[0].first_used_at <= sessions[0].last_used_at && !sessions[0].first_used_at.is_empty()
        );
        // Used again, it is not down any more; the emulator's sessions are another matter.
        memory.remember("coder", used(&second, None)).unwrap();
        assert!(memory.sessions().iter().all(|s| s.stopped_at.is_none()));
        assert_eq!(Memory::of(&home, Path::new("/p/one")).sessions(), []);
    }

    proptest::proptest! {
        #[test]
        fn a_file_that_is_none_of_ours_is_forgotten_and_written_anew(
            text in "(\\PC{0,40}|\\{\"(project|agents|sessions|names|last)\": ?[\\[{\"a0-9}\\]]{0,9}\\}?)",
        ) {
            let dir = tempfile::tempdir().unwrap();
            let memory = Memory::of(&Home::new(dir.path().to_owned()), Path::new("/p/one"));
            fs::create_dir_all(memory.file.parent().unwrap()).unwrap();
            fs::write(&memory.file, text).unwrap();
            proptest::prop_assert_eq!(memory.last_session("coder"), None);
            let session = SessionId::random();
            memory.remember("coder", used(&session, Some("ticket-1"))).unwrap();
            proptest::prop_assert_eq!(memory.last_session("coder"), Some(session));
        }
    }
}
