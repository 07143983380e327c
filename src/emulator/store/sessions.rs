//! Tables and statements of sessions: what each is stamped with, where its storage stands, live
//! computes, and storage that was set aside.

use rusqlite::{Connection, Row, Transaction, params};

use super::{Store, StoreError};
use crate::engine::ComputeRecord;
use crate::model::{
    EndReason, MountPath, RuntimeArn, RuntimeId, SessionKey, SessionState, Timestamp, Version,
};
use crate::storage::StorageId;

/// The tables, schema 2.
pub(super) const TABLES: &str = "
CREATE TABLE sessions (
    runtime TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    session TEXT NOT NULL,
    arn TEXT NOT NULL,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_activity_at INTEGER NOT NULL,
    last_end TEXT,
    storage INTEGER,
    storage_version INTEGER,
    mount_path TEXT,
    compute TEXT,
    engine TEXT NOT NULL DEFAULT 'embedded',
    PRIMARY KEY (runtime, endpoint, session)
) STRICT, WITHOUT ROWID;
CREATE TABLE storage_set_aside (
    runtime TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    session TEXT NOT NULL,
    storage INTEGER NOT NULL,
    version INTEGER NOT NULL,
    set_aside_at INTEGER NOT NULL,
    engine TEXT NOT NULL DEFAULT 'embedded',
    PRIMARY KEY (runtime, endpoint, session, storage)
) STRICT, WITHOUT ROWID;
";

/// From schema 1, whose every session ran on the embedded engine.
pub(super) const FROM_1: &str = "
ALTER TABLE sessions ADD COLUMN engine TEXT NOT NULL DEFAULT 'embedded';
ALTER TABLE storage_set_aside ADD COLUMN engine TEXT NOT NULL DEFAULT 'embedded';
";

/// A session's storage and what it is stamped with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageStamp {
    /// Which of the session's storages.
    pub id: StorageId,
    /// The version whose computes may see it.
    pub version: Version,
    /// Where they see it.
    pub mount_path: MountPath,
}

/// What is kept of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its key.
    pub key: SessionKey,
    /// Its runtime.
    pub arn: RuntimeArn,
    /// The version it runs, or ran last.
    pub version: Version,
    /// Where it stands.
    pub state: SessionState,
    /// When it was first called.
    pub created_at: Timestamp,
    /// Its last activity, as far as it was written.
    pub last_activity_at: Timestamp,
    /// Why its last compute ended.
    pub last_end: Option<EndReason>,
    /// Its storage.
    pub storage: Option<StorageStamp>,
    /// A compute that may still run.
    pub compute: Option<ComputeRecord>,
    /// The engine whose that compute and the storage are.
    pub engine: String,
}

/// A storage that is no longer its session's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// The session it was made for.
    pub key: SessionKey,
    /// Which of the session's storages.
    pub id: StorageId,
    /// The version it was stamped with.
    pub version: Version,
    /// When it was set aside.
    pub at: Timestamp,
    /// The engine whose it is.
    pub engine: String,
}

impl Store {
    /// Every session.
    pub async fn sessions(&self) -> Result<Vec<SessionRecord>, StoreError> {
        self.read(|c| all(c, "SELECT * FROM sessions", record)).await
    }

    /// Keeps a session and, in the same step, what was set aside of it.
    pub async fn save_session(
        &self,
        record: SessionRecord,
        aside: Option<SetAside>,
    ) -> Result<(), StoreError> {
        self.write(move |t| {
            if let Some(aside) = &aside {
                insert_aside(t, aside)?;
            }
            save(t, &record)
        })
        .await
    }

    /// Keeps times of last activity of sessions that are still known.
    pub async fn touch_sessions(&self, times: Vec<(SessionKey, Timestamp)>) -> Result<(), StoreError> {
        self.write(move |t| {
            let mut statement = t.prepare_cached(
                "UPDATE sessions SET last_activity_at = ?4
                 WHERE runtime = ?1 AND endpoint = ?2 AND session = ?3",
            )?;
            for (key, at) in &times {
                statement.execute(params![
                    key.runtime.as_str(),
                    key.endpoint.as_str(),
                    key.session.as_str(),
                    at.0
                ])?;
            }
            Ok(())
        })
        .await
    }

    /// Forgets a session and everything set aside of it.
    pub async fn forget_session(&self, key: SessionKey) -> Result<(), StoreError> {
        self.write(move |t| {
            for table in ["sessions", "storage_set_aside"] {
                let sql =
                    format!("DELETE FROM {table} WHERE runtime = ?1 AND endpoint = ?2 AND session = ?3");
                t.execute(&sql, [key.runtime.as_str(), key.endpoint.as_str(), key.session.as_str()])?;
            }
            Ok(())
        })
        .await
    }

    /// Forgets what is left of a runtime, or of one endpoint of it.
    pub async fn forget_set_aside_of(
        &self,
        runtime: RuntimeId,
        endpoint: Option<String>,
    ) -> Result<(), StoreError> {
        self.write(move |t| {
            t.execute(
                "DELETE FROM storage_set_aside WHERE runtime = ?1 AND endpoint = coalesce(?2, endpoint)",
                params![runtime.as_str(), endpoint],
            )?;
            Ok(())
        })
        .await
    }

    /// Every storage that was set aside.
    pub async fn set_aside(&self) -> Result<Vec<SetAside>, StoreError> {
        self.read(|c| all(c, "SELECT * FROM storage_set_aside", aside)).await
    }

    /// Forgets one storage that was set aside.
    pub async fn forget_set_aside(&self, key: SessionKey, id: StorageId) -> Result<(), StoreError> {
        self.write(move |t| {
            t.execute(
                "DELETE FROM storage_set_aside
                 WHERE runtime = ?1 AND endpoint = ?2 AND session = ?3 AND storage = ?4",
                params![key.runtime.as_str(), key.endpoint.as_str(), key.session.as_str(), id.0],
            )?;
            Ok(())
        })
        .await
    }
}

fn all<T>(
    connection: &Connection,
    sql: &str,
    read: fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

fn save(transaction: &Transaction<'_>, r: &SessionRecord) -> Result<(), StoreError> {
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO sessions
         (runtime, endpoint, session, arn, version, state, created_at, last_activity_at, last_end,
          storage, storage_version, mount_path, compute, engine)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    statement.execute(params![
        r.key.runtime.as_str(),
        r.key.endpoint.as_str(),
        r.key.session.as_str(),
        r.arn.to_string(),
        r.version.number(),
        word(&r.state)?,
        r.created_at.0,
        r.last_activity_at.0,
        r.last_end.as_ref().map(word).transpose()?,
        r.storage.as_ref().map(|s| s.id.0),
        r.storage.as_ref().map(|s| s.version.number()),
        r.storage.as_ref().map(|s| s.mount_path.as_str()),
        r.compute.as_ref().map(|c| c.0.as_str()),
        r.engine,
    ])?;
    Ok(())
}

fn insert_aside(transaction: &Transaction<'_>, a: &SetAside) -> Result<(), StoreError> {
    transaction.execute(
        "INSERT OR REPLACE INTO storage_set_aside (runtime, endpoint, session, storage, version, set_aside_at, engine)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            a.key.runtime.as_str(),
            a.key.endpoint.as_str(),
            a.key.session.as_str(),
            a.id.0,
            a.version.number(),
            a.at.0,
            a.engine
        ],
    )?;
    Ok(())
}

fn record(row: &Row<'_>) -> Result<SessionRecord, StoreError> {
    let storage = match row.get::<_, Option<i64>>("storage")? {
        Some(id) => Some(StorageStamp {
            id: StorageId(id),
            version: version(row, "storage_version")?,
            mount_path: parsed(row, "mount_path")?,
        }),
        None => None,
    };
    Ok(SessionRecord {
        key: key(row)?,
        arn: parsed(row, "arn")?,
        version: version(row, "version")?,
        state: from_word(&row.get::<_, String>("state")?)?,
        created_at: Timestamp(row.get("created_at")?),
        last_activity_at: Timestamp(row.get("last_activity_at")?),
        last_end: row.get::<_, Option<String>>("last_end")?.as_deref().map(from_word).transpose()?,
        storage,
        compute: row.get::<_, Option<String>>("compute")?.map(ComputeRecord),
        engine: row.get("engine")?,
    })
}

fn aside(row: &Row<'_>) -> Result<SetAside, StoreError> {
    Ok(SetAside {
        key: key(row)?,
        id: StorageId(row.get("storage")?),
        version: version(row, "version")?,
        at: Timestamp(row.get("set_aside_at")?),
        engine: row.get("engine")?,
    })
}

pub(super) fn key(row: &Row<'_>) -> Result<SessionKey, StoreError> {
    Ok(SessionKey {
        runtime: parsed(row, "runtime")?,
        endpoint: parsed(row, "endpoint")?,
        session: parsed(row, "session")?,
    })
}

fn version(row: &Row<'_>, column: &str) -> Result<Version, StoreError> {
    let number: u32 = row.get(column)?;
    number.to_string().parse().map_err(|e| corrupt(column, &e))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    row: &Row<'_>,
    column: &str,
) -> Result<T, StoreError> {
    row.get::<_, String>(column)?.parse().map_err(|e: T::Err| corrupt(column, &e))
}

fn corrupt(column: &str, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("`{column}` of a session: {reason}"))
}

/// An enum's word, the same as in JSON.
pub(super) fn word<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        other => Err(StoreError::Corrupt(format!("no word for a session's value: {other:?}"))),
    }
}

pub(super) fn from_word<T: serde::de::DeserializeOwned>(word: &str) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(word.to_owned()))
        .map_err(|e| StoreError::Corrupt(format!("`{word}` of a session: {e}")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn sessions_are_read_back_as_they_were_kept() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("new/state.db");
        let store = Store::open(&path).await.unwrap();
        let mode = std::fs::metadata(home.path().join("new")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let arn: RuntimeArn =
            "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/coder-AbCdEf0123".parse().unwrap();
        let key = SessionKey {
            runtime: arn.id.clone(),
            endpoint: "DEFAULT".parse().unwrap(),
            session: "s".repeat(33).parse().unwrap(),
        };
        let mut record = SessionRecord {
            key: key.clone(),
            arn,
            version: Version::FIRST,
            state: SessionState::Ready,
            created_at: Timestamp(5),
            last_activity_at: Timestamp(7),
            last_end: Some(EndReason::IdleTimeout),
            storage: Some(StorageStamp {
                id: StorageId(3),
                version: Version::FIRST,
                mount_path: "/mnt/w".parse().unwrap(),
            }),
            compute: Some(ComputeRecord("{\"pid\":1}".into())),
            engine: "docker".into(),
        };
        let old = SetAside {
            key: key.clone(),
            id: StorageId(2),
            version: Version::FIRST,
            at: Timestamp(6),
            engine: "embedded".into(),
        };
        store.save_session(record.clone(), Some(old.clone())).await.unwrap();
        store.touch_sessions(vec![(key.clone(), Timestamp(9)), (key.clone(), Timestamp(8))]).await.unwrap();
        // The later one stands, which is the earlier time when the clock was set back.
        record.last_activity_at = Timestamp(8);
        drop(store);
        let store = Store::open(&path).await.unwrap();
        assert_eq!(store.sessions().await.unwrap(), vec![record.clone()]);
        assert_eq!(store.set_aside().await.unwrap(), vec![old]);
        for state in SessionState::ALL {
            record.state = state;
            (record.storage, record.compute, record.last_end) = (None, None, None);
            store.save_session(record.clone(), None).await.unwrap();
            assert_eq!(store.sessions().await.unwrap(), vec![record.clone()]);
        }
        store.forget_session(key).await.unwrap();
        assert!(store.sessions().await.unwrap().is_empty());
        assert!(store.set_aside().await.unwrap().is_empty());
    }
}
