//! The YAML of the project file: its shapes as they are written, and their way into [`Project`].

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use super::schema::{
    Agent, AgentLaunch, Aws, AwsJwt, Build, CodeBuild, CredentialProvider, Deployed, Deployment, Endpoint,
    FileSystem, Identity, Language, LifecycleSettings, Memory, Network, Workload,
};
use super::{Project, ProjectError, keys};
use crate::model::{AccountId, EndpointName, Lifecycle, MountPath, Region, RuntimeName, Version, limits};

/// Longest member of the service's `entryPoint`. [model: 1..128]
const ENTRY_POINT_BYTES: usize = 128;
/// What the service takes of each kind of mounted file system. [guide: 2 EFS, 2 S3 Files]
const SHARED_FILE_SYSTEMS: usize = 2;
/// `duration_seconds` of `aws_jwt`. [toolkit's schema]
const JWT_SECONDS: std::ops::RangeInclusive<u32> = 60..=3600;

/// The protocols of agents; the first is the default. [toolkit's schema]
const PROTOCOLS: [&str; 4] = ["HTTP", "MCP", "A2A", "AGUI"];

/// A file with an `agents` map.
#[derive(Deserialize)]
struct ManyDto {
    default_agent: Option<Spanned<String>>,
    is_agentcore_create_with_iac: Option<bool>,
    agents: BTreeMap<String, Spanned<AgentDto>>,
}

/// Tells the two forms of the file apart.
#[derive(Deserialize)]
struct FormDto {
    agents: Option<IgnoredAny>,
}

type Text = Option<Spanned<String>>;

#[derive(Deserialize)]
struct AgentDto {
    name: Text,
    language: Text,
    node_version: Option<String>,
    entrypoint: Text,
    deployment_type: Text,
    runtime_type: Option<String>,
    platform: Option<String>,
    container_runtime: Text,
    source_path: Text,
    aws: Option<AwsDto>,
    bedrock_agentcore: Option<DeployedDto>,
    codebuild: Option<CodeBuildDto>,
    memory: Option<MemoryDto>,
    identity: Option<IdentityDto>,
    aws_jwt: Option<AwsJwtDto>,
    authorizer_configuration: Option<Spanned<Value>>,
    request_header_configuration: Option<HeadersDto>,
    oauth_configuration: Option<Value>,
    api_key_env_var_name: Option<String>,
    api_key_credential_provider_name: Option<String>,
    is_generated_by_agentcore_create: Option<bool>,
    command: Option<Spanned<Vec<String>>>,
    environment_variables: Option<BTreeMap<String, Option<Spanned<String>>>>,
    filesystem_configurations: Option<Vec<Spanned<FileSystemDto>>>,
    /// A misspelling that articles teach; named so that it is not ignored.
    filesystem_configuration: Option<Spanned<IgnoredAny>>,
    tags: Option<Spanned<BTreeMap<String, Option<String>>>>,
    endpoints: Option<Spanned<BTreeMap<String, Option<EndpointDto>>>>,
    models: Option<Vec<Spanned<String>>>,
    build: Option<BuildDto>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSystemDto {
    session_storage: Option<SessionStorageDto>,
    efs_access_point: Option<AccessPointDto>,
    s3_files_access_point: Option<AccessPointDto>,
    capacity_provider_volume: Option<VolumeDto>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionStorageDto {
    mount_path: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessPointDto {
    access_point_arn: String,
    mount_path: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumeDto {
    volume_name: String,
    mount_path: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointDto {
    version: Text,
    description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BuildDto {
    dockerfile: Option<String>,
    context: Option<String>,
    target: Option<String>,
    network: Option<String>,
    args: Option<BTreeMap<String, Option<String>>>,
    secrets: Option<Vec<String>>,
    cache_from: Option<Vec<String>>,
    cache_to: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
struct AwsDto {
    execution_role: Option<String>,
    execution_role_auto_create: Option<bool>,
    account: Text,
    region: Text,
    ecr_repository: Option<String>,
    ecr_auto_create: Option<bool>,
    s3_path: Option<String>,
    s3_auto_create: Option<bool>,
    network_configuration: Option<NetworkDto>,
    protocol_configuration: Option<ProtocolDto>,
    observability: Option<ObservabilityDto>,
    lifecycle_configuration: Option<Spanned<LifecycleDto>>,
}

#[derive(Deserialize)]
struct NetworkDto {
    network_mode: Text,
    network_mode_config: Option<NetworkModeDto>,
}

#[derive(Deserialize)]
struct NetworkModeDto {
    security_groups: Option<Vec<String>>,
    subnets: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct ProtocolDto {
    server_protocol: Text,
}

#[derive(Deserialize)]
struct ObservabilityDto {
    enabled: Option<bool>,
}

#[derive(Deserialize)]
struct LifecycleDto {
    idle_runtime_session_timeout: Option<Spanned<u32>>,
    max_lifetime: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
struct DeployedDto {
    agent_id: Option<String>,
    agent_arn: Option<String>,
    agent_session_id: Option<String>,
}

#[derive(Deserialize)]
struct CodeBuildDto {
    project_name: Option<String>,
    execution_role: Option<String>,
    source_bucket: Option<String>,
}

#[derive(Deserialize)]
struct MemoryDto {
    mode: Text,
    memory_id: Text,
    memory_arn: Text,
    memory_name: Text,
    event_expiry_days: Option<u32>,
    first_invoke_memory_check_done: Option<bool>,
    was_created_by_toolkit: Option<bool>,
}

#[derive(Deserialize)]
struct IdentityDto {
    credential_providers: Option<Vec<CredentialProviderDto>>,
    workload: Option<WorkloadDto>,
}

#[derive(Deserialize)]
struct CredentialProviderDto {
    name: String,
    arn: String,
    #[serde(rename = "type")]
    kind: String,
    callback_url: Option<String>,
}

#[derive(Deserialize)]
struct WorkloadDto {
    name: String,
    arn: String,
    return_urls: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct AwsJwtDto {
    enabled: Option<bool>,
    audiences: Option<Vec<String>>,
    signing_algorithm: Text,
    issuer_url: Option<String>,
    duration_seconds: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
struct HeadersDto {
    #[serde(rename = "requestHeaderAllowlist", alias = "request_header_allowlist")]
    allowlist: Option<Vec<String>>,
}

/// Reads the text of `file`.
pub(super) fn parse(file: &Path, text: &str) -> Result<Project, ProjectError> {
    let reader = Reader { file };
    let form: FormDto = reader.yaml(text)?;
    keys::check(file, text)?;
    let mut agents = BTreeMap::new();
    let mut default = None;
    let mut managed_elsewhere = false;
    let one_agent = form.agents.is_none();
    if one_agent {
        let dto: Spanned<AgentDto> = reader.yaml(text)?;
        let agent = reader.agent(None, dto.value, dto.referenced)?;
        agents.insert(agent.name.to_string(), agent);
    } else {
        let many: ManyDto = reader.yaml(text)?;
        for (key, dto) in many.agents {
            let agent = reader.agent(Some(&key), dto.value, dto.referenced)?;
            agents.insert(key, agent);
        }
        if let Some(name) = many.default_agent {
            if !agents.contains_key(&name.value) {
                let message = format!("`default_agent` names `{}`, which is not in `agents`", name.value);
                return Err(reader.invalid(name.referenced, message));
            }
            default = Some(name.value);
        }
        managed_elsewhere = many.is_agentcore_create_with_iac.unwrap_or_default();
    }
    Ok(Project { file: file.to_owned(), agents, default, one_agent, managed_elsewhere })
}

struct Reader<'a> {
    file: &'a Path,
}

impl Reader<'_> {
    fn yaml<'t, T: Deserialize<'t>>(&self, text: &'t str) -> Result<T, ProjectError> {
        serde_saphyr::from_str(text).map_err(|e| {
            let place = e.location().unwrap_or(Location::UNKNOWN);
            let plain = e.without_snippet().to_string();
            // The library ends its message with the place, which ours begins with.
            let message = match plain.find(" at line ") {
                Some(end) => plain[..end].to_owned(),
                None => plain,
            };
            self.invalid(place, message)
        })
    }

    fn invalid(&self, place: Location, message: impl Into<String>) -> ProjectError {
        // A place the parser does not know is the file as a whole: its first character.
        ProjectError::Invalid {
            file: self.file.to_owned(),
            line: place.line().max(1),
            column: place.column().max(1),
            message: message.into(),
        }
    }

    fn root(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    fn agent(&self, key: Option<&str>, dto: AgentDto, place: Location) -> Result<Agent, ProjectError> {
        let (name, name_place) = match (&dto.name, key) {
            (Some(name), _) => (name.value.as_str(), name.referenced),
            (None, Some(key)) => (key, place),
            (None, None) => {
                return Err(self.invalid(place, "expected `agents`, or `name` and `entrypoint` of one agent"));
            }
        };
        let name: RuntimeName =
            name.parse().map_err(|e| self.invalid(name_place, format!("`{name}`: {e}")))?;
        if let Some(wrong) = &dto.filesystem_configuration {
            let message =
                "`filesystem_configuration` is not a key: expected `filesystem_configurations`, a list";
            return Err(self.invalid(wrong.referenced, message));
        }
        let root = self.root();
        let (source, entry) = places(
            root,
            dto.source_path.as_ref().map(|p| p.value.as_str()),
            dto.entrypoint.as_ref().map(|e| without_handler(&e.value)),
        );
        // An agent may be nothing but its image.
        let image = dto.deployment_type.as_ref().is_some_and(|d| d.value == Deployment::Container.as_str())
            || dto.build.as_ref().is_some_and(|build| build.dockerfile.is_some())
            || source.join("Dockerfile").is_file();
        let launch = self.launch(&dto, &source, entry, image, place)?;
        let (aws, lifecycle, protocol) = self.aws(dto.aws.unwrap_or_default())?;
        let codebuild = dto.codebuild.map(codebuild).unwrap_or_default();
        let deployment_type = match self.one_of(dto.deployment_type, &["container", "direct_code_deploy"])? {
            None => None,
            Some(word) if word == Deployment::Container.as_str() => Some(Deployment::Container),
            // The toolkit takes these for what the file had before it could deploy code.
            Some(_) if aws.ecr_repository.is_some() || codebuild.project_name.is_some() => {
                Some(Deployment::Container)
            }
            Some(_) => Some(Deployment::DirectCode),
        };
        let language = match self.one_of(dto.language, &["python", "typescript"])? {
            Some(word) if word == Language::TypeScript.as_str() => Language::TypeScript,
            _ => Language::Python,
        };
        let authorizer = match dto.authorizer_configuration {
            Some(Spanned { value: Value::Object(map), .. }) if map.is_empty() => None,
            Some(Spanned { value: value @ Value::Object(_), .. }) => Some(value),
            Some(other) => {
                let message = "expected a map as the API takes it, such as `customJWTAuthorizer: {…}`";
                return Err(self.invalid(other.referenced, message));
            }
            None => None,
        };
        Ok(Agent {
            key: key.unwrap_or(name.as_str()).to_owned(),
            name,
            language,
            node_version: dto.node_version,
            deployment_type,
            runtime: dto.runtime_type,
            platform: dto.platform,
            container_runtime: self.one_of(dto.container_runtime, &["docker", "finch", "podman", "none"])?,
            launch,
            aws,
            lifecycle,
            protocol,
            deployed: dto.bedrock_agentcore.map(deployed).unwrap_or_default(),
            codebuild,
            memory: dto.memory.map(|m| self.memory(m)).transpose()?.unwrap_or_default(),
            identity: dto.identity.map(identity).unwrap_or_default(),
            aws_jwt: dto.aws_jwt.map(|j| self.aws_jwt(j)).transpose()?.unwrap_or_default(),
            authorizer,
            header_allowlist: dto.request_header_configuration.and_then(|h| h.allowlist),
            oauth: dto.oauth_configuration,
            api_key_env_var_name: dto.api_key_env_var_name,
            api_key_credential_provider_name: dto.api_key_credential_provider_name,
            is_generated_by_agentcore_create: dto.is_generated_by_agentcore_create.unwrap_or_default(),
            environment: dto.environment_variables.map(|e| self.environment(e)).transpose()?.into(),
            file_systems: dto.filesystem_configurations.map(|l| self.file_systems(l)).transpose()?.into(),
            tags: dto.tags.map(|t| self.tags(t)).transpose()?.into(),
            endpoints: dto.endpoints.map(|e| self.endpoints(e)).transpose()?.into(),
            models: dto.models.map(|m| self.models(m)).transpose()?.into(),
            build: dto.build.map(|b| self.build(b)).unwrap_or_default(),
            source,
        })
    }

    fn launch(
        &self,
        dto: &AgentDto,
        source: &Path,
        path: Option<PathBuf>,
        image: bool,
        place: Location,
    ) -> Result<AgentLaunch, ProjectError> {
        if let Some(command) = &dto.command {
            let argv = command.value.clone();
            if argv.first().is_none_or(String::is_empty) {
                let message = "`command` is empty: expected a program and its arguments";
                return Err(self.invalid(command.referenced, message));
            }
            if argv.iter().any(|a| a.contains('\0')) {
                return Err(self.invalid(command.referenced, "`command` contains a NUL character"));
            }
            return Ok(AgentLaunch::Command { argv });
        }
        let (Some(entry), Some(path)) = (&dto.entrypoint, path) else {
            if image {
                return Ok(AgentLaunch::Image);
            }
            return Err(self.invalid(place, "expected `entrypoint`, a Python file, or `command`, a list"));
        };
        let text = without_handler(&entry.value);
        let relative = path.strip_prefix(source).ok().filter(|p| !p.as_os_str().is_empty());
        let Some(relative) = relative.and_then(Path::to_str) else {
            let message = if Path::new(text).is_absolute() && !path.exists() {
                format!(
                    "`entrypoint` `{text}` is not on this machine: expected a path relative to the project file"
                )
            } else {
                format!(
                    "`entrypoint` `{text}` is not a file in the source directory `{}`: expected a path below it",
                    source.display()
                )
            };
            return Err(self.invalid(entry.referenced, message));
        };
        if relative.len() > ENTRY_POINT_BYTES {
            let message = format!("`entrypoint` is longer than {ENTRY_POINT_BYTES} bytes");
            return Err(self.invalid(entry.referenced, message));
        }
        Ok(AgentLaunch::Python { entry_point: relative.to_owned() })
    }

    fn aws(&self, dto: AwsDto) -> Result<(Aws, LifecycleSettings, String), ProjectError> {
        let said = |text: Option<String>| text.filter(|t| !t.is_empty());
        let lifecycle = self.lifecycle(dto.lifecycle_configuration)?;
        let protocol = self
            .one_of(dto.protocol_configuration.and_then(|p| p.server_protocol), &PROTOCOLS)?
            .unwrap_or_else(|| PROTOCOLS[0].to_owned());
        let network = dto.network_configuration.map(|n| self.network(n)).transpose()?.flatten();
        let aws = Aws {
            execution_role: said(dto.execution_role),
            execution_role_auto_create: dto.execution_role_auto_create.unwrap_or_default(),
            account: self.parsed::<AccountId>(dto.account)?.map(|a| a.to_string()),
            region: self.parsed::<Region>(dto.region)?.map(|r| r.to_string()),
            ecr_repository: said(dto.ecr_repository),
            ecr_auto_create: dto.ecr_auto_create.unwrap_or_default(),
            s3_path: said(dto.s3_path),
            s3_auto_create: dto.s3_auto_create.unwrap_or_default(),
            network,
            observability: dto.observability.and_then(|o| o.enabled).unwrap_or(true),
        };
        Ok((aws, lifecycle, protocol))
    }

    fn network(&self, dto: NetworkDto) -> Result<Option<Network>, ProjectError> {
        let place = dto.network_mode.as_ref().map_or(Location::UNKNOWN, |m| m.referenced);
        let Some(mode) = self.one_of(dto.network_mode, &["PUBLIC", "VPC"])? else { return Ok(None) };
        if mode == "PUBLIC" {
            return Ok(Some(Network::Public));
        }
        let Some(config) = dto.network_mode_config else {
            let message =
                "`VPC` needs `network_mode_config: {security_groups: [sg-…], subnets: [subnet-…]}` beside it";
            return Err(self.invalid(place, message));
        };
        Ok(Some(Network::Vpc {
            security_groups: config.security_groups.unwrap_or_default(),
            subnets: config.subnets.unwrap_or_default(),
        }))
    }

    fn memory(&self, dto: MemoryDto) -> Result<Memory, ProjectError> {
        let default = Memory::default();
        let id = |value: Text, extra: &[char], what: &str| match value {
            Some(v) if !v.value.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(&c)) => {
                let signs: Vec<String> = extra.iter().map(|c| format!("`{c}`")).collect();
                let message = format!("`{what}` has more than letters, digits, {}", signs.join(", "));
                Err(self.invalid(v.referenced, message))
            }
            v => Ok(v.map(|v| v.value)),
        };
        Ok(Memory {
            mode: self.one_of(dto.mode, &Memory::MODES)?.unwrap_or(default.mode),
            id: id(dto.memory_id, &['_', '-'], "memory_id")?,
            arn: id(dto.memory_arn, &['_', ':', '/', '.', '-'], "memory_arn")?,
            name: id(dto.memory_name, &['_', '-'], "memory_name")?,
            event_expiry_days: dto.event_expiry_days.unwrap_or(default.event_expiry_days),
            first_invoke_memory_check_done: dto.first_invoke_memory_check_done.unwrap_or_default(),
            was_created_by_toolkit: dto.was_created_by_toolkit.unwrap_or_default(),
        })
    }

    fn aws_jwt(&self, dto: AwsJwtDto) -> Result<AwsJwt, ProjectError> {
        let default = AwsJwt::default();
        if let Some(seconds) = dto.duration_seconds.as_ref().filter(|s| !JWT_SECONDS.contains(&s.value)) {
            let (low, high) = (JWT_SECONDS.start(), JWT_SECONDS.end());
            let message = format!("`duration_seconds` is {}: expected {low} to {high}", seconds.value);
            return Err(self.invalid(seconds.referenced, message));
        }
        Ok(AwsJwt {
            enabled: dto.enabled.unwrap_or_default(),
            audiences: dto.audiences.unwrap_or_default(),
            signing_algorithm: self
                .one_of(dto.signing_algorithm, &AwsJwt::ALGORITHMS)?
                .unwrap_or(default.signing_algorithm),
            issuer_url: dto.issuer_url,
            duration_seconds: dto.duration_seconds.map_or(default.duration_seconds, |s| s.value),
        })
    }

    fn environment(
        &self,
        dto: BTreeMap<String, Option<Spanned<String>>>,
    ) -> Result<BTreeMap<String, String>, ProjectError> {
        let mut environment = BTreeMap::new();
        for (key, value) in dto {
            let Some(value) = value else {
                environment.insert(key, String::new());
                continue;
            };
            if key.is_empty() || key.contains(['=', '\0']) || value.value.contains('\0') {
                let message = format!("`environment_variables` has `{key}`, which no process can be given");
                return Err(self.invalid(value.referenced, message));
            }
            environment.insert(key, value.value);
        }
        Ok(environment)
    }

    fn file_systems(&self, list: Vec<Spanned<FileSystemDto>>) -> Result<Vec<FileSystem>, ProjectError> {
        if let Some(extra) = list.get(limits::MAX_FILESYSTEMS) {
            let message = format!("expected at most {} file systems", limits::MAX_FILESYSTEMS);
            return Err(self.invalid(extra.referenced, message));
        }
        let path = |text: Spanned<String>| -> Result<MountPath, ProjectError> {
            text.value.parse().map_err(|e| self.invalid(text.referenced, format!("{e}")))
        };
        let mut found: Vec<FileSystem> = Vec::new();
        for Spanned { value: dto, referenced: place, .. } in list {
            let FileSystemDto {
                session_storage,
                efs_access_point,
                s3_files_access_point,
                capacity_provider_volume,
            } = dto;
            let one =
                match (session_storage, efs_access_point, s3_files_access_point, capacity_provider_volume) {
                    (Some(s), None, None, None) => {
                        FileSystem::SessionStorage { mount_path: path(s.mount_path)? }
                    }
                    (None, Some(e), None, None) => FileSystem::Efs {
                        access_point_arn: e.access_point_arn,
                        mount_path: path(e.mount_path)?,
                    },
                    (None, None, Some(s), None) => FileSystem::S3Files {
                        access_point_arn: s.access_point_arn,
                        mount_path: path(s.mount_path)?,
                    },
                    (None, None, None, Some(v)) => FileSystem::CapacityProviderVolume {
                        volume_name: v.volume_name,
                        mount_path: path(v.mount_path)?,
                    },
                    _ => {
                        let message = "expected exactly one of `session_storage`, `efs_access_point`, \
                                   `s3_files_access_point`, `capacity_provider_volume`";
                        return Err(self.invalid(place, message));
                    }
                };
            let alike =
                found.iter().filter(|f| std::mem::discriminant(*f) == std::mem::discriminant(&one)).count();
            let (limit, what) = match &one {
                FileSystem::SessionStorage { .. } => (limits::MAX_SESSION_STORAGES, "session_storage"),
                FileSystem::Efs { .. } => (SHARED_FILE_SYSTEMS, "efs_access_point"),
                FileSystem::S3Files { .. } => (SHARED_FILE_SYSTEMS, "s3_files_access_point"),
                FileSystem::CapacityProviderVolume { .. } => {
                    (limits::MAX_FILESYSTEMS, "capacity_provider_volume")
                }
            };
            if alike >= limit {
                let message = format!(
                    "expected at most {} `{what}`",
                    if limit == 1 { "one".to_owned() } else { limit.to_string() }
                );
                return Err(self.invalid(place, message));
            }
            if found.iter().any(|f| f.mount_path() == one.mount_path()) {
                let message = format!("`{}` is mounted twice: expected another path", one.mount_path());
                return Err(self.invalid(place, message));
            }
            found.push(one);
        }
        Ok(found)
    }

    fn tags(
        &self,
        dto: Spanned<BTreeMap<String, Option<String>>>,
    ) -> Result<BTreeMap<String, String>, ProjectError> {
        if dto.value.len() > limits::MAX_TAGS {
            let message = format!("expected at most {} tags", limits::MAX_TAGS);
            return Err(self.invalid(dto.referenced, message));
        }
        Ok(dto.value.into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect())
    }

    fn endpoints(
        &self,
        dto: Spanned<BTreeMap<String, Option<EndpointDto>>>,
    ) -> Result<BTreeMap<EndpointName, Endpoint>, ProjectError> {
        let place = dto.referenced;
        let mut endpoints = BTreeMap::new();
        for (name, endpoint) in dto.value {
            let name: EndpointName =
                name.parse().map_err(|e| self.invalid(place, format!("`{name}`: {e}")))?;
            if name.is_default() {
                let message = "`DEFAULT` is the service's own endpoint, which follows the newest version: \
                               expected other names";
                return Err(self.invalid(place, message));
            }
            let endpoint = match endpoint {
                Some(e) => {
                    Endpoint { version: self.parsed::<Version>(e.version)?, description: e.description }
                }
                None => Endpoint::default(),
            };
            endpoints.insert(name, endpoint);
        }
        Ok(endpoints)
    }

    fn models(&self, list: Vec<Spanned<String>>) -> Result<Vec<String>, ProjectError> {
        let mut models = Vec::new();
        for model in list {
            let legal = |c: char| c.is_ascii_alphanumeric() || "-_.:/*".contains(c);
            if model.value.is_empty() || !model.value.chars().all(legal) {
                let message =
                    format!("`{}` is no model: expected the id or ARN of a Bedrock model", model.value);
                return Err(self.invalid(model.referenced, message));
            }
            models.push(model.value);
        }
        Ok(models)
    }

    fn build(&self, dto: BuildDto) -> Build {
        let path = |text: Option<String>| text.map(|t| clean(&self.root().join(t)));
        Build {
            dockerfile: path(dto.dockerfile),
            context: path(dto.context),
            target: dto.target,
            network: dto.network,
            args: dto.args.unwrap_or_default().into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect(),
            secrets: dto.secrets.unwrap_or_default(),
            cache_from: dto.cache_from.unwrap_or_default(),
            cache_to: dto.cache_to.unwrap_or_default(),
        }
    }

    fn lifecycle(&self, dto: Option<Spanned<LifecycleDto>>) -> Result<LifecycleSettings, ProjectError> {
        let Some(dto) = dto else { return Ok(LifecycleSettings::default()) };
        let check = |key: &str, value: Option<Spanned<u32>>| match value {
            Some(v) if !limits::LIFECYCLE_SECONDS.contains(&v.value) => {
                let (low, high) = (limits::LIFECYCLE_SECONDS.start(), limits::LIFECYCLE_SECONDS.end());
                let message = format!("`{key}` is {}: expected {low} to {high} seconds", v.value);
                Err(self.invalid(v.referenced, message))
            }
            other => Ok(other.map(|v| v.value)),
        };
        let idle = check("idle_runtime_session_timeout", dto.value.idle_runtime_session_timeout)?;
        let max = check("max_lifetime", dto.value.max_lifetime)?;
        Lifecycle::new(idle, max).map_err(|_| {
            let message = "`idle_runtime_session_timeout` must be less than or equal to `max_lifetime`";
            self.invalid(dto.referenced, message)
        })?;
        Ok(LifecycleSettings { idle, max })
    }

    /// One of `choices`, in whatever case it is written.
    fn one_of(&self, value: Text, choices: &[&str]) -> Result<Option<String>, ProjectError> {
        let Some(value) = value else { return Ok(None) };
        match choices.iter().find(|c| c.eq_ignore_ascii_case(&value.value)) {
            Some(choice) => Ok(Some((*choice).to_owned())),
            None => {
                let expected = choices.join(", ");
                let message = format!("`{}` is unknown here: expected one of {expected}", value.value);
                Err(self.invalid(value.referenced, message))
            }
        }
    }

    fn parsed<T: FromStr<Err: Display>>(&self, value: Text) -> Result<Option<T>, ProjectError> {
        let Some(value) = value else { return Ok(None) };
        let parsed = value.value.parse();
        parsed.map(Some).map_err(|e| self.invalid(value.referenced, format!("`{}`: {e}", value.value)))
    }
}

fn deployed(dto: DeployedDto) -> Deployed {
    Deployed { id: dto.agent_id, arn: dto.agent_arn, session_id: dto.agent_session_id }
}

fn codebuild(dto: CodeBuildDto) -> CodeBuild {
    CodeBuild {
        project_name: dto.project_name,
        execution_role: dto.execution_role,
        source_bucket: dto.source_bucket,
    }
}

fn identity(dto: IdentityDto) -> Identity {
    let provider = |p: CredentialProviderDto| CredentialProvider {
        name: p.name,
        arn: p.arn,
        kind: p.kind,
        callback_url: p.callback_url.unwrap_or_default(),
    };
    Identity {
        credential_providers: dto
            .credential_providers
            .unwrap_or_default()
            .into_iter()
            .map(provider)
            .collect(),
        workload: dto.workload.map(|w| Workload {
            name: w.name,
            arn: w.arn,
            return_urls: w.return_urls.unwrap_or_default(),
        }),
    }
}

/// The source directory and the entry file.
///
/// The toolkit writes both as absolute paths of the machine it ran on. Where these are not on this one, the same
/// files below the project file's directory are meant: the longest end of the path that is there.
fn places(root: &Path, source: Option<&str>, entry: Option<&str>) -> (PathBuf, Option<PathBuf>) {
    let directory = source.map_or_else(|| root.to_owned(), |s| clean(&root.join(s)));
    let file = entry.map(|e| clean(&root.join(e)));
    let Some(path) = file.as_deref().filter(|_| entry.is_some_and(|e| Path::new(e).is_absolute())) else {
        return (directory, file);
    };
    if path.starts_with(root) && directory.starts_with(root) || path.exists() {
        return (directory, file);
    }
    let moved = match source {
        Some(_) => path.strip_prefix(&directory).ok().and_then(|inner| {
            ends(&directory).map(|end| root.join(end)).find(|d| d.join(inner).is_file()).map(|d| {
                let file = d.join(inner);
                (d, file)
            })
        }),
        None => {
            let file = ends(path).map(|end| root.join(end)).find(|f| f.is_file());
            file.map(|f| (root.to_owned(), f))
        }
    };
    match moved {
        Some((directory, file)) => (clean(&directory), Some(file)),
        None => (directory, file),
    }
}

/// The ends of an absolute path, the longest first, the empty one last.
fn ends(path: &Path) -> impl Iterator<Item = PathBuf> {
    let parts: Vec<_> = path.components().filter(|c| matches!(c, Component::Normal(_))).collect();
    (0..=parts.len()).map(move |from| parts.iter().skip(from).collect()).collect::<Vec<_>>().into_iter()
}

/// `main.py:handler` names a function too, which the file's own server makes needless.
fn without_handler(entry: &str) -> &str {
    match entry.rsplit_once(':') {
        Some((file, handler))
            if !file.is_empty()
                && !handler.is_empty()
                && handler.chars().all(|c| c.is_alphanumeric() || c == '_') =>
        {
            file
        }
        _ => entry,
    }
}

/// The path without `.` and `..`, read from the text alone.
pub fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::Setting;
    use super::*;

    fn read(text: &str) -> Result<Project, ProjectError> {
        parse(Path::new("/p/.bedrock_agentcore.yaml"), text)
    }

    /// Line, column and message of the error that `text` gives.
    fn fault(text: &str) -> (u64, u64, String) {
        match read(text).unwrap_err() {
            ProjectError::Invalid { line, column, message, .. } => (line, column, message),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_file_as_the_toolkit_writes_it_is_understood() {
        let text = r"
default_agent: coder
agents:
  coder:
    name: coder
    language: python
    node_version: '20'
    entrypoint: /p/src/main.py
    deployment_type: direct_code_deploy
    runtime_type: PYTHON_3_12
    platform: linux/arm64
    container_runtime: null
    source_path: /p/src
    aws:
      execution_role: null
      execution_role_auto_create: true
      account: '123456789012'
      region: us-west-2
      network_configuration:
        network_mode: VPC
        network_mode_config: {security_groups: [sg-1], subnets: [subnet-1]}
      protocol_configuration: {server_protocol: HTTP}
      observability: {enabled: true}
      lifecycle_configuration:
        idle_runtime_session_timeout: 120
        max_lifetime: null
    bedrock_agentcore: {agent_id: null, agent_arn: null, agent_session_id: null}
    codebuild: {project_name: null, execution_role: null, source_bucket: null}
    memory: {mode: NO_MEMORY, event_expiry_days: 30}
    identity: {credential_providers: [], workload: null}
    authorizer_configuration:
      customJWTAuthorizer: {discoveryUrl: 'https://example.com', allowedClients: [a]}
    request_header_configuration: {requestHeaderAllowlist: [Authorization]}
    oauth_configuration: null
    environment_variables: {LOG_LEVEL: debug}
    filesystem_configurations: [{session_storage: {mount_path: /mnt/workspace/}}]
";
        let project = read(text).unwrap();
        let agent = project.agent(None).unwrap();
        assert_eq!(agent.source, Path::new("/p/src"));
        assert_eq!(agent.launch, AgentLaunch::Python { entry_point: "main.py".into() });
        assert_eq!(agent.runtime.as_deref(), Some("PYTHON_3_12"));
        assert_eq!(agent.lifecycle, LifecycleSettings { idle: Some(120), max: None });
        assert_eq!(agent.session_storage().unwrap().as_str(), "/mnt/workspace");
        assert_eq!(agent.environment.value().unwrap()["LOG_LEVEL"], "debug");
        assert_eq!(agent.header_allowlist.as_deref(), Some(&["Authorization".to_owned()][..]));
        assert!(agent.vpc() && agent.authorizer.is_some());
        assert_eq!(agent.protocol, "HTTP");
        assert_eq!(agent.aws.execution_role, None);
        let role = "arn:aws:iam::123456789012:role/coder";
        let project =
            read(&text.replace("execution_role: null", &format!("execution_role: {role}"))).unwrap();
        assert_eq!(project.agent(None).unwrap().aws.execution_role.as_deref(), Some(role));
    }

    #[test]
    fn the_legacy_form_and_a_minimal_file_are_one_agent() {
        let project = read("name: coder\nentrypoint: app.py:app\n").unwrap();
        let agent = project.agent(None).unwrap();
        assert_eq!(agent.name.as_str(), "coder");
        assert_eq!(agent.launch, AgentLaunch::Python { entry_point: "app.py".into() });
        assert_eq!(agent.source, Path::new("/p"));
        assert!(!agent.vpc() && agent.authorizer.is_none() && agent.session_storage().is_none());
        let project = read("agents: {node: {command: [node, main.js]}}").unwrap();
        let agent = project.agent(None).unwrap();
        assert_eq!(agent.launch, AgentLaunch::Command { argv: vec!["node".into(), "main.js".into()] });
    }

    #[test]
    fn errors_name_line_column_and_what_was_expected() {
        let (line, column, message) = fault("name: coder\nentrypoint: main.py\nenvironment_variables: 5\n");
        assert_eq!((line, column), (3, 24), "{message}");
        let (line, column, message) = fault("name: my-agent\nentrypoint: main.py\n");
        assert_eq!((line, column), (1, 7));
        assert!(message.contains("begin with a letter"), "{message}");
        let (line, _, message) = fault("name: a\nentrypoint: ../other/main.py\n");
        assert_eq!(line, 2);
        assert!(message.contains("expected a path below it"), "{message}");
        let (line, _, message) = fault("agents:\n  a:\n    name: a\n");
        assert_eq!(line, 3, "{message}");
        assert!(message.contains("expected `entrypoint`"), "{message}");
        let (line, _, message) = fault("default_agent: b\nagents:\n  a: {entrypoint: a.py}\n");
        assert_eq!(line, 1);
        assert!(message.contains("not in `agents`"), "{message}");
        let (line, _, message) = fault("name: [\n");
        assert!(line >= 1 && !message.contains('\n'), "{message}");
        let (_, _, message) = fault("");
        assert!(message.contains("expected") || message.contains("empty"), "{message}");
    }

    #[test]
    fn the_mistakes_that_articles_teach_are_named() {
        let start = "name: a\nentrypoint: a.py\n";
        let (line, _, message) = fault(&format!("{start}filesystem_configuration: {{mountPath: /mnt/x}}\n"));
        assert_eq!(line, 3);
        assert!(message.contains("filesystem_configurations"), "{message}");
        let (line, _, message) = fault(&format!(
            "{start}filesystem_configurations:\n  - session_storage:\n      mount_path: /mnt/x\n      size_in_gib: 1\n"
        ));
        assert_eq!(line, 6, "{message}");
        assert!(message.contains("size_in_gib"), "{message}");
        let (line, column, message) = fault(&format!(
            "{start}filesystem_configurations: [{{session_storage: {{mount_path: /data}}}}]\n"
        ));
        assert_eq!((line, column), (3, 60), "{message}");
        let (line, _, message) = fault(&format!(
            "{start}aws:\n  lifecycle_configuration: {{idle_runtime_session_timeout: 900, max_lifetime: 100}}\n"
        ));
        assert_eq!(line, 4);
        assert!(message.contains("less than or equal"), "{message}");
        let (_, _, message) =
            fault(&format!("{start}aws: {{network_configuration: {{network_mode: PRIVATE}}}}\n"));
        assert!(message.contains("PUBLIC, VPC"), "{message}");
    }

    #[test]
    fn every_key_of_the_toolkit_is_read_and_has_its_default() {
        let plain = read("name: a\nentrypoint: a.py\n").unwrap().agents["a"].clone();
        assert_eq!((plain.language, plain.deployment_type), (Language::Python, None));
        assert_eq!(plain.deployment(), Deployment::Container);
        assert_eq!((plain.aws.clone(), plain.memory.clone()), (Aws::default(), Memory::default()));
        assert_eq!((plain.memory.mode.as_str(), plain.memory.event_expiry_days), ("NO_MEMORY", 30));
        assert_eq!(
            (plain.aws_jwt.signing_algorithm.as_str(), plain.aws_jwt.duration_seconds),
            ("ES384", 300)
        );
        assert_eq!((plain.deployed.clone(), plain.codebuild.clone()), Default::default());
        assert_eq!(plain.protocol, "HTTP");
        assert!(plain.aws.observability);
        let text = r"
is_agentcore_create_with_iac: true
agents:
  a:
    name: a
    language: typescript
    node_version: '20'
    entrypoint: src/index.py
    deployment_type: container
    platform: linux/arm64
    container_runtime: podman
    aws:
      execution_role_auto_create: true
      account: '012345678901'
      region: eu-west-1
      ecr_repository: 012345678901.dkr.ecr.eu-west-1.amazonaws.com/a
      ecr_auto_create: true
      s3_path: s3://b/c
      s3_auto_create: true
      protocol_configuration: {server_protocol: mcp}
      observability: {enabled: false}
    bedrock_agentcore: {agent_id: a-AbCdEf0123, agent_arn: 'arn:x', agent_session_id: s}
    codebuild: {project_name: p, execution_role: r, source_bucket: b}
    memory: {mode: STM_AND_LTM, memory_id: m-1, memory_arn: 'arn:aws:x:y/m-1', memory_name: m, event_expiry_days: 7,
             first_invoke_memory_check_done: true, was_created_by_toolkit: true}
    identity:
      credential_providers: [{name: n, arn: 'arn:n', type: github}]
      workload: {name: w, arn: 'arn:w', return_urls: ['https://x']}
    aws_jwt: {enabled: true, audiences: [x], signing_algorithm: rs256, issuer_url: 'https://i', duration_seconds: 60}
    oauth_configuration: {workload_name: w, userId: u}
    api_key_env_var_name: OPENAI_API_KEY
    api_key_credential_provider_name: openai
    is_generated_by_agentcore_create: true
";
        let project = read(text).unwrap();
        assert!(project.managed_elsewhere && !project.one_agent);
        let agent = &project.agents["a"];
        assert_eq!((agent.language, agent.node_version.as_deref()), (Language::TypeScript, Some("20")));
        assert_eq!(agent.deployment_type, Some(Deployment::Container));
        assert_eq!(agent.container_runtime.as_deref(), Some("podman"));
        assert_eq!(agent.aws.account.as_deref(), Some("012345678901"));
        assert!(agent.aws.ecr_auto_create && agent.aws.s3_auto_create && !agent.aws.observability);
        assert_eq!(agent.protocol, "MCP");
        assert_eq!(agent.deployed.id.as_deref(), Some("a-AbCdEf0123"));
        assert_eq!(agent.codebuild.source_bucket.as_deref(), Some("b"));
        assert_eq!((agent.memory.mode.as_str(), agent.memory.event_expiry_days), ("STM_AND_LTM", 7));
        assert_eq!(agent.identity.credential_providers[0].callback_url, "");
        assert_eq!(agent.identity.workload.as_ref().unwrap().return_urls, ["https://x"]);
        assert_eq!((agent.aws_jwt.signing_algorithm.as_str(), agent.aws_jwt.duration_seconds), ("RS256", 60));
        assert_eq!(agent.oauth.as_ref().unwrap()["userId"], "u");
        assert_eq!(agent.api_key_env_var_name.as_deref(), Some("OPENAI_API_KEY"));
        assert!(agent.is_generated_by_agentcore_create);
        // What the toolkit takes for a project from before it deployed code.
        let old =
            "name: a\nentrypoint: a.py\ndeployment_type: direct_code_deploy\ncodebuild: {project_name: p}\n";
        assert_eq!(read(old).unwrap().agents["a"].deployment(), Deployment::Container);
    }

    #[test]
    fn one_rule_says_which_agents_are_images() {
        let image = |more: &str| read(&format!("name: a\n{more}")).unwrap().agents["a"].runs_image();
        for (more, expected) in [
            ("entrypoint: a.py\n", false),
            ("entrypoint: a.py\ndeployment_type: container\n", true),
            ("entrypoint: a.py\ndeployment_type: direct_code_deploy\nbuild: {dockerfile: D}\n", false),
            ("entrypoint: a.py\nbuild: {dockerfile: D}\n", true),
            ("entrypoint: a.py\naws: {ecr_repository: r}\n", true),
            ("entrypoint: a.py\naws: {ecr_auto_create: true}\n", true),
            ("entrypoint: a.py\naws: {s3_path: 's3://b'}\n", false),
            ("command: [node, a.js]\n", false),
            ("build: {dockerfile: D}\n", true),
        ] {
            assert_eq!(image(more), expected, "{more}");
        }
    }

    #[test]
    fn absolute_paths_of_another_machine_are_the_same_files_here() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".bedrock_agentcore.yaml");
        std::fs::create_dir_all(dir.path().join("agents/one")).unwrap();
        std::fs::write(dir.path().join("agents/one/main.py"), "").unwrap();
        std::fs::write(dir.path().join("top.py"), "").unwrap();
        let agent = |text: &str| parse(&file, text).map(|p| p.agent(None).unwrap().clone());
        let both =
            "name: a\nentrypoint: /home/u/proj/agents/one/main.py\nsource_path: /home/u/proj/agents/one\n";
        let found = agent(both).unwrap();
        assert_eq!(found.source, dir.path().join("agents/one"));
        assert_eq!(found.launch, AgentLaunch::Python { entry_point: "main.py".into() });
        let found = agent("name: a\nentrypoint: /home/u/proj/agents/one/main.py:app\n").unwrap();
        assert_eq!(found.source, dir.path());
        assert_eq!(found.launch, AgentLaunch::Python { entry_point: "agents/one/main.py".into() });
        let found = agent("name: a\nentrypoint: /home/u/proj/top.py\nsource_path: /home/u/proj\n").unwrap();
        assert_eq!(found.source, dir.path());
        assert_eq!(found.launch, AgentLaunch::Python { entry_point: "top.py".into() });
        let lost = agent("name: a\nentrypoint: /home/u/proj/lost.py\n").unwrap_err().to_string();
        assert!(lost.contains(":2:13: ") && lost.contains("relative to the project file"), "{lost}");
    }

    #[test]
    fn a_key_of_ours_that_is_missing_is_not_one_that_is_empty() {
        let start = "name: a\nentrypoint: a.py\n";
        let agent = |more: &str| read(&format!("{start}{more}")).unwrap().agents["a"].clone();
        let keep = agent("");
        assert_eq!((&keep.environment, &keep.file_systems), (&Setting::Keep, &Setting::Keep));
        assert_eq!(
            (&keep.tags, &keep.endpoints, &keep.models),
            (&Setting::Keep, &Setting::Keep, &Setting::Keep)
        );
        assert_eq!(agent("tags:\nmodels: null\n"), keep);
        let remove = agent(
            "environment_variables: {}\nfilesystem_configurations: []\ntags: {}\nendpoints: {}\nmodels: []\n",
        );
        assert_eq!(remove.environment, Setting::Set(BTreeMap::new()));
        assert_eq!(remove.file_systems, Setting::Set(Vec::new()));
        assert_eq!(remove.tags, Setting::Set(BTreeMap::new()));
        assert_eq!(remove.endpoints, Setting::Set(BTreeMap::new()));
        assert_eq!(remove.models, Setting::Set(Vec::new()));
    }

    #[test]
    fn our_keys_are_read_and_checked() {
        let start = "name: a\nentrypoint: a.py\n";
        let text = format!(
            "{start}filesystem_configurations:\n  - session_storage: {{mount_path: /mnt/work}}\n  \
             - efs_access_point: {{access_point_arn: 'arn:e', mount_path: /mnt/efs}}\n  \
             - s3_files_access_point: {{access_point_arn: 'arn:s', mount_path: /mnt/s3}}\n  \
             - capacity_provider_volume: {{volume_name: v, mount_path: /mnt/vol}}\n\
             tags: {{team: agents, empty: null}}\n\
             endpoints: {{prod: {{version: 3, description: stable}}, canary: null}}\n\
             models: [anthropic.claude-sonnet-4-5-20250929-v1:0, 'us.amazon.nova-*']\n\
             build: {{dockerfile: docker/Dockerfile, args: {{PIP: x}}, secrets: ['id=npm,src=.npmrc'], target: run, network: host}}\n"
        );
        let agent = read(&text).unwrap().agents["a"].clone();
        let systems = agent.file_systems.value().unwrap();
        let paths: Vec<&str> = systems.iter().map(|s| s.mount_path().as_str()).collect();
        assert_eq!(paths, ["/mnt/work", "/mnt/efs", "/mnt/s3", "/mnt/vol"]);
        assert!(
            matches!(&systems[1], FileSystem::Efs { access_point_arn, .. } if access_point_arn == "arn:e")
        );
        assert_eq!(agent.tags.value().unwrap()["team"], "agents");
        let endpoints = agent.endpoints.value().unwrap();
        assert_eq!(endpoints[&"prod".parse().unwrap()].version.unwrap().to_string(), "3");
        assert_eq!(endpoints[&"canary".parse().unwrap()], Endpoint::default());
        assert_eq!(agent.models.value().unwrap().len(), 2);
        assert_eq!(agent.build.dockerfile.as_deref(), Some(Path::new("/p/docker/Dockerfile")));
        assert_eq!(agent.build.args["PIP"], "x");
        assert_eq!(agent.build.network.as_deref(), Some("host"));
        for (wrong, line, expected) in [
            (
                "filesystem_configurations: [{session_storage: {mount_path: /mnt/a}, efs_access_point: {access_point_arn: x, mount_path: /mnt/b}}]\n",
                3,
                "exactly one of",
            ),
            (
                "filesystem_configurations:\n  - session_storage: {mount_path: /mnt/a}\n  - session_storage: {mount_path: /mnt/b}\n",
                5,
                "at most one `session_storage`",
            ),
            (
                "filesystem_configurations:\n  - session_storage: {mount_path: /mnt/a}\n  - capacity_provider_volume: {volume_name: v, mount_path: /mnt/a/}\n",
                5,
                "mounted twice",
            ),
            ("endpoints:\n  DEFAULT: null\n", 4, "the service's own endpoint"),
            ("endpoints: {prod: {version: 0}}\n", 3, "version"),
            ("models: ['two words']\n", 3, "id or ARN"),
            ("build: {docker_file: x}\n", 3, "docker_file"),
            ("aws: {account: '12'}\n", 3, "twelve digits"),
            ("aws:\n  network_configuration:\n    network_mode: VPC\n", 5, "network_mode_config"),
            ("memory: {memory_id: 'a b'}\n", 3, "memory_id"),
            ("aws_jwt: {duration_seconds: 3}\n", 3, "60 to 3600"),
            ("language: rust\n", 3, "python, typescript"),
            ("deployment_type: zip\n", 3, "container, direct_code_deploy"),
            ("authorizer_configuration: yes please\n", 3, "customJWTAuthorizer"),
        ] {
            let (at, _, message) = fault(&format!("{start}{wrong}"));
            assert!(at == line && message.contains(expected), "{wrong}{at}: {message}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
            let _ = read(&text);
        }
    }
}
