//! What of our keys was applied last, kept beside the project file.
//!
//! The toolkit's schema does not have them, so it erases them whenever it writes the file, and it writes it at
//! every call of an agent. A key that is missing means "keep what the service has", so nothing breaks then; but
//! the file no longer says it. With this record a plan can show what has gone and offer to put it back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Draft, OURS, ProjectError, edit};

/// Where the record is, from the project file's directory: a directory that the toolkit has as well, and that
/// no deployment takes along.
const PLACE: &str = ".bedrock_agentcore/applied.json";
/// The record's form.
const FORMAT: u32 = 1;

/// The keys of ours that were applied last, for each agent of a project.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    path: PathBuf,
    before: Option<Vec<u8>>,
    record: Record,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct Record {
    format: u32,
    agents: BTreeMap<String, BTreeMap<String, Value>>,
}

/// A key of ours that was applied and is not in the file any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Erased {
    /// The key, such as `filesystem_configurations`.
    pub key: &'static str,
    /// What it said.
    pub value: Value,
}

impl Applied {
    /// Reads the record of the project whose file is `file`; where there is none, an empty one.
    pub fn load(file: &Path) -> Result<Self, ProjectError> {
        let path = file.parent().unwrap_or(Path::new(".")).join(PLACE);
        let before = match fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(ProjectError::Read { file: path, source }),
        };
        let record = match &before {
            None => Record { format: FORMAT, ..Record::default() },
            Some(bytes) => {
                let record: Record = serde_json::from_slice(bytes).map_err(|e| ProjectError::Read {
                    file: path.clone(),
                    source: io::Error::new(io::ErrorKind::InvalidData, e),
                })?;
                if record.format != FORMAT {
                    let message = format!("it has form {}, and this program knows {FORMAT}", record.format);
                    let source = io::Error::new(io::ErrorKind::InvalidData, message);
                    return Err(ProjectError::Read { file: path, source });
                }
                record
            }
        };
        Ok(Self { path, before, record })
    }

    /// The keys of `agent` that were applied and are not in `draft`.
    pub fn erased(&self, draft: &Draft, agent: &str) -> Vec<Erased> {
        let Some(applied) = self.record.agents.get(agent) else { return Vec::new() };
        OURS.iter()
            .filter(|key| draft.get(agent, &[**key]).is_none())
            .filter_map(|key| Some(Erased { key, value: applied.get(*key)?.clone() }))
            .collect()
    }

    /// Puts `erased` back into `draft`.
    pub fn restore(draft: &mut Draft, agent: &str, erased: &[Erased]) -> Result<(), ProjectError> {
        erased.iter().try_for_each(|e| draft.set(agent, &[e.key], e.value.clone()).map(drop))
    }

    /// Keeps what `draft` says of `agent` as applied. Keys that are missing stay as they were applied: the
    /// service has kept them. True: the record has changed.
    pub fn record(&mut self, draft: &Draft, agent: &str) -> Result<bool, ProjectError> {
        let keys = self.record.agents.entry(agent.to_owned()).or_default();
        for key in OURS {
            if let Some(value) = draft.get(agent, &[key]) {
                keys.insert(key.to_owned(), value.clone());
            }
        }
        self.save()
    }

    /// Forgets what was applied of `keys` of an agent, or all of it.
    pub fn forget(&mut self, agent: &str, keys: Option<&[&str]>) -> Result<bool, ProjectError> {
        match (keys, self.record.agents.get_mut(agent)) {
            (Some(keys), Some(applied)) => applied.retain(|key, _| !keys.contains(&key.as_str())),
            (None, Some(_)) => drop(self.record.agents.remove(agent)),
            (_, None) => {}
        }
        self.save()
    }

    fn save(&mut self) -> Result<bool, ProjectError> {
        if self.before.is_none() && self.record.agents.values().all(BTreeMap::is_empty) {
            return Ok(false);
        }
        let failed = |source| ProjectError::Write { file: self.path.clone(), source };
        let mut bytes = serde_json::to_vec_pretty(&self.record).map_err(|e| failed(e.into()))?;
        bytes.push(b'\n');
        if self.before.as_ref() == Some(&bytes) {
            return Ok(false);
        }
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        edit::replace(&self.path, self.before.as_deref(), &bytes)?;
        self.before = Some(bytes);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_toolkit_erases_can_be_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".bedrock_agentcore.yaml");
        let text = "agents:\n  a:\n    name: a\n    entrypoint: a.py\n    filesystem_configurations: [{session_storage: {mount_path: /mnt/w}}]\n    environment_variables: {}\n    aws: {}\n";
        fs::write(&file, text).unwrap();
        fs::write(dir.path().join("a.py"), "").unwrap();
        let mut applied = Applied::load(&file).unwrap();
        assert_eq!(applied.erased(&Draft::open(&file).unwrap(), "a"), []);
        assert!(applied.record(&Draft::open(&file).unwrap(), "a").unwrap());
        assert!(!applied.record(&Draft::open(&file).unwrap(), "a").unwrap(), "nothing new");

        // The toolkit writes the file.
        fs::write(&file, "agents:\n  a:\n    name: a\n    entrypoint: /elsewhere/a.py\n    aws: {}\n")
            .unwrap();
        let mut draft = Draft::open(&file).unwrap();
        let mut applied = Applied::load(&file).unwrap();
        let erased = applied.erased(&draft, "a");
        let keys: Vec<_> = erased.iter().map(|e| e.key).collect();
        assert_eq!(keys, ["environment_variables", "filesystem_configurations"]);
        // A deployment without them keeps them applied.
        assert!(!applied.record(&draft, "a").unwrap());
        Applied::restore(&mut draft, "a", &erased).unwrap();
        assert_eq!(draft.get("a", &["environment_variables"]), Some(&json!({})));
        assert!(draft.text().contains("mount_path: /mnt/w"));
        draft.save().unwrap();
        assert_eq!(applied.erased(&draft, "a"), []);
        assert!(applied.forget("a", Some(&["environment_variables"])).unwrap());
        draft.remove("a", &["environment_variables"]).unwrap();
        assert_eq!(Applied::load(&file).unwrap().erased(&draft, "a"), []);
        assert!(applied.forget("a", None).unwrap());
    }

    #[test]
    fn a_record_of_another_program_is_refused_and_none_is_made_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".bedrock_agentcore.yaml");
        fs::write(&file, "name: a\nentrypoint: a.py\n").unwrap();
        let mut applied = Applied::load(&file).unwrap();
        assert!(!applied.record(&Draft::open(&file).unwrap(), "a").unwrap());
        assert!(!dir.path().join(".bedrock_agentcore").exists());
        fs::create_dir(dir.path().join(".bedrock_agentcore")).unwrap();
        for wrong in ["{\"format\": 2, \"agents\": {}}", "x"] {
            fs::write(dir.path().join(PLACE), wrong).unwrap();
            assert!(matches!(Applied::load(&file), Err(ProjectError::Read { .. })), "{wrong}");
        }
    }
}
