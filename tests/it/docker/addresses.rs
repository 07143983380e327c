//! Where a daemon may be: on a port of this machine, in the clear or over TLS, named by `DOCKER_HOST` or a context, or
//! behind `ssh`.

use std::path::{Path, PathBuf};
use std::process::Command;

use agentcore::engine::docker::{DaemonChoice, Platform};
use agentcore::engine::{ComputeSpec, Engine, EngineError};
use sha2::{Digest, Sha256};

use super::daemon::Daemon;
use super::lab::{Home, engine_of, lab, lab_at, variable};
use crate::engine::run;
use crate::support::{self, BIN, Emulator, Project};

/// A certificate authority with a certificate for `127.0.0.1` and one for a client, each in a directory as the `docker`
/// command line wants it.
fn certificates(directory: &Path) -> (PathBuf, PathBuf) {
    let script = r#"
set -e
key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $key -subj /CN=authority -keyout authority.pem -out ca.pem -days 2 \
    -addext basicConstraints=critical,CA:true
for who in server client; do
    mkdir $who
    cp ca.pem $who/
    openssl req $key -subj /CN=$who -keyout $who/key.pem -out $who.csr
    printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=%sAuth\n' $who >$who.ext
    openssl x509 -req -in $who.csr -CA ca.pem -CAkey authority.pem -CAcreateserial -days 2 \
        -extfile $who.ext -out $who/cert.pem
done"#;
    support::succeed(Command::new("sh").args(["-c", script]).current_dir(directory));
    (directory.join("server"), directory.join("client"))
}

/// A port for a daemon that starts later: below those that the kernel hands out to whoever asks for any.
fn free_port() -> u16 {
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    (first..first + 1000).find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}

/// Writes a context of the `docker` command line.
fn write_context(config: &Path, name: &str, host: &str, certificates: &Path) {
    let id: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let meta = config.join("contexts/meta").join(&id);
    std::fs::create_dir_all(&meta).unwrap();
    let endpoint = serde_json::json!({ "docker": { "Host": host, "SkipTLSVerify": false } });
    let text = serde_json::json!({ "Name": name, "Metadata": {}, "Endpoints": endpoint });
    std::fs::write(meta.join("meta.json"), text.to_string()).unwrap();
    let tls = config.join("contexts/tls").join(&id);
    std::fs::create_dir_all(&tls).unwrap();
    std::os::unix::fs::symlink(certificates, tls.join("docker")).unwrap();
    std::fs::write(config.join("config.json"), serde_json::json!({ "currentContext": name }).to_string())
        .unwrap();
}

fn spec(image: &str) -> ComputeSpec {
    ComputeSpec {
        code: None,
        image: Some(image.to_owned()),
        read_only: Vec::new(),
        environment: Vec::new(),
        storage: None,
        early_mount: false,
        label: "addressed".to_owned(),
        labels: Vec::new(),
        listener: None,
    }
}

#[test]
fn a_daemon_of_this_machine_is_used_over_tcp_and_tls() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let test = "docker::addresses::a_daemon_of_this_machine_is_used_over_tcp_and_tls";
    let Some(_lab) = runtime.block_on(lab(test)) else { return };
    if support::which("openssl").is_none() {
        return support::skip(test, "no `openssl` in PATH");
    }
    let Some(mut daemon) = Daemon::for_test(test) else { return };
    let scratch = support::short_temp_dir();
    let (server, client) = certificates(scratch.path());
    let home = scratch.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let tls = format!("tcp://127.0.0.1:{}", free_port());
    let file = |name: &str| server.join(name).display().to_string();
    let (ca, certificate, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let more = ["-H", &tls, "--tlsverify", "--tlscacert", &ca, "--tlscert", &certificate, "--tlskey", &key];
    daemon.with(&more.map(str::to_owned));
    daemon.start();
    runtime.block_on(async {
        let lab = lab_at(&daemon.host()).await.unwrap();
        let image = lab.image("busybox", &["CMD [\"/bin/true\"]"]).await;
        // In the clear: something on a port that passes all on to the socket.
        let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let plain = format!("tcp://{}", relay.local_addr().unwrap());
        let socket = daemon.path().join("s");
        let relaying = tokio::spawn(async move {
            while let Ok((mut near, _)) = relay.accept().await {
                let mut far = tokio::net::UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
            }
        });
        let config = scratch.path().join("config");
        write_context(&config, "near", &tls, &client);
        let by_host = |host: &str| DaemonChoice { host: Some(host.to_owned()), ..DaemonChoice::default() };
        let with_certificates =
            DaemonChoice { verify: true, certificates: Some(client.clone()), ..by_host(&tls) };
        let by_context = DaemonChoice { config: Some(config), ..DaemonChoice::default() };
        for choice in [by_host(&plain), with_certificates, by_context] {
            let engine = engine_of(&home, Platform::Native, choice.clone());
            let compute = engine.start(spec(&image)).await.unwrap_or_else(|e| panic!("{choice:?}: {e}"));
            assert_eq!(run(&*compute, "echo up").await.0, "up\n");
            compute.terminate(std::time::Duration::ZERO).await.unwrap();
        }
        // Without a client's certificate nobody is let in, and a port without a daemon is told.
        for (choice, host) in
            [(by_host(&tls), tls.clone()), (by_host("tcp://127.0.0.1:1"), "127.0.0.1:1".into())]
        {
            let error = engine_of(&home, Platform::Native, choice).probe().await.unwrap_err();
            let EngineError::Unavailable { reason, .. } = &error else { panic!("{error}") };
            assert!(reason.contains("does not answer") && reason.contains(&host), "{reason}");
        }
        relaying.abort();
        assert_eq!(lab.labelled(&super::lab::label_of(&home)).await.0, Vec::<String>::new());
    });
}

fn project() -> Project {
    let keys = serde_json::json!({
        "filesystem_configurations": [{ "session_storage": { "mount_path": "/mnt/workspace" } }],
    });
    Project::new("lab", "addressed", keys)
}

/// Stands for `ssh`: what is to be run on the other machine runs here, with another daemon. One user is refused.
const SSH: &str = r#"
case " $* " in
*' -O '*) exit 0 ;;
*' -M '*)
    while [ $# -gt 1 ]; do
        [ "$1" != -E ] || log=$2
        shift
    done
    [ "$1" != stranger@far.example ] || { echo 'stranger@far.example: Permission denied (publickey).' >"$log"; exit 255; }
    exit 0 ;;
esac
export DOCKER_HOST=DAEMON
exec docker system dial-stdio
"#;

#[test]
fn a_daemon_is_reached_by_ssh_and_what_ssh_says_is_told() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let test = "docker::addresses::a_daemon_is_reached_by_ssh_and_what_ssh_says_is_told";
    let Some(lab) = runtime.block_on(lab(test)) else { return };
    let Some(host) = variable("DOCKER_HOST").filter(|_| support::which("docker").is_some()) else {
        return support::skip(test, "no `DOCKER_HOST`, or no `docker` in PATH");
    };
    let image = runtime.block_on(lab.image("python", &["ENV PATH=/usr/local/bin:/usr/bin:/bin"]));
    let scratch = tempfile::tempdir().unwrap();
    let ssh = scratch.path().join("ssh");
    support::script(&ssh, &SSH.replace("DAEMON", &host));
    let path = format!("{}:{}", scratch.path().display(), variable("PATH").unwrap());
    let up = |host: &str| {
        let mut command = support::clean(BIN);
        let none = scratch.path().join("none");
        command.env("AGENTCORE_HOME", &none).env("PATH", &path);
        command.env("DOCKER_HOST", host).args(["local", "up", "--engine", "docker"]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // One that started all the same must not stay.
        let _ = support::clean(BIN).env("AGENTCORE_HOME", &none).args(["local", "down"]).output();
        assert_eq!(output.status.code(), Some(5), "{host}: {said}");
        said
    };
    let said = up("ssh://stranger@far.example");
    assert!(said.contains("`ssh://stranger@far.example` does not answer"), "{said}");
    assert!(said.contains("Permission denied"), "{said}");
    assert!(said.contains("hint: `ssh stranger@far.example docker version` has to answer"), "{said}");
    for host in ["ssh://near.example:2222", "ssh://near.example/run/docker.sock"] {
        let said = up(host);
        assert!(said.contains(&format!("`{host}` names more than a user and a host")), "{said}");
        assert!(said.contains("`~/.ssh/config`"), "{said}");
    }
    let said = up("tcp://127.0.0.1:1");
    assert!(said.contains("`tcp://127.0.0.1:1` does not answer") && said.contains("refused"), "{said}");
    assert!(said.contains("hint: start it, or set `DOCKER_HOST`"), "{said}");

    // Here it leads to this very machine, so sessions can be had.
    let (project, home) = (project(), Home::new());
    let flags = ["--engine", "docker", "--platform", "native", "--grace", "2s", "--base-image", &image];
    let environment = [("DOCKER_HOST", "ssh://somebody@near.example"), ("PATH", path.as_str())];
    let emulator = Emulator::start_in_as(home.path(), &flags, &environment);
    let write = r#"{"do": "write", "path": "/mnt/workspace/f", "text": "by ssh"}"#;
    emulator.run(project.path(), &["local", "invoke", "--session", "far", write]);
    emulator.run(project.path(), &["local", "stop", "--session", "far"]);
    let found =
        emulator.run(project.path(), &["local", "exec", "--session", "far", "cat", "/mnt/workspace/f"]);
    assert_eq!(String::from_utf8_lossy(&found.stdout), "by ssh");
}
