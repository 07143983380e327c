//! The project file: `.bedrock_agentcore.yaml` in the schema of the AWS starter toolkit, with a few
//! keys of our own, read into values that the rest of the program can trust.
//!
//! Knows the file system and YAML, nothing of AWS calls, the emulator or a terminal. Keys that the
//! toolkit writes and this program does not need are tolerated; a value of the wrong form is an error
//! with its line and column.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod applied;
pub mod detect;
mod edit;
mod file;
mod keys;
mod new;
pub mod npm;
mod schema;
pub mod templates;
mod yaml;

pub use applied::{Applied, Erased};
pub use edit::{Draft, update};
pub use file::clean;
pub use keys::OURS;
pub use new::NewAgent;

pub use schema::{
    Agent, AgentLaunch, Aws, AwsJwt, Build, CodeBuild, CredentialProvider, Deployed, Deployment, Endpoint,
    FileSystem, Identity, Language, LifecycleSettings, Memory, Network, Setting, Workload,
};

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
    /// The file is of the old form: one agent, and no `agents`.
    pub one_agent: bool,
    /// `is_agentcore_create_with_iac`: CDK or Terraform deploys this project, not a command line.
    pub managed_elsewhere: bool,
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
    /// The file cannot be written.
    #[error("the project file `{}` cannot be written: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it was when it was read.
    #[error("the project file `{}` was changed by somebody else in the meantime", file.display())]
    Changed {
        /// The file.
        file: PathBuf,
    },
    /// A change cannot be made without touching something else.
    #[error("`{key}` cannot be changed in `{}`: {reason}", file.display())]
    NotEditable {
        /// The file.
        file: PathBuf,
        /// What was to be changed.
        key: String,
        /// Why not.
        reason: String,
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

    /// The nearest project file at or above `directory`.
    pub fn find(directory: &Path) -> Result<PathBuf, ProjectError> {
        search(directory)
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
