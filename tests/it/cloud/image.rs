//! An agent that is an image, from a folder to the cloud and away: built and pushed by the lab's engine to the registry
//! that answers as ECR, run from there by the emulator's containers.

#![allow(clippy::disallowed_methods, reason = "finds the lab by the environment")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::proxy::Fault;
use super::world::{Project, World};
use crate::support::{self, clean, succeed};

/// The engine, the registry of base images, and the one that answers as ECR.
struct Lab {
    registry: String,
    ecr: String,
    directory: String,
    agent: String,
}

impl Lab {
    fn new(test: &str) -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (Some(registry), Some(ecr), Some(directory)) =
            (variable("AGENTCORE_LAB_REGISTRY"), variable("AGENTCORE_LAB_ECR"), variable("AGENTCORE_LAB"))
        else {
            support::skip(
                &format!("cloud::image::{test}"),
                "no lab with a stand-in for ECR; run `tests/lab/lab up` and `eval \"$(tests/lab/lab env)\"`",
            );
            return None;
        };
        let agent = format!("img_{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        Some(Self { registry, ecr, directory, agent })
    }

    fn account(&self) -> &str {
        self.ecr.split('.').next().unwrap()
    }

    fn world(&self, test: &str) -> Option<World> {
        World::of(&format!("cloud::image::{test}"), self.account(), &["--grace", "2s"])
    }

    /// The folder that a user begins with: a program and its Dockerfile.
    fn folder(&self, base: &str) -> Project {
        let folder = Project::empty();
        let dockerfile = format!(
            "FROM {}/{base}\nWORKDIR /app\nENV HOME=/tmp\nCOPY . .\nUSER 1000\nEXPOSE 8080\nCMD [\"python3\", \"main.py\"]\n",
            self.registry
        );
        fs::write(folder.path().join("Dockerfile"), dockerfile).unwrap();
        folder
    }

    /// The manifest of a pushed image, as the registry has it.
    fn manifest(&self, repository: &str, tag: &str) -> String {
        let types =
            "application/vnd.docker.distribution.manifest.v2+json,application/vnd.oci.image.manifest.v1+json";
        let output = succeed(
            Command::new("curl")
                .args(["-sSf", "--noproxy", "*", "-H", &format!("Accept: {types}")])
                .args(["--cacert", &format!("{}/tls/ca.crt", self.directory)])
                .args(["--user", &format!("AWS:{}-auth-token", self.account())])
                .arg(format!("https://{}/v2/{repository}/manifests/{tag}", self.ecr)),
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Tells moto of an image that the registry has got: in AWS the two are one service.
    fn announce(&self, world: &World, uri: &str) {
        let (repository, tag) = uri.split_once('/').unwrap().1.split_once(':').unwrap();
        let manifest = self.manifest(repository, tag);
        world.aws(&[
            "ecr",
            "put-image",
            "--repository-name",
            repository,
            "--image-tag",
            tag,
            "--image-manifest",
            &manifest,
        ]);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let reference = |name: &str| {
            ["images", "--quiet", "--filter"]
                .map(str::to_owned)
                .into_iter()
                .chain([format!("reference={name}")])
        };
        for name in [
            format!("agentcore/{}", self.agent.replace('_', "-")),
            format!("*/*/{}", self.agent),
            format!("bedrock_agentcore-{}", self.agent.replace('_', "-")),
        ] {
            let Ok(output) = Command::new("docker").args(reference(&name)).output() else { continue };
            for id in String::from_utf8_lossy(&output.stdout).split_whitespace() {
                let _ = Command::new("docker").args(["image", "rm", "--force", id]).output();
            }
        }
    }
}

fn docker(args: &[&str]) -> String {
    String::from_utf8(succeed(clean("docker").args(args)).stdout).unwrap()
}

/// Containers and volumes of the emulator's sessions.
fn left(home: &Path) -> String {
    let label =
        format!("label=agentcore.home={}", fs::read_to_string(home.join("docker-id")).unwrap().trim());
    docker(&["ps", "--all", "--quiet", "--filter", &label])
        + &docker(&["volume", "ls", "--quiet", "--filter", &label])
}

fn actions(plan: &Value) -> Vec<(&str, &str)> {
    let steps = plan["steps"].as_array().unwrap().iter();
    steps.map(|s| (s["resource"].as_str().unwrap(), s["action"].as_str().unwrap())).collect()
}

fn image_of(plan: &Value) -> String {
    let steps = plan["steps"].as_array().unwrap();
    steps.iter().find(|s| s["resource"] == "image").unwrap()["name"].as_str().unwrap().to_owned()
}

#[test]
fn an_image_goes_to_the_cloud_changes_and_goes_away() {
    const TEST: &str = "an_image_goes_to_the_cloud_changes_and_goes_away";
    let Some(lab) = Lab::new(TEST) else { return };
    let Some(world) = lab.world(TEST) else { return };
    let project = lab.folder("python");
    let agent = lab.agent.as_str();
    let run = |args: &[&str]| {
        let done = world.run(&project, args);
        assert_eq!(done.code, 0, "{args:?}\n{}\n{}", done.stdout, done.stderr);
        done
    };

    run(&[
        "configure",
        "--non-interactive",
        "--name",
        agent,
        "--entrypoint",
        "main.py",
        "--deployment-type",
        "container",
        "--session-storage",
        "/mnt/workspace",
    ]);
    let built = world.json_lines(&project, &["build"]);
    assert_eq!(built.last().unwrap()["image"]["platform"], "linux/arm64", "{built:#?}");

    // What must not be in an image stops a deployment before anything is made.
    fs::write(project.path().join(".env.local"), "KEY=1").unwrap();
    let refused = world.run(&project, &["deploy", "--yes"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("`.env.local` would go into the image"), "{refused:?}");
    fs::remove_file(project.path().join(".env.local")).unwrap();

    let plan = world.json(&project, &["deploy", "--dry-run"]);
    assert_eq!(
        actions(&plan),
        ["role", "rolePolicy", "repository", "lifecyclePolicy", "image", "runtime"].map(|r| (r, "create")),
        "{plan:#}"
    );
    let first = world.json(&project, &["deploy", "--yes"]);
    assert_eq!((&first["agentRuntimeVersion"], &first["changed"]), (&json!("1"), &json!(true)), "{first:#}");
    let id = first["agentRuntimeId"].as_str().unwrap();
    let uri = image_of(&first["plan"]);
    let runtime = world.runtime(id);
    assert_eq!(runtime["agentRuntimeArtifact"]["containerConfiguration"]["containerUri"], uri, "{runtime:#}");
    // It is in the registry, and ECR has been told what to do with it.
    lab.announce(&world, &uri);
    let repository = uri.split_once('/').unwrap().1.split_once(':').unwrap().0;
    let there = world.aws(&["ecr", "describe-repositories", "--repository-names", repository]);
    let there: Value = serde_json::from_str(&there).unwrap();
    assert_eq!(there["repositories"][0]["imageScanningConfiguration"]["scanOnPush"], true, "{there:#}");
    let rule = world.aws(&["ecr", "get-lifecycle-policy", "--repository-name", repository]);
    assert!(rule.contains("untagged"), "{rule}");

    // Called, a command run beside it, stopped and resumed with its files.
    let session = ["--session", "ticket-1"];
    let answer = run(&["invoke", "--session", "ticket-1", "remember the milk"]);
    assert!(answer.stdout.contains("remember the milk"), "{answer:?}");
    let said =
        run(&["exec", "--session", "ticket-1", "--", "sh", "-c", "uname -m; cat /mnt/workspace/notes.txt"]);
    assert_eq!(said.stdout, "aarch64\nremember the milk\n", "{said:?}");
    run(&[&["stop"], &session[..]].concat());
    let resumed = run(&["invoke", "--session", "ticket-1", "and the bread"]);
    assert!(resumed.stdout.contains("remember the milk"), "{resumed:?}");

    // Unchanged: neither built nor pushed nor a new version.
    let done = world.run(&project, &["deploy", "--yes", "--output", "json"]);
    assert!(done.code == 0 && !done.stderr.contains("building the image"), "{done:?}");
    let again: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&again["agentRuntimeVersion"], &again["changed"]), (&json!("1"), &json!(false)), "{again:#}");
    assert!(actions(&again["plan"]).iter().all(|(_, action)| *action == "keep"), "{again:#}");
    // The same as a ready image.
    let ready = world.json(&project, &["deploy", "--dry-run", "--image", &uri]);
    assert!(actions(&ready).iter().all(|(_, action)| *action == "keep"), "{ready:#}");
    let absent = world.run(&project, &["deploy", "--dry-run", "--image", &format!("{uri}0")]);
    assert!(absent.code == 1 && absent.stderr.contains("there is no image"), "{absent:?}");

    // Changed: the storage that goes is told of, and it goes.
    fs::write(project.path().join("more.py"), "pass\n").unwrap();
    let plan = world.json(&project, &["deploy", "--dry-run"]);
    assert_eq!(plan["reset"]["endpoints"], json!(["DEFAULT"]), "{plan:#}");
    assert!(plan["reset"]["sessions"].to_string().contains("ticket-1"), "{plan:#}");
    let second = world.json(&project, &["deploy", "--yes"]);
    assert_eq!(
        (&second["agentRuntimeVersion"], &second["changed"]),
        (&json!("2"), &json!(true)),
        "{second:#}"
    );
    assert_ne!(image_of(&second["plan"]), uri);
    // What runs goes on with what it is; its next compute is of the new version.
    run(&[&["stop"], &session[..]].concat());
    let fresh = run(&["invoke", "--session", "ticket-1", "and the eggs"]);
    assert!(fresh.stdout.contains("and the eggs") && !fresh.stdout.contains("milk"), "{fresh:?}");

    world.json(&project, &["destroy", "--yes"]);
    let rest = world.json(&project, &["destroy", "--dry-run"]);
    assert_eq!(rest["steps"], json!([]), "{rest:#}");
    assert!(!world.aws(&["ecr", "describe-repositories"]).contains(repository));
    assert!(!world.aws(&["iam", "list-roles"]).contains("AgentCore-"));
    assert_eq!(world.planes(&["list-agent-runtimes"])["agentRuntimes"], json!([]));
    support::eventually(std::time::Duration::from_secs(30), "no container and no volume", || {
        left(world.home()).is_empty().then_some(())
    });
}

/// Calls of ECR in a deployment that has to make everything, in their order.
const CALLS: [&str; 4] =
    ["DescribeRepositories", "CreateRepository", "PutLifecyclePolicy", "GetAuthorizationToken"];

/// The fault table's rows that code packages do not have: each call of ECR.
#[test]
fn a_deployment_of_an_image_that_fails_anywhere_is_gone_on_with() {
    const TEST: &str = "a_deployment_of_an_image_that_fails_anywhere_is_gone_on_with";
    let Some(lab) = Lab::new(TEST) else { return };
    let Some(world) = lab.world(TEST) else { return };
    let project = lab.folder("busybox");
    let file = format!("name: {}\nentrypoint: main.py\ndeployment_type: container\n", lab.agent);
    fs::write(project.path().join(".bedrock_agentcore.yaml"), file).unwrap();
    let ways = [Fault::LostAnswer, Fault::Denied, Fault::Killed, Fault::Throttled, Fault::Unanswered];
    let all = (0..CALLS.len()).flat_map(|call| ways.map(|fault| (call, fault)));
    // An answer of CreateRepository that is lost and a login that is denied are those that could go wrong most.
    let few = [(1, Fault::LostAnswer), (3, Fault::Denied)];
    let tried: Vec<(usize, Fault)> = if support::count(0, 1) == 0 { few.to_vec() } else { all.collect() };
    for (call, fault) in tried {
        world.faults.only("AmazonEC2ContainerRegistry");
        let (first, hit) = world.struck(&project, "deploy", call, fault);
        let hit = hit.unwrap_or_default();
        let said = format!("{call} {fault:?}: {hit}\n{}", String::from_utf8_lossy(&first.stderr));
        println!("{said}");
        world.faults.only("");
        assert!(hit.ends_with(CALLS[call]), "{said}");
        if matches!(fault, Fault::Throttled | Fault::Unanswered) {
            assert!(first.status.success(), "{said}");
        }
        let second = world.json(&project, &["deploy", "--yes"]);
        assert_eq!(second["agentRuntimeVersion"], "1", "{said}\n{second:#}");
        lab.announce(&world, &image_of(&second["plan"]));
        let plan = world.json(&project, &["deploy", "--dry-run"]);
        assert!(actions(&plan).iter().all(|(_, action)| *action == "keep"), "{said}\n{plan:#}");
        world.json(&project, &["destroy", "--yes"]);
    }
}
