//! Lists of sessions. There may be thousands, so they are put in order by as little as decides it, and each is looked
//! at where it is.

use std::cmp::Ordering;
use std::sync::Arc;
use std::vec::IntoIter;

use super::live::Entry;
use crate::emulator::store::sessions::SessionRecord;
use crate::model::{RuntimeId, SessionId, SessionKey, SessionState, Timestamp, session_id_for_name};

/// Which sessions are listed; all of them by default.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// Those of the runtimes with this name.
    pub agent: Option<String>,
    /// The one with this id, or with this short name in its own agent.
    pub session: Option<String>,
    /// Those that have a compute or are about to have one.
    pub live: bool,
    /// The newest of them, not more than this many.
    pub limit: Option<usize>,
}

/// Sessions in the order in which they are listed: newest activity first.
pub struct Listing {
    total: usize,
    entries: IntoIter<(Timestamp, Arc<Entry>)>,
}

impl Listing {
    pub(super) fn of(entries: Vec<Arc<Entry>>, filter: &SessionFilter) -> Self {
        let mut named = Named { name: filter.session.as_deref(), last: None };
        // The times are read once: while they are compared they must not move.
        let wanted = |entry: Arc<Entry>| {
            let of_agent = filter.agent.as_ref().is_none_or(|agent| entry.key.runtime.name() == agent);
            if !of_agent || !named.is(&entry.key) {
                return None;
            }
            let (state, at) = entry.look(|_, state, at| (state, at))?;
            (!filter.live || is_live(state)).then_some((at, entry))
        };
        let mut found: Vec<_> = entries.into_iter().filter_map(wanted).collect();
        let total = found.len();
        if let Some(limit) = filter.limit.filter(|limit| *limit < total) {
            found.select_nth_unstable_by(limit, order);
            found.truncate(limit);
        }
        found.sort_unstable_by(order);
        Self { total, entries: found.into_iter() }
    }

    /// How many there are, whatever the limit leaves out.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Looks at the next one: its record, its state as people see it, and its last activity as it is now. One that has
    /// been removed since is left out.
    pub fn next<T>(
        &mut self,
        mut see: impl FnMut(&SessionRecord, SessionState, Timestamp) -> T,
    ) -> Option<T> {
        self.entries.find_map(|(_, entry)| entry.look(&mut see))
    }
}

/// Newest activity first; the rest keeps the order the same from one list to the next.
fn order((a_at, a): &(Timestamp, Arc<Entry>), (b_at, b): &(Timestamp, Arc<Entry>)) -> Ordering {
    b_at.cmp(a_at).then_with(|| a.key.cmp(&b.key))
}

/// True for a session that has a compute or is about to have one.
pub(super) fn is_live(state: SessionState) -> bool {
    !matches!(state, SessionState::Stopped | SessionState::Expired)
}

/// Sessions by id or by short name, whose id depends on the agent.
struct Named<'a> {
    name: Option<&'a str>,
    /// The id that the name has in the runtime that was asked for last.
    last: Option<(RuntimeId, SessionId)>,
}

impl Named<'_> {
    fn is(&mut self, key: &SessionKey) -> bool {
        let Some(name) = self.name else { return true };
        let (_, id) = match self.last.take() {
            Some(last) if last.0 == key.runtime => self.last.insert(last),
            _ => self.last.insert((key.runtime.clone(), session_id_for_name(key.runtime.name(), name))),
        };
        *id == key.session
    }
}
