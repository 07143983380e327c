//! The only room that knows the AWS SDK: one constructor for every client, plain values in and out,
//! SDK errors mapped once.
//!
//! The SDK's defaults do not fit this service. Its stalled-stream protection ends a silent stream
//! after seconds although an agent may think for minutes; it wants a CA bundle even for plain HTTP;
//! it repeats calls that may have run. So every client is made by [`Connection`], which turns the
//! first off, gives plain-HTTP targets a connector without TLS and TLS bundled roots beside the
//! machine's own, and repeats only what cannot have run.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_smithy_http_client::{Builder, Connector, tls};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use crate::model::{AccessKey, Region, limits};

mod bearer;
mod cloud;
mod control;
mod data;
mod error;
mod identity;
mod retry;

use bearer::BearerToken;

pub use cloud::CloudSettings;
pub use control::{ControlClient, Difference, RuntimeSettings, RuntimeSummary, Written};
pub use data::{Answer, CommandCall, CommandStream, DataClient, InvokeCall, SessionCall};
pub use error::AwsError;
pub use identity::{Identity, IdentityError, IdentityKind};

/// Longest wait for a connection. [ours]
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a call that cannot have run is sent at most. [ours]
const MAX_ATTEMPTS: u32 = 5;

/// A target and how it is reached: what every client is made from.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Empty where the SDK finds it.
    endpoint: String,
    region: Option<Region>,
    local: bool,
    read_timeout: Duration,
    key: Option<AccessKey>,
    /// What AWS itself is reached with.
    base: Option<aws_config::SdkConfig>,
    bearer: Option<BearerToken>,
}

impl Connection {
    /// An emulator at `endpoint`. Nothing of the user's AWS profile is read; a refused connection is final.
    pub fn local(endpoint: impl Into<String>, region: Region) -> Self {
        let read_timeout = limits::INVOKE_RESPONSE_TIMEOUT;
        Self {
            endpoint: endpoint.into(),
            region: Some(region),
            local: true,
            read_timeout,
            key: None,
            base: None,
            bearer: None,
        }
    }

    /// With the access key to sign with; without one, calls are signed by nobody.
    pub fn with_key(mut self, key: AccessKey) -> Self {
        self.key = Some(key);
        self
    }

    /// With another limit for the time to the head of a response.
    pub fn with_read_timeout(mut self, limit: Duration) -> Self {
        self.read_timeout = limit;
        self
    }

    /// A client of the data plane.
    pub fn data(&self) -> DataClient {
        let mut config = match &self.base {
            Some(base) => aws_sdk_bedrockagentcore::config::Builder::from(base),
            None => aws_sdk_bedrockagentcore::Config::builder()
                .behavior_version_latest()
                .credentials_provider(self.credentials())
                .http_client(self.http_client()),
        };
        if let Some(region) = &self.region {
            config = config.region(aws_sdk_bedrockagentcore::config::Region::new(region.to_string()));
        }
        if !self.endpoint.is_empty() {
            config = config.endpoint_url(&self.endpoint);
        }
        if let Some(token) = &self.bearer {
            config = config.interceptor(token.clone());
        }
        let config = config
            .timeout_config(self.timeouts())
            .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
            .retry_classifier(retry::OnlyWhatCannotHaveRun { reconnect: !self.local })
            .stalled_stream_protection(
                aws_sdk_bedrockagentcore::config::StalledStreamProtectionConfig::disabled(),
            )
            .build();
        DataClient::new(aws_sdk_bedrockagentcore::Client::from_conf(config))
    }

    /// A client of the control plane.
    pub fn control(&self) -> ControlClient {
        let mut config = match &self.base {
            Some(base) => aws_sdk_bedrockagentcorecontrol::config::Builder::from(base),
            None => aws_sdk_bedrockagentcorecontrol::Config::builder()
                .behavior_version_latest()
                .credentials_provider(self.credentials())
                .http_client(self.http_client()),
        };
        if let Some(region) = &self.region {
            config = config.region(aws_sdk_bedrockagentcorecontrol::config::Region::new(region.to_string()));
        }
        if !self.endpoint.is_empty() {
            config = config.endpoint_url(&self.endpoint);
        }
        if let Some(token) = &self.bearer {
            config = config.interceptor(token.clone());
        }
        let config = config
            .timeout_config(self.timeouts())
            .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
            .retry_classifier(retry::OnlyWhatCannotHaveRun { reconnect: !self.local })
            .stalled_stream_protection(
                aws_sdk_bedrockagentcorecontrol::config::StalledStreamProtectionConfig::disabled(),
            )
            .build();
        ControlClient::new(aws_sdk_bedrockagentcorecontrol::Client::from_conf(config))
    }

    fn credentials(&self) -> Credentials {
        let (id, secret) = match &self.key {
            Some(key) => (key.access_key_id.as_str(), key.secret_access_key.as_str()),
            None => (PLACEHOLDER_KEY, PLACEHOLDER_KEY),
        };
        Credentials::new(id, secret, None, None, "agentcore-local")
    }

    fn timeouts(&self) -> TimeoutConfig {
        // No operation timeout: it would end a stream that is still giving.
        TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(self.read_timeout).build()
    }

    fn http_client(&self) -> SharedHttpClient {
        http_client(self.endpoint.starts_with("http://"))
    }
}

/// Credentials of nobody, for calls whose signature nobody reads.
fn nobody() -> Credentials {
    Credentials::new(PLACEHOLDER_KEY, PLACEHOLDER_KEY, None, None, "agentcore-local")
}

/// A client for plain HTTP alone, or one with TLS too.
fn http_client(plain: bool) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder();
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(|c| c.sleep_impl()));
        if plain {
            return builder.build_http();
        }
        builder
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
            .tls_context(tls_context())
            .build()
    })
}

/// The machine's own roots and, for a machine without any, the bundled ones.
fn tls_context() -> tls::TlsContext {
    let mut store = tls::TrustStore::default();
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        store.add_pem_certificate(pem(root));
    }
    // Building fails on no input that is made here; the default context is the same without our roots.
    tls::TlsContext::builder().with_trust_store(store).build().unwrap_or_default()
}

/// A certificate as the connector wants it.
fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|c| std::str::from_utf8(c).unwrap_or_default()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Access key that stands for "nobody" on a local target.
const PLACEHOLDER_KEY: &str = "test";

#[cfg(test)]
mod tests;
