//! The threads that serve the connections of the AWS planes.
//!
//! Each lane is a thread with a runtime of its own and a share of the connections. What a call touches stays
//! there: the caller's socket, the connection to the agent, timers, wakes. A runtime that spreads its tasks over
//! threads wakes a second thread for every batch of events so that it may share the work; for calls that take
//! microseconds the waking, the search for work and the cold caches cost as much as the work, at 32 connections
//! nearly half of all processor time. Knows nothing of HTTP.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// Most lanes, on machines with more processors: agents want some too. [ours]
const MAX_LANES: usize = 8;

/// Time between two timers of a lane that are always there; below those of connections. [ours]
const BEAT: Duration = Duration::from_secs(10);

/// The threads. Connections that are still open when this is dropped are closed.
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    tracker: TaskTracker,
}

struct Lane {
    runtime: Handle,
    /// One reference a connection, and this.
    load: Arc<()>,
    /// The thread ends when this is dropped.
    _end: oneshot::Sender<()>,
}

impl Lanes {
    /// A lane for each processor that this process may use. What runs there is counted by `tracker`.
    pub(super) fn start(tracker: TaskTracker) -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, |count| count.get().min(MAX_LANES));
        Self::of(count, tracker)
    }

    fn of(count: usize, tracker: TaskTracker) -> io::Result<Self> {
        let lanes = (0..count).map(Lane::start).collect::<io::Result<_>>()?;
        Ok(Self { lanes, tracker })
    }

    /// Runs `work` on the lane that has the least to do.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let Some(lane) = self.lanes.iter().min_by_key(|lane| Arc::strong_count(&lane.load)) else { return };
        let load = lane.load.clone();
        let counted = async move {
            work.await;
            drop(load);
        };
        self.tracker.spawn_on(counted, &lane.runtime);
    }
}

impl Lane {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        thread::Builder::new().name(format!("lane-{number}")).spawn(move || {
            runtime.block_on(async move {
                // An error is the end too. There is always a timer: one that is set to a time before all others
                // makes the runtime wake itself, and without this a waiting connection's would be that often.
                let mut ended = ended;
                while tokio::time::timeout(BEAT, &mut ended).await.is_err() {}
            });
        })?;
        Ok(Self { runtime: handle, load: Arc::default(), _end: end })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_goes_where_the_least_is() {
        let tracker = TaskTracker::new();
        let lanes = Lanes::of(3, tracker.clone()).unwrap();
        let (tell, mut told) = mpsc::unbounded_channel();
        let ends: Vec<_> = (0..9)
            .map(|_| {
                let (end, ended) = oneshot::channel::<()>();
                let tell = tell.clone();
                lanes.spawn(async move {
                    tell.send(thread::current().id()).unwrap();
                    let _ = ended.await;
                });
                end
            })
            .collect();
        let mut shares = HashMap::new();
        for _ in 0..9 {
            *shares.entry(told.recv().await.unwrap()).or_insert(0) += 1;
        }
        assert_eq!(shares.into_values().collect::<Vec<_>>(), [3, 3, 3]);
        drop(ends);
        tracker.close();
        tracker.wait().await;
    }

    #[tokio::test]
    async fn what_runs_ends_with_the_lanes() {
        let tracker = TaskTracker::new();
        let lanes = Lanes::of(1, tracker.clone()).unwrap();
        lanes.spawn(std::future::pending());
        tracker.close();
        drop(lanes);
        tokio::time::timeout(Duration::from_secs(10), tracker.wait()).await.unwrap();
    }
}
