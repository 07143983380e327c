//! `completions`: scripts that complete the command line in a shell.

use clap_complete::Shell;
use serde_json::json;

use super::Context;
use super::exit::{OK, Outcome};

/// Print the completion script of a shell
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore completions bash > ~/.local/share/bash-completion/completions/agentcore
  agentcore completions zsh > ~/.zfunc/_agentcore
  agentcore completions fish > ~/.config/fish/completions/agentcore.fish
  agentcore completions powershell >> $PROFILE")]
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

/// The script of `shell`: a few lines that ask the program itself (`complete`). Elvish has a fixed one.
pub(super) fn script(shell: Shell) -> Vec<u8> {
    let asks: &[u8] = match shell {
        Shell::Bash => include_bytes!("../../completions/agentcore.bash"),
        Shell::Zsh => include_bytes!("../../completions/_agentcore"),
        Shell::Fish => include_bytes!("../../completions/agentcore.fish"),
        Shell::PowerShell => include_bytes!("../../completions/agentcore.ps1"),
        other => {
            let mut out = Vec::new();
            clap_complete::generate(other, &mut super::command(), "agentcore", &mut out);
            return out;
        }
    };
    asks.to_vec()
}
