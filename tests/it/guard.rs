//! Who may speak to the emulator and what nobody may do to it, byte by byte on its port.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::Emulator;

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
