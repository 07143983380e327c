//! The settings of a runtime as the service writes them: a JSON document, of which this program changes what the
//! project names and carries everything else along.
//!
//! An UpdateAgentRuntime resets every member that it does not name. Were the settings a struct, all that this
//! program has never heard of would be lost with each deployment; in a document it is kept.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

/// Members of GetAgentRuntime that an update does not take. [model]
const OUTPUT_ONLY: [&str; 9] = [
    "agentRuntimeArn",
    "agentRuntimeId",
    "agentRuntimeName",
    "agentRuntimeVersion",
    "createdAt",
    "failureReason",
    "lastUpdatedAt",
    "status",
    "workloadIdentityDetails",
];
/// Members whose parts are settings of their own: what the project does not say of them stays.
const PARTWISE: [&str; 2] = ["lifecycleConfiguration", "protocolConfiguration"];
/// The member whose values may be secrets and are never shown.
const ENVIRONMENT: &str = "environmentVariables";

/// The settings of a runtime.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Document(Map<String, Value>);

/// One difference between two documents.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Which member, with dots.
    pub path: String,
    /// What it was; nothing when it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// What it becomes; nothing when it is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

impl Document {
    /// A document of these members.
    pub fn new(members: Map<String, Value>) -> Self {
        Self(members)
    }

    /// The members.
    pub fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// A member.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Sets a member.
    pub fn set(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// A text below a path of members.
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(*first)?, |value, part| value.get(part))?.as_str()
    }

    /// What an update starts from: all that can be set.
    pub fn settings(&self) -> Self {
        let kept = |name: &str| !OUTPUT_ONLY.contains(&name);
        Self(self.0.iter().filter(|(name, _)| kept(name)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    /// This with what `wanted` says laid over it; a null removes the member.
    pub fn with(&self, wanted: &Map<String, Value>) -> Self {
        let mut merged = self.clone();
        for (name, value) in wanted {
            let now = merged.0.get(name).cloned().unwrap_or(Value::Null);
            let next = match (&now, value) {
                (Value::Object(now), Value::Object(wanted)) if PARTWISE.contains(&name.as_str()) => {
                    let mut parts = now.clone();
                    parts.extend(wanted.iter().map(|(k, v)| (k.clone(), v.clone())));
                    Value::Object(parts)
                }
                _ => value.clone(),
            };
            // What says the same in another order or with empty parts is not another setting.
            if normal(name, &now) == normal(name, &next) {
                continue;
            }
            if is_empty(&next) {
                merged.0.remove(name);
            } else {
                merged.0.insert(name.clone(), next);
            }
        }
        merged
    }

    /// What is different in `next`.
    pub fn changes(&self, next: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let names: BTreeSet<&String> = self.0.keys().chain(next.0.keys()).collect();
        for name in names {
            let (from, to) = (self.0.get(name), next.0.get(name));
            if from.map(|v| normal(name, v)) != to.map(|v| normal(name, v)) {
                compare(name, from, to, &mut changes);
            }
        }
        changes
    }

    /// True when sessions have storage that a new version resets.
    pub fn has_session_storage(&self) -> bool {
        let list = self.0.get("filesystemConfigurations").and_then(Value::as_array);
        list.is_some_and(|list| list.iter().any(|fs| fs.get("sessionStorage").is_some()))
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// A value for comparing: without empty parts, and with what the service takes silence for filled in.
fn normal(name: &str, value: &Value) -> Value {
    let value = match (name, value) {
        ("protocolConfiguration", Value::Null) => json!({ "serverProtocol": "HTTP" }),
        ("networkConfiguration", Value::Null) => json!({ "networkMode": "PUBLIC" }),
        (_, value) => value.clone(),
    };
    plain(&value)
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let parts: Map<String, Value> =
                map.iter().map(|(k, v)| (k.clone(), plain(v))).filter(|(_, v)| !is_empty(v)).collect();
            if parts.is_empty() { Value::Null } else { Value::Object(parts) }
        }
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::Array(list) => Value::Array(list.iter().map(plain).collect()),
        other => other.clone(),
    }
}

/// Values longer than this are shown member by member.
const SHOWN_WHOLE: usize = 60;

fn compare(path: &str, from: Option<&Value>, to: Option<&Value>, changes: &mut Vec<Change>) {
    let short = |v: Option<&Value>| v.is_none_or(|v| v.to_string().len() <= SHOWN_WHOLE);
    let secret = path.starts_with(ENVIRONMENT);
    let empty = Map::new();
    let parts = |v: Option<&'_ Value>| -> Option<Map<String, Value>> {
        match v {
            None | Some(Value::Null) => Some(empty.clone()),
            Some(Value::Object(map)) => Some(map.clone()),
            Some(_) => None,
        }
    };
    let whole = !secret && short(from) && short(to) && (from.is_none() || to.is_none());
    match (parts(from), parts(to)) {
        (Some(a), Some(b)) if !whole => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let (from, to) = (a.get(name), b.get(name));
                if from.map(plain) != to.map(plain) {
                    compare(&format!("{path}.{name}"), from, to, changes);
                }
            }
        }
        _ => {
            let shown = |v: Option<&Value>| v.map(|v| if secret { json!("(not shown)") } else { v.clone() });
            changes.push(Change { path: path.to_owned(), from: shown(from), to: shown(to) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(value: Value) -> Document {
        match value {
            Value::Object(map) => Document::new(map),
            _ => panic!("no object"),
        }
    }

    fn wanted(value: Value) -> Map<String, Value> {
        document(value).0
    }

    #[test]
    fn what_nobody_names_is_carried_and_what_is_only_told_is_not() {
        let now = document(json!({
            "agentRuntimeId": "a-1", "status": "READY", "createdAt": "now", "failureReason": "x",
            "roleArn": "arn:1", "hooksConfiguration": { "build": 1 }, "inventedNextYear": { "deep": [1] },
        }));
        let next = now.settings().with(&wanted(json!({ "roleArn": "arn:2" })));
        assert_eq!(
            next,
            document(json!({
                "roleArn": "arn:2", "hooksConfiguration": { "build": 1 }, "inventedNextYear": { "deep": [1] }
            }))
        );
    }

    #[test]
    fn parts_of_the_lifecycle_are_settings_of_their_own() {
        let now = document(
            json!({ "lifecycleConfiguration": { "idleRuntimeSessionTimeout": 900, "maxLifetime": 100 } }),
        );
        let next =
            now.with(&wanted(json!({ "lifecycleConfiguration": { "idleRuntimeSessionTimeout": 60 } })));
        assert_eq!(
            next,
            document(
                json!({ "lifecycleConfiguration": { "idleRuntimeSessionTimeout": 60, "maxLifetime": 100 } })
            )
        );
        let changes = now.changes(&next);
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].path, "lifecycleConfiguration.idleRuntimeSessionTimeout");
        assert_eq!((&changes[0].from, &changes[0].to), (&Some(json!(900)), &Some(json!(60))));
    }

    #[test]
    fn saying_nothing_new_changes_nothing() {
        let now =
            document(json!({ "environmentVariables": {}, "roleArn": "r", "filesystemConfigurations": [] }));
        let same = now.with(&wanted(json!({
            "environmentVariables": {}, "protocolConfiguration": { "serverProtocol": "HTTP" },
            "networkConfiguration": { "networkMode": "PUBLIC" }, "filesystemConfigurations": null,
            "authorizerConfiguration": { "customJWTAuthorizer": {} },
        })));
        assert_eq!(now.changes(&same), []);
        let other = now.with(&wanted(json!({ "protocolConfiguration": { "serverProtocol": "MCP" } })));
        assert_eq!(now.changes(&other).len(), 1);
    }

    #[test]
    fn an_empty_list_removes_and_values_of_the_environment_are_not_shown() {
        let now = document(json!({
            "filesystemConfigurations": [{ "sessionStorage": { "mountPath": "/mnt/workspace" } }],
            "environmentVariables": { "KEY": "secret", "SAME": "1" },
        }));
        assert!(now.has_session_storage());
        let next = now.with(&wanted(json!({
            "filesystemConfigurations": [], "environmentVariables": { "KEY": "other", "SAME": "1" }
        })));
        assert!(!next.has_session_storage() && next.get("filesystemConfigurations").is_none());
        let changes = serde_json::to_string(&now.changes(&next)).unwrap();
        assert!(changes.contains("environmentVariables.KEY"), "{changes}");
        assert!(
            !changes.contains("secret") && !changes.contains("other") && !changes.contains("SAME"),
            "{changes}"
        );
    }
}
