//! Dockerfiles: what can be told from one, and one for a project that has none, from the files under `templates/`.

use std::path::{Path, PathBuf};

use super::BuildError;
use crate::project::{Agent, AgentLaunch, Language};

/// Name of the file that says what stays behind.
pub const IGNORE_FILE: &str = ".dockerignore";
/// The ignore file of a new project.
const IGNORE_TEXT: &str = include_str!("../../templates/common/dockerignore");
/// Python of an image where the project names none. [ours: as the templates]
const PYTHON: &str = "3.13";
/// Node of an image where the project names none. [service: NODE_22]
const NODE: &str = "22";

const PYTHON_UV: &str = include_str!("../../templates/dockerfiles/python-uv.Dockerfile");
const PYTHON_PIP: &str = include_str!("../../templates/dockerfiles/python-pip.Dockerfile");
const PLAIN_PYTHON: &str = include_str!("../../templates/dockerfiles/python.Dockerfile");
const NODE_NPM: &str = include_str!("../../templates/dockerfiles/node.Dockerfile");
const BASE: &str = include_str!("../../templates/base/Dockerfile");
/// What follows it where the agent lists packages.
pub(super) const PACKAGES: &str = include_str!("../../templates/base/packages.Dockerfile");

/// Where an agent's packages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `pyproject.toml`, by uv.
    PythonUv,
    /// `requirements.txt`, by pip.
    PythonPip,
    /// Python without packages.
    Python,
    /// `package.json`, by npm.
    Node,
}

impl Kind {
    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::PythonUv => "Python with the packages of `pyproject.toml`, by uv",
            Self::PythonPip => "Python with the packages of `requirements.txt`, by pip",
            Self::Python => "Python without packages",
            Self::Node => "Node with the packages of `package.json`",
        }
    }
}

/// A Dockerfile that could be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What it is for.
    pub kind: Kind,
    /// Where it would stand.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
    /// The ignore file that would be written beside it, where there is none.
    pub ignore: Option<(PathBuf, &'static str)>,
}

impl Draft {
    /// The Dockerfile for an agent without one.
    pub fn for_agent(agent: &Agent, port: u16) -> Result<Self, BuildError> {
        let source = agent.source.as_path();
        let has = |name: &str| source.join(name).is_file();
        let refused = |reason: String| BuildError::NoDockerfile { directory: source.to_owned(), reason };
        let (kind, argv) = match &agent.launch {
            AgentLaunch::Image => {
                return Err(refused("the project file does not say how it is started".to_owned()));
            }
            AgentLaunch::Command { argv } => {
                let program = argv.first().map(String::as_str).unwrap_or_default();
                let program = Path::new(program).file_name().and_then(|n| n.to_str()).unwrap_or_default();
                let kind = if matches!(program, "node" | "npm" | "npx") {
                    Kind::Node
                } else if program.starts_with("python") || program == "uvicorn" {
                    python_kind(source)
                } else {
                    return Err(refused(format!("it is started by `{program}`, which no template has")));
                };
                (kind, argv.clone())
            }
            AgentLaunch::Python { entry_point } if entry_point.ends_with(".py") => {
                (python_kind(source), vec!["python".to_owned(), entry_point.clone()])
            }
            AgentLaunch::Python { entry_point } => {
                let script = [".js", ".mjs", ".cjs"].iter().any(|end| entry_point.ends_with(end));
                if script {
                    (Kind::Node, vec!["node".to_owned(), entry_point.clone()])
                } else if agent.language == Language::TypeScript && has("package.json") {
                    if !Package::of(source).start {
                        let reason = "its `package.json` has no script `start` that runs what was compiled";
                        return Err(refused(reason.to_owned()));
                    }
                    (Kind::Node, ["npm", "start"].map(str::to_owned).to_vec())
                } else {
                    return Err(refused(format!(
                        "its entrypoint `{entry_point}` is neither Python nor JavaScript"
                    )));
                }
            }
        };
        let python =
            agent.runtime.as_deref().and_then(|r| r.strip_prefix("PYTHON_")).map(|v| v.replace('_', "."));
        let node = agent.node_version.clone().unwrap_or_else(|| NODE.to_owned());
        let command = serde_json::to_string(&argv).unwrap_or_default();
        let text = template(kind)
            .replace("{{python}}", python.as_deref().unwrap_or(PYTHON))
            .replace("{{node}}", &node)
            .replace(
                "{{manifests}}",
                if has("uv.lock") { "pyproject.toml uv.lock" } else { "pyproject.toml" },
            )
            .replace("{{locked}}", if has("uv.lock") { "--locked " } else { "" })
            .replace("{{install}}", &Package::of(source).install())
            .replace("{{port}}", &port.to_string())
            .replace("{{command}}", &command);
        let ignore = source.join(IGNORE_FILE);
        let ignore = (!ignore.exists()).then_some((ignore, IGNORE_TEXT));
        Ok(Self { kind, file: source.join("Dockerfile"), text, ignore })
    }
}

fn template(kind: Kind) -> &'static str {
    match kind {
        Kind::PythonUv => PYTHON_UV,
        Kind::PythonPip => PYTHON_PIP,
        Kind::Python => PLAIN_PYTHON,
        Kind::Node => NODE_NPM,
    }
}

fn python_kind(source: &Path) -> Kind {
    let has = |name: &str| source.join(name).is_file();
    // A file for tools alone has no project in it.
    let project = std::fs::read_to_string(source.join("pyproject.toml"))
        .is_ok_and(|text| text.lines().any(|line| line.trim() == "[project]"));
    match (has("uv.lock") && project, has("requirements.txt"), project) {
        (true, ..) | (false, false, true) => Kind::PythonUv,
        (false, true, _) => Kind::PythonPip,
        (false, false, false) => Kind::Python,
    }
}

/// What matters here of `package.json`.
#[derive(Default)]
struct Package {
    there: bool,
    locked: bool,
    packages: bool,
    start: bool,
    build: bool,
}

impl Package {
    fn of(source: &Path) -> Self {
        let Ok(text) = std::fs::read(source.join("package.json")) else { return Self::default() };
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let any = |key: &str| value.get(key).and_then(|v| v.as_object()).is_some_and(|map| !map.is_empty());
        let script = |name: &str| value.pointer(&format!("/scripts/{name}")).is_some();
        Self {
            there: true,
            locked: source.join("package-lock.json").is_file(),
            packages: any("dependencies") || any("devDependencies"),
            start: script("start"),
            build: script("build"),
        }
    }

    fn install(&self) -> String {
        let npm = if self.locked { "npm ci" } else { "npm install" };
        match (self.there && (self.packages || self.build), self.build) {
            (false, _) => "COPY . .\n".to_owned(),
            (true, false) => format!(
                "# The packages first: a change of the code alone builds on.\n\
                 COPY package*.json ./\nRUN {npm} --omit=dev\nCOPY . .\n"
            ),
            (true, true) => format!(
                "# The packages first: a change of the code alone builds on.\n\
                 COPY package*.json ./\nRUN {npm}\nCOPY . .\nRUN npm run build && npm prune --omit=dev\n"
            ),
        }
    }
}

/// The Dockerfile of the image that code agents run in on an engine, and the base it begins with: that of the
/// service's `runtime`, such as `PYTHON_3_13` or `NODE_22`.
pub(super) fn base_dockerfile(runtime: &str) -> (&'static str, String) {
    let version = |prefix: &str| runtime.strip_prefix(prefix).map(|v| v.replace('_', "."));
    let base = match version("NODE_") {
        Some(node) => format!("public.ecr.aws/docker/library/node:{node}-slim"),
        None => {
            let python = version("PYTHON_").unwrap_or_else(|| PYTHON.to_owned());
            format!("public.ecr.aws/docker/library/python:{python}-slim")
        }
    };
    (BASE, base)
}

/// True when a build by this Dockerfile runs programs of the image: then a foreign processor needs an emulator.
pub fn needs_emulation(text: &str) -> bool {
    let mut continued = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('#') {
            continue;
        }
        let word = line.split_whitespace().next().unwrap_or_default();
        if !continued && word.eq_ignore_ascii_case("RUN") {
            return true;
        }
        continued = line.ends_with('\\');
    }
    false
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::project::Project;

    /// Names and texts.
    type Files<'f> = &'f [(&'f str, &'f str)];

    fn draft(yaml: &str, files: Files<'_>) -> Result<Draft, BuildError> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        fs::write(dir.path().join(".bedrock_agentcore.yaml"), format!("name: a\n{yaml}\n")).unwrap();
        let project = Project::load(None, dir.path()).unwrap();
        Draft::for_agent(project.agent(None).unwrap(), 8080)
    }

    #[test]
    fn the_template_follows_the_projects_files() {
        let python = "entrypoint: main.py";
        let project = ("pyproject.toml", "[project]\nname = \"a\"\n");
        let cases: [(&str, Files<'_>, Kind); 6] = [
            (python, &[], Kind::Python),
            (python, &[("requirements.txt", "x")], Kind::PythonPip),
            (python, &[project], Kind::PythonUv),
            (python, &[project, ("uv.lock", ""), ("requirements.txt", "x")], Kind::PythonUv),
            (python, &[("pyproject.toml", "[tool.ruff]\n"), ("requirements.txt", "x")], Kind::PythonPip),
            ("command: [node, server.js]", &[], Kind::Node),
        ];
        for (yaml, files, kind) in cases {
            let draft = draft(yaml, files).unwrap();
            assert_eq!(draft.kind, kind, "{yaml} {files:?}");
            assert!(!draft.text.contains("{{"), "{}", draft.text);
            assert!(draft.text.contains("\nEXPOSE 8080\n"), "{}", draft.text);
            assert!(draft.ignore.as_ref().unwrap().1.contains(".env*"));
        }
        let locked = draft(python, &[project, ("uv.lock", "")]).unwrap().text;
        assert!(
            locked.contains("COPY pyproject.toml uv.lock ./") && locked.contains("uv sync --locked --no-dev")
        );
        let text = draft("entrypoint: main.py\nruntime_type: PYTHON_3_11", &[]).unwrap().text;
        assert!(
            text.contains("python:3.11-slim") && text.ends_with("CMD [\"python\",\"main.py\"]\n"),
            "{text}"
        );
        assert!(draft(python, &[(".dockerignore", "x")]).unwrap().ignore.is_none());
    }

    #[test]
    fn npm_does_what_the_package_needs() {
        let node = "command: [node, server.js]";
        let text = draft(node, &[("package.json", "{}")]).unwrap().text;
        assert!(!text.contains("npm"), "{text}");
        let package = ("package.json", r#"{"dependencies": {"x": "1"}}"#);
        assert!(draft(node, &[package]).unwrap().text.contains("RUN npm install --omit=dev\n"));
        let locked = draft(node, &[package, ("package-lock.json", "{}")]).unwrap().text;
        assert!(locked.contains("RUN npm ci --omit=dev\nCOPY . .\n"), "{locked}");
        let package = (
            "package.json",
            r#"{"devDependencies": {"t": "1"}, "scripts": {"build": "tsc", "start": "node d"}}"#,
        );
        let text = draft("language: typescript\nentrypoint: src/index.ts", &[package]).unwrap().text;
        assert!(text.contains("RUN npm run build && npm prune --omit=dev\n"), "{text}");
        assert!(text.ends_with("CMD [\"npm\",\"start\"]\n"), "{text}");
    }

    #[test]
    fn what_no_template_fits_is_refused_by_why() {
        let reason = |yaml: &str, files: Files<'_>| draft(yaml, files).unwrap_err().to_string();
        assert!(reason("command: [./agent]", &[]).contains("`agent`"));
        let text = reason("language: typescript\nentrypoint: src/index.ts", &[("package.json", "{}")]);
        assert!(text.contains("`start`"), "{text}");
        assert!(reason("entrypoint: main.rb", &[]).contains("neither"));
    }

    #[test]
    fn steps_that_run_programs_are_found() {
        assert!(needs_emulation("FROM x\nRUN make\n"));
        assert!(needs_emulation("FROM x\n  run make\n"));
        assert!(!needs_emulation("FROM x\nCOPY . .\n# RUN make\nCMD run\n"));
        assert!(!needs_emulation("FROM x\nENV A=1 \\\n  RUN=2\nCOPY a \\\n  run\n"));
    }

    #[test]
    fn the_base_of_code_agents_follows_their_runtime() {
        assert!(base_dockerfile("PYTHON_3_11").1.ends_with("python:3.11-slim"));
        assert!(base_dockerfile("NODE_22").1.ends_with("node:22-slim"));
        assert!(base_dockerfile("?").0.contains("/var/task"));
    }
}
