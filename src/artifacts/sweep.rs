//! Deletes bundles that nothing names any more.
//!
//! Whoever packs a bundle, names it or starts a compute of it sets the time of its directory to now, under a lock that
//! they share ([`ArtifactStore::hold`]). The sweep has the lock for itself while it asks what is named, looks at times
//! and takes directories out of use by renaming them. So a bundle that somebody is about to name is young, and one that
//! has been taken is not found: there is no moment in between. The lock is the store's directory itself, and ends with
//! its holder. What was taken and not deleted, because the process was killed, keeps its new name and goes next time.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{ArtifactError, ArtifactStore, is_hash};

/// How long a bundle is kept that nothing names: between packing it and naming it lies a call of the control plane. [ours]
pub const GRACE: Duration = Duration::from_secs(3600);
/// What names of bundles begin with that are being made.
pub(super) const PACKING: &str = ".packing-";
/// And of those that are being deleted.
const SWEPT: &str = ".swept-";

/// What a sweep came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// So many bundles are gone.
    Bundles(usize),
    /// Bundles are being packed or started at this moment, or what is named cannot be told yet.
    Later,
}

impl ArtifactStore {
    /// Deletes bundles that are not `named` and whose time is older than `grace`. Waits for nobody. What is named is
    /// asked while no bundle can be packed, named for the first time or found; nothing: it cannot be told now.
    pub fn sweep(
        &self,
        grace: Duration,
        named: impl FnOnce() -> Option<HashSet<String>>,
    ) -> Result<Swept, ArtifactError> {
        let failed = |context: &str, source| ArtifactError::Io {
            context: format!("{context} `{}`", self.root.display()),
            source,
        };
        let lock = match File::open(&self.root) {
            Ok(lock) => lock,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Swept::Bundles(0)),
            Err(e) => return Err(failed("reading", e)),
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Swept::Later),
            Err(TryLockError::Error(e)) => return Err(failed("locking", e)),
        }
        let Some(named) = named() else { return Ok(Swept::Later) };
        let taken = self.take(&named, grace).map_err(|e| failed("reading", e))?;
        // Deleting takes longer than others should wait.
        drop(lock);
        let mut bundles = 0;
        for path in taken {
            match fs::remove_dir_all(&path) {
                Ok(()) => bundles += 1,
                // Perhaps another one was faster; else it goes next time.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => tracing::warn!("`{}` could not be deleted: {e}", path.display()),
            }
        }
        Ok(Swept::Bundles(bundles))
    }

    /// Renames what is to be deleted; gives that, and what earlier sweeps renamed.
    fn take(&self, named: &HashSet<String>, grace: Duration) -> io::Result<Vec<PathBuf>> {
        let now = SystemTime::now();
        let mut taken = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name();
            // Other names are not ours.
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(SWEPT) {
                taken.push(entry.path());
                continue;
            }
            let ours = name.starts_with(PACKING) || is_hash(name) && !named.contains(name);
            if !ours {
                continue;
            }
            let age = match entry.metadata() {
                Ok(metadata) => metadata.modified()?,
                // Whoever packed it has given up, or was faster.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            // A time that lies ahead is no age.
            if now.duration_since(age).is_ok_and(|age| age >= grace) {
                // A name of its own: the same bundle may have been left by a sweep that was killed.
                let moment = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
                let target = self.root.join(format!("{SWEPT}{moment}{name}"));
                match fs::rename(entry.path(), &target) {
                    Ok(()) => taken.push(target),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(taken)
    }

    /// Keeps sweeps out until the value is dropped; waits for one that is under way.
    pub(super) fn shared(&self) -> io::Result<File> {
        let lock = File::open(&self.root)?;
        lock.lock_shared()?;
        Ok(lock)
    }

    /// Makes a bundle young, so that whoever is about to name it has [`GRACE`] for that. False: it is not there.
    pub(super) fn hold(&self, hash: &str) -> io::Result<bool> {
        let held = self.shared().and_then(|_lock| self.hold_locked(hash));
        match held {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            held => held.map(|()| true),
        }
    }

    /// The same for whoever keeps sweeps out already.
    pub(super) fn hold_locked(&self, hash: &str) -> io::Result<()> {
        File::open(self.root.join(hash))?.set_modified(SystemTime::now())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Launch, Manifest};
    use super::*;

    const OLD: Duration = Duration::from_secs(2 * 3600);

    fn pack(store: &ArtifactStore, project: &Path, program: &str) -> String {
        let launch = Launch::Command { argv: vec![program.into()] };
        let manifest = Manifest {
            format: Manifest::FORMAT,
            launch,
            read_only: Vec::new(),
            environment: Vec::new(),
            image: None,
        };
        store.pack(project, &manifest).unwrap().hash
    }

    fn age(path: &Path) {
        File::open(path).unwrap().set_modified(SystemTime::now() - OLD).unwrap();
    }

    fn names(store: &ArtifactStore) -> HashSet<String> {
        let entries = fs::read_dir(store.root()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn set(names: &[&String]) -> HashSet<String> {
        names.iter().map(|name| (*name).clone()).collect()
    }

    #[test]
    fn what_nothing_names_goes_once_it_is_old_and_nothing_else() {
        let (home, project) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = ArtifactStore::below(home.path());
        assert_eq!(store.sweep(GRACE, || panic!("there is nothing")).unwrap(), Swept::Bundles(0));
        fs::write(project.path().join("main.py"), "x").unwrap();
        let [named, old, young, found, packed] =
            ["a", "b", "c", "d", "e"].map(|program| pack(&store, project.path(), program));
        for hash in [&named, &old, &found, &packed] {
            age(&store.root().join(hash));
        }
        // What somebody is about to name again.
        store.find(&found).unwrap();
        assert_eq!(pack(&store, project.path(), "e"), packed);
        // Of others, and of a packer that was killed long ago, and of one that packs now.
        for other in ["mine", ".packing-old", ".packing-now"] {
            fs::create_dir(store.root().join(other)).unwrap();
        }
        age(&store.root().join("mine"));
        age(&store.root().join(".packing-old"));
        assert_eq!(store.sweep(GRACE, || Some(set(&[&named]))).unwrap(), Swept::Bundles(2));
        let (mine, now) = ("mine".to_owned(), ".packing-now".to_owned());
        assert_eq!(names(&store), set(&[&named, &young, &found, &packed, &mine, &now]));
        assert!(store.find(&old).is_err());
        // Packed again, it is whole again.
        assert_eq!(pack(&store, project.path(), "b"), old);
        store.find(&old).unwrap();
    }

    #[test]
    fn a_sweep_that_was_killed_is_gone_on_with() {
        let (home, project) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = ArtifactStore::below(home.path());
        let bundle = pack(&store, project.path(), "a");
        // Killed between the rename and the end of the deletion.
        let half = store.root().join(format!("{SWEPT}{bundle}"));
        fs::rename(store.root().join(&bundle), &half).unwrap();
        fs::remove_file(half.join("manifest.json")).unwrap();
        assert!(store.find(&bundle).is_err());
        assert_eq!(pack(&store, project.path(), "a"), bundle);
        age(&store.root().join(&bundle));
        assert_eq!(store.sweep(GRACE, || Some(HashSet::new())).unwrap(), Swept::Bundles(2));
        assert_eq!(names(&store), set(&[]));
    }

    #[test]
    fn while_somebody_packs_or_finds_nothing_is_swept() {
        let (home, project) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = ArtifactStore::below(home.path());
        let bundle = pack(&store, project.path(), "a");
        age(&store.root().join(&bundle));
        let lock = store.shared().unwrap();
        assert_eq!(store.sweep(GRACE, || panic!("not asked")).unwrap(), Swept::Later);
        drop(lock);
        assert_eq!(store.sweep(GRACE, || None).unwrap(), Swept::Later);
        // Whoever wants it while the sweep asks what is named waits, and finds it gone: never half there.
        let seeker = store.clone();
        let wanted = bundle.clone();
        let mut seeking = None;
        let swept = store.sweep(GRACE, || {
            seeking = Some(std::thread::spawn(move || seeker.find(&wanted).is_ok()));
            std::thread::sleep(Duration::from_millis(20));
            Some(HashSet::new())
        });
        assert_eq!(swept.unwrap(), Swept::Bundles(1));
        assert!(!seeking.unwrap().join().unwrap());
    }

    #[test]
    fn packers_and_sweeps_race_and_a_packed_bundle_is_there() {
        let (home, project) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = ArtifactStore::below(home.path());
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (store, done) = (&store, &done);
            let sweeper = scope.spawn(move || {
                let mut swept = 0;
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    if let Swept::Bundles(bundles) = store.sweep(GRACE, || Some(HashSet::new())).unwrap() {
                        swept += bundles;
                    }
                }
                swept
            });
            for round in 0..50 {
                let bundle = pack(store, project.path(), "a");
                assert!(store.find(&bundle).is_ok(), "round {round}");
                // Long not named: from here on the sweep may have it.
                if let Ok(directory) = File::open(store.root().join(&bundle)) {
                    directory.set_modified(SystemTime::now() - OLD).unwrap();
                }
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
            assert!(sweeper.join().unwrap() <= 50);
        });
    }
}
