//! Who may speak to the emulator and what nobody may do to it, byte by byte on its port.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use aws_sdk_bedrockagentcore as data;
use aws_sdk_bedrockagentcorecontrol as control;
use data::primitives::Blob;
use nix::unistd::{Uid, setfsuid};

use crate::support::{self, Emulator, Project};

/// Longest wait for an answer; what takes longer hangs.
const LIMIT: Duration = Duration::from_secs(20);

/// An answer as it came.
pub struct Answer {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: String,
}

/// A connection to the port of the AWS planes.
pub fn connect(emulator: &Emulator) -> TcpStream {
    let stream = TcpStream::connect(emulator.endpoint().trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// Sends these bytes on a connection of their own and reads to the end of the connection.
pub fn exchange(emulator: &Emulator, request: &[u8]) -> Option<Answer> {
    let mut stream = connect(emulator);
    // A server that has refused may close before everything is written.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    parse(&answer)
}

/// The parts of an answer; nothing where none came.
pub fn parse(answer: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ").or_else(|| head.strip_prefix("HTTP/1.0 "))?.get(..3)?;
    Some(Answer { status: status.parse().ok()?, head: head.to_owned(), body: body.to_owned() })
}

/// A request with these headers, one after which the server closes.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    format!("{text}\r\n{body}").into_bytes()
}

fn send(emulator: &Emulator, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    exchange(emulator, &request(method, path, headers, body)).unwrap()
}

#[test]
fn a_web_page_is_refused_whatever_it_tries() {
    let emulator = Emulator::start(&[]);
    let list = |headers: &[(&str, &str)]| send(&emulator, "POST", "/runtimes/", headers, "");
    let local = ("Host", "localhost");
    assert_eq!(list(&[local]).status, 200);
    assert_eq!(list(&[local, ("Origin", "http://localhost:3000")]).status, 200);

    // A page whose name was made to resolve to this machine, pages of elsewhere, and pages without an origin.
    for headers in [
        &[("Host", "evil.example")][..],
        &[local, ("Origin", "https://evil.example")],
        &[local, ("Origin", "null")],
        &[local, ("Sec-Fetch-Site", "cross-site")],
    ] {
        let answer = list(headers);
        assert_eq!(answer.status, 403, "{headers:?}: {}", answer.body);
        assert!(answer.head.contains("x-amzn-errortype: AccessDeniedException"), "{}", answer.head);
        assert!(answer.head.contains("x-amzn-requestid: "), "{}", answer.head);
        // Says what was refused, and gives no page permission to read it or to try again.
        let (_, value) = headers.last().unwrap();
        assert!(answer.body.contains(value), "{}", answer.body);
        assert!(!answer.head.contains("access-control-"), "{}", answer.head);
    }

    // Before it sends what is not simple, a page asks; the answer is no.
    let ask = [local, ("Origin", "https://evil.example"), ("Access-Control-Request-Method", "PUT")];
    let answer = send(&emulator, "OPTIONS", "/runtimes/", &ask, "");
    assert_eq!(answer.status, 403);
    assert!(!answer.head.contains("access-control-"), "{}", answer.head);

    // A form or a beacon, which needs no permission, runs no command and is told what would.
    let arn = "arn:aws:bedrock-agentcore:us-west-2:000000000000:runtime%2Fx-0123456789";
    let body = r#"{"command": "true"}"#;
    let command = |headers: &[(&str, &str)]| {
        send(&emulator, "POST", &format!("/runtimes/{arn}/commands"), headers, body)
    };
    for simple in [&[local, ("Content-Type", "text/plain")][..], &[local]] {
        let answer = command(simple);
        assert_eq!(answer.status, 403, "{}", answer.body);
        assert!(answer.body.contains("application/json"), "{}", answer.body);
    }
    assert_eq!(command(&[local, ("Content-Type", "application/json")]).status, 404);
}

/// Most errors are known before the body has come; the client that still sends it sees the answer all the same,
/// and its connection can be used again.
#[test]
fn an_error_reaches_who_is_still_sending() {
    const HALF: usize = 200_000;
    /// What the server waits for the rest of a body; here nobody but a busy machine is as slow.
    const PATIENCE: Duration = Duration::from_secs(2);
    let emulator = Emulator::start(&[]);
    let arn = "arn:aws:bedrock-agentcore:us-west-2:000000000000:runtime%2Fx-0123456789";
    let path = format!("/runtimes/{arn}/invocations");
    let length = (2 * HALF).to_string();
    let ask = |stream: &mut TcpStream, headers: &[(&str, &str)]| {
        let mut all = vec![("Host", "localhost"), ("Content-Length", length.as_str())];
        all.extend(headers);
        let head = String::from_utf8(request("POST", &path, &all, "")).unwrap();
        stream.write_all(head.replace("Connection: close\r\n", "").as_bytes()).unwrap();
    };
    let mut stream = connect(&emulator);
    for headers in [&[][..], &[("Origin", "https://evil.example")], &[("traceparent", &"x".repeat(200))]] {
        support::eventually(LIMIT, "an answer on a connection that stays", || {
            let begin = Instant::now();
            ask(&mut stream, headers);
            for _ in 0..2 {
                // In two parts, the second of which is on its way when the error is known.
                std::thread::sleep(Duration::from_millis(100));
                stream.write_all(&[b'x'; HALF]).unwrap();
            }
            let sent = begin.elapsed();
            let answer = one_answer(&mut stream);
            assert!((400..500).contains(&answer.status), "{}", answer.head);
            if !answer.head.contains("connection: close") {
                return Some(());
            }
            assert!(sent >= PATIENCE, "{}", answer.head);
            stream = connect(&emulator);
            None
        });
    }
    // Who never sends the rest is answered too, and told that this was all.
    ask(&mut stream, &[]);
    let answer = one_answer(&mut stream);
    assert_eq!(answer.status, 404, "{}", answer.head);
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
}

/// The next answer on a connection that stays.
fn one_answer(stream: &mut TcpStream) -> Answer {
    let mut read = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "the connection was closed: {}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&piece[..count]);
        let Some(answer) = parse(&read) else { continue };
        let length = answer.head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if answer.body.len() >= length.unwrap().parse().unwrap() {
            return answer;
        }
    }
}

/// Runs `act` so that sockets it makes on this thread are another user's. None where that needs rights that
/// we do not have; the suite's pass as root has them.
fn as_another_user<T>(act: impl FnOnce() -> T) -> Option<T> {
    if !Uid::effective().is_root() {
        let _ = writeln!(std::io::stderr(), "SKIPPED guard, as another user: needs root");
        return None;
    }
    let before = setfsuid(Uid::from_raw(65_534));
    let result = act();
    setfsuid(before);
    Some(result)
}

/// The key that `local env` prints.
fn printed_key(emulator: &Emulator) -> (String, String) {
    let output = emulator.run(std::env::temp_dir().as_path(), &["local", "env", "--output", "json"]);
    let variables: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let value = |name: &str| variables[name].as_str().unwrap().to_owned();
    (value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY"))
}

/// The names of the errors of one call of each plane with this key, each with a body of its own.
fn calls(emulator: &Emulator, id: &str, secret: &str) -> Vec<Option<String>> {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let credentials = aws_credential_types::Credentials::new(id, secret, None, None, "agentcore-tests");
    let data = data::Config::builder()
        .behavior_version_latest()
        .region(data::config::Region::new("us-west-2"))
        .endpoint_url(emulator.endpoint())
        .credentials_provider(credentials.clone())
        .http_client(http.clone())
        .build();
    let control = control::Config::builder()
        .behavior_version_latest()
        .region(control::config::Region::new("us-west-2"))
        .endpoint_url(emulator.endpoint())
        .credentials_provider(credentials)
        .http_client(http)
        .build();
    let (data, control) = (data::Client::from_conf(data), control::Client::from_conf(control));
    let arn = "arn:aws:bedrock-agentcore:us-west-2:000000000000:runtime/x-0123456789";
    let code = |error: Option<&str>| Some(error.unwrap_or("no code").to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let list = control.list_agent_runtimes().max_results(7).send().await;
        let tag = control.tag_resource().resource_arn(arn).tags("a b", "c d+e").send().await;
        let payload = Blob::new(vec![0u8, 255, 10, 13]);
        let invoke = data.invoke_agent_runtime().agent_runtime_arn(arn).qualifier("a_b").payload(payload);
        let invoke = invoke.send().await;
        vec![
            list.err().and_then(|e| code(control::error::ProvideErrorMetadata::code(&e))),
            tag.err().and_then(|e| code(control::error::ProvideErrorMetadata::code(&e))),
            invoke.err().and_then(|e| code(data::error::ProvideErrorMetadata::code(&e))),
        ]
    })
}

#[test]
fn another_user_is_served_by_the_access_key_alone() {
    let emulator = Emulator::start(&[]);
    let (id, secret) = printed_key(&emulator);
    let known =
        [None, Some("ResourceNotFoundException".to_owned()), Some("ResourceNotFoundException".to_owned())];
    let denied = || vec![Some("AccessDeniedException".to_owned()); 3];
    // Our own programs need none.
    assert_eq!(calls(&emulator, "test", "test"), known);
    let Some(()) = as_another_user(|| {
        assert_eq!(calls(&emulator, &id, &secret), known);
        assert_eq!(calls(&emulator, &id, "not the secret"), denied());
        assert_eq!(calls(&emulator, "test", "test"), denied());
        let list = request("POST", "/runtimes/", &[("Host", "localhost")], "");
        let answer = exchange(&emulator, &list).unwrap();
        assert_eq!(answer.status, 403, "{}", answer.body);
        assert!(answer.body.contains("agentcore local env"), "{}", answer.body);
        assert!(!answer.body.contains(&id) && !answer.body.contains(&secret), "{}", answer.body);
    }) else {
        return;
    };
    // The directory with the key and the admin socket, which needs none, is not for him to see.
    let seen = as_another_user(|| {
        let names = ["access-key.json", "emulator.sock", "emulator.json"];
        names.iter().filter(|name| std::fs::metadata(emulator.home().join(name)).is_ok()).count()
    });
    assert!(seen.is_none_or(|seen| seen == 0));
}

/// The time that a listing of runtimes takes now.
fn listing(emulator: &Emulator) -> Duration {
    let begin = Instant::now();
    assert_eq!(send(emulator, "POST", "/runtimes/", &[("Host", "localhost")], "").status, 200);
    begin.elapsed()
}

/// Longest that anybody may have to wait because of what others do here: a small part of what they could take.
const FAIR: Duration = Duration::from_secs(5);

#[test]
fn heads_and_bodies_have_limits() {
    let emulator = Emulator::start(&[]);
    let status = |bytes: &[u8]| exchange(&emulator, bytes).map(|answer| answer.status);
    let local = ("Host", "localhost");
    let large = "x".repeat(200_000);
    assert_eq!(status(&request("POST", "/runtimes/", &[local, ("X-Large", &large)], "")), Some(431));
    let path = status(&request("POST", &format!("/runtimes/{large}/commands"), &[local], ""));
    assert!(matches!(path, Some(414 | 431)), "{path:?}");
    let many: Vec<(String, String)> = (0..150).map(|n| (format!("X-{n}"), "x".into())).collect();
    let mut headers: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    headers.push(local);
    assert_eq!(status(&request("POST", "/runtimes/", &headers, "")), Some(431));
    // One byte more than a control-plane body may have, declared and in chunks.
    let body = "x".repeat(1024 * 1024 + 1);
    assert_eq!(status(&request("PUT", "/runtimes/", &[local], &body)), Some(400));
    let chunked = format!(
        "PUT /runtimes/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    assert_eq!(status(chunked.as_bytes()), Some(400));
    assert!(listing(&emulator) < FAIR);
}

#[test]
fn ids_do_not_escape_from_their_place() {
    let emulator = Emulator::start(&[]);
    let home = || {
        let mut found = Vec::new();
        let mut left = vec![emulator.home().to_owned()];
        while let Some(directory) = left.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                left.extend(path.is_dir().then(|| path.clone()));
                found.push(path);
            }
        }
        found.sort();
        found
    };
    let before = home();
    let long = "a".repeat(3000);
    let arn = "arn:aws:bedrock-agentcore:us-west-2:000000000000:runtime%2F";
    for id in [
        "%2e%2e",
        "..%2f..%2fetc%2fpasswd",
        "%2fetc%2fpasswd",
        "a%00b",
        "%00",
        "..",
        "%5c..%5c",
        "a%0d%0aX: y",
        "%ff%fe",
        "%",
        "%zz",
        &long,
    ] {
        for (method, path) in [
            ("GET", format!("/runtimes/{id}/")),
            ("PUT", format!("/runtimes/{id}/")),
            ("DELETE", format!("/runtimes/{id}/")),
            ("GET", format!("/runtimes/{id}/runtime-endpoints/{id}/")),
            ("POST", format!("/runtimes/{id}/invocations?accountId=000000000000")),
            ("POST", format!("/runtimes/{arn}{id}/invocations")),
            ("POST", format!("/runtimes/{arn}x-0123456789/invocations?qualifier={id}")),
            ("POST", format!("/runtimes/{arn}{id}/commands")),
            ("POST", format!("/runtimes/{arn}{id}/stopruntimesession")),
            ("GET", format!("/tags/{arn}{id}")),
        ] {
            let headers = [("Host", "localhost"), ("Content-Type", "application/json")];
            let answer = send(&emulator, method, &path, &headers, r#"{"command": "true"}"#);
            assert!(
                (400..500).contains(&answer.status),
                "{method} {path}: {} {}",
                answer.status,
                answer.body
            );
            assert!(!answer.body.contains("root:"), "{}", answer.body);
        }
    }
    let session = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id";
    for id in [
        "../../../../../../../../../../etc/passwd",
        ".................................",
        "a/b/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        &long,
    ] {
        let path = format!("/runtimes/{arn}x-0123456789/stopruntimesession");
        let headers = [("Host", "localhost"), ("Content-Type", "application/json"), (session, id)];
        let answer = send(&emulator, "POST", &path, &headers, "{}");
        assert!((400..500).contains(&answer.status), "{id}: {} {}", answer.status, answer.body);
    }
    assert_eq!(home(), before, "nothing was made or removed");
}

#[test]
fn slow_clients_keep_nobody_waiting_and_are_sent_away() {
    let emulator = Emulator::start(&[]);
    listing(&emulator);
    let before = emulator.memory_kib();
    // One third each says nothing, half a head, and half a body.
    let slow: Vec<TcpStream> = (0..support::count(150, 1500))
        .map(|n| {
            let mut stream = connect(&emulator);
            let said: &[u8] = match n % 3 {
                0 => b"",
                1 => b"POST /runtimes/ HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
                _ => b"PUT /runtimes/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
            };
            stream.write_all(said).unwrap();
            stream
        })
        .collect();
    // A byte now and then keeps nobody's place.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(33) {
        for (n, mut stream) in slow.iter().enumerate() {
            if n % 3 != 0 {
                let _ = stream.write(b"x");
            }
        }
        assert!(listing(&emulator) < FAIR);
        std::thread::sleep(Duration::from_secs(3));
    }
    for mut stream in &slow {
        let mut rest = Vec::new();
        // Whether the end comes with an answer or as a reset depends on what was under way.
        match stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(e) => {
                assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "a slow client is still there")
            }
        }
    }
    let grown = emulator.memory_kib().saturating_sub(before);
    println!("{} slow clients: {grown} KiB more", slow.len());
    assert!(grown < 16 * 1024 + 32 * slow.len() as u64, "{grown} KiB more");
}

#[test]
fn another_users_connections_are_counted_apart() {
    let emulator = Emulator::start(&[]);
    let open = || (0..64).map(|_| connect(&emulator)).collect::<Vec<_>>();
    let Some(held) = as_another_user(open) else { return };
    let answer = as_another_user(|| {
        exchange(&emulator, &request("POST", "/runtimes/", &[("Host", "localhost")], "")).unwrap()
    })
    .unwrap();
    assert_eq!(answer.status, 429, "{}", answer.body);
    assert!(answer.head.contains("x-amzn-errortype: ThrottlingException"), "{}", answer.head);
    assert!(listing(&emulator) < FAIR);
    drop(held);
    support::eventually(LIMIT, "there is room again", || {
        let list = request("POST", "/runtimes/", &[("Host", "localhost")], "");
        (as_another_user(|| exchange(&emulator, &list))??.status == 403).then_some(())
    });
}

/// Longest time to fill the kernel's buffers of all connections that are not read.
const FILLED: Duration = Duration::from_secs(60);

#[test]
fn who_does_not_read_his_answer_holds_no_memory() {
    let emulator = Emulator::start(&[]);
    let project = Project::new("lab", "lab", serde_json::json!({}));
    emulator.run(project.path(), &["local", "deploy"]);
    let list = send(&emulator, "POST", "/runtimes/", &[("Host", "localhost")], "");
    let list: serde_json::Value = serde_json::from_str(&list.body).unwrap();
    let arn = list["agentRuntimes"][0]["agentRuntimeArn"].as_str().unwrap().replace('/', "%2F");
    let command = |text: &str| {
        let headers = [
            ("Host", "localhost"),
            ("Content-Type", "application/json"),
            ("X-Amzn-Bedrock-AgentCore-Runtime-Session-Id", "a-session-of-somebody-who-does-not-read"),
        ];
        let body = serde_json::json!({ "command": text }).to_string();
        let mut stream = connect(&emulator);
        stream.write_all(&request("POST", &format!("/runtimes/{arn}/commands"), &headers, &body)).unwrap();
        stream
    };
    let mut first = command("true");
    let mut answer = Vec::new();
    first.read_to_end(&mut answer).unwrap();
    assert_eq!(parse(&answer).unwrap().status, 200);
    let before = emulator.memory_kib();
    let deaf: Vec<TcpStream> =
        (0..support::count(40, 200)).map(|_| command("yes | head -c 90000000")).collect();
    // Long enough for gigabytes, if somebody took them. Until the buffers between them are full, everybody is at work;
    // whoever asks for little is answered all the same.
    let (begin, mut longest) = (Instant::now(), Duration::ZERO);
    while begin.elapsed() < Duration::from_secs(3) {
        longest = longest.max(listing(&emulator));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(longest < 2 * FAIR, "{longest:?} among {} that do not read", deaf.len());
    let grown = emulator.memory_kib().saturating_sub(before);
    println!("{} clients that do not read: {grown} KiB more, an answer in {longest:?}", deaf.len());
    assert!(grown < 8 * 1024 + 1024 * deaf.len() as u64, "{grown} KiB more");
    support::eventually(FILLED, "answers are quick again", || (listing(&emulator) < FAIR).then_some(()));
}

/// Every process, with what everybody may see of it and what its user may see.
fn processes() -> Vec<(u32, Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let Ok(pid) = entry.unwrap().file_name().to_string_lossy().parse::<u32>() else { continue };
        // Whoever ends meanwhile, or is another user's, shows nothing.
        let read = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        found.push((pid, read("cmdline"), read("environ")));
    }
    found
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_secret_is_seen_by_its_agent_alone() {
    let emulator = Emulator::start(&["-vv"]);
    let secret = format!("secret-{}", uuid::Uuid::new_v4().simple());
    let project =
        Project::new("lab", "lab", serde_json::json!({ "environment_variables": { "TOKEN": secret } }));
    emulator.run(project.path(), &["local", "deploy"]);
    let (_, key) = printed_key(&emulator);
    let run = |args: &[&str]| emulator.run(project.path(), args);
    run(&["local", "invoke", r#"{"do": "echo"}"#]);
    let shown = run(&["local", "exec", "--", "sh", "-c", "echo $TOKEN"]);
    assert_eq!(String::from_utf8_lossy(&shown.stdout).trim(), secret, "the agent's commands have it");

    let all = processes();
    let naming: Vec<u32> =
        all.iter().filter(|p| contains(&p.1, &secret) || contains(&p.1, &key)).map(|p| p.0).collect();
    assert!(naming.is_empty(), "on the command lines of {naming:?}");
    // The agent has it, in a process namespace of its own; the emulator and what starts sessions have not.
    let ours = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let having: Vec<u32> = all.iter().filter(|p| contains(&p.2, &secret)).map(|p| p.0).collect();
    for pid in &having {
        let Ok(program) = std::fs::read_link(format!("/proc/{pid}/exe")) else { continue };
        assert!(!program.ends_with("agentcore"), "{pid} is {program:?}");
        let Ok(theirs) = std::fs::read_link(format!("/proc/{pid}/ns/pid")) else { continue };
        assert_ne!(theirs, ours, "{pid} is {program:?}");
    }
    assert!(!having.is_empty() || !Uid::effective().is_root(), "the agent was not found");
    assert!(all.iter().all(|p| !contains(&p.2, &key)), "the access key is in nobody's environment");

    // A refused value is not repeated, to whoever sent it and in the log.
    let body = serde_json::json!({
        "agentRuntimeName": "other", "roleArn": "none", "environmentVariables": { "TOKEN": secret.repeat(200), "": secret },
    });
    let headers = [("Host", "localhost"), ("Authorization", secret.as_str()), ("X-Secret", &secret)];
    let answer = send(&emulator, "PUT", "/runtimes/", &headers, &body.to_string());
    assert_eq!(answer.status, 400);
    assert!(
        answer.body.contains("environmentVariables") && !answer.body.contains(&secret),
        "{}",
        answer.body
    );

    // A page is written into the log, but not what its headers said.
    let page =
        [("Host", "localhost"), ("Origin", "null"), ("Authorization", secret.as_str()), ("Cookie", &secret)];
    assert_eq!(send(&emulator, "GET", "/runtimes/", &page, "").status, 403);
    let output = emulator.output();
    assert!(output.contains("DEBUG"), "the log is as talkative as it can be made");
    assert!(!output.contains(&secret) && !output.contains(&key), "in the emulator's log");
    // In files of the home it is in the registry alone, and the key in its own; nobody else gets that far.
    let mut left = vec![emulator.home().to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                left.push(path);
                continue;
            }
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let bytes = if kind.is_file() { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
            let registry = name.contains(".db") || name.contains(".sqlite");
            assert!(registry || !contains(&bytes, &secret), "{}", path.display());
            assert!(name == "access-key.json" || !contains(&bytes, &key), "{}", path.display());
        }
    }
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(emulator.home()).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "the home is its owner's alone");

    let limits = std::fs::read_to_string(format!("/proc/{}/limits", emulator.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["1", "1"], "core dumps");
}
