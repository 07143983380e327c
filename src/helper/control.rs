//! A line that is read and written in turns, and waits: between the processes that make a session.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::link::{Inbox, LinkError, Outbox, Received};

/// One end of a line that is read and written in turns.
pub struct Control {
    socket: OwnedFd,
    inbox: Inbox,
}

impl Control {
    /// Over a blocking socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, inbox: Inbox::default() }
    }

    /// Both ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = UnixStream::pair()?;
        Ok((Self::new(one.into()), Self::new(other.into())))
    }

    /// Sends a message.
    pub fn send(&mut self, message: &impl Serialize, fds: Vec<OwnedFd>) -> Result<(), LinkError> {
        let mut outbox = Outbox::default();
        outbox.push(message, fds)?;
        while !outbox.flush(&self.socket)? {}
        Ok(())
    }

    /// Waits for a message; nothing when the other end has gone.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<OwnedFd>)>, LinkError> {
        loop {
            if let Some(message) = self.inbox.take()? {
                return Ok(Some(message));
            }
            if self.inbox.receive(&self.socket)? == Received::End {
                return Ok(None);
            }
        }
    }

    /// True when the other end is still there.
    pub fn connected(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }

    /// The socket, when no message was begun.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }
}
