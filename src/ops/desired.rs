//! What a project wants of the cloud, without how its file is written.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::ports::Tags;
use crate::model::{EndpointName, RuntimeName};
use crate::project::{self, Agent};

/// An agent as it is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// Name of the runtime.
    pub name: RuntimeName,
    /// The account that the project is for, when it says one.
    pub account: Option<String>,
    /// ARN of the execution role, when one is named; else one is made.
    pub role: Option<String>,
    /// Models that the role which is made may call; nothing: all.
    pub models: Option<Vec<String>>,
    /// Members of the runtime's document that the project says; a null or an empty one removes.
    pub members: Map<String, Value>,
    /// Tags of the runtime. `Some` of none removes all.
    pub tags: Option<Tags>,
    /// Endpoints beside DEFAULT. `Some` of none removes those that this program made.
    pub endpoints: Option<BTreeMap<EndpointName, Endpoint>>,
    /// The runtime that an earlier deployment left in the project file.
    pub recorded: Recorded,
    /// Image repository, by name or URI, when the project says one.
    pub repository: Option<String>,
    /// `bucket[/prefix]` of code packages, when the project says one.
    pub code: Option<String>,
}

/// What an earlier deployment left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The runtime's id.
    pub id: Option<String>,
    /// Its ARN.
    pub arn: Option<String>,
}

/// An endpoint as it is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The version; the newest at the time it is made, and what it is on afterwards, when nothing is said.
    pub version: Option<String>,
    /// Its description.
    pub description: Option<String>,
}

/// What an agent is made of, as far as it is known before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Artifact {
    /// An image that is in a registry.
    Image {
        /// Its URI.
        uri: String,
    },
    /// An image on this machine.
    Built(super::ports::LocalImage),
    /// A code package on this machine.
    Package(Package),
}

/// A code package on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The archive.
    pub file: std::path::PathBuf,
    /// SHA-256 of the archive in hexadecimal digits: the same content has the same.
    pub hash: String,
    /// Its size.
    pub bytes: u64,
    /// `runtime`, such as `PYTHON_3_13`.
    pub runtime: String,
    /// `entryPoint`.
    pub entry_point: Vec<String>,
}

impl Package {
    /// The artifact's member of the document, once the archive is at this key.
    pub fn member(&self, bucket: &str, key: &str) -> Value {
        json!({ "codeConfiguration": {
            "code": { "s3": { "bucket": bucket, "prefix": key } },
            "runtime": self.runtime,
            "entryPoint": self.entry_point,
        } })
    }
}

/// The artifact's member of the document for an image.
pub fn image_member(uri: &str) -> Value {
    json!({ "containerConfiguration": { "containerUri": uri } })
}

impl Desired {
    /// What the project file says of an agent.
    pub fn of(agent: &Agent) -> Self {
        let settings = members([
            ("networkConfiguration", agent.aws.network.as_ref().map(network)),
            ("protocolConfiguration", Some(json!({ "serverProtocol": agent.protocol }))),
            ("lifecycleConfiguration", lifecycle(agent.lifecycle)),
            ("environmentVariables", agent.environment.value().map(|map| json!(map))),
            (
                "filesystemConfigurations",
                agent.file_systems.value().map(|l| l.iter().map(file_system).collect()),
            ),
            ("authorizerConfiguration", agent.authorizer.clone()),
            (
                "requestHeaderConfiguration",
                agent.header_allowlist.as_ref().map(|names| json!({ "requestHeaderAllowlist": names })),
            ),
        ]);
        Self {
            name: agent.name.clone(),
            account: agent.aws.account.clone(),
            role: agent.aws.execution_role.clone(),
            models: agent.models.value().cloned(),
            members: settings,
            tags: agent.tags.value().cloned(),
            endpoints: agent.endpoints.value().map(|all| {
                let endpoint = |e: &project::Endpoint| Endpoint {
                    version: e.version.map(|v| v.to_string()),
                    description: e.description.clone(),
                };
                all.iter().map(|(name, e)| (name.clone(), endpoint(e))).collect()
            }),
            recorded: Recorded { id: agent.deployed.id.clone(), arn: agent.deployed.arn.clone() },
            repository: agent.aws.ecr_repository.clone(),
            code: agent.aws.s3_path.clone(),
        }
    }
}

/// The members that have a value.
fn members(parts: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Map<String, Value> {
    parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn network(network: &project::Network) -> Value {
    match network {
        project::Network::Public => json!({ "networkMode": "PUBLIC" }),
        project::Network::Vpc { security_groups, subnets } => json!({
            "networkMode": "VPC",
            "networkModeConfig": { "securityGroups": security_groups, "subnets": subnets },
        }),
    }
}

fn lifecycle(said: project::LifecycleSettings) -> Option<Value> {
    let parts = members([
        ("idleRuntimeSessionTimeout", said.idle.map(|s| json!(s))),
        ("maxLifetime", said.max.map(|s| json!(s))),
    ]);
    (!parts.is_empty()).then_some(Value::Object(parts))
}

fn file_system(said: &project::FileSystem) -> Value {
    use project::FileSystem::{CapacityProviderVolume, Efs, S3Files, SessionStorage};
    let at = said.mount_path().as_str();
    match said {
        SessionStorage { .. } => json!({ "sessionStorage": { "mountPath": at } }),
        Efs { access_point_arn, .. } => {
            json!({ "efsAccessPoint": { "accessPointArn": access_point_arn, "mountPath": at } })
        }
        S3Files { access_point_arn, .. } => {
            json!({ "s3FilesAccessPoint": { "accessPointArn": access_point_arn, "mountPath": at } })
        }
        CapacityProviderVolume { volume_name, .. } => {
            json!({ "capacityProviderVolume": { "volumeName": volume_name, "mountPath": at } })
        }
    }
}
