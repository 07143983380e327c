//! The starter toolkit 0.3.14, unmodified, as a judge of the project file: it loads what this program writes, and
//! this program loads, keeps and changes what it writes. And the defects of its `configure`, each shown absent.

#![allow(clippy::disallowed_methods, reason = "puts two stand-ins before the PATH it runs under")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cli::Place;
use crate::support;

const FILE: &str = ".bedrock_agentcore.yaml";

struct Toolkit {
    python: PathBuf,
}

impl Toolkit {
    fn new(test: &str) -> Option<Self> {
        support::toolkit_python(&format!("toolkit::{test}")).map(|python| Self { python })
    }

    fn command(&self, directory: &Path, verb: &str) -> Command {
        let mut command = support::clean(&self.python);
        command
            .current_dir(directory)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("HOME", directory)
            .arg(support::repository().join("tests/python/toolkit_files.py"))
            .arg(verb);
        command
    }

    #[track_caller]
    fn load(&self, directory: &Path) -> Value {
        let output = support::succeed(self.command(directory, "load").arg(FILE));
        let loaded: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (agent, problems) in loaded["problems"].as_object().unwrap() {
            assert_eq!(problems, &json!([]), "{agent}");
        }
        loaded["file"].clone()
    }

    #[track_caller]
    fn rewrite(&self, directory: &Path) {
        support::succeed(self.command(directory, "rewrite").arg(FILE));
    }
}

#[track_caller]
fn configure(place: &Place, args: &[&str]) {
    let run = place.run(&[&["configure"], args].concat());
    assert_eq!(run.status, 0, "{args:?}: {}", run.stderr);
}

fn shown(place: &Place) -> Value {
    let run = place.run(&["configure", "show", "--output", "json"]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    serde_json::from_str(&run.stdout).unwrap()
}

fn text(place: &Place) -> String {
    fs::read_to_string(place.path().join(FILE)).unwrap()
}

#[test]
fn the_toolkit_loads_what_we_write() {
    let Some(toolkit) = Toolkit::new("the_toolkit_loads_what_we_write") else { return };
    for template in ["minimal", "sdk", "node", "strands"] {
        let place = Place::new();
        let run = place.run(&["create", "coder", "--template", template]);
        assert_eq!(run.status, 0, "{}", run.stderr);
        let file = toolkit.load(&place.path().join("coder"));
        assert_eq!(file["default_agent"], "coder", "{template}");
        assert_eq!(file["agents"]["coder"]["deployment_type"], "direct_code_deploy", "{template}");
    }
    let place = Place::new();
    place.write("src/agent.py", "");
    place.write("src/requirements.txt", "");
    configure(
        &place,
        &[
            "--non-interactive",
            "--name",
            "writer",
            "--entrypoint",
            "src/agent.py",
            "--region",
            "eu-west-1",
            "--account",
            "012345678901",
            "--execution-role",
            "agents",
            "--s3",
            "s3://b/c",
            "--protocol",
            "A2A",
            "--vpc",
            "--subnets",
            "subnet-12345678",
            "--security-groups",
            "sg-12345678",
            "--idle-timeout",
            "10m",
            "--max-lifetime",
            "1h",
            "--session-storage",
            "/mnt/work",
            "--env",
            "N=yes",
            "--tag",
            "a=b",
            "--disable-otel",
            "--disable-memory",
            "--request-header-allowlist",
            "X-One",
            "--container-runtime",
            "finch",
            "--authorizer-config",
            r#"{"customJWTAuthorizer": {"allowedClients": ["a"]}}"#,
        ],
    );
    configure(
        &place,
        &[
            "--non-interactive",
            "--name",
            "boxed",
            "--entrypoint",
            "src/agent.py",
            "--deployment-type",
            "container",
            "--ecr",
            "012345678901.dkr.ecr.eu-west-1.amazonaws.com/team/boxed",
        ],
    );
    let file = toolkit.load(place.path());
    let writer = &file["agents"]["writer"];
    for (path, expected) in [
        ("/name", json!("writer")),
        ("/entrypoint", json!("src/agent.py")),
        ("/source_path", json!("src")),
        ("/deployment_type", json!("direct_code_deploy")),
        ("/runtime_type", json!("PYTHON_3_13")),
        ("/container_runtime", json!("finch")),
        ("/aws/account", json!("012345678901")),
        ("/aws/region", json!("eu-west-1")),
        ("/aws/execution_role", json!("arn:aws:iam::012345678901:role/agents")),
        ("/aws/execution_role_auto_create", json!(false)),
        ("/aws/s3_path", json!("s3://b/c")),
        ("/aws/network_configuration/network_mode_config/subnets/0", json!("subnet-12345678")),
        ("/aws/protocol_configuration/server_protocol", json!("A2A")),
        ("/aws/observability/enabled", json!(false)),
        (
            "/aws/lifecycle_configuration",
            json!({ "idle_runtime_session_timeout": 600, "max_lifetime": 3600 }),
        ),
        ("/memory/mode", json!("NO_MEMORY")),
        ("/authorizer_configuration/customJWTAuthorizer/allowedClients", json!(["a"])),
        ("/request_header_configuration/requestHeaderAllowlist", json!(["X-One"])),
    ] {
        assert_eq!(writer.pointer(path), Some(&expected), "{path}");
    }
    assert_eq!(
        file["agents"]["boxed"]["aws"]["ecr_repository"],
        "012345678901.dkr.ecr.eu-west-1.amazonaws.com/team/boxed"
    );
    assert_eq!(file["default_agent"], "boxed");
}

#[test]
fn we_load_keep_and_change_what_the_toolkit_writes() {
    let Some(toolkit) = Toolkit::new("we_load_keep_and_change_what_the_toolkit_writes") else { return };
    for (kind, more) in
        [("container", &["-ecr", "auto"][..]), ("direct_code_deploy", &["-rt", "PYTHON_3_12"])]
    {
        let place = Place::new();
        place.write("src/main.py", "");
        place.write("src/requirements.txt", "");
        // Its check for direct code looks for the two programs and runs neither here.
        for program in ["uv", "zip"] {
            let file = format!("bin/{program}");
            place.write(&file, "#!/bin/sh\nexit 0\n");
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(place.path().join(file), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = std::env::var("PATH").unwrap();
        let mut command = toolkit.command(place.path(), "configure");
        command.env("PATH", format!("{}:{path}", place.path().join("bin").display()));
        command.args([
            "-e",
            "src/main.py",
            "-n",
            "writer",
            "-ni",
            "-dm",
            "-dt",
            kind,
            "--idle-timeout",
            "120",
        ]);
        support::succeed(command.args(more));
        let before = text(&place);
        let agent = shown(&place);
        for (key, expected) in [
            ("agentRuntimeName", json!("writer")),
            ("deploymentType", json!(kind)),
            ("sourcePath", json!("src")),
            ("entryPoint", json!(["main.py"])),
            ("account", json!("123456789012")),
            ("region", json!("us-west-2")),
            ("roleArn", json!("auto")),
        ] {
            assert_eq!(agent[key], expected, "{kind}: {key}\n{before}");
        }
        assert_eq!(agent["lifecycleConfiguration"]["idleRuntimeSessionTimeout"], 120);

        // Our change is one line; the toolkit reads all the rest as it was.
        let theirs = toolkit.load(place.path());
        configure(&place, &["--max-lifetime", "1h", "--session-storage", "/mnt/work"]);
        let lost: Vec<&str> = before.lines().filter(|line| !text(&place).contains(line)).collect();
        assert_eq!(lost, ["        max_lifetime: null"], "{kind}");
        let mut expected = theirs;
        expected["agents"]["writer"]["aws"]["lifecycle_configuration"]["max_lifetime"] = json!(3600);
        assert_eq!(toolkit.load(place.path()), expected, "{kind}");

        // It writes the file and ours is gone; nothing else is, and we still read it.
        toolkit.rewrite(place.path());
        assert_eq!(shown(&place)["filesystemConfigurations"], Value::Null);
        assert_eq!(shown(&place)["lifecycleConfiguration"]["maxLifetime"], 3600);
    }
}

#[test]
fn the_old_form_of_one_agent_is_read_by_both_after_our_changes() {
    let Some(toolkit) = Toolkit::new("the_old_form_of_one_agent_is_read_by_both_after_our_changes") else {
        return;
    };
    let place = Place::new();
    place.write("app.py", "");
    place
        .write(FILE, "# from 2025\nname: old\nentrypoint: app.py:app # handler\naws:\n  region: us-east-1\n");
    configure(&place, &["--account", "123456789012", "--idle-timeout", "5m"]);
    assert!(
        text(&place).starts_with("# from 2025\nname: old\nentrypoint: app.py:app # handler\n"),
        "{}",
        text(&place)
    );
    let file = toolkit.load(place.path());
    assert_eq!(file["agents"]["old"]["aws"]["account"], "123456789012");
    configure(&place, &["--non-interactive", "--name", "new", "--entrypoint", "app.py"]);
    let file = toolkit.load(place.path());
    assert_eq!(file["agents"]["old"]["aws"]["lifecycle_configuration"]["idle_runtime_session_timeout"], 300);
    assert_eq!(file["agents"]["new"]["source_path"], ".");
    assert!(text(&place).contains("    # from 2025\n"), "{}", text(&place));
}

/// Defect 7: the toolkit wants live credentials for commands that touch nothing but a file.
#[test]
fn defect_7_no_command_on_the_file_needs_credentials() {
    let place = Place::new();
    place.write("main.py", "");
    // The program sees no variable, no home and so no profile here.
    configure(&place, &["--non-interactive", "--name", "a"]);
    for args in [
        &["configure", "list"][..],
        &["configure", "list", "--help"],
        &["configure", "show"],
        &["configure", "set-default", "a"],
    ] {
        let run = place.run(args);
        assert_eq!(run.status, 0, "{args:?}: {}", run.stderr);
    }
}

/// Defect 8: the toolkit writes absolute paths, so the file is of no use to another machine or to CI.
#[test]
fn defect_8_the_file_works_where_it_is_moved_to() {
    let place = Place::new();
    place.write("one/agents/writer/main.py", "");
    place.write("one/agents/writer/requirements.txt", "");
    let run = |directory: &str, args: &[&str]| {
        let output = place.command().current_dir(place.path().join(directory)).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    run("one", &["configure", "--non-interactive", "--entrypoint", "agents/writer"]);
    let written = fs::read_to_string(place.path().join("one").join(FILE)).unwrap();
    assert!(!written.contains(place.path().to_str().unwrap()), "{written}");
    fs::rename(place.path().join("one"), place.path().join("two")).unwrap();
    let show = run("two/agents", &["configure", "show", "--output", "json"]);
    let show: Value = serde_json::from_slice(&show).unwrap();
    assert_eq!((&show["sourcePath"], &show["entryPoint"][0]), (&json!("agents/writer"), &json!("main.py")));
    // And a file with the toolkit's absolute paths of a machine that is gone.
    let absolute = written
        .replace("source_path: agents/writer", "source_path: /home/u/proj/agents/writer")
        .replace("entrypoint: agents/writer/main.py", "entrypoint: /home/u/proj/agents/writer/main.py");
    assert_ne!(absolute, written);
    fs::write(place.path().join("two").join(FILE), absolute).unwrap();
    let show: Value =
        serde_json::from_slice(&run("two", &["configure", "show", "--output", "json"])).unwrap();
    assert_eq!((&show["sourcePath"], &show["entryPoint"][0]), (&json!("agents/writer"), &json!("main.py")));
}

/// Defect 11: without a command the toolkit ends with a traceback.
#[test]
fn defect_11_the_bare_command_says_what_there_is() {
    let run = Place::new().run::<&str>(&[]);
    assert_eq!(run.status, 2, "{}", run.stderr);
    assert!(
        run.stdout.contains("configure") || run.stderr.contains("configure"),
        "{}{}",
        run.stdout,
        run.stderr
    );
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

/// Defect 12: the toolkit drops comments and the keys that it does not know. Running `configure` again puts
/// role, repository, identity and the like back to their defaults there.
#[test]
fn defect_12_comments_unknown_keys_and_other_settings_stay() {
    let place = Place::new();
    place.write("main.py", "");
    let before = "# of the team\ndefault_agent: a\nagents:\n  a:\n    name: a # short\n    entrypoint: main.py\n    \
                  x-cost-centre: 42 # not ours\n    aws:\n      execution_role: arn:aws:iam::123456789012:role/r\n      \
                  ecr_repository: null\n    identity:\n      workload: {name: w, arn: arn:w}\n    \
                  aws_jwt: {enabled: true}\n";
    place.write(FILE, before);
    configure(&place, &["--region", "eu-west-1"]);
    configure(&place, &["--env", "A=b"]);
    configure(&place, &["--unset-env", "A"]);
    let after = text(&place);
    let added = ["      region: eu-west-1", "    environment_variables: {}"];
    let rest: Vec<&str> = after.lines().filter(|line| !added.contains(line)).collect();
    assert_eq!(rest, before.lines().collect::<Vec<_>>(), "{after}");
}
