//! What the emulator and a container's first process tell each other before the session stands.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where everything of ours is in a container. The binary stands at [`crate::engine::TOOL_PATH`].
pub(super) const TOOLS: &str = "/opt/agentcore";
/// The libraries of this program, where it needs some.
pub(super) const LIBRARIES: &str = "/opt/agentcore/lib";
/// The directory of the socket to the emulator.
pub(super) const LINK: &str = "/opt/agentcore/link";
/// The socket in it.
pub(super) const SOCKET: &str = "s";
/// Behind the verb of a first process: the emulator is at its standard streams, not at the socket.
pub(super) const BY_STREAMS: &str = "streams";
/// The exit code of a first process that reaches nobody at the socket. [ours: none that a signal or a shell makes]
pub(super) const OUT_OF_REACH: u8 = 97;
/// Where the code of an agent that is no image can be read.
pub(super) const CODE: &str = "/opt/agentcore/code";
/// Where a volume is in a container that only looks into it.
pub(super) const VOLUME: &str = "/volume";

/// What a session is made of, inside its container. Sent over the socket, so that nothing of it stands in a command
/// line or in what the daemon shows of a container.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    /// Environment of every process.
    pub(super) environment: Vec<(String, String)>,
    /// There is code at [`CODE`] to be copied to where it runs.
    pub(super) code: bool,
    /// Where the storage is.
    pub(super) storage: Option<PathBuf>,
    /// The emulator listens on this port of the session's loopback.
    pub(super) listen: Option<u16>,
    /// Time between SIGTERM and SIGKILL when the emulator has died.
    pub(super) orphan_grace_millis: u64,
    /// Files that only the session's root may read: path and content.
    pub(super) secrets: Vec<(PathBuf, String)>,
}

/// What the first process says to it. [`Inside::Ready`] is the helper's first report.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub(super) enum Inside {
    /// It runs. The line of the session comes along, which unlike the one it came by has no name: the kernel shows names
    /// of sockets to every process of a network namespace.
    Here,
    /// The session stands. A listener comes along where one was asked for.
    Ready,
    /// It does not.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What a look into a volume found.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeUse {
    /// Bytes of regular files.
    pub(super) bytes: u64,
    /// Entries that are no directories.
    pub(super) files: u64,
}
