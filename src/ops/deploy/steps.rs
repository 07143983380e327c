//! What is left to do, as steps. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{DEFAULT, FoundRole, FoundRuntime, Image, Observed, OpsError, Targets, refuse};
use crate::ops::desired::{Artifact, Desired, image_member};
use crate::ops::document::Document;
use crate::ops::names;
use crate::ops::plan::{Action, Plan, Reset, Resource, Step, Work};
use crate::ops::policy;
use crate::ops::ports::{Endpoint, Tags};

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
    endpoint: &crate::ops::desired::Endpoint,
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
