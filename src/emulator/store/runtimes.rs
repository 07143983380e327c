//! Tables and statements of the registry: runtimes, versions, endpoints, tags, client tokens.

/// The tables, schema 1.
pub(super) const TABLES: &str = "";
