//! Keeps what stands in an answer and has no place in the SDK's own shapes.

use std::sync::Arc;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::AfterDeserializationInterceptorContextRef;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use parking_lot::Mutex;

/// What is read from the last answer to a call.
#[derive(Debug, Clone)]
pub(super) struct Kept<T> {
    read: fn(&HttpResponse) -> T,
    kept: Arc<Mutex<T>>,
}

impl<T: Default> Kept<T> {
    pub(super) fn new(read: fn(&HttpResponse) -> T) -> Self {
        Self { read, kept: Arc::default() }
    }

    pub(super) fn take(&self) -> T {
        std::mem::take(&mut self.kept.lock())
    }
}

impl<T: std::fmt::Debug + Send> Intercept for Kept<T> {
    fn name(&self) -> &'static str {
        "keep what stands in the answer"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *self.kept.lock() = (self.read)(context.response());
        Ok(())
    }
}
