//! What runs inside a session, and the protocol the engines speak to it.
//!
//! [`init`] is the first process of a session: it starts the agent and every command, reaps, ends whole
//! process trees, opens connections on the session's own loopback and hands them out. [`proto`] is what it
//! is told and what it reports, [`confine`] what the processes may ask of the kernel, [`link`] carries both with their
//! file descriptors over a UNIX socket; over a [`control`] line a session is made.
//! The helper knows no namespaces, no images and no AWS: an engine builds the session around it.
//!
//! Everything here is synchronous and single-threaded; the memory of a session's first process counts
//! once per session.

pub mod confine;
pub mod control;
pub mod init;
pub mod link;
mod ports;
pub mod proto;
mod spawn;
pub mod terminal;
pub mod tree;
mod users;
