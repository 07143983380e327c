//! ECR.

use aws_sdk_ecr::error::BuildError;
use aws_sdk_ecr::types::{ImageIdentifier, ImageScanningConfiguration, Repository as SdkRepository, Tag};
use base64::Engine;
use serde_json::Value;

use super::Services;
use crate::aws::error::from_sdk;
use crate::model::AwsError;
use crate::ops::ports::{Answer, RegistryLogin, Repositories, Repository, Tags};

impl Repositories for Services {
    async fn repository(&self, name: &str) -> Answer<Option<Repository>> {
        let call = self.ecr.describe_repositories().repository_names(name).send().await;
        let found = match call.map_err(|e| from_sdk("DescribeRepositories", e)) {
            Ok(said) => said.repositories.unwrap_or_default().into_iter().next(),
            Err(e) if e.is_not_found() => None,
            Err(e) => return Err(e),
        };
        let Some(found) = found else { return Ok(None) };
        let arn = found.repository_arn.clone().unwrap_or_default();
        let tags = self.ecr.list_tags_for_resource().resource_arn(arn).send().await;
        let tags = tags.map_err(|e| from_sdk("ListTagsForResource", e))?.tags.unwrap_or_default();
        Ok(Some(repository(found, tags.into_iter().map(|t| (t.key, t.value)).collect())))
    }

    async fn create_repository(&self, name: &str, tags: &Tags) -> Answer<Repository> {
        const OPERATION: &str = "CreateRepository";
        let list: Result<Vec<Tag>, BuildError> =
            tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let list = list.map_err(|e| AwsError::Request { operation: OPERATION, reason: e.to_string() })?;
        let call = self
            .ecr
            .create_repository()
            .repository_name(name)
            .image_scanning_configuration(ImageScanningConfiguration::builder().scan_on_push(true).build())
            .set_tags(Some(list));
        let said = call.send().await.map_err(|e| from_sdk(OPERATION, e))?;
        let made = said.repository.ok_or_else(|| AwsError::Broken {
            operation: OPERATION,
            reason: "the answer has no repository".to_owned(),
        })?;
        Ok(repository(made, tags.clone()))
    }

    async fn lifecycle_policy(&self, name: &str) -> Answer<Option<Value>> {
        let call = self.ecr.get_lifecycle_policy().repository_name(name);
        match call.send().await.map_err(|e| from_sdk("GetLifecyclePolicy", e)) {
            Ok(said) => Ok(said.lifecycle_policy_text.and_then(|text| serde_json::from_str(&text).ok())),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn put_lifecycle_policy(&self, name: &str, policy: &Value) -> Answer<()> {
        let call = self.ecr.put_lifecycle_policy().repository_name(name);
        let call = call.lifecycle_policy_text(policy.to_string());
        call.send().await.map(drop).map_err(|e| from_sdk("PutLifecyclePolicy", e))
    }

    async fn image_digest(
        &self,
        registry: &str,
        repository: &str,
        reference: &str,
    ) -> Answer<Option<String>> {
        let image = match reference.contains(':') {
            true => ImageIdentifier::builder().image_digest(reference),
            false => ImageIdentifier::builder().image_tag(reference),
        };
        let call = self.ecr.describe_images().registry_id(registry).repository_name(repository);
        match call.image_ids(image.build()).send().await.map_err(|e| from_sdk("DescribeImages", e)) {
            Ok(said) => Ok(said.image_details.unwrap_or_default().into_iter().find_map(|i| i.image_digest)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn registry_login(&self) -> Answer<RegistryLogin> {
        const OPERATION: &str = "GetAuthorizationToken";
        let said = self.ecr.get_authorization_token().send().await;
        let said = said.map_err(|e| from_sdk(OPERATION, e))?;
        let broken = |reason: &str| AwsError::Broken { operation: OPERATION, reason: reason.to_owned() };
        let data = said.authorization_data.unwrap_or_default().into_iter().next();
        let data = data.ok_or_else(|| broken("the answer has no token"))?;
        let token = data.authorization_token.unwrap_or_default();
        let plain = base64::engine::general_purpose::STANDARD.decode(token).unwrap_or_default();
        let plain = String::from_utf8(plain).unwrap_or_default();
        let (user, password) = plain.split_once(':').ok_or_else(|| broken("the token is no login"))?;
        let endpoint = data.proxy_endpoint.unwrap_or_default();
        let registry = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, host)| host);
        Ok(RegistryLogin {
            registry: registry.trim_end_matches('/').to_owned(),
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }

    async fn delete_repository(&self, name: &str) -> Answer<()> {
        let call = self.ecr.delete_repository().repository_name(name).force(true);
        call.send().await.map(drop).map_err(|e| from_sdk("DeleteRepository", e))
    }
}

fn repository(from: SdkRepository, tags: Tags) -> Repository {
    Repository {
        arn: from.repository_arn.unwrap_or_default(),
        uri: from.repository_uri.unwrap_or_default(),
        scan_on_push: from.image_scanning_configuration.is_some_and(|c| c.scan_on_push),
        tags,
    }
}
