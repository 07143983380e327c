//! HTTP to the domain and back: the AWS API on loopback, the admin plane on a UNIX socket.
//!
//! Knows the wire and the emulator's facade; knows nothing of engines or of how storage is kept. The
//! meaning of every domain error in HTTP stands in [`errors`] alone, and who may speak to us in [`guard`].

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use http::header::HeaderValue;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use self::peer::Peer;
use self::quiet::Quiet;
use self::slots::{Slot, Slots};
use crate::emulator::Emulator;
use crate::model::AccessKey;
use crate::wire::error::{AwsError, ErrorKind};

pub mod admin;
pub mod control;
pub mod data;
pub mod errors;
mod guard;
mod headers;
mod peer;
mod quiet;
mod signature;
mod slots;

/// Longest wait for a request's head on an open connection. [ours]
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest wait for a whole JSON body: what is sent to the control plane, and commands. Payloads of invocations
/// are bounded by the time the agent has for its answer. [ours: 1 MiB, even through a slow tunnel]
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes a connection may buffer for a request's head, and of what is on its way. More headers than 100 are
/// refused by the HTTP library itself. [ours: the service's largest header set fits many times]
const HEAD_BYTES: usize = 64 * 1024;
/// Longest wait for a request that is answered with "too many connections". [ours]
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after a failed accept (no more file descriptors): the next try at once would only burn a core. [ours]
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Longest wait for open connections after every session has been stopped. [ours]
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Serves both AWS planes on `aws`, other users of the machine by `key` alone, and the admin plane on `admin` until `shutdown` resolves or the
/// admin plane is told to shut down; then stops every session with grace.
pub async fn serve(
    emulator: Arc<Emulator>,
    aws: TcpListener,
    admin: UnixListener,
    key: AccessKey,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let endpoint = format!("http://{}", aws.local_addr()?);
    let (stop, stopped) = watch::channel(false);
    let connections = TaskTracker::new();
    let planes = [
        tokio::spawn(accept(
            Listener::Tcp(aws),
            aws_router(emulator.clone(), key),
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

/// Both AWS planes, behind the guard.
fn aws_router(emulator: Arc<Emulator>, key: AccessKey) -> Router {
    control::routes()
        .merge(data::routes())
        .fallback(unknown_operation)
        .method_not_allowed_fallback(unknown_operation)
        .layer(middleware::from_fn_with_state(Arc::new(key), guard::refuse_strangers))
        .layer(middleware::from_fn(guard::refuse_pages))
        .layer(middleware::from_fn(with_request_id))
        .with_state(emulator)
}

/// Gives every request its id, and every answer the same one. [guide: x-amzn-RequestId]
async fn with_request_id(mut request: Request, next: Next) -> Response {
    let id = request_id();
    request.headers_mut().insert(headers::REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    response.headers_mut().insert(headers::REQUEST_ID, id);
    response
}

/// A request id of the service's form, a version 4 UUID: a count under a keyed hash that is chosen anew in each
/// process. Nobody must be unable to guess it, so it needs no system call for randomness.
fn request_id() -> HeaderValue {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let id = uuid::Uuid::from_u64_pair(KEY.hash_one((count, 0_u8)), KEY.hash_one((count, 1_u8)));
    let id = uuid::Builder::from_u128(id.as_u128()).with_version(uuid::Version::Random);
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = id.with_variant(uuid::Variant::RFC4122).into_uuid().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("-"))
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
    let path = guard::short(path);
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
    let slots = Slots::new();
    loop {
        match &listener {
            Listener::Tcp(tcp) => match tcp.accept().await {
                Ok((stream, client)) => {
                    // Small answers must not wait for the client's acknowledgement of earlier ones.
                    let _ = stream.set_nodelay(true);
                    let server = stream.local_addr();
                    let peer = server.map_or(Peer::Stranger, |server| Peer::of(client, server));
                    match slots.take(peer) {
                        Slot::Served(slot) => {
                            let served = serve_connection(stream, peer, router.clone(), stopped.clone());
                            connections.spawn(async move {
                                served.await;
                                drop(slot);
                            });
                        }
                        Slot::Refused(slot) => {
                            connections.spawn(async move {
                                refuse_connection(stream).await;
                                drop(slot);
                            });
                        }
                        Slot::Dropped => {}
                    }
                }
                Err(error) => pause(error).await,
            },
            Listener::Unix(unix) => match unix.accept().await {
                Ok((stream, _)) => {
                    // Only the owner may open the socket's file.
                    connections.spawn(serve_connection(stream, Peer::Owner, router.clone(), stopped.clone()));
                }
                Err(error) => pause(error).await,
            },
        }
    }
}

/// Answers one request with "too many connections".
async fn refuse_connection(stream: TcpStream) {
    let service = service_fn(|_: http::Request<Incoming>| async {
        let message = "Too many connections are open to the emulator: close some, or try again";
        Ok::<_, Infallible>(errors::respond_error(&AwsError::new(ErrorKind::Throttling, message)))
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(REFUSAL_TIMEOUT).keep_alive(false);
    let answered = http.serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, answered).await;
}

async fn pause(error: io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn serve_connection<S>(stream: S, peer: Peer, router: Router, mut stopped: watch::Receiver<bool>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::pin!(connection);
    let mut quiet = Quiet::default();
    let stop = stopped.wait_for(|stop| *stop);
    tokio::pin!(stop);
    let ended = poll_fn(|cx| {
        // A client that goes away or breaks the protocol is its own affair.
        if quiet.poll(connection.as_mut(), cx).is_ready() {
            return Poll::Ready(true);
        }
        stop.as_mut().poll(cx).map(|_| false)
    });
    if !ended.await {
        connection.as_mut().graceful_shutdown();
        let _ = poll_fn(|cx| quiet.poll(connection.as_mut(), cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn request_ids_are_random_uuids_and_never_the_same() {
        let ids: HashSet<String> = (0..1000).map(|_| request_id().to_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let uuid: uuid::Uuid = id.parse().unwrap();
            assert_eq!(uuid.get_version(), Some(uuid::Version::Random), "{id}");
            assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122, "{id}");
            assert_eq!(uuid.to_string(), id);
        }
    }
}
