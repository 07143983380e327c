//! Projects that `create` makes, from the files under `templates/`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::RuntimeName;

/// A template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// A Python agent without dependencies.
    Minimal,
    /// A Python agent on the `bedrock-agentcore` package.
    Sdk,
    /// A Node agent without dependencies.
    Node,
    /// A coding agent with Strands Agents.
    Strands,
}

/// What stands for the agent's name in a template's files.
const NAME: &str = "{{name}}";

type Files = &'static [(&'static str, &'static str)];

/// Files of all templates.
const COMMON: Files = &[
    (".dockerignore", include_str!("../../templates/common/dockerignore")),
    (".gitignore", include_str!("../../templates/common/gitignore")),
    ("iam/trust-policy.json", include_str!("../../templates/common/iam/trust-policy.json")),
];

/// Policy of the agents that call no model.
const PLAIN_POLICY: &str = include_str!("../../templates/common/iam/execution-policy.json");

const MINIMAL: Files = &[
    ("main.py", include_str!("../../templates/minimal/main.py")),
    ("test_main.py", include_str!("../../templates/minimal/test_main.py")),
    (super::FILE_NAME, include_str!("../../templates/minimal/bedrock_agentcore.yaml")),
    ("Dockerfile", include_str!("../../templates/minimal/Dockerfile")),
    ("README.md", include_str!("../../templates/minimal/README.md")),
    ("iam/execution-policy.json", PLAIN_POLICY),
];

const SDK: Files = &[
    ("main.py", include_str!("../../templates/sdk/main.py")),
    ("test_main.py", include_str!("../../templates/sdk/test_main.py")),
    ("requirements.txt", include_str!("../../templates/sdk/requirements.txt")),
    (super::FILE_NAME, include_str!("../../templates/sdk/bedrock_agentcore.yaml")),
    ("Dockerfile", include_str!("../../templates/sdk/Dockerfile")),
    ("README.md", include_str!("../../templates/sdk/README.md")),
    ("iam/execution-policy.json", PLAIN_POLICY),
];

const NODE: Files = &[
    ("main.js", include_str!("../../templates/node/main.js")),
    ("main.test.js", include_str!("../../templates/node/main.test.js")),
    ("package.json", include_str!("../../templates/node/package.json")),
    (super::FILE_NAME, include_str!("../../templates/node/bedrock_agentcore.yaml")),
    ("Dockerfile", include_str!("../../templates/node/Dockerfile")),
    ("README.md", include_str!("../../templates/node/README.md")),
    ("iam/execution-policy.json", PLAIN_POLICY),
];

const STRANDS: Files = &[
    ("main.py", include_str!("../../templates/strands/main.py")),
    ("test_main.py", include_str!("../../templates/strands/test_main.py")),
    ("requirements.txt", include_str!("../../templates/strands/requirements.txt")),
    (super::FILE_NAME, include_str!("../../templates/strands/bedrock_agentcore.yaml")),
    ("Dockerfile", include_str!("../../templates/strands/Dockerfile")),
    ("README.md", include_str!("../../templates/strands/README.md")),
    ("iam/execution-policy.json", include_str!("../../templates/strands/iam/execution-policy.json")),
];

/// Why no project was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// There is something at the target.
    #[error("`{}` exists and is not an empty directory", .0.display())]
    Exists(PathBuf),
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

impl Template {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Minimal, Self::Sdk, Self::Node, Self::Strands];

    fn files(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let own = match self {
            Self::Minimal => MINIMAL,
            Self::Sdk => SDK,
            Self::Node => NODE,
            Self::Strands => STRANDS,
        };
        own.iter().chain(COMMON).copied()
    }

    /// Makes the project `target` with an agent called `name`; gives the files' paths. The project is
    /// there whole or not at all.
    pub fn create(self, target: &Path, name: &RuntimeName) -> Result<Vec<&'static str>, CreateError> {
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(io("making", parent))?;
        let scratch = tempfile::Builder::new()
            .prefix(".agentcore-create-")
            .tempdir_in(parent)
            .map_err(io("making a directory in", parent))?;
        let mut names = Vec::new();
        for (path, text) in self.files() {
            let file = scratch.path().join(path);
            if let Some(directory) = file.parent() {
                fs::create_dir_all(directory).map_err(io("making", directory))?;
            }
            fs::write(&file, text.replace(NAME, name.as_str())).map_err(io("writing", &file))?;
            names.push(path);
        }
        use std::os::unix::fs::PermissionsExt;
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(scratch.path(), open).map_err(io("opening", scratch.path()))?;
        // The kernel's rename takes the place of an empty directory and of nothing else, so there is
        // no moment between a check and the deed.
        match fs::rename(scratch.path(), target) {
            Ok(()) => {
                let _ = scratch.keep();
                names.sort_unstable();
                Ok(names)
            }
            Err(e) => match e.kind() {
                io::ErrorKind::DirectoryNotEmpty
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::NotADirectory => Err(CreateError::Exists(target.to_owned())),
                _ => Err(io("making", target)(e)),
            },
        }
    }
}

fn io<'a>(context: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CreateError + 'a {
    move |source| CreateError::Io { context, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::super::{AgentLaunch, Project};
    use super::*;

    #[test]
    fn every_template_is_a_project_that_loads() {
        for template in Template::ALL {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("coder");
            let files = template.create(&target, &"coder".parse().unwrap()).unwrap();
            for file in &files {
                let text = fs::read_to_string(target.join(file)).unwrap();
                assert!(!text.contains("{{") || file.ends_with(".js"), "{file}");
            }
            let has = |start: &str| files.iter().any(|f| f.starts_with(start));
            let tests = files.iter().filter(|f| f.contains("test")).count();
            assert!(has("Dockerfile") && has(".dockerignore") && tests == 1, "{template:?}: {files:?}");
            let project = Project::load(None, &target).unwrap();
            let agent = project.agent(None).unwrap();
            assert_eq!(agent.name.as_str(), "coder");
            let expected = match template {
                Template::Node => AgentLaunch::Command { argv: vec!["node".into(), "main.js".into()] },
                _ => AgentLaunch::Python { entry_point: "main.py".into() },
            };
            assert_eq!(agent.launch, expected);
            assert_eq!(agent.session_storage().unwrap().as_str(), "/mnt/workspace");
            assert!(agent.aws.execution_role_auto_create && agent.models.value().is_some());
        }
    }

    #[test]
    fn policies_name_no_partition_and_no_more_than_is_needed() {
        for template in Template::ALL {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("coder");
            template.create(&target, &"coder".parse().unwrap()).unwrap();
            let read = |name: &str| fs::read_to_string(target.join("iam").join(name)).unwrap();
            let trust: serde_json::Value = serde_json::from_str(&read("trust-policy.json")).unwrap();
            assert_eq!(trust["Statement"][0]["Condition"]["StringEquals"]["aws:SourceAccount"], "${ACCOUNT}");
            let text = read("execution-policy.json");
            let policy: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(!text.contains("arn:aws"), "{template:?}");
            assert!(text.contains("repository/bedrock-agentcore-coder\""), "{template:?}");
            for statement in policy["Statement"].as_array().unwrap() {
                let actions = statement["Action"].to_string();
                assert!(!actions.contains('*'), "{actions}");
            }
            assert_eq!(text.contains("bedrock:InvokeModel"), template == Template::Strands, "{template:?}");
        }
    }

    #[test]
    fn what_is_there_stays_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let name: RuntimeName = "coder".parse().unwrap();
        let target = dir.path().join("coder");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("mine"), "x").unwrap();
        assert!(matches!(Template::Minimal.create(&target, &name), Err(CreateError::Exists(_))));
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(matches!(Template::Minimal.create(&file, &name), Err(CreateError::Exists(_))));
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).unwrap();
        Template::Minimal.create(&empty, &name).unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    }
}
