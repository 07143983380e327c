//! The emulator's home directory: its files, and the lock that makes an emulator the only one of its home.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::super::exit::Failure;
use crate::model::AccessKey;

/// Longest path of a UNIX socket, without its final NUL. [Linux: sun_path has 108 bytes]
const SOCKET_PATH_BYTES: usize = 107;

/// A home directory.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

/// What `emulator.json` says of the running emulator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) endpoint: String,
    pub(crate) version: String,
}

impl Home {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("emulator.sock")
    }

    /// True when an emulator has kept something here.
    pub(crate) fn has_state(&self) -> bool {
        self.0.join("state.db").exists()
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.0.join("emulator.log")
    }

    /// Scratch of the engine.
    pub(crate) fn run_directory(&self) -> PathBuf {
        self.0.join("run")
    }

    fn key_file(&self) -> PathBuf {
        self.0.join("access-key.json")
    }

    /// The access key of this home's emulator; made at its first use.
    pub(crate) fn access_key(&self) -> Result<AccessKey, Failure> {
        let file = self.key_file();
        for _ in 0..2 {
            match fs::read(&file) {
                Ok(text) => {
                    return serde_json::from_slice(&text).map_err(|e| {
                        Failure::failed(format!("the access key in `{}` cannot be read: {e}", file.display()))
                            .hint("delete the file; the next `agentcore local up` makes another key")
                    });
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(self.unusable()(e)),
            }
            // Whoever of several makes it first has made it for all.
            let text = serde_json::to_vec(&AccessKey::random()).map_err(io::Error::other);
            let made = text.and_then(|text| write_new(&self.0, &file, &text));
            match made {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(self.unusable()(e)),
                _ => {}
            }
        }
        Err(self.unusable()(io::Error::from(io::ErrorKind::NotFound)))
    }

    fn running_file(&self) -> PathBuf {
        self.0.join("emulator.json")
    }

    /// Makes the directory, which nobody else may look into.
    pub(crate) fn make(&self) -> Result<(), Failure> {
        if self.socket().as_os_str().len() > SOCKET_PATH_BYTES {
            let message = format!("the path of the state directory `{}` is too long", self.0.display());
            let most = SOCKET_PATH_BYTES - "/emulator.sock".len();
            return Err(Failure::failed(message).hint(format!(
                "set `AGENTCORE_HOME` to a path of at most {most} bytes: the admin socket is in it"
            )));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(self.unusable())?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&self.0, mode).map_err(self.unusable())
    }

    /// What turns a system error into one that names this directory.
    pub(crate) fn unusable(&self) -> impl Fn(io::Error) -> Failure + '_ {
        move |e| {
            Failure::failed(format!("the state directory `{}` cannot be used: {e}", self.0.display()))
                .hint("set `AGENTCORE_HOME` to a directory that you may write to")
        }
    }

    /// Takes the lock of the one emulator; nothing when another has it. The lock ends with its holder,
    /// however that ends.
    pub(crate) fn lock(&self) -> Result<Option<Flock<File>>, Failure> {
        let file = File::options().create(true).append(true).open(self.0.join("emulator.lock"));
        let file = match file {
            Ok(file) => file,
            Err(e) => return Err(self.unusable()(e)),
        };
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, e)) => Err(self.unusable()(e.into())),
        }
    }

    /// True while an emulator holds the lock.
    pub(crate) fn is_locked(&self) -> Result<bool, Failure> {
        if !self.0.join("emulator.lock").exists() {
            return Ok(false);
        }
        Ok(self.lock()?.is_none())
    }

    /// Says who runs here. Removed when the guard is dropped.
    pub(crate) fn announce(&self, running: &Running) -> Result<Announcement, Failure> {
        let text = serde_json::to_vec_pretty(running).map_err(io::Error::other);
        let result = text.and_then(|text| write_whole(&self.running_file(), &text));
        result.map_err(self.unusable())?;
        Ok(Announcement { files: vec![self.running_file(), self.socket()] })
    }

    /// Who said last that it runs here.
    pub(crate) fn announced(&self) -> Option<Running> {
        serde_json::from_slice(&fs::read(self.running_file()).ok()?).ok()
    }
}

/// Files that are there while an emulator runs.
pub(crate) struct Announcement {
    files: Vec<PathBuf>,
}

impl Drop for Announcement {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = fs::remove_file(file);
        }
    }
}

/// Makes `file` with this content, for its owner's eyes only; whole, or not at all where it exists.
fn write_new(directory: &Path, file: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let mut scratch = tempfile::NamedTempFile::new_in(directory)?;
    scratch.write_all(content)?;
    scratch.as_file().sync_all()?;
    scratch.persist_noclobber(file).map(drop).map_err(|e| e.error)
}

/// Replaces `file` by one with this content, for its owner's eyes only; whole, or not at all. The caller has the lock of
/// those who write it: what a dead one left half written has the one name that the next one writes anew.
pub(crate) fn write_whole(file: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut scratch = file.as_os_str().to_owned();
    scratch.push(".new");
    let mut new = File::options().write(true).create(true).truncate(true).mode(0o600).open(&scratch)?;
    let written = new.write_all(content).and_then(|()| fs::rename(&scratch, file));
    if written.is_err() {
        let _ = fs::remove_file(&scratch);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_access_key_is_made_once_and_is_its_owners() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().to_owned());
        let key = home.access_key().unwrap();
        assert_eq!(home.access_key().unwrap(), key);
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&fs::metadata(home.key_file()).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        fs::write(home.key_file(), "{").unwrap();
        let failure = home.access_key().unwrap_err();
        assert!(failure.hint.unwrap().contains("delete the file"));
    }

    #[test]
    fn one_emulator_holds_a_home_and_its_end_frees_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path().join("a/b"));
        assert!(!home.is_locked().unwrap());
        home.make().unwrap();
        let lock = home.lock().unwrap().unwrap();
        assert!(home.lock().unwrap().is_none());
        assert!(home.is_locked().unwrap());
        let running = Running { pid: 1, endpoint: "http://x".into(), version: "0".into() };
        let announcement = home.announce(&running).unwrap();
        assert_eq!(home.announced().unwrap().endpoint, "http://x");
        drop(announcement);
        assert!(home.announced().is_none());
        drop(lock);
        assert!(!home.is_locked().unwrap());
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(home.path()).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn what_is_half_written_is_never_read_and_does_not_stay() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kept.json");
        write_whole(&file, b"first").unwrap();
        // By one that was killed in the middle, and had more to say.
        fs::write(dir.path().join("kept.json.new"), "second and mo").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "first");
        write_whole(&file, b"third").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "third");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        // What cannot be written leaves what was there.
        fs::create_dir(dir.path().join("kept.json.new")).unwrap();
        write_whole(&file, b"fourth").unwrap_err();
        assert_eq!(fs::read_to_string(&file).unwrap(), "third");
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_named() {
        let failure = Home::new(PathBuf::from(format!("/{}", "x".repeat(120)))).make().unwrap_err();
        assert!(failure.message.contains("too long"), "{}", failure.message);
    }
}
