//! Polls a connection again in place when it wakes itself while it is being polled.
//!
//! A call passes through several parts of hyper that hand over to each other by waking: the body of the
//! request to the agent's connection, that one back to the answer. All of them live in one task, so each
//! of those wakes is the task waking itself. The runtime answers such a wake by queueing the task and by
//! waking another thread to share the work, which finds none: 3.5 futex calls a request and a third of the
//! time of a warm call. Knows nothing of HTTP.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio::task::coop::has_budget_remaining;

/// Polls in place before the task is queued like any other. [ours: a call needs two or three]
const MAX_POLLS: usize = 8;

/// Nobody polls: a wake goes to the task.
const IDLE: u8 = 0;
/// The future is being polled.
const POLLING: u8 = 1;
/// It was woken while it was being polled.
const WOKEN: u8 = 2;

/// The waker of one future, kept from poll to poll.
pub(super) struct Quiet {
    bell: Arc<Bell>,
    waker: Waker,
}

#[derive(Default)]
struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A state that is POLLING becomes WOKEN, and one that is WOKEN stays so; the poll then sees it.
        let noted = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| match state {
            IDLE => None,
            _ => Some(WOKEN),
        });
        if noted.is_err() {
            self.task.wake();
        }
    }
}

impl Default for Quiet {
    fn default() -> Self {
        let bell = Arc::new(Bell::default());
        Self { waker: Waker::from(bell.clone()), bell }
    }
}

impl Quiet {
    /// Polls the future until it is ready or waits for something outside of itself.
    pub(super) fn poll<F: Future>(
        &mut self,
        mut future: Pin<&mut F>,
        outer: &mut Context<'_>,
    ) -> Poll<F::Output> {
        self.bell.task.register(outer.waker());
        for _ in 0..MAX_POLLS {
            self.bell.state.store(POLLING, Ordering::Release);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&self.waker)) {
                self.bell.state.store(IDLE, Ordering::Release);
                return Poll::Ready(output);
            }
            let quiet =
                self.bell.state.compare_exchange(POLLING, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok();
            if quiet {
                return Poll::Pending;
            }
            // A task that has used up its turn is refused by every resource until it has yielded.
            if !has_budget_remaining() {
                break;
            }
        }
        self.bell.state.store(IDLE, Ordering::Release);
        outer.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::mpsc;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls once; gives what came, and how often the task was woken by it.
    fn once<F: Future>(quiet: &mut Quiet, future: Pin<&mut F>) -> (Poll<F::Output>, Arc<Count>) {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        (quiet.poll(future, &mut Context::from_waker(&waker)), count)
    }

    #[test]
    fn a_future_that_wakes_itself_is_polled_on_without_its_task_being_woken() {
        let mut polls = 0;
        let future = poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
        });
        let (polled, woken) = once(&mut Quiet::default(), std::pin::pin!(future));
        assert!(polled.is_ready());
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        assert_eq!(polls, 3);
    }

    #[test]
    fn a_future_that_never_rests_yields_to_others() {
        let mut polls = 0;
        let future = poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let (polled, woken) = once(&mut Quiet::default(), std::pin::pin!(future));
        assert!(polled.is_pending());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(polls, MAX_POLLS);
    }

    #[test]
    fn a_wake_from_outside_reaches_the_task() {
        let mut quiet = Quiet::default();
        let mut inner = None;
        let mut future = std::pin::pin!(poll_fn(|cx| {
            inner = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        let (polled, woken) = once(&mut quiet, future.as_mut());
        assert!(polled.is_pending());
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        inner.unwrap().wake();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_is_lost_whoever_races() {
        const MESSAGES: usize = 20_000;
        let (sender, mut inbox) = mpsc::channel(1);
        let reader = tokio::spawn(async move {
            let mut quiet = Quiet::default();
            let mut reading = std::pin::pin!(async move {
                let mut sum = 0;
                while let Some(number) = inbox.recv().await {
                    sum += number;
                }
                sum
            });
            poll_fn(|cx| quiet.poll(reading.as_mut(), cx)).await
        });
        for number in 0..MESSAGES {
            sender.send(number).await.unwrap();
        }
        drop(sender);
        assert_eq!(reader.await.unwrap(), MESSAGES * (MESSAGES - 1) / 2);
    }
}
