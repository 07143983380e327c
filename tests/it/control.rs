//! The control plane as callers see it: driven by AWS's own SDK, and byte by byte against the service model.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail where they stand"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentcore::artifacts::{BUCKET, Launch, Manifest};
use agentcore::emulator::clock::Clock;
use agentcore::emulator::engines::Engines;
use agentcore::emulator::{Emulator, EmulatorConfig};
use agentcore::engine::{Compute, ComputeRecord, ComputeSpec, Engine, EngineError};
use agentcore::server::control;
use agentcore::storage::Place;
use agentcore::wire::service_model as model;
use agentcore::wire::shape::Operation;
use agentcore::wire::validate;
use aws_sdk_bedrockagentcorecontrol::Client;
use aws_sdk_bedrockagentcorecontrol::config::{Credentials, Region};
use aws_sdk_bedrockagentcorecontrol::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_bedrockagentcorecontrol::operation::create_agent_runtime::CreateAgentRuntimeError;
use aws_sdk_bedrockagentcorecontrol::types::{
    AgentManagedRuntimeType, AgentRuntimeArtifact, AgentRuntimeEndpointStatus, AgentRuntimeStatus, Code,
    CodeConfiguration, FilesystemConfiguration, LifecycleConfiguration, NetworkConfiguration, NetworkMode,
    S3Location, SessionStorageConfiguration, ValidationExceptionReason,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as RawClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

const ROLE: &str = "arn:aws:iam::123456789012:role/agent";

/// The control plane starts nothing.
struct NoEngine;

impl Engine for NoEngine {
    fn name(&self) -> &'static str {
        "none"
    }

    fn storage_owner(&self) -> Option<(u32, u32)> {
        None
    }

    fn start(&self, _spec: ComputeSpec) -> BoxFuture<'_, Result<Box<dyn Compute>, EngineError>> {
        panic!("the control plane started a compute")
    }

    fn end_leftover(&self, _: ComputeRecord, _: Duration) -> BoxFuture<'_, Result<(), EngineError>> {
        panic!("the control plane left a compute behind")
    }

    fn delete_storage(&self, place: Place) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            let Place::Directory(path) = place else { panic!("{place:?}") };
            let context = format!("removing {}", path.display());
            std::fs::remove_dir_all(&path).map_err(|source| EngineError::Io { context, source })
        })
    }
}

/// An emulator's control plane on a port of its own.
struct Plane {
    url: String,
    bundle: String,
    emulator: Arc<Emulator>,
    raw: RawClient<HttpConnector, Full<Bytes>>,
    server: tokio::task::JoinHandle<()>,
    _home: tempfile::TempDir,
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Plane {
    async fn start() -> Self {
        Self::with_ready_delay(Duration::from_millis(50)).await
    }

    async fn with_ready_delay(ready_delay: Duration) -> Self {
        let home = tempfile::tempdir().unwrap();
        let bundle = bundle(home.path());
        let region = "us-west-2".parse().unwrap();
        let mut config = EmulatorConfig::new(home.path().to_owned(), region, "123456789012".parse().unwrap());
        config.ready_delay = ready_delay;
        let emulator = Emulator::open(config, Engines::only(Arc::new(NoEngine)), Arc::new(Clock::system()))
            .await
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = control::routes().with_state(emulator.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let raw = RawClient::builder(TokioExecutor::new()).build_http();
        Self { url, bundle, emulator, raw, server, _home: home }
    }

    fn sdk(&self) -> Client {
        let config = aws_sdk_bedrockagentcorecontrol::Config::builder()
            .region(Region::new("us-west-2"))
            .endpoint_url(&self.url)
            .credentials_provider(Credentials::new("AKIDEXAMPLE", "secret", None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        Client::from_conf(config)
    }

    fn artifact(&self) -> AgentRuntimeArtifact {
        let location = S3Location::builder().bucket(BUCKET).prefix(&self.bundle).build().unwrap();
        AgentRuntimeArtifact::CodeConfiguration(
            CodeConfiguration::builder()
                .code(Code::S3(location))
                .runtime(AgentManagedRuntimeType::Python313)
                .entry_point("main.py")
                .build()
                .unwrap(),
        )
    }

    fn create_body(&self, name: &str, extra: Value) -> Value {
        let mut body = json!({
            "agentRuntimeName": name,
            "agentRuntimeArtifact": { "codeConfiguration": {
                "code": { "s3": { "bucket": BUCKET, "prefix": self.bundle } },
                "runtime": "PYTHON_3_13",
                "entryPoint": ["main.py"],
            } },
            "roleArn": ROLE,
        });
        for (member, value) in extra.as_object().unwrap() {
            body[member] = value.clone();
        }
        body
    }

    async fn send(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        let response = self.raw.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        let (error, content_type) = (header("x-amzn-errortype"), header("content-type"));
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Answer { status, error, content_type, body }
    }

    /// Sends what must succeed, and checks the answer against the service model.
    async fn ok(&self, operation: &Operation, path: &str, body: Value) -> Value {
        let sent = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let answer = self.send(operation.method, path, sent).await;
        assert_eq!(answer.status, operation.status, "{}: {answer:?}", operation.name);
        if operation.status == 204 {
            assert_eq!(answer.body, Value::Null);
            return Value::Null;
        }
        assert_eq!(answer.content_type.as_deref(), Some("application/json"));
        let mut differences = validate::check_output(operation, &answer.body);
        // Lists must have a description even of runtimes that were given none.
        differences.retain(|d| {
            !(d.name.ends_with("].description") && d.message.ends_with("greater than or equal to 1"))
        });
        assert_eq!(differences, [], "{} answered {}", operation.name, answer.body);
        answer.body
    }

    /// Creates a runtime and waits until it is READY.
    async fn ready(&self, name: &str, extra: Value) -> String {
        let created =
            self.ok(&model::CREATE_AGENT_RUNTIME, "/runtimes/", self.create_body(name, extra)).await;
        let id = created["agentRuntimeId"].as_str().unwrap().to_owned();
        self.until_ready(&format!("/runtimes/{id}/")).await;
        id
    }

    async fn until_ready(&self, path: &str) {
        for _ in 0..500 {
            if self.send("GET", path, "").await.body["status"] == "READY" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{path} did not become READY");
    }

    async fn until_gone(&self, path: &str) {
        for _ in 0..500 {
            let answer = self.send("GET", path, "").await;
            if answer.status == 404 {
                return;
            }
            assert_eq!(answer.body["status"], "DELETING");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{path} did not go");
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    error: Option<String>,
    content_type: Option<String>,
    body: Value,
}

impl Answer {
    #[track_caller]
    fn is_error(&self, operation: &Operation, name: &str) {
        assert_eq!(self.error.as_deref(), Some(name), "{self:?}");
        let statuses: Vec<u16> =
            model::OPERATIONS.iter().flat_map(|o| o.errors).filter(|e| e.0 == name).map(|e| e.1).collect();
        assert_eq!(Some(&self.status), statuses.first(), "{} {self:?}", operation.name);
        assert!(!self.body["message"].as_str().unwrap().is_empty());
    }
}

fn bundle(home: &Path) -> String {
    let key = "ab".repeat(32);
    let directory = home.join("artifacts").join(&key);
    std::fs::create_dir_all(directory.join("code")).unwrap();
    let launch = Launch::Command { argv: vec!["./agent".into()] };
    let manifest =
        Manifest { format: Manifest::FORMAT, launch, read_only: vec![], environment: vec![], image: None };
    std::fs::write(directory.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    key
}

fn storage(path: &str) -> FilesystemConfiguration {
    let storage = SessionStorageConfiguration::builder().mount_path(path).build().unwrap();
    FilesystemConfiguration::SessionStorage(storage)
}

#[tokio::test]
async fn the_sdk_sees_the_whole_life_of_a_runtime() {
    let plane = Plane::start().await;
    let sdk = plane.sdk();
    let network = NetworkConfiguration::builder().network_mode(NetworkMode::Public).build().unwrap();
    let created = sdk
        .create_agent_runtime()
        .agent_runtime_name("coder")
        .agent_runtime_artifact(plane.artifact())
        .role_arn(ROLE)
        .network_configuration(network)
        .description("writes code")
        .environment_variables("MODE", "test")
        .filesystem_configurations(storage("/mnt/workspace/"))
        .lifecycle_configuration(LifecycleConfiguration::builder().max_lifetime(3600).build())
        .tags("team", "x")
        .send()
        .await
        .unwrap();
    assert_eq!(created.status(), &AgentRuntimeStatus::Creating);
    assert_eq!(created.agent_runtime_version(), "1");
    let id = created.agent_runtime_id();
    assert!(created.agent_runtime_arn().ends_with(&format!(":runtime/{id}")));
    plane.until_ready(&format!("/runtimes/{id}/")).await;

    let got = sdk.get_agent_runtime().agent_runtime_id(id).send().await.unwrap();
    assert_eq!(got.agent_runtime_artifact(), Some(&plane.artifact()));
    assert_eq!(got.filesystem_configurations(), [storage("/mnt/workspace/")]);
    assert_eq!(got.description(), Some("writes code"));
    assert_eq!(got.environment_variables().unwrap()["MODE"], "test");
    let lifecycle = got.lifecycle_configuration().unwrap();
    assert_eq!((lifecycle.idle_runtime_session_timeout(), lifecycle.max_lifetime()), (Some(900), Some(3600)));

    // Read, modify, write; an empty list ends the storage.
    let updated = sdk
        .update_agent_runtime()
        .agent_runtime_id(id)
        .set_agent_runtime_artifact(got.agent_runtime_artifact().cloned())
        .role_arn(got.role_arn())
        .set_network_configuration(got.network_configuration().cloned())
        .set_filesystem_configurations(Some(vec![]))
        .send()
        .await
        .unwrap();
    assert_eq!((updated.status(), updated.agent_runtime_version()), (&AgentRuntimeStatus::Updating, "2"));
    plane.until_ready(&format!("/runtimes/{id}/")).await;
    let got = plane.ok(&model::GET_AGENT_RUNTIME, &format!("/runtimes/{id}/"), Value::Null).await;
    assert!(got.get("filesystemConfigurations").is_none(), "{got}");
    // What an update leaves out goes back to its default; the old version is as it was.
    assert!(got.get("description").is_none(), "{got}");
    let old = sdk.get_agent_runtime().agent_runtime_id(id).agent_runtime_version("1").send().await.unwrap();
    assert_eq!((old.description(), old.filesystem_configurations().len()), (Some("writes code"), 1));
    let versions = sdk.list_agent_runtime_versions().agent_runtime_id(id).send().await.unwrap();
    let versions: Vec<&str> = versions.agent_runtimes().iter().map(|v| v.agent_runtime_version()).collect();
    assert_eq!(versions, ["1", "2"]);

    let endpoint = sdk
        .create_agent_runtime_endpoint()
        .agent_runtime_id(id)
        .name("prod")
        .agent_runtime_version("1")
        .send()
        .await
        .unwrap();
    assert_eq!(endpoint.target_version(), "1");
    plane.until_ready(&format!("/runtimes/{id}/runtime-endpoints/prod/")).await;
    let listed = sdk.list_agent_runtime_endpoints().agent_runtime_id(id).send().await.unwrap();
    let live: Vec<(&str, Option<&str>)> =
        listed.runtime_endpoints().iter().map(|e| (e.name(), e.live_version())).collect();
    assert_eq!(live, [("DEFAULT", Some("2")), ("prod", Some("1"))]);
    let moved = sdk
        .update_agent_runtime_endpoint()
        .agent_runtime_id(id)
        .endpoint_name("prod")
        .agent_runtime_version("2")
        .send()
        .await
        .unwrap();
    assert_eq!((moved.live_version(), moved.target_version()), (Some("1"), Some("2")));
    assert_eq!(moved.status(), &AgentRuntimeEndpointStatus::Updating);
    plane.until_ready(&format!("/runtimes/{id}/runtime-endpoints/prod/")).await;

    let arn = created.agent_runtime_arn();
    sdk.tag_resource().resource_arn(arn).tags("stage", "a b+c").send().await.unwrap();
    sdk.untag_resource().resource_arn(arn).tag_keys("team").tag_keys("none").send().await.unwrap();
    let tags = sdk.list_tags_for_resource().resource_arn(arn).send().await.unwrap();
    assert_eq!(tags.tags().unwrap().len(), 1);
    assert_eq!(tags.tags().unwrap()["stage"], "a b+c");

    let delete = sdk.delete_agent_runtime_endpoint().agent_runtime_id(id).endpoint_name("prod");
    assert_eq!(delete.send().await.unwrap().status(), &AgentRuntimeEndpointStatus::Deleting);
    plane.until_gone(&format!("/runtimes/{id}/runtime-endpoints/prod/")).await;
    let deleted = sdk.delete_agent_runtime().agent_runtime_id(id).send().await.unwrap();
    assert_eq!(deleted.status(), &AgentRuntimeStatus::Deleting);
    plane.until_gone(&format!("/runtimes/{id}/")).await;
    let error = sdk.get_agent_runtime().agent_runtime_id(id).send().await.unwrap_err();
    assert!(error.into_service_error().is_resource_not_found_exception());
    assert_eq!(plane.emulator.registry.runtime_count(), 0);
}

#[tokio::test]
async fn the_sdk_sees_each_error_as_its_own_type() {
    let plane = Plane::with_ready_delay(Duration::from_secs(60)).await;
    let sdk = plane.sdk();
    let create = |name: &str| {
        let artifact = plane.artifact();
        sdk.create_agent_runtime().agent_runtime_name(name).agent_runtime_artifact(artifact).role_arn(ROLE)
    };
    let lifecycle =
        LifecycleConfiguration::builder().idle_runtime_session_timeout(601).max_lifetime(600).build();
    let error = create("coder").lifecycle_configuration(lifecycle).send().await.unwrap_err();
    let CreateAgentRuntimeError::ValidationException(error) = error.into_service_error() else {
        panic!("a ValidationException");
    };
    assert_eq!(error.reason(), &ValidationExceptionReason::FieldValidationFailed);
    let field = &error.field_list()[0];
    assert_eq!(field.name(), "lifecycleConfiguration.idleRuntimeSessionTimeout");
    assert_eq!(field.message(), "idleRuntimeSessionTimeout must be less than or equal to maxLifetime");

    let token = "0123456789-0123456789-0123456789-0123";
    let first = create("coder").client_token(token).send().await.unwrap();
    let again = create("coder").client_token(token).send().await.unwrap();
    assert_eq!(first.agent_runtime_arn(), again.agent_runtime_arn());
    let error = create("coder").client_token(token).description("other").send().await.unwrap_err();
    let CreateAgentRuntimeError::ValidationException(error) = error.into_service_error() else {
        panic!("a ValidationException");
    };
    assert_eq!(error.reason(), &ValidationExceptionReason::IdempotentParameterMismatchException);

    let taken = create("coder").send().await.unwrap_err();
    assert!(taken.into_service_error().is_conflict_exception());
    // In transition.
    let id = first.agent_runtime_id();
    let error = sdk.delete_agent_runtime().agent_runtime_id(id).send().await.unwrap_err();
    assert!(error.into_service_error().is_conflict_exception());
    let unknown = sdk.update_agent_runtime().agent_runtime_id("coder-0000000000");
    let unknown = unknown.agent_runtime_artifact(plane.artifact()).role_arn(ROLE).send().await.unwrap_err();
    assert!(unknown.into_service_error().is_resource_not_found_exception());
    let version = sdk.get_agent_runtime().agent_runtime_id(id).agent_runtime_version("9").send().await;
    assert!(version.unwrap_err().into_service_error().is_resource_not_found_exception());
    let arn = "arn:aws:bedrock-agentcore:us-west-2:123456789012:memory/notes-0123456789";
    let error = sdk.list_tags_for_resource().resource_arn(arn).send().await.unwrap_err();
    assert!(error.into_service_error().is_resource_not_found_exception());
    // Not retried: a conflict is final.
    let SdkError::ServiceError(error) = create("coder").send().await.unwrap_err() else {
        panic!("a service error");
    };
    assert_eq!(error.err().code(), Some("ConflictException"));
}

#[tokio::test]
async fn paginators_go_through_everything_once() {
    let plane = Plane::with_ready_delay(Duration::ZERO).await;
    let sdk = plane.sdk();
    let names: Vec<String> = (0..7).map(|n| format!("agent_{n}")).collect();
    for name in &names {
        plane.ready(name, json!({})).await;
    }
    let pages = sdk.list_agent_runtimes().max_results(3).into_paginator().items().send();
    let listed = pages.try_collect().await.unwrap();
    assert_eq!(listed.iter().map(|r| r.agent_runtime_name().to_owned()).collect::<Vec<_>>(), names);
    let bad = sdk.list_agent_runtimes().next_token("bogus").send().await.unwrap_err();
    assert!(bad.into_service_error().is_validation_exception());

    let id = listed[0].agent_runtime_id();
    for _ in 0..3 {
        let update = plane.create_body("unused", json!({}));
        plane.ok(&model::UPDATE_AGENT_RUNTIME, &format!("/runtimes/{id}/"), update).await;
        plane.until_ready(&format!("/runtimes/{id}/")).await;
    }
    let pages = sdk.list_agent_runtime_versions().agent_runtime_id(id).max_results(1).into_paginator();
    let versions = pages.items().send().try_collect().await.unwrap();
    assert_eq!(versions.len(), 4);
    let pages = sdk.list_agent_runtime_endpoints().agent_runtime_id(id).max_results(1).into_paginator();
    assert_eq!(pages.items().send().try_collect().await.unwrap().len(), 1);
}

#[tokio::test]
async fn every_answer_has_the_models_members_and_no_others() {
    let plane = Plane::start().await;
    let settings = json!({
        "description": "all of it",
        "networkConfiguration": { "networkMode": "PUBLIC" },
        "protocolConfiguration": { "serverProtocol": "HTTP", "port": 9000, "path": "/invocations" },
        "lifecycleConfiguration": { "idleRuntimeSessionTimeout": 60, "maxLifetime": 1_209_600 },
        "environmentVariables": { "B": "2", "A": "" },
        "requestHeaderConfiguration": { "requestHeaderAllowlist": ["X-Api-Key"] },
        "filesystemConfigurations": [{ "sessionStorage": { "mountPath": "/mnt/data" } }],
        "platformVersion": "V1",
        "resourceConfigurations": [],
    });
    let id = plane.ready("coder", settings.clone()).await;
    // Without trailing slashes, too.
    let got = plane.ok(&model::GET_AGENT_RUNTIME, &format!("/runtimes/{id}"), Value::Null).await;
    for (member, value) in settings.as_object().unwrap() {
        assert_eq!(&got[member], value, "{member}");
    }
    assert_eq!(got["agentRuntimeVersion"], "1");
    assert!(got["createdAt"].as_str().unwrap().ends_with('Z'));
    plane.ready("plain", json!({})).await;
    for path in ["/runtimes/", "/runtimes", "/runtimes/?maxResults=1"] {
        plane.ok(&model::LIST_AGENT_RUNTIMES, path, Value::Null).await;
    }
    let mut update = plane.create_body("x", json!({ "metadataConfiguration": { "requireMMDSV2": true } }));
    update["clientToken"] = json!("c".repeat(36));
    let updated = plane.ok(&model::UPDATE_AGENT_RUNTIME, &format!("/runtimes/{id}/"), update.clone()).await;
    // The answer to a repetition is that of the first time, though the runtime has moved on.
    plane.until_ready(&format!("/runtimes/{id}/")).await;
    assert_eq!(plane.ok(&model::UPDATE_AGENT_RUNTIME, &format!("/runtimes/{id}/"), update).await, updated);
    let got = plane.ok(&model::GET_AGENT_RUNTIME, &format!("/runtimes/{id}/?version=2"), Value::Null).await;
    assert_eq!(got["metadataConfiguration"], json!({ "requireMMDSV2": true }));
    plane.ok(&model::LIST_AGENT_RUNTIME_VERSIONS, &format!("/runtimes/{id}/versions/"), Value::Null).await;

    let endpoints = format!("/runtimes/{id}/runtime-endpoints/");
    let new = json!({ "name": "prod", "description": "d", "tags": { "a": "b" } });
    plane.ok(&model::CREATE_AGENT_RUNTIME_ENDPOINT, &endpoints, new).await;
    plane.ok(&model::LIST_AGENT_RUNTIME_ENDPOINTS, &endpoints, Value::Null).await;
    let prod = format!("{endpoints}prod/");
    plane.ok(&model::GET_AGENT_RUNTIME_ENDPOINT, &prod, Value::Null).await;
    plane.until_ready(&prod).await;
    let update = json!({ "agentRuntimeVersion": "1" });
    plane.ok(&model::UPDATE_AGENT_RUNTIME_ENDPOINT, &prod, update).await;
    plane.until_ready(&prod).await;
    let got = plane.ok(&model::GET_AGENT_RUNTIME_ENDPOINT, &prod, Value::Null).await;
    assert_eq!((&got["liveVersion"], &got["description"]), (&json!("1"), &json!("d")));
    plane.ok(&model::DELETE_AGENT_RUNTIME_ENDPOINT, &prod, Value::Null).await;
    plane.until_gone(&prod).await;

    let arn =
        format!("arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/{id}/runtime-endpoint/DEFAULT");
    let tags = format!("/tags/{}", arn.replace(':', "%3A").replace('/', "%2F"));
    plane.ok(&model::TAG_RESOURCE, &tags, json!({ "tags": { "k": "v", "l": "w" } })).await;
    plane.ok(&model::UNTAG_RESOURCE, &format!("{tags}?tagKeys=l&tagKeys=m"), Value::Null).await;
    let listed = plane.ok(&model::LIST_TAGS_FOR_RESOURCE, &tags, Value::Null).await;
    assert_eq!(listed, json!({ "tags": { "k": "v" } }));

    let deleted =
        plane.ok(&model::DELETE_AGENT_RUNTIME, &format!("/runtimes/{id}/?version=1"), Value::Null).await;
    assert_eq!(deleted["agentRuntimeVersion"], "1");
    plane
        .send("GET", &format!("/runtimes/{id}/?version=1"), "")
        .await
        .is_error(&model::GET_AGENT_RUNTIME, "ResourceNotFoundException");
    plane.ok(&model::DELETE_AGENT_RUNTIME, &format!("/runtimes/{id}/"), Value::Null).await;
    plane.until_gone(&format!("/runtimes/{id}/")).await;
}

#[tokio::test]
async fn bad_requests_are_refused_by_the_members_name() {
    let plane = Plane::start().await;
    let create = &model::CREATE_AGENT_RUNTIME;
    let refuse = async |extra: Value| {
        let body = plane.create_body("coder", extra).to_string();
        let answer = plane.send("PUT", "/runtimes/", body).await;
        answer.is_error(create, "ValidationException");
        let names = answer.body["fieldList"].as_array().unwrap().iter();
        let names: Vec<String> = names.map(|f| f["name"].as_str().unwrap().to_owned()).collect();
        (answer.body["reason"].as_str().unwrap().to_owned(), names)
    };
    let failed = |names: &[&str]| {
        ("FieldValidationFailed".to_owned(), names.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let mount = |extra: Value| json!({ "filesystemConfigurations": [extra] });
    assert_eq!(
        refuse(mount(json!({ "sessionStorage": { "mountPath": "/mnt/a", "sizeInGiB": 1 } }))).await,
        failed(&["filesystemConfigurations[0].sessionStorage.sizeInGiB"])
    );
    assert_eq!(
        refuse(mount(json!({ "sessionStorage": { "mountPath": "/data" } }))).await,
        failed(&["filesystemConfigurations[0].sessionStorage.mountPath"])
    );
    assert_eq!(
        refuse(json!({ "agentRuntimeName": "a b", "roleArn": "x", "clientToken": "short" })).await,
        failed(&["agentRuntimeName", "roleArn", "clientToken"])
    );
    assert_eq!(
        refuse(json!({ "networkConfiguration": {
            "networkMode": "VPC",
            "networkModeConfig": { "securityGroups": ["sg-01234567"], "subnets": ["subnet-01234567"] },
        } }))
        .await,
        failed(&["networkConfiguration.networkMode", "networkConfiguration.networkModeConfig"])
    );
    let image = "123456789012.dkr.ecr.us-west-2.amazonaws.com/agent:latest";
    let container =
        json!({ "agentRuntimeArtifact": { "containerConfiguration": { "containerUri": image } } });
    assert_eq!(
        refuse(container).await,
        failed(&["agentRuntimeArtifact.containerConfiguration.containerUri"])
    );
    let (reason, names) = refuse(json!({ "environmentVariables": [] })).await;
    assert_eq!((reason.as_str(), names), ("CannotParse", vec!["environmentVariables".to_owned()]));

    for body in ["{", "[]", "\u{0}"] {
        let answer = plane.send("PUT", "/runtimes/", body).await;
        answer.is_error(create, "ValidationException");
        assert_eq!(answer.body["reason"], "CannotParse");
    }
    let answer = plane.send("PUT", "/runtimes/", vec![b' '; 2 * 1024 * 1024]).await;
    answer.is_error(create, "ValidationException");
    plane
        .send("GET", "/runtimes/nonsense/", "")
        .await
        .is_error(&model::GET_AGENT_RUNTIME, "ValidationException");
    for query in ["maxResults=0", "maxResults=101", "maxResults=x", "nextToken=%20", "nextToken=bogus"] {
        let answer = plane.send("POST", &format!("/runtimes/?{query}"), "").await;
        answer.is_error(&model::LIST_AGENT_RUNTIMES, "ValidationException");
    }
    assert_eq!(plane.emulator.registry.runtime_count(), 0);
}

#[tokio::test]
async fn a_deletion_that_a_crash_cut_short_is_finished_at_the_next_start() {
    let plane = Plane::start().await;
    let doomed: agentcore::model::RuntimeId = plane.ready("doomed", json!({})).await.parse().unwrap();
    let kept: agentcore::model::RuntimeId = plane.ready("kept", json!({})).await.parse().unwrap();
    plane
        .ok(
            &model::CREATE_AGENT_RUNTIME_ENDPOINT,
            &format!("/runtimes/{kept}/runtime-endpoints/"),
            json!({ "name": "prod" }),
        )
        .await;
    plane.until_ready(&format!("/runtimes/{kept}/runtime-endpoints/prod/")).await;
    // Marked, and then nobody goes on.
    let prod = "prod".parse().unwrap();
    plane.emulator.registry.begin_delete_runtime(&doomed, None).await.unwrap();
    plane.emulator.registry.begin_delete_endpoint(&kept, &prod, None).await.unwrap();
    let config = plane.emulator.config.clone();
    let again =
        Emulator::open(config, Engines::only(Arc::new(NoEngine)), Arc::new(Clock::system())).await.unwrap();
    for _ in 0..500 {
        if again.registry.runtime(&doomed).is_err() && again.registry.endpoint(&kept, &prod).is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(again.registry.runtime_count(), 1);
    assert_eq!(again.registry.runtime(&kept).unwrap().endpoints.len(), 1);
}

/// The table is botocore's. Where a Python with the botocore it was made from is at hand (`python3`, or the one that
/// `AGENTCORE_TEST_PYTHON` names), it must still be.
#[test]
#[allow(clippy::disallowed_methods, reason = "tests have no cli/env.rs")]
fn the_committed_table_is_what_botocore_gives() {
    let python = std::env::var("AGENTCORE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let version = "import botocore; print(botocore.__version__)";
    let found = std::process::Command::new(&python).args(["-c", version]).output();
    if !found.is_ok_and(|found| String::from_utf8_lossy(&found.stdout).trim() == model::BOTOCORE_VERSION) {
        eprintln!("skipped: `{python}` has no botocore {}", model::BOTOCORE_VERSION);
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/generate_service_model.py");
    let check = std::process::Command::new(&python).arg(script).arg("--check").output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success(), "{said}");
}
