//! When a compute ends, as pure decisions: no task, no clock, no engine.
//!
//! The table of the agent's fate stands in the documentation of [`super`]; [`agent_failed`] and
//! [`agent_wanted`] are that table.

use std::time::Duration;

use crate::engine::agent_http::{Ping, PingStatus};
use crate::model::{EndReason, Lifecycle, Timestamp, limits};

/// Pings in a row without an answer after which a last `HealthyBusy` no longer keeps a session. [ours:
/// at the default interval five minutes; an agent that computes hard may well miss some]
pub(super) const MAX_SILENT_PINGS: u32 = 60;

/// What an agent's pings have said so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PingMemory {
    status: Option<PingStatus>,
    /// Since when the agent may be idled, as far as pings tell.
    idle_since: Timestamp,
    /// The last `time_of_last_update`, as reported: each value is converted once, when first seen, so
    /// that a later move of the clock does not make an old time new.
    reported: Option<Timestamp>,
    silent: u32,
}

impl PingMemory {
    /// Nothing heard yet from an agent that was started at `now`.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { status: None, idle_since: now, reported: None, silent: 0 }
    }

    /// Takes an answer; `convert` turns the agent's time into the emulator's.
    pub(super) fn answered(&mut self, ping: Ping, now: Timestamp, convert: impl Fn(Timestamp) -> Timestamp) {
        self.silent = 0;
        let changed = self.status != Some(ping.status);
        let news = ping.time_of_last_update.filter(|t| self.reported != Some(*t));
        if news.is_some() {
            self.reported = news;
        }
        // A time ahead of now would keep a session for as long as the agent's clock is wrong.
        let said = news.map(|t| convert(t).min(now));
        let since = if changed { Some(said.unwrap_or(now)) } else { said };
        if let Some(since) = since {
            self.idle_since = self.idle_since.max(since);
        }
        self.status = Some(ping.status);
    }

    /// Notes a ping without an answer.
    pub(super) fn unanswered(&mut self) {
        self.silent = self.silent.saturating_add(1);
    }

    /// True while the agent is known to work in the background.
    pub(super) fn busy(&self) -> bool {
        self.status == Some(PingStatus::HealthyBusy) && self.silent < MAX_SILENT_PINGS
    }

    /// Forgets times that lie ahead, after the clock was set back.
    pub(super) fn rebase(&mut self, now: Timestamp) {
        self.idle_since = self.idle_since.min(now);
    }
}

/// What is known of a live compute.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// When the compute was made.
    pub(super) started_at: Timestamp,
    /// The version's settings.
    pub(super) lifecycle: Lifecycle,
    /// Calls inside, and calls that wait for the agent.
    pub(super) in_flight: usize,
    /// Start or end of the last call, whichever was later.
    pub(super) last_activity: Timestamp,
    /// The agent's pings.
    pub(super) pings: &'a PingMemory,
}

/// What is to be done with a live compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing before this time.
    LookAgain(Timestamp),
    /// It ends.
    End(EndReason),
}

/// Decides on a live compute.
pub(super) fn judge(facts: &Facts<'_>, now: Timestamp) -> Verdict {
    let Facts { started_at, lifecycle, in_flight, last_activity, pings } = facts;
    let old_at = started_at.plus(lifecycle.max_lifetime);
    let active = *in_flight > 0 || pings.busy();
    // Whatever is active now is idle for the first time after now.
    let quiet_since = if active { now } else { (*last_activity).max(pings.idle_since) };
    let idle_at = quiet_since.plus(lifecycle.idle_timeout);
    // A large move of the clock may pass both; then the reason is what would have come first.
    if now >= old_at.min(idle_at) {
        let idle_first = idle_at <= old_at;
        return Verdict::End(if idle_first { EndReason::IdleTimeout } else { EndReason::MaxLifetime });
    }
    Verdict::LookAgain(old_at.min(idle_at))
}

/// True when a stopped session's storage has been kept for long enough.
pub(super) fn storage_expired(last_activity: Timestamp, now: Timestamp) -> bool {
    now.since(last_activity) >= limits::STORAGE_IDLE_EXPIRY
}

/// Where the agent of a live compute stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AgentStage {
    /// Started, no healthy ping yet, still in time.
    Starting,
    /// Has answered a ping.
    Healthy,
    /// Runs without a healthy ping, out of time.
    Late,
    /// Ended.
    Dead,
}

/// What follows for the compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consequence {
    /// It lives on under the idle and lifetime rules.
    Keep,
    /// It ends as soon as no call is inside, at once if none is.
    End(EndReason),
}

/// The agent stopped being `before`: it died, or it is out of time. `let_down`: a call waited for it.
pub(super) fn agent_failed(before: AgentStage, let_down: bool) -> Consequence {
    match (before, let_down) {
        (AgentStage::Healthy, _) => Consequence::End(EndReason::Exited),
        (AgentStage::Starting, true) => Consequence::End(EndReason::StartFailed),
        (AgentStage::Starting | AgentStage::Late | AgentStage::Dead, _) => Consequence::Keep,
    }
}

/// What a call that needs the agent meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It enters.
    Enter,
    /// It waits for the first healthy ping.
    Wait,
    /// The compute is ended first, and the call starts a new one.
    Restart,
    /// It is told what became of the agent: commands still run in the compute.
    Refuse,
}

/// A call needs the agent while `in_flight` calls are inside.
pub(super) fn agent_wanted(stage: AgentStage, in_flight: usize) -> Wanted {
    match stage {
        AgentStage::Healthy => Wanted::Enter,
        AgentStage::Starting => Wanted::Wait,
        AgentStage::Late | AgentStage::Dead if in_flight == 0 => Wanted::Restart,
        AgentStage::Late | AgentStage::Dead => Wanted::Refuse,
    }
}

/// Pause before the next look at an agent that is not up yet: quick at first, since an agent without
/// much to load is up in a few milliseconds. [ours: 1 ms growing to 50 ms]
pub(super) fn next_pause(pause: Duration) -> Duration {
    (pause * 3 / 2).min(Duration::from_millis(50))
}

/// The first of those pauses.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    fn ping(status: PingStatus, update: Option<i64>) -> Ping {
        Ping { status, time_of_last_update: update.map(at) }
    }

    fn verdict(last: i64, in_flight: usize, pings: &PingMemory, now: i64) -> Verdict {
        let lifecycle = Lifecycle::new(Some(60), Some(600)).unwrap();
        let facts = Facts { started_at: at(0), lifecycle, in_flight, last_activity: at(last), pings };
        judge(&facts, at(now))
    }

    #[test]
    fn a_quiet_session_ends_after_the_idle_timeout_and_not_before() {
        let pings = PingMemory::new(at(0));
        assert_eq!(verdict(10, 0, &pings, 69), Verdict::LookAgain(at(70)));
        assert_eq!(verdict(10, 0, &pings, 70), Verdict::End(EndReason::IdleTimeout));
        assert_eq!(verdict(10, 0, &pings, 9_000), Verdict::End(EndReason::IdleTimeout));
        assert_eq!(verdict(590, 0, &pings, 9_000), Verdict::End(EndReason::MaxLifetime));
    }

    #[test]
    fn calls_and_busy_agents_are_never_idled_but_grow_old() {
        let mut pings = PingMemory::new(at(0));
        assert_eq!(verdict(0, 1, &pings, 500), Verdict::LookAgain(at(560)));
        assert_eq!(verdict(0, 1, &pings, 580), Verdict::LookAgain(at(600)));
        assert_eq!(verdict(599, 1, &pings, 600), Verdict::End(EndReason::MaxLifetime));
        pings.answered(ping(PingStatus::HealthyBusy, None), at(5), |t| t);
        assert_eq!(verdict(0, 0, &pings, 500), Verdict::LookAgain(at(560)));
        assert_eq!(verdict(0, 0, &pings, 600), Verdict::End(EndReason::MaxLifetime));
    }

    #[test]
    fn idleness_counts_from_the_status_change_or_what_the_agent_reports() {
        let mut pings = PingMemory::new(at(0));
        pings.answered(ping(PingStatus::Healthy, None), at(3), |t| t);
        pings.answered(ping(PingStatus::HealthyBusy, None), at(50), |t| t);
        pings.answered(ping(PingStatus::Healthy, None), at(100), |t| t);
        pings.answered(ping(PingStatus::Healthy, None), at(150), |t| t);
        assert_eq!(verdict(0, 0, &pings, 159), Verdict::LookAgain(at(160)));
        assert_eq!(verdict(0, 0, &pings, 160), Verdict::End(EndReason::IdleTimeout));
        // A reported time counts instead of the moment we noticed the change.
        pings.answered(ping(PingStatus::HealthyBusy, Some(170)), at(175), |t| t);
        pings.answered(ping(PingStatus::Healthy, Some(180)), at(185), |t| t);
        assert_eq!(verdict(0, 0, &pings, 239), Verdict::LookAgain(at(240)));
        // Advancing it with every ping keeps the session, as on the service.
        pings.answered(ping(PingStatus::Healthy, Some(238)), at(239), |t| t);
        assert_eq!(verdict(0, 0, &pings, 290), Verdict::LookAgain(at(298)));
        // A time ahead of now is now.
        pings.answered(ping(PingStatus::Healthy, Some(99_999)), at(291), |t| t);
        assert_eq!(verdict(0, 0, &pings, 351), Verdict::End(EndReason::IdleTimeout));
    }

    #[test]
    fn a_reported_time_is_converted_once() {
        let mut pings = PingMemory::new(at(0));
        pings.answered(ping(PingStatus::Healthy, Some(10)), at(10), |t| t);
        // The clock is moved by 1000 s; the same report is old news and must not look fresh.
        let shifted = |t: Timestamp| t.plus(Duration::from_secs(1000));
        pings.answered(ping(PingStatus::Healthy, Some(10)), at(1011), shifted);
        assert_eq!(pings.idle_since, at(10));
        pings.answered(ping(PingStatus::Healthy, Some(12)), at(1013), shifted);
        assert_eq!(pings.idle_since, at(1012));
        pings.rebase(at(500));
        assert_eq!(pings.idle_since, at(500));
    }

    #[test]
    fn a_silent_agent_is_believed_busy_for_a_bounded_time() {
        let mut pings = PingMemory::new(at(0));
        pings.answered(ping(PingStatus::HealthyBusy, None), at(1), |t| t);
        for _ in 1..MAX_SILENT_PINGS {
            pings.unanswered();
            assert!(pings.busy());
        }
        pings.unanswered();
        assert!(!pings.busy());
        pings.answered(ping(PingStatus::HealthyBusy, None), at(2), |t| t);
        assert!(pings.busy());
    }

    #[test]
    fn the_agents_fate_is_the_documented_table() {
        use AgentStage as A;
        let end = Consequence::End;
        for (before, let_down, expected) in [
            (A::Starting, false, Consequence::Keep),
            (A::Starting, true, end(EndReason::StartFailed)),
            (A::Healthy, false, end(EndReason::Exited)),
            (A::Healthy, true, end(EndReason::Exited)),
            (A::Late, false, Consequence::Keep),
            (A::Late, true, Consequence::Keep),
        ] {
            assert_eq!(agent_failed(before, let_down), expected, "{before:?} {let_down}");
        }
        for (stage, in_flight, expected) in [
            (A::Starting, 0, Wanted::Wait),
            (A::Starting, 2, Wanted::Wait),
            (A::Healthy, 0, Wanted::Enter),
            (A::Late, 0, Wanted::Restart),
            (A::Late, 1, Wanted::Refuse),
            (A::Dead, 0, Wanted::Restart),
            (A::Dead, 1, Wanted::Refuse),
        ] {
            assert_eq!(agent_wanted(stage, in_flight), expected, "{stage:?} {in_flight}");
        }
    }

    #[test]
    fn storage_expires_after_fourteen_days() {
        let day = 24 * 3600;
        assert!(!storage_expired(at(0), at(14 * day - 1)));
        assert!(storage_expired(at(0), at(14 * day)));
        assert!(!storage_expired(at(100 * day), at(0)));
    }
}
