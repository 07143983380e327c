//! What is in AWS already.

use serde_json::Value;

use super::{Image, OpsError, Targets};
use crate::ops::desired::{Artifact, Desired};
use crate::ops::document::Document;
use crate::ops::names;
use crate::ops::ports::{Bucket, Cloud, Endpoint, Repository, Role, Runtime, Tags};

/// What there is of a role.
#[derive(Debug, Clone, PartialEq)]
pub enum FoundRole {
    /// None of this name.
    Missing,
    /// This.
    Here {
        /// The role.
        role: Role,
        /// The permissions that this program gave it.
        permissions: Option<Value>,
    },
    /// The caller may not look.
    Hidden,
}

/// What there is of a runtime.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundRuntime {
    /// Id, ARN, newest version.
    pub runtime: Runtime,
    /// Everything it is set to.
    pub document: Document,
    /// Its tags.
    pub tags: Tags,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

impl FoundRuntime {
    pub(super) fn status(&self) -> &str {
        self.document.text(&["status"]).unwrap_or_default()
    }
}

/// What there is.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The execution role.
    pub role: FoundRole,
    /// The image repository and its lifecycle policy.
    pub repository: Option<(Repository, Option<Value>)>,
    /// The artifact is where it should be.
    pub artifact: bool,
    /// The bucket for code packages.
    pub bucket: Option<Bucket>,
    /// The runtime.
    pub runtime: Option<FoundRuntime>,
    /// The runtime that the project file names is there no more.
    pub recorded_gone: bool,
    /// What could not be looked at.
    pub unseen: Vec<String>,
}

/// Looks at everything that the deployment is about.
pub async fn observe<C: Cloud>(
    cloud: &C,
    desired: &Desired,
    artifact: &Artifact,
    targets: &Targets,
) -> Result<Observed, OpsError> {
    let account = &targets.caller.account;
    let mut unseen = Vec::new();
    let role = match cloud.role(&targets.role.0).await {
        Ok(None) => FoundRole::Missing,
        Ok(Some(role)) => {
            let permissions = match targets.own_role {
                true => cloud.role_policy(&targets.role.0, names::POLICY).await?,
                false => None,
            };
            FoundRole::Here { role, permissions }
        }
        Err(e) if e.is_denied() && !targets.own_role => FoundRole::Hidden,
        Err(e) => return Err(e.into()),
    };
    let mut observed = Observed {
        role,
        repository: None,
        artifact: false,
        bucket: None,
        runtime: None,
        recorded_gone: false,
        unseen: Vec::new(),
    };
    match artifact {
        Artifact::Image { uri } => {
            let image = Image::parse(uri);
            if let Some(image) = image.filter(|i| i.registry == *account) {
                match cloud.image_digest(&image.registry, &image.repository, &image.reference).await {
                    Ok(found) => observed.artifact = found.is_some(),
                    Err(e) if e.is_denied() => {
                        unseen.push(format!("whether image `{uri}` exists: the caller may not look"));
                        observed.artifact = true;
                    }
                    Err(e) => return Err(e.into()),
                }
            } else {
                observed.artifact = true;
            }
        }
        Artifact::Built(image) => {
            let (whose, name, _) = &targets.repository;
            if whose == account {
                if let Some(repository) = cloud.repository(name).await? {
                    let lifecycle = match cloud.lifecycle_policy(name).await {
                        Err(e) if e.is_denied() && !names::is_ours(&repository.tags) => None,
                        other => other?,
                    };
                    observed.repository = Some((repository, lifecycle));
                    let uri = targets.image_uri(&image.hash);
                    let tag = uri.rsplit(':').next().unwrap_or_default();
                    observed.artifact = cloud.image_digest(whose, name, tag).await?.is_some();
                }
            } else {
                let tag = targets.image_uri(&image.hash);
                let tag = tag.rsplit(':').next().unwrap_or_default();
                observed.artifact = cloud.image_digest(whose, name, tag).await?.is_some();
            }
        }
        Artifact::Package(package) => {
            let (bucket, prefix) = &targets.code;
            observed.bucket = cloud.bucket(bucket, account).await?;
            if observed.bucket.is_some() {
                let key = names::package_key(prefix, &desired.name, &package.hash);
                let size = cloud.object_size(bucket, account, &key).await?;
                observed.artifact = size == Some(package.bytes);
            }
        }
    }
    let (runtime, gone) = find(cloud, desired).await?;
    observed.runtime = runtime;
    observed.recorded_gone = gone;
    observed.unseen = unseen;
    Ok(observed)
}

/// The runtime of the project: the recorded one, else the one of its name. True: the recorded one is gone.
pub(in crate::ops) async fn find<C: Cloud>(
    cloud: &C,
    desired: &Desired,
) -> Result<(Option<FoundRuntime>, bool), OpsError> {
    let mut gone = false;
    let mut found = None;
    if let Some(id) = &desired.recorded.id {
        match cloud.runtime(id).await? {
            Some(document) => found = Some((id.clone(), document)),
            None => gone = true,
        }
    }
    if found.is_none()
        && let Some(runtime) = cloud.find_runtime(&desired.name).await?
        && let Some(document) = cloud.runtime(&runtime.id).await?
    {
        found = Some((runtime.id, document));
    }
    let Some((id, mut document)) = found else { return Ok((None, gone)) };
    // A version that somebody is making comes to its end first; whether it is a good one is seen below.
    if matches!(document.text(&["status"]), Some("CREATING" | "UPDATING")) {
        let _ = cloud.wait_runtime(&id).await;
        match cloud.runtime(&id).await? {
            Some(now) => document = now,
            None => return Ok((None, gone)),
        }
    }
    let text = |name: &str| document.text(&[name]).unwrap_or_default().to_owned();
    let runtime =
        Runtime { id: id.clone(), arn: text("agentRuntimeArn"), version: text("agentRuntimeVersion") };
    let tags = match cloud.tags(&runtime.arn).await {
        Err(e) if e.is_denied() => Tags::new(),
        other => other?,
    };
    let endpoints = cloud.endpoints(&id).await?;
    Ok((Some(FoundRuntime { runtime, document, tags, endpoints }), gone))
}
