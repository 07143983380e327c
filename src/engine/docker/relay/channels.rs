//! Streams of bytes that share one line: each has its own bound on what is under way, so that one that nobody reads
//! keeps no other one waiting.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::frames::{CHUNK_BYTES, Frame, wrong};

/// Most bytes of a channel that are under way in one direction. [ours: some pipes' worth; on a line of 20 ms it carries
/// 25 MB a second]
const WINDOW_BYTES: usize = 512 * 1024;
/// Most channels at once. [ours: a session's commands have two each, its agent's connections one]
const MAX_CHANNELS: usize = 16 * 1024;

/// Bytes that one half of a channel has carried, and whether it is over.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Carried {
    pub(super) bytes: u64,
    pub(super) ended: bool,
}

/// How far one half of a channel is.
pub(super) type Progress = watch::Receiver<Carried>;

/// Something to wait for: that a half has carried so much, or is over.
pub(super) struct Target {
    pub(super) of: Progress,
    pub(super) bytes: u64,
}

impl Target {
    pub(super) async fn reached(mut self) {
        // A half that was dropped is over.
        let _ = self.of.wait_for(|carried| carried.ended || carried.bytes >= self.bytes).await;
    }
}

/// Tells whether nobody has the other side of something that was read to its end any more.
pub(super) type HungUp = Box<dyn Fn() -> bool + Send>;

/// The channels of one end.
#[derive(Clone)]
pub(super) struct Channels {
    shared: Arc<Shared>,
}

struct Shared {
    outgoing: mpsc::UnboundedSender<Frame>,
    table: Mutex<Table>,
}

struct Table {
    next: u32,
    entries: HashMap<u32, Entry>,
    closed: bool,
}

#[derive(Default)]
struct Entry {
    reading: Option<Reading>,
    writing: Option<Writing>,
}

/// What is read here goes to the other end.
struct Reading {
    credit: Arc<Semaphore>,
    stop: CancellationToken,
}

/// What comes from the other end is written here.
struct Writing {
    /// Nothing once its end has come.
    queue: Option<mpsc::UnboundedSender<Bytes>>,
    /// So much more may come.
    room: usize,
    arrived: u64,
    stop: CancellationToken,
    progress: Progress,
}

impl Channels {
    /// Channels that are opened here have numbers from `first` on, every second one: the other end has those in between.
    pub(super) fn new(first: u32, outgoing: mpsc::UnboundedSender<Frame>) -> Self {
        let table = Mutex::new(Table { next: first, entries: HashMap::new(), closed: false });
        Self { shared: Arc::new(Shared { outgoing, table }) }
    }

    /// The number of a new channel.
    pub(super) fn number(&self) -> u32 {
        let mut table = self.shared.table.lock();
        let number = table.next;
        table.next = table.next.wrapping_add(2);
        number
    }

    /// Sends a frame to the other end.
    pub(super) fn send(&self, frame: Frame) {
        // Without a writer the line is over, which its reader tells.
        let _ = self.shared.outgoing.send(frame);
    }

    fn enter(&self, number: u32, add: impl FnOnce(&mut Entry)) -> io::Result<()> {
        let mut table = self.shared.table.lock();
        if table.closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if table.entries.len() >= MAX_CHANNELS && !table.entries.contains_key(&number) {
            return Err(wrong("there are too many channels"));
        }
        add(table.entries.entry(number).or_default());
        Ok(())
    }

    fn update(&self, number: u32, change: impl FnOnce(&mut Entry)) {
        let mut table = self.shared.table.lock();
        if let Some(entry) = table.entries.get_mut(&number) {
            change(entry);
            if entry.reading.is_none() && entry.writing.is_none() {
                table.entries.remove(&number);
            }
        }
    }

    /// Reads `from` to its end for the other end. Where it is the reading side of something that is written too, `hung_up`
    /// tells at its end whether writing is of no use any more.
    pub(super) fn carry_out(
        &self,
        number: u32,
        from: impl AsyncRead + Send + Unpin + 'static,
        hung_up: Option<HungUp>,
    ) -> io::Result<Progress> {
        let credit = Arc::new(Semaphore::new(WINDOW_BYTES));
        let stop = CancellationToken::new();
        let reading = Reading { credit: credit.clone(), stop: stop.clone() };
        self.enter(number, |entry| entry.reading = Some(reading))?;
        let (told, progress) = watch::channel(Carried::default());
        let channels = self.clone();
        tokio::spawn(async move {
            stop.run_until_cancelled(channels.read(number, from, &credit, &told)).await;
            channels.send(Frame::End(number));
            if hung_up.is_some_and(|hung_up| hung_up()) {
                channels.forsake(number);
            }
            channels.update(number, |entry| entry.reading = None);
            told.send_modify(|carried| carried.ended = true);
        });
        Ok(progress)
    }

    async fn read(
        &self,
        number: u32,
        mut from: impl AsyncRead + Unpin,
        credit: &Semaphore,
        told: &watch::Sender<Carried>,
    ) {
        loop {
            // Nobody else takes any, so what is there stays there.
            let Ok(first) = credit.acquire().await else { return };
            let more = credit.available_permits().min(CHUNK_BYTES - 1);
            let mut buffer = BytesMut::zeroed(more + 1);
            let Ok(count) = from.read(&mut buffer).await else { return };
            if count == 0 {
                return;
            }
            // From here to the end of the round nothing waits: what was read is counted.
            first.forget();
            if let Ok(rest) = credit.try_acquire_many(u32::try_from(count - 1).unwrap_or(u32::MAX)) {
                rest.forget();
            }
            buffer.truncate(count);
            self.send(Frame::Data(number, buffer.freeze()));
            told.send_modify(|carried| carried.bytes += count as u64);
        }
    }

    /// Writes what comes from the other end to `to`.
    pub(super) fn carry_in(
        &self,
        number: u32,
        to: impl AsyncWrite + Send + Unpin + 'static,
    ) -> io::Result<Progress> {
        let (queue, incoming) = mpsc::unbounded_channel();
        let (told, progress) = watch::channel(Carried::default());
        let stop = CancellationToken::new();
        let writing = Writing {
            queue: Some(queue),
            room: WINDOW_BYTES,
            arrived: 0,
            stop: stop.clone(),
            progress: progress.clone(),
        };
        self.enter(number, |entry| entry.writing = Some(writing))?;
        let channels = self.clone();
        tokio::spawn(async move {
            let whole = stop.run_until_cancelled(channels.write(number, to, incoming, &told)).await;
            if whole != Some(true) {
                channels.send(Frame::Gone(number));
            }
            channels.update(number, |entry| entry.writing = None);
            told.send_modify(|carried| carried.ended = true);
        });
        Ok(progress)
    }

    /// True when all there was has been written.
    async fn write(
        &self,
        number: u32,
        mut to: impl AsyncWrite + Unpin,
        mut incoming: mpsc::UnboundedReceiver<Bytes>,
        told: &watch::Sender<Carried>,
    ) -> bool {
        while let Some(bytes) = incoming.recv().await {
            if to.write_all(&bytes).await.is_err() {
                return false;
            }
            told.send_modify(|carried| carried.bytes += bytes.len() as u64);
            self.update(number, |entry| {
                if let Some(writing) = &mut entry.writing {
                    writing.room += bytes.len();
                }
            });
            self.send(Frame::Grant(number, u32::try_from(bytes.len()).unwrap_or(u32::MAX)));
        }
        // Where it can be ended in one direction.
        let _ = to.shutdown().await;
        true
    }

    /// Gives up writing to a channel that nobody reads here.
    fn forsake(&self, number: u32) {
        self.update(number, |entry| {
            if let Some(writing) = &entry.writing {
                writing.stop.cancel();
            }
        });
    }

    /// Tells the other end that a channel of its own is of no use here.
    pub(super) fn refuse(&self, number: u32) {
        self.send(Frame::Gone(number));
        self.send(Frame::End(number));
    }

    /// Gives up reading from here.
    pub(super) fn stop_reading(&self, number: u32) {
        self.update(number, |entry| {
            if let Some(reading) = &entry.reading {
                reading.stop.cancel();
            }
        });
    }

    /// That what has arrived so far on these channels is written.
    pub(super) fn written(&self, numbers: &[u32]) -> Vec<Target> {
        let table = self.shared.table.lock();
        let target = |number: &u32| {
            let writing = table.entries.get(number)?.writing.as_ref()?;
            Some(Target { of: writing.progress.clone(), bytes: writing.arrived })
        };
        numbers.iter().filter_map(target).collect()
    }

    /// Takes a frame of a channel. What belongs to no channel any more is passed over.
    pub(super) fn take(&self, frame: Frame) -> io::Result<()> {
        match frame {
            Frame::Data(number, bytes) => {
                let mut table = self.shared.table.lock();
                let writing = table.entries.get_mut(&number).and_then(|entry| entry.writing.as_mut());
                let Some(writing) = writing else { return Ok(()) };
                writing.room = writing
                    .room
                    .checked_sub(bytes.len())
                    .ok_or_else(|| wrong("more was sent than was allowed"))?;
                writing.arrived += bytes.len() as u64;
                if let Some(queue) = &writing.queue {
                    let _ = queue.send(bytes);
                }
            }
            Frame::End(number) => self.update(number, |entry| {
                if let Some(writing) = &mut entry.writing {
                    writing.queue = None;
                }
            }),
            Frame::Grant(number, bytes) => {
                let table = self.shared.table.lock();
                let reading = table.entries.get(&number).and_then(|entry| entry.reading.as_ref());
                let Some(reading) = reading else { return Ok(()) };
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                if reading.credit.available_permits().saturating_add(bytes) > WINDOW_BYTES {
                    return Err(wrong("more was allowed than there may be"));
                }
                reading.credit.add_permits(bytes);
            }
            Frame::Gone(number) => self.stop_reading(number),
            Frame::Hello(_) | Frame::Message(_) | Frame::Opened(_) | Frame::Beat => {
                return Err(wrong("a frame is no channel's"));
            }
        }
        Ok(())
    }

    /// The line is over: what has come is still written, nothing is read any more.
    pub(super) fn close(&self) {
        let mut table = self.shared.table.lock();
        table.closed = true;
        for entry in table.entries.values_mut() {
            if let Some(reading) = &entry.reading {
                reading.stop.cancel();
            }
            if let Some(writing) = &mut entry.writing {
                writing.queue = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_sends_or_allows_more_than_there_may_be_is_refused() {
        let (outgoing, mut frames) = mpsc::unbounded_channel();
        let channels = Channels::new(2, outgoing);
        let (one, two) = (channels.number(), channels.number());
        assert_eq!((one, two), (2, 4));
        // Nobody reads here, so nothing is granted anew.
        let (full, _unread) = tokio::io::duplex(1);
        channels.carry_in(one, full).unwrap();
        let piece = Bytes::from(vec![0; CHUNK_BYTES]);
        for _ in 0..WINDOW_BYTES / CHUNK_BYTES {
            channels.take(Frame::Data(one, piece.clone())).unwrap();
        }
        channels.take(Frame::Data(one, piece)).unwrap_err();
        let (silent, _writer) = tokio::io::duplex(1);
        channels.carry_out(two, silent, None).unwrap();
        channels.take(Frame::Grant(two, 1)).unwrap_err();
        // What belongs to nobody is nobody's harm.
        channels.take(Frame::Data(99, Bytes::from_static(b"late"))).unwrap();
        channels.take(Frame::Grant(99, 1)).unwrap();
        channels.take(Frame::Opened(3)).unwrap_err();
        assert!(frames.try_recv().is_err(), "nothing was asked for");
    }

    #[tokio::test]
    async fn after_the_line_is_over_what_came_is_written_and_nothing_begins() {
        let (outgoing, _frames) = mpsc::unbounded_channel();
        let channels = Channels::new(1, outgoing);
        let (to, mut reader) = tokio::io::duplex(64);
        let number = channels.number();
        channels.carry_in(number, to).unwrap();
        channels.take(Frame::Data(number, Bytes::from_static(b"the last of it"))).unwrap();
        let written = channels.written(&[number]);
        channels.close();
        for target in written {
            target.reached().await;
        }
        let mut text = String::new();
        reader.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "the last of it");
        let (to, _reader) = tokio::io::duplex(64);
        channels.carry_in(channels.number(), to).unwrap_err();
        assert!(channels.shared.table.lock().entries.is_empty());
    }
}
