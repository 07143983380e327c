//! Tables and statements of events: what happened to sessions, for statistics. Nothing else reads them.

use rusqlite::{Row, params};

use super::{Store, StoreError};
use crate::model::{EndReason, ResetReason, RuntimeId, SessionKey, Timestamp};

/// Events that are kept; the oldest go first. [ours: some 30 MB]
const MOST_EVENTS: i64 = 200_000;

/// The table, schema 1.
pub(super) const TABLES: &str = "
CREATE TABLE session_events (
    id INTEGER PRIMARY KEY,
    runtime TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    session TEXT NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    resumed INTEGER,
    millis INTEGER,
    files INTEGER,
    bytes INTEGER,
    reason TEXT
) STRICT;
CREATE INDEX session_events_runtime ON session_events (runtime);
";

/// Something that happened to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEvent {
    /// The session.
    pub key: SessionKey,
    /// When, by the emulator's clock.
    pub at: Timestamp,
    /// What.
    pub what: Happening,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// A compute started with empty storage, or with none.
    Started,
    /// A compute started with the storage of an earlier one.
    Resumed {
        /// Files found in it.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A compute gave its first answer to a call that succeeded.
    Answered {
        /// It had started with the storage of an earlier one.
        resumed: bool,
        /// Real time since its start was begun.
        millis: u64,
    },
    /// A compute ended, or could not be started.
    Ended(EndReason),
    /// The session lost its storage.
    Reset(ResetReason),
}

impl Store {
    /// Keeps events.
    pub async fn add_events(&self, events: Vec<SessionEvent>) -> Result<(), StoreError> {
        self.write(move |t| {
            let mut statement = t.prepare_cached(
                "INSERT INTO session_events
                 (runtime, endpoint, session, at, kind, resumed, millis, files, bytes, reason)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?;
            for event in &events {
                let (mut resumed, mut millis, mut files, mut bytes, mut reason) =
                    (None, None, None, None, None);
                // SQLite's integers have a sign; no count comes near the end of them.
                let number = |n: u64| Some(i64::try_from(n).unwrap_or(i64::MAX));
                let kind = match event.what {
                    Happening::Started => "start",
                    Happening::Resumed { files: f, bytes: b } => {
                        (files, bytes) = (number(f), number(b));
                        "resume"
                    }
                    Happening::Answered { resumed: r, millis: m } => {
                        (resumed, millis) = (Some(r), number(m));
                        "answer"
                    }
                    Happening::Ended(why) => {
                        reason = Some(super::sessions::word(&why)?);
                        "end"
                    }
                    Happening::Reset(why) => {
                        reason = Some(super::sessions::word(&why)?);
                        "reset"
                    }
                };
                statement.execute(params![
                    event.key.runtime.as_str(),
                    event.key.endpoint.as_str(),
                    event.key.session.as_str(),
                    event.at.0,
                    kind,
                    resumed,
                    millis,
                    files,
                    bytes,
                    reason
                ])?;
            }
            t.execute(
                "DELETE FROM session_events WHERE id <= (SELECT max(id) FROM session_events) - ?1",
                [MOST_EVENTS],
            )?;
            Ok(())
        })
        .await
    }

    /// Events in the order they were kept, of one runtime where that is said.
    pub async fn events(&self, runtime: Option<RuntimeId>) -> Result<Vec<SessionEvent>, StoreError> {
        self.read(move |c| {
            let mut statement =
                c.prepare("SELECT * FROM session_events WHERE ?1 IS NULL OR runtime = ?1 ORDER BY id")?;
            let mut rows = statement.query([runtime.as_ref().map(RuntimeId::as_str)])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(event(row)?);
            }
            Ok(found)
        })
        .await
    }

    /// Forgets what happened to the sessions of a runtime.
    pub async fn forget_events(&self, runtime: RuntimeId) -> Result<(), StoreError> {
        self.write(move |t| {
            t.execute("DELETE FROM session_events WHERE runtime = ?1", [runtime.as_str()])?;
            Ok(())
        })
        .await
    }
}

fn event(row: &Row<'_>) -> Result<SessionEvent, StoreError> {
    let number = |column: &str| -> Result<u64, StoreError> {
        Ok(row.get::<_, Option<i64>>(column)?.and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
    };
    let reason = || -> Result<String, StoreError> { Ok(row.get("reason")?) };
    let kind: String = row.get("kind")?;
    let what = match kind.as_str() {
        "start" => Happening::Started,
        "resume" => Happening::Resumed { files: number("files")?, bytes: number("bytes")? },
        "answer" => Happening::Answered {
            resumed: row.get::<_, Option<bool>>("resumed")?.unwrap_or(false),
            millis: number("millis")?,
        },
        "end" => Happening::Ended(super::sessions::from_word(&reason()?)?),
        "reset" => Happening::Reset(super::sessions::from_word(&reason()?)?),
        other => return Err(StoreError::Corrupt(format!("`{other}` of a session's events"))),
    };
    Ok(SessionEvent { key: super::sessions::key(row)?, at: Timestamp(row.get("at")?), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_are_read_back_as_they_were_kept_until_their_runtime_goes() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state.db");
        let store = Store::open(&path).await.unwrap();
        let key = |runtime: &str| SessionKey {
            runtime: runtime.parse().unwrap(),
            endpoint: "DEFAULT".parse().unwrap(),
            session: "s".repeat(33).parse().unwrap(),
        };
        let (one, two) = (key("coder-AbCdEf0123"), key("other-AbCdEf0123"));
        let mut whats = vec![
            Happening::Started,
            Happening::Resumed { files: 3, bytes: 1 << 40 },
            Happening::Answered { resumed: true, millis: 42 },
            Happening::Ended(EndReason::SourceChanged),
        ];
        whats.extend(ResetReason::ALL.map(Happening::Reset));
        let events: Vec<_> = whats
            .iter()
            .map(|what| SessionEvent { key: one.clone(), at: Timestamp(7), what: *what })
            .collect();
        store.add_events(events.clone()).await.unwrap();
        let other = SessionEvent { key: two.clone(), at: Timestamp(8), what: Happening::Started };
        store.add_events(vec![other.clone()]).await.unwrap();
        drop(store);
        let store = Store::open(&path).await.unwrap();
        assert_eq!(store.events(Some(one.runtime.clone())).await.unwrap(), events);
        store.forget_events(one.runtime).await.unwrap();
        assert_eq!(store.events(None).await.unwrap(), vec![other]);
    }
}
