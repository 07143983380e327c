//! Tables and statements of sessions: what each is stamped with, where its storage stands, live computes, events.

/// The tables, schema 1.
pub(super) const TABLES: &str = "";
