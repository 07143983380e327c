//! The proxy: tunnels (`CONNECT`) and forwarded requests (`GET http://…`), both streaming, both to checked addresses.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::policy::{Policy, Refusal};
use super::reply::{self, Body};
use super::upstream::Parent;
use super::{Places, Shared};

/// Longest time to a name's addresses. [ours]
const RESOLVE_LIMIT: Duration = Duration::from_secs(10);
/// Longest time to a connection, all addresses of the target together. [ours]
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Longest time for one address while there are others. [ours: a machine without IPv6 should not wait for it]
const ADDRESS_LIMIT: Duration = Duration::from_secs(5);
/// Largest head of a proxy's answer to a tunnel. [ours]
const PARENT_HEAD_BYTES: usize = 16 * 1024;
const HTTP_PORT: u16 = 80;
/// Headers of one connection, not of the message. [RFC 9110, 7.6.1]
const OF_THE_CONNECTION: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Why a request got nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    /// It makes no sense.
    #[error("{0}")]
    Bad(&'static str),
    /// The target is not for sessions.
    #[error(
        "`{target}` is {refusal}: sessions reach the network, but not the machine that runs them \
         (a service of this machine is named when the emulator is started: `local up --network-allow localhost:PORT`, \
         and agents call it `host.docker.internal:PORT`)"
    )]
    Refused {
        /// The host asked for.
        target: String,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// The network is off, and the target was not allowed by name.
    #[error("the network of sessions is off: start the emulator with `--network on`")]
    Off,
    /// The name leads nowhere.
    #[error("`{target}` has no address: {reason}")]
    Unknown {
        /// The host asked for.
        target: String,
        /// The resolver's words.
        reason: String,
    },
    /// No connection came about.
    #[error("`{target}` cannot be reached: {source}")]
    Unreachable {
        /// The host asked for.
        target: String,
        /// The last address's error.
        #[source]
        source: io::Error,
    },
    /// The machine's own proxy does not go there.
    #[error("the proxy of this machine did not open a tunnel to `{target}`: {answer}")]
    Parent {
        /// The host asked for.
        target: String,
        /// The first line of what it said.
        answer: String,
    },
    /// It took too long.
    #[error("`{target}` did not answer in time")]
    Slow {
        /// The host asked for.
        target: String,
    },
    /// The target's answer is none.
    #[error("`{target}` broke the connection: {source}")]
    Broken {
        /// The host asked for.
        target: String,
        /// The client's error.
        #[source]
        source: hyper::Error,
    },
}

impl ProxyError {
    /// The answer that says so.
    pub(super) fn response(&self) -> Response<Body> {
        let status = match self {
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Refused { .. } | Self::Off => StatusCode::FORBIDDEN,
            Self::Unknown { .. } | Self::Unreachable { .. } | Self::Broken { .. } | Self::Parent { .. } => {
                StatusCode::BAD_GATEWAY
            }
            Self::Slow { .. } => StatusCode::GATEWAY_TIMEOUT,
        };
        reply::plain(status, &self.to_string())
    }
}

/// Where a request wants to go.
struct Target {
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
}

impl Target {
    fn new(authority: &Authority, default_port: Option<u16>) -> Result<Self, ProxyError> {
        if authority.as_str().contains('@') {
            return Err(ProxyError::Bad("a target with a user name is not taken"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let explicit = authority.port();
        let port = match explicit {
            Some(port) => Some(port.as_u16()),
            None => default_port,
        };
        match port {
            Some(port) if port > 0 && !host.is_empty() => Ok(Self { host, port }),
            _ => Err(ProxyError::Bad("the target needs a host and a port")),
        }
    }
}

/// `CONNECT`: a tunnel, once the other end is there.
pub(super) async fn connect(
    shared: &Shared,
    request: Request<Incoming>,
    places: Arc<Places>,
    ended: CancellationToken,
) -> Result<Response<Body>, ProxyError> {
    let authority = request.uri().authority().ok_or(ProxyError::Bad("CONNECT needs `host:port`"))?;
    let target = Target::new(authority, None)?;
    let mut outside = match way_to(shared, &target, true)? {
        WayTo::Named(addresses) => dial(&target, addresses).await?,
        WayTo::Parent(parent) => {
            judge(&shared.policy, &target).await?;
            tunnel(parent, &target).await?
        }
        WayTo::Network => dial(&target, addresses(&shared.policy, &target).await?).await?,
    };
    tokio::spawn(async move {
        let tunnel = async {
            // Without it the client has gone before its tunnel stood.
            let Ok(inside) = hyper::upgrade::on(request).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(inside), &mut outside).await;
        };
        ended.run_until_cancelled(tunnel).await;
        drop(places);
    });
    Ok(Response::new(super::whole("")))
}

/// A request for an `http://` target.
pub(super) async fn forward(
    shared: &Shared,
    mut request: Request<Incoming>,
    ended: CancellationToken,
) -> Result<Response<Body>, ProxyError> {
    if request.uri().scheme() != Some(&Scheme::HTTP) {
        return Err(ProxyError::Bad(
            "the proxy forwards `http://`; for `https://` ask it for a tunnel (CONNECT)",
        ));
    }
    let authority = request.uri().authority().cloned().ok_or(ProxyError::Bad("the target needs a host"))?;
    let target = Target::new(&authority, Some(HTTP_PORT))?;
    let (stream, parent) = match way_to(shared, &target, false)? {
        WayTo::Named(addresses) => (dial(&target, addresses).await?, None),
        WayTo::Parent(parent) => {
            judge(&shared.policy, &target).await?;
            (reach(parent, &target).await?, Some(parent))
        }
        WayTo::Network => (dial(&target, addresses(&shared.policy, &target).await?).await?, None),
    };
    let broken = |source| ProxyError::Broken { target: target.host.clone(), source };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(async move { ended.run_until_cancelled(connection).await });

    strip(request.headers_mut());
    match parent {
        Some(parent) => {
            if let Some(authorization) = &parent.authorization {
                request.headers_mut().insert(header::PROXY_AUTHORIZATION, authorization.clone());
            }
        }
        None => {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            *request.uri_mut() =
                path.parse::<Uri>().map_err(|_| ProxyError::Bad("the target's path is not one"))?;
        }
    }
    // The target's own name counts, whatever the header said. [RFC 9112, 3.2.2]
    let host =
        HeaderValue::from_str(authority.as_str()).map_err(|_| ProxyError::Bad("the host is not one"))?;
    request.headers_mut().insert(header::HOST, host);
    let mut response = sender.send_request(request).await.map_err(broken)?;
    strip(response.headers_mut());
    Ok(response.map(|body| body.boxed()))
}

/// Hands a request for the emulator's own planes on to them, without the part of the path that says so.
pub(super) async fn to_planes(
    planes: SocketAddr,
    mut request: Request<Incoming>,
    path: Uri,
    ended: CancellationToken,
) -> Result<Response<Body>, ProxyError> {
    let target = Target { host: planes.ip().to_string(), port: planes.port() };
    let stream = dial(&target, vec![planes]).await?;
    let broken = |source| ProxyError::Broken { target: target.host.clone(), source };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(async move { ended.run_until_cancelled(connection).await });
    strip(request.headers_mut());
    *request.uri_mut() = path;
    let host = HeaderValue::from_str(&planes.to_string());
    request.headers_mut().insert(header::HOST, host.map_err(|_| ProxyError::Bad("the host is not one"))?);
    let mut response = sender.send_request(request).await.map_err(broken)?;
    strip(response.headers_mut());
    Ok(response.map(|body| body.boxed()))
}

/// Takes away what is between two ends of one connection.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in OF_THE_CONNECTION.iter().chain(&named) {
        headers.remove(name);
    }
}

/// Refuses what is this machine, before another proxy is asked: its view of a name is its own, and so is the
/// machine it would reach. A name that is known there alone is its to judge.
async fn judge(policy: &Policy, target: &Target) -> Result<(), ProxyError> {
    match addresses(policy, target).await {
        Err(refused @ (ProxyError::Refused { .. } | ProxyError::Bad(_))) => Err(refused),
        _ => Ok(()),
    }
}

/// A connection to the machine's own proxy.
async fn reach(parent: &Parent, target: &Target) -> Result<TcpStream, ProxyError> {
    let connecting = TcpStream::connect((parent.host.as_str(), parent.port));
    let name = || format!("{} (through the proxy of this machine)", target.host);
    match timeout(CONNECT_LIMIT, connecting).await {
        Ok(Ok(stream)) => Ok(prepared(stream)),
        Ok(Err(source)) => Err(ProxyError::Unreachable { target: name(), source }),
        Err(_) => Err(ProxyError::Slow { target: name() }),
    }
}

/// A tunnel through the machine's own proxy.
async fn tunnel(parent: &Parent, target: &Target) -> Result<TcpStream, ProxyError> {
    let name = || target.host.clone();
    let mut stream = reach(parent, target).await?;
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    let authority = format!("{host}:{}", target.port);
    let mut ask = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes();
    if let Some(authorization) = &parent.authorization {
        ask.extend([b"proxy-authorization: ", authorization.as_bytes(), b"\r\n"].concat());
    }
    ask.extend(b"\r\n");
    let mut head = Vec::new();
    let asking = async {
        stream.write_all(&ask).await?;
        // Byte by byte, a few hundred of them: what follows belongs to the tunnel.
        while !head.ends_with(b"\r\n\r\n") && head.len() < PARENT_HEAD_BYTES {
            head.push(stream.read_u8().await?);
        }
        Ok(())
    };
    match timeout(CONNECT_LIMIT, asking).await {
        Ok(Ok(())) => {}
        Ok(Err(source)) => return Err(ProxyError::Unreachable { target: name(), source }),
        Err(_) => return Err(ProxyError::Slow { target: name() }),
    }
    let text = String::from_utf8_lossy(&head);
    let answer = text.lines().next().unwrap_or_default().to_owned();
    let opened =
        answer.starts_with("HTTP/1.") && answer.split(' ').nth(1).is_some_and(|s| s.starts_with('2'));
    if opened { Ok(stream) } else { Err(ProxyError::Parent { target: name(), answer }) }
}

/// Where a target is, as far as sessions may go there.
async fn addresses(policy: &Policy, target: &Target) -> Result<Vec<SocketAddr>, ProxyError> {
    let name = || target.host.clone();
    // Also for what is written as a number: the resolver knows all spellings of addresses.
    let resolving = tokio::net::lookup_host((target.host.as_str(), target.port));
    let found = match timeout(RESOLVE_LIMIT, resolving).await {
        Ok(Ok(found)) => found,
        Ok(Err(e)) => return Err(ProxyError::Unknown { target: name(), reason: e.to_string() }),
        Err(_) => return Err(ProxyError::Slow { target: name() }),
    };
    policy.allowed(found).map_err(|refusal| match refusal {
        Some(refusal) => ProxyError::Refused { target: name(), refusal },
        None => ProxyError::Unknown { target: name(), reason: "the name has none".to_owned() },
    })
}

/// How a target is reached.
enum WayTo<'a> {
    /// It was allowed by name, and is here.
    Named(Vec<SocketAddr>),
    /// Through the machine's own proxy.
    Parent(&'a Parent),
    /// Where its name leads.
    Network,
}

fn way_to<'a>(shared: &'a Shared, target: &Target, tunnel: bool) -> Result<WayTo<'a>, ProxyError> {
    if let Some(addresses) = shared.policy.exception(&target.host, target.port) {
        return Ok(WayTo::Named(addresses));
    }
    if !shared.network {
        return Err(ProxyError::Off);
    }
    Ok(shared.upstream.to(&target.host, tunnel).map_or(WayTo::Network, WayTo::Parent))
}

/// A connection to the first of the addresses that takes one.
async fn dial(target: &Target, addresses: Vec<SocketAddr>) -> Result<TcpStream, ProxyError> {
    let name = || target.host.clone();
    let connecting = async {
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        let count = addresses.len();
        for (index, address) in addresses.into_iter().enumerate() {
            let limit = if index + 1 < count { ADDRESS_LIMIT } else { CONNECT_LIMIT };
            match timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(e)) => last = e,
                Err(_) => {}
            }
        }
        Err(last)
    };
    let stream = match timeout(CONNECT_LIMIT, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(source)) => return Err(ProxyError::Unreachable { target: name(), source }),
        Err(_) => return Err(ProxyError::Slow { target: name() }),
    };
    Ok(prepared(stream))
}

fn prepared(stream: TcpStream) -> TcpStream {
    // Helps and no more: small writes at once, and an end of peers that vanished, which nothing else tells of a
    // tunnel that may be silent for as long as it likes.
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
    stream
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_connection_do_not_pass() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("proxy-authorization", "Basic x"),
            ("te", "trailers"),
            ("x-end", "2"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-end"]);
    }

    #[test]
    fn targets_are_a_host_and_a_port() {
        let of = |text: &str, port| Target::new(&text.parse().unwrap(), port).map(|t| (t.host, t.port)).ok();
        assert_eq!(of("example.com:443", None), Some(("example.com".into(), 443)));
        assert_eq!(of("[::1]:443", None), Some(("::1".into(), 443)));
        assert_eq!(of("example.com", Some(80)), Some(("example.com".into(), 80)));
        assert_eq!(of("example.com", None), None);
        assert_eq!(of("example.com:0", None), None);
        assert_eq!(of("user@example.com:80", None), None);
    }

    proptest::proptest! {
        #[test]
        fn any_target_is_one_host_and_port_or_refused(
            text in "([a-z]{0,3}@)?(\\[?[0-9a-f:.%]{0,12}\\]?|[a-zA-Z0-9._-]{0,9})(:[0-9]{0,6})?",
        ) {
            if let Ok(authority) = text.parse::<Authority>()
                && let Ok(target) = Target::new(&authority, None)
            {
                proptest::prop_assert!(target.port > 0, "{}", text);
                proptest::prop_assert!(!target.host.is_empty() && !target.host.contains(['@', '[', ']']), "{}", text);
                proptest::prop_assert!(text.ends_with(&format!(":{}", target.port)) || text.contains(":0"), "{}", text);
            }
        }
    }
}
