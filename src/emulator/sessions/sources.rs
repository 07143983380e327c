//! Changed sources: a developer's edit runs from a session's next compute start, in the same version
//! and with its storage kept, where the service would need a new version and give it empty storage.

use std::sync::Arc;

use futures_util::future::join_all;

use super::live::Entry;
use super::{Need, SessionError, Sessions, Shared};
use crate::artifacts::ArtifactError;
use crate::emulator::registry::Target;
use crate::emulator::store::StoreError;
use crate::engine::EngineError;
use crate::model::{Artifact, EndReason, EndpointName, RuntimeId, SessionState, Version};

/// What became of a changed source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceChange {
    /// Computes from now on run other code than computes until now.
    pub changed: bool,
    /// Running computes of the version with other code.
    pub outdated: usize,
    /// Those of them that were restarted.
    pub restarted: usize,
    /// Those whose agent ended as soon as it was started again: they are stopped.
    pub failed: usize,
}

/// Why a source could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No such runtime, or it is being deleted.
    #[error("no agent runtime `{0}`")]
    NoRuntime(RuntimeId),
    /// Somebody deployed another version meanwhile.
    #[error("version {asked} is not the newest one of `{runtime}`: that is version {newest}")]
    OtherVersion {
        /// The runtime.
        runtime: RuntimeId,
        /// The version that was to run other code.
        asked: Version,
        /// Its newest version.
        newest: Version,
    },
    /// The bundle is missing or bad.
    #[error(transparent)]
    Bundle(#[from] ArtifactError),
    /// The image is missing or cannot be run here.
    #[error(transparent)]
    Image(#[from] EngineError),
    /// It could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Shared {
    /// The bundle, or the image, that computes of `target` run.
    pub(super) fn bundle(&self, target: &Target) -> String {
        let changed = self.sources.read().get(&target.arn.id).cloned();
        match changed {
            Some((version, bundle)) if version == target.version => bundle,
            _ => target.spec.artifact.source().to_owned(),
        }
    }

    /// Forgets the changed source of a runtime that is deleted.
    pub(super) async fn forget_source(&self, runtime: &RuntimeId) {
        self.sources.write().remove(runtime);
        if let Err(e) = self.store.change_source(runtime.clone(), None).await {
            tracing::warn!("the changed source of `{runtime}` could not be forgotten: {e}");
        }
    }
}

impl Sessions {
    /// Makes computes of this version run `bundle`, or the image of that name, from now on. With `restart`, those that run other code
    /// are ended and started again at once.
    pub async fn change_source(
        &self,
        runtime: &RuntimeId,
        version: Version,
        bundle: String,
        restart: bool,
    ) -> Result<SourceChange, SourceError> {
        let shared = &self.shared;
        let target = shared.targets.current(runtime, &EndpointName::default_endpoint());
        let target = target.ok_or_else(|| SourceError::NoRuntime(runtime.clone()))?;
        if target.version != version {
            let (runtime, newest) = (runtime.clone(), target.version);
            return Err(SourceError::OtherVersion { runtime, asked: version, newest });
        }
        match &target.spec.artifact {
            Artifact::Code(_) => {
                let (artifacts, wanted) = (shared.artifacts.clone(), bundle.clone());
                let found = tokio::task::spawn_blocking(move || artifacts.find(&wanted)).await;
                found.map_err(|e| StoreError::Corrupt(e.to_string()))??;
            }
            image => shared.sites.of(image)?.engine.check_image(&bundle).await?,
        }
        let before = shared.bundle(&target);
        let own = target.spec.artifact.source() == bundle;
        let kept = (!own).then(|| (version, bundle.clone()));
        shared.store.change_source(runtime.clone(), kept.clone()).await?;
        match kept {
            Some(changed) => shared.sources.write().insert(runtime.clone(), changed),
            None => shared.sources.write().remove(runtime),
        };
        let outdated: Vec<_> = shared
            .all()
            .into_iter()
            .filter(|entry| entry.key.runtime == *runtime && is_outdated(entry, version, &bundle))
            .collect();
        let mut change =
            SourceChange { changed: before != bundle, outdated: outdated.len(), restarted: 0, failed: 0 };
        if restart {
            let restarts = outdated.iter().map(|entry| self.restart(entry));
            for restart in join_all(restarts).await {
                match restart {
                    Restart::Done => change.restarted += 1,
                    Restart::AgentEnded => change.failed += 1,
                    Restart::Not => {}
                }
            }
        }
        Ok(change)
    }

    /// Ends a compute and starts the session's next one.
    async fn restart(&self, entry: &Arc<Entry>) -> Restart {
        if self.stop_entry(entry, EndReason::SourceChanged).await.is_err() {
            return Restart::Not;
        }
        let Some(target) = self.shared.targets.current(&entry.key.runtime, &entry.key.endpoint) else {
            return Restart::Not;
        };
        let lease = match self.acquire(&target, &entry.key.session, Need::Command).await {
            Ok(lease) => lease,
            Err(SessionError::ShuttingDown) => return Restart::Not,
            Err(e) => {
                tracing::warn!("session `{}` could not be restarted: {e}", entry.key.session);
                return Restart::Not;
            }
        };
        lease.unmeasured();
        if lease.agent_came_up().await {
            return Restart::Done;
        }
        drop(lease);
        // Nobody called it yet, and the next call would end it anyway.
        let _ = self.stop_entry(entry, EndReason::StartFailed).await;
        Restart::AgentEnded
    }
}

/// What came of a restart.
enum Restart {
    Done,
    /// The agent did not live to its first healthy ping.
    AgentEnded,
    /// Somebody else ended the compute, or the start failed.
    Not,
}

/// True when a compute of this version runs, or is being made with, other code.
fn is_outdated(entry: &Entry, version: Version, bundle: &str) -> bool {
    let Some(record) = entry.record().filter(|r| r.version == version) else { return false };
    match entry.live() {
        Some(live) => live.source != bundle,
        // It may have read its bundle already: a start more is better than old code.
        None => record.state == SessionState::Provisioning,
    }
}
