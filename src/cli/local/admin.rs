//! Client of the emulator's admin plane: HTTP/1.1 on its UNIX socket.

use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::super::exit::{Class, Failure};
use crate::model::{RuntimeId, SessionId, SessionKey};
use crate::wire::admin::{
    Advance, ChangeSource, ClockState, Listed, LogLine, Pruned, PrunedImages, Session, SessionQuery,
    SourceChanged, Stats, Status, TOTAL,
};

/// Longest answer that is read as a whole. [ours: statistics of 100,000 sessions]
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Longest log line, and longest session in a list. [ours]
const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;

/// A client of one emulator's admin plane.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    socket: PathBuf,
}

/// Why the admin plane gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// Nobody listens.
    #[error("no emulator runs at `{}`", .0.display())]
    Down(PathBuf),
    /// The system does not let us to the socket.
    #[error("the state directory of `{}` cannot be used: {reason}", socket.display())]
    Unreachable {
        socket: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The emulator said no.
    #[error("{message}")]
    Refused {
        status: u16,
        /// What it said.
        message: String,
    },
    /// What came was no answer.
    #[error("the emulator's admin socket gave no proper answer: {0}")]
    Broken(String),
}

impl AdminError {
    /// True when what was asked for does not exist.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let class = match error {
            AdminError::Unreachable { .. } => Class::Failed,
            _ => Class::Remote,
        };
        let failure = Self::new(class, error.to_string());
        match error {
            AdminError::Down(_) => failure.hint("start it with `agentcore local up`"),
            AdminError::Unreachable { .. } => {
                failure.hint("set `AGENTCORE_HOME` to a directory that you may write to")
            }
            AdminError::Refused { .. } | AdminError::Broken(_) => failure,
        }
    }
}

fn broken(error: impl std::fmt::Display) -> AdminError {
    AdminError::Broken(error.to_string())
}

impl Admin {
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub(crate) async fn status(&self) -> Result<Status, AdminError> {
        self.json(Method::GET, "/status", None).await
    }

    /// Known sessions, newest activity first.
    pub(crate) async fn sessions(&self, query: &SessionQuery) -> Result<SessionStream, AdminError> {
        let mut path = format!("/sessions?live={}", query.live);
        for (key, value) in [("agent", &query.agent), ("session", &query.session)] {
            if let Some(value) = value {
                path.push_str(&format!("&{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
            }
        }
        if let Some(limit) = query.limit {
            path.push_str(&format!("&limit={limit}"));
        }
        let response = self.send(Method::GET, &path, None).await?;
        let total = response.headers().get(TOTAL).and_then(|total| total.to_str().ok()?.parse().ok());
        let total = total.ok_or_else(|| broken("it does not say how many sessions there are"))?;
        Ok(SessionStream { total, body: response.into_body() })
    }

    pub(crate) async fn session(&self, key: &SessionKey) -> Result<Session, AdminError> {
        self.json(Method::GET, &session_path(key), None).await
    }

    pub(crate) async fn remove_session(&self, key: &SessionKey) -> Result<(), AdminError> {
        self.send(Method::DELETE, &session_path(key), None).await.map(drop)
    }

    pub(crate) async fn stats(&self) -> Result<Stats, AdminError> {
        self.json(Method::GET, "/stats", None).await
    }

    pub(crate) async fn prune(&self) -> Result<Pruned, AdminError> {
        self.json(Method::POST, "/sessions/prune", None).await
    }

    pub(crate) async fn prune_images(&self) -> Result<PrunedImages, AdminError> {
        self.json(Method::POST, "/images/prune", None).await
    }

    pub(crate) async fn change_source(
        &self,
        runtime: &RuntimeId,
        change: &ChangeSource,
    ) -> Result<SourceChanged, AdminError> {
        let body = serde_json::to_vec(change).map_err(broken)?;
        self.json(Method::PUT, &format!("/runtimes/{runtime}/source"), Some(body)).await
    }

    pub(crate) async fn clock(&self) -> Result<ClockState, AdminError> {
        self.json(Method::GET, "/clock", None).await
    }

    pub(crate) async fn advance_clock(&self, by: &Advance) -> Result<ClockState, AdminError> {
        let body = serde_json::to_vec(by).map_err(broken)?;
        self.json(Method::POST, "/clock/advance", Some(body)).await
    }

    pub(crate) async fn reset_clock(&self) -> Result<ClockState, AdminError> {
        self.json(Method::POST, "/clock/reset", None).await
    }

    pub(crate) async fn shutdown(&self) -> Result<(), AdminError> {
        self.send(Method::POST, "/shutdown", None).await.map(drop)
    }

    /// Log lines, of one runtime or session where that is said.
    pub(crate) async fn logs(
        &self,
        runtime: Option<&str>,
        session: Option<&SessionId>,
        follow: bool,
    ) -> Result<LogStream, AdminError> {
        // Both ids consist of characters that need no escape in a query.
        let mut query = vec![format!("follow={follow}")];
        query.extend(runtime.map(|id| format!("runtimeId={id}")));
        query.extend(session.map(|id| format!("sessionId={id}")));
        let response = self.send(Method::GET, &format!("/logs?{}", query.join("&")), None).await?;
        Ok(LogStream { body: response.into_body(), buffer: BytesMut::new(), ended: false })
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, AdminError> {
        let response = self.send(method, path, body).await?;
        let body = collect(response).await?;
        serde_json::from_slice(&body).map_err(broken)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Response<Incoming>, AdminError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                AdminError::Down(self.socket.clone())
            }
            _ => AdminError::Unreachable { socket: self.socket.clone(), reason: e.to_string() },
        })?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(broken)?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "agentcore");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(broken)?;
        let response = sender.send_request(request).await.map_err(broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = collect(response).await?;
        let message = serde_json::from_slice::<serde_json::Value>(&body)
            .ok()
            .and_then(|v| v.get("message").and_then(|m| m.as_str().map(str::to_owned)))
            .unwrap_or_else(|| format!("the emulator answered with HTTP status {status}"));
        Err(AdminError::Refused { status, message })
    }
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, AdminError> {
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    Ok(body.map_err(broken)?.to_bytes())
}

fn session_path(key: &SessionKey) -> String {
    format!("/sessions/{}/{}/{}", key.runtime, key.endpoint, key.session)
}

/// A list of sessions as it comes.
pub(crate) struct SessionStream {
    /// How many there are, whatever a limit leaves out.
    pub(crate) total: usize,
    body: Incoming,
}

impl SessionStream {
    /// Looks at each of them where it was received.
    pub(crate) async fn each<E: From<AdminError>>(
        mut self,
        mut see: impl FnMut(Listed<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut buffer = BytesMut::new();
        while let Some(frame) = self.body.frame().await {
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            buffer.extend_from_slice(&data);
            let mut read = 0;
            loop {
                // What stands between two sessions, and around all of them.
                let between = |b: &u8| matches!(b, b'[' | b',' | b']') || b.is_ascii_whitespace();
                read += buffer[read..].iter().take_while(|b| between(b)).count();
                let mut rest = serde_json::Deserializer::from_slice(&buffer[read..]).into_iter();
                match rest.next() {
                    Some(Ok(session)) => {
                        see(session)?;
                        read += rest.byte_offset();
                    }
                    // The rest of it is on its way.
                    Some(Err(e)) if e.is_eof() && buffer.len() - read <= MAX_LINE_BYTES => break,
                    Some(Err(e)) => return Err(broken(e).into()),
                    None => break,
                }
            }
            let _ = buffer.split_to(read);
        }
        if buffer.is_empty() { Ok(()) } else { Err(broken("the list of sessions has no end").into()) }
    }
}

/// Log lines as they come.
pub(crate) struct LogStream {
    body: Incoming,
    buffer: BytesMut,
    ended: bool,
}

impl LogStream {
    /// The next line; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<LogLine>, AdminError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(end + 1);
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return serde_json::from_slice(&line).map(Some).map_err(broken);
            }
            if self.ended {
                return Ok(None);
            }
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(broken("a log line has no end"));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(data) = frame.map_err(broken)?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None => {
                    self.ended = true;
                    if !self.buffer.is_empty() {
                        self.buffer.extend_from_slice(b"\n");
                    }
                }
            }
        }
    }
}
