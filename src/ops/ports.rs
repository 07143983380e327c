//! What the use cases need of AWS, as traits; the `aws` room implements them all in one type.
//!
//! What does not exist is `None` and no error, because every plan begins with asking for it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::document::Document;
use crate::model::{AwsError, EndpointName, RuntimeName};

/// What a port gives.
pub type Answer<T> = Result<T, AwsError>;
/// Tags of a resource.
pub type Tags = BTreeMap<String, String>;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The account, twelve digits.
    pub account: String,
    /// The caller's ARN.
    pub arn: String,
}

impl Caller {
    /// `aws`, `aws-cn`, `aws-us-gov`, as the caller's own ARN says it.
    pub fn partition(&self) -> &str {
        self.arn.split(':').nth(1).filter(|p| !p.is_empty()).unwrap_or("aws")
    }
}

/// STS.
pub trait Identity {
    /// GetCallerIdentity.
    fn caller(&self) -> impl Future<Output = Answer<Caller>>;
}

/// A role of IAM.
#[derive(Debug, Clone, PartialEq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// Who may assume it.
    pub trust: Value,
    /// Its tags.
    pub tags: Tags,
}

/// IAM, as far as execution roles need it.
pub trait Roles {
    /// GetRole.
    fn role(&self, name: &str) -> impl Future<Output = Answer<Option<Role>>>;
    /// CreateRole; gives the ARN.
    fn create_role(&self, name: &str, trust: &Value, tags: &Tags) -> impl Future<Output = Answer<String>>;
    /// UpdateAssumeRolePolicy.
    fn set_trust(&self, name: &str, trust: &Value) -> impl Future<Output = Answer<()>>;
    /// GetRolePolicy.
    fn role_policy(&self, role: &str, policy: &str) -> impl Future<Output = Answer<Option<Value>>>;
    /// PutRolePolicy.
    fn put_role_policy(&self, role: &str, policy: &str, document: &Value)
    -> impl Future<Output = Answer<()>>;
    /// ListRolePolicies and ListAttachedRolePolicies: the names of inline, the ARNs of attached policies.
    fn role_policies(&self, role: &str) -> impl Future<Output = Answer<(Vec<String>, Vec<String>)>>;
    /// DeleteRolePolicy.
    fn delete_role_policy(&self, role: &str, policy: &str) -> impl Future<Output = Answer<()>>;
    /// DeleteRole.
    fn delete_role(&self, name: &str) -> impl Future<Output = Answer<()>>;
}

/// A repository of ECR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Its ARN.
    pub arn: String,
    /// What images are named by, without a tag.
    pub uri: String,
    /// Images are scanned when they are pushed.
    pub scan_on_push: bool,
    /// Its tags.
    pub tags: Tags,
}

/// How to log in to a registry.
#[derive(Clone)]
pub struct RegistryLogin {
    /// The registry's host.
    pub registry: String,
    /// The user.
    pub user: String,
    /// The password, good for hours.
    pub password: String,
}

/// ECR.
pub trait Repositories {
    /// DescribeRepositories and ListTagsForResource.
    fn repository(&self, name: &str) -> impl Future<Output = Answer<Option<Repository>>>;
    /// CreateRepository, with scan on push.
    fn create_repository(&self, name: &str, tags: &Tags) -> impl Future<Output = Answer<Repository>>;
    /// GetLifecyclePolicy.
    fn lifecycle_policy(&self, name: &str) -> impl Future<Output = Answer<Option<Value>>>;
    /// PutLifecyclePolicy.
    fn put_lifecycle_policy(&self, name: &str, policy: &Value) -> impl Future<Output = Answer<()>>;
    /// DescribeImages: the digest of an image by its tag or digest.
    fn image_digest(
        &self,
        registry: &str,
        repository: &str,
        reference: &str,
    ) -> impl Future<Output = Answer<Option<String>>>;
    /// GetAuthorizationToken.
    fn registry_login(&self) -> impl Future<Output = Answer<RegistryLogin>>;
    /// DeleteRepository, with its images.
    fn delete_repository(&self, name: &str) -> impl Future<Output = Answer<()>>;
}

/// A bucket of S3.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bucket {
    /// Its tags.
    pub tags: Tags,
}

/// S3. Every call names the account that the bucket must be of, because names of buckets can be taken by anybody.
pub trait Buckets {
    /// HeadBucket and GetBucketTagging.
    fn bucket(&self, name: &str, owner: &str) -> impl Future<Output = Answer<Option<Bucket>>>;
    /// CreateBucket in the region of the connection.
    fn create_bucket(&self, name: &str) -> impl Future<Output = Answer<()>>;
    /// PutBucketTagging.
    fn tag_bucket(&self, name: &str, owner: &str, tags: &Tags) -> impl Future<Output = Answer<()>>;
    /// HeadObject: its size.
    fn object_size(&self, bucket: &str, owner: &str, key: &str) -> impl Future<Output = Answer<Option<u64>>>;
    /// PutObject.
    fn upload(&self, bucket: &str, owner: &str, key: &str, file: &Path) -> impl Future<Output = Answer<()>>;
    /// ListObjectsV2: the keys that begin with `prefix`.
    fn objects(&self, bucket: &str, owner: &str, prefix: &str) -> impl Future<Output = Answer<Vec<String>>>;
    /// DeleteObject.
    fn delete_object(&self, bucket: &str, owner: &str, key: &str) -> impl Future<Output = Answer<()>>;
    /// DeleteBucket; fails when something is in it.
    fn delete_bucket(&self, name: &str, owner: &str) -> impl Future<Output = Answer<()>>;
}

/// A runtime as lists show it, or as a create or an update made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Its id.
    pub id: String,
    /// Its ARN.
    pub arn: String,
    /// Its newest version.
    pub version: String,
}

/// An endpoint of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// The version it is on, or on its way to.
    pub version: Option<String>,
    /// `description`.
    pub description: Option<String>,
}

/// The control plane of AgentCore.
pub trait Runtimes {
    /// ListAgentRuntimes: the one of this name.
    fn find_runtime(&self, name: &RuntimeName) -> impl Future<Output = Answer<Option<Runtime>>>;
    /// GetAgentRuntime, as the service wrote it.
    fn runtime(&self, id: &str) -> impl Future<Output = Answer<Option<Document>>>;
    /// CreateAgentRuntime.
    fn create_runtime(&self, document: &Document) -> impl Future<Output = Answer<Runtime>>;
    /// UpdateAgentRuntime.
    fn update_runtime(&self, id: &str, document: &Document) -> impl Future<Output = Answer<Runtime>>;
    /// Waits until it is READY; fails with the service's reason when it will not be. Gives what an emulator did so that
    /// it runs there, in words.
    fn wait_runtime(&self, id: &str) -> impl Future<Output = Answer<Vec<String>>>;
    /// DeleteAgentRuntime.
    fn delete_runtime(&self, id: &str) -> impl Future<Output = Answer<()>>;
    /// Waits until a deleted one is gone.
    fn wait_runtime_gone(&self, id: &str) -> impl Future<Output = Answer<()>>;
    /// ListAgentRuntimeEndpoints.
    fn endpoints(&self, id: &str) -> impl Future<Output = Answer<Vec<Endpoint>>>;
    /// CreateAgentRuntimeEndpoint.
    fn create_endpoint(
        &self,
        id: &str,
        name: &EndpointName,
        version: Option<&str>,
        description: Option<&str>,
        tags: &Tags,
    ) -> impl Future<Output = Answer<()>>;
    /// UpdateAgentRuntimeEndpoint.
    fn update_endpoint(
        &self,
        id: &str,
        name: &str,
        version: Option<&str>,
        description: Option<&str>,
    ) -> impl Future<Output = Answer<()>>;
    /// DeleteAgentRuntimeEndpoint.
    fn delete_endpoint(&self, id: &str, name: &str) -> impl Future<Output = Answer<()>>;
    /// Waits until an endpoint is READY, or gone when it was deleted.
    fn wait_endpoint(&self, id: &str, name: &str) -> impl Future<Output = Answer<()>>;
    /// ListTagsForResource.
    fn tags(&self, arn: &str) -> impl Future<Output = Answer<Tags>>;
    /// TagResource.
    fn tag(&self, arn: &str, tags: &Tags) -> impl Future<Output = Answer<()>>;
    /// UntagResource.
    fn untag(&self, arn: &str, keys: &[String]) -> impl Future<Output = Answer<()>>;
}

/// CloudWatch Logs.
pub trait LogGroups {
    /// DescribeLogGroups: the names that begin with `prefix`.
    fn log_groups(&self, prefix: &str) -> impl Future<Output = Answer<Vec<String>>>;
    /// DeleteLogGroup.
    fn delete_log_group(&self, name: &str) -> impl Future<Output = Answer<()>>;
}

/// All of them.
pub trait Cloud: Identity + Roles + Repositories + Buckets + Runtimes + LogGroups {}

impl<T: Identity + Roles + Repositories + Buckets + Runtimes + LogGroups> Cloud for T {}

/// An image of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalImage {
    /// What the local engine knows it by.
    pub reference: String,
    /// The hash over what it is made of, in hexadecimal digits. An image's own id is of no use for this: a builder
    /// that remembers nothing gives the same project another one.
    pub hash: String,
}

/// Why an image could not be brought to a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BuildError {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The last lines of what the engine said.
    pub details: Vec<String>,
}

/// Who brings images to a registry.
pub trait Builder {
    /// Gives the image another name and pushes that.
    fn push(
        &self,
        image: &LocalImage,
        name: &str,
        login: &RegistryLogin,
    ) -> impl Future<Output = Result<(), BuildError>>;
}
