//! Which engine runs what, and where each keeps its sessions' storage.
//!
//! Code runs on the host's engine where there is one, images in containers; a session whose storage exists goes on where
//! that is, since no storage moves from one engine to another.

use std::path::Path;
use std::sync::Arc;

use crate::engine::{Engine, EngineError};
use crate::model::Artifact;
use crate::storage::{Place, PlainStorage, Storage};

/// The image that code runs on in containers where none was named, to the emulator or by whoever packed it.
pub const BASE_IMAGE: &str = "agentcore-base:latest";

/// The engines that an emulator is opened with.
#[derive(Clone)]
pub struct Engines {
    host: Result<Arc<dyn Engine>, Missing>,
    containers: Result<Arc<dyn Engine>, Missing>,
    code_in_containers: bool,
    base_image: Option<String>,
}

/// Why there is no such engine.
#[derive(Debug, Clone)]
pub struct Missing {
    /// What is missing.
    pub reason: String,
    /// What to do about it.
    pub hint: String,
}

impl From<Missing> for EngineError {
    fn from(missing: Missing) -> Self {
        Self::Unavailable { reason: missing.reason, hint: missing.hint }
    }
}

impl Engines {
    /// One engine that runs code, and none that runs images.
    pub fn only(engine: Arc<dyn Engine>) -> Self {
        let reason = format!("the engine `{}` runs no container images", engine.name());
        let hint = "start the emulator with `--engine docker`, or without `--engine`".to_owned();
        Self::new(Ok(engine), Err(Missing { reason, hint }))
    }

    /// An engine of the host's own, which runs code, and one of containers; or why there is none.
    pub fn new(host: Result<Arc<dyn Engine>, Missing>, containers: Result<Arc<dyn Engine>, Missing>) -> Self {
        let code_in_containers = host.is_err();
        Self { host, containers, code_in_containers, base_image: None }
    }

    /// Runs all code on `image` where it runs in containers.
    #[must_use]
    pub fn with_base_image(mut self, image: String) -> Self {
        self.base_image = Some(image);
        self
    }

    /// The image that all code runs on in containers, where one was named.
    pub(super) fn base_image(&self) -> Option<String> {
        self.base_image.clone()
    }

    /// The engine that runs code, for people.
    pub(super) fn name(&self) -> &'static str {
        let engine = if self.code_in_containers { &self.containers } else { &self.host };
        engine.as_ref().map_or("none", |engine| engine.name())
    }

    /// What of the host it does not keep sessions from.
    pub(super) fn not_isolated(&self) -> Vec<String> {
        self.host.as_ref().map(|engine| engine.not_isolated()).unwrap_or_default()
    }

    /// With the carriers of storage, directories being below `home`.
    pub(super) fn with_storage(self, home: &Path) -> Sites {
        let plain: Arc<dyn Storage> = Arc::new(PlainStorage::below(home));
        let site = |engine: Arc<dyn Engine>| Site {
            storage: engine.storage().unwrap_or_else(|| plain.clone()),
            engine,
        };
        Sites {
            host: self.host.map(site),
            containers: self.containers.map(site),
            code_in_containers: self.code_in_containers,
            base_image: self.base_image,
        }
    }
}

/// An engine and the carrier of its sessions' storage.
#[derive(Clone)]
pub(super) struct Site {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) storage: Arc<dyn Storage>,
}

impl Site {
    /// Deletes what was discarded. What resists is found again at the next open.
    pub(super) async fn delete(&self, places: impl IntoIterator<Item = Place>) {
        for place in places {
            if let Err(e) = self.engine.delete_storage(place).await {
                tracing::warn!("a session's storage could not be deleted: {e}");
            }
        }
    }
}

/// All of them.
pub(super) struct Sites {
    host: Result<Site, Missing>,
    containers: Result<Site, Missing>,
    code_in_containers: bool,
    base_image: Option<String>,
}

impl Sites {
    /// What runs an artifact.
    pub(super) fn of(&self, artifact: &Artifact) -> Result<&Site, EngineError> {
        let in_containers = self.code_in_containers || matches!(artifact, Artifact::Image(_));
        let site = if in_containers { &self.containers } else { &self.host };
        site.as_ref().map_err(|missing| missing.clone().into())
    }

    /// What is recorded under an engine's name. Engines of the host share their directories, so one goes on where
    /// another was.
    pub(super) fn recorded(&self, name: &str) -> Result<&Site, EngineError> {
        let of_containers = match &self.containers {
            Ok(site) => site.engine.name() == name,
            Err(_) => name == "docker",
        };
        let site = if of_containers { &self.containers } else { &self.host };
        site.as_ref().map_err(|missing| missing.clone().into())
    }

    /// Every engine there is.
    pub(super) fn all(&self) -> impl Iterator<Item = &Site> {
        [&self.host, &self.containers].into_iter().flatten()
    }

    /// The image that computes of this site have around code: the one that was named for all, else the one that the code
    /// was `packed` for. Nothing for the host's own programs.
    pub(super) fn image_around(&self, site: &Site, packed: Option<&str>) -> Option<String> {
        let containers = self.containers.as_ref().is_ok_and(|c| Arc::ptr_eq(&c.engine, &site.engine));
        containers.then(|| self.base_image.as_deref().or(packed).unwrap_or(BASE_IMAGE).to_owned())
    }
}
