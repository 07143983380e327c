//! Deploying: what is in AWS, what is left to do, and the doing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::desired::{Artifact, Desired, image_member};
use super::document::Document;
use super::names;
use super::plan::{Action, Plan, Reset, Resource, Step, Work};
use super::policy::{self, Scope};
use super::ports::{Bucket, BuildError, Builder, Caller, Cloud, Endpoint, Repository, Role, Runtime, Tags};
use crate::model::AwsError;

/// How long a new role may take until AgentCore sees it, and how long between two tries, growing. [ours; IAM says
/// that changes take seconds to be seen everywhere]
const ROLE_SETTLES: Duration = Duration::from_secs(60);
const ROLE_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
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
    fn status(&self) -> &str {
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
pub(super) async fn find<C: Cloud>(
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

/// How a deployment is to be planned.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// A version is made although nothing changed.
    pub force: bool,
    /// A runtime of this name that the project does not know is taken over.
    pub adopt: bool,
    /// Sessions that the project knows.
    pub sessions: Vec<String>,
}

/// What is left to do. Pure.
pub fn plan(
    desired: &Desired,
    artifact: &Artifact,
    targets: &Targets,
    observed: &Observed,
    options: &PlanOptions,
) -> Result<Plan, OpsError> {
    let mut plan = Plan {
        agent: desired.name.to_string(),
        account: targets.caller.account.clone(),
        region: targets.region.clone(),
        steps: Vec::new(),
        reset: None,
        warnings: observed.unseen.iter().map(|what| format!("not known: {what}")).collect(),
    };
    if observed.recorded_gone
        && let Some(id) = &desired.recorded.id
    {
        plan.warnings.push(format!("runtime `{id}`, which the project file names, does not exist any more"));
    }
    plan_role(&mut plan, desired, artifact, targets, observed)?;
    let member = plan_artifact(&mut plan, desired, artifact, targets, observed, options.force)?;
    plan_runtime(&mut plan, desired, member, targets, observed, options)?;
    Ok(plan)
}

fn plan_role(
    plan: &mut Plan,
    desired: &Desired,
    artifact: &Artifact,
    targets: &Targets,
    observed: &Observed,
) -> Result<(), OpsError> {
    let (name, arn) = &targets.role;
    let scope = targets.scope(desired);
    if !targets.own_role {
        let step = Step::keep(Resource::Role, arn);
        match &observed.role {
            FoundRole::Missing => {
                return refuse(
                    format!("the execution role `{arn}` does not exist"),
                    "name one that does with `--execution-role`, or remove `execution_role` from the project \
                     file and one is made",
                );
            }
            FoundRole::Hidden => {
                plan.steps.push(step.note("given; not checked, because the caller may not read it"));
            }
            FoundRole::Here { role, .. } if !policy::trusts_the_service(&role.trust) => {
                return refuse(
                    format!("the execution role `{arn}` cannot be assumed by AgentCore"),
                    "its trust policy must allow `sts:AssumeRole` to the service `bedrock-agentcore.amazonaws.com`",
                );
            }
            FoundRole::Here { .. } => plan.steps.push(step.note("given")),
        }
        return Ok(());
    }
    let image = match artifact {
        Artifact::Package(_) => None,
        Artifact::Built(_) => Some(targets.repository_arn()),
        Artifact::Image { uri } => Image::parse(uri).map(|i| i.arn(targets.caller.partition())),
    };
    let trust = policy::trust(scope);
    let permissions = policy::permissions(scope, image.as_deref(), desired.models.as_deref());
    let mut known = None;
    match &observed.role {
        FoundRole::Here { role, permissions: now } => {
            if !names::is_ours_for(&role.tags, &desired.name) {
                return refuse(
                    format!("a role `{name}` exists and was not created by this tool"),
                    format!("use it with `--execution-role {arn}`, or delete it"),
                );
            }
            plan.steps.push(match role.trust == trust {
                true => Step::keep(Resource::Role, name),
                false => {
                    let work = Work::SetTrust { name: name.clone(), trust };
                    Step::new(Action::Change, Resource::Role, name, work).note("who may assume it")
                }
            });
            known = now.clone();
        }
        _ => {
            let work = Work::CreateRole { name: name.clone(), trust, tags: names::tags(&desired.name) };
            plan.steps.push(Step::new(Action::Create, Resource::Role, name, work));
        }
    }
    let action = if known.is_some() { Action::Change } else { Action::Create };
    plan.steps.push(match known.as_ref() == Some(&permissions) {
        true => Step::keep(Resource::RolePolicy, names::POLICY),
        false => {
            let work = Work::PutRolePolicy { role: name.clone(), policy: permissions };
            Step::new(action, Resource::RolePolicy, names::POLICY, work)
        }
    });
    Ok(())
}

/// Plans what the artifact needs; gives its member of the document.
fn plan_artifact(
    plan: &mut Plan,
    desired: &Desired,
    artifact: &Artifact,
    targets: &Targets,
    observed: &Observed,
    force: bool,
) -> Result<Value, OpsError> {
    match artifact {
        Artifact::Image { uri } => {
            if !observed.artifact {
                return refuse(
                    format!("there is no image `{uri}`"),
                    "push it first, or leave `--image` out and it is built",
                );
            }
            plan.steps.push(Step::keep(Resource::Image, uri).note("given"));
            Ok(image_member(uri))
        }
        Artifact::Built(image) => {
            let (whose, name, uri) = &targets.repository;
            let policy = policy::untagged_images();
            let rule = || Work::PutLifecyclePolicy { repository: name.clone(), policy: policy.clone() };
            match &observed.repository {
                _ if *whose != targets.caller.account => {
                    plan.steps.push(Step::keep(Resource::Repository, uri).note("of another account"));
                }
                Some((repository, lifecycle)) => {
                    plan.steps.push(Step::keep(Resource::Repository, name));
                    // Somebody else's repository has the rules that somebody else wants.
                    if names::is_ours(&repository.tags) && lifecycle.as_ref() != Some(&policy) {
                        plan.steps.push(Step::new(Action::Create, Resource::LifecyclePolicy, name, rule()));
                    }
                }
                None => {
                    let work =
                        Work::CreateRepository { name: name.clone(), tags: names::tags(&desired.name) };
                    plan.steps.push(
                        Step::new(Action::Create, Resource::Repository, name, work)
                            .note("images are scanned on push"),
                    );
                    plan.steps.push(
                        Step::new(Action::Create, Resource::LifecyclePolicy, name, rule())
                            .note("images without a tag are deleted"),
                    );
                }
            }
            let uri = targets.image_uri(&image.hash);
            plan.steps.push(match observed.artifact && !force {
                true => Step::keep(Resource::Image, &uri),
                false => {
                    let work = Work::Push { image: image.clone(), uri: uri.clone() };
                    Step::new(Action::Create, Resource::Image, &uri, work).note("built and pushed")
                }
            });
            Ok(image_member(&uri))
        }
        Artifact::Package(package) => {
            let (bucket, prefix) = &targets.code;
            match &observed.bucket {
                None if !targets.own_bucket => {
                    return refuse(
                        format!("the bucket `{bucket}`, which the project file names, does not exist"),
                        "create it, or remove `s3_path` from the project file and one is made",
                    );
                }
                None => {
                    let work = Work::CreateBucket { name: bucket.clone(), tags: names::shared_tags() };
                    plan.steps.push(Step::new(Action::Create, Resource::Bucket, bucket, work));
                }
                Some(found) if targets.own_bucket && found.tags.is_empty() => {
                    let work = Work::TagBucket { name: bucket.clone(), tags: names::shared_tags() };
                    plan.steps.push(Step::new(Action::Change, Resource::Bucket, bucket, work).note("tags"));
                }
                Some(_) => plan.steps.push(Step::keep(Resource::Bucket, bucket)),
            }
            let key = names::package_key(prefix, &desired.name, &package.hash);
            let name = format!("s3://{bucket}/{key}");
            plan.steps.push(match observed.artifact {
                true => Step::keep(Resource::Package, name),
                false => {
                    let file = package.file.clone();
                    let work = Work::Upload { bucket: bucket.clone(), key: key.clone(), file };
                    Step::new(Action::Create, Resource::Package, name, work)
                        .note(format!("{:.1} MB", package.bytes as f64 / 1e6))
                }
            });
            Ok(package.member(bucket, &key))
        }
    }
}

fn plan_runtime(
    plan: &mut Plan,
    desired: &Desired,
    artifact: Value,
    targets: &Targets,
    observed: &Observed,
    options: &PlanOptions,
) -> Result<(), OpsError> {
    let mut members = desired.members.clone();
    members.insert("agentRuntimeArtifact".to_owned(), artifact);
    members.insert("roleArn".to_owned(), json!(targets.role.1));
    let mut tags = names::tags(&desired.name);
    tags.extend(desired.tags.clone().unwrap_or_default());
    let name = desired.name.as_str();
    let Some(found) = &observed.runtime else {
        let mut document = Document::default().with(&members);
        document.set("agentRuntimeName", json!(name));
        document.set("tags", json!(tags));
        if document.get("networkConfiguration").is_none() {
            document.set("networkConfiguration", json!({ "networkMode": "PUBLIC" }));
        }
        let mut shown = document.clone();
        shown.set("tags", Value::Null);
        let changes = Document::default().changes(&Document::default().with(shown.members()));
        let step = Step::new(Action::Create, Resource::Runtime, name, Work::CreateRuntime { document });
        plan.steps.push(step.changes(changes).note("version 1"));
        for (name, endpoint) in desired.endpoints.iter().flatten() {
            plan.steps.push(create_endpoint(desired, name.clone(), endpoint));
        }
        return Ok(());
    };
    let known = desired.recorded.id.as_deref() == Some(&found.runtime.id)
        || names::is_ours_for(&found.tags, &desired.name);
    if !known && !options.adopt {
        return refuse(
            format!("a runtime `{name}` exists that this project did not create: `{}`", found.runtime.arn),
            "deploy over it with `--adopt`, or give the agent another name",
        );
    }
    let status = found.status();
    if status == "DELETING" {
        return refuse(
            format!("the runtime `{}` is being deleted", found.runtime.id),
            "wait until it is gone, which takes minutes, and run this again",
        );
    }
    let now = found.document.settings();
    let next = now.with(&members);
    let changes = now.changes(&next);
    let failed = status.ends_with("_FAILED");
    let version = next_version(&found.runtime.version);
    if changes.is_empty() && !failed && !options.force {
        plan.steps.push(
            Step::keep(Resource::Runtime, &found.runtime.id)
                .note(format!("version {}", found.runtime.version)),
        );
    } else {
        let mut note = format!("version {version}");
        if failed {
            let reason = found.document.text(&["failureReason"]).unwrap_or("no reason was given");
            note = format!("{note}, because version {} failed: {reason}", found.runtime.version);
        }
        let work = Work::UpdateRuntime { id: found.runtime.id.clone(), document: next };
        let step = Step::new(Action::Change, Resource::Runtime, &found.runtime.id, work);
        plan.steps.push(step.changes(changes).note(note));
        if now.has_session_storage() {
            let sessions = options.sessions.clone();
            plan.reset = Some(Reset { endpoints: vec![DEFAULT.to_owned()], sessions });
        }
    }
    plan_tags(plan, desired, found);
    plan_endpoints(plan, desired, found, now.has_session_storage());
    Ok(())
}

fn next_version(version: &str) -> String {
    version.parse::<u32>().map_or_else(|_| "next".to_owned(), |n| (n + 1).to_string())
}

fn plan_tags(plan: &mut Plan, desired: &Desired, found: &FoundRuntime) {
    let Some(wanted) = &desired.tags else { return };
    let ours = |key: &str| key == names::CREATED_BY || key == names::FOR_AGENT || key.starts_with("aws:");
    let set: Tags = wanted
        .iter()
        .filter(|(k, v)| found.tags.get(*k) != Some(v))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    let remove: Vec<String> = match wanted.is_empty() {
        true => found.tags.keys().filter(|k| !ours(k)).cloned().collect(),
        false => Vec::new(),
    };
    if set.is_empty() && remove.is_empty() {
        return;
    }
    let words: Vec<String> = set
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .chain(remove.iter().map(|k| format!("without {k}")))
        .collect();
    let work = Work::SetTags { arn: found.runtime.arn.clone(), set, remove };
    plan.steps
        .push(Step::new(Action::Change, Resource::Tags, &found.runtime.id, work).note(words.join(", ")));
}

fn create_endpoint(
    desired: &Desired,
    name: crate::model::EndpointName,
    endpoint: &super::desired::Endpoint,
) -> Step {
    let shown = name.to_string();
    let note = match &endpoint.version {
        Some(version) => format!("version {version}"),
        None => "the newest version".to_owned(),
    };
    let work = Work::CreateEndpoint {
        name,
        version: endpoint.version.clone(),
        description: endpoint.description.clone(),
        tags: names::tags(&desired.name),
    };
    Step::new(Action::Create, Resource::Endpoint, shown, work).note(note)
}

fn plan_endpoints(plan: &mut Plan, desired: &Desired, found: &FoundRuntime, storage: bool) {
    let Some(wanted) = &desired.endpoints else { return };
    let there: BTreeMap<&str, &Endpoint> = found.endpoints.iter().map(|e| (e.name.as_str(), e)).collect();
    let mut moved = Vec::new();
    for (name, endpoint) in wanted {
        let Some(now) = there.get(name.as_str()) else {
            plan.steps.push(create_endpoint(desired, name.clone(), endpoint));
            continue;
        };
        let version = endpoint.version.clone().filter(|v| now.version.as_ref() != Some(v));
        let described = endpoint.description.clone().filter(|d| now.description.as_ref() != Some(d));
        if version.is_none() && described.is_none() {
            plan.steps.push(Step::keep(Resource::Endpoint, name.as_str()));
            continue;
        }
        let note = match (&version, &now.version) {
            (Some(to), Some(from)) => format!("from version {from} to {to}"),
            (Some(to), None) => format!("to version {to}"),
            _ => "its description".to_owned(),
        };
        if version.is_some() && storage {
            moved.push(name.to_string());
        }
        let work = Work::UpdateEndpoint { name: name.to_string(), version, description: described };
        plan.steps.push(Step::new(Action::Change, Resource::Endpoint, name.as_str(), work).note(note));
    }
    if !moved.is_empty() {
        let reset = plan.reset.get_or_insert_with(|| Reset { endpoints: Vec::new(), sessions: Vec::new() });
        reset.endpoints.extend(moved);
    }
    if wanted.is_empty() {
        for name in there.keys().filter(|name| **name != DEFAULT) {
            let work = Work::DeleteEndpoint { runtime: found.runtime.id.clone(), name: (*name).to_owned() };
            plan.steps.push(
                Step::new(Action::Delete, Resource::Endpoint, *name, work).note("with its sessions' storage"),
            );
        }
    }
}

/// Something that a deployment found out or made and that the project is to remember.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Account and region.
    Place {
        /// The account.
        account: String,
        /// The region.
        region: String,
    },
    /// ARN of the execution role.
    Role(String),
    /// URI of the image repository.
    Repository(String),
    /// `s3://bucket[/prefix]` of code packages.
    Code(String),
    /// The runtime.
    Runtime {
        /// Its id.
        id: String,
        /// Its ARN.
        arn: String,
    },
    /// The runtime is gone.
    RuntimeGone,
    /// The role is gone.
    RoleGone,
    /// The repository is gone.
    RepositoryGone,
    /// The bucket is gone.
    CodeGone,
}

/// Who looks on while a plan is applied.
pub trait Watcher {
    /// A step begins.
    fn begin(&mut self, step: &Step);
    /// It is done.
    fn done(&mut self, step: &Step);
    /// Remembers something, at once.
    fn record(&mut self, fact: Fact) -> Result<(), String>;
}

/// What a deployment came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The runtime and its newest version.
    pub runtime: Runtime,
    /// A version was made.
    pub changed: bool,
}

/// Takes the steps.
pub async fn apply<C: Cloud, B: Builder>(
    cloud: &C,
    builder: &B,
    plan: &Plan,
    targets: &Targets,
    observed: &Observed,
    wait: bool,
    watcher: &mut impl Watcher,
) -> Result<Outcome, OpsError> {
    let mut doing = Doing {
        cloud,
        targets,
        runtime: observed.runtime.as_ref().map(|found| found.runtime.clone()),
        fresh_role: false,
        // What comes after the runtime needs it READY.
        wait: wait
            || plan.steps.iter().any(|s| {
                matches!(
                    s.work,
                    Work::CreateEndpoint { .. } | Work::UpdateEndpoint { .. } | Work::DeleteEndpoint { .. }
                )
            }),
    };
    let place = Fact::Place { account: targets.caller.account.clone(), region: targets.region.clone() };
    watcher.record(place).map_err(OpsError::Record)?;
    for step in &plan.steps {
        if step.work != Work::None {
            watcher.begin(step);
        }
        match &step.work {
            Work::Push { image, uri } => {
                let login = cloud.registry_login().await.map_err(|source| failed(step, source))?;
                builder.push(image, uri, &login).await?;
            }
            work => doing.take(work, watcher).await.map_err(|e| e.of(step))?,
        }
        for fact in doing.facts(step) {
            watcher.record(fact).map_err(OpsError::Record)?;
        }
        if step.work != Work::None {
            watcher.done(step);
        }
    }
    let changed = plan.makes_version();
    match doing.runtime {
        Some(runtime) => Ok(Outcome { runtime, changed }),
        None => refuse("the plan made no runtime", "run it again"),
    }
}

pub(super) fn failed(step: &Step, source: AwsError) -> OpsError {
    let verb = match step.action {
        Action::Create => "creating",
        Action::Change => "changing",
        Action::Keep => "looking at",
        Action::Delete => "deleting",
    };
    OpsError::Step { what: format!("{verb} {} `{}`", step.resource.words(), step.name), source }
}

enum Trouble {
    Aws(AwsError),
    Record(String),
}

impl From<AwsError> for Trouble {
    fn from(error: AwsError) -> Self {
        Self::Aws(error)
    }
}

impl Trouble {
    fn of(self, step: &Step) -> OpsError {
        match self {
            Self::Aws(source) => failed(step, source),
            Self::Record(text) => OpsError::Record(text),
        }
    }
}

/// A deployment under way.
struct Doing<'a, C> {
    cloud: &'a C,
    targets: &'a Targets,
    runtime: Option<Runtime>,
    /// The role was made or changed a moment ago, so AgentCore may not see it yet.
    fresh_role: bool,
    wait: bool,
}

impl<C: Cloud> Doing<'_, C> {
    async fn take(&mut self, work: &Work, watcher: &mut impl Watcher) -> Result<(), Trouble> {
        let (cloud, account) = (self.cloud, self.targets.caller.account.as_str());
        match work {
            Work::None => {}
            Work::CreateRole { name, trust, tags } => {
                match cloud.create_role(name, trust, tags).await {
                    // An answer was lost: the role of that name that nobody had is the one asked for.
                    Err(e) if e.name() == Some("EntityAlreadyExists") => {
                        let found = cloud.role(name).await?;
                        if found.is_none_or(|role| role.tags != *tags) {
                            return Err(e.into());
                        }
                    }
                    other => drop(other?),
                }
                self.fresh_role = true;
            }
            Work::SetTrust { name, trust } => {
                cloud.set_trust(name, trust).await?;
                self.fresh_role = true;
            }
            Work::PutRolePolicy { role, policy } => {
                cloud.put_role_policy(role, names::POLICY, policy).await?;
                self.fresh_role = true;
            }
            Work::CreateRepository { name, tags } => match cloud.create_repository(name, tags).await {
                Err(e) if e.name() == Some("RepositoryAlreadyExistsException") => {
                    let found = cloud.repository(name).await?;
                    if found.is_none_or(|repository| repository.tags != *tags) {
                        return Err(e.into());
                    }
                }
                other => drop(other?),
            },
            Work::PutLifecyclePolicy { repository, policy } => {
                cloud.put_lifecycle_policy(repository, policy).await?;
            }
            Work::CreateBucket { name, tags } => {
                match cloud.create_bucket(name).await {
                    Err(e) if e.name() == Some("BucketAlreadyOwnedByYou") => {}
                    other => other?,
                }
                cloud.tag_bucket(name, account, tags).await?;
            }
            Work::TagBucket { name, tags } => cloud.tag_bucket(name, account, tags).await?,
            Work::Upload { bucket, key, file } => cloud.upload(bucket, account, key, file).await?,
            Work::CreateRuntime { document } => {
                let runtime = self.settled(|| cloud.create_runtime(document)).await?;
                self.made(runtime, watcher).await?;
            }
            Work::UpdateRuntime { id, document } => {
                let runtime = self.settled(|| cloud.update_runtime(id, document)).await?;
                self.made(runtime, watcher).await?;
            }
            Work::SetTags { arn, set, remove } => {
                if !set.is_empty() {
                    cloud.tag(arn, set).await?;
                }
                if !remove.is_empty() {
                    cloud.untag(arn, remove).await?;
                }
            }
            Work::CreateEndpoint { name, version, description, tags } => {
                let id = self.runtime.as_ref().map(|r| r.id.clone()).unwrap_or_default();
                cloud.create_endpoint(&id, name, version.as_deref(), description.as_deref(), tags).await?;
                cloud.wait_endpoint(&id, name.as_str()).await?;
            }
            Work::UpdateEndpoint { name, version, description } => {
                let id = self.runtime.as_ref().map(|r| r.id.clone()).unwrap_or_default();
                cloud.update_endpoint(&id, name, version.as_deref(), description.as_deref()).await?;
                cloud.wait_endpoint(&id, name).await?;
            }
            Work::DeleteEndpoint { runtime, name } => {
                cloud.delete_endpoint(runtime, name).await?;
                cloud.wait_endpoint(runtime, name).await?;
            }
            // Pushing is the builder's; the rest is what `destroy` does.
            _ => {}
        }
        Ok(())
    }

    /// A version is on its way: remembered before it is waited for, which is where runs are broken off.
    async fn made(&mut self, runtime: Runtime, watcher: &mut impl Watcher) -> Result<(), Trouble> {
        let fact = Fact::Runtime { id: runtime.id.clone(), arn: runtime.arn.clone() };
        watcher.record(fact).map_err(Trouble::Record)?;
        let id = runtime.id.clone();
        self.runtime = Some(runtime);
        if self.wait {
            self.cloud.wait_runtime(&id).await?;
        }
        Ok(())
    }

    /// Tries again while AgentCore does not see the role that was made a moment ago.
    async fn settled<F: Future<Output = Result<Runtime, AwsError>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<Runtime, AwsError> {
        let deadline = tokio::time::Instant::now() + ROLE_SETTLES;
        let (mut pause, longest) = ROLE_PAUSE;
        loop {
            match call().await {
                Err(e)
                    if self.fresh_role && is_about_the_role(&e) && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
                result => return result,
            }
        }
    }

    /// What is known once a step is done, also where there was nothing to do.
    fn facts(&self, step: &Step) -> Vec<Fact> {
        let targets = self.targets;
        match step.resource {
            Resource::Role => vec![Fact::Role(targets.role.1.clone())],
            Resource::Repository => vec![Fact::Repository(targets.repository.2.clone())],
            Resource::Bucket => {
                let (bucket, prefix) = &targets.code;
                let end = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
                vec![Fact::Code(format!("s3://{bucket}{end}"))]
            }
            Resource::Runtime => {
                self.runtime.iter().map(|r| Fact::Runtime { id: r.id.clone(), arn: r.arn.clone() }).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A role that IAM has not told everybody of yet is refused as an invalid one.
fn is_about_the_role(error: &AwsError) -> bool {
    let AwsError::Service { name, message, .. } = error else { return false };
    matches!(name.as_str(), "ValidationException" | "AccessDeniedException")
        && message.to_ascii_lowercase().contains("role")
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
