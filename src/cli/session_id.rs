//! `session id`: the session id behind a short name.

use serde_json::json;

use super::Context;
use super::exit::{OK, Outcome};
use crate::model::session_id_for_name;
use crate::project::Project;

/// Short names of sessions
#[derive(clap::Args)]
pub(crate) struct SessionArgs {
    #[command(subcommand)]
    verb: SessionVerb,
}

#[derive(clap::Subcommand)]
enum SessionVerb {
    /// Print the session id that a short name stands for, for use in scripts
    Id {
        /// The short name, such as `ticket-8421`
        name: String,
    },
}

impl SessionArgs {
    pub(crate) fn exec(self, context: &Context) -> Outcome {
        let SessionVerb::Id { name } = self.verb;
        // The id depends on the agent's name alone; with `--agent` no project file is needed.
        let agent = match &context.globals.agent {
            Some(agent) if context.globals.config.is_none() => agent.clone(),
            agent => {
                let project = Project::load(context.globals.config.as_deref(), &context.env.directory()?)?;
                project.agent(agent.as_deref())?.name.to_string()
            }
        };
        let id = session_id_for_name(&agent, &name);
        context.ui.result(&json!({ "sessionId": id, "name": name, "agent": agent }), id.as_str())?;
        Ok(OK)
    }
}
