//! Who listens on a port of this machine's loopback: a process of this session, or somebody else.
//!
//! A session without a network of its own shares the ports with everybody. Its agent is known by the socket that
//! listens there: one of the session's processes has it open.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use super::tree;

/// State of a socket that listens. [include/net/tcp_states.h]
const LISTEN: &str = "0A";

/// Who listens on the ports that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A process of this session, on this port.
    Own(u16),
    /// Somebody else alone, on this port.
    Stranger(u16),
    /// Nobody.
    Nobody,
}

/// A socket that listens where a connection to 127.0.0.1 arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listener {
    port: u16,
    inode: u64,
    /// Listeners on exactly the address come before those on all addresses.
    exact: bool,
}

/// Looks at the ports, the first that the session listens on wins. A stranger counts on the last port only: the
/// others were given to the session, and who sits there has only kept its agent from using them.
pub(super) fn find(ports: &[u16]) -> Found {
    let table = |name: &str| std::fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default();
    let listeners = parse(&table("tcp"), &table("tcp6"));
    if !listeners.iter().any(|listener| ports.contains(&listener.port)) {
        return Found::Nobody;
    }
    judge(&listeners, ports, &sockets())
}

fn judge(listeners: &[Listener], ports: &[u16], own: &HashSet<u64>) -> Found {
    let at = |port: u16| {
        let here = || listeners.iter().filter(move |listener| listener.port == port);
        let exact = here().any(|listener| listener.exact);
        here().filter(move |listener| listener.exact == exact)
    };
    let is_own = |port: &&u16| at(**port).next().is_some() && at(**port).all(|l| own.contains(&l.inode));
    match (ports.iter().find(is_own), ports.last()) {
        (Some(port), _) => Found::Own(*port),
        (None, Some(port)) if at(*port).next().is_some() => Found::Stranger(*port),
        _ => Found::Nobody,
    }
}

/// The sockets that processes of this session have open.
fn sockets() -> HashSet<u64> {
    let mut found = HashSet::new();
    for pid in tree::members() {
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(target) = std::fs::read_link(entry.path()) else { continue };
            let inode: Option<u64> =
                target.to_str().and_then(|t| t.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            found.extend(inode);
        }
    }
    found
}

fn parse(tcp: &str, tcp6: &str) -> Vec<Listener> {
    tcp.lines().chain(tcp6.lines()).filter_map(parse_line).collect()
}

/// A line of `/proc/net/tcp` or `tcp6`: number, local address, remote address, state, …, inode tenth.
fn parse_line(line: &str) -> Option<Listener> {
    let mut fields = line.split_ascii_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    let inode = fields.nth(5)?.parse().ok()?;
    // Words of four bytes, each as the processor has it in memory.
    let words: Option<Vec<u32>> = (0..address.len() / 8)
        .map(|at| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok())
        .collect();
    let words = words?;
    let loopback = u32::from_ne_bytes(Ipv4Addr::LOCALHOST.octets());
    let mapped = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
    let exact = match words.as_slice() {
        [word] if *word == loopback => true,
        [0, 0, prefix, word] if *prefix == mapped && *word == loopback => true,
        [0] | [0, 0, 0, 0] => false,
        [0, 0, prefix, 0] if *prefix == mapped => false,
        _ => return None,
    };
    Some(Listener { port, inode, exact })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn listeners_on_the_loopback_are_read_from_both_tables() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 71 1 0\n   \
                   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 72 1 0\n   \
                   2: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 73 1 0\n   \
                   3: 0200A8C0:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 74 1 0\n";
        let tcp6 = "   0: 00000000000000000000000000000000:1F40 00000000000000000000000000000000:0000 0A 00000000:00000000 \
                    00:00000000 00000000     0        0 75 1 0\n   \
                    1: 0000000000000000FFFF00000100007F:1F40 00000000000000000000000000000000:0000 0A 00000000:00000000 \
                    00:00000000 00000000     0        0 76 1 0\n   \
                    2: 00000000000000000000000001000000:1F40 00000000000000000000000000000000:0000 0A 00000000:00000000 \
                    00:00000000 00000000     0        0 77 1 0\n\nx: y z\n";
        let listener = |port, inode, exact| Listener { port, inode, exact };
        assert_eq!(
            parse(tcp, tcp6),
            [
                listener(8080, 71, true),
                listener(8080, 72, false),
                listener(8000, 75, false),
                listener(8000, 76, true)
            ]
        );
    }

    #[test]
    fn the_sessions_own_port_wins_and_strangers_are_seen_on_the_agents_port_only() {
        let listener = |port, inode, exact| Listener { port, inode, exact };
        let all = [listener(8080, 1, false), listener(61000, 2, true)];
        let own = |inodes: &[u64]| inodes.iter().copied().collect::<HashSet<u64>>();
        assert_eq!(judge(&all, &[61000, 8080], &own(&[1, 2])), Found::Own(61000));
        assert_eq!(judge(&all, &[61000, 8080], &own(&[1])), Found::Own(8080));
        assert_eq!(judge(&all, &[61000, 8080], &own(&[])), Found::Stranger(8080));
        assert_eq!(judge(&all[1..], &[61000, 8080], &own(&[])), Found::Nobody);
        // Whoever listens on the very address gets the connection.
        let hidden = [listener(8080, 1, false), listener(8080, 3, true)];
        assert_eq!(judge(&hidden, &[8080], &own(&[1])), Found::Stranger(8080));
        assert_eq!(judge(&hidden, &[8080], &own(&[3])), Found::Own(8080));
        // One port of two, shared by SO_REUSEPORT: nobody knows who answers.
        let shared = [listener(8080, 1, true), listener(8080, 3, true)];
        assert_eq!(judge(&shared, &[8080], &own(&[1])), Found::Stranger(8080));
    }

    #[test]
    fn a_listener_of_this_process_itself_is_a_strangers() {
        // Only what descends from this process is of the session.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(find(&[port]), Found::Stranger(port));
        drop(listener);
        assert_eq!(find(&[port]), Found::Nobody);
    }
}
