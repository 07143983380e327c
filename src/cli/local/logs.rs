//! `local logs`: what agents wrote.

use std::collections::VecDeque;

use super::Local;
use super::admin::AdminError;
use crate::aws::RuntimeSummary;
use crate::cli::exit::{Failure, OK, Outcome};
use crate::model::{SessionId, remarks, session_id_for_name};
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

/// The last lines of a session's newest compute, for an error that has its cause in them. What an earlier compute
/// wrote has nothing to do with it.
pub(crate) async fn last_lines(
    local: &Local<'_>,
    runtime: &str,
    session: &SessionId,
    most: usize,
) -> Result<Vec<String>, AdminError> {
    let mut stream = local.admin().logs(Some(runtime), Some(session), false).await?;
    let mut lines = LastLines { most, ended: false, lines: VecDeque::new() };
    while let Some(line) = stream.next().await? {
        lines.add(line);
    }
    Ok(lines.lines.into())
}

/// Keeps the last lines of the newest compute that has written any.
struct LastLines {
    most: usize,
    /// True when the newest line told that its compute has ended.
    ended: bool,
    lines: VecDeque<String>,
}

impl LastLines {
    fn add(&mut self, line: LogLine) {
        let ends = line.stream == "system" && remarks::end_a_compute(&line.message);
        // Ends that follow one another are of one compute, which wrote nothing in between.
        if self.ended && !ends {
            self.lines.clear();
        }
        self.ended = ends;
        if self.lines.len() == self.most {
            self.lines.pop_front();
        }
        self.lines.push_back(line.message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_the_newest_compute_are_shown() {
        let mut last = LastLines { most: 3, ended: false, lines: VecDeque::new() };
        let mut add = |stream: &str, message: &str| {
            last.add(LogLine {
                timestamp: String::new(),
                runtime_id: "coder-AbCdEf0123".parse().unwrap(),
                session_id: SessionId::random(),
                stream: stream.to_owned(),
                message: message.to_owned(),
            });
            Vec::from(last.lines.clone())
        };
        add("stdout", "of the first");
        assert_eq!(add("system", remarks::STOPPED), ["of the first", remarks::STOPPED]);
        // An agent may write what it likes.
        add("stdout", remarks::STOPPED);
        assert_eq!(add("stderr", "of the second"), [remarks::STOPPED, "of the second"]);
        assert_eq!(add("system", "the stop was not clean: x").len(), 3);
        add("system", remarks::LEFT);
        assert_eq!(add("stdout", "of the third"), ["of the third"]);
        for line in ["b", "c", "d"] {
            add("stdout", line);
        }
        assert_eq!(add("stdout", "e"), ["c", "d", "e"]);
    }
}
