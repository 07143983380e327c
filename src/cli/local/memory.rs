//! What is remembered of a project between two commands: its agents' last sessions, and the short
//! names behind ids. Kept in the emulator's home, so that the project file stays as it is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::home::{Home, write_whole};
use crate::cli::exit::Failure;
use crate::model::SessionId;

/// Names kept for a project; the oldest ids lose theirs first. [ours]
const MOST_NAMES: usize = 1000;

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
}

impl Memory {
    /// The memory of the project in `root`.
    pub(crate) fn of(home: &Home, root: &Path) -> Self {
        let digest = Sha256::digest(root.as_os_str().as_encoded_bytes());
        let name: String = digest.iter().take(16).map(|b| format!("{b:02x}")).collect();
        let file = home.path().join("projects").join(format!("{name}.json"));
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

    /// Remembers the session in use.
    pub(crate) fn remember(
        &self,
        agent: &str,
        session: &SessionId,
        name: Option<&str>,
    ) -> Result<(), Failure> {
        self.change(|content| {
            content.last_session.insert(agent.to_owned(), session.clone());
            if let Some(name) = name.filter(|n| *n != session.as_str()) {
                content.names.retain(|(id, _)| id != session);
                content.names.push((session.clone(), name.to_owned()));
                let excess = content.names.len().saturating_sub(MOST_NAMES);
                content.names.drain(..excess);
            }
        })
    }

    fn change(&self, change: impl FnOnce(&mut Content)) -> Result<(), Failure> {
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
        text.and_then(|t| write_whole(&directory, &self.file, &t)).map_err(self.home.unusable())
    }

    /// What is remembered. It is a convenience: a file that cannot be read remembers nothing.
    fn read(&self) -> Content {
        fs::read(&self.file).ok().and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_project_remembers_its_own_last_session_and_names() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        let memory = Memory::of(&home, Path::new("/p/one"));
        let (first, second) = (SessionId::random(), SessionId::random());
        assert_eq!(memory.last_session("coder"), None);
        memory.remember("coder", &first, Some("ticket-1")).unwrap();
        memory.remember("coder", &second, None).unwrap();
        assert_eq!(memory.last_session("coder"), Some(second.clone()));
        assert_eq!(memory.last_session("other"), None);
        assert_eq!(memory.name(&first).as_deref(), Some("ticket-1"));
        assert_eq!(memory.name(&second), None);
        assert_eq!(Memory::of(&home, Path::new("/p/two")).last_session("coder"), None);
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
            memory.remember("coder", &session, Some("ticket-1")).unwrap();
            proptest::prop_assert_eq!(memory.last_session("coder"), Some(session));
        }
    }
}
