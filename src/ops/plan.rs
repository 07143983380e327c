//! What is left to do, as data: the steps of a deployment or a removal, in their order.

use serde::Serialize;
use serde_json::Value;

use super::document::{Change, Document};
use super::ports::{LocalImage, Tags};
use crate::model::EndpointName;

/// A plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The agent.
    pub agent: String,
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The steps, what is kept among them.
    pub steps: Vec<Step>,
    /// Sessions whose storage is lost, where some may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<Reset>,
    /// What the user should know before saying yes.
    pub warnings: Vec<String>,
}

/// Storage that a plan loses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reset {
    /// The endpoints whose sessions lose their storage.
    pub endpoints: Vec<String>,
    /// Sessions of these that the project knows. AWS has no list of others.
    pub sessions: Vec<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What happens.
    pub action: Action,
    /// To what kind of thing.
    pub resource: Resource,
    /// Its name.
    pub name: String,
    /// Member by member, where something that exists is changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// Why, or what else there is to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What to do.
    #[serde(skip)]
    pub work: Work,
}

/// What happens to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is made.
    Create,
    /// It is there and is changed.
    Change,
    /// It is there as it should be.
    Keep,
    /// It is deleted.
    Delete,
}

/// Kinds of things in AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Resource {
    /// The execution role.
    Role,
    /// Its permissions.
    RolePolicy,
    /// The image repository.
    Repository,
    /// The repository's lifecycle policy.
    LifecyclePolicy,
    /// The image.
    Image,
    /// The bucket.
    Bucket,
    /// The code package.
    Package,
    /// The runtime: a version of it.
    Runtime,
    /// The runtime's tags.
    Tags,
    /// An endpoint.
    Endpoint,
    /// A log group.
    LogGroup,
}

impl Resource {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Role => "execution role",
            Self::RolePolicy => "role policy",
            Self::Repository => "repository",
            Self::LifecyclePolicy => "lifecycle policy",
            Self::Image => "image",
            Self::Bucket => "bucket",
            Self::Package => "code package",
            Self::Runtime => "runtime",
            Self::Tags => "tags",
            Self::Endpoint => "endpoint",
            Self::LogGroup => "log group",
        }
    }
}

/// What a step does when it is applied.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Nothing.
    None,
    /// Makes the role.
    CreateRole { name: String, trust: Value, tags: Tags },
    /// Changes who may assume it.
    SetTrust { name: String, trust: Value },
    /// Writes its permissions.
    PutRolePolicy { role: String, policy: Value },
    /// Makes the repository.
    CreateRepository { name: String, tags: Tags },
    /// Writes its lifecycle policy.
    PutLifecyclePolicy { repository: String, policy: Value },
    /// Pushes the image.
    Push { image: LocalImage, uri: String },
    /// Makes the bucket.
    CreateBucket { name: String, tags: Tags },
    /// Tags a bucket that was made before the run that made it came to its end.
    TagBucket { name: String, tags: Tags },
    /// Uploads the package.
    Upload { bucket: String, key: String, file: std::path::PathBuf },
    /// Makes the runtime.
    CreateRuntime { document: Document },
    /// Makes a version of it.
    UpdateRuntime { id: String, document: Document },
    /// Waits for a version that somebody has begun.
    WaitRuntime { id: String },
    /// Changes its tags.
    SetTags { arn: String, set: Tags, remove: Vec<String> },
    /// Makes an endpoint.
    CreateEndpoint { name: EndpointName, version: Option<String>, description: Option<String>, tags: Tags },
    /// Changes one.
    UpdateEndpoint { name: String, version: Option<String>, description: Option<String> },
    /// Deletes one.
    DeleteEndpoint { runtime: String, name: String },
    /// Deletes the runtime.
    DeleteRuntime { id: String },
    /// Deletes the role with the policies named.
    DeleteRole { name: String, policies: Vec<String> },
    /// Deletes the repository with its images.
    DeleteRepository { name: String },
    /// Deletes code packages.
    DeletePackages { bucket: String, keys: Vec<String> },
    /// Deletes the bucket, if it is empty.
    DeleteBucket { name: String },
    /// Deletes a log group.
    DeleteLogGroup { name: String },
}

impl Plan {
    /// True when nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| step.work == Work::None)
    }

    /// True when an image is brought to its registry.
    pub fn pushes(&self) -> bool {
        self.steps.iter().any(|s| matches!(s.work, Work::Push { .. }))
    }

    /// True when a version is made.
    pub fn makes_version(&self) -> bool {
        self.steps.iter().any(|s| matches!(s.work, Work::CreateRuntime { .. } | Work::UpdateRuntime { .. }))
    }
}

impl Step {
    /// A step that leaves things as they are.
    pub fn keep(resource: Resource, name: impl Into<String>) -> Self {
        Self::new(Action::Keep, resource, name, Work::None)
    }

    /// A step.
    pub fn new(action: Action, resource: Resource, name: impl Into<String>, work: Work) -> Self {
        Self { action, resource, name: name.into(), changes: Vec::new(), note: None, work }
    }

    /// With a remark.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// With what changes.
    pub fn changes(mut self, changes: Vec<Change>) -> Self {
        self.changes = changes;
        self
    }
}
