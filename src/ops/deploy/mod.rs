//! Deploying: what is in AWS ([`observe`]), what is left to do ([`plan`]), and the doing ([`apply`]).

use super::desired::Desired;
use super::names;
use super::policy::Scope;
use super::ports::{BuildError, Caller};
use crate::model::AwsError;

mod apply;
mod observe;
mod steps;

pub(super) use apply::failed;
pub use apply::{Fact, Outcome, Watcher, apply};
pub(super) use observe::find;
pub use observe::{FoundRole, FoundRuntime, Observed, observe};
pub use steps::{PlanOptions, plan};

/// Digits of an image's hash in its tag. [ours]
const TAG_DIGITS: usize = 32;
/// The endpoint that follows the newest version.
const DEFAULT: &str = "DEFAULT";

/// Why an agent was not deployed, or not taken away.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// AWS, before anything was changed.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// What the project wants does not go with what is there.
    #[error("{message}")]
    Refused {
        /// What is wrong.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// AWS, in the middle; what was done until then is recorded.
    #[error("{what}: {source}")]
    Step {
        /// The step.
        what: String,
        /// The cause.
        #[source]
        source: AwsError,
    },
    /// The image could not be pushed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// What was done could not be recorded.
    #[error("what was done could not be recorded: {0}")]
    Record(String),
}

pub(super) fn refuse<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, OpsError> {
    Err(OpsError::Refused { message: message.into(), hint: hint.into() })
}

/// Names of what a deployment is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    /// The caller's account, ARN and partition.
    pub caller: Caller,
    /// The region.
    pub region: String,
    /// The execution role's name and ARN.
    pub role: (String, String),
    /// The role is one that this program would make.
    pub own_role: bool,
    /// Account, name and URI of the image repository.
    pub repository: (String, String, String),
    /// Bucket and prefix of code packages.
    pub code: (String, String),
    /// The bucket is one that this program would make.
    pub own_bucket: bool,
}

impl Targets {
    /// Works them out; fails where the project is for another account.
    pub fn of(desired: &Desired, caller: Caller, region: &str) -> Result<Self, OpsError> {
        let account = caller.account.clone();
        if let Some(wanted) = desired.account.as_ref().filter(|wanted| **wanted != account) {
            return refuse(
                format!("the project is for account `{wanted}`, and the AWS credentials are of `{account}`"),
                "use credentials of that account (`--profile`), or correct `aws: {account: …}` in the project file",
            );
        }
        if let Some(arn) = &desired.recorded.arn {
            let parts: Vec<&str> = arn.split(':').collect();
            if let [_, _, _, there, whose, ..] = parts.as_slice()
                && (*there != region || *whose != account)
            {
                return refuse(
                    format!(
                        "the project is deployed in `{there}` of account `{whose}`, and this is `{region}` of `{account}`"
                    ),
                    format!(
                        "use `--region {there}`, or remove `agent_id` and `agent_arn` from the project file to begin anew"
                    ),
                );
            }
        }
        let partition = caller.partition().to_owned();
        let own_name = names::role(&desired.name, region);
        let own_arn = format!("arn:{partition}:iam::{account}:role/{own_name}");
        let (role, own_role) = match &desired.role {
            Some(arn) if *arn != own_arn => {
                let of = arn.split(':').nth(4).unwrap_or_default();
                if !arn.contains(":role/") || of != account {
                    return refuse(
                        format!("`{arn}` is no role of account `{account}`"),
                        "name a role by its whole ARN, in the account that the agent is deployed to",
                    );
                }
                let name = arn.rsplit('/').next().unwrap_or_default().to_owned();
                ((name, arn.clone()), false)
            }
            _ => ((own_name, own_arn), true),
        };
        let own_registry = names::registry(&account, region);
        let repository = match desired.repository.as_deref().filter(|r| !r.is_empty()) {
            Some(text) => match text.split_once('/') {
                Some((host, name)) if host.contains(".dkr.ecr.") => {
                    let whose = host.split('.').next().unwrap_or_default().to_owned();
                    let name = name.split([':', '@']).next().unwrap_or_default();
                    (whose, name.to_owned(), format!("{host}/{name}"))
                }
                _ => (account.clone(), text.to_owned(), format!("{own_registry}/{text}")),
            },
            None => {
                let name = names::repository(&desired.name);
                (account.clone(), name.clone(), format!("{own_registry}/{name}"))
            }
        };
        let own_code = names::bucket(&account, region);
        let code =
            match desired.code.as_deref().map(|c| c.trim_start_matches("s3://")).filter(|c| !c.is_empty()) {
                Some(text) => {
                    let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
                    (bucket.to_owned(), prefix.trim_matches('/').to_owned())
                }
                None => (own_code.clone(), String::new()),
            };
        let own_bucket = code.0 == own_code;
        Ok(Self { caller, region: region.to_owned(), role, own_role, repository, code, own_bucket })
    }

    pub(super) fn scope<'a>(&'a self, desired: &'a Desired) -> Scope<'a> {
        Scope {
            partition: self.caller.partition(),
            region: &self.region,
            account: &self.caller.account,
            agent: &desired.name,
        }
    }

    fn repository_arn(&self) -> String {
        let (account, name, uri) = &self.repository;
        let region = uri.split('.').nth(3).unwrap_or(&self.region);
        format!("arn:{}:ecr:{region}:{account}:repository/{name}", self.caller.partition())
    }

    /// The URI of an image that is on this machine yet.
    fn image_uri(&self, hash: &str) -> String {
        let digits: String = hash.chars().take(TAG_DIGITS).collect();
        format!("{}:{digits}", self.repository.2)
    }
}

/// The parts of an image's URI in a private registry.
struct Image {
    registry: String,
    region: String,
    repository: String,
    reference: String,
}

impl Image {
    fn parse(uri: &str) -> Option<Self> {
        let (host, rest) = uri.split_once('/')?;
        let parts: Vec<&str> = host.split('.').collect();
        let [registry, "dkr", "ecr", region, ..] = parts.as_slice() else { return None };
        let (name, digest) = match rest.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (rest, None),
        };
        let (repository, tag) = match name.split_once(':') {
            Some((repository, tag)) => (repository, tag),
            None => (name, "latest"),
        };
        Some(Self {
            registry: (*registry).to_owned(),
            region: (*region).to_owned(),
            repository: repository.to_owned(),
            reference: digest.unwrap_or(tag).to_owned(),
        })
    }

    fn arn(&self, partition: &str) -> String {
        format!("arn:{partition}:ecr:{}:{}:repository/{}", self.region, self.registry, self.repository)
    }
}
