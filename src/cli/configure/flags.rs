//! The flags of `configure`: every setting, each checked where it is typed.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::super::Context;
use super::super::exit::Failure;
use super::{entry_file, set_deployment, set_entry, set_role, set_storage, set_store};
use crate::model::{AccountId, MountPath, Region, RuntimeName, parse_duration};
use crate::project::{Deployment, Draft};

/// Idle timeout and lifetime of sessions that are micro virtual machines, in seconds. [guide: 60..28800]
const SESSION_SECONDS: std::ops::RangeInclusive<u64> = 60..=28_800;
/// Names in a header allowlist. [guide: 20]
const MAX_HEADERS: usize = 20;
/// Longest name of a header. [model: HeaderName]
const HEADER_CHARS: usize = 256;

#[derive(clap::Args, Debug, Default)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Flags {
    /// File that the agent begins with, or its directory
    #[arg(short, long, value_name = "PATH")]
    pub(super) entrypoint: Option<PathBuf>,
    /// Name of the agent: changes it where there is one, else adds it
    #[arg(short, long, value_name = "NAME")]
    pub(super) name: Option<RuntimeName>,
    /// How an agent that is no Python file is started, such as "node server.js"
    #[arg(long, value_name = "WORDS")]
    pub(super) command: Option<Words>,
    /// An archive in S3, or an image in ECR
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(super) deployment_type: Option<DeploymentChoice>,
    /// Runtime of an archive, such as PYTHON_3_13
    #[arg(long, value_parser = runtime, value_name = "RUNTIME")]
    pub(super) runtime: Option<String>,
    /// AWS region
    #[arg(long, value_name = "REGION")]
    pub(super) region: Option<Region>,
    /// AWS account, twelve digits
    #[arg(long, value_name = "ID")]
    account: Option<AccountId>,
    /// Execution role: `auto`, an ARN, or a name in the account
    #[arg(long, value_name = "ROLE")]
    pub(super) execution_role: Option<String>,
    /// ECR repository: `auto`, a URI or a name
    #[arg(long, value_name = "REPOSITORY")]
    pub(super) ecr: Option<String>,
    /// S3 location of archives: `auto`, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "LOCATION")]
    pub(super) s3: Option<String>,
    /// Container tool
    #[arg(long, value_parser = ["docker", "finch", "podman", "none"], value_name = "TOOL")]
    container_runtime: Option<String>,
    /// Authorizer as the API takes it, such as {"customJWTAuthorizer": {…}}; `none` for IAM
    #[arg(long, value_parser = authorizer, value_name = "JSON")]
    pub(super) authorizer_config: Option<Value>,
    /// Request headers that reach the agent, with commas between them; empty for none
    #[arg(long, value_parser = headers, value_name = "NAMES")]
    pub(super) request_header_allowlist: Option<Headers>,
    /// Protocol of the agent
    #[arg(long, value_parser = ["HTTP", "MCP", "A2A", "AGUI"], ignore_case = true, value_name = "PROTOCOL")]
    protocol: Option<String>,
    /// Run in a VPC
    #[arg(long, requires = "subnets", requires = "security_groups", conflicts_with = "no_vpc")]
    vpc: bool,
    /// Run outside of a VPC
    #[arg(long)]
    no_vpc: bool,
    /// Subnets of the VPC, with commas between them
    #[arg(long, value_delimiter = ',', requires = "vpc", value_name = "IDS")]
    subnets: Vec<String>,
    /// Security groups of the VPC, with commas between them
    #[arg(long, value_delimiter = ',', requires = "vpc", value_name = "IDS")]
    security_groups: Vec<String>,
    /// Idle time after which a session stops, such as 15m
    #[arg(long, value_parser = session_seconds, value_name = "DURATION")]
    idle_timeout: Option<u64>,
    /// Longest life of a session's compute, such as 8h
    #[arg(long, value_parser = session_seconds, value_name = "DURATION")]
    max_lifetime: Option<u64>,
    /// Where sessions find their storage, such as /mnt/workspace; `none` for no storage
    #[arg(long, value_parser = storage, value_name = "PATH")]
    pub(super) session_storage: Option<Storage>,
    /// Environment variable of the agent
    #[arg(long, value_parser = pair, value_name = "KEY=VALUE")]
    env: Vec<(String, String)>,
    /// Environment variable to take away
    #[arg(long, value_name = "KEY")]
    unset_env: Vec<String>,
    /// Tag of the runtime
    #[arg(long, value_parser = pair, value_name = "KEY=VALUE")]
    tag: Vec<(String, String)>,
    /// Bedrock model that the agent may call; none named: every model
    #[arg(long, value_name = "ID")]
    model: Vec<String>,
    /// Switch observability off
    #[arg(long)]
    disable_otel: bool,
    /// Switch AgentCore Memory off
    #[arg(long)]
    disable_memory: bool,
    /// Make the agent the default one
    #[arg(long)]
    pub(super) default: bool,
    /// Take over a project of the npm tool: its directory, or its agentcore.json
    #[arg(long, value_name = "PATH", conflicts_with_all = ["entrypoint", "name"])]
    pub(super) from: Option<PathBuf>,
    /// Ask nothing: take what is named, and good defaults
    #[arg(long, alias = "ni")]
    pub(super) non_interactive: bool,
    /// Print the file as it would be, and write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DeploymentChoice {
    /// An image in ECR
    Container,
    /// An archive in S3
    #[value(name = "direct_code_deploy", alias = "direct-code-deploy", alias = "code")]
    DirectCode,
}

impl From<DeploymentChoice> for Deployment {
    fn from(choice: DeploymentChoice) -> Self {
        match choice {
            DeploymentChoice::Container => Self::Container,
            DeploymentChoice::DirectCode => Self::DirectCode,
        }
    }
}

/// A command line in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words(pub(super) Vec<String>);

impl FromStr for Words {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match shlex::split(text) {
            Some(words) if !words.is_empty() => Ok(Self(words)),
            Some(_) => Err("expected a program and its arguments".to_owned()),
            None => Err("a quote is not closed".to_owned()),
        }
    }
}

/// Names of headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Headers(pub(super) Vec<String>);

/// A mount path, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage(pub(super) Option<MountPath>);

pub(super) fn storage(text: &str) -> Result<Storage, String> {
    match text {
        "none" => Ok(Storage(None)),
        path => path.parse().map(|p| Storage(Some(p))).map_err(|e| e.to_string()),
    }
}

pub(super) fn headers(text: &str) -> Result<Headers, String> {
    let names: Vec<String> =
        text.split(',').map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect();
    if names.len() > MAX_HEADERS {
        return Err(format!("expected at most {MAX_HEADERS} names"));
    }
    let legal = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.len() <= HEADER_CHARS
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    match names.iter().find(|name| !legal(name)) {
        Some(wrong) => Err(format!("`{wrong}` cannot name a header: expected letters, digits, `-` and `_`")),
        None => Ok(Headers(names)),
    }
}

fn authorizer(text: &str) -> Result<Value, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(Value::Null);
    }
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("expected a JSON object, such as {\"customJWTAuthorizer\": {…}}".to_owned()),
        Err(e) => Err(format!("expected JSON: {e}")),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn session_seconds(text: &str) -> Result<u64, String> {
    let duration = parse_duration(text).map_err(|e| e.to_string())?;
    if duration.subsec_nanos() != 0 || !SESSION_SECONDS.contains(&duration.as_secs()) {
        return Err("expected whole seconds from 1m to 8h".to_owned());
    }
    Ok(duration.as_secs())
}

/// `PYTHON_3_13`, also as `3.13` or `python3.13`; `NODE_22`.
pub(super) fn runtime(text: &str) -> Result<String, String> {
    /// What the service runs. [model: AgentManagedRuntimeType]
    const KNOWN: [&str; 6] =
        ["PYTHON_3_10", "PYTHON_3_11", "PYTHON_3_12", "PYTHON_3_13", "PYTHON_3_14", "NODE_22"];
    let wanted = text.to_ascii_uppercase().replace(['.', '-'], "_");
    let wanted = wanted.trim_start_matches("PYTHON").trim_start_matches('_');
    KNOWN
        .into_iter()
        .find(|known| *known == wanted || known.strip_prefix("PYTHON_") == Some(wanted))
        .map(str::to_owned)
        .ok_or_else(|| format!("expected one of {}", KNOWN.join(", ")))
}

impl Flags {
    /// True when no setting is named.
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            entrypoint,
            name: _,
            command,
            deployment_type,
            runtime,
            region,
            account,
            execution_role,
            ecr,
            s3,
            container_runtime,
            authorizer_config,
            request_header_allowlist,
            protocol,
            vpc,
            no_vpc,
            subnets: _,
            security_groups: _,
            idle_timeout,
            max_lifetime,
            session_storage,
            env,
            unset_env,
            tag,
            model,
            disable_otel,
            disable_memory,
            default,
            from: _,
            non_interactive: _,
            dry_run: _,
        } = self;
        let texts = [runtime, execution_role, ecr, s3, container_runtime, protocol];
        entrypoint.is_none()
            && command.is_none()
            && deployment_type.is_none()
            && region.is_none()
            && account.is_none()
            && texts.iter().all(|t| t.is_none())
            && authorizer_config.is_none()
            && request_header_allowlist.is_none()
            && idle_timeout.is_none()
            && max_lifetime.is_none()
            && session_storage.is_none()
            && (env.is_empty() && unset_env.is_empty() && tag.is_empty() && model.is_empty())
            && !(*vpc || *no_vpc || *disable_otel || *disable_memory || *default)
    }

    /// Changes what an agent that is there begins with.
    pub(super) fn entry(
        &self,
        context: &Context,
        draft: &mut Draft,
        agent: &str,
        root: &Path,
    ) -> Result<(), Failure> {
        if let Some(given) = &self.entrypoint {
            set_entry(draft, agent, root, &entry_file(&context.env.directory()?, given, root)?)?;
        }
        if let Some(Words(words)) = &self.command {
            draft.set(agent, &["command"], json!(words))?;
        }
        if let Some(deployment) = self.deployment_type {
            set_deployment(draft, agent, deployment.into())?;
        }
        Ok(())
    }

    /// Puts the other settings that are named into the file.
    pub(super) fn apply(&self, draft: &mut Draft, agent: &str) -> Result<(), Failure> {
        let mut set = |path: &[&str], value: Option<Value>| -> Result<(), Failure> {
            match value {
                Some(value) => Ok(draft.set(agent, path, value).map(drop)?),
                None => Ok(()),
            }
        };
        set(&["runtime_type"], self.runtime.as_ref().map(|r| json!(r)))?;
        set(&["container_runtime"], self.container_runtime.as_ref().map(|r| json!(r)))?;
        set(&["aws", "region"], self.region.as_ref().map(|r| json!(r.as_str())))?;
        set(&["aws", "account"], self.account.as_ref().map(|a| json!(a.as_str())))?;
        let protocol = self.protocol.as_ref().map(|p| json!(p.to_ascii_uppercase()));
        set(&["aws", "protocol_configuration", "server_protocol"], protocol)?;
        if self.vpc {
            let config = json!({
                "network_mode": "VPC",
                "network_mode_config": { "security_groups": self.security_groups, "subnets": self.subnets },
            });
            set(&["aws", "network_configuration"], Some(config))?;
        } else if self.no_vpc {
            set(&["aws", "network_configuration"], Some(json!({ "network_mode": "PUBLIC" })))?;
        }
        let lifecycle = "lifecycle_configuration";
        set(&["aws", lifecycle, "idle_runtime_session_timeout"], self.idle_timeout.map(Value::from))?;
        set(&["aws", lifecycle, "max_lifetime"], self.max_lifetime.map(Value::from))?;
        set(&["authorizer_configuration"], self.authorizer_config.clone())?;
        let headers = self.request_header_allowlist.as_ref().map(|Headers(names)| match names.is_empty() {
            true => Value::Null,
            false => json!({ "requestHeaderAllowlist": names }),
        });
        set(&["request_header_configuration"], headers)?;
        for (key, value) in &self.env {
            set(&["environment_variables", key], Some(json!(value)))?;
        }
        for (key, value) in &self.tag {
            set(&["tags", key], Some(json!(value)))?;
        }
        set(&["models"], (!self.model.is_empty()).then(|| json!(self.model)))?;
        set(&["aws", "observability", "enabled"], self.disable_otel.then(|| json!(false)))?;
        set(&["memory", "mode"], self.disable_memory.then(|| json!("NO_MEMORY")))?;
        for key in &self.unset_env {
            draft.remove(agent, &["environment_variables", key])?;
        }
        if let Some(role) = &self.execution_role {
            set_role(draft, agent, role)?;
        }
        self.stores(draft, agent)?;
        if let Some(Storage(path)) = &self.session_storage {
            set_storage(draft, agent, path.as_ref().map(MountPath::as_str))?;
        }
        Ok(())
    }

    fn stores(&self, draft: &mut Draft, agent: &str) -> Result<(), Failure> {
        if self.ecr.is_none() && self.s3.is_none() {
            return Ok(());
        }
        let container = draft.get(agent, &["deployment_type"]).is_none_or(|d| *d == "container");
        let wrong = |flag: &str, kind: &str| {
            Failure::usage(format!("`{flag}` is for agents that are deployed as {kind}"))
                .hint("see `--deployment-type`")
        };
        if let Some(value) = &self.ecr {
            if !container {
                return Err(wrong("--ecr", "container"));
            }
            set_store(draft, agent, "ecr_repository", "ecr_auto_create", value)?;
        }
        if let Some(value) = &self.s3 {
            if container {
                return Err(wrong("--s3", "direct_code_deploy"));
            }
            set_store(draft, agent, "s3_path", "s3_auto_create", value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_where_they_are_typed() {
        assert_eq!(runtime("3.13").unwrap(), "PYTHON_3_13");
        assert_eq!(runtime("python3.12").unwrap(), "PYTHON_3_12");
        assert_eq!(runtime("PYTHON_3_10").unwrap(), "PYTHON_3_10");
        assert_eq!(runtime("node_22").unwrap(), "NODE_22");
        assert!(runtime("2.7").unwrap_err().contains("PYTHON_3_14"));
        assert_eq!(session_seconds("15m").unwrap(), 900);
        assert!(session_seconds("59").is_err() && session_seconds("9h").is_err());
        assert_eq!(headers("A, B-c ,").unwrap().0, ["A", "B-c"]);
        assert!(headers("X-*").unwrap_err().contains("`X-*`"));
        assert_eq!(storage("none").unwrap(), Storage(None));
        assert!(storage("/data").is_err());
        assert_eq!(pair("A=b=c").unwrap(), ("A".into(), "b=c".into()));
        assert!(pair("=x").is_err() && pair("x").is_err());
        assert_eq!(authorizer("None").unwrap(), Value::Null);
        assert!(authorizer("[]").is_err() && authorizer("{").is_err());
        assert_eq!("node 'a b'".parse::<Words>().unwrap().0, ["node", "a b"]);
        assert!("'".parse::<Words>().is_err() && " ".parse::<Words>().is_err());
        assert!(Flags::default().is_empty());
        assert!(!Flags { disable_otel: true, ..Flags::default() }.is_empty());
    }
}
