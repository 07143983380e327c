//! `man-pages`: the manual, for the installer and for packages.

use std::path::PathBuf;

use serde_json::json;

use super::Context;
use super::exit::{Failure, OK, Outcome};

/// Write the manual pages of every command into a directory
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore man-pages ~/.local/share/man/man1")]
pub(crate) struct ManPagesArgs {
    /// The directory, which is made where it is not there
    directory: PathBuf,
}

impl ManPagesArgs {
    pub(crate) fn exec(self, context: &Context) -> Outcome {
        let directory = context.env.directory()?.join(&self.directory);
        let unusable = |e: std::io::Error| {
            Failure::failed(format!("the manual cannot be written to `{}`: {e}", self.directory.display()))
        };
        std::fs::create_dir_all(&directory).map_err(unusable)?;
        clap_mangen::generate_to(super::command(), &directory).map_err(unusable)?;
        let shown = self.directory.display().to_string();
        context.ui.result(&json!({ "directory": shown }), format!("wrote the manual to {shown}"))?;
        Ok(OK)
    }
}
