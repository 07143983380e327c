//! Client for an agent's HTTP contract (`POST /invocations`, `GET /ping`) over a compute's connections.
//!
//! Connections come from [`super::Compute::connect`] and are kept alive between calls. Bodies stream
//! both ways; nothing is collected but the few bytes of a ping.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;

/// Any error of a body on its way through.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A call of the agent.
pub struct AgentRequest {
    /// Exactly the headers the agent shall see, besides `host` and the framing ones.
    pub headers: http::HeaderMap,
    /// The payload.
    pub body: UnsyncBoxBody<Bytes, BodyError>,
}

/// The agent's answer; its body is still coming.
pub struct AgentResponse {
    /// Status.
    pub status: http::StatusCode,
    /// Headers as the agent sent them.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: hyper::body::Incoming,
}

/// Why the agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The connection could not be made or broke.
    #[error("the agent could not be reached: {0}")]
    Connection(String),
    /// No response head within [`crate::model::limits::INVOKE_RESPONSE_TIMEOUT`].
    #[error("the agent did not answer in time")]
    Timeout,
}

/// What a ping said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingStatus {
    /// `Healthy`: the session may be idled.
    Healthy,
    /// `HealthyBusy`: the agent works in the background.
    HealthyBusy,
}
