//! `local session`: what sessions there are. Starts none and touches no idle clock. The state is the emulator's
//! to read, so one is started where none runs: two readers of a state would have to agree on what a crash left.

use clap::builder::NonEmptyStringValueParser;
use serde_json::json;

use super::Local;
use crate::cli::exit::{Failure, OK, Outcome};
use crate::cli::memory::Memory;
use crate::model::{RuntimeId, SessionId, SessionKey, session_id_for_name};
use crate::wire::admin::{Enforcement, Session, SessionLimit};

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
    /// List sessions, of every agent unless `--agent` names one
    #[command(after_help = "Examples:
  agentcore local session ls --output json | jq -r '.[].sessionId'")]
    Ls,
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

impl SessionArgs {
    pub(crate) fn exec(self, local: &Local<'_>) -> Outcome {
        let ui = &local.context.ui;
        local.context.block_on(async {
            local.ensure_running().await?;
            let admin = local.admin();
            match self.verb {
                SessionVerb::Ls => {
                    let sessions = known(local).await?;
                    ui.result(
                        &sessions,
                        if sessions.is_empty() { String::new() } else { list(local, &sessions) },
                    )?;
                    if sessions.is_empty() {
                        ui.note("there are no sessions");
                    }
                }
                SessionVerb::Show { session } => {
                    let found = find(known(local).await?, &session)?;
                    let mut shown = admin.session(&key(&found)).await?;
                    shown.name = shown.name.or(found.name);
                    ui.result(&shown, describe(local, &shown))?;
                }
                SessionVerb::Stats { session } => return super::stats::show(local, session.as_deref()).await,
                SessionVerb::Rm { sessions } => {
                    let all = known(local).await?;
                    // Every name is looked up before anything is deleted.
                    let found: Vec<Session> =
                        sessions.iter().map(|s| find(all.clone(), s)).collect::<Result<_, _>>()?;
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

/// The sessions, with the names that this project gave them; of one agent where `--agent` says so.
pub(crate) async fn known(local: &Local<'_>) -> Result<Vec<Session>, Failure> {
    let mut sessions = local.admin().sessions().await?;
    if let Some(agent) = &local.context.globals.agent {
        sessions.retain(|s| s.runtime_id.name() == agent);
    }
    if let Some(project) = local.project()? {
        let memory = Memory::of(&local.home, project.root());
        for session in &mut sessions {
            session.name = session.name.take().or_else(|| memory.name(&session.session_id));
        }
    }
    Ok(sessions)
}

/// The session with this id, or with this short name in its own agent.
fn find(sessions: Vec<Session>, wanted: &str) -> Result<Session, Failure> {
    find_by_name(sessions, wanted, |s| (&s.runtime_id, &s.session_id))
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

fn list(local: &Local<'_>, sessions: &[Session]) -> String {
    let ui = &local.context.ui;
    let head = ["SESSION", "STATE", "AGENT", "ENDPOINT", "VERSION", "LAST ACTIVITY"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for session in sessions {
        let name = session.name.clone().unwrap_or_else(|| session.session_id.to_string());
        rows.push(vec![
            name,
            ui.state(session.state.as_str()),
            session.runtime_id.name().to_owned(),
            session.qualifier.to_string(),
            session.version.to_string(),
            session.last_activity_at.clone(),
        ]);
    }
    ui.table(&rows)
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
