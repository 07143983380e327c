//! The user's terminal as raw keys, and what it was again afterwards.

use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

use super::exit::Failure;

/// Bytes of one read.
const READ_BYTES: usize = 4096;
/// Pieces of input that wait. [ours]
const WAITING: usize = 16;

/// True when a person sits at both ends.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Columns and rows of the terminal.
pub(crate) fn size() -> (u16, u16) {
    let (rows, columns) = console::Term::stdout().size();
    (columns.max(1), rows.max(1))
}

/// Raw mode; the mode before comes back when this is dropped.
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    pub(crate) fn enter() -> Result<Self, Failure> {
        let failed = |e| Failure::failed(format!("the terminal cannot be used: {e}"));
        let stdin = std::io::stdin();
        let before = tcgetattr(stdin.as_fd()).map_err(failed)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin.as_fd(), SetArg::TCSADRAIN, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone has no mode to restore.
        let _ = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSADRAIN, &self.before);
    }
}

/// What is typed, as it comes. A thread of its own reads: a read of a terminal cannot be given up, and the
/// program's end ends it.
pub(crate) fn typed() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut buffer = vec![0; READ_BYTES];
        let mut stdin = std::io::stdin();
        while let Ok(count) = stdin.read(&mut buffer) {
            let piece = buffer.get(..count).unwrap_or_default().to_vec();
            if count == 0 || sender.blocking_send(piece).is_err() {
                return;
            }
        }
    });
    receiver
}
