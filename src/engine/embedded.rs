//! The embedded engine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{Compute, ComputeRecord, ComputeSpec, Engine, EngineError};

/// What the embedded engine needs of its host.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// This program's binary.
    pub helper_exe: PathBuf,
    /// Scratch directory, mode 0700.
    pub runtime_dir: PathBuf,
}

/// Sessions in namespaces of this host.
pub struct EmbeddedEngine {
    config: EmbeddedConfig,
}

impl EmbeddedEngine {
    /// An engine with this configuration.
    pub fn new(config: EmbeddedConfig) -> Self {
        Self { config }
    }

    /// Builds one whole session root and says what to enable when that fails.
    pub async fn probe(&self) -> Result<(), EngineError> {
        Err(unavailable(&self.config))
    }
}

fn unavailable(config: &EmbeddedConfig) -> EngineError {
    EngineError::Unavailable {
        reason: format!("`{}` holds no embedded engine", config.helper_exe.display()),
        hint: "build a complete tree".into(),
    }
}

impl Engine for EmbeddedEngine {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn storage_owner(&self) -> Option<(u32, u32)> {
        None
    }

    fn start(&self, _spec: ComputeSpec) -> BoxFuture<'_, Result<Box<dyn Compute>, EngineError>> {
        Box::pin(async { Err(unavailable(&self.config)) })
    }

    fn end_leftover(
        &self,
        _record: ComputeRecord,
        _grace: Duration,
    ) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async { Ok(()) })
    }

    fn remove_tree(&self, _path: PathBuf) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async { Err(unavailable(&self.config)) })
    }
}

/// Runs one of the engine's hidden verbs, when the arguments are one.
pub fn hidden_entry(_args: &[OsString]) -> Option<ExitCode> {
    None
}
