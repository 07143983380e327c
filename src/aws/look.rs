//! What there is: runtimes with their settings and endpoints, and their logs.

use std::collections::BTreeMap;

use aws_sdk_bedrockagentcorecontrol as sdk;
use aws_sdk_cloudwatchlogs as logs;
use aws_smithy_types::date_time::Format;
use sdk::types::{AgentRuntimeArtifact, Code, FilesystemConfiguration, RequestHeaderConfiguration};

use super::control::ControlClient;
use super::{AwsError, Connection, error};

const GET: &str = "GetAgentRuntime";
const LIST: &str = "ListAgentRuntimes";
const ENDPOINTS: &str = "ListAgentRuntimeEndpoints";
const FILTER: &str = "FilterLogEvents";

/// A runtime as a list shows it.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeRow {
    /// Its name.
    pub agent_runtime_name: String,
    /// Its id.
    pub agent_runtime_id: String,
    /// Its ARN.
    pub agent_runtime_arn: String,
    /// Its newest version.
    pub agent_runtime_version: String,
    /// `READY` and the like.
    pub status: String,
    /// When it was changed last.
    pub last_updated_at: String,
}

/// A runtime's newest version.
#[derive(Debug, Clone)]
pub struct RuntimeDetails {
    /// As a list shows it.
    pub row: RuntimeRow,
    /// Why it is not READY.
    pub failure_reason: Option<String>,
    /// `roleArn`.
    pub role_arn: String,
    /// The image, or the code bundle.
    pub artifact: String,
    /// `environmentVariables`.
    pub environment: BTreeMap<String, String>,
    /// `idleRuntimeSessionTimeout` in seconds.
    pub idle: Option<i32>,
    /// `maxLifetime` in seconds.
    pub max_lifetime: Option<i32>,
    /// `requestHeaderAllowlist`.
    pub header_allowlist: Vec<String>,
    /// Mount path of the session storage.
    pub session_storage: Option<String>,
    /// `serverProtocol`.
    pub protocol: Option<String>,
}

/// An endpoint of a runtime.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointRow {
    /// Its name.
    pub name: String,
    /// `READY` and the like.
    pub status: String,
    /// The version it serves.
    pub live_version: Option<String>,
    /// The version it is moving to.
    pub target_version: Option<String>,
}

impl ControlClient {
    /// Every runtime of the account and region.
    pub async fn list(&self) -> Result<Vec<RuntimeRow>, AwsError> {
        let mut pages = self.client.list_agent_runtimes().into_paginator().send();
        let mut all = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| error::from_sdk(LIST, e))?;
            all.extend(page.agent_runtimes.into_iter().map(|r| RuntimeRow {
                agent_runtime_name: r.agent_runtime_name,
                agent_runtime_id: r.agent_runtime_id,
                agent_runtime_arn: r.agent_runtime_arn,
                agent_runtime_version: r.agent_runtime_version,
                status: r.status.as_str().to_owned(),
                last_updated_at: text(&r.last_updated_at),
            }));
        }
        Ok(all)
    }

    /// A runtime's newest version.
    pub async fn details(&self, id: &str) -> Result<RuntimeDetails, AwsError> {
        let call = self.client.get_agent_runtime().agent_runtime_id(id);
        let now = call.send().await.map_err(|e| error::from_sdk(GET, e))?;
        let artifact = match &now.agent_runtime_artifact {
            Some(AgentRuntimeArtifact::ContainerConfiguration(image)) => image.container_uri.clone(),
            Some(AgentRuntimeArtifact::CodeConfiguration(code)) => match &code.code {
                Some(Code::S3(place)) => format!("s3://{}/{}", place.bucket, place.prefix),
                _ => "code".to_owned(),
            },
            _ => String::new(),
        };
        let storage = now.filesystem_configurations.unwrap_or_default().into_iter().find_map(|f| match f {
            FilesystemConfiguration::SessionStorage(storage) => Some(storage.mount_path),
            _ => None,
        });
        Ok(RuntimeDetails {
            row: RuntimeRow {
                agent_runtime_name: now.agent_runtime_name,
                agent_runtime_id: now.agent_runtime_id,
                agent_runtime_arn: now.agent_runtime_arn,
                agent_runtime_version: now.agent_runtime_version,
                status: now.status.as_str().to_owned(),
                last_updated_at: text(&now.last_updated_at),
            },
            failure_reason: now.failure_reason,
            role_arn: now.role_arn,
            artifact,
            environment: now.environment_variables.unwrap_or_default().into_iter().collect(),
            idle: now.lifecycle_configuration.as_ref().and_then(|l| l.idle_runtime_session_timeout),
            max_lifetime: now.lifecycle_configuration.as_ref().and_then(|l| l.max_lifetime),
            header_allowlist: match now.request_header_configuration {
                Some(RequestHeaderConfiguration::RequestHeaderAllowlist(names)) => names,
                _ => Vec::new(),
            },
            session_storage: storage,
            protocol: now.protocol_configuration.map(|p| p.server_protocol.as_str().to_owned()),
        })
    }

    /// The endpoints of a runtime.
    pub async fn endpoints(&self, id: &str) -> Result<Vec<EndpointRow>, AwsError> {
        let mut pages =
            self.client.list_agent_runtime_endpoints().agent_runtime_id(id).into_paginator().send();
        let mut all = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| error::from_sdk(ENDPOINTS, e))?;
            all.extend(page.runtime_endpoints.into_iter().map(|e| EndpointRow {
                name: e.name,
                status: e.status.as_str().to_owned(),
                live_version: e.live_version,
                target_version: e.target_version,
            }));
        }
        Ok(all)
    }
}

/// A client of CloudWatch Logs.
#[derive(Debug, Clone)]
pub struct LogsClient {
    client: logs::Client,
}

/// A line of a log.
#[derive(Debug, Clone)]
pub struct LogEvent {
    /// Milliseconds since the Unix epoch.
    pub time: i64,
    /// The log stream.
    pub stream: String,
    /// The line.
    pub message: String,
    /// Its id, by which it is known when it is read twice.
    pub id: String,
}

impl Connection {
    /// A client of CloudWatch Logs.
    pub fn logs(&self) -> LogsClient {
        LogsClient { client: logs::Client::new(&self.base) }
    }
}

impl LogsClient {
    /// Lines of a log group from a time on, oldest first, a page at a time to `each`.
    pub async fn read(&self, group: &str, from: i64, mut each: impl FnMut(LogEvent)) -> Result<(), AwsError> {
        let call = self.client.filter_log_events().log_group_name(group).start_time(from);
        let mut pages = call.into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| error::from_sdk(FILTER, e))?;
            for event in page.events.unwrap_or_default() {
                each(LogEvent {
                    time: event.timestamp.unwrap_or_default(),
                    stream: event.log_stream_name.unwrap_or_default(),
                    message: event.message.unwrap_or_default(),
                    id: event.event_id.unwrap_or_default(),
                });
            }
        }
        Ok(())
    }
}

fn text(time: &aws_smithy_types::DateTime) -> String {
    time.fmt(Format::DateTime).unwrap_or_default()
}
