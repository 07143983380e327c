//! The relay's end in a container, beside the helper, to which it speaks as an emulator. A thread of the container's first
//! process: no process of the session can end it or look into it, and the helper has no child that is not its own.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::channels::{Channels, Progress, Target};
use super::frames::{Frame, Parcel, wrong};
use super::{After, Delivery, Dispatch, End, FAR_FIRST, FAR_SILENCE, KILL_WAIT, VERSION, failed, run};
use crate::engine::linked::Line;
use crate::engine::terminal::{Side, Typed};
use crate::engine::{TerminalSize, TerminalWindow};
use crate::helper::link::unread;
use crate::helper::proto::{Report, Request, Step};

/// Relays between a helper's line and standard streams until one of them ends. Blocks.
pub(in crate::engine::docker) fn serve(helper: OwnedFd, input: OwnedFd, output: OwnedFd) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let line = Line::new(helper)?;
        let (input, output) = (Side::new(input)?, Side::new(output)?);
        let (outgoing, frames) = mpsc::unbounded_channel();
        let channels = Channels::new(FAR_FIRST, outgoing);
        channels.send(Frame::Hello(VERSION.to_owned()));
        let ended = CancellationToken::new();
        let end = There {
            channels: channels.clone(),
            ended: ended.clone(),
            outputs: Mutex::default(),
            kills: Mutex::default(),
            terminals: Mutex::default(),
        };
        run(end, channels, frames, line, (Typed::on(&input), FAR_SILENCE), Typed::on(&output)).await;
        ended.cancel();
        Ok(())
    })
}

/// An output of a process.
struct Output {
    channel: u32,
    read: Progress,
    /// The pipe, to see what is left in it.
    pipe: OwnedFd,
}

struct There {
    channels: Channels,
    ended: CancellationToken,
    /// The outputs of every process that somebody may still write to.
    outputs: Mutex<HashMap<u64, [Output; 2]>>,
    /// Which process a request ends.
    kills: Mutex<HashMap<u64, u64>>,
    /// Processes on terminals; nothing until they have started.
    terminals: Mutex<HashMap<u64, Option<Arc<Side>>>>,
}

impl There {
    /// A pipe whose reading end is a channel: the writing end, the reading end.
    fn output(&self, channel: u32) -> io::Result<(Output, OwnedFd, OwnedFd)> {
        let (read, write) = io::pipe()?;
        let (own, helpers) = (read.try_clone()?, read.try_clone()?);
        let progress = self.channels.carry_out(channel, pipe::Receiver::from_owned_fd(read.into())?, None)?;
        Ok((Output { channel, read: progress, pipe: own.into() }, write.into(), helpers.into()))
    }

    /// Both outputs of a process that is to be started: what the helper gets of them.
    fn outputs(&self, id: u64, [output, errors]: [u32; 2]) -> io::Result<Vec<OwnedFd>> {
        let (output, write_output, read_output) = self.output(output)?;
        let (errors, write_errors, read_errors) = self.output(errors)?;
        let mut outputs = self.outputs.lock();
        outputs.retain(|_, pair| pair.iter().any(|output| !output.read.borrow().ended));
        outputs.insert(id, [output, errors]);
        Ok(vec![write_output, write_errors, read_output, read_errors])
    }

    /// That what a process wrote so far has been sent.
    fn sent(&self, process: u64) -> Vec<Target> {
        let outputs = self.outputs.lock();
        let of = |output: &Output| {
            // A pipe that cannot be asked has nothing.
            let bytes = output.read.borrow().bytes + unread(&output.pipe).unwrap_or(0);
            Target { of: output.read.clone(), bytes }
        };
        outputs.get(&process).into_iter().flatten().map(of).collect()
    }

    /// Makes a channel of what the helper hands out.
    fn hand_out(&self, id: u64, number: u32, fd: OwnedFd) -> io::Result<()> {
        if let Some(slot) = self.terminals.lock().get_mut(&id) {
            let side = Side::new(fd)?;
            self.channels.carry_in(number, Typed::on(&side))?;
            self.channels.carry_out(number, Typed::on(&side), None)?;
            *slot = Some(side);
            return Ok(());
        }
        let (from, to) = TcpStream::from_std(std::net::TcpStream::from(fd))?.into_split();
        self.channels.carry_in(number, to)?;
        self.channels.carry_out(number, from, None).map(drop)
    }

    /// Makes a channel of every connection that comes to the emulator's listener.
    fn listen(&self, listener: OwnedFd) -> io::Result<()> {
        let listener = TcpListener::from_std(listener.into())?;
        let (channels, ended) = (self.channels.clone(), self.ended.clone());
        tokio::spawn(ended.run_until_cancelled_owned(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // For want of descriptors as a rule.
                    tokio::time::sleep(super::LAST_WORDS).await;
                    continue;
                };
                // A help and no more: without it small answers go out a little later.
                let _ = stream.set_nodelay(true);
                let number = channels.number();
                let (from, to) = stream.into_split();
                // The other end makes the channel before the first bytes come.
                channels.send(Frame::Opened(number));
                if channels.carry_in(number, to).is_err() || channels.carry_out(number, from, None).is_err() {
                    channels.refuse(number);
                }
            }
        }));
        Ok(())
    }
}

impl End for There {
    fn hear(&self, mut message: Value, fds: Vec<OwnedFd>) -> io::Result<Dispatch> {
        let (mut channels, mut after) = (Vec::new(), After::default());
        let mut fds = fds.into_iter();
        match Report::deserialize(&message) {
            Ok(Report::Ready) => fds.next().map_or(Ok(()), |listener| self.listen(listener))?,
            Ok(Report::Done { id }) => {
                if let Some(process) = self.kills.lock().remove(&id) {
                    after = After { targets: self.sent(process), no_longer_than: Some(KILL_WAIT) };
                }
                if let Some(fd) = fds.next() {
                    let number = self.channels.number();
                    match self.hand_out(id, number, fd) {
                        Ok(()) => channels.push(number),
                        // For want of descriptors: one call fails, and not the session.
                        Err(e) => message = serde_json::to_value(failed(id, Step::Connect, &e))?,
                    }
                }
            }
            Ok(Report::Failed { id, .. }) => {
                self.outputs.lock().remove(&id);
                self.terminals.lock().remove(&id);
            }
            Ok(Report::Exited { process, .. }) => {
                self.terminals.lock().remove(&process);
                // What it wrote goes before the word that it has ended.
                after.targets = self.sent(process);
            }
            Err(_) => {}
        }
        Ok(Dispatch { parcel: Parcel { channels, message }, after })
    }

    fn take(&self, parcel: Parcel) -> io::Result<Option<Delivery>> {
        let Parcel { channels, message } = parcel;
        let mut fds = Vec::new();
        match Request::deserialize(&message) {
            Ok(Request::Spawn { id, .. }) => {
                let numbers =
                    <[u32; 2]>::try_from(channels).map_err(|_| wrong("a spawn without its two channels"))?;
                match self.outputs(id, numbers) {
                    Ok(given) => fds = given,
                    // For want of descriptors: one command fails, and not the session.
                    Err(e) => {
                        let message = serde_json::to_value(failed(id, Step::Fork, &e))?;
                        self.channels.send(Frame::Message(Parcel { channels: Vec::new(), message }));
                        return Ok(None);
                    }
                }
            }
            Ok(Request::Kill { id, process }) => drop(self.kills.lock().insert(id, process)),
            Ok(Request::SpawnTerminal { id, .. }) => drop(self.terminals.lock().insert(id, None)),
            Ok(Request::Resize { process, width, height }) => {
                if let Some(Some(side)) = self.terminals.lock().get(&process) {
                    // One that nobody has any more has no size.
                    let _ = Typed::on(side).resize(TerminalSize { width, height });
                }
                return Ok(None);
            }
            Ok(Request::Release { process, errors }) => {
                if let Some(outputs) = self.outputs.lock().get(&process) {
                    self.channels.stop_reading(outputs[usize::from(errors)].channel);
                }
            }
            _ => {}
        }
        Ok(Some(Delivery { message, fds, after: After::default() }))
    }

    fn meet(&self, _: &str) -> io::Result<()> {
        Err(wrong("the emulator says no hello"))
    }

    fn opened(&self, _: u32) -> io::Result<()> {
        Err(wrong("the emulator opens no channels by itself"))
    }
}
