//! Projects of the npm tool, `@aws/agentcore`: its `agentcore.json` read as agents of a project file.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::file::clean;
use super::new::NewAgent;
use super::schema::{Deployment, Language};
use super::{ProjectError, detect};

/// The npm tool's directory in a project.
const DIRECTORY: &str = "agentcore";
/// Its file there.
const FILE: &str = "agentcore.json";
/// The form of the file that is known.
const VERSION: u64 = 1;

/// A project of the npm tool.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The file it was read from.
    pub file: PathBuf,
    /// Its directory, which holds `agentcore/`.
    pub root: PathBuf,
    /// Names and keys of its agents.
    pub agents: Vec<(String, Map<String, Value>)>,
    /// What it has and a project file has no place for.
    pub left_out: Vec<String>,
}

/// Finds the file of a project: `path` itself, or in the directory `path`.
fn find(path: &Path) -> PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    let inner = path.join(DIRECTORY).join(FILE);
    if inner.is_file() { inner } else { path.join(FILE) }
}

/// The directory of the project that `path` belongs to, which its paths are relative to.
pub fn root_of(path: &Path) -> PathBuf {
    let file = find(path);
    let own = file.parent().unwrap_or(Path::new("/"));
    match own.parent() {
        Some(parent) if own.ends_with(DIRECTORY) => parent.to_owned(),
        _ => own.to_owned(),
    }
}

/// Reads the project at `path`, for a project file in `target`.
pub fn import(path: &Path, target: &Path) -> Result<Imported, ProjectError> {
    let file = find(path);
    let text =
        std::fs::read_to_string(&file).map_err(|source| ProjectError::Read { file: file.clone(), source })?;
    let whole: Value = serde_json::from_str(&text).map_err(|e| ProjectError::Invalid {
        file: file.clone(),
        line: e.line() as u64,
        column: e.column().max(1) as u64,
        message: format!("it is no JSON: {e}"),
    })?;
    let import = Import { file: &file, root: root_of(path), target };
    if let Some(version) = whole["version"].as_u64().filter(|v| *v != VERSION) {
        return Err(import.wrong("version", format!("is {version}: expected {VERSION}")));
    }
    let list = ["runtimes", "agents"].into_iter().find_map(|key| Some((key, whole[key].as_array()?)));
    let Some((key, list)) = list else {
        return Err(import.wrong("runtimes", "is not there: expected a list of agents".to_owned()));
    };
    let region = import.target_region();
    let mut left_out = Vec::new();
    let mut agents = Vec::new();
    for (at, runtime) in list.iter().enumerate() {
        agents.push(import.agent(
            &format!("{key}[{at}]"),
            runtime,
            &whole["tags"],
            region.as_ref(),
            &mut left_out,
        )?);
    }
    for (other, value) in whole.as_object().into_iter().flatten() {
        let something = value.as_array().is_some_and(|l| !l.is_empty());
        if something && other != key {
            left_out.push(format!("`{other}`"));
        }
    }
    let root = import.root;
    Ok(Imported { file, root, agents, left_out })
}

struct Import<'a> {
    file: &'a Path,
    root: PathBuf,
    target: &'a Path,
}

impl Import<'_> {
    fn wrong(&self, key: &str, what: String) -> ProjectError {
        ProjectError::Invalid {
            file: self.file.to_owned(),
            line: 1,
            column: 1,
            message: format!("`{key}` {what}"),
        }
    }

    fn text<'v>(&self, place: &str, agent: &'v Value, key: &str) -> Result<&'v str, ProjectError> {
        agent[key].as_str().ok_or_else(|| self.wrong(&format!("{place}.{key}"), "is no text".to_owned()))
    }

    /// Account and region of the first deployment target.
    fn target_region(&self) -> Option<(Value, Value)> {
        let path = self.file.parent()?.join("aws-targets.json");
        let targets: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        // A list, or a list inside of `targets`.
        let first = targets.get(0).or_else(|| targets["targets"].get(0))?;
        Some((first["account"].clone(), first["region"].clone()))
    }

    /// A path of the project, from the directory that the project file is in.
    fn relative(&self, place: &str, path: &Path) -> Result<String, ProjectError> {
        let path = clean(path);
        match path.strip_prefix(self.target).ok().and_then(Path::to_str) {
            Some("") => Ok(".".to_owned()),
            Some(inside) => Ok(inside.to_owned()),
            None => Err(self.wrong(
                place,
                format!(
                    "is `{}`, outside of `{}`, where the project file is",
                    path.display(),
                    self.target.display()
                ),
            )),
        }
    }

    fn agent(
        &self,
        place: &str,
        agent: &Value,
        tags: &Value,
        region: Option<&(Value, Value)>,
        left_out: &mut Vec<String>,
    ) -> Result<(String, Map<String, Value>), ProjectError> {
        let name = self.text(place, agent, "name")?;
        let location = clean(&self.root.join(self.text(place, agent, "codeLocation")?));
        let whole_entry = self.text(place, agent, "entrypoint")?;
        let entry = whole_entry.split(':').next().unwrap_or(whole_entry);
        let language = detect::language(Path::new(entry));
        let deployment = match agent["build"].as_str() {
            Some("Container") => Deployment::Container,
            Some("CodeZip") | None => Deployment::DirectCode,
            Some(other) => {
                let what = format!("is `{other}`: expected CodeZip or Container");
                return Err(self.wrong(&format!("{place}.build"), what));
            }
        };
        let version = agent["runtimeVersion"].as_str();
        let new = NewAgent {
            name: name.to_owned(),
            entrypoint: self.relative(&format!("{place}.entrypoint"), &location.join(entry))?,
            source: self.relative(&format!("{place}.codeLocation"), &location)?,
            language,
            deployment,
            runtime: version.map(str::to_owned),
            command: (language != Some(Language::Python)).then(|| detect::command(&location, entry)),
        };
        let mut keys = new.keys();
        let node = version.and_then(|v| v.strip_prefix("NODE_"));
        if let Some(node) = node.filter(|_| deployment == Deployment::Container) {
            keys.insert("node_version".to_owned(), json!(node));
        }
        self.ours(place, agent, tags, &location, &mut keys)?;
        self.aws(agent, region, &mut keys);
        // Memory, gateways and the like have no key in a runtime's configuration.
        for key in ["connections", "additionalPolicies", "capacityProviderConfiguration"] {
            if agent[key].as_array().is_some_and(|l| !l.is_empty()) || agent[key].is_object() {
                left_out.push(format!("`{key}` of `{name}`"));
            }
        }
        Ok((name.to_owned(), keys))
    }

    /// Our own keys.
    fn ours(
        &self,
        place: &str,
        agent: &Value,
        tags: &Value,
        location: &Path,
        keys: &mut Map<String, Value>,
    ) -> Result<(), ProjectError> {
        let mut put = |key: &str, value: Value| drop(keys.insert(key.to_owned(), value));
        let mut build = Map::new();
        if let Some(context) = agent["buildContextPath"].as_str() {
            let path = self.root.join(context);
            build.insert(
                "context".to_owned(),
                json!(self.relative(&format!("{place}.buildContextPath"), &path)?),
            );
        }
        if let Some(dockerfile) = agent["dockerfile"].as_str() {
            let path = location.join(dockerfile);
            build.insert(
                "dockerfile".to_owned(),
                json!(self.relative(&format!("{place}.dockerfile"), &path)?),
            );
        }
        if let Some(args) = agent["customDockerBuildArgs"].as_object().filter(|a| !a.is_empty()) {
            build.insert("args".to_owned(), json!(args));
        }
        if !build.is_empty() {
            put("build", Value::Object(build));
        }
        if let Some(list) = agent["envVars"].as_array().filter(|l| !l.is_empty()) {
            let mut variables = Map::new();
            for variable in list {
                let of = |key| self.text(&format!("{place}.envVars"), variable, key);
                variables.insert(of("name")?.to_owned(), json!(of("value")?));
            }
            put("environment_variables", Value::Object(variables));
        }
        if let Some(list) = agent["filesystemConfigurations"].as_array() {
            put("filesystem_configurations", list.iter().map(snake_case).collect());
        }
        if let Some(endpoints) = agent["endpoints"].as_object().filter(|e| !e.is_empty()) {
            let one = |e: &Value| {
                let known = ["version", "description"].into_iter().filter(|k| !e[*k].is_null());
                Value::Object(known.map(|k| (k.to_owned(), e[k].clone())).collect())
            };
            put(
                "endpoints",
                endpoints.iter().map(|(name, e)| (name.clone(), one(e))).collect::<Map<_, _>>().into(),
            );
        }
        let mut all = tags.as_object().cloned().unwrap_or_default();
        all.extend(agent["tags"].as_object().cloned().unwrap_or_default());
        if !all.is_empty() {
            put("tags", Value::Object(all));
        }
        Ok(())
    }

    /// What the toolkit's schema has a place for.
    fn aws(&self, agent: &Value, region: Option<&(Value, Value)>, keys: &mut Map<String, Value>) {
        if let Some(aws) = keys.get_mut("aws") {
            if let Some((account, region)) = region {
                aws["account"] = account.clone();
                aws["region"] = region.clone();
            }
            if let Some(role) = agent["executionRoleArn"].as_str() {
                aws["execution_role"] = json!(role);
                aws["execution_role_auto_create"] = json!(false);
            }
            if agent["networkMode"] == "VPC" {
                let config =
                    [&agent["networkConfig"], &agent["vpcConfig"]].into_iter().find(|c| c.is_object());
                let list = |keys: [&str; 2]| {
                    let found = config.and_then(|c| keys.into_iter().find_map(|k| c[k].as_array()));
                    found.cloned().unwrap_or_default()
                };
                aws["network_configuration"] = json!({
                    "network_mode": "VPC",
                    "network_mode_config": {
                        "security_groups": list(["securityGroups", "securityGroupIds"]),
                        "subnets": list(["subnets", "subnetIds"]),
                    },
                });
            }
            if let Some(protocol) = agent["protocol"].as_str() {
                aws["protocol_configuration"] = json!({ "server_protocol": protocol });
            }
            if let Some(enabled) = agent["instrumentation"]["enableOtel"].as_bool() {
                aws["observability"] = json!({ "enabled": enabled });
            }
            if let Some(limits) = agent["lifecycleConfiguration"].as_object().filter(|l| !l.is_empty()) {
                aws["lifecycle_configuration"] = snake_case(&json!(limits));
            }
        }
        let authorizer = &agent["authorizerConfiguration"];
        if let Some(jwt) =
            ["customJwtAuthorizer", "customJWTAuthorizer"].into_iter().find_map(|k| authorizer.get(k))
        {
            // The tool's spelling is not the API's.
            keys.insert("authorizer_configuration".to_owned(), json!({ "customJWTAuthorizer": jwt }));
        }
        if let Some(list) = agent["requestHeaderAllowlist"].as_array() {
            keys.insert("request_header_configuration".to_owned(), json!({ "requestHeaderAllowlist": list }));
        }
    }
}

/// A value with the keys of its maps in snake case.
fn snake_case(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let key = |key: &str| {
                let mut out = String::new();
                for c in key.chars() {
                    if c.is_ascii_uppercase() {
                        out.push('_');
                    }
                    out.push(c.to_ascii_lowercase());
                }
                out
            };
            Value::Object(map.iter().map(|(k, v)| (key(k), snake_case(v))).collect())
        }
        Value::Array(list) => list.iter().map(snake_case).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AgentLaunch, Draft, FileSystem, Network};
    use super::*;

    const WHOLE: &str = r#"{
      "name": "Shop", "version": 1, "managedBy": "CDK", "tags": {"team": "a", "env": "dev"},
      "runtimes": [
        {"name": "Writer", "build": "CodeZip", "entrypoint": "main.py:app", "codeLocation": "app/Writer/",
         "runtimeVersion": "PYTHON_3_14", "networkMode": "VPC", "protocol": "HTTP", "tags": {"env": "prod"},
         "networkConfig": {"subnets": ["subnet-12345678"], "securityGroups": ["sg-12345678"]},
         "envVars": [{"name": "LOG", "value": "1"}], "instrumentation": {"enableOtel": false},
         "lifecycleConfiguration": {"idleRuntimeSessionTimeout": 120, "maxLifetime": 600},
         "filesystemConfigurations": [{"sessionStorage": {"mountPath": "/mnt/work"}},
           {"efsAccessPoint": {"accessPointArn": "arn:e", "mountPath": "/mnt/efs"}}],
         "authorizerType": "CUSTOM_JWT",
         "authorizerConfiguration": {"customJwtAuthorizer": {"discoveryUrl": "https://x/.well-known/openid-configuration", "allowedClients": ["c"]}},
         "requestHeaderAllowlist": ["Authorization"], "executionRoleArn": "arn:aws:iam::123456789012:role/r",
         "endpoints": {"prod": {"version": 2}}},
        {"name": "Server", "build": "Container", "entrypoint": "server.js", "codeLocation": "app/Server",
         "runtimeVersion": "NODE_22", "dockerfile": "Dockerfile.prod", "buildContextPath": "app",
         "customDockerBuildArgs": {"A": "b"}, "connections": [{"to": "x"}]}
      ],
      "memories": [{"name": "m"}], "credentials": []
    }"#;

    fn project(json: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in ["agentcore", "app/Writer", "app/Server"] {
            std::fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        std::fs::write(dir.path().join("agentcore/agentcore.json"), json).unwrap();
        let targets = r#"[{"name": "default", "account": "123456789012", "region": "eu-west-1"}]"#;
        std::fs::write(dir.path().join("agentcore/aws-targets.json"), targets).unwrap();
        dir
    }

    #[test]
    fn a_project_of_the_npm_tool_becomes_a_project_file() {
        let dir = project(WHOLE);
        for place in ["", "agentcore", "agentcore/agentcore.json"] {
            assert_eq!(root_of(&dir.path().join(place)), dir.path(), "{place}");
        }
        let imported = import(dir.path(), dir.path()).unwrap();
        assert_eq!(imported.left_out, ["`connections` of `Server`", "`memories`"]);
        let mut draft = Draft::open(&dir.path().join(".bedrock_agentcore.yaml")).unwrap();
        for (name, keys) in imported.agents {
            draft.add_agent(&name, keys).unwrap();
        }
        let project = draft.project().unwrap();
        let writer = project.agent(Some("Writer")).unwrap();
        assert_eq!(writer.launch, AgentLaunch::Python { entry_point: "main.py".into() });
        assert_eq!(writer.source, dir.path().join("app/Writer"));
        assert_eq!(writer.deployment(), Deployment::DirectCode);
        assert_eq!(writer.runtime.as_deref(), Some("PYTHON_3_14"));
        assert_eq!((writer.lifecycle.idle, writer.lifecycle.max), (Some(120), Some(600)));
        assert_eq!(writer.environment.value().unwrap()["LOG"], "1");
        assert_eq!(writer.tags.value().unwrap()["env"], "prod");
        assert_eq!(writer.tags.value().unwrap()["team"], "a");
        let systems = writer.file_systems.value().unwrap();
        assert!(
            matches!(&systems[1], FileSystem::Efs { access_point_arn, .. } if access_point_arn == "arn:e")
        );
        assert!(
            matches!(&writer.aws.network, Some(Network::Vpc { subnets, .. }) if subnets == &["subnet-12345678"])
        );
        assert_eq!(writer.aws.execution_role.as_deref(), Some("arn:aws:iam::123456789012:role/r"));
        assert_eq!(writer.aws.region.as_deref(), Some("eu-west-1"));
        assert!(!writer.aws.observability && !writer.aws.execution_role_auto_create);
        assert_eq!(writer.authorizer.as_ref().unwrap()["customJWTAuthorizer"]["allowedClients"][0], "c");
        assert_eq!(writer.endpoints.value().unwrap().len(), 1);
        let server = project.agent(Some("Server")).unwrap();
        assert_eq!(server.launch, AgentLaunch::Command { argv: vec!["node".into(), "server.js".into()] });
        assert_eq!((server.language, server.node_version.as_deref()), (Language::TypeScript, Some("22")));
        assert_eq!(server.build.dockerfile, Some(dir.path().join("app/Server/Dockerfile.prod")));
        assert_eq!(server.build.context, Some(dir.path().join("app")));
    }

    #[test]
    fn what_is_no_such_project_is_named() {
        let error = |json: &str| import(project(json).path(), Path::new("/p")).unwrap_err().to_string();
        assert!(error("{").contains("it is no JSON"));
        assert!(error("{\"version\": 2, \"runtimes\": []}").contains("`version` is 2: expected 1"));
        assert!(error("{}").contains("`runtimes` is not there"));
        assert!(error("{\"runtimes\": [{}]}").contains("`runtimes[0].name` is no text"));
        assert!(error(WHOLE).contains("outside of `/p`"));
        let gone = import(Path::new("/nowhere/agentcore.json"), Path::new("/p")).unwrap_err();
        assert!(matches!(gone, ProjectError::Read { .. }));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
        #[test]
        fn any_damaged_project_is_read_or_refused(at in 0..WHOLE.len(), put in "[\\[\\]{}:,\"a0n-]{0,3}", cut in 0..40_usize) {
            let end = (at + cut).min(WHOLE.len());
            let dir = project(&format!("{}{put}{}", &WHOLE[..at], &WHOLE[end..]));
            if let Ok(imported) = import(dir.path(), dir.path()) {
                proptest::prop_assert!(imported.agents.len() <= 3);
            }
        }
    }
}
