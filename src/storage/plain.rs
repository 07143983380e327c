//! The plain carrier: directories of the host.
//!
//! `<home>/storage/<runtime>/<endpoint>/<session>/<number>/data`, every part a validated identifier,
//! so no text of a caller ever becomes a path. Only `data` belongs to the session; what stands above
//! is ours, which is what lets an ordinary user move a storage whose files belong to mapped ids.
//!
//! Enforces none of the service's limits on size, count, depth or kinds of files.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::{Place, Storage, StorageError, StorageId, Usage};
use crate::model::{RuntimeId, SessionKey, Version};

const DATA: &str = "data";
/// Discarded trees wait here; no runtime id begins with a dot.
const TRASH: &str = ".discarded";

/// Storages below one emulator home.
#[derive(Debug, Clone)]
pub struct PlainStorage {
    root: PathBuf,
    /// Directories above sessions whose own entries are known to be durable: each costs a flush of the
    /// disk, and most sessions share them.
    durable: Arc<Mutex<HashSet<PathBuf>>>,
    /// Storages made before [`Storage::discard_unknown`] has looked, which their owner may not have recorded yet.
    /// Held while directories are made, so that a new one is never taken for an old one. Nothing once it has looked.
    fresh: Arc<Mutex<Option<HashSet<PathBuf>>>>,
}

impl PlainStorage {
    /// The storages below the emulator home `home`.
    pub fn below(home: &Path) -> Self {
        let fresh = Arc::new(Mutex::new(Some(HashSet::new())));
        Self { root: home.join("storage"), durable: Arc::default(), fresh }
    }

    fn session(&self, key: &SessionKey) -> PathBuf {
        self.root.join(key.runtime.as_str()).join(key.endpoint.as_str()).join(key.session.as_str())
    }

    fn storage(&self, key: &SessionKey, id: StorageId) -> PathBuf {
        self.session(key).join(id.0.to_string())
    }

    /// The directory that a compute shows.
    fn directory(&self, key: &SessionKey, id: StorageId) -> PathBuf {
        self.storage(key, id).join(DATA)
    }

    fn discard_tree(&self, path: PathBuf) -> BoxFuture<'static, Result<Vec<Place>, StorageError>> {
        let (root, durable) = (self.root.clone(), self.durable.clone());
        blocking("discarding a session's storage", move || {
            let discarded = discard(&root, &path);
            // What went may be made again; forgetting too much costs a flush and no more.
            durable.lock().clear();
            Ok(discarded?.into_iter().map(Place::Directory).collect())
        })
    }
}

impl Storage for PlainStorage {
    fn create(
        &self,
        key: &SessionKey,
        _version: Version,
        owner: Option<(u32, u32)>,
    ) -> BoxFuture<'static, Result<StorageId, StorageError>> {
        let (storages, session) = (self.clone(), self.session(key));
        blocking("making a session's storage", move || storages.make(&session, owner))
    }

    fn place(&self, key: &SessionKey, id: StorageId) -> Place {
        Place::Directory(self.directory(key, id))
    }

    fn exists(&self, key: &SessionKey, id: StorageId) -> BoxFuture<'static, Result<bool, StorageError>> {
        let data = self.directory(key, id);
        blocking("looking for a session's storage", move || data.try_exists())
    }

    fn flush(&self, key: &SessionKey, id: StorageId) -> BoxFuture<'static, Result<(), StorageError>> {
        let data = self.directory(key, id);
        // The whole file system at once: a walk could not open files that the session made unreadable.
        blocking("making a session's storage durable", move || sync_file_system(&data))
    }

    fn usage(&self, key: &SessionKey, id: StorageId) -> BoxFuture<'static, Result<Usage, StorageError>> {
        let data = self.directory(key, id);
        blocking("counting a session's storage", move || Ok(count(&data)))
    }

    fn discard(
        &self,
        key: &SessionKey,
        id: StorageId,
    ) -> BoxFuture<'static, Result<Option<Place>, StorageError>> {
        let discarded = self.discard_tree(self.storage(key, id));
        Box::pin(async move { Ok(discarded.await?.pop()) })
    }

    fn discard_session(&self, key: &SessionKey) -> BoxFuture<'static, Result<Vec<Place>, StorageError>> {
        self.discard_tree(self.session(key))
    }

    fn discard_runtime(&self, runtime: &RuntimeId) -> BoxFuture<'static, Result<Vec<Place>, StorageError>> {
        self.discard_tree(self.root.join(runtime.as_str()))
    }

    fn discard_unknown(
        &self,
        runtimes: Vec<RuntimeId>,
        known: HashSet<(SessionKey, StorageId)>,
    ) -> BoxFuture<'static, Result<Vec<Place>, StorageError>> {
        let storages = self.clone();
        blocking("looking for storage that no session knows", move || {
            let known = known.iter().map(|(key, id)| storages.storage(key, *id)).collect();
            let mut trees = Vec::new();
            for runtime in runtimes {
                for endpoint in entries(&storages.root.join(runtime.as_str()))? {
                    for session in entries(&endpoint)? {
                        storages.sweep(&session, &known, &mut trees)?;
                    }
                }
            }
            *storages.fresh.lock() = None;
            Ok(trees.into_iter().map(Place::Directory).collect())
        })
    }

    fn discarded(&self) -> BoxFuture<'static, Result<Vec<Place>, StorageError>> {
        let trash = self.root.join(TRASH);
        blocking("looking for discarded storage", move || {
            Ok(entries(&trash)?.into_iter().map(Place::Directory).collect())
        })
    }
}

/// File system calls block, some for long; they never run on a thread that serves calls.
fn blocking<T: Send + 'static>(
    context: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> BoxFuture<'static, Result<T, StorageError>> {
    Box::pin(async move {
        let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(io::Error::other(e)));
        done.map_err(|source| StorageError { context: context.to_owned(), source })
    })
}

/// Through the directory above, which is ours and on the same file system: the session may have taken
/// everybody's rights to its own.
#[cfg(target_os = "linux")]
fn sync_file_system(data: &Path) -> io::Result<()> {
    Ok(nix::unistd::syncfs(File::open(data.parent().unwrap_or(data))?)?)
}

/// Without a call for one file system, all of them.
#[cfg(not(target_os = "linux"))]
fn sync_file_system(_data: &Path) -> io::Result<()> {
    nix::unistd::sync();
    Ok(())
}

impl PlainStorage {
    fn make(&self, session: &Path, owner: Option<(u32, u32)>) -> io::Result<StorageId> {
        let mut fresh = self.fresh.lock();
        DirBuilder::new().recursive(true).mode(0o700).create(session)?;
        let (number, storage) = loop {
            let number = new_number();
            let storage = session.join(number.to_string());
            match DirBuilder::new().mode(0o700).create(&storage) {
                Ok(()) => break (number, storage),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        };
        if let Some(fresh) = &mut *fresh {
            fresh.insert(storage.clone());
        }
        drop(fresh);
        match self.furnish(session, &storage, owner) {
            Ok(()) => Ok(StorageId(number)),
            Err(e) => {
                // Nobody knows of it yet. Where not even this works, the next start finds it.
                let _ = fs::remove_dir_all(&storage);
                Err(e)
            }
        }
    }

    /// Makes a new storage usable, and durable.
    fn furnish(&self, session: &Path, storage: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
        let data = storage.join(DATA);
        DirBuilder::new().mode(0o755).create(&data)?;
        // The process's umask may have taken bits away.
        fs::set_permissions(&data, Permissions::from_mode(0o755))?;
        if let Some((user, group)) = owner {
            chown(&data, Some(user), Some(group))?;
        }
        // A directory's entry is durable once the directory above it is synced: from the leaf up to the home,
        // or up to a directory whose own entry is known to be durable.
        let above = self.root.parent().unwrap_or(&self.root);
        let mut proven = Vec::new();
        for directory in data.ancestors() {
            File::open(directory)?.sync_all()?;
            if directory == above || self.durable.lock().contains(directory) {
                break;
            }
            if !directory.starts_with(session) {
                proven.push(directory.to_owned());
            }
        }
        self.durable.lock().extend(proven);
        Ok(())
    }

    /// Discards what is unknown of one session.
    fn sweep(&self, session: &Path, known: &HashSet<PathBuf>, trees: &mut Vec<PathBuf>) -> io::Result<()> {
        let mut left = false;
        for storage in entries(session)? {
            // Held over the look and the deed: what is made from now on waits.
            let fresh = self.fresh.lock();
            if known.contains(&storage) || fresh.as_ref().is_none_or(|f| f.contains(&storage)) {
                left = true;
            } else {
                trees.extend(discard(&self.root, &storage)?);
            }
        }
        if !left {
            let _fresh = self.fresh.lock();
            // Not empty any more: then somebody has begun to use it.
            let _ = fs::remove_dir(session);
        }
        Ok(())
    }
}

/// What stands in a directory; nothing where there is none.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|e| Ok(e?.path())).collect(),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Drawn from 63 random bits. Counting on from the directories that are there would give the number of
/// a storage that has gone to a new one, while a record somewhere may still name it.
fn new_number() -> i64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    ((high ^ low) >> 1).cast_signed()
}

/// Moves a tree away in one step, so that a crash leaves it either whole or gone.
fn discard(root: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    let trash = root.join(TRASH);
    DirBuilder::new().recursive(true).mode(0o700).create(&trash)?;
    let target = trash.join(uuid::Uuid::new_v4().to_string());
    match fs::rename(path, &target) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    }
    File::open(&trash)?.sync_all()?;
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(Some(target))
}

/// Counts a tree. What vanishes or cannot be read meanwhile is left out: a session may be writing.
pub fn count(data: &Path) -> Usage {
    let mut usage = Usage::default();
    let mut open = vec![data.to_owned()];
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            // Of the entry itself: a symbolic link is never followed.
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() {
                open.push(entry.path());
            } else {
                usage.files += 1;
                usage.bytes += if about.is_file() { about.len() } else { 0 };
            }
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SessionKey {
        SessionKey {
            runtime: "coder-AbCdEf0123".parse().unwrap(),
            endpoint: "DEFAULT".parse().unwrap(),
            session: "s".repeat(40).parse().unwrap(),
        }
    }

    #[test]
    fn a_storage_without_any_rights_can_be_flushed() {
        use nix::unistd::{Gid, Uid, geteuid, setfsgid, setfsuid};
        let home = tempfile::tempdir().unwrap();
        let storage = home.path().join("1");
        let data = storage.join(DATA);
        fs::create_dir_all(&data).unwrap();
        fs::set_permissions(&data, Permissions::from_mode(0o000)).unwrap();
        if geteuid().is_root() {
            // As the ordinary user whom rights bind.
            for path in [home.path(), &storage, &data] {
                chown(path, Some(65534), Some(65534)).unwrap();
            }
        }
        let flushed = std::thread::spawn(move || {
            if geteuid().is_root() {
                setfsgid(Gid::from_raw(65534));
                setfsuid(Uid::from_raw(65534));
            }
            assert!(File::open(&data).is_err());
            sync_file_system(&data)
        });
        flushed.join().unwrap().unwrap();
    }

    #[tokio::test]
    async fn storages_are_numbered_counted_and_discarded_whole() {
        let home = tempfile::tempdir().unwrap();
        let storage = PlainStorage::below(home.path());
        let first = storage.create(&key(), Version::FIRST, None).await.unwrap();
        let second = storage.create(&key(), Version::FIRST, None).await.unwrap();
        assert_ne!(first, second);
        let data = storage.directory(&key(), first);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data), 0o755);
        assert_eq!(mode(data.parent().unwrap()), 0o700);

        fs::create_dir(data.join("d")).unwrap();
        fs::write(data.join("d/f"), b"12345").unwrap();
        std::os::unix::fs::symlink("/etc", data.join("link")).unwrap();
        storage.flush(&key(), first).await.unwrap();
        assert_eq!(storage.usage(&key(), first).await.unwrap(), Usage { bytes: 5, files: 2 });

        assert!(storage.exists(&key(), first).await.unwrap());
        let tree = storage.discard(&key(), first).await.unwrap().unwrap();
        assert!(!data.exists() && !storage.exists(&key(), first).await.unwrap());
        assert_eq!(storage.discarded().await.unwrap(), vec![tree.clone()]);
        let Place::Directory(tree) = tree else { panic!("{tree:?}") };
        assert_eq!(fs::read(tree.join("data/d/f")).unwrap(), b"12345");
        assert_eq!(storage.discard(&key(), first).await.unwrap(), None);
        assert!(storage.directory(&key(), second).exists());
        // A number is not given again, whether or not others are in use.
        let third = storage.create(&key(), Version::FIRST, None).await.unwrap();
        assert!(third != first && third != second && third.0 >= 0, "{first:?} {second:?} {third:?}");
        assert_eq!(storage.discard_session(&key()).await.unwrap().len(), 1);
        assert!(!storage.directory(&key(), second).exists());
        let fourth = storage.create(&key(), Version::FIRST, None).await.unwrap();
        assert!(![first, second, third].contains(&fourth), "{fourth:?}");
    }

    #[tokio::test]
    async fn what_was_made_and_never_recorded_is_found_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let earlier = PlainStorage::below(home.path());
        let recorded = earlier.create(&key(), Version::FIRST, None).await.unwrap();
        let lost = earlier.create(&key(), Version::FIRST, None).await.unwrap();
        let session = |c: &str| SessionKey { session: c.repeat(40).parse().unwrap(), ..key() };
        earlier.create(&session("t"), Version::FIRST, None).await.unwrap();
        // A crash between the directory of a session and that of its first storage.
        fs::create_dir(earlier.session(&session("u"))).unwrap();
        let foreign = SessionKey { runtime: "other-AbCdEf0123".parse().unwrap(), ..key() };
        let kept = earlier.create(&foreign, Version::FIRST, None).await.unwrap();

        let storage = PlainStorage::below(home.path());
        let fresh = storage.create(&key(), Version::FIRST, None).await.unwrap();
        let sweep = || storage.discard_unknown(vec![key().runtime], HashSet::from([(key(), recorded)]));
        let trees = sweep().await.unwrap();
        assert_eq!(trees.len(), 2, "{trees:?}");
        assert!(trees.iter().all(|tree| matches!(tree, Place::Directory(tree) if tree.join(DATA).exists())));
        for (key, id, there) in [(key(), recorded, true), (key(), lost, false), (key(), fresh, true)] {
            assert_eq!(storage.directory(&key, id).exists(), there, "{id:?}");
        }
        assert!(!storage.session(&session("t")).exists() && !storage.session(&session("u")).exists());
        // A runtime that nobody knows is none of its business: its records may only have been moved away.
        assert!(storage.directory(&foreign, kept).exists());
        // What is made later is recorded by its owner in its own time.
        storage.create(&key(), Version::FIRST, None).await.unwrap();
        assert!(sweep().await.unwrap().is_empty());
    }
}
