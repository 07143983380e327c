//! `agentcore`: a developer CLI and local emulator for Amazon Bedrock AgentCore Runtime.
//!
//! The crate is a house of rooms. Each room says in its own module documentation what it is for
//! and what it must not know; `tests/it/architecture.rs` enforces who may enter which.
//!
//! | room | purpose | may use |
//! |---|---|---|
//! | [`model`] | pure values and rules, no I/O | nothing |
//! | [`wire`] | the AWS protocol as values | `model` |
//! | [`artifacts`] | the local store of code bundles | `model` |
//! | [`storage`] | session storage port and carriers | `model` |
//! | [`helper`] | what runs inside a session, and the protocol to it | `model` |
//! | [`egress`] | the way out of a session: proxy and credentials | `model` |
//! | [`engine`] | compute port and its adapters | `model`, `helper`, and `storage` as a port |
//! | [`emulator`] | the local domain: registry, sessions, lifecycle, clock | `model`, `artifacts`, `egress`, `storage` and `engine` ports |
//! | [`server`] | HTTP to domain and back | `model`, `wire`, `emulator` |
//! | [`project`] | the project file | `model` |
//! | [`ops`] | the cloud use cases: plan, then apply | `model`, `project` |
//! | [`aws`] | the only room that knows the AWS SDK | `model`, `ops` |
//! | [`build`] | from a folder to an image, by Docker's buildx | `model`, `artifacts`, `project` |
//! | [`cli`] | arguments and terminal | everything; nobody uses it |

pub mod artifacts;
pub mod aws;
pub mod build;
pub mod cli;
pub mod egress;
pub mod emulator;
pub mod engine;
pub mod helper;
pub mod model;
pub mod ops;
pub mod project;
pub mod server;
pub mod storage;
pub mod wire;
