//! Messages with file descriptors over a UNIX stream socket, for both ends and without waiting.
//!
//! A message is four bytes of length (big endian), one byte that says how many descriptors belong to it,
//! and the JSON value. Its descriptors travel with its first byte: the kernel never merges the
//! descriptors of two sends into one receive, so they arrive in the order of their messages.

// Descriptors out of SCM_RIGHTS arrive as bare numbers; taking them over needs `unsafe`.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::proto::{MAX_MESSAGE_BYTES, MAX_MESSAGE_FDS};

const HEADER: usize = 5;
const READ_BYTES: usize = 16 * 1024;

/// Why a link is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other side sent what is not a message.
    #[error("a malformed message: {0}")]
    Malformed(String),
    /// A message is larger than the other side takes.
    #[error("a message of {0} bytes is too large")]
    TooLarge(usize),
    /// The socket.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Takes messages out of a socket.
#[derive(Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

/// What one receive brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Some bytes.
    Some,
    /// Nothing now.
    Nothing,
    /// The other side has gone.
    End,
}

impl Inbox {
    /// Receives once from `socket`.
    pub fn receive(&mut self, socket: impl AsFd) -> Result<Received, LinkError> {
        let mut chunk = [0u8; READ_BYTES];
        let mut space = nix::cmsg_space!([RawFd; MAX_MESSAGE_FDS]);
        let (count, fds) = {
            let mut parts = [IoSliceMut::new(&mut chunk)];
            let fd = socket.as_fd().as_raw_fd();
            let message = match recvmsg::<()>(fd, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
                Ok(message) => message,
                Err(Errno::EAGAIN) => return Ok(Received::Nothing),
                Err(Errno::EINTR) => return Ok(Received::Some),
                Err(Errno::ECONNRESET) => return Ok(Received::End),
                Err(e) => return Err(io::Error::from(e).into()),
            };
            let mut fds = Vec::new();
            let control = message.cmsgs().map_err(|_| LinkError::Malformed("too many descriptors".into()))?;
            for part in control {
                if let ControlMessageOwned::ScmRights(numbers) = part {
                    // SAFETY: the kernel has just opened these descriptors for this process and nobody
                    // else knows their numbers; each is taken over exactly once.
                    fds.extend(numbers.into_iter().map(|n| unsafe { OwnedFd::from_raw_fd(n) }));
                }
            }
            (message.bytes, fds)
        };
        self.fds.extend(fds);
        if count == 0 {
            return Ok(Received::End);
        }
        self.bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
        Ok(Received::Some)
    }

    /// The next whole message and its descriptors.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<OwnedFd>)>, LinkError> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [a, b, c, d, fds] = *head;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let fds = usize::from(fds);
        if length > MAX_MESSAGE_BYTES || fds > MAX_MESSAGE_FDS {
            return Err(LinkError::Malformed(format!("{length} bytes and {fds} descriptors announced")));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let value = serde_json::from_slice(body).map_err(|e| LinkError::Malformed(e.to_string()))?;
        if self.fds.len() < fds {
            return Err(LinkError::Malformed("its descriptors are missing".into()));
        }
        let fds = self.fds.drain(..fds).collect();
        self.bytes.drain(..HEADER + length);
        Ok(Some((value, fds)))
    }
}

/// Puts messages into a socket.
#[derive(Default)]
pub struct Outbox {
    queue: VecDeque<Parcel>,
    bytes: usize,
}

struct Parcel {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

impl Outbox {
    /// Queues a message.
    pub fn push(&mut self, message: &impl Serialize, fds: Vec<OwnedFd>) -> Result<(), LinkError> {
        let mut bytes = vec![0u8; HEADER];
        serde_json::to_writer(&mut bytes, message).map_err(io::Error::from)?;
        let length = bytes.len() - HEADER;
        if length > MAX_MESSAGE_BYTES || fds.len() > MAX_MESSAGE_FDS {
            return Err(LinkError::TooLarge(length));
        }
        // Both fit: they were compared with small constants.
        let length_field = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        let count = u8::try_from(fds.len()).unwrap_or(u8::MAX);
        for (slot, byte) in bytes.iter_mut().zip(length_field.into_iter().chain([count])) {
            *slot = byte;
        }
        self.bytes += bytes.len();
        self.queue.push_back(Parcel { bytes, sent: 0, fds });
        Ok(())
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How much waits.
    pub fn unsent_bytes(&self) -> usize {
        self.bytes
    }

    /// Sends what `socket` takes now. True when nothing is left.
    pub fn flush(&mut self, socket: impl AsFd) -> Result<bool, LinkError> {
        let socket = socket.as_fd().as_raw_fd();
        while let Some(parcel) = self.queue.front_mut() {
            let rest = parcel.bytes.get(parcel.sent..).unwrap_or_default();
            let numbers: Vec<RawFd> = parcel.fds.iter().map(AsRawFd::as_raw_fd).collect();
            let rights = [ControlMessage::ScmRights(&numbers)];
            let control: &[ControlMessage] = if numbers.is_empty() { &[] } else { &rights };
            match sendmsg::<()>(socket, &[IoSlice::new(rest)], control, MsgFlags::MSG_NOSIGNAL, None) {
                Ok(count) => {
                    parcel.sent += count;
                    parcel.fds.clear();
                    self.bytes -= count;
                    if parcel.sent >= parcel.bytes.len() {
                        self.queue.pop_front();
                    }
                }
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(io::Error::from(e).into()),
            }
        }
        Ok(true)
    }
}

/// How many bytes lie in a pipe and have not been read.
pub fn unread(pipe: impl AsFd) -> io::Result<u64> {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the call writes one live integer and nothing else.
    let done = unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(u64::try_from(count).unwrap_or(0)) }
}

/// True when nobody has the other side of a socket any more: its end was not only one of writing.
pub fn hung_up(socket: impl AsFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::helper::proto::Request;

    fn receive_all(inbox: &mut Inbox, socket: &UnixStream) -> Received {
        loop {
            match inbox.receive(socket).unwrap() {
                Received::Some => {}
                end => return end,
            }
        }
    }

    #[test]
    fn messages_arrive_whole_with_their_own_descriptors() {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        there.set_nonblocking(true).unwrap();
        let mut outbox = Outbox::default();
        let mut inbox = Inbox::default();
        let mut readers = Vec::new();
        for id in 0..20u64 {
            let (read, write) = std::io::pipe().unwrap();
            let fds = if id % 3 == 0 { vec![] } else { vec![OwnedFd::from(write)] };
            readers.push(read);
            let environment = vec![("k".to_owned(), "v".repeat(40_000))];
            let argv = vec![id.to_string()];
            let request = Request::Spawn { id, argv, environment, working_directory: "/".into(), user: None };
            outbox.push(&request, fds).unwrap();
        }
        let mut seen = 0u64;
        while seen < 20 {
            outbox.flush(&here).unwrap();
            receive_all(&mut inbox, &there);
            while let Some((request, fds)) = inbox.take::<Request>().unwrap() {
                let Request::Spawn { id, argv, .. } = request else { panic!("another request") };
                assert_eq!(id, seen);
                assert_eq!(argv, [id.to_string()]);
                assert_eq!(fds.len(), usize::from(id % 3 != 0));
                for fd in fds {
                    std::fs::File::from(fd).write_all(id.to_string().as_bytes()).unwrap();
                    let said = std::io::read_to_string(&mut readers[usize::try_from(id).unwrap()]).unwrap();
                    assert_eq!(said, id.to_string(), "the descriptor of another message");
                }
                seen += 1;
            }
        }
        assert!(outbox.is_empty());
        assert_eq!(outbox.unsent_bytes(), 0);
        drop(here);
        assert_eq!(receive_all(&mut inbox, &there), Received::End);
    }

    #[test]
    fn what_is_not_a_message_is_refused() {
        let cases: [&[u8]; 4] = [
            b"\x7f\xff\xff\xff\x00",
            b"\x00\x00\x00\x02\xff{}",
            b"\x00\x00\x00\x04\x00null",
            b"\x00\x00\x00\x27\x01{\"kind\":\"connect\",\"id\":1,\"port\":8080}  ",
        ];
        for case in cases {
            let (mut here, there) = UnixStream::pair().unwrap();
            here.write_all(case).unwrap();
            let mut inbox = Inbox::default();
            inbox.receive(&there).unwrap();
            let next = inbox.take::<Request>();
            assert!(matches!(next, Err(LinkError::Malformed(_))), "{case:?}: {next:?}");
        }
    }

    #[test]
    fn what_lies_in_a_pipe_is_counted_and_a_closed_socket_is_told_from_an_ended_one() {
        let (read, mut write) = std::io::pipe().unwrap();
        assert_eq!(unread(&read).unwrap(), 0);
        write.write_all(b"words").unwrap();
        assert_eq!(unread(&read).unwrap(), 5);
        let (here, there) = UnixStream::pair().unwrap();
        there.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(!hung_up(&here));
        drop(there);
        assert!(hung_up(&here));
    }

    #[test]
    fn a_message_above_the_limit_is_not_sent() {
        let mut outbox = Outbox::default();
        let argv = vec!["x".repeat(MAX_MESSAGE_BYTES)];
        let request =
            Request::Spawn { id: 1, argv, environment: vec![], working_directory: String::new(), user: None };
        assert!(matches!(outbox.push(&request, vec![]), Err(LinkError::TooLarge(_))));
        assert!(outbox.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_messages_or_refused(
            pieces in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40), 0..8),
            whole in 0_usize..3,
        ) {
            let (mut here, there) = UnixStream::pair().unwrap();
            there.set_nonblocking(true).unwrap();
            let mut good = Outbox::default();
            for id in 0..whole {
                good.push(&Request::MountStorage { id: id as u64 }, Vec::new()).unwrap();
            }
            good.flush(&here).unwrap();
            let mut inbox = Inbox::default();
            let mut taken = 0;
            for piece in std::iter::once(Vec::new()).chain(pieces) {
                here.write_all(&piece).unwrap();
                receive_all(&mut inbox, &there);
                while let Ok(Some((_, fds))) = inbox.take::<Request>() {
                    proptest::prop_assert!(fds.is_empty());
                    taken += 1;
                }
            }
            // What was whole before the garbage was taken; garbage never holds more than one message's bound.
            proptest::prop_assert!(taken >= whole);
            proptest::prop_assert!(inbox.bytes.len() <= MAX_MESSAGE_BYTES + HEADER);
        }
    }
}
