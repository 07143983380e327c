//! `destroy`: takes away what `deploy` made. Shows it first, and leaves alone what this tool did not create.

use serde_json::json;

use super::Context;
use super::deploy::{AwsOptions, Recorder, Work, shown_and_wanted};
use super::exit::{OK, Outcome};
use crate::ops::deploy::{Fact, Watcher};
use crate::ops::desired::Desired;
use crate::ops::destroy;

/// Delete what `deploy` created for the project's agent: shows it, asks, then does it
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore destroy --dry-run      # what would be deleted and what stays
  agentcore destroy --yes --logs   # in scripts, the runtime's logs too")]
pub(crate) struct DestroyArgs {
    #[command(flatten)]
    aws: AwsOptions,
    /// Show what would be deleted and stop
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Delete the runtime's log groups too
    #[arg(long)]
    logs: bool,
}

impl DestroyArgs {
    pub(crate) fn exec(self, context: &Context) -> Outcome {
        context.block_on(async {
            let work = Work::open(context)?;
            let desired = Desired::of(&work.agent);
            let (services, targets) = work.targets(&desired, &self.aws).await?;
            let spinner = context.ui.spinner("looking at what is in AWS");
            let observed = destroy::observe(&services, &desired, &targets).await?;
            drop(spinner);
            let plan = destroy::plan(&desired, &targets, &observed, self.logs, &work.sessions());
            if !shown_and_wanted(context, &plan, self.dry_run, self.yes, "Delete this?")? {
                return Ok(OK);
            }
            let mut recorder = Recorder::new(context, &work);
            if observed.runtime.is_none() {
                // Somebody else deleted it, or a run that ended before it could say so.
                recorder.record(Fact::RuntimeGone).map_err(crate::ops::deploy::OpsError::Record)?;
            }
            destroy::apply(&services, &plan, &targets, &mut recorder).await?;
            drop(recorder);
            let gone = plan.steps.iter().filter(|s| s.work != crate::ops::plan::Work::None).count();
            let message = match gone {
                0 => "nothing to delete".to_owned(),
                n => format!("deleted what was created for `{}` ({n} steps)", desired.name),
            };
            context.ui.result(&json!({ "deleted": gone, "plan": plan }), message)?;
            Ok(OK)
        })
    }
}
