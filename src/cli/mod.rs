//! Arguments and terminal.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs one command line.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    // Before anything else: a launcher of sessions must do nothing that starts a thread.
    if let Some(code) = crate::engine::embedded::hidden_entry(&args) {
        return code;
    }
    ExitCode::SUCCESS
}
