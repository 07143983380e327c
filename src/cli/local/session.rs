//! `local session`: what sessions there are. Starts none and touches no idle clock. The state is the emulator's
//! to read, so one is started where none runs: two readers of a state would have to agree on what a crash left.

use std::collections::HashMap;

use clap::builder::NonEmptyStringValueParser;
use indicatif::HumanCount;
use serde_json::json;

use super::Local;
use super::admin::{AdminError, SessionStream};
use crate::cli::exit::{Failure, OK, Outcome};
use crate::cli::memory::Memory;
use crate::model::{RuntimeId, SessionId, SessionKey, session_id_for_name};
use crate::wire::admin::{Enforcement, Listed, Session, SessionLimit, SessionQuery};

/// As many sessions as are listed where somebody looks at them and asked for nothing else. [ours]
const LOOKED_AT: usize = 100;

/// Look at and remove sessions
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore local session ls
  agentcore local session show ticket-8421")]
pub(crate) struct SessionArgs {
    #[command(subcommand)]
    verb: SessionVerb,
}

#[derive(clap::Subcommand)]
enum SessionVerb {
    /// List sessions, newest activity first, of every agent unless `--agent` names one
    ///
    /// On a terminal these are the newest 100, and it is said how many more there are.
    #[command(after_help = "Examples:
  agentcore local session ls
  agentcore local session ls --live               # those that run
  agentcore local session ls --output json | jq -r '.[].sessionId'")]
    Ls(LsArgs),
    /// Show one session, with the use of its storage
    #[command(after_help = "Examples:
  agentcore local session show ticket-8421")]
    Show {
        /// Its id or short name
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        session: String,
    },
    /// Show what persistence did: resumes, what they found, times to the first answer, resets
    #[command(after_help = "Examples:
  agentcore local session stats")]
    Stats {
        /// Id or short name of one session [default: all of them]
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        session: Option<String>,
    },
    /// End sessions and delete their storage
    #[command(after_help = "Examples:
  agentcore local session rm ticket-8421 ticket-8422")]
    Rm {
        /// Their ids or short names
        #[arg(required = true, value_parser = NonEmptyStringValueParser::new())]
        sessions: Vec<String>,
    },
    /// Forget expired sessions and delete storage that a new version replaced
    #[command(after_help = "Examples:
  agentcore local session prune")]
    Prune,
}

#[derive(clap::Args)]
struct LsArgs {
    /// Only sessions that run, start or stop
    #[arg(long)]
    live: bool,
    /// Not more than the newest N sessions [default: 100 on a terminal, else all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Every session, on a terminal too
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl LsArgs {
    async fn exec(self, local: &Local<'_>) -> Outcome {
        let ui = &local.context.ui;
        let usual = ui.is_looked_at().then_some(LOOKED_AT).filter(|_| !self.all);
        let limit = self.limit.and_then(|limit| usize::try_from(limit).ok()).or(usual);
        let query = SessionQuery { live: self.live, limit, ..SessionQuery::default() };
        let names = names(local)?;
        let listed = sessions(local, query).await?;
        let total = listed.total;
        let mut shown = 0;
        if ui.is_json() {
            let mut list = ui.list()?;
            let item = |session: Listed<'_>| {
                shown += 1;
                let name = names.get(session.session_id).map(String::as_str);
                list.item(&Listed { name, ..session })
            };
            let listed = listed.each(item).await;
            // Whatever comes behind it is a document of its own.
            list.end()?;
            listed?;
        } else {
            let head = ["SESSION", "STATE", "AGENT", "ENDPOINT", "VERSION", "LAST ACTIVITY"];
            let mut rows = vec![head.map(str::to_owned)];
            listed.each(|session| row(local, &names, &session).map(|row| rows.push(row))).await?;
            shown = rows.len() - 1;
            if shown > 0 {
                ui.line(&ui.table(&rows))?;
            }
        }
        if total == 0 {
            ui.note(if self.live { "no session runs" } else { "there are no sessions" });
        }
        // Without a limit what is missing has gone while the list was read.
        match total.saturating_sub(shown) {
            more @ 1.. if limit.is_some() => {
                let (more, total) = (HumanCount(more as u64), HumanCount(total as u64));
                let live = if self.live { "" } else { ", `--live` those that run" };
                ui.note(format!("{more} more of {total} sessions: `--all` lists every one{live}"));
            }
            _ => {}
        }
        Ok(OK)
    }
}

/// A session as a row of the list.
fn row(
    local: &Local<'_>,
    names: &HashMap<String, String>,
    session: &Listed<'_>,
) -> Result<[String; 6], Failure> {
    let runtime: RuntimeId = session.runtime_id.parse().map_err(|e| AdminError::Broken(format!("{e}")))?;
    Ok([
        names.get(session.session_id).map_or(session.session_id, String::as_str).to_owned(),
        local.context.ui.state(session.state.as_str()),
        runtime.name().to_owned(),
        session.qualifier.to_owned(),
        session.version.to_owned(),
        session.last_activity_at.to_owned(),
    ])
}

impl SessionArgs {
    pub(crate) fn exec(self, local: &Local<'_>) -> Outcome {
        let ui = &local.context.ui;
        local.context.block_on(async {
            local.ensure_running().await?;
            let admin = local.admin();
            match self.verb {
                SessionVerb::Ls(verb) => return verb.exec(local).await,
                SessionVerb::Show { session } => {
                    let found = find(local, &session).await?;
                    let mut shown = admin.session(&key(&found)).await?;
                    shown.name = shown.name.or(found.name);
                    ui.result(&shown, describe(local, &shown))?;
                }
                SessionVerb::Stats { session } => return super::stats::show(local, session.as_deref()).await,
                SessionVerb::Rm { sessions } => {
                    // Every name is looked up before anything is deleted.
                    let mut found = Vec::new();
                    for session in &sessions {
                        found.push(find(local, session).await?);
                    }
                    for session in &found {
                        admin.remove_session(&key(session)).await?;
                    }
                    let ids: Vec<_> = found.iter().map(|s| s.session_id.to_string()).collect();
                    let text = ids.iter().map(|id| format!("removed {id}")).collect::<Vec<_>>().join("\n");
                    ui.result(&json!({ "removed": ids }), text)?;
                }
                SessionVerb::Prune => {
                    let mut pruned = admin.prune().await?;
                    // What has been deleted is told, whatever becomes of the images.
                    match local.prune_images().await {
                        Ok(images) => pruned.images = images,
                        Err(e) => {
                            ui.warn(format!("images that nothing needs any more are left: {}", e.message));
                        }
                    }
                    let size = indicatif::HumanBytes(pruned.bytes);
                    let mut text = format!(
                        "forgot {} expired sessions, deleted {} replaced storages ({size})",
                        pruned.sessions, pruned.storages
                    );
                    if pruned.images > 0 {
                        text.push_str(&format!(" and {} images", pruned.images));
                    }
                    ui.result(&pruned, text)?;
                }
            }
            Ok(OK)
        })
    }
}

/// The short names that this project gave, by session.
fn names(local: &Local<'_>) -> Result<HashMap<String, String>, Failure> {
    let project = local.project()?;
    Ok(project.map(|project| Memory::of(&local.home, project.root()).names()).unwrap_or_default())
}

/// The sessions that are asked for; of one agent where `--agent` says so.
async fn sessions(local: &Local<'_>, query: SessionQuery) -> Result<SessionStream, Failure> {
    let agent = local.context.globals.agent.clone();
    Ok(local.admin().sessions(&SessionQuery { agent, ..query }).await?)
}

/// The sessions that are asked for, with the names that this project gave them.
pub(crate) async fn known(local: &Local<'_>, query: SessionQuery) -> Result<Vec<Session>, Failure> {
    let names = names(local)?;
    let mut known = Vec::new();
    let take = |listed: Listed<'_>| {
        let session = listed.to_session().map_err(|e| AdminError::Broken(e.to_string()))?;
        let name = names.get(listed.session_id).cloned();
        known.push(Session { name, ..session });
        Ok::<_, AdminError>(())
    };
    sessions(local, query).await?.each(take).await?;
    Ok(known)
}

/// The session with this id, or with this short name in its own agent.
async fn find(local: &Local<'_>, wanted: &str) -> Result<Session, Failure> {
    let query = SessionQuery { session: Some(wanted.to_owned()), ..SessionQuery::default() };
    find_by_name(known(local, query).await?, wanted, |s| (&s.runtime_id, &s.session_id))
}

/// The one of `all` whose session has this id, or this short name in its own agent.
pub(super) fn find_by_name<T>(
    all: Vec<T>,
    wanted: &str,
    key: impl Fn(&T) -> (&RuntimeId, &SessionId),
) -> Result<T, Failure> {
    let is = |one: &T| {
        let (runtime, session) = key(one);
        session_id_for_name(runtime.name(), wanted) == *session
    };
    let mut found = all.into_iter().filter(is);
    match (found.next(), found.next()) {
        (Some(session), None) => Ok(session),
        (Some(one), Some(other)) => {
            let message = format!("`{wanted}` is a session of `{}` and of `{}`", key(&one).0, key(&other).0);
            Err(Failure::usage(message).hint("name the agent with `--agent`"))
        }
        (None, _) => Err(super::stats::unknown(wanted)),
    }
}

pub(crate) fn key(session: &Session) -> SessionKey {
    SessionKey {
        runtime: session.runtime_id.clone(),
        endpoint: session.qualifier.clone(),
        session: session.session_id.clone(),
    }
}

fn describe(local: &Local<'_>, session: &Session) -> String {
    let mut rows = vec![
        ("session", session.session_id.to_string()),
        ("name", session.name.clone().unwrap_or_default()),
        ("state", local.context.ui.state(session.state.as_str())),
        ("runtime", session.runtime_arn.clone()),
        ("endpoint", session.qualifier.to_string()),
        ("version", session.version.to_string()),
        ("engine", session.engine.clone()),
        ("created", session.created_at.clone()),
        ("last activity", session.last_activity_at.clone()),
        ("last end", session.last_end.clone().unwrap_or_default()),
    ];
    if let Some(storage) = &session.storage {
        let used = match (storage.bytes, storage.files) {
            (Some(bytes), Some(files)) => format!(": {} in {files} files", indicatif::HumanBytes(bytes)),
            _ => String::new(),
        };
        rows.push(("storage", format!("{}{used}", storage.mount_path)));
    }
    rows.extend(session.limits.iter().map(|limit| ("limit", describe_limit(limit))));
    let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
    let rows: Vec<_> = rows.map(|(key, value)| vec![key.to_owned(), value]).collect();
    local.context.ui.table(&rows)
}

fn describe_limit(limit: &SessionLimit) -> String {
    let amount = match limit.of.as_str() {
        "memory" => indicatif::HumanBytes(limit.amount).to_string(),
        _ => limit.amount.to_string(),
    };
    match limit.enforced_by {
        Enforcement::ControlGroup => format!("{} {amount}, together, by a control group", limit.of),
        Enforcement::Process => format!("{} {amount} for each process", limit.of),
        Enforcement::User => format!("{} {amount} for each user of the session", limit.of),
        Enforcement::Nothing => format!("{} not limited: no control group is to be had", limit.of),
    }
}
