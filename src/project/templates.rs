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
}

/// What stands for the agent's name in a template's files.
const NAME: &str = "{{name}}";

/// Files of both templates: the IAM policies.
const COMMON: [(&str, &str); 3] = [
    (".dockerignore", include_str!("../../templates/common/dockerignore")),
    ("iam/trust-policy.json", include_str!("../../templates/common/iam/trust-policy.json")),
    ("iam/execution-policy.json", include_str!("../../templates/common/iam/execution-policy.json")),
];

const MINIMAL: [(&str, &str); 4] = [
    ("main.py", include_str!("../../templates/minimal/main.py")),
    (super::FILE_NAME, include_str!("../../templates/minimal/bedrock_agentcore.yaml")),
    ("Dockerfile", include_str!("../../templates/minimal/Dockerfile")),
    ("README.md", include_str!("../../templates/minimal/README.md")),
];

const SDK: [(&str, &str); 5] = [
    ("main.py", include_str!("../../templates/sdk/main.py")),
    ("requirements.txt", include_str!("../../templates/sdk/requirements.txt")),
    (super::FILE_NAME, include_str!("../../templates/sdk/bedrock_agentcore.yaml")),
    ("Dockerfile", include_str!("../../templates/sdk/Dockerfile")),
    ("README.md", include_str!("../../templates/sdk/README.md")),
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
    fn files(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let own: &[_] = match self {
            Self::Minimal => &MINIMAL,
            Self::Sdk => &SDK,
        };
        own.iter().chain(&COMMON).copied()
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
        for template in [Template::Minimal, Template::Sdk] {
            let dir = tempfile::tempdir().unwrap();
            let target = dir.path().join("coder");
            let files = template.create(&target, &"coder".parse().unwrap()).unwrap();
            for file in &files {
                let text = fs::read_to_string(target.join(file)).unwrap();
                assert!(!text.contains("{{"), "{file}");
            }
            let project = Project::load(None, &target).unwrap();
            let agent = project.agent(None).unwrap();
            assert_eq!(agent.name.as_str(), "coder");
            assert_eq!(agent.launch, AgentLaunch::Python { entry_point: "main.py".into() });
            assert_eq!(agent.session_storage().unwrap().as_str(), "/mnt/workspace");
            for policy in ["iam/trust-policy.json", "iam/execution-policy.json"] {
                let text = fs::read_to_string(target.join(policy)).unwrap();
                serde_json::from_str::<serde_json::Value>(&text).unwrap();
            }
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
