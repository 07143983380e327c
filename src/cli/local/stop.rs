//! `local stop`: ends a session's compute; its storage stays.

use futures_util::stream::{self, StreamExt};
use serde_json::json;

use super::session::{key, known};
use super::target::SessionChoice;
use super::{Local, admin::AdminError};
use crate::aws::{AwsError, SessionCall};
use crate::cli::exit::{Class, Failure, OK, Outcome};
use crate::model::SessionState;
use crate::wire::admin::Session;

/// Sessions that are stopped at the same time.
const AT_ONCE: usize = 16;

/// Stop a session and wait until its files are safe; the next call resumes it
#[derive(clap::Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    session: SessionChoice,
    /// Every live session; of one agent where `--agent` names one
    #[arg(long, conflicts_with = "session")]
    all: bool,
}

impl StopArgs {
    pub(crate) fn exec(self, local: &Local<'_>) -> Outcome {
        local.context.block_on(async { if self.all { all(local).await } else { self.one(local).await } })
    }

    async fn one(&self, local: &Local<'_>) -> Outcome {
        let ui = &local.context.ui;
        let target = local.target().await?;
        if self.session.session.is_none() && target.last_session().is_none() {
            return Err(Failure::failed(format!("agent `{}` has no last session", target.agent))
                .hint("name one with `--session`, or use `--all`"));
        }
        let session = target.session(&self.session, false);
        let spinner = ui.spinner("stopping the session");
        let stopped = target.connection.data().stop(target.call(&session.id, &self.session.qualifier)).await;
        drop(spinner);
        let was_running = match stopped {
            Ok(()) => true,
            Err(e) if is_gone(&e) => {
                // A session that stands still is what was asked for; one that nobody knows is a mistake.
                match local.admin().session(&target.key(&session.id, &self.session.qualifier)?).await {
                    Ok(_) => false,
                    Err(unknown) if unknown.is_unknown() => {
                        let message = format!("the emulator knows no session `{}`", session.shown());
                        return Err(Failure::new(Class::Remote, message)
                            .hint("`agentcore local session ls` lists them"));
                    }
                    Err(other) => return Err(other.into()),
                }
            }
            Err(e) => return Err(e.into()),
        };
        let value = json!({ "sessionId": session.id, "name": session.name, "wasRunning": was_running });
        let text = if was_running { "stopped" } else { "was not running:" };
        ui.result(&value, format!("{text} {}", session.shown()))?;
        Ok(OK)
    }
}

fn is_gone(error: &AwsError) -> bool {
    error.name() == Some("ResourceNotFoundException")
}

async fn all(local: &Local<'_>) -> Outcome {
    let ui = &local.context.ui;
    match local.admin().status().await {
        // Nothing runs without an emulator, so none is started for this.
        Err(AdminError::Down(_)) => {
            ui.result(&json!({ "stopped": [] }), "no emulator was running")?;
            return Ok(OK);
        }
        Err(e) => return Err(e.into()),
        Ok(status) => {
            let data = local.connection(&status)?.data();
            let live = |s: &Session| !matches!(s.state, SessionState::Stopped | SessionState::Expired);
            let sessions: Vec<Session> = known(local).await?.into_iter().filter(live).collect();
            let spinner = ui.spinner(format!("stopping {} sessions", sessions.len()));
            let results: Vec<Result<String, AwsError>> = stream::iter(sessions)
                .map(|session| {
                    let data = data.clone();
                    async move {
                        let id = key(&session).session;
                        let call = SessionCall {
                            arn: session.runtime_arn,
                            qualifier: session.qualifier,
                            session: id.clone(),
                        };
                        match data.stop(call).await {
                            Err(e) if !is_gone(&e) => Err(e),
                            _ => Ok(id.to_string()),
                        }
                    }
                })
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            drop(spinner);
            let stopped: Vec<String> = results.into_iter().collect::<Result<_, _>>()?;
            let text: Vec<String> = stopped.iter().map(|id| format!("stopped {id}")).collect();
            let text = if text.is_empty() { "no session was running".to_owned() } else { text.join("\n") };
            ui.result(&json!({ "stopped": stopped }), text)?;
        }
    }
    Ok(OK)
}
