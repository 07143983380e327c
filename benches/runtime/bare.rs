//! A proxy of the emulator's own HTTP library with nothing in it: what is left of its distance to haproxy is the
//! library's, and the distance of the emulator to it is the emulator's.
//!
//! As quick as that library allows: a thread for each processor, each with its own connections, and for each
//! caller a connection to the agent that is there already.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};

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
    let service = service_fn(move |request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            let mut sender = sender.lock().await;
            sender.ready().await.unwrap();
            let answer: Response<Incoming> = sender.send_request(request).await.unwrap();
            Ok::<_, Infallible>(answer.map(|body| body.boxed()))
        }
    });
    // A caller that leaves is no matter of the proxy's.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(caller), service).await;
}
