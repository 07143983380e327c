//! HTTP to the domain and back: the AWS API on loopback, the admin plane on a UNIX socket.
//!
//! Knows the wire and the emulator's facade; knows nothing of engines or of how storage is kept. The
//! meaning of every domain error in HTTP stands in [`errors`] alone, and who may speak to us in [`guard`].

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use self::lanes::Lanes;
use self::peer::Peer;
use self::planes::{Caller, Planes};
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
mod lanes;
mod peer;
mod planes;
mod quiet;
mod shell;
mod signature;
mod slots;
mod unread;

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
    let planes = Arc::new(Planes::new(emulator.clone(), key));
    let router = admin::router(emulator.clone(), endpoint, stop.clone());
    let lanes = Lanes::start(connections.clone())?;
    let listeners = [
        tokio::spawn(accept_aws(aws, planes, lanes, stopped.clone())),
        tokio::spawn(accept_admin(admin, router, stopped.clone(), connections.clone())),
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
    for listener in listeners {
        listener.abort();
    }
    Ok(())
}

/// Accepts connections of the AWS planes and gives each to a lane.
async fn accept_aws(
    listener: TcpListener,
    planes: Arc<Planes>,
    lanes: Lanes,
    stopped: watch::Receiver<bool>,
) {
    let slots = Slots::new();
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                pause(error).await;
                continue;
            }
        };
        // Small answers must not wait for the client's acknowledgement of earlier ones.
        let _ = stream.set_nodelay(true);
        let server = stream.local_addr();
        let peer = server.map_or(Peer::Stranger, |server| Peer::of(client, server));
        let slot = slots.take(peer);
        // From this thread's runtime to the lane's.
        let Ok(stream) = stream.into_std() else { continue };
        match slot {
            Slot::Served(slot) => {
                let (planes, stopped) = (planes.clone(), stopped.clone());
                lanes.spawn(async move {
                    let Ok(stream) = TcpStream::from_std(stream) else { return };
                    let served = Arc::new((planes, Caller::new(peer)));
                    let service = service_fn(move |request| {
                        let served = served.clone();
                        async move { Ok::<_, Infallible>(served.0.answer(&served.1, request).await) }
                    });
                    serve_connection(stream, service, stopped).boxed().await;
                    drop(slot);
                });
            }
            Slot::Refused(slot) => lanes.spawn(async move {
                let Ok(stream) = TcpStream::from_std(stream) else { return };
                refuse_connection(stream).await;
                drop(slot);
            }),
            Slot::Dropped => {}
        }
    }
}

/// Accepts connections of the admin plane. Only the owner may open the socket's file.
async fn accept_admin(
    listener: UnixListener,
    router: Router,
    stopped: watch::Receiver<bool>,
    connections: TaskTracker,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = TowerToHyperService::new(router.clone());
                connections.spawn(serve_connection(stream, service, stopped.clone()));
            }
            Err(error) => pause(error).await,
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

async fn serve_connection<S, V>(stream: S, service: V, mut stopped: watch::Receiver<bool>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    V: Service<http::Request<Incoming>, Response = Response, Error = Infallible>,
{
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
