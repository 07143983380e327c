//! `--aws-identity`: whose AWS credentials agents get.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::deploy::ROLE;
use crate::aws::{Identity, IdentityError, IdentityKind, NetworkSettings};
use crate::cli::exit::Failure;
use crate::egress::CredentialSource;
use crate::model::{AwsCredentials, Region};

/// Reads the words after the flag; nothing for `none`.
pub(crate) fn parse(words: &[String]) -> Result<Option<IdentityKind>, Failure> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["none"] => Ok(None),
        ["role"] => Ok(Some(IdentityKind::Role)),
        ["profile", name] if !name.is_empty() => Ok(Some(IdentityKind::Profile((*name).to_owned()))),
        ["profile", ..] => Err(Failure::usage("`--aws-identity profile` needs the name of one profile")
            .hint("write `--aws-identity profile NAME` with a profile of ~/.aws/config")),
        _ => Err(Failure::usage(format!("`{}` is no identity", words.join(" ")))
            .hint("write `--aws-identity none`, `profile NAME` or `role`")),
    }
}

/// The source for sessions, once it is known that the user's set-up has what it names.
pub(crate) async fn open(
    kind: IdentityKind,
    region: Region,
    network: &NetworkSettings,
) -> Result<Arc<dyn CredentialSource>, Failure> {
    let hint = match &kind {
        IdentityKind::Profile(name) => {
            format!("`aws configure --profile {name}` or `aws sso login --profile {name}` sets it up")
        }
        IdentityKind::Role => "set up default credentials, as for the AWS CLI".to_owned(),
    };
    let identity = Identity::new(kind, region, network).await?;
    match identity.check().await {
        Ok(()) => {}
        Err(e @ IdentityError::NotSetUp { .. }) => return Err(Failure::failed(e.to_string()).hint(hint)),
        // Perhaps the network is not there yet; agents will hear it, and each asks anew.
        Err(e) => tracing::warn!("{e}"),
    }
    Ok(Arc::new(Source(identity)))
}

struct Source(Identity);

impl CredentialSource for Source {
    fn name(&self) -> String {
        self.0.name()
    }

    fn credentials<'a>(&'a self, role: &'a str) -> BoxFuture<'a, Result<AwsCredentials, String>> {
        async move {
            if self.0.is_role() && role == ROLE {
                return Err("the agent's project names no role: set `aws: {execution_role: ARN}` in \
                            .bedrock_agentcore.yaml and deploy again"
                    .to_owned());
            }
            self.0.credentials(role).await.map_err(|e| e.to_string())
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_identities_and_no_other() {
        let of = |text: &str| parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(of("none").unwrap(), None);
        assert_eq!(of("").unwrap(), None);
        assert_eq!(of("role").unwrap(), Some(IdentityKind::Role));
        assert_eq!(of("profile dev").unwrap(), Some(IdentityKind::Profile("dev".into())));
        for wrong in ["profile", "dev", "role dev", "none none"] {
            assert_eq!(of(wrong).unwrap_err().class, crate::cli::exit::Class::Usage, "{wrong}");
        }
    }
}
