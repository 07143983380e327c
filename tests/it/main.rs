//! The integration tests, one binary: every module links the same program once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "clippy.toml allows these in test functions; helpers of tests fail the same way"
)]

mod architecture;
mod as_user;
mod boto3;
mod build;
mod cli;
mod cli_local;
mod cloud;
mod completion;
mod configure;
mod control;
mod cp;
mod crash;
mod docker;
mod engine;
mod escape;
mod guard;
mod install;
mod isolation;
mod keep;
mod malformed;
mod network;
mod offline;
mod process;
mod project;
mod pty;
mod recipes;
mod scale;
mod sdk;
mod semantics;
mod shells;
mod support;
mod templates;
mod terminal;
mod tls;
mod toolkit;
mod verbs;
