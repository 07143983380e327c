//! The door of a live compute: how many calls are inside, and whether it is closed, in one word.
//!
//! Entering and closing meet in a single atomic, so a call is either counted before the door closes
//! or finds it closed. Knows nothing of sessions.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Nobody enters any more.
const CLOSED: usize = 1;
/// Somebody waits for the last call to leave.
const WATCHED: usize = 2;
/// One call.
const CALL: usize = 4;

/// Counts the calls inside.
#[derive(Debug, Default)]
pub(super) struct Gate {
    word: AtomicUsize,
    empty: Notify,
}

impl Gate {
    /// Counts a call in, unless the gate is closed.
    pub(super) fn enter(&self) -> bool {
        let enter = |word: usize| (word & CLOSED == 0).then_some(word + CALL);
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).is_ok()
    }

    /// Counts a call out.
    pub(super) fn leave(&self) {
        let before = self.word.fetch_sub(CALL, Ordering::AcqRel);
        if before / CALL == 1 && before & WATCHED != 0 {
            self.empty.notify_one();
        }
    }

    /// Calls inside.
    pub(super) fn inside(&self) -> usize {
        self.word.load(Ordering::Acquire) / CALL
    }

    /// Closes the gate; calls inside stay.
    pub(super) fn close(&self) {
        self.word.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Closes the gate if nobody is inside.
    pub(super) fn close_if_empty(&self) -> bool {
        let close = |word: usize| (word / CALL == 0).then_some(word | CLOSED);
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, close).is_ok()
    }

    /// Takes a close back.
    pub(super) fn reopen(&self) {
        self.word.fetch_and(!CLOSED, Ordering::AcqRel);
    }

    /// Resolves when nobody is inside. For one waiter.
    pub(super) async fn emptied(&self) {
        self.word.fetch_or(WATCHED, Ordering::AcqRel);
        while self.inside() > 0 {
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
        assert!(gate.enter() && gate.enter());
        assert!(!gate.close_if_empty());
        gate.close();
        assert!(!gate.enter());
        gate.leave();
        gate.leave();
        assert_eq!(gate.inside(), 0);
        gate.reopen();
        assert!(gate.close_if_empty());
        assert!(!gate.enter());
    }

    #[test]
    fn nobody_is_inside_after_an_empty_close_whoever_races() {
        for _ in 0..200 {
            let gate = Arc::new(Gate::default());
            let closed = Arc::new(AtomicBool::new(false));
            let callers: Vec<_> = (0..4)
                .map(|_| {
                    let (gate, closed) = (gate.clone(), closed.clone());
                    std::thread::spawn(move || {
                        for _ in 0..50 {
                            if gate.enter() {
                                assert!(!closed.load(Ordering::SeqCst), "inside a closed gate");
                                gate.leave();
                            }
                        }
                    })
                })
                .collect();
            while !gate.close_if_empty() {
                std::hint::spin_loop();
            }
            closed.store(true, Ordering::SeqCst);
            for caller in callers {
                caller.join().unwrap();
            }
            assert_eq!(gate.inside(), 0);
        }
    }

    #[tokio::test]
    async fn the_last_call_out_wakes_who_waits() {
        let gate = Arc::new(Gate::default());
        assert!(gate.enter() && gate.enter());
        let waiter = tokio::spawn({
            let gate = gate.clone();
            async move { gate.emptied().await }
        });
        tokio::task::yield_now().await;
        gate.leave();
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        gate.leave();
        waiter.await.unwrap();
    }
}
