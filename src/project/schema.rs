//! What the project file says of an agent, as values: every key of the toolkit's schema and ours.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::model::{EndpointName, MountPath, RuntimeName, Version};

/// One agent of a project.
///
/// A value that the toolkit's schema gives a default has it where the file says nothing; a value that the service
/// has a say in is `None` or [`Setting::Keep`] there, and an update leaves what the service has.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Its key in `agents`; in a file of one agent, its name.
    pub key: String,
    /// Name of the runtime.
    pub name: RuntimeName,
    /// `language`.
    pub language: Language,
    /// `node_version`, such as `20`.
    pub node_version: Option<String>,
    /// `deployment_type`, where it is said. The toolkit takes silence for a container: [`Agent::deployment`].
    pub deployment_type: Option<Deployment>,
    /// `runtime_type`, such as `PYTHON_3_13`.
    pub runtime: Option<String>,
    /// `platform`, such as `linux/arm64`. The toolkit writes it for information only.
    pub platform: Option<String>,
    /// `container_runtime`: docker, finch, podman or none.
    pub container_runtime: Option<String>,
    /// Directory with the agent's code, absolute.
    pub source: PathBuf,
    /// How it is started.
    pub launch: AgentLaunch,
    /// `aws`, but for what stands apart below.
    pub aws: Aws,
    /// `lifecycle_configuration`.
    pub lifecycle: LifecycleSettings,
    /// `server_protocol`: HTTP, MCP, A2A or AGUI.
    pub protocol: String,
    /// `bedrock_agentcore`: the runtime that a deployment made of it.
    pub deployed: Deployed,
    /// `codebuild`.
    pub codebuild: CodeBuild,
    /// `memory`.
    pub memory: Memory,
    /// `identity`.
    pub identity: Identity,
    /// `aws_jwt`.
    pub aws_jwt: AwsJwt,
    /// `authorizer_configuration`, as the API takes it.
    pub authorizer: Option<Value>,
    /// `requestHeaderAllowlist`.
    pub header_allowlist: Option<Vec<String>>,
    /// `oauth_configuration`, a state of the toolkit's `invoke --local`.
    pub oauth: Option<Value>,
    /// `api_key_env_var_name`.
    pub api_key_env_var_name: Option<String>,
    /// `api_key_credential_provider_name`.
    pub api_key_credential_provider_name: Option<String>,
    /// `is_generated_by_agentcore_create`.
    pub is_generated_by_agentcore_create: bool,
    /// Ours: `environment_variables`.
    pub environment: Setting<BTreeMap<String, String>>,
    /// Ours: `filesystem_configurations`.
    pub file_systems: Setting<Vec<FileSystem>>,
    /// Ours: `tags`.
    pub tags: Setting<BTreeMap<String, String>>,
    /// Ours: `endpoints`.
    pub endpoints: Setting<BTreeMap<EndpointName, Endpoint>>,
    /// Ours: `models`, the ids or ARNs of the Bedrock models that the agent may call; the execution role that is
    /// made for it allows these alone.
    pub models: Setting<Vec<String>>,
    /// Ours: `build`.
    pub build: Build,
}

impl Agent {
    /// How it is deployed, with the schema's default.
    pub fn deployment(&self) -> Deployment {
        self.deployment_type.unwrap_or(Deployment::Container)
    }

    /// True when it is its image that runs, in AWS as on this machine. `deployment_type` decides. Where the file does
    /// not say it, an agent whose file names a Dockerfile or a repository for images is one, and so is one that
    /// nothing but its image starts. A Dockerfile that merely lies beside an entry point makes none of it.
    pub fn runs_image(&self) -> bool {
        match self.deployment_type {
            Some(kind) => kind == Deployment::Container || self.launch == AgentLaunch::Image,
            None => {
                self.launch == AgentLaunch::Image
                    || self.build.dockerfile.is_some()
                    || self.aws.ecr_repository.is_some()
                    || self.aws.ecr_auto_create
            }
        }
    }

    /// Mount path of its session storage.
    pub fn session_storage(&self) -> Option<&MountPath> {
        self.file_systems.value()?.iter().find_map(|fs| match fs {
            FileSystem::SessionStorage { mount_path } => Some(mount_path),
            _ => None,
        })
    }

    /// True when it is to run in a VPC.
    pub fn vpc(&self) -> bool {
        matches!(self.aws.network, Some(Network::Vpc { .. }))
    }
}

/// A key of ours, which is not in the toolkit's schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Setting<T> {
    /// The key is not there: the service keeps what it has.
    #[default]
    Keep,
    /// The key is there; an empty list or map removes what the service has.
    Set(T),
}

impl<T> Setting<T> {
    /// What is set.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Keep => None,
            Self::Set(value) => Some(value),
        }
    }
}

impl<T> From<Option<T>> for Setting<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Keep, Self::Set)
    }
}

/// `language`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// `python`.
    #[default]
    Python,
    /// `typescript`, which JavaScript is counted among.
    TypeScript,
}

impl Language {
    /// The word of the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::TypeScript => "typescript",
        }
    }
}

/// `deployment_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deployment {
    /// An image in ECR.
    Container,
    /// An archive in S3.
    DirectCode,
}

impl Deployment {
    /// The word of the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::DirectCode => "direct_code_deploy",
        }
    }
}

/// How an agent is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentLaunch {
    /// A Python file, relative to the source directory.
    Python {
        /// The file.
        entry_point: String,
    },
    /// Any command.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// As its image says.
    Image,
}

/// `aws`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aws {
    /// `execution_role`, where one is named.
    pub execution_role: Option<String>,
    /// `execution_role_auto_create`.
    pub execution_role_auto_create: bool,
    /// `account`, twelve digits.
    pub account: Option<String>,
    /// `region`.
    pub region: Option<String>,
    /// `ecr_repository`: a URI without a tag, or a bare name.
    pub ecr_repository: Option<String>,
    /// `ecr_auto_create`.
    pub ecr_auto_create: bool,
    /// `s3_path`: `s3://bucket[/prefix]` or `bucket[/prefix]`.
    pub s3_path: Option<String>,
    /// `s3_auto_create`.
    pub s3_auto_create: bool,
    /// `network_configuration`, where it is said.
    pub network: Option<Network>,
    /// `observability: {enabled}`.
    pub observability: bool,
}

impl Default for Aws {
    fn default() -> Self {
        Self {
            execution_role: None,
            execution_role_auto_create: false,
            account: None,
            region: None,
            ecr_repository: None,
            ecr_auto_create: false,
            s3_path: None,
            s3_auto_create: false,
            network: None,
            observability: true,
        }
    }
}

/// `network_configuration`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// `PUBLIC`.
    Public,
    /// `VPC`.
    Vpc {
        /// `security_groups`.
        security_groups: Vec<String>,
        /// `subnets`.
        subnets: Vec<String>,
    },
}

/// Idle timeout and lifetime in seconds, as far as the file says them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LifecycleSettings {
    /// `idle_runtime_session_timeout`.
    pub idle: Option<u32>,
    /// `max_lifetime`.
    pub max: Option<u32>,
}

/// `bedrock_agentcore`: what a deployment left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deployed {
    /// `agent_id`.
    pub id: Option<String>,
    /// `agent_arn`.
    pub arn: Option<String>,
    /// `agent_session_id`, the session used last.
    pub session_id: Option<String>,
}

/// `codebuild`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CodeBuild {
    /// `project_name`.
    pub project_name: Option<String>,
    /// `execution_role`.
    pub execution_role: Option<String>,
    /// `source_bucket`.
    pub source_bucket: Option<String>,
}

/// `memory`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// `mode`: NO_MEMORY, STM_ONLY or STM_AND_LTM.
    pub mode: String,
    /// `memory_id`.
    pub id: Option<String>,
    /// `memory_arn`.
    pub arn: Option<String>,
    /// `memory_name`.
    pub name: Option<String>,
    /// `event_expiry_days`.
    pub event_expiry_days: u32,
    /// `first_invoke_memory_check_done`.
    pub first_invoke_memory_check_done: bool,
    /// `was_created_by_toolkit`.
    pub was_created_by_toolkit: bool,
}

impl Memory {
    /// The modes; the first is the default.
    pub const MODES: [&str; 3] = ["NO_MEMORY", "STM_ONLY", "STM_AND_LTM"];
    /// `event_expiry_days` where nothing is said. [toolkit's schema]
    pub const EXPIRY_DAYS: u32 = 30;
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            mode: Self::MODES[0].to_owned(),
            id: None,
            arn: None,
            name: None,
            event_expiry_days: Self::EXPIRY_DAYS,
            first_invoke_memory_check_done: false,
            was_created_by_toolkit: false,
        }
    }
}

/// `identity`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// `credential_providers`.
    pub credential_providers: Vec<CredentialProvider>,
    /// `workload`.
    pub workload: Option<Workload>,
}

/// A credential provider of the identity service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialProvider {
    /// `name`.
    pub name: String,
    /// `arn`.
    pub arn: String,
    /// `type`.
    pub kind: String,
    /// `callback_url`.
    pub callback_url: String,
}

/// A workload identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// `name`.
    pub name: String,
    /// `arn`.
    pub arn: String,
    /// `return_urls`.
    pub return_urls: Vec<String>,
}

/// `aws_jwt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsJwt {
    /// `enabled`.
    pub enabled: bool,
    /// `audiences`.
    pub audiences: Vec<String>,
    /// `signing_algorithm`: ES384 or RS256.
    pub signing_algorithm: String,
    /// `issuer_url`.
    pub issuer_url: Option<String>,
    /// `duration_seconds`.
    pub duration_seconds: u32,
}

impl AwsJwt {
    /// The algorithms; the first is the default. [toolkit's schema]
    pub const ALGORITHMS: [&str; 2] = ["ES384", "RS256"];
    /// `duration_seconds` where nothing is said. [toolkit's schema]
    pub const DURATION_SECONDS: u32 = 300;
}

impl Default for AwsJwt {
    fn default() -> Self {
        Self {
            enabled: false,
            audiences: Vec::new(),
            signing_algorithm: Self::ALGORITHMS[0].to_owned(),
            issuer_url: None,
            duration_seconds: Self::DURATION_SECONDS,
        }
    }
}

/// One of `filesystem_configurations`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSystem {
    /// `session_storage`: the service's own, for each session one.
    SessionStorage {
        /// `mount_path`.
        mount_path: MountPath,
    },
    /// `efs_access_point`.
    Efs {
        /// `access_point_arn`.
        access_point_arn: String,
        /// `mount_path`.
        mount_path: MountPath,
    },
    /// `s3_files_access_point`.
    S3Files {
        /// `access_point_arn`.
        access_point_arn: String,
        /// `mount_path`.
        mount_path: MountPath,
    },
    /// `capacity_provider_volume`.
    CapacityProviderVolume {
        /// `volume_name`.
        volume_name: String,
        /// `mount_path`.
        mount_path: MountPath,
    },
}

impl FileSystem {
    /// Where it is mounted.
    pub fn mount_path(&self) -> &MountPath {
        match self {
            Self::SessionStorage { mount_path }
            | Self::Efs { mount_path, .. }
            | Self::S3Files { mount_path, .. }
            | Self::CapacityProviderVolume { mount_path, .. } => mount_path,
        }
    }
}

/// One of `endpoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// `version`: the version it is pinned to; the newest at the time it is made where nothing is said.
    pub version: Option<Version>,
    /// `description`.
    pub description: Option<String>,
}

/// `build`: how the image is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Build {
    /// `dockerfile`, absolute.
    pub dockerfile: Option<PathBuf>,
    /// `context`, absolute; the source directory where nothing is said.
    pub context: Option<PathBuf>,
    /// `target`.
    pub target: Option<String>,
    /// `network`, as `--network` of buildx takes it.
    pub network: Option<String>,
    /// `args`.
    pub args: BTreeMap<String, String>,
    /// `secrets`, as `--secret` of buildx takes them.
    pub secrets: Vec<String>,
    /// `cache_from`, as `--cache-from` of buildx takes them.
    pub cache_from: Vec<String>,
    /// `cache_to`, as `--cache-to` of buildx takes them.
    pub cache_to: Vec<String>,
}
