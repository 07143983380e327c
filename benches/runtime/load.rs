//! The load client: the same requests over kept-alive connections to every target.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Barrier;

/// What every call sends besides the path; about what an SDK sends.
const PAYLOAD: &str =
    r#"{"prompt":"what is the weather like in the place where I am going to be tomorrow?"}"#;

/// Something that answers invocations.
#[derive(Debug, Clone)]
pub struct Target {
    pub name: &'static str,
    pub address: SocketAddr,
    pub path: String,
    pub session: String,
}

/// Latencies of one round, and how long it took in all.
#[derive(Debug, Default, Clone)]
pub struct Round {
    latencies: Vec<Duration>,
    pub took: Duration,
}

impl Round {
    /// The latency below which this share of the calls stayed.
    pub fn quantile(&self, share: f64) -> Duration {
        quantile(&self.latencies, share)
    }

    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
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

/// Calls `target` `calls` times over `connections` connections. Each has made a call before, at the same time as
/// the others, so that what is measured has every connection there is to be made, on both sides of the target.
pub async fn round(target: &Target, connections: usize, calls: usize) -> Round {
    let each = calls.div_ceil(connections);
    let ready = Arc::new(Barrier::new(connections + 1));
    let mut running = Vec::new();
    for _ in 0..connections {
        let mut client = Client::connect(target.address).await;
        let (target, ready) = (target.clone(), ready.clone());
        running.push(tokio::spawn(async move {
            timed(&mut client, &target).await;
            ready.wait().await;
            let mut latencies = Vec::with_capacity(each);
            for _ in 0..each {
                latencies.push(timed(&mut client, &target).await);
            }
            latencies
        }));
    }
    ready.wait().await;
    let begin = Instant::now();
    let mut all = Round::default();
    for task in running {
        all.latencies.extend(task.await.unwrap());
    }
    all.took = begin.elapsed();
    all
}

async fn timed(client: &mut Client, target: &Target) -> Duration {
    let payload = Bytes::from_static(PAYLOAD.as_bytes());
    let begin = Instant::now();
    let (status, body) = client.call("POST", &target.path, &target.session, payload).await;
    let took = begin.elapsed();
    assert_eq!(status, StatusCode::OK, "{}: {body:?}", target.name);
    assert!(body.len() > 90, "{}: {body:?}", target.name);
    took
}
