use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const ROLE: &str = "arn:aws:iam::123456789012:role/agent";

/// Decides that the loopback address is the network, because tests talk to nothing else; 127.0.0.2 is this machine.
fn open_policy() -> Policy {
    Policy::deciding(|address| match address {
        IpAddr::V4(v4) if v4.octets()[3] == 1 => None,
        _ => Some(Refusal::Loopback),
    })
}

use std::net::IpAddr;

fn with_policy(network: bool, identity: Option<Arc<dyn CredentialSource>>, policy: Policy) -> Egress {
    Egress::with(network, identity, policy, Upstream::default(), Grants::default())
}

/// What a listener accepts.
fn arriving(listener: TcpListener) -> impl Stream<Item = io::Result<TcpStream>> + Send {
    futures_util::stream::unfold(listener, |listener| async move {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    })
}

async fn way(egress: &Egress) -> (SocketAddr, Serving, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let way = egress.open(ROLE).unwrap();
    let token = way.token.clone();
    (address, way.serve(arriving(listener)), token)
}

/// Sends bytes and gives back all that comes until the other side closes.
async fn talk(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

/// A server that shows the head of the one request it gets.
async fn server() -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nkeep-alive: x\r\n\r\nhello")
            .await
            .unwrap();
        String::from_utf8(head).unwrap()
    });
    (address, task)
}

#[tokio::test]
async fn a_request_is_forwarded_in_its_origin_form() {
    let egress = with_policy(true, None, open_policy());
    let (proxy, _serving, _) = way(&egress).await;
    let (target, seen) = server().await;
    let request = format!(
        "GET http://{target}/a?b=c HTTP/1.1\r\nhost: elsewhere\r\nproxy-connection: close\r\n\
         proxy-authorization: Basic eA==\r\nconnection: close\r\nx-end: 1\r\n\r\n"
    );
    let answer = talk(proxy, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(!answer.contains("keep-alive"), "{answer}");
    let seen = seen.await.unwrap();
    assert!(seen.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains(&format!("host: {target}\r\n")) && seen.contains("x-end: 1"), "{seen}");
    assert!(!seen.contains("proxy-"), "{seen}");
}

#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways_and_ends_with_either_side() {
    let egress = with_policy(true, None, open_policy());
    let (proxy, _serving, _) = way(&egress).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let mut inside = TcpStream::connect(proxy).await.unwrap();
    // What is sent at once with the request is part of the tunnel.
    inside.write_all(format!("CONNECT {target} HTTP/1.1\r\nhost: x\r\n\r\nearly").as_bytes()).await.unwrap();
    let (mut outside, _) = listener.accept().await.unwrap();
    let mut early = [0; 5];
    outside.read_exact(&mut early).await.unwrap();
    assert_eq!(&early, b"early");
    outside.write_all(b"late").await.unwrap();
    outside.shutdown().await.unwrap();
    let mut rest = String::new();
    inside.read_to_string(&mut rest).await.unwrap();
    assert!(rest.starts_with("HTTP/1.1 200") && rest.ends_with("\r\n\r\nlate"), "{rest}");
    inside.write_all(b"half-closed is still half open").await.unwrap();
    inside.shutdown().await.unwrap();
    let mut last = String::new();
    outside.read_to_string(&mut last).await.unwrap();
    assert_eq!(last, "half-closed is still half open");
}

#[tokio::test]
async fn tunnels_end_with_the_session() {
    let egress = with_policy(true, None, open_policy());
    let (proxy, serving, _) = way(&egress).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let mut inside = TcpStream::connect(proxy).await.unwrap();
    inside.write_all(format!("CONNECT {target} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    let (mut outside, _) = listener.accept().await.unwrap();
    drop(serving);
    let mut rest = Vec::new();
    // An end or a reset: what matters is that it is over.
    let _ = tokio::time::timeout(Duration::from_secs(10), outside.read_to_end(&mut rest)).await.unwrap();
    let _ = tokio::time::timeout(Duration::from_secs(10), inside.read_to_end(&mut rest)).await.unwrap();
    assert!(TcpStream::connect(proxy).await.is_err(), "the listener is still there");
    assert_eq!(egress.shared.connections.available_permits(), MAX_CONNECTIONS);
}

#[tokio::test]
async fn this_machine_is_refused_however_it_is_spelled() {
    let egress = Egress::new(true, None);
    let (proxy, _serving, _) = way(&egress).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "0",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "[::]",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[64:ff9b::7f00:1]",
    ];
    for host in hosts {
        let requests = [
            format!("CONNECT {host}:{port} HTTP/1.1\r\nconnection: close\r\n\r\n"),
            format!("GET http://{host}:{port}/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        ];
        for request in requests {
            let answer = talk(proxy, &request).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{host}: {answer}");
            assert!(answer.contains("agentcore: `") && answer.contains("` is a"), "{host}: {answer}");
        }
    }
    let waiting = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(waiting.is_err(), "something came through");
}

#[tokio::test]
async fn what_cannot_be_reached_or_understood_is_said() {
    let egress = with_policy(true, None, open_policy());
    let (proxy, _serving, _) = way(&egress).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let cases = [
        (format!("CONNECT {closed} HTTP/1.1"), 502, "cannot be reached"),
        (format!("GET http://{closed}/ HTTP/1.1"), 502, "cannot be reached"),
        ("CONNECT 127.0.0.1 HTTP/1.1".to_owned(), 400, "host and a port"),
        ("CONNECT u:p@127.0.0.1:80 HTTP/1.1".to_owned(), 400, "user name"),
        ("GET https://127.0.0.1/ HTTP/1.1".to_owned(), 400, "CONNECT"),
        ("GET /somewhere HTTP/1.1".to_owned(), 404, "/somewhere"),
        ("GET /credentials HTTP/1.1".to_owned(), 404, "--aws-identity"),
    ];
    for (line, status, words) in cases {
        let answer = talk(proxy, &format!("{line}\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        assert!(answer.contains(words), "{line}: {answer}");
    }
    let garbage = talk(proxy, "\0\0 nonsense\r\n\r\n").await;
    assert!(garbage.starts_with("HTTP/1.1 400"), "{garbage}");
}

#[tokio::test]
async fn a_session_has_a_bounded_number_of_connections() {
    let egress = with_policy(true, None, open_policy());
    let (proxy, _serving, _) = way(&egress).await;
    let mut open = Vec::new();
    for _ in 0..MAX_SESSION_CONNECTIONS {
        open.push(TcpStream::connect(proxy).await.unwrap());
    }
    let refused = talk(proxy, "").await;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("too many"), "{refused}");
    let (other, _serving_too, _) = way(&egress).await;
    assert!(talk(other, "GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await.starts_with("HTTP/1.1 404"));
    drop(open);
    let mut answer = String::new();
    for _ in 0..100 {
        answer = talk(proxy, "GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await;
        if answer.starts_with("HTTP/1.1 404") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("places do not come back: {answer}");
}

struct Fixed;

impl CredentialSource for Fixed {
    fn name(&self) -> String {
        "fixed".to_owned()
    }

    fn credentials<'a>(&'a self, role: &'a str) -> BoxFuture<'a, Result<AwsCredentials, String>> {
        Box::pin(async move {
            assert_eq!(role, ROLE);
            Ok(AwsCredentials {
                access_key_id: "AKIAEXAMPLE".to_owned(),
                secret_access_key: "secret".to_owned(),
                session_token: None,
                expires_at: None,
            })
        })
    }
}

#[tokio::test]
async fn credentials_are_for_the_sessions_own_token_only() {
    let egress = with_policy(false, Some(Arc::new(Fixed)), open_policy());
    let (own, _serving, token) = way(&egress).await;
    let (_, _serving_too, other) = way(&egress).await;
    let ask = |header: String| {
        let request = format!("GET /credentials HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n");
        async move { talk(own, &request).await }
    };
    let answer = ask(format!("authorization: {token}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("no-store"), "{answer}");
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["AccessKeyId"], "AKIAEXAMPLE");
    assert_eq!(body["SecretAccessKey"], "secret");
    assert_eq!(body["Token"], "");
    assert!(body["Expiration"].as_str().unwrap().ends_with('Z'), "{body}");
    let wrong =
        [String::new(), format!("authorization: {other}\r\n"), format!("authorization: {}\r\n", &token[1..])];
    for header in wrong {
        let answer = ask(header).await;
        assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains("AKIA"), "{answer}");
    }
    // Network off: the same listener lets nothing out.
    let proxied = talk(own, "CONNECT 192.0.2.1:80 HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert!(proxied.starts_with("HTTP/1.1 403") && proxied.contains("--network on"), "{proxied}");
}

#[test]
fn the_environment_names_what_there_is_and_no_secret() {
    let names = |way: &Way| way.environment().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let network = Egress::new(true, None).open(ROLE).unwrap();
    assert!(names(&network).contains(&"https_proxy".to_owned()) && network.files().is_empty());
    assert!(!names(&network).iter().any(|name| name.starts_with("AWS_")));
    let identity = Egress::new(false, Some(Arc::new(Fixed))).open(ROLE).unwrap();
    assert_eq!(
        names(&identity),
        ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
    );
    assert!(identity.environment().iter().all(|(_, value)| !value.contains(&identity.token)));
    assert_eq!(identity.files(), [(TOKEN_FILE.into(), identity.token.clone())]);
    assert!(Egress::new(false, None).open(ROLE).is_none());
}

/// A proxy for one connection that accepts tunnels to nowhere else and shows the head it got.
async fn parent(status: &'static str) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let answer = format!("HTTP/1.1 {status}\r\nx-parent: 1\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(head).unwrap()
    });
    (address, task)
}

#[tokio::test]
async fn the_machines_own_proxy_is_used_for_what_sessions_may_reach() {
    // 192.0.2.1 is given to nobody: only the parent could know it. [RFC 5737]
    let (proxy, seen) = parent("200 Go on").await;
    let url = format!("http://user:word@{proxy}");
    let upstream = Upstream::new(Some(&url), Some(&url), None).unwrap();
    let egress = Egress::behind(true, None, upstream.clone(), Grants::default());
    let (own, _serving, _) = way(&egress).await;
    let answer = talk(own, "CONNECT 192.0.2.1:443 HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && !answer.contains("x-parent"), "{answer}");
    let seen = seen.await.unwrap();
    assert!(seen.starts_with("CONNECT 192.0.2.1:443 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.contains("proxy-authorization: Basic dXNlcjp3b3Jk\r\n"), "{seen}");

    let refused = talk(own, "CONNECT 127.0.0.1:443 HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");

    for (status, line) in [("403 No", "CONNECT 192.0.2.1:443"), ("200 OK", "GET http://192.0.2.1/x")] {
        let (proxy, seen) = parent(status).await;
        let url = proxy.to_string();
        let upstream = Upstream::new(Some(&url), Some(&url), None).unwrap();
        let (own, _serving, _) = way(&Egress::behind(true, None, upstream, Grants::default())).await;
        let request = format!("{line} HTTP/1.1\r\nhost: 192.0.2.1\r\nconnection: close\r\n\r\n");
        let answer = talk(own, &request).await;
        let seen = seen.await.unwrap();
        assert!(seen.starts_with(&format!("{line} HTTP/1.1\r\n")), "{seen}");
        match status {
            "200 OK" => {
                assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-parent"), "{answer}")
            }
            _ => assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("403"), "{answer}"),
        }
    }
}

#[tokio::test]
async fn what_is_allowed_by_name_is_reached_with_the_network_off_too() {
    let (target, seen) = server().await;
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = other.local_addr().unwrap().port();
    for network in [true, false] {
        let grants = Grants {
            allowances: vec![format!("localhost:{}", target.port()).parse().unwrap()],
            ..Grants::default()
        };
        let egress = Egress::behind(network, None, Upstream::default(), grants);
        assert!(egress.open(ROLE).unwrap().environment().iter().any(|(name, _)| name == "http_proxy"));
        let (proxy, _serving, _) = way(&egress).await;
        let tunnel = async |host: &str, port: u16| {
            talk(proxy, &format!("CONNECT {host}:{port} HTTP/1.1\r\nconnection: close\r\n\r\n")).await
        };
        let expected = if network { "--network-allow localhost:PORT" } else { "--network on" };
        for answer in
            [tunnel("localhost", other).await, tunnel("127.0.0.1", other).await, tunnel("[::1]", 1).await]
        {
            assert!(answer.starts_with("HTTP/1.1 403") && answer.contains(expected), "{answer}");
        }
    }
    let grants = Grants {
        allowances: vec![format!("localhost:{}", target.port()).parse().unwrap()],
        ..Grants::default()
    };
    let (proxy, _serving, _) = way(&Egress::behind(false, None, Upstream::default(), grants)).await;
    let request = format!(
        "GET http://{HOST_NAME}:{}/v1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        target.port()
    );
    let answer = talk(proxy, &request).await;
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(seen.await.unwrap().starts_with("GET /v1 "));
}

#[tokio::test]
async fn the_planes_are_for_who_has_the_sessions_token_where_agents_may_call() {
    let (planes, seen) = server().await;
    let egress = |agent_calls| {
        let grants = Grants { agent_calls, ..Grants::default() };
        let egress = Egress::behind(false, None, Upstream::default(), grants);
        egress.planes_are_at(planes);
        egress
    };
    let open = egress(true);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let way = open.open(ROLE).unwrap();
    let variables: std::collections::HashMap<String, String> = way.environment().into_iter().collect();
    let _serving = way.serve(arriving(listener));
    let endpoint = &variables["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"];
    assert_eq!(endpoint, &variables["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL"]);
    assert!(
        variables.contains_key("AWS_ACCESS_KEY_ID") && !variables.contains_key("http_proxy"),
        "{variables:?}"
    );
    let path = endpoint.strip_prefix(&format!("http://127.0.0.1:{PORT}")).unwrap();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    // Another session's token, the other token of the session's kind, none at all.
    let other = open.open(ROLE).unwrap();
    for path in [
        format!("/planes/{}/x", other.calls),
        format!("/planes/{}/x", other.token),
        "/planes/x".into(),
        "/planes//x".into(),
    ] {
        let answer = talk(address, &get(&path)).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
    }
    let answer = talk(address, &get(&format!("{path}/runtimes/?maxResults=1"))).await;
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    let seen = seen.await.unwrap();
    assert!(
        seen.starts_with("GET /runtimes/?maxResults=1 ") && seen.contains(&format!("host: {planes}\r\n")),
        "{seen}"
    );

    assert!(egress(false).open(ROLE).is_none());
}
