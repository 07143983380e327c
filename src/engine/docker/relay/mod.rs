//! The way into a container whose daemon does not share this machine's files and sockets: another machine's, or that of
//! a virtual machine.
//!
//! Elsewhere the emulator and a session's first process hand each other descriptors over a socket. Here that socket ends at
//! a relay on either side ([`near`] beside the emulator, [`far`] in the container's first process), and what lies between
//! them is one stream of bytes: the container's standard input and output, which the daemon carries. Each descriptor that
//! would be handed over becomes a channel of that stream ([`channels`]), and each end makes a pipe or a socket of it for
//! its own side. So both the emulator and the helper do what they always do.
//!
//! What differs is told in docs/SEMANTICS.md: bytes are copied, and with the daemon the stream ends.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::BytesMut;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::linked::Line;
use crate::helper::proto::{Failure, Report, Step};

mod channels;
pub(super) mod far;
mod frames;
pub(super) mod near;

use channels::{Channels, Target};
use frames::{Frame, Parcel};

/// Most bytes that are written at once. [ours]
const WRITE_BYTES: usize = 128 * 1024;
/// Longest time that the last messages of a session may take. [as the helper's own last words]
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often each end says that it is there.
const BEAT: Duration = Duration::from_secs(5);
/// How long the emulator believes that of a container from which it hears nothing: a line may be cut without a word, by a
/// machine that lost its power, say. [ours: less than whoever ends a session waits for it]
const NEAR_SILENCE: Duration = Duration::from_secs(25);
/// How long a container believes it of an emulator, which may be on a laptop that sleeps. [ours]
const FAR_SILENCE: Duration = Duration::from_secs(300);
/// Longest time that each end lets the answer to a kill wait for what was written before. [ours: a pipe's worth over a line
/// of some hundred milliseconds; whoever kills for too much output reads no more of it]
const KILL_WAIT: Duration = Duration::from_millis(500);
/// Longest time that what has come may take to be read where nothing can be sent any more. [ours]
const LAST_READ: Duration = Duration::from_secs(5);
/// The build on both sides has to be the same.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The error number of a limit that is reached. [errno: EMFILE]
const NO_ROOM: i32 = 24;
/// Numbers of channels that either end opens.
const NEAR_FIRST: u32 = 2;
const FAR_FIRST: u32 = 1;

/// A message for an end's own party, with its descriptors, and what comes before it.
struct Delivery {
    message: Value,
    fds: Vec<OwnedFd>,
    after: After,
}

/// A message for the other end, and what comes before it.
struct Dispatch {
    parcel: Parcel,
    after: After,
}

/// What is carried before a message.
#[derive(Default)]
struct After {
    targets: Vec<Target>,
    /// Whoever waits for the message may have ceased to read, so that it would never come.
    no_longer_than: Option<Duration>,
}

impl After {
    async fn reached(self) {
        let all = async {
            for target in self.targets {
                target.reached().await;
            }
        };
        match self.no_longer_than {
            Some(limit) => drop(timeout(limit, all).await),
            None => all.await,
        }
    }
}

/// What a request comes to that this machine's side could not do its part of.
fn failed(id: u64, step: Step, error: &io::Error) -> Report {
    // What is no system's error is a limit of ours.
    let errno = error.raw_os_error().unwrap_or(NO_ROOM);
    Report::Failed { id, failure: Failure::System { step, errno } }
}

/// What an end does with messages and new channels.
trait End: Send + Sync + 'static {
    /// A message of its own party.
    fn hear(&self, message: Value, fds: Vec<OwnedFd>) -> io::Result<Dispatch>;

    /// A message of the other end's party; nothing where that was meant for this end.
    fn take(&self, parcel: Parcel) -> io::Result<Option<Delivery>>;

    /// What build the other end is.
    fn meet(&self, version: &str) -> io::Result<()>;

    /// Somebody came to the emulator's listener.
    fn opened(&self, channel: u32) -> io::Result<()>;
}

/// Carries everything between its party's line and the stream until one of them ends.
async fn run(
    end: impl End,
    channels: Channels,
    frames: mpsc::UnboundedReceiver<Frame>,
    line: Line,
    (input, silence): (impl AsyncRead + Send + Unpin + 'static, Duration),
    output: impl AsyncWrite + Send + Unpin + 'static,
) {
    let (deliver, deliveries) = mpsc::unbounded_channel();
    let finish = CancellationToken::new();
    let mut reading = std::pin::pin!(read(&end, &channels, input, silence, deliver));
    let mut writing = std::pin::pin!(write(frames, output, finish.clone()));
    let mut speaking = std::pin::pin!(speak(&end, &channels, line, deliveries));
    let mut late = std::pin::pin!(sleep_until(Instant::now()));
    let mut beats = tokio::time::interval(BEAT);
    let (mut ended, mut silent) = (false, false);
    loop {
        tokio::select! {
            () = &mut speaking => break,
            () = &mut reading, if !ended => {
                // What has come is still handed on.
                ended = true;
                channels.close();
                late.as_mut().reset(Instant::now() + LAST_WORDS);
            }
            () = &mut writing, if !silent => {
                silent = true;
                late.as_mut().reset(Instant::now() + if ended { LAST_WORDS } else { LAST_READ });
            }
            // Of a party that does not take its last messages.
            () = &mut late, if ended || silent => break,
            _ = beats.tick(), if !silent => channels.send(Frame::Beat),
        }
    }
    channels.close();
    finish.cancel();
    if !silent {
        let _ = timeout(LAST_WORDS, writing).await;
    }
}

async fn read(
    end: &impl End,
    channels: &Channels,
    mut input: impl AsyncRead + Unpin,
    silence: Duration,
    deliver: mpsc::UnboundedSender<Delivery>,
) {
    let taking = async {
        // Before the first one a container has to be started, which takes as long as it takes.
        let mut next = Frame::read(&mut input).await?;
        while let Some(frame) = next {
            match frame {
                Frame::Beat => {}
                Frame::Hello(version) => end.meet(&version)?,
                Frame::Opened(channel) => end.opened(channel)?,
                Frame::Message(parcel) => match end.take(parcel)? {
                    Some(delivery) if delivery.after.targets.is_empty() => drop(deliver.send(delivery)),
                    Some(mut delivery) => {
                        let deliver = deliver.clone();
                        tokio::spawn(async move {
                            std::mem::take(&mut delivery.after).reached().await;
                            let _ = deliver.send(delivery);
                        });
                    }
                    None => {}
                },
                of_channel => channels.take(of_channel)?,
            }
            next = timeout(silence, Frame::read(&mut input)).await.map_err(io::Error::from)??;
        }
        io::Result::Ok(())
    };
    if let Err(error) = taking.await {
        tracing::debug!(%error, "a relay ends");
    }
}

async fn write(
    mut frames: mpsc::UnboundedReceiver<Frame>,
    mut output: impl AsyncWrite + Unpin,
    finish: CancellationToken,
) {
    let mut bytes = BytesMut::new();
    loop {
        let next = tokio::select! {
            biased;
            next = frames.recv() => next,
            () = finish.cancelled() => None,
        };
        let Some(first) = next else { break };
        let mut put = first.put(&mut bytes);
        while bytes.len() < WRITE_BYTES
            && put.is_ok()
            && let Ok(more) = frames.try_recv()
        {
            put = more.put(&mut bytes);
        }
        if put.is_err() || output.write_all(&bytes).await.is_err() || output.flush().await.is_err() {
            return;
        }
        bytes.clear();
    }
    let _ = output.shutdown().await;
}

async fn speak(
    end: &impl End,
    channels: &Channels,
    mut line: Line,
    mut deliveries: mpsc::UnboundedReceiver<Delivery>,
) {
    let waiting = TaskTracker::new();
    let speaking = async {
        loop {
            tokio::select! {
                heard = line.receive::<Value>() => {
                    let Ok(Some((message, fds))) = heard else { return };
                    let Ok(Dispatch { parcel, after }) = end.hear(message, fds) else { return };
                    if after.targets.is_empty() {
                        channels.send(Frame::Message(parcel));
                        continue;
                    }
                    let channels = channels.clone();
                    waiting.spawn(async move {
                        after.reached().await;
                        channels.send(Frame::Message(parcel));
                    });
                }
                delivery = deliveries.recv() => {
                    let Some(Delivery { message, fds, .. }) = delivery else {
                        let _ = line.flush().await;
                        return;
                    };
                    if line.push(&message, fds).is_err() {
                        return;
                    }
                }
            }
        }
    };
    speaking.await;
    drop(line);
    waiting.close();
    let _ = timeout(LAST_WORDS, waiting.wait()).await;
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream as StdUnixStream;
    use std::thread::JoinHandle;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::near::Near;
    use super::*;
    use crate::helper::proto::{Exit, Request};

    /// Longest wait for what has to come. [ours: a busy machine]
    const SOON: Duration = Duration::from_secs(20);

    /// Both ends with the stream between them: what the emulator has, what the helper has, the far end's thread.
    fn relay() -> (Near, Line, JoinHandle<io::Result<()>>) {
        let (here, there) = StdUnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let (helper, theirs) = StdUnixStream::pair().unwrap();
        let thread = std::thread::spawn(move || {
            let input = there.try_clone()?;
            far::serve(theirs.into(), input.into(), there.into())
        });
        let (output, input) = UnixStream::from_std(here).unwrap().into_split();
        (near::begin(output, input).unwrap(), Line::new(helper.into()).unwrap(), thread)
    }

    fn spawn(id: u64) -> Request {
        Request::Spawn {
            id,
            argv: vec!["x".into()],
            environment: vec![],
            working_directory: "/".into(),
            user: None,
        }
    }

    async fn send(line: &mut Line, message: &impl serde::Serialize, fds: Vec<OwnedFd>) {
        line.push(message, fds).unwrap();
        timeout(SOON, line.flush()).await.unwrap().unwrap();
    }

    async fn next<T: serde::de::DeserializeOwned>(line: &mut Line) -> Option<(T, Vec<OwnedFd>)> {
        timeout(SOON, line.receive()).await.unwrap().unwrap()
    }

    /// A process without a program: the emulator's ends of its outputs, and what the helper was given.
    async fn process(near: &mut Near, helper: &mut Line, id: u64) -> ([io::PipeReader; 2], Vec<OwnedFd>) {
        let [(output, write_output), (errors, write_errors)] = [io::pipe().unwrap(), io::pipe().unwrap()];
        let (read_output, read_errors) = (output.try_clone().unwrap(), errors.try_clone().unwrap());
        let fds = vec![write_output.into(), write_errors.into(), read_output.into(), read_errors.into()];
        send(&mut near.line, &spawn(id), fds).await;
        let (request, given) = next::<Request>(helper).await.unwrap();
        assert!(matches!(request, Request::Spawn { id: asked, .. } if asked == id), "{request:?}");
        assert_eq!(given.len(), 4);
        send(helper, &Report::Done { id }, vec![]).await;
        let (report, fds) = next::<Report>(&mut near.line).await.unwrap();
        assert!(matches!(report, Report::Done { id: done } if done == id) && fds.is_empty(), "{report:?}");
        ([output, errors], given)
    }

    /// A connection into the session: the emulator's end, and the end of whoever listens there.
    async fn connection(near: &mut Near, helper: &mut Line, id: u64) -> (StdUnixStream, TcpStream) {
        send(&mut near.line, &Request::Connect { id, port: 8080 }, vec![]).await;
        let (request, _) = next::<Request>(helper).await.unwrap();
        assert!(matches!(request, Request::Connect { port: 8080, .. }), "{request:?}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (agent, _) = listener.accept().unwrap();
        send(helper, &Report::Done { id }, vec![stream.into()]).await;
        let (_, fds) = next::<Report>(&mut near.line).await.unwrap();
        (StdUnixStream::from(fds.into_iter().next().unwrap()), agent)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_process_wrote_is_there_when_its_end_is_told() {
        let (mut near, mut helper, _thread) = relay();
        for id in 1..20 {
            let ([mut output, mut errors], given) = process(&mut near, &mut helper, id).await;
            let mut given = given.into_iter().map(io::PipeWriter::from);
            let (mut write_output, mut write_errors) = (given.next().unwrap(), given.next().unwrap());
            // What a pipe holds, so that nobody has to read meanwhile.
            write_output.write_all(&[1; 60_000]).unwrap();
            write_errors.write_all(b"last words").unwrap();
            send(&mut helper, &Report::Exited { process: id, exit: Exit::Code(3) }, vec![]).await;
            let (report, _) = next::<Report>(&mut near.line).await.unwrap();
            assert!(matches!(report, Report::Exited { exit: Exit::Code(3), .. }), "{report:?}");
            assert_eq!(crate::helper::link::unread(&output).unwrap(), 60_000);
            assert_eq!(crate::helper::link::unread(&errors).unwrap(), 10);
            drop((write_output, write_errors, given));
            let mut text = Vec::new();
            tokio::task::spawn_blocking(move || {
                output.read_to_end(&mut text).unwrap();
                errors.read_to_end(&mut text).unwrap();
                assert_eq!(text.len(), 60_010);
            })
            .await
            .unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stream_that_nobody_reads_keeps_no_other_one_waiting() {
        let (mut near, mut helper, _thread) = relay();
        let (unread, given) = process(&mut near, &mut helper, 1).await;
        let mut flood = io::PipeWriter::from(given.into_iter().next().unwrap());
        let flooding = std::thread::spawn(move || {
            let mut written = 0;
            while flood.write_all(&[0; 4096]).is_ok() {
                written += 4096;
            }
            written
        });
        let (near_end, mut agent) = connection(&mut near, &mut helper, 2).await;
        let mut near_end = UnixStream::from_std(near_end).unwrap();
        for round in 0..50_u8 {
            near_end.write_all(&[round; 1000]).await.unwrap();
            let echoing = tokio::task::spawn_blocking(move || {
                let mut bytes = [0; 1000];
                agent.read_exact(&mut bytes).unwrap();
                agent.write_all(&bytes).unwrap();
                agent
            });
            let mut answer = [0; 1000];
            timeout(SOON, near_end.read_exact(&mut answer)).await.unwrap().unwrap();
            assert_eq!(answer, [round; 1000]);
            agent = echoing.await.unwrap();
        }
        // Whoever wrote for nobody is told so with the end of it all.
        drop((unread, near, helper));
        let written = tokio::task::spawn_blocking(move || flooding.join().unwrap()).await.unwrap();
        assert!(written >= 512 * 1024, "{written}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_connection_ends_in_one_direction_or_in_both() {
        let (mut near, mut helper, _thread) = relay();
        let (near_end, mut agent) = connection(&mut near, &mut helper, 1).await;
        let mut near_end = UnixStream::from_std(near_end).unwrap();
        // The agent has said all, and still listens.
        agent.write_all(b"all").unwrap();
        agent.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        timeout(SOON, near_end.read_to_string(&mut said)).await.unwrap().unwrap();
        assert_eq!(said, "all");
        near_end.write_all(b"thanks").await.unwrap();
        let mut bytes = [0; 6];
        agent.set_read_timeout(Some(SOON)).unwrap();
        agent.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"thanks");
        // Who goes away altogether is no reader any more.
        let (near_end, mut agent) = connection(&mut near, &mut helper, 2).await;
        drop(near_end);
        agent.set_read_timeout(Some(SOON)).unwrap();
        assert_eq!(agent.read(&mut bytes).unwrap(), 0);
        let deadline = Instant::now() + SOON;
        while agent.write_all(b"x").is_ok() {
            assert!(Instant::now() < deadline, "nobody hears, and nobody says so");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn either_party_that_goes_takes_the_relay_along_and_last_words_arrive() {
        let (near, mut helper, thread) = relay();
        drop(near);
        assert!(next::<Request>(&mut helper).await.is_none());
        tokio::task::spawn_blocking(|| thread.join().unwrap().unwrap()).await.unwrap();

        let (mut near, mut helper, thread) = relay();
        for process in 0..100 {
            send(&mut helper, &Report::Exited { process, exit: Exit::Signal(9) }, vec![]).await;
        }
        drop(helper);
        for expected in 0..100 {
            let (report, _) = next::<Report>(&mut near.line).await.unwrap();
            assert!(matches!(report, Report::Exited { process, .. } if process == expected), "{report:?}");
        }
        assert!(next::<Report>(&mut near.line).await.is_none());
        tokio::task::spawn_blocking(|| thread.join().unwrap().unwrap()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn connections_out_of_a_session_arrive() {
        let (mut near, mut helper, _thread) = relay();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        send(&mut helper, &Report::Ready, vec![listener.into()]).await;
        assert!(matches!(next::<Report>(&mut near.line).await.unwrap().0, Report::Ready));
        for number in 0..5_u8 {
            let mut inside = TcpStream::connect(address).unwrap();
            inside.write_all(&[number]).unwrap();
            let mut arrived = timeout(SOON, near.arriving.recv()).await.unwrap().unwrap();
            assert_eq!(arrived.read_u8().await.unwrap(), number);
            arrived.write_all(b"yes").await.unwrap();
            drop(arrived);
            let mut answer = String::new();
            inside.set_read_timeout(Some(SOON)).unwrap();
            inside.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "yes");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_build_at_the_other_end_is_refused_by_name() {
        let (here, mut there) = tokio::io::duplex(4096);
        let (output, input) = tokio::io::split(here);
        let mut near = near::begin(output, input).unwrap();
        let mut bytes = BytesMut::new();
        Frame::Hello("0.0.1-other".into()).put(&mut bytes).unwrap();
        there.write_all(&bytes).await.unwrap();
        assert!(next::<Report>(&mut near.line).await.is_none());
        let refused = near.refused.lock().clone().unwrap();
        assert!(refused.contains("`agentcore`") && refused.contains("0.0.1-other"), "{refused}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_process_wrote_is_there_when_its_kill_is_answered_and_what_it_kept_open_is_let_go() {
        let (mut near, mut helper, _thread) = relay();
        let ([output, _errors], given) = process(&mut near, &mut helper, 1).await;
        let mut write_output = io::PipeWriter::from(given.into_iter().next().unwrap());
        write_output.write_all(&[1; 60_000]).unwrap();
        send(&mut near.line, &Request::Kill { id: 2, process: 1 }, vec![]).await;
        assert!(matches!(next::<Request>(&mut helper).await.unwrap().0, Request::Kill { process: 1, .. }));
        send(&mut helper, &Report::Exited { process: 1, exit: Exit::Signal(9) }, vec![]).await;
        send(&mut helper, &Report::Done { id: 2 }, vec![]).await;
        for _ in 0..2 {
            next::<Report>(&mut near.line).await.unwrap();
            assert_eq!(crate::helper::link::unread(&output).unwrap(), 60_000);
        }
        // The process has ended, a child of it has not; who let go of the output hears nothing more of it.
        let release = Request::Release { process: 1, errors: false };
        send(&mut near.line, &release, vec![]).await;
        assert!(matches!(next::<Request>(&mut helper).await.unwrap().0, Request::Release { .. }));
        let rest = tokio::task::spawn_blocking(move || io::read_to_string(output).unwrap().len());
        assert_eq!(timeout(SOON, rest).await.unwrap().unwrap(), 60_000);
        // The relay reads it no more: what is written now stays where it is.
        write_output.write_all(b"for nobody").unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_kill_is_answered_to_one_who_reads_no_more() {
        let (mut near, mut helper, _thread) = relay();
        let (unread, given) = process(&mut near, &mut helper, 1).await;
        let mut flood = io::PipeWriter::from(given.into_iter().next().unwrap());
        let flooding = std::thread::spawn(move || {
            // More than pipes and the window hold.
            for _ in 0..1024 {
                if flood.write_all(&[0; 4096]).is_err() {
                    return;
                }
            }
        });
        send(&mut near.line, &Request::Kill { id: 2, process: 1 }, vec![]).await;
        next::<Request>(&mut helper).await.unwrap();
        send(&mut helper, &Report::Done { id: 2 }, vec![]).await;
        let (report, _) = next::<Report>(&mut near.line).await.unwrap();
        assert!(matches!(report, Report::Done { id: 2 }), "{report:?}");
        drop((near, helper, unread));
        tokio::task::spawn_blocking(move || flooding.join().unwrap()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_has_come_is_heard_though_nothing_can_be_sent() {
        let (mut there, output) = tokio::io::duplex(64 * 1024);
        let (input, other) = tokio::io::duplex(1);
        drop(other);
        let mut near = near::begin(output, input).unwrap();
        let mut bytes = BytesMut::new();
        for process in 0..100 {
            let message = serde_json::to_value(Report::Exited { process, exit: Exit::Code(0) }).unwrap();
            Frame::Message(Parcel { channels: vec![], message }).put(&mut bytes).unwrap();
        }
        there.write_all(&bytes).await.unwrap();
        drop(there);
        for expected in 0..100 {
            let (report, _) = next::<Report>(&mut near.line).await.unwrap();
            assert!(matches!(report, Report::Exited { process, .. } if process == expected), "{report:?}");
        }
        assert!(next::<Report>(&mut near.line).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_from_which_nothing_comes_any_more_is_given_up() {
        let (here, mut there) = tokio::io::duplex(64 * 1024);
        let (output, input) = tokio::io::split(here);
        let mut near = near::begin(output, input).unwrap();
        let begin = Instant::now();
        let mut bytes = BytesMut::new();
        Frame::Hello(VERSION.into()).put(&mut bytes).unwrap();
        tokio::time::sleep(NEAR_SILENCE * 2).await;
        // As late as it likes.
        there.write_all(&bytes).await.unwrap();
        assert!(near.line.receive::<Report>().await.unwrap().is_none());
        assert!(begin.elapsed() >= NEAR_SILENCE * 3);
    }
}
