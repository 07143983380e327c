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
pub(crate) struct DownArgs {}

impl DownArgs {
    pub(crate) fn exec(self, local: &Local<'_>) -> Outcome {
        let ui = &local.context.ui;
        local.context.block_on(async {
            match local.admin().shutdown().await {
                Ok(()) => {}
                Err(AdminError::Down(_)) if !local.home.is_locked()? => {
                    ui.result(&json!({ "wasRunning": false }), "no emulator was running")?;
                    return Ok(OK);
                }
                // It starts or ends right now: the wait below tells which.
                Err(AdminError::Down(_)) => {}
                Err(e) => return Err(e.into()),
            }
            let _spinner = ui.spinner("stopping every session");
            let deadline = Instant::now() + END_TIMEOUT;
            while local.home.is_locked()? {
                if Instant::now() >= deadline {
                    let pid =
                        local.home.announced().map_or_else(String::new, |r| format!(" (process {})", r.pid));
                    return Err(Failure::failed(format!("the emulator{pid} has not ended yet")));
                }
                tokio::time::sleep(END_POLL).await;
            }
            ui.result(&json!({ "wasRunning": true }), "the emulator has ended")?;
            Ok(OK)
        })
    }
}
