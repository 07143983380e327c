//! `status`: the project's agent as the service has it, beside what the project file says.

use serde_json::{Value, json};

use super::exit::{OK, Outcome};
use super::target::Place;
use crate::aws::RuntimeDetails;
use crate::project::Agent;

/// Show an agent's runtime, its endpoints, its sessions and where it differs from the project file
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore status
  agentcore status --output json | jq .drift")]
pub(crate) struct StatusArgs {}

/// A setting that is another one in the service than in the project file.
struct Drift {
    setting: &'static str,
    live: String,
    project: String,
}

impl StatusArgs {
    pub(crate) fn exec(self, place: &Place<'_>) -> Outcome {
        let context = place.context();
        let ui = &context.ui;
        context.block_on(async {
            let target = place.target().await?;
            let control = target.connection.control();
            let id = target.arn.id.as_str();
            let details = control.details(id).await.map_err(|e| place.failure(e))?;
            let endpoints = control.endpoints(id).await.map_err(|e| place.failure(e))?;
            let arn = target.arn.to_string();
            let sessions = target.memory.as_ref().map(|m| m.sessions()).unwrap_or_default();
            let sessions: Vec<_> = sessions.into_iter().filter(|s| s.runtime_arn == arn).collect();
            let project = context.project()?;
            let agent = project.as_ref().and_then(|p| p.agents.get(&target.agent));
            let drift = agent.map(|agent| drift(&details, agent)).unwrap_or_default();

            let seconds = |s: Option<i32>| s.map_or(String::new(), |s| format!("{s}s"));
            let mut rows = vec![
                ("agent", target.agent.clone()),
                ("runtime", arn.clone()),
                ("version", details.row.agent_runtime_version.clone()),
                ("status", ui.state(&details.row.status)),
                ("failure", details.failure_reason.clone().unwrap_or_default()),
                ("artifact", details.artifact.clone()),
                ("role", details.role_arn.clone()),
                ("storage", details.session_storage.clone().unwrap_or_else(|| "none".to_owned())),
                ("idle timeout", seconds(details.idle)),
                ("max lifetime", seconds(details.max_lifetime)),
                ("updated", details.row.last_updated_at.clone()),
            ];
            for endpoint in &endpoints {
                let live = endpoint.live_version.clone().unwrap_or_default();
                let target = endpoint.target_version.clone().filter(|t| *t != live);
                let moving = target.map(|t| format!(", moving to {t}")).unwrap_or_default();
                let status = ui.state(&endpoint.status);
                rows.push(("endpoint", format!("{}: version {live}{moving}, {status}", endpoint.name)));
            }
            let running = sessions.iter().filter(|s| s.stopped_at.is_none()).count();
            rows.push(("sessions", format!("{} used here, {running} not stopped", sessions.len())));
            rows.retain(|(_, value)| !value.is_empty());
            let rows: Vec<_> = rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
            let values = |d: &Drift| json!({ "setting": d.setting, "live": d.live, "project": d.project });
            let value = json!({
                "agent": target.agent,
                "runtime": details.row,
                "failureReason": details.failure_reason,
                "artifact": details.artifact,
                "roleArn": details.role_arn,
                "sessionStorage": details.session_storage,
                "endpoints": endpoints,
                "sessions": sessions,
                "drift": drift.iter().map(values).collect::<Vec<Value>>(),
            });
            ui.result(&value, ui.table(&rows))?;
            for d in &drift {
                ui.warn(format!(
                    "`{}` is `{}` in the service and `{}` in the project file",
                    d.setting, d.live, d.project
                ));
            }
            if !drift.is_empty() {
                ui.note(format!("hint: `{} deploy` applies the project file", place.program()));
            }
            Ok(OK)
        })
    }
}

/// What the project file says and the service has not, setting by setting. What the file does not say is left alone.
fn drift(live: &RuntimeDetails, agent: &Agent) -> Vec<Drift> {
    let mut all = Vec::new();
    let mut compare = |setting, live: String, project: String| {
        if live != project {
            all.push(Drift { setting, live, project });
        }
    };
    let shown = |storage: Option<&str>| storage.unwrap_or("none").trim_end_matches('/').to_owned();
    if agent.file_systems.value().is_some() {
        let project = agent.session_storage().map(|p| p.as_str());
        compare("session storage", shown(live.session_storage.as_deref()), shown(project));
    }
    if let Some(environment) = agent.environment.value() {
        // Names alone: values may be secrets.
        let differs = |name: &&String| live.environment.get(*name) != environment.get(*name);
        let names = |of: &std::collections::BTreeMap<String, String>| {
            let names: Vec<&str> = of.keys().filter(|n| differs(n)).map(String::as_str).collect();
            if names.is_empty() { "nothing else".to_owned() } else { names.join(", ") }
        };
        if live.environment != *environment {
            compare(
                "environment variables",
                format!("other values or names: {}", names(&live.environment)),
                names(environment),
            );
        }
    }
    if let Some(allowlist) = &agent.header_allowlist {
        compare("header allowlist", live.header_allowlist.join(", "), allowlist.join(", "));
    }
    let seconds = |s: u32| format!("{s}s");
    let found = |s: Option<i32>| s.map_or("none".to_owned(), |s| format!("{s}s"));
    if let Some(idle) = agent.lifecycle.idle {
        compare("idle timeout", found(live.idle), seconds(idle));
    }
    if let Some(max) = agent.lifecycle.max {
        compare("max lifetime", found(live.max_lifetime), seconds(max));
    }
    all
}
