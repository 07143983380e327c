//! The admin plane: handlers of the requests that `wire/admin.rs` lists.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post, put};
use futures_util::StreamExt;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::sync::watch;

use crate::emulator::Emulator;
use crate::emulator::clock::ClockError;
use crate::emulator::sessions::{
    Holder, Limit, LogEntry, LogFilter, SessionError, SessionFilter, SessionView, SourceError,
};
use crate::emulator::store::sessions::SessionRecord;
use crate::model::{EndReason, EndpointName, RuntimeId, SessionId, SessionKey, SessionState, Timestamp};
use crate::wire::admin::{
    Advance, ChangeSource, ClockState, Enforcement, FirstAnswers, Listed, ListedStorage, LogLine, Pruned,
    PrunedImages, RuntimeStats, Session, SessionLimit, SessionQuery, SessionStats, SessionStorage,
    SourceChanged, Stats, Status, TOTAL, Totals,
};

/// Length of a piece in which a list of sessions is sent. [ours: some hundred sessions]
const PIECE_BYTES: usize = 64 * 1024;
/// What a session in a list takes, about. [ours]
const ROW_BYTES: usize = 1024;

struct Admin {
    emulator: Arc<Emulator>,
    endpoint: String,
    stop: watch::Sender<bool>,
}

type Shared = State<Arc<Admin>>;

/// The admin plane of `emulator`, which serves AWS at `endpoint`; `stop` ends the server.
pub(super) fn router(emulator: Arc<Emulator>, endpoint: String, stop: watch::Sender<bool>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/sessions", get(sessions))
        .route("/sessions/prune", post(prune))
        .route("/images/prune", post(prune_images))
        .route("/sessions/{runtime}/{endpoint}/{session}", get(session).delete(remove))
        .route("/runtimes/{runtime}/source", put(change_source))
        .route("/stats", get(stats))
        .route("/clock", get(clock))
        .route("/clock/advance", post(advance))
        .route("/clock/reset", post(reset))
        .route("/logs", get(logs))
        .route("/shutdown", post(shutdown))
        .with_state(Arc::new(Admin { emulator, endpoint, stop }))
}

async fn status(State(admin): Shared) -> Response {
    let emulator = &admin.emulator;
    let (live_sessions, sessions) = emulator.sessions.count();
    json(&Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        endpoint: admin.endpoint.clone(),
        home: emulator.config.home.display().to_string(),
        engine: emulator.engine.to_owned(),
        not_isolated: emulator.not_isolated.clone(),
        region: emulator.config.region.to_string(),
        account: emulator.config.account.to_string(),
        platform: emulator.config.platform.clone(),
        base_image: emulator.base_image.clone(),
        network: if emulator.config.egress.network() { "on" } else { "off" }.to_owned(),
        network_allow: emulator.config.egress.allowances().iter().map(ToString::to_string).collect(),
        agent_calls: emulator.config.egress.agent_calls(),
        aws_identity: emulator.config.egress.identity_name().unwrap_or_else(|| "none".to_owned()),
        started_at: emulator.started_at.to_rfc3339(),
        runtimes: emulator.registry.runtime_count(),
        live_sessions,
        sessions,
        clock_offset_seconds: emulator.clock.offset().as_secs(),
    })
}

async fn sessions(State(admin): Shared, Query(query): Query<SessionQuery>) -> Response {
    let SessionQuery { agent, session, live, limit } = query;
    let filter = SessionFilter { agent, session, live, limit };
    let mut listing = admin.emulator.sessions.listing(&filter);
    let total = listing.total();
    // Made while it is read: the reader begins with the first piece, and no list is ever whole here.
    let (mut before, mut ended) = ("[\n", false);
    let pieces = std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE_BYTES + ROW_BYTES);
        while piece.len() < PIECE_BYTES && !ended {
            let written = listing.next(|record, state, at| {
                piece.extend_from_slice(before.as_bytes());
                write_listed(&mut piece, record, state, at)
            });
            match written {
                Some(Ok(())) => before = ",\n",
                Some(Err(e)) => {
                    ended = true;
                    return Some(Err(e));
                }
                None => {
                    let end = if before == ",\n" { "\n]\n" } else { "[]\n" };
                    piece.extend_from_slice(end.as_bytes());
                    ended = true;
                }
            }
        }
        Some(Ok(piece))
    });
    let mut response = Response::new(Body::from_stream(futures_util::stream::iter(pieces)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static(TOTAL), HeaderValue::from(total));
    response
}

async fn session(State(admin): Shared, Path(path): Path<(String, String, String)>) -> Response {
    let Some(key) = key(path) else { return error(&SessionError::Unknown) };
    match admin.emulator.sessions.show(&key).await {
        Ok(view) => json(&shown(view)),
        Err(e) => error(&e),
    }
}

async fn remove(State(admin): Shared, Path(path): Path<(String, String, String)>) -> Response {
    let Some(key) = key(path) else { return error(&SessionError::Unknown) };
    match admin.emulator.sessions.remove(&key).await {
        Ok(()) => empty(StatusCode::NO_CONTENT),
        Err(e) => error(&e),
    }
}

async fn prune(State(admin): Shared) -> Response {
    match admin.emulator.sessions.prune().await {
        Ok(pruned) => {
            let (sessions, storages, bytes) = (pruned.sessions, pruned.storages, pruned.bytes);
            json(&Pruned { sessions, storages, bytes, images: 0 })
        }
        Err(e) => error(&e),
    }
}

async fn prune_images(State(admin): Shared) -> Response {
    match admin.emulator.sessions.prune_images().await {
        Ok(images) => json(&PrunedImages { images }),
        Err(e) => error(&e),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatsQuery {
    runtime_id: Option<RuntimeId>,
}

async fn stats(State(admin): Shared, Query(query): Query<StatsQuery>) -> Response {
    match admin.emulator.sessions.stats(query.runtime_id).await {
        Ok(stats) => json(&Stats {
            runtimes: stats
                .runtimes
                .into_iter()
                .map(|(runtime_id, (sessions, all))| RuntimeStats {
                    runtime_id,
                    sessions,
                    totals: totals(all),
                })
                .collect(),
            sessions: stats
                .sessions
                .into_iter()
                .map(|(key, all)| SessionStats {
                    session_id: key.session,
                    name: None,
                    runtime_id: key.runtime,
                    qualifier: key.endpoint,
                    totals: totals(all),
                })
                .collect(),
        }),
        Err(e) => failure(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
    }
}

fn totals(all: crate::emulator::sessions::Totals) -> Totals {
    let answers = |answers: crate::emulator::sessions::FirstAnswers| FirstAnswers {
        count: answers.count,
        median_millis: answers.median_millis,
    };
    Totals {
        starts: all.starts,
        resumes: all.resumes,
        files_found: all.files_found,
        bytes_found: all.bytes_found,
        first_answer_after_start: answers(all.fresh),
        first_answer_after_resume: answers(all.resumed),
        resets: all.resets.into_iter().map(|(why, n)| (why.as_str().to_owned(), n)).collect(),
        ends: all.ends.into_iter().map(|(why, n)| (why.as_str().to_owned(), n)).collect(),
        setup_saved_millis: all.saved_millis,
    }
}

async fn change_source(State(admin): Shared, Path(runtime): Path<String>, body: Bytes) -> Response {
    let Ok(runtime) = runtime.parse::<RuntimeId>() else {
        return failure(StatusCode::NOT_FOUND, &format!("no agent runtime `{runtime}`"));
    };
    let wanted: ChangeSource = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(e) => return failure(StatusCode::BAD_REQUEST, &e.to_string()),
    };
    let sessions = &admin.emulator.sessions;
    match sessions.change_source(&runtime, wanted.version, wanted.bundle, wanted.restart).await {
        Ok(change) => json(&SourceChanged {
            changed: change.changed,
            outdated: change.outdated,
            restarted: change.restarted,
            failed: change.failed,
        }),
        Err(e) => {
            let status = match &e {
                SourceError::NoRuntime(_) => StatusCode::NOT_FOUND,
                SourceError::OtherVersion { .. } => StatusCode::CONFLICT,
                SourceError::Bundle(_) | SourceError::Image(_) => StatusCode::BAD_REQUEST,
                SourceError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            failure(status, &e.to_string())
        }
    }
}

async fn clock(State(admin): Shared) -> Response {
    clock_state(&admin.emulator)
}

async fn advance(State(admin): Shared, body: Bytes) -> Response {
    match serde_json::from_slice::<Advance>(&body) {
        Ok(by) => match admin.emulator.advance_clock(Duration::from_secs(by.seconds)).await {
            Ok(()) => clock_state(&admin.emulator),
            Err(e @ ClockError::TooFar { .. }) => failure(StatusCode::BAD_REQUEST, &e.to_string()),
            Err(e) => failure(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
        },
        Err(e) => failure(StatusCode::BAD_REQUEST, &e.to_string()),
    }
}

async fn reset(State(admin): Shared) -> Response {
    match admin.emulator.reset_clock().await {
        Ok(()) => clock_state(&admin.emulator),
        Err(e) => failure(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogQuery {
    runtime_id: Option<RuntimeId>,
    session_id: Option<SessionId>,
    #[serde(default)]
    follow: bool,
}

async fn logs(State(admin): Shared, Query(query): Query<LogQuery>) -> Response {
    let filter = LogFilter { runtime: query.runtime_id, session: query.session_id, follow: query.follow };
    let lines = admin.emulator.sessions.logs(filter).map(|entry| {
        let mut line = serde_json::to_vec(&log_line(entry))?;
        line.push(b'\n');
        Ok::<_, serde_json::Error>(line)
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

async fn shutdown(State(admin): Shared) -> Response {
    admin.stop.send_replace(true);
    empty(StatusCode::ACCEPTED)
}

fn key((runtime, endpoint, session): (String, String, String)) -> Option<SessionKey> {
    Some(SessionKey {
        runtime: runtime.parse().ok()?,
        endpoint: endpoint.parse::<EndpointName>().ok()?,
        session: session.parse().ok()?,
    })
}

fn shown(view: SessionView) -> Session {
    Session {
        session_id: view.key.session,
        name: None,
        runtime_arn: view.arn.to_string(),
        runtime_id: view.key.runtime,
        qualifier: view.key.endpoint,
        version: view.version,
        state: view.state,
        engine: view.engine,
        created_at: view.created_at.to_rfc3339(),
        last_activity_at: view.last_activity_at.to_rfc3339(),
        last_end: view.last_end.map(|reason| reason.as_str().to_owned()),
        storage: view.storage.map(|storage| SessionStorage {
            mount_path: storage.mount_path,
            bytes: storage.usage.map(|(bytes, _)| bytes),
            files: storage.usage.map(|(_, files)| files),
        }),
        limits: view.limits.into_iter().map(limit).collect(),
    }
}

fn write_listed(
    to: &mut Vec<u8>,
    record: &SessionRecord,
    state: SessionState,
    last_activity_at: Timestamp,
) -> serde_json::Result<()> {
    let key = &record.key;
    let row = Listed {
        session_id: key.session.as_str(),
        name: None,
        runtime_arn: &record.arn.to_string(),
        runtime_id: key.runtime.as_str(),
        qualifier: key.endpoint.as_str(),
        version: &record.version.to_string(),
        state,
        engine: &record.engine,
        created_at: &record.created_at.to_rfc3339(),
        last_activity_at: &last_activity_at.to_rfc3339(),
        last_end: record.last_end.map(EndReason::as_str),
        storage: record.storage.as_ref().map(|s| ListedStorage { mount_path: s.mount_path.as_str() }),
    };
    serde_json::to_writer(to, &row)
}

fn limit(limit: Limit) -> SessionLimit {
    let enforced_by = match limit.held_by {
        Holder::Group => Enforcement::ControlGroup,
        Holder::Process => Enforcement::Process,
        Holder::User => Enforcement::User,
        Holder::Nobody => Enforcement::Nothing,
    };
    SessionLimit { of: limit.of.to_owned(), amount: limit.amount, enforced_by }
}

fn log_line(entry: LogEntry) -> LogLine {
    LogLine {
        timestamp: entry.at.to_rfc3339(),
        runtime_id: entry.runtime,
        session_id: entry.session,
        stream: entry.stream.to_owned(),
        message: entry.message,
    }
}

fn clock_state(emulator: &Emulator) -> Response {
    json(&ClockState {
        now: emulator.clock.now().to_rfc3339(),
        offset_seconds: emulator.clock.offset().as_secs(),
    })
}

fn json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => {
            let mut response = Response::new(Body::from(body));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(e) => failure(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
    }
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn error(error: &SessionError) -> Response {
    let status = match error {
        SessionError::Unknown => StatusCode::NOT_FOUND,
        SessionError::Busy => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    failure(status, &error.to_string())
}

fn failure(status: StatusCode, message: &str) -> Response {
    let mut response = json(&serde_json::json!({ "message": message }));
    *response.status_mut() = status;
    response
}
