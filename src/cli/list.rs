//! `list`: the runtimes of an account and region, or of the emulator.

use super::exit::{OK, Outcome};
use super::target::Place;

/// List the runtimes that there are
///
/// Those of the account and region that your AWS configuration names, or of the emulator.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore list --region us-west-2 --profile dev
  agentcore local list --output json")]
pub(crate) struct ListArgs {}

impl ListArgs {
    pub(crate) fn exec(self, place: &Place<'_>) -> Outcome {
        let ui = &place.context().ui;
        place.context().block_on(async {
            let connection = place.connection().await?;
            let rows = connection.control().list().await.map_err(|e| place.failure(e))?;
            let head = ["NAME", "ID", "VERSION", "STATUS", "LAST UPDATED"];
            let mut table = vec![head.map(str::to_owned).to_vec()];
            table.extend(rows.iter().map(|r| {
                let status = ui.state(&r.status);
                vec![
                    r.agent_runtime_name.clone(),
                    r.agent_runtime_id.clone(),
                    r.agent_runtime_version.clone(),
                    status,
                    r.last_updated_at.clone(),
                ]
            }));
            ui.result(&rows, if rows.is_empty() { String::new() } else { ui.table(&table) })?;
            if rows.is_empty() {
                ui.note("there are no runtimes");
            }
            Ok(OK)
        })
    }
}
