//! Load by wrk, the same to every target; and a client of our own for single calls.
//!
//! A load client takes from the processors what it measures. One of our HTTP library costs as much a call as a proxy
//! does, and on a machine of two processors its thread and what it measures stand in each other's way; wrk costs a
//! fifth.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Something that answers invocations.
#[derive(Debug, Clone)]
pub struct Target {
    pub name: &'static str,
    pub address: SocketAddr,
    pub path: String,
    pub session: String,
}

/// What one round of calls took.
#[derive(Debug, Clone)]
pub struct Round {
    pub p50: Duration,
    pub p99: Duration,
    pub calls: u32,
    took: Duration,
}

impl Round {
    pub fn per_second(&self) -> f64 {
        f64::from(self.calls) / self.took.as_secs_f64()
    }
}

/// The value below which this share of the values lies.
pub fn quantile(values: &[Duration], share: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = (share * (sorted.len().saturating_sub(1)) as f64).round() as usize;
    sorted[at]
}

/// One kept-alive connection.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(async move {
            // An error shows at the call that it breaks.
            let _ = connection.await;
        });
        Self { sender, host: address.to_string() }
    }

    /// One call; gives the whole answer.
    pub async fn call(
        &mut self,
        method: &str,
        path: &str,
        session: &str,
        body: impl Into<Bytes>,
    ) -> (StatusCode, Bytes) {
        let mut answer = self.begin(method, path, session, body).await;
        let body = answer.body_mut().collect().await.unwrap().to_bytes();
        (answer.status(), body)
    }

    /// One call; gives the answer whose body is still coming.
    pub async fn begin(
        &mut self,
        method: &str,
        path: &str,
        session: &str,
        body: impl Into<Bytes>,
    ) -> hyper::Response<hyper::body::Incoming> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("content-type", "application/json");
        if !session.is_empty() {
            request = request.header("x-amzn-bedrock-agentcore-runtime-session-id", session);
        }
        self.sender.ready().await.unwrap();
        self.sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap()
    }
}

/// Calls `target` for some seconds over `connections` connections that are kept.
pub fn round(target: &Target, connections: usize, seconds: usize) -> Round {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/wrk.lua");
    let mut command = Command::new("wrk");
    command.args(["--threads", "1", "--connections", &connections.to_string()]);
    command.args(["--duration", &format!("{seconds}s"), "--script"]).arg(script);
    command.arg(format!("http://{}{}", target.address, target.path)).env("BENCH_SESSION", &target.session);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {text}{}", target.name, String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap();
    assert_eq!(told["errors"], 0, "{}: {text}", target.name);
    let micros = |name: &str| Duration::from_micros(told[name].as_u64().unwrap());
    let calls = told["calls"].as_u64().and_then(|calls| u32::try_from(calls).ok()).unwrap();
    Round { p50: micros("p50"), p99: micros("p99"), calls, took: micros("took") }
}

/// Sees to it that the target answers as it should.
pub async fn check(target: &Target) {
    let (status, body) =
        Client::connect(target.address).await.call("POST", &target.path, &target.session, "{}").await;
    assert_eq!(status, StatusCode::OK, "{}: {body:?}", target.name);
    assert!(body.len() > 90, "{}: {body:?}", target.name);
}
