//! AWS itself as the target, with the user's own credentials, found as every AWS tool finds them.

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;

use super::bearer::BearerToken;
use super::{AwsError, Connection, http_client};
use crate::model::{Region, limits};

/// How AWS is reached, as far as the user says it.
#[derive(Debug, Clone, Default)]
pub struct CloudSettings {
    /// A profile of the user's AWS configuration.
    pub profile: Option<String>,
    /// The region, before the one of the environment and the profile.
    pub region: Option<String>,
    /// Both planes of AgentCore.
    pub endpoint_url: Option<String>,
}

impl Connection {
    /// AWS, with the user's own credentials.
    pub async fn cloud(settings: CloudSettings) -> Result<Self, AwsError> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http_client(false));
        if let Some(profile) = &settings.profile {
            // A profile that is named wins over keys in the environment, as in the AWS CLI.
            let config = ProviderConfig::default().with_http_client(http_client(false));
            let provider =
                ProfileFileCredentialsProvider::builder().configure(&config).profile_name(profile).build();
            loader = loader.profile_name(profile).credentials_provider(provider);
        }
        if let Some(region) = settings.region {
            loader = loader.region(aws_config::Region::new(region));
        }
        Ok(Self { base: Some(loader.load().await), ..Self::at(settings.endpoint_url) })
    }

    /// A runtime with a JWT authorizer, called with a token of its identity provider and no AWS credentials.
    pub fn bearer(token: String, region: Region, endpoint_url: Option<String>) -> Self {
        let base = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(aws_config::Region::new(region.to_string()))
            .credentials_provider(SharedCredentialsProvider::new(super::nobody()))
            .http_client(http_client(false))
            .build();
        Self { base: Some(base), bearer: Some(BearerToken(token)), ..Self::at(endpoint_url) }
    }

    fn at(endpoint_url: Option<String>) -> Self {
        Self {
            endpoint: endpoint_url.unwrap_or_default(),
            region: None,
            local: false,
            read_timeout: limits::INVOKE_RESPONSE_TIMEOUT,
            key: None,
            base: None,
            bearer: None,
        }
    }
}
