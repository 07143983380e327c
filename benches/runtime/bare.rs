//! A proxy of the emulator's own HTTP library that carries the same messages and does nothing else: its distance to
//! haproxy is that of the library and of what the service's contract adds to a call, and the distance of the emulator
//! to it is the emulator's.
//!
//! The messages are those of the service: a path with an ARN in it comes in, and `/invocations` with four headers of
//! the service goes to the agent; three come back to the caller. As quick as that library allows: a thread for each processor, each with its own connections, and for each
//! caller a connection to the agent that is there already.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};

/// As long as what the emulator makes.
const REQUEST_ID: &str = "0a1b2c3d-0000-4000-8000-0123456789ab";
const TRACE_ID: &str = "Root=1-0a1b2c3d-000040008000012345678900";
const SESSION_ID: &str = "bench-session-00000000000000000000000000000000";
const BAGGAGE: &str = "session.id=bench-session-00000000000000000000000000000000";

fn add(headers: &mut HeaderMap, name: &'static str, value: &'static str) {
    headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
}

fn add_ids(headers: &mut HeaderMap) {
    add(headers, "x-amzn-requestid", REQUEST_ID);
    add(headers, "x-amzn-trace-id", TRACE_ID);
    add(headers, "x-amzn-bedrock-agentcore-runtime-session-id", SESSION_ID);
}

/// Passes what comes to `front` on to `agent` until the process is ended.
pub fn serve(front: SocketAddr, agent: SocketAddr) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let lanes: Vec<Handle> = (0..threads)
        .map(|_| {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let handle = runtime.handle().clone();
            std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
            handle
        })
        .collect();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(front).await.unwrap();
        for lane in lanes.iter().cycle() {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let stream = stream.into_std().unwrap();
            lane.spawn(async move { pass(TcpStream::from_std(stream).unwrap(), agent).await });
        }
    });
}

async fn pass(caller: TcpStream, agent: SocketAddr) {
    let stream = TcpStream::connect(agent).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move {
        // An error shows at the call that it breaks.
        let _ = connection.await;
    });
    let sender = std::sync::Arc::new(tokio::sync::Mutex::new(sender));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            *request.uri_mut() = Uri::from_static("/invocations");
            add_ids(request.headers_mut());
            add(request.headers_mut(), "baggage", BAGGAGE);
            let mut sender = sender.lock().await;
            sender.ready().await.unwrap();
            let mut answer: Response<Incoming> = sender.send_request(request).await.unwrap();
            add_ids(answer.headers_mut());
            Ok::<_, Infallible>(answer.map(|body| body.boxed()))
        }
    });
    // A caller that leaves is no matter of the proxy's.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(caller), service).await;
}
