//! How the emulator's runtimes are found: the project's agent is deployed where it is not there yet.

use super::Local;
use super::deploy::{self, DeployOptions};
use crate::aws::{Connection, RuntimeSummary};
use crate::cli::exit::Failure;
use crate::cli::memory::Memory;
use crate::cli::target::Target;
use crate::model::Region;
use crate::project::{Agent, Project, ProjectError};
use crate::wire::admin::Status;

impl Local<'_> {
    /// The project here, or nothing where there is none.
    pub(crate) fn project(&self) -> Result<Option<Project>, Failure> {
        self.context.project()
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
        let connection = Connection::local(&status.endpoint, region).with_key(self.home.access_key()?);
        Ok(connection.telling(self.context.ui.listener()))
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
                            let change = self
                                .follow_source(&status, &project, agent, &connection, &runtime, false)
                                .await?;
                            if let Some(change) = change {
                                self.note_source(agent, &runtime, &change);
                            }
                        }
                        runtime
                    }
                    None => {
                        self.context.ui.note(format!("deploying agent `{}` for its first use", agent.name));
                        let options = DeployOptions::default();
                        let deployed =
                            deploy::deploy(self, &status, &project, agent, &connection, options).await?;
                        deployed.runtime
                    }
                };
                found(connection, &runtime, agent.name.to_string(), memory)
            }
            Ok(None) | Err(_) => {
                let Some(name) = wanted else {
                    let from = self.context.env.directory()?;
                    return Err(ProjectError::NotFound { from }.into());
                };
                let runtime = control.find_runtime(&name).await?;
                match (runtime, project) {
                    (Some(runtime), _) => found(connection, &runtime, name, None),
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

fn found(
    connection: Connection,
    runtime: &RuntimeSummary,
    agent: String,
    memory: Option<Memory>,
) -> Result<Target, Failure> {
    let arn = runtime.arn.parse().map_err(|e| Failure::failed(format!("`{}`: {e}", runtime.arn)))?;
    Ok(Target { connection, arn, agent, memory })
}
