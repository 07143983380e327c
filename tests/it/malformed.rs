//! Requests that are nearly right, and bytes that are nothing: the emulator refuses them, stays up and stays
//! small. What is sent follows from a seed, which a failure names.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::guard::{connect, parse, request};
use crate::support::{self, Emulator};

/// Longest wait for the answer to something complete.
const LIMIT: Duration = Duration::from_secs(20);
/// Longest wait for the answer to what may be incomplete.
const PATIENCE: Duration = Duration::from_millis(50);
/// How many send at a time.
const SENDERS: usize = 8;
/// Requests of one run: enough to find what is fragile, and those of a release.
const SMALL: usize = 8_000;
const FULL: usize = 100_000;
/// What the emulator may grow by while it refuses. The allocator keeps some of what was used.
const GROWTH_KIB: u64 = 32 * 1024;
const SEED: u64 = 0x5eed_0f00_d5ee_d001;

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// A request of every operation, for things that do not exist; what would make one is refused for its lifetimes.
fn valid() -> Vec<Vec<u8>> {
    let id = "nothing_here-0123456789";
    let arn = "arn%3Aaws%3Abedrock-agentcore%3Aus-west-2%3A000000000000%3Aruntime%2Fnothing_here-0123456789";
    let session = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id";
    let name = "a-session-that-nobody-has-ever-started";
    let create = r#"{"agentRuntimeName": "nothing", "roleArn": "arn:aws:iam::123456789012:role/agent",
        "networkConfiguration": {"networkMode": "PUBLIC"}, "agentRuntimeArtifact": {"codeConfiguration": {"code": {"s3":
        {"bucket": "elsewhere", "prefix": "x.zip"}}, "runtime": "PYTHON_3_13", "entryPoint": ["main.py"]}},
        "filesystemConfigurations": [{"sessionStorage": {"mountPath": "/mnt/workspace"}}],
        "lifecycleConfiguration": {"idleRuntimeSessionTimeout": 900, "maxLifetime": 600},
        "environmentVariables": {"A": "b"}, "tags": {"a": "b"}}"#;
    let operations = [
        ("PUT", "/runtimes/".to_owned(), create),
        ("GET", format!("/runtimes/{id}/?version=1"), ""),
        ("PUT", format!("/runtimes/{id}/"), create),
        ("POST", "/runtimes/?maxResults=10&nextToken=abc".to_owned(), ""),
        ("POST", "/runtimes/?maxResults=10".to_owned(), ""),
        ("DELETE", format!("/runtimes/{id}/?clientToken={}", "x".repeat(40)), ""),
        ("POST", format!("/runtimes/{id}/versions/?maxResults=3"), ""),
        (
            "PUT",
            format!("/runtimes/{id}/runtime-endpoints/"),
            r#"{"name": "prod", "agentRuntimeVersion": "1"}"#,
        ),
        ("GET", format!("/runtimes/{id}/runtime-endpoints/prod/"), ""),
        ("PUT", format!("/runtimes/{id}/runtime-endpoints/prod/"), r#"{"agentRuntimeVersion": "2"}"#),
        ("POST", format!("/runtimes/{id}/runtime-endpoints/"), ""),
        ("DELETE", format!("/runtimes/{id}/runtime-endpoints/prod/"), ""),
        ("POST", format!("/tags/{arn}"), r#"{"tags": {"a": "b"}}"#),
        ("DELETE", format!("/tags/{arn}?tagKeys=a&tagKeys=b"), ""),
        ("GET", format!("/tags/{arn}"), ""),
        ("POST", format!("/runtimes/{arn}/invocations?qualifier=DEFAULT"), r#"{"prompt": "hello"}"#),
        ("POST", format!("/runtimes/{id}/invocations?accountId=000000000000"), r#"{"prompt": "hello"}"#),
        (
            "POST",
            format!("/runtimes/{arn}/commands?qualifier=DEFAULT"),
            r#"{"command": "true", "timeout": 3}"#,
        ),
        ("POST", format!("/runtimes/{arn}/stopruntimesession"), "{}"),
    ];
    let headers = [
        ("Host", "127.0.0.1:8642"),
        ("Content-Type", "application/json"),
        (session, name),
        (
            "Authorization",
            "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host, Signature=00",
        ),
        ("X-Amz-Date", "20260101T000000Z"),
    ];
    operations.iter().map(|(method, path, body)| request(method, path, &headers, body)).collect()
}

/// Pieces that parsers have stumbled over.
const SPICE: &[&[u8]] = &[
    b"\0",
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"%00",
    b"%2e%2e%2f",
    b"%ff",
    b"%",
    b"../",
    b"//",
    b"?",
    b"#",
    b"&&==",
    b"{",
    b"[[[[[[",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"1e999",
    b"-1",
    b"18446744073709551616",
    b"99999999999999999999999999",
    b"\xff\xfe",
    b"\xc0\x80",
    b"\xe2\x80\xae",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 18446744073709551615\r\n",
    b"Content-Length: -1\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    b"Host: evil.example\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"HTTP/2.0",
    b"HTTP/0.9",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT",
    b"TRACE",
    b"OPTIONS",
    b"arn:aws:bedrock-agentcore:us-west-2:000000000000:runtime/",
    b":",
    b";",
    b",",
    b"\x1b[2J",
    b"\t",
];

/// A request with some things wrong.
fn mutated(random: &mut Random, valid: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = random.pick(valid).clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let rest = bytes.len() - at;
        match random.below(8) {
            0 if rest > 0 => bytes[at] ^= 1 << random.below(8),
            1 if rest > 0 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            2 => {
                let spice = *random.pick(SPICE);
                bytes.splice(at..at, spice.iter().copied());
            }
            3 => {
                let end = at + random.below(rest.min(40) + 1);
                bytes.drain(at..end);
            }
            4 => bytes.truncate(at),
            5 => {
                let end = at + random.below(rest.min(200) + 1);
                let piece = bytes[at..end].to_vec();
                let times = 1 + random.below(30);
                bytes.splice(at..at, piece.repeat(times));
            }
            6 => {
                let other = random.pick(valid);
                let from = random.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let spice = *random.pick(SPICE);
                let end = at + spice.len().min(rest);
                bytes.splice(at..end, spice.iter().copied());
            }
        }
    }
    bytes
}

/// Bytes of no meaning.
fn garbage(random: &mut Random) -> Vec<u8> {
    let length = random.below(2000);
    (0..length).map(|_| u8::try_from(random.next() >> 56).unwrap()).collect()
}

/// The statuses of the answers to these bytes.
fn statuses(mut stream: TcpStream, bytes: &[u8]) -> Vec<u16> {
    let begin = Instant::now();
    // A server that has refused may close before everything is written.
    let _ = stream.write_all(bytes);
    let mut answers = Vec::new();
    let _ = stream.set_read_timeout(Some(PATIENCE));
    // What is not complete gets no answer; who says that there will be no more is not waited for either.
    if let Err(error) = stream.read_to_end(&mut answers)
        && error.kind() == std::io::ErrorKind::WouldBlock
    {
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.set_read_timeout(Some(LIMIT));
        // A reset instead of an end will do: the server had stopped reading.
        let _ = stream.read_to_end(&mut answers);
    }
    assert!(begin.elapsed() < LIMIT, "no end of the answer");
    let mut found = Vec::new();
    let mut rest = answers.as_slice();
    while let Some(answer) = parse(rest) {
        found.push(answer.status);
        let next = rest.windows(9).skip(1).position(|piece| piece == b"HTTP/1.1 ");
        rest = next.map_or(&[][..], |at| &rest[at + 1..]);
    }
    found
}

/// An S3 that has nothing: what a request wants to run is looked for there and nowhere else.
fn empty_s3() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                // Whoever asks may have gone.
                let _ = stream
                    .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            });
        }
    });
    format!("http://{address}")
}

#[test]
fn malformed_requests_are_refused_and_leave_nothing() {
    let emulator = Emulator::start_with(
        &[],
        &[
            ("AWS_ENDPOINT_URL_S3", &empty_s3()),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ],
    );
    let valid = valid();
    for request in &valid {
        let found = statuses(connect(&emulator), request);
        assert!(matches!(found[..], [200 | 400 | 404]), "{found:?}: {}", String::from_utf8_lossy(request));
    }
    let run = |part: u64, count: usize| {
        let mut seen = BTreeMap::<u16, usize>::new();
        std::thread::scope(|scope| {
            let sender = |seed: u64| {
                let (emulator, valid) = (&emulator, &valid);
                scope.spawn(move || send_all(emulator, valid, seed, count / SENDERS))
            };
            let senders: Vec<_> = (0..SENDERS as u64).map(|n| sender(SEED + part * 1000 + n)).collect();
            for sender in senders {
                for (status, times) in sender.join().unwrap() {
                    *seen.entry(status).or_default() += times;
                }
            }
        });
        seen
    };
    let count = support::count(SMALL, FULL);
    // What is needed once, such as the allocator's pools, is there after the first part.
    run(0, count / 5);
    let before = emulator.memory_kib();
    let begin = Instant::now();
    let seen = run(1, count);
    let per_second = count as f64 / begin.elapsed().as_secs_f64();
    let after = emulator.memory_kib();
    println!(
        "{count} requests, {per_second:.0} a second, {before} KiB before and {after} KiB after: {seen:?}"
    );
    assert!(after < before + GROWTH_KIB, "{before} KiB before, {after} KiB after");
    // They reached the operations too, and did not all fail at the first byte.
    assert!(seen.contains_key(&200) && seen.contains_key(&400) && seen.contains_key(&404), "{seen:?}");
    let found = statuses(connect(&emulator), &request("POST", "/runtimes/", &[("Host", "localhost")], ""));
    assert_eq!(found, [200], "the emulator answers after all that");
}

/// Sends so many requests; gives how often each status was the answer.
fn send_all(emulator: &Emulator, valid: &[Vec<u8>], seed: u64, count: usize) -> BTreeMap<u16, usize> {
    let mut random = Random(seed);
    let mut seen = BTreeMap::new();
    for number in 0..count {
        let bytes = if random.below(8) == 0 { garbage(&mut random) } else { mutated(&mut random, valid) };
        for status in statuses(connect(emulator), &bytes) {
            *seen.entry(status).or_default() += 1;
            let shown = String::from_utf8_lossy(&bytes);
            // The service's own 5xx are for what fails here; nothing that is sent may make anything fail.
            assert!(status < 500, "seed {seed:#x}, request {number}: {status} for\n{shown}");
        }
    }
    seen
}
