//! The YAML of the project file: its shapes as they are written, and their way into [`Project`].

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_saphyr::{Location, Spanned};

use super::{Agent, AgentLaunch, LifecycleSettings, Project, ProjectError};
use crate::model::{Lifecycle, MountPath, RuntimeName, limits};

/// Longest member of the service's `entryPoint`. [model: 1..128]
const ENTRY_POINT_BYTES: usize = 128;

/// A file with an `agents` map.
#[derive(Deserialize)]
struct ManyDto {
    default_agent: Option<Spanned<String>>,
    agents: BTreeMap<String, Spanned<AgentDto>>,
}

/// Tells the two forms of the file apart.
#[derive(Deserialize)]
struct FormDto {
    agents: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct AgentDto {
    name: Option<Spanned<String>>,
    entrypoint: Option<Spanned<String>>,
    command: Option<Spanned<Vec<String>>>,
    source_path: Option<Spanned<String>>,
    runtime_type: Option<String>,
    environment_variables: Option<BTreeMap<String, Option<Spanned<String>>>>,
    filesystem_configurations: Option<Vec<Spanned<FileSystemDto>>>,
    /// A misspelling that articles teach; named so that it is not ignored.
    filesystem_configuration: Option<Spanned<IgnoredAny>>,
    #[serde(default)]
    aws: Option<AwsDto>,
    authorizer_configuration: Option<IgnoredAny>,
    request_header_configuration: Option<HeadersDto>,
    bedrock_agentcore: Option<DeployedDto>,
}

#[derive(Deserialize)]
struct DeployedDto {
    agent_arn: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSystemDto {
    session_storage: SessionStorageDto,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionStorageDto {
    mount_path: Spanned<String>,
}

#[derive(Deserialize, Default)]
struct AwsDto {
    execution_role: Option<String>,
    network_configuration: Option<NetworkDto>,
    protocol_configuration: Option<ProtocolDto>,
    lifecycle_configuration: Option<Spanned<LifecycleDto>>,
}

#[derive(Deserialize)]
struct NetworkDto {
    network_mode: Option<Spanned<String>>,
}

#[derive(Deserialize)]
struct ProtocolDto {
    server_protocol: Option<Spanned<String>>,
}

#[derive(Deserialize)]
struct LifecycleDto {
    idle_runtime_session_timeout: Option<Spanned<u32>>,
    max_lifetime: Option<Spanned<u32>>,
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
    let mut agents = BTreeMap::new();
    let mut default = None;
    if form.agents.is_some() {
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
    } else {
        let dto: Spanned<AgentDto> = reader.yaml(text)?;
        let agent = reader.agent(None, dto.value, dto.referenced)?;
        agents.insert(agent.name.to_string(), agent);
    }
    Ok(Project { file: file.to_owned(), agents, default })
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
        let root = self.file.parent().unwrap_or(Path::new("/"));
        let source = match &dto.source_path {
            Some(path) => clean(&root.join(&path.value)),
            None => root.to_owned(),
        };
        let launch = self.launch(&dto, &source, root, place)?;
        let aws = dto.aws.unwrap_or_default();
        Ok(Agent {
            name,
            launch,
            runtime: dto.runtime_type,
            environment: self.environment(dto.environment_variables)?,
            session_storage: self.session_storage(dto.filesystem_configurations)?,
            lifecycle: self.lifecycle(aws.lifecycle_configuration)?,
            header_allowlist: dto.request_header_configuration.and_then(|h| h.allowlist).unwrap_or_default(),
            protocol: self.one_of(
                aws.protocol_configuration.and_then(|p| p.server_protocol),
                &["HTTP", "MCP", "A2A", "AGUI"],
            )?,
            vpc: self.one_of(aws.network_configuration.and_then(|n| n.network_mode), &["PUBLIC", "VPC"])?
                == "VPC",
            authorizer: dto.authorizer_configuration.is_some(),
            execution_role: aws.execution_role.filter(|role| !role.is_empty()),
            agent_arn: dto.bedrock_agentcore.and_then(|d| d.agent_arn).filter(|arn| !arn.is_empty()),
            source,
        })
    }

    fn launch(
        &self,
        dto: &AgentDto,
        source: &Path,
        root: &Path,
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
        let Some(entry) = &dto.entrypoint else {
            return Err(self.invalid(place, "expected `entrypoint`, a Python file, or `command`, a list"));
        };
        let text = without_handler(&entry.value);
        let path = clean(&root.join(text));
        let relative = path.strip_prefix(source).ok().filter(|p| !p.as_os_str().is_empty());
        let Some(relative) = relative.and_then(Path::to_str) else {
            let message = format!(
                "`entrypoint` `{text}` is not a file in the source directory `{}`: expected a path below it",
                source.display()
            );
            return Err(self.invalid(entry.referenced, message));
        };
        if relative.len() > ENTRY_POINT_BYTES {
            let message = format!("`entrypoint` is longer than {ENTRY_POINT_BYTES} bytes");
            return Err(self.invalid(entry.referenced, message));
        }
        Ok(AgentLaunch::Python { entry_point: relative.to_owned() })
    }

    fn environment(
        &self,
        dto: Option<BTreeMap<String, Option<Spanned<String>>>>,
    ) -> Result<BTreeMap<String, String>, ProjectError> {
        let mut environment = BTreeMap::new();
        for (key, value) in dto.unwrap_or_default() {
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

    fn session_storage(
        &self,
        dto: Option<Vec<Spanned<FileSystemDto>>>,
    ) -> Result<Option<MountPath>, ProjectError> {
        let mut list = dto.unwrap_or_default().into_iter();
        let Some(first) = list.next() else { return Ok(None) };
        if let Some(second) = list.next() {
            return Err(self.invalid(second.referenced, "expected at most one `session_storage`"));
        }
        let path = first.value.session_storage.mount_path;
        let parsed = path.value.parse().map_err(|e| self.invalid(path.referenced, format!("{e}")))?;
        Ok(Some(parsed))
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

    /// One of `choices`; the first when nothing is said.
    fn one_of(&self, value: Option<Spanned<String>>, choices: &[&str]) -> Result<String, ProjectError> {
        let Some(value) = value else { return Ok(choices.first().copied().unwrap_or_default().to_owned()) };
        match choices.iter().find(|c| c.eq_ignore_ascii_case(&value.value)) {
            Some(choice) => Ok((*choice).to_owned()),
            None => {
                let expected = choices.join(", ");
                let message = format!("`{}` is unknown here: expected one of {expected}", value.value);
                Err(self.invalid(value.referenced, message))
            }
        }
    }
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
pub(super) fn clean(path: &Path) -> PathBuf {
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
        assert_eq!(agent.session_storage.as_ref().unwrap().as_str(), "/mnt/workspace");
        assert_eq!(agent.environment["LOG_LEVEL"], "debug");
        assert_eq!(agent.header_allowlist, ["Authorization"]);
        assert!(agent.vpc && agent.authorizer);
        assert_eq!(agent.protocol, "HTTP");
        assert_eq!(agent.execution_role, None);
        let role = "arn:aws:iam::123456789012:role/coder";
        let project =
            read(&text.replace("execution_role: null", &format!("execution_role: {role}"))).unwrap();
        assert_eq!(project.agent(None).unwrap().execution_role.as_deref(), Some(role));
    }

    #[test]
    fn the_legacy_form_and_a_minimal_file_are_one_agent() {
        let project = read("name: coder\nentrypoint: app.py:app\n").unwrap();
        let agent = project.agent(None).unwrap();
        assert_eq!(agent.name.as_str(), "coder");
        assert_eq!(agent.launch, AgentLaunch::Python { entry_point: "app.py".into() });
        assert_eq!(agent.source, Path::new("/p"));
        assert!(!agent.vpc && !agent.authorizer && agent.session_storage.is_none());
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

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
            let _ = read(&text);
        }
    }
}
