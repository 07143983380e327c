//! Code packages with native modules of another machine, as deployments for the service have them.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use agentcore::aws::{Connection, RuntimeSettings};
use agentcore::model::{Artifact, ArtifactRef};
use serde_json::json;

use super::defects::foreign_module;
use super::world::{ACCOUNT, Project, World};
use crate::support::{self, Emulator};

const AGENT: &str = "\
import json
from http.server import BaseHTTPRequestHandler, HTTPServer

import beans


class Agent(BaseHTTPRequestHandler):
    def answer(self, body):
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        self.answer({'status': 'Healthy'})

    def do_POST(self):
        self.rfile.read(int(self.headers.get('Content-Length') or 0))
        self.answer({'from': beans.SOURCE})


HTTPServer(('', 8080), Agent).serve_forever()
";

/// The package `beans` as a wheel for any machine.
fn wheel(directory: &Path) {
    let mut zip = zip::ZipWriter::new(File::create(directory.join("beans-1.0-py3-none-any.whl")).unwrap());
    for (name, text) in [
        ("beans/__init__.py", "SOURCE = 'the index'\n"),
        ("beans-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: beans\nVersion: 1.0\n"),
        ("beans-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
        (
            "beans-1.0.dist-info/RECORD",
            "beans/__init__.py,,\nbeans-1.0.dist-info/METADATA,,\nbeans-1.0.dist-info/WHEEL,,\nbeans-1.0.dist-info/RECORD,,\n",
        ),
    ] {
        zip.start_file(name, zip::write::FileOptions::DEFAULT).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap();
}

/// `beans` installed into a project, for another machine.
fn install(project: &Project, version: &str) {
    let beans = project.path().join("beans");
    fs::create_dir_all(&beans).unwrap();
    fs::write(beans.join("__init__.py"), "from ._native import SOURCE\n").unwrap();
    fs::write(beans.join("_native.so"), foreign_module()).unwrap();
    let info = project.path().join("beans-any.dist-info");
    fs::create_dir_all(&info).unwrap();
    let metadata = format!("Metadata-Version: 2.1\nName: beans\nVersion: {version}\n");
    fs::write(info.join("METADATA"), metadata).unwrap();
    fs::write(info.join("RECORD"), "beans/__init__.py,,\nbeans/_native.so,,\n").unwrap();
}

#[test]
fn packages_of_another_machine_are_replaced_and_the_program_says_so() {
    let wheels = tempfile::tempdir().unwrap();
    wheel(wheels.path());
    let place = wheels.path().to_str().unwrap();
    let environment =
        [("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", place), ("UV_NO_INDEX", "1"), ("UV_FIND_LINKS", place)];
    const TEST: &str = "cloud::packages::packages_of_another_machine_are_replaced_and_the_program_says_so";
    let Some(world) = World::with(TEST, ACCOUNT, &[], &environment) else { return };
    let project = world.project("farmer", json!({}));
    fs::write(project.path().join("main.py"), AGENT).unwrap();
    install(&project, "1.0");

    let deployed = world.run(&project, &["deploy", "--yes", "--output", "json"]);
    assert_eq!(deployed.code, 0, "{deployed:?}");
    let said: serde_json::Value = serde_json::from_str(&deployed.stdout).unwrap();
    let notice = said["notices"][0].as_str().unwrap();
    for part in ["`beans/_native.so` is for", "installed anew for this machine", "beans 1.0"] {
        assert!(notice.contains(part), "{part}: {notice}");
    }
    assert!(deployed.stderr.contains(&format!("warning: {notice}")), "{deployed:?}");
    let answer = world.run(&project, &["invoke", "--session", "s", "{}"]);
    assert!(answer.code == 0 && answer.stdout.contains("the index"), "{answer:?}");

    // A version that the index does not have, and then a package that is not there: told, and what served goes on.
    install(&project, "9.9");
    let failed = world.run(&project, &["deploy", "--yes"]);
    assert_eq!(failed.code, 4, "{failed:?}");
    for part in ["UPDATE_FAILED", "`beans/_native.so` is for", "agentcore local deploy", "use a container"] {
        assert!(failed.stderr.contains(part), "{part}: {failed:?}");
    }
    let id = said["agentRuntimeId"].as_str().unwrap();
    let of = ["--agent-runtime-id", id];
    let artifact = json!({ "codeConfiguration": {
        "code": { "s3": { "bucket": "nobodys", "prefix": "gone.zip" } },
        "runtime": "PYTHON_3_13",
        "entryPoint": ["main.py"],
    } });
    let before = world.runtime(id);
    let updated = world.planes(&[
        "update-agent-runtime",
        "--agent-runtime-id",
        id,
        "--agent-runtime-artifact",
        &artifact.to_string(),
        "--role-arn",
        before["roleArn"].as_str().unwrap(),
        "--network-configuration",
        r#"{"networkMode":"PUBLIC"}"#,
    ]);
    assert_eq!(updated["status"], "UPDATING", "{updated:#}");
    let failed = support::eventually(std::time::Duration::from_secs(60), "the version fails", || {
        Some(world.runtime(id)).filter(|now| now["status"] == "UPDATE_FAILED")
    });
    assert!(failed["failureReason"].as_str().unwrap().contains("`s3://nobodys/gone.zip`"), "{failed:#}");
    let default = [&["get-agent-runtime-endpoint"], &of[..], &["--endpoint-name", "DEFAULT"]].concat();
    assert_eq!(world.planes(&default)["liveVersion"], "1");
    let answer = world.run(&project, &["invoke", "--session", "t", "{}"]);
    assert!(answer.code == 0 && answer.stdout.contains("the index"), "{answer:?}");
    world.json(&project, &["destroy", "--yes"]);
}

/// A set-up of AWS whose credentials take forever costs a version ten seconds, and nobody else anything.
#[test]
fn credentials_that_are_never_found_make_a_version_that_fails() {
    let scratch = tempfile::tempdir().unwrap();
    // It ends with the directory, or by itself.
    let script = scratch.path().join("credentials");
    fs::write(
        &script,
        format!("for i in $(seq 600); do [ -e '{}' ] || exit; sleep 0.1; done\n", script.display()),
    )
    .unwrap();
    let config = scratch.path().join("config");
    let process = format!("credential_process = /bin/sh {}", script.display());
    fs::write(&config, format!("[default]\nregion = us-west-2\n{process}\n")).unwrap();
    let environment =
        [("AWS_CONFIG_FILE", config.to_str().unwrap()), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")];
    let emulator = Emulator::start_with(&[], &environment);
    let control = Connection::local(emulator.endpoint(), "us-west-2".parse().unwrap()).control();
    let settings = RuntimeSettings {
        artifact: Artifact::Code(ArtifactRef {
            bucket: "nobodys".into(),
            prefix: "agent.zip".into(),
            version_id: None,
            runtime: "PYTHON_3_13".into(),
            entry_point: vec!["main.py".into()],
        }),
        role_arn: format!("arn:aws:iam::{ACCOUNT}:role/agent"),
        environment: None,
        idle: None,
        max_lifetime: None,
        header_allowlist: Vec::new(),
        session_storage: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let failed = runtime.block_on(async {
        let made = control.create("patient", &settings).await.unwrap();
        control.wait_ready(&made.id).await.unwrap_err().to_string()
    });
    for part in ["CREATE_FAILED", "`s3://nobodys/agent.zip`", "within 10 seconds", "AWS_PROFILE"] {
        assert!(failed.contains(part), "{part}: {failed}");
    }
}
