//! How many connections there may be at a time, so that none who holds many open keeps others out.

use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::peer::Peer;

/// Connections of the emulator's own user. [ours: 300 live sessions with six calls each]
const MAX_OWNER: usize = 2048;
/// Connections of all other users together: they can hold up one another only. [ours]
const MAX_STRANGERS: usize = 64;
/// Connections at a time that are being told that there are too many. [ours]
const MAX_REFUSALS: usize = 64;
/// The part of the process's descriptors that connections may have: the rest is for sessions, which need
/// several each, and for the state. [ours]
const DESCRIPTOR_SHARE: u64 = 2;

/// The connections of one listener.
pub(crate) struct Slots {
    owner: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

/// What becomes of a new connection.
pub(crate) enum Slot {
    /// It is served as long as the permit lives.
    Served(OwnedSemaphorePermit),
    /// It is told that there are too many.
    Refused(OwnedSemaphorePermit),
    /// There are too many even to tell it.
    Dropped,
}

impl Slots {
    pub(crate) fn new() -> Self {
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        let share = usize::try_from(descriptors / DESCRIPTOR_SHARE).unwrap_or(usize::MAX);
        Self::with(MAX_OWNER.min(share), MAX_STRANGERS.min(share))
    }

    fn with(owner: usize, strangers: usize) -> Self {
        let slots = |count| Arc::new(Semaphore::new(count));
        Self { owner: slots(owner), strangers: slots(strangers), refusals: slots(MAX_REFUSALS) }
    }

    pub(crate) fn take(&self, peer: Peer) -> Slot {
        let slots = match peer {
            Peer::Owner => &self.owner,
            Peer::Stranger => &self.strangers,
        };
        if let Ok(permit) = slots.clone().try_acquire_owned() {
            return Slot::Served(permit);
        }
        self.refusals.clone().try_acquire_owned().map_or(Slot::Dropped, Slot::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_take_no_slot_of_the_owner() {
        let slots = Slots::with(2, 1);
        let served = |peer| match slots.take(peer) {
            Slot::Served(permit) => Some(permit),
            _ => None,
        };
        let stranger = served(Peer::Stranger).unwrap();
        assert!(served(Peer::Stranger).is_none());
        let owner: Vec<_> = (0..2).map(|_| served(Peer::Owner).unwrap()).collect();
        assert!(served(Peer::Owner).is_none());
        drop(stranger);
        assert!(served(Peer::Owner).is_none(), "a stranger's slot is not the owner's");
        assert!(served(Peer::Stranger).is_some());
        drop(owner);
        assert!(served(Peer::Owner).is_some());
    }

    #[test]
    fn those_who_are_told_are_counted_too() {
        let slots = Slots::with(0, 0);
        let told: Vec<_> = (0..MAX_REFUSALS).map(|_| slots.take(Peer::Owner)).collect();
        assert!(told.iter().all(|slot| matches!(slot, Slot::Refused(_))));
        assert!(matches!(slots.take(Peer::Owner), Slot::Dropped));
    }
}
