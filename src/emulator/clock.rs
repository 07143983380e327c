//! The clock of all lifecycle decisions: real time plus an offset that `local clock` moves.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;

use super::store::{Store, StoreError};
use crate::model::{Timestamp, format_duration, limits};

/// How long a sleeper trusts the monotonic clock before it looks at the time again: a laptop that
/// was suspended has moved on in real time without the monotonic clock noticing.
const RECHECK: Duration = Duration::from_secs(15);
const OFFSET_KEY: &str = "clock_offset_ms";

/// Why the clock did not move.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// It would be further ahead than [`limits::MAX_CLOCK_AHEAD`].
    #[error(
        "the clock can be at most {} ahead of real time, and is {} ahead; `local clock reset` takes it back",
        format_duration(limits::MAX_CLOCK_AHEAD),
        format_duration(*ahead)
    )]
    TooFar {
        /// How far it is ahead, in whole seconds.
        ahead: Duration,
    },
    /// The offset could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Real time plus an offset, or, in tests, tokio's clock plus an offset.
pub struct Clock {
    source: Source,
    offset_ms: AtomicI64,
    moved: watch::Sender<()>,
    /// Held while the offset is changed and kept, so that two moves add up.
    moving: tokio::sync::Mutex<()>,
}

enum Source {
    System,
    Tokio { start: Instant, epoch_ms: i64 },
}

impl Clock {
    /// The machine's time.
    pub fn system() -> Self {
        Self::with(Source::System)
    }

    /// tokio's time, which tests can pause, beginning at `epoch`.
    pub fn tokio(epoch: Timestamp) -> Self {
        Self::with(Source::Tokio { start: Instant::now(), epoch_ms: epoch.0 })
    }

    fn with(source: Source) -> Self {
        Self {
            source,
            offset_ms: AtomicI64::new(0),
            moved: watch::channel(()).0,
            moving: tokio::sync::Mutex::new(()),
        }
    }

    /// The time without the offset, as agents see it.
    pub fn unshifted(&self) -> Timestamp {
        match &self.source {
            Source::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Source::Tokio { start, epoch_ms } => Timestamp(*epoch_ms).plus(start.elapsed()),
        }
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.unshifted().0.saturating_add(self.offset_ms.load(Ordering::Relaxed)))
    }

    /// How far the clock is ahead of real time.
    pub fn offset(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.offset_ms.load(Ordering::Relaxed)).unwrap_or(0))
    }

    /// Converts a time that an agent reports (it sees real time) to this clock.
    pub fn from_agent(&self, reported: Timestamp) -> Timestamp {
        Timestamp(reported.0.saturating_add(self.offset_ms.load(Ordering::Relaxed)))
    }

    /// Waits until the clock shows `deadline`; a move of the clock is noticed at once.
    pub async fn sleep_until(&self, deadline: Timestamp) {
        let mut moved = self.moved.subscribe();
        loop {
            let left = deadline.since(self.now());
            if left.is_zero() {
                return;
            }
            // A closed channel cannot happen: the sender is part of self.
            let _ = tokio::time::timeout(left.min(RECHECK), moved.changed()).await;
        }
    }

    /// Becomes changed whenever the clock is moved.
    pub fn moves(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }

    /// Moves the clock ahead and keeps the new offset in the store.
    pub async fn advance(&self, by: Duration, store: &Store) -> Result<(), ClockError> {
        let _moving = self.moving.lock().await;
        let before = self.offset();
        let offset = before.saturating_add(by);
        if offset > limits::MAX_CLOCK_AHEAD {
            return Err(ClockError::TooFar { ahead: Duration::from_secs(before.as_secs()) });
        }
        self.set(millis(offset), store).await?;
        Ok(())
    }

    /// Back to real time.
    pub async fn reset(&self, store: &Store) -> Result<(), StoreError> {
        let _moving = self.moving.lock().await;
        self.set(0, store).await
    }

    /// Takes the offset that an earlier emulator kept.
    pub async fn restore(&self, store: &Store) -> Result<(), StoreError> {
        let kept = store.meta(OFFSET_KEY).await?;
        let offset: i64 = kept.and_then(|text| text.parse().ok()).unwrap_or(0);
        // One that an emulator without the limit kept.
        self.offset_ms.store(offset.clamp(0, millis(limits::MAX_CLOCK_AHEAD)), Ordering::Relaxed);
        Ok(())
    }

    async fn set(&self, offset_ms: i64, store: &Store) -> Result<(), StoreError> {
        store.set_meta(OFFSET_KEY, offset_ms.to_string()).await?;
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
        self.moved.send_replace(());
        Ok(())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn moves_add_up_wake_sleepers_and_survive() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&home.path().join("state.db")).await.unwrap();
        let clock = Arc::new(Clock::system());
        let start = clock.now();
        let hour = Duration::from_secs(3600);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(start.plus(2 * hour)).await }
        });
        let (a, b) = tokio::join!(clock.advance(hour, &store), clock.advance(hour, &store));
        a.and(b).unwrap();
        sleeper.await.unwrap();
        assert_eq!(clock.offset(), 2 * hour);
        assert!(clock.now().since(start) >= 2 * hour);
        let later = Clock::system();
        later.restore(&store).await.unwrap();
        assert_eq!(later.offset(), 2 * hour);
        // Too far is refused and moves nothing.
        for by in [limits::MAX_CLOCK_AHEAD, Duration::MAX] {
            let error = clock.advance(by, &store).await.unwrap_err();
            assert!(matches!(error, ClockError::TooFar { ahead } if ahead == 2 * hour), "{error}");
            assert!(error.to_string().contains("at most 3650d ahead"), "{error}");
        }
        assert_eq!(clock.offset(), 2 * hour);
        clock.advance(limits::MAX_CLOCK_AHEAD - 2 * hour, &store).await.unwrap();
        clock.reset(&store).await.unwrap();
        assert_eq!(clock.offset(), Duration::ZERO);
        store.set_meta(OFFSET_KEY, i64::MAX.to_string()).await.unwrap();
        later.restore(&store).await.unwrap();
        assert_eq!(later.offset(), limits::MAX_CLOCK_AHEAD);
    }
}
