//! The entry of a new agent: keys of the toolkit's schema as far as somebody may want to see or change them, so
//! that the toolkit loads it, and no key that says nothing.

use serde_json::{Map, Value, json};

use super::schema::{Deployment, Language};

/// What a new agent's entry says at first.
#[derive(Debug, Clone)]
pub struct NewAgent {
    /// Its name.
    pub name: String,
    /// The entry file, from the project file's directory.
    pub entrypoint: String,
    /// The source directory, from the project file's directory; `.` for that itself.
    pub source: String,
    /// Its language, where it is one that the schema knows.
    pub language: Option<Language>,
    /// How it is deployed.
    pub deployment: Deployment,
    /// `runtime_type`, for code.
    pub runtime: Option<String>,
    /// How it is started, where it is no Python file.
    pub command: Option<Vec<String>>,
}

impl NewAgent {
    /// Its keys. Role, repository and bucket are made at its first deployment.
    pub fn keys(&self) -> Map<String, Value> {
        let code = self.deployment == Deployment::DirectCode;
        let mut keys = Map::new();
        let mut put = |key: &str, value: Value| drop(keys.insert(key.to_owned(), value));
        put("name", json!(self.name));
        // The toolkit loads no TypeScript that is not a container.
        if let Some(language) = self.language.filter(|l| !(code && *l == Language::TypeScript)) {
            put("language", json!(language.as_str()));
        }
        put("entrypoint", json!(self.entrypoint));
        if let Some(command) = &self.command {
            put("command", json!(command));
        }
        put("deployment_type", json!(self.deployment.as_str()));
        if let Some(runtime) = self.runtime.as_ref().filter(|_| code) {
            put("runtime_type", json!(runtime));
        }
        put("platform", json!("linux/arm64"));
        put("source_path", json!(self.source));
        let mut aws = json!({
            "execution_role": null,
            "execution_role_auto_create": true,
            "account": null,
            "region": null,
        });
        if code {
            aws["s3_path"] = Value::Null;
            aws["s3_auto_create"] = json!(true);
        } else {
            aws["ecr_repository"] = Value::Null;
            aws["ecr_auto_create"] = json!(true);
        }
        aws["network_configuration"] = json!({ "network_mode": "PUBLIC" });
        aws["protocol_configuration"] = json!({ "server_protocol": "HTTP" });
        aws["observability"] = json!({ "enabled": true });
        put("aws", aws);
        keys
    }
}
