//! The way out of a session: a proxy to the network and, where an identity is given, its AWS credentials.
//!
//! A session has a loopback of its own and nothing else. One listener on it ([`PORT`]) belongs to the emulator, and
//! [`Way::serve`] answers what comes in there: `CONNECT` and requests for `http://` targets are the proxy ([`proxy`]),
//! which reaches what [`policy`] allows and nothing of this machine; requests for the listener itself get
//! credentials ([`credentials`]) when they carry the session's own token, and the emulator's planes when agents may call
//! them and the path carries another token of the session. The listener's socket is of the session's
//! network, so no other session and no process of the host can reach it at all; the token keeps out requests that
//! somebody else makes an agent send.
//!
//! The room knows no engine, no session state and no AWS SDK: it gets a socket, and credentials from a
//! [`CredentialSource`].

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use http::{Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::model::AwsCredentials;

mod credentials;
mod policy;
mod proxy;
mod reply;
mod upstream;

pub use policy::{Allowance, HOST_NAME, Policy, Refusal};
pub use upstream::{Upstream, UpstreamError};

/// Port of the listener inside a session. [ours: above Linux's ephemeral ports (up to 60999), so that no outgoing
/// connection has it, and outside 8000 to 12000, which agents may ask for]
pub const PORT: u16 = 64_642;
/// Where a session finds its token. The file's name is in the environment, the token is not.
const TOKEN_FILE: &str = "/run/agentcore/token";
/// Path of the credentials on the listener.
const CREDENTIALS_PATH: &str = "/credentials";
/// Paths of the emulator's planes on the listener begin with this and the session's token for them.
const PLANES_PATH: &str = "/planes/";
/// The variables that point AWS SDKs at the planes.
const PLANES_VARIABLES: [&str; 2] =
    ["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL"];
/// Credentials for SDKs that will not call without: the planes know a session by its token, and nobody else knows these.
const PLACEHOLDERS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "agentcore-local"), ("AWS_SECRET_ACCESS_KEY", "agentcore-local")];
/// What a session talks to without the proxy: itself.
const NO_PROXY: &str = "127.0.0.1,localhost,::1";
/// Connections of one session at a time. [ours: a pool of a busy HTTP client has 10 to 100]
const MAX_SESSION_CONNECTIONS: usize = 128;
/// Connections of all sessions at a time. [ours: two descriptors each, within a usual limit of 4,096 or more]
const MAX_CONNECTIONS: usize = 1_024;
/// Longest time to a request's head. [ours]
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request. [ours: as the emulator's own server]
const HEAD_BYTES: usize = 64 * 1024;
/// Pause after a connection could not be accepted, for want of descriptors as a rule. [ours]
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where credentials come from.
pub trait CredentialSource: Send + Sync + 'static {
    /// What it is, for people: `profile dev`.
    fn name(&self) -> String;

    /// Credentials for a runtime with this `roleArn` that are good for a while; in words, without secrets, why there
    /// are none.
    fn credentials<'a>(&'a self, role: &'a str) -> BoxFuture<'a, Result<AwsCredentials, String>>;
}

/// What all sessions may reach.
pub struct Egress {
    shared: Arc<Shared>,
}

struct Shared {
    network: bool,
    identity: Option<Arc<dyn CredentialSource>>,
    policy: Policy,
    upstream: Upstream,
    connections: Arc<Semaphore>,
    agent_calls: bool,
    /// Where the planes are, once they are served.
    planes: OnceLock<SocketAddr>,
}

/// What agents may do beyond reaching the network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Services that they may reach although these are on this machine, or although the network is off.
    pub allowances: Vec<Allowance>,
    /// They may call the emulator's planes.
    pub agent_calls: bool,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Egress")
            .field("network", &self.shared.network)
            .field("identity", &self.identity_name())
            .finish_non_exhaustive()
    }
}

impl Egress {
    /// With the network on or off, and perhaps an identity for agents.
    pub fn new(network: bool, identity: Option<Arc<dyn CredentialSource>>) -> Self {
        Self::behind(network, identity, Upstream::default(), Grants::default())
    }

    /// As [`Egress::new`], on a machine that itself reaches the network through proxies, and with more.
    pub fn behind(
        network: bool,
        identity: Option<Arc<dyn CredentialSource>>,
        upstream: Upstream,
        grants: Grants,
    ) -> Self {
        Self::with(network, identity, Policy::default(), upstream, grants)
    }

    fn with(
        network: bool,
        identity: Option<Arc<dyn CredentialSource>>,
        policy: Policy,
        upstream: Upstream,
        grants: Grants,
    ) -> Self {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let policy = policy.allowing(grants.allowances);
        let (agent_calls, planes) = (grants.agent_calls, OnceLock::new());
        let shared = Shared { network, identity, policy, upstream, connections, agent_calls, planes };
        Self { shared: Arc::new(shared) }
    }

    /// Says where the emulator serves its planes. The first word counts.
    pub fn planes_are_at(&self, address: SocketAddr) {
        let _ = self.shared.planes.set(address);
    }

    /// What is allowed by name.
    pub fn allowances(&self) -> &[Allowance] {
        self.shared.policy.allowances()
    }

    /// True when agents may call the emulator's planes.
    pub fn agent_calls(&self) -> bool {
        self.shared.agent_calls
    }

    /// True when the proxy lets anything out.
    pub fn network(&self) -> bool {
        self.shared.network
    }

    /// The agents' identity, for people.
    pub fn identity_name(&self) -> Option<String> {
        self.shared.identity.as_ref().map(|identity| identity.name())
    }

    /// A way out for one compute of a runtime with this role; nothing when sessions get nothing from outside.
    pub fn open(&self, role: &str) -> Option<Way> {
        let shared = &self.shared;
        if !shared.proxies() && shared.identity.is_none() && !shared.agent_calls {
            return None;
        }
        let token = || format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let (token, calls) = (token(), token());
        Some(Way { shared: shared.clone(), role: role.to_owned(), token, calls })
    }
}

impl Shared {
    /// True when there is anything that the proxy reaches.
    fn proxies(&self) -> bool {
        self.network || !self.policy.allowances().is_empty()
    }
}

/// The way out of one compute.
pub struct Way {
    shared: Arc<Shared>,
    role: String,
    token: String,
    /// The token for the planes. Not the other one: this one is in the environment, which more programs show around.
    calls: String,
}

impl Way {
    /// What the compute's processes find in their environment. Nothing of it is secret, but for the token of the planes
    /// where agents may call them: it is of no use outside of the compute.
    pub fn environment(&self) -> Vec<(String, String)> {
        let own = format!("http://127.0.0.1:{PORT}");
        let mut found = Vec::new();
        let mut add = |name: &str, value: &str| found.push((name.to_owned(), value.to_owned()));
        if self.shared.proxies() {
            // Programs differ in which spelling they read; curl reads only the small one for http.
            for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
                add(name, &own);
            }
            for name in ["NO_PROXY", "no_proxy"] {
                add(name, NO_PROXY);
            }
            add("NODE_USE_ENV_PROXY", "1");
        }
        if self.shared.identity.is_some() {
            add("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{own}{CREDENTIALS_PATH}"));
            add("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", TOKEN_FILE);
        }
        if self.shared.agent_calls {
            for name in PLANES_VARIABLES {
                add(name, &format!("{own}{PLANES_PATH}{}", self.calls));
            }
            if self.shared.identity.is_none() {
                PLACEHOLDERS.iter().for_each(|(name, value)| add(name, value));
            }
        }
        found
    }

    /// Files that only the compute's root may read.
    pub fn files(&self) -> Vec<(PathBuf, String)> {
        match self.shared.identity {
            Some(_) => vec![(TOKEN_FILE.into(), self.token.clone())],
            None => Vec::new(),
        }
    }

    /// Serves the connections that come out of the compute until the result is dropped. All of them end with it.
    pub fn serve<S>(self, connections: impl Stream<Item = io::Result<S>> + Send + 'static) -> Serving
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let ended = CancellationToken::new();
        let serving = Serving { _end: ended.clone().drop_guard() };
        let way = Arc::new(self);
        tokio::spawn(async move {
            ended.run_until_cancelled(accept(way, pin!(connections), ended.clone())).await;
        });
        serving
    }
}

/// A listener that is being served.
pub struct Serving {
    _end: DropGuard,
}

/// What one connection holds: its places among the connections that may be open.
struct Places {
    _session: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

async fn accept<S>(
    way: Arc<Way>,
    mut connections: Pin<&mut impl Stream<Item = io::Result<S>>>,
    ended: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let session = Arc::new(Semaphore::new(MAX_SESSION_CONNECTIONS));
    while let Some(stream) = connections.next().await {
        let mut stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection of a session could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let all = way.shared.connections.clone().try_acquire_owned();
        let (Ok(own), Ok(all)) = (session.clone().try_acquire_owned(), all) else {
            // An answer without reading: whoever opens too many learns why, and costs nothing more.
            let _ = stream.write(reply::TOO_MANY.as_bytes()).now_or_never();
            continue;
        };
        let places = Arc::new(Places { _session: own, _all: all });
        tokio::spawn(serve_connection(way.clone(), stream, places, ended.clone()));
    }
}

async fn serve_connection<S>(way: Arc<Way>, stream: S, places: Arc<Places>, ended: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let until = ended.clone();
    let service = service_fn(move |request| {
        let (way, places, ended) = (way.clone(), places.clone(), ended.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(&way, request, places, ended).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    // A client that goes away or breaks the protocol is its own affair.
    let _ = until.run_until_cancelled(connection).await;
}

async fn answer(
    way: &Way,
    request: Request<Incoming>,
    places: Arc<Places>,
    ended: CancellationToken,
) -> Response<reply::Body> {
    let to_proxy = request.method() == Method::CONNECT || request.uri().scheme().is_some();
    if !to_proxy {
        if request.uri().path().starts_with(PLANES_PATH) {
            return to_planes(way, request, ended).await;
        }
        return credentials::answer(way, &request).await;
    }
    let answered = if request.method() == Method::CONNECT {
        proxy::connect(&way.shared, request, places, ended).await
    } else {
        proxy::forward(&way.shared, request, ended).await
    };
    answered.unwrap_or_else(|error| {
        tracing::debug!(%error, "a session's request to the network failed");
        error.response()
    })
}

/// Answers a request to the planes.
async fn to_planes(way: &Way, request: Request<Incoming>, ended: CancellationToken) -> Response<reply::Body> {
    let (true, Some(planes)) = (way.shared.agent_calls, way.shared.planes.get()) else {
        return reply::forbidden(
            "agents may not call the emulator: start it with `--allow-agent-calls` if they should",
        );
    };
    let whole = request.uri().path_and_query().map_or("", |path| path.as_str());
    let (token, rest) =
        whole.get(PLANES_PATH.len()..).and_then(|rest| rest.split_once('/')).unwrap_or_default();
    let path = format!("/{rest}").parse::<Uri>();
    let (true, Ok(path)) = (credentials::same(token.as_bytes(), way.calls.as_bytes()), path) else {
        return reply::forbidden(
            "the token in the path is not this session's: take the endpoint from the environment",
        );
    };
    proxy::to_planes(*planes, request, path, ended).await.unwrap_or_else(|error| error.response())
}

/// A body that is there as a whole.
fn whole(text: impl Into<Bytes>) -> reply::Body {
    use http_body_util::{BodyExt, Full};
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

#[cfg(test)]
mod tests;
