//! Bundles that nothing runs any more and nothing could: each edit of a project leaves one behind.
//!
//! What is kept: the bundle of every version of every runtime, changed sources, whatever a compute runs or may still run,
//! and whatever was packed, named or started within [`SWEEP_GRACE`], which covers what is only about to be one of these.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::Shared;
use crate::artifacts::{SWEEP_GRACE, Swept};

/// Time between two sweeps. [ours]
const SWEEP_PAUSE: Duration = Duration::from_secs(3600);
/// Time until a sweep that came at a bad moment is tried again. [ours]
const SWEEP_AGAIN: Duration = Duration::from_secs(10);

impl Shared {
    /// What is in use, keys of bundles and names of images. Nothing while a compute of an earlier emulator is left, whose
    /// code is not known.
    pub(super) fn sources_in_use(&self) -> Option<HashSet<String>> {
        let mut named = self.targets.all_sources();
        named.extend(self.sources.read().values().map(|(_, bundle)| bundle.clone()));
        for entry in self.all() {
            named.extend(entry.live().map(|live| live.source.clone()));
            named.extend(entry.code_in_use().ok()?);
        }
        Some(named)
    }
}

/// Sweeps at the start of the emulator and from time to time.
pub(super) async fn sweep_at_intervals(shared: Arc<Shared>) {
    loop {
        let sweeping = shared.clone();
        let swept = tokio::task::spawn_blocking(move || {
            sweeping.artifacts.sweep(SWEEP_GRACE, || sweeping.sources_in_use())
        });
        let swept = swept.await.map_err(|e| e.to_string()).and_then(|swept| swept.map_err(|e| e.to_string()));
        match &swept {
            Ok(Swept::Later | Swept::Bundles(0)) => {}
            Ok(Swept::Bundles(bundles)) => {
                tracing::info!("{bundles} code bundles that nothing names are deleted");
            }
            Err(e) => tracing::warn!("code bundles that nothing names could not be deleted: {e}"),
        }
        sleep(if matches!(swept, Ok(Swept::Later)) { SWEEP_AGAIN } else { SWEEP_PAUSE }).await;
    }
}
