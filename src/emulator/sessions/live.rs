//! A live compute as calls see it, the known session it belongs to, and the lease of one call.
//!
//! This is the path of every call: a lock taken for the length of a pointer copy, one atomic to enter
//! and one to leave, and the time of both. The session's task publishes and withdraws what is here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::actor::{Actor, Message};
use super::gate::Gate;
use super::stats::Events;
use super::{Need, Shared};
use crate::egress::Serving;
use crate::emulator::clock::Clock;
use crate::emulator::registry::Target;
use crate::emulator::store::events::Happening;
use crate::emulator::store::sessions::SessionRecord;
use crate::engine::agent_http::{AgentClient, AgentRequest, AgentResponse, CallError};
use crate::engine::{Compute, EngineError, Process, ProcessSpec, Terminal, TerminalSize};
use crate::model::{SessionId, SessionKey, SessionState, Timestamp};

/// Longest wait for news of an agent whose connection broke: on a busy machine its end takes this long to be known. [ours]
const SETTLE_LIMIT: Duration = Duration::from_millis(100);
/// Time between two looks for them. [ours]
const SETTLE_POLL: Duration = Duration::from_millis(2);

/// Longest wait for a restarted agent. One that takes longer is not waited for. [ours]
const COME_UP_LIMIT: Duration = Duration::from_secs(5);
/// Time between two looks at it. [ours]
const COME_UP_POLL: Duration = Duration::from_millis(10);

/// A running compute.
pub(super) struct Live {
    pub(super) compute: Box<dyn Compute>,
    pub(super) agent: AgentClient,
    /// The bundle or image it runs.
    pub(super) source: String,
    /// What is measured of it.
    pub(super) measure: Measure,
    pub(super) gate: Gate,
    /// The agent has answered a ping and has not ended.
    pub(super) agent_ready: AtomicBool,
    /// The agent has ended.
    pub(super) agent_ended: AtomicBool,
    /// The storage is mounted, or there is none.
    pub(super) storage_ready: AtomicBool,
    /// Its agent has been healthy or was given up, or a command was let in: until then the session is shown as provisioning.
    pub(super) usable: AtomicBool,
    /// Cancelled when the compute is being ended.
    pub(super) cut: CancellationToken,
    /// The compute's way out, served as long as this lives.
    pub(super) _outside: Option<Serving>,
}

/// The measure of a compute: the time to its first answer.
pub(super) struct Measure {
    pub(super) events: Arc<Events>,
    /// When its start was begun.
    pub(super) begun: std::time::Instant,
    /// It found the storage of an earlier compute.
    pub(super) resumed: bool,
    /// It has been taken, or means nothing.
    pub(super) done: AtomicBool,
}

/// A known session. Only its task writes here, but for the time of last activity.
pub(super) struct Entry {
    pub(super) key: SessionKey,
    clock: Arc<Clock>,
    live: RwLock<Option<Arc<Live>>>,
    /// What is shown; nothing until the session's first compute was asked for.
    record: RwLock<Option<SessionRecord>>,
    last_activity: AtomicI64,
    /// The bundle or image of the compute that was live last.
    source: RwLock<Option<String>>,
    /// The last end is not durable.
    owed: AtomicBool,
    mailbox: Mutex<Mailbox>,
}

/// The way to a session's task. A stopped session has none.
enum Mailbox {
    /// No task; the next message makes one.
    Idle,
    /// A task that takes messages.
    Running(mpsc::UnboundedSender<Message>),
    /// The session was removed; a new one of the same key is another entry.
    Gone,
}

impl Entry {
    pub(super) fn new(key: SessionKey, clock: Arc<Clock>, record: Option<SessionRecord>) -> Self {
        let last = record.as_ref().map_or_else(|| clock.now(), |r| r.last_activity_at);
        Self {
            key,
            clock,
            live: RwLock::new(None),
            record: RwLock::new(record),
            last_activity: AtomicI64::new(last.0),
            source: RwLock::new(None),
            owed: AtomicBool::new(false),
            mailbox: Mutex::new(Mailbox::Idle),
        }
    }

    /// Enters the live compute, if there is one that has what the call needs.
    pub(super) fn enter(self: &Arc<Self>, need: Need) -> Option<Lease> {
        let live = self.live.read().clone()?;
        let ready = match need {
            Need::Agent => live.agent_ready.load(Ordering::Acquire),
            Need::Command => live.storage_ready.load(Ordering::Acquire),
        };
        if ready { self.lease(live, need) } else { None }
    }

    /// Enters this compute unless it is closed.
    pub(super) fn lease(self: &Arc<Self>, live: Arc<Live>, need: Need) -> Option<Lease> {
        if !live.gate.enter(need) {
            return None;
        }
        if need == Need::Command {
            live.usable.store(true, Ordering::Release);
        }
        self.touch();
        Some(Lease { entry: self.clone(), live, need })
    }

    /// The compute as calls see it.
    pub(super) fn live(&self) -> Option<Arc<Live>> {
        self.live.read().clone()
    }

    /// Shows a compute to calls, or withdraws it.
    pub(super) fn publish_live(&self, live: Option<Arc<Live>>) {
        if let Some(live) = &live {
            *self.source.write() = Some(live.source.clone());
        }
        *self.live.write() = live;
    }

    /// Shows the session's record.
    pub(super) fn publish(&self, record: Option<SessionRecord>) {
        *self.record.write() = record;
    }

    /// The record, with the time of the last activity as it is now.
    pub(super) fn record(&self) -> Option<SessionRecord> {
        let mut record = self.record.read().clone()?;
        record.last_activity_at = self.last_activity();
        Some(record)
    }

    /// The record as people see it: a session is ready once it could be used.
    pub(super) fn shown(&self) -> Option<SessionRecord> {
        self.look(|record, state, at| {
            let mut record = record.clone();
            (record.state, record.last_activity_at) = (state, at);
            record
        })
    }

    /// Shows the record where it is, with the state as people see it and the time of the last activity as it is now.
    pub(super) fn look<T>(
        &self,
        see: impl FnOnce(&SessionRecord, SessionState, Timestamp) -> T,
    ) -> Option<T> {
        let record = self.record.read();
        let record = record.as_ref()?;
        // The record first: a compute that is withdrawn in between is seen as one that is not there yet.
        let usable = || self.live.read().as_ref().is_some_and(|live| live.usable.load(Ordering::Acquire));
        let state = match record.state {
            SessionState::Ready if !usable() => SessionState::Provisioning,
            state => state,
        };
        Some(see(record, state, self.last_activity()))
    }

    /// What the session's compute runs, as long as anything of a compute may run; an error where that is not known.
    pub(super) fn code_in_use(&self) -> Result<Option<String>, ()> {
        match self.record.read().as_ref() {
            // It is being made, of what is not known here yet.
            Some(record) if record.compute.is_none() && record.state == SessionState::Provisioning => {
                return Err(());
            }
            Some(record) if record.compute.is_some() => {}
            _ => return Ok(None),
        }
        self.source.read().clone().map(Some).ok_or(())
    }

    /// Remembers whether the session's last end has still to be made durable.
    pub(super) fn owe(&self, owed: bool) {
        self.owed.store(owed, Ordering::Release);
    }

    pub(super) fn is_owed(&self) -> bool {
        self.owed.load(Ordering::Acquire)
    }

    pub(super) fn last_activity(&self) -> Timestamp {
        Timestamp(self.last_activity.load(Ordering::Acquire))
    }

    pub(super) fn touch(&self) {
        self.last_activity.store(self.clock.now().0, Ordering::Release);
    }

    /// Takes a last activity that lies ahead, after the clock was set back, to now. True if it did.
    pub(super) fn rebase(&self, now: Timestamp) -> bool {
        self.last_activity.fetch_min(now.0, Ordering::AcqRel) > now.0
    }

    /// Hands a message to the session's task, making one if there is none. False: the session is gone.
    pub(super) fn send(self: &Arc<Self>, message: Message, shared: &Arc<Shared>) -> bool {
        let mut mailbox = self.mailbox.lock();
        let mut first = None;
        let message = match &*mailbox {
            Mailbox::Gone => return false,
            Mailbox::Idle => message,
            Mailbox::Running(sender) => match sender.send(message) {
                Ok(()) => return true,
                Err(mpsc::error::SendError(message)) => {
                    // The task panicked, and its compute went with it: as after a crash of the emulator.
                    tracing::error!("the task of session `{}` has failed", self.key.session);
                    self.publish_live(None);
                    if let Some(record) = &mut *self.record.write() {
                        record.state = SessionState::Stopping;
                        first = Some(Message::Recover);
                    }
                    message
                }
            },
        };
        let (sender, inbox) = mpsc::unbounded_channel();
        for message in first.into_iter().chain([message]) {
            // The channel is open: its other end is in hand.
            let _ = sender.send(message);
        }
        *mailbox = Mailbox::Running(sender);
        shared.spawn(Actor::new(self.clone(), shared.clone(), inbox).run());
        true
    }

    /// True while the session has a task.
    pub(super) fn has_task(&self) -> bool {
        matches!(*self.mailbox.lock(), Mailbox::Running(_))
    }

    /// Lets the task go if no message is waiting. Sending takes the same lock, so a message finds
    /// either the task still there or none.
    pub(super) fn retire(&self, inbox: &mut mpsc::UnboundedReceiver<Message>) -> Option<Message> {
        let mut mailbox = self.mailbox.lock();
        let waiting = inbox.try_recv().ok();
        if waiting.is_none() {
            *mailbox = Mailbox::Idle;
        }
        waiting
    }

    /// Closes the session for good.
    pub(super) fn close(&self) {
        *self.mailbox.lock() = Mailbox::Gone;
    }
}

/// One call in a session. While it lives the session is active and is not idled; its end counts as activity.
pub struct Lease {
    entry: Arc<Entry>,
    live: Arc<Live>,
    need: Need,
}

impl Lease {
    /// The session's id.
    pub fn session(&self) -> &SessionId {
        &self.entry.key.session
    }

    /// Sends a call to the agent.
    pub async fn invoke(&self, request: AgentRequest) -> Result<AgentResponse, CallError> {
        self.live.agent.invoke(&*self.live.compute, request).await
    }

    /// Starts a process in the session.
    pub async fn spawn(&self, spec: ProcessSpec) -> Result<Process, EngineError> {
        self.live.compute.spawn(spec).await
    }

    /// Waits a little for the agent's end to be known, after its connection broke. A process that ends closes its
    /// connections before its listener: who hears of the first and calls again at once would reach the dying agent.
    pub async fn settle(&self) {
        let end = Instant::now() + SETTLE_LIMIT;
        while Instant::now() < end && self.live.agent_ready.load(Ordering::Acquire) {
            sleep(SETTLE_POLL).await;
        }
    }

    /// Waits for the agent's first healthy ping or its end, but not for long. False: it has ended.
    pub(super) async fn agent_came_up(&self) -> bool {
        let end = Instant::now() + COME_UP_LIMIT;
        let open = || !self.live.agent_ready.load(Ordering::Acquire) && !self.live.cut.is_cancelled();
        while open() && !self.live.agent_ended.load(Ordering::Acquire) && Instant::now() < end {
            sleep(COME_UP_POLL).await;
        }
        !self.live.agent_ended.load(Ordering::Acquire)
    }

    /// Starts a process on a terminal of its own in the session.
    pub async fn spawn_terminal(
        &self,
        spec: ProcessSpec,
        size: TerminalSize,
    ) -> Result<Terminal, EngineError> {
        self.live.compute.spawn_terminal(spec, size).await
    }

    /// Says that the call was answered to its end and well. The first one of a compute is measured.
    pub fn answered(&self) {
        let measure = &self.live.measure;
        if !measure.done.load(Ordering::Relaxed) && !measure.done.swap(true, Ordering::Relaxed) {
            let millis = u64::try_from(measure.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            let what = Happening::Answered { resumed: measure.resumed, millis };
            measure.events.note(&self.entry.key, self.entry.clock.now(), what);
        }
    }

    /// Takes no measure of this compute: it was not started for a call.
    pub(super) fn unmeasured(&self) {
        self.live.measure.done.store(true, Ordering::Relaxed);
    }

    /// Resolves when the session is being ended: open streams must then end with an error. Cheap to clone futures of.
    pub fn cut(&self) -> Cut {
        Cut { token: self.live.cut.clone() }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The time first: who sees nobody inside must also see when the last one left.
        self.entry.touch();
        self.live.gate.leave(self.need);
    }
}

/// A session id, and where it led last time.
pub struct Familiar {
    pub(super) id: SessionId,
    last: Mutex<Option<Arc<Entry>>>,
}

impl Familiar {
    /// One that has led nowhere yet.
    pub fn new(id: SessionId) -> Self {
        Self { id, last: Mutex::new(None) }
    }

    /// Enters where it led last time, if the target's session still is there: one that was forgotten has no compute.
    pub(super) fn enter(&self, target: &Target, need: Need) -> Option<Lease> {
        let last = self.last.lock();
        let entry = last.as_ref()?;
        let same = entry.key.runtime == target.arn.id && entry.key.endpoint == target.endpoint;
        if same { entry.enter(need) } else { None }
    }

    pub(super) fn remember(&self, lease: &Lease) {
        *self.last.lock() = Some(lease.entry.clone());
    }
}

/// Tells streams that their session is being ended.
#[derive(Clone)]
pub struct Cut {
    token: CancellationToken,
}

impl Cut {
    /// Waits for the end.
    pub async fn wait(&mut self) {
        self.token.cancelled().await;
    }

    /// The same as a future that can be kept.
    pub fn waited(self) -> impl Future<Output = ()> + Send + 'static {
        self.token.cancelled_owned()
    }

    /// True once the session is being ended.
    pub fn is_cut(&self) -> bool {
        self.token.is_cancelled()
    }
}
