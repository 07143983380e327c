//! Deploying on real parts: IAM, STS, S3, ECR and Logs by moto, both AgentCore planes by the emulator, and between
//! them and the program a proxy that makes one call fail.

mod defects;
mod faults;
mod image;
mod logs;
mod packages;
mod proxy;
mod toolkit;
mod world;

use serde_json::{Value, json};

use crate::support;
use world::{ACCOUNT, World};

#[test]
fn an_agent_goes_to_the_cloud_changes_and_goes_away() {
    let Some(world) = World::new("cloud::an_agent_goes_to_the_cloud_changes_and_goes_away") else { return };
    let project = world.project(
        "coder",
        json!({ "filesystem_configurations": [
        { "session_storage": { "mount_path": "/mnt/workspace" } }
    ] }),
    );

    // A plan changes nothing, needs no terminal and is data.
    let plan = world.json(&project, &["deploy", "--dry-run"]);
    assert_eq!((plan["account"].as_str(), plan["region"].as_str()), (Some(ACCOUNT), Some("us-west-2")));
    let actions: Vec<&str> =
        plan["steps"].as_array().unwrap().iter().map(|s| s["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["create"; 5], "{plan:#}");
    assert_eq!(world.json(&project, &["deploy", "--dry-run"]), plan);
    let refused = world.run(&project, &["deploy"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("hint: give `--yes`"), "{refused:?}");

    let first = world.json(&project, &["deploy", "--yes"]);
    assert_eq!((&first["agentRuntimeVersion"], &first["changed"]), (&json!("1"), &json!(true)));
    let file = project.text();
    assert!(file.contains("# kept") && file.contains(first["agentRuntimeId"].as_str().unwrap()), "{file}");

    // The code that runs came through the bucket.
    let answer = world.run(&project, &["invoke", "--session", "ticket-1", "remember the milk"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.stdout.contains("remember the milk"), "{answer:?}");

    let again = world.json(&project, &["deploy", "--yes"]);
    assert_eq!((&again["agentRuntimeVersion"], &again["changed"]), (&json!("1"), &json!(false)), "{again:#}");

    // What is set elsewhere stays; what the file says comes on top; storage that goes is told of before.
    let id = first["agentRuntimeId"].as_str().unwrap();
    project.edit("environment_variables: {LOG_LEVEL: debug}");
    let plan = world.json(&project, &["deploy", "--dry-run"]);
    assert_eq!(plan["reset"]["endpoints"], json!(["DEFAULT"]), "{plan:#}");
    assert!(plan["reset"]["sessions"].to_string().contains("ticket-1"), "{plan:#}");
    let second = world.json(&project, &["deploy", "--yes"]);
    assert_eq!(second["agentRuntimeVersion"], "2", "{second:#}");
    let now = world.runtime(id);
    assert_eq!(now["environmentVariables"], json!({ "LOG_LEVEL": "debug" }));
    assert_eq!(now["filesystemConfigurations"][0]["sessionStorage"]["mountPath"], "/mnt/workspace");
    // A key that another tool erases is kept in the service and can be had back.
    project.erase("environment_variables");
    let plan = world.json(&project, &["deploy", "--dry-run"]);
    assert!(plan["warnings"].to_string().contains("environment_variables"), "{plan:#}");
    assert!(plan["steps"].as_array().unwrap().iter().all(|s| s["action"] == "keep"), "{plan:#}");
    let restored = world.json(&project, &["deploy", "--yes", "--restore"]);
    assert_eq!(restored["changed"], false);
    assert!(project.text().contains("LOG_LEVEL"), "{}", project.text());

    let gone = world.json(&project, &["destroy", "--yes"]);
    assert!(gone["deleted"].as_u64().unwrap() >= 4, "{gone:#}");
    let left = world.json(&project, &["destroy", "--dry-run"]);
    assert_eq!(left["steps"], json!([]), "{left:#}");
    assert!(!project.text().contains(id), "{}", project.text());
}

#[test]
fn lifecycle_and_headers_reach_the_service_of_code_agents() {
    let Some(world) = World::new("cloud::lifecycle_and_headers_reach_the_service_of_code_agents") else {
        return;
    };
    let project = world.project("timed", json!({
        "aws": { "lifecycle_configuration": { "idle_runtime_session_timeout": 120, "max_lifetime": 3600 } },
        "request_header_configuration": { "requestHeaderAllowlist": ["X-Amzn-Bedrock-AgentCore-Runtime-Custom-A"] },
        "tags": { "team": "a" },
        "endpoints": { "prod": { "description": "for customers" } },
    }));
    let made = world.json(&project, &["deploy", "--yes"]);
    let now = world.runtime(made["agentRuntimeId"].as_str().unwrap());
    let lifecycle = json!({ "idleRuntimeSessionTimeout": 120, "maxLifetime": 3600 });
    assert_eq!(now["lifecycleConfiguration"], lifecycle, "{now:#}");
    assert!(now["requestHeaderConfiguration"].to_string().contains("Custom-A"), "{now:#}");
    let unchanged = world.json(&project, &["deploy", "--yes"]);
    assert_eq!(unchanged["changed"], false, "{unchanged:#}");
    world.json(&project, &["destroy", "--yes"]);
}

#[test]
fn what_others_made_stays_when_an_agent_is_destroyed() {
    let Some(world) = World::new("cloud::what_others_made_stays_when_an_agent_is_destroyed") else { return };
    world.aws(&[
        "s3api",
        "create-bucket",
        "--bucket",
        "team-bucket",
        "--create-bucket-configuration",
        "LocationConstraint=us-west-2",
    ]);
    let trust = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow",
        "Principal": { "Service": "bedrock-agentcore.amazonaws.com" }, "Action": "sts:AssumeRole" }] });
    world.aws(&[
        "iam",
        "create-role",
        "--role-name",
        "team-role",
        "--assume-role-policy-document",
        &trust.to_string(),
    ]);
    let role = format!("arn:aws:iam::{ACCOUNT}:role/team-role");
    let project = world
        .project("guest", json!({ "aws": { "execution_role": role, "s3_path": "s3://team-bucket/agents" } }));
    world.json(&project, &["deploy", "--yes"]);
    let gone = world.json(&project, &["destroy", "--yes"]);
    let kept: Vec<&Value> =
        gone["plan"]["steps"].as_array().unwrap().iter().filter(|s| s["action"] == "keep").collect();
    let kept: Vec<&str> = kept.iter().map(|s| s["resource"].as_str().unwrap()).collect();
    assert_eq!(kept, ["role", "bucket"], "{gone:#}");
    world.aws(&["iam", "get-role", "--role-name", "team-role"]);
    world.aws(&["s3api", "head-bucket", "--bucket", "team-bucket"]);
    let keys = world.aws(&["s3api", "list-objects-v2", "--bucket", "team-bucket"]);
    assert!(!keys.contains("Key"), "{keys}");
}

#[test]
fn errors_come_before_anything_is_changed_and_say_what_to_do() {
    let Some(world) = World::new("cloud::errors_come_before_anything_is_changed_and_say_what_to_do") else {
        return;
    };
    let project = world.project("lost", json!({ "aws": { "account": "999999999999" } }));
    let wrong = world.run(&project, &["deploy", "--yes"]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.stderr.contains("`999999999999`") && wrong.stderr.contains(ACCOUNT), "{wrong:?}");
    let project = world.project("lost", json!({}));
    let nobody = world.run_with(
        &project,
        &["deploy", "--yes"],
        &[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("AWS_EC2_METADATA_DISABLED", "true")],
    );
    assert_eq!(nobody.code, 4, "{nobody:?}");
    assert!(nobody.stderr.contains("hint: set AWS_PROFILE"), "{nobody:?}");
    let nowhere = world.run_with(
        &project,
        &["deploy", "--yes"],
        &[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", ""), ("AWS_EC2_METADATA_DISABLED", "true")],
    );
    assert_eq!(nowhere.code, 4, "{nowhere:?}");
    assert!(nowhere.stderr.contains("hint: name one with `--region`"), "{nowhere:?}");
    support::eventually(std::time::Duration::from_secs(1), "nothing was made", || {
        (!world.aws(&["iam", "list-roles"]).contains("AgentCore-")).then_some(())
    });
}
