//! Client for an agent's HTTP contract (`POST /invocations`, `GET /ping`) over a compute's connections.
//!
//! Connections come from [`super::Compute::connect`] and are kept alive between calls. Bodies stream
//! both ways; nothing is collected but the few bytes of a ping.
//!
//! A connection is driven by the task that uses it, not by one of its own: the head of an answer and
//! its body are read by whoever polls [`AgentClient::invoke`] and then [`AgentBody`]. That saves a
//! hop to another thread each way, and a caller that goes away takes its connection with it, so the
//! agent notices.
//!
//! A call is repeated only when hyper hands the request back unsent (the kept connection had been
//! closed by the agent). Once a byte may have left, it is never sent again: agents have side effects.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::thread::{self, ThreadId};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, timeout, timeout_at};

use super::{Compute, EngineError, SessionStream};
use crate::model::{Timestamp, limits};

/// Any error of a body on its way through.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// How long an unused connection is trusted. Python's usual servers close theirs after 2 to 5 s; a
/// request that meets such a close cannot be told from one that was lost, so we stay well below.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// Unused connections kept for one agent.
const MAX_IDLE_CONNECTIONS: usize = 64;
/// Longest answer to a ping that is read, in bytes.
const MAX_PING_BYTES: usize = 16 * 1024;

/// A call of the agent.
pub struct AgentRequest {
    /// Exactly the headers the agent shall see, besides `host` and the framing ones.
    pub headers: http::HeaderMap,
    /// The payload.
    pub body: UnsyncBoxBody<Bytes, BodyError>,
}

/// The agent's answer; its body is still coming.
pub struct AgentResponse {
    /// Status.
    pub status: StatusCode,
    /// Headers as the agent sent them.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: AgentBody,
}

/// Why the agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The connection could not be made or broke.
    #[error("the agent could not be reached: {0}")]
    Connection(String),
    /// No response head within [`crate::model::limits::INVOKE_RESPONSE_TIMEOUT`].
    #[error("the agent did not answer in time")]
    Timeout,
}

/// A call without an answer.
pub struct CallError {
    /// Why.
    pub reason: AgentError,
    /// The call itself, when nothing of it can have reached the agent: it may be sent again.
    pub unsent: Option<AgentRequest>,
}

impl std::fmt::Debug for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The call's headers and payload are the caller's own affair.
        let unsent = self.unsent.is_some();
        f.debug_struct("CallError").field("reason", &self.reason).field("unsent", &unsent).finish()
    }
}

/// Why the body of an answer broke off.
#[derive(Debug, thiserror::Error)]
pub enum AgentBodyError {
    /// The connection broke.
    #[error("the agent's answer broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// It took longer than [`crate::model::limits::INVOKE_STREAM_TIMEOUT`].
    #[error("the agent's answer took longer than an answer may stream")]
    TooLong,
}

/// What a ping said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingStatus {
    /// `Healthy`: the session may be idled.
    Healthy,
    /// `HealthyBusy`: the agent works in the background.
    HealthyBusy,
}

/// The answer to a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// The agent's status.
    pub status: PingStatus,
    /// `time_of_last_update`, in the agent's own (real) time.
    pub time_of_last_update: Option<Timestamp>,
}

type RequestBody = UnsyncBoxBody<Bytes, BodyError>;
type Driver = Pin<Box<http1::Connection<Io, RequestBody>>>;

/// The stream below a connection.
///
/// An agent that writes head and body apart and leaves Nagle's algorithm on (Python's own server does)
/// holds the body back until the head is acknowledged, which the kernel puts off for 40 ms. So when a
/// body is awaited and nothing is there to read, what came so far is acknowledged at once.
struct Io {
    stream: TokioIo<SessionStream>,
    awaited: Arc<AtomicBool>,
}

impl Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if read.is_pending() && this.awaited.swap(false, Ordering::Relaxed) {
            this.stream.inner().acknowledge();
        }
        read
    }
}

impl Write for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// One connection and its driver. The driver is gone once the connection has ended.
struct Connection {
    /// Told to [`Io`]: the body of an answer is waited for.
    awaited: Arc<AtomicBool>,
    sender: http1::SendRequest<RequestBody>,
    driver: Option<Driver>,
    last_used: Instant,
    /// The thread that made it, whose runtime wakes for it.
    home: ThreadId,
    /// Ends waits; made by the first.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    /// Lets the connection make progress; notes its end.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(cx).is_ready()
        {
            self.driver = None;
        }
    }

    /// True once `deadline` has passed; otherwise the task is woken by then. Calls are many and hardly one is late, so
    /// the alarm stays as one of them has set it and is moved when it goes off, or for who must be woken before.
    fn late(&mut self, deadline: Instant, cx: &mut Context<'_>) -> bool {
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if alarm.deadline() > deadline {
            alarm.as_mut().reset(deadline);
        }
        while alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return true;
            }
            alarm.as_mut().reset(deadline);
        }
        false
    }

    /// True when a request can be sent at once.
    fn usable(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        self.driver.is_some() && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(())))
    }
}

/// Connections to one agent.
pub struct AgentClient {
    port: u16,
    host: HeaderValue,
    pool: Arc<Pool>,
}

#[derive(Default)]
struct Pool {
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    /// The connection that this thread used last, when it can be trusted. One of another thread would wake that
    /// thread for each of its bytes.
    fn take(&self, now: Instant) -> Option<Connection> {
        let here = thread::current().id();
        let mut idle = self.idle.lock();
        let newest = idle.iter().rposition(|connection| connection.home == here)?;
        let connection = idle.remove(newest);
        if now.saturating_duration_since(connection.last_used) <= KEEP_ALIVE {
            return Some(connection);
        }
        // The newest is too old, so all are.
        let old: Vec<_> = idle.extract_if(.., |connection| connection.home == here).collect();
        drop(idle);
        drop((connection, old));
        None
    }

    fn put(&self, mut connection: Connection) {
        if connection.driver.is_none() {
            return;
        }
        connection.last_used = Instant::now();
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE_CONNECTIONS {
            idle.push(connection);
        }
    }
}

impl AgentClient {
    /// A client for the agent on `port` of its compute.
    pub fn new(port: u16) -> Self {
        let host = HeaderValue::from_str(&format!("127.0.0.1:{port}"))
            .unwrap_or(HeaderValue::from_static("localhost"));
        Self { port, host, pool: Arc::default() }
    }

    /// `POST /invocations`. Returns with the head of the answer.
    pub async fn invoke(
        &self,
        compute: &dyn Compute,
        request: AgentRequest,
    ) -> Result<AgentResponse, CallError> {
        let mut message = Request::new(request.body);
        *message.method_mut() = Method::POST;
        *message.uri_mut() = Uri::from_static("/invocations");
        *message.headers_mut() = request.headers;
        self.send(compute, message, limits::INVOKE_RESPONSE_TIMEOUT).await.map_err(|e| CallError {
            reason: e.reason,
            unsent: e.unsent.map(|message| {
                let (head, body) = message.into_parts();
                AgentRequest { headers: head.headers, body }
            }),
        })
    }

    /// The port that the agent is asked on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `GET /ping`. Any 200 counts as healthy: many agents answer with a body of their own.
    pub async fn ping(&self, compute: &dyn Compute, limit: Duration) -> Result<Ping, AgentError> {
        let mut message = Request::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        *message.uri_mut() = Uri::from_static("/ping");
        let whole = async {
            let answer = self.send(compute, message, limit).await.map_err(|e| e.reason)?;
            if answer.status != StatusCode::OK {
                return Err(AgentError::Connection(format!("the answer to the ping was {}", answer.status)));
            }
            let body = Limited::new(answer.body, MAX_PING_BYTES);
            let text = body.collect().await.map_err(|e| AgentError::Connection(e.to_string()))?;
            Ok(read_ping(&text.to_bytes()))
        };
        timeout(limit, whole).await.map_err(|_| AgentError::Timeout)?
    }

    /// Closes connections that nobody has used for a while.
    pub fn sweep(&self) {
        let old: Vec<Connection> = {
            let mut idle = self.pool.idle.lock();
            let fresh = idle.iter().position(|c| c.last_used.elapsed() <= KEEP_ALIVE).unwrap_or(idle.len());
            idle.drain(..fresh).collect()
        };
        drop(old);
    }

    async fn send(
        &self,
        compute: &dyn Compute,
        mut message: Request<RequestBody>,
        limit: Duration,
    ) -> Result<AgentResponse, Unanswered> {
        message.headers_mut().insert(HOST, self.host.clone());
        let begun = Instant::now();
        let deadline = begun + limit;
        let (response, connection) = loop {
            let kept = self.pool.take(begun);
            let fresh = kept.is_none();
            let mut connection = match kept {
                Some(kept) => kept,
                None => match timeout_at(deadline, self.connect(compute)).await {
                    Ok(Ok(connection)) => connection,
                    Ok(Err(reason)) => return Err(Unanswered { reason, unsent: Some(message) }),
                    Err(_) => return Err(Unanswered { reason: AgentError::Timeout, unsent: None }),
                },
            };
            if !fresh && !poll_fn(|cx| Poll::Ready(connection.usable(cx))).await {
                continue;
            }
            match exchange(&mut connection, message, deadline).await {
                Ok(response) => break (response, connection),
                // The agent had closed it meanwhile.
                Err(Unanswered { unsent: Some(back), .. }) if !fresh => message = back,
                Err(lost) => return Err(lost),
            }
        };
        let (head, incoming) = response.into_parts();
        let body =
            AgentBody { incoming, connection: Some(connection), pool: self.pool.clone(), deadline: None };
        Ok(AgentResponse { status: head.status, headers: head.headers, body })
    }

    async fn connect(&self, compute: &dyn Compute) -> Result<Connection, AgentError> {
        let failed = |e: EngineError| AgentError::Connection(e.to_string());
        let stream = compute.connect(self.port).await.map_err(failed)?;
        // Without it, Nagle and delayed acknowledgements together add 40 ms to a two-part request.
        stream.set_nodelay().map_err(|e| AgentError::Connection(e.to_string()))?;
        let awaited = Arc::new(AtomicBool::new(false));
        let io = Io { stream: TokioIo::new(stream), awaited: awaited.clone() };
        let handshake = http1::handshake(io).await;
        let (sender, driver) = handshake.map_err(|e| AgentError::Connection(e.to_string()))?;
        Ok(Connection {
            awaited,
            sender,
            driver: Some(Box::pin(driver)),
            last_used: Instant::now(),
            home: thread::current().id(),
            alarm: None,
        })
    }
}

/// A request without an answer, and the request itself when nothing of it was sent.
struct Unanswered {
    reason: AgentError,
    unsent: Option<Request<RequestBody>>,
}

/// Sends one request and waits for the head of its answer, driving the connection meanwhile.
async fn exchange(
    connection: &mut Connection,
    message: Request<RequestBody>,
    deadline: Instant,
) -> Result<http::Response<Incoming>, Unanswered> {
    let mut response = std::pin::pin!(connection.sender.try_send_request(message));
    let outcome = poll_fn(|cx| {
        // An end of the connection fails or hands back the request, so the response is decided below.
        connection.drive(cx);
        match response.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if connection.late(deadline, cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    match outcome {
        Some(answer) => answer.map_err(|mut e| {
            let unsent = e.take_message();
            Unanswered { reason: AgentError::Connection(chain(&e.into_error())), unsent }
        }),
        None => Err(Unanswered { reason: AgentError::Timeout, unsent: None }),
    }
}

/// An error with its causes, since hyper's own text leaves them out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// The body of an agent's answer. Polling it also drives the connection; at its end the connection
/// goes back to be used again, and dropping it earlier closes the connection.
pub struct AgentBody {
    incoming: Incoming,
    connection: Option<Connection>,
    pool: Arc<Pool>,
    /// When it must have come; set when it is first waited for.
    deadline: Option<Instant>,
}

impl AgentBody {
    fn keep_connection(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.put(connection);
        }
    }
}

impl Body for AgentBody {
    type Data = Bytes;
    type Error = AgentBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AgentBodyError>>> {
        let this = self.get_mut();
        let mut polled = Pin::new(&mut this.incoming).poll_frame(cx);
        if polled.is_pending()
            && let Some(connection) = &mut this.connection
        {
            connection.awaited.store(true, Ordering::Relaxed);
            connection.drive(cx);
            polled = Pin::new(&mut this.incoming).poll_frame(cx);
        }
        if polled.is_pending() {
            let deadline =
                *this.deadline.get_or_insert_with(|| Instant::now() + limits::INVOKE_STREAM_TIMEOUT);
            // A body that has given its connection back has ended.
            if !this.connection.as_mut().is_some_and(|connection| connection.late(deadline, cx)) {
                return Poll::Pending;
            }
            this.connection = None;
            return Poll::Ready(Some(Err(AgentBodyError::TooLong)));
        }
        match ready!(polled) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(e)) => {
                this.connection = None;
                Poll::Ready(Some(Err(e.into())))
            }
            None => {
                this.keep_connection();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for AgentBody {
    fn drop(&mut self) {
        // A server that knows the length stops reading at the last byte, before the end is polled.
        if self.incoming.is_end_stream() {
            self.keep_connection();
        }
    }
}

/// Reads the body of a ping: an object with `status` and `time_of_last_update`, or anything else.
fn read_ping(body: &[u8]) -> Ping {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let busy = value.get("status").and_then(|s| s.as_str()) == Some("HealthyBusy");
    // Seconds as the contract says; a fraction is taken too. A value that is no time is no news.
    let seconds = value.get("time_of_last_update").and_then(serde_json::Value::as_f64);
    let seconds = seconds.filter(|s| (0.0..=1e11).contains(s));
    Ping {
        status: if busy { PingStatus::HealthyBusy } else { PingStatus::Healthy },
        time_of_last_update: seconds.map(|s| Timestamp((s * 1000.0) as i64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests_support::{Peer, PeerCompute};

    fn request(body: &'static str) -> AgentRequest {
        let body = http_body_util::Full::new(Bytes::from_static(body.as_bytes()));
        AgentRequest {
            headers: http::HeaderMap::new(),
            body: body.map_err(|never| match never {}).boxed_unsync(),
        }
    }

    async fn text(response: AgentResponse) -> Result<String, AgentBodyError> {
        let body = response.body.collect().await?.to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    #[test]
    fn pings_are_read_leniently_and_times_are_bounded() {
        let ping = |text: &str| read_ping(text.as_bytes());
        let busy = ping(r#"{"status":"HealthyBusy","time_of_last_update":12}"#);
        assert_eq!(busy.status, PingStatus::HealthyBusy);
        assert_eq!(busy.time_of_last_update, Some(Timestamp(12_000)));
        for odd in [
            "",
            "ok",
            "[]",
            "{\"status\":7}",
            "{\"time_of_last_update\":-5}",
            "{\"time_of_last_update\":1e300}",
        ] {
            assert_eq!(ping(odd), Ping { status: PingStatus::Healthy, time_of_last_update: None }, "{odd}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_ping_is_healthy_or_busy_and_its_time_can_be_written(
            body in proptest::prop_oneof![
                "\\PC{0,80}",
                "\\{\"status\":\"(Healthy|HealthyBusy|Dead)\",\"time_of_last_update\":-?[0-9]{1,20}(\\.[0-9]{1,9})?(e[0-9]{1,3})?\\}",
            ],
            noise in proptest::collection::vec(proptest::num::u8::ANY, 0..8),
        ) {
            let ping = read_ping(body.as_bytes());
            let busy = body.starts_with(r#"{"status":"HealthyBusy","#);
            // A body that is no JSON says nothing of work.
            let json = serde_json::from_str::<serde_json::Value>(&body).is_ok();
            proptest::prop_assert_eq!(ping.status == PingStatus::HealthyBusy, busy && json, "{}", body);
            if let Some(at) = ping.time_of_last_update {
                proptest::prop_assert!((0..=100_000_000_000_000).contains(&at.0), "{}: {:?}", body, at);
            }
            let torn = [noise.as_slice(), body.as_bytes()].concat();
            let whole = serde_json::from_slice::<serde_json::Value>(&torn).is_ok();
            proptest::prop_assert!(whole || read_ping(&torn).status == PingStatus::Healthy);
        }
    }

    #[tokio::test]
    async fn a_connection_is_used_again_and_bodies_pass_both_ways() {
        let peer = Peer::answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
        let compute = PeerCompute::new(peer.clone());
        let client = AgentClient::new(8080);
        for _ in 0..3 {
            let answer = client.invoke(&compute, request("{\"a\":1}")).await.unwrap();
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(text(answer).await.unwrap(), "hello");
        }
        assert_eq!(peer.connections(), 1);
        let seen = peer.requests();
        assert_eq!(seen.len(), 3);
        assert!(seen[0].starts_with("POST /invocations HTTP/1.1\r\n"), "{}", seen[0]);
        assert!(seen[0].contains("host: 127.0.0.1:8080\r\n"), "{}", seen[0]);
        assert!(seen[0].contains("content-length: 7\r\n"), "{}", seen[0]);
    }

    #[tokio::test]
    async fn a_connection_that_the_agent_closed_is_replaced() {
        let peer = Peer::closing("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        let compute = PeerCompute::new(peer.clone());
        let client = AgentClient::new(8080);
        for round in 1..=3 {
            let answer = client.invoke(&compute, request("x")).await.unwrap();
            assert_eq!(text(answer).await.unwrap(), "ok");
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(peer.connections(), round);
        }
        assert_eq!(peer.requests().len(), 3);
    }

    #[tokio::test]
    async fn a_call_that_may_have_arrived_is_never_repeated() {
        // The agent reads the request and hangs up without a word, on a kept connection too.
        let peer = Peer::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        let compute = PeerCompute::new(peer.clone());
        let client = AgentClient::new(8080);
        text(client.invoke(&compute, request("x")).await.unwrap()).await.unwrap();
        peer.hang_up_on_next();
        let failed = client.invoke(&compute, request("x")).await;
        assert!(matches!(failed, Err(CallError { reason: AgentError::Connection(_), unsent: None })));
        assert_eq!(peer.requests().len(), 2);
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_an_error_and_no_end() {
        let peer = Peer::closing("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf");
        let compute = PeerCompute::new(peer);
        let answer = AgentClient::new(8080).invoke(&compute, request("x")).await.unwrap();
        assert!(matches!(text(answer).await, Err(AgentBodyError::Broken(_))));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_agent_that_writes_head_and_body_apart_is_not_held_up() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        const CALLS: u32 = 40;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let compute = PeerCompute::at(listener.local_addr().unwrap());
        // Nagle's algorithm stays on, as in Python's own server.
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            while let Ok(1..) = stream.read(&mut request).await {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await.unwrap();
                stream.write_all(b"ok").await.unwrap();
            }
        });
        let client = AgentClient::new(8080);
        let begun = std::time::Instant::now();
        for _ in 0..CALLS {
            assert_eq!(text(client.invoke(&compute, request("x")).await.unwrap()).await.unwrap(), "ok");
        }
        // A put-off acknowledgement is 40 ms for nearly each of them.
        assert!(begun.elapsed() < CALLS * Duration::from_millis(20), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn pings_fail_on_other_statuses_and_refused_connections() {
        let peer = Peer::closing("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        let compute = PeerCompute::new(peer);
        let limit = Duration::from_secs(5);
        assert!(AgentClient::new(8080).ping(&compute, limit).await.is_err());
        assert!(AgentClient::new(1).ping(&compute, limit).await.is_err());
        let silent = PeerCompute::new(Peer::answering(""));
        let quick = AgentClient::new(8080).ping(&silent, Duration::from_millis(30)).await;
        assert!(matches!(quick, Err(AgentError::Timeout)));
    }
}
