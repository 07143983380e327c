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
    /// Keeps every image of the home; waits for one who removes some.
    pub fn hold_images(&self) -> io::Result<ImagesHeld> {
        let lock = self.images_lock()?;
        lock.lock_shared()?;
        Ok(ImagesHeld { _lock: lock })
    }

    /// The right to remove images of the home. Nothing: somebody holds them. Waits for nobody.
    pub fn own_images(&self) -> io::Result<Option<ImagesAlone>> {
        let lock = self.images_lock()?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(ImagesAlone { _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    fn images_lock(&self) -> io::Result<File> {
        let path = self.root.with_file_name(LOCK);
        let named = |e: io::Error| io::Error::new(e.kind(), format!("`{}`: {e}", path.display()));
        File::options().create(true).append(true).open(&path).map_err(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_hold_images_and_one_removes_them() {
        let home = tempfile::tempdir().unwrap();
        let (store, other) = (ArtifactStore::below(home.path()), ArtifactStore::below(home.path()));
        let held = (store.hold_images().unwrap(), other.hold_images().unwrap());
        assert!(store.own_images().unwrap().is_none());
        drop(held.0);
        assert!(store.own_images().unwrap().is_none());
        drop(held.1);
        let alone = store.own_images().unwrap().unwrap();
        assert!(other.own_images().unwrap().is_none());
        let waiting = std::thread::spawn(move || other.hold_images().map(drop));
        assert!(home.path().join(LOCK).is_file());
        drop(alone);
        waiting.join().unwrap().unwrap();
        let nowhere = ArtifactStore::below(&home.path().join("none"));
        let error = nowhere.own_images().unwrap_err().to_string();
        assert!(error.contains("images.lock"), "{error}");
    }
}
