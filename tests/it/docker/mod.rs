//! The docker engine with a real daemon.
//!
//! Without one, or without the roots of images that `tests/lab/lab up` makes, each test is named as skipped; in CI it
//! fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod addresses;
mod apart;
pub(crate) mod daemon;
mod engine;
pub(crate) mod lab;
mod lifecycle;
mod podman;
mod projects;
mod rootless;
mod suite;
