//! Runtimes, versions, endpoints and tags.

use std::sync::Arc;

use super::EmulatorConfig;
use super::clock::Clock;
use super::store::{Store, StoreError};
use crate::model::{AccountId, EndpointName, RuntimeArn, RuntimeId, RuntimeSpec, Version};

/// How a data-plane call names a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeRef {
    /// By ARN.
    Arn(RuntimeArn),
    /// By bare id with `accountId`.
    Id(RuntimeId, AccountId),
}

/// What a data-plane call is aimed at: an endpoint and the version it serves now.
#[derive(Debug)]
pub struct Target {
    /// The runtime's ARN.
    pub arn: RuntimeArn,
    /// The endpoint.
    pub endpoint: EndpointName,
    /// The version that new computes run.
    pub version: Version,
    /// What that version says.
    pub spec: Arc<RuntimeSpec>,
}

/// What the registry refuses.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Owner of runtimes, versions, endpoints and tags.
pub struct Registry;

/// A runtime whose deletion has begun: nothing new can start in it.
pub struct RuntimeDeletion;

/// An endpoint whose deletion has begun.
pub struct EndpointDeletion;

impl Registry {
    /// Reads the registry from the store.
    pub async fn open(
        _store: Store,
        _config: EmulatorConfig,
        _clock: Arc<Clock>,
    ) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self))
    }

    /// Finds what a data-plane call is aimed at; memory only, on every call's path.
    pub fn resolve(&self, _runtime: &RuntimeRef, _endpoint: &EndpointName) -> Option<Arc<Target>> {
        None
    }

    /// What `(runtime, endpoint)` serves now, for a session that starts anew.
    pub fn current(&self, _runtime: &RuntimeId, _endpoint: &EndpointName) -> Option<Arc<Target>> {
        None
    }

    /// Marks a runtime DELETING; it resolves no more.
    pub async fn begin_delete_runtime(&self, _id: &RuntimeId) -> Result<RuntimeDeletion, RegistryError> {
        Ok(RuntimeDeletion)
    }

    /// Removes a runtime.
    pub async fn finish_delete_runtime(&self, _deletion: RuntimeDeletion) -> Result<(), RegistryError> {
        Ok(())
    }

    /// Marks an endpoint DELETING; it resolves no more.
    pub async fn begin_delete_endpoint(
        &self,
        _id: &RuntimeId,
        _endpoint: &EndpointName,
    ) -> Result<EndpointDeletion, RegistryError> {
        Ok(EndpointDeletion)
    }

    /// Removes an endpoint.
    pub async fn finish_delete_endpoint(&self, _deletion: EndpointDeletion) -> Result<(), RegistryError> {
        Ok(())
    }
}
