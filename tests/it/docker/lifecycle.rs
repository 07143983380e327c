//! Container sessions through the emulator: deployed with the SDK, called, stopped, resumed, killed, deleted.

use std::path::Path;
use std::time::Duration;

use aws_sdk_bedrockagentcore::primitives::Blob;
use aws_sdk_bedrockagentcorecontrol as control;
use bollard::models::{ContainerCreateBody, VolumeCreateRequest};
use control::error::ProvideErrorMetadata as _;
use control::types::{
    AgentRuntimeArtifact, AgentRuntimeStatus, ContainerConfiguration, FilesystemConfiguration,
    NetworkConfiguration, NetworkMode, SessionStorageConfiguration,
};
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::lab::{Home, Lab, NATIVE, agent_image, agent_lines, lab, lab_at, label_of};
use crate::sdk::{Clients, clients, command, invoke, session};
use crate::support::{self, BIN, Emulator, succeed};

const ROLE: &str = "arn:aws:iam::123456789012:role/agent";
const SOON: Duration = Duration::from_secs(60);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The image of the lab's agent, for user 1000, under the name of a repository of ECR's.
async fn lab_agent(lab: &Lab, name: &str) -> String {
    lab.named(&agent_image(lab, "lab", "1000").await, name).await
}

fn artifact(image: &str) -> AgentRuntimeArtifact {
    let container = ContainerConfiguration::builder().container_uri(image).build().unwrap();
    AgentRuntimeArtifact::ContainerConfiguration(container)
}

fn public() -> NetworkConfiguration {
    NetworkConfiguration::builder().network_mode(NetworkMode::Public).build().unwrap()
}

fn storage() -> FilesystemConfiguration {
    let mount = SessionStorageConfiguration::builder().mount_path("/mnt/workspace").build().unwrap();
    FilesystemConfiguration::SessionStorage(mount)
}

async fn deploy(clients: &Clients, name: &str, image: &str) -> String {
    let made = clients
        .control
        .create_agent_runtime()
        .agent_runtime_name(name)
        .agent_runtime_artifact(artifact(image))
        .role_arn(ROLE)
        .network_configuration(public())
        .filesystem_configurations(storage())
        .send()
        .await
        .unwrap();
    let id = made.agent_runtime_id();
    loop {
        let now = clients.control.get_agent_runtime().agent_runtime_id(id).send().await.unwrap();
        if *now.status() == AgentRuntimeStatus::Ready {
            return made.agent_runtime_arn().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn stop(clients: &Clients, arn: &str, session: &str) {
    let stop = clients.data.stop_runtime_session().agent_runtime_arn(arn).runtime_session_id(session);
    stop.send().await.unwrap();
}

/// Adds to the file.
fn write(text: &str) -> Value {
    json!({ "do": "write", "path": "/mnt/workspace/f", "text": text })
}

fn read() -> Value {
    json!({ "do": "read", "path": "/mnt/workspace/f" })
}

/// Plays a scenario with an emulator of its own home, on images for this machine.
fn play<F: Future<Output = ()>>(name: &str, scenario: impl FnOnce(Lab, Home, Emulator) -> F) {
    runtime().block_on(async {
        let Some(lab) = lab(&format!("docker::lifecycle::{name}")).await else { return };
        let home = Home::new();
        let emulator = start(home.path());
        scenario(lab, home, emulator).await;
    });
}

fn start(home: &Path) -> Emulator {
    Emulator::start_in_with(home, &["--platform", "native", "--grace", "2s"])
}

#[test]
fn an_image_is_deployed_called_stopped_and_resumed() {
    play("an_image_is_deployed_called_stopped_and_resumed", async |lab, home, emulator| {
        let clients = clients(emulator.endpoint());
        let image = lab_agent(&lab, "coder").await;
        let arn = deploy(&clients, "coder", &image).await;
        let session = session("container");
        let before = invoke(&clients, &arn, &session, write("of a container")).await;
        let said = command(&clients, &arn, &session, "id -u; pwd; cat /mnt/workspace/f", None).await;
        assert_eq!((said.0.as_str(), said.2), ("0\n/app\nof a container", 0), "{said:?}");
        let shown = emulator.run(home.path(), &["local", "session", "ls", "--output", "json"]);
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(shown[0]["engine"], "docker", "{shown}");
        stop(&clients, &arn, &session).await;
        let label = label_of(home.path());
        assert_eq!(lab.labelled(&label).await.0, [] as [String; 0], "containers of a stopped session");
        let after = invoke(&clients, &arn, &session, read()).await;
        assert_eq!(after["text"], "of a container", "{after}");
        assert!(before["boot"] != after["boot"], "the same process: {before} {after}");

        // The same session id of another runtime has a volume of its own.
        let other = deploy(&clients, "other", &image).await;
        let empty = command(&clients, &other, &session, "ls -A /mnt/workspace", None).await;
        assert_eq!((empty.0.as_str(), empty.2), ("", 0));
        assert_eq!(lab.labelled(&label).await.1.len(), 2);

        // A new version starts with empty storage; the old one is set aside, and pruned when it is asked for.
        let id = arn.rsplit_once('/').unwrap().1;
        let update = clients.control.update_agent_runtime().agent_runtime_id(id);
        let update = update.agent_runtime_artifact(artifact(&image)).role_arn(ROLE);
        let update = update.network_configuration(public()).filesystem_configurations(storage());
        update.send().await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop(&clients, &arn, &session).await;
        let fresh = command(&clients, &arn, &session, "ls -A /mnt/workspace", None).await;
        assert_eq!((fresh.0.as_str(), fresh.2), ("", 0));
        assert_eq!(lab.labelled(&label).await.1.len(), 3);
        let pruned = emulator.run(home.path(), &["local", "session", "prune", "--output", "json"]);
        let pruned: Value = serde_json::from_slice(&pruned.stdout).unwrap();
        assert_eq!((&pruned["storages"], &pruned["bytes"]), (&json!(1), &json!(14)), "{pruned}");
        assert_eq!(lab.labelled(&label).await.1.len(), 2);

        // A runtime takes its volumes with it.
        let delete = clients.control.delete_agent_runtime().agent_runtime_id(id);
        delete.send().await.unwrap();
        for _ in 0..600 {
            if lab.labelled(&label).await.1.len() == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("volumes of a deleted runtime are left: {:?}", lab.labelled(&label).await);
    });
}

#[test]
fn an_image_of_another_architecture_is_refused_before_a_session_starts() {
    runtime().block_on(async {
        let test = "docker::lifecycle::an_image_of_another_architecture_is_refused_before_a_session_starts";
        let Some(lab) = lab(test).await else { return };
        let home = Home::new();
        let flags: &[&str] = if NATIVE == "arm64" { return } else { &[] };
        let emulator = Emulator::start_in_with(home.path(), flags);
        let clients = clients(emulator.endpoint());
        let image = lab_agent(&lab, "wrong").await;
        let refused = clients
            .control
            .create_agent_runtime()
            .agent_runtime_name("wrong")
            .agent_runtime_artifact(artifact(&image))
            .role_arn(ROLE)
            .network_configuration(public())
            .send()
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Some("ValidationException"), "{refused:?}");
        let said = refused.message().unwrap();
        let expected =
            format!("Architecture incompatible for uri '{image}'. Supported architectures: [arm64]");
        assert!(said.contains(&expected), "{said}");
        // One that is not there yet may be built later; until then its sessions say what to do.
        let missing = "123456789012.dkr.ecr.us-west-2.amazonaws.com/none:1";
        let arn = deploy(&clients, "missing", missing).await;
        let call =
            clients.data.invoke_agent_runtime().agent_runtime_arn(arn).runtime_session_id(session("x"));
        let error = call.payload(Blob::new("{}")).send().await.unwrap_err();
        let error = error.into_service_error();
        assert!(error.is_runtime_client_error(), "{error:?}");
        let said = error.to_string();
        let said = error.message().unwrap_or(&said);
        for part in [missing, "docker buildx build --platform linux/arm64", "docker tag", "docker pull"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    });
}

#[test]
fn an_image_for_arm64_runs_as_it_is() {
    runtime().block_on(async {
        let test = "docker::lifecycle::an_image_for_arm64_runs_as_it_is";
        let Some(lab) = lab(test).await else { return };
        let lines = agent_lines("lab", "1000");
        let Some(image) = lab.arm64_image(&lines.each_ref().map(String::as_str)).await else {
            return support::skip(test, "no `AGENTCORE_LAB_REGISTRY` with images for arm64");
        };
        let home = Home::new();
        // The service's architecture is the usual one.
        let emulator = Emulator::start_in_with(home.path(), &["--grace", "2s"]);
        let clients = clients(emulator.endpoint());
        let arn = deploy(&clients, "arm", &lab.named(&image, "arm").await).await;
        let session = session("arm64");
        let before = invoke(&clients, &arn, &session, write("of arm64")).await;
        let said = command(&clients, &arn, &session, "uname -m; id -u; cat /mnt/workspace/f", None).await;
        assert_eq!((said.0.as_str(), said.2), ("aarch64\n0\nof arm64", 0), "{said:?}");
        stop(&clients, &arn, &session).await;
        let after = invoke(&clients, &arn, &session, read()).await;
        assert_eq!(after["text"], "of arm64", "{after}");
        assert!(before["boot"] != after["boot"], "the same process: {before} {after}");
    });
}

#[test]
fn an_emulator_that_is_killed_leaves_no_container_and_loses_no_file() {
    play("an_emulator_that_is_killed", async |lab, home, mut emulator| {
        let rounds = support::count(2, 20);
        let image = lab_agent(&lab, "coder").await;
        let arn = deploy(&clients(emulator.endpoint()), "coder", &image).await;
        let (session, label) = (session("killed"), label_of(home.path()));
        for round in 0..rounds {
            let clients = clients(emulator.endpoint());
            let text = format!("round {round}");
            invoke(&clients, &arn, &session, write(&text)).await;
            assert_eq!(lab.labelled(&label).await.0.len(), 1);
            // Once while it runs, and once while another one is being made.
            let starting = tokio::spawn({
                let (clients, arn) = (crate::sdk::clients(emulator.endpoint()), arn.clone());
                async move {
                    let id = crate::sdk::session("second");
                    let call =
                        clients.data.invoke_agent_runtime().agent_runtime_arn(arn).runtime_session_id(id);
                    let _ = call.payload(Blob::new("{}")).send().await;
                }
            });
            tokio::time::sleep(Duration::from_millis(u64::try_from(round).unwrap() * 97 % 700)).await;
            emulator.crash();
            starting.abort();
            drop(emulator);
            emulator = start(home.path());
            let clients = crate::sdk::clients(emulator.endpoint());
            let found = invoke(&clients, &arn, &session, read()).await;
            assert!(found["text"].as_str().unwrap().ends_with(&text), "{found}");
            // The second one's container, recorded or not, is gone too.
            let mut left = Vec::new();
            for _ in 0..600 {
                left = lab.labelled(&label).await.0;
                if left.len() == 1 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert_eq!(left.len(), 1, "containers are left");
        }
    });
}

/// A daemon that was asked for something by an emulator that has died makes it all the same, after the next emulator has
/// looked what there is.
#[test]
fn what_a_daemon_makes_late_for_a_dead_emulator_is_removed() {
    play("what_a_daemon_makes_late_for_a_dead_emulator_is_removed", async |lab, home, emulator| {
        let image = lab_agent(&lab, "coder").await;
        let arn = deploy(&clients(emulator.endpoint()), "coder", &image).await;
        let session = session("late");
        invoke(&clients(emulator.endpoint()), &arn, &session, write("kept")).await;
        let label = label_of(home.path());
        let (containers, volumes) = lab.labelled(&label).await;
        let about = lab.client.inspect_container(&containers[0], None).await.unwrap();
        let container = ContainerCreateBody {
            image: about.image,
            entrypoint: Some(vec!["/none".to_owned()]),
            labels: about.config.unwrap().labels,
            ..ContainerCreateBody::default()
        };
        let mut labels = lab.client.inspect_volume(&volumes[0]).await.unwrap().labels;
        let name = format!("{}-late", volumes[0]);
        labels.insert("agentcore.session".to_owned(), crate::sdk::session("never-recorded"));
        drop(emulator);
        let emulator = start(home.path());
        let found = invoke(&clients(emulator.endpoint()), &arn, &session, read()).await;
        assert_eq!(found["text"], "kept", "{found}");
        // Its first look is over by now: a call waits for it where something was left.
        let made = lab.client.create_container(None, container).await.unwrap().id;
        let request =
            VolumeCreateRequest { name: Some(name.clone()), labels: Some(labels), ..Default::default() };
        lab.client.create_volume(request).await.unwrap();
        crate::engine::until("what came late is removed", async || {
            let (containers, volumes) = lab.labelled(&label).await;
            !containers.contains(&made) && !volumes.contains(&name)
        })
        .await;
        let (containers, volumes) = lab.labelled(&label).await;
        assert_eq!((containers.len(), volumes.len()), (1, 1), "{containers:?} {volumes:?}");
    });
}

#[test]
fn down_with_volumes_removes_all_of_ours_and_nothing_else() {
    play("down_with_volumes_removes_all_of_ours_and_nothing_else", async |lab, home, emulator| {
        // What another home has, and a volume of nobody.
        let neighbour = Home::new();
        let theirs = start(neighbour.path());
        let image = lab_agent(&lab, "coder").await;
        for (emulator, name) in [(&emulator, "coder"), (&theirs, "coder")] {
            let clients = clients(emulator.endpoint());
            let arn = deploy(&clients, name, &image).await;
            invoke(&clients, &arn, &session("down"), write("x")).await;
        }
        let foreign = bollard::models::VolumeCreateRequest {
            name: Some(format!("agentcore-test-foreign-{}", uuid::Uuid::new_v4().simple())),
            ..Default::default()
        };
        let foreign = lab.client.create_volume(foreign).await.unwrap().name;
        let (own, other) = (label_of(home.path()), label_of(neighbour.path()));
        assert_eq!(lab.labelled(&own).await.1.len(), 1);
        let said = succeed(emulator.command().args(["local", "down", "--volumes", "--output", "json"]));
        let said: Value = serde_json::from_slice(&said.stdout).unwrap();
        assert_eq!(said["deleted"]["sessions"], 1, "{said}");
        assert_eq!(lab.labelled(&own).await, (vec![], vec![]));
        assert_eq!(lab.labelled(&other).await.1.len(), 1);
        assert!(lab.client.inspect_volume(&foreign).await.is_ok());
        lab.client
            .remove_volume(&foreign, None::<bollard::query_parameters::RemoveVolumeOptions>)
            .await
            .unwrap();
        // Sessions are forgotten, runtimes are not.
        drop(emulator);
        let again = start(home.path());
        let list = again.run(home.path(), &["local", "session", "ls", "--output", "json"]);
        assert_eq!(serde_json::from_slice::<Value>(&list.stdout).unwrap(), json!([]));
        let runtimes = clients(again.endpoint()).control.list_agent_runtimes().send().await.unwrap();
        assert_eq!(runtimes.agent_runtimes().len(), 1);
    });
}

/// A daemon for one test alone, and the lab at it; nothing where there is no lab.
async fn own_daemon(test: &str) -> Option<(Daemon, Lab)> {
    lab(test).await?;
    let mut daemon = Daemon::for_test(test)?;
    daemon.start();
    let lab = lab_at(&daemon.host()).await.unwrap();
    Some((daemon, lab))
}

#[test]
fn a_daemon_that_dies_loses_nothing() {
    runtime().block_on(async {
        let test = "docker::lifecycle::a_daemon_that_dies_loses_nothing";
        let Some((mut daemon, lab)) = own_daemon(test).await else { return };
        let home = support::short_temp_dir();
        let environment = [("DOCKER_HOST", daemon.host())];
        let environment: Vec<(&str, &str)> = environment.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let flags = ["--platform", "native", "--grace", "2s"];
        let emulator = Emulator::start_in_as(home.path(), &flags, &environment);
        let clients = clients(emulator.endpoint());
        let image = lab_agent(&lab, "coder").await;
        let arn = deploy(&clients, "coder", &image).await;
        let session = session("daemon");
        let text = "before death".to_owned();
        invoke(&clients, &arn, &session, write(&text)).await;
        daemon.end(nix::sys::signal::Signal::SIGKILL);
        // Its containers go on, and so does the line into them.
        let text = "without a daemon".to_owned();
        invoke(&clients, &arn, &session, write(&text)).await;
        daemon.start();
        // It goes on with what it finds, or ends it: then a call may be cut, and a later one starts the session anew.
        let begun = std::time::Instant::now();
        loop {
            let call =
                clients.data.invoke_agent_runtime().agent_runtime_arn(&arn).runtime_session_id(&session);
            if let Ok(answer) = call.payload(Blob::new(read().to_string())).send().await {
                let found = answer.response.collect().await.unwrap().to_vec();
                let found: Value = serde_json::from_slice(&found).unwrap();
                assert!(found["text"].as_str().unwrap().ends_with(&text), "{found}");
                break;
            }
            assert!(begun.elapsed() < 2 * SOON, "the session is not to be had");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        stop(&clients, &arn, &session).await;
        let found = invoke(&clients, &arn, &session, read()).await;
        assert!(found["text"].as_str().unwrap().ends_with(&text), "{found}");
        stop(&clients, &arn, &session).await;
        let label = label_of(home.path());
        assert_eq!(lab.labelled(&label).await.0, [] as [String; 0]);
        succeed(emulator.command().env("DOCKER_HOST", daemon.host()).args(["local", "down", "--volumes"]));
        assert_eq!(lab.labelled(&label).await, (vec![], vec![]));
    });
}

#[test]
fn a_session_that_cannot_be_ended_for_want_of_a_daemon_says_so_and_goes_on_later() {
    runtime().block_on(async {
        let test = "docker::lifecycle::a_session_that_cannot_be_ended_for_want_of_a_daemon";
        let Some((mut daemon, lab)) = own_daemon(test).await else { return };
        let home = support::short_temp_dir();
        let host = daemon.host();
        let environment = [("DOCKER_HOST", host.as_str())];
        let flags = ["--platform", "native", "--grace", "2s"];
        let mut emulator = Emulator::start_in_as(home.path(), &flags, &environment);
        let image = lab_agent(&lab, "coder").await;
        let (arn, session) = (deploy(&clients(emulator.endpoint()), "coder", &image).await, session("left"));
        invoke(&clients(emulator.endpoint()), &arn, &session, write("kept")).await;
        daemon.end(nix::sys::signal::Signal::SIGKILL);
        emulator.crash();
        drop(emulator);
        let emulator = Emulator::start_in_as(home.path(), &flags, &environment);
        let clients = clients(emulator.endpoint());
        let call = || {
            let call = clients.data.invoke_agent_runtime().agent_runtime_arn(&arn);
            call.runtime_session_id(&session).payload(Blob::new(read().to_string())).send()
        };
        let begun = std::time::Instant::now();
        let error = call().await.unwrap_err().into_service_error();
        let said = error.to_string();
        let said = error.message().unwrap_or(&said);
        assert!(said.contains("cannot be ended") && said.contains("docker daemon"), "{error:?}");
        assert!(begun.elapsed() < SOON / 2, "{:?}", begun.elapsed());
        daemon.start();
        let answer = call().await.unwrap().response.collect().await.unwrap().to_vec();
        let found: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(found["text"], "kept", "{found}");
        succeed(emulator.command().env("DOCKER_HOST", &host).args(["local", "down", "--volumes"]));
    });
}

#[test]
fn without_a_daemon_code_runs_and_an_image_says_what_is_missing() {
    runtime().block_on(async {
        let home = support::short_temp_dir();
        let environment = [("DOCKER_HOST", "unix:///nowhere/docker.sock")];
        let emulator = Emulator::start_in_as(home.path(), &[], &environment);
        let clients = clients(emulator.endpoint());
        let arn = deploy(&clients, "coder", "123456789012.dkr.ecr.us-west-2.amazonaws.com/coder:1").await;
        let call =
            clients.data.invoke_agent_runtime().agent_runtime_arn(&arn).runtime_session_id(session("x"));
        let error = call.payload(Blob::new("{}")).send().await.unwrap_err();
        let error = error.into_service_error();
        assert!(error.is_runtime_client_error(), "{error:?}");
        let said = error.message().unwrap();
        assert!(
            said.contains("there is no docker daemon") && said.contains("/nowhere/docker.sock"),
            "{said}"
        );
        // Nothing of it keeps a runtime or the emulator.
        let id = arn.rsplit_once('/').unwrap().1;
        clients.control.delete_agent_runtime().agent_runtime_id(id).send().await.unwrap();
        let mut command = support::clean(BIN);
        command.env("AGENTCORE_HOME", home.path()).env("DOCKER_HOST", "unix:///nowhere/docker.sock");
        let refused = command.args(["local", "down"]).output().unwrap();
        assert!(refused.status.success());
        let mut command = support::clean(BIN);
        command.env("AGENTCORE_HOME", home.path()).env("DOCKER_HOST", "unix:///nowhere/docker.sock");
        let refused = command.args(["local", "up", "--engine", "docker"]).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(5), "{said}");
        assert!(said.contains("error: ") && said.contains("hint: install Docker"), "{said}");
    });
}
