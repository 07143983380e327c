//! Whose process is at the other end of a connection from this machine.
//!
//! Asked once per connection, of the kernel's socket diagnostics (sock_diag(7)), for exactly the client's
//! socket: one message there, one back, whatever else is connected.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use nix::unistd::{Uid, geteuid};

/// Message type of a question for a socket. [sock_diag(7)]
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Flag of a message that asks. [netlink(7)]
const NLM_F_REQUEST: u16 = 1;
/// Bytes of a netlink header, of a question about a TCP socket and of the answer. [linux/inet_diag.h]
const HEADER: usize = 16;
const QUESTION: usize = 56;
const ANSWER: usize = 72;
/// Where the answer has the owner and the inode.
const UID_AT: usize = HEADER + 64;
const INODE_AT: usize = HEADER + 68;
/// TIME_WAIT, the state of what is no socket any more. [net/tcp_states.h]
const TIME_WAIT: u8 = 6;

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Whom the emulator serves: its own user, and root, who can become him.
    Owner,
    /// Another user of this machine, or somebody of whom the kernel says nothing.
    Stranger,
}

impl Peer {
    /// Who connected from `client` to `server`, an accepted socket of ours.
    pub(crate) fn of(client: SocketAddr, server: SocketAddr) -> Self {
        match owner(client, server) {
            Ok(Some(uid)) if uid == geteuid() || uid.is_root() => Self::Owner,
            Ok(_) => Self::Stranger,
            Err(error) => {
                tracing::debug!(%error, "the kernel does not tell whose connection it is");
                Self::Stranger
            }
        }
    }
}

/// The user who made the socket that is bound to `local` and connected to `remote`. None where there is no
/// such socket, or where its process has closed it: what is left of it then belongs to nobody, which the
/// kernel reports as user 0.
fn owner(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Uid>> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkSockDiag,
    )?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(netlink.as_raw_fd(), &question(local, remote), &kernel, MsgFlags::empty())?;
    // The kernel has answered before the send returns.
    let mut answer = [0; 512];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    Ok(read(answer.get(..length).unwrap_or_default()))
}

fn question(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let length = u32::try_from(HEADER + QUESTION).unwrap_or_default();
    let mut message = Vec::with_capacity(HEADER + QUESTION);
    message.extend(length.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    let family = if local.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    // Family, protocol, no extensions, padding; every state.
    message.extend([u8::try_from(family as i32).unwrap_or_default(), SockProtocol::Tcp as u8, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes());
    message.extend(local.port().to_be_bytes());
    message.extend(remote.port().to_be_bytes());
    for address in [local.ip(), remote.ip()] {
        let mut bytes = [0; 16];
        match address {
            IpAddr::V4(a) => bytes[..4].copy_from_slice(&a.octets()),
            IpAddr::V6(a) => bytes = a.octets(),
        }
        message.extend(bytes);
    }
    // Any interface; no cookie.
    message.extend(0u32.to_ne_bytes());
    message.extend([0xff; 8]);
    message
}

/// The owner that an answer names.
fn read(answer: &[u8]) -> Option<Uid> {
    let number = |at: usize| answer.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let kind = answer.get(4..6)?.try_into().ok().map(u16::from_ne_bytes)?;
    let state = *answer.get(HEADER + 1)?;
    // An error (no such socket) is of another kind, and too short.
    if kind != SOCK_DIAG_BY_FAMILY || answer.len() < HEADER + ANSWER || state == TIME_WAIT {
        return None;
    }
    // A socket that no process has open has no inode.
    if number(INODE_AT)? == 0 {
        return None;
    }
    number(UID_AT).map(Uid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair(address: &str) -> (TcpStream, SocketAddr, SocketAddr) {
        let listener = TcpListener::bind(address).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, from) = listener.accept().unwrap();
        (client, from, server.local_addr().unwrap())
    }

    #[test]
    fn the_kernel_names_the_owner_of_a_connection() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // Not every machine has IPv6.
            if TcpListener::bind(address).is_err() {
                continue;
            }
            let (_client, from, to) = pair(address);
            assert_eq!(owner(from, to).unwrap(), Some(geteuid()), "{address}");
            assert_eq!(Peer::of(from, to), Peer::Owner);
        }
    }

    #[test]
    fn a_socket_that_is_closed_is_nobodys() {
        let (client, from, to) = pair("127.0.0.1:0");
        drop(client);
        assert_eq!(owner(from, to).unwrap(), None);
        assert_eq!(Peer::of(from, to), Peer::Stranger);
        let nowhere = "127.0.0.1:1".parse().unwrap();
        assert_eq!(owner(nowhere, to).unwrap(), None);
    }
}
