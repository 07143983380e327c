//! What one version of a runtime says about the computes that run it.

use std::time::Duration;

use super::{MountPath, limits};

/// A code bundle as `codeConfiguration` names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ArtifactRef {
    /// The bucket; [`crate::artifacts::BUCKET`] for the emulator's own store.
    pub bucket: String,
    /// The key inside the bucket.
    pub prefix: String,
    /// The object version, when one is named.
    pub version_id: Option<String>,
    /// `runtime`, such as `PYTHON_3_13`.
    pub runtime: String,
    /// `entryPoint`, one or two strings.
    pub entry_point: Vec<String>,
}

/// What a version's computes run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Artifact {
    /// A code bundle (`codeConfiguration`).
    Code(ArtifactRef),
    /// A container image by name (`containerConfiguration`).
    Image(String),
}

impl Artifact {
    /// Key of the bundle, or name of the image.
    pub fn source(&self) -> &str {
        match self {
            Self::Code(code) => &code.prefix,
            Self::Image(name) => name,
        }
    }
}

/// The protocol an agent speaks. Only HTTP runs in the emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerProtocol {
    /// `POST /invocations` and `GET /ping`.
    Http,
}

/// Names of headers that pass from the caller to the agent, compared without case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderAllowlist(Vec<String>);

impl HeaderAllowlist {
    /// A list of names; a trailing `*` stands for any ending.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|n| n.to_ascii_lowercase()).collect())
    }

    /// True when a header of this name, in lower case, may pass.
    pub fn allows(&self, name: &str) -> bool {
        self.0.iter().any(|entry| match entry.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => entry == name,
        })
    }

    /// True when nothing is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// How long computes of a runtime live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifecycle {
    /// `idleRuntimeSessionTimeout`.
    pub idle_timeout: Duration,
    /// `maxLifetime`, from the start of the compute; never reset.
    pub max_lifetime: Duration,
}

/// The one rule between the two settings, in the service's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("idleRuntimeSessionTimeout must be less than or equal to maxLifetime")]
pub struct LifecycleError;

impl Lifecycle {
    /// Fills the defaults: 900 s and 28800 s, and idle = max where only a max of at most 900 s is given. [guide]
    pub fn new(idle_seconds: Option<u32>, max_seconds: Option<u32>) -> Result<Self, LifecycleError> {
        let max = max_seconds.unwrap_or(limits::DEFAULT_MAX_LIFETIME_SECONDS);
        let idle = idle_seconds.unwrap_or(limits::DEFAULT_IDLE_TIMEOUT_SECONDS.min(max));
        if idle > max {
            return Err(LifecycleError);
        }
        Ok(Self {
            idle_timeout: Duration::from_secs(u64::from(idle)),
            max_lifetime: Duration::from_secs(u64::from(max)),
        })
    }
}

/// One immutable version of a runtime, as far as its computes need to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSpec {
    /// The code or the image.
    pub artifact: Artifact,
    /// `roleArn`, which agents call AWS with when they have the identity of their role.
    pub role_arn: String,
    /// The agent's protocol.
    pub protocol: ServerProtocol,
    /// Port the agent listens on inside its session.
    pub port: u16,
    /// Idle timeout and lifetime.
    pub lifecycle: Lifecycle,
    /// `environmentVariables`.
    pub environment: Vec<(String, String)>,
    /// `requestHeaderAllowlist`.
    pub header_allowlist: HeaderAllowlist,
    /// Mount path of the session storage, when the version has one.
    pub session_storage: Option<MountPath>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifecycle_fills_defaults_and_keeps_idle_below_max() {
        let seconds = |l: Lifecycle| (l.idle_timeout.as_secs(), l.max_lifetime.as_secs());
        assert_eq!(seconds(Lifecycle::new(None, None).unwrap()), (900, 28_800));
        assert_eq!(seconds(Lifecycle::new(None, Some(600)).unwrap()), (600, 600));
        assert_eq!(seconds(Lifecycle::new(Some(60), None).unwrap()), (60, 28_800));
        assert_eq!(Lifecycle::new(Some(601), Some(600)), Err(LifecycleError));
    }

    #[test]
    fn allowlist_ignores_case_and_knows_a_trailing_star() {
        let list =
            HeaderAllowlist::new(["X-Amzn-Bedrock-AgentCore-Runtime-Custom-*".into(), "X-Api-Key".into()]);
        assert!(list.allows("x-api-key"));
        assert!(list.allows("x-amzn-bedrock-agentcore-runtime-custom-user"));
        assert!(!list.allows("authorization"));
    }
}
