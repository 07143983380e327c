//! The lock over the images that are built for a home: nobody removes any while somebody has one that nothing names yet.
//!
//! Who builds an image, or finds one built, holds the lock with others until a version or a changed source names it. Who
//! removes images has it alone, from before the question what is named until the last one has gone. It is one file below
//! the home, and ends with the process that holds it.

use std::fs::{File, TryLockError};
use std::io;

use super::ArtifactStore;

/// The file's name below a home.
const LOCK: &str = "images.lock";

/// While it lives, no image of the home is removed.
#[derive(Debug)]
pub struct ImagesHeld {
    _lock: File,
}

/// While it lives, no image of the home is built or found.
#[derive(Debug)]
pub struct ImagesAlone {
    _lock: File,
}

impl ArtifactStore {
    /// Keeps every image of the home. Nothing: somebody removes some. Waits for nobody.
    pub fn try_hold_images(&self) -> io::Result<Option<ImagesHeld>> {
        let lock = self.images_lock()?;
        Ok(given(lock.try_lock_shared())?.then_some(ImagesHeld { _lock: lock }))
    }

    /// The right to remove images of the home. Nothing: somebody holds them. Waits for nobody.
    pub fn own_images(&self) -> io::Result<Option<ImagesAlone>> {
        let lock = self.images_lock()?;
        Ok(given(lock.try_lock())?.then_some(ImagesAlone { _lock: lock }))
    }

    fn images_lock(&self) -> io::Result<File> {
        let path = self.root.with_file_name(LOCK);
        let named = |e: io::Error| io::Error::new(e.kind(), format!("`{}`: {e}", path.display()));
        File::options().create(true).append(true).open(&path).map_err(named)
    }
}

/// Whether a lock was given.
fn given(tried: Result<(), TryLockError>) -> io::Result<bool> {
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Asks until it is given: a process that another test forks has the lock, too, until it runs its program.
    fn until<T>(ask: impl Fn() -> io::Result<Option<T>>) -> T {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(given) = ask().unwrap() {
                return given;
            }
            assert!(Instant::now() < end, "the lock was not given");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn many_hold_images_and_one_removes_them() {
        let home = tempfile::tempdir().unwrap();
        let (store, other) = (ArtifactStore::below(home.path()), ArtifactStore::below(home.path()));
        let held = (store.try_hold_images().unwrap().unwrap(), other.try_hold_images().unwrap().unwrap());
        assert!(store.own_images().unwrap().is_none());
        drop(held.0);
        assert!(store.own_images().unwrap().is_none());
        drop(held.1);
        let alone = until(|| store.own_images());
        assert!(other.own_images().unwrap().is_none());
        assert!(other.try_hold_images().unwrap().is_none());
        assert!(home.path().join(LOCK).is_file());
        drop(alone);
        until(|| other.try_hold_images());
        let nowhere = ArtifactStore::below(&home.path().join("none"));
        let error = nowhere.own_images().unwrap_err().to_string();
        assert!(error.contains("images.lock"), "{error}");
    }
}
