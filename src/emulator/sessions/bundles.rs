//! Bundles and images that nothing runs any more and nothing could: each edit of a project leaves one behind.
//!
//! What is kept: the bundle of every version of every runtime, changed sources, whatever a compute runs or may still run,
//! and whatever was packed, named or started within [`SWEEP_GRACE`], which covers what is only about to be one of these.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{SessionError, Shared};
use crate::artifacts::{ArtifactError, SWEEP_GRACE, Swept};

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

/// Removes images as [`super::Sessions::prune_images`] says.
pub(super) async fn prune_images(shared: &Shared) -> Result<usize, SessionError> {
    let failed = |e: &dyn std::fmt::Display| SessionError::Start(e.to_string());
    let Some(_alone) = shared.artifacts.own_images().map_err(|e| failed(&e))? else { return Ok(0) };
    // While it is not known what runs, nothing is removed.
    let Some(mut keep) = shared.sources_in_use() else { return Ok(0) };
    let artifacts = shared.artifacts.clone();
    let kept = tokio::task::spawn_blocking(move || {
        let mut around = Vec::new();
        for key in &keep {
            match artifacts.find(key) {
                Ok(bundle) => around.extend(bundle.manifest.image),
                // The name of an image, or a bundle that is lost: it needs none.
                Err(ArtifactError::NotFound(_)) => {}
                // Which image it needs is not known.
                Err(e) => return Err(SessionError::Start(e.to_string())),
            }
        }
        keep.extend(around);
        Ok(keep)
    });
    let keep = kept.await.map_err(|e| failed(&e))??;
    let mut removed = 0;
    for site in shared.sites.all() {
        removed += site.engine.prune_images(keep.clone()).await?;
    }
    Ok(removed)
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
