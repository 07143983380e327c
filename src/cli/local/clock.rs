//! `local clock`: moves the emulator's time, so that hours of waiting pass at once.

use std::time::Duration;

use super::Local;
use crate::cli::exit::{OK, Outcome};
use crate::model::limits::MAX_CLOCK_AHEAD;
use crate::model::{format_duration, parse_duration};
use crate::wire::admin::Advance;

/// Show or move the emulator's clock
#[derive(clap::Args)]
#[command(after_help = "Examples:
  agentcore local clock show
  agentcore local clock advance 16m               # the idle timeout, now")]
pub(crate) struct ClockArgs {
    #[command(subcommand)]
    verb: ClockVerb,
}

#[derive(clap::Subcommand)]
enum ClockVerb {
    /// Show the emulator's time
    #[command(after_help = "Examples:
  agentcore local clock show --output json")]
    Show,
    /// Move it ahead, such as by 16m: idle sessions stop, old storage expires
    #[command(after_help = "Examples:
  agentcore local clock advance 14d               # storage expires")]
    Advance {
        /// How far: 90s, 16m, 14d or plain seconds
        #[arg(value_parser = whole_seconds)]
        duration: Duration,
    },
    /// Back to real time
    #[command(after_help = "Examples:
  agentcore local clock reset")]
    Reset,
}

/// A duration of whole seconds, which is what the clock moves by.
fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text).map_err(|e| e.to_string())?;
    if duration.subsec_nanos() != 0 || duration.is_zero() {
        return Err("the clock moves by whole seconds".into());
    }
    if duration > MAX_CLOCK_AHEAD {
        return Err(format!(
            "the clock can be at most {} ahead of real time",
            format_duration(MAX_CLOCK_AHEAD)
        ));
    }
    Ok(duration)
}

impl ClockArgs {
    pub(crate) fn exec(self, local: &Local<'_>) -> Outcome {
        local.context.block_on(async {
            local.ensure_running().await?;
            let admin = local.admin();
            let state = match self.verb {
                ClockVerb::Show => admin.clock().await?,
                ClockVerb::Advance { duration } => {
                    admin.advance_clock(&Advance { seconds: duration.as_secs() }).await?
                }
                ClockVerb::Reset => admin.reset_clock().await?,
            };
            let ahead = match state.offset_seconds {
                0 => "real time".to_owned(),
                seconds => format!("{} ahead", format_duration(Duration::from_secs(seconds))),
            };
            local.context.ui.result(&state, format!("{} ({ahead})", state.now))?;
            Ok(OK)
        })
    }
}
