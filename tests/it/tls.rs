//! The way to an endpoint behind TLS, with certificates of its own and through a proxy: the SDK's calls and shells alike.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::cli::Run;
use crate::shells::{Screen, World, left_and_found_again};
use crate::support;

/// An authority, `ca.pem`, and what it says of `127.0.0.1`, `cert.pem` with `key.pem`.
fn certificates(directory: &Path) {
    let script = r#"
set -e
key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $key -subj /CN=authority -keyout authority.pem -out ca.pem -days 2 \
    -addext basicConstraints=critical,CA:true
openssl req $key -subj /CN=server -keyout key.pem -out server.csr
printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n' >server.ext
openssl x509 -req -in server.csr -CA ca.pem -CAkey authority.pem -CAcreateserial -days 2 \
    -extfile server.ext -out cert.pem"#;
    support::succeed(Command::new("sh").args(["-c", script]).current_dir(directory));
}

/// TLS in front of an emulator, as long as the test runs.
struct Front {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Front {
    fn new(endpoint: &str, directory: &Path) -> Self {
        let certificate = CertificateDer::from_pem_file(directory.join("cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = endpoint.trim_start_matches("http://").to_owned();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (acceptor, target) = (acceptor.clone(), target.clone());
                tokio::spawn(async move {
                    // A client that does not trust us leaves.
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let mut server = tokio::net::TcpStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        };
        std::thread::spawn(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve);
        });
        Self { port, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A proxy that makes tunnels, answers other requests itself, and notes the head of each.
struct Proxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    refuses: Arc<AtomicBool>,
}

impl Proxy {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self { port, heads: Arc::default(), refuses: Arc::default() };
        let (heads, refuses) = (proxy.heads.clone(), proxy.refuses.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (heads, refuses) = (heads.clone(), refuses.load(Ordering::SeqCst));
                std::thread::spawn(move || serve(client, &heads, refuses));
            }
        });
        proxy
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, heads: &Mutex<Vec<String>>, refuses: bool) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match client.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    heads.lock().unwrap().push(head.clone());
    if refuses {
        let _ = client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n");
        return;
    }
    let Some(target) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else {
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{\"by\": \"proxy\"}";
        let _ = client.write_all(answer.as_bytes());
        // The payload is taken, so that the answer is not lost with the connection.
        let _ = std::io::copy(&mut client, &mut std::io::sink());
        return;
    };
    let server = TcpStream::connect(target).unwrap();
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
    let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut up, &mut down);
        let _ = down.shutdown(std::net::Shutdown::Both);
    });
    let (mut from, mut to) = (server, client);
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

#[test]
fn calls_and_shells_go_by_tls_and_through_a_proxy() {
    let test = "tls::calls_and_shells_go_by_tls_and_through_a_proxy";
    if support::which("openssl").is_none() {
        return support::skip(test, "no `openssl` in PATH");
    }
    let (world, home) = (World::new(), support::short_temp_dir());
    certificates(home.path());
    let front = Front::new(world.emulator.endpoint(), home.path());
    let proxy = Proxy::new();
    let endpoint = format!("https://127.0.0.1:{}", front.port);
    let trusted = home.path().join("ca.pem").display().to_string();
    let by_proxy = format!("http://user:pa%40ss@127.0.0.1:{}", proxy.port);
    let make_at = |endpoint: &str, verb: &str, environment: &[(&str, &str)], args: &[&str]| {
        let mut command = support::clean(support::BIN);
        command.env("AGENTCORE_HOME", home.path().join("home")).current_dir(home.path());
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command.env_remove("NO_PROXY").envs(environment.iter().copied());
        command.args([verb, "--session", "term", "--arn", &world.arn, "--endpoint-url", endpoint]).args(args);
        command
    };
    let make =
        |verb: &str, environment: &[(&str, &str)], args: &[&str]| make_at(&endpoint, verb, environment, args);
    let echo = "{\"do\": \"echo\", \"a\": 1}";
    let invoke =
        |environment: &[(&str, &str)]| Run::from(make("invoke", environment, &[echo]).output().unwrap());
    let shell = |environment: &[(&str, &str)]| {
        let mut screen = Screen::open(&make("shell", environment, &[]));
        let code = screen.code();
        (code, screen)
    };

    // A server that nobody of the machine's vouches for is not talked to, whoever asks.
    let run = invoke(&[]);
    assert_eq!((run.status, run.stdout.as_str()), (4, ""), "{}", run.stderr);
    assert!(run.stderr.contains("could not connect: invalid peer certificate"), "{}", run.stderr);
    let (code, screen) = shell(&[]);
    screen.until("could not connect: invalid peer certificate");
    assert_eq!(code, 4);

    // One that the bundle vouches for is.
    let bundle = ("AWS_CA_BUNDLE", trusted.as_str());
    let run = invoke(&[bundle]);
    assert_eq!((run.status, run.stdout.as_str()), (0, "{\"a\": 1}"), "{}", run.stderr);
    let mut screen = Screen::open(&make("shell", &[bundle], &["--shell-id", "direct"]));
    screen.until("Ctrl+] leaves the shell running");
    screen.type_in("echo by-tls-$((40+2)); exit 7\r");
    assert_eq!(screen.code(), 7, "{}", screen.text());
    screen.until("by-tls-42");
    assert_eq!(proxy.heads(), [""; 0]);

    // A profile may name the bundle: the one that is named, that of the environment, or the default; behind the variable.
    let keys = "aws_access_key_id = test\naws_secret_access_key = test\n";
    let config = format!(
        "[default]\nca_bundle = {trusted}\n{keys}[profile home]\nca_bundle = ~/ca.pem\n{keys}\
         [profile lost]\nca_bundle = /nowhere/ca.pem\n{keys}[profile none]\n{keys}"
    );
    let file = home.path().join("config");
    std::fs::write(&file, config).unwrap();
    let file = file.display().to_string();
    let user = home.path().display().to_string();
    let set_up = [("AWS_CONFIG_FILE", file.as_str()), ("HOME", user.as_str())];
    let of = |environment: &[(&str, &str)], args: &[&str]| {
        let environment = [&set_up[..], environment].concat();
        Run::from(make("invoke", &environment, &[&[echo][..], args].concat()).output().unwrap())
    };
    let (lost, token) = (("AWS_PROFILE", "lost"), ["--bearer-token", "token"]);
    for (environment, args) in [
        (&[][..], &[][..]),
        (&[("AWS_PROFILE", "home")], &[]),
        (&[lost], &["--profile", "default"]),
        (&[lost, bundle], &[]),
        (&[bundle], &["--profile", "lost"]),
    ] {
        let run = of(environment, args);
        let shown = format!("{environment:?} {args:?}: {}", run.stderr);
        assert_eq!((run.status, run.stdout.as_str()), (0, "{\"a\": 1}"), "{shown}");
    }
    let nowhere = "error: `ca_bundle` cannot be used: `/nowhere/ca.pem` of profile `lost` cannot be read: No such file or \
                   directory (os error 2)\nhint: name a file of certificates in PEM form there, or in `AWS_CA_BUNDLE`, \
                   which comes first\n";
    for (environment, args, expected) in [
        (&[lost][..], &[][..], nowhere),
        (&[], &["--profile", "lost"], nowhere),
        (&[lost], &token[..], nowhere),
        (&[], &["--profile", "none"], "could not connect: invalid peer certificate"),
        (&[("AWS_PROFILE", "none")], &token, "could not connect: invalid peer certificate"),
    ] {
        let run = of(environment, args);
        let shown = format!("{environment:?} {args:?}: {}", run.stderr);
        assert!(run.status == 4 && run.stderr.contains(expected), "{shown}");
    }
    let mut screen = Screen::open(&make("shell", &set_up, &["--shell-id", "profile"]));
    screen.until("Ctrl+] leaves the shell running");
    screen.type_in("exit 5\r");
    assert_eq!(screen.code(), 5, "{}", screen.text());

    // Through the proxy both are tunnels, with its credentials, and nothing goes beside it.
    let (before, proxied) = (front.connections(), ("HTTPS_PROXY", by_proxy.as_str()));
    let run = invoke(&[bundle, proxied]);
    assert_eq!((run.status, run.stdout.as_str()), (0, "{\"a\": 1}"), "{}", run.stderr);
    assert_eq!(proxy.heads().len(), 1);
    left_and_found_again(&|args| make("shell", &[bundle, proxied], args));
    let heads = proxy.heads();
    assert_eq!((heads.len(), front.connections() - before), (3, 3), "{heads:?}");
    for head in heads {
        assert!(head.starts_with(&format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n", front.port)), "{head}");
        let head = head.to_ascii_lowercase();
        // `user:pa@ss`
        assert!(head.contains("proxy-authorization: basic dxnlcjpwyubzcw==\r\n"), "{head}");
    }

    // What `NO_PROXY` names is reached without.
    let asked = proxy.heads().len();
    let direct = ("NO_PROXY", "example.com,127.0.0.0/8");
    let run = invoke(&[bundle, proxied, direct]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    let mut screen = Screen::open(&make("shell", &[bundle, proxied, direct], &[]));
    screen.until("Ctrl+] leaves the shell running");
    screen.type_in("exit 3\r");
    assert_eq!(screen.code(), 3, "{}", screen.text());
    assert_eq!(proxy.heads().len(), asked);

    // One that refuses is named, and what follows is no answer of the service.
    proxy.refuses.store(true, Ordering::SeqCst);
    let run = invoke(&[bundle, proxied]);
    assert_eq!((run.status, run.stdout.as_str()), (4, ""), "{}", run.stderr);
    assert!(run.stderr.contains("could not connect") && run.stderr.contains("proxy"), "{}", run.stderr);
    let (code, screen) = shell(&[bundle, proxied]);
    screen.until(&format!("the proxy `127.0.0.1:{}`: it refused the connection with `407", proxy.port));
    assert_eq!(code, 4);
    proxy.refuses.store(false, Ordering::SeqCst);

    // Without TLS it is the other variable, and never for this machine itself.
    let elsewhere =
        |at: &str| Run::from(make_at(at, "invoke", &[("HTTP_PROXY", &by_proxy)], &[echo]).output().unwrap());
    let run = elsewhere("http://agentcore.invalid");
    assert_eq!((run.status, run.stdout.as_str()), (0, "{\"by\": \"proxy\"}"), "{}", run.stderr);
    let heads = proxy.heads();
    assert!(heads.last().unwrap().starts_with("POST http://agentcore.invalid/runtimes/"), "{heads:?}");
    let run = elsewhere(world.emulator.endpoint());
    assert_eq!((run.status, run.stdout.as_str()), (0, "{\"a\": 1}"), "{}", run.stderr);
    assert_eq!(proxy.heads().len(), heads.len());

    // What makes no sense is said before anything is sent, and without the password in it.
    for (variable, value, expected) in [
        (
            "HTTPS_PROXY",
            "socks5://user:secret@127.0.0.1:1",
            "error: `https_proxy` cannot be used: it is no URL of an HTTP proxy\n\
             hint: it looks like `http://user:password@host:port`; `no_proxy` names what is reached without it\n",
        ),
        (
            "AWS_CA_BUNDLE",
            "/nowhere/ca.pem",
            "error: `AWS_CA_BUNDLE` cannot be used: `/nowhere/ca.pem` cannot be read: No such file or directory (os error 2)\n\
             hint: name a file of certificates in PEM form, or unset it\n",
        ),
    ] {
        let run = invoke(&[(variable, value)]);
        assert_eq!((run.status, run.stdout.as_str()), (4, ""), "{}", run.stderr);
        assert!(run.stderr.ends_with(expected), "{}", run.stderr);
    }
}
