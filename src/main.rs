//! The `agentcore` program: arguments to `agentcore::cli::run`, its result to the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    agentcore::cli::run(std::env::args_os())
}
