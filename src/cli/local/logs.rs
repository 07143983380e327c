//! `local logs`: what agents wrote.

use super::Local;
use super::admin::AdminError;
use crate::aws::RuntimeSummary;
use crate::cli::exit::{Failure, OK, Outcome};
use crate::model::{SessionId, session_id_for_name};
use crate::wire::admin::LogLine;

/// Show what agents wrote to standard output and error
#[derive(clap::Args)]
pub(crate) struct LogsArgs {
    /// Of this session only, by its id or short name
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
    /// Go on with new lines until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Of every agent, not of the project's alone
    #[arg(long, conflicts_with = "session")]
    all: bool,
}

impl LogsArgs {
    pub(crate) fn exec(self, local: &Local<'_>) -> Outcome {
        let ui = &local.context.ui;
        local.context.block_on(async {
            let status = local.ensure_running().await?;
            let runtime = self.runtime(local, &status).await?;
            let session: Option<SessionId> = match (&self.session, &runtime) {
                (Some(name), Some(runtime)) => Some(session_id_for_name(&runtime.name, name)),
                (Some(name), None) => Some(name.parse().map_err(|_| {
                    Failure::usage(format!("`{name}` is a short name, and short names belong to an agent"))
                        .hint("name the agent with `--agent`, or give the whole session id")
                })?),
                (None, _) => None,
            };
            let runtime_id = runtime.as_ref().map(|r| r.id.as_str());
            let mut lines = local.admin().logs(runtime_id, session.as_ref(), self.follow).await?;
            loop {
                let line = tokio::select! {
                    line = lines.next() => line?,
                    _ = tokio::signal::ctrl_c() => return Ok(OK),
                };
                let Some(line) = line else { return Ok(OK) };
                if ui.is_json() {
                    ui.event(&line)?;
                } else {
                    ui.line(&shown(&line))?;
                }
            }
        })
    }

    /// The runtime whose lines are wanted; nothing means all.
    async fn runtime(
        &self,
        local: &Local<'_>,
        status: &crate::wire::admin::Status,
    ) -> Result<Option<RuntimeSummary>, Failure> {
        if self.all {
            return Ok(None);
        }
        let name = match (&local.context.globals.agent, local.project()?) {
            (Some(name), _) => name.clone(),
            (None, Some(project)) => project.agent(None)?.name.to_string(),
            (None, None) => return Ok(None),
        };
        let runtime = local.connection(status)?.control().find_runtime(&name).await?;
        runtime.map(Some).ok_or_else(|| {
            Failure::failed(format!("the emulator has no runtime `{name}`"))
                .hint("run `agentcore local deploy`")
        })
    }
}

fn shown(line: &LogLine) -> String {
    // The time of day is enough on a screen; JSON has all of it.
    let time = line.timestamp.split('T').nth(1).unwrap_or(&line.timestamp).trim_end_matches('Z');
    let session: String = line.session_id.as_str().chars().take(8).collect();
    format!("{time} {session} {:<6} {}", line.stream, line.message)
}

/// The last lines of a session, for an error that has its cause in them.
pub(crate) async fn last_lines(
    local: &Local<'_>,
    runtime: &str,
    session: &SessionId,
    most: usize,
) -> Result<Vec<String>, AdminError> {
    let mut stream = local.admin().logs(Some(runtime), Some(session), false).await?;
    let mut lines = std::collections::VecDeque::new();
    while let Some(line) = stream.next().await? {
        if lines.len() == most {
            lines.pop_front();
        }
        lines.push_back(line.message);
    }
    Ok(lines.into())
}
