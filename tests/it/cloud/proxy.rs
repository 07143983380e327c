//! A proxy of HTTP/1.1 that counts requests and makes one of them fail.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The server asks to come later.
    Throttled,
    /// The caller may not.
    Denied,
    /// It never arrives.
    Unanswered,
    /// It arrives and is done, and the answer does not come back.
    LostAnswer,
    /// It is done and answered, and the program is killed.
    Killed,
}

/// Which request fails and how; shared by the proxies of a cloud.
#[derive(Default)]
pub struct Faults {
    count: AtomicUsize,
    plan: Mutex<Option<(usize, Fault)>>,
    /// Process to be killed.
    victim: Mutex<Option<u32>>,
    /// What requests that count begin with; all where it is empty.
    only: Mutex<String>,
    /// What the failing request was.
    hit: Mutex<Option<String>>,
}

impl Faults {
    /// From here on, request `at` fails so.
    pub fn plan(&self, plan: Option<(usize, Fault)>) {
        self.count.store(0, Ordering::SeqCst);
        *self.plan.lock().unwrap() = plan;
        *self.hit.lock().unwrap() = None;
        *self.victim.lock().unwrap() = None;
    }

    /// Counts requests that begin so alone.
    pub fn only(&self, start: &str) {
        *self.only.lock().unwrap() = start.to_owned();
    }

    pub fn victim(&self, pid: u32) {
        *self.victim.lock().unwrap() = Some(pid);
    }

    /// Requests since the last plan.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// The request that failed.
    pub fn hit(&self) -> Option<String> {
        self.hit.lock().unwrap().clone()
    }

    fn next(&self, what: &str) -> Option<Fault> {
        if !what.starts_with(self.only.lock().unwrap().as_str()) {
            return None;
        }
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let (at, fault) = (*self.plan.lock().unwrap())?;
        if at != number {
            return None;
        }
        *self.hit.lock().unwrap() = Some(what.to_owned());
        Some(fault)
    }

    fn kill(&self) {
        if let Some(pid) = *self.victim.lock().unwrap() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// A proxy; its listener ends with the test process.
pub struct Proxy {
    port: u16,
}

impl Proxy {
    pub fn new(target: &str, faults: Arc<Faults>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = target.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (target, faults) = (target.clone(), faults.clone());
                // A client that hangs up is no failure of the test.
                std::thread::spawn(move || drop(serve(stream, &target, &faults)));
            }
        });
        Self { port }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// One request of a connection, which ends with it.
fn serve(mut client: TcpStream, target: &str, faults: &Faults) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut block = [0; 16 * 1024];
    let head = loop {
        if let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        match client.read(&mut block)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&block[..read]),
        }
    };
    let text = String::from_utf8_lossy(&request[..head]).into_owned();
    let header = |name: &str| {
        let found = text.lines().find(|l| l.to_ascii_lowercase().starts_with(name));
        found.and_then(|l| l.split_once(':')).map(|(_, v)| v.trim().to_owned())
    };
    if header("expect:").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let length: usize = header("content-length:").and_then(|v| v.parse().ok()).unwrap_or(0);
    while request.len() < head + length {
        match client.read(&mut block)? {
            0 => return Ok(()),
            read => request.extend_from_slice(&block[..read]),
        }
    }
    let action = String::from_utf8_lossy(&request[head..]);
    let action = action.split('&').find(|p| p.starts_with("Action=")).map(str::to_owned);
    let what = header("x-amz-target:").or(action).or_else(|| text.lines().next().map(str::to_owned));
    let fault = faults.next(&what.unwrap_or_default());
    let refuse = |client: &mut TcpStream, status: &str, name: &str| {
        let body = format!("{{\"__type\":\"{name}\",\"message\":\"{name}\"}}");
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nx-amzn-errortype: {name}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        client.write_all(answer.as_bytes())
    };
    match fault {
        Some(Fault::Throttled) => return refuse(&mut client, "503 Slow Down", "ThrottlingException"),
        Some(Fault::Denied) => return refuse(&mut client, "403 Forbidden", "AccessDeniedException"),
        Some(Fault::Unanswered) => return client.shutdown(Shutdown::Both),
        _ => {}
    }
    // Every answer ends its connection, so that it can be read to its end.
    let forwarded: String = text
        .lines()
        .filter(|l| !l.to_ascii_lowercase().starts_with("connection:"))
        .collect::<Vec<_>>()
        .join("\r\n");
    let forwarded = forwarded.trim_end().to_owned() + "\r\nConnection: close\r\n\r\n";
    let mut server = TcpStream::connect(target)?;
    server.write_all(forwarded.as_bytes())?;
    server.write_all(&request[head..])?;
    if fault.is_none() {
        std::io::copy(&mut server, &mut client)?;
        return client.shutdown(Shutdown::Both);
    }
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    if fault == Some(Fault::Killed) {
        faults.kill();
    }
    client.shutdown(Shutdown::Both)
}
