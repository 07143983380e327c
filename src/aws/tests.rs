//! The clients against a server that says what a test tells it to, on a real connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::*;
use crate::model::{CommandEvent, CommandLine, CommandStatus, EndpointName, OutputStream, SessionId};

/// What the server says to one request.
enum Say {
    /// A status, the error's name and its message.
    Error(u16, &'static str, &'static str),
    /// A body in pieces, each after a pause.
    Body(&'static str, Vec<(Duration, Bytes)>),
    /// Nothing: it hangs up after it has read the request.
    HangUp,
}

/// A request that came.
struct Heard {
    path: String,
    headers: http::HeaderMap,
    body: Bytes,
}

struct Server {
    endpoint: String,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Server {
    async fn new(script: Vec<Say>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        let all = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (all, script) = (all.clone(), script.clone());
                let answer = service_fn(move |request| answer(request, all.clone(), script.clone()));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
                );
            }
        });
        Self { endpoint, heard }
    }

    fn connection(&self) -> Connection {
        Connection::local(&self.endpoint, "us-west-2".parse().unwrap())
    }

    fn calls(&self) -> usize {
        self.heard.lock().len()
    }
}

type Body = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

async fn answer(
    request: hyper::Request<Incoming>,
    heard: Arc<Mutex<Vec<Heard>>>,
    script: Arc<Mutex<VecDeque<Say>>>,
) -> Result<hyper::Response<Body>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    heard.lock().push(Heard { path: head.uri.to_string(), headers: head.headers, body });
    let say = script.lock().pop_front().expect("one call more than the test expects");
    let response = hyper::Response::builder().header("x-amzn-requestid", "request-1");
    let (response, pieces) = match say {
        Say::HangUp => return Err(std::io::Error::other("hanging up")),
        Say::Error(status, name, message) => {
            let body = serde_json::json!({ "message": message }).to_string();
            let response = response.status(status).header("x-amzn-errortype", name);
            (response.header("content-type", "application/json"), vec![(Duration::ZERO, body.into())])
        }
        Say::Body(content_type, pieces) => (response.header("content-type", content_type), pieces),
    };
    let pieces = futures_util::stream::iter(pieces).then(|(pause, piece)| async move {
        tokio::time::sleep(pause).await;
        Ok(Frame::data(piece))
    });
    Ok(response.body(BodyExt::boxed(StreamBody::new(pieces))).unwrap())
}

fn text(pieces: &[&'static str]) -> Say {
    Say::Body(
        "text/plain",
        pieces.iter().map(|p| (Duration::ZERO, Bytes::from_static(p.as_bytes()))).collect(),
    )
}

fn to() -> SessionCall {
    SessionCall {
        arn: "arn:aws:bedrock-agentcore:us-west-2:000000000000:runtime/coder-AbCdEf0123".into(),
        qualifier: EndpointName::default_endpoint(),
        session: SessionId::random(),
    }
}

fn call() -> InvokeCall {
    InvokeCall {
        to: to(),
        content_type: "application/json".into(),
        accept: "*/*".into(),
        payload: b"{}".to_vec(),
        user_id: None,
        headers: vec![("x-tenant".parse().unwrap(), "acme".parse().unwrap())],
    }
}

async fn read(answer: &mut Answer) -> String {
    let mut all = Vec::new();
    while let Some(bytes) = answer.next().await.unwrap() {
        all.extend_from_slice(&bytes);
    }
    String::from_utf8(all).unwrap()
}

async fn invoke_error(script: Vec<Say>) -> (AwsError, usize) {
    let server = Server::new(script).await;
    let error = server.connection().data().invoke(call()).await.err().unwrap();
    (error, server.calls())
}

#[tokio::test]
async fn a_call_says_what_it_was_told_to_and_its_answer_streams() {
    let server = Server::new(vec![text(&["hel", "lo"])]).await;
    let mut answer = server.connection().data().invoke(call()).await.unwrap();
    assert_eq!(read(&mut answer).await, "hello");
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "text/plain"));
    let heard = server.heard.lock();
    assert!(heard[0].path.starts_with("/runtimes/arn%3Aaws%3A"), "{}", heard[0].path);
    assert!(heard[0].path.ends_with("/invocations?qualifier=DEFAULT"), "{}", heard[0].path);
    assert_eq!(heard[0].headers["x-tenant"], "acme");
    assert_eq!(heard[0].headers["content-type"], "application/json");
    assert!(heard[0].headers["authorization"].to_str().unwrap().contains("Credential=test/"));
    assert_eq!(heard[0].body, "{}");
}

#[tokio::test]
async fn what_may_have_run_is_sent_once() {
    for (status, name) in [
        (500, "InternalServerException"),
        (424, "RuntimeClientError"),
        (409, "ConflictException"),
        (504, "GatewayTimeoutException"),
        (503, "ServiceUnavailable"),
    ] {
        let (error, calls) = invoke_error(vec![Say::Error(status, name, "no")]).await;
        assert_eq!((error.name(), error.status(), calls), (Some(name), Some(status), 1));
        assert_eq!(error.request_id(), Some("request-1"));
        assert!(error.to_string().ends_with(": no"), "{error}");
    }
    let (error, calls) = invoke_error(vec![Say::HangUp]).await;
    assert!(matches!(error, AwsError::Broken { .. }), "{error:?}");
    assert_eq!(calls, 1);
}

#[tokio::test]
async fn what_cannot_have_run_is_sent_again() {
    let server = Server::new(vec![
        Say::Error(409, "RetryableConflictException", "Session operation in progress, please retry"),
        Say::Error(429, "ThrottlingException", "slow down"),
        text(&["done"]),
    ])
    .await;
    let mut answer = server.connection().data().invoke(call()).await.unwrap();
    assert_eq!(read(&mut answer).await, "done");
    assert_eq!(server.calls(), 3);
}

#[tokio::test]
async fn who_waits_is_told_of_each_further_attempt_and_why() {
    let server = Server::new(vec![
        Say::Error(409, "RetryableConflictException", "Session operation in progress, please retry"),
        Say::Error(429, "ThrottlingException", "slow down"),
        text(&["done"]),
    ])
    .await;
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = said.clone();
    let connection = server.connection().telling(move |text| heard.lock().push(text));
    connection.data().invoke(call()).await.unwrap();
    let expected = [
        "`RetryableConflictException` (409): sent again, attempt 2 of 5",
        "`ThrottlingException` (429): sent again, attempt 3 of 5",
    ];
    assert_eq!(*said.lock(), expected);
}

#[tokio::test]
async fn a_bearer_token_stands_in_place_of_the_signature() {
    let server = Server::new(vec![text(&["done"])]).await;
    let region = "us-west-2".parse().unwrap();
    let connection = Connection::bearer(
        "token-1".to_owned(),
        &region,
        Some(server.endpoint.clone()),
        &NetworkSettings::default(),
        None,
    )
    .await
    .unwrap();
    connection.data().invoke(call()).await.unwrap();
    let heard = server.heard.lock();
    assert_eq!(heard[0].headers["authorization"], "Bearer token-1");
    assert!(!heard[0].headers.contains_key("x-amz-date"));
    assert!(!format!("{connection:?}").contains("token-1"));
}

#[tokio::test]
async fn a_refused_connection_is_answered_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let connection = Connection::local(endpoint, "us-west-2".parse().unwrap());
    let begun = Instant::now();
    let error = connection.data().invoke(call()).await.err().unwrap();
    assert!(matches!(error, AwsError::Connect { .. }), "{error:?}");
    let error = connection.control().list_runtimes().await.unwrap_err();
    assert!(matches!(error, AwsError::Connect { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_agent_may_be_silent_in_mid_stream() {
    let silence = Duration::from_secs(10 * 60);
    let pieces = vec![(Duration::ZERO, Bytes::from("a")), (silence, Bytes::from("b"))];
    let server = Server::new(vec![Say::Body("text/event-stream", pieces)]).await;
    let mut answer = server.connection().data().invoke(call()).await.unwrap();
    assert_eq!(answer.next().await.unwrap().as_deref(), Some(&b"a"[..]));
    // From here on the clock jumps to whatever timer is next: the SDK's, if it had one, or the agent's.
    tokio::time::pause();
    assert_eq!(answer.next().await.unwrap().as_deref(), Some(&b"b"[..]));
}

/// A runtime as a service answers that knows more than the SDK does.
const NEWER: &str = r#"{"agentRuntimeArn":"a","agentRuntimeName":"coder","agentRuntimeId":"coder-0123456789",
    "agentRuntimeVersion":"3","createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:00Z",
    "roleArn":"r","status":"READY","lifecycleConfiguration":{"idleRuntimeSessionTimeout":900},
    "inventedNextYear":{"deep":[1]}}"#;
const WRITTEN: &str = r#"{"agentRuntimeArn":"a","agentRuntimeId":"coder-0123456789","agentRuntimeVersion":"4",
    "createdAt":"2026-01-01T00:00:00Z","lastUpdatedAt":"2026-01-01T00:00:00Z","status":"UPDATING"}"#;

#[tokio::test]
async fn members_that_the_sdk_does_not_know_come_and_go_unharmed() {
    use crate::ops::ports::Runtimes;
    let server = Server::new(vec![
        Say::Body("application/json", vec![(Duration::ZERO, Bytes::from_static(NEWER.as_bytes()))]),
        Say::Error(429, "ThrottlingException", "slow down"),
        Say::Body("application/json", vec![(Duration::ZERO, Bytes::from_static(WRITTEN.as_bytes()))]),
    ])
    .await;
    let services = server.connection().services();
    let found = services.runtime("coder-0123456789").await.unwrap().unwrap();
    assert_eq!(found.get("inventedNextYear"), Some(&serde_json::json!({ "deep": [1] })));
    let written = services.update_runtime("coder-0123456789", &found.settings()).await.unwrap();
    assert_eq!(written.version, "4");
    let heard = server.heard.lock();
    let body: serde_json::Value = serde_json::from_slice(&heard[2].body).unwrap();
    assert_eq!(body["inventedNextYear"], serde_json::json!({ "deep": [1] }));
    assert!(body.get("status").is_none() && body["clientToken"].as_str().is_some_and(|t| t.len() >= 33));
    // The second try is the same request, so the service does it once.
    assert_eq!(heard[1].body, heard[2].body);
    assert_eq!(heard[2].headers["content-length"], heard[2].body.len().to_string());
    assert!(heard[2].headers["authorization"].to_str().unwrap().contains("Credential=test/"));
}

/// An event-stream message.
fn message(headers: &[(&str, &str)], payload: &serde_json::Value) -> Bytes {
    let mut message = Message::new(payload.to_string());
    for (name, value) in headers {
        let value = HeaderValue::String((*value).to_owned().into());
        message = message.add_header(Header::new((*name).to_owned(), value));
    }
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes).unwrap();
    bytes.into()
}

fn chunk(payload: serde_json::Value) -> Bytes {
    let headers =
        [(":message-type", "event"), (":event-type", "chunk"), (":content-type", "application/json")];
    message(&headers, &payload)
}

async fn events(frames: Vec<Bytes>) -> (Vec<CommandEvent>, Result<(), AwsError>, Bytes) {
    let pieces = frames.into_iter().map(|f| (Duration::ZERO, f)).collect();
    let server = Server::new(vec![Say::Body("application/vnd.amazon.eventstream", pieces)]).await;
    let command = CommandLine::new("ls".into()).unwrap();
    let timeout = crate::model::CommandTimeout::new(60);
    let mut stream =
        server.connection().data().run_command(CommandCall { to: to(), command, timeout }).await.unwrap();
    let mut events = Vec::new();
    let end = loop {
        match stream.next().await {
            Ok(Some(event)) => events.push(event),
            Ok(None) => break Ok(()),
            Err(e) => break Err(e),
        }
    };
    let body = server.heard.lock()[0].body.clone();
    (events, end, body)
}

#[tokio::test]
async fn a_commands_frames_become_events() {
    use serde_json::json;
    let (events, end, body) = events(vec![
        chunk(json!({ "contentStart": {} })),
        chunk(json!({ "contentDelta": { "stdout": "é", "stderr": "e" } })),
        chunk(json!({ "contentDelta": { "stderr": "f" } })),
        chunk(json!({ "contentStop": { "exitCode": -1, "status": "TIMED_OUT" } })),
    ])
    .await;
    assert_eq!(end, Ok(()));
    let expected = [
        CommandEvent::Start,
        CommandEvent::Delta(OutputStream::Stdout, "é".into()),
        CommandEvent::Delta(OutputStream::Stderr, "e".into()),
        CommandEvent::Delta(OutputStream::Stderr, "f".into()),
        CommandEvent::Stop { exit_code: -1, status: CommandStatus::TimedOut },
    ];
    assert_eq!(events, expected);
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body, json!({ "command": "ls", "timeout": 60 }));
}

#[tokio::test]
async fn an_error_inside_a_stream_keeps_its_name() {
    use serde_json::json;
    let headers = [
        (":message-type", "exception"),
        (":exception-type", "runtimeClientError"),
        (":content-type", "application/json"),
    ];
    let error = message(&headers, &json!({ "message": "the session was stopped" }));
    let (events, end, _) = events(vec![chunk(json!({ "contentStart": {} })), error]).await;
    assert_eq!(events, [CommandEvent::Start]);
    let error = end.unwrap_err();
    assert_eq!(error.name(), Some("RuntimeClientError"), "{error:?}");
    assert!(error.to_string().contains("the session was stopped"), "{error}");
}

#[tokio::test]
async fn a_torn_stream_is_an_error_and_not_an_end() {
    let whole = chunk(serde_json::json!({ "contentStart": {} }));
    let torn = whole.slice(..whole.len() - 3);
    let (events, end, _) = events(vec![whole, torn]).await;
    assert_eq!(events, [CommandEvent::Start]);
    assert!(matches!(end, Err(AwsError::Broken { .. })), "{end:?}");
}
