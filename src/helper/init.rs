//! The first process of a session: one loop over one socket, the ends of children and what is under way.
//!
//! It ends with the session in three ways: told to ([`Request::Terminate`]), left alone (the emulator's end
//! of the socket closed, so the emulator has died), or faced with a message it cannot trust. Each time every
//! process gets SIGTERM and, after a grace, SIGKILL; the kernel ends whatever a helper that is killed itself
//! leaves, because the helper is the first process of its namespace. Where there is no namespace ([`Scope`]), the
//! helper adopts what loses its parent instead, and whoever started it does so when the helper itself is killed.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, connect, getsockopt, setsockopt, socket,
    sockopt,
};
use nix::unistd::Pid;

use super::confine::Confinement;
use super::link::{Inbox, LinkError, Outbox, Received};
use super::ports;
use super::proto::{CONNECT_LIMIT, Failure, MAX_GRACE, MAX_UNSENT_BYTES, PROCESS_TAG, Report, Request, Step};
use super::spawn::{self, Forked, Image, Io, Reaped};
use super::terminal::Terminal;
use super::tree;
use super::users::{self, Identity};

/// Time between two looks at a tree that is being killed, besides those that ended children cause. [ours]
const KILL_TICK: Duration = Duration::from_millis(5);
/// Longest time the last reports may take to an emulator that does not read. [ours]
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What a process finds in `PATH` when nothing else is said. [observed: the service's images]
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a process finds in `HOME` when nothing else is said.
const DEFAULT_HOME: &str = "/root";

/// Does what is left to do once nothing of the session runs any more but this process.
pub type Finisher = Box<dyn FnMut() -> io::Result<()>>;
/// Makes the session storage appear.
pub type Mounter = Box<dyn FnMut() -> io::Result<()>>;

/// What processes of a session share with the rest of the machine.
pub enum Scope {
    /// Nothing: the helper is the first process of a PID namespace, and the session has a network of its own.
    Namespace,
    /// Everything: processes and ports are the machine's.
    Machine {
        /// The port that the session's agent is asked to listen on.
        own_port: u16,
        /// Closes when whoever watches over this helper has gone.
        watcher: OwnedFd,
    },
}

/// What the first process of a session works with.
pub struct Session {
    /// What is the session's alone.
    pub scope: Scope,
    /// Time between SIGTERM and SIGKILL when the emulator has died.
    pub orphan_grace: Duration,
    /// The emulator.
    pub socket: OwnedFd,
    /// Environment of every process.
    pub environment: Vec<(String, String)>,
    /// Makes the storage appear; nothing when the session has none or it is there already.
    pub mounter: Option<Mounter>,
    /// What every process is kept from.
    pub confinement: Confinement,
    /// A socket for the emulator, handed over with [`Report::Ready`] and not kept.
    pub listener: Option<OwnedFd>,
    /// The last deed. That it was done shows in the exit code.
    pub finisher: Option<Finisher>,
}

/// Serves a session until it ends. The caller is the first process of a PID namespace where the scope says so, has
/// no children, has `/dev/null` as its descriptors 0 to 2, and no other thread but such as take no signals.
pub fn serve(session: Session) -> ExitCode {
    let able = match &session.scope {
        // Anywhere else the signals to every process of the session would go to every process of the machine.
        Scope::Namespace => nix::unistd::getpid().as_raw() == 1,
        Scope::Machine { .. } => set_child_subreaper(true).is_ok(),
    };
    if !able {
        return ExitCode::FAILURE;
    }
    match Init::new(session).and_then(Init::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

struct Init {
    scope: Scope,
    orphan_grace: Duration,
    socket: OwnedFd,
    signals: SignalFd,
    null: OwnedFd,
    inbox: Inbox,
    outbox: Outbox,
    environment: Vec<(String, String)>,
    /// The environment says what a process finds in `HOME`, whoever runs it.
    own_home: bool,
    mounter: Option<Mounter>,
    finisher: Option<Finisher>,
    confinement: Confinement,
    listener: Option<OwnedFd>,
    /// Started processes that have not been reaped.
    children: HashMap<Pid, u64>,
    /// The leader of every tree that may still be asked to end. A tree outlives its leader, so an entry
    /// stays until then: a dozen bytes for each process that was detached.
    leaders: HashMap<u64, Pid>,
    /// Reading ends of outputs that the emulator reads: standard output, standard error.
    outputs: HashMap<(u64, bool), OwnedFd>,
    /// Terminals of processes whose start has not been answered.
    terminals: HashMap<u64, OwnedFd>,
    /// Reading ends that nobody else reads any more.
    draining: Vec<OwnedFd>,
    starting: Vec<Starting>,
    connecting: Vec<Connecting>,
    kills: Vec<Kill>,
    ending: Option<Ending>,
}

struct Starting {
    id: u64,
    forked: Forked,
}

struct Connecting {
    id: u64,
    socket: OwnedFd,
    deadline: Instant,
}

struct Kill {
    id: u64,
    process: u64,
    leader: Pid,
    members: HashSet<i32>,
}

struct Ending {
    deadline: Instant,
}

impl Init {
    fn new(session: Session) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        if matches!(session.scope, Scope::Namespace) {
            mask.add(Signal::SIGTERM);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        let flags = OFlag::from_bits_retain(fcntl(&session.socket, FcntlArg::F_GETFL)?);
        fcntl(&session.socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        let mut environment = session.environment;
        let own_home = environment.iter().any(|(known, _)| known == "HOME");
        for (key, value) in [("PATH", DEFAULT_PATH), ("HOME", DEFAULT_HOME)] {
            if !environment.iter().any(|(known, _)| known == key) {
                environment.push((key.to_owned(), value.to_owned()));
            }
        }
        Ok(Self {
            scope: session.scope,
            orphan_grace: session.orphan_grace,
            socket: session.socket,
            signals,
            null: null.into(),
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            environment,
            own_home,
            mounter: session.mounter,
            finisher: session.finisher,
            confinement: session.confinement,
            listener: session.listener,
            children: HashMap::new(),
            leaders: HashMap::new(),
            outputs: HashMap::new(),
            terminals: HashMap::new(),
            draining: Vec::new(),
            starting: Vec::new(),
            connecting: Vec::new(),
            kills: Vec::new(),
            ending: None,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let listener = self.listener.take();
        self.report(&Report::Ready, listener.into_iter().collect());
        let mut linked = true;
        loop {
            linked = linked && self.flush();
            if !linked {
                // Nobody reads; what is still said on the way out must not be a deadly write.
                self.draining.extend(self.outputs.drain().map(|(_, output)| output));
                if self.ending.is_none() {
                    self.end(self.orphan_grace);
                }
            }
            let events = self.wait(linked)?;
            for index in events.starting.into_iter().rev() {
                let starting = self.starting.swap_remove(index);
                self.started(&starting);
            }
            for index in events.connecting.into_iter().rev() {
                let connecting = self.connecting.swap_remove(index);
                self.connected(connecting);
            }
            for index in events.draining.into_iter().rev() {
                if self.draining.get(index).is_some_and(|output| !drain(output)) {
                    self.draining.swap_remove(index);
                }
            }
            if events.children {
                while let Ok(Some(signal)) = self.signals.read_signal() {
                    // From outside the namespace, whose senders have no number in it: whoever runs the container stops
                    // it. A session does not end its helper.
                    let asked = signal.ssi_signo == Signal::SIGTERM as u32 && signal.ssi_pid == 0;
                    if asked && self.ending.is_none() {
                        self.end(self.orphan_grace);
                    }
                }
                self.reap();
            }
            if events.socket {
                linked = self.receive();
            }
            if events.watcher {
                // Nobody would end what a helper leaves that is killed now.
                self.end(Duration::ZERO);
            }
            self.go_on_killing();
            if self.ending.is_some() && self.go_on_ending() {
                let finished = self.finisher.as_mut().map_or(Ok(()), |finish| finish());
                self.last_words(linked);
                return finished;
            }
        }
    }

    /// Waits until something happens. Indices are ascending.
    fn wait(&self, linked: bool) -> io::Result<Events> {
        let mut socket_flags = PollFlags::POLLIN;
        if !self.outbox.is_empty() {
            socket_flags |= PollFlags::POLLOUT;
        }
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.starting.iter().map(|s| PollFd::new(s.forked.verdict.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.connecting.iter().map(|c| PollFd::new(c.socket.as_fd(), PollFlags::POLLOUT)));
        fds.extend(self.draining.iter().map(|d| PollFd::new(d.as_fd(), PollFlags::POLLIN)));
        if let (Scope::Machine { watcher, .. }, None) = (&self.scope, &self.ending) {
            fds.push(PollFd::new(watcher.as_fd(), PollFlags::POLLIN));
        }
        if linked {
            fds.push(PollFd::new(self.socket.as_fd(), socket_flags));
        }
        match poll(&mut fds, self.timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let now = Instant::now();
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
        let children = ready.next().unwrap_or(false);
        let starting = (0..self.starting.len()).filter(|_| ready.next().unwrap_or(false)).collect();
        let connecting = self
            .connecting
            .iter()
            .enumerate()
            .filter(|(_, c)| ready.next().unwrap_or(false) || c.deadline <= now)
            .map(|(index, _)| index)
            .collect();
        let draining = (0..self.draining.len()).filter(|_| ready.next().unwrap_or(false)).collect();
        let watched = matches!((&self.scope, &self.ending), (Scope::Machine { .. }, None));
        let watcher = watched && ready.next().unwrap_or(false);
        let socket = ready.next().unwrap_or(false);
        Ok(Events { children, starting, connecting, draining, watcher, socket })
    }

    fn timeout(&self) -> PollTimeout {
        let now = Instant::now();
        let tick = (!self.kills.is_empty()).then_some(KILL_TICK);
        let ending = self.ending.as_ref().map(|e| {
            let left = e.deadline.saturating_duration_since(now);
            // Past the deadline there is only the wait for killed processes, which SIGCHLD tells of; the
            // tick is for those that were forked while the signal went round.
            if left.is_zero() { KILL_TICK } else { left }
        });
        let connect = self.connecting.iter().map(|c| c.deadline.saturating_duration_since(now)).min();
        match [tick, ending, connect].into_iter().flatten().min() {
            // Rounded up, so that a wait of less than a millisecond is not a busy loop.
            Some(left) => PollTimeout::try_from(left.saturating_add(Duration::from_micros(999)))
                .unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        }
    }

    /// Takes what the emulator sent. False when the link is of no more use.
    fn receive(&mut self) -> bool {
        match self.inbox.receive(&self.socket) {
            Ok(Received::Some) => {}
            Ok(Received::Nothing) => return true,
            Ok(Received::End) | Err(_) => return false,
        }
        loop {
            match self.inbox.take::<Request>() {
                Ok(Some((request, fds))) => {
                    if let Err(LinkError::Malformed(_)) = self.handle(request, fds) {
                        return false;
                    }
                }
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    fn handle(&mut self, request: Request, fds: Vec<OwnedFd>) -> Result<(), LinkError> {
        match request {
            Request::Spawn { id, argv, environment, working_directory, user } => {
                let [output, errors, read_output, read_errors] = <[OwnedFd; 4]>::try_from(fds)
                    .map_err(|_| LinkError::Malformed("a spawn without its four descriptors".into()))?;
                let io = Io {
                    input: self.null.as_raw_fd(),
                    output: output.as_raw_fd(),
                    errors: errors.as_raw_fd(),
                    terminal: false,
                };
                let spawned = self
                    .identity(user.as_deref(), &[&output, &errors])
                    .and_then(|who| self.spawn(id, &argv, environment, &working_directory, who, &io));
                match spawned {
                    Ok(forked) => {
                        self.children.insert(forked.pid, id);
                        self.leaders.insert(id, forked.pid);
                        self.outputs.insert((id, false), read_output);
                        self.outputs.insert((id, true), read_errors);
                        self.starting.push(Starting { id, forked });
                    }
                    Err(failure) => self.report(&Report::Failed { id, failure }, vec![]),
                }
            }
            Request::SpawnTerminal { id, argv, environment, working_directory, width, height } => {
                let started = Terminal::open(width, height)
                    .map_err(|errno| Failure::System { step: Step::Terminal, errno: errno as i32 })
                    .and_then(|Terminal { master, slave }| {
                        let side = slave.as_raw_fd();
                        let io = Io { input: side, output: side, errors: side, terminal: true };
                        let forked = self.spawn(id, &argv, environment, &working_directory, None, &io)?;
                        Ok((forked, master))
                    });
                match started {
                    Ok((forked, master)) => {
                        self.children.insert(forked.pid, id);
                        self.leaders.insert(id, forked.pid);
                        self.terminals.insert(id, master);
                        self.starting.push(Starting { id, forked });
                    }
                    Err(failure) => self.report(&Report::Failed { id, failure }, vec![]),
                }
            }
            Request::Kill { id, process } => match self.leaders.remove(&process) {
                Some(leader) => self.kills.push(Kill { id, process, leader, members: HashSet::new() }),
                // Never started, or killed before: nothing of it runs.
                None => self.report(&Report::Done { id }, vec![]),
            },
            Request::Release { process, errors } => {
                self.draining.extend(self.outputs.remove(&(process, errors)))
            }
            Request::Resize { .. } => {
                return Err(LinkError::Malformed("a terminal is sized by whoever has it".into()));
            }
            Request::Connect { id, port } => self.connect(id, port),
            Request::MountStorage { id } => {
                let mounted = self.mounter.as_mut().map_or(Ok(()), |mount| mount());
                let report = match mounted {
                    Ok(()) => {
                        self.mounter = None;
                        Report::Done { id }
                    }
                    Err(e) => {
                        let errno = e.raw_os_error().unwrap_or(libc::EIO);
                        Report::Failed { id, failure: Failure::System { step: Step::Mount, errno } }
                    }
                };
                self.report(&report, vec![]);
            }
            Request::Terminate { grace_millis } => self.end(Duration::from_millis(grace_millis)),
        }
        Ok(())
    }

    /// Who a process is to be; nothing for the session's root. Its outputs become its own, or it could not open them
    /// by name (`/dev/stdout`): a pipe belongs to whoever made it.
    fn identity(&self, user: Option<&str>, outputs: &[&OwnedFd]) -> Result<Option<Identity>, Failure> {
        let Some(user) = user.filter(|user| !user.is_empty()) else { return Ok(None) };
        let identity = users::find(user).map_err(|reason| Failure::Invalid { reason })?;
        if identity.user != 0 {
            for output in outputs {
                // A help and no more.
                let _ = std::os::unix::fs::fchown(output, Some(identity.user), Some(identity.group));
            }
        }
        Ok(Some(identity))
    }

    fn spawn(
        &self,
        id: u64,
        argv: &[String],
        environment: Vec<(String, String)>,
        directory: &str,
        identity: Option<Identity>,
        io: &Io,
    ) -> Result<Forked, Failure> {
        if self.ending.is_some() {
            return Err(Failure::Ending);
        }
        let mut all = vec![(PROCESS_TAG.to_owned(), id.to_string())];
        let home = identity.as_ref().filter(|_| !self.own_home).map(|identity| identity.home.clone());
        let environment = home.map(|home| ("HOME".to_owned(), home)).into_iter().chain(environment);
        for (key, value) in self.environment.iter().cloned().chain(environment) {
            match all.iter_mut().find(|(known, _)| *known == key) {
                Some((known, _)) if known == PROCESS_TAG => {}
                Some((_, old)) => *old = value,
                None => all.push((key, value)),
            }
        }
        let image =
            Image::new(argv, &all, directory, identity).map_err(|reason| Failure::Invalid { reason })?;
        image
            .fork(io, &self.confinement)
            .map_err(|errno| Failure::System { step: Step::Fork, errno: errno as i32 })
    }

    fn connect(&mut self, id: u64, port: u16) {
        let port = match &self.scope {
            Scope::Namespace => port,
            // Somebody else may listen there: what he answers would pass for the agent's answer.
            Scope::Machine { own_port, .. } => match ports::find(&[*own_port, port]) {
                ports::Found::Own(port) => port,
                ports::Found::Nobody => {
                    return self.report(&Report::Failed { id, failure: Failure::Refused }, vec![]);
                }
                ports::Found::Stranger(_) => {
                    return self.report(&Report::Failed { id, failure: Failure::Taken }, vec![]);
                }
            },
        };
        match open_connection(port) {
            Ok((socket, true)) => self.report(&Report::Done { id }, vec![socket]),
            Ok((socket, false)) => {
                let deadline = Instant::now() + CONNECT_LIMIT;
                self.connecting.push(Connecting { id, socket, deadline });
            }
            Err(errno) => self.report(&connect_failure(id, errno), vec![]),
        }
    }

    /// A forked process has become its program, or not.
    fn started(&mut self, starting: &Starting) {
        let id = starting.id;
        let mut terminal = self.terminals.remove(&id);
        let report = match spawn::verdict(&starting.forked.verdict) {
            Ok(None) => Report::Done { id },
            Ok(Some((step, errno))) => {
                // It ends by itself; there is no process of this number to tell the end of.
                self.children.remove(&starting.forked.pid);
                self.leaders.remove(&id);
                self.outputs.remove(&(id, false));
                self.outputs.remove(&(id, true));
                terminal = None;
                Report::Failed { id, failure: Failure::System { step, errno } }
            }
            Err(e) => {
                let errno = e.raw_os_error().unwrap_or(libc::EIO);
                terminal = None;
                Report::Failed { id, failure: Failure::System { step: Step::Fork, errno } }
            }
        };
        self.report(&report, terminal.into_iter().collect());
    }

    fn connected(&mut self, connecting: Connecting) {
        let Connecting { id, socket, .. } = connecting;
        let ready = {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            poll(&mut fds, PollTimeout::ZERO).unwrap_or(0) > 0
        };
        let errno =
            if ready { getsockopt(&socket, sockopt::SocketError).unwrap_or(0) } else { libc::ETIMEDOUT };
        if errno == 0 {
            self.report(&Report::Done { id }, vec![socket]);
        } else {
            self.report(&connect_failure(id, Errno::from_raw(errno)), vec![]);
        }
    }

    /// Takes the ends of children, its own and those that lost their parents. True when there is none left.
    fn reap(&mut self) -> bool {
        loop {
            let (pid, exit) = match spawn::reap() {
                Reaped::Child(pid, exit) => (pid, exit),
                Reaped::Nothing => return false,
                Reaped::NoChildren => return true,
            };
            // The answer to its start comes before the report of its end.
            if let Some(index) = self.starting.iter().position(|s| s.forked.pid == pid) {
                let starting = self.starting.swap_remove(index);
                self.started(&starting);
            }
            if let Some(process) = self.children.remove(&pid) {
                self.report(&Report::Exited { process, exit }, vec![]);
            }
        }
    }

    fn go_on_killing(&mut self) {
        let mut kills = std::mem::take(&mut self.kills);
        kills.retain_mut(|job| {
            let done = tree::end(job.process, job.leader.as_raw(), &mut job.members);
            if done {
                self.reap();
                self.report(&Report::Done { id: job.id }, vec![]);
            }
            !done
        });
        self.kills = kills;
    }

    /// Begins the end of the session, or brings it nearer.
    fn end(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace.min(MAX_GRACE);
        match &mut self.ending {
            Some(ending) => ending.deadline = ending.deadline.min(deadline),
            None => {
                self.signal_all(Signal::SIGTERM);
                // A stopped process cannot handle it otherwise.
                self.signal_all(Signal::SIGCONT);
                self.ending = Some(Ending { deadline });
            }
        }
    }

    /// True when nothing is left but this process.
    fn go_on_ending(&mut self) -> bool {
        // Every process of the session descends from this one, and comes to it when its parent ends.
        if self.reap() {
            return true;
        }
        if self.ending.as_ref().is_some_and(|e| e.deadline <= Instant::now()) {
            self.signal_all(Signal::SIGKILL);
        }
        false
    }

    /// To every process of the session but this one.
    fn signal_all(&self, signal: Signal) {
        match self.scope {
            // The first process of a namespace is spared.
            Scope::Namespace => drop(kill(Pid::from_raw(-1), signal)),
            Scope::Machine { .. } => tree::signal_descendants(signal),
        }
    }

    fn report(&mut self, report: &Report, fds: Vec<OwnedFd>) {
        // Reports are small and serialize always; one that did not would show as a request without answer.
        let _ = self.outbox.push(report, fds);
    }

    /// Sends what can be sent. False when the link is of no more use.
    fn flush(&mut self) -> bool {
        self.outbox.flush(&self.socket).is_ok() && self.outbox.unsent_bytes() <= MAX_UNSENT_BYTES
    }

    /// Sends what is left to say, for a bounded time.
    fn last_words(&mut self, linked: bool) {
        let deadline = Instant::now() + LAST_WORDS;
        while linked && matches!(self.outbox.flush(&self.socket), Ok(false)) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
            let _ = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO));
        }
    }
}

struct Events {
    children: bool,
    starting: Vec<usize>,
    connecting: Vec<usize>,
    draining: Vec<usize>,
    watcher: bool,
    socket: bool,
}

/// Reads once and forgets. False when the output has ended.
fn drain(output: &OwnedFd) -> bool {
    let mut nowhere = [0u8; 16 * 1024];
    match nix::unistd::read(output, &mut nowhere) {
        Ok(count) => count > 0,
        Err(errno) => matches!(errno, Errno::EAGAIN | Errno::EINTR),
    }
}

/// A socket on its way to the port, and whether it has arrived.
fn open_connection(port: u16) -> Result<(OwnedFd, bool), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = socket(AddressFamily::Inet, SockType::Stream, flags, SockProtocol::Tcp)?;
    setsockopt(&stream, sockopt::TcpNoDelay, &true)?;
    let address = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    match connect(stream.as_raw_fd(), &address) {
        Ok(()) => Ok((stream, true)),
        Err(Errno::EINPROGRESS) => Ok((stream, false)),
        Err(errno) => Err(errno),
    }
}

fn connect_failure(id: u64, errno: Errno) -> Report {
    let failure = match errno {
        Errno::ECONNREFUSED => Failure::Refused,
        other => Failure::System { step: Step::Connect, errno: other as i32 },
    };
    Report::Failed { id, failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_process_of_a_namespace_serves() {
        let (socket, emulator) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(emulator);
        let confinement = Confinement::new(false);
        let session = Session {
            scope: Scope::Namespace,
            orphan_grace: Duration::ZERO,
            socket: socket.into(),
            environment: vec![],
            mounter: None,
            confinement,
            listener: None,
            finisher: None,
        };
        let code = serve(session);
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
    }

    #[test]
    fn an_output_is_emptied_until_its_last_writer_has_gone() {
        let (read, mut write) = io::pipe().unwrap();
        let read = OwnedFd::from(read);
        io::Write::write_all(&mut write, &[1; 20_000]).unwrap();
        assert!(drain(&read) && drain(&read));
        drop(write);
        assert!(!drain(&read));
    }
}
