//! The task of one session: it alone changes the session's state.
//!
//! It is made by the first message, takes messages, the ends of what it has begun, and times, and
//! retires when the session has no compute. Legality of each change is asked of
//! [`crate::model::transition`], ends by time and by the agent's fate of [`super::lifecycle`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::gate::Who;
use super::launch::{
    Ended, Launched, RunningAgent, Started, end, end_leftover, launch, recover, settle_again,
};
use super::lifecycle::{
    AgentStage, Consequence, FIRST_PAUSE, Facts, PingMemory, Verdict, Wanted, agent_failed, agent_wanted,
    judge, next_pause, storage_expired,
};
use super::live::{Entry, Lease, Live};
use super::{Need, SessionError, Shared};
use crate::emulator::ConflictMode;
use crate::emulator::store::events::Happening;
use crate::emulator::store::sessions::{SessionRecord, SetAside};
use crate::engine::EngineError;
use crate::engine::agent_http::{AgentError, Ping};
use crate::model::{EndReason, Lifecycle, ResetReason, SessionEvent, SessionState, Timestamp, transition};
use crate::storage::{Place, StorageId};

/// How long one ping may take. [ours]
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long making the storage appear may take. [ours]
const MOUNT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what a dead agent wrote last may be on its way to its callers. One that does not read it must not keep
/// the session. [ours]
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why a call did not get in.
pub(super) enum Refused {
    /// For good.
    Error(SessionError),
    /// The session was removed meanwhile: look again.
    Retry,
}

/// What is asked of a session.
pub(super) enum Message {
    Acquire {
        need: Need,
        reply: oneshot::Sender<Result<Lease, Refused>>,
    },
    Stop {
        reason: EndReason,
        reply: oneshot::Sender<Result<(), SessionError>>,
    },
    /// End the compute, delete storage and record. With `if_expired` only if the session is expired.
    Remove {
        if_expired: bool,
        reply: oneshot::Sender<Result<(), SessionError>>,
    },
    /// Delete a storage that was set aside, unless the session uses it. Answers with what is to be deleted.
    Discard {
        id: StorageId,
        /// The engine whose it is.
        engine: String,
        reply: oneshot::Sender<Result<Option<Place>, SessionError>>,
    },
    /// End what a dead emulator left.
    Recover,
    /// Set the storage aside if it was not used for too long.
    Expire,
    /// End the task without a word.
    #[cfg(test)]
    Fail,
}

struct Waiter {
    need: Need,
    reply: oneshot::Sender<Result<Lease, Refused>>,
}

impl Waiter {
    fn fail(self, error: SessionError) {
        let _ = self.reply.send(Err(Refused::Error(error)));
    }
}

enum Phase {
    /// No compute.
    Down,
    /// A compute is being made.
    Starting(BoxFuture<'static, Launched>),
    /// A compute runs.
    Up(Box<Up>),
    /// A compute is being ended.
    Stopping(BoxFuture<'static, Ended>),
}

/// A running compute, as its session's task knows it.
struct Up {
    live: Arc<Live>,
    lifecycle: Lifecycle,
    started_at: Timestamp,
    stage: AgentStage,
    /// What a call is told that needs the agent while it is [`AgentStage::Late`] or dead.
    agent_error: Option<SessionError>,
    agent: RunningAgent,
    gone: watch::Receiver<bool>,
    moves: watch::Receiver<()>,
    pings: PingMemory,
    ping: Option<BoxFuture<'static, Result<Ping, AgentError>>>,
    next_ping: Instant,
    pause: Duration,
    init_deadline: Instant,
    /// Ends when the last call has left.
    doomed: Option<EndReason>,
    /// Whose leaving that is: of commands alone once a dead agent's last words had their time.
    waits_for: Who,
    /// The end of that time.
    last_words_until: Instant,
    /// The agent is asked once more before an idle stop.
    last_question: bool,
    look_at: Timestamp,
}

enum Event {
    Message(Message),
    /// Every sender has gone: the emulator was dropped.
    Abandoned,
    Launched(Launched),
    Ended(Ended),
    AgentEnded(String),
    InitTimeout,
    Gone,
    PingDue,
    Pinged(Result<Ping, AgentError>),
    Look,
    /// What a dead agent wrote last had its time.
    LastWords,
    Emptied,
}

pub(super) struct Actor {
    entry: Arc<Entry>,
    shared: Arc<Shared>,
    inbox: mpsc::UnboundedReceiver<Message>,
    phase: Phase,
    state: SessionState,
    record: Option<SessionRecord>,
    /// Calls that wait for a compute, or for the agent in it.
    waiters: Vec<Waiter>,
    /// Stops that wait for the end.
    stops: Vec<oneshot::Sender<Result<(), SessionError>>>,
    removals: Vec<oneshot::Sender<Result<(), SessionError>>>,
    /// A stop that came while the compute was being made.
    stop_after_start: Option<EndReason>,
    removed: bool,
}

impl Actor {
    pub(super) fn new(
        entry: Arc<Entry>,
        shared: Arc<Shared>,
        inbox: mpsc::UnboundedReceiver<Message>,
    ) -> Self {
        let record = entry.record();
        Self {
            entry,
            shared,
            inbox,
            phase: Phase::Down,
            state: record.as_ref().map_or(SessionState::Stopped, |r| r.state),
            record,
            waiters: Vec::new(),
            stops: Vec::new(),
            removals: Vec::new(),
            stop_after_start: None,
            removed: false,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let event = self.next().await;
            if matches!(event, Event::Abandoned) {
                return;
            }
            self.handle(event).await;
            while matches!(self.phase, Phase::Down) {
                if self.removed || self.record.is_none() {
                    self.leave();
                    return;
                }
                let Some(message) = self.entry.retire(&mut self.inbox) else { return };
                self.handle(Event::Message(message)).await;
            }
        }
    }

    /// Ends a session that is no longer known. Who comes from now on finds a new entry; who still
    /// holds this one is told to look again.
    fn leave(&mut self) {
        self.shared.forget_entry(&self.entry);
        self.entry.close();
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                Message::Acquire { reply, .. } => drop(reply.send(Err(Refused::Retry))),
                Message::Stop { reply, .. } | Message::Remove { reply, .. } => {
                    drop(reply.send(Err(SessionError::Unknown)));
                }
                // Whoever asks looks again.
                Message::Discard { reply, .. } => drop(reply.send(Err(SessionError::Busy))),
                Message::Recover | Message::Expire => {}
                #[cfg(test)]
                Message::Fail => {}
            }
        }
    }

    async fn next(&mut self) -> Event {
        let message = async |inbox: &mut mpsc::UnboundedReceiver<Message>| match inbox.recv().await {
            #[cfg(test)]
            Some(Message::Fail) => Event::Abandoned,
            Some(message) => Event::Message(message),
            None => Event::Abandoned,
        };
        match &mut self.phase {
            Phase::Down => message(&mut self.inbox).await,
            Phase::Starting(work) => tokio::select! {
                launched = work => Event::Launched(launched),
                event = message(&mut self.inbox) => event,
            },
            Phase::Stopping(work) => tokio::select! {
                ended = work => Event::Ended(ended),
                event = message(&mut self.inbox) => event,
            },
            Phase::Up(up) => {
                let up = &mut **up;
                tokio::select! {
                    event = message(&mut self.inbox) => event,
                    exit = seen(&mut up.agent.ended, |e| e.clone()), if up.stage != AgentStage::Dead => {
                        Event::AgentEnded(exit)
                    }
                    () = seen(&mut up.gone, |gone| gone.then_some(())) => Event::Gone,
                    pinged = waited(&mut up.ping) => {
                        up.ping = None;
                        Event::Pinged(pinged)
                    }
                    () = sleep_until(up.next_ping), if up.ping.is_none() && up.stage != AgentStage::Dead => {
                        Event::PingDue
                    }
                    () = sleep_until(up.init_deadline), if up.stage == AgentStage::Starting => Event::InitTimeout,
                    () = self.shared.clock.sleep_until(up.look_at), if !up.last_question => Event::Look,
                    Ok(()) = up.moves.changed(), if !up.last_question => Event::Look,
                    () = sleep_until(up.last_words_until),
                        if up.stage == AgentStage::Dead && up.waits_for == Who::All => Event::LastWords,
                    () = up.live.gate.emptied(up.waits_for), if up.doomed.is_some() => Event::Emptied,
                }
            }
        }
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Message(message) => self.on_message(message).await,
            Event::Launched(launched) => self.on_launched(launched).await,
            Event::Ended(ended) => self.on_ended(ended).await,
            Event::Abandoned => {}
            Event::AgentEnded(exit) => self.on_agent_ended(exit).await,
            Event::InitTimeout => self.on_init_timeout().await,
            Event::Gone => self.on_gone().await,
            Event::PingDue => self.ask(),
            Event::Pinged(answer) => self.on_pinged(answer).await,
            Event::Look => self.on_look().await,
            Event::LastWords => self.on_last_words(),
            Event::Emptied => self.end_if_empty(),
        }
    }

    async fn on_message(&mut self, message: Message) {
        match message {
            Message::Acquire { need, reply } => self.on_acquire(Waiter { need, reply }).await,
            Message::Stop { reason, reply } => self.on_stop(reason, reply),
            Message::Remove { if_expired, reply } => {
                if if_expired && self.state != SessionState::Expired {
                    let _ = reply.send(Err(SessionError::Unknown));
                    return;
                }
                self.removals.push(reply);
                self.fail_waiters(&SessionError::Unknown);
                match &self.phase {
                    Phase::Down => self.remove().await,
                    Phase::Up(_) => self.begin_stop(SessionEvent::StopRequested(EndReason::Deleted)),
                    Phase::Starting(_) => self.stop_after_start = Some(EndReason::Deleted),
                    Phase::Stopping(_) => {}
                }
            }
            Message::Discard { id, engine, reply } => {
                let _ = reply.send(self.discard(id, &engine).await);
            }
            Message::Recover => {
                if let (Phase::Down, Some(record)) = (&self.phase, &self.record) {
                    let work = recover(self.shared.clone(), self.entry.clone(), record.clone());
                    self.phase = Phase::Stopping(Box::pin(work));
                }
            }
            Message::Expire => self.expire().await,
            #[cfg(test)]
            Message::Fail => {}
        }
    }

    async fn on_acquire(&mut self, waiter: Waiter) {
        let in_the_way = self.shared.config.conflicts == ConflictMode::Aws;
        let wanted = match &self.phase {
            Phase::Down => {
                self.waiters.push(waiter);
                self.begin_start();
                return;
            }
            Phase::Starting(_) | Phase::Stopping(_) => Wanted::Wait,
            Phase::Up(up) => match waiter.need {
                Need::Command => Wanted::Enter,
                Need::Agent => agent_wanted(up.stage, up.live.gate.inside(Who::Commands)),
            },
        };
        match wanted {
            Wanted::Wait if in_the_way => waiter.fail(SessionError::Busy),
            Wanted::Wait => self.waiters.push(waiter),
            Wanted::Enter => {
                self.waiters.push(waiter);
                self.let_in().await;
            }
            Wanted::Restart | Wanted::Refuse => {
                let Phase::Up(up) = &mut self.phase else { return };
                // A command may have come in since the count was read: then it goes on.
                if wanted == Wanted::Restart && up.live.gate.close_if_empty(up.waits_for) {
                    self.begin_stop(SessionEvent::StopRequested(EndReason::Exited));
                    self.waiters.push(waiter);
                    return;
                }
                up.doomed.get_or_insert(EndReason::Exited);
                // Calls of the dead agent alone: their answers have some time to arrive.
                if wanted == Wanted::Restart && up.waits_for == Who::All && !in_the_way {
                    self.waiters.push(waiter);
                    return;
                }
                waiter.fail(up.agent_error.clone().unwrap_or(SessionError::Busy));
            }
        }
    }

    fn on_stop(&mut self, reason: EndReason, reply: oneshot::Sender<Result<(), SessionError>>) {
        // Calls that were waiting when the stop came are part of what it stops; later ones start anew.
        let told =
            if reason == EndReason::Shutdown { SessionError::ShuttingDown } else { SessionError::Busy };
        match &self.phase {
            Phase::Down => match &self.record {
                // Nothing runs, and whoever asked for that was not told that it is so.
                Some(record) if self.entry.is_owed() => {
                    self.stops.push(reply);
                    let work = settle_again(self.shared.clone(), self.entry.clone(), record.clone());
                    self.phase = Phase::Stopping(Box::pin(work));
                }
                _ => drop(reply.send(Err(SessionError::Unknown))),
            },
            Phase::Stopping(_) => {
                self.fail_waiters(&told);
                self.stops.push(reply);
            }
            Phase::Starting(_) => {
                self.fail_waiters(&told);
                self.stop_after_start.get_or_insert(reason);
                self.stops.push(reply);
            }
            Phase::Up(_) => {
                self.fail_waiters(&told);
                self.stops.push(reply);
                self.begin_stop(SessionEvent::StopRequested(reason));
            }
        }
    }

    fn fail_waiters(&mut self, error: &SessionError) {
        for waiter in self.waiters.drain(..) {
            waiter.fail(error.clone());
        }
    }

    /// Takes a step of the life, which must be a legal one, and shows it.
    fn go(&mut self, event: SessionEvent) {
        match transition(self.state, event) {
            Ok(state) => self.state = state,
            Err(e) => {
                debug_assert!(false, "{e}");
                tracing::error!("session `{}`: {e}", self.entry.key.session);
            }
        }
        self.show();
    }

    fn show(&mut self) {
        if let Some(record) = &mut self.record {
            record.state = self.state;
        }
        self.entry.publish(self.record.clone());
    }

    fn begin_start(&mut self) {
        if self.shared.shutting_down.load(Ordering::SeqCst) {
            self.fail_waiters(&SessionError::ShuttingDown);
            return;
        }
        self.go(SessionEvent::StartRequested);
        let work = launch(self.shared.clone(), self.entry.clone(), self.record.clone());
        self.phase = Phase::Starting(Box::pin(work));
    }

    async fn on_launched(&mut self, launched: Launched) {
        self.record = launched.record;
        // The start has ended what was left, and has kept that.
        if launched.result.is_ok() {
            self.entry.owe(false);
        }
        let started = match launched.result {
            Ok(started) => started,
            Err(error) => return self.on_launch_failed(error).await,
        };
        self.go(SessionEvent::Started);
        let Started { live, spec, started_at, agent } = started;
        self.entry.publish_live(Some(live.clone()));
        let now = Instant::now();
        let gone = live.compute.gone();
        self.phase = Phase::Up(Box::new(Up {
            live,
            lifecycle: spec.lifecycle,
            started_at,
            stage: AgentStage::Starting,
            agent_error: None,
            agent,
            gone,
            moves: self.shared.clock.moves(),
            pings: PingMemory::new(started_at),
            ping: None,
            next_ping: now,
            pause: FIRST_PAUSE,
            init_deadline: now + self.shared.config.init_timeout,
            doomed: None,
            waits_for: Who::All,
            last_words_until: now,
            last_question: false,
            look_at: started_at,
        }));
        match self.stop_after_start.take() {
            Some(reason) => self.begin_stop(SessionEvent::StopRequested(reason)),
            None => self.let_in().await,
        }
    }

    /// The compute could not be made; nothing of it runs.
    async fn on_launch_failed(&mut self, error: SessionError) {
        self.stop_after_start = None;
        // Nothing runs and nothing was written, so the way through Stopping is an instant.
        self.go(SessionEvent::Lost);
        self.go(SessionEvent::StopFinished);
        self.phase = Phase::Down;
        if let Some(record) = &mut self.record {
            record.last_end = Some(EndReason::StartFailed);
            self.shared.happened(&self.entry.key, Happening::Ended(EndReason::StartFailed));
            self.shared.logs.remark(&self.entry.key, &format!("the start failed: {error}")).await;
            self.keep(None).await;
        }
        self.show();
        self.fail_waiters(&error);
        self.after_end(Ok(())).await;
    }

    /// Lets in every waiting call that has what it needs.
    async fn let_in(&mut self) {
        let Phase::Up(up) = &mut self.phase else { return };
        let healthy = up.stage == AgentStage::Healthy;
        let ready = |w: &Waiter| healthy || w.need == Need::Command;
        if !self.waiters.iter().any(ready) {
            return;
        }
        if let Err(error) = mount(&up.live).await {
            self.shared
                .logs
                .remark(&self.entry.key, &format!("the storage cannot be mounted: {error}"))
                .await;
            self.fail_waiters(&error);
            self.begin_stop(SessionEvent::StopRequested(EndReason::StartFailed));
            return;
        }
        up.live.usable.store(true, Ordering::Release);
        for waiter in self.waiters.extract_if(.., |w| ready(w)) {
            // Only this task closes the gate, so it is open.
            let answer = self.entry.lease(up.live.clone(), waiter.need).ok_or(Refused::Retry);
            let _ = waiter.reply.send(answer);
        }
    }

    /// Closes the compute to calls, ends their streams, and ends it.
    fn begin_stop(&mut self, event: SessionEvent) {
        let reason = match event {
            SessionEvent::StopRequested(reason) => reason,
            _ => EndReason::Exited,
        };
        let Phase::Up(up) = std::mem::replace(&mut self.phase, Phase::Down) else { return };
        let Some(record) = self.record.clone() else { return };
        up.live.gate.close();
        if up.live.gate.inside(Who::All) > 0 {
            // A call that is cut was active until now.
            self.entry.touch();
        }
        // First what is shown: a session without a compute that is not stopping looks like one that starts.
        self.go(event);
        self.entry.publish_live(None);
        up.live.agent_ready.store(false, Ordering::Release);
        up.live.cut.cancel();
        let work = end(self.shared.clone(), self.entry.clone(), up.live.clone(), record, reason);
        self.phase = Phase::Stopping(Box::pin(work));
    }

    async fn on_ended(&mut self, ended: Ended) {
        self.record = Some(ended.record);
        self.phase = Phase::Down;
        // An end that was owed is a stop already.
        match self.state {
            SessionState::Stopping => self.go(SessionEvent::StopFinished),
            _ => self.show(),
        }
        self.after_end(ended.result).await;
    }

    async fn after_end(&mut self, result: Result<(), SessionError>) {
        for stop in self.stops.drain(..) {
            let _ = stop.send(result.clone());
        }
        if !self.removals.is_empty() {
            self.remove().await;
        }
        self.waiters.retain(|w| !w.reply.is_closed());
        if !self.waiters.is_empty() {
            if self.removed {
                self.waiters.drain(..).for_each(|w| drop(w.reply.send(Err(Refused::Retry))));
            } else {
                self.begin_start();
            }
        }
        // A large move of the clock ends the compute and outlives its storage in one go.
        self.expire().await;
    }

    async fn on_agent_ended(&mut self, exit: String) {
        let remark = format!("the agent ended ({exit})");
        self.shared.logs.remark(&self.entry.key, &remark).await;
        let Phase::Up(up) = &mut self.phase else { return };
        up.live.agent_ended.store(true, Ordering::Release);
        up.ping = None;
        let error = SessionError::AgentDied { exit, last_lines: up.agent.tail.lines() };
        let error = blamed(up.stage, up.live.clone(), error).await;
        self.agent_failed(AgentStage::Dead, error);
    }

    async fn on_init_timeout(&mut self) {
        let limit = self.shared.config.init_timeout;
        let remark = format!("the agent gave no healthy ping within {}s", limit.as_secs());
        self.shared.logs.remark(&self.entry.key, &remark).await;
        let Phase::Up(up) = &mut self.phase else { return };
        let error = SessionError::InitTimeout { limit, last_lines: up.agent.tail.lines() };
        let error = blamed(up.stage, up.live.clone(), error).await;
        self.agent_failed(AgentStage::Late, error);
    }

    fn agent_failed(&mut self, after: AgentStage, error: SessionError) {
        let Phase::Up(up) = &mut self.phase else { return };
        // Who has left is not let down.
        self.waiters.retain(|w| !w.reply.is_closed());
        let let_down = self.waiters.iter().any(|w| w.need == Need::Agent);
        let consequence = agent_failed(up.stage, let_down);
        up.stage = after;
        up.last_words_until = Instant::now() + LAST_WORDS;
        up.last_question = false;
        up.live.agent_ready.store(false, Ordering::Release);
        up.agent_error = Some(error.clone());
        if let Consequence::End(reason) = consequence {
            up.doomed.get_or_insert(reason);
        }
        self.fail_waiters(&error);
        self.end_if_empty();
        if let Phase::Up(up) = &self.phase {
            // Its start is over: commands get in, and nobody waits for more.
            up.live.usable.store(true, Ordering::Release);
        }
    }

    /// From now on a dead agent's compute waits for commands only.
    fn on_last_words(&mut self) {
        let Phase::Up(up) = &mut self.phase else { return };
        up.waits_for = Who::Commands;
        let error = up.agent_error.clone().unwrap_or(SessionError::Busy);
        self.end_if_empty();
        if let Phase::Up(_) = &self.phase {
            // Commands have come in meanwhile.
            self.waiters.extract_if(.., |w| w.need == Need::Agent).for_each(|w| w.fail(error.clone()));
        }
    }

    /// Ends a doomed compute once no call is inside that it waits for.
    fn end_if_empty(&mut self) {
        let Phase::Up(up) = &self.phase else { return };
        let Some(reason) = up.doomed else { return };
        if up.live.gate.close_if_empty(up.waits_for) {
            self.begin_stop(SessionEvent::StopRequested(reason));
        }
    }

    async fn on_gone(&mut self) {
        let Phase::Up(up) = &mut self.phase else { return };
        let exit = up.agent.ended.borrow().clone().unwrap_or_else(|| "its compute has gone".to_owned());
        let error = SessionError::AgentDied { exit, last_lines: up.agent.tail.lines() };
        self.fail_waiters(&error);
        self.begin_stop(SessionEvent::Lost);
    }

    /// Begins a ping.
    fn ask(&mut self) {
        let Phase::Up(up) = &mut self.phase else { return };
        if up.ping.is_none() {
            let live = up.live.clone();
            up.ping = Some(Box::pin(async move { live.agent.ping(&*live.compute, PING_TIMEOUT).await }));
        }
    }

    async fn on_pinged(&mut self, answer: Result<Ping, AgentError>) {
        let Phase::Up(up) = &mut self.phase else { return };
        let clock = &self.shared.clock;
        match answer {
            Ok(ping) => {
                up.pings.answered(ping, clock.now(), |reported| clock.from_agent(reported));
                if matches!(up.stage, AgentStage::Starting | AgentStage::Late) {
                    self.on_first_health().await;
                }
            }
            Err(_) => up.pings.unanswered(),
        }
        let Phase::Up(up) = &mut self.phase else { return };
        up.live.agent.sweep();
        let pause = if up.stage == AgentStage::Starting {
            up.pause = next_pause(up.pause);
            up.pause
        } else {
            self.shared.config.ping_interval
        };
        up.next_ping = Instant::now() + pause;
        if up.last_question {
            up.last_question = false;
            self.look(true);
        }
    }

    async fn on_first_health(&mut self) {
        let Phase::Up(up) = &mut self.phase else { return };
        up.stage = AgentStage::Healthy;
        up.agent_error = None;
        up.doomed = None;
        if let Err(error) = mount(&up.live).await {
            self.shared
                .logs
                .remark(&self.entry.key, &format!("the storage cannot be mounted: {error}"))
                .await;
            self.fail_waiters(&error);
            self.begin_stop(SessionEvent::StopRequested(EndReason::StartFailed));
            return;
        }
        up.live.agent_ready.store(true, Ordering::Release);
        up.live.usable.store(true, Ordering::Release);
        self.let_in().await;
    }

    async fn on_look(&mut self) {
        self.look(false);
    }

    /// Judges the compute by the clock. `asked`: the agent has just been asked once more.
    fn look(&mut self, asked: bool) {
        let Phase::Up(up) = &mut self.phase else { return };
        let (entry, clock) = (&self.entry, &self.shared.clock);
        // A call that waits for the agent is a call in flight, unless its caller has gone.
        self.waiters.retain(|w| !w.reply.is_closed());
        let waiting = self.waiters.len();
        let verdict = |up: &mut Up| {
            let now = clock.now();
            // After the clock was set back, times ahead of it would keep the session for ever.
            entry.rebase(now);
            up.started_at = up.started_at.min(now);
            up.pings.rebase(now);
            let facts = Facts {
                started_at: up.started_at,
                lifecycle: up.lifecycle,
                // First who is inside, then the time: a leaving call writes them the other way round.
                in_flight: up.live.gate.inside(up.waits_for) + waiting,
                last_activity: entry.last_activity(),
                pings: &up.pings,
            };
            judge(&facts, now)
        };
        match verdict(up) {
            Verdict::LookAgain(at) => up.look_at = at,
            Verdict::End(EndReason::IdleTimeout) => {
                if !asked && matches!(up.stage, AgentStage::Healthy | AgentStage::Late) {
                    // The answer decides; one that is under way was asked before now and does not count.
                    up.last_question = true;
                    up.ping = None;
                    self.ask();
                    return;
                }
                let closed = up.live.gate.close_if_empty(up.waits_for);
                if closed && matches!(verdict(up), Verdict::End(_)) {
                    self.begin_stop(SessionEvent::StopRequested(EndReason::IdleTimeout));
                    return;
                }
                // A call came or went in between.
                if closed {
                    up.live.gate.reopen();
                }
                up.look_at = clock.now().plus(Duration::from_millis(1));
            }
            Verdict::End(reason) => {
                self.fail_waiters(&SessionError::Busy);
                self.begin_stop(SessionEvent::StopRequested(reason));
            }
        }
    }

    /// Writes the record; a failure is told and not fatal, since the next write carries it too.
    async fn keep(&mut self, aside: Option<SetAside>) -> bool {
        let Some(record) = &mut self.record else { return true };
        record.state = self.state;
        record.last_activity_at = self.entry.last_activity();
        let kept = self.shared.store.save_session(record.clone(), aside).await;
        if let Err(e) = &kept {
            tracing::error!("session `{}` could not be kept: {e}", self.entry.key.session);
        }
        kept.is_ok()
    }

    async fn expire(&mut self) {
        let Phase::Down = self.phase else { return };
        let now = self.shared.clock.now();
        let due = self.state == SessionState::Stopped && storage_expired(self.entry.last_activity(), now);
        let Some(record) = &mut self.record else { return };
        let (true, Some(stamp)) = (due, record.storage.clone()) else { return };
        let (key, engine) = (record.key.clone(), record.engine.clone());
        let aside = SetAside { key, id: stamp.id, version: stamp.version, at: now, engine };
        record.storage = None;
        self.go(SessionEvent::StorageExpired);
        if self.keep(Some(aside)).await {
            self.shared.happened(&self.entry.key, Happening::Reset(ResetReason::Expired));
            let remark = "the session's storage was not used for 14 days: it is set aside";
            self.shared.logs.remark(&self.entry.key, remark).await;
            return;
        }
        // Not kept, so not done: the next look tries again.
        self.state = SessionState::Stopped;
        if let Some(record) = &mut self.record {
            record.storage = Some(stamp);
        }
        self.show();
    }

    /// Deletes a storage that was set aside, and what is kept of it. The tree goes first and in one step; what a
    /// crash leaves is a line that names nothing, which goes the next time.
    async fn discard(&mut self, id: StorageId, engine: &str) -> Result<Option<Place>, SessionError> {
        let failed = |e: &dyn std::fmt::Display| SessionError::Start(e.to_string());
        // A start under way may be setting storage aside or taking it into use.
        if matches!(self.phase, Phase::Starting(_)) {
            return Err(SessionError::Busy);
        }
        let used = self.record.as_ref().and_then(|r| r.storage.as_ref()).is_some_and(|stamp| stamp.id == id);
        let shared = &self.shared;
        let tree = if used {
            tracing::warn!("session `{}` uses the storage that was set aside", self.entry.key.session);
            None
        } else {
            let site = shared.sites.recorded(engine)?;
            site.storage.discard(&self.entry.key, id).await.map_err(|e| failed(&e))?
        };
        shared.store.forget_set_aside(self.entry.key.clone(), id).await.map_err(|e| failed(&e))?;
        Ok(tree)
    }

    async fn remove(&mut self) {
        let result = self.try_remove().await;
        if result.is_ok() {
            self.record = None;
            self.removed = true;
            self.entry.publish(None);
        }
        for removal in self.removals.drain(..) {
            let _ = removal.send(result.clone());
        }
    }

    /// Storage first: a record without its storage is repaired at the next start, storage without a
    /// record would never be found again.
    async fn try_remove(&mut self) -> Result<(), SessionError> {
        let failed = |e: &dyn std::fmt::Display| SessionError::Start(e.to_string());
        let shared = &self.shared;
        if let Some(record) = &mut self.record {
            end_leftover(shared, record).await?;
        }
        let mut discarded = Vec::new();
        for site in shared.sites_of(&self.entry.key, self.record.as_ref()).await.map_err(|e| failed(&e))? {
            let places = site.storage.discard_session(&self.entry.key).await.map_err(|e| failed(&e))?;
            discarded.push((site, places));
        }
        shared.store.forget_session(self.entry.key.clone()).await.map_err(|e| failed(&e))?;
        if self.record.as_ref().is_some_and(|r| r.storage.is_some()) {
            shared.happened(&self.entry.key, Happening::Reset(ResetReason::Removed));
        }
        shared.logs.forget(&self.entry.key).await;
        for (site, places) in discarded {
            site.delete(places).await;
        }
        Ok(())
    }
}

/// What is told of an agent that did not become healthy: its own failure, or what kept it from being reached.
async fn blamed(stage: AgentStage, live: Arc<Live>, error: SessionError) -> SessionError {
    if stage != AgentStage::Starting {
        return error;
    }
    match timeout(PING_TIMEOUT, live.compute.obstacle(live.agent.port())).await {
        Ok(Some(obstacle)) => obstacle.into(),
        _ => error,
    }
}

/// Makes the storage appear, if it has not yet.
async fn mount(live: &Live) -> Result<(), SessionError> {
    if live.storage_ready.load(Ordering::Acquire) {
        return Ok(());
    }
    let slow = || EngineError::Helper("the storage did not appear in time".to_owned());
    timeout(MOUNT_TIMEOUT, live.compute.mount_storage()).await.map_err(|_| slow())??;
    live.storage_ready.store(true, Ordering::Release);
    Ok(())
}

/// Waits until a watched value shows something. One whose sender has gone never does.
async fn seen<T, U>(watched: &mut watch::Receiver<T>, show: impl Fn(&T) -> Option<U>) -> U {
    loop {
        if let Some(value) = show(&watched.borrow_and_update()) {
            return value;
        }
        if watched.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Waits for work, if there is any.
async fn waited<T>(work: &mut Option<BoxFuture<'static, T>>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}
