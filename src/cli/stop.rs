//! `stop`: ends a session's compute; its storage stays.
//!
//! The service's StopRuntimeSession returns before the compute has ended, and there is no operation that asks
//! for a session's state. A further StopRuntimeSession is the one question that starts nothing: its
//! ResourceNotFoundException says that nothing is left to stop. So it is repeated until then.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::exit::{Class, Failure, OK, Outcome};
use super::local::Local;
use super::local::admin::AdminError;
use super::local::session::{key, known};
use super::memory::Used;
use super::target::{ChosenSession, Place, SessionChoice, Target};
use crate::aws::{AwsError, DataClient, SessionCall};
use crate::model::{EndpointName, SessionState, format_duration, parse_duration};
use crate::wire::admin::Session;

/// Sessions that are stopped at the same time.
const AT_ONCE: usize = 16;
/// Longest repetition. [observed: the service kills a compute at most 63 s after its SIGTERM]
const BOUND: Duration = Duration::from_secs(75);
/// Pause between two requests, and the longest one it grows to. [ours]
const PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Stop a session and wait until its compute is known to be down; the next call resumes it
///
/// Files under the session storage are kept. The session itself is never called for this, which would start it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore stop
  agentcore stop --session ticket-8421
  agentcore local stop --all")]
pub(crate) struct StopArgs {
    #[command(flatten)]
    session: SessionChoice,
    /// Every session that this project is known to have used and not stopped; in the emulator every live one
    #[arg(long, conflicts_with = "session")]
    all: bool,
    /// Longest wait until it is known to be down [default: 75s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

/// What became of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// It was running and is down.
    Down,
    /// It was not running.
    WasDown,
    /// The service took the stop and has not said that it is down.
    Accepted,
}

impl StopArgs {
    pub(crate) fn exec(self, place: &Place<'_>) -> Outcome {
        place.context().block_on(async {
            let _words =
                place.context().last_words("stopped waiting; what was asked to stop goes on stopping");
            match (self.all, place) {
                (true, Place::Local(local)) => self.all_live(local).await,
                (true, Place::Cloud(_)) => self.all_used(place).await,
                (false, _) => self.one(place).await,
            }
        })
    }

    fn bound(&self) -> Duration {
        self.timeout.unwrap_or(BOUND)
    }

    async fn one(&self, place: &Place<'_>) -> Outcome {
        let ui = &place.context().ui;
        let target = place.target().await?;
        if self.session.session.is_none() && target.last_session().is_none() {
            return Err(Failure::failed(format!("agent `{}` has no last session", target.agent))
                .hint("name one with `--session`, or use `--all`"));
        }
        let session = target.session(self.session.session.as_deref(), false);
        let qualifier = &self.session.endpoint.qualifier;
        let spinner = ui.spinner("stopping the session");
        let stopped =
            stop(&target.connection.data(), target.call(&session.id, qualifier), self.bound()).await;
        drop(spinner);
        let stopped = stopped.map_err(|e| place.failure(e))?;
        if let (Stopped::WasDown, Place::Local(local)) = (stopped, place) {
            // A session that stands still is what was asked for; one that nobody knows is a mistake.
            unknown_is_an_error(local, &target, &session, qualifier).await?;
        }
        if stopped != Stopped::Accepted {
            target.note_stopped(&session.id, qualifier)?;
        }
        let text = self.sentence(stopped, &session.shown());
        ui.result(&value(&session, stopped), text)?;
        Ok(OK)
    }

    fn sentence(&self, stopped: Stopped, shown: &str) -> String {
        match stopped {
            Stopped::Down => format!("stopped {shown}"),
            Stopped::WasDown => format!("was not running: {shown}"),
            Stopped::Accepted => {
                let bound = format_duration(self.bound());
                format!("stop accepted, not known to be down after {bound}: {shown}")
            }
        }
    }

    /// Every live session of the emulator.
    async fn all_live(&self, local: &Local<'_>) -> Outcome {
        let ui = &local.context.ui;
        let status = match local.admin().status().await {
            // Nothing runs without an emulator, so none is started for this.
            Err(AdminError::Down(_)) => {
                ui.result(&json!({ "stopped": [] }), "no emulator was running")?;
                return Ok(OK);
            }
            Err(e) => return Err(e.into()),
            Ok(status) => status,
        };
        let data = local.connection(&status)?.data();
        let live = |s: &Session| !matches!(s.state, SessionState::Stopped | SessionState::Expired);
        let sessions: Vec<Session> = known(local).await?.into_iter().filter(live).collect();
        let calls = sessions.into_iter().map(|session| {
            let id = key(&session).session;
            let call =
                SessionCall { arn: session.runtime_arn, qualifier: session.qualifier, session: id.clone() };
            (ChosenSession { id, name: session.name }, call)
        });
        let results = self.stop_all(&Place::Local(local), &data, calls.collect()).await;
        self.tell_all(&Place::Local(local), results, "no session was running")
    }

    /// Every session that the ledger has as used and not stopped.
    async fn all_used(&self, place: &Place<'_>) -> Outcome {
        let ui = &place.context().ui;
        let target = place.target().await?;
        let arn = target.arn.to_string();
        let of_this = |used: &Used| used.stopped_at.is_none() && used.runtime_arn == arn;
        let used: Vec<Used> = target.memory.iter().flat_map(|m| m.sessions()).filter(of_this).collect();
        ui.note("these are the sessions that this tool used here: the service has no list of them");
        let calls = used.iter().map(|used| {
            let session = ChosenSession { id: used.session_id.clone(), name: used.name.clone() };
            (session, target.call(&used.session_id, &used.qualifier))
        });
        let results = self.stop_all(place, &target.connection.data(), calls.collect()).await;
        for ((session, result), used) in results.iter().zip(&used) {
            if matches!(result, Ok(Stopped::Down | Stopped::WasDown)) {
                target.note_stopped(&session.id, &used.qualifier)?;
            }
        }
        self.tell_all(place, results, "no session is known that was not stopped")
    }

    async fn stop_all(
        &self,
        place: &Place<'_>,
        data: &DataClient,
        calls: Vec<(ChosenSession, SessionCall)>,
    ) -> Vec<(ChosenSession, Result<Stopped, AwsError>)> {
        let _spinner = place.context().ui.spinner(format!("stopping {} sessions", calls.len()));
        stream::iter(calls)
            .map(|(session, call)| async move { (session, stop(data, call, self.bound()).await) })
            .buffered(AT_ONCE)
            .collect()
            .await
    }

    fn tell_all(
        &self,
        place: &Place<'_>,
        results: Vec<(ChosenSession, Result<Stopped, AwsError>)>,
        none: &str,
    ) -> Outcome {
        let ui = &place.context().ui;
        let (mut lines, mut values, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (session, result) in results {
            match result {
                Ok(stopped) => {
                    lines.push(self.sentence(stopped, &session.shown()));
                    values.push(value(&session, stopped));
                }
                Err(e) => failed.push((session, e)),
            }
        }
        let text = if lines.is_empty() && failed.is_empty() { none.to_owned() } else { lines.join("\n") };
        ui.result(&json!({ "stopped": values }), text)?;
        let mut failed = failed.into_iter();
        let Some((session, error)) = failed.next() else { return Ok(OK) };
        for (session, error) in failed {
            ui.warn(format!("session {}: {error}", session.shown()));
        }
        let mut failure = place.failure(error);
        failure.message = format!("session {}: {}", session.shown(), failure.message);
        Err(failure)
    }
}

fn value(session: &ChosenSession, stopped: Stopped) -> Value {
    json!({
        "sessionId": session.id,
        "name": session.name,
        "wasRunning": stopped != Stopped::WasDown,
        "knownDown": stopped != Stopped::Accepted,
    })
}

/// Stops a session until it is known to be down, or until `bound` has passed.
async fn stop(data: &DataClient, call: SessionCall, bound: Duration) -> Result<Stopped, AwsError> {
    let until = Instant::now() + bound;
    let (mut pause, longest) = PAUSE;
    let mut accepted = false;
    loop {
        // Each request has a token of its own; with the same one the service would repeat its first answer.
        match data.stop(call.clone()).await {
            Ok(()) => accepted = true,
            Err(e) if is_gone(&e) => return Ok(if accepted { Stopped::Down } else { Stopped::WasDown }),
            // It is being stopped or started by another call.
            Err(e) if e.name() == Some("ConflictException") && Instant::now() + pause < until => {}
            // The stop itself was taken; only the question after it failed.
            Err(_) if accepted && Instant::now() + pause < until => {}
            Err(_) if accepted => return Ok(Stopped::Accepted),
            Err(e) => return Err(e),
        }
        if accepted && Instant::now() + pause >= until {
            return Ok(Stopped::Accepted);
        }
        if !accepted || pause > PAUSE.0 {
            tokio::time::sleep(pause).await;
        }
        pause = (pause * 2).min(longest);
    }
}

fn is_gone(error: &AwsError) -> bool {
    error.name() == Some("ResourceNotFoundException")
}

async fn unknown_is_an_error(
    local: &Local<'_>,
    target: &Target,
    session: &ChosenSession,
    qualifier: &EndpointName,
) -> Result<(), Failure> {
    match local.admin().session(&target.key(&session.id, qualifier)).await {
        Ok(_) => Ok(()),
        Err(unknown) if unknown.is_unknown() => {
            let message = format!("the emulator knows no session `{}`", session.shown());
            Err(Failure::new(Class::Remote, message).hint("`agentcore local session ls` lists them"))
        }
        Err(other) => Err(other.into()),
    }
}
