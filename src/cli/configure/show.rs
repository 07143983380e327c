//! `configure list` and `configure show`.

use serde_json::{Map, Value, json};

use super::super::Context;
use super::super::exit::{OK, Outcome};
use crate::project::{Agent, AgentLaunch, FileSystem, Network, Project, Setting};

pub(super) fn list(context: &Context) -> Outcome {
    let project = Project::load(context.globals.config.as_deref(), &context.env.directory()?)?;
    let default = project.agent(None).ok().map(|a| a.key.clone());
    let mut rows =
        vec![["AGENT", "DEFAULT", "DEPLOYED AS", "REGION", "STATE", "ENTRY"].map(str::to_owned).to_vec()];
    let mut values = Vec::new();
    for agent in project.agents.values() {
        let is_default = default.as_ref() == Some(&agent.key);
        let kind = agent.deployment_type.map_or("-", |d| d.as_str());
        let state = if agent.deployed.arn.is_some() { "deployed" } else { "configured" };
        rows.push(vec![
            agent.name.to_string(),
            if is_default { "*" } else { "" }.to_owned(),
            kind.to_owned(),
            agent.aws.region.clone().unwrap_or_else(|| "-".to_owned()),
            state.to_owned(),
            entry(agent),
        ]);
        let mut value = settings(&project, agent);
        value["default"] = json!(is_default);
        values.push(value);
    }
    context.ui.result(&values, context.ui.table(&rows))?;
    Ok(OK)
}

pub(super) fn show(context: &Context) -> Outcome {
    let project = Project::load(context.globals.config.as_deref(), &context.env.directory()?)?;
    let agent = project.agent(context.globals.agent.as_deref())?;
    let value = settings(&project, agent);
    let mut rows = Vec::new();
    lines("", &value, &mut rows);
    context.ui.result(&value, context.ui.table(&rows))?;
    Ok(OK)
}

fn entry(agent: &Agent) -> String {
    match &agent.launch {
        AgentLaunch::Python { entry_point } => entry_point.clone(),
        AgentLaunch::Command { argv } => argv.join(" "),
        AgentLaunch::Image => "(its image)".to_owned(),
    }
}

/// A map's entries as lines, the keys of inner maps after the outer one's.
fn lines(prefix: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    let Value::Object(map) = value else { return };
    for (key, value) in map {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(inner) if !inner.is_empty() => lines(&name, value, rows),
            Value::String(text) => rows.push(vec![name, text.clone()]),
            Value::Null => rows.push(vec![name, "-".to_owned()]),
            Value::Array(list) if list.is_empty() => rows.push(vec![name, "none".to_owned()]),
            Value::Object(_) => rows.push(vec![name, "none".to_owned()]),
            Value::Array(list) => {
                let short = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                rows.push(vec![name, list.iter().map(short).collect::<Vec<_>>().join(" ")]);
            }
            other => rows.push(vec![name, other.to_string()]),
        }
    }
}

/// What is in force for an agent. A setting of ours that the file does not have is null: the service keeps what
/// it has.
pub(super) fn settings(project: &Project, agent: &Agent) -> Value {
    let source = agent.source.strip_prefix(project.root()).map(|p| p.display().to_string());
    let mut value = json!({
        "agentRuntimeName": agent.name,
        "file": project.file,
        "language": agent.language.as_str(),
        "deploymentType": agent.deployment_type.map(|d| d.as_str()),
        "runtime": agent.runtime,
        "sourcePath": match source.as_deref() {
            Ok("") => ".",
            Ok(inside) => inside,
            Err(_) => agent.source.to_str().unwrap_or_default(),
        },
    });
    match &agent.launch {
        AgentLaunch::Python { entry_point } => value["entryPoint"] = json!([entry_point]),
        AgentLaunch::Command { argv } => value["command"] = json!(argv),
        AgentLaunch::Image => {}
    }
    let aws = &agent.aws;
    value["account"] = json!(aws.account);
    value["region"] = json!(aws.region);
    let auto = |value: &Option<String>, auto: bool| match (value, auto) {
        (Some(value), _) => json!(value),
        (None, true) => json!("auto"),
        (None, false) => Value::Null,
    };
    value["roleArn"] = auto(&aws.execution_role, aws.execution_role_auto_create);
    value["ecrRepository"] = auto(&aws.ecr_repository, aws.ecr_auto_create);
    value["s3Path"] = auto(&aws.s3_path, aws.s3_auto_create);
    value["networkConfiguration"] = match &aws.network {
        Some(Network::Vpc { security_groups, subnets }) => json!({
            "networkMode": "VPC",
            "networkModeConfig": { "securityGroups": security_groups, "subnets": subnets },
        }),
        Some(Network::Public) | None => json!({ "networkMode": "PUBLIC" }),
    };
    value["protocolConfiguration"] = json!({ "serverProtocol": agent.protocol });
    value["lifecycleConfiguration"] = json!({
        "idleRuntimeSessionTimeout": agent.lifecycle.idle,
        "maxLifetime": agent.lifecycle.max,
    });
    value["authorizerConfiguration"] = json!(agent.authorizer);
    value["requestHeaderAllowlist"] = json!(agent.header_allowlist);
    value["observability"] = json!(aws.observability);
    value["memory"] = json!(agent.memory.mode);
    value["environmentVariables"] = setting(&agent.environment, |e| json!(e));
    value["filesystemConfigurations"] =
        setting(&agent.file_systems, |list| list.iter().map(file_system).collect());
    value["tags"] = setting(&agent.tags, |t| json!(t));
    value["models"] = setting(&agent.models, |m| json!(m));
    value["endpoints"] = setting(&agent.endpoints, |map| {
        let one = |e: &crate::project::Endpoint| json!({ "version": e.version.map(|v| v.to_string()), "description": e.description });
        Value::Object(map.iter().map(|(name, e)| (name.to_string(), one(e))).collect::<Map<_, _>>())
    });
    value["agentRuntimeId"] = json!(agent.deployed.id);
    value["agentRuntimeArn"] = json!(agent.deployed.arn);
    value
}

fn setting<T>(setting: &Setting<T>, shown: impl Fn(&T) -> Value) -> Value {
    setting.value().map_or(Value::Null, shown)
}

fn file_system(system: &FileSystem) -> Value {
    match system {
        FileSystem::SessionStorage { mount_path } => json!({ "sessionStorage": { "mountPath": mount_path } }),
        FileSystem::Efs { access_point_arn, mount_path } => {
            json!({ "efsAccessPoint": { "accessPointArn": access_point_arn, "mountPath": mount_path } })
        }
        FileSystem::S3Files { access_point_arn, mount_path } => {
            json!({ "s3FilesAccessPoint": { "accessPointArn": access_point_arn, "mountPath": mount_path } })
        }
        FileSystem::CapacityProviderVolume { volume_name, mount_path } => {
            json!({ "capacityProviderVolume": { "volumeName": volume_name, "mountPath": mount_path } })
        }
    }
}
