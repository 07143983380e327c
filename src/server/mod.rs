//! HTTP to the domain and back: the AWS API on loopback, the admin plane on a UNIX socket.
//!
//! Knows the wire and the emulator's facade; knows nothing of engines or of how storage is kept. The
//! meaning of every domain error in HTTP stands in [`errors`] alone, and who may speak to us in [`guard`].

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use http::header::HeaderValue;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::emulator::Emulator;
use crate::wire::error::{AwsError, ErrorKind};

pub mod admin;
pub mod control;
pub mod data;
pub(crate) mod errors;
mod guard;
mod headers;

/// Longest wait for a request's head on an open connection. [ours]
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes a connection may buffer for a request's head. [ours: the service's largest header set fits many times]
const HEAD_BYTES: usize = 64 * 1024;
/// Pause after a failed accept (no more file descriptors): the next try at once would only burn a core. [ours]
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Longest wait for open connections after every session has been stopped. [ours]
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Serves both AWS planes on `aws` and the admin plane on `admin` until `shutdown` resolves or the
/// admin plane is told to shut down; then stops every session with grace.
pub async fn serve(
    emulator: Arc<Emulator>,
    aws: TcpListener,
    admin: UnixListener,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let endpoint = format!("http://{}", aws.local_addr()?);
    let (stop, stopped) = watch::channel(false);
    let connections = TaskTracker::new();
    let planes = [
        tokio::spawn(accept(
            Listener::Tcp(aws),
            aws_router(emulator.clone()),
            stopped.clone(),
            connections.clone(),
        )),
        tokio::spawn(accept(
            Listener::Unix(admin),
            admin::router(emulator.clone(), endpoint, stop.clone()),
            stopped.clone(),
            connections.clone(),
        )),
    ];
    let mut asked = stopped;
    tokio::select! {
        () = shutdown => {}
        _ = asked.wait_for(|stop| *stop) => {}
    }
    // First the sessions: their streams end with an error that a client can read. Then the connections.
    emulator.shutdown().await;
    stop.send_replace(true);
    connections.close();
    let _ = tokio::time::timeout(DRAIN_LIMIT, connections.wait()).await;
    for plane in planes {
        plane.abort();
    }
    Ok(())
}

/// Both AWS planes.
pub fn aws_router(emulator: Arc<Emulator>) -> Router {
    control::routes()
        .merge(data::routes())
        .fallback(unknown_operation)
        .method_not_allowed_fallback(unknown_operation)
        .layer(middleware::from_fn(guard::refuse_pages))
        .layer(middleware::from_fn(with_request_id))
        .with_state(emulator)
}

/// Gives every request its id, and every answer the same one. [guide: x-amzn-RequestId]
async fn with_request_id(mut request: Request, next: Next) -> Response {
    let id = uuid::Uuid::new_v4().to_string();
    let id = HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("-"));
    request.headers_mut().insert(headers::REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    response.headers_mut().insert(headers::REQUEST_ID, id);
    response
}

/// An operation that the emulator does not have, named by its method and path.
async fn unknown_operation(request: Request) -> Response {
    let path = request.uri().path();
    let operation = match path.rsplit('/').next() {
        Some("ws") => "InvokeAgentRuntimeWithWebSocketStream",
        Some("shells") => "InvokeAgentRuntimeCommandShell",
        Some("agent-card.json") => "GetAgentCard",
        _ => "this operation",
    };
    let message = format!("{operation} ({} {path}) is not available in this emulator", request.method());
    errors::respond_error(&AwsError::new(ErrorKind::UnknownOperation, message))
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

async fn accept(
    listener: Listener,
    router: Router,
    stopped: watch::Receiver<bool>,
    connections: TaskTracker,
) {
    loop {
        match &listener {
            Listener::Tcp(tcp) => match tcp.accept().await {
                Ok((stream, _)) => {
                    // Small answers must not wait for the client's acknowledgement of earlier ones.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(serve_connection(stream, router.clone(), stopped.clone()));
                }
                Err(error) => pause(error).await,
            },
            Listener::Unix(unix) => match unix.accept().await {
                Ok((stream, _)) => {
                    connections.spawn(serve_connection(stream, router.clone(), stopped.clone()));
                }
                Err(error) => pause(error).await,
            },
        }
    }
}

async fn pause(error: io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn serve_connection<S>(stream: S, router: Router, mut stopped: watch::Receiver<bool>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        // A client that goes away or breaks the protocol is its own affair.
        _ = connection.as_mut() => return,
        _ = stopped.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
