//! `completions`: scripts that complete the command line in a shell.

use clap_complete::Shell;
use serde_json::json;

use super::Context;
use super::exit::{OK, Outcome};

/// Print the completion script of a shell
#[derive(clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsArgs {
    pub(crate) fn exec(self, context: &Context) -> Outcome {
        let script = script(self.shell);
        if context.ui.is_json() {
            let script = String::from_utf8_lossy(&script);
            context.ui.result(&json!({ "shell": self.shell.to_string(), "script": script }), "")?;
        } else {
            context.ui.bytes(&script)?;
        }
        Ok(OK)
    }
}

/// The script of `shell`.
pub(super) fn script(shell: Shell) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "agentcore", &mut out);
    out
}
