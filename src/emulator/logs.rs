//! Logs of sessions: what their agents write, and the emulator's own remarks on them.
//!
//! One file per session, `<home>/logs/<runtime>/<endpoint>/<session>.log`, a JSON object per line, and
//! the file before it as `.log.1`: a session's logs never take more than twice [`MAX_FILE_BYTES`].
//! One thread owns all writing. What it has not taken yet holds the agent's pipe back, so an agent
//! that writes faster than the disk is slowed down instead of filling memory.
//!
//! Readers open the files themselves and follow them by inode and offset, so a slow reader costs
//! nobody else anything. A line that is not UTF-8 is kept as it is (base64) and shown lossily.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, oneshot, watch};

use super::clock::Clock;
use crate::model::{EndpointName, RuntimeId, SessionId, SessionKey, Timestamp};

/// Size at which a log file is put aside for a new one. [ours]
const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Longest piece of a line that becomes one entry; a longer line becomes several. [ours]
const MAX_LINE_BYTES: usize = 32 * 1024;
/// Lines of the current compute that an error shows. [ours]
const TAIL_LINES: usize = 20;
/// Longest line that an error shows, in characters. [ours]
const TAIL_CHARS: usize = 400;
/// Batches under way to the writer before pipes are held back.
const QUEUE: usize = 256;
/// Bytes that a reader takes from a file at a time; at least the longest line as it stands in the file.
const READ_BYTES: u64 = 256 * 1024;
/// Shortest time between two looks of a follower.
const FOLLOW_PAUSE: Duration = Duration::from_millis(50);

/// One line an agent wrote, or a remark of the emulator on its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// When.
    pub at: Timestamp,
    /// The runtime.
    pub runtime: RuntimeId,
    /// The session.
    pub session: SessionId,
    /// `stdout`, `stderr` or `system`.
    pub stream: &'static str,
    /// The line, without its end.
    pub message: String,
}

/// Which log lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// Of this runtime only.
    pub runtime: Option<RuntimeId>,
    /// Of this session only.
    pub session: Option<SessionId>,
    /// Go on with lines as they come.
    pub follow: bool,
}

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogStream {
    Stdout,
    Stderr,
    /// The emulator's own remarks.
    System,
}

impl LogStream {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
        }
    }
}

/// A line as it stands in the file.
#[derive(Serialize, Deserialize)]
struct Line {
    at: Timestamp,
    stream: LogStream,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// Base64 of a line that is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

impl Line {
    fn new(at: Timestamp, stream: LogStream, line: &[u8]) -> Self {
        match std::str::from_utf8(line) {
            Ok(text) => Self { at, stream, message: Some(text.to_owned()), bytes: None },
            Err(_) => Self { at, stream, message: None, bytes: Some(BASE64.encode(line)) },
        }
    }

    fn text(self) -> String {
        let lossy = |b: String| String::from_utf8_lossy(&BASE64.decode(b).unwrap_or_default()).into_owned();
        self.message.or_else(|| self.bytes.map(lossy)).unwrap_or_default()
    }
}

enum Job {
    Write { path: PathBuf, text: Vec<u8> },
    Flush(oneshot::Sender<()>),
}

/// The logs of all sessions. Clones share the writer.
#[derive(Clone)]
pub(super) struct Logs {
    root: PathBuf,
    clock: Arc<Clock>,
    jobs: mpsc::Sender<Job>,
    /// Changes whenever something was written.
    written: watch::Receiver<u64>,
}

impl Logs {
    /// The logs below the emulator home `home`.
    pub(super) fn below(home: &Path, clock: Arc<Clock>) -> io::Result<Self> {
        let (jobs, mut inbox) = mpsc::channel(QUEUE);
        let (counter, written) = watch::channel(0);
        std::thread::Builder::new().name("logs".into()).spawn(move || {
            let mut failing = false;
            while let Some(job) = inbox.blocking_recv() {
                match job {
                    Job::Write { path, text } => {
                        // Logs are a help, not a record: a full disk must not end sessions. Told once until it
                        // is better: what is told goes to a file too.
                        let written = append(&path, &text, MAX_FILE_BYTES);
                        if let (Err(e), false) = (&written, failing) {
                            tracing::warn!("logs are lost: `{}` cannot be written: {e}", path.display());
                        }
                        failing = written.is_err();
                        counter.send_modify(|n| *n += 1);
                    }
                    Job::Flush(done) => {
                        let _ = done.send(());
                    }
                }
            }
        })?;
        Ok(Self { root: home.join("logs"), clock, jobs, written })
    }

    fn file(&self, key: &SessionKey) -> PathBuf {
        let directory = self.root.join(key.runtime.as_str()).join(key.endpoint.as_str());
        directory.join(format!("{}.log", key.session))
    }

    /// Keeps lines of one stream.
    async fn write(&self, key: &SessionKey, stream: LogStream, lines: &[Vec<u8>]) {
        let at = self.clock.now();
        let mut text = Vec::with_capacity(lines.iter().map(|l| l.len() + 80).sum());
        for line in lines {
            // Writing into a vector cannot fail, and a line serializes always.
            if serde_json::to_writer(&mut text, &Line::new(at, stream, line)).is_ok() {
                text.push(b'\n');
            }
        }
        let _ = self.jobs.send(Job::Write { path: self.file(key), text }).await;
    }

    /// Keeps a remark of the emulator.
    pub(super) async fn remark(&self, key: &SessionKey, text: &str) {
        self.write(key, LogStream::System, &[text.as_bytes().to_vec()]).await;
    }

    /// Takes everything a pipe gives until its end, line by line.
    pub(super) async fn pump(
        self,
        key: SessionKey,
        stream: LogStream,
        mut pipe: impl AsyncRead + Unpin,
        tail: Tail,
    ) {
        let mut splitter = Splitter::default();
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let count = pipe.read(&mut buffer).await.unwrap_or(0);
            let lines = match count {
                0 => splitter.rest(),
                _ => splitter.lines(&buffer[..count]),
            };
            if !lines.is_empty() {
                tail.add(&lines);
                self.write(&key, stream, &lines).await;
            }
            if count == 0 {
                return;
            }
        }
    }

    /// Waits until everything handed over so far is in the files.
    pub(super) async fn flush(&self) {
        let (done, answer) = oneshot::channel();
        if self.jobs.send(Job::Flush(done)).await.is_ok() {
            let _ = answer.await;
        }
    }

    /// Deletes the logs of a session.
    pub(super) async fn forget(&self, key: &SessionKey) {
        self.flush().await;
        let path = self.file(key);
        let _ = tokio::task::spawn_blocking(move || {
            let _ = fs::remove_file(rotated(&path));
            let _ = fs::remove_file(&path);
        })
        .await;
    }

    /// Deletes the logs of a runtime.
    pub(super) async fn forget_runtime(&self, runtime: &RuntimeId) {
        self.flush().await;
        let path = self.root.join(runtime.as_str());
        let _ = tokio::task::spawn_blocking(move || fs::remove_dir_all(path)).await;
    }

    /// Lines, oldest first; with `follow` it goes on until it is dropped.
    pub(super) fn stream(&self, filter: LogFilter) -> BoxStream<'static, LogEntry> {
        let logs = self.clone();
        let mut written = self.written.clone();
        let (entries, inbox) = mpsc::channel::<LogEntry>(QUEUE);
        tokio::spawn(async move {
            logs.flush().await;
            let root = logs.root;
            let follow = filter.follow;
            drop(logs.jobs);
            let mut reader = Reader { root, filter, cursors: Vec::new() };
            loop {
                written.mark_unchanged();
                let sender = entries.clone();
                let work = tokio::task::spawn_blocking(move || {
                    reader.find_files();
                    let open = reader.send_all(&sender);
                    (reader, open)
                });
                let Ok((back, open)) = work.await else { return };
                reader = back;
                if !follow || !open {
                    return;
                }
                tokio::time::sleep(FOLLOW_PAUSE).await;
                tokio::select! {
                    changed = written.changed() => if changed.is_err() { return },
                    () = entries.closed() => return,
                }
            }
        });
        Box::pin(futures_util::stream::unfold(inbox, |mut inbox| async move {
            inbox.recv().await.map(|entry| (entry, inbox))
        }))
    }
}

/// The last lines that the agent of one compute wrote.
#[derive(Clone, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn add(&self, lines: &[Vec<u8>]) {
        let mut kept = self.0.lock();
        for line in lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)) {
            if kept.len() == TAIL_LINES {
                kept.pop_front();
            }
            kept.push_back(String::from_utf8_lossy(line).chars().take(TAIL_CHARS).collect());
        }
    }

    /// Those lines, oldest first.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().iter().cloned().collect()
    }
}

/// Cuts a stream of bytes into lines of bounded length.
#[derive(Default)]
struct Splitter {
    open: Vec<u8>,
}

impl Splitter {
    fn lines(&mut self, mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        while !bytes.is_empty() {
            let room = MAX_LINE_BYTES - self.open.len();
            let end = bytes.iter().take(room).position(|b| *b == b'\n');
            let (piece, rest) = bytes.split_at(end.unwrap_or(room.min(bytes.len())));
            self.open.extend_from_slice(piece);
            bytes = rest;
            if end.is_some() {
                bytes = &bytes[1..];
                lines.push(self.take());
            } else if self.open.len() == MAX_LINE_BYTES {
                // Not inside a character, where the text allows it.
                let keep = incomplete_end(&self.open);
                let tail = self.open.split_off(self.open.len() - keep);
                lines.push(self.take());
                self.open = tail;
            }
        }
        lines
    }

    fn rest(&mut self) -> Vec<Vec<u8>> {
        if self.open.is_empty() { Vec::new() } else { vec![self.take()] }
    }

    fn take(&mut self) -> Vec<u8> {
        let mut line = std::mem::take(&mut self.open);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        line
    }
}

/// Bytes at the end of `text` that begin a UTF-8 character without finishing it.
fn incomplete_end(text: &[u8]) -> usize {
    match std::str::from_utf8(&text[text.len().saturating_sub(4)..]) {
        Err(e) if e.error_len().is_none() => text.len().min(4) - e.valid_up_to(),
        // The window itself may begin inside a character; then the end is judged by its last bytes.
        _ => (1..=3.min(text.len()))
            .find(|n| matches!(text[text.len() - n], 0xC0..))
            .filter(|n| {
                let need = match text[text.len() - n] {
                    0xF0.. => 4,
                    0xE0.. => 3,
                    _ => 2,
                };
                *n < need
            })
            .unwrap_or(0),
    }
}

fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

fn append(path: &Path, text: &[u8], max_bytes: u64) -> io::Result<()> {
    let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let mut file = match open() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().ok_or(e)?;
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            open()?
        }
        other => other?,
    };
    if file.metadata()?.len() >= max_bytes {
        fs::rename(path, rotated(path))?;
        file = open()?;
    }
    file.write_all(text)
}

/// Reads the files that a filter names.
struct Reader {
    root: PathBuf,
    filter: LogFilter,
    cursors: Vec<Cursor>,
}

impl Reader {
    /// Adds files that have appeared. Names that are no identifiers are not ours.
    fn find_files(&mut self) {
        fn names<T: std::str::FromStr>(directory: &Path, suffix: &str) -> Vec<T> {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            entries.filter_map(|e| e.file_name().to_str()?.strip_suffix(suffix)?.parse().ok()).collect()
        }
        for runtime in names::<RuntimeId>(&self.root, "") {
            if self.filter.runtime.as_ref().is_some_and(|wanted| *wanted != runtime) {
                continue;
            }
            let below = self.root.join(runtime.as_str());
            for endpoint in names::<EndpointName>(&below, "") {
                let below = below.join(endpoint.as_str());
                for session in names::<SessionId>(&below, ".log") {
                    if self.filter.session.as_ref().is_some_and(|wanted| *wanted != session) {
                        continue;
                    }
                    let path = below.join(format!("{session}.log"));
                    if !self.cursors.iter().any(|c| c.path == path) {
                        self.cursors.push(Cursor::new(path, runtime.clone(), session));
                    }
                }
            }
        }
    }

    /// Sends everything that is there, in the order of time; false when nobody listens.
    fn send_all(&mut self, sender: &mpsc::Sender<LogEntry>) -> bool {
        let mut heads: BinaryHeap<Reverse<(Timestamp, usize)>> = BinaryHeap::new();
        for (index, cursor) in self.cursors.iter_mut().enumerate() {
            heads.extend(cursor.head().map(|at| Reverse((at, index))));
        }
        while let Some(Reverse((_, index))) = heads.pop() {
            let cursor = &mut self.cursors[index];
            if let Some(entry) = cursor.ahead.pop_front()
                && sender.blocking_send(entry).is_err()
            {
                return false;
            }
            heads.extend(cursor.head().map(|at| Reverse((at, index))));
        }
        true
    }
}

/// A place in the log of one session. Holds no file open between looks.
struct Cursor {
    path: PathBuf,
    runtime: RuntimeId,
    session: SessionId,
    /// The file it is in, by inode: rotation changes names only.
    inode: Option<u64>,
    offset: u64,
    ahead: VecDeque<LogEntry>,
}

impl Cursor {
    fn new(path: PathBuf, runtime: RuntimeId, session: SessionId) -> Self {
        Self { path, runtime, session, inode: None, offset: 0, ahead: VecDeque::new() }
    }

    /// Time of the next entry, reading on if need be.
    fn head(&mut self) -> Option<Timestamp> {
        while self.ahead.is_empty() {
            if !self.read_on().unwrap_or(false) {
                return None;
            }
        }
        self.ahead.front().map(|e| e.at)
    }

    /// Reads a piece; false when there is nothing new.
    fn read_on(&mut self) -> io::Result<bool> {
        let open = |path: &Path| {
            let file = File::open(path).ok()?;
            let inode = file.metadata().ok()?.ino();
            Some((file, inode))
        };
        let files = [open(&rotated(&self.path)), open(&self.path)];
        let mut found: Vec<(File, u64)> = files.into_iter().flatten().collect();
        let here = found.iter().position(|f| Some(f.1) == self.inode).unwrap_or_else(|| {
            // The first look, or two rotations since the last one: from the oldest line there is.
            self.offset = 0;
            0
        });
        if found.is_empty() {
            return Ok(false);
        }
        let newest = found.len() == here + 1;
        let (mut file, inode) = found.swap_remove(here);
        self.inode = Some(inode);
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::new(file.take(READ_BYTES));
        let mut read = false;
        let mut line = Vec::new();
        loop {
            line.clear();
            let count = reader.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                // No line of ours is as long as a whole piece: what is, is damage, and is passed over.
                if count as u64 == READ_BYTES {
                    self.offset += READ_BYTES;
                    read = true;
                }
                break;
            }
            self.offset += count as u64;
            read = true;
            // A line that is not ours (a crash tore it) is passed over.
            if let Ok(line) = serde_json::from_slice::<Line>(&line) {
                self.ahead.push_back(LogEntry {
                    at: line.at,
                    runtime: self.runtime.clone(),
                    session: self.session.clone(),
                    stream: line.stream.as_str(),
                    message: line.text(),
                });
            }
        }
        if read {
            return Ok(true);
        }
        if !newest {
            // At the end of the older file, which is written no more: on to the newer one.
            (self.inode, self.offset) = (found.first().map(|f| f.1), 0);
        }
        Ok(!newest)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use proptest::strategy::Strategy as _;

    use super::*;

    fn key(session: char) -> SessionKey {
        SessionKey {
            runtime: "coder-AbCdEf0123".parse().unwrap(),
            endpoint: "DEFAULT".parse().unwrap(),
            session: session.to_string().repeat(33).parse().unwrap(),
        }
    }

    fn logs(home: &Path) -> Logs {
        Logs::below(home, Arc::new(Clock::system())).unwrap()
    }

    #[test]
    fn lines_are_cut_at_their_ends_and_at_the_bound() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.lines(b"a\nb"), vec![b"a".to_vec()]);
        assert_eq!(splitter.lines(b"c\r\n\n"), vec![b"bc".to_vec(), Vec::new()]);
        assert!(splitter.rest().is_empty());
        // Three-byte characters do not divide the bound: the cut moves in front of one.
        let long = "\u{20ac}".repeat(MAX_LINE_BYTES);
        let mut lines = splitter.lines(long.as_bytes());
        lines.extend(splitter.rest());
        assert!(lines.iter().all(|l| l.len() <= MAX_LINE_BYTES && std::str::from_utf8(l).is_ok()));
        assert_eq!(lines.concat(), long.as_bytes());
        // Bytes that are no text at all are cut anyway.
        for byte in [0xFFu8, 0x80, 0xE2] {
            let mut splitter = Splitter::default();
            let junk = vec![byte; 3 * MAX_LINE_BYTES + 7];
            let mut lines = splitter.lines(&junk);
            lines.extend(splitter.rest());
            assert_eq!(lines.concat(), junk);
        }
    }

    proptest::proptest! {
        #[test]
        fn where_output_is_cut_does_not_matter(
            text in proptest::collection::vec(proptest::sample::select(b"ab\r\n\xe2\x82\xac\xff".to_vec()), 0..200),
            cuts in proptest::collection::vec(0_usize..200, 0..6),
        ) {
            let split = |cuts: &[usize]| {
                let mut splitter = Splitter::default();
                let mut lines = Vec::new();
                let mut from = 0;
                for cut in cuts {
                    lines.extend(splitter.lines(&text[from..*cut]));
                    from = *cut;
                }
                lines.extend(splitter.lines(&text[from..]));
                lines.extend(splitter.rest());
                lines
            };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut expected: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
            // What follows the last line's end is a line only where there is something.
            if expected.last().is_some_and(|line| line.is_empty()) {
                expected.pop();
            }
            let expected: Vec<&[u8]> =
                expected.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
            proptest::prop_assert_eq!(split(&cuts), expected);
        }

        #[test]
        fn whatever_stands_in_a_log_its_own_lines_are_read_in_order(
            pieces in proptest::collection::vec(
                proptest::prop_oneof![
                    4 => proptest::strategy::Just(None),
                    2 => proptest::collection::vec(proptest::num::u8::ANY, 0..60).prop_map(Some),
                    1 => "\\{\"at\":-?[0-9]{1,20},\"stream\":\"(stdout|x)\",\"(message|bytes)\":[\"a-z=]{0,9}\\}?"
                        .prop_map(|text| Some(text.into_bytes())),
                    1 => (READ_BYTES - 9..READ_BYTES * 2)
                        .prop_map(|length| Some(vec![b'x'; usize::try_from(length).unwrap_or(0)])),
                ],
                0..12,
            ),
        ) {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join("s.log");
            let mut cursor = Cursor::new(path.clone(), key('a').runtime, key('a').session);
            let mut seen = Vec::new();
            let mut written = Vec::new();
            for (n, piece) in pieces.into_iter().enumerate() {
                let mut text = match piece {
                    Some(junk) => junk,
                    None => {
                        written.push(format!("own {n}"));
                        let line = Line::new(Timestamp(0), LogStream::Stdout, format!("own {n}").as_bytes());
                        serde_json::to_vec(&line).unwrap()
                    }
                };
                text.push(b'\n');
                append(&path, &text, u64::MAX).unwrap();
                while cursor.head().is_some() {
                    seen.extend(cursor.ahead.drain(..).map(|e| e.message));
                }
            }
            seen.retain(|line| line.starts_with("own "));
            proptest::prop_assert_eq!(seen, written);
        }
    }

    #[tokio::test]
    async fn streams_are_kept_merged_by_time_and_filtered() {
        let home = tempfile::tempdir().unwrap();
        let logs = logs(home.path());
        let tail = Tail::default();
        logs.clone().pump(key('a'), LogStream::Stdout, &b"one\n\xff\xfe!\n"[..], tail.clone()).await;
        logs.clone().pump(key('b'), LogStream::Stderr, &b"other"[..], Tail::default()).await;
        logs.remark(&key('a'), "started").await;
        assert_eq!(tail.lines(), ["one", "\u{fffd}\u{fffd}!"]);
        let all: Vec<_> = logs.stream(LogFilter::default()).collect().await;
        assert_eq!(all.len(), 4);
        assert!(all.windows(2).all(|w| w[0].at <= w[1].at));
        let filter = LogFilter { session: Some(key('a').session), ..LogFilter::default() };
        let seen: Vec<_> = logs.stream(filter).map(|e| (e.stream, e.message)).collect().await;
        let expected = [("stdout", "one"), ("stdout", "\u{fffd}\u{fffd}!"), ("system", "started")];
        assert_eq!(seen, expected.map(|(s, m)| (s, m.to_owned())));
        logs.forget(&key('a')).await;
        assert_eq!(logs.stream(LogFilter::default()).count().await, 1);
    }

    #[tokio::test]
    async fn a_follower_sees_lines_as_they_come() {
        let home = tempfile::tempdir().unwrap();
        let logs = logs(home.path());
        logs.remark(&key('a'), "before").await;
        let mut lines = logs.stream(LogFilter { follow: true, ..LogFilter::default() });
        assert_eq!(lines.next().await.unwrap().message, "before");
        logs.remark(&key('a'), "after").await;
        logs.remark(&key('b'), "new file").await;
        let mut seen = [lines.next().await.unwrap().message, lines.next().await.unwrap().message];
        seen.sort();
        assert_eq!(seen, ["after", "new file"]);
    }

    #[test]
    fn a_reader_loses_no_line_to_a_rotation() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("x/s.log");
        let mut cursor = Cursor::new(path.clone(), key('a').runtime, key('a').session);
        let mut seen = Vec::new();
        for n in 0..40 {
            let line = Line::new(Timestamp(n), LogStream::Stdout, n.to_string().as_bytes());
            let mut text = serde_json::to_vec(&line).unwrap();
            text.push(b'\n');
            append(&path, &text, 200).unwrap();
            // Looks now and then, at least once per file.
            if n % 3 == 0 {
                while cursor.head().is_some() {
                    seen.extend(cursor.ahead.drain(..).map(|e| e.message));
                }
            }
        }
        while cursor.head().is_some() {
            seen.extend(cursor.ahead.drain(..).map(|e| e.message));
        }
        assert!(fs::metadata(rotated(&path)).unwrap().len() < 300);
        assert_eq!(seen, (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}
