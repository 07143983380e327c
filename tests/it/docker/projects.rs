//! Container sessions by the command line: agents that are images, and code that runs on an image made for it. What the
//! builds begin with comes from the lab's registry; nothing else is pulled.

#![allow(
    clippy::disallowed_methods,
    reason = "finds the lab's registry and Docker's client by the environment"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::lab::Home;
use crate::shells::World;
use crate::support::{self, BIN, Emulator, eventually, succeed};

const LIMIT: Duration = Duration::from_secs(120);
const NATIVE_CODE: [&str; 6] = ["--engine", "docker", "--platform", "native", "--grace", "2s"];
const NATIVE_IMAGES: [&str; 4] = ["--platform", "native", "--grace", "2s"];

/// The lab's registry of base images.
fn registry(test: &str) -> Option<String> {
    let registry = std::env::var("AGENTCORE_LAB_REGISTRY").ok();
    if registry.is_none() {
        let what = "no lab of containers; run `tests/lab/lab up` and `eval \"$(tests/lab/lab env)\"`";
        support::skip(&format!("docker::projects::{test}"), what);
    }
    registry
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A project of an agent of its own name, whose code is that of `tests/agents/lab`.
struct Project {
    directory: TempDir,
    name: String,
}

impl Project {
    fn new(keys: &Value, files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let name = format!("cli_{}", &uuid::Uuid::new_v4().simple().to_string()[..12]);
        let agent = support::repository().join("tests/agents/lab/main.py");
        fs::copy(agent, directory.path().join("main.py")).unwrap();
        let mut fields = json!({
            "name": name,
            "filesystem_configurations": [{ "session_storage": { "mount_path": "/mnt/workspace" } }],
        });
        for (key, value) in keys.as_object().unwrap() {
            fields[key] = value.clone();
        }
        let project = Self { directory, name };
        project.write(".bedrock_agentcore.yaml", &fields.to_string());
        files.iter().for_each(|(file, content)| project.write(file, content));
        project
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn write(&self, file: &str, content: &str) {
        fs::write(self.path().join(file), content).unwrap();
    }

    /// The images that were built for it.
    fn images(&self) -> Vec<String> {
        let filter = format!("label=agentcore.agent={}", self.name);
        let mut docker = Command::new("docker");
        docker.args(["images", "--filter", &filter, "--format", "{{.Repository}}:{{.Tag}}"]);
        text(&succeed(&mut docker).stdout).lines().map(str::to_owned).collect()
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        for image in self.images() {
            let _ = Command::new("docker").args(["image", "rm", "--force", &image]).output();
        }
    }
}

/// An emulator and a project that it is used from.
struct User {
    emulator: Emulator,
    project: Project,
    // Goes last: it takes along what an emulator that failed has left.
    home: Home,
}

impl User {
    fn new(flags: &[&str], project: Project) -> Self {
        let home = Home::new();
        Self { emulator: Emulator::start_in_with(home.path(), flags), project, home }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.emulator.command();
        command.current_dir(self.project.path()).arg("local").args(words);
        command
    }

    #[track_caller]
    fn run(&self, words: &[&str]) -> Output {
        succeed(&mut self.command(words))
    }

    /// The agent's answer, and what was said besides.
    #[track_caller]
    fn invoke(&self, request: &Value) -> (Value, String) {
        let output = self.run(&["invoke", "--session", "work", &request.to_string()]);
        let said = text(&output.stderr);
        (serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}")), said)
    }

    #[track_caller]
    fn exec(&self, words: &[&str]) -> String {
        text(&self.run(&[&["exec", "--session", "work", "--"], words].concat()).stdout)
    }

    #[track_caller]
    fn stop(&self) {
        self.run(&["stop", "--session", "work"]);
    }
}

fn write(content: &str) -> Value {
    json!({ "do": "write", "path": "/mnt/workspace/f", "text": content })
}

fn read() -> Value {
    json!({ "do": "read", "path": "/mnt/workspace/f" })
}

const BUILDS: &str = "building the image";

#[test]
fn an_agent_that_is_an_image_is_built_when_it_changed_and_keeps_its_files() {
    let Some(registry) = registry("an_agent_that_is_an_image_is_built") else { return };
    let dockerfile = format!(
        "FROM {registry}/python\nWORKDIR /app\nCOPY . .\nUSER 1000\nEXPOSE 8080\nCMD [\"python3\", \"main.py\"]\n"
    );
    let files = [("Dockerfile", dockerfile.as_str()), ("word", "one")];
    let user = User::new(&NATIVE_IMAGES, Project::new(&json!({ "deployment_type": "container" }), &files));
    let (_, said) = user.invoke(&write("kept"));
    assert!(said.contains(BUILDS) && said.contains("deploying agent"), "{said}");
    assert_eq!(user.exec(&["cat", "/app/word"]), "one");
    let first = user.project.images();
    assert_eq!(first.len(), 1, "{first:?}");
    // The same sources are the same image, and a stopped session finds its files.
    user.stop();
    let (found, said) = user.invoke(&read());
    assert!(found["text"] == "kept" && !said.contains(BUILDS), "{found} {said}");

    // Changed ones are run from the next start on, in the same version, on the same files.
    user.project.write("word", "two");
    let (_, said) = user.invoke(&read());
    assert!(said.contains(BUILDS) && said.contains("keeps the old code until"), "{said}");
    assert_eq!(user.exec(&["cat", "/app/word"]), "one");
    user.stop();
    assert_eq!(user.invoke(&read()).0["text"], "kept");
    assert_eq!(user.exec(&["cat", "/app/word"]), "two");
    assert_eq!(user.project.images().len(), 2);

    // Watched, a running session has the new image at once. Of the image that it replaces no version knows.
    let mut watch = user.command(&["up", "--watch", "--output", "json"]);
    let log = fs::File::create(user.home.path().join("watch.log")).unwrap();
    let mut watch = watch.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let boot = user.invoke(&read()).0["boot"].clone();
    user.project.write("word", "three");
    eventually(LIMIT, "a restart on the new image", || {
        let mut look = user.command(&["exec", "--session", "work", "--", "cat", "/app/word"]);
        // A command that comes in the middle of the restart may be cut.
        (look.output().unwrap().stdout == b"three").then_some(())
    });
    let _ = watch.kill();
    let _ = watch.wait();
    let (found, said) = user.invoke(&read());
    assert!(found["text"] == "kept" && found["boot"] != boot, "{found} {said}");
    let left = eventually(LIMIT, "the replaced image has gone", || {
        user.invoke(&read());
        user.run(&["session", "prune"]);
        Some(user.project.images()).filter(|images| images.len() == 2)
    });
    assert!(left.contains(&first[0]), "{left:?} has not the image of version 1, {first:?}");

    // A version begins with empty storage.
    let output = user.run(&["deploy", "--output", "json"]);
    let deployed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&deployed["agentRuntimeVersion"], &deployed["changed"]), (&json!("2"), &json!(true)));
    assert!(!text(&output.stderr).contains(BUILDS), "{}", text(&output.stderr));
    user.stop();
    assert_eq!(user.invoke(&read()).0["error"], "FileNotFoundError");

    // An image that somebody removed is built again.
    user.stop();
    let image = deployed["image"].as_str().unwrap();
    succeed(Command::new("docker").args(["image", "rm", image]));
    assert!(user.invoke(&read()).1.contains(BUILDS));

    // All of ours goes and nothing else: not an image of another home, nor a container that somebody made of ours.
    let other = format!("agentcore-test-{}:1", user.project.name.replace('_', "-"));
    succeed(Command::new("docker").args(["tag", image, &other]));
    let theirs = text(&succeed(Command::new("docker").args(["create", &other])).stdout).trim().to_owned();
    let said = user.run(&["down", "--volumes", "--output", "json"]);
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    let left = user.project.images();
    succeed(Command::new("docker").args(["rm", &theirs]));
    succeed(Command::new("docker").args(["image", "rm", &other]));
    assert_eq!(left, [other], "{said}");
    assert_eq!(said["deleted"]["images"], 2, "{said}");
}

#[test]
fn an_image_for_the_service_runs_here_as_its_user() {
    let Some(registry) = registry("an_image_for_the_service_runs_here_as_its_user") else { return };
    // What the starter toolkit generates, as far as it needs no network.
    let dockerfile = format!(
        "FROM {registry}/python\nWORKDIR /app\nENV DOCKER_CONTAINER=1 PYTHONUNBUFFERED=1\n\
         RUN useradd -m -u 1000 bedrock_agentcore\nUSER bedrock_agentcore\nEXPOSE 9000\nEXPOSE 8000\nEXPOSE 8080\n\
         COPY . .\nCMD [\"python3\", \"-m\", \"main\"]\n"
    );
    let project = Project::new(&json!({ "deployment_type": "container" }), &[("Dockerfile", &dockerfile)]);
    let user = User::new(&["--grace", "2s", "--init-timeout", "2m"], project);
    let (who, said) = user.invoke(&json!({ "do": "who" }));
    assert!(said.contains(BUILDS) && said.contains("linux/arm64"), "{said}");
    assert_eq!((&who["uid"], &who["cwd"]), (&json!(1000), &json!("/app")), "{who}");
    assert_eq!(who["environment"]["DOCKER_CONTAINER"], "1", "{who}");
    user.invoke(&write("by a user"));
    user.stop();
    assert_eq!(user.invoke(&read()).0["text"], "by a user");
    // Commands are root, on the same processor that the service has.
    assert_eq!(user.exec(&["sh", "-c", "id -u; uname -m"]), "0\naarch64\n");
}

#[test]
fn code_runs_in_containers_on_an_image_that_is_built_for_it() {
    let Some(registry) = registry("code_runs_in_containers") else { return };
    let keys = json!({ "entrypoint": "main.py", "build": { "args": { "BASE_IMAGE": format!("{registry}/python") } } });
    // A package that is there already, so that nothing is fetched.
    let project = Project::new(&keys, &[("requirements.txt", "-r more.txt\n"), ("more.txt", "pip\n")]);
    let user = User::new(&NATIVE_CODE, project);
    let said = text(&user.run(&["up"]).stderr);
    assert!(said.contains("building the image that `") && said.contains("pip install"), "{said}");
    let (_, said) = user.invoke(&write("kept"));
    assert!(said.contains("deploying agent") && !said.contains(BUILDS), "{said}");
    let listed: Value =
        serde_json::from_slice(&user.run(&["session", "ls", "--output", "json"]).stdout).unwrap();
    assert_eq!(listed[0]["engine"], "docker", "{listed}");
    assert!(user.exec(&["ls", "/var/task"]).contains("main.py"));
    let first = user.project.images();
    assert_eq!(first.len(), 1, "{first:?}");

    // Other code runs on the same image; other packages are another one, and the one before goes.
    user.stop();
    user.project.write("helper.py", "");
    let (found, said) = user.invoke(&read());
    assert!(found["text"] == "kept" && !said.contains(BUILDS), "{found} {said}");
    assert!(user.exec(&["ls"]).contains("helper.py"));
    assert_eq!(user.project.images(), first);
    user.project.write("more.txt", "pip\n# and a remark\n");
    assert!(user.invoke(&read()).1.contains(BUILDS));
    user.stop();
    assert_eq!(user.invoke(&read()).0["text"], "kept");
    user.run(&["deploy"]);
    user.run(&["session", "prune"]);
    assert_eq!(user.project.images().len(), 2, "those of both versions");

    // What cannot be installed is told with what pip said, and nothing is deployed.
    user.project.write("more.txt", "--no-index\nnot-to-be-had==1\n");
    let failed = user.command(&["invoke", "--session", "work", "{}"]).output().unwrap();
    let said = text(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("error: step `") && said.contains("not-to-be-had"), "{said}");
    // What is no file of the agent's is told before anything is built.
    for (list, part) in [
        ("-r ../elsewhere.txt\n", "is not below the agent's directory"),
        ("-e ../shared\n", "`../shared` is not below the agent's directory"),
        ("./not-here\n", "`./not-here`: No such file"),
    ] {
        user.project.write("more.txt", list);
        let failed = user.command(&["deploy"]).output().unwrap();
        let said = text(&failed.stderr);
        assert_eq!(failed.status.code(), Some(1), "{said}");
        assert!(said.contains(part) && !said.contains(BUILDS), "{said}");
    }
}

/// A package of one module.
fn wheel(name: &str, version: &str, needs: &str) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let about = format!("{name}-{version}.dist-info");
    let needs = if needs.is_empty() { String::new() } else { format!("Requires-Dist: {needs}\n") };
    for (file, content) in [
        (format!("{name}.py"), format!("V = '{version}'\n")),
        (
            format!("{about}/METADATA"),
            format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"),
        ),
        (
            format!("{about}/WHEEL"),
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned(),
        ),
        (format!("{about}/RECORD"), String::new()),
    ] {
        archive.start_file(file, zip::write::FileOptions::DEFAULT).unwrap();
        archive.write_all(content.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Makes a package of the directory that it is in, with nothing but Python.
const BACKEND: &str = r#"
import os, zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name, about = "inner-1.0-py3-none-any.whl", "inner-1.0.dist-info"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        wheel.write("inner.py")
        wheel.writestr(about + "/METADATA", "Metadata-Version: 2.1\nName: inner\nVersion: 1.0\n")
        wheel.writestr(about + "/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(about + "/RECORD", "")
    return name
"#;

#[test]
fn packages_of_code_come_from_where_its_lists_say_and_from_its_own_directory() {
    let Some(registry) = registry("packages_of_code_come_from_where_its_lists_say") else { return };
    let keys = json!({ "entrypoint": "main.py", "build": { "args": { "BASE_IMAGE": format!("{registry}/python") } } });
    let backend = "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n";
    let files = [
        ("requirements.txt", "--no-index\n--find-links wheels\nouter==1.0\n-e ./libs/inner  # ours\n"),
        ("libs/inner/pyproject.toml", backend),
        ("libs/inner/backend.py", BACKEND),
        ("libs/inner/inner.py", "V = 'one'\n"),
    ];
    let project = Project::new(&keys, &[]);
    ["wheels", "libs/inner"].iter().for_each(|name| fs::create_dir_all(project.path().join(name)).unwrap());
    files.iter().for_each(|(file, content)| project.write(file, content));
    for (name, version, needs) in
        [("outer", "1.0", "dep>=2"), ("outer", "2.0", ""), ("dep", "1.0", ""), ("dep", "2.5", "")]
    {
        let file = project.path().join(format!("wheels/{name}-{version}-py3-none-any.whl"));
        fs::write(file, wheel(name, version, needs)).unwrap();
    }
    let user = User::new(&NATIVE_CODE, project);
    let versions = ["python3", "-c", "import outer, dep, inner; print(outer.V, dep.V, inner.V)"];
    assert!(user.invoke(&write("kept")).1.contains(BUILDS));
    assert_eq!(user.exec(&versions), "1.0 2.5 one\n");
    // A change of a package of ours is another image, from the next start on.
    user.project.write("libs/inner/inner.py", "V = 'two'\n");
    assert!(user.invoke(&read()).1.contains(BUILDS));
    user.stop();
    assert_eq!(user.invoke(&read()).0["text"], "kept");
    assert_eq!(user.exec(&versions), "1.0 2.5 two\n");
}

/// An index of packages on this machine's localhost, for as long as the test runs. `outer` 1.0 needs `dep`, and of each
/// there is a newer one that must not be taken, or an older.
fn index() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/simple", listener.local_addr().unwrap());
    let packages = [("outer", "1.0", "dep>=2"), ("outer", "2.0", ""), ("dep", "1.0", ""), ("dep", "2.5", "")];
    std::thread::spawn(move || {
        for caller in listener.incoming() {
            let mut caller = BufReader::new(caller.unwrap());
            let mut request = String::new();
            let mut line = String::new();
            while caller.read_line(&mut line).is_ok_and(|count| count > 2) {
                request.push_str(&std::mem::take(&mut line));
            }
            let path = request.split(' ').nth(1).unwrap_or_default();
            let file = |(name, version, _): (&str, &str, &str)| format!("{name}-{version}-py3-none-any.whl");
            let named = packages.iter().filter(|(name, ..)| path == format!("/simple/{name}/"));
            let links: String =
                named.map(|package| format!("<a href=\"/files/{0}\">{0}</a>\n", file(*package))).collect();
            let asked = packages.iter().find(|package| path == format!("/files/{}", file(**package)));
            let (status, kind, body) = match asked {
                Some((name, version, needs)) => ("200 OK", "application/zip", wheel(name, version, needs)),
                None if links.is_empty() => ("404 Not Found", "text/plain", Vec::new()),
                None => ("200 OK", "text/html", format!("<!DOCTYPE html>\n{links}").into_bytes()),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            // A caller that has gone asks again, or has what it wanted.
            let _ = caller.get_mut().write_all(&[head.as_bytes(), &body].concat());
        }
    });
    url
}

#[test]
fn packages_of_code_come_from_an_index_of_this_machine_by_the_network_that_the_project_says() {
    let Some(registry) = registry("packages_of_code_come_from_an_index") else { return };
    let (base, url) = (format!("{registry}/python"), index());
    let keys = |args: Value, network: &str| {
        let mut build = json!({ "args": { "BASE_IMAGE": base } });
        args.as_object().unwrap().iter().for_each(|(name, value)| build["args"][name] = value.clone());
        if !network.is_empty() {
            build["network"] = network.into();
        }
        build
    };
    let list = |first: &str| format!("{first}outer==1.0\n");
    let here = list(&format!("--index-url {url}\n"));
    let user = User::new(
        &NATIVE_CODE,
        Project::new(
            &json!({ "entrypoint": "main.py", "build": keys(json!({}), "") }),
            &[("requirements.txt", &here)],
        ),
    );
    let change = |build: Value| {
        let file = user.project.path().join(".bedrock_agentcore.yaml");
        let mut fields: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        fields["build"] = build;
        user.project.write(".bedrock_agentcore.yaml", &fields.to_string());
    };
    // A build has a localhost of its own, and whoever did not think of that is told.
    let failed = user.command(&["invoke", "--session", "work", "{}"]).output().unwrap();
    let said = text(&failed.stderr);
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("error: step `") && said.contains("`build: {network: host}`"), "{said}");

    let versions = ["python3", "-c", "import outer, dep; print(outer.V, dep.V)"];
    change(keys(json!({}), "host"));
    assert!(user.invoke(&write("kept")).1.contains(BUILDS));
    assert_eq!(user.exec(&versions), "1.0 2.5\n");
    // The same by the variable that pip reads, without a word in the list: another image.
    user.project.write("requirements.txt", &list(""));
    change(keys(json!({ "PIP_INDEX_URL": url }), "host"));
    let said = user.invoke(&read()).1;
    assert!(said.contains(BUILDS) && said.contains("PIP_INDEX_URL="), "{said}");
    user.stop();
    assert_eq!(user.invoke(&read()).0["text"], "kept");
    assert_eq!(user.exec(&versions), "1.0 2.5\n");
    assert_eq!(user.project.images().len(), 2);
}

#[test]
fn a_container_session_has_shells() {
    let Some(registry) = registry("a_container_session_has_shells") else { return };
    let keys = json!({ "entrypoint": "main.py", "build": { "args": { "BASE_IMAGE": format!("{registry}/python") } } });
    let user = User::new(&NATIVE_CODE, Project::new(&keys, &[]));
    let deployed: Value = serde_json::from_slice(&user.run(&["deploy", "--output", "json"]).stdout).unwrap();
    let arn = deployed["agentRuntimeArn"].as_str().unwrap();
    let session = "shell-in-a-container-0123456789abcdef01234";
    let mut shell = World::shell(user.emulator.endpoint(), arn, session, "one");
    shell.send(4, br#"{"width": 121, "height": 41}"#);
    shell.send(0, b"stty size; tty; echo $TERM; id -u; pwd\n");
    shell.until("41 121");
    shell.until("/dev/pts/");
    shell.until("xterm-256color\r\n0\r\n/var/task");
    // Keys are signals to its processes, and its end is told.
    shell.interrupted();
    shell.send(0, b"echo after-$((1+1)); echo typed >/mnt/workspace/f; exit 7\n");
    shell.read_to_the_end();
    shell.ended_with("after-2", "7");
    let seen = user.run(&["exec", "--session", session, "--", "cat", "/mnt/workspace/f"]);
    assert_eq!(text(&seen.stdout), "typed\n");
    crate::shells::left_and_found_again(&|words| {
        user.command(&[&["shell", "--session", "term"], words].concat())
    });
}

#[test]
fn files_are_copied_into_a_container_and_out_of_it() {
    let Some(registry) = registry("files_are_copied_into_a_container") else { return };
    // Debian's tools, and a root file system that has busybox's and nothing else.
    let with =
        |base: &str, agent: &str| format!("FROM {registry}/{base}\nWORKDIR /app\nCOPY . .\nCMD {agent}\n");
    let bare = "[\"sh\", \"-c\", \"mkdir -p /www && echo '{\\\"status\\\": \\\"Healthy\\\"}' >/www/ping && exec busybox httpd -f -p 8080 -h /www\"]";
    for dockerfile in [with("python", "[\"python3\", \"main.py\"]"), with("busybox", bare)] {
        let project =
            Project::new(&json!({ "deployment_type": "container" }), &[("Dockerfile", dockerfile.as_str())]);
        let user = User::new(&NATIVE_IMAGES, project);
        let world = tempfile::tempdir().unwrap();
        crate::cp::odd_files(world.path());
        let busybox = dockerfile.contains("busybox");
        let tree = |root: &Path| {
            let mut tree = crate::cp::tree(root);
            // busybox's tar gives a directory its time before its files.
            let directories = tree.values_mut().filter(|(content, ..)| content == "directory" && busybox);
            directories.for_each(|(_, _, time)| *time = 0);
            tree
        };
        let before = tree(&world.path().join("src"));
        let path = |name: &str| world.path().join(name).display().to_string();
        // To the storage, which is a volume, and to the container's own files.
        for (number, place) in ["/mnt/workspace", "/opt"].into_iter().enumerate() {
            user.exec(&["mkdir", "-p", place]);
            let copied = user.run(&["cp", &path("src"), &format!("work:{place}/")]);
            let expected = format!("copied {} to work:{place}/src (12 files, 3000019 bytes)\n", path("src"));
            assert_eq!(text(&copied.stdout), expected);
            let back = world.path().join(format!("back-{number}"));
            fs::create_dir(&back).unwrap();
            user.run(&["cp", &format!("work:{place}/src"), &back.display().to_string()]);
            assert_eq!(tree(&back.join("src")), before, "{place}: {dockerfile}");
            assert_eq!(
                user.exec(&["sh", "-c", &format!("ls -A /tmp {place} | grep -c [.]agentcore || true")]),
                "0\n"
            );
        }
        // What is in the storage is there after a stop, copied or not, and as an archive too.
        user.stop();
        let archive = user.run(&["cp", "work:/mnt/workspace/src", "-"]).stdout;
        fs::create_dir(world.path().join("archive")).unwrap();
        tar::Archive::new(archive.as_slice()).unpack(world.path().join("archive")).unwrap();
        let names = |root: &str| tree(&world.path().join(root)).into_keys().collect::<Vec<_>>();
        assert_eq!(names("archive/src"), names("src"), "{dockerfile}");
        let refused = user.command(&["cp", "work:/mnt/workspace/none", &path("none")]).output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(
            text(&refused.stderr).contains("`work:/mnt/workspace/none` does not exist"),
            "{}",
            text(&refused.stderr)
        );
    }
}

#[test]
fn where_namespaces_are_denied_code_runs_in_containers_by_itself() {
    let Some(registry) = registry("where_namespaces_are_denied") else { return };
    if !nix::unistd::geteuid().is_root() {
        return support::skip(
            "docker::projects::where_namespaces_are_denied",
            "the daemon's socket is root's",
        );
    }
    let keys = json!({ "entrypoint": "main.py", "build": { "args": { "BASE_IMAGE": format!("{registry}/python") } } });
    let (project, home) = (Project::new(&keys, &[]), Home::new());
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && cd \"$1\" && \"$0\" local up --platform native \
                  && \"$0\" local invoke '{\"do\": \"who\"}' && \"$0\" local status --output json; code=$?; \
                  \"$0\" local down; exit $code";
    let mut command = support::clean("unshare");
    command.args(["-Urm", "sh", "-c", script, BIN]).arg(project.path()).env("AGENTCORE_HOME", home.path());
    let output = succeed(&mut command);
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(errors.contains("building the image that `"), "{errors}");
    assert!(said.contains("\"cwd\": \"/var/task\"") && said.contains("\"engine\": \"docker\""), "{said}");
}
