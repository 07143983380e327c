//! InvokeAgentRuntimeCommandShell: a WebSocket connection to a shell of a session.
//!
//! The shell outlives the connection; this file only carries frames between the two.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};

use super::data::{Aim, session_of, session_value};
use super::errors::{bad_field, respond_error};
use super::headers;
use crate::emulator::Emulator;
use crate::emulator::sessions::Need;
use crate::emulator::shells::{Attached, Input, ProcessExit, ShellEnd, ShellError, TerminalSize};
use crate::model::{SessionId, SessionKey, ShellId, limits};
use crate::wire::error::{AwsError, ErrorKind};
use crate::wire::shell::{self, ShellFrame, close};

/// The shell's id on the answer. [the official client]
const SHELL_ID: HeaderName = HeaderName::from_static("x-amzn-bedrock-agentcore-shell-id");
/// The session in the query, for clients that cannot set headers. [guide]
const SESSION_QUERY: &str = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id";
/// What a client offers that carries a token in place of a header. [guide]
const BEARER_PROTOCOL: &str = "base64UrlBearerAuthorization";
/// Largest frame that is read at all, to be answered with its close code. [ours]
const READ_BYTES: usize = 1024 * 1024;
/// Longest wait until a client takes the last frame. [ours]
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The route of shells.
pub(super) fn routes() -> Router<Arc<Emulator>> {
    Router::new().route("/runtimes/{arn}/ws/shells", get(invoke_agent_runtime_command_shell))
}

async fn invoke_agent_runtime_command_shell(
    State(emulator): State<Arc<Emulator>>,
    Path(arn): Path<String>,
    request: Request,
) -> Response {
    let answer = connect(emulator, &arn, request).await;
    answer.unwrap_or_else(|e| respond_error(&e))
}

async fn connect(emulator: Arc<Emulator>, arn: &str, request: Request) -> Result<Response, AwsError> {
    let (mut head, _) = request.into_parts();
    let query = Query::<HashMap<String, String>>::try_from_uri(&head.uri)
        .map_err(|e| AwsError::new(ErrorKind::Validation, e.body_text()))?;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut head, &())
        .await
        .map_err(|e| AwsError::new(ErrorKind::Validation, e.body_text()))?;
    let text = |name: &str| query.get(name).map(String::as_str);
    let aim = Aim::new(arn, text("qualifier"), text("accountId"))?;
    let target = aim.resolve(&emulator).await?;
    let named = match session_of(&head.headers)? {
        Some(session) => Some(session),
        None => query
            .get(SESSION_QUERY)
            .map(|text| text.parse().map_err(|e| bad_field("runtimeSessionId", &e)))
            .transpose()?,
    };
    let session = named.unwrap_or_else(SessionId::random);
    let shell_id: ShellId = match query.get("shellId") {
        Some(text) => text.parse().map_err(|e| bad_field("shellId", &e))?,
        None => ShellId::random(),
    };
    let lease = emulator.sessions.acquire(&target, &session, Need::Command).await?;
    let key = SessionKey {
        runtime: target.arn.id.clone(),
        endpoint: target.endpoint.clone(),
        session: session.clone(),
    };
    let attached = emulator.shells.attach(&key, &shell_id, lease).await.map_err(|error| match error {
        ShellError::TooMany => AwsError::new(ErrorKind::RuntimeClient, error.to_string()),
        ShellError::Engine(error) => error.into(),
    })?;
    let id = shell_id.clone();
    let mut response = upgrade
        .protocols([BEARER_PROTOCOL])
        .max_message_size(READ_BYTES)
        .max_frame_size(READ_BYTES)
        .on_upgrade(move |socket| async move {
            // A client that goes away leaves its shell running.
            let _ = serve(socket, attached, &id).await;
        });
    let out = response.headers_mut();
    out.insert(headers::SESSION_ID, session_value(&head.headers, &session));
    if let Ok(value) = HeaderValue::from_str(shell_id.as_str()) {
        out.insert(SHELL_ID, value);
    }
    if let Some(id) = head.extensions.get::<headers::RequestId>() {
        headers::to_caller(&head.headers, out, id.trace(&head.headers));
    }
    Ok(response)
}

/// Why a connection is over.
enum Over {
    /// The client has gone, in order or not.
    Left,
    /// It is closed for this reason.
    Close(u16, &'static str),
    /// The shell says so.
    End(ShellEnd),
}

async fn serve(mut socket: WebSocket, mut attached: Attached, id: &ShellId) -> Result<(), axum::Error> {
    let connected = shell::connected(id.as_str(), attached.reconnected);
    send(&mut socket, &ShellFrame::Status(&connected)).await?;
    let mut rules = Rules::default();
    let over = loop {
        tokio::select! {
            biased;
            bytes = attached.output.recv() => match bytes {
                Some(bytes) => send_output(&mut socket, &bytes).await?,
                None => break Over::End((&mut attached.end).await.unwrap_or(ShellEnd::Session)),
            },
            message = socket.recv() => match message {
                Some(Ok(message)) => match rules.take(message) {
                    Took::Nothing => {}
                    Took::Echo => send(&mut socket, &ShellFrame::Heartbeat).await?,
                    Took::Input(input) => {
                        // It has ended; why follows with its output.
                        let _ = attached.input.send(input).await;
                    }
                    Took::Over(over) => break over,
                },
                Some(Err(error)) if is_too_big(&error) => break Over::Close(close::TOO_BIG, "a frame is too large"),
                Some(Err(_)) | None => break Over::Left,
            },
        }
    };
    let last = async {
        let (code, reason) = match over {
            Over::Left => return Ok(()),
            Over::Close(code, reason) => (code, reason),
            Over::End(ShellEnd::Exit(exit)) => {
                let signal = match exit {
                    ProcessExit::Signal(signal) => Some(signal),
                    ProcessExit::Code(_) => None,
                };
                let status = shell::ended(exit.shell_code(), signal);
                send(&mut socket, &ShellFrame::Status(&status)).await?;
                (close::NORMAL, "the shell has ended")
            }
            Over::End(ShellEnd::Taken) => (close::TAKEN, "kicked by new connection"),
            Over::End(ShellEnd::Expired) => {
                send(&mut socket, &ShellFrame::Close).await?;
                (close::POLICY, "the shell has existed for as long as a shell may")
            }
            Over::End(ShellEnd::Session) => {
                send(&mut socket, &ShellFrame::Stderr(b"the session was stopped\r\n")).await?;
                send(&mut socket, &ShellFrame::Close).await?;
                (close::GOING_AWAY, "the session was stopped")
            }
        };
        socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await?;
        // The client's own close ends it in order.
        while let Some(Ok(_)) = socket.recv().await {}
        Ok(())
    };
    tokio::time::timeout(LAST_WORDS, last).await.unwrap_or(Ok(()))
}

async fn send(socket: &mut WebSocket, frame: &ShellFrame<'_>) -> Result<(), axum::Error> {
    socket.send(Message::Binary(frame.to_bytes().into())).await
}

async fn send_output(socket: &mut WebSocket, bytes: &Bytes) -> Result<(), axum::Error> {
    for piece in bytes.chunks(limits::SHELL_FRAME_BYTES - 1) {
        send(socket, &ShellFrame::Stdout(piece)).await?;
    }
    Ok(())
}

fn is_too_big(error: &axum::Error) -> bool {
    // The WebSocket library's error type is not this crate's to name; its words are stable.
    error.to_string().contains("too long") || error.to_string().contains("Space limit exceeded")
}

/// What a connection may send.
#[derive(Default)]
struct Rules {
    text_frames: usize,
    /// The second that is counted, and the frames in it.
    second: Option<Instant>,
    frames: u32,
}

/// What a message means.
enum Took {
    Nothing,
    Echo,
    Input(Input),
    Over(Over),
}

impl Rules {
    fn take(&mut self, message: Message) -> Took {
        let now = Instant::now();
        match self.second {
            Some(begun) if now.duration_since(begun) < Duration::from_secs(1) => self.frames += 1,
            _ => (self.second, self.frames) = (Some(now), 1),
        }
        if self.frames > limits::SHELL_FRAMES_PER_SECOND {
            return Took::Over(Over::Close(close::POLICY, "more frames in a second than may be sent"));
        }
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(_) => {
                self.text_frames += 1;
                if self.text_frames >= limits::SHELL_TEXT_FRAMES {
                    return Took::Over(Over::Close(close::NOT_BINARY, "frames must be binary"));
                }
                return Took::Nothing;
            }
            Message::Close(_) => return Took::Over(Over::Left),
            Message::Ping(_) | Message::Pong(_) => return Took::Nothing,
        };
        if bytes.len() > limits::SHELL_FRAME_BYTES {
            return Took::Over(Over::Close(close::TOO_BIG, "a frame is too large"));
        }
        match ShellFrame::parse(&bytes) {
            Some(ShellFrame::Stdin(_)) => Took::Input(Input::Bytes(bytes.slice(1..))),
            Some(ShellFrame::Resize(content)) => match shell::read_resize(content) {
                Some((width, height)) => Took::Input(Input::Resize(TerminalSize { width, height })),
                None => Took::Nothing,
            },
            Some(ShellFrame::Heartbeat) => Took::Echo,
            Some(ShellFrame::Close) => Took::Input(Input::Close),
            _ => Took::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_outside_the_rules_close_the_connection() {
        let closed = |took: Took| match took {
            Took::Over(Over::Close(code, _)) => Some(code),
            _ => None,
        };
        let binary = |bytes: Vec<u8>| Message::Binary(bytes.into());
        let mut rules = Rules::default();
        for _ in 1..limits::SHELL_TEXT_FRAMES {
            assert_eq!(closed(rules.take(Message::Text("x".into()))), None);
        }
        assert_eq!(closed(rules.take(Message::Text("x".into()))), Some(close::NOT_BINARY));
        let mut rules = Rules::default();
        assert_eq!(closed(rules.take(binary(vec![0; limits::SHELL_FRAME_BYTES]))), None);
        let large = rules.take(binary(vec![0; limits::SHELL_FRAME_BYTES + 1]));
        assert_eq!(closed(large), Some(close::TOO_BIG));
        let mut rules = Rules::default();
        let codes: Vec<_> =
            (0..=limits::SHELL_FRAMES_PER_SECOND).map(|_| closed(rules.take(binary(vec![5])))).collect();
        assert!(codes.contains(&Some(close::POLICY)) || rules.frames < limits::SHELL_FRAMES_PER_SECOND);
        // Empty and unknown frames, and sizes that are none, mean nothing.
        let mut rules = Rules::default();
        for bytes in [vec![], vec![9], b"\x04{}".to_vec()] {
            assert!(matches!(rules.take(binary(bytes)), Took::Nothing));
        }
    }
}
