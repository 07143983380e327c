//! `agentcore build` on a real engine: the one that `tests/lab/lab up` brings up, with its registry of base images.

#![allow(clippy::disallowed_methods, reason = "finds the lab and the real client by the environment")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use agentcore::build::{Docker, DockerEnv};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{self, BIN, clean, skip, succeed};

/// A user without any rights.
const NOBODY: u32 = 65534;

/// The lab's registry of base images, such as `localhost:5000`.
fn lab(test: &str) -> Option<String> {
    let registry = std::env::var("AGENTCORE_LAB_REGISTRY").ok();
    if registry.is_none() {
        skip(test, "no lab of containers; run `tests/lab/lab up` and `eval \"$(tests/lab/lab env)\"`");
    }
    registry
}

/// A project whose agent is `main.py`, with more files.
fn project(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let agent = support::repository().join("templates/minimal/main.py");
    fs::copy(agent, dir.path().join("main.py")).unwrap();
    fs::write(dir.path().join(".bedrock_agentcore.yaml"), "name: coder\nentrypoint: main.py\n").unwrap();
    for (name, text) in files {
        let file = dir.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    dir
}

fn agentcore(directory: &Path, args: &[&str]) -> Output {
    clean(BIN).current_dir(directory).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn built(directory: &Path, args: &[&str]) -> Output {
    succeed(clean(BIN).current_dir(directory).arg("build").args(args))
}

fn docker(args: &[&str]) -> Output {
    succeed(Command::new("docker").args(args))
}

/// An image of a test; gone with the value.
struct Tag(String);

impl Tag {
    fn new(name: &str) -> Self {
        Self(format!("agentcore-test-{name}:{}", uuid::Uuid::new_v4().simple()))
    }

    fn inspect(&self) -> Value {
        serde_json::from_slice::<Value>(&docker(&["image", "inspect", &self.0]).stdout).unwrap()[0].clone()
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["image", "rm", "--force", &self.0]).output();
    }
}

/// A program called `docker` that does what a shell script says.
fn fake_docker(script: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    support::script(&dir.path().join("docker"), script);
    dir
}

#[test]
fn a_project_without_a_dockerfile_gets_one_with_consent_and_its_image_answers() {
    let Some(registry) = lab("a_project_without_a_dockerfile_gets_one") else { return };
    let project = project(&[]);
    let refused = agentcore(project.path(), &["build"]);
    let errors = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("  | EXPOSE 8080") && errors.contains("hint: `agentcore build --yes`"),
        "{errors}"
    );
    assert!(!project.path().join("Dockerfile").exists());

    let tag = Tag::new("template");
    let base = format!("BASE_IMAGE={registry}/python");
    let output = built(project.path(), &["--yes", "--build-arg", &base, "--tag", &tag.0]);
    let said = text(&output.stdout);
    assert!(said.starts_with(&format!("built `{}`: linux/arm64, ", tag.0)), "{said}");
    assert!(!text(&output.stderr).contains("warning:"), "{}", text(&output.stderr));
    let ignored = fs::read_to_string(project.path().join(".dockerignore")).unwrap();
    assert!(ignored.contains(".env*"), "{ignored}");
    let image = tag.inspect();
    assert_eq!((&image["Architecture"], &image["Config"]["User"]), (&"arm64".into(), &"1000".into()));

    let container =
        text(&docker(&["run", "--detach", "--platform", "linux/arm64", &tag.0]).stdout).trim().to_owned();
    let ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/ping').read())";
    let answered = support::eventually(std::time::Duration::from_secs(120), "the agent's ping", || {
        let asked = Command::new("docker").args(["exec", &container, "python3", "-c", ask]).output().unwrap();
        asked.status.success().then(|| text(&asked.stdout))
    });
    docker(&["rm", "--force", "--volumes", &container]);
    assert!(answered.contains("Healthy"), "{answered}");
}

#[test]
fn the_command_line_that_is_shown_is_the_one_that_builds() {
    let Some(registry) = lab("the_command_line_that_is_shown") else { return };
    let dockerfile = format!(
        "FROM {registry}/busybox\nARG WORD\nENV WORD=$WORD\nCOPY . /app\nEXPOSE 8080\nCMD [\"sh\"]\n"
    );
    let project = project(&[("Dockerfile", &dockerfile)]);
    let tag = Tag::new("dry");
    let args = ["--tag", &tag.0, "--build-arg", "WORD=it's \"two\" words"];
    let shown = built(project.path(), &[&["--dry-run"], &args[..]].concat());
    let line = text(&shown.stdout);
    assert!(line.starts_with("docker buildx build --platform linux/arm64 --tag "), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    succeed(Command::new("sh").args(["-c", &line]));
    let image = tag.inspect();
    let variables = image["Config"]["Env"].as_array().unwrap();
    assert!(variables.contains(&"WORD=it's \"two\" words".into()), "{variables:?}");
    let json = built(project.path(), &[&["--dry-run", "--output", "json"], &args[..]].concat());
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["commands"][0], line.trim_end());
    // The same line is told before it is run.
    let output = built(project.path(), &args);
    assert!(text(&output.stderr).contains(&format!("$ {}", line.trim_end())), "{}", text(&output.stderr));
}

#[test]
fn every_option_reaches_the_builder() {
    let Some(registry) = lab("every_option_reaches_the_builder") else { return };
    let dockerfile = format!(
        "FROM {registry}/busybox AS first\nARG WORD=none\nRUN --mount=type=secret,id=key cp /run/secrets/key /key && ls /sys/class/net >/net && \
         echo $WORD >/word\nEXPOSE 8080\nCMD [\"sh\"]\nFROM first AS second\nRUN touch /second\n"
    );
    let project = project(&[("docker/Dockerfile", &dockerfile), ("key", "4711")]);
    let (tag, second) = (Tag::new("options"), Tag::new("options-too"));
    let cache = tempfile::tempdir().unwrap();
    let args = [
        "--file",
        "docker/Dockerfile",
        "--platform",
        "native",
        "--target",
        "first",
        "--no-cache",
        "--pull",
        "--build-arg",
        "WORD=hello",
        "--secret",
        "id=key,src=key",
        "--network",
        "none",
        "--tag",
        &tag.0,
        "--tag",
        &second.0,
    ];
    let output = built(project.path(), &args);
    // An image of this machine's own platform is what was asked for.
    assert!(!text(&output.stderr).contains("the service runs"), "{}", text(&output.stderr));
    let said = docker(&["run", "--rm", &second.0, "sh", "-c", "cat /key /word /net; test ! -e /second"]);
    assert_eq!(text(&said.stdout), "4711hello\nlo\n");
    // What this driver cannot do is said by the builder, in its own words.
    let to = format!("type=local,dest={}", cache.path().display());
    let refused = agentcore(
        project.path(),
        &["build", "--file", "docker/Dockerfile", "--cache-to", &to, "--secret", "id=key,src=key"],
    );
    let errors = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{errors}");
    assert!(errors.to_lowercase().contains("cache"), "{errors}");
}

#[test]
fn files_of_the_environment_never_enter_an_image() {
    let Some(registry) = lab("files_of_the_environment_never_enter_an_image") else { return };
    let dockerfile = format!("FROM {registry}/busybox\nCOPY . /app\nEXPOSE 8080\nCMD [\"sh\"]\n");
    let files = [("Dockerfile", dockerfile.as_str()), (".env.local", "KEY=1"), ("sub/.env", "KEY=2")];
    let project = project(&files);
    let tag = Tag::new("secrets");
    let args = ["build", "--platform", "native", "--tag", &tag.0];
    let refused = agentcore(project.path(), &args);
    let errors = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{errors}");
    assert!(errors.contains("error: `.env.local`, `sub/.env` would go into the image"), "{errors}");
    assert!(errors.contains("hint: add the line `**/.env*`"), "{errors}");
    assert!(!project.path().join(".dockerignore").exists());
    // With consent the line is written, and what was there before stays.
    fs::write(project.path().join(".dockerignore"), "notes").unwrap();
    built(project.path(), &["--yes", "--platform", "native", "--tag", &tag.0]);
    assert_eq!(fs::read_to_string(project.path().join(".dockerignore")).unwrap(), "notes\n.env*\n**/.env*\n");
    let inside = docker(&["run", "--rm", &tag.0, "find", "/app", "-name", ".env*"]);
    assert_eq!(text(&inside.stdout), "");
}

#[test]
fn the_log_of_the_failing_step_ends_the_output() {
    let Some(registry) = lab("the_log_of_the_failing_step_ends_the_output") else { return };
    let dockerfile = format!("FROM {registry}/busybox\nRUN echo before\nRUN echo one; echo two; exit 3\n");
    let project = project(&[("Dockerfile", &dockerfile)]);
    let failed =
        agentcore(project.path(), &["build", "--platform", "native", "--tag", "agentcore-test-fails"]);
    let errors = text(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{errors}");
    let (_, end) = errors.split_once("error: step `").unwrap_or_else(|| panic!("{errors}"));
    assert!(
        end.contains("exit code: 3") && end.contains("\n  | one\n") && end.ends_with("\n  | two\n"),
        "{errors}"
    );
    assert!(!end.contains("before"), "{errors}");
    assert!(text(&failed.stdout).is_empty());

    let failed = agentcore(
        project.path(),
        &["--output", "json", "build", "--platform", "native", "--tag", "agentcore-test-fails"],
    );
    let lines = text(&failed.stdout);
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().any(|e| e["event"] == "step" && e["state"] == "failed"), "{lines}");
    assert!(events.iter().any(|e| e["event"] == "log" && e["line"] == "two"), "{lines}");
    let last = &events.last().unwrap()["error"];
    assert_eq!(
        (&last["exitCode"], &last["details"]),
        (&1.into(), &serde_json::json!(["one", "two"])),
        "{last}"
    );
}

#[test]
fn an_image_is_pushed_and_looked_at_where_it_went() {
    let Some(registry) = lab("an_image_is_pushed") else { return };
    // No port, no command: both are remarked on.
    let project = project(&[("Dockerfile", &format!("FROM {registry}/busybox\nCOPY main.py /\nCMD []\n"))]);
    let name = format!("{registry}/test/pushed:{}", uuid::Uuid::new_v4().simple());
    let output = built(project.path(), &["--push", "--tag", &name, "--output", "json"]);
    let lines = text(&output.stdout);
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["event"], &last["pushed"], &last["loaded"]),
        (&"image".into(), &true.into(), &false.into())
    );
    assert_eq!(last["image"]["platform"], "linux/arm64", "{last}");
    let warnings = last["warnings"].to_string();
    assert!(warnings.contains("EXPOSE 8080"), "{warnings}");
    assert!(text(&output.stderr).contains("warning: the image does not declare port 8080"));
    // One image, and no index with attestations around it.
    let raw = docker(&["buildx", "imagetools", "inspect", "--raw", &name]).stdout;
    let manifest: Value = serde_json::from_slice(&raw).unwrap();
    assert!(manifest["layers"].is_array(), "{manifest}");
}

#[test]
fn what_is_missing_is_named_with_its_fix() {
    let project = project(&[("Dockerfile", "FROM scratch\nCOPY . /\n")]);
    let run = |change: &dyn Fn(&mut Command)| {
        let mut command = clean(BIN);
        command.current_dir(project.path()).args(["build", "--tag", "x"]);
        change(&mut command);
        let output = command.output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let empty = tempfile::tempdir().unwrap();
    let (code, errors) = run(&|c| _ = c.env("PATH", empty.path()));
    assert_eq!(code, Some(5), "{errors}");
    assert!(
        errors.contains("error: Docker's client `docker` is not installed\nhint: install Docker"),
        "{errors}"
    );

    // A client that has no buildx, and says so as the real one does.
    let fake = fake_docker("echo \"docker: 'buildx' is not a docker command.\" >&2; exit 1");
    let (code, errors) = run(&|c| _ = c.env("PATH", fake.path()).env("DOCKER_CONFIG", empty.path()));
    // A machine that has the plugin in one of the usual places is asked nothing.
    if !errors.contains("is not running") && !errors.contains("not installed") {
        assert_eq!(code, Some(5), "{errors}");
        assert!(errors.contains("no `buildx` plugin\nhint: sudo apt-get install docker-buildx"), "{errors}");
    }

    let plugins = empty.path().join("cli-plugins");
    fs::create_dir(&plugins).unwrap();
    support::script(&plugins.join("docker-buildx"), "exit 1");
    let nowhere = format!("unix://{}/none.sock", empty.path().display());
    let (code, errors) = run(&|c| {
        _ = c.env("PATH", fake.path()).env("DOCKER_CONFIG", empty.path()).env("DOCKER_HOST", &nowhere)
    });
    assert_eq!(code, Some(5), "{errors}");
    assert!(errors.contains("error: Docker's engine is not running: nothing listens at"), "{errors}");

    if nix::unistd::geteuid().is_root() {
        // A socket that only its owner may use.
        let place = support::short_temp_dir();
        let socket = place.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
        for directory in [project.path(), fake.path(), empty.path(), &plugins] {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let program = place.path().join("agentcore");
        // A link leads through directories that are not this user's, and what this process copies may be open in
        // another one that a thread of another test has just started: then it cannot be run.
        succeed(Command::new("cp").arg(BIN).arg(&program));
        let mut command = clean(&program);
        command.current_dir(project.path()).args(["build", "--tag", "x"]);
        command.env("PATH", fake.path()).env("DOCKER_CONFIG", empty.path()).env("HOME", empty.path());
        command.env("DOCKER_HOST", format!("unix://{}", socket.display())).uid(NOBODY).gid(NOBODY);
        let output = command.output().unwrap();
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{errors}");
        assert!(errors.contains("permission denied\nhint: sudo usermod -aG docker"), "{errors}");
    }
}

#[test]
fn a_builder_that_can_is_chosen_or_made() {
    let Some(_) = lab("a_builder_that_can_is_chosen_or_made") else { return };
    // A platform that nothing here runs, so that the builders are asked.
    let project = project(&[("Dockerfile", "FROM scratch\nRUN true\nEXPOSE 8080\nCMD [\"x\"]\n")]);
    let log = project.path().join("log");
    let other = |platforms: &str| {
        fake_docker(&format!(
            r#"echo "$*" >>{log}
case "$*" in
"buildx inspect") printf 'Name: default\nDriver: docker\nNodes:\nName: default\nPlatforms: linux/amd64\n' ;;
"buildx inspect big") printf 'Name: big\nDriver: docker-container\nNodes:\nName: big0\nPlatforms: {platforms}\n' ;;
"buildx ls") printf 'NAME/NODE DRIVER/ENDPOINT STATUS\nbig docker-container\n  big0 x running\ndefault * docker\n' ;;
esac"#,
            log = log.display()
        ))
    };
    let run = |fake: &TempDir| {
        let mut command = clean(BIN);
        command.current_dir(project.path()).env("PATH", fake.path());
        let output = command.args(["build", "--platform", "linux/riscv64", "--tag", "x"]).output().unwrap();
        let lines = fs::read_to_string(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        (text(&output.stderr), lines)
    };
    let (errors, lines) = run(&other("linux/riscv64, linux/amd64"));
    assert!(
        errors.contains("builder `default` cannot build for linux/riscv64 here: builder `big` does it"),
        "{errors}"
    );
    assert!(lines.contains("buildx build --builder big --platform linux/riscv64 "), "{lines}");
    assert!(!lines.contains("buildx create"), "{lines}");
    let (errors, lines) = run(&other("linux/amd64"));
    assert!(errors.contains("a builder `agentcore` with emulators of its own is made"), "{errors}");
    assert!(
        errors.contains("$ docker buildx create --name agentcore --driver docker-container\n"),
        "{errors}"
    );
    assert!(lines.contains("buildx create --name agentcore --driver docker-container\n"), "{lines}");
    assert!(lines.contains("buildx build --builder agentcore --platform linux/riscv64 "), "{lines}");
}

#[test]
fn a_plugin_without_json_is_read_by_its_plain_lines() {
    let Some(registry) = lab("a_plugin_without_json") else { return };
    let project =
        project(&[("Dockerfile", &format!("FROM {registry}/busybox\nRUN echo hello-from-the-build\n"))]);
    let real = support::which("docker").unwrap();
    let fake = fake_docker(&format!(
        "case \"$*\" in *rawjson*) echo 'ERROR: invalid progress mode rawjson' >&2; exit 1;; esac\nexec {} \"$@\"",
        real.display()
    ));
    let path = format!("{}:{}", fake.path().display(), std::env::var("PATH").unwrap());
    let tag = Tag::new("plain");
    let mut command = clean(BIN);
    command.current_dir(project.path()).env("PATH", path);
    let output = succeed(command.args(["build", "--platform", "native", "--no-cache", "--tag", &tag.0]));
    let said = text(&output.stderr);
    assert!(
        said.contains("\n  | hello-from-the-build\n") && said.contains("\ndone   [2/2] RUN echo"),
        "{said}"
    );
}

#[test]
fn an_agent_that_is_an_image_is_built_when_what_it_is_made_of_changes() {
    let Some(registry) = lab("an_agent_that_is_an_image_is_built") else { return };
    let dockerfile = format!("FROM {registry}/busybox\nCOPY . /app\nEXPOSE 8080\nCMD [\"sh\"]\n");
    let name = format!("image_{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
    let yaml = format!("name: {name}\ndeployment_type: container\n");
    let project = project(&[("Dockerfile", &dockerfile), (".bedrock_agentcore.yaml", &yaml)]);
    let emulator = support::Emulator::start(&[]);
    let filter = format!("label=agentcore.agent={name}");
    let images = || {
        let format = ["--format", "{{.Repository}}:{{.Tag}}"];
        let said = docker(&[&["images", "--filter", &filter], &format[..]].concat()).stdout;
        text(&said).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let deploy = || {
        let output =
            emulator.command().current_dir(project.path()).args(["local", "deploy"]).output().unwrap();
        text(&output.stderr)
    };
    let first = deploy();
    assert!(first.contains(&format!("building the image of `{name}`")), "{first}");
    let repository =
        format!("000000000000.dkr.ecr.us-west-2.amazonaws.com/agentcore-local/{}:", name.replace('_', "-"));
    let one = images();
    assert!(one.len() == 1 && one[0].starts_with(&repository), "{one:?}");
    // The same project is the same image; another one is another.
    let again = deploy();
    assert!(!again.contains("building the image"), "{again}");
    assert_eq!(images(), one);
    fs::write(project.path().join("main.py"), "pass\n").unwrap();
    let changed = deploy();
    assert!(changed.contains("building the image"), "{changed}");
    let two = images();
    assert!(two.len() == 2 && two.contains(&one[0]), "{two:?}");
    // What must not be in an image is no image, and nobody is asked.
    fs::write(project.path().join(".env"), "KEY=1").unwrap();
    let refused = deploy();
    assert!(refused.contains("error: `.env` would go into the image"), "{refused}");
    fs::remove_file(project.path().join(".env")).unwrap();
    fs::remove_file(project.path().join("Dockerfile")).unwrap();
    let refused = deploy();
    assert!(
        refused.contains("there is no `") && refused.contains("hint: `agentcore build --yes`"),
        "{refused}"
    );
    for image in two {
        docker(&["image", "rm", "--force", &image]);
    }
}

#[test]
fn an_image_is_pushed_with_credentials_that_are_kept_nowhere() {
    let Some(registry) = lab("an_image_is_pushed_with_credentials") else { return };
    let Ok(ecr) = std::env::var("AGENTCORE_LAB_ECR") else {
        return skip("an_image_is_pushed_with_credentials", "the lab has no stand-in for ECR (`--no-ecr`)");
    };
    let project =
        project(&[("Dockerfile", &format!("FROM {registry}/busybox\nEXPOSE 8080\nCMD [\"sh\"]\n"))]);
    let tag = Tag::new("login");
    built(project.path(), &["--platform", "native", "--tag", &tag.0]);
    let config = std::env::var("DOCKER_CONFIG").unwrap();
    let before = fs::read(Path::new(&config).join("config.json")).ok();
    let docker = Docker::find(DockerEnv {
        path: std::env::var_os("PATH"),
        config: Some(config.clone().into()),
        ..DockerEnv::default()
    })
    .unwrap();
    let pushed = Tag(format!("{ecr}/test/login:{}", uuid::Uuid::new_v4().simple()));
    let push = |password: &str| {
        let work = docker.push_with(&tag.0, &pushed.0, &ecr, "AWS", password);
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    };
    assert!(push("wrong").is_err());
    // What moto's GetAuthorizationToken gives out.
    let account = ecr.split('.').next().unwrap();
    push(&format!("{account}-auth-token")).unwrap();
    assert_eq!(fs::read(Path::new(&config).join("config.json")).ok(), before);
}

#[test]
fn doctor_tells_what_docker_has() {
    let Some(_) = lab("doctor_tells_what_docker_has") else { return };
    let home = support::short_temp_dir();
    let checks = |change: &dyn Fn(&mut Command)| -> Vec<Value> {
        let mut command = clean(BIN);
        command.env("AGENTCORE_HOME", home.path()).args(["--output", "json", "doctor"]);
        change(&mut command);
        let output = command.output().unwrap();
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        value["checks"].as_array().unwrap().clone()
    };
    let state = |checks: &[Value], name: &str| {
        let found = checks.iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no check `{name}` in {checks:?}"))["state"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let all = checks(&|_| {});
    for name in ["docker", "engine", "buildx", "builder", "arm64"] {
        assert_eq!(state(&all, name), "ok", "{name}: {all:?}");
    }
    state(&all, "fuse");
    let none = checks(&|c| _ = c.env("DOCKER_HOST", "unix:///nowhere/docker.sock"));
    assert_eq!(state(&none, "engine"), "warning");
    let engine = none.iter().find(|check| check["name"] == "engine").unwrap();
    assert!(engine["message"].as_str().unwrap().contains("not running"), "{engine}");
    assert!(!engine["fix"].as_str().unwrap().is_empty());
}
