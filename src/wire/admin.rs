//! The emulator's own admin plane: JSON over HTTP on `<home>/emulator.sock`, for the CLI alone.
//!
//! | request | answer |
//! |---|---|
//! | `GET /status` | [`Status`] |
//! | `GET /sessions?agent=&session=&live=&limit=` | list of [`Listed`], newest activity first; [`TOTAL`] says how many there are without `limit` |
//! | `GET /sessions/{runtimeId}/{endpoint}/{sessionId}` | [`Session`] |
//! | `DELETE /sessions/{runtimeId}/{endpoint}/{sessionId}` | 204; ends the compute, deletes the storage |
//! | `GET /stats?runtimeId=` | [`Stats`] of what persistence did for sessions |
//! | `POST /sessions/prune` | [`Pruned`]; forgets expired sessions and deletes replaced storage |
//! | `POST /images/prune` | [`PrunedImages`]; removes images built for this state directory that no version and no session needs |
//! | `PUT /runtimes/{runtimeId}/source` with [`ChangeSource`] | [`SourceChanged`]; computes of that version run that bundle from now on |
//! | `GET /clock` · `POST /clock/advance` with [`Advance`] · `POST /clock/reset` | [`ClockState`] |
//! | `GET /logs?runtimeId=&sessionId=&follow=true` | NDJSON of [`LogLine`] |
//! | `POST /shutdown` | 202; the emulator stops every session with grace and ends |
//!
//! An error is a status of 4xx or 5xx with `{"message": …}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{EndpointName, ParseIdError, RuntimeId, SessionId, SessionState, Version};

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
    /// What of this machine sessions are not kept from, a sentence for each; absent when they are kept from all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_isolated: Vec<String>,
    pub region: String,
    pub account: String,
    /// Which images run: `linux/arm64`, or `native` for this machine's own.
    #[serde(default = "service_platform")]
    pub platform: String,
    /// The image that all code runs on in containers; absent where each agent's own is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_image: Option<String>,
    /// `on` when sessions reach the network, else `off`.
    pub network: String,
    /// Services of this machine that sessions may reach; absent when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_allow: Vec<String>,
    /// Agents may call the emulator.
    #[serde(default)]
    pub agent_calls: bool,
    /// Whose AWS credentials agents get: `none`, `profile NAME` or `role`.
    pub aws_identity: String,
    pub started_at: String,
    pub runtimes: usize,
    /// Sessions with a compute, and all known ones.
    pub live_sessions: usize,
    pub sessions: usize,
    pub clock_offset_seconds: u64,
}

fn service_platform() -> String {
    "linux/arm64".to_owned()
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
    /// Limits of its compute, when a single session is shown that has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<SessionLimit>,
}

/// Header of a list of sessions: the number of those that the request asks for, of which `limit` may have left out some.
pub const TOTAL: &str = "agentcore-total";

/// Which sessions a list is to have.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionQuery {
    /// Of the runtimes with this name only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// With this id, or with this short name in its own agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Only those that have a compute, or are about to have one.
    #[serde(default)]
    pub live: bool,
    /// Not more than this many, the newest ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A [`Session`] in a list, as it is written and read without a copy: there may be thousands. No text of it has a
/// character that JSON escapes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed<'a> {
    pub session_id: &'a str,
    #[serde(default, skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    pub runtime_arn: &'a str,
    pub runtime_id: &'a str,
    pub qualifier: &'a str,
    pub version: &'a str,
    pub state: SessionState,
    pub engine: &'a str,
    pub created_at: &'a str,
    pub last_activity_at: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_end: Option<&'a str>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub storage: Option<ListedStorage<'a>>,
}

/// The storage of a session in a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedStorage<'a> {
    pub mount_path: &'a str,
}

impl Listed<'_> {
    /// The same as a value of its own.
    pub fn to_session(&self) -> Result<Session, ParseIdError> {
        let storage = self.storage.as_ref();
        Ok(Session {
            session_id: self.session_id.parse()?,
            name: self.name.map(str::to_owned),
            runtime_arn: self.runtime_arn.to_owned(),
            runtime_id: self.runtime_id.parse()?,
            qualifier: self.qualifier.parse()?,
            version: self.version.parse()?,
            state: self.state,
            engine: self.engine.to_owned(),
            created_at: self.created_at.to_owned(),
            last_activity_at: self.last_activity_at.to_owned(),
            last_end: self.last_end.map(str::to_owned),
            storage: storage.map(|s| SessionStorage {
                mount_path: s.mount_path.to_owned(),
                bytes: None,
                files: None,
            }),
            limits: Vec::new(),
        })
    }
}

/// How much of the machine a session may use of one thing.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionLimit {
    /// `memory` in bytes, `processes` or `processors`.
    pub of: String,
    pub amount: u64,
    pub enforced_by: Enforcement,
}

/// What holds a session to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Enforcement {
    /// A control group: all processes of the session together.
    ControlGroup,
    /// Each process for itself.
    Process,
    /// Each user of the session for itself.
    User,
    /// Nothing holds it.
    Nothing,
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
    /// Images of this state directory that nothing needed, where somebody asked for that too.
    #[serde(default)]
    pub images: usize,
}

/// What a look for images that nothing needs removed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrunedImages {
    pub images: usize,
}

/// What persistence did for sessions, those that were removed among them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub runtimes: Vec<RuntimeStats>,
    pub sessions: Vec<SessionStats>,
}

/// All sessions of a runtime.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeStats {
    pub runtime_id: RuntimeId,
    /// Sessions that ever started.
    pub sessions: u64,
    #[serde(flatten)]
    pub totals: Totals,
}

/// One session.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionStats {
    pub session_id: SessionId,
    /// The short name it was made from, where the caller's tool knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub runtime_id: RuntimeId,
    pub qualifier: EndpointName,
    #[serde(flatten)]
    pub totals: Totals,
}

/// What happened, added up.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Computes that began with empty storage, and those that found the storage of an earlier one.
    pub starts: u64,
    pub resumes: u64,
    /// What resumes found, added up.
    pub files_found: u64,
    pub bytes_found: u64,
    /// Real time from the begin of a compute's start to the end of its first call that succeeded.
    pub first_answer_after_start: FirstAnswers,
    pub first_answer_after_resume: FirstAnswers,
    /// Lost storages and ended computes, by reason.
    pub resets: BTreeMap<String, u64>,
    pub ends: BTreeMap<String, u64>,
    /// What the first answers after resumes came earlier by than those after starts; absent without a pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_saved_millis: Option<i64>,
}

/// Times to first answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirstAnswers {
    pub count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub median_millis: Option<u64>,
}

/// Code that computes of a version run from now on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeSource {
    pub version: Version,
    /// Its hash in the artifact store.
    pub bundle: String,
    /// Computes that run other code are ended and started again at once.
    #[serde(default)]
    pub restart: bool,
}

/// What became of changed code.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceChanged {
    /// Computes from now on run other code than computes until now.
    pub changed: bool,
    /// Running computes with other code, and those of them that were restarted.
    pub outdated: usize,
    pub restarted: usize,
    /// Those whose agent ended as soon as it was started again: they are stopped.
    #[serde(default)]
    pub failed: usize,
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
