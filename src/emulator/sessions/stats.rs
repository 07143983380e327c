//! Statistics: what persistence did for sessions, added up from what happened to them.
//!
//! Events wait in memory for a moment and are kept together, so that no call waits for a disk because of
//! them. A crash of the emulator loses the last few seconds of statistics, and nothing else.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use super::{ACTIVITY_WRITE, Sessions, Shared};
use crate::emulator::store::StoreError;
use crate::emulator::store::events::{Happening, SessionEvent};
use crate::model::{EndReason, ResetReason, RuntimeId, SessionKey, Timestamp};

/// Events that wait; more than that at once are not kept. [ours: far more than sessions can start and end
/// between two writes]
const MOST_WAITING: usize = 50_000;

/// Events that wait to be kept.
#[derive(Default)]
pub(super) struct Events {
    waiting: Mutex<Vec<SessionEvent>>,
}

impl Events {
    /// Notes what happened; keeps nothing yet.
    pub(super) fn note(&self, key: &SessionKey, at: Timestamp, what: Happening) {
        let mut waiting = self.waiting.lock();
        if waiting.len() < MOST_WAITING {
            waiting.push(SessionEvent { key: key.clone(), at, what });
        }
    }
}

impl Shared {
    /// Notes what happened now.
    pub(super) fn happened(&self, key: &SessionKey, what: Happening) {
        self.events.note(key, self.clock.now(), what);
    }

    /// Keeps the events that wait.
    pub(super) async fn keep_events(&self) {
        let waiting = std::mem::take(&mut *self.events.waiting.lock());
        let count = waiting.len();
        if count > 0
            && let Err(e) = self.store.add_events(waiting).await
        {
            tracing::warn!("{count} events of sessions' statistics could not be kept: {e}");
        }
    }
}

/// Keeps waiting events at intervals.
pub(super) async fn keep_at_intervals(shared: std::sync::Arc<Shared>) {
    loop {
        tokio::time::sleep(ACTIVITY_WRITE).await;
        shared.keep_events().await;
    }
}

/// Times of computes to their first answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FirstAnswers {
    /// Computes that gave one.
    pub count: u64,
    /// The middle one of their times, in milliseconds, or what lies between the middle two; nothing without any.
    pub median_millis: Option<u64>,
}

/// What happened to one session, or to all of a runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Computes that began with empty storage.
    pub starts: u64,
    /// Computes that began with the storage of an earlier one.
    pub resumes: u64,
    /// Files that resumes found, added up.
    pub files_found: u64,
    /// Their bytes.
    pub bytes_found: u64,
    /// First answers of computes that began with empty storage.
    pub fresh: FirstAnswers,
    /// First answers of computes that found the storage of an earlier one.
    pub resumed: FirstAnswers,
    /// Lost storages by reason.
    pub resets: BTreeMap<ResetReason, u64>,
    /// Ends by reason.
    pub ends: BTreeMap<EndReason, u64>,
    /// What resumes were faster by than starts with empty storage, in milliseconds, added up; below zero
    /// when they were slower. Nothing while there is no pair to compare.
    pub saved_millis: Option<i64>,
}

/// Statistics of the emulator's sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// By runtime, with the number of sessions.
    pub runtimes: BTreeMap<RuntimeId, (u64, Totals)>,
    /// By session.
    pub sessions: BTreeMap<SessionKey, Totals>,
}

impl Sessions {
    /// Statistics, of one runtime where that is said.
    pub async fn stats(&self, runtime: Option<RuntimeId>) -> Result<Stats, StoreError> {
        self.shared.keep_events().await;
        Ok(add_up(&self.shared.store.events(runtime).await?))
    }
}

/// Sums, and the times to first answers, which are needed one by one.
#[derive(Default)]
struct Sum {
    totals: Totals,
    fresh: Vec<u64>,
    resumed: Vec<u64>,
}

impl Sum {
    fn add(&mut self, what: Happening) {
        let totals = &mut self.totals;
        match what {
            Happening::Started => totals.starts += 1,
            Happening::Resumed { files, bytes } => {
                totals.resumes += 1;
                totals.files_found += files;
                totals.bytes_found = totals.bytes_found.saturating_add(bytes);
            }
            Happening::Answered { resumed: true, millis } => self.resumed.push(millis),
            Happening::Answered { resumed: false, millis } => self.fresh.push(millis),
            Happening::Ended(reason) => *totals.ends.entry(reason).or_default() += 1,
            Happening::Reset(reason) => *totals.resets.entry(reason).or_default() += 1,
        }
    }

    fn close(mut self, saved: Option<i64>) -> Totals {
        self.totals.fresh = answers(&mut self.fresh);
        self.totals.resumed = answers(&mut self.resumed);
        self.totals.saved_millis = saved;
        self.totals
    }
}

fn answers(times: &mut [u64]) -> FirstAnswers {
    times.sort_unstable();
    let middle = [times.len().saturating_sub(1) / 2, times.len() / 2];
    let [low, high] = middle.map(|at| times.get(at).copied());
    let median_millis = low.zip(high).map(|(low, high)| low.midpoint(high));
    FirstAnswers { count: times.len() as u64, median_millis }
}

fn add_up(events: &[SessionEvent]) -> Stats {
    let mut sessions: BTreeMap<SessionKey, Sum> = BTreeMap::new();
    let mut runtimes: HashMap<RuntimeId, Sum> = HashMap::new();
    for event in events {
        sessions.entry(event.key.clone()).or_default().add(event.what);
        runtimes.entry(event.key.runtime.clone()).or_default().add(event.what);
    }
    let typical: HashMap<RuntimeId, Option<u64>> =
        runtimes.iter_mut().map(|(id, sum)| (id.clone(), answers(&mut sum.fresh).median_millis)).collect();
    let mut stats = Stats::default();
    let mut saved: HashMap<RuntimeId, (u64, Option<i64>)> = HashMap::new();
    for (key, mut sum) in sessions {
        // A session is compared with its own starts; one that never started empty with those of its runtime.
        let own = answers(&mut sum.fresh).median_millis;
        let usual = own.or_else(|| typical.get(&key.runtime).copied().flatten());
        let signed = |millis: u64| i64::try_from(millis).unwrap_or(i64::MAX);
        let here = usual.filter(|_| !sum.resumed.is_empty()).map(|usual| {
            sum.resumed
                .iter()
                .fold(0_i64, |all, millis| all.saturating_add(signed(usual).saturating_sub(signed(*millis))))
        });
        let (count, all) = saved.entry(key.runtime.clone()).or_default();
        *count += 1;
        if let Some(here) = here {
            *all = Some(all.unwrap_or(0).saturating_add(here));
        }
        stats.sessions.insert(key, sum.close(here));
    }
    for (id, sum) in runtimes {
        let (count, all) = saved.remove(&id).unwrap_or_default();
        stats.runtimes.insert(id, (count, sum.close(all)));
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resumes_are_compared_with_starts_of_the_same_session_or_else_of_the_runtime() {
        let key = |session: char| SessionKey {
            runtime: "coder-AbCdEf0123".parse().unwrap(),
            endpoint: "DEFAULT".parse().unwrap(),
            session: session.to_string().repeat(33).parse().unwrap(),
        };
        let answered = |resumed, millis| Happening::Answered { resumed, millis };
        let story = [
            ('a', Happening::Started),
            ('a', answered(false, 5_000)),
            ('a', Happening::Ended(EndReason::Requested)),
            ('a', Happening::Resumed { files: 10, bytes: 1_000 }),
            ('a', answered(true, 1_000)),
            ('a', Happening::Ended(EndReason::IdleTimeout)),
            ('a', Happening::Resumed { files: 30, bytes: 3_000 }),
            ('a', answered(true, 6_500)),
            ('a', Happening::Reset(ResetReason::NewVersion)),
            ('b', Happening::Resumed { files: 1, bytes: 1 }),
            ('b', answered(true, 2_000)),
            ('c', Happening::Started),
        ];
        let events: Vec<_> = story
            .into_iter()
            .map(|(session, what)| SessionEvent { key: key(session), at: Timestamp(0), what })
            .collect();
        let stats = add_up(&events);
        let a = &stats.sessions[&key('a')];
        assert_eq!((a.starts, a.resumes, a.files_found, a.bytes_found), (1, 2, 40, 4_000));
        assert_eq!(a.fresh, FirstAnswers { count: 1, median_millis: Some(5_000) });
        assert_eq!(a.resumed, FirstAnswers { count: 2, median_millis: Some(3_750) });
        // 4 s faster, and once 1.5 s slower.
        assert_eq!(a.saved_millis, Some(2_500));
        assert_eq!(a.resets, BTreeMap::from([(ResetReason::NewVersion, 1)]));
        assert_eq!(a.ends, BTreeMap::from([(EndReason::Requested, 1), (EndReason::IdleTimeout, 1)]));
        assert_eq!(stats.sessions[&key('b')].saved_millis, Some(3_000));
        assert_eq!(stats.sessions[&key('c')].saved_millis, None);
        let (sessions, all) = &stats.runtimes[&key('a').runtime];
        assert_eq!((*sessions, all.starts, all.resumes, all.saved_millis), (3, 2, 3, Some(5_500)));
        assert_eq!(add_up(&[]), Stats::default());
    }
}
