//! The store: one SQLite file, one thread that owns the connection, every write a transaction.
//!
//! `synchronous=FULL` with WAL: when a call to [`Store::write`] has returned, a power cut does not
//! undo it. The files beside this one hold the tables and statements of each owner.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction};
use tokio::sync::oneshot;

pub mod events;
pub mod runtimes;
pub mod sessions;
pub mod sources;

/// Version of the schema this program writes (`PRAGMA user_version`).
pub const SCHEMA_VERSION: i64 = 2;

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
    /// The file is another program's, or broken.
    #[error(
        "the state file `{path}` is not one of agentcore, or is damaged ({reason}): nothing of it was read or changed; \
         move it away to begin anew (the files of sessions stay where they are), or use another AGENTCORE_HOME"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
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

/// What leads from each schema to the next, the first from schema 1.
const MIGRATIONS: [&str; 1] = [sessions::FROM_1];

const META_TABLES: &str = "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;";

fn open(path: &Path) -> Result<Connection, StoreError> {
    let fail = |source| StoreError::Open { path: path.to_owned(), source };
    if let Some(home) = path.parent() {
        // Readable by its owner alone; whatever else lives in the home is made below it.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(home);
        made.map_err(|source| StoreError::Home { path: home.to_owned(), source })?;
    }
    let mut connection = Connection::open(path).map_err(fail)?;
    // Looked at before the first setting, which would already write to it.
    let found = recognize(&connection, path)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(fail)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
    connection.pragma_update(None, "foreign_keys", "ON").map_err(fail)?;
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(fail)?;
    if found == 0 {
        let transaction = connection.transaction()?;
        for tables in [META_TABLES, runtimes::TABLES, sessions::TABLES, sources::TABLES, events::TABLES] {
            transaction.execute_batch(tables)?;
        }
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()?;
    } else if found < SCHEMA_VERSION {
        // All steps or none: a crash in between leaves the old schema.
        let transaction = connection.transaction()?;
        for step in MIGRATIONS.iter().skip(usize::try_from(found - 1).unwrap_or(usize::MAX)) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()?;
    }
    Ok(connection)
}

/// The schema of the file; 0 for one that is new. Anything but a whole file of this program is refused.
fn recognize(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let foreign = |reason: String| StoreError::Foreign { path: path.to_owned(), reason };
    let refused = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => foreign(source.to_string()),
        _ => StoreError::Open { path: path.to_owned(), source },
    };
    let number = |sql: &str| connection.query_row(sql, [], |r| r.get::<_, i64>(0)).map_err(refused);
    match number("PRAGMA user_version")? {
        0 if number("SELECT count(*) FROM sqlite_schema")? > 0 => {
            Err(foreign("it has other tables".to_owned()))
        }
        found @ 0..=SCHEMA_VERSION => {
            let said: String =
                connection.query_row("PRAGMA quick_check(1)", [], |r| r.get(0)).map_err(refused)?;
            if said == "ok" { Ok(found) } else { Err(foreign(said)) }
        }
        found if found > SCHEMA_VERSION => Err(StoreError::Newer { path: path.to_owned(), found }),
        found => Err(foreign(format!("it has schema {found}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(path: &Path) -> StoreError {
        let before = std::fs::read(path).unwrap();
        let error = Store::open(path).await.err().unwrap();
        assert_eq!(std::fs::read(path).unwrap(), before, "it was changed: {error}");
        error
    }

    #[tokio::test]
    async fn what_is_no_state_of_this_program_is_refused_unchanged() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state.db");
        std::fs::write(&path, "not SQLite, but long enough to be taken for something ".repeat(100)).unwrap();
        let error = refusal(&path).await;
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("move it away"), "{error}");
        std::fs::remove_file(&path).unwrap();

        for (version, newer) in [(0, false), (SCHEMA_VERSION + 1, true), (-1, false)] {
            let other = Connection::open(&path).unwrap();
            other
                .execute_batch("CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('mine');")
                .unwrap();
            other.pragma_update(None, "user_version", version).unwrap();
            drop(other);
            let error = refusal(&path).await;
            assert_eq!(matches!(error, StoreError::Newer { .. }), newer, "{version}: {error}");
            assert_eq!(matches!(error, StoreError::Foreign { .. }), !newer, "{version}: {error}");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[tokio::test]
    async fn a_file_of_the_first_schema_is_brought_up_to_date_with_what_it_holds() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state.db");
        let store = Store::open(&path).await.unwrap();
        store.set_meta("kept", "yes".into()).await.unwrap();
        let session = "INSERT INTO sessions VALUES ('coder-AbCdEf0123', 'DEFAULT', 'sssssssssssssssssssssssssssssssss',
            'arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/coder-AbCdEf0123', 1, 'stopped', 1, 2, NULL, 3, 1, '/mnt/w', NULL)";
        // The file as the first schema had it.
        store
            .write(move |t| {
                for table in ["sessions", "storage_set_aside"] {
                    t.execute_batch(&format!("ALTER TABLE {table} DROP COLUMN engine;"))?;
                }
                t.execute_batch(session)?;
                Ok(t.pragma_update(None, "user_version", 1)?)
            })
            .await
            .unwrap();
        drop(store);
        for _ in 0..2 {
            let store = Store::open(&path).await.unwrap();
            let sessions = store.sessions().await.unwrap();
            assert_eq!(sessions.len(), 1);
            assert_eq!(sessions[0].engine, "embedded");
            assert_eq!(store.meta("kept").await.unwrap().as_deref(), Some("yes"));
            let version = store.read(|c| Ok(c.query_row("PRAGMA user_version", [], |r| r.get::<_, i64>(0))?));
            assert_eq!(version.await.unwrap(), SCHEMA_VERSION);
        }
    }

    #[tokio::test]
    async fn a_damaged_file_is_refused_unchanged() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state.db");
        let store = Store::open(&path).await.unwrap();
        for number in 0..200 {
            store.set_meta("clock", format!("{number:01000}")).await.unwrap();
        }
        drop(store);
        // The thread closes the file, which folds the log into it.
        while home.path().join("state.db-wal").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[4096..middle].fill(0xA5);
        std::fs::write(&path, bytes).unwrap();
        let error = refusal(&path).await;
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    }
}
