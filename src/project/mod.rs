//! The project file: `.bedrock_agentcore.yaml` in the schema of the AWS starter toolkit, with a few
//! keys of our own, read into values that the rest of the program can trust.
//!
//! Knows the file system and YAML, nothing of AWS calls, the emulator or a terminal. Keys that the
//! toolkit writes and this program does not need are tolerated; a value of the wrong form is an error
//! with its line and column.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::{MountPath, RuntimeName};

mod file;
pub mod templates;

/// Name of the project file.
pub const FILE_NAME: &str = ".bedrock_agentcore.yaml";

/// A project: the agents of one project file.
#[derive(Debug, Clone)]
pub struct Project {
    /// The file it was read from, absolute.
    pub file: PathBuf,
    /// The agents by name.
    pub agents: BTreeMap<String, Agent>,
    /// `default_agent`.
    pub default: Option<String>,
}

/// One agent of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Name of the runtime.
    pub name: RuntimeName,
    /// Directory with the agent's code, absolute.
    pub source: PathBuf,
    /// How it is started.
    pub launch: AgentLaunch,
    /// `runtime_type`, such as `PYTHON_3_13`.
    pub runtime: Option<String>,
    /// `environment_variables`.
    pub environment: BTreeMap<String, String>,
    /// Mount path of the session storage of `filesystem_configurations`.
    pub session_storage: Option<MountPath>,
    /// `lifecycle_configuration`.
    pub lifecycle: LifecycleSettings,
    /// `requestHeaderAllowlist`.
    pub header_allowlist: Vec<String>,
    /// `server_protocol`, such as `HTTP`.
    pub protocol: String,
    /// `network_mode` is VPC.
    pub vpc: bool,
    /// An authorizer is configured.
    pub authorizer: bool,
    /// `execution_role`, where one is named.
    pub execution_role: Option<String>,
    /// `bedrock_agentcore.agent_arn`: the runtime that a deployment to AWS made.
    pub agent_arn: Option<String>,
}

/// How an agent is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentLaunch {
    /// A Python file, relative to the source directory.
    Python {
        /// The file.
        entry_point: String,
    },
    /// Any command.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
    },
}

/// Idle timeout and lifetime in seconds, as far as the file says them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LifecycleSettings {
    /// `idle_runtime_session_timeout`.
    pub idle: Option<u32>,
    /// `max_lifetime`.
    pub max: Option<u32>,
}

/// Why there is no project to work with.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// No file here or above.
    #[error("no `{FILE_NAME}` in `{}` or a directory above it", from.display())]
    NotFound {
        /// Where the search began.
        from: PathBuf,
    },
    /// The file cannot be read.
    #[error("the project file `{}` cannot be read: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The file does not say what it should.
    #[error("{}:{line}:{column}: {message}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong and what was expected.
        message: String,
    },
    /// The file has no agent of this name.
    #[error("the project file `{}` has no agent `{name}`", file.display())]
    UnknownAgent {
        /// The file.
        file: PathBuf,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The file has several agents and no default.
    #[error("the project file `{}` has several agents and no `default_agent`", file.display())]
    NoDefault {
        /// The file.
        file: PathBuf,
        /// The names there are.
        known: Vec<String>,
    },
}

impl Project {
    /// Reads `explicit`, or the nearest project file at or above `directory`.
    pub fn load(explicit: Option<&Path>, directory: &Path) -> Result<Self, ProjectError> {
        let file = match explicit {
            Some(file) => file::clean(&directory.join(file)),
            None => search(directory)?,
        };
        let text = std::fs::read_to_string(&file)
            .map_err(|source| ProjectError::Read { file: file.clone(), source })?;
        file::parse(&file, &text)
    }

    /// The agent called `name`, or the default one, or the only one.
    pub fn agent(&self, name: Option<&str>) -> Result<&Agent, ProjectError> {
        let known = || self.agents.keys().cloned().collect();
        let unknown = |name: &str| ProjectError::UnknownAgent {
            file: self.file.clone(),
            name: name.to_owned(),
            known: known(),
        };
        if let Some(name) = name.or(self.default.as_deref()) {
            return self.agents.get(name).ok_or_else(|| unknown(name));
        }
        match self.agents.values().collect::<Vec<_>>().as_slice() {
            [only] => Ok(only),
            _ => Err(ProjectError::NoDefault { file: self.file.clone(), known: known() }),
        }
    }

    /// The directory of the project file.
    pub fn root(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }
}

fn search(directory: &Path) -> Result<PathBuf, ProjectError> {
    directory
        .ancestors()
        .map(|d| d.join(FILE_NAME))
        .find(|f| f.is_file())
        .ok_or_else(|| ProjectError::NotFound { from: directory.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_found_from_a_directory_below_and_the_default_rule_holds() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        assert!(matches!(Project::load(None, &below), Err(ProjectError::NotFound { .. })));
        let text =
            "agents:\n  one: {name: one, entrypoint: main.py}\n  two: {name: two, entrypoint: main.py}\n";
        std::fs::write(dir.path().join(FILE_NAME), text).unwrap();
        std::fs::write(dir.path().join("main.py"), "").unwrap();
        let project = Project::load(None, &below).unwrap();
        assert_eq!(project.root(), dir.path());
        assert!(matches!(project.agent(None), Err(ProjectError::NoDefault { .. })));
        assert_eq!(project.agent(Some("two")).unwrap().name.as_str(), "two");
        assert!(matches!(project.agent(Some("three")), Err(ProjectError::UnknownAgent { .. })));
        let explicit = Project::load(Some(Path::new("../../.bedrock_agentcore.yaml")), &below);
        assert!(explicit.unwrap().agents.contains_key("one"));
    }
}
