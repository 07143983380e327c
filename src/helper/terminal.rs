//! Terminals for processes of a session, out of the session's own `/dev/pts`.

// Setting a terminal's size is an `ioctl` without a safe wrapper.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;

/// Both sides of a terminal.
pub(super) struct Terminal {
    /// The side of whoever looks at it.
    pub(super) master: OwnedFd,
    /// The side of the process.
    pub(super) slave: OwnedFd,
}

impl Terminal {
    /// Makes one of this size.
    pub(super) fn open(width: u16, height: u16) -> nix::Result<Self> {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname_r(&master)?;
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let slave = open(name.as_str(), flags, Mode::empty())?;
        let master = owned(master);
        resize(&master, width, height).map_err(|_| nix::errno::Errno::last())?;
        Ok(Self { master, slave })
    }
}

fn owned(master: PtyMaster) -> OwnedFd {
    master.into()
}

/// Gives a terminal another size; its processes are told by SIGWINCH.
pub fn resize(master: &OwnedFd, width: u16, height: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open, and the call reads the live structure and nothing else.
    let done = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_two_sides_and_a_size() {
        let terminal = Terminal::open(80, 24).unwrap();
        let slave = std::fs::File::from(terminal.slave);
        nix::unistd::write(&terminal.master, b"typed\n").unwrap();
        let mut line = [0_u8; 16];
        let read = std::io::Read::read(&mut &slave, &mut line).unwrap();
        assert_eq!(&line[..read], b"typed\n");
        resize(&terminal.master, 120, 40).unwrap();
        // SAFETY: an all-zero window size is one.
        let mut size: libc::winsize = unsafe { std::mem::zeroed() };
        // SAFETY: the call writes the live structure and nothing else.
        let done = unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
        assert_eq!((done, size.ws_col, size.ws_row), (0, 120, 40));
    }
}
