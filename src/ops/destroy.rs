//! Taking away what was deployed: only what this program created, and only after it was shown.

use super::deploy::{Fact, FoundRole, FoundRuntime, OpsError, Targets, Watcher, failed, find};
use super::desired::Desired;
use super::names;
use super::plan::{Action, Plan, Reset, Resource, Step, Work};
use super::ports::{Bucket, Cloud, Repository};

/// Where the service writes the logs of a runtime.
const LOG_PREFIX: &str = "/aws/bedrock-agentcore/runtimes/";

/// What there is.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The runtime.
    pub runtime: Option<FoundRuntime>,
    /// The execution role with its inline and attached policies.
    pub role: (FoundRole, Vec<String>, Vec<String>),
    /// The image repository.
    pub repository: Option<Repository>,
    /// The bucket, the keys that this program made in it for the agent, and whether there are others.
    pub bucket: Option<(Bucket, Vec<String>, bool)>,
    /// Log groups of the runtime.
    pub logs: Vec<String>,
}

/// Looks at everything that a deployment may have made.
pub async fn observe<C: Cloud>(
    cloud: &C,
    desired: &Desired,
    targets: &Targets,
) -> Result<Observed, OpsError> {
    let account = &targets.caller.account;
    let (runtime, _) = find(cloud, desired).await?;
    let role = match cloud.role(&targets.role.0).await {
        Ok(None) => (FoundRole::Missing, Vec::new(), Vec::new()),
        Ok(Some(role)) => {
            let (inline, attached) = match names::is_ours_for(&role.tags, &desired.name) {
                true => cloud.role_policies(&targets.role.0).await?,
                false => (Vec::new(), Vec::new()),
            };
            (FoundRole::Here { role, permissions: None }, inline, attached)
        }
        Err(e) if e.is_denied() && !targets.own_role => (FoundRole::Hidden, Vec::new(), Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let (whose, name, _) = &targets.repository;
    let repository = match whose == account {
        true => match cloud.repository(name).await {
            Err(e) if e.is_denied() => None,
            other => other?,
        },
        false => None,
    };
    let (bucket, prefix) = &targets.code;
    let bucket = match cloud.bucket(bucket, account).await {
        Err(e) if e.is_denied() => None,
        Ok(None) => None,
        Err(e) => return Err(e.into()),
        Ok(Some(found)) => {
            let below = names::package_prefix(prefix, &desired.name);
            let keys = cloud.objects(bucket, account, &below).await?;
            let keys: Vec<String> =
                keys.into_iter().filter(|k| names::is_package_key(k, prefix, &desired.name)).collect();
            let all = match names::is_ours(&found.tags) {
                true => cloud.objects(bucket, account, "").await?,
                false => Vec::new(),
            };
            let others = all.iter().any(|key| !keys.contains(key));
            Some((found, keys, others))
        }
    };
    let logs = match &runtime {
        Some(found) => match cloud.log_groups(&format!("{LOG_PREFIX}{}-", found.runtime.id)).await {
            Err(e) if e.is_denied() => Vec::new(),
            other => other?,
        },
        None => Vec::new(),
    };
    Ok(Observed { runtime, role, repository, bucket, logs })
}

/// What is to go and what stays. Pure.
pub fn plan(
    desired: &Desired,
    targets: &Targets,
    observed: &Observed,
    delete_logs: bool,
    sessions: &[String],
) -> Plan {
    const FOREIGN: &str = "not created by this tool";
    let mut steps = Vec::new();
    let mut reset = None;
    let mut runtime_stays = false;
    if let Some(found) = &observed.runtime {
        let id = &found.runtime.id;
        if names::is_ours_for(&found.tags, &desired.name) {
            for endpoint in found.endpoints.iter().filter(|e| e.name != "DEFAULT") {
                let work = Work::DeleteEndpoint { runtime: id.clone(), name: endpoint.name.clone() };
                steps.push(Step::new(Action::Delete, Resource::Endpoint, &endpoint.name, work));
            }
            let note = format!(
                "all versions, with its sessions and their storage; newest is {}",
                found.runtime.version
            );
            let work = Work::DeleteRuntime { id: id.clone() };
            steps.push(Step::new(Action::Delete, Resource::Runtime, id, work).note(note));
            if found.document.has_session_storage() {
                let endpoints = found.endpoints.iter().map(|e| e.name.clone()).collect();
                reset = Some(Reset { endpoints, sessions: sessions.to_vec() });
            }
        } else {
            runtime_stays = true;
            steps.push(Step::keep(Resource::Runtime, id).note(FOREIGN));
        }
    }
    for group in &observed.logs {
        steps.push(match delete_logs && !runtime_stays {
            true => {
                let work = Work::DeleteLogGroup { name: group.clone() };
                Step::new(Action::Delete, Resource::LogGroup, group, work)
            }
            false => Step::keep(Resource::LogGroup, group).note("`--logs` deletes it too"),
        });
    }
    match &observed.role {
        (FoundRole::Here { role, .. }, inline, attached) => {
            let name = &targets.role.0;
            let foreign: Vec<&String> = inline.iter().filter(|p| *p != names::POLICY).collect();
            steps.push(if !names::is_ours_for(&role.tags, &desired.name) {
                Step::keep(Resource::Role, name).note(FOREIGN)
            } else if runtime_stays {
                Step::keep(Resource::Role, name).note("the runtime that stays may use it")
            } else if let Some(policy) = foreign.first().copied().or(attached.first()) {
                Step::keep(Resource::Role, name).note(format!("somebody has given it the policy `{policy}`"))
            } else {
                let work = Work::DeleteRole { name: name.clone(), policies: inline.clone() };
                Step::new(Action::Delete, Resource::Role, name, work)
            });
        }
        (FoundRole::Hidden, ..) => steps.push(Step::keep(Resource::Role, &targets.role.0).note(FOREIGN)),
        (FoundRole::Missing, ..) => {}
    }
    if let Some(repository) = &observed.repository {
        let name = &targets.repository.1;
        steps.push(if !names::is_ours_for(&repository.tags, &desired.name) {
            Step::keep(Resource::Repository, name).note(FOREIGN)
        } else if runtime_stays {
            Step::keep(Resource::Repository, name).note("the runtime that stays may use it")
        } else {
            let work = Work::DeleteRepository { name: name.clone() };
            Step::new(Action::Delete, Resource::Repository, name, work).note("with its images")
        });
    }
    if let Some((bucket, keys, others)) = &observed.bucket {
        let name = &targets.code.0;
        if !keys.is_empty() && !runtime_stays {
            let work = Work::DeletePackages { bucket: name.clone(), keys: keys.clone() };
            let shown = format!("s3://{name}/{}", names::package_prefix(&targets.code.1, &desired.name));
            let note = format!("{} packages", keys.len());
            steps.push(Step::new(Action::Delete, Resource::Package, shown, work).note(note));
        }
        steps.push(if !names::is_ours(&bucket.tags) {
            Step::keep(Resource::Bucket, name).note(FOREIGN)
        } else if *others || (runtime_stays && !keys.is_empty()) {
            Step::keep(Resource::Bucket, name).note("other things are in it")
        } else {
            let work = Work::DeleteBucket { name: name.clone() };
            Step::new(Action::Delete, Resource::Bucket, name, work)
        });
    }
    Plan {
        agent: desired.name.to_string(),
        account: targets.caller.account.clone(),
        region: targets.region.clone(),
        steps,
        reset,
        warnings: Vec::new(),
    }
}

/// Takes the steps. The first failure ends it; what is left is in the next run's plan.
pub async fn apply<C: Cloud>(
    cloud: &C,
    plan: &Plan,
    targets: &Targets,
    watcher: &mut impl Watcher,
) -> Result<(), OpsError> {
    let account = targets.caller.account.as_str();
    for step in plan.steps.iter().filter(|s| s.work != Work::None) {
        watcher.begin(step);
        let (result, fact) = match &step.work {
            Work::DeleteEndpoint { runtime, name } => {
                let deleted = async {
                    gone(cloud.delete_endpoint(runtime, name).await)?;
                    cloud.wait_endpoint(runtime, name).await
                };
                (deleted.await, None)
            }
            Work::DeleteRuntime { id } => {
                let deleted = async {
                    gone(cloud.delete_runtime(id).await)?;
                    cloud.wait_runtime_gone(id).await
                };
                (deleted.await, Some(Fact::RuntimeGone))
            }
            Work::DeleteRole { name, policies } => {
                let deleted = async {
                    for policy in policies {
                        gone(cloud.delete_role_policy(name, policy).await)?;
                    }
                    gone(cloud.delete_role(name).await)
                };
                (deleted.await, Some(Fact::RoleGone))
            }
            Work::DeleteRepository { name } => {
                (gone(cloud.delete_repository(name).await), Some(Fact::RepositoryGone))
            }
            Work::DeletePackages { bucket, keys } => {
                let deleted = async {
                    for key in keys {
                        gone(cloud.delete_object(bucket, account, key).await)?;
                    }
                    Ok(())
                };
                (deleted.await, None)
            }
            Work::DeleteBucket { name } => {
                (gone(cloud.delete_bucket(name, account).await), Some(Fact::CodeGone))
            }
            Work::DeleteLogGroup { name } => (gone(cloud.delete_log_group(name).await), None),
            _ => (Ok(()), None),
        };
        result.map_err(|source| failed(step, source))?;
        if let Some(fact) = fact {
            watcher.record(fact).map_err(OpsError::Record)?;
        }
        watcher.done(step);
    }
    Ok(())
}

/// What was to be deleted and is not there is deleted.
fn gone(result: Result<(), crate::model::AwsError>) -> Result<(), crate::model::AwsError> {
    match result {
        Err(e) if e.is_not_found() => Ok(()),
        other => other,
    }
}
