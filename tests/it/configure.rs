//! `configure`: the project file by flags, by answers in a pseudo-terminal, and as the toolkit sees it.

use std::fs;

use serde_json::{Value, json};

use crate::cli::Place;
use crate::pty::Terminal;

const FILE: &str = ".bedrock_agentcore.yaml";

fn text(place: &Place) -> String {
    fs::read_to_string(place.path().join(FILE)).unwrap()
}

fn agent(place: &Place) -> Value {
    let run = place.run(&["configure", "show", "--output", "json"]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    serde_json::from_str(&run.stdout).unwrap()
}

/// A place with a Python agent in a directory whose name says something.
fn python_project() -> Place {
    let place = Place::new();
    place.write("main.py", "");
    place.write("requirements.txt", "");
    place
}

#[test]
fn flags_alone_write_a_file_without_credentials_or_questions() {
    let place = python_project();
    let run = place.run(&["configure", "--non-interactive", "--name", "writer"]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(run.stdout.starts_with("wrote agent `writer` to `"), "{}", run.stdout);
    assert!(run.stderr.contains("dependencies: `requirements.txt`"), "{}", run.stderr);
    assert_eq!(
        text(&place),
        "default_agent: writer\nagents:\n  writer:\n    name: writer\n    language: python\n    \
         entrypoint: main.py\n    deployment_type: direct_code_deploy\n    runtime_type: PYTHON_3_13\n    \
         platform: linux/arm64\n    source_path: .\n    aws:\n      execution_role: null\n      \
         execution_role_auto_create: true\n      account: null\n      region: null\n      s3_path: null\n      \
         s3_auto_create: true\n      network_configuration:\n        network_mode: PUBLIC\n      \
         protocol_configuration:\n        server_protocol: HTTP\n      observability:\n        enabled: true\n"
    );
    let shown = agent(&place);
    assert_eq!(shown["memory"], "NO_MEMORY");
    assert_eq!(shown["roleArn"], "auto");
    assert_eq!(shown["filesystemConfigurations"], Value::Null);
}

#[test]
fn every_setting_has_its_flag_and_its_place() {
    let place = python_project();
    let args = [
        "configure",
        "--non-interactive",
        "--name",
        "w",
        "--entrypoint",
        "main.py",
        "--runtime",
        "3.12",
        "--region",
        "eu-west-1",
        "--account",
        "123456789012",
        "--execution-role",
        "agent-role",
        "--s3",
        "s3://b/c",
        "--container-runtime",
        "podman",
        "--protocol",
        "mcp",
        "--vpc",
        "--subnets",
        "subnet-12345678,subnet-87654321",
        "--security-groups",
        "sg-12345678",
        "--idle-timeout",
        "20m",
        "--max-lifetime",
        "2h",
        "--session-storage",
        "/mnt/work",
        "--env",
        "A=b=c",
        "--env",
        "N=012",
        "--tag",
        "team=x",
        "--model",
        "amazon.nova-lite-v1:0",
        "--request-header-allowlist",
        "X-One,X-Two",
        "--authorizer-config",
        r#"{"customJWTAuthorizer": {"discoveryUrl": "https://x/.well-known/openid-configuration"}}"#,
        "--disable-otel",
        "--disable-memory",
    ];
    let run = place.run(&args);
    assert_eq!(run.status, 0, "{}", run.stderr);
    let shown = agent(&place);
    let expected = json!({
        "agentRuntimeName": "w", "runtime": "PYTHON_3_12", "region": "eu-west-1", "account": "123456789012",
        "roleArn": "arn:aws:iam::123456789012:role/agent-role", "s3Path": "s3://b/c", "observability": false,
        "protocolConfiguration": { "serverProtocol": "MCP" },
        "networkConfiguration": { "networkMode": "VPC", "networkModeConfig": {
            "securityGroups": ["sg-12345678"], "subnets": ["subnet-12345678", "subnet-87654321"] } },
        "lifecycleConfiguration": { "idleRuntimeSessionTimeout": 1200, "maxLifetime": 7200 },
        "filesystemConfigurations": [{ "sessionStorage": { "mountPath": "/mnt/work" } }],
        "environmentVariables": { "A": "b=c", "N": "012" }, "tags": { "team": "x" },
        "models": ["amazon.nova-lite-v1:0"], "requestHeaderAllowlist": ["X-One", "X-Two"],
        "authorizerConfiguration": {
            "customJWTAuthorizer": { "discoveryUrl": "https://x/.well-known/openid-configuration" } },
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&shown[key], value, "{key}");
    }
}

#[test]
fn a_second_time_changes_what_is_asked_and_nothing_else() {
    let place = python_project();
    place.run(&[
        "configure",
        "--non-interactive",
        "--name",
        "w",
        "--execution-role",
        "arn:aws:iam::123456789012:role/r",
    ]);
    // By hand: a comment, a key of somebody else, what a deployment left.
    let before = text(&place)
        .replace("    aws:\n", "    x-owner: me # ours\n    # where it runs\n    aws:\n")
        + "    bedrock_agentcore:\n      agent_id: w-AbCdEf0123\n      agent_session_id: s\n";
    place.write(FILE, &before);
    let run = place.run(&["configure", "--idle-timeout", "600"]);
    assert_eq!((run.status, run.stderr.contains("agent `w` of")), (0, true), "{}", run.stderr);
    let limits = "      lifecycle_configuration:\n        idle_runtime_session_timeout: 600\n";
    assert_eq!(
        text(&place),
        before.replace("        enabled: true\n", &format!("        enabled: true\n{limits}"))
    );
    let run = place.run(&["configure", "--idle-timeout", "10m"]);
    assert!(run.stdout.starts_with("nothing changed"), "{}", run.stdout);
    // A look at what would come writes nothing.
    let before = text(&place);
    let run = place.run(&["configure", "--session-storage", "none", "--env", "A=b", "--dry-run"]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(run.stdout.contains("filesystem_configurations: []\n"), "{}", run.stdout);
    assert_eq!(text(&place), before);
    // The kind of a runtime that is there stays.
    let run = place.run(&["configure", "--deployment-type", "container"]);
    assert_eq!(run.status, 2, "{}", run.stderr);
    assert!(
        run.stderr.contains("is deployed as `direct_code_deploy`") && run.stderr.contains("destroy it first")
    );
    assert_eq!(text(&place), before);
}

#[test]
fn a_second_agent_a_default_and_the_list() {
    let place = python_project();
    place.write("node/server.js", "");
    place.write("node/package.json", "{}");
    place.run(&["configure", "--non-interactive", "--name", "one"]);
    let run = place.run(&["configure", "--non-interactive", "--name", "two", "--entrypoint", "node"]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    let list: Value =
        serde_json::from_str(&place.run(&["configure", "list", "--output", "json"]).stdout).unwrap();
    assert_eq!((&list[0]["agentRuntimeName"], &list[0]["default"]), (&json!("one"), &json!(false)));
    assert_eq!((&list[1]["agentRuntimeName"], &list[1]["default"]), (&json!("two"), &json!(true)));
    assert_eq!(list[1]["command"], json!(["node", "server.js"]));
    assert_eq!(
        (&list[1]["deploymentType"], &list[1]["sourcePath"]),
        (&json!("direct_code_deploy"), &json!("node"))
    );
    let run = place.run(&["configure", "set-default", "one"]);
    assert_eq!((run.status, run.stdout.as_str()), (0, "`one` is the default agent\n"), "{}", run.stderr);
    assert!(text(&place).starts_with("default_agent: one\n"));
    assert!(place.run(&["configure", "set-default", "one"]).stdout.contains("already"));
    let run = place.run(&["configure", "set-default", "three"]);
    assert_eq!(run.status, 3);
    assert!(
        run.stderr.contains("no agent `three`") && run.stderr.contains("hint: name one"),
        "{}",
        run.stderr
    );
    let run = place.run(&["configure", "list"]);
    assert!(
        run.stdout.lines().next().unwrap().starts_with("AGENT") && run.stdout.lines().count() == 3,
        "{}",
        run.stdout
    );
    // An agent is named by `--agent` from any directory below.
    let mut below = place.command();
    let output = below
        .current_dir(place.path().join("node"))
        .args(["configure", "--agent", "two", "--env", "A=1"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text(&place).contains("    environment_variables:\n      A: '1'\n"), "{}", text(&place));
}

#[test]
fn what_cannot_be_is_said_with_the_way_out() {
    let place = Place::new();
    let fails = |args: &[&str], status: i32, words: &[&str]| {
        let run = place.run(&[&["configure"], args].concat());
        assert_eq!((run.status, run.stdout.as_str()), (status, ""), "{args:?}: {}", run.stderr);
        for word in words {
            assert!(run.stderr.contains(word), "{args:?}: {}", run.stderr);
        }
    };
    fails(&["list"], 3, &["no `.bedrock_agentcore.yaml`", "agentcore configure"]);
    fails(&[], 2, &["has no entry file", "--entrypoint FILE"]);
    fails(&["--entrypoint", "gone.py"], 2, &["`gone.py` does not exist"]);
    fails(&["--entrypoint", "/etc/passwd"], 2, &["is outside of"]);
    fails(&["--agent", "x"], 2, &["no agent `x` yet", "--name x"]);
    place.write("app.py", "");
    place.write("main.py", "");
    fails(&["--non-interactive"], 2, &["several entry files: `app.py`, `main.py`"]);
    fails(
        &["--entrypoint", "app.py", "--ecr", "auto", "--name", "a"],
        2,
        &["`--ecr` is for agents", "container"],
    );
    fails(
        &["--entrypoint", "app.py", "--name", "a", "--execution-role", "r"],
        2,
        &["the account of the role `r`"],
    );
    fails(&["--name", "my-agent"], 2, &["begin with a letter"]);
    fails(&["--idle-timeout", "9h"], 2, &["1m to 8h"]);
    fails(&["--session-storage", "/data"], 2, &["/mnt/"]);
    fails(&["--vpc"], 2, &["--subnets"]);
    fails(&["--request-header-allowlist", "X-*"], 2, &["`X-*` cannot name a header"]);
    assert!(!place.path().join(FILE).exists(), "a failure wrote a file");
    fails(
        &["--entrypoint", "app.py", "--name", "a", "--idle-timeout", "2h", "--max-lifetime", "1h"],
        3,
        &["less than or equal"],
    );
    place.run(&["configure", "--non-interactive", "--entrypoint", "app.py", "--name", "a"]);
    fails(&[], 2, &["nothing is to be changed"]);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 3, "something was left behind");
}

#[test]
fn a_project_of_the_npm_tool_is_taken_over() {
    let place = Place::new();
    place.write("agentcore/agentcore.json", r#"{"name": "Shop", "version": 1, "runtimes": [{"name": "Writer",
        "build": "CodeZip", "entrypoint": "main.py", "codeLocation": "app/Writer/", "runtimeVersion": "PYTHON_3_14",
        "filesystemConfigurations": [{"sessionStorage": {"mountPath": "/mnt/work"}}],
        "envVars": [{"name": "LOG", "value": "1"}]}], "memories": [{"name": "m"}]}"#);
    place.write("app/Writer/main.py", "");
    let run = place.run(&["configure", "--from", "agentcore"]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("warning: not taken over, as nothing here uses it: `memories`"),
        "{}",
        run.stderr
    );
    let shown = agent(&place);
    assert_eq!((&shown["agentRuntimeName"], &shown["sourcePath"]), (&json!("Writer"), &json!("app/Writer")));
    assert_eq!(shown["filesystemConfigurations"][0]["sessionStorage"]["mountPath"], "/mnt/work");
    let run = place.run(&["configure", "--from", "agentcore/agentcore.json"]);
    assert_eq!(run.status, 3);
    assert!(run.stderr.contains("has an agent `Writer` already"), "{}", run.stderr);
}

const ENTER: &str = "\r";
const DOWN: &str = "\x1b[B";

#[test]
fn questions_in_the_toolkits_order_with_defaults_that_work() {
    let place = python_project();
    let mut terminal = Terminal::bare(place.path(), &["configure", "--color", "never"]);
    terminal.answer("Entry file or directory [main.py]:", ENTER);
    // A wrong answer is told at once and asked for again.
    terminal.answer("Name of the agent", "my-agent\r");
    terminal.expect("must begin with a letter");
    terminal.answer("Name of the agent", "coder\r");
    terminal.expect("dependencies: `requirements.txt`");
    terminal.answer("Deploy as", ENTER);
    terminal.answer("Python", &format!("{DOWN}{ENTER}"));
    terminal.answer("AWS region [us-west-2]:", "eu-central-1\r");
    terminal.answer("Execution role", "arn:aws:iam::1:user/x\r");
    terminal.expect("this ARN is none of a role");
    terminal.answer("Execution role", ENTER);
    terminal.answer("S3 location", ENTER);
    terminal.answer("OAuth for callers, instead of IAM?", "n");
    terminal.answer("Pass request headers on to the agent?", "y");
    terminal.answer("Names of the headers", "X-Custom\r");
    terminal.answer("Session storage", "/data\r");
    terminal.expect("must be `/mnt/`");
    terminal.answer("Session storage", ENTER);
    terminal.expect("wrote agent `coder`");
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    let shown = agent(&place);
    let expected = json!({
        "agentRuntimeName": "coder", "deploymentType": "direct_code_deploy", "runtime": "PYTHON_3_12",
        "region": "eu-central-1", "roleArn": "auto", "s3Path": "auto", "requestHeaderAllowlist": ["X-Custom"],
        "filesystemConfigurations": [{ "sessionStorage": { "mountPath": "/mnt/workspace" } }],
        "authorizerConfiguration": null,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&shown[key], value, "{key}\n{screen}");
    }

    // Again, with Enter all the way: nothing changes.
    let before = text(&place);
    let mut terminal = Terminal::bare(place.path(), &["configure", "--color", "never"]);
    terminal.answer("Entry file or directory [main.py]:", ENTER);
    terminal.answer("Deploy as", ENTER);
    terminal.answer("Python", ENTER);
    terminal.answer("AWS region [eu-central-1]:", ENTER);
    terminal.answer("Execution role", ENTER);
    terminal.answer("S3 location", ENTER);
    terminal.answer("OAuth for callers", ENTER);
    terminal.answer("Pass request headers", ENTER);
    terminal.answer("Names of the headers, with commas between them [X-Custom]:", ENTER);
    terminal.answer("[/mnt/workspace]:", ENTER);
    terminal.expect("nothing changed");
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    assert_eq!(text(&place), before);
}

#[test]
fn oauth_is_asked_for_and_a_flag_asks_nothing() {
    let place = python_project();
    let mut terminal = Terminal::bare(
        place.path(),
        &["configure", "--color", "never", "--name", "w", "--deployment-type", "container"],
    );
    terminal.answer("Entry file", ENTER);
    terminal.answer("AWS region", ENTER);
    terminal.answer("Execution role", ENTER);
    terminal.answer("ECR repository", "w-images\r");
    terminal.answer("OAuth for callers", "y");
    terminal.answer("Discovery URL", "http://x\r");
    terminal.expect("expected an https URL");
    terminal.answer("Discovery URL", "https://x/.well-known/openid-configuration\r");
    terminal.answer("Allowed clients", ENTER);
    terminal.answer("Allowed audiences", ENTER);
    terminal.answer("Allowed scopes", ENTER);
    terminal.expect("one of clients, audiences and scopes is needed");
    terminal.answer("Allowed scopes", "a,b\r");
    terminal.answer("Pass request headers", "n");
    terminal.answer("Session storage", "none\r");
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    let shown = agent(&place);
    assert_eq!(
        shown["authorizerConfiguration"]["customJWTAuthorizer"]["allowedScopes"],
        json!(["a", "b"]),
        "{screen}"
    );
    assert_eq!(shown["ecrRepository"], "w-images");
    assert_eq!(shown["filesystemConfigurations"], json!([]));
    let terminal = Terminal::bare(place.path(), &["configure", "--color", "never", "--idle-timeout", "5m"]);
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("changed agent `w`") && !screen.contains("Entry file"), "{screen}");
}

#[test]
fn ctrl_c_leaves_no_file_and_a_sane_terminal() {
    for question in ["Entry file", "Deploy as"] {
        let place = python_project();
        let mut terminal = Terminal::bare(place.path(), &["configure", "--color", "never", "--name", "w"]);
        if question == "Deploy as" {
            terminal.answer("Entry file", ENTER);
        }
        terminal.answer(question, "\x03");
        let (code, screen) = terminal.end();
        assert_eq!(code, 130, "{screen}");
        assert!(screen.contains("nothing was written"), "{screen}");
        assert!(!place.path().join(FILE).exists());
    }
}
