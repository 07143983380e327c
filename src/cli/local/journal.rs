//! The emulator's own log: `emulator.log`, and `emulator.log.1` with what came before.
//!
//! Only the emulator that holds its home's lock replaces the file, so there is one that does. Others who start and find
//! out that they are too many append a line. Nothing waits for the disk to have room: a line that cannot be written
//! is lost, and so is one that the file has no place for while it cannot be replaced.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::unistd::{dup2_stderr, dup2_stdout};
use parking_lot::Mutex;

/// Most bytes of the log before it is put aside; as many more are what was put aside. [ours]
const LOG_BYTES: u64 = 4 * 1024 * 1024;

/// What `tracing` writes to: standard error, until a file is taken.
pub(crate) struct Journal(Mutex<Option<LogFile>>);

impl Journal {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Writes to this file from now on and keeps it bounded. The caller holds the lock of the home that it is in.
    pub(crate) fn take(&self, path: PathBuf) -> io::Result<()> {
        *self.0.lock() = Some(LogFile::open(path, LOG_BYTES, follow)?);
        Ok(())
    }
}

impl Write for &Journal {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &mut *self.0.lock() {
            Some(file) => file.write(line),
            None => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Notes and the last words of a panic go where the log goes.
fn follow(file: &File) -> io::Result<()> {
    dup2_stdout(file)?;
    dup2_stderr(file)?;
    Ok(())
}

/// What is done with a new file.
type Follow = fn(&File) -> io::Result<()>;

struct LogFile {
    path: PathBuf,
    file: File,
    limit: u64,
    follow: Follow,
    /// Lines that had no place.
    lost: u64,
}

impl LogFile {
    fn open(path: PathBuf, limit: u64, follow: Follow) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(&path)?;
        Ok(Self { path, file, limit, follow, lost: 0 })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Asked each time: others append too.
        let full = self.file.metadata()?.len().saturating_add(line.len() as u64) > self.limit;
        if full && let Err(e) = self.replace() {
            self.lost += 1;
            return Err(e);
        }
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            writeln!(self.file, "{lost} lines are lost: the log was full and could not be replaced")?;
        }
        self.file.write_all(line)?;
        Ok(line.len())
    }

    /// Puts the file aside and begins a new one, which is made first: where that fails nothing has changed.
    fn replace(&mut self) -> io::Result<()> {
        let beside = |ending: &str| {
            let mut name = self.path.clone().into_os_string();
            name.push(ending);
            PathBuf::from(name)
        };
        let (new, former) = (beside(".new"), beside(".1"));
        let file = File::options().create(true).append(true).open(&new)?;
        // One that a killed emulator left.
        file.set_len(0)?;
        put_aside(&self.path, &former)?;
        fs::rename(&new, &self.path)?;
        self.file = file;
        (self.follow)(&self.file)
    }
}

fn put_aside(path: &Path, former: &Path) -> io::Result<()> {
    match fs::rename(path, former) {
        // Somebody has deleted it.
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 100;

    fn log(directory: &Path) -> LogFile {
        LogFile::open(directory.join("emulator.log"), LIMIT, |_| Ok(())).unwrap()
    }

    fn text(directory: &Path, name: &str) -> String {
        fs::read_to_string(directory.join(name)).unwrap()
    }

    #[test]
    fn the_log_and_what_was_put_aside_are_bounded_and_end_with_the_newest_lines() {
        let home = tempfile::tempdir().unwrap();
        let mut log = log(home.path());
        let lines: Vec<String> = (0..100).map(|n| format!("line {n}\n")).collect();
        for line in &lines {
            log.write(line.as_bytes()).unwrap();
        }
        let (former, now) = (text(home.path(), "emulator.log.1"), text(home.path(), "emulator.log"));
        assert!(former.len() as u64 <= LIMIT && now.len() as u64 <= LIMIT, "{former}{now}");
        assert!(lines.concat().ends_with(&format!("{former}{now}")), "{former}{now}");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
        // What is longer than the whole log is still said.
        log.write("long ".repeat(100).as_bytes()).unwrap();
        assert!(text(home.path(), "emulator.log").starts_with("long "));
    }

    #[test]
    fn what_others_append_counts_and_a_deleted_log_begins_anew() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("emulator.log");
        let mut log = log(home.path());
        let mut other = File::options().append(true).open(&path).unwrap();
        other.write_all(&[b'x'; 99]).unwrap();
        log.write(b"mine\n").unwrap();
        assert_eq!(text(home.path(), "emulator.log"), "mine\n");
        fs::remove_file(&path).unwrap();
        log.write(&[b'y'; 99]).unwrap();
        log.write(b"again\n").unwrap();
        assert_eq!(text(home.path(), "emulator.log"), "again\n");
    }

    #[test]
    fn while_it_cannot_be_replaced_lines_are_lost_and_then_counted() {
        let home = tempfile::tempdir().unwrap();
        let mut log = log(home.path());
        // As where the disk has no room for another file.
        fs::create_dir(home.path().join("emulator.log.new")).unwrap();
        let written = (0..50).filter(|n| log.write(format!("line {n}\n").as_bytes()).is_ok()).count();
        assert!(text(home.path(), "emulator.log").len() as u64 <= LIMIT);
        fs::remove_dir(home.path().join("emulator.log.new")).unwrap();
        log.write(b"there is room\n").unwrap();
        let said = format!("{} lines are lost", 50 - written);
        let text = text(home.path(), "emulator.log");
        assert!(text.starts_with(&said) && text.ends_with("there is room\n"), "{text}");
    }
}
