//! What a version of a runtime is set to: the members as they were given, and what computes need of them.
//!
//! The shapes have been checked at the edge. Here stand the rules between members, and the refusal by
//! name of everything that the emulator does not do: nothing is accepted and then ignored.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::artifacts;
use crate::model::{
    Artifact, ArtifactRef, HeaderAllowlist, Lifecycle, MountPath, RuntimeSpec, ServerProtocol, limits,
};

/// A member that is refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The member's path.
    pub member: String,
    /// What is wrong, or what the emulator does not do.
    pub message: String,
}

/// The settings of one version.
#[derive(Debug, Clone, PartialEq)]
pub struct RuntimeSettings {
    members: Map<String, Value>,
    spec: Arc<RuntimeSpec>,
}

/// The members of CreateAgentRuntime and UpdateAgentRuntime that make up a version.
const MEMBERS: [&str; 16] = [
    "agentRuntimeArtifact",
    "roleArn",
    "networkConfiguration",
    "description",
    "authorizerConfiguration",
    "requestHeaderConfiguration",
    "protocolConfiguration",
    "lifecycleConfiguration",
    "hooksConfiguration",
    "metadataConfiguration",
    "environmentVariables",
    "filesystemConfigurations",
    "capacityProviderConfiguration",
    "platformVersion",
    "allowedPorts",
    "resourceConfigurations",
];

/// A member of ours beside those of the service: the bundle in the emulator's own store that a package from another
/// bucket became. A version runs the code that was there when it was made, whatever happens to the object.
const BUNDLE: &str = "agentcore:bundle";
/// Another: why the version can never run.
const FAILURE: &str = "agentcore:failure";
/// Another: what was done so that it runs here.
const NOTICES: &str = "agentcore:notices";

/// The only platform there is here, and the service's default. [guide]
const PLATFORM: &str = "V1";
/// Where HTTP agents are called. [model: ProtocolConfiguration]
const INVOCATIONS_PATH: &str = "/invocations";

/// The prefix under which `x-amzn-` headers may be listed. [guide]
const CUSTOM_HEADER_PREFIX: &str = "x-amzn-bedrock-agentcore-runtime-custom-";
/// Headers that no allowlist may name. Authentication, negotiation and caching ones are the guide's;
/// the last two lines are ours: they belong to one connection, not to the call.
const RESTRICTED_HEADERS: &[&str] = &[
    "proxy-authorization",
    "www-authenticate",
    "proxy-authenticate",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "content-type",
    "content-length",
    "content-encoding",
    "content-language",
    "content-location",
    "content-range",
    "cache-control",
    "etag",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "via",
];

impl RuntimeSettings {
    /// Takes the settings from an operation's input. Other members of the input are not looked at.
    pub fn from_input(input: &Map<String, Value>) -> Result<Self, Vec<Refusal>> {
        let given = MEMBERS.iter().filter_map(|name| Some((name.to_string(), input.get(*name)?.clone())));
        Self::from_members(given.collect())
    }

    /// The settings of members that were settings before.
    pub(super) fn from_members(mut members: Map<String, Value>) -> Result<Self, Vec<Refusal>> {
        let mut reader = Reader { members: &members, refusals: Vec::new() };
        let spec = reader.spec();
        let refusals = reader.refusals;
        let spec = match (spec, refusals.is_empty()) {
            (Some(spec), true) => Arc::new(spec),
            _ => return Err(refusals),
        };
        // `[]` disables storage, and a runtime without storage does not show the member. [observed]
        if members
            .get("filesystemConfigurations")
            .is_some_and(|list| list.as_array().is_some_and(Vec::is_empty))
        {
            members.remove("filesystemConfigurations");
        }
        // What the service fills in when it is not given. The network is filled in too, because clients read,
        // modify and write the whole runtime.
        members.entry("networkConfiguration").or_insert_with(|| json!({ "networkMode": "PUBLIC" }));
        members.entry("platformVersion").or_insert_with(|| json!(PLATFORM));
        members.insert(
            "lifecycleConfiguration".to_owned(),
            json!({
                "idleRuntimeSessionTimeout": spec.lifecycle.idle_timeout.as_secs(),
                "maxLifetime": spec.lifecycle.max_lifetime.as_secs(),
            }),
        );
        Ok(Self { members, spec })
    }

    /// These settings with the bundle that its code package became, and what was done for that.
    pub fn with_bundle(&self, bundle: &str, notices: &[String]) -> Result<Self, Vec<Refusal>> {
        let mut members = self.members.clone();
        members.insert(BUNDLE.to_owned(), json!(bundle));
        if !notices.is_empty() {
            members.insert(NOTICES.to_owned(), json!(notices));
        }
        Self::from_members(members)
    }

    /// The code package that has to be fetched before anything is known of it.
    pub fn unfetched(&self) -> Option<&ArtifactRef> {
        match &self.spec.artifact {
            Artifact::Code(code) if code.bucket != artifacts::BUCKET && self.failure().is_none() => {
                Some(code)
            }
            _ => None,
        }
    }

    /// What was done so that the version runs here.
    pub fn notices(&self) -> Vec<String> {
        let list = self.members.get(NOTICES).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// These settings as those of a version that can never run.
    pub fn with_failure(&self, reason: &str) -> Result<Self, Vec<Refusal>> {
        let mut members = self.members.clone();
        members.insert(FAILURE.to_owned(), json!(reason));
        Self::from_members(members)
    }

    /// Why the version can never run.
    pub fn failure(&self) -> Option<&str> {
        self.members.get(FAILURE).and_then(Value::as_str)
    }

    /// The members as GetAgentRuntime shows them.
    pub fn shown(&self) -> Map<String, Value> {
        let mut shown = self.members.clone();
        shown.retain(|name, _| ![BUNDLE, FAILURE, NOTICES].contains(&name.as_str()));
        shown
    }

    /// The members as they are kept, those of ours among them.
    pub(super) fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// What computes need to know.
    pub fn spec(&self) -> &Arc<RuntimeSpec> {
        &self.spec
    }

    /// The description, when there is one.
    pub fn description(&self) -> Option<&str> {
        self.members.get("description").and_then(Value::as_str)
    }
}

struct Reader<'a> {
    members: &'a Map<String, Value>,
    refusals: Vec<Refusal>,
}

impl<'a> Reader<'a> {
    fn refuse(&mut self, member: impl Into<String>, message: impl Into<String>) {
        self.refusals.push(Refusal { member: member.into(), message: message.into() });
    }

    fn unsupported(&mut self, member: &str, instead: &str) {
        self.refuse(member, format!("`{member}` is not supported by the emulator: {instead}"));
    }

    fn get(&self, path: &[&str]) -> Option<&'a Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.members.get(*first)?, |value, step| value.get(step))
    }

    /// Reads everything, so that every refusal is found and not only the first.
    fn spec(&mut self) -> Option<RuntimeSpec> {
        self.refuse_what_is_not_done();
        let artifact = self.artifact();
        let port = self.protocol();
        let lifecycle = self.lifecycle();
        let environment = self.environment();
        let header_allowlist = self.headers();
        let session_storage = self.filesystems();
        Some(RuntimeSpec {
            artifact: artifact?,
            role_arn: self.get(&["roleArn"]).and_then(Value::as_str).unwrap_or_default().to_owned(),
            protocol: ServerProtocol::Http,
            port,
            lifecycle: lifecycle?,
            environment,
            header_allowlist,
            session_storage,
        })
    }

    fn refuse_what_is_not_done(&mut self) {
        if self.get(&["networkConfiguration", "networkMode"]).is_some_and(|mode| mode != "PUBLIC") {
            let instead = "sessions have the emulator's own network; use `PUBLIC`";
            self.unsupported("networkConfiguration.networkMode", instead);
        }
        if self.get(&["networkConfiguration", "networkModeConfig"]).is_some() {
            let instead = "it belongs to networkMode `VPC`, which the emulator does not have";
            self.unsupported("networkConfiguration.networkModeConfig", instead);
        }
        if self.get(&["authorizerConfiguration"]).is_some() {
            let instead =
                "calls are not checked against a token issuer; leave it out, or deploy to AWS to use it";
            self.unsupported("authorizerConfiguration.customJWTAuthorizer", instead);
        }
        if self.get(&["capacityProviderConfiguration"]).is_some() {
            self.unsupported("capacityProviderConfiguration", "sessions run on this machine only");
        }
        if self.get(&["hooksConfiguration"]).is_some() {
            self.unsupported(
                "hooksConfiguration",
                "hooks belong to platform version V2, and the emulator has V1",
            );
        }
        if self.get(&["allowedPorts"]).is_some() {
            self.unsupported("allowedPorts", "sessions have no URL of their own");
        }
        if self
            .get(&["resourceConfigurations"])
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty())
        {
            self.unsupported("resourceConfigurations", "sessions use what this machine has");
        }
        if let Some(version) = self.get(&["platformVersion"]).and_then(Value::as_str)
            && version != PLATFORM
        {
            self.unsupported("platformVersion", "the only platform version here is `V1`");
        }
    }

    fn artifact(&mut self) -> Option<Artifact> {
        if let Some(container) = self.get(&["agentRuntimeArtifact", "containerConfiguration"]) {
            let Some(image) = container.get("containerUri").and_then(Value::as_str) else {
                let at = "agentRuntimeArtifact.containerConfiguration";
                self.refuse(at, format!("`{at}` must have `containerUri`"));
                return None;
            };
            return Some(Artifact::Image(image.to_owned()));
        }
        let at = "agentRuntimeArtifact.codeConfiguration";
        let code = self.get(&["agentRuntimeArtifact", "codeConfiguration"]).and_then(Value::as_object);
        let location = code.and_then(|code| code.get("code")?.get("s3")?.as_object());
        let text = |map: &Map<String, Value>, name: &str| Some(map.get(name)?.as_str()?.to_owned());
        let read = || {
            let (code, location) = (code?, location?);
            let entry_point = code.get("entryPoint")?.as_array()?;
            Some(ArtifactRef {
                bucket: text(location, "bucket")?,
                prefix: text(location, "prefix")?,
                version_id: text(location, "versionId"),
                runtime: text(code, "runtime")?,
                entry_point: entry_point
                    .iter()
                    .map(|e| e.as_str().map(str::to_owned))
                    .collect::<Option<_>>()?,
            })
        };
        let Some(artifact) = read() else {
            self.refuse(at, format!("`{at}` must have `code.s3`, `runtime` and `entryPoint`"));
            return None;
        };
        let fetched = self.get(&[BUNDLE]).and_then(Value::as_str).map(str::to_owned);
        let artifact = match fetched {
            Some(prefix) => {
                ArtifactRef { bucket: artifacts::BUCKET.to_owned(), prefix, version_id: None, ..artifact }
            }
            None => artifact,
        };
        if artifact.version_id.is_some() && artifact.bucket == artifacts::BUCKET {
            let instead = "its artifact store keeps one object a key, named by its content";
            self.unsupported(&format!("{at}.code.s3.versionId"), instead);
        }
        if artifact.entry_point.iter().any(|part| part.contains('\0')) {
            self.refuse(format!("{at}.entryPoint"), "`entryPoint` must not contain NUL characters");
        }
        Some(Artifact::Code(artifact))
    }

    fn protocol(&mut self) -> u16 {
        if self.get(&["protocolConfiguration", "serverProtocol"]).is_some_and(|protocol| protocol != "HTTP") {
            self.unsupported("protocolConfiguration.serverProtocol", "agents must speak `HTTP`");
        }
        if let Some(path) = self.get(&["protocolConfiguration", "path"])
            && path != INVOCATIONS_PATH
        {
            self.unsupported("protocolConfiguration.path", "agents are called at `/invocations`");
        }
        let port = self.get(&["protocolConfiguration", "port"]).and_then(Value::as_u64);
        let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(limits::AGENT_HTTP_PORT);
        if port == limits::RESERVED_AGENT_PORT {
            self.refuse(
                "protocolConfiguration.port",
                format!("Port {port} is reserved; choose another from 8000 to 12000"),
            );
        }
        port
    }

    fn lifecycle(&mut self) -> Option<Lifecycle> {
        let seconds = |name| {
            let value = self.get(&["lifecycleConfiguration", name])?.as_u64()?;
            u32::try_from(value).ok()
        };
        match Lifecycle::new(seconds("idleRuntimeSessionTimeout"), seconds("maxLifetime")) {
            Ok(lifecycle) => Some(lifecycle),
            Err(e) => {
                self.refuse("lifecycleConfiguration.idleRuntimeSessionTimeout", e.to_string());
                None
            }
        }
    }

    fn environment(&mut self) -> Vec<(String, String)> {
        let Some(given) = self.get(&["environmentVariables"]).and_then(Value::as_object) else {
            return Vec::new();
        };
        let variables: Vec<(String, String)> = given
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect();
        for (name, value) in &variables {
            if name.contains(['=', '\0']) {
                self.refuse(
                    "environmentVariables",
                    format!("`{}` cannot be the name of an environment variable", name.escape_debug()),
                );
            }
            if value.contains('\0') {
                self.refuse(
                    "environmentVariables",
                    format!("The value of `{}` must not contain NUL characters", name.escape_debug()),
                );
            }
        }
        let bytes: usize = variables.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > limits::MAX_ENVIRONMENT_BYTES {
            let limit = limits::MAX_ENVIRONMENT_BYTES;
            let message =
                format!("Environment variables must have at most {limit} bytes together; these have {bytes}");
            self.refuse("environmentVariables", message);
        }
        variables
    }

    fn headers(&mut self) -> HeaderAllowlist {
        let list =
            self.get(&["requestHeaderConfiguration", "requestHeaderAllowlist"]).and_then(Value::as_array);
        let names: Vec<&str> = list.into_iter().flatten().filter_map(Value::as_str).collect();
        let mut seen = HashSet::new();
        for (place, name) in names.iter().enumerate() {
            let lower = name.to_ascii_lowercase();
            let message = if lower == "authorization" {
                format!("Header `{name}` needs a customJWTAuthorizer, which the emulator does not support")
            } else if RESTRICTED_HEADERS.contains(&lower.as_str()) {
                format!("Header `{name}` is restricted and cannot be passed to the agent")
            } else if lower.starts_with("x-amz-")
                || (lower.starts_with("x-amzn-") && !lower.starts_with(CUSTOM_HEADER_PREFIX))
            {
                format!(
                    "Header `{name}` is reserved: of `x-amz-` and `x-amzn-` headers only those that begin with `X-Amzn-Bedrock-AgentCore-Runtime-Custom-` can be passed to the agent"
                )
            } else if !seen.insert(lower) {
                format!("Header `{name}` is listed twice; header names are compared without case")
            } else {
                continue;
            };
            self.refuse(format!("requestHeaderConfiguration.requestHeaderAllowlist[{place}]"), message);
        }
        HeaderAllowlist::new(names.into_iter().map(str::to_owned))
    }

    fn filesystems(&mut self) -> Option<MountPath> {
        let list = self.get(&["filesystemConfigurations"]).and_then(Value::as_array)?;
        if list.len() > limits::MAX_FILESYSTEMS {
            let message = format!("A runtime has at most {} file systems", limits::MAX_FILESYSTEMS);
            self.refuse("filesystemConfigurations", message);
        }
        let mut storages = Vec::new();
        let mut paths = HashSet::new();
        for (place, entry) in list.iter().enumerate() {
            let Some((kind, settings)) = entry.as_object().and_then(|entry| entry.iter().next()) else {
                continue;
            };
            let at = format!("filesystemConfigurations[{place}].{kind}");
            let text = settings.get("mountPath").and_then(Value::as_str).unwrap_or_default();
            match text.parse::<MountPath>() {
                Ok(path) if !paths.insert(path.clone()) => {
                    let message =
                        format!("Mount path `{path}` is used twice; a trailing slash makes no difference");
                    self.refuse(format!("{at}.mountPath"), message);
                }
                Ok(path) if kind == "sessionStorage" => storages.push(path),
                Ok(_) => {}
                Err(e) => self.refuse(format!("{at}.mountPath"), e.to_string()),
            }
            if kind != "sessionStorage" {
                self.unsupported(&at, "it has `sessionStorage` only");
            }
        }
        if storages.len() > limits::MAX_SESSION_STORAGES {
            self.refuse("filesystemConfigurations", "A runtime has at most one `sessionStorage`");
        }
        storages.into_iter().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(extra: Value) -> Map<String, Value> {
        let mut input = json!({
            "agentRuntimeArtifact": { "codeConfiguration": {
                "code": { "s3": { "bucket": artifacts::BUCKET, "prefix": "0".repeat(64) } },
                "runtime": "PYTHON_3_13",
                "entryPoint": ["main.py"],
            } },
            "roleArn": "arn:aws:iam::123456789012:role/agent",
        });
        for (name, value) in extra.as_object().unwrap() {
            input[name] = value.clone();
        }
        input.as_object().unwrap().clone()
    }

    fn refused(extra: Value) -> Vec<String> {
        let refusals = RuntimeSettings::from_input(&with(extra)).expect_err("must be refused");
        refusals.into_iter().map(|r| r.member).collect()
    }

    #[test]
    fn what_is_given_is_kept_and_defaults_are_filled_in() {
        let given = json!({
            "description": "d",
            "environmentVariables": { "B": "2", "A": "1" },
            "filesystemConfigurations": [{ "sessionStorage": { "mountPath": "/mnt/work/" } }],
            "requestHeaderConfiguration": { "requestHeaderAllowlist": ["X-Api-Key"] },
            "protocolConfiguration": { "serverProtocol": "HTTP", "port": 9000, "path": "/invocations" },
            "lifecycleConfiguration": { "maxLifetime": 600 },
            "metadataConfiguration": { "requireMMDSV2": true },
            "clientToken": "not a setting",
        });
        let settings = RuntimeSettings::from_input(&with(given.clone())).unwrap();
        let members = Value::Object(settings.members().clone());
        for name in
            ["description", "environmentVariables", "filesystemConfigurations", "protocolConfiguration"]
        {
            assert_eq!(members[name], given[name], "{name}");
        }
        assert_eq!(
            members["lifecycleConfiguration"],
            json!({ "idleRuntimeSessionTimeout": 600, "maxLifetime": 600 })
        );
        assert_eq!(members["networkConfiguration"], json!({ "networkMode": "PUBLIC" }));
        assert_eq!(members["platformVersion"], "V1");
        assert!(members.get("clientToken").is_none());
        let spec = settings.spec();
        assert_eq!(spec.port, 9000);
        assert_eq!(spec.session_storage.as_ref().unwrap().as_str(), "/mnt/work");
        assert_eq!(spec.environment, [("B".into(), "2".into()), ("A".into(), "1".into())]);
        assert!(spec.header_allowlist.allows("x-api-key"));
        // What was kept reads back as the same settings.
        assert_eq!(RuntimeSettings::from_members(settings.members().clone()).unwrap(), settings);
    }

    #[test]
    fn an_empty_list_of_file_systems_means_no_storage() {
        let settings = RuntimeSettings::from_input(&with(json!({ "filesystemConfigurations": [] }))).unwrap();
        assert!(settings.members().get("filesystemConfigurations").is_none());
        assert!(settings.spec().session_storage.is_none());
    }

    #[test]
    fn what_the_emulator_does_not_do_is_refused_by_name() {
        let mount = |kind: &str| json!({ "filesystemConfigurations": [{ kind: { "mountPath": "/mnt/x" } }] });
        let cases = [
            (json!({ "networkConfiguration": { "networkMode": "VPC" } }), "networkConfiguration.networkMode"),
            (
                json!({ "authorizerConfiguration": { "customJWTAuthorizer": {} } }),
                "authorizerConfiguration.customJWTAuthorizer",
            ),
            (json!({ "capacityProviderConfiguration": {} }), "capacityProviderConfiguration"),
            (json!({ "hooksConfiguration": {} }), "hooksConfiguration"),
            (json!({ "allowedPorts": [{ "port": 9001 }] }), "allowedPorts"),
            (json!({ "resourceConfigurations": [{ "minimumMemoryInMiB": 1 }] }), "resourceConfigurations"),
            (json!({ "platformVersion": "V2" }), "platformVersion"),
            (
                json!({ "protocolConfiguration": { "serverProtocol": "MCP" } }),
                "protocolConfiguration.serverProtocol",
            ),
            (
                json!({ "protocolConfiguration": { "serverProtocol": "HTTP", "path": "/x" } }),
                "protocolConfiguration.path",
            ),
            (
                json!({ "protocolConfiguration": { "serverProtocol": "HTTP", "port": 8443 } }),
                "protocolConfiguration.port",
            ),
            (mount("efsAccessPoint"), "filesystemConfigurations[0].efsAccessPoint"),
            (mount("s3FilesAccessPoint"), "filesystemConfigurations[0].s3FilesAccessPoint"),
            (mount("capacityProviderVolume"), "filesystemConfigurations[0].capacityProviderVolume"),
            (
                json!({ "agentRuntimeArtifact": { "containerConfiguration": {} } }),
                "agentRuntimeArtifact.containerConfiguration",
            ),
        ];
        for (extra, member) in cases {
            assert_eq!(refused(extra.clone()), [member], "{extra}");
        }
        let mut version = with(json!({}));
        version["agentRuntimeArtifact"]["codeConfiguration"]["code"]["s3"]["versionId"] = json!("abc");
        let refusals = RuntimeSettings::from_input(&version).unwrap_err();
        let members: Vec<&str> = refusals.iter().map(|r| r.member.as_str()).collect();
        assert_eq!(members, ["agentRuntimeArtifact.codeConfiguration.code.s3.versionId"]);
    }

    #[test]
    fn a_package_of_another_bucket_runs_the_bundle_it_became() {
        let mut elsewhere = with(json!({}));
        let location = json!({ "bucket": "mine", "prefix": "a/b.zip", "versionId": "abc" });
        elsewhere["agentRuntimeArtifact"]["codeConfiguration"]["code"]["s3"] = location.clone();
        let settings = RuntimeSettings::from_input(&elsewhere).unwrap();
        let code = |settings: &RuntimeSettings| match &settings.spec().artifact {
            Artifact::Code(code) => (code.bucket.clone(), code.prefix.clone()),
            image => panic!("{image:?}"),
        };
        assert_eq!(code(&settings).0, "mine");
        let fetched = settings.with_bundle("0123", &["`x.so` is for arm64".to_owned()]).unwrap();
        assert_eq!(code(&fetched), (artifacts::BUCKET.to_owned(), "0123".to_owned()));
        assert_eq!(settings.unfetched().map(|code| code.prefix.as_str()), Some("a/b.zip"));
        assert_eq!(fetched.unfetched(), None);
        assert_eq!(settings.with_failure("no").unwrap().unfetched(), None);
        // What callers see is what they said, also after a restart.
        let again = RuntimeSettings::from_members(fetched.members().clone()).unwrap();
        assert_eq!(again, fetched);
        let shown = &again.members()["agentRuntimeArtifact"]["codeConfiguration"]["code"]["s3"];
        assert_eq!(*shown, location);
        assert!(!again.shown().keys().any(|name| name.contains(':')));
        assert_eq!((again.notices().len(), settings.notices().len()), (1, 0));
    }

    #[test]
    fn rules_between_members_are_kept() {
        let storage = |path: &str| json!({ "sessionStorage": { "mountPath": path } });
        let idle =
            json!({ "lifecycleConfiguration": { "idleRuntimeSessionTimeout": 601, "maxLifetime": 600 } });
        let refusals = RuntimeSettings::from_input(&with(idle)).unwrap_err();
        assert_eq!(
            refusals[0].message,
            "idleRuntimeSessionTimeout must be less than or equal to maxLifetime"
        );
        assert_eq!(
            refused(json!({ "filesystemConfigurations": [storage("/mnt/a"), storage("/mnt/a/")] })),
            ["filesystemConfigurations[1].sessionStorage.mountPath"]
        );
        assert_eq!(
            refused(json!({ "filesystemConfigurations": [storage("/mnt/a"), storage("/mnt/b")] })),
            ["filesystemConfigurations"]
        );
        assert_eq!(
            refused(json!({ "filesystemConfigurations": [storage("/mnt/..")] })),
            ["filesystemConfigurations[0].sessionStorage.mountPath"]
        );
        let environment = |name: &str, value: String| json!({ "environmentVariables": { name: value } });
        assert_eq!(refused(environment("A=B", String::new())), ["environmentVariables"]);
        assert_eq!(refused(environment("A", "\0".into())), ["environmentVariables"]);
        assert_eq!(refused(environment("A", "x".repeat(4096))), ["environmentVariables"]);
        assert!(RuntimeSettings::from_input(&with(environment("A", "x".repeat(4095)))).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_list_of_headers_lets_credentials_or_the_services_own_pass(
            names in proptest::collection::vec(
                "(Authorization|HOST|te|X-Amz-Date|x-amzn-requestid|X-Amzn-Bedrock-AgentCore-Runtime-Custom-[a-z]{1,3}|[A-Za-z][A-Za-z0-9_-]{0,10})",
                0..6,
            ),
        ) {
            let header = json!({ "requestHeaderConfiguration": { "requestHeaderAllowlist": names } });
            match RuntimeSettings::from_input(&with(header)) {
                Ok(settings) => {
                    let list = &settings.spec().header_allowlist;
                    for name in &names {
                        let name = name.to_ascii_lowercase();
                        proptest::prop_assert!(list.allows(&name), "{}", name);
                        proptest::prop_assert!(!RESTRICTED_HEADERS.contains(&name.as_str()), "{}", name);
                    }
                    for name in ["authorization", "host", "x-amz-date", "x-amz-security-token", "x-amzn-requestid"] {
                        proptest::prop_assert!(!list.allows(name), "{:?} lets `{}` pass", names, name);
                    }
                }
                // Each refusal points at the entry that is wrong.
                Err(refusals) => for refusal in refusals {
                    let place = refusal.member.strip_prefix("requestHeaderConfiguration.requestHeaderAllowlist[");
                    let place = place.and_then(|place| place.strip_suffix(']')?.parse::<usize>().ok());
                    let name = place.and_then(|place| names.get(place));
                    proptest::prop_assert!(name.is_some_and(|name| refusal.message.contains(name.as_str())));
                },
            }
        }
    }

    #[test]
    fn headers_that_cannot_be_passed_are_refused() {
        let list =
            |names: &[&str]| json!({ "requestHeaderConfiguration": { "requestHeaderAllowlist": names } });
        for name in
            ["Authorization", "Host", "content-length", "X-Amz-Date", "X-Amzn-Trace-Id", "Cache-Control"]
        {
            assert_eq!(
                refused(list(&[name])),
                ["requestHeaderConfiguration.requestHeaderAllowlist[0]"],
                "{name}"
            );
        }
        assert_eq!(
            refused(list(&["X-Key", "x-key"])),
            ["requestHeaderConfiguration.requestHeaderAllowlist[1]"]
        );
        let fine = list(&["X-Amzn-Bedrock-AgentCore-Runtime-Custom-User", "X-Signature", "Cookie"]);
        assert!(RuntimeSettings::from_input(&with(fine)).is_ok());
    }
}
