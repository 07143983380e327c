//! The emulator's own admin plane: JSON over HTTP on `<home>/emulator.sock`, for the CLI alone.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | [`Status`] |
//! | `GET /sessions` | list of [`Session`], newest activity first |
//! | `GET /sessions/{runtimeId}/{endpoint}/{sessionId}` | [`Session`] |
//! | `DELETE /sessions/{runtimeId}/{endpoint}/{sessionId}` | 204; ends the compute, deletes the storage |
//! | `POST /sessions/prune` | [`Pruned`]; forgets expired sessions and deletes replaced storage |
//! | `GET /clock` · `POST /clock/advance` with [`Advance`] · `POST /clock/reset` | [`ClockState`] |
//! | `GET /logs?runtimeId=&sessionId=&follow=true` | NDJSON of [`LogLine`] |
//! | `POST /shutdown` | 202; the emulator stops every session with grace and ends |
//!
//! An error is a status of 4xx or 5xx with `{"message": …}`.

use serde::{Deserialize, Serialize};

use crate::model::{EndpointName, RuntimeId, SessionId, SessionState, Version};

/// The emulator as a whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the program that runs.
    pub version: String,
    pub pid: u32,
    /// Base URL of both AWS planes.
    pub endpoint: String,
    pub home: String,
    pub engine: String,
    pub region: String,
    pub account: String,
    /// `on` when sessions reach the network, else `off`.
    pub network: String,
    /// Whose AWS credentials agents get: `none`, `profile NAME` or `role`.
    pub aws_identity: String,
    pub started_at: String,
    pub runtimes: usize,
    /// Sessions with a compute, and all known ones.
    pub live_sessions: usize,
    pub sessions: usize,
    pub clock_offset_seconds: u64,
}

/// One session.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    pub session_id: SessionId,
    /// The short name it was made from, where the caller's tool knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub runtime_arn: String,
    pub runtime_id: RuntimeId,
    pub qualifier: EndpointName,
    pub version: Version,
    pub state: SessionState,
    pub engine: String,
    pub created_at: String,
    pub last_activity_at: String,
    /// Why its last compute ended, where one has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_end: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<SessionStorage>,
}

/// A session's storage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionStorage {
    pub mount_path: String,
    /// Counted when a single session is shown; absent in lists, which stay instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
}

/// What a prune removed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    pub sessions: usize,
    pub storages: usize,
    pub bytes: u64,
}

/// The clock.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClockState {
    pub now: String,
    pub offset_seconds: u64,
}

/// How far to move the clock.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Advance {
    pub seconds: u64,
}

/// One line that an agent wrote.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    pub timestamp: String,
    pub runtime_id: RuntimeId,
    pub session_id: SessionId,
    /// `stdout`, `stderr` or `system` for the emulator's own remarks.
    pub stream: String,
    pub message: String,
}
