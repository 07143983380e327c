//! The identity of agents: credentials of the user's own AWS set-up, found as every AWS tool finds them.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::network::{Network, NetworkSettings};
use crate::model::{AwsCredentials, AwsError, Region, Timestamp, causes};

/// Longest search for credentials. [ours: a `credential_process` may ask a server]
const SEARCH_LIMIT: Duration = Duration::from_secs(30);
/// Credentials with less time left are renewed. [botocore asks for new ones 15 minutes before the end]
const RENEW_BEFORE: Duration = Duration::from_secs(16 * 60);
/// Name of the session in an assumed role, as CloudTrail shows it.
const ROLE_SESSION: &str = "agentcore-local";

/// Which identity agents get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityKind {
    /// A profile of the user's AWS configuration.
    Profile(String),
    /// The role that each runtime names, assumed with the user's default credentials.
    Role,
}

/// Why there are no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The set-up does not give any; nothing that waiting helps with.
    #[error("{who} gives no AWS credentials: {reason}")]
    NotSetUp {
        /// The profile, or the default chain.
        who: String,
        /// The SDK's words.
        reason: String,
    },
    /// They could not be had now.
    #[error("the AWS credentials of {who} cannot be had: {reason}")]
    Failed {
        /// The profile or the role.
        who: String,
        /// The SDK's words.
        reason: String,
    },
}

/// Finds credentials and keeps them until they near their end. One search at a time.
pub struct Identity {
    kind: IdentityKind,
    config: ProviderConfig,
    network: Network,
    region: Region,
    /// By role; of a profile there is one, under no name.
    kept: Mutex<HashMap<String, AwsCredentials>>,
}

impl Identity {
    /// An identity; `region` is where roles are assumed.
    pub async fn new(
        kind: IdentityKind,
        region: Region,
        network: &NetworkSettings,
    ) -> Result<Self, AwsError> {
        let profile = match &kind {
            IdentityKind::Profile(name) => Some(name.as_str()),
            IdentityKind::Role => None,
        };
        let network = Network::new(network, profile).await?;
        // A profile may lead to STS and SSO, but also to a server of plain HTTP on this machine.
        let config = ProviderConfig::without_region()
            .with_http_client(network.http_client())
            .with_region(Some(aws_config::Region::new(region.to_string())));
        Ok(Self { kind, config, network, region, kept: Mutex::default() })
    }

    /// What it is, for people.
    pub fn name(&self) -> String {
        match &self.kind {
            IdentityKind::Profile(name) => format!("profile {name}"),
            IdentityKind::Role => "role".to_owned(),
        }
    }

    /// True when each runtime has its own.
    pub fn is_role(&self) -> bool {
        self.kind == IdentityKind::Role
    }

    /// Says whether the set-up it rests on gives credentials at all.
    pub async fn check(&self) -> Result<(), IdentityError> {
        match &self.kind {
            IdentityKind::Profile(name) => self.of_profile(name).await.map(drop),
            IdentityKind::Role => {
                let who = "the default credential chain";
                let config = self.base().await;
                let Some(provider) = config.credentials_provider() else {
                    let reason = "it is empty".to_owned();
                    return Err(IdentityError::NotSetUp { who: who.to_owned(), reason });
                };
                search(who, provider.provide_credentials()).await.map(drop)
            }
        }
    }

    /// Credentials for a runtime with this role.
    pub async fn credentials(&self, role: &str) -> Result<AwsCredentials, IdentityError> {
        let key = match self.kind {
            IdentityKind::Profile(_) => "",
            IdentityKind::Role => role,
        };
        let mut kept = self.kept.lock().await;
        if let Some(known) = kept.get(key).filter(|known| lasts(known, RENEW_BEFORE)) {
            return Ok(known.clone());
        }
        let found = match &self.kind {
            IdentityKind::Profile(name) => self.of_profile(name).await,
            IdentityKind::Role => self.of_role(role).await,
        };
        match found {
            Ok(found) => {
                let found = plain(&found);
                if found.expires_at.is_some() {
                    kept.insert(key.to_owned(), found.clone());
                }
                Ok(found)
            }
            // What is kept may still do until the next try.
            Err(e) => kept.get(key).filter(|known| lasts(known, Duration::ZERO)).cloned().ok_or(e),
        }
    }

    async fn of_profile(&self, name: &str) -> Result<Credentials, IdentityError> {
        // Made anew each time: it reads the user's files once, and they change.
        let provider =
            ProfileFileCredentialsProvider::builder().configure(&self.config).profile_name(name).build();
        search(&format!("profile `{name}`"), provider.provide_credentials()).await
    }

    async fn of_role(&self, role: &str) -> Result<Credentials, IdentityError> {
        let config = self.base().await;
        let provider =
            AssumeRoleProvider::builder(role).configure(&config).session_name(ROLE_SESSION).build().await;
        search(&format!("role `{role}`"), provider.provide_credentials()).await
    }

    async fn base(&self) -> SdkConfig {
        // The emulator's region and not the user's: the SDK's search for that needs its default HTTP client, which is
        // not built in. Every region of a partition assumes the same roles.
        let region = aws_config::Region::new(self.region.to_string());
        aws_config::defaults(BehaviorVersion::latest())
            .http_client(self.network.http_client())
            .region(region)
            .load()
            .await
    }
}

async fn search(
    who: &str,
    searching: impl Future<Output = Result<Credentials, CredentialsError>>,
) -> Result<Credentials, IdentityError> {
    let who = who.to_owned();
    match timeout(SEARCH_LIMIT, searching).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(e)) => {
            let reason = causes(&e);
            match e {
                CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => {
                    Err(IdentityError::NotSetUp { who, reason })
                }
                _ => Err(IdentityError::Failed { who, reason }),
            }
        }
        Err(_) => {
            let reason = format!("nothing came within {} s", SEARCH_LIMIT.as_secs());
            Err(IdentityError::Failed { who, reason })
        }
    }
}

fn lasts(credentials: &AwsCredentials, at_least: Duration) -> bool {
    let until = stamp(SystemTime::now()).plus(at_least);
    credentials.expires_at.is_some_and(|end| end > until)
}

fn stamp(time: SystemTime) -> Timestamp {
    Timestamp(0).plus(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn plain(credentials: &Credentials) -> AwsCredentials {
    AwsCredentials {
        access_key_id: credentials.access_key_id().to_owned(),
        secret_access_key: credentials.secret_access_key().to_owned(),
        session_token: credentials.session_token().map(str::to_owned),
        expires_at: credentials.expiry().map(stamp),
    }
}
