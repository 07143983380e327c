//! `local status`: whether an emulator runs, and how it does.

use std::time::Duration;

use serde_json::json;

use super::Local;
use super::admin::AdminError;
use crate::cli::exit::{Class, OK, Outcome};
use crate::model::format_duration;

/// Show whether the emulator runs; exits with 1 when it does not
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore local status
  agentcore local status --output json | jq -r .endpoint")]
pub(crate) struct StatusArgs {}

impl StatusArgs {
    pub(crate) fn exec(self, local: &Local<'_>) -> Outcome {
        let ui = &local.context.ui;
        local.context.block_on(async {
            let status = match local.admin().status().await {
                Ok(status) => status,
                Err(AdminError::Down(_)) => {
                    ui.result(&json!({ "running": false, "home": local.home.path() }), "not running")?;
                    ui.note("hint: start it with `agentcore local up`");
                    return Ok(Class::Failed.code());
                }
                Err(e) => return Err(e.into()),
            };
            let mut value = json!({ "running": true });
            if let (Some(map), Ok(serde_json::Value::Object(more))) =
                (value.as_object_mut(), serde_json::to_value(&status))
            {
                map.extend(more);
            }
            let mut rows = vec![
                ("endpoint", status.endpoint.clone()),
                ("engine", status.engine.clone()),
                ("process", format!("{} (version {})", status.pid, status.version)),
                ("home", status.home.clone()),
                ("account", format!("{} in {}", status.account, status.region)),
                (
                    "network",
                    [std::slice::from_ref(&status.network), &*status.network_allow].concat().join(", "),
                ),
                ("agent calls", if status.agent_calls { "allowed" } else { "refused" }.to_owned()),
                ("AWS identity", status.aws_identity.clone()),
                ("started", status.started_at.clone()),
                ("runtimes", status.runtimes.to_string()),
                ("sessions", format!("{} ({} live)", status.sessions, status.live_sessions)),
            ];
            rows.extend(status.not_isolated.iter().map(|what| ("not isolated", what.clone())));
            if status.clock_offset_seconds > 0 {
                let ahead = format_duration(Duration::from_secs(status.clock_offset_seconds));
                rows.push(("clock", format!("{ahead} ahead")));
            }
            let rows: Vec<_> = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
            ui.result(&value, ui.table(&rows))?;
            Ok(OK)
        })
    }
}
