//! The control plane's operations: a handler each.

use std::sync::Arc;

use axum::Router;

use crate::emulator::Emulator;

/// The routes of the control plane, trailing slashes as the service model has them and without.
pub fn routes() -> Router<Arc<Emulator>> {
    Router::new()
}
