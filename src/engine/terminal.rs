//! The emulator's side of a terminal of a session, handed out by the session's helper.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use super::embedded::watched;
use super::{TerminalSize, TerminalWindow};

/// Our side of a terminal.
pub(super) struct Side {
    fd: AsyncFd<OwnedFd>,
}

impl Side {
    /// Over the descriptor that the helper handed out.
    pub(super) fn new(master: OwnedFd) -> io::Result<Arc<Self>> {
        let flags = OFlag::from_bits_retain(fcntl(&master, FcntlArg::F_GETFL)?);
        fcntl(&master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Arc::new(Self { fd: watched(master, Interest::READABLE | Interest::WRITABLE)? }))
    }
}

/// Reads, writes and measures a terminal.
pub(super) struct Typed(Arc<Side>);

impl Typed {
    /// One more user of it.
    pub(super) fn on(side: &Arc<Side>) -> Self {
        Self(side.clone())
    }
}

impl AsyncRead for Typed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = std::task::ready!(self.0.fd.poll_read_ready(cx))?;
            let free = buf.initialize_unfilled();
            match ready.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), free)?)) {
                Ok(Ok(count)) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // So the kernel says that no process has the terminal any more.
                Ok(Err(e)) if e.raw_os_error() == Some(nix::libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for Typed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = std::task::ready!(self.0.fd.poll_write_ready(cx))?;
            match ready.try_io(|fd| Ok(nix::unistd::write(fd.get_ref(), bytes)?)) {
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return Poll::Ready(written),
                Err(_) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TerminalWindow for Typed {
    fn resize(&self, size: TerminalSize) -> io::Result<()> {
        crate::helper::terminal::resize(self.0.fd.get_ref(), size.width, size.height)
    }
}
