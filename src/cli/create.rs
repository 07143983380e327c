//! `create`: a new project from a template.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::json;

use super::Context;
use super::exit::{Failure, OK, Outcome};
use crate::model::RuntimeName;
use crate::project::templates::Template;

/// Make a new project
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore create coder && cd coder
  agentcore create coder --template strands")]
pub(crate) struct CreateArgs {
    /// Directory to make; its last part names the agent
    name: PathBuf,
    /// What to begin with
    #[arg(long, value_enum, default_value_t)]
    template: TemplateChoice,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum TemplateChoice {
    /// A Python agent without dependencies
    #[default]
    Minimal,
    /// A Python agent on the `bedrock-agentcore` package
    Sdk,
    /// A Node agent without dependencies
    Node,
    /// A coding agent with Strands Agents
    Strands,
}

impl CreateArgs {
    pub(crate) fn exec(self, context: &Context) -> Outcome {
        let target = context.env.directory()?.join(&self.name);
        let last = target.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        // A directory may be called `my-agent`; a runtime may not.
        let name: RuntimeName = last.replace(['-', ' ', '.'], "_").parse().map_err(|e| {
            Failure::usage(format!("`{last}` cannot name an agent: {e}"))
                .hint("begin the directory's name with a letter, as in `agentcore create my-agent`")
        })?;
        let template = match self.template {
            TemplateChoice::Minimal => Template::Minimal,
            TemplateChoice::Sdk => Template::Sdk,
            TemplateChoice::Node => Template::Node,
            TemplateChoice::Strands => Template::Strands,
        };
        let files = template.create(&target, &name)?;
        let shown = self.name.display();
        let value = json!({ "agent": name, "directory": target, "files": files });
        context.ui.result(&value, format!("made agent `{name}` in `{shown}`"))?;
        context.ui.note(format!("next: cd {shown} && agentcore local invoke \"hello\""));
        Ok(OK)
    }
}
