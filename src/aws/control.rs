//! The control plane, as far as agents are deployed by it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_bedrockagentcorecontrol as sdk;
use sdk::error::BuildError;
use sdk::types::{
    AgentManagedRuntimeType, AgentRuntimeArtifact, AgentRuntimeStatus, Code, CodeConfiguration,
    ContainerConfiguration, FilesystemConfiguration, LifecycleConfiguration, NetworkConfiguration,
    NetworkMode, RequestHeaderConfiguration, S3Location, SessionStorageConfiguration,
};

use super::error;
use super::kept::Kept;
use crate::model::{Artifact, AwsError, MountPath, NOTICES_HEADER, read_notices};

const CREATE: &str = "CreateAgentRuntime";
const UPDATE: &str = "UpdateAgentRuntime";
const GET: &str = "GetAgentRuntime";
const DELETE: &str = "DeleteAgentRuntime";
const LIST: &str = "ListAgentRuntimes";

/// Time between two looks at a runtime that is becoming READY, growing to the second. [ours]
const POLL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Longest wait for READY. [ours; the service takes about 10 s]
const READY_TIMEOUT: Duration = Duration::from_secs(300);

/// A client of the control plane.
#[derive(Debug, Clone)]
pub struct ControlClient {
    pub(super) client: sdk::Client,
}

/// What a deployment says of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// The code bundle, or the image.
    pub artifact: Artifact,
    /// `roleArn`.
    pub role_arn: String,
    /// `environmentVariables`; nothing: those that the runtime has.
    pub environment: Option<BTreeMap<String, String>>,
    /// `idleRuntimeSessionTimeout` in seconds.
    pub idle: Option<u32>,
    /// `maxLifetime` in seconds.
    pub max_lifetime: Option<u32>,
    /// `requestHeaderAllowlist`.
    pub header_allowlist: Vec<String>,
    /// Mount paths of session storage; nothing: the file systems that the runtime has.
    pub session_storage: Option<Vec<MountPath>>,
}

/// How a runtime's newest version differs from what a deployment would make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    /// An image in place of a bundle, or the other way round.
    pub kind: bool,
    /// Another bundle or image.
    pub code: bool,
    /// Anything else.
    pub settings: bool,
}

impl Difference {
    /// True when a deployment would change nothing.
    pub fn is_none(self) -> bool {
        !self.code && !self.settings
    }
}

/// A runtime as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSummary {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: String,
    /// Its ARN.
    pub arn: String,
    /// Its newest version.
    pub version: String,
}

/// What a create or an update made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The runtime's ARN.
    pub arn: String,
    /// Its id.
    pub id: String,
    /// The version made.
    pub version: String,
}

impl ControlClient {
    pub(super) fn new(client: sdk::Client) -> Self {
        Self { client }
    }

    /// The runtime called `name`, if there is one.
    pub async fn find_runtime(&self, name: &str) -> Result<Option<RuntimeSummary>, AwsError> {
        Ok(self.list_runtimes().await?.into_iter().find(|r| r.name == name))
    }

    /// Every runtime of the account. At most a thousand by the service's quota.
    pub async fn list_runtimes(&self) -> Result<Vec<RuntimeSummary>, AwsError> {
        let mut pages = self.client.list_agent_runtimes().into_paginator().send();
        let mut all = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| error::from_sdk(LIST, e))?;
            all.extend(page.agent_runtimes.into_iter().map(|r| RuntimeSummary {
                name: r.agent_runtime_name,
                id: r.agent_runtime_id,
                arn: r.agent_runtime_arn,
                version: r.agent_runtime_version,
            }));
        }
        Ok(all)
    }

    /// What of the runtime's newest version differs from `settings`.
    pub async fn compare(&self, id: &str, settings: &RuntimeSettings) -> Result<Difference, AwsError> {
        let now = self
            .client
            .get_agent_runtime()
            .agent_runtime_id(id)
            .send()
            .await
            .map_err(|e| error::from_sdk(GET, e))?;
        let found = match &now.agent_runtime_artifact {
            Some(AgentRuntimeArtifact::CodeConfiguration(code)) => match &code.code {
                Some(Code::S3(location)) => Some(location.prefix.clone()),
                _ => None,
            },
            Some(AgentRuntimeArtifact::ContainerConfiguration(container)) => {
                Some(container.container_uri.clone())
            }
            _ => None,
        };
        let image =
            matches!(&now.agent_runtime_artifact, Some(AgentRuntimeArtifact::ContainerConfiguration(_)));
        let kind = image != matches!(settings.artifact, Artifact::Image(_));
        // How the code is started is a setting; which code is started is not.
        let mut like = settings.clone();
        match &mut like.artifact {
            Artifact::Code(code) => code.prefix = found.clone().unwrap_or_default(),
            Artifact::Image(name) => *name = found.clone().unwrap_or_default(),
        }
        let same_start = now.agent_runtime_artifact.as_ref() == Some(&artifact(&like, GET)?);
        let environment: BTreeMap<String, String> =
            now.environment_variables.unwrap_or_default().into_iter().collect();
        let lifecycle = now.lifecycle_configuration;
        let (idle, max) =
            lifecycle.map_or((None, None), |l| (l.idle_runtime_session_timeout, l.max_lifetime));
        let defaults = crate::model::Lifecycle::new(settings.idle, settings.max_lifetime).ok();
        let as_told = |told: Option<u32>, filled: Option<Duration>, found: Option<i32>| {
            let found = found.and_then(|f| u64::try_from(f).ok());
            found == told.map(u64::from) || found == filled.map(|d| d.as_secs())
        };
        let allowlist = match now.request_header_configuration {
            Some(RequestHeaderConfiguration::RequestHeaderAllowlist(names)) => names,
            _ => Vec::new(),
        };
        let same = same_start
            && now.role_arn == settings.role_arn
            && settings.environment.as_ref().is_none_or(|wanted| environment == *wanted)
            && as_told(settings.idle, defaults.map(|d| d.idle_timeout), idle)
            && as_told(settings.max_lifetime, defaults.map(|d| d.max_lifetime), max)
            && allowlist == settings.header_allowlist
            && file_systems(settings, GET)?
                .is_none_or(|wanted| now.filesystem_configurations.unwrap_or_default() == wanted);
        Ok(Difference { kind, code: found.as_deref() != Some(settings.artifact.source()), settings: !same })
    }

    /// CreateAgentRuntime.
    pub async fn create(&self, name: &str, settings: &RuntimeSettings) -> Result<Written, AwsError> {
        let output = self
            .client
            .create_agent_runtime()
            .agent_runtime_name(name)
            .agent_runtime_artifact(artifact(settings, CREATE)?)
            .role_arn(&settings.role_arn)
            .network_configuration(network(CREATE)?)
            .set_lifecycle_configuration(lifecycle(settings))
            .set_environment_variables(environment(settings).filter(|all| !all.is_empty()))
            .set_request_header_configuration(headers(settings))
            .set_filesystem_configurations(given(file_systems(settings, CREATE)?))
            .send()
            .await
            .map_err(|e| error::from_sdk(CREATE, e))?;
        Ok(Written {
            arn: output.agent_runtime_arn,
            id: output.agent_runtime_id,
            version: output.agent_runtime_version,
        })
    }

    /// UpdateAgentRuntime: a new version.
    pub async fn update(&self, id: &str, settings: &RuntimeSettings) -> Result<Written, AwsError> {
        let (mut environment, mut file_systems) = (environment(settings), file_systems(settings, UPDATE)?);
        // An update says everything anew, so what is to stay is said as it is.
        if environment.is_none() || file_systems.is_none() {
            let now = self.client.get_agent_runtime().agent_runtime_id(id).send().await;
            let now = now.map_err(|e| error::from_sdk(GET, e))?;
            environment = environment.or(now.environment_variables);
            file_systems = file_systems.or(now.filesystem_configurations);
        }
        let output = self
            .client
            .update_agent_runtime()
            .agent_runtime_id(id)
            .agent_runtime_artifact(artifact(settings, UPDATE)?)
            .role_arn(&settings.role_arn)
            .network_configuration(network(UPDATE)?)
            .set_lifecycle_configuration(lifecycle(settings))
            .set_environment_variables(environment.filter(|all| !all.is_empty()))
            .set_request_header_configuration(headers(settings))
            .set_filesystem_configurations(given(file_systems))
            .send()
            .await
            .map_err(|e| error::from_sdk(UPDATE, e))?;
        Ok(Written {
            arn: output.agent_runtime_arn,
            id: output.agent_runtime_id,
            version: output.agent_runtime_version,
        })
    }

    /// DeleteAgentRuntime, with its sessions and their storage.
    pub async fn delete(&self, id: &str) -> Result<(), AwsError> {
        let call = self.client.delete_agent_runtime().agent_runtime_id(id);
        call.send().await.map(drop).map_err(|e| error::from_sdk(DELETE, e))
    }

    /// Waits until a deleted runtime is gone.
    pub async fn wait_gone(&self, id: &str) -> Result<(), AwsError> {
        let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
        let (mut pause, longest) = POLL;
        loop {
            let now = self.client.get_agent_runtime().agent_runtime_id(id).send().await;
            match now.map_err(|e| error::from_sdk(GET, e)) {
                Err(e) if e.name() == Some("ResourceNotFoundException") => return Ok(()),
                Err(e) => return Err(e),
                Ok(_) if tokio::time::Instant::now() >= deadline => {
                    return Err(AwsError::Timeout { operation: DELETE });
                }
                Ok(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Waits until the runtime is READY. Gives what an emulator did so that it runs there; the service says nothing.
    pub async fn wait_ready(&self, id: &str) -> Result<Vec<String>, AwsError> {
        let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
        let (mut pause, longest) = POLL;
        loop {
            let notices = Kept::new(|answer| {
                answer.headers().get(NOTICES_HEADER).map(read_notices).unwrap_or_default()
            });
            let call = self.client.get_agent_runtime().agent_runtime_id(id).customize();
            let now = call.interceptor(notices.clone()).send().await;
            let now = now.map_err(|e| error::from_sdk(GET, e))?;
            match now.status {
                AgentRuntimeStatus::Ready => return Ok(notices.take()),
                AgentRuntimeStatus::Creating | AgentRuntimeStatus::Updating => {}
                status => {
                    let reason = now.failure_reason.unwrap_or_else(|| "no reason was given".into());
                    return Err(AwsError::Service {
                        operation: GET,
                        name: status.as_str().to_owned(),
                        message: format!("the runtime did not become READY: {reason}"),
                        status: None,
                        request_id: None,
                    });
                }
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(AwsError::Timeout { operation: GET });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

fn unbuilt(operation: &'static str) -> impl Fn(BuildError) -> AwsError {
    move |e| AwsError::Request { operation, reason: e.to_string() }
}

fn artifact(settings: &RuntimeSettings, operation: &'static str) -> Result<AgentRuntimeArtifact, AwsError> {
    let from = match &settings.artifact {
        Artifact::Code(from) => from,
        Artifact::Image(name) => {
            let container = ContainerConfiguration::builder().container_uri(name).build();
            return Ok(AgentRuntimeArtifact::ContainerConfiguration(container.map_err(unbuilt(operation))?));
        }
    };
    let location = S3Location::builder()
        .bucket(&from.bucket)
        .prefix(&from.prefix)
        .set_version_id(from.version_id.clone())
        .build()
        .map_err(unbuilt(operation))?;
    let code = CodeConfiguration::builder()
        .code(Code::S3(location))
        .runtime(AgentManagedRuntimeType::from(from.runtime.as_str()))
        .set_entry_point(Some(from.entry_point.clone()))
        .build()
        .map_err(unbuilt(operation))?;
    Ok(AgentRuntimeArtifact::CodeConfiguration(code))
}

fn network(operation: &'static str) -> Result<NetworkConfiguration, AwsError> {
    NetworkConfiguration::builder().network_mode(NetworkMode::Public).build().map_err(unbuilt(operation))
}

fn lifecycle(settings: &RuntimeSettings) -> Option<LifecycleConfiguration> {
    let seconds = |s: Option<u32>| s.and_then(|s| i32::try_from(s).ok());
    (settings.idle.is_some() || settings.max_lifetime.is_some()).then(|| {
        LifecycleConfiguration::builder()
            .set_idle_runtime_session_timeout(seconds(settings.idle))
            .set_max_lifetime(seconds(settings.max_lifetime))
            .build()
    })
}

fn environment(settings: &RuntimeSettings) -> Option<HashMap<String, String>> {
    Some(settings.environment.clone()?.into_iter().collect())
}

fn headers(settings: &RuntimeSettings) -> Option<RequestHeaderConfiguration> {
    let names = settings.header_allowlist.clone();
    (!names.is_empty()).then_some(RequestHeaderConfiguration::RequestHeaderAllowlist(names))
}

fn file_systems(
    settings: &RuntimeSettings,
    operation: &'static str,
) -> Result<Option<Vec<FilesystemConfiguration>>, AwsError> {
    let Some(paths) = &settings.session_storage else { return Ok(None) };
    let storage = paths.iter().map(|path| {
        let storage = SessionStorageConfiguration::builder().mount_path(path.as_str()).build();
        Ok(FilesystemConfiguration::SessionStorage(storage.map_err(unbuilt(operation))?))
    });
    storage.collect::<Result<_, _>>().map(Some)
}

/// An empty list is not sent.
fn given<T>(list: Option<Vec<T>>) -> Option<Vec<T>> {
    list.filter(|list| !list.is_empty())
}
