//! What a verb is aimed at: the project's agent, its runtime in the emulator, and a session of it.

use super::Local;
use super::deploy::{self, DeployOptions};
use super::memory::Memory;
use crate::aws::{Connection, RuntimeSummary, SessionCall};
use crate::cli::exit::Failure;
use crate::model::{EndpointName, Region, RuntimeId, SessionId, SessionKey, session_id_for_name};
use crate::project::{Agent, Project, ProjectError};
use crate::wire::admin::Status;

/// Options that choose a session.
#[derive(clap::Args, Debug, Clone)]
pub(crate) struct SessionChoice {
    /// Session, by its id or a short name such as `ticket-8421` [default: the project's last one]
    #[arg(long, value_name = "NAME")]
    pub(crate) session: Option<String>,
    /// Endpoint of the runtime
    #[arg(long, value_name = "NAME", default_value = EndpointName::DEFAULT)]
    pub(crate) qualifier: EndpointName,
}

/// A runtime in the emulator, and the project's side of it where there is one.
pub(crate) struct Target {
    pub(crate) connection: Connection,
    pub(crate) runtime: RuntimeSummary,
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
}

impl Local<'_> {
    /// The project here, or nothing where there is none.
    pub(crate) fn project(&self) -> Result<Option<Project>, Failure> {
        let config = self.context.globals.config.as_deref();
        match Project::load(config, &self.context.env.directory()?) {
            Ok(project) => Ok(Some(project)),
            Err(ProjectError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The project here and its agent; an error where there is none.
    pub(crate) fn project_agent(&self) -> Result<(Project, Agent), Failure> {
        let config = self.context.globals.config.as_deref();
        let project = Project::load(config, &self.context.env.directory()?)?;
        let agent = project.agent(self.context.globals.agent.as_deref())?.clone();
        Ok((project, agent))
    }

    /// How the emulator is reached through the SDK.
    pub(crate) fn connection(&self, status: &Status) -> Result<Connection, Failure> {
        let region: Region =
            status.region.parse().map_err(|e| Failure::failed(format!("`{}`: {e}", status.region)))?;
        Ok(Connection::local(&status.endpoint, region).with_key(self.home.access_key()?))
    }

    /// The runtime that the command line and the project mean. A project's agent that the emulator does
    /// not know is deployed first; without a project, `--agent` names a runtime of the emulator.
    pub(crate) async fn target(&self) -> Result<Target, Failure> {
        self.find_target(false).await
    }

    /// The same, for a verb that may start a compute: it runs the code that is in the project now.
    pub(crate) async fn target_with_code(&self) -> Result<Target, Failure> {
        self.find_target(true).await
    }

    async fn find_target(&self, with_code: bool) -> Result<Target, Failure> {
        let wanted = self.context.globals.agent.clone();
        let project = match self.project()? {
            // The agent of another project: the emulator knows its runtime.
            Some(project) if wanted.as_ref().is_some_and(|w| !project.agents.contains_key(w)) => Err(project),
            Some(project) => Ok(Some(project)),
            None => Ok(None),
        };
        let status = self.ensure_running().await?;
        let connection = self.connection(&status)?;
        let control = connection.control();
        match project {
            Ok(Some(project)) => {
                let agent = project.agent(wanted.as_deref())?;
                let memory = Some(Memory::of(&self.home, project.root()));
                let runtime = match control.find_runtime(agent.name.as_str()).await? {
                    Some(runtime) => {
                        if with_code {
                            let change =
                                self.follow_source(&project, agent, &connection, &runtime, false).await?;
                            if let Some(change) = change {
                                self.note_source(agent, &runtime, &change);
                            }
                        }
                        runtime
                    }
                    None => {
                        self.context.ui.note(format!("deploying agent `{}` for its first use", agent.name));
                        let deployed =
                            deploy::deploy(self, &project, agent, &connection, DeployOptions::default())
                                .await?;
                        deployed.runtime
                    }
                };
                Ok(Target { connection, runtime, agent: agent.name.to_string(), memory })
            }
            Ok(None) | Err(_) => {
                let Some(name) = wanted else {
                    let from = self.context.env.directory()?;
                    return Err(ProjectError::NotFound { from }.into());
                };
                let runtime = control.find_runtime(&name).await?;
                match (runtime, project) {
                    (Some(runtime), _) => Ok(Target { connection, runtime, agent: name, memory: None }),
                    (None, Err(project)) => {
                        Err(project.agent(Some(&name)).map(drop).map_or_else(Failure::from, |()| {
                            Failure::failed(format!("the emulator has no runtime `{name}`"))
                        }))
                    }
                    (None, Ok(_)) => Err(Failure::failed(format!("the emulator has no runtime `{name}`"))
                        .hint("run `agentcore local deploy` in the project of that agent")),
                }
            }
        }
    }
}

impl Target {
    /// The session that `choice` names, or the last one, or, where `fresh` or none was used yet, a new one.
    pub(crate) fn session(&self, choice: &SessionChoice, fresh: bool) -> ChosenSession {
        if let Some(name) = &choice.session {
            let id = session_id_for_name(&self.agent, name);
            let name = (name != id.as_str()).then(|| name.clone());
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
    pub(crate) fn remember(&self, session: &ChosenSession) -> Result<(), Failure> {
        match &self.memory {
            Some(memory) => memory.remember(&self.agent, &session.id, session.name.as_deref()),
            None => Ok(()),
        }
    }

    /// The call of that session.
    pub(crate) fn call(&self, session: &SessionId, qualifier: &EndpointName) -> SessionCall {
        SessionCall { arn: self.runtime.arn.clone(), qualifier: qualifier.clone(), session: session.clone() }
    }

    /// The session's key in the emulator.
    pub(crate) fn key(&self, session: &SessionId, qualifier: &EndpointName) -> Result<SessionKey, Failure> {
        let runtime: RuntimeId =
            self.runtime.id.parse().map_err(|e| Failure::failed(format!("`{}`: {e}", self.runtime.id)))?;
        Ok(SessionKey { runtime, endpoint: qualifier.clone(), session: session.clone() })
    }
}
