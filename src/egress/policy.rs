//! Which addresses a session may reach through the proxy.
//!
//! Refused is what is this machine: loopback, every address of its interfaces, and the link-local addresses, where
//! clouds keep the credentials of the machine itself. All else is allowed, private networks too: models and
//! package registries of a company are there. A name is judged by what it resolves to here, and the connection
//! goes to the address that was judged, so a name that changes its mind in between (DNS rebinding) gains nothing.
//! Single services of this machine are allowed by address and port ([`Allowance`]), a model server for one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use nix::ifaddrs::getifaddrs;

/// What agents call this machine by, so that the proxy is asked: their own loopback is not ours.
/// [Docker's name for the same thing]
pub const HOST_NAME: &str = "host.docker.internal";

/// A service that sessions may reach although it is on this machine, or although the network is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    host: String,
    addresses: Vec<SocketAddr>,
}

impl FromStr for Allowance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not `HOST:PORT`, such as `localhost:11434`");
        let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(form)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let addresses: Vec<IpAddr> = if host == "localhost" || host == HOST_NAME {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        } else {
            let only = "only `localhost` and addresses of loopback and private networks can be allowed";
            let address: IpAddr = host.parse().map_err(|_| format!("`{host}` is a name: {only}"))?;
            if !is_near(address) {
                return Err(format!("`{host}` is none: {only}"));
            }
            vec![address]
        };
        let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        Ok(Self { host, addresses })
    }
}

impl std::fmt::Display for Allowance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{host}:{}", self.port())
    }
}

impl Allowance {
    /// The port of the service.
    pub fn port(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }

    /// True when the service is on this machine's loopback.
    pub fn is_loopback(&self) -> bool {
        self.addresses.iter().all(|address| by_kind(address.ip()) == Some(Refusal::Loopback))
    }

    /// Where the service is, when this is what it was asked for by.
    fn addresses_for(&self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        let named = host.eq_ignore_ascii_case(&self.host)
            || host.eq_ignore_ascii_case(HOST_NAME) && self.is_loopback()
            || host.parse::<IpAddr>().is_ok_and(|ip| self.addresses.iter().any(|a| a.ip() == ip));
        (named && port == self.port()).then(|| self.addresses.clone())
    }
}

/// Loopback and private addresses: what somebody at this machine has set up himself.
fn is_near(address: IpAddr) -> bool {
    match (by_kind(address), plain(address)) {
        (Some(refusal), _) => refusal == Refusal::Loopback,
        (None, IpAddr::V4(v4)) => v4.is_private(),
        (None, IpAddr::V6(v6)) => v6.is_unique_local(),
    }
}

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
    allowances: Arc<[Allowance]>,
}

impl Default for Policy {
    fn default() -> Self {
        let decide = |address| by_kind(address).or_else(|| own_machine(address));
        Self { decide: Arc::new(decide), allowances: Arc::default() }
    }
}

impl Policy {
    /// Another decision, for tests whose servers can only be on loopback.
    #[cfg(test)]
    pub(super) fn deciding(decide: impl Fn(IpAddr) -> Option<Refusal> + Send + Sync + 'static) -> Self {
        Self { decide: Arc::new(decide), allowances: Arc::default() }
    }

    /// The same, but for these.
    pub(super) fn allowing(mut self, allowances: Vec<Allowance>) -> Self {
        self.allowances = allowances.into();
        self
    }

    /// What was allowed by name.
    pub(super) fn allowances(&self) -> &[Allowance] {
        &self.allowances
    }

    /// Where a target is that was allowed by name. It is not resolved: what was allowed is what is reached.
    pub(super) fn exception(&self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        self.allowances.iter().find_map(|allowance| allowance.addresses_for(host, port))
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
    fn what_is_allowed_is_one_service_by_its_names() {
        let policy = Policy::default()
            .allowing(vec!["LOCALHOST:11434".parse().unwrap(), "192.168.1.5:80".parse().unwrap()]);
        let loopback = ["127.0.0.1:11434", "[::1]:11434"].map(|a| a.parse().unwrap()).to_vec();
        for name in ["localhost", "Localhost", "127.0.0.1", "::1", HOST_NAME, "HOST.docker.internal"] {
            assert_eq!(policy.exception(name, 11434), Some(loopback.clone()), "{name}");
            assert_eq!(policy.exception(name, 11435), None, "{name}");
        }
        assert_eq!(policy.exception("192.168.1.5", 80), Some(vec!["192.168.1.5:80".parse().unwrap()]));
        assert_eq!(policy.exception(HOST_NAME, 80), None, "it is not on loopback");
        for name in ["127.0.0.2", "localhost.example.com", "0.0.0.0", "::ffff:127.0.0.1", ""] {
            assert_eq!(policy.exception(name, 11434), None, "{name}");
        }
    }

    #[test]
    fn only_what_is_near_can_be_allowed() {
        for good in [
            "localhost:1",
            "127.0.0.9:65535",
            "[::1]:80",
            "10.1.2.3:80",
            "[fd12::1]:80",
            "host.docker.internal:9",
        ] {
            let allowance: Allowance = good.parse().unwrap();
            assert_eq!(allowance.to_string(), good);
        }
        let bad = [
            "localhost",
            "localhost:0",
            "localhost:x",
            "localhost:65536",
            ":80",
            "example.com:80",
            "1.1.1.1:443",
            "169.254.169.254:80",
            "[fd00:ec2::254]:80",
            "[fe80::1]:80",
            "0.0.0.0:80",
            "[::]:80",
            "[::ffff:169.254.169.254]:80",
            "224.0.0.1:80",
        ];
        for bad in bad {
            assert!(bad.parse::<Allowance>().unwrap_err().starts_with('`'), "{bad}");
        }
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
