//! Tables and statements of changed sources: the code that computes of a runtime's version run in
//! place of the code that the version names.

use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError};
use crate::model::{RuntimeId, Version};

/// The table, schema 1.
pub(super) const TABLES: &str = "
CREATE TABLE sources (
    runtime TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    bundle TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Code in place of a version's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedSource {
    /// The runtime.
    pub runtime: RuntimeId,
    /// The version whose computes run it; those of other versions do not.
    pub version: Version,
    /// The bundle.
    pub bundle: String,
}

impl Store {
    /// Every changed source.
    pub async fn changed_sources(&self) -> Result<Vec<ChangedSource>, StoreError> {
        self.read(|c| {
            let mut statement = c.prepare("SELECT runtime, version, bundle FROM sources")?;
            let mut rows = statement.query([])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let (runtime, version): (String, u32) = (row.get(0)?, row.get(1)?);
                let corrupt = |reason: String| StoreError::Corrupt(format!("a changed source: {reason}"));
                found.push(ChangedSource {
                    runtime: runtime.parse().map_err(|e| corrupt(format!("`{runtime}`: {e}")))?,
                    version: version.to_string().parse().map_err(|e| corrupt(format!("{version}: {e}")))?,
                    bundle: row.get(2)?,
                });
            }
            Ok(found)
        })
        .await
    }

    /// Keeps a runtime's changed source in place of an earlier one; nothing means the version's own code.
    pub async fn change_source(
        &self,
        runtime: RuntimeId,
        changed: Option<(Version, String)>,
    ) -> Result<(), StoreError> {
        self.write(move |t| {
            let known = "SELECT 1 FROM sources WHERE runtime = ?1";
            let there = t.query_row(known, [runtime.as_str()], |_| Ok(())).optional()?.is_some();
            match changed {
                Some((version, bundle)) => t.execute(
                    "INSERT OR REPLACE INTO sources (runtime, version, bundle) VALUES (?1, ?2, ?3)",
                    params![runtime.as_str(), version.number(), bundle],
                )?,
                None if there => t.execute("DELETE FROM sources WHERE runtime = ?1", [runtime.as_str()])?,
                None => 0,
            };
            Ok(())
        })
        .await
    }
}
