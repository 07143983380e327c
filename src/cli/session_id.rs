//! `session`: the sessions that this project has used in AWS, and the ids behind short names. Nothing leaves the
//! machine: the service has no operation that lists sessions, so these are the ones of the ledger.

use clap::builder::NonEmptyStringValueParser;
use serde_json::json;

use super::Context;
use super::complete::age;
use super::exit::{Failure, OK, Outcome};
use super::local::Home;
use super::memory::{Memory, Used};
use crate::model::{RuntimeArn, format_duration, session_id_for_name};
use crate::project::{Project, ProjectError};

/// The sessions that were used here, and the ids of short names
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore session ls
  agentcore session use ticket-8421
  aws bedrock-agentcore stop-runtime-session --runtime-session-id \"$(agentcore session id ticket-8421)\" …")]
pub(crate) struct SessionArgs {
    #[command(subcommand)]
    verb: SessionVerb,
}

#[derive(clap::Subcommand)]
enum SessionVerb {
    /// List the sessions that this project used in AWS, the last one first
    #[command(after_help = "Examples:
  agentcore session ls")]
    Ls {
        /// Of this runtime instead, which was named with `--arn`
        #[arg(long, value_name = "ARN")]
        arn: Option<RuntimeArn>,
    },
    /// Use this session where none is named
    #[command(after_help = "Examples:
  agentcore session use ticket-8421")]
    Use {
        /// Its id or short name
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        session: String,
    },
    /// Print the session id that a short name stands for, for use in scripts
    #[command(after_help = "Examples:
  agentcore session id ticket-8421 --agent coder")]
    Id {
        /// The short name, such as `ticket-8421`
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
    },
}

impl SessionArgs {
    pub(crate) fn exec(self, context: &Context) -> Outcome {
        match self.verb {
            SessionVerb::Ls { arn } => ls(context, arn.as_ref()),
            SessionVerb::Use { session } => choose(context, &session),
            SessionVerb::Id { name } => id(context, &name),
        }
    }
}

fn project(context: &Context) -> Result<Project, Failure> {
    match context.project()? {
        Some(project) => Ok(project),
        None => Err(ProjectError::NotFound { from: context.env.directory()? }.into()),
    }
}

fn ls(context: &Context, arn: Option<&RuntimeArn>) -> Outcome {
    let ui = &context.ui;
    let home = Home::new(context.env.home()?);
    let memory = match arn {
        Some(arn) => Memory::of_cloud(&home, std::path::Path::new(&arn.to_string())),
        None => Memory::of_cloud(&home, project(context)?.root()),
    };
    let agent = context.globals.agent.as_ref();
    let sessions: Vec<Used> =
        memory.sessions().into_iter().filter(|s| agent.is_none_or(|a| *a == s.agent)).collect();
    let head = ["SESSION", "STATE", "AGENT", "ENDPOINT", "LAST USED"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    for session in &sessions {
        let ago = age(&session.last_used_at).map(|age| format!("{} ago", format_duration(age)));
        // The service ends sessions by itself too, and tells nobody.
        let state = if session.stopped_at.is_some() { "stopped" } else { "not stopped here" };
        table.push(vec![
            session.name.clone().unwrap_or_else(|| session.session_id.to_string()),
            ui.state(state),
            session.agent.clone(),
            session.qualifier.to_string(),
            ago.unwrap_or_else(|| session.last_used_at.clone()),
        ]);
    }
    ui.result(&sessions, if sessions.is_empty() { String::new() } else { ui.table(&table) })?;
    if sessions.is_empty() {
        ui.note("no session is known that was used here; `agentcore local session ls` lists the emulator's");
    }
    Ok(OK)
}

fn choose(context: &Context, name: &str) -> Outcome {
    let home = Home::new(context.env.home()?);
    let project = project(context)?;
    let agent = project.agent(context.globals.agent.as_deref())?;
    let id = session_id_for_name(agent.name.as_str(), name);
    let short = (name != id.as_str()).then_some(name);
    // One choice for both targets: the same name means the same session of the agent there and here.
    for memory in [Memory::of_cloud(&home, project.root()), Memory::of(&home, project.root())] {
        memory.choose(agent.name.as_str(), &id, short)?;
    }
    let value = json!({ "sessionId": id, "name": short, "agent": agent.name.as_str() });
    context.ui.result(&value, id.as_str())?;
    Ok(OK)
}

fn id(context: &Context, name: &str) -> Outcome {
    // The id depends on the agent's name alone; with `--agent` no project file is needed.
    let agent = match &context.globals.agent {
        Some(agent) if context.globals.config.is_none() => agent.clone(),
        agent => {
            let project = Project::load(context.globals.config.as_deref(), &context.env.directory()?)?;
            project.agent(agent.as_deref())?.name.to_string()
        }
    };
    let id = session_id_for_name(&agent, name);
    context.ui.result(&json!({ "sessionId": id, "name": name, "agent": agent }), id.as_str())?;
    Ok(OK)
}
