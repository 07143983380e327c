//! The door of a live compute: how many calls are inside, and whether it is closed, in one word.
//!
//! Entering and closing meet in a single atomic, so a call is either counted before the door closes
//! or finds it closed. Calls of the agent and commands are counted apart: a dead agent has no more to say to
//! its calls, while commands go on. Knows nothing else of sessions.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::Need;

/// Nobody enters any more.
const CLOSED: u64 = 1;
/// Somebody waits for the last call to leave.
const WATCHED: u64 = 2;
/// One command.
const COMMAND: u64 = 4;
/// One call of the agent; what lies below it counts commands.
const CALL: u64 = 1 << 33;

/// Whose leaving is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// Everybody's.
    All,
    /// That of commands.
    Commands,
}

impl Who {
    fn inside(self, word: u64) -> u64 {
        let commands = word % CALL / COMMAND;
        match self {
            Who::All => word / CALL + commands,
            Who::Commands => commands,
        }
    }
}

fn one(need: Need) -> u64 {
    match need {
        Need::Agent => CALL,
        Need::Command => COMMAND,
    }
}

/// Counts the calls inside.
#[derive(Debug, Default)]
pub(super) struct Gate {
    word: AtomicU64,
    empty: Notify,
}

impl Gate {
    /// Counts a call in, unless the gate is closed.
    pub(super) fn enter(&self, need: Need) -> bool {
        let enter = |word: u64| (word & CLOSED == 0).then_some(word + one(need));
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).is_ok()
    }

    /// Counts a call out.
    pub(super) fn leave(&self, need: Need) {
        let before = self.word.fetch_sub(one(need), Ordering::AcqRel);
        // The last of its kind: whom that is enough for looks for himself.
        let left = ((before - one(need)) / one(need)) % (CALL / COMMAND);
        if left == 0 && before & WATCHED != 0 {
            self.empty.notify_one();
        }
    }

    /// Calls inside.
    pub(super) fn inside(&self, who: Who) -> usize {
        usize::try_from(who.inside(self.word.load(Ordering::Acquire))).unwrap_or(usize::MAX)
    }

    /// Closes the gate; calls inside stay.
    pub(super) fn close(&self) {
        self.word.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Closes the gate if nobody of these is inside.
    pub(super) fn close_if_empty(&self, of: Who) -> bool {
        let close = |word: u64| (of.inside(word) == 0).then_some(word | CLOSED);
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, close).is_ok()
    }

    /// Takes a close back.
    pub(super) fn reopen(&self) {
        self.word.fetch_and(!CLOSED, Ordering::AcqRel);
    }

    /// Resolves when nobody of these is inside. For one waiter.
    pub(super) async fn emptied(&self, of: Who) {
        self.word.fetch_or(WATCHED, Ordering::AcqRel);
        while self.inside(of) > 0 {
            self.empty.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn a_closed_gate_lets_nobody_in_and_everybody_out() {
        let gate = Gate::default();
        assert!(gate.enter(Need::Agent) && gate.enter(Need::Command));
        assert!(!gate.close_if_empty(Who::All));
        gate.close();
        assert!(!gate.enter(Need::Agent));
        assert_eq!((gate.inside(Who::All), gate.inside(Who::Commands)), (2, 1));
        gate.leave(Need::Command);
        gate.reopen();
        assert!(!gate.close_if_empty(Who::All) && gate.close_if_empty(Who::Commands));
        assert!(!gate.enter(Need::Command));
        gate.leave(Need::Agent);
        assert_eq!(gate.inside(Who::All), 0);
        gate.reopen();
        assert!(gate.close_if_empty(Who::All));
        assert!(!gate.enter(Need::Agent));
    }

    #[test]
    fn nobody_is_inside_after_an_empty_close_whoever_races() {
        for _ in 0..200 {
            let gate = Arc::new(Gate::default());
            let closed = Arc::new(AtomicBool::new(false));
            let callers: Vec<_> = (0..4)
                .map(|n| {
                    let need = if n % 2 == 0 { Need::Agent } else { Need::Command };
                    let (gate, closed) = (gate.clone(), closed.clone());
                    std::thread::spawn(move || {
                        for _ in 0..50 {
                            if gate.enter(need) {
                                assert!(!closed.load(Ordering::SeqCst), "inside a closed gate");
                                gate.leave(need);
                            }
                        }
                    })
                })
                .collect();
            while !gate.close_if_empty(Who::All) {
                std::hint::spin_loop();
            }
            closed.store(true, Ordering::SeqCst);
            for caller in callers {
                caller.join().unwrap();
            }
            assert_eq!(gate.inside(Who::All), 0);
        }
    }

    #[tokio::test]
    async fn the_last_call_out_wakes_who_waits() {
        let gate = Arc::new(Gate::default());
        assert!(gate.enter(Need::Agent) && gate.enter(Need::Command));
        let waiter = tokio::spawn({
            let gate = gate.clone();
            async move { gate.emptied(Who::All).await }
        });
        tokio::task::yield_now().await;
        gate.leave(Need::Command);
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        gate.leave(Need::Agent);
        waiter.await.unwrap();
        // Commands alone are waited for in the same way.
        assert!(gate.enter(Need::Agent) && gate.enter(Need::Command));
        let waiter = tokio::spawn({
            let gate = gate.clone();
            async move { gate.emptied(Who::Commands).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        gate.leave(Need::Command);
        waiter.await.unwrap();
        assert_eq!(gate.inside(Who::All), 1);
    }
}
