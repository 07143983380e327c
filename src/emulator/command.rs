//! A running command as a stream of events.
//!
//! A task of its own runs each command and hands its events to the stream, so the timeout and a stop of the
//! session hold although nobody reads. Dropping the stream (the caller left) kills the process and all that
//! descends from it. Only a few events wait for the reader, so a slow one slows the command down.

use futures_util::Stream;
use tokio::io::AsyncReadExt;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::sessions::{Cut, Lease};
use crate::engine::{EngineError, OutputPipe, Process, ProcessExit, ProcessSpec};
use crate::model::{CommandEvent, CommandLine, CommandStatus, CommandTimeout, OutputStream, limits};

/// Bytes of one read. A third of the largest chunk, because a byte that is not UTF-8 becomes three.
const READ_BYTES: usize = limits::MAX_COMMAND_CHUNK_BYTES / 3;
/// What a pipe can still hold when the command's shell has exited. [Linux: pipe capacity 64 KiB]
const PIPE_BYTES: usize = 64 * 1024;
/// Events that wait for the reader. [ours]
const EVENTS_WAITING: usize = 4;
/// Output of a command that is sent before it waits for its turn. [ours]
const TURN_BYTES: usize = 16 * 1024;
/// Commands at a time whose turn it is. [ours: one is written while another waits for its thread]
const TURNS: usize = 4;
/// Shells tried for a command, the service's own first. [guide: bash]
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// Why a command's stream ended without `Stop`.
#[derive(Debug, thiserror::Error)]
pub enum CommandFailure {
    /// The session is being stopped.
    #[error("the session was stopped while the command ran")]
    Cut,
    /// More output than one response may carry.
    #[error(
        "the command's output is larger than {} bytes, the most one response may carry",
        limits::MAX_COMMAND_RESPONSE_BYTES
    )]
    TooMuchOutput,
    /// The engine lost the process.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Starts `command` by a shell in the lease's session. The lease is held until the stream ends or is dropped.
pub async fn run_command(
    lease: Lease,
    command: &CommandLine,
    timeout: CommandTimeout,
) -> Result<impl Stream<Item = Result<CommandEvent, CommandFailure>> + Send + use<>, EngineError> {
    let mut missing = None;
    for shell in SHELLS {
        let argv = vec![shell.to_owned(), "-c".to_owned(), command.as_str().to_owned()];
        let spec = ProcessSpec { argv, environment: Vec::new(), working_directory: None, user: None };
        match lease.spawn(spec).await {
            Ok(process) => {
                let (events, inbox) = mpsc::channel(EVENTS_WAITING);
                tokio::spawn(Running::new(lease, process, timeout).run_to_end(events));
                return Ok(futures_util::stream::unfold((inbox, 0), |(mut inbox, mut taken)| async move {
                    let event = inbox.recv().await?;
                    if let Ok(CommandEvent::Delta(_, text)) = &event {
                        taken += text.len();
                    }
                    if taken >= TURN_BYTES {
                        taken = 0;
                        turn().await;
                    }
                    Some((event, (inbox, taken)))
                }));
            }
            Err(e @ EngineError::Spawn { .. }) => missing = Some(e),
            Err(e) => return Err(e),
        }
    }
    Err(missing.unwrap_or(EngineError::Gone))
}

/// Waits until it is this command's turn to send much. Frames are made on threads that other connections share: hundreds
/// of commands that always have more to say would keep a small answer waiting until each of them had its say.
async fn turn() {
    static NEXT: Semaphore = Semaphore::const_new(TURNS);
    // Never closed. Held over one round of the thread, in which what else is there comes first.
    let _turn = NEXT.acquire().await;
    tokio::task::yield_now().await;
}

struct Running {
    control: Box<dyn crate::engine::ProcessControl>,
    stdout: Output,
    stderr: Output,
    deadline: Instant,
    sent: u64,
    phase: Phase,
    cut: Cut,
    /// Held while the process runs, so that the session counts as active; not while its last words wait
    /// for a reader.
    lease: Option<Lease>,
}

#[derive(Clone, Copy)]
enum Phase {
    Begin,
    Run,
    /// The shell has exited; what is left in the pipes follows.
    Drain {
        exit: ProcessExit,
        until: Instant,
        left: usize,
    },
    /// The timeout has passed and the tree is dead; what it had written follows.
    TimedOut {
        until: Instant,
        left: usize,
    },
    Done,
}

struct Output {
    /// Nothing after the end of the stream.
    pipe: Option<OutputPipe>,
    buffer: Box<[u8]>,
    splitter: Utf8Splitter,
}

impl Output {
    fn new(pipe: OutputPipe) -> Self {
        let buffer = vec![0; READ_BYTES].into_boxed_slice();
        Self { pipe: Some(pipe), buffer, splitter: Utf8Splitter::default() }
    }

    /// The next piece of text; an empty one when bytes are still missing from a character. Never
    /// resolves after the end of the stream. Cancel-safe: `read` either takes bytes or none.
    async fn next(&mut self) -> (String, usize) {
        let Some(pipe) = self.pipe.as_mut() else { return std::future::pending().await };
        match pipe.read(&mut self.buffer).await {
            Ok(0) | Err(_) => {
                self.pipe = None;
                (self.splitter.finish(), 0)
            }
            Ok(n) => (self.splitter.push(&self.buffer[..n]), n),
        }
    }
}

impl Running {
    fn new(lease: Lease, process: Process, timeout: CommandTimeout) -> Self {
        Self {
            control: process.control,
            stdout: Output::new(process.stdout),
            stderr: Output::new(process.stderr),
            deadline: Instant::now() + timeout.duration(),
            sent: 0,
            phase: Phase::Begin,
            cut: lease.cut(),
            lease: Some(lease),
        }
    }

    async fn run_to_end(mut self, events: mpsc::Sender<Result<CommandEvent, CommandFailure>>) {
        loop {
            let place = match self.place(&events).await {
                Ok(Some(place)) => place,
                Ok(None) => break,
                Err(failure) => {
                    self.give_up().await;
                    // The reader hears of it when he has read what waits for him, or leaves.
                    let _ = events.send(Err(failure)).await;
                    return;
                }
            };
            let event = tokio::select! {
                biased;
                () = events.closed() => break,
                event = self.next() => event,
            };
            match event {
                None => return,
                Some(Ok(event)) => place.send(Ok(event)),
                Some(Err(failure)) => {
                    self.give_up().await;
                    place.send(Err(failure));
                    return;
                }
            }
        }
        // The caller has left.
        self.give_up().await;
    }

    /// Waits until one more event can be handed over, and holds the command to its timeout and its
    /// session's stop meanwhile. Nothing when the caller has left.
    async fn place<'a>(
        &mut self,
        events: &'a mpsc::Sender<Result<CommandEvent, CommandFailure>>,
    ) -> Result<Option<mpsc::Permit<'a, Result<CommandEvent, CommandFailure>>>, CommandFailure> {
        loop {
            let running = matches!(self.phase, Phase::Begin | Phase::Run);
            tokio::select! {
                biased;
                place = events.reserve() => return Ok(place.ok()),
                () = self.cut.wait(), if running => return Err(CommandFailure::Cut),
                () = tokio::time::sleep_until(self.deadline), if running => self.time_out().await?,
            }
        }
    }

    /// The timeout has passed: ends the tree. What it had written is still told.
    async fn time_out(&mut self) -> Result<(), CommandFailure> {
        self.control.kill().await?;
        self.lease = None;
        let until = Instant::now() + limits::COMMAND_DRAIN;
        self.phase = Phase::TimedOut { until, left: 2 * PIPE_BYTES };
        Ok(())
    }

    /// The tree must not outlive a stream that failed or that nobody reads.
    async fn give_up(&mut self) {
        if matches!(self.phase, Phase::Begin | Phase::Run) {
            let _ = self.control.kill().await;
        }
        self.lease = None;
        self.phase = Phase::Done;
    }

    async fn next(&mut self) -> Option<Result<CommandEvent, CommandFailure>> {
        loop {
            match self.phase {
                Phase::Begin => {
                    self.phase = Phase::Run;
                    return Some(Ok(CommandEvent::Start));
                }
                Phase::Run => match self.run().await {
                    Ok(Some(event)) => return Some(Ok(event)),
                    Ok(None) => {}
                    Err(failure) => return Some(Err(failure)),
                },
                Phase::Drain { exit, until, left } => match self.drain(until, left).await {
                    Some((event, left)) => {
                        self.phase = Phase::Drain { exit, until, left };
                        if let Some(answer) = self.delta(event) {
                            return Some(answer);
                        }
                    }
                    None => {
                        self.phase = Phase::Done;
                        let status = CommandStatus::Completed;
                        return Some(Ok(CommandEvent::Stop { exit_code: exit.shell_code(), status }));
                    }
                },
                Phase::TimedOut { until, left } => match self.drain(until, left).await {
                    Some((event, left)) => {
                        self.phase = Phase::TimedOut { until, left };
                        if let Some(answer) = self.delta(event) {
                            return Some(answer);
                        }
                    }
                    None => {
                        self.phase = Phase::Done;
                        let status = CommandStatus::TimedOut;
                        return Some(Ok(CommandEvent::Stop { exit_code: -1, status }));
                    }
                },
                Phase::Done => return None,
            }
        }
    }

    /// One step while the shell runs: a piece of output, or nothing when the phase has changed.
    async fn run(&mut self) -> Result<Option<CommandEvent>, CommandFailure> {
        enum Step {
            Text(OutputStream, String),
            Exit(Result<ProcessExit, EngineError>),
            Timeout,
            Cut,
        }
        let step = tokio::select! {
            biased;
            () = self.cut.wait() => Step::Cut,
            () = tokio::time::sleep_until(self.deadline) => Step::Timeout,
            (text, _) = self.stdout.next() => Step::Text(OutputStream::Stdout, text),
            (text, _) = self.stderr.next() => Step::Text(OutputStream::Stderr, text),
            exit = self.control.wait() => Step::Exit(exit),
        };
        match step {
            Step::Text(stream, text) => self.delta((stream, text)).transpose(),
            Step::Exit(exit) => {
                let exit = exit?;
                let until = Instant::now() + limits::COMMAND_DRAIN;
                if let (0, Some(lease)) = (exit.shell_code(), &self.lease) {
                    lease.answered();
                }
                self.phase = Phase::Drain { exit, until, left: 2 * PIPE_BYTES };
                self.leave_background_children();
                Ok(None)
            }
            Step::Timeout => {
                self.time_out().await?;
                Ok(None)
            }
            Step::Cut => Err(CommandFailure::Cut),
        }
    }

    /// What is still in the pipes. The time is bounded by `until`; what already stood in the pipes by
    /// then (at most `left` bytes) is still taken, so that a slow reader loses nothing.
    async fn drain(&mut self, until: Instant, left: usize) -> Option<((OutputStream, String), usize)> {
        if left == 0 || (self.stdout.pipe.is_none() && self.stderr.pipe.is_none()) {
            return None;
        }
        let (event, size) = tokio::select! {
            biased;
            (text, n) = self.stdout.next() => ((OutputStream::Stdout, text), n),
            (text, n) = self.stderr.next() => ((OutputStream::Stderr, text), n),
            () = tokio::time::sleep_until(until) => return None,
        };
        let left = if Instant::now() < until { left } else { left.saturating_sub(size) };
        Some((event, left))
    }

    fn delta(
        &mut self,
        (stream, text): (OutputStream, String),
    ) -> Option<Result<CommandEvent, CommandFailure>> {
        if text.is_empty() {
            return None;
        }
        self.sent += text.len() as u64;
        if self.sent > limits::MAX_COMMAND_RESPONSE_BYTES {
            return Some(Err(CommandFailure::TooMuchOutput));
        }
        Some(Ok(CommandEvent::Delta(stream, text)))
    }

    /// The command has ended: its children in the background live on, whoever reads its last words. Their
    /// later output goes nowhere; the helper keeps their pipes from closing, which would kill them at their
    /// next line.
    fn leave_background_children(&mut self) {
        self.control.detach();
        self.lease = None;
    }
}

/// Cuts a byte stream into texts without tearing a character; what is no UTF-8 becomes U+FFFD.
#[derive(Default)]
struct Utf8Splitter {
    /// The beginning of a character whose end has not come yet: at most three bytes.
    pending: Vec<u8>,
}

impl Utf8Splitter {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let taken = std::mem::take(&mut self.pending);
        let mut text = String::with_capacity(taken.len());
        let mut rest = taken.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, bad) = rest.split_at(error.valid_up_to());
                    // Valid by the error's own word; lossy conversion changes nothing here.
                    text.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        None => {
                            self.pending = bad.to_vec();
                            return text;
                        }
                        Some(len) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = &bad[len..];
                        }
                    }
                }
            }
        }
    }

    fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<String> {
        let mut splitter = Utf8Splitter::default();
        let mut out: Vec<String> = chunks.iter().map(|c| splitter.push(c)).collect();
        out.push(splitter.finish());
        out
    }

    #[test]
    fn characters_are_never_torn() {
        let euro = "€".as_bytes();
        assert_eq!(split(&[b"a", &euro[..1], &euro[1..2], &euro[2..], b"b"]), ["a", "", "", "€", "b", ""]);
        assert_eq!(split(&[b"a\xff\xfeb"]), ["a\u{fffd}\u{fffd}b", ""]);
        assert_eq!(split(&[b"\xf0\x9f"]), ["", "\u{fffd}"]);
    }

    proptest! {
        #[test]
        fn any_cut_of_a_text_gives_the_text(text in ".{0,200}", cuts in proptest::collection::vec(0_usize..600, 0..6)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts { chunks.push(&bytes[from..cut]); from = cut; }
            chunks.push(&bytes[from..]);
            prop_assert_eq!(split(&chunks).concat(), text);
        }

        #[test]
        fn any_bytes_give_the_lossy_text_in_bounded_pieces(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6)) {
            let whole: Vec<u8> = chunks.concat();
            let pieces: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(split(&pieces).concat(), String::from_utf8_lossy(&whole));
        }
    }
}
