//! The store: one SQLite file, one thread that owns the connection, every write a transaction.
//!
//! `synchronous=FULL` with WAL: when a call to [`Store::write`] has returned, a power cut does not
//! undo it. The files beside this one hold the tables and statements of each owner.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rusqlite::{Connection, OptionalExtension, Transaction};
use tokio::sync::oneshot;

pub mod events;
pub mod runtimes;
pub mod sessions;
pub mod sources;

/// Version of the schema this program writes (`PRAGMA user_version`).
pub const SCHEMA_VERSION: i64 = 1;

/// What the store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state directory cannot be made.
    #[error("the state directory `{path}` cannot be made: {source}")]
    Home {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// SQLite refused.
    #[error("the state file `{path}` cannot be used: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        #[source]
        source: rusqlite::Error,
    },
    /// The file is of a newer program.
    #[error(
        "the state file `{path}` has schema {found}; this program knows schema {SCHEMA_VERSION}: use a newer agentcore, or another AGENTCORE_HOME"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
    /// A statement failed.
    #[error("the state could not be read or written: {0}")]
    Sql(#[from] rusqlite::Error),
    /// A stored value cannot be read back.
    #[error("the state holds a value that cannot be read: {0}")]
    Corrupt(String),
    /// The thread has ended.
    #[error("the state file is closed")]
    Closed,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A handle to the store; clones share the thread.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
}

impl Store {
    /// Opens or makes the file, brings its schema up to date and starts the thread.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (opened, answer) = oneshot::channel();
        let path = path.to_owned();
        let thread = std::thread::Builder::new().name("store".into());
        let spawned = thread.spawn(move || match open(&path) {
            Ok(mut connection) => {
                let _ = opened.send(Ok(()));
                while let Ok(job) = inbox.recv() {
                    job(&mut connection);
                }
            }
            Err(e) => {
                let _ = opened.send(Err(e));
            }
        });
        spawned.map_err(|e| StoreError::Corrupt(format!("no thread for the store: {e}")))?;
        answer.await.map_err(|_| StoreError::Closed)??;
        Ok(Self { jobs })
    }

    /// Runs `work` in a transaction that is durable when this returns, or leaves no trace on an error.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.job(move |connection| {
            let transaction = connection.transaction()?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
        .await
    }

    /// Runs `work`, which only reads.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.job(move |connection| work(connection)).await
    }

    async fn job<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let _ = done.send(work(connection));
        });
        self.jobs.send(job).map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// A value of the emulator as a whole.
    pub async fn meta(&self, key: &'static str) -> Result<Option<String>, StoreError> {
        self.read(move |c| {
            Ok(c.query_row("SELECT value FROM meta WHERE key = ?1", [key], |r| r.get(0)).optional()?)
        })
        .await
    }

    /// Keeps a value of the emulator as a whole.
    pub async fn set_meta(&self, key: &'static str, value: String) -> Result<(), StoreError> {
        self.write(move |t| {
            t.execute(
                "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [key, value.as_str()],
            )?;
            Ok(())
        })
        .await
    }
}

const META_TABLES: &str = "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;";

fn open(path: &Path) -> Result<Connection, StoreError> {
    let fail = |source| StoreError::Open { path: path.to_owned(), source };
    if let Some(home) = path.parent() {
        // Readable by its owner alone; whatever else lives in the home is made below it.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(home);
        made.map_err(|source| StoreError::Home { path: home.to_owned(), source })?;
    }
    let mut connection = Connection::open(path).map_err(fail)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
    connection.pragma_update(None, "foreign_keys", "ON").map_err(fail)?;
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(fail)?;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |r| r.get(0)).map_err(fail)?;
    match found {
        0 => {
            let transaction = connection.transaction()?;
            for tables in [META_TABLES, runtimes::TABLES, sessions::TABLES, sources::TABLES, events::TABLES] {
                transaction.execute_batch(tables)?;
            }
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            transaction.commit()?;
        }
        // Tables that schema 1 got before its first release.
        SCHEMA_VERSION => {
            for tables in [sources::TABLES, events::TABLES] {
                connection.execute_batch(tables).map_err(fail)?;
            }
        }
        found => return Err(StoreError::Newer { path: path.to_owned(), found }),
    }
    Ok(connection)
}
