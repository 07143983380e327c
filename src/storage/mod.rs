//! Session storage: the port and its carriers.
//!
//! A storage is a directory that one session's computes see under their mount path, one after the
//! other. It is known by its session and a number: a session that starts anew after a version update
//! gets the next number, and the replaced one stays until it is discarded.
//!
//! Knows no session states, no engines and no protocol. Files below a storage may belong to any
//! owner that the engine maps, so a discarded tree is handed back as a path for the engine to delete.

use std::collections::HashSet;
use std::path::PathBuf;

use futures_util::future::BoxFuture;

use crate::model::{RuntimeId, SessionKey};

mod plain;

pub use plain::PlainStorage;

/// Which of a session's storages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageId(pub u32);

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

/// Keeps the storages of all sessions.
pub trait Storage: Send + Sync + 'static {
    /// Makes a new empty storage, durably, that belongs to `owner` where one is given.
    fn create(
        &self,
        key: &SessionKey,
        owner: Option<(u32, u32)>,
    ) -> BoxFuture<'static, Result<StorageId, StorageError>>;

    /// The directory that a compute shows.
    fn directory(&self, key: &SessionKey, id: StorageId) -> PathBuf;

    /// Makes everything written so far durable.
    fn flush(&self, key: &SessionKey, id: StorageId) -> BoxFuture<'static, Result<(), StorageError>>;

    /// Counts what is in it.
    fn usage(&self, key: &SessionKey, id: StorageId) -> BoxFuture<'static, Result<Usage, StorageError>>;

    /// Takes a storage out of use at once and returns the tree that is to be deleted.
    fn discard(
        &self,
        key: &SessionKey,
        id: StorageId,
    ) -> BoxFuture<'static, Result<Option<PathBuf>, StorageError>>;

    /// The same for all storages of a session.
    fn discard_session(&self, key: &SessionKey) -> BoxFuture<'static, Result<Option<PathBuf>, StorageError>>;

    /// The same for all storages of a runtime.
    fn discard_runtime(
        &self,
        runtime: &RuntimeId,
    ) -> BoxFuture<'static, Result<Option<PathBuf>, StorageError>>;

    /// Takes out of use what an earlier owner made and did not live to record: of the runtimes given, every storage
    /// that is neither in `known` nor made since this value was. Returns the trees that are to be deleted. The
    /// second call finds nothing.
    fn discard_unknown(
        &self,
        runtimes: Vec<RuntimeId>,
        known: HashSet<(SessionKey, StorageId)>,
    ) -> BoxFuture<'static, Result<Vec<PathBuf>, StorageError>>;

    /// Trees that were discarded and are still there.
    fn discarded(&self) -> BoxFuture<'static, Result<Vec<PathBuf>, StorageError>>;
}
