//! Which addresses a session may reach through the proxy.
//!
//! Refused is what is this machine: loopback, every address of its interfaces, and the link-local addresses, where
//! clouds keep the credentials of the machine itself. All else is allowed, private networks too: models and
//! package registries of a company are there. A name is judged by what it resolves to here, and the connection
//! goes to the address that was judged, so a name that changes its mind in between (DNS rebinding) gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use nix::ifaddrs::getifaddrs;

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 127.0.0.0/8, ::1.
    #[error("a loopback address")]
    Loopback,
    /// 0.0.0.0/8, ::, which lead to loopback.
    #[error("an unspecified address")]
    Unspecified,
    /// 169.254.0.0/16, fe80::/10.
    #[error("a link-local address")]
    LinkLocal,
    /// fd00:ec2::/32.
    #[error("an address of a cloud's metadata service")]
    Metadata,
    /// 224.0.0.0/4, ff00::/8.
    #[error("a multicast address")]
    Multicast,
    /// 240.0.0.0/4, the broadcast address among them.
    #[error("a reserved address")]
    Reserved,
    /// Of an interface of this machine.
    #[error("an address of the machine that the emulator runs on")]
    OwnMachine,
}

/// Decides about addresses.
#[derive(Clone)]
pub struct Policy {
    decide: Arc<dyn Fn(IpAddr) -> Option<Refusal> + Send + Sync>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { decide: Arc::new(|address| by_kind(address).or_else(|| own_machine(address))) }
    }
}

impl Policy {
    /// Another decision, for tests whose servers can only be on loopback.
    #[cfg(test)]
    pub(super) fn deciding(decide: impl Fn(IpAddr) -> Option<Refusal> + Send + Sync + 'static) -> Self {
        Self { decide: Arc::new(decide) }
    }

    /// The addresses among `found` that may be reached; why not, when there is none.
    pub(super) fn allowed(
        &self,
        found: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Vec<SocketAddr>, Option<Refusal>> {
        let mut refusal = None;
        let mut allowed = Vec::new();
        for address in found {
            match (self.decide)(address.ip()) {
                Some(why) => refusal = refusal.or(Some(why)),
                None => allowed.push(address),
            }
        }
        if allowed.is_empty() { Err(refusal) } else { Ok(allowed) }
    }
}

/// What the address alone tells.
fn by_kind(address: IpAddr) -> Option<Refusal> {
    match address {
        IpAddr::V4(address) => by_kind_v4(address),
        IpAddr::V6(address) => by_kind_v6(address),
    }
}

fn by_kind_v4(address: Ipv4Addr) -> Option<Refusal> {
    let [first, second, ..] = address.octets();
    match (first, second) {
        (0, _) => Some(Refusal::Unspecified),
        (127, _) => Some(Refusal::Loopback),
        (169, 254) => Some(Refusal::LinkLocal),
        (224..=239, _) => Some(Refusal::Multicast),
        (240.., _) => Some(Refusal::Reserved),
        _ => None,
    }
}

fn by_kind_v6(address: Ipv6Addr) -> Option<Refusal> {
    let segments = address.segments();
    if address.is_loopback() {
        return Some(Refusal::Loopback);
    }
    if address.is_unspecified() {
        return Some(Refusal::Unspecified);
    }
    if let Some(inner) = embedded(address) {
        return by_kind_v4(inner);
    }
    match segments {
        [0xfe80..=0xfebf, ..] => Some(Refusal::LinkLocal),
        [0xff00..=0xffff, ..] => Some(Refusal::Multicast),
        [0xfd00, 0x0ec2, ..] => Some(Refusal::Metadata),
        _ => None,
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, NAT64, 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => Some(from(high, low)),
        [0x64, 0xff9b, .., high, low] => Some(from(high, low)),
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

/// A connection to an address of this machine arrives over loopback, at services that trust who is there.
fn own_machine(address: IpAddr) -> Option<Refusal> {
    let address = plain(address);
    // A machine whose interfaces cannot be listed has no network to reach.
    let Ok(interfaces) = getifaddrs() else { return Some(Refusal::OwnMachine) };
    let own = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    own.into_iter().any(|own| own == address).then_some(Refusal::OwnMachine)
}

fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => embedded(v6).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_this_machine_is_refused_in_every_spelling() {
        use Refusal::*;
        let table = [
            ("127.0.0.1", Loopback),
            ("127.255.0.9", Loopback),
            ("::1", Loopback),
            ("::ffff:127.0.0.1", Loopback),
            ("::127.0.0.1", Loopback),
            ("64:ff9b::7f00:1", Loopback),
            ("2002:7f00:1::", Loopback),
            ("0.0.0.0", Unspecified),
            ("0.1.2.3", Unspecified),
            ("::", Unspecified),
            ("::ffff:0.0.0.0", Unspecified),
            ("169.254.169.254", LinkLocal),
            ("169.254.170.2", LinkLocal),
            ("::ffff:169.254.169.254", LinkLocal),
            ("64:ff9b::a9fe:a9fe", LinkLocal),
            ("fe80::1", LinkLocal),
            ("febf::1", LinkLocal),
            ("fd00:ec2::254", Metadata),
            ("fd00:ec2::23", Metadata),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("ff02::1", Multicast),
            ("240.0.0.1", Reserved),
            ("255.255.255.255", Reserved),
        ];
        for (address, why) in table {
            assert_eq!(by_kind(address.parse().unwrap()), Some(why), "{address}");
        }
    }

    #[test]
    fn all_else_is_allowed_private_networks_too() {
        let table = [
            "1.1.1.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.1.1",
            "223.255.255.255",
            "2606:4700::1",
            "fc00::1",
            "fd12::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "64:ff9b::101:101",
        ];
        for address in table {
            assert_eq!(by_kind(address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn addresses_of_this_machine_are_its_own() {
        for address in ["127.0.0.1", "::ffff:127.0.0.1"] {
            assert_eq!(own_machine(address.parse().unwrap()), Some(Refusal::OwnMachine), "{address}");
        }
        // Of a block that is given to nobody. [RFC 5737]
        assert_eq!(own_machine("192.0.2.1".parse().unwrap()), None);
    }

    #[test]
    fn of_several_addresses_the_allowed_ones_are_left() {
        let policy = Policy::deciding(by_kind);
        let of = |list: &[&str]| policy.allowed(list.iter().map(|a| a.parse().unwrap()));
        assert_eq!(of(&["127.0.0.1:1", "10.0.0.1:2"]), Ok(vec!["10.0.0.1:2".parse().unwrap()]));
        assert_eq!(of(&["127.0.0.1:1", "[fe80::1]:2"]), Err(Some(Refusal::Loopback)));
        assert_eq!(of(&[]), Err(None));
    }
}
