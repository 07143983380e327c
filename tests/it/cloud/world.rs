//! moto and an emulator as one cloud, reached through proxies, and projects to deploy there.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::proxy::{Fault, Faults, Proxy};
use crate::support::{self, Emulator};

/// The account that moto knows its callers by.
pub const ACCOUNT: &str = "123456789012";
const START_LIMIT: Duration = Duration::from_secs(60);

/// A cloud.
pub struct World {
    moto: Moto,
    emulator: Emulator,
    pub faults: Arc<Faults>,
    services: Proxy,
    planes: Proxy,
    home: TempDir,
}

struct Moto {
    child: Child,
    port: u16,
    client: PathBuf,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command came to.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A project.
pub struct Project {
    directory: TempDir,
}

impl Project {
    /// An agent that answers what it is told, and no project file.
    pub fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let agent = support::repository().join("templates/minimal/main.py");
        fs::copy(agent, directory.path().join("main.py")).unwrap();
        Self { directory }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self) -> PathBuf {
        self.path().join(".bedrock_agentcore.yaml")
    }

    pub fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    /// Adds a line of the agent.
    pub fn edit(&self, line: &str) {
        let text = self.text().replacen("    # kept\n", &format!("    # kept\n    {line}\n"), 1);
        fs::write(self.file(), text).unwrap();
    }

    /// Takes the line of a key away.
    pub fn erase(&self, key: &str) {
        let text: String =
            self.text().lines().filter(|l| !l.trim().starts_with(key)).map(|l| format!("{l}\n")).collect();
        fs::write(self.file(), text).unwrap();
    }
}

impl World {
    pub fn new(test: &str) -> Option<Self> {
        Self::of(test, ACCOUNT, &[])
    }

    /// The cloud of `account`, with an emulator that is started so.
    pub fn of(test: &str, account: &str, flags: &[&str]) -> Option<Self> {
        let program = support::moto(test)?;
        let client = support::python(test)?.with_file_name("aws");
        // Taken and let go again: somebody else may get it in between, and then the start below fails.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = support::clean(program)
            .env("MOTO_ACCOUNT_ID", account)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Moto { child, port, client };
        support::eventually(START_LIMIT, "moto answers", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        let endpoint = format!("http://127.0.0.1:{port}");
        let emulator = Emulator::start_with(
            &[&["--account", account], flags].concat(),
            &[
                ("AWS_ENDPOINT_URL", &endpoint),
                ("AWS_ACCESS_KEY_ID", "test"),
                ("AWS_SECRET_ACCESS_KEY", "test"),
                ("AWS_CONFIG_FILE", "/dev/null"),
                ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ],
        );
        let faults = Arc::new(Faults::default());
        let services = Proxy::new(&format!("127.0.0.1:{port}"), faults.clone());
        let planes = Proxy::new(emulator.endpoint().trim_start_matches("http://"), faults.clone());
        Some(Self { moto, emulator, faults, services, planes, home: support::short_temp_dir() })
    }

    /// The emulator's state directory.
    pub fn home(&self) -> &Path {
        self.emulator.home()
    }

    /// A project with an agent that answers what it is told.
    pub fn project(&self, name: &str, keys: Value) -> Project {
        let Project { directory } = Project::empty();
        let mut text = format!(
            "default_agent: {name}\nagents:\n  {name}:\n    name: {name}\n    entrypoint: main.py\n    \
             deployment_type: direct_code_deploy\n    # kept\n"
        );
        for (key, value) in keys.as_object().unwrap() {
            // JSON is YAML.
            text.push_str(&format!("    {key}: {value}\n"));
        }
        fs::write(directory.path().join(".bedrock_agentcore.yaml"), text).unwrap();
        Project { directory }
    }

    /// The program in a project of this cloud.
    pub fn command(&self, project: &Project, args: &[&str]) -> Command {
        let mut command = support::clean(support::BIN);
        self.point(&mut command);
        command.current_dir(project.path()).env("AGENTCORE_HOME", self.home.path()).args(args);
        command
    }

    /// Runs a verb whose call of this number has that fault; gives how it ended, and which call was hit. Nothing is
    /// planned for what follows.
    pub fn struck(
        &self,
        project: &Project,
        verb: &str,
        call: usize,
        fault: Fault,
    ) -> (Output, Option<String>) {
        self.faults.plan(Some((call, fault)));
        let mut command = self.command(project, &[verb, "--yes"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        self.faults.victim(child.id());
        let ended = child.wait_with_output().unwrap();
        let hit = self.faults.hit();
        self.faults.plan(None);
        (ended, hit)
    }

    pub fn run(&self, project: &Project, args: &[&str]) -> Done {
        self.run_with(project, args, &[])
    }

    pub fn run_with(&self, project: &Project, args: &[&str], environment: &[(&str, &str)]) -> Done {
        let mut command = self.command(project, args);
        for (name, value) in environment {
            match *value {
                "" => command.env_remove(name),
                value => command.env(name, value),
            };
        }
        Done::of(&mut command)
    }

    /// Points another program at this cloud, by the variables that the SDKs and the starter toolkit know.
    pub fn point(&self, command: &mut Command) {
        command
            .env("AWS_ENDPOINT_URL", self.services.endpoint())
            .env("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", self.planes.endpoint())
            .env("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL", self.planes.endpoint())
            .env("BEDROCK_AGENTCORE_DP_ENDPOINT", self.planes.endpoint())
            .env("BEDROCK_AGENTCORE_CP_ENDPOINT", self.planes.endpoint())
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", "us-west-2")
            .env("AWS_DEFAULT_REGION", "us-west-2")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    }

    /// The JSON that a command which must succeed prints.
    #[track_caller]
    pub fn json(&self, project: &Project, args: &[&str]) -> Value {
        let done = self.run(project, &[args, &["--output", "json"]].concat());
        assert_eq!(done.code, 0, "{args:?}\n{}\n{}", done.stdout, done.stderr);
        serde_json::from_str(&done.stdout).unwrap()
    }

    /// The lines of JSON that a command which must succeed prints.
    #[track_caller]
    pub fn json_lines(&self, project: &Project, args: &[&str]) -> Vec<Value> {
        let done = self.run(project, &[args, &["--output", "json"]].concat());
        assert_eq!(done.code, 0, "{args:?}\n{}\n{}", done.stdout, done.stderr);
        done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The AWS CLI against moto.
    #[track_caller]
    pub fn aws(&self, args: &[&str]) -> String {
        let output = support::succeed(
            support::clean(&self.moto.client)
                .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.moto.port))
                .env("AWS_ACCESS_KEY_ID", "test")
                .env("AWS_SECRET_ACCESS_KEY", "test")
                .env("AWS_DEFAULT_REGION", "us-west-2")
                .env("AWS_CONFIG_FILE", "/dev/null")
                .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
                .args(args),
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// A runtime as the service has it, by the AWS CLI.
    #[track_caller]
    pub fn runtime(&self, id: &str) -> Value {
        self.planes(&["get-agent-runtime", "--agent-runtime-id", id])
    }

    /// The AWS CLI against the emulator.
    #[track_caller]
    pub fn planes(&self, args: &[&str]) -> Value {
        let output = support::succeed(
            support::clean(&self.moto.client)
                .env("AWS_ENDPOINT_URL", self.emulator.endpoint())
                .env("AWS_ACCESS_KEY_ID", "test")
                .env("AWS_SECRET_ACCESS_KEY", "test")
                .env("AWS_DEFAULT_REGION", "us-west-2")
                .env("AWS_CONFIG_FILE", "/dev/null")
                .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
                .arg("bedrock-agentcore-control")
                .args(args),
        );
        serde_json::from_slice(&output.stdout).unwrap_or(json!(null))
    }
}
