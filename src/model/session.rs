//! The life of a session as a table: which event may follow which state.
//!
//! A session is `Provisioning → Ready → Stopping → Stopped → Expired`. Whoever owns a session asks
//! [`transition`] before every change, so the legality of the whole machine stands in one place.

use super::{EndpointName, RuntimeId, SessionId};

/// What a session is known by. Session ids of different runtimes or endpoints never meet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    /// The runtime.
    pub runtime: RuntimeId,
    /// The endpoint it was called through.
    pub endpoint: EndpointName,
    /// The caller's session id.
    pub session: SessionId,
}

/// What the emulator remarks in a session's log when a compute has ended: the lines after it are another one's.
pub mod remarks {
    /// The end of a stop.
    pub const STOPPED: &str = "session stopped, storage is durable";
    /// The end of one that had a fault, which follows.
    pub const STOPPED_BADLY: &str = "the stop was not clean: ";
    /// What a dead emulator left is being ended.
    pub const LEFT: &str = "the emulator had ended unexpectedly: what is left is ended";

    /// True for one of these.
    pub fn end_a_compute(remark: &str) -> bool {
        remark == STOPPED || remark == LEFT || remark.starts_with(STOPPED_BADLY)
    }
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// A compute is being made.
    Provisioning,
    /// A compute runs.
    Ready,
    /// The compute is being ended and storage flushed.
    Stopping,
    /// No compute; storage kept.
    Stopped,
    /// No compute and no storage: idle for longer than storage is kept.
    Expired,
}

impl SessionState {
    /// The state's word in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Provisioning => "provisioning",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Expired => "expired",
        }
    }

    /// Every state, in the order of a life.
    pub const ALL: [SessionState; 5] =
        [Self::Provisioning, Self::Ready, Self::Stopping, Self::Stopped, Self::Expired];
}

/// Why a session lost its storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ResetReason {
    /// It started on another version.
    NewVersion,
    /// Nobody called it for as long as storage is kept.
    Expired,
    /// The storage's directory had gone.
    Missing,
    /// Somebody removed the session.
    Removed,
}

impl ResetReason {
    /// The reason's word in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewVersion => "newVersion",
            Self::Expired => "expired",
            Self::Missing => "missing",
            Self::Removed => "removed",
        }
    }

    /// Every reason.
    pub const ALL: [ResetReason; 4] = [Self::NewVersion, Self::Expired, Self::Missing, Self::Removed];
}

/// Why a compute was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndReason {
    /// StopRuntimeSession.
    Requested,
    /// No activity for the idle timeout.
    IdleTimeout,
    /// The compute reached its longest life.
    MaxLifetime,
    /// The compute could not be made, or its agent never became healthy.
    StartFailed,
    /// The agent or its compute ended by itself.
    Exited,
    /// Restarted on changed code.
    SourceChanged,
    /// The runtime or the endpoint was deleted.
    Deleted,
    /// The emulator was shut down.
    Shutdown,
    /// The emulator died; the compute was ended at its next start.
    EmulatorCrashed,
}

impl EndReason {
    /// The reason's word in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::IdleTimeout => "idleTimeout",
            Self::MaxLifetime => "maxLifetime",
            Self::StartFailed => "startFailed",
            Self::Exited => "exited",
            Self::SourceChanged => "sourceChanged",
            Self::Deleted => "deleted",
            Self::Shutdown => "shutdown",
            Self::EmulatorCrashed => "emulatorCrashed",
        }
    }
}

/// What happens to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionEvent {
    /// A call needs a compute.
    StartRequested,
    /// The compute runs.
    Started,
    /// The compute could not be made, or has gone by itself.
    Lost,
    /// Somebody or a rule ends the compute.
    StopRequested(EndReason),
    /// The compute is gone and storage is durable.
    StopFinished,
    /// Storage was idle for longer than it is kept.
    StorageExpired,
}

/// An event that may not happen in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session that is {} cannot take {event:?}", state.as_str())]
pub struct TransitionError {
    /// Where the session stood.
    pub state: SessionState,
    /// What was asked of it.
    pub event: SessionEvent,
}

/// The state after `event` in `state`, or the refusal. Everything legal is listed; all else is refused.
pub fn transition(state: SessionState, event: SessionEvent) -> Result<SessionState, TransitionError> {
    use SessionEvent as E;
    use SessionState as S;
    match (state, event) {
        (S::Stopped | S::Expired, E::StartRequested) => Ok(S::Provisioning),
        (S::Provisioning, E::Started) => Ok(S::Ready),
        (S::Provisioning | S::Ready, E::Lost | E::StopRequested(_)) => Ok(S::Stopping),
        (S::Stopping, E::StopFinished) => Ok(S::Stopped),
        (S::Stopped, E::StorageExpired) => Ok(S::Expired),
        _ => Err(TransitionError { state, event }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_runs_round_and_never_skips_the_flush() {
        use SessionEvent as E;
        let life = [
            E::StartRequested,
            E::Started,
            E::StopRequested(EndReason::IdleTimeout),
            E::StopFinished,
            E::StorageExpired,
            E::StartRequested,
            E::Lost,
            E::StopFinished,
        ];
        let mut state = SessionState::Stopped;
        for event in life {
            state = transition(state, event).unwrap();
        }
        assert_eq!(state, SessionState::Stopped);
        // Whatever runs ends through Stopping, where storage is flushed.
        for state in [SessionState::Provisioning, SessionState::Ready] {
            for event in [E::Lost, E::StopRequested(EndReason::Requested)] {
                assert_eq!(transition(state, event), Ok(SessionState::Stopping));
            }
        }
        assert!(transition(SessionState::Ready, E::StorageExpired).is_err());
        assert!(transition(SessionState::Ready, E::StartRequested).is_err());
    }
}
