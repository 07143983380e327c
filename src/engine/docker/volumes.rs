//! The carrier of session storage that containers have: a volume of the daemon for each storage.
//!
//! A volume is known by its labels; which of them are in use is for the records to say. Nothing marks a volume as
//! discarded: what a crash leaves between the end of its record and its deletion is found as one that nobody knows.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bollard::models::{Volume, VolumeCreateRequest};
use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptionsBuilder};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::AsyncReadExt;

use super::Shared;
use super::daemon::{Daemon, said, status};
use super::labels::Labels;
use super::plan::VolumeUse;
use super::{VOLUME_VERB, container::LiveVolume};
use crate::engine::{EngineError, ProcessSpec};
use crate::model::{RuntimeId, SessionKey, Version};
use crate::storage::{Place, Storage, StorageError, StorageId, Usage};

/// Volumes as session storage.
pub(super) struct VolumeStorage {
    shared: Arc<Shared>,
}

impl VolumeStorage {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Every volume that fits; none where the daemon was never used.
    fn find(
        &self,
        doing: &'static str,
        filters: impl FnOnce(&Labels) -> HashMap<String, Vec<String>> + Send + 'static,
    ) -> BoxFuture<'static, Result<Vec<Place>, StorageError>> {
        if !self.shared.used() {
            return async { Ok(Vec::new()) }.boxed();
        }
        self.with(
            doing,
            move |_, daemon| async move { Ok(places(list(&daemon, filters(&daemon.labels)).await?)) },
        )
    }

    /// Runs work with the daemon.
    fn with<T: Send + 'static, W>(
        &self,
        doing: &'static str,
        work: impl FnOnce(Arc<Shared>, Daemon) -> W + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StorageError>>
    where
        W: Future<Output = Result<T, EngineError>> + Send,
    {
        let shared = self.shared.clone();
        async move {
            let done = async {
                let daemon = shared.daemon().await?;
                work(shared.clone(), daemon).await
            };
            let failed =
                |e: EngineError| StorageError { context: doing.to_owned(), source: std::io::Error::other(e) };
            done.await.map_err(failed)
        }
        .boxed()
    }
}

impl Storage for VolumeStorage {
    fn create(
        &self,
        key: &SessionKey,
        version: Version,
        _owner: Option<(u32, u32)>,
    ) -> BoxFuture<'static, Result<StorageId, StorageError>> {
        // Random, as the numbers of directories: one that has gone is never given again.
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        let id = StorageId(((high ^ low) >> 1).cast_signed());
        let name = Labels::volume(key, id);
        let key = key.clone();
        self.with("making a session's volume", move |_, daemon| async move {
            let request = VolumeCreateRequest {
                name: Some(name),
                labels: Some(daemon.labels.of_storage(&key, version, id)),
                ..VolumeCreateRequest::default()
            };
            daemon.client.create_volume(request).await.map_err(|e| EngineError::Helper(said(&e)))?;
            Ok(id)
        })
    }

    fn place(&self, key: &SessionKey, id: StorageId) -> Place {
        Place::Volume(Labels::volume(key, id))
    }

    fn exists(&self, key: &SessionKey, id: StorageId) -> BoxFuture<'static, Result<bool, StorageError>> {
        let name = Labels::volume(key, id);
        self.with("looking for a session's volume", move |_, daemon| async move {
            match daemon.client.inspect_volume(&name).await {
                Ok(_) => Ok(true),
                Err(e) if status(&e) == Some(404) => Ok(false),
                Err(e) => Err(EngineError::Helper(said(&e))),
            }
        })
    }

    fn flush(&self, key: &SessionKey, id: StorageId) -> BoxFuture<'static, Result<(), StorageError>> {
        let name = Labels::volume(key, id);
        // The last deed of a session's first process: where it was done, nothing has been written since.
        if self.shared.durable.lock().remove(&name) {
            return async { Ok(()) }.boxed();
        }
        self.with("making a session's volume durable", move |_, daemon| async move {
            match daemon.look(&name, "sync").await {
                Err(_)
                    if daemon.client.inspect_volume(&name).await.is_err_and(|e| status(&e) == Some(404)) =>
                {
                    Ok(())
                }
                looked => looked.map(drop),
            }
        })
    }

    fn usage(&self, key: &SessionKey, id: StorageId) -> BoxFuture<'static, Result<Usage, StorageError>> {
        let name = Labels::volume(key, id);
        self.with("counting a session's volume", move |shared, daemon| async move {
            // In a session that runs a process does; else a container of its own is made for it.
            let live = shared.live.lock().get(&name).cloned();
            let counted = match live {
                Some(live) => count_inside(&daemon, &live).await.ok(),
                None => None,
            };
            let counted = match counted {
                Some(counted) => counted,
                None => daemon.look(&name, "count").await?,
            };
            let found: VolumeUse = serde_json::from_str(&counted)
                .map_err(|_| EngineError::Helper(format!("counting gave an unexpected answer: {counted}")))?;
            Ok(Usage { bytes: found.bytes, files: found.files })
        })
    }

    fn discard(
        &self,
        key: &SessionKey,
        id: StorageId,
    ) -> BoxFuture<'static, Result<Option<Place>, StorageError>> {
        let (there, place) = (self.exists(key, id), self.place(key, id));
        async move { Ok(there.await?.then_some(place)) }.boxed()
    }

    fn discard_session(&self, key: &SessionKey) -> BoxFuture<'static, Result<Vec<Place>, StorageError>> {
        let key = key.clone();
        self.find("looking for a session's volumes", move |labels| {
            labels.volumes_of(key.runtime.as_str(), Some(&key))
        })
    }

    fn discard_runtime(&self, runtime: &RuntimeId) -> BoxFuture<'static, Result<Vec<Place>, StorageError>> {
        let runtime = runtime.clone();
        self.find("looking for a runtime's volumes", move |labels| labels.volumes_of(runtime.as_str(), None))
    }

    fn discard_unknown(
        &self,
        runtimes: Vec<RuntimeId>,
        known: HashSet<(SessionKey, StorageId)>,
    ) -> BoxFuture<'static, Result<Vec<Place>, StorageError>> {
        if !self.shared.used() {
            return async { Ok(Vec::new()) }.boxed();
        }
        self.with("looking for volumes that no session knows", move |_, daemon| async move {
            let all = list(&daemon, daemon.labels.of_home()).await?;
            // What this emulator has made is recorded by it, or will be.
            let unknown = all.into_iter().filter(|volume| {
                let of = Labels::storage(&volume.labels).filter(|_| daemon.labels.is_old(&volume.labels));
                of.is_some_and(|of| runtimes.contains(&of.0.runtime) && !known.contains(&of))
            });
            Ok(places(unknown.collect()))
        })
    }

    fn discarded(&self) -> BoxFuture<'static, Result<Vec<Place>, StorageError>> {
        async { Ok(Vec::new()) }.boxed()
    }
}

/// The volumes that fit.
pub(super) async fn list(
    daemon: &Daemon,
    filters: HashMap<String, Vec<String>>,
) -> Result<Vec<Volume>, EngineError> {
    let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let listed = daemon.client.list_volumes(Some(options)).await;
    let listed =
        listed.map_err(|e| EngineError::Helper(format!("volumes could not be listed: {}", said(&e))))?;
    let fit = |volume: &Volume| Labels::fit(&filters, &volume.labels);
    Ok(listed.volumes.unwrap_or_default().into_iter().filter(fit).collect())
}

fn places(volumes: Vec<Volume>) -> Vec<Place> {
    volumes.into_iter().map(|volume| Place::Volume(volume.name)).collect()
}

/// Deletes a volume. One that is not there is no error.
pub(super) async fn delete(daemon: &Daemon, name: &str) -> Result<(), EngineError> {
    let options = RemoveVolumeOptionsBuilder::default().force(true).build();
    match daemon.client.remove_volume(name, Some(options)).await {
        Err(e) if status(&e) != Some(404) => {
            Err(EngineError::Helper(format!("the volume `{name}` could not be deleted: {}", said(&e))))
        }
        _ => Ok(()),
    }
}

async fn count_inside(daemon: &Daemon, live: &LiveVolume) -> Result<String, EngineError> {
    let argv = daemon.command_line(&[VOLUME_VERB, "count", &live.path]);
    let spec = ProcessSpec { argv, environment: Vec::new(), working_directory: Some("/".into()), user: None };
    let mut process = live.session.spawn_process(spec).await?;
    let mut said = String::new();
    let io = |source| EngineError::Io { context: "reading a count".to_owned(), source };
    process.stdout.read_to_string(&mut said).await.map_err(io)?;
    Ok(said)
}
