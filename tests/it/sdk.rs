//! `aws-sdk-bedrockagentcore` and the CLI, which is built on it, against the emulator.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_bedrockagentcore as data;
use aws_sdk_bedrockagentcorecontrol as control;
use aws_smithy_types::retry::RetryConfig;
use data::primitives::Blob;
use data::types::{CommandExecutionStatus, InvokeAgentRuntimeCommandRequestBody};
use serde_json::{Value, json};

use crate::support::{self, Emulator, Project};

const PLACEHOLDER: &str = "test";

/// How long the agent of [`an_agent_silent_for_90_s_in_mid_stream`] says nothing. The SDK's own
/// protection would end such a stream after a few seconds.
const SILENCE: Duration = Duration::from_secs(90);

pub(crate) struct Clients {
    pub(crate) data: data::Client,
    pub(crate) control: control::Client,
}

/// Clients as a user writes them, but for the plain connector: the endpoint is not TLS.
pub(crate) fn clients(endpoint: &str) -> Clients {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let credentials =
        aws_credential_types::Credentials::new(PLACEHOLDER, PLACEHOLDER, None, None, "agentcore-tests");
    let data = data::Config::builder()
        .region(data::config::Region::new("us-west-2"))
        .endpoint_url(endpoint)
        .credentials_provider(credentials.clone())
        .http_client(http.clone())
        .stalled_stream_protection(data::config::StalledStreamProtectionConfig::disabled())
        .build();
    let control = control::Config::builder()
        .region(control::config::Region::new("us-west-2"))
        .endpoint_url(endpoint)
        .credentials_provider(credentials)
        .http_client(http)
        .build();
    Clients { data: data::Client::from_conf(data), control: control::Client::from_conf(control) }
}

/// Deploys an agent of `tests/agents` and gives its ARN.
async fn deploy(emulator: &Emulator, clients: &Clients, agent: &str, keys: Value) -> String {
    let project = Project::new(agent, agent, keys);
    emulator.run(project.path(), &["local", "deploy"]);
    let found = clients.control.list_agent_runtimes().send().await.unwrap();
    let runtime = found.agent_runtimes().iter().find(|r| r.agent_runtime_name() == agent).unwrap();
    runtime.agent_runtime_arn().to_owned()
}

pub(crate) fn session(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4())
}

pub(crate) async fn invoke(clients: &Clients, arn: &str, session: &str, payload: Value) -> Value {
    let answer = clients
        .data
        .invoke_agent_runtime()
        .agent_runtime_arn(arn)
        .runtime_session_id(session)
        .payload(Blob::new(payload.to_string()))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.runtime_session_id(), Some(session));
    serde_json::from_slice(&answer.response.collect().await.unwrap().to_vec()).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn invoke_stream_command_stop() {
    let emulator = Emulator::start(&[]);
    runtime().block_on(async {
        let clients = clients(emulator.endpoint());
        let storage = json!([{ "session_storage": { "mount_path": "/mnt/workspace" } }]);
        let arn = deploy(&emulator, &clients, "lab", json!({ "filesystem_configurations": storage })).await;
        let session = session("rust-sdk");

        let write = json!({ "do": "write", "path": "/mnt/workspace/f", "text": "from Rust" });
        let before = invoke(&clients, &arn, &session, write).await;

        let mut answer = clients
            .data
            .invoke_agent_runtime()
            .agent_runtime_arn(&arn)
            .runtime_session_id(&session)
            .payload(Blob::new(r#"{"do": "sse", "count": 3, "gate": "/tmp/gate"}"#))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.content_type(), "text/event-stream");
        let mut pieces = Vec::new();
        while let Some(piece) = answer.response.next().await {
            pieces.push(String::from_utf8(piece.unwrap().to_vec()).unwrap());
            // The next is sent only now.
            let gate = format!("/tmp/gate{}", pieces.len());
            invoke(&clients, &arn, &session, json!({ "do": "write", "path": gate, "text": "" })).await;
        }
        assert_eq!(
            pieces,
            ["data: {\"number\": 0}\n\n", "data: {\"number\": 1}\n\n", "data: {\"number\": 2}\n\n"]
        );

        let seen =
            command(&clients, &arn, &session, "cat /mnt/workspace/f; echo oops >&2; exit 5", None).await;
        assert_eq!(seen, ("from Rust".into(), "oops\n".into(), 5, CommandExecutionStatus::Completed));
        let late = command(&clients, &arn, &session, "echo begun; sleep 30", Some(1)).await;
        assert_eq!(late, ("begun\n".into(), String::new(), -1, CommandExecutionStatus::TimedOut));

        let stopped = clients
            .data
            .stop_runtime_session()
            .agent_runtime_arn(&arn)
            .runtime_session_id(&session)
            .send()
            .await
            .unwrap();
        assert_eq!(stopped.runtime_session_id(), Some(session.as_str()));
        let read = json!({ "do": "read", "path": "/mnt/workspace/f" });
        let after = invoke(&clients, &arn, &session, read).await;
        assert_eq!(after["text"], "from Rust");
        assert_ne!(after["boot"], before["boot"]);

        let unknown = clients
            .data
            .stop_runtime_session()
            .agent_runtime_arn(&arn)
            .runtime_session_id(self::session("nobody"))
            .send()
            .await
            .unwrap_err();
        assert!(unknown.into_service_error().is_resource_not_found_exception());
    });
}

pub(crate) async fn command(
    clients: &Clients,
    arn: &str,
    session: &str,
    text: &str,
    timeout: Option<i32>,
) -> (String, String, i32, CommandExecutionStatus) {
    let body =
        InvokeAgentRuntimeCommandRequestBody::builder().command(text).set_timeout(timeout).build().unwrap();
    let mut answer = clients
        .data
        .invoke_agent_runtime_command()
        .agent_runtime_arn(arn)
        .runtime_session_id(session)
        .body(body)
        .send()
        .await
        .unwrap();
    let (mut stdout, mut stderr, mut stop, mut starts) = (String::new(), String::new(), None, 0);
    while let Some(event) = answer.stream.recv().await.unwrap() {
        assert!(stop.is_none(), "contentStop is the last event");
        let chunk = event.as_chunk().unwrap();
        starts += usize::from(chunk.content_start().is_some());
        if let Some(delta) = chunk.content_delta() {
            assert_eq!(starts, 1, "contentStart is the first event");
            stdout.push_str(delta.stdout().unwrap_or_default());
            stderr.push_str(delta.stderr().unwrap_or_default());
        }
        stop = chunk.content_stop().map(|s| (s.exit_code(), s.status().clone()));
    }
    let (code, status) = stop.unwrap();
    (stdout, stderr, code, status)
}

/// The CLI runs beside the SDK: its one client constructor must not let the SDK's defaults end a quiet stream.
#[test]
fn an_agent_silent_for_90_s_in_mid_stream() {
    let emulator = Emulator::start(&[]);
    let payload =
        json!({ "do": "sse", "count": 3, "silent_after": 1, "silence": SILENCE.as_secs() }).to_string();
    let project = Project::new("lab", "lab", json!({}));
    emulator.run(project.path(), &["local", "deploy"]);
    let mut cli = emulator.command();
    cli.current_dir(project.path()).args(["local", "invoke", "--raw", "--session", "quiet", &payload]);
    let cli = cli.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    runtime().block_on(async {
        let clients = clients(emulator.endpoint());
        let found = clients.control.list_agent_runtimes().send().await.unwrap();
        let arn = found.agent_runtimes()[0].agent_runtime_arn().to_owned();
        let begin = Instant::now();
        let answer = clients
            .data
            .invoke_agent_runtime()
            .agent_runtime_arn(arn)
            .runtime_session_id(session("quiet"))
            .payload(Blob::new(payload))
            .send()
            .await
            .unwrap();
        let bytes = answer.response.collect().await.unwrap().to_vec();
        assert_eq!(String::from_utf8(bytes).unwrap().matches("data: ").count(), 3);
        assert!(begin.elapsed() >= SILENCE, "{:?}", begin.elapsed());
    });
    let output = cli.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("data: ").count(), 3, "{stderr}");
}

/// Repeating a call that the agent failed would repeat what it had done before it failed.
#[test]
fn what_an_agent_sent_before_it_died_arrives() {
    let emulator = Emulator::start(&[]);
    runtime().block_on(async {
        let clients = clients(emulator.endpoint());
        let arn = &deploy(&emulator, &clients, "lab", json!({})).await;
        let call =
            clients.data.invoke_agent_runtime().agent_runtime_arn(arn).runtime_session_id(session("dies"));
        let payload = Blob::new(r#"{"do": "sse", "count": 5, "gap": 0.4, "dies_after": 3}"#);
        let mut answer = call.payload(payload).send().await.unwrap();
        let mut events = answer.response.next().await.unwrap().unwrap().to_vec();
        // The emulator finds the rest and the end of it in one look.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(emulator.pid()).unwrap());
        let signal = |signal| nix::sys::signal::kill(pid, signal).unwrap();
        signal(nix::sys::signal::Signal::SIGSTOP);
        tokio::time::sleep(Duration::from_secs(2)).await;
        signal(nix::sys::signal::Signal::SIGCONT);
        let end = loop {
            match answer.response.next().await {
                Some(Ok(piece)) => events.extend_from_slice(&piece),
                end => break end,
            }
        };
        // Never an end that looks whole.
        assert!(matches!(end, Some(Err(_))));
        let expected: String = (0..3).map(|n| format!("data: {{\"number\": {n}}}\n\n")).collect();
        assert_eq!(String::from_utf8(events).unwrap(), expected);
    });
}

#[test]
fn a_500_after_a_side_effect_happens_once() {
    let emulator = Emulator::start(&[]);
    let project = Project::new("lab", "lab", json!({}));
    emulator.run(project.path(), &["local", "deploy"]);
    let invoke = |payload: Value| {
        let mut command = emulator.command();
        command.current_dir(project.path());
        command.args(["local", "invoke", "--session", "once", &payload.to_string()]).output().unwrap()
    };
    let failed = invoke(json!({ "do": "fail", "status": 500, "key": "cli" }));
    let stderr = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(failed.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("Received error (500) from runtime."), "{stderr}");
    let counted = invoke(json!({ "do": "count", "key": "cli" }));
    let answer: Value = serde_json::from_slice(&counted.stdout).unwrap();
    assert_eq!(answer, json!({ "count": 1 }));

    runtime().block_on(async {
        let mut clients = clients(emulator.endpoint());
        let found = clients.control.list_agent_runtimes().send().await.unwrap();
        let arn = found.agent_runtimes()[0].agent_runtime_arn().to_owned();
        // With every retry the SDK has: a RuntimeClientError is not one that it repeats.
        let eager = clients.data.config().to_builder().retry_config(RetryConfig::standard()).build();
        clients.data = data::Client::from_conf(eager);
        let session = session("once");
        let error = clients
            .data
            .invoke_agent_runtime()
            .agent_runtime_arn(&arn)
            .runtime_session_id(&session)
            .payload(Blob::new(r#"{"do": "fail", "status": 500, "key": "sdk"}"#))
            .send()
            .await
            .unwrap_err();
        assert!(error.into_service_error().is_runtime_client_error());
        let count = self::invoke(&clients, &arn, &session, json!({ "do": "count", "key": "sdk" })).await;
        assert_eq!(count, json!({ "count": 1 }));
    });
}

/// Both sides of the CLI in a root file system that has the program's libraries and nothing else:
/// no certificates, no resolver, no users.
#[test]
fn a_root_file_system_without_ca_certificates() {
    if !nix::unistd::geteuid().is_root() {
        return support::skip("sdk::a_root_file_system_without_ca_certificates", "needs root for chroot");
    }
    let Some(chroot) = support::which("chroot").or_else(|| existing("/usr/sbin/chroot")) else {
        return support::skip("sdk::a_root_file_system_without_ca_certificates", "no `chroot` program");
    };
    // The emulator's state is inside the root, so that its socket is there as well.
    let root = support::short_temp_dir();
    let emulator = Emulator::start_in(&root.path().join("home"));
    // A project that needs no interpreter to be found, because there is none in the root.
    let mount = json!([{ "session_storage": { "mount_path": "/mnt/workspace" } }]);
    let agent = json!({
        "command": [agentcore::engine::TOOL_PATH, "demo-agent"], "filesystem_configurations": mount
    });
    let project = Project::new("lab", "lab", agent);
    emulator.run(project.path(), &["local", "deploy"]);

    copy_into(root.path(), Path::new(support::BIN));
    for library in libraries(support::BIN) {
        copy_into(root.path(), &library);
    }
    let inside = root.path().join("project");
    fs::create_dir(&inside).unwrap();
    for file in ["main.py", ".bedrock_agentcore.yaml"] {
        fs::copy(project.path().join(file), inside.join(file)).unwrap();
    }
    let mut command = Command::new(chroot);
    command.env_clear().env("AGENTCORE_HOME", "/home").arg(root.path()).arg(support::BIN);
    command.args(["--config", "/project/.bedrock_agentcore.yaml", "local", "invoke", "--session", "bare"]);
    let output = support::succeed(command.arg("bare"));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["notes"], json!(["bare"]));
}

fn existing(path: &str) -> Option<std::path::PathBuf> {
    Path::new(path).exists().then(|| path.into())
}

fn copy_into(root: &Path, file: &Path) {
    let target = root.join(file.strip_prefix("/").unwrap());
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    fs::copy(file, &target).unwrap();
}

/// What `ldd` says a program loads; nothing for a static one.
fn libraries(program: &str) -> Vec<std::path::PathBuf> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(std::path::PathBuf::from).collect()
}
