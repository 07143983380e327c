//! A compute whose only content is a scripted HTTP peer, for tests of the client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{Compute, ComputeRecord, EngineError, Process, ProcessSpec, SessionStream};

/// Answers every request with the same bytes.
#[derive(Clone)]
pub(crate) struct Peer(Arc<State>);

struct State {
    answer: &'static str,
    close_after: bool,
    hang_up: AtomicBool,
    connections: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

impl Peer {
    pub(crate) fn answering(answer: &'static str) -> Self {
        Self::with(answer, false)
    }

    pub(crate) fn closing(answer: &'static str) -> Self {
        Self::with(answer, true)
    }

    fn with(answer: &'static str, close_after: bool) -> Self {
        Self(Arc::new(State {
            answer,
            close_after,
            hang_up: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            requests: Mutex::default(),
        }))
    }

    pub(crate) fn hang_up_on_next(&self) {
        self.0.hang_up.store(true, Ordering::SeqCst);
    }

    pub(crate) fn connections(&self) -> usize {
        self.0.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.0.requests.lock().clone()
    }

    async fn serve(self, mut stream: DuplexStream) {
        self.0.connections.fetch_add(1, Ordering::SeqCst);
        let mut seen = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
            seen.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&seen).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: "));
            if body.len() < length.map_or(0, |l| l.parse().unwrap()) {
                continue;
            }
            seen.clear();
            self.0.requests.lock().push(text);
            if self.0.hang_up.swap(false, Ordering::SeqCst) {
                return;
            }
            if stream.write_all(self.0.answer.as_bytes()).await.is_err() || self.0.close_after {
                return;
            }
        }
    }
}

/// A compute with the peer on port 8080.
pub(crate) struct PeerCompute {
    peer: Peer,
    address: Option<SocketAddr>,
}

impl PeerCompute {
    pub(crate) fn new(peer: Peer) -> Self {
        Self { peer, address: None }
    }

    /// Whose agent is a real socket.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { peer: Peer::answering(""), address: Some(address) }
    }
}

impl Compute for PeerCompute {
    fn record(&self) -> ComputeRecord {
        ComputeRecord(String::new())
    }

    fn mount_storage(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async { Ok(()) })
    }

    fn connect(&self, port: u16) -> BoxFuture<'_, Result<SessionStream, EngineError>> {
        Box::pin(async move {
            if port != 8080 {
                return Err(EngineError::Refused { port });
            }
            if let Some(address) = self.address {
                return Ok(SessionStream::Tcp(TcpStream::connect(address).await.unwrap()));
            }
            let (ours, theirs) = tokio::io::duplex(64 * 1024);
            tokio::spawn(self.peer.clone().serve(theirs));
            Ok(SessionStream::Memory(ours))
        })
    }

    fn spawn(&self, _spec: ProcessSpec) -> BoxFuture<'_, Result<Process, EngineError>> {
        Box::pin(async { Err(EngineError::Gone) })
    }

    fn terminate(&self, _grace: Duration) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async { Ok(()) })
    }

    fn gone(&self) -> watch::Receiver<bool> {
        watch::channel(false).1
    }
}
