//! Frames of a shell's WebSocket connection: one byte that names a channel, and its content. [guide]

use serde_json::{Value, json};

/// What a frame is, both ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShellFrame<'a> {
    /// What is typed.
    Stdin(&'a [u8]),
    /// What the terminal shows.
    Stdout(&'a [u8]),
    /// What the platform has to say, in words.
    Stderr(&'a [u8]),
    /// How the connection or the shell is: a Kubernetes `metav1.Status`.
    Status(&'a [u8]),
    /// The window has another size.
    Resize(&'a [u8]),
    /// Nothing but a sign of life, which is sent back.
    Heartbeat,
    /// The client wants the shell to end, or the platform ends it.
    Close,
    /// A channel that a later protocol may add.
    Other(u8),
}

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const HEARTBEAT: u8 = 5;
const CLOSE: u8 = 0xff;

/// Why the service or the emulator closes a connection. [guide]
pub mod close {
    /// The shell has ended.
    pub const NORMAL: u16 = 1000;
    /// The session is being ended.
    pub const GOING_AWAY: u16 = 1001;
    /// Too many text frames.
    pub const NOT_BINARY: u16 = 1003;
    /// The shell's time is over, or more frames came than may.
    pub const POLICY: u16 = 1008;
    /// A frame is too large.
    pub const TOO_BIG: u16 = 1009;
    /// Another connection has the shell now.
    pub const TAKEN: u16 = 4000;
}

impl<'a> ShellFrame<'a> {
    /// Reads a frame; nothing when it is empty.
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let (channel, content) = frame.split_first()?;
        Some(match *channel {
            STDIN => Self::Stdin(content),
            STDOUT => Self::Stdout(content),
            STDERR => Self::Stderr(content),
            STATUS => Self::Status(content),
            RESIZE => Self::Resize(content),
            HEARTBEAT => Self::Heartbeat,
            CLOSE => Self::Close,
            other => Self::Other(other),
        })
    }

    /// The frame's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (channel, content): (u8, &[u8]) = match self {
            Self::Stdin(content) => (STDIN, content),
            Self::Stdout(content) => (STDOUT, content),
            Self::Stderr(content) => (STDERR, content),
            Self::Status(content) => (STATUS, content),
            Self::Resize(content) => (RESIZE, content),
            Self::Heartbeat => (HEARTBEAT, &[]),
            Self::Close => (CLOSE, &[]),
            Self::Other(channel) => (*channel, &[]),
        };
        let mut bytes = Vec::with_capacity(content.len() + 1);
        bytes.push(channel);
        bytes.extend_from_slice(content);
        bytes
    }
}

/// The content of a resize frame.
pub fn resize(width: u16, height: u16) -> Vec<u8> {
    json!({ "width": width, "height": height }).to_string().into_bytes()
}

/// Width and height of a resize frame; nothing when it does not say two positive ones.
pub fn read_resize(content: &[u8]) -> Option<(u16, u16)> {
    let value: Value = serde_json::from_slice(content).ok()?;
    let side = |name: &str| value.get(name)?.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
    Some((side("width")?, side("height")?))
}

/// The first status of a connection.
pub fn connected(shell_id: &str, reconnected: bool) -> Vec<u8> {
    // Both names of the id: the guide has one, the official client reads the other.
    let metadata = json!({ "shellId": shell_id, "commandSessionId": shell_id, "reconnected": reconnected });
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Success" })
        .to_string()
        .into_bytes()
}

/// The status of a shell's end: its exit code as a shell says it, and the signal that ended it.
pub fn ended(code: i32, signal: Option<i32>) -> Vec<u8> {
    let mut status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {} });
    let Some(map) = status.as_object_mut() else { return Vec::new() };
    if code == 0 {
        map.insert("status".to_owned(), json!("Success"));
    } else {
        let mut causes = vec![json!({ "reason": "ExitCode", "message": code.to_string() })];
        causes.extend(signal.map(|n| json!({ "reason": "Signal", "message": n.to_string() })));
        map.insert("status".to_owned(), json!("Failure"));
        map.insert("reason".to_owned(), json!("NonZeroExitCode"));
        map.insert("message".to_owned(), json!(format!("command terminated with exit code {code}")));
        map.insert("details".to_owned(), json!({ "causes": causes }));
    }
    status.to_string().into_bytes()
}

/// What a status says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShellStatus {
    /// The connection stands, to a shell of this id.
    Connected {
        /// The shell.
        shell_id: String,
        /// It was there before.
        reconnected: bool,
    },
    /// The shell has ended with this exit code.
    Ended {
        /// As a shell says it.
        code: i32,
    },
    /// The platform failed.
    Failed {
        /// In its words.
        message: String,
    },
}

/// Reads a status; nothing when it is none.
pub fn read_status(content: &[u8]) -> Option<ShellStatus> {
    let value: Value = serde_json::from_slice(content).ok()?;
    let metadata = value.get("metadata");
    let id = |name: &str| metadata.and_then(|m| m.get(name)).and_then(Value::as_str);
    if let Some(shell_id) = id("shellId").or_else(|| id("commandSessionId")) {
        let reconnected = metadata.and_then(|m| m.get("reconnected")).and_then(Value::as_bool);
        let reconnected = reconnected.unwrap_or(false);
        return Some(ShellStatus::Connected { shell_id: shell_id.to_owned(), reconnected });
    }
    if value.get("status")?.as_str()? == "Success" {
        return Some(ShellStatus::Ended { code: 0 });
    }
    let causes = value.pointer("/details/causes").and_then(Value::as_array);
    let code = causes.into_iter().flatten().find_map(|cause| {
        let is = cause.get("reason")?.as_str()? == "ExitCode";
        if is { cause.get("message")?.as_str()?.parse().ok() } else { None }
    });
    Some(match code {
        Some(code) => ShellStatus::Ended { code },
        None => {
            let message = value.get("message").and_then(Value::as_str).unwrap_or("it gave no reason");
            ShellStatus::Failed { message: message.to_owned() }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn statuses_say_what_was_meant() {
        let connected = connected("main", true);
        let expected = ShellStatus::Connected { shell_id: "main".into(), reconnected: true };
        assert_eq!(read_status(&connected), Some(expected));
        for (code, signal) in [(0, None), (3, None), (137, Some(9))] {
            assert_eq!(read_status(&ended(code, signal)), Some(ShellStatus::Ended { code }));
        }
        let failure = br#"{"metadata":{},"status":"Failure","reason":"InternalError","message":"no"}"#;
        assert_eq!(read_status(failure), Some(ShellStatus::Failed { message: "no".into() }));
        assert_eq!(read_status(b"{}"), None);
        assert_eq!(read_resize(&resize(120, 40)), Some((120, 40)));
        for bad in ["", "{}", "{\"width\":0,\"height\":1}", "{\"width\":70000,\"height\":1}", "[1,2]"] {
            assert_eq!(read_resize(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_and_stay_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let Some(frame) = ShellFrame::parse(&bytes) else {
                prop_assert!(bytes.is_empty());
                return Ok(());
            };
            let kept = !matches!(frame, ShellFrame::Heartbeat | ShellFrame::Close | ShellFrame::Other(_));
            prop_assert_eq!(frame.to_bytes(), if kept { bytes.clone() } else { bytes[..1].to_vec() });
            let _ = (read_status(&bytes), read_resize(&bytes));
        }
    }
}
