//! What a session reaches outside, and what it does not: the proxy on real sockets of real sessions.
//!
//! The test of what is allowed needs a second machine. It has one: run again in a network namespace of its own, whose only
//! neighbour is another namespace at the other end of a virtual cable. Nothing leaves this machine.

#![allow(clippy::disallowed_methods, reason = "tells the second run of a test what it is")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{self, Emulator, Project};

/// Set in the run with a neighbour.
const WITH_NEIGHBOUR: &str = "AGENTCORE_NETWORK_NEIGHBOUR";

/// What runs in a session; see the functions at its end.
const PROBE: &str = r#"
import glob, http.client, json, os, socket, subprocess, sys, urllib.error, urllib.request

def direct(host, port):
    try:
        socket.create_connection((host, port), timeout=5).close()
        return "connected"
    except OSError as e:
        return type(e).__name__ + " " + str(e)

def fetch(url, **options):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **options), timeout=60) as answer:
            return [answer.status, answer.read().decode()]
    except urllib.error.HTTPError as e:
        return [e.code, e.read().decode()]
    except OSError as e:
        return [0, str(e)]

def tunnel(target, proxy=None):
    """The status and body of the proxy's answer to CONNECT, whatever the target looks like."""
    proxy = proxy or os.environ["https_proxy"].removeprefix("http://").split(":")
    with socket.create_connection((proxy[0], int(proxy[1])), timeout=60) as s:
        s.sendall(f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n\r\n".encode())
        if " 200 " in (head := s.recv(65536).decode()):
            return [200, ""]
        while more := s.recv(65536):
            head += more.decode()
        return [int(head.split()[1]), head.split("\r\n\r\n", 1)[1]]

def curl(*args):
    done = subprocess.run(["curl", "-sS", "--max-time", "60", *args], capture_output=True, text=True)
    return [done.returncode, done.stdout + done.stderr]

def token():
    with open(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]) as f:
        return f.read()

def credentials(authorization):
    headers = {"Authorization": authorization} if authorization else {}
    return fetch(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], headers=headers)

def boto():
    import boto3
    found = boto3.Session().get_credentials().get_frozen_credentials()
    return [found.access_key, found.secret_key, found.token]

def agents():
    """Every runtime that the control plane knows, and what the first one of that name says."""
    import boto3
    control, data = boto3.client("bedrock-agentcore-control"), boto3.client("bedrock-agentcore")
    found = {r["agentRuntimeName"]: r["agentRuntimeArn"] for r in control.list_agent_runtimes()["agentRuntimes"]}
    answer = data.invoke_agent_runtime(
        agentRuntimeArn=found["notes"], runtimeSessionId="n" * 40, payload=json.dumps({"prompt": "from inside"}))
    return [sorted(found), json.loads(answer["response"].read())["notes"]]

def proc(what):
    """The environment and command line of every process that is seen here."""
    found = b""
    for name in glob.glob(f"/proc/[0-9]*/{what}"):
        try:
            with open(name, "rb") as f:
                found += f.read()
        except OSError:
            pass
    return found.decode(errors="replace")

print(json.dumps(eval(sys.argv[1])))
"#;

fn project() -> Project {
    let project = Project::new("deaf", "traveller", json!({}));
    std::fs::write(project.path().join("probe.py"), PROBE).unwrap();
    project
}

/// The value of a Python expression in a session.
#[track_caller]
fn ask_as(emulator: &Emulator, project: &Project, session: &str, expression: &str) -> Value {
    let line = ["local", "exec", "--session", session, "--", "python3", "/var/task/probe.py", expression];
    let output = emulator.run(project.path(), &line);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{expression}: {e}: {}", String::from_utf8_lossy(&output.stdout)))
}

#[track_caller]
fn ask(emulator: &Emulator, project: &Project, expression: &str) -> Value {
    ask_as(emulator, project, "one", expression)
}

fn python_is_here(test: &str) -> bool {
    let found = support::which("python3").is_some();
    if !found {
        support::skip(test, "no `python3` in PATH; install python3");
    }
    found
}

#[test]
fn off_means_that_nothing_leaves() {
    if !python_is_here("network::off_means_that_nothing_leaves") {
        return;
    }
    let emulator = Emulator::start(&["--network", "off"]);
    let project = project();
    emulator.run(project.path(), &["local", "deploy"]);
    let status = emulator.run(project.path(), &["--output", "json", "local", "status"]);
    assert_eq!(serde_json::from_slice::<Value>(&status.stdout).unwrap()["network"], "off");
    let names =
        ask(&emulator, &project, "[n for n in os.environ if 'proxy' in n.lower() or 'AWS_CONT' in n]");
    assert_eq!(names, json!([]));
    // Of a block that is given to nobody: no packet is ever sent, there is no route.
    let direct = ask(&emulator, &project, "direct('192.0.2.1', 80)");
    assert!(direct.as_str().unwrap().contains("unreachable"), "{direct}");
    let listener = ask(&emulator, &project, &format!("direct('127.0.0.1', {})", agentcore::egress::PORT));
    assert!(listener.as_str().unwrap().contains("refused"), "{listener}");
}

#[test]
fn the_machine_itself_is_out_of_reach() {
    if !python_is_here("network::the_machine_itself_is_out_of_reach") {
        return;
    }
    let emulator = Emulator::start(&[]);
    let project = project();
    emulator.run(project.path(), &["local", "deploy"]);
    let status = emulator.run(project.path(), &["--output", "json", "local", "status"]);
    assert_eq!(serde_json::from_slice::<Value>(&status.stdout).unwrap()["network"], "on");
    // The emulator's own port, which answers whoever reaches it.
    let port = emulator.endpoint().rsplit(':').next().unwrap().trim_end_matches('/').to_owned();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "169.254.169.254",
        "[fe80::1]",
        "[::]",
    ];
    let targets: Vec<String> = hosts.iter().map(|host| format!("{host}:{port}")).collect();
    let answers = ask(&emulator, &project, &format!("[tunnel(t) for t in {}]", json!(targets)));
    for (target, answer) in targets.iter().zip(answers.as_array().unwrap()) {
        assert_eq!(answer[0], 403, "{target}: {answer}");
        assert!(answer[1].as_str().unwrap().contains("not the machine that runs them"), "{target}: {answer}");
    }
    // A program that would forward what the variables keep away from the proxy.
    let forced = format!("curl('--noproxy', '', 'http://127.0.0.1:{port}/runtimes')");
    let forced = ask(&emulator, &project, &forced);
    assert!(forced[1].as_str().unwrap().contains("loopback address"), "{forced}");
    // Its own loopback, where the emulator is not.
    let own = ask(&emulator, &project, &format!("direct('127.0.0.1', {port})"));
    assert!(own.as_str().unwrap().contains("refused"), "{own}");
    let mute = ask(&emulator, &project, "fetch('http://127.0.0.1:64642/credentials')");
    assert_eq!(mute[0], 404, "{mute}");
}

#[test]
fn the_network_is_reached_through_the_proxy_alone() {
    const TEST: &str = "network::the_network_is_reached_through_the_proxy_alone";
    if !python_is_here(TEST) {
        return;
    }
    if std::env::var_os(WITH_NEIGHBOUR).is_some() {
        return with_a_neighbour();
    }
    if !nix::unistd::geteuid().is_root() {
        // A user's namespace has one id, which is none to make a session's ids from; root's run covers this.
        return;
    }
    for tool in ["ip", "unshare", "nsenter", "curl"] {
        if support::which(tool).is_none() {
            return support::skip(
                TEST,
                &format!("no `{tool}` in PATH; install iproute2, util-linux and curl"),
            );
        }
    }
    let room = tempfile::tempdir().unwrap();
    std::fs::write(
        room.path().join("hosts"),
        "127.0.0.1 localhost\n10.77.0.2 neighbour.test\n127.0.0.1 rebound.test\n10.77.0.1 myself.test\n",
    )
    .unwrap();
    std::fs::write(room.path().join("neighbour.py"), NEIGHBOUR).unwrap();
    let output = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-euc", CABLE, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .current_dir(room.path())
        .env(WITH_NEIGHBOUR, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "with a neighbour:\n{said}\n{errors}");
    assert!(said.contains("1 passed"), "the test did not run again:\n{said}");
}

/// Two network namespaces and a cable, a server at the far end, then the test at the near end.
const CABLE: &str = r#"
ip link set lo up
mount --bind hosts /etc/hosts
unshare --net sleep 300 &
far=$!
trap 'kill $far' EXIT
until [ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
ip link add near type veth peer name far netns $far
ip addr add 10.77.0.1/24 dev near
ip link set near up
nsenter -t $far -n ip addr add 10.77.0.2/24 dev far
nsenter -t $far -n ip link set far up
nsenter -t $far -n python3 neighbour.py > ready &
trap 'kill $far $!' EXIT
until grep -q ready ready; do sleep 0.01; done
"$@"
"#;

/// Tells who came, and how it was asked.
const NEIGHBOUR: &str = r#"
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.do_GET(self.rfile.read(int(self.headers["content-length"])).decode())

    def do_GET(self, body=""):
        text = f"{self.client_address[0]} asked {self.headers['host']} for {self.path} {body}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

server = ThreadingHTTPServer(("10.77.0.2", 80), Handler)
print("ready", flush=True)
server.serve_forever()
"#;

fn with_a_neighbour() {
    let emulator = Emulator::start(&["--network", "on"]);
    let project = project();
    emulator.run(project.path(), &["local", "deploy"]);
    let answer = ask(&emulator, &project, "fetch('http://10.77.0.2/a?b=c')");
    assert_eq!(answer, json!([200, "10.77.0.1 asked 10.77.0.2 for /a?b=c "]));
    let answer = ask(&emulator, &project, "fetch('http://neighbour.test/x', data=b'sent')");
    assert_eq!(answer, json!([200, "10.77.0.1 asked neighbour.test for /x sent"]));
    // With a tunnel, as for `https://`, and without.
    let answer = ask(&emulator, &project, "curl('--proxytunnel', 'http://neighbour.test/t')");
    assert_eq!(answer, json!([0, "10.77.0.1 asked neighbour.test for /t "]));
    let answer = ask(&emulator, &project, "curl('http://neighbour.test/p')");
    assert_eq!(answer, json!([0, "10.77.0.1 asked neighbour.test for /p "]));
    // The proxy is the only way.
    let direct = ask(&emulator, &project, "direct('10.77.0.2', 80)");
    assert!(direct.as_str().unwrap().contains("unreachable"), "{direct}");
    // Names that lead back, this machine's address in the network, a name that nobody knows.
    for name in ["rebound.test", "myself.test", "10.77.0.1", "[::ffff:10.77.0.1]"] {
        let answer = ask(&emulator, &project, &format!("tunnel('{name}:80')"));
        assert_eq!(answer[0], 403, "{name}: {answer}");
    }
    let unknown = ask(&emulator, &project, "tunnel('nobody.test:80')");
    assert_eq!(unknown[0], 502, "{unknown}");
    assert!(unknown[1].as_str().unwrap().contains("`nobody.test` has no address"), "{unknown}");
    let closed = ask(&emulator, &project, "tunnel('10.77.0.2:81')");
    assert_eq!(closed[0], 502, "{closed}");
    // A variable of the runtime's own stands in either case.
    let keys = json!({ "environment_variables": { "HTTPS_PROXY": "http://127.0.0.1:1" } });
    let own = Project::new("deaf", "opinionated", keys);
    std::fs::write(own.path().join("probe.py"), PROBE).unwrap();
    emulator.run(own.path(), &["local", "deploy"]);
    let found = ask(&emulator, &own, "[os.environ.get(n) for n in ('HTTPS_PROXY', 'https_proxy')]");
    assert_eq!(found, json!(["http://127.0.0.1:1", null]));
}

const SECRET: &str = "Th1sIsNobodysSecretAccessKeyButOurTest00";

/// A file of the user's AWS configuration with profile `dev`.
fn configuration(directory: &Path) -> String {
    let file = directory.join("aws-config");
    let keys = format!("aws_access_key_id = AKIANOBODYSKEY\naws_secret_access_key = {SECRET}\n");
    std::fs::write(&file, format!("[profile dev]\nregion = eu-west-1\n{keys}")).unwrap();
    file.display().to_string()
}

#[test]
fn an_agent_has_the_credentials_of_a_profile_and_nobody_else_does() {
    const TEST: &str = "network::an_agent_has_the_credentials_of_a_profile_and_nobody_else_does";
    let Some(python) = support::python(TEST) else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = configuration(directory.path());
    let environment = [("AWS_CONFIG_FILE", file.as_str()), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")];
    let emulator =
        Emulator::start_with(&["--network", "off", "--aws-identity", "profile", "dev"], &environment);
    let project = project();
    std::os::unix::fs::symlink(python.parent().unwrap().parent().unwrap(), project.path().join(".venv"))
        .unwrap();
    emulator.run(project.path(), &["local", "deploy"]);
    let status = emulator.run(project.path(), &["--output", "json", "local", "status"]);
    assert_eq!(serde_json::from_slice::<Value>(&status.stdout).unwrap()["awsIdentity"], "profile dev");

    let found = ask(&emulator, &project, "boto()");
    assert_eq!(found, json!(["AKIANOBODYSKEY", SECRET, ""]));
    let token = ask(&emulator, &project, "token()").as_str().unwrap().to_owned();
    assert!(token.len() >= 32, "{token}");
    assert_eq!(ask(&emulator, &project, "oct(os.stat('/run/agentcore/token').st_mode & 0o777)"), "0o600");
    for (expression, status) in [
        ("credentials(token())", 200),
        ("credentials(None)", 401),
        ("credentials('wrong')", 401),
        ("fetch(os.environ['AWS_CONTAINER_CREDENTIALS_FULL_URI'] + '/x')", 404),
        ("tunnel('192.0.2.1:80', ['127.0.0.1', 64642])", 403),
    ] {
        let answer = ask(&emulator, &project, expression);
        assert_eq!(answer[0], status, "{expression}: {answer}");
        assert_eq!(answer[1].as_str().unwrap().contains(SECRET), status == 200, "{expression}: {answer}");
    }
    // The token of one session is none in another.
    let theirs = ask_as(&emulator, &project, "two", &format!("credentials('{token}')"));
    assert_eq!(theirs[0], 401, "{theirs}");

    // What listings show, inside and outside, is neither secret.
    for what in ["environ", "cmdline"] {
        let inside = ask(&emulator, &project, &format!("proc('{what}')"));
        let inside = inside.as_str().unwrap();
        assert!(inside.contains(if what == "environ" { "AWS_CONTAINER" } else { "python3" }), "{inside}");
        assert!(!inside.contains(SECRET) && !inside.contains(&token), "{what} inside: {inside}");
        for process in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let text = std::fs::read(process.path().join(what)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            // The command above that carried the token as an argument was this test's own.
            assert!(!text.contains(SECRET) && !text.contains(&token), "{what} of {process:?}");
        }
    }
    let kept =
        Command::new("grep").args(["-rlae", SECRET, "-e", &token]).arg(emulator.home()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "", "the emulator keeps secrets in files");
}

#[test]
fn an_agent_has_the_credentials_of_its_runtimes_role() {
    const TEST: &str = "network::an_agent_has_the_credentials_of_its_runtimes_role";
    if !python_is_here(TEST) {
        return;
    }
    let role = "arn:aws:iam::123456789012:role/coder";
    let (endpoint, asked) = token_service();
    let environment = [
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("AWS_ACCESS_KEY_ID", "AKIABASE"),
        ("AWS_SECRET_ACCESS_KEY", "base"),
        ("AWS_ENDPOINT_URL_STS", endpoint.as_str()),
    ];
    let emulator = Emulator::start_with(&["--aws-identity", "role"], &environment);
    let project = Project::new("deaf", "traveller", json!({ "aws": { "execution_role": role } }));
    std::fs::write(project.path().join("probe.py"), PROBE).unwrap();
    emulator.run(project.path(), &["local", "deploy"]);
    for session in ["one", "one", "two"] {
        let answer = ask_as(&emulator, &project, session, "credentials(token())");
        assert_eq!(answer[0], 200, "{answer}");
        let found: Value = serde_json::from_str(answer[1].as_str().unwrap()).unwrap();
        assert_eq!(found["AccessKeyId"], "ASIAROLE");
        assert_eq!(found["Token"], "role-token");
        assert_eq!(found["Expiration"], "2099-01-01T00:00:00.000Z");
    }
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "credentials that last are asked for once: {asked:?}");
    assert!(asked[0].contains("Action=AssumeRole") && asked[0].contains("role%2Fcoder"), "{asked:?}");
    // A project without a role.
    let bare = self::project();
    std::fs::write(
        bare.path().join(".bedrock_agentcore.yaml"),
        "agents: {bare: {name: bare, entrypoint: main.py}}",
    )
    .unwrap();
    emulator.run(bare.path(), &["local", "deploy"]);
    let answer = ask(&emulator, &bare, "credentials(token())");
    assert_eq!(answer[0], 502, "{answer}");
    assert!(answer[1].as_str().unwrap().contains("execution_role"), "{answer}");
}

/// A server that gives everybody the role's credentials, and what it was asked.
fn token_service() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = asked.clone();
    // Ends with the test process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut length = 0;
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap_or(0) > 2 {
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            heard.lock().unwrap().push(String::from_utf8(body).unwrap());
            let answer = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                <AssumeRoleResult><Credentials><AccessKeyId>ASIAROLE</AccessKeyId>\
                <SecretAccessKey>role-secret</SecretAccessKey><SessionToken>role-token</SessionToken>\
                <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult>\
                </AssumeRoleResponse>";
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/xml\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                answer.len()
            );
            let mut stream = reader.into_inner();
            stream.write_all((head + answer).as_bytes()).unwrap();
        }
    });
    (endpoint, asked)
}

#[test]
fn an_identity_that_is_not_set_up_is_refused_at_once() {
    let home = support::short_temp_dir();
    let up = |words: &[&str]| {
        support::clean(support::BIN)
            .env("AGENTCORE_HOME", home.path())
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .args(["local", "up", "--aws-identity"])
            .args(words)
            .output()
            .unwrap()
    };
    for (words, code, said) in [
        (&["profile", "nobody"][..], 1, "aws configure --profile nobody"),
        (&["role"], 1, "default credential"),
        (&["profile"], 2, "--aws-identity profile NAME"),
        (&["somebody"], 2, "`somebody` is no identity"),
    ] {
        let output = up(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {errors}");
        assert!(errors.contains("error: ") && errors.contains(said), "{words:?}: {errors}");
    }
}

/// A server on this machine's loopback that answers every request, and its port.
fn model_server() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the test process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap_or(0) > 2 {
                line.clear();
            }
            let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nmodel";
            let _ = reader.into_inner().write_all(answer.as_bytes());
        }
    });
    port
}

#[test]
fn a_service_of_this_machine_is_reached_where_it_was_allowed() {
    if !python_is_here("network::a_service_of_this_machine_is_reached_where_it_was_allowed") {
        return;
    }
    let (port, other) = (model_server(), model_server());
    let emulator = Emulator::start(&["--network", "off", "--network-allow", &format!("localhost:{port}")]);
    let project = project();
    emulator.run(project.path(), &["local", "deploy"]);
    let status = emulator.run(project.path(), &["--output", "json", "local", "status"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(
        (&status["network"], &status["networkAllow"]),
        (&json!("off"), &json!([format!("localhost:{port}")]))
    );
    let get = |host: &str, port: u16| ask(&emulator, &project, &format!("fetch('http://{host}:{port}/v1')"));
    assert_eq!(get("host.docker.internal", port), json!([200, "model"]));
    assert_eq!(ask(&emulator, &project, &format!("tunnel('localhost:{port}')"))[0], 200);
    // By that way alone, and nothing else of this machine or of the network.
    let direct = ask(&emulator, &project, &format!("direct('127.0.0.1', {port})"));
    assert!(direct.as_str().unwrap().contains("refused"), "{direct}");
    for (host, port) in [("host.docker.internal", other), ("192.0.2.1", port)] {
        assert_eq!(get(host, port)[0], 403, "{host}");
    }
    let planes = emulator.endpoint().rsplit_once(':').unwrap().1.parse().unwrap();
    assert_eq!(get("host.docker.internal", planes)[0], 403);

    let up = |flags: &[&str]| {
        let home = support::short_temp_dir();
        let mut command = support::clean(support::BIN);
        command.env("AGENTCORE_HOME", home.path()).args(["local", "up", "--foreground"]).args(flags);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for bad in ["169.254.169.254:80", "example.com:443", "1.1.1.1:443", "localhost"] {
        let (code, said) = up(&["--network-allow", bad]);
        assert!(code == Some(2) && said.contains("error: "), "{bad}: {said}");
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (code, said) = up(&["--port", &free.to_string(), "--network-allow", &format!("localhost:{free}")]);
    assert!(code == Some(2) && said.contains("--allow-agent-calls"), "{said}");
}

#[test]
fn an_agent_calls_other_agents_where_it_may() {
    const TEST: &str = "network::an_agent_calls_other_agents_where_it_may";
    let Some(python) = support::python(TEST) else { return };
    let mount = json!([{ "session_storage": { "mount_path": "/mnt/workspace" } }]);
    let notes = json!({
        "command": [agentcore::engine::TOOL_PATH, "demo-agent"], "filesystem_configurations": mount
    });
    let notes = Project::new("lab", "notes", notes);
    let project = project();
    std::os::unix::fs::symlink(python.parent().unwrap().parent().unwrap(), project.path().join(".venv"))
        .unwrap();
    let caller = Emulator::start(&["--network", "off", "--allow-agent-calls"]);
    for project in [&notes, &project] {
        caller.run(project.path(), &["local", "deploy"]);
    }
    // boto3 in the session, with nothing said to it but by the environment.
    let found = ask(&caller, &project, "agents()");
    assert_eq!(found, json!([["notes", "traveller"], ["from inside"]]));
    // The endpoint of one session is none in another.
    let endpoint = ask(&caller, &project, "os.environ['AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL']");
    let list = format!(
        "fetch('{}/runtimes/', method='POST', data=b'{{}}', headers={{'content-type': 'application/json'}})",
        endpoint.as_str().unwrap()
    );
    assert_eq!(ask(&caller, &project, &list)[0], 200);
    assert_eq!(ask_as(&caller, &project, "two", &list)[0], 403);

    let silent = Emulator::start(&[]);
    silent.run(project.path(), &["local", "deploy"]);
    let names =
        ask(&silent, &project, "[n for n in os.environ if n.startswith('AWS_ENDPOINT') or 'KEY' in n]");
    assert_eq!(names, json!([]));
    let path = "fetch('http://127.0.0.1:64642/planes/x/runtimes/')";
    assert_eq!(ask(&silent, &project, path)[0], 403);
}
