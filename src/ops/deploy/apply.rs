//! The steps taken, one by one; each fact is reported at once.

use std::time::Duration;

use super::{Observed, OpsError, Targets, refuse};
use crate::model::AwsError;
use crate::ops::names;
use crate::ops::plan::{Action, Plan, Resource, Step, Work};
use crate::ops::ports::{Builder, Cloud, Runtime};

/// How long a new role may take until AgentCore sees it, and how long between two tries, growing. [ours; IAM says
/// that changes take seconds to be seen everywhere]
const ROLE_SETTLES: Duration = Duration::from_secs(60);
const ROLE_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));

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
    /// What an emulator did so that the version runs there, in words.
    pub notices: Vec<String>,
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
        notices: Vec::new(),
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
        Some(runtime) => Ok(Outcome { runtime, changed, notices: doing.notices }),
        None => refuse("the plan made no runtime", "run it again"),
    }
}

pub(in crate::ops) fn failed(step: &Step, source: AwsError) -> OpsError {
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
    notices: Vec<String>,
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
            self.notices = self.cloud.wait_runtime(&id).await?;
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
