//! What the emulator, the launcher and the session's first process tell each other while a session is made.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::groups::{Group, Limits};
use super::idmap::IdMap;

/// What a launcher is asked for, once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub(super) enum LaunchRequest {
    /// Make a session.
    Session {
        /// Of what.
        plan: Box<Plan>,
    },
    /// Make a session without namespaces.
    Process {
        /// Of what.
        plan: Box<super::process::Plan>,
    },
    /// Delete a tree with the rights of the ids that sessions have.
    Remove {
        /// The ids.
        ids: IdMap,
        /// The tree.
        path: PathBuf,
    },
}

/// What a session is made of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plan {
    /// Its ids.
    pub(super) ids: IdMap,
    /// Its host name.
    pub(super) label: String,
    /// A host directory that only serves as the place of the first mount, seen by the session alone.
    pub(super) staging: PathBuf,
    /// This program's binary.
    pub(super) tool: PathBuf,
    /// The agent's code.
    pub(super) code: PathBuf,
    /// Host paths that appear at their own place.
    pub(super) read_only: Vec<PathBuf>,
    /// Environment of every process.
    pub(super) environment: Vec<(String, String)>,
    /// The session storage: host directory and place inside.
    pub(super) storage: Option<(PathBuf, PathBuf)>,
    /// The storage is there from the start.
    pub(super) early_mount: bool,
    /// How much of the machine it may use.
    pub(super) limits: Limits,
    /// The control groups to make for it.
    pub(super) groups: Vec<Group>,
    /// The emulator listens on this port of the session's loopback.
    pub(super) listen: Option<u16>,
    /// Files that only the session's root may read.
    pub(super) secrets: Vec<Secret>,
    /// Time between SIGTERM and SIGKILL when the emulator has died.
    pub(super) orphan_grace_millis: u64,
}

/// A file of a session with content that is shown to nobody else.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Secret {
    /// Where it stands inside.
    pub(super) path: PathBuf,
    /// What it says.
    pub(super) content: String,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Secret").field(&self.path).finish()
    }
}

/// What a launcher reports. [`LaunchReport::Ready`] is the helper's first report.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub(super) enum LaunchReport {
    /// The session's first process exists; a handle on it comes along.
    Started {
        /// Its number in the launcher's PID namespace.
        pid: i32,
    },
    /// The session stands.
    Ready,
    /// The tree is gone.
    Removed,
    /// It did not work.
    Failed {
        /// Why.
        failure: LaunchFailure,
    },
}

/// Why a session could not be made.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LaunchFailure {
    /// The part of the work.
    pub(super) step: LaunchStep,
    /// What was being done, to be followed by the system's reason.
    pub(super) doing: String,
    /// The system's error number.
    pub(super) errno: Option<i32>,
    /// The reason where it is not a number.
    pub(super) reason: Option<String>,
}

/// The parts of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum LaunchStep {
    /// Making the namespaces.
    Namespaces,
    /// Mapping ids and taking them on.
    Ids,
    /// Mounts that every session needs; only the host can refuse them.
    Mounts,
    /// Mounting `/proc`.
    Proc,
    /// Setting up the network of the session.
    Network,
    /// What the session's own paths name: code, storage, read-only paths.
    Paths,
    /// Anything else.
    Other,
}

impl LaunchFailure {
    /// A failure that the system gave a reason for.
    pub(super) fn system(step: LaunchStep, doing: impl Into<String>, error: &std::io::Error) -> Self {
        let errno = error.raw_os_error();
        let reason = errno.is_none().then(|| error.to_string());
        Self { step, doing: doing.into(), errno, reason }
    }

    /// A failure in words.
    pub(super) fn words(step: LaunchStep, doing: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { step, doing: doing.into(), errno: None, reason: Some(reason.into()) }
    }
}

impl std::fmt::Display for LaunchFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.reason, self.errno) {
            (Some(reason), _) => write!(f, "{}: {reason}", self.doing),
            (None, Some(errno)) => {
                write!(f, "{}: {}", self.doing, std::io::Error::from_raw_os_error(errno))
            }
            (None, None) => f.write_str(&self.doing),
        }
    }
}

/// Adds what was being done to a system error.
pub(super) trait During<T> {
    /// As the step, doing.
    fn during(self, step: LaunchStep, doing: impl Into<String>) -> Result<T, LaunchFailure>;
}

impl<T, E: Into<std::io::Error>> During<T> for Result<T, E> {
    fn during(self, step: LaunchStep, doing: impl Into<String>) -> Result<T, LaunchFailure> {
        self.map_err(|e| LaunchFailure::system(step, doing, &e.into()))
    }
}

/// Between the launcher, which stays outside, and the session's first process, while it builds its root.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub(super) enum Build {
    /// To the first process: a detached tree for one of the plan's own paths comes along, its owners shown
    /// as the session's.
    Tree {
        /// See [`super::root::own_paths`].
        index: usize,
    },
    /// To the first process: its ids are mapped, go on.
    Go,
    /// To the launcher: the code cannot be an overlay here, send it.
    SendCode,
    /// To the first process: one entry of the code; a file's content comes along as an open file.
    Entry {
        /// Below the code directory.
        path: OsString,
        /// What it is.
        what: EntryKind,
    },
    /// To the first process: that was all.
    End,
    /// To the first process: the code could not be read.
    Failed {
        /// Why.
        failure: LaunchFailure,
    },
}

/// An entry of the code.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub(super) enum EntryKind {
    /// A directory.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A file.
    File {
        /// Permission bits.
        mode: u32,
        /// Time of last change, seconds and nanoseconds: compiled Python files are checked against it.
        modified: (i64, i64),
    },
    /// A symbolic link.
    Link {
        /// Where it points.
        target: OsString,
    },
}
