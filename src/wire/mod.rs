//! The AWS protocol as values: paths, headers, bodies, errors and event-stream frames.
//!
//! Pure: no HTTP server, no async runtime, no emulator.

pub mod admin;
pub mod error;
pub mod eventstream;
pub mod service_model;
pub mod shape;
pub mod shell;
pub mod validate;
