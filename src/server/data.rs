//! The data plane's operations: InvokeAgentRuntime, InvokeAgentRuntimeCommand, StopRuntimeSession.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::Query;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use tokio::time::timeout;

use super::BODY_TIMEOUT;
use super::errors::{agent_status, bad_field, invalid};
use super::headers::{self, RequestId, SESSION_ID, SessionHeaders};
use crate::emulator::Emulator;
use crate::emulator::command::{CommandFailure, run_command};
use crate::emulator::registry::{RuntimeRef, Target};
use crate::emulator::sessions::{Cut, Familiar, Lease, Need};
use crate::engine::agent_http::{AgentBody, AgentRequest, BodyError, CallError};
use crate::model::{CommandLine, CommandTimeout, EndpointName, RuntimeId, SessionId, SessionKey, limits};
use crate::wire::error::{AwsError, ErrorKind, ValidationReason};
use crate::wire::eventstream;

/// Largest JSON body of a command or a stop: the longest command with every byte escaped, and room. [ours]
const MAX_JSON_BYTES: usize = 1024 * 1024;

/// How long a call looks for an agent that was healthy and cannot be connected to. [ours]
const UNREACHED_LIMIT: Duration = Duration::from_secs(1);
/// Pause between two looks. [ours]
const UNREACHED_PAUSE: Duration = Duration::from_millis(20);

/// The body of a request of either plane.
pub(super) type RequestBody = UnsyncBoxBody<Bytes, BodyError>;

/// An operation of the data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// InvokeAgentRuntime
    Invoke,
    /// InvokeAgentRuntimeCommand
    Command,
    /// StopRuntimeSession
    Stop,
}

impl Operation {
    /// The operation that a request asks for: `POST /runtimes/{arn}/{operation}`, the ARN as one segment.
    pub(super) fn of<B>(request: &Request<B>) -> Option<Self> {
        let (arn, operation) = segments(request.uri())?;
        let operation = match operation {
            "invocations" => Self::Invoke,
            "commands" => Self::Command,
            "stopruntimesession" => Self::Stop,
            _ => return None,
        };
        (!arn.is_empty() && request.method() == Method::POST).then_some(operation)
    }

    /// Carries it out for a caller.
    pub(super) async fn run(
        self,
        emulator: &Emulator,
        habits: &Habits,
        request: Request<RequestBody>,
        id: &RequestId,
    ) -> Result<Response, AwsError> {
        let aim = habits.aim(request.uri())?;
        let (head, body) = request.into_parts();
        match self {
            Self::Invoke => {
                check_lengths(&head.headers, &headers::INVOKE_LENGTHS)?;
                let seat = habits.seat(&head.headers)?;
                invoke(emulator, &aim, &seat, &head.headers, body, id).await
            }
            // Boxed, so that a call of the agent does not carry the size of these.
            Self::Command => command(emulator, &aim, &head.headers, body, id).boxed().await,
            Self::Stop => stop(emulator, &aim, &head.headers, body).boxed().await,
        }
    }
}

/// What a request is aimed at, as its path and its query say.
pub(super) struct Aim {
    runtime: RuntimeRef,
    endpoint: EndpointName,
}

/// What the last request of a connection was aimed at, and the session that the last call named: the next one's are
/// nearly always the same.
#[derive(Default)]
pub(super) struct Habits {
    aim: Mutex<Option<(PathAndQuery, Arc<Aim>)>>,
    seat: Mutex<Option<Arc<Seat>>>,
}

/// A session that a caller names.
struct Seat {
    headers: SessionHeaders,
    session: Familiar,
}

impl Habits {
    fn aim(&self, uri: &Uri) -> Result<Arc<Aim>, AwsError> {
        let mut last = self.aim.lock();
        if let Some((path, aim)) = &*last
            && uri.path_and_query() == Some(path)
        {
            return Ok(aim.clone());
        }
        let aim = Arc::new(Aim::read(uri)?);
        *last = uri.path_and_query().map(|path| (path.clone(), aim.clone()));
        Ok(aim)
    }

    /// The session that these headers name, or a new one.
    fn seat(&self, caller: &HeaderMap) -> Result<Arc<Seat>, AwsError> {
        let Some(named) = caller.get(SESSION_ID) else {
            let session = SessionId::random();
            let headers = SessionHeaders::of(session_value(caller, &session));
            return Ok(Arc::new(Seat { headers, session: Familiar::new(session) }));
        };
        let mut last = self.seat.lock();
        if let Some(seat) = &*last
            && seat.headers.id == named
        {
            return Ok(seat.clone());
        }
        let session = Familiar::new(session_named(named)?);
        let seat = Arc::new(Seat { headers: SessionHeaders::of(named.clone()), session });
        *last = Some(seat.clone());
        Ok(seat)
    }
}

/// What the query says of the runtime.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    qualifier: Option<String>,
    account_id: Option<String>,
}

impl Aim {
    fn read(uri: &Uri) -> Result<Self, AwsError> {
        let (arn, _) = segments(uri).unwrap_or_default();
        let arn = percent_decode_str(arn).decode_utf8();
        let arn = arn.map_err(|_| invalid("agentRuntimeArn", "it must be UTF-8"))?;
        let Query(Question { qualifier, account_id }) = Query::try_from_uri(uri).map_err(|e| AwsError {
            reason: Some(ValidationReason::CannotParse),
            ..AwsError::new(ErrorKind::Validation, e.body_text())
        })?;
        Self::new(&arn, qualifier.as_deref(), account_id.as_deref())
    }

    /// The aim of an ARN or an id, an endpoint's name and an account, as far as they are said.
    pub(super) fn new(
        arn: &str,
        qualifier: Option<&str>,
        account_id: Option<&str>,
    ) -> Result<Self, AwsError> {
        let endpoint = match qualifier {
            None => EndpointName::default_endpoint(),
            Some(name) => name.parse().map_err(|e| bad_field("qualifier", &e))?,
        };
        let runtime = if arn.starts_with("arn:") {
            RuntimeRef::Arn(arn.parse().map_err(|e| bad_field("agentRuntimeArn", &e))?)
        } else {
            let id: RuntimeId = arn.parse().map_err(|e| bad_field("agentRuntimeArn", &e))?;
            let account = account_id.ok_or_else(|| {
                invalid("accountId", "it is required when the runtime is named by its id instead of its ARN")
            })?;
            RuntimeRef::Id(id, account.parse().map_err(|e| bad_field("accountId", &e))?)
        };
        Ok(Self { runtime, endpoint })
    }

    pub(super) async fn resolve(&self, emulator: &Emulator) -> Result<Arc<Target>, AwsError> {
        match emulator.registry.resolve(&self.runtime, &self.endpoint) {
            Some(target) => Ok(target),
            None => Ok(emulator.registry.resolve_when_ready(&self.runtime, &self.endpoint).await?),
        }
    }
}

/// What stands for the ARN and the operation in a path of the data plane.
fn segments(uri: &Uri) -> Option<(&str, &str)> {
    let (arn, operation) = uri.path().strip_prefix("/runtimes/")?.split_once('/')?;
    (!operation.contains('/')).then_some((arn, operation))
}

async fn invoke(
    emulator: &Emulator,
    aim: &Aim,
    seat: &Seat,
    caller: &HeaderMap,
    body: RequestBody,
    id: &RequestId,
) -> Result<Response, AwsError> {
    // Exact where its length was declared.
    let declared = http_body::Body::size_hint(&body).exact();
    if declared.is_some_and(|bytes| bytes > limits::MAX_PAYLOAD_BYTES) {
        return Err(payload_too_large());
    }
    let target = aim.resolve(emulator).await?;
    let trace_id = id.trace(caller);
    let allowed = &target.spec.header_allowlist;

    let (body, overflow) = bounded(body, declared.is_some());
    let mut call =
        AgentRequest { headers: headers::to_agent(caller, allowed, &seat.headers, id, &trace_id), body };
    let mut give_up = None;
    let (answer, lease) = loop {
        let lease = emulator.sessions.acquire_familiar(&target, &seat.session, Need::Agent).await?;
        match lease.invoke(call).await {
            Ok(answer) => break (answer, lease),
            Err(_) if overflow.as_ref().is_some_and(|overflow| overflow.load(Ordering::Relaxed)) => {
                return Err(payload_too_large());
            }
            // The agent has just ended, or starts to listen anew; nothing was sent. The next turn finds out.
            Err(CallError { unsent: Some(unsent), .. })
                if Instant::now() < *give_up.get_or_insert_with(|| Instant::now() + UNREACHED_LIMIT) =>
            {
                call = unsent;
                drop(lease);
                tokio::time::sleep(UNREACHED_PAUSE).await;
            }
            Err(error) => {
                lease.settle().await;
                return Err(error.reason.into());
            }
        }
    };
    if !answer.status.is_success() {
        return Err(agent_status(answer.status.as_u16()));
    }

    let content_type = answer.headers.get(CONTENT_TYPE).cloned();
    let mut response = Response::new(Body::new(LeasedBody::new(answer.body, lease)));
    *response.status_mut() = answer.status;
    let out = response.headers_mut();
    // `contentType` is a required member of the answer. [model]
    out.insert(CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    out.insert(SESSION_ID, seat.headers.id.clone());
    headers::to_caller(caller, out, trace_id);
    Ok(response)
}

#[derive(Deserialize)]
struct CommandBody {
    command: Option<serde_json::Value>,
    timeout: Option<serde_json::Value>,
}

async fn command(
    emulator: &Emulator,
    aim: &Aim,
    caller: &HeaderMap,
    body: RequestBody,
    id: &RequestId,
) -> Result<Response, AwsError> {
    check_lengths(caller, &headers::COMMAND_LENGTHS)?;
    let target = aim.resolve(emulator).await?;
    let session = session_of(caller)?.unwrap_or_else(SessionId::random);
    let CommandBody { command, timeout } = json(body).await?;
    let command = command.as_ref().and_then(|c| c.as_str()).and_then(|c| CommandLine::new(c.to_owned()));
    let command = command.ok_or_else(|| {
        let bytes = limits::COMMAND_BYTES;
        let (min, max) = (bytes.start(), bytes.end());
        invalid("command", &format!("it must be a text of {min} to {max} bytes without NUL"))
    })?;
    let timeout = match timeout {
        None | Some(serde_json::Value::Null) => CommandTimeout::default(),
        Some(value) => {
            let seconds = value.as_u64().and_then(|s| u32::try_from(s).ok());
            seconds.and_then(CommandTimeout::new).ok_or_else(|| {
                let seconds = limits::COMMAND_TIMEOUT_SECONDS;
                let (min, max) = (seconds.start(), seconds.end());
                invalid("timeout", &format!("it must be a whole number of seconds from {min} to {max}"))
            })?
        }
    };
    let lease = emulator.sessions.acquire(&target, &session, Need::Command).await?;
    let events = run_command(lease, &command, timeout).await?;

    let mut response = Response::new(Body::from_stream(frames(events)));
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static(eventstream::CONTENT_TYPE));
    out.insert(SESSION_ID, session_value(caller, &session));
    headers::to_caller(caller, out, id.trace(caller));
    Ok(response)
}

/// Events as frames; a failure is an exception frame and the end.
fn frames(
    events: impl Stream<Item = Result<crate::model::CommandEvent, CommandFailure>> + Send,
) -> impl Stream<Item = Result<Bytes, eventstream::FrameError>> + Send {
    events.map(|event| match event {
        Ok(event) => eventstream::event(&event),
        Err(failure) => {
            let kind = match failure {
                CommandFailure::Cut | CommandFailure::Engine(_) => ErrorKind::RuntimeClient,
                CommandFailure::TooMuchOutput => ErrorKind::ServiceQuotaExceeded,
            };
            eventstream::exception(kind, &failure.to_string())
        }
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StopBody {
    client_token: Option<String>,
}

async fn stop(
    emulator: &Emulator,
    aim: &Aim,
    caller: &HeaderMap,
    body: RequestBody,
) -> Result<Response, AwsError> {
    let target = aim.resolve(emulator).await?;
    let session = session_of(caller)?.ok_or_else(|| {
        invalid("runtimeSessionId", &format!("the header `{SESSION_ID}` must name the session to stop"))
    })?;
    let StopBody { client_token } = json(body).await?;
    if client_token.as_ref().is_some_and(|token| !(33..=256).contains(&token.len())) {
        return Err(invalid("clientToken", "it must have 33 to 256 characters"));
    }
    let key = SessionKey {
        runtime: target.arn.id.clone(),
        endpoint: target.endpoint.clone(),
        session: session.clone(),
    };
    emulator.stop_session(&key, client_token.as_deref()).await?;
    let mut response = Response::new(Body::from("{}"));
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    out.insert(SESSION_ID, session_value(caller, &session));
    Ok(response)
}

fn check_lengths(headers: &HeaderMap, lengths: &[headers::Length]) -> Result<(), AwsError> {
    match headers::wrong_length(headers, lengths) {
        None => Ok(()),
        Some(length) => {
            let (min, max) = (length.min, length.max);
            Err(invalid(length.member, &format!("it must have {min} to {max} characters")))
        }
    }
}

/// The session id of the request, when it names one.
pub(super) fn session_of(headers: &HeaderMap) -> Result<Option<SessionId>, AwsError> {
    headers.get(SESSION_ID).map(session_named).transpose()
}

fn session_named(value: &HeaderValue) -> Result<SessionId, AwsError> {
    let text = value.to_str().unwrap_or_default();
    text.parse().map_err(|e| bad_field("runtimeSessionId", &e))
}

/// A session's id as the caller wrote it, or as the header he did not send.
pub(super) fn session_value(caller: &HeaderMap, session: &SessionId) -> HeaderValue {
    // Session ids are ASCII, so they are all values of headers.
    let written =
        || HeaderValue::from_str(session.as_str()).unwrap_or_else(|_| HeaderValue::from_static("-"));
    caller.get(SESSION_ID).cloned().unwrap_or_else(written)
}

async fn json<T: for<'de> Deserialize<'de>>(body: RequestBody) -> Result<T, AwsError> {
    let unreadable = |message: String| AwsError {
        reason: Some(ValidationReason::CannotParse),
        ..AwsError::new(ErrorKind::Validation, message)
    };
    let bytes = timeout(BODY_TIMEOUT, to_bytes(Body::new(body), MAX_JSON_BYTES)).await;
    let bytes = bytes.map_err(|_| unreadable("the request body was not received in time".to_owned()))?;
    let bytes = bytes.map_err(|e| unreadable(format!("the request body could not be read: {e}")))?;
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text).map_err(|e| unreadable(format!("the request body is not valid JSON: {e}")))
}

/// The payload for the agent, and what tells whether it has turned out too long. A declared length has been checked
/// already, and the HTTP layer takes no more than was declared.
fn bounded(body: RequestBody, declared: bool) -> (RequestBody, Option<Arc<AtomicBool>>) {
    if declared {
        return (body, None);
    }
    let overflow = Arc::new(AtomicBool::new(false));
    let limit = usize::try_from(limits::MAX_PAYLOAD_BYTES).unwrap_or(usize::MAX);
    let seen = overflow.clone();
    let body = Limited::new(body, limit).map_err(move |error| {
        if error.is::<LengthLimitError>() {
            seen.store(true, Ordering::Relaxed);
        }
        error
    });
    (body.boxed_unsync(), Some(overflow))
}

fn payload_too_large() -> AwsError {
    invalid("payload", &format!("it must have at most {} bytes", limits::MAX_PAYLOAD_BYTES))
}

/// An agent's body on its way to the caller. It holds the lease, so the session stays active until the
/// last byte, and it fails when the session is stopped: the connection then ends without the end of its
/// body, which every HTTP client reports as an error.
struct LeasedBody {
    inner: AgentBody,
    cut: Cut,
    /// Wakes a body that waits; made when it first has to.
    woken: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Why the agent's body has no end, told once what came before has been sent.
    broken: Option<BodyError>,
    lease: Lease,
}

impl LeasedBody {
    fn new(inner: AgentBody, lease: Lease) -> Self {
        if http_body::Body::is_end_stream(&inner) {
            lease.answered();
        }
        Self { inner, cut: lease.cut(), woken: None, broken: None, lease }
    }
}

impl http_body::Body for LeasedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(broken) = this.broken.take() {
            return Poll::Ready(Some(Err(broken)));
        }
        let polled = match this.cut.is_cut() {
            true => Poll::Pending,
            false => Pin::new(&mut this.inner).poll_frame(cx),
        };
        // Looked at again for an end: a body that ends with its connection ends when its agent is killed,
        // and must not look complete. The cut comes before the kill.
        if this.cut.is_cut() && !matches!(polled, Poll::Ready(Some(Ok(_)))) {
            return Poll::Ready(Some(Err("the session was stopped".into())));
        }
        if polled.is_pending() {
            let woken = this.woken.get_or_insert_with(|| Box::pin(this.cut.clone().waited()));
            if woken.poll_unpin(cx).is_ready() {
                return Poll::Ready(Some(Err("the session was stopped".into())));
            }
        }
        match polled {
            // At an error the server drops what it has not sent yet; it sends what it has when it is told to wait.
            Poll::Ready(Some(Err(e))) => {
                this.broken = Some(e.into());
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(frame) => {
                if frame.is_none() || this.inner.is_end_stream() {
                    this.lease.answered();
                }
                Poll::Ready(frame.map(|f| f.map_err(Into::into)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        !self.cut.is_cut() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}
