//! The only room that knows the AWS SDK: one constructor for every client, plain values in and out,
//! SDK errors mapped once.
//!
//! The SDK's defaults do not fit this service. Its stalled-stream protection ends a silent stream
//! after seconds although an agent may think for minutes; it wants a CA bundle even for plain HTTP;
//! it repeats calls that may have run. So every client is made by [`Connection`], which turns the
//! first off, gives plain-HTTP targets a connector without TLS and TLS bundled roots beside the
//! machine's own (`network`, which also knows the proxies), and repeats only what cannot have run or
//! has a token against running twice.

use std::sync::Arc;
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use crate::model::{AccessKey, Region, limits};

use bearer::BearerToken;
use network::Network;
use told::Told;

mod bearer;
mod control;
mod data;
mod error;
mod identity;
mod kept;
mod look;
mod network;
mod retry;
mod services;
mod shell;
mod told;

pub use crate::model::AwsError;
pub use control::{ControlClient, Difference, RuntimeSettings, RuntimeSummary, Written};
pub use data::{Answer, CommandCall, CommandStream, DataClient, InvokeCall, SessionCall};
pub use identity::{Identity, IdentityError, IdentityKind};
pub use look::{EndpointRow, LogEvent, LogsClient, RuntimeDetails, RuntimeRow};
pub use network::NetworkSettings;
pub use services::Services;
pub use shell::{ShellConnection, ShellMessage};

/// Longest wait for a connection. [ours]
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the answer of a call that no agent answers. [botocore's read timeout]
const CONTROL_RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a call that cannot have run is sent at most. [ours]
const MAX_ATTEMPTS: u32 = 5;

/// A target and how it is reached: what every client is made from.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Region, credentials, HTTP client and time limits. One of them makes the clients of every service.
    base: SdkConfig,
    /// Where both planes of AgentCore are, when that is told and not found by the SDK.
    planes: Option<String>,
    local: bool,
    /// Buckets stand in the path and not in the host name.
    path_style: bool,
    /// Limit for the time to the head of an agent's response; an agent may think for minutes.
    read_timeout: Duration,
    /// Sent in place of a signature.
    bearer: Option<BearerToken>,
    told: Option<Told>,
    /// Where shells are, which the SDK does not reach.
    shells: Option<String>,
    /// How they are reached.
    network: Network,
}

/// How AWS is reached, as far as the user says it; the rest is found as every AWS tool finds it.
#[derive(Debug, Clone, Default)]
pub struct CloudSettings {
    /// A profile of the user's AWS configuration.
    pub profile: Option<String>,
    /// The region, before the one of the environment and the profile.
    pub region: Option<String>,
    /// Both planes of AgentCore; `AWS_ENDPOINT_URL[_SERVICE]` move the others too.
    pub endpoint_url: Option<String>,
    /// Buckets stand in the path and not in the host name, as servers other than AWS want it.
    pub path_style: bool,
    /// Proxies and trusted certificates.
    pub network: NetworkSettings,
}

impl Connection {
    /// An emulator at `endpoint`. Nothing of the user's AWS profile is read; a refused connection is final.
    pub fn local(endpoint: impl Into<String>, region: Region) -> Self {
        let endpoint = endpoint.into();
        let base = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(aws_config::Region::new(region.to_string()))
            .credentials_provider(local_credentials(PLACEHOLDER_KEY, PLACEHOLDER_KEY))
            .http_client(plain_client())
            .timeout_config(timeouts(limits::INVOKE_RESPONSE_TIMEOUT))
            .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Self::new(base, Some(endpoint), true)
    }

    /// AWS, with the user's own credentials. Fails at once where there is no region or are no credentials.
    pub async fn cloud(settings: CloudSettings) -> Result<Self, AwsError> {
        let network = Network::new(&settings.network, settings.profile.as_deref()).await?;
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(network.http_client())
            .timeout_config(timeouts(CONTROL_RESPONSE_TIMEOUT))
            .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS));
        let mut who = "the default chain (environment, profile, SSO, instance)".to_owned();
        if let Some(profile) = &settings.profile {
            // A profile that is named wins over keys in the environment, as in the AWS CLI.
            let config = ProviderConfig::default().with_http_client(network.http_client());
            let provider =
                ProfileFileCredentialsProvider::builder().configure(&config).profile_name(profile).build();
            loader = loader.profile_name(profile).credentials_provider(provider);
            who = format!("profile `{profile}`");
        }
        if let Some(region) = settings.region {
            loader = loader.region(aws_config::Region::new(region));
        }
        let base = loader.load().await;
        if base.region().is_none() {
            return Err(AwsError::NoRegion);
        }
        match base.credentials_provider() {
            Some(provider) => {
                provider.provide_credentials().await.map_err(|e| error::from_credentials(&who, &e))?;
            }
            None => {
                let reason = "none are configured".to_owned();
                return Err(AwsError::Credentials { who, reason, expired: false });
            }
        }
        let path_style = settings.path_style;
        Ok(Self { path_style, network, ..Self::new(base, settings.endpoint_url, false) })
    }

    /// A runtime with a JWT authorizer, called with a token of its identity provider and no AWS credentials: of a
    /// profile only its certificates matter.
    pub async fn bearer(
        token: String,
        region: &Region,
        endpoint_url: Option<String>,
        network: &NetworkSettings,
        profile: Option<&str>,
    ) -> Result<Self, AwsError> {
        let network = Network::new(network, profile).await?;
        let base = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(aws_config::Region::new(region.to_string()))
            .credentials_provider(local_credentials(PLACEHOLDER_KEY, PLACEHOLDER_KEY))
            .http_client(network.http_client())
            .timeout_config(timeouts(CONTROL_RESPONSE_TIMEOUT))
            .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
            .build();
        let bearer = Some(BearerToken(token));
        Ok(Self { bearer, network, ..Self::new(base, endpoint_url, false) })
    }

    fn new(base: SdkConfig, planes: Option<String>, local: bool) -> Self {
        let read_timeout = limits::INVOKE_RESPONSE_TIMEOUT;
        Self {
            base,
            planes,
            local,
            path_style: local,
            read_timeout,
            bearer: None,
            told: None,
            shells: None,
            network: Network::default(),
        }
    }

    /// With another address for shells than the planes' own: what the SDK finds in the environment for itself.
    pub fn with_shells_at(mut self, endpoint: Option<String>) -> Self {
        self.shells = endpoint;
        self
    }

    /// With somebody who is told of each call that is sent again, and why.
    pub fn telling(mut self, listener: impl Fn(String) + Send + Sync + 'static) -> Self {
        self.told = Some(Told(Arc::new(listener)));
        self
    }

    /// With the access key to sign with; without one, calls are signed by nobody.
    pub fn with_key(mut self, key: AccessKey) -> Self {
        let credentials = local_credentials(&key.access_key_id, &key.secret_access_key);
        self.base = self.base.into_builder().credentials_provider(credentials).build();
        self
    }

    /// With another limit for the time to the head of an agent's response.
    pub fn with_read_timeout(mut self, limit: Duration) -> Self {
        self.read_timeout = limit;
        self
    }

    /// The region.
    pub fn region(&self) -> &str {
        self.base.region().map_or("", |r| r.as_ref())
    }

    /// Where the AgentCore planes are, when they were told.
    pub fn endpoint(&self) -> Option<&str> {
        self.planes.as_deref()
    }

    /// A client of the data plane.
    pub fn data(&self) -> DataClient {
        use aws_sdk_bedrockagentcore::{Client, config};
        let mut builder = config::Builder::from(&self.base)
            .retry_classifier(self.only_what_cannot_have_run())
            .timeout_config(timeouts(self.read_timeout))
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(endpoint) = &self.planes {
            builder = builder.endpoint_url(endpoint);
        }
        if let Some(token) = &self.bearer {
            builder = builder.interceptor(token.clone());
        }
        if let Some(told) = &self.told {
            builder = builder.interceptor(told.clone());
        }
        DataClient::new(Client::from_conf(builder.build()))
    }

    /// A client of the control plane.
    pub fn control(&self) -> ControlClient {
        ControlClient::new(self.raw_control())
    }

    fn raw_control(&self) -> aws_sdk_bedrockagentcorecontrol::Client {
        use aws_sdk_bedrockagentcorecontrol::{Client, config};
        let mut builder = config::Builder::from(&self.base);
        if let Some(endpoint) = &self.planes {
            builder = builder.endpoint_url(endpoint);
        }
        // Every operation of this plane that changes something carries a token or can be said twice, so AWS is
        // asked again as the SDK thinks right; a local target's answer is final.
        if self.local {
            builder = builder.retry_classifier(self.only_what_cannot_have_run());
        }
        Client::from_conf(builder.build())
    }

    fn only_what_cannot_have_run(&self) -> retry::OnlyWhatCannotHaveRun {
        retry::OnlyWhatCannotHaveRun { reconnect: !self.local }
    }
}

fn local_credentials(id: &str, secret: &str) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new(id, secret, None, None, "agentcore-local"))
}

fn timeouts(read: Duration) -> TimeoutConfig {
    // No operation timeout: it would end a stream that is still giving.
    TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(read).build()
}

/// A client for plain HTTP alone, which asks no proxy: the emulator is on this machine.
fn plain_client() -> SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let mut builder = Connector::builder();
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(|c| c.sleep_impl()));
        builder.build_http()
    })
}

/// Access key that stands for "nobody" on a local target.
const PLACEHOLDER_KEY: &str = "test";

#[cfg(test)]
mod tests;
