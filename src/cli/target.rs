//! What a verb is aimed at: an agent's runtime, in the emulator or in AWS, and a session of it.
//!
//! The verbs know a [`Place`] and no more: `agentcore invoke` and `agentcore local invoke` are one piece of
//! code, and the place says how its runtime is found and reached.

use clap::builder::NonEmptyStringValueParser;

use super::Context;
use super::cloud::Cloud;
use super::exit::Failure;
use super::local::Local;
use super::memory::{Memory, Used};
use crate::aws::{AwsError, Connection, SessionCall};
use crate::model::{EndpointName, RuntimeArn, SessionId, SessionKey, session_id_for_name};
use crate::project::{Project, ProjectError};

/// Options that choose a session.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct SessionChoice {
    /// Session, by its id or a short name such as `ticket-8421` [default: the project's last one]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) session: Option<String>,
    #[command(flatten)]
    pub(crate) endpoint: EndpointChoice,
}

/// The option that chooses an endpoint.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct EndpointChoice {
    /// Endpoint of the runtime
    #[arg(long, value_name = "NAME", default_value = EndpointName::DEFAULT)]
    pub(crate) qualifier: EndpointName,
}

/// Where a verb works.
pub(crate) enum Place<'a> {
    /// In the emulator, which is started and told of the agent when it must be.
    Local(&'a Local<'a>),
    /// In AWS, or in whatever stands at `--endpoint-url` in its place.
    Cloud(Cloud<'a>),
}

impl<'a> Place<'a> {
    pub(crate) fn context(&self) -> &'a Context {
        match self {
            Self::Local(local) => local.context,
            Self::Cloud(cloud) => cloud.context,
        }
    }

    /// The runtime that the command line and the project mean.
    pub(crate) async fn target(&self) -> Result<Target, Failure> {
        match self {
            Self::Local(local) => local.target().await,
            Self::Cloud(cloud) => cloud.target().await,
        }
    }

    /// The way to the control plane, for verbs that mean no single runtime.
    pub(crate) async fn connection(&self) -> Result<Connection, Failure> {
        match self {
            Self::Local(local) => {
                let status = local.ensure_running().await?;
                local.connection(&status)
            }
            Self::Cloud(cloud) => cloud.anywhere().await,
        }
    }

    /// The same, for a verb that may start a compute: in the emulator it runs the code that is in the project now.
    pub(crate) async fn target_with_code(&self) -> Result<Target, Failure> {
        match self {
            Self::Local(local) => local.target_with_code().await,
            Self::Cloud(cloud) => cloud.target().await,
        }
    }

    /// A failed call, with what to do about it here.
    pub(crate) fn failure(&self, error: AwsError) -> Failure {
        let may_have_run = match &error {
            AwsError::Broken { .. } | AwsError::Timeout { .. } => true,
            other => other.status().is_some_and(|status| status >= 500),
        };
        let is_unconnected = matches!(error, AwsError::Connect { .. });
        let missing = error.name() == Some("ResourceNotFoundException");
        let mismatch = error.to_string().contains("uthorization method mismatch");
        let failure = Failure::from(error);
        match self {
            _ if may_have_run && failure.hint.is_none() => {
                failure.hint("the call may have had its effect, so it was not sent again")
            }
            Self::Cloud(_) if is_unconnected => {
                failure.hint("check the network, the region and `--endpoint-url`")
            }
            Self::Cloud(_) if missing => failure
                .hint("`agentcore list` shows the runtimes of the region; `--qualifier` names an endpoint"),
            // The service's words for a signature where it wants a token, and the other way round.
            Self::Cloud(cloud) if mismatch && !cloud.has_token() => {
                failure.hint("the runtime has a JWT authorizer: give a token with `--bearer-token @FILE`")
            }
            Self::Cloud(_) if mismatch => {
                failure.hint("the runtime takes AWS credentials: leave `--bearer-token` out")
            }
            _ => failure,
        }
    }

    /// How this place's verbs are called, for hints.
    pub(crate) fn program(&self) -> &'static str {
        match self {
            Self::Local(_) => "agentcore local",
            Self::Cloud(_) => "agentcore",
        }
    }
}

/// A runtime, and the project's side of it where there is one.
pub(crate) struct Target {
    pub(crate) connection: Connection,
    pub(crate) arn: RuntimeArn,
    /// The agent's name, from which session names are made.
    pub(crate) agent: String,
    pub(crate) memory: Option<Memory>,
}

/// A session in use.
#[derive(Debug, Clone)]
pub(crate) struct ChosenSession {
    pub(crate) id: SessionId,
    pub(crate) name: Option<String>,
}

impl ChosenSession {
    /// The id, with the name where there is one.
    pub(crate) fn shown(&self) -> String {
        match &self.name {
            Some(name) => format!("{name} ({})", self.id),
            None => self.id.to_string(),
        }
    }

    /// What stands before its lines where several sessions write.
    pub(crate) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(self.id.as_str())
    }
}

impl Context {
    /// The project here, or nothing where there is none.
    pub(crate) fn project(&self) -> Result<Option<Project>, Failure> {
        match Project::load(self.globals.config.as_deref(), &self.env.directory()?) {
            Ok(project) => Ok(Some(project)),
            Err(ProjectError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

impl Target {
    /// The session that `choice` names, or the last one, or, where `fresh` or none was used yet, a new one.
    pub(crate) fn session(&self, choice: Option<&str>, fresh: bool) -> ChosenSession {
        if let Some(name) = choice {
            let id = session_id_for_name(&self.agent, name);
            let name = (name != id.as_str()).then(|| name.to_owned());
            let name = name.or_else(|| self.memory.as_ref().and_then(|m| m.name(&id)));
            return ChosenSession { id, name };
        }
        let last = self.memory.as_ref().filter(|_| !fresh).and_then(|m| m.last_session(&self.agent));
        match last {
            Some(id) => {
                let name = self.memory.as_ref().and_then(|m| m.name(&id));
                ChosenSession { id, name }
            }
            None => ChosenSession { id: SessionId::random(), name: None },
        }
    }

    /// The last session; nothing where none was used yet.
    pub(crate) fn last_session(&self) -> Option<SessionId> {
        self.memory.as_ref().and_then(|m| m.last_session(&self.agent))
    }

    /// Remembers the session in use.
    pub(crate) fn remember(&self, session: &ChosenSession, qualifier: &EndpointName) -> Result<(), Failure> {
        let Some(memory) = &self.memory else { return Ok(()) };
        memory.remember(
            &self.agent,
            Used {
                session_id: session.id.clone(),
                name: session.name.clone(),
                agent: self.agent.clone(),
                runtime_arn: self.arn.to_string(),
                qualifier: qualifier.clone(),
                first_used_at: String::new(),
                last_used_at: String::new(),
                stopped_at: None,
            },
        )
    }

    /// Notes that the session is known to be down.
    pub(crate) fn note_stopped(&self, session: &SessionId, qualifier: &EndpointName) -> Result<(), Failure> {
        match &self.memory {
            Some(memory) => memory.note_stopped(&self.arn.to_string(), qualifier, session),
            None => Ok(()),
        }
    }

    /// The call of that session.
    pub(crate) fn call(&self, session: &SessionId, qualifier: &EndpointName) -> SessionCall {
        SessionCall { arn: self.arn.to_string(), qualifier: qualifier.clone(), session: session.clone() }
    }

    /// The session's key in the emulator.
    pub(crate) fn key(&self, session: &SessionId, qualifier: &EndpointName) -> SessionKey {
        SessionKey { runtime: self.arn.id.clone(), endpoint: qualifier.clone(), session: session.clone() }
    }
}
