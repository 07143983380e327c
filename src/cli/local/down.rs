//! `local down`: ends the emulator.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Local;
use super::admin::AdminError;
use crate::cli::exit::{Failure, OK, Outcome};

/// Longest wait for the emulator's end: sessions get their grace one beside the other. [ours]
const END_TIMEOUT: Duration = Duration::from_secs(180);
/// Time between two looks whether it has ended.
const END_POLL: Duration = Duration::from_millis(10);

/// Stop every session with grace and end the emulator
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore local down")]
pub(crate) struct DownArgs {
    /// Delete every session with its storage too, and all that the docker daemon keeps of this state directory
    #[arg(long)]
    volumes: bool,
}

/// What `--volumes` deleted.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Deleted {
    pub(super) sessions: usize,
    pub(super) containers: usize,
    pub(super) volumes: usize,
    pub(super) images: usize,
}

impl DownArgs {
    pub(crate) fn exec(self, local: &Local<'_>) -> Outcome {
        let ui = &local.context.ui;
        local.context.block_on(async {
            let was_running = end(local).await?;
            let said = if was_running { "the emulator has ended" } else { "no emulator was running" };
            if !self.volumes {
                ui.result(&json!({ "wasRunning": was_running }), said)?;
                return Ok(OK);
            }
            let deleted = local.delete_sessions().await?;
            let Deleted { sessions, containers, volumes, images } = deleted;
            let text = format!(
                "{said}; deleted {sessions} sessions, {volumes} volumes, {containers} containers and {images} images"
            );
            ui.result(&json!({ "wasRunning": was_running, "deleted": deleted }), &text)?;
            Ok(OK)
        })
    }
}

/// Ends the emulator. False when none was running.
async fn end(local: &Local<'_>) -> Result<bool, Failure> {
    match local.admin().shutdown().await {
        Ok(()) => {}
        Err(AdminError::Down(_)) if !local.home.is_locked()? => return Ok(false),
        // It starts or ends right now: the wait below tells which.
        Err(AdminError::Down(_)) => {}
        Err(e) => return Err(e.into()),
    }
    let _spinner = local.context.ui.spinner("stopping every session");
    let deadline = Instant::now() + END_TIMEOUT;
    while local.home.is_locked()? {
        if Instant::now() >= deadline {
            let pid = local.home.announced().map_or_else(String::new, |r| format!(" (process {})", r.pid));
            return Err(Failure::failed(format!("the emulator{pid} has not ended yet")));
        }
        tokio::time::sleep(END_POLL).await;
    }
    Ok(true)
}
