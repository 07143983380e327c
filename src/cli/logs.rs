//! `logs`: what agents wrote, from CloudWatch Logs or from the emulator.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::builder::NonEmptyStringValueParser;
use regex::Regex;
use serde_json::{Value, json};

use super::exit::{Class, Failure, OK, Outcome};
use super::interrupts;
use super::local::Local;
use super::target::{EndpointChoice, Place, Target};
use super::ui::{Output, Ui};
use crate::aws::{AwsError, LogEvent, RuntimeSummary};
use crate::model::{SessionId, Timestamp, parse_duration, session_id_for_name};
use crate::wire::admin::{LogLine, Status};

/// How far back CloudWatch is read where nothing is said. [ours]
const SINCE: Duration = Duration::from_secs(15 * 60);
/// Pause between two looks at CloudWatch. [ours: it shows lines after some seconds]
const PAUSE: Duration = Duration::from_secs(3);
/// How far back each look begins again: lines come late and out of order. [ours]
const OVERLAP: Duration = Duration::from_secs(60);
/// How long the end of following waits for a reader. [ours]
const LAST_LINE: Duration = Duration::from_millis(200);
/// Lines whose ids are remembered, so that none is shown twice. [ours]
const KNOWN: usize = 100_000;

/// Show what agents wrote to standard output and error; requests for `/ping` are folded
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore logs --since 2h --grep Traceback
  agentcore logs --follow --session ticket-8421
  agentcore local logs --output json | jq -r .message")]
pub(crate) struct LogsArgs {
    /// Of this session only, by its id or short name
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    session: Option<String>,
    #[command(flatten)]
    endpoint: EndpointChoice,
    /// Go on with new lines until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Lines of the last 90s, 16m, 2h, 14d [default: 15m in AWS, everything that is kept in the emulator]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    since: Option<Duration>,
    /// Only lines with a match of this regular expression
    #[arg(long, value_name = "REGEX")]
    grep: Option<Regex>,
    /// Show requests for `/ping` too
    #[arg(long)]
    pings: bool,
    /// Of every agent of the emulator, not of the project's alone
    #[arg(long, conflicts_with = "session")]
    all: bool,
}

/// One line of a log.
struct Line {
    /// RFC 3339.
    time: String,
    /// What stands before it: session and stream, as far as they are known.
    source: String,
    message: String,
    value: Value,
}

/// What of the lines is shown.
struct Filter<'a> {
    ui: &'a Ui,
    output: Output,
    grep: Option<&'a Regex>,
    pings: bool,
    ping: Option<Regex>,
    folded: usize,
}

impl Filter<'_> {
    async fn show(&mut self, line: &Line) -> Result<(), Failure> {
        if self.grep.is_some_and(|grep| !grep.is_match(&line.message)) {
            return Ok(());
        }
        if !self.pings && self.ping.as_ref().is_some_and(|ping| ping.is_match(&line.message)) {
            self.folded += 1;
            return Ok(());
        }
        self.unfold().await?;
        if self.ui.is_json() {
            return self.output.event(&line.value).await;
        }
        // The time of day is enough on a screen; JSON has all of it.
        let time = line.time.split('T').nth(1).unwrap_or(&line.time).trim_end_matches('Z');
        let source = if line.source.is_empty() { String::new() } else { format!("{} ", line.source) };
        self.output.line(&format!("{time} {source}{}", line.message)).await
    }

    /// Says how many lines were left out since the last one that was shown.
    async fn unfold(&mut self) -> Result<(), Failure> {
        match std::mem::take(&mut self.folded) {
            0 => Ok(()),
            1 => self.output.note("… 1 request for `/ping`").await,
            n => self.output.note(format!("… {n} requests for `/ping`")).await,
        }
    }

    /// Shows what is left to be shown.
    async fn end(&mut self) -> Result<(), Failure> {
        self.unfold().await?;
        self.output.written().await
    }
}

impl LogsArgs {
    pub(crate) fn exec(self, place: &Place<'_>) -> Outcome {
        let context = place.context();
        if self.follow {
            context.block_on_alone(self.show(place))
        } else {
            context.block_on(self.show(place))
        }
    }

    async fn show(&self, place: &Place<'_>) -> Outcome {
        let mut filter = Filter {
            ui: &place.context().ui,
            output: place.context().ui.output(),
            grep: self.grep.as_ref(),
            pings: self.pings,
            ping: Regex::new(r#"\bGET /ping(\?\S*)? HTTP/1"#).ok(),
            folded: 0,
        };
        let work = async {
            match place {
                Place::Local(local) => self.of_emulator(local, &mut filter).await,
                Place::Cloud(_) => {
                    let target = place.target().await?;
                    self.of_cloudwatch(place, &target, &mut filter).await
                }
            }
        };
        let mut interrupts = interrupts()?;
        let ended = tokio::select! {
            outcome = work => Some(outcome),
            // Following has no other end; what was asked for once and did not come is missing.
            _ = interrupts.recv(), if self.follow => None,
        };
        match ended {
            Some(outcome) => {
                let shown = tokio::select! {
                    shown = filter.end() => shown,
                    _ = interrupts.recv(), if self.follow => Ok(()),
                };
                let code = outcome?;
                shown.map(|()| code)
            }
            // Whoever reads gets his last line whole; whoever does not is not waited for.
            None => tokio::time::timeout(LAST_LINE, filter.end()).await.unwrap_or(Ok(())).map(|()| OK),
        }
    }

    async fn of_emulator(&self, local: &Local<'_>, filter: &mut Filter<'_>) -> Outcome {
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
        // The emulator's clock may be ahead of this machine's; its lines have its time.
        let ahead = Duration::from_secs(status.clock_offset_seconds);
        let from = self.since.map(|since| before_now(since).plus(ahead).to_rfc3339());
        let runtime_id = runtime.as_ref().map(|r| r.id.as_str());
        let mut lines = local.admin().logs(runtime_id, session.as_ref(), self.follow).await?;
        while let Some(line) = filter.output.until(lines.next()).await?? {
            if from.as_ref().is_none_or(|from| line.timestamp >= *from) {
                filter.show(&of_emulator(line)?).await?;
            }
        }
        Ok(OK)
    }

    /// The runtime whose lines are wanted; nothing means all.
    async fn runtime(&self, local: &Local<'_>, status: &Status) -> Result<Option<RuntimeSummary>, Failure> {
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

    async fn of_cloudwatch(&self, place: &Place<'_>, target: &Target, filter: &mut Filter<'_>) -> Outcome {
        if self.all {
            return Err(Failure::usage(
                "`--all` is the emulator's: in AWS each runtime has a log group of its own",
            ));
        }
        let logs = target.connection.logs();
        // So the service names the log group of an endpoint.
        let group = format!("/aws/bedrock-agentcore/runtimes/{}-{}", target.arn.id, self.endpoint.qualifier);
        let session = self.session.as_ref().map(|name| session_id_for_name(&target.agent, name).to_string());
        let mut from = before_now(self.since.unwrap_or(SINCE));
        let mut known = Known::default();
        loop {
            let mut events = Vec::new();
            let read = logs.read(&group, from.0, |event| events.push(event)).await;
            match read {
                Ok(()) => {}
                Err(e) if e.is_not_found() => return Err(no_group(e, &group)),
                Err(e) => return Err(place.failure(e)),
            }
            events.sort_by_key(|e| e.time);
            for event in events {
                from = Timestamp(from.0.max(event.time - i64::try_from(OVERLAP.as_millis()).unwrap_or(0)));
                // A session's lines have its id in the line or in the name of their stream.
                let of_session =
                    session.as_ref().is_none_or(|s| event.stream.contains(s) || event.message.contains(s));
                if known.is_new(&event.id) && of_session {
                    filter.show(&of_cloudwatch(event)).await?;
                }
            }
            if !self.follow {
                return Ok(OK);
            }
            filter.output.until(tokio::time::sleep(PAUSE)).await?;
        }
    }
}

fn no_group(error: AwsError, group: &str) -> Failure {
    drop(error);
    Failure::new(Class::Remote, format!("there is no log group `{group}`"))
        .hint("an agent's log begins with its first session; `--qualifier` names another endpoint")
}

/// Ids of lines that were shown.
#[derive(Default)]
struct Known {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Known {
    fn is_new(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

fn before_now(since: Duration) -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(0).plus(now.saturating_sub(since))
}

fn of_emulator(line: LogLine) -> Result<Line, Failure> {
    let session: String = line.session_id.as_str().chars().take(8).collect();
    let value =
        serde_json::to_value(&line).map_err(|e| Failure::failed(format!("a line cannot be shown: {e}")))?;
    let source = format!("{session} {:<6}", line.stream);
    Ok(Line { time: line.timestamp, source, message: line.message, value })
}

fn of_cloudwatch(event: LogEvent) -> Line {
    let time = Timestamp(event.time).to_rfc3339();
    // Agents' own lines may come with their line end.
    let message = event.message.trim_end_matches(['\r', '\n']).to_owned();
    let value = json!({ "timestamp": time, "logStream": event.stream, "message": message });
    Line { time, source: String::new(), message, value }
}
