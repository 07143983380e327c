//! The relay's end beside the emulator, to which it speaks as a helper.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::channels::{Channels, HungUp};
use super::frames::{Frame, Parcel, wrong};
use super::{After, Delivery, Dispatch, End, KILL_WAIT, NEAR_FIRST, NEAR_SILENCE, VERSION, failed, run};
use crate::engine::linked::Line;
use crate::helper::link::hung_up;
use crate::helper::proto::{Report, Request, Step};

/// Most connections out of a session that wait to be taken. [ours: one more is closed, as by a full listener]
const ARRIVING: usize = 128;

/// What the emulator has of a session behind a relay.
pub(in crate::engine::docker) struct Near {
    /// The line to its helper.
    pub(in crate::engine::docker) line: Line,
    /// Connections to the emulator's listener in it.
    pub(in crate::engine::docker) arriving: mpsc::Receiver<UnixStream>,
    /// Why the relay refused the other end, once it has.
    pub(in crate::engine::docker) refused: Arc<Mutex<Option<String>>>,
}

/// Begins to relay over the standard streams of a container.
pub(in crate::engine::docker) fn begin(
    output: impl AsyncRead + Send + Unpin + 'static,
    input: impl AsyncWrite + Send + Unpin + 'static,
) -> io::Result<Near> {
    let (ours, theirs) = StdUnixStream::pair()?;
    let (line, emulators) = (Line::new(ours.into())?, Line::new(theirs.into())?);
    let (outgoing, frames) = mpsc::unbounded_channel();
    let channels = Channels::new(NEAR_FIRST, outgoing);
    let (arrive, arriving) = mpsc::channel(ARRIVING);
    let refused = Arc::new(Mutex::new(None));
    let end = Here {
        channels: channels.clone(),
        arrive,
        refused: refused.clone(),
        outputs: Mutex::default(),
        kills: Mutex::default(),
    };
    tokio::spawn(run(end, channels, frames, line, (output, NEAR_SILENCE), input));
    Ok(Near { line: emulators, arriving, refused })
}

struct Here {
    channels: Channels,
    arrive: mpsc::Sender<UnixStream>,
    refused: Arc<Mutex<Option<String>>>,
    /// Channels of the outputs of every process.
    outputs: Mutex<HashMap<u64, [u32; 2]>>,
    /// Which process a request ends.
    kills: Mutex<HashMap<u64, u64>>,
}

impl Here {
    /// A socket for the emulator that is a channel.
    fn socket(&self, channel: u32) -> io::Result<StdUnixStream> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let watched = ours.try_clone()?;
        let (from, to) = UnixStream::from_std(ours)?.into_split();
        let closed: HungUp = Box::new(move || hung_up(&watched));
        self.channels.carry_in(channel, to)?;
        self.channels.carry_out(channel, from, Some(closed))?;
        Ok(theirs)
    }
}

impl End for Here {
    fn hear(&self, message: Value, fds: Vec<OwnedFd>) -> io::Result<Dispatch> {
        let mut channels = Vec::new();
        match Request::deserialize(&message) {
            Ok(Request::Spawn { id, .. }) => {
                // The reading ends are for a helper that shares the pipe; the other one's has its own.
                let [output, errors, ..] = <[OwnedFd; 4]>::try_from(fds)
                    .map_err(|_| wrong("a spawn without its four descriptors"))?;
                let numbers = [self.channels.number(), self.channels.number()];
                for (number, fd) in numbers.into_iter().zip([output, errors]) {
                    self.channels.carry_in(number, pipe::Sender::from_owned_fd(fd)?)?;
                }
                let mut outputs = self.outputs.lock();
                outputs.retain(|_, numbers| !self.channels.written(numbers).is_empty());
                outputs.insert(id, numbers);
                channels.extend(numbers);
            }
            Ok(Request::Kill { id, process }) => drop(self.kills.lock().insert(id, process)),
            // The plan of the session is none of the helper's messages.
            _ if fds.is_empty() => {}
            _ => return Err(wrong("a message with descriptors that nobody asked for")),
        }
        Ok(Dispatch { parcel: Parcel { channels, message }, after: After::default() })
    }

    fn take(&self, parcel: Parcel) -> io::Result<Option<Delivery>> {
        let Parcel { channels, mut message } = parcel;
        let (mut fds, mut after) = (Vec::new(), After::default());
        // Who hears of a process's end finds what it wrote in the pipes.
        let written = |process: u64| {
            let numbers = self.outputs.lock().get(&process).copied();
            self.channels.written(&numbers.into_iter().flatten().collect::<Vec<_>>())
        };
        match Report::deserialize(&message) {
            Ok(Report::Done { id }) => {
                if let Some(process) = self.kills.lock().remove(&id) {
                    after = After { targets: written(process), no_longer_than: Some(KILL_WAIT) };
                }
                for channel in channels {
                    match self.socket(channel) {
                        Ok(socket) => fds.push(socket.into()),
                        // For want of descriptors: one call fails, and not the session.
                        Err(e) => {
                            self.channels.refuse(channel);
                            message = serde_json::to_value(failed(id, Step::Connect, &e))?;
                        }
                    }
                }
            }
            Ok(Report::Failed { id, .. }) => {
                for number in self.outputs.lock().remove(&id).into_iter().flatten() {
                    self.channels.take(Frame::End(number))?;
                }
            }
            Ok(Report::Exited { process, .. }) => after.targets = written(process),
            _ => {}
        }
        Ok(Some(Delivery { message, fds, after }))
    }

    fn meet(&self, version: &str) -> io::Result<()> {
        if version == VERSION {
            return Ok(());
        }
        *self.refused.lock() = Some(format!(
            "the program in the container is version {version} of `agentcore`, and this emulator is {VERSION}: start the emulator again"
        ));
        Err(wrong("the other end is another build"))
    }

    fn opened(&self, channel: u32) -> io::Result<()> {
        match self.socket(channel).and_then(UnixStream::from_std) {
            // One that nobody takes is closed.
            Ok(socket) => drop(self.arrive.try_send(socket)),
            Err(_) => self.channels.refuse(channel),
        }
        Ok(())
    }
}
