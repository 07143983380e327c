//! How a command ends: the one table from what went wrong to the exit code.

use serde_json::json;

use crate::artifacts::package::PackageError;
use crate::artifacts::python::PythonError;
use crate::artifacts::{ArtifactError, PackError};
use crate::aws::AwsError;
use crate::build::BuildError;
use crate::emulator::OpenError;
use crate::engine::EngineError;
use crate::ops::deploy::OpsError;
use crate::ops::ports;
use crate::project::ProjectError;
use crate::project::templates::CreateError;

/// What a verb gives: its exit code, or why it failed.
pub(crate) type Outcome = Result<u8, Failure>;

/// Success.
pub(crate) const OK: u8 = 0;
/// A command in a session ran into its time limit, as coreutils' `timeout` says it.
pub(crate) const COMMAND_TIMED_OUT: u8 = 124;

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Anything without a kind of its own.
    Failed,
    /// The command line.
    Usage,
    /// The project file.
    Project,
    /// AWS, or the emulator in its place, answered with an error or not at all.
    Remote,
    /// The engine: namespaces and what they need.
    Engine,
    /// `exec` itself, not the command that it was to run.
    Tool,
    /// Ctrl-C.
    Interrupted,
    /// Whoever read our output has gone; that is how `| head` works.
    BrokenPipe,
}

impl Class {
    /// The exit code. This table is part of the program's interface.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Project => 3,
            Self::Remote => 4,
            Self::Engine => 5,
            Self::Tool => 125,
            Self::Interrupted => 130,
        }
    }

    /// The kind's word in JSON.
    fn word(self) -> &'static str {
        match self {
            Self::Failed | Self::BrokenPipe => "failed",
            Self::Usage => "usage",
            Self::Project => "project",
            Self::Remote => "remote",
            Self::Engine => "engine",
            Self::Tool => "tool",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Why a command failed, ready to be told.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) class: Class,
    /// What kind it was before `exec` made it its own.
    cause: Class,
    /// A sentence in lower case that names the thing in backticks.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// What few failures have; apart, so that every result stays small.
    more: Box<More>,
}

#[derive(Debug, Clone, Default)]
struct More {
    details: Vec<String>,
    name: Option<String>,
    request_id: Option<String>,
}

impl Failure {
    pub(crate) fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, cause: class, message: message.into(), hint: None, more: Box::default() }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Class::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Class::Usage, message)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn details(mut self, lines: Vec<String>) -> Self {
        self.more.details = lines;
        self
    }

    /// Lines that belong to it, such as an agent's last output.
    pub(crate) fn detail_lines(&self) -> &[String] {
        &self.more.details
    }

    /// The failure of `exec` itself: told apart from the codes of the commands that it runs.
    pub(crate) fn of_tool(mut self) -> Self {
        if !matches!(self.class, Class::Usage | Class::Interrupted | Class::BrokenPipe) {
            self.class = Class::Tool;
        }
        self
    }

    /// The failure as a JSON document.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        json!({ "error": {
            "class": self.cause.word(),
            "exitCode": self.class.code(),
            "message": self.message,
            "name": self.more.name,
            "requestId": self.more.request_id,
            "hint": self.hint,
            "details": self.more.details,
        }})
    }
}

impl Failure {
    /// A failed call of AWS, where no emulator is meant.
    pub(crate) fn of_aws(error: AwsError, message: String) -> Self {
        let connect = matches!(error, AwsError::Connect { .. });
        let hint = error.hint();
        let mut failure = Self::from(error);
        failure.message = message;
        failure.hint = match connect {
            true => Some("check the network, and AWS_ENDPOINT_URL where it is set".to_owned()),
            false => hint,
        };
        failure
    }
}

impl From<ProjectError> for Failure {
    fn from(error: ProjectError) -> Self {
        let failure = Self::new(Class::Project, error.to_string());
        match error {
            ProjectError::NotFound { .. } => {
                failure.hint(
                    "run `agentcore create NAME`, or `agentcore configure` in a project of yours, or name the file \
                     with `--config FILE`",
                )
            }
            ProjectError::UnknownAgent { known, .. } | ProjectError::NoDefault { known, .. } => {
                failure.hint(format!("name one with `--agent`: {}", known.join(", ")))
            }
            ProjectError::Read { .. } => failure.hint("name a file that can be read with `--config FILE`"),
            ProjectError::Write { .. } => failure.hint("see to it that its directory can be written to"),
            ProjectError::Changed { .. } => failure.hint("nothing was written; run the command again"),
            ProjectError::NotEditable { .. } => failure.hint("change it there by hand"),
            ProjectError::Invalid { .. } => failure,
        }
    }
}

impl From<AwsError> for Failure {
    fn from(error: AwsError) -> Self {
        let mut failure = Self::new(Class::Remote, error.to_string());
        failure.more.name = error.name().map(str::to_owned);
        failure.more.request_id = error.request_id().map(str::to_owned);
        failure.hint = error.hint();
        match error {
            AwsError::Connect { .. } => {
                failure.hint("`agentcore local status` shows whether the emulator runs")
            }
            AwsError::Timeout { .. } => failure.hint("give it more time with `--timeout`"),
            _ => failure,
        }
    }
}

impl From<OpsError> for Failure {
    fn from(error: OpsError) -> Self {
        let message = error.to_string();
        match error {
            OpsError::Aws(source) => Self::of_aws(source, message),
            OpsError::Step { source, .. } => {
                let failure = Self::of_aws(source, message);
                let again = "what was done until then is kept; run the command again to go on";
                match &failure.hint {
                    Some(hint) => {
                        let hint = format!("{hint}; {again}");
                        failure.hint(hint)
                    }
                    None => failure.hint(again),
                }
            }
            OpsError::Refused { hint, .. } => Self::failed(message).hint(hint),
            OpsError::Build(ports::BuildError { hint, details, .. }) => {
                let mut failure = Self::failed(message).details(details);
                failure.hint = hint;
                failure
            }
            OpsError::Record(_) => Self::new(Class::Project, message)
                .hint("make the project file writable and run the command again"),
        }
    }
}

impl From<PackageError> for Failure {
    fn from(error: PackageError) -> Self {
        let message = error.to_string();
        match error {
            PackageError::Pack(source) => source.into(),
            PackageError::Python(source) => source.into(),
            PackageError::Install { last_lines, .. } => Self::failed(message).details(last_lines).hint(
                "a package without a wheel for arm64 Linux cannot be deployed as code: pin a version that has one, \
                 or deploy a container (`deployment_type: container`)",
            ),
            PackageError::NoInstaller => Self::failed(message).hint("install uv, or Python 3 with pip"),
            PackageError::NotCode { .. } => Self::new(Class::Project, message)
                .hint("set `deployment_type: container` in the project file and give it a Dockerfile"),
            PackageError::Runtime { .. } | PackageError::NoEntryPoint(_) => {
                Self::new(Class::Project, message).hint("correct it in the project file")
            }
            PackageError::TooLarge { .. } => Self::failed(message).hint(
                "name what the agent does not need in `.dockerignore`, or deploy a container, which may have 2 GB",
            ),
            PackageError::Io { .. } => Self::failed(message),
        }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let failure = Self::new(Class::Engine, error.to_string());
        match error {
            EngineError::Unavailable { hint, .. } => failure.hint(hint),
            _ => failure,
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<ArtifactError> for Failure {
    fn from(error: ArtifactError) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<PackError> for Failure {
    fn from(error: PackError) -> Self {
        let failure = Self::failed(error.to_string());
        match error {
            PackError::TooLarge { .. } => {
                failure.hint("name what the agent does not need in `.dockerignore`")
            }
            PackError::Home { .. } => failure.hint("set `AGENTCORE_HOME` to a directory of its own"),
            _ => failure,
        }
    }
}

impl From<PythonError> for Failure {
    fn from(error: PythonError) -> Self {
        let failure = Self::failed(error.to_string());
        match error {
            PythonError::Missing { .. } => {
                failure.hint("install Python 3, or give the agent a `command` in the project file")
            }
            PythonError::Install { last_lines, .. } => failure.details(last_lines).hint(
                "an environment is made once and needs the network then; or put a `.venv` into the project",
            ),
            PythonError::Requirements { .. } => failure
                .hint("reading `pyproject.toml` needs Python 3.11; a `requirements.txt` works with any"),
            PythonError::Private { .. } => {
                failure.hint("make a `.venv` in the project with a Python that has a directory of its own")
            }
            PythonError::Broken { .. } | PythonError::Io { .. } => failure,
        }
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        let message = error.to_string();
        match error {
            BuildError::Missing { fix, .. } => Self::new(Class::Engine, message).hint(fix),
            BuildError::Failed { log, .. } => Self::failed(message).details(log),
            BuildError::Secrets { ignore_file, .. } => Self::failed(message).hint(format!(
                "add the line `**/.env*` to `{}`; `!NAME` has a file back that is meant to go along",
                ignore_file.display()
            )),
            BuildError::Context(error) => error.into(),
            BuildError::NoDockerfile { .. } | BuildError::Io { .. } => Self::failed(message),
        }
    }
}

impl From<CreateError> for Failure {
    fn from(error: CreateError) -> Self {
        let failure = Self::failed(error.to_string());
        match error {
            CreateError::Exists(_) => failure.hint("choose another name, or empty the directory first"),
            CreateError::Io { .. } => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let table = [
            (Class::BrokenPipe, 0),
            (Class::Failed, 1),
            (Class::Usage, 2),
            (Class::Project, 3),
            (Class::Remote, 4),
            (Class::Engine, 5),
            (Class::Tool, 125),
            (Class::Interrupted, 130),
        ];
        for (class, code) in table {
            assert_eq!(class.code(), code, "{class:?}");
        }
    }

    #[test]
    fn errors_of_the_rooms_get_their_class() {
        let found = |f: Failure| f.class;
        let project = ProjectError::NotFound { from: "/p".into() };
        assert_eq!(found(project.into()), Class::Project);
        assert_eq!(found(AwsError::Timeout { operation: "X" }.into()), Class::Remote);
        let engine = EngineError::Unavailable { reason: "r".into(), hint: "h".into() };
        let failure = Failure::from(engine);
        assert_eq!((failure.class, failure.hint.as_deref()), (Class::Engine, Some("h")));
        let tool = failure.of_tool();
        assert_eq!(tool.class.code(), 125);
        assert_eq!(tool.to_json()["error"]["class"], "engine");
        assert_eq!(Failure::usage("x").of_tool().class, Class::Usage);
    }
}
