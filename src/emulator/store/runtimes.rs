//! Tables and statements of the registry: runtimes, versions, endpoints, tags, client tokens.
//!
//! Rows are plain values; what they mean is the registry's business.

use rusqlite::{Connection, Row, Transaction, params};

use super::StoreError;

/// The tables, schema 1.
pub(super) const TABLES: &str = "
CREATE TABLE runtimes (
    sequence   INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    name       TEXT NOT NULL UNIQUE,
    status     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE TABLE runtime_versions (
    runtime_id TEXT NOT NULL REFERENCES runtimes (id) ON DELETE CASCADE,
    version    INTEGER NOT NULL,
    settings   TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (runtime_id, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE runtime_endpoints (
    runtime_id     TEXT NOT NULL REFERENCES runtimes (id) ON DELETE CASCADE,
    name           TEXT NOT NULL,
    id             TEXT NOT NULL,
    description    TEXT,
    status         TEXT NOT NULL,
    live_version   INTEGER,
    target_version INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    PRIMARY KEY (runtime_id, name)
) STRICT, WITHOUT ROWID;
-- An empty endpoint stands for the runtime itself.
CREATE TABLE runtime_tags (
    runtime_id TEXT NOT NULL REFERENCES runtimes (id) ON DELETE CASCADE,
    endpoint   TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      TEXT NOT NULL,
    PRIMARY KEY (runtime_id, endpoint, key)
) STRICT, WITHOUT ROWID;
-- Outlives its runtime: the token of a deletion is still good for a repeated deletion.
CREATE TABLE client_tokens (
    operation   TEXT NOT NULL,
    token       TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    runtime_id  TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (operation, token)
) STRICT, WITHOUT ROWID;
";

/// A runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeRow {
    /// Order of creation.
    pub sequence: i64,
    pub id: String,
    pub name: String,
    pub status: String,
    pub created_at: i64,
    pub updated_at: i64,
}

/// A version of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    pub runtime_id: String,
    pub version: u32,
    /// JSON.
    pub settings: String,
    pub created_at: i64,
}

/// An endpoint of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRow {
    pub runtime_id: String,
    pub name: String,
    pub id: String,
    pub description: Option<String>,
    pub status: String,
    pub live_version: Option<u32>,
    pub target_version: u32,
    pub created_at: i64,
    pub updated_at: i64,
}

/// A tag of a runtime, or of one of its endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRow {
    pub runtime_id: String,
    /// Empty for the runtime itself.
    pub endpoint: String,
    pub key: String,
    pub value: String,
}

/// What a call with a client token was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    pub operation: String,
    pub token: String,
    pub fingerprint: String,
    pub runtime_id: String,
    /// JSON.
    pub outcome: String,
    pub created_at: i64,
}

/// Everything the registry keeps.
#[derive(Debug, Default)]
pub struct Rows {
    pub runtimes: Vec<RuntimeRow>,
    pub versions: Vec<VersionRow>,
    pub endpoints: Vec<EndpointRow>,
    pub tags: Vec<TagRow>,
    pub tokens: Vec<TokenRow>,
}

/// A change of one row, or of rows that change together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes a runtime or changes its status and time.
    PutRuntime(RuntimeRow),
    /// Makes a version, or says what became of its code package.
    PutVersion(VersionRow),
    /// Removes a version.
    DeleteVersion { runtime_id: String, version: u32 },
    /// Makes or changes an endpoint.
    PutEndpoint(EndpointRow),
    /// Removes an endpoint and its tags.
    DeleteEndpoint { runtime_id: String, name: String },
    /// Makes or changes a tag.
    PutTag(TagRow),
    /// Removes a tag.
    DeleteTag { runtime_id: String, endpoint: String, key: String },
    /// Removes a runtime with everything below it, and every token of it but those of `keep_operation`.
    DeleteRuntime { runtime_id: String, keep_operation: &'static str },
    /// Remembers a token.
    PutToken(TokenRow),
    /// Forgets the tokens made before a time.
    DeleteTokensBefore(i64),
}

/// Makes changes, in their order.
pub fn apply(transaction: &Transaction<'_>, changes: &[Change]) -> Result<(), StoreError> {
    for change in changes {
        match change {
            Change::PutRuntime(r) => run(
                transaction,
                "INSERT INTO runtimes (sequence, id, name, status, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (id) DO UPDATE SET status = excluded.status, updated_at = excluded.updated_at",
                params![r.sequence, r.id, r.name, r.status, r.created_at, r.updated_at],
            )?,
            Change::PutVersion(v) => run(
                transaction,
                "INSERT INTO runtime_versions (runtime_id, version, settings, created_at) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (runtime_id, version) DO UPDATE SET settings = excluded.settings",
                params![v.runtime_id, v.version, v.settings, v.created_at],
            )?,
            Change::DeleteVersion { runtime_id, version } => run(
                transaction,
                "DELETE FROM runtime_versions WHERE runtime_id = ?1 AND version = ?2",
                params![runtime_id, version],
            )?,
            Change::PutEndpoint(e) => run(
                transaction,
                "INSERT INTO runtime_endpoints
                     (runtime_id, name, id, description, status, live_version, target_version, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (runtime_id, name) DO UPDATE SET description = excluded.description,
                     status = excluded.status, live_version = excluded.live_version,
                     target_version = excluded.target_version, updated_at = excluded.updated_at",
                params![
                    e.runtime_id,
                    e.name,
                    e.id,
                    e.description,
                    e.status,
                    e.live_version,
                    e.target_version,
                    e.created_at,
                    e.updated_at
                ],
            )?,
            Change::DeleteEndpoint { runtime_id, name } => {
                let both = params![runtime_id, name];
                run(transaction, "DELETE FROM runtime_tags WHERE runtime_id = ?1 AND endpoint = ?2", both)?;
                run(transaction, "DELETE FROM runtime_endpoints WHERE runtime_id = ?1 AND name = ?2", both)?;
            }
            Change::PutTag(t) => run(
                transaction,
                "INSERT INTO runtime_tags (runtime_id, endpoint, key, value) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (runtime_id, endpoint, key) DO UPDATE SET value = excluded.value",
                params![t.runtime_id, t.endpoint, t.key, t.value],
            )?,
            Change::DeleteTag { runtime_id, endpoint, key } => run(
                transaction,
                "DELETE FROM runtime_tags WHERE runtime_id = ?1 AND endpoint = ?2 AND key = ?3",
                params![runtime_id, endpoint, key],
            )?,
            Change::DeleteRuntime { runtime_id, keep_operation } => {
                run(transaction, "DELETE FROM runtimes WHERE id = ?1", params![runtime_id])?;
                run(
                    transaction,
                    "DELETE FROM client_tokens WHERE runtime_id = ?1 AND operation <> ?2",
                    params![runtime_id, keep_operation],
                )?;
            }
            Change::PutToken(t) => run(
                transaction,
                "INSERT OR REPLACE INTO client_tokens (operation, token, fingerprint, runtime_id, outcome, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![t.operation, t.token, t.fingerprint, t.runtime_id, t.outcome, t.created_at],
            )?,
            Change::DeleteTokensBefore(time) => {
                run(transaction, "DELETE FROM client_tokens WHERE created_at < ?1", params![time])?;
            }
        }
    }
    Ok(())
}

/// Reads everything, runtimes in their order of creation.
pub fn load(connection: &Connection) -> Result<Rows, StoreError> {
    Ok(Rows {
        runtimes: rows(
            connection,
            "SELECT sequence, id, name, status, created_at, updated_at FROM runtimes ORDER BY sequence",
            |r| {
                Ok(RuntimeRow {
                    sequence: r.get(0)?,
                    id: r.get(1)?,
                    name: r.get(2)?,
                    status: r.get(3)?,
                    created_at: r.get(4)?,
                    updated_at: r.get(5)?,
                })
            },
        )?,
        versions: rows(
            connection,
            "SELECT runtime_id, version, settings, created_at FROM runtime_versions ORDER BY runtime_id, version",
            |r| {
                Ok(VersionRow {
                    runtime_id: r.get(0)?,
                    version: r.get(1)?,
                    settings: r.get(2)?,
                    created_at: r.get(3)?,
                })
            },
        )?,
        endpoints: rows(
            connection,
            "SELECT runtime_id, name, id, description, status, live_version, target_version, created_at, updated_at
             FROM runtime_endpoints ORDER BY runtime_id, name",
            |r| {
                Ok(EndpointRow {
                    runtime_id: r.get(0)?,
                    name: r.get(1)?,
                    id: r.get(2)?,
                    description: r.get(3)?,
                    status: r.get(4)?,
                    live_version: r.get(5)?,
                    target_version: r.get(6)?,
                    created_at: r.get(7)?,
                    updated_at: r.get(8)?,
                })
            },
        )?,
        tags: rows(connection, "SELECT runtime_id, endpoint, key, value FROM runtime_tags", |r| {
            Ok(TagRow { runtime_id: r.get(0)?, endpoint: r.get(1)?, key: r.get(2)?, value: r.get(3)? })
        })?,
        tokens: rows(
            connection,
            "SELECT operation, token, fingerprint, runtime_id, outcome, created_at FROM client_tokens",
            |r| {
                Ok(TokenRow {
                    operation: r.get(0)?,
                    token: r.get(1)?,
                    fingerprint: r.get(2)?,
                    runtime_id: r.get(3)?,
                    outcome: r.get(4)?,
                    created_at: r.get(5)?,
                })
            },
        )?,
    })
}

fn run(transaction: &Transaction<'_>, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<(), StoreError> {
    transaction.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let found = statement.query_map([], read)?.collect::<rusqlite::Result<Vec<T>>>()?;
    Ok(found)
}
