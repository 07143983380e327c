//! Session storage: the port and its carriers.
//!
//! A storage is what one session's computes see under their mount path, one after the
//! other. It is known by its session and a number that is never given twice: a session that starts anew
//! after a version update gets a new one, and the replaced one stays until it is discarded. So whoever
//! still names a storage that has gone names nothing, and never one that was made later.
//!
//! Knows no session states, no engines and no protocol. [`PlainStorage`] keeps directories of the host; an engine
//! whose computes see volumes of its own brings its own carrier. Files of a storage may belong to any owner that the
//! engine maps, so a discarded one is handed back as a [`Place`] for the engine to delete.

use std::collections::HashSet;
use std::path::PathBuf;

use futures_util::future::BoxFuture;

use crate::model::{RuntimeId, SessionKey, Version};

mod plain;

pub use plain::{PlainStorage, count};

/// Which of a session's storages. Not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageId(pub i64);

/// What a storage holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of regular files, as their lengths say.
    pub bytes: u64,
    /// Entries that are no directories.
    pub files: u64,
}

/// What storage could not do.
#[derive(Debug, thiserror::Error)]
#[error("{context}: {source}")]
pub struct StorageError {
    /// What was being done.
    pub context: String,
    /// The system's error.
    #[source]
    pub source: std::io::Error,
}

/// Where the content of a storage is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// A directory of the host.
    Directory(PathBuf),
    /// A volume of a container engine, by name.
    Volume(String),
}

/// Keeps the storages of all sessions.
pub trait Storage: Send + Sync + 'static {
    /// Makes a new empty storage, durably, for a session's computes of `version`, that belongs to `owner` where one
    /// is given.
    fn create(
        &self,
        key: &SessionKey,
        version: Version,
        owner: Option<(u32, u32)>,
    ) -> BoxFuture<'static, Result<StorageId, StorageError>>;

    /// What a compute shows.
    fn place(&self, key: &SessionKey, id: StorageId) -> Place;

    /// True while it is there.
    fn exists(&self, key: &SessionKey, id: StorageId) -> BoxFuture<'static, Result<bool, StorageError>>;

    /// Makes everything written so far durable.
    fn flush(&self, key: &SessionKey, id: StorageId) -> BoxFuture<'static, Result<(), StorageError>>;

    /// Counts what is in it.
    fn usage(&self, key: &SessionKey, id: StorageId) -> BoxFuture<'static, Result<Usage, StorageError>>;

    /// Takes a storage out of use at once and returns what is to be deleted.
    fn discard(
        &self,
        key: &SessionKey,
        id: StorageId,
    ) -> BoxFuture<'static, Result<Option<Place>, StorageError>>;

    /// The same for all storages of a session.
    fn discard_session(&self, key: &SessionKey) -> BoxFuture<'static, Result<Vec<Place>, StorageError>>;

    /// The same for all storages of a runtime.
    fn discard_runtime(&self, runtime: &RuntimeId) -> BoxFuture<'static, Result<Vec<Place>, StorageError>>;

    /// Takes out of use what an earlier owner made and did not live to record: of the runtimes given, every storage
    /// that is neither in `known` nor made since this value was. Returns what is to be deleted. A later call finds what has
    /// come since then, where that can be.
    fn discard_unknown(
        &self,
        runtimes: Vec<RuntimeId>,
        known: HashSet<(SessionKey, StorageId)>,
    ) -> BoxFuture<'static, Result<Vec<Place>, StorageError>>;

    /// What was discarded and is still there.
    fn discarded(&self) -> BoxFuture<'static, Result<Vec<Place>, StorageError>>;
}
